"""The command that runs the notebooks, on notebooks of a line each."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from src import config, reproduce


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose notebooks are tiny; returns a function that writes one."""
    monkeypatch.setattr(reproduce, "ROOT", tmp_path)
    monkeypatch.setattr(config, "HOME", tmp_path)
    monkeypatch.setenv("STUDY", "tiny")
    monkeypatch.delenv("MPLBACKEND", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notebooks").mkdir()

    def write(name, *sources):
        notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
        nbformat.write(notebook, tmp_path / "notebooks" / name)

    return write


def test_shows_output_and_says_where_the_results_are(project, tmp_path, capsys):
    project("01_a.ipynb", "print('one\\r two', end='')\nprint('\\r three')")
    project("02_b.ipynb", "import sys; print('four')")
    assert reproduce.main([]) == 0
    out = capsys.readouterr().out
    assert out.index("[1/2] 01_a") < out.index("three") < out.index("[2/2] 02_b") < out.index("four")
    assert out.rstrip().endswith("summary.md") and "min" in out
    executed = nbformat.read(tmp_path / "data" / "tiny" / "notebooks" / "01_a.ipynb", as_version=4)
    assert executed.cells[0].outputs[0].text == " three\n" and executed.cells[0].execution_count == 1
    untouched = nbformat.read(tmp_path / "notebooks" / "01_a.ipynb", as_version=4)
    assert untouched.cells[0].outputs == []


def test_a_failing_cell_stops_and_is_explained(project, tmp_path, capsys):
    project("01_a.ipynb", "raise FileNotFoundError('no archive; run this first')")
    project("02_b.ipynb", "print('never')")
    assert reproduce.main([]) == 1
    captured = capsys.readouterr()
    assert "FileNotFoundError: no archive; run this first" in captured.err and "goes on from there" in captured.err
    assert "never" not in captured.out


def test_in_place_and_by_number(project, tmp_path):
    project("01_a.ipynb", "1 + 1")
    project("02_b.ipynb", "raise SystemError")
    assert reproduce.main(["01", "--in-place"]) == 0
    executed = nbformat.read(tmp_path / "notebooks" / "01_a.ipynb", as_version=4)
    assert executed.cells[0].outputs[0].data["text/plain"] == "2"
    assert executed.metadata.language_info == {"name": "python"}


@pytest.mark.parametrize(
    ("environment", "arguments", "message"),
    [
        ({"STUDY": "huge"}, [], "Valid names: demo, sample, full, rehearsal, tiny"),
        ({"STUDY": "sample"}, [], "FACES, which is not set"),
        ({"STUDY": "tiny"}, ["07"], "No notebook matches 07"),
    ],
)
def test_a_wrong_call_is_answered_before_anything_runs(environment, arguments, message, project, capsys, monkeypatch):
    monkeypatch.delenv("FACES", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert reproduce.main(arguments) == 1
    assert message in capsys.readouterr().err


def test_large_pictures_among_the_outputs_become_smaller():
    import base64
    import io

    import numpy as np
    from nbformat.v4 import new_output
    from PIL import Image

    def encoded(pixels):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        return base64.b64encode(stream.getvalue()).decode()

    photograph = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    cell = new_code_cell("x")
    cell.outputs = [
        new_output("display_data", {"image/png": encoded(photograph)}),
        new_output("display_data", {"image/png": encoded(photograph[:8, :8])}),
    ]
    reproduce.slim(new_notebook(cells=[cell]))
    large, small = (output["data"] for output in cell.outputs)
    (data,) = large.values()
    assert len(data) < 0.75 * len(encoded(photograph)) and set(small) == {"image/png"}
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (200, 200)
