"""The notebooks: their style, and that they run, whichever of them is opened first."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from src.config import ROOT
from tools import check_notebooks
from tools.check_notebooks import faults, paths, write_shared_cells

PATHS = paths()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_style(path):
    assert faults(path) == []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown" and not cell.source.startswith("## What you will see"):
            # A number that a code cell should print.
            typed = re.search(r"\b0\.\d{2,}\b|\b\d+(\.\d+)? %(?! interval| of the)", cell.source)
            assert not typed, cell.source


def test_faults_are_found_and_shared_cells_are_written_again(tmp_path):
    notebook = nbformat.read(PATHS[0], as_version=4)
    notebook.cells[0].source, notebook.cells[8].id = "no heading", "other"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code[0].source += "\n# changed"
    long = "x = 1\n" * 30 + "#" + "." * 100
    code[2].source = f"class A: pass\nif study.name == 'demo': pass\n{long}"
    code[2].execution_count = 99
    output = nbformat.v4.new_output
    code[3].outputs = [output("stream", name="stderr", text="/home/somebody/x"), output("error")]
    path = tmp_path / PATHS[0].name
    nbformat.write(notebook, path)
    found = "; ".join(faults(path))
    words = "H1|shared|33 lines|over 100|definition|branch|clean run|stderr|an error|path"
    assert [word for word in words.split("|") if word not in found] == []
    assert write_shared_cells(path) and "shared" not in "; ".join(faults(path))
    assert not write_shared_cells(path)


def test_an_address_is_written_everywhere_and_brings_the_badges(tmp_path, monkeypatch, capsys):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "notebooks").mkdir()
    path = Path(shutil.copy(PATHS[1], tmp_path / "notebooks"))
    monkeypatch.setattr(check_notebooks, "ROOT", tmp_path)
    url = "https://github.com/somebody/faces"
    with pytest.raises(SystemExit):
        check_notebooks.main(["--address", "github.com"])
    assert "such as https://github.com/you/true-or-fake" in capsys.readouterr().err
    check_notebooks.main(["--address", url])
    cells = nbformat.read(path, as_version=4).cells
    assert f"github/somebody/faces/blob/main/notebooks/{path.name}" in cells[1].source
    assert f'ADDRESS = "{url}"' in cells[3].source
    assert check_notebooks.address() == url
    assert "shared" not in "; ".join(faults(path))


def run(arguments, folder, **environment):
    settings = os.environ | {"STUDY": "", "FACES": "", "TRAIN": "", "MPLBACKEND": ""} | environment
    settings = {name: value for name, value in settings.items() if value}
    options = {"cwd": folder, "env": settings, "capture_output": True, "text": True}
    return subprocess.run([sys.executable, *arguments], timeout=1200, **options)


@pytest.mark.skipif(not (ROOT / ".git").exists() or not shutil.which("git"), reason="needs git")
def test_the_setup_cell_fetches_the_project_into_an_empty_folder(tmp_path):
    setup = check_notebooks.SETUP.format(address=ROOT.as_uri())
    trust = {"COUNT": "1", "KEY_0": "safe.directory", "VALUE_0": "*"}
    trust = {f"GIT_CONFIG_{name}": value for name, value in trust.items()}
    done = run(["-c", f"{setup}\nimport src\nprint(src.__file__)"], tmp_path, **trust)
    assert done.returncode == 0, done.stderr[-4000:]
    assert str(tmp_path / "true-or-fake" / "src") in done.stdout
    setup = check_notebooks.SETUP.format(address="")
    done = run(["-c", setup], tmp_path / "true-or-fake" / "data")
    assert done.returncode == 0, "the project is found from a folder inside it"
    assert "Put the address of your copy" in run(["-c", setup], tmp_path).stderr


def run_on_tiny(number, home, folder):
    environment = {"STUDY": "tiny", "TRUE_OR_FAKE_HOME": str(home), "PYTHONPATH": str(ROOT)}
    return run(["-m", "tools.run_notebooks", number], folder, **environment)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """What all notebooks write on the tiny study, when the last one is opened first."""
    home = tmp_path_factory.mktemp("a home with spaces é")
    done = run_on_tiny("06", home, ROOT)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "Not run on this machine yet: notebooks 01, 02, 03, 04, 05." in done.stdout
    assert done.stderr == "" and "summary.md" in done.stdout.splitlines()[-1]
    for number in ("07", "08"):
        done = run_on_tiny(number, home, ROOT)
        assert done.returncode == 0 and done.stderr == "", done.stdout[-2000:] + done.stderr[-4000:]
    return home


def test_all_run_and_leave_what_the_contract_says(home):
    study = home / "figures" / "tiny"
    assert {path.name[:2] for path in study.glob("*.png")} == {path.name[:2] for path in PATHS}
    summary = (study / "summary.md").read_text(encoding="utf-8")
    assert "imulated data" in summary and "Autoencoder_classifier" in summary
    contract = "study,approach,model,protocol,train_set,test_set,real_source,seed,"
    contract += "metric,value,ci_low,ci_high,num_real,num_fake,num_groups,num_seeds"
    assert (study / "results.csv").read_text().splitlines()[0] == contract
    models = {path.stem for path in (home / "models" / "tiny").glob("*.keras")}
    # Five direct networks, the probe, Fourier, the autoencoder and its two classifiers under two
    # protocols, and so the probe with two other views; two with the other scaling, one with the
    # other view, one with other last steps, an autoencoder with another learning rate; another seed
    # of the three headline detectors and the autoencoder under one; six variants with two seeds.
    assert len(models) == 20 + 4 + 2 + 1 + 1 + 1 + 4 + 12
    scores = {path.stem for path in (home / "data" / "tiny" / "scores").glob("*.parquet")}
    baselines = [f"{name}{end}" for name in ("Metadata", "Face_box") for end in ("", "_own")]
    baselines += ["Pixel_statistics", "Pixel_statistics_own", "PCA_probe", "Spectral_peak"]
    baselines += ["Autoencoder_error", "Autoencoder_unexplained", "Beyond_fusion"]
    coders = ("Autoencoder-", "Autoencoder_slower")
    assert scores == {name for name in models if not name.startswith(coders)} | {
        f"{name}-{protocol}" for name in baselines for protocol in ("report", "controlled")
    }
    for path in (home / "data" / "tiny" / "notebooks").glob("*.ipynb"):
        assert '"name": "stderr"' not in path.read_text(encoding="utf-8"), path.name


def test_what_was_validated_is_what_was_saved_and_scored(home):
    """The loss by which an epoch was kept, computed from the scores of the saved network."""
    cards = [path for path in (home / "models/tiny").glob("*.json") if "scored" in path.read_text()]
    cards = [path for path in cards if not path.stem.startswith("Multidepth_probe")]  # no epochs
    assert len(cards) == 35
    for card in cards:
        scores = pd.read_parquet(home / "data" / "tiny" / "scores" / f"{card.stem}.parquet")
        valid = scores[(scores["split"] == "valid") & (scores["test_set"] == "inpainting")]
        score = valid["score"].astype(float).clip(1e-7, 1 - 1e-7)
        loss = -np.log(np.where(valid["label"] == 1, score, 1 - score)).mean()
        history = pd.read_csv(card.with_name(f"{card.stem}.history.csv"))
        assert loss == pytest.approx(history["val_loss"].min(), rel=1e-3, abs=1e-4), card.stem


def test_a_second_run_from_the_notebooks_folder_reads_back_what_is_done(home):
    kept = {path: path.stat().st_mtime_ns for path in (home / "models" / "tiny").glob("*.keras")}
    done = run_on_tiny("04", home, ROOT / "notebooks")
    assert done.returncode == 0, done.stderr[-4000:]
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
