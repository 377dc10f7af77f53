"""The command that runs the notebooks, on notebooks of a line each."""

import base64
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from src import config
from src.report import readme
from tools import run_notebooks
from tools.run_notebooks import Screen, main, tidy


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose notebooks are tiny; returns a function that writes one."""
    monkeypatch.setattr(run_notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(config, "HOME", tmp_path)
    monkeypatch.setenv("STUDY", "tiny")
    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.chdir(tmp_path)
    for folder in ("notebooks", "src", "figures/tiny"):
        (tmp_path / folder).mkdir(parents=True)

    def write(name, *sources):
        notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
        nbformat.write(notebook, tmp_path / "notebooks" / name)

    return write


def come_in_this_order(text, *parts):
    places = [text.index(part) for part in parts]
    return places == sorted(places)


def read(name):
    (cell,) = nbformat.read(name, as_version=4).cells
    return cell


def test_shows_output_and_says_where_the_results_are(project, capsys):
    project("01_a.ipynb", "print('one\\r two', end='')\nprint('\\r three')")
    project("02_b.ipynb", "import sys; print('four')")
    assert main([]) == 0
    out = capsys.readouterr().out
    assert come_in_this_order(out, "[1/2] 01_a", "three", "[2/2] 02_b", "four", "  all ")
    assert out.rstrip().endswith("summary.md")
    cell = read("data/tiny/notebooks/01_a.ipynb")
    assert cell.outputs[0].text == " three\n" and cell.execution_count == 1
    assert read("notebooks/01_a.ipynb").outputs == []
    assert main(["01", "--in-place"]) == 0
    assert read("notebooks/01_a.ipynb").outputs[0].text == " three\n"


def test_a_whole_run_is_repeated_only_if_something_has_changed(project, capsys):
    study, count = config.get_study("tiny"), Path("count")
    adds, figure = f"open({str(count.absolute())!r}, 'a').write('x')", study.figures / "a.png"
    source = f"{adds}\nopen({str(figure)!r}, 'w').write('a')"
    changes = [
        lambda: project("01_a.ipynb", source),
        lambda: project("01_a.ipynb", source, "'another cell'"),
        lambda: Path("src/a.py").write_text("a = 1"),
        lambda: Path("src/a.py").write_text("a = 2"),
        figure.unlink,
        lambda: figure.write_text("another"),
        lambda: Path("data/tiny/notebooks/01_a.ipynb").unlink(),
    ]
    for number, change in enumerate(changes, 1):
        change()
        assert main([]) == 0 and count.read_text() == "x" * number
        capsys.readouterr()
        assert main([]) == 0 and count.read_text() == "x" * number
        out = capsys.readouterr().out
        assert come_in_this_order(out, "Nothing has changed", "Summary:")
    assert main(["01"]) == 0 and count.read_text() == "x" * (number + 1)


def test_code_that_changes_during_a_run_is_noticed(project):
    file = str(Path("src/a.py").absolute())
    project("01_a.ipynb", f"open({file!r}, 'a').write('a = 1\\n')")
    assert main([]) == 0 and main([]) == 0 and Path(file).read_text() == "a = 1\n" * 2


@pytest.mark.parametrize("trained", [False, True])
def test_a_whole_run_in_place_writes_reference_and_minutes(project, trained, capsys):
    study = config.get_study("tiny")
    project("01_a.ipynb", "print('a')")
    columns = "model protocol train_set test_set real_source seed value ci_low ci_high".split()
    rows = pd.DataFrame({"metric": ["auc", "f1", "auc"], **dict.fromkeys(columns, 0)})
    rows["model"] = [study.headline[0]] * 2 + ["Beyond"]
    rows.to_csv(study.figures / "results.csv", index=False)
    rows.assign(ci_low=1).to_csv(study.figures / "reference.csv", index=False)
    if trained:
        study.models.mkdir(parents=True)
        (study.models / "A.keras").touch()
    assert main(["--in-place"]) == 0
    assert "0 of 1 of single trainings" in capsys.readouterr().out  # within the former reference's
    reference = pd.read_csv(study.figures / "reference.csv")
    assert reference[["model", "metric"]].values.tolist() == [[study.headline[0], "auc"]]
    minutes = pd.read_csv(study.figures / "minutes.csv").set_index("notebook")
    assert [*minutes.index] == ["01_a", "all"] and (minutes["minutes"] < 5).all()
    assert (minutes["from_nothing"] == (not trained)).all()
    assert ("from nothing" in readme.minutes(study)) == (not trained)


def test_runs_side_by_side_what_needs_only_the_first(project, capsys):
    meet = (
        "import pathlib, time; pathlib.Path('{}').touch(); end = time.time() + 30\n"
        "while not pathlib.Path('{}').exists(): assert time.time() < end\nprint('met')"
    )
    project("01_a.ipynb", "print('first')")
    # Each waits for the other: neither would end alone.
    project("03_c.ipynb", meet.format("three", "four"))
    project("04_d.ipynb", meet.format("four", "three"))
    project("06_f.ipynb", "print('last')")
    assert main(["--jobs", "2"]) == 0
    out = capsys.readouterr().out
    assert come_in_this_order(out, "first", "04 | met", "[4/4] 06_f", "\nlast\n")
    assert come_in_this_order(out, "  03_c", "  04_d", "  06_f")


DIES = "import os, sys; print('last words', file=sys.__stderr__, flush=True); os._exit(9)"


@pytest.mark.parametrize(
    "jobs, cell, messages",
    [
        ("1", DIES, ["last words", "stopped.\nKernel died. Most often memory was short"]),
        ("2", "raise ValueError('no archive')", ["03_c.ipynb stopped.\nValueError: no archive"]),
    ],
)
def test_a_stop_is_explained_and_what_follows_does_not_begin(jobs, cell, messages, project, capfd):
    project("02_b.ipynb", "print('ran to its end')")
    project("03_c.ipynb", cell)
    project("06_f.ipynb", "print('never')")
    assert main(["--jobs", jobs]) == 1
    out, error = capfd.readouterr()
    for message in (*messages, "goes on from there"):
        assert message in error
    assert "ran to its end" in out and "never" not in out


def test_screen_keeps_whole_lines_and_shares_the_last_one(capsys, monkeypatch):
    size = os.terminal_size((40, 20))
    monkeypatch.setattr(run_notebooks.shutil, "get_terminal_size", lambda: size)
    screen = Screen()
    for text in ("03\r 10%", "04\r 1", "03\r 50%", "04%", "03\r100%\ndone"):
        screen.write(text[:2], text[2:])
    pieces = capsys.readouterr().out.split("\r")
    assert pieces[-1] == f"03 | 100%\n{'03 | done':19} {'04 |  1%':19} "
    assert [piece for piece in pieces if piece.strip()][-2] == f"{'03 |  50%':19} {'04 |  1%':19} "
    screen.write("04", "\r    \r")
    screen.write("03", "\n")
    assert capsys.readouterr().out.endswith("03 | done\n")


@pytest.mark.parametrize(
    "study, arguments, message",
    [
        ("huge", [], f"one of these: {', '.join(config.STUDIES)}."),
        ("faces", [], "FACES is not set"),
        ("tiny", ["07"], "No notebook matches 07"),
    ],
)
def test_a_wrong_call_is_answered(study, arguments, message, project, capsys, monkeypatch):
    monkeypatch.delenv("FACES", raising=False)
    monkeypatch.setenv("STUDY", study)
    project("01_a.ipynb", "print('never')")
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert message in captured.err and captured.out == ""


def test_large_pictures_among_the_outputs_become_smaller():
    def output(pixels):
        encoded = base64.b64encode(cv2.imencode(".png", pixels)[1]).decode()
        return new_output("display_data", {"image/png": encoded})

    photograph = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    large, small = output(photograph), output(photograph[:8, :8])
    length = len(large["data"]["image/png"])
    tidy(new_notebook(cells=[new_code_cell("x", outputs=[large, small])]))
    (data,) = large["data"].values()
    assert len(data) < 0.75 * length and set(small["data"]) == {"image/png"}
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (200, 200)


def test_a_run_is_compared_with_the_reference(project):
    study = config.get_study("tiny")
    assert run_notebooks._compared_with_reference(study) == []
    row = {"protocol": "report", "train_set": "inpainting", "test_set": "insight"}
    row |= {"real_source": "wiki", "metric": "auc", "value": 0.8, "ci_low": 0.7, "ci_high": 0.9}
    models = [*["Fourier_DenseNet"] * 3, "PCA_probe"]
    reference = pd.DataFrame([row] * 4).assign(model=models, seed=[0, 1, -1, 0])
    reference.to_csv(study.figures / "reference.csv", index=False)
    results = reference.assign(value=[0.75, 0.95, 0.8, 0.1], ci_low=0.0, ci_high=1.0)
    results.to_csv(study.figures / "results.csv", index=False)
    _, means, single, other = run_notebooks._compared_with_reference(study)
    assert "1 of 1 means" in means and "1 of 2 of single trainings" in single
    assert "insight against wiki, seed 1: 0.950, reference [0.700, 0.900]" in other


@pytest.mark.skipif(sys.platform != "linux", reason="Elsewhere pages of files are not told apart.")
def test_memory_of_its_own_counts_and_pages_of_mapped_files_do_not(tmp_path):
    file = tmp_path / "mapped"
    file.touch()
    os.truncate(file, 600 << 20)
    code = """if True:
        import mmap, sys
        held = bytearray(b"x") * (200 << 20)
        file = open(sys.argv[1], "rb")
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        print(sum(pages[::4096]), flush=True)
        sys.stdin.read()
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with run_notebooks._most_memory() as most:
        with subprocess.Popen([sys.executable, "-c", code, str(file)], **pipes) as child:
            child.stdout.readline()
            time.sleep(1)
            child.stdin.close()
    assert 0.19 < most[0] < 0.5
