"""The notebooks: their style, and that they run: from the root, from their own folder, and the first one alone."""

import json
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
from tools.check_notebooks import faults, paths, repository, write_shared_cells

PATHS = paths()
NAMES = [path.stem for path in PATHS]


def test_there_are_six_in_order():
    assert [name[:3] for name in NAMES] == ["01_", "02_", "03_", "04_", "05_", "06_"]


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_style(path):
    assert faults(path) == []


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_every_address_is_the_one_of_pyproject(path):
    address = repository()
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    repositories = re.findall(r"https://github\.com/[\w-]+/[\w-]+", text)
    assert repositories and set(repositories) == {address}
    assert f"{address.removeprefix('https://github.com/')}/blob/main/notebooks/{path.name}" in text


def test_nothing_is_defined_in_two_notebooks():
    defined = {}
    for path in PATHS:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                for name in re.findall(r"^def (\w+)", cell.source, re.M):
                    defined.setdefault(name, set()).add(path.stem)
    assert all(len(where) == 1 for where in defined.values())


def test_no_number_that_a_code_cell_should_print_is_typed():
    for path in PATHS:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown" and not cell.source.startswith("## What you will see"):
                assert not re.search(
                    r"\b0\.\d{2,}\b|\b\d+(\.\d+)? %(?! interval| of the cases)", cell.source
                ), cell.source


def test_faults_are_found(tmp_path):
    notebook = nbformat.read(PATHS[0], as_version=4)
    notebook.cells[0].source = "no heading"
    notebook.cells[3].source += "\n# changed"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code[2].source = "class A: pass\n" + "x = 1\n" * 30 + "if study.name == 'demo': pass"
    code[2].execution_count = 99
    code[3].outputs = [
        nbformat.v4.new_output("stream", name="stderr", text="/home/somebody/x"),
        nbformat.v4.new_output("error", ename="E", evalue="", traceback=[]),
    ]
    notebook.cells[8].id = "other"
    path = tmp_path / PATHS[0].name
    nbformat.write(notebook, path)
    found = "; ".join(faults(path))
    for part in (
        "H1",
        "generated ones",
        "32 lines",
        "class",
        "branch",
        "clean run",
        "stderr",
        "error",
        "ids",
        "path",
    ):
        assert part in found, part
    assert write_shared_cells(path) and "generated ones" not in "; ".join(faults(path))
    assert not write_shared_cells(path)


def run(arguments, folder, **environment):
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("STUDY", "FACES", "MPLBACKEND")
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The outputs of one run of all notebooks on the tiny study, from the repository's root."""
    home = tmp_path_factory.mktemp("a home with spaces é")
    done = run(["-m", "src.reproduce"], ROOT, STUDY="tiny", TRUE_OR_FAKE_HOME=str(home))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert done.stderr == "" and "summary.md" in done.stdout.splitlines()[-1]
    return home


def test_all_run_and_leave_what_the_contract_says(home):
    study = home / "figures" / "tiny"
    assert {path.name[:2] for path in study.glob("*.png")} == {"01", "02", "03", "04", "05", "06"}
    summary = (study / "summary.md").read_text(encoding="utf-8")
    assert "imulated data" in summary and "Autoencoder_classifier" in summary
    header = (study / "results.csv").read_text().splitlines()[0]
    assert header == (
        "study,approach,model,protocol,train_set,test_set,real_source,seed,metric,value,ci_low,ci_high,num_real,num_fake"
    )
    models = {path.stem for path in (home / "models" / "tiny").glob("*.keras")}
    # Five direct, Fourier, classifier, each under two protocols; two with another scaling, one with another order of
    # steps, and the autoencoder with two learning rates.
    assert len(models) == 14 + 2 + 1 + 2
    scores = {path.stem for path in (home / "data" / "tiny" / "scores").glob("*.parquet")}
    baselines = ("Metadata", "PCA_probe", "Face_box", "Autoencoder_error")
    assert scores == models - {"Autoencoder", "Autoencoder_slower"} | {
        f"{name}-{protocol}" for name in baselines for protocol in ("report", "controlled")
    }
    for path in sorted((home / "data" / "tiny" / "notebooks").glob("*.ipynb")):
        outputs = [
            output
            for cell in nbformat.read(path, as_version=4).cells
            for output in cell.get("outputs", [])
        ]
        assert not [output for output in outputs if output.get("name") == "stderr"], path.name


def test_what_was_validated_is_what_was_saved_and_scored(home):
    """The loss by which the epoch was kept, computed anew from the scores of the network as it lies on the disk."""
    cards = [
        path
        for path in (home / "models" / "tiny").glob("*.json")
        if "scored" in json.loads(path.read_text())
    ]
    assert len(cards) == 17
    for card in cards:
        scores = pd.read_parquet(home / "data" / "tiny" / "scores" / f"{card.stem}.parquet")
        valid = scores[(scores["split"] == "valid") & (scores["test_set"] == "inpainting")]
        score = valid["score"].astype(float).clip(1e-7, 1 - 1e-7)
        loss = -np.log(np.where(valid["label"] == 1, score, 1 - score)).mean()
        history = pd.read_csv(card.with_name(f"{card.stem}.history.csv"))
        assert loss == pytest.approx(history["val_loss"].min(), rel=1e-3, abs=1e-4), card.stem


def test_a_second_run_from_the_notebooks_folder_reuses_what_is_done(home):
    kept = {path: path.stat().st_mtime_ns for path in (home / "models" / "tiny").glob("*.keras")}
    folder = ROOT / "notebooks"
    environment = {"STUDY": "tiny", "TRUE_OR_FAKE_HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = run(["-m", "src.reproduce"], folder, **environment)
    assert done.returncode == 0, done.stderr[-4000:]
    assert {
        path: path.stat().st_mtime_ns for path in (home / "models" / "tiny").glob("*.keras")
    } == kept


def test_a_notebook_before_the_one_it_needs_says_which_to_run(tmp_path):
    done = run(["-m", "src.reproduce", "03"], ROOT, STUDY="tiny", TRUE_OR_FAKE_HOME=str(tmp_path))
    assert done.returncode == 1
    assert "Run notebooks/01_data_download.ipynb first" in done.stderr


@pytest.mark.skipif(
    not (ROOT / ".git").exists() or not shutil.which("git"), reason="needs the repository's history"
)
def test_the_first_one_alone_in_an_empty_folder_clones_the_repository(tmp_path):
    shutil.copy(PATHS[0], tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\nfrom src.reproduce import run_notebook\n"
        "run_notebook(Path(sys.argv[2]), Path(sys.argv[2]))"
    )
    instead = {  # the public address is answered by this repository
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": f"url.{ROOT.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": repository(),
        "GIT_CONFIG_KEY_1": "safe.directory",
        "GIT_CONFIG_VALUE_1": "*",
    }
    path = tmp_path / PATHS[0].name
    done = run(["-c", code, str(ROOT), str(path)], tmp_path, STUDY="tiny", **instead)
    assert done.returncode == 0, done.stderr[-4000:]
    clone = tmp_path / repository().rsplit("/", 1)[-1]
    assert (clone / "figures" / "tiny" / "01_samples.png").is_file()
    assert Path(clone / "data" / "tiny" / "records").is_dir()
