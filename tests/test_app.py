"""The panel of notebook 8: by its widgets, and in a browser on the page that `make app` serves."""

import datetime
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys

import nbformat
import numpy as np
import pytest
from made_pictures import photograph, saved
from nbformat.v4 import new_code_cell, new_notebook

from simulator.drawing import make_celeba
from src.app import MAX_BYTES, MAX_PICTURES, Panel
from src.config import ROOT
from src.predict import judge


def upload(panel, *files):
    """What the widget reports once files were chosen: names and contents."""
    now = datetime.datetime.now(datetime.timezone.utc)
    more = {"type": "", "last_modified": now}
    panel.upload.value = [
        {"name": name, "size": len(contents), "content": memoryview(contents), **more}
        for name, contents in files
    ]


@pytest.fixture
def panel(tmp_path, detector, found):
    example = saved(tmp_path / "example.png", photograph(0))
    return Panel({"one": detector, "other": detector}, [example])


def test_uploads_are_judged_and_let_go(tmp_path, panel):
    assert "example.png" in panel.table.value and bytes(panel.figure.value).startswith(b"\x89PNG")
    before, contents = panel.figure.value, (tmp_path / "example.png").read_bytes()
    upload(panel, ("<b>1.png", contents), ("text.jpg", b"no picture"))
    assert "&lt;b&gt;1.png" in panel.table.value and "example" not in panel.table.value
    assert "not a picture in a known format" in panel.table.value and "NA" not in panel.table.value
    assert panel.upload.value == () and panel.message.value == ""
    assert len(panel.face.options) == 1 and bytes(panel.figure.value).startswith(b"\x89PNG")
    upload(panel, ("text.jpg", b"no picture"))
    assert panel.face.options == () and panel.number.value == "" and panel.figure.value == b""
    assert before != b"" and sorted(tmp_path.iterdir()) == [tmp_path / "example.png"]


def test_another_detector_judges_the_same_pictures(panel, monkeypatch):
    seen, before = [], panel.table.value
    monkeypatch.setattr(
        "src.app.judge", lambda files, detector: seen.append(files) or judge(files, detector)
    )
    panel.table.value = ""
    panel.detector.index = 1
    assert [file.name for file in seen[0]] == ["example.png"] and panel.table.value == before


def test_sliders_score_the_face_anew(panel, monkeypatch):
    ways, pixels = [], np.full((8, 8, 3), 255, "uint8")
    monkeypatch.setattr("src.app.delivered", lambda square, way, _: ways.append(way) or pixels)
    panel.scale.index, panel.quality.index = 2, 4
    assert ways == [("downscale:2",), ("downscale:2", "jpeg:70")]
    assert "is <b>1.00</b>, on the side of <b>fake</b>" in panel.number.value


@pytest.mark.parametrize("files", [[b"x"] * (MAX_PICTURES + 1), [bytes(MAX_BYTES + 1)]])
def test_too_much_is_refused(panel, files):
    before = panel.table.value
    upload(panel, *[(f"{number}.jpg", contents) for number, contents in enumerate(files)])
    assert f"Nothing was judged: received {len(files)} pictures" in panel.message.value
    assert panel.table.value == before and panel.upload.value == ()


CELL = """
from pathlib import Path
from made_networks import sharp_detector
from src.app import Panel
Panel({"sharp": sharp_detector()}, [Path("example.png")])
"""


@pytest.fixture
def address(tmp_path):
    """Of a page with the panel, served by Voilà with the options of `make app`."""
    pytest.importorskip("voila", reason="Voilà is not installed: make app installs it")
    saved(tmp_path / "example.png", photograph(0))
    nbformat.write(new_notebook(cells=[new_code_cell(CELL)]), tmp_path / "panel.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    target = (ROOT / "Makefile").read_text().partition("\napp:")[2].partition("\n\n")[0]
    options = target.partition(".ipynb")[2].replace("\\\n", " ")
    command = f"{shlex.quote(sys.executable)} -m voila panel.ipynb {options} --port={port}"
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    (tmp_path / "temporary").mkdir()
    own = {"PYTHONPATH": path, "HOME": str(tmp_path), "TMPDIR": str(tmp_path / "temporary")}
    options = {"cwd": tmp_path, "env": os.environ | own, "text": True, "stderr": subprocess.PIPE}
    with subprocess.Popen(["bash", "-c", f"exec {command}"], **options) as server:
        try:
            printed = next(line for line in server.stderr if line.startswith("http"))
            yield printed.strip()
        finally:
            server.terminate()


@pytest.fixture
def page(address):
    """The page in a browser without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if not browser:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        shown = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"]).new_page()
        shown.set_default_timeout(120_000)
        shown.goto(address)
        yield shown


def choose(page, *files):
    """Chooses files as a person would; waits until they were judged or refused."""
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Pictures").click()
    chooser.value.set_files(files)


def test_a_page_judges_and_refuses_and_leaves_no_file(page, tmp_path):
    page.get_by_text("Delivered so").wait_for()
    assert page.get_by_text("example.png").count() > 0
    given = tmp_path / "given"
    given.mkdir()
    [(_, contents)] = make_celeba(0, 0)[0].items()
    (given / "photograph.jpg").write_bytes(contents)
    (given / "text.jpg").write_text("no picture")

    def files():
        return {file for file in tmp_path.rglob("*") if file.parent != given}

    before = files()
    choose(page, given / "photograph.jpg")
    page.get_by_role("cell", name="photograph.jpg").wait_for()
    assert page.get_by_role("cell", name=re.compile("^(real|fake|unsure)$")).count() == 1
    number = page.get_by_text("Delivered so").inner_text()
    for _ in range(4):
        page.locator(".noUi-handle").first.press("ArrowRight")
    page.wait_for_function("text => !document.body.innerText.includes(text)", arg=number)
    assert "Delivered so, the probability" in page.get_by_text("Delivered so").inner_text()
    choose(page, given / "text.jpg")
    page.get_by_text("not a picture in a known format").wait_for()
    choose(page, *[given / "photograph.jpg"] * (MAX_PICTURES + 1))
    page.get_by_text(f"Nothing was judged: received {MAX_PICTURES + 1} pictures").wait_for()
    assert files() == before
