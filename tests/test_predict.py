"""Verdicts on pictures: rules against counts, files of every kind, the command."""

import io
import json
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
from made_odd_files import odd_file
from made_pictures import saved
from PIL import Image

from src import predict as code
from src.data import faces
from src.detectors.autoencoder import build_embedding_classifier

PICTURE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype="uint8")


def judged(files, detector):
    """Verdicts on files, and the pixels that the detector saw."""
    tables, squares = zip(*code.judge(files, detector))
    pixels = [code.delivered(square, (), detector) for part in squares for square in part]
    return pd.concat(tables, ignore_index=True), np.array(pixels)


def test_a_band_holds_its_error_rate_on_new_pictures():
    rng, wrong = np.random.default_rng(0), []
    for _ in range(300):
        labels = np.repeat([0, 1], 60)
        low, high = code.conformal_band(labels, rng.normal(labels))
        wrong.append(((rng.normal(1, 1, 50) < low).mean(), (rng.normal(0, 1, 50) > high).mean()))
    assert (np.mean(wrong, axis=0) <= 0.055).all() and (np.mean(wrong, axis=0) > 0.03).all()
    assert code.conformal_band(np.array([0, 1]), np.array([0.1, 0.9])) == (0, 1)


@pytest.mark.parametrize(
    "probabilities, band, expected",
    [
        ([0.9, 0.8, 0.9, 0.8], (0.3, 0.7), "fake"),
        ([0.1, 0.2, 0.4, 0.2], (0.3, 0.7), "real"),
        ([0.9, 0.8, 0.9, 0.4], (0.3, 0.7), "unsure"),  # another delivery crosses the threshold
        ([0.1, 0.2, 0.6, 0.2], (0.3, 0.7), "unsure"),
        ([0.6, 0.6, 0.6, 0.6], (0.3, 0.7), "unsure"),  # photographs have such probabilities, too
        ([0.4, 0.4, 0.4, 0.4], (0.3, 0.7), "unsure"),
        ([0.5, 0.5, 0.5, 0.5], (0.6, 0.3), "unsure"),  # between separate classes
        ([0.7, 0.7, 0.7, 0.7], (0.6, 0.3), "fake"),
    ],
)
def test_verdicts(probabilities, band, expected):
    assert code.verdict(np.array(probabilities), 0.5, band) == expected


def test_files_of_every_kind_are_rows(tmp_path, detector, found):
    saved(tmp_path / "é bright.png", np.full((90, 120, 3), 250, "uint8"))
    saved(tmp_path / "grey.jpg", np.full((90, 120), 5, "uint8"))
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.png").touch()
    files = code.expand([str(tmp_path)])
    table, pixels = judged([*files, tmp_path / "none.jpg"], detector)
    table.index = table["path"].str.rsplit("/", n=1).str[-1]
    assert list(table) == code.COLUMNS and len(table) == 5 and pixels.shape == (2, 8, 8, 3)
    assert set(table.index[table["error"].notna()]) == {"empty.png", "text.jpg", "none.jpg"}
    assert table.loc[["é bright.png", "grey.jpg"], "verdict"].tolist() == ["fake", "real"]
    assert table.loc["é bright.png", "warnings"] == "a face of 24 pixels: small; grey"
    assert "0 bytes" in table.loc["empty.png", "error"]
    shown = table.loc["grey.jpg", ["probability", *code.DELIVERIES]].astype(float)
    assert (shown < 0.01).all() and shown.iloc[0] == shown.iloc[1]


def test_open_files_are_judged_as_files_are(tmp_path, detector, found):
    contents = saved(tmp_path / "x.png", PICTURE).read_bytes()
    files = [io.BytesIO(each) for each in (contents, b"", b"text")]
    for file, name in zip(files, ("x.png", "empty.png", "text.png")):
        file.name = name
    table, pixels = judged(files, detector)
    same, same_pixels = judged([tmp_path / "x.png"], detector)
    assert table["path"].tolist() == ["x.png", "empty.png", "text.png"]
    assert table.loc[:0, "verdict":"bottom"].equals(same.loc[:, "verdict":"bottom"])
    np.testing.assert_array_equal(pixels, same_pixels)
    assert "0 bytes" in table.loc[1, "error"] and "known format" in table.loc[2, "error"]


def test_pictures_unlike_those_of_the_training_have_a_warning(tmp_path, detector, found):
    dark, bright = (np.full((400, 400, 3), level, "uint8") for level in (10, 250))
    files = [saved(tmp_path / "dark.png", dark), saved(tmp_path / "bright.png", bright)]
    near = 192 * (100 / 255) ** 2  # the features of the detector are its 192 values
    detector = replace(detector, reference=detector.reference._replace(limit=near))
    table, _ = judged(files, detector)
    assert table["warnings"].tolist() == ["grey", f"grey; {code.UNLIKE}"]


def test_every_face_is_a_row_and_without_one_the_picture(tmp_path, detector, found):
    file = saved(tmp_path / "x.png", PICTURE)
    found.append([0, 0, 0.1, 0.2, 0.9])
    table, pixels = judged([file] * 20, detector)
    assert table["face"].tolist() == [1, 2] * 20 and len(pixels) == 40
    assert table.loc[1, faces.BOX].tolist() == [0, 0, 0.1, 0.2]
    assert table["warnings"].str.startswith("2 faces").all()
    found.clear()
    table, pixels = judged([file], detector)
    assert table["face"].tolist() == [1] and table.loc[0, faces.BOX].tolist() == [0, 0, 1, 1]
    whole = np.asarray(Image.fromarray(PICTURE).resize((8, 8), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(pixels[0], whole)


def test_few_large_pictures_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(code, "_PIXELS_AT_ONCE", 30)
    files = [tmp_path / f"{number}.png" for number in range(6)]
    for file, side in zip(files, (3, 4, 5, 6, 1)):
        Image.new("L", (side, side)).save(file)
    files.insert(1, tmp_path / "none.png")
    parts = [[files.index(file) for file in part] for part in code._in_parts(files)]
    assert parts == [[0, 1, 2], [3], [4], [5, 6]]
    assert [len(part) for part in code._in_parts([tmp_path / "none.png"] * 35)] == [16, 16, 3]


def test_a_picture_is_turned_as_its_exif_says(tmp_path, detector, found):
    left_bright = np.zeros((64, 64, 3), "uint8")
    left_bright[:, :32] = 255
    tags = Image.Exif()
    tags[0x0112] = 6  # turn clockwise: what is left comes on top
    found[0][:4] = 0.25, 0.25, 0.75, 0.75
    _, pixels = judged([saved(tmp_path / "x.jpg", left_bright, exif=tags)], detector)
    assert pixels[0, :3].mean() > 230 and pixels[0, 5:].mean() < 20


def test_the_square_around_a_face_lies_in_the_picture():
    picture = Image.fromarray(PICTURE)
    for box in np.random.default_rng(1).uniform(0, 1, (50, 4)):
        box = np.concatenate([np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])])
        square = code._square_around(picture, box)
        assert abs(square.width - square.height) <= 1 and max(square.size) <= 91
    middle = code._square_around(picture, np.array([0.4, 0.4, 0.6, 0.6]))
    np.testing.assert_array_equal(np.asarray(middle), PICTURE[16:64, 32:80])


def test_names_mean_files_folders_and_patterns(tmp_path):
    names = ["b.JPG", "a[1].png", "deep down/ü.webp", "note.txt", ".hidden.jpg"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in code.expand([str(tmp_path)])] == ["a[1].png", "b.JPG", "ü.webp"]
    assert code.expand([f"{tmp_path}/*.JPG", f"{tmp_path}/b.JPG"]) == [tmp_path / "b.JPG"]
    assert code.expand([f"{tmp_path}/a[1].png"]) == [tmp_path / "a[1].png"]
    with pytest.raises(FileNotFoundError, match="a folder with pictures"):
        code.expand([f"{tmp_path}/*.gif"])


def test_the_command(tmp_path, detector, found, monkeypatch, capsys):
    monkeypatch.setattr(code, "load", lambda name: detector)
    file = saved(tmp_path / "x.png", PICTURE)
    assert code.main([str(tmp_path), "--csv", str(tmp_path / "t.csv")]) == 0
    printed = capsys.readouterr().out
    assert all(words in printed for words in ("x.png", "unsure", "About.", code.ETHICS))
    assert list(pd.read_csv(tmp_path / "t.csv")) == code.COLUMNS
    (tmp_path / "y.jpg").write_text("no picture")
    assert code.main([str(tmp_path), "--json", "--explain", str(tmp_path / "out")]) == 3
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["face"] for row in rows] == [1, None] and rows[0]["verdict"] == "unsure"
    assert len(list((tmp_path / "out").glob("x-*-face1.png"))) == 1
    assert code.predict([file])["verdict"].tolist() == ["unsure"]


@pytest.mark.parametrize("wrong", [["none.jpg"], [".", "--model", "nothing/x"]])
def test_the_command_refuses(wrong, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "x.png", PICTURE)
    with pytest.raises(SystemExit) as stopped:
        code.main(wrong)
    assert stopped.value.code == 2
    assert "none.jpg" in (said := capsys.readouterr().err) or "nothing" in said


def test_files_that_hold_no_detector_are_refused_and_no_code_of_theirs_runs(tmp_path, detector):
    detector.model.save(tmp_path / "own.keras")
    whole = (tmp_path / "own.keras").read_bytes()
    (tmp_path / "cut.keras").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.keras").write_text("no model")
    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()]).save(tmp_path / "one.keras")
    vectors = keras.Input((192,))
    first = keras.Sequential([keras.Input((192,)), keras.layers.Dense(192)])
    head = build_embedding_classifier(192, ())
    keras.Model(vectors, head(first(vectors))).save(tmp_path / "vectors.keras")
    code_inside = keras.Sequential([keras.Input((8,)), keras.layers.Lambda(lambda x: x + 1)])
    code_inside.save(tmp_path / "code.keras")
    read = code._read_model(tmp_path / "own.keras")
    zeros = np.zeros((1, 8, 8, 3), "uint8")
    np.testing.assert_array_equal(read.predict(zeros), detector.model.predict(zeros))
    for name in ("cut", "text", "one", "vectors", "code", "missing"):
        with pytest.raises(ValueError, match=f"{name}.keras is no detector that can be used: .+"):
            code._read_model(tmp_path / f"{name}.keras")


def test_odd_files_are_judged_or_refused_with_a_reason(tmp_path, detector, found):
    for seed in range(39):
        name, contents = odd_file(seed)
        (tmp_path / name).write_bytes(contents)
    table, _ = judged(code.expand([str(tmp_path)]), detector)
    assert table["path"].nunique() == 39
    is_judged = table["error"].isna()
    assert is_judged.equals(table["probability"].between(0, 1))
    kinds = table["path"].str.extract(r"-(\w+)\.")[0]
    whole = kinds.isin(["any", "wrong_ending", "animated", "deep", "turned"])
    assert is_judged[whole].all()
    assert not is_judged[kinds.isin(["no_picture", "huge", "bomb"])].any()
    assert (table.loc[~is_judged, "error"].str.len() > 10).all()
