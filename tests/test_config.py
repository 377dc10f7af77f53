"""The named studies, and how a wrong choice is answered."""

import dataclasses

import pytest

from src import config
from src.data import catalog


def test_unknown_study_lists_the_valid_ones():
    with pytest.raises(ValueError, match="'huge'.*demo, sample, full, rehearsal, tiny"):
        config.get_study("huge")


@pytest.mark.parametrize("name", config.STUDIES)
def test_every_study_is_named_and_frozen(name):
    study = config.get_study(name)
    assert study.name == name and study.train_set in study.test_sets
    with pytest.raises(dataclasses.FrozenInstanceError):
        study.seed = 1


def test_full_is_the_report_to_the_letter():
    study = config.get_study("full")
    rows = [
        (n.name, n.frozen, n.head, n.learning_rate, n.batch_size, n.epochs, n.weights)
        for n in study.direct
    ]
    assert rows == [
        ("VGG16_V1", True, 256, 1e-3, 128, 10, "imagenet"),
        ("VGG16_V2", True, 2048, 1e-3, 128, 10, "imagenet"),
        ("VGG16_V3", False, None, 1e-4, 64, 5, "imagenet"),
        ("DenseNet_V1", False, None, 1e-4, 64, 25, "imagenet"),
        ("DenseNet_V2", False, None, 1e-4, 64, 3, "imagenet"),
    ]
    assert (study.image_size, study.face_size) == (224, 64)
    assert all(network.scaling == "unit" for network in study.direct)
    assert study.autoencoder.filters == (256, 128, 64) and study.autoencoder.latent == 2048
    assert study.autoencoder.learning_rate == 1e-2 and study.autoencoder.head == (1024, 64)
    assert list(study.test_sets) == ["inpainting", "text2img", "insight", "gan140k"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (None, "FACES, which is not set"),
        (lambda folder: folder / "nowhere", "no such folder"),
        (lambda folder: folder, "holds no manifest.csv"),
    ],
)
def test_faces_folder_says_what_is_wrong_and_what_to_do(make, message, tmp_path, monkeypatch):
    monkeypatch.delenv("FACES", raising=False)
    if make:
        monkeypatch.setenv("FACES", str(make(tmp_path)))
    with pytest.raises(FileNotFoundError, match=f"{message}(.|\n)*STUDY=sample FACES="):
        catalog.faces_folder()


def test_the_rehearsal_is_full_but_for_data_weights_and_epochs():
    full, rehearsal = config.get_study("full"), config.get_study("rehearsal")
    same = (
        "train_set",
        "test_sets",
        "image_size",
        "square_size",
        "face_size",
        "paired_batches",
        "headline",
    )
    assert all(getattr(full, name) == getattr(rehearsal, name) for name in same)
    for network, rehearsed in zip(
        (*full.direct, full.fourier), (*rehearsal.direct, rehearsal.fourier), strict=True
    ):
        assert rehearsed == dataclasses.replace(network, weights=None, epochs=1)
