"""Any folder of pictures: with a manifest of odd names, or with none."""

import os

import numpy as np
import pandas as pd
import pytest
from made_pictures import picture, saved

from src import config, folders
from src.data import catalog, readers, sources
from src.detectors import scoring
from src.pictures.decoding import inspect_all

SHARED = config.ROOT / "shared" / "faces"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder that FACES names, and a home."""
    folder = tmp_path / "Bilder, à voir"
    folder.mkdir()
    monkeypatch.setattr(config, "HOME", tmp_path / "home")
    monkeypatch.setenv("FACES", str(folder))
    monkeypatch.delenv("TRAIN", raising=False)
    return folder


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def write_manifest(folder, file="manifest.csv", **changes):
    """A photograph and a fake, with `changes` to the columns."""
    columns = {"path": ["a, é.jpg", "b c.png"], "label": ["real", "fake"], "dataset": "d"}
    columns |= {"generator": ["", "SD 2.1 (v/2) + é"], "group": ["g", "g"]} | changes
    touch(folder, "a, é.jpg", "b c.png")
    pd.DataFrame(columns).to_csv(folder / file, index=False)


def columns_of(table, *names):
    return table[list(names)].to_numpy().tolist()


def test_a_manifest_with_odd_names(place):
    write_manifest(place)
    study = config.get_study("faces")
    assert study.train_set == "SD_2.1_v_2_é" and study.test_sets == {study.train_set: "d"}
    assert f"trained on {study.train_set}" in study.description
    records = catalog.collect(study)
    assert columns_of(records, "path", "label", "generator", "dataset", "group") == [
        ["a, é.jpg", "real", "real", "d", "g"],
        ["b c.png", "fake", study.train_set, "d", "g"],
    ]
    assert all(file.is_file() for file in catalog.files(study, records))


def test_what_a_manifest_may_leave_open_or_write_otherwise(place):
    """Names of DeepFakeFace get an ending: a protocol would treat them as what it knows."""
    paths = ["Train\\1.jpg", "./val/2.jpg", "3.jpg", "4.jpg"]
    touch(place, "Train/1.jpg", "val/2.jpg", "3.jpg", "4.jpg")
    labels, generators = ["Real", "FAKE", "fake", "fake"], ["x", "insight", "real", " "]
    columns = {"path": paths, "label": labels, "generator": generators, "group": ["", "", "g", "g"]}
    file = place / "manifest.csv"
    pd.DataFrame(columns | {"dataset": ""}).to_csv(file, index=False, encoding="utf-8-sig")
    table = folders.read((place,))
    assert table["split"].tolist() == ["train", "valid", "", ""]
    assert table["group"].tolist() == ["Train/1.jpg", "val/2.jpg", "g", "g"]
    assert table["generator"].tolist() == ["real", "insight_", "real_", "unnamed"]
    assert set(table["dataset"]) == {"unnamed"}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"label": ["real", "real"]}, "2 pictures are of one class: there is no fake"),
        ({"label": ["real", "1"]}, r"label must be one of .* Found: \['1'\]"),
        ({"path": ["a, é.jpg", "a, é.jpg"]}, "1 paths are in FACES twice, such as .'a, é.jpg'"),
        ({"path": ["a, é.jpg", "x/../../b.jpg"]}, "lead out of its folder, such as ../b.jpg. Exp"),
        ({"path": ["/etc/a.jpg", "a, é.jpg"]}, "1 paths in .*, such as /etc/a.jpg"),
        ({"path": [r"C:\a.jpg", "a, é.jpg"]}, "1 paths in .*, such as C:/a.jpg"),
        ({"path": ["x.jpg", "y.jpg"]}, "None of the files in .*: x.jpg"),
        ({"split": ["train", "dev"]}, r"split must be one of .* Found: \['dev'\]"),
        ({"split": ["train", "test"]}, r"1 groups lie in several splits, as \['g'\]"),
        ({"left": [0.1, 30]}, r"fractions, from 0 to 1. Found: .*'b c.png', 'left': 30"),
        ({"left": ["0.1", "x"]}, "could not convert string to float: 'x'"),
    ],
)
def test_a_bad_manifest(changes, message, place):
    write_manifest(place, **changes)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        catalog.collect(config.get_study("faces"))


def test_a_missing_file_is_listed(place):
    write_manifest(place, path=["a, é.jpg", "gone.jpg"])
    study = config.get_study("faces")
    facts = inspect_all(catalog.files(study, catalog.collect(study)))
    assert facts["reason"][1] == "the file is missing"


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "manifest.csv cannot be read as CSV"),
        (b"path,label\na.jpg,real\n", "lacks the columns generator, dataset, group; it has path"),
        (b"path,label,generator,dataset,group\n", "which holds no pictures. Expected a folder"),
        ("path\ná".encode("latin-1"), "cannot be read as CSV in UTF-8"),
    ],
)
def test_a_manifest_that_says_nothing(content, message, place):
    (place / "manifest.csv").write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        config.get_study("faces")


def test_no_folder(place, monkeypatch):
    for faces, message in (("", "FACES is not set"), ("/nowhere", "'/nowhere', which holds no")):
        monkeypatch.setenv("FACES", faces)
        with pytest.raises(FileNotFoundError, match=message):
            config.get_study("faces")


def test_folders_without_a_manifest(place, tmp_path):
    touch(place, "real/1.jpg", "Real/ffhq/2.JPEG", "fake/a b/x/1.png", "fake/a b/y/3.webp")
    touch(place, "fake/c/3.bmp", "fake/4.tif", "fake/a b/.5.jpg", "fake/a b/5.txt", "6.jpg")
    touch(tmp_path, "elsewhere/7.jpg")
    (place / "fake" / "é").symlink_to(tmp_path / "elsewhere")
    table = folders.read((place,)).sort_values("path", key=lambda path: path.str.lower())
    assert columns_of(table, "path", "label", "generator", "dataset", "group") == [
        ["fake/4.tif", "fake", "fake", "fake", "/4"],
        ["fake/a b/x/1.png", "fake", "a_b", "a_b", "/1"],
        ["fake/a b/y/3.webp", "fake", "a_b", "a_b", "/3"],
        ["fake/c/3.bmp", "fake", "c", "c", "/3"],
        ["fake/é/7.jpg", "fake", "é", "é", "/7"],
        ["real/1.jpg", "real", "real", "real", "/1"],
        ["Real/ffhq/2.JPEG", "real", "real", "ffhq", "/2"],
    ]


def test_folders_of_splits_and_a_name_that_stands_there_twice(place):
    """The same number in another split is another picture; `face.jpg` in every folder is none."""
    touch(place, "train/real/1.jpg", "train/fake/a/1.jpg", "val/real/1.jpg", "test/fake/a/1.jpg")
    touch(place, "fake/train/a/2.jpg", "fake/train/a/b/2.jpg", "real/train/2.jpg")
    table = folders.read((place,)).set_index("path")
    folder = table.index.str.extract("(train|val|test)/")[0].replace("val", "valid")
    assert table["split"].tolist() == folder.tolist()
    assert table.loc["train/real/1.jpg", "group"] == table.loc["train/fake/a/1.jpg", "group"]
    assert table.drop("train/fake/a/1.jpg")["group"].is_unique


def test_what_is_trained_on_and_compared_with_what(place, monkeypatch):
    touch(place, *(f"real/{name}/{name}{n}.jpg" for name in ("a", "x") for n in (1, 2)))
    touch(place, *(f"fake/{name}/{n}.jpg" for name, n in ("a0", "b0", "b1", "b2", "c0", "c1")))
    study = config.get_study("faces")
    assert study.train_set == "b", "that with most fakes"
    assert list(study.test_sets.items()) == [("b", "a&x"), ("c", "a&x"), ("a", "a")]
    assert "c against photographs of a&x" in study.description and study.foreign_reals == {}
    monkeypatch.setenv("TRAIN", "a")
    study = config.get_study("faces")
    assert study.test_sets == {"a": "a", "b": "a&x", "c": "a&x"}
    assert study.foreign_reals == {"a": "x"} and study.autoencoder.train_dataset == "a"
    monkeypatch.setenv("TRAIN", "c+a")
    study = config.get_study("faces")
    assert study.train_sets == ("c&a",) and study.test_sets == {"c&a": "a", "b": "a&x"}
    records = catalog.collect(study)
    names = ["fake/a/0", "fake/c/0", "fake/c/1", "real/a/a1", "real/a/a2"]
    task = catalog.task(records, "c&a", "a")
    assert sorted(task["path"]) == [f"{name}.jpg" for name in names]
    assert len(catalog.task(records, "b", "a&x")) == 3 + 4
    monkeypatch.setenv("TRAIN", "a+d")
    with pytest.raises(ValueError, match="TRAIN names d, .* The generators in FACES are b, c, a;"):
        config.get_study("faces")


def test_several_places(place, tmp_path, monkeypatch):
    """A second manifest may write its paths from the first folder on; groups hold across both."""
    write_manifest(place, split=["test", "test"])
    touch(place, "more/c.jpg")
    other = tmp_path / "other"
    columns = {"label": ["fake"], "generator": "g2", "dataset": "d", "group": "g"}
    for folder, path in ((place / "more", "more/c.jpg"), (other, "e.jpg")):
        touch(folder, "e.jpg")
        table = pd.DataFrame(columns | {"path": [path]})
        table.to_csv(folder / "manifest.csv", index=False)
    monkeypatch.setenv("FACES", os.pathsep.join(map(str, (place, place / "more", other))))
    study = config.get_study("faces")
    assert set(study.test_sets) == {"SD_2.1_v_2_é", "g2"}
    records = catalog.assign_splits(catalog.collect(study), 0, study.shares)
    assert len(records) == 4 and (records["split"] == "test").all()
    assert all(file.is_file() for file in catalog.files(study, records))


def test_a_changed_folder_is_noticed(place, monkeypatch):
    monkeypatch.setattr(catalog, "_LEAST", 0)
    write_manifest(place)
    study = config.get_study("faces")
    catalog.save(study, catalog.collect(study), pd.DataFrame({"path": []}))
    assert len(catalog.load(study)) == 2
    write_manifest(place, group=["g", "h"])
    with pytest.raises(ValueError, match="FACES changed after .*01_data_download.ipynb"):
        catalog.load(study)


@pytest.fixture
def many(place):
    """Twenty photographs and their fakes, PNG and WebP, of several sizes."""
    for number in range(20):
        saved(place / "real" / f"{number} é.png", picture(40, 40 + number, number))
        saved(place / "fake" / "x, y" / f"{number} é.webp", picture(64, 48, number), lossless=True)
    return place


def test_from_files_to_pixels(many):
    """Records, groups, splits and the store, for both protocols."""
    study = config.get_study("faces")
    records = catalog.collect(study).assign(width=40, height=40)
    records = catalog.assign_splits(records, study.seed, (0.3, 0.4, 0.3))
    assert records.groupby("group")["split"].nunique().eq(1).all()
    assert records.groupby("group").size().eq(2).all()
    catalog.save(study, records, pd.DataFrame({"path": []}))
    for protocol in config.PROTOCOLS:
        shown = scoring.prepare(study, catalog.load(study), protocol, "direct", view="centre")
        assert shown.pixels.shape == (40, 128, 128, 3) and shown.labels.sum() == 20


def test_too_few_pictures(many):
    study = config.get_study("faces")
    records = catalog.assign_splits(catalog.collect(study), study.seed, (0.9, 0.05, 0.05))
    message = r"Too few .* at least 4 of a class to train on x_y(.|\n)*test +2 +2"
    with pytest.raises(ValueError, match=message):
        catalog.save(study, records, pd.DataFrame({"path": []}))
    assert not study.data.joinpath("records").exists()


def test_boxes_and_altered_regions(place):
    """Of a wide picture the middle square is shown; a region that is all of it says nothing."""
    regions = {"left": ["", 0.25], "top": ["", 0.5], "right": ["", 0.5], "bottom": ["", 1]}
    altered = {f"altered_{side}": values for side, values in regions.items()}
    write_manifest(place, **regions, **altered)
    study = config.get_study("faces")
    records = catalog.collect(study)
    assert records[readers.BOX].to_numpy()[1].tolist() == [0.25, 0.5, 0.5, 1]
    assert records[readers.BOX + readers.ALTERED].iloc[0].isna().all()
    records = records.assign(split="test", width=80, height=40)
    table = catalog.task_steps(study, records, "controlled")
    np.testing.assert_allclose(sources.altered_boxes(study, table)[1], [0, 0.5, 0.5, 1])
    table[readers.ALTERED] = [0, 0, 1, 1]
    assert np.isnan(sources.altered_boxes(study, table)).all()


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs real photographs")
def test_real_photographs(monkeypatch):
    monkeypatch.setenv("FACES", os.pathsep.join(map(str, (SHARED, SHARED / "flux2"))))
    monkeypatch.setenv("TRAIN", "stylegan")
    study = config.get_study("faces")
    homes = {"stylegan": "140k", "face_swap": "dfdc", "sd21_text2img": "140k&dfdc"}
    assert study.test_sets == homes | dict.fromkeys(("flux2_full", "flux2_face"), "140k")
    records = catalog.assign_splits(catalog.collect(study), study.seed, study.shares)
    assert records.groupby("group")["split"].nunique().max() == 1
    assert all(file.is_file() for file in catalog.files(study, records))
