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
    fields = ("name", "frozen", "head", "learning_rate", "batch_size", "epochs")
    rows = [tuple(getattr(network, field) for field in fields) for network in study.direct]
    assert rows == [
        ("VGG16_V1", True, 256, 1e-3, 128, 10),
        ("VGG16_V2", True, 2048, 1e-3, 128, 10),
        ("VGG16_V3", False, None, 1e-4, 64, 5),
        ("DenseNet_V1", False, None, 1e-4, 64, 25),
        ("DenseNet_V2", False, None, 1e-4, 64, 3),
    ]
    starts = {(network.weights, network.scaling) for network in (*study.direct, study.fourier)}
    assert starts == {("imagenet", "unit")}
    assert {network.view for network in study.direct} == {"resize"}
    assert (study.image_size, study.face_size) == (224, 64)
    assert study.autoencoder.filters == (256, 128, 64) and study.autoencoder.latent == 2048
    assert study.autoencoder.learning_rate == 1e-2 and study.autoencoder.head == (1024, 64)
    assert list(study.test_sets) == ["inpainting", "text2img", "insight", "gan140k"]


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        (None, "FACES, which is not set"),
        ("nowhere", "holds no manifest.csv"),
        ("", "holds no manifest.csv"),
    ],
)
def test_faces_folder_says_what_is_wrong_and_what_to_do(folder, message, tmp_path, monkeypatch):
    monkeypatch.delenv("FACES", raising=False)
    if folder is not None:
        monkeypatch.setenv("FACES", str(tmp_path / folder))
    with pytest.raises(FileNotFoundError, match=f"{message}(.|\n)*STUDY=sample FACES="):
        catalog.faces_folder()


def test_the_rehearsal_is_full_but_for_data_weights_and_epochs():
    full, rehearsal = config.get_study("full"), config.get_study("rehearsal")
    for name in "train_set test_sets image_size square_size face_size paired_batches".split():
        assert getattr(full, name) == getattr(rehearsal, name)
    for network, rehearsed in zip(
        (*full.direct, full.fourier), (*rehearsal.direct, rehearsal.fourier), strict=True
    ):
        assert rehearsed == dataclasses.replace(network, weights=None, epochs=1)
