"""Copies of Kaggle's datasets on Hugging Face: the same pictures, labels by name."""

import dataclasses
import random
import shutil

import datasets
import numpy as np
import pandas as pd
import pytest

from src.data import catalog, copies, readers
from src.data.fetch import fetch_archives
from src.data.sources import GAN140K
from src.files import DeliveryError

PICTURES = [
    kind + random.Random(n).randbytes(40)
    for n, kind in enumerate([b"\xff\xd8", b"\xff\xd8", b"\x89PNG"] * 2)
]


def copy_of(*splits, **columns):
    """The same rows in every split, from `name=(values, type)`."""
    columns["image"] = [{"bytes": content, "path": None} for content in PICTURES], datasets.Image()
    values = {name: values for name, (values, _) in columns.items()}
    features = datasets.Features({name: feature for name, (_, feature) in columns.items()})
    return dict.fromkeys(splits, datasets.Dataset.from_dict(values, features=features))


@pytest.mark.parametrize(
    ("names", "flipped"), [(["real", "fake"], True), (["Fake", "Real"], False)]
)
def test_a_copy_of_the_140k_is_read_by_name(study, names, flipped):
    """The hub's copy has real = 0 where Kaggle has real = 1: nothing but the names decides."""
    numbers = [0, 1, 0, 1, 1, 0]
    labels = {"label": (numbers, datasets.ClassLabel(names=names))}
    labels["generator"] = numbers, datasets.ClassLabel(names=["Real", "StyleGAN"])
    tables = copy_of("train", "validation", "test", **labels)
    delivery = copies.take_copy(study, "gan140k", tables)
    assert delivery.status == "copied" and delivery.num_files == 18 + 3
    assert ("other way round" in delivery.problem) == flipped
    assert "6 pictures are PNG" in delivery.problem
    records = catalog.collect(study)  # which holds the folders' names against the CSV files
    assert records.groupby(["split", "label"]).size().tolist() == [3] * 6
    for record, file in zip(records.itertuples(), catalog.files(study, records)):
        assert file.read_bytes() == PICTURES[int(file.stem)]
        assert names[numbers[int(file.stem)]].lower() == record.label == file.parent.name
    table = pd.read_csv(delivery.folder / "valid.csv")
    assert (table["label"] == (table["label_str"] == "real")).all()  # as Kaggle writes them
    expected = tuple((pattern, 3 if "/" in pattern else 1) for pattern, _ in GAN140K.expected)
    file = dataclasses.replace(GAN140K, expected=expected)
    [again] = fetch_archives([file], study.data / "archives", study.data / "raw")
    assert again.status == "used in place" and ".csv" not in again.problem
    pattern = f"*train/{names[0].lower()}/*.jpg"
    assert f"1 files like {pattern} where 3" in again.problem  # the others are PNG


def test_a_copy_of_celeba_keeps_persons_and_attributes(study):
    male, persons = [True, False, True, True, False, False], [7, 8, 7, 9, 8, 10]
    known = {"Male": (male, datasets.Value("bool")), "Smiling": (male, datasets.Value("bool"))}
    known["celeb_id"] = (persons, datasets.Value("int64"))
    delivery = copies.take_copy(study, "celeba", copy_of("train", "valid", "test", **known))
    assert "partition" not in delivery.problem and "persons" not in delivery.problem
    celeba = readers.celeba(study.data / "raw")
    assert celeba.groupby("split").size().to_dict() == {"test": 6, "train": 6, "valid": 6}
    train = celeba[celeba["split"] == "train"]
    assert train["person"].tolist() == [f"celeba/{number}" for number in persons]
    assert (train["gender"] == np.where(male, "male", "female")).all()
    assert len(pd.read_csv(delivery.folder / "list_attr_celeba.csv").columns) == 3


def test_a_copy_of_pictures_only(study, tmp_path):
    tables = copy_of("train")
    delivery = copies.take_copy(study, "celeba", tables)
    assert "no partition" in delivery.problem and "no persons" in delivery.problem
    celeba = readers.celeba(study.data / "raw")
    assert len(celeba) == 6 and (celeba[["split", "person", "gender"]] == "").all(axis=None)
    with pytest.raises(DeliveryError, match="holds files already"):
        copies.take_copy(study, "celeba", tables["train"])
    shutil.rmtree(delivery.folder)
    delivery.folder.symlink_to(tmp_path / "gone")  # what is left of a mounted folder
    assert copies.take_copy(study, "celeba", tables["train"]).num_files == 6


def test_a_copy_with_a_split_of_another_name_is_refused(study):
    with pytest.raises(ValueError, match="splits .'other'.; expected are train, valid, test"):
        copies.take_copy(study, "celeba", {"other": datasets.Dataset.from_dict({"image": []})})


@pytest.mark.parametrize(
    ("labels", "feature"),
    [
        ([0, 1] * 3, datasets.Value("int64")),
        ([0, 1] * 3, datasets.ClassLabel(names=["0", "1"])),
        ([0] * 5 + [None], datasets.ClassLabel(names=["real", "fake"])),
    ],
)
def test_a_copy_whose_labels_cannot_be_told_leaves_nothing(study, labels, feature):
    tables = copy_of("train", label=(labels, feature))
    with pytest.raises(ValueError, match="must be a ClassLabel with the names 'real'"):
        copies.take_copy(study, "gan140k", tables)
    assert not any((study.data / "raw").iterdir())
