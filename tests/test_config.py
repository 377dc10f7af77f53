"""The named studies, and how a wrong choice is answered."""

import dataclasses
from operator import attrgetter

import keras
import pytest

from src import config, setup


def test_full_is_the_report_to_the_letter():
    study = config.get_study("full")
    fields = attrgetter("name", "frozen", "head", "learning_rate", "batch_size", "epochs")
    assert list(map(fields, study.direct)) == [
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


def test_what_full_is_tested_on_is_chosen_by_a_variable(monkeypatch):
    monkeypatch.delenv("EVAL", raising=False)
    full = config.get_study("full")
    assert (full.shares, full.num_tested, full.seen_too) == ((0.8, 0.1, 0.1), None, {})
    monkeypatch.setenv("EVAL", "report")
    report = config.get_study("full")
    assert [round(30_000 * share) for share in report.shares] == [20_000, 5_000, 5_000]
    assert report.num_tested == 5_000 and not report.seen_too and report.direct == full.direct
    monkeypatch.setenv("EVAL", "readme")
    readme = config.get_study("full")
    assert readme.num_tested == 30_000 and set(readme.seen_too) == {"text2img", "insight"}
    assert "leak" in readme.description
    for value, name in (("paper", "full"), ("report", "demo")):
        monkeypatch.setenv("EVAL", value)
        message = f"report or readme, .* EVAL={value} with STUDY={name}"
        with pytest.raises(ValueError, match=message):
            config.get_study(name)


def test_the_rehearsal_is_full_but_for_data_weights_and_epochs():
    full, rehearsal = config.get_study("full"), config.get_study("rehearsal")
    fields = "train_set test_sets image_size square_size face_size paired_batches".split()
    assert attrgetter(*fields)(full) == attrgetter(*fields)(rehearsal)
    networks = (*full.direct, full.fourier)
    rehearsed = [dataclasses.replace(network, weights=None, epochs=1) for network in networks]
    assert [*rehearsal.direct, rehearsal.fourier] == rehearsed


def test_mini_has_the_same_rows_with_and_without_a_gpu_and_the_full_networks_with_one():
    full, mini = config.get_study("full"), config.get_study("mini")
    large = dataclasses.replace(mini, **mini.on_gpu)
    for study in (mini, large):
        assert study.train_set == full.train_set and study.test_sets == full.test_sets
        assert study.square_size == full.square_size and not study.simulated
    names = [network.name for network in large.direct]
    assert names == [network.name for network in mini.direct]
    shortened = [dataclasses.replace(network, epochs=1) for network in large.direct[:5]]
    assert shortened == [dataclasses.replace(network, epochs=1) for network in full.direct]
    others = attrgetter("fourier", "probe", "autoencoder")
    assert others(large) == others(full)
    fetched = {network.weights for network in (*mini.direct, mini.probe, mini.fourier)}
    assert "imagenet" not in fetched  # without a GPU, no weights are fetched


def test_only_faces_reads_what_train_names(monkeypatch):
    monkeypatch.setenv("TRAIN", "insight")
    with pytest.raises(ValueError, match="'insight', but .* 'demo' trains on inpainting"):
        config.get_study("demo")
    monkeypatch.setenv("TRAIN", "")  # as make passes it on
    assert config.get_study("demo").train_set == "inpainting"


@pytest.mark.parametrize(("device", "size"), [("cpu:0", 128), ("gpu:0", 224)])
def test_setup_changes_mini_where_there_is_a_gpu(device, size, tmp_path, monkeypatch):
    monkeypatch.setattr(config, "HOME", tmp_path)
    monkeypatch.delenv("STUDY", raising=False)
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: [device])
    assert setup("mini").image_size == size


def test_simulated_photographs_are_not_called_real():
    assert config.get_study("demo").words("wiki, real") == "wiki, simulated photograph"
    assert config.get_study("full").words("wiki, real") == "wiki, photograph"
    assert config.get_study("demo").words("really, fake") == "really, fake"
