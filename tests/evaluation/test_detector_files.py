"""Detectors that are Python files: what they get, what they return, how they fail."""

import numpy as np
import pandas as pd
import pytest
from made_results import auc
from PIL import Image

from src.evaluation import __main__ as command
from src.evaluation import detector_files

BRIGHT = """
from PIL import Image
def predict(paths):
    return [sum(Image.open(path).resize((1, 1)).getpixel((0, 0))) / 765 for path in paths]
"""


@pytest.fixture
def folder(tmp_path):
    """Dark photographs and bright fakes of two generators; one fake is no picture."""
    random = np.random.default_rng(0)
    for place in ("real/camera", "fake/gan", "fake/diffusion"):
        (tmp_path / "faces" / place).mkdir(parents=True)
        for number in range(30):
            level = random.normal(100 if "real" in place else 140, 20)
            image = Image.fromarray(np.full((8, 8, 3), np.clip(level, 0, 255), "uint8"))
            image.save(tmp_path / "faces" / place / f"{number}.png")
    (tmp_path / "faces/fake/gan/broken.png").write_text("no picture")
    return tmp_path / "faces"


@pytest.fixture
def detector(tmp_path):
    """Writes a detector and returns its file."""

    def write(source):
        (tmp_path / "bright.py").write_text(source)
        return tmp_path / "bright.py"

    return write


def test_a_file_is_run_on_a_folder_and_its_failures_are_listed(folder, detector, capsys):
    out, file = folder.parent / "out", detector(BRIGHT)
    command.main(["--detector", str(file), str(folder), "--out", str(out), "--num-resamples", "20"])
    scores, failures = pd.read_csv(out / "scores.csv"), pd.read_csv(out / "failures.csv")
    counts = {"camera": 30, "diffusion": 30, "gan": 31}
    assert scores["generator"].value_counts().to_dict() == counts
    whole = scores.dropna(subset="score")
    assert len(whole) == 90 and failures["path"].tolist() == ["fake/gan/broken.png"]
    assert failures.loc[0, "reason"].startswith("UnidentifiedImageError: cannot identify")
    for row in whole.itertuples():
        level = np.asarray(Image.open(folder / row.path))[0, 0, 0]
        assert row.score == pytest.approx(level / 255)
    assert set(scores["detector"]) == {"bright"}
    results = pd.read_csv(out / "results.csv").set_index("metric")
    oracle = auc(whole["label"] == "fake", whole["score"], whole["group"])
    assert results.loc["auc", "value"] == pytest.approx(oracle, abs=1e-6)
    assert "failed on 1 pictures" in capsys.readouterr().out
    assert "1 of 91" in " ".join((out / "summary.md").read_text(encoding="utf-8").split())


def test_many_paths_a_call_one_by_one_only_where_they_fail(folder, monkeypatch):
    calls = []

    def predict(paths):
        calls.append(len(paths))
        return [np.asarray(Image.open(path)).mean() / 255 for path in paths]

    monkeypatch.setattr(detector_files, "_AT_ONCE", 40)
    monkeypatch.setattr(detector_files, "_imported", lambda _: predict)
    table, failures = detector_files.score(folder, detector_files.of_folder(folder))
    assert calls == [40, 40, *[1] * 40, 11] and len(failures) == 1
    assert table["score"].isna().sum() == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_module", "cannot be imported. ModuleNotFoundError: No module named 'no_"),
        ("def predict(paths", "cannot be imported. SyntaxError"),
        ("score = 1", "has no function predict(paths)"),
        ("predict = lambda paths: 1 / 0", "fails on all of the first 64 pictures"),
        ("predict = lambda paths: [0.5]", "shape (1,); expected one number for each of 64 paths"),
        ("predict = lambda paths: [float('nan')] * len(paths)", "returned nan for"),
        ("predict = lambda paths: [2] * len(paths)", "returned 2.0 for"),
        ("predict = lambda paths: ['fake'] * len(paths)", "returned no numbers: ['fake', 'fake'"),
    ],
)
def test_says_what_is_wrong_with_a_detector(folder, detector, source, message, capsys):
    arguments = ["--detector", str(detector(source)), str(folder), "--out", str(folder / "out")]
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == 2 and message in capsys.readouterr().err
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--study", "demo"],
        ["scores.csv", "--study", "demo"],
        ["faces", "--study", "demo", "--detector", "x.py"],
        ["--detector", "x.py"],
    ],
)
def test_asks_for_one_source_of_scores(arguments, capsys):
    with pytest.raises(SystemExit):
        command.main([*arguments, "--out", "out"])
    assert "or --detector FILE with FOLDER or with --study NAME" in capsys.readouterr().err
