"""Training: best epoch, history, resuming after a kill, reuse of finished runs, cached features."""

import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

import keras
import numpy as np
import pandas as pd
import pytest

from src.config import Autoencoder, Network
from src.detectors import training
from src.detectors.autoencoder import (
    Reconstruction,
    build_autoencoder,
    build_embedding_classifier,
)
from src.detectors.models import build, join, split_frozen, with_spectrum
from src.detectors.training import (
    Settings,
    cached_features,
    read_card,
    train,
    update_card,
)
from src.pictures.batches import Batches

SETTINGS = Settings(
    learning_rate=0.02, epochs=4, seed=3, config={"name": "tiny"}, data="abc", decay=True
)
NETWORK = Network("X", "vgg16", True, 4, 0.05, 8, 3, None, widths=(4, 4, 4, 4, 4))
CLASSIFICATION_COLUMNS = ["accuracy", "auc", "precision", "recall"]


def pixels_and_labels(num_images=22):
    """Pictures whose fakes are brighter, and labels."""
    labels = np.arange(num_images) % 2
    noise = np.random.default_rng(0).integers(0, 200, (num_images, 8, 8, 3))
    return (noise + 40 * labels[:, None, None, None]).astype("uint8"), labels


def batches(shuffle=True, **changes):
    pixels, labels = pixels_and_labels()
    return Batches(pixels, labels, batch_size=8, shuffle=shuffle, seed=3, **changes)


def small_model():
    """With batch normalisation, which has a state besides its weights."""
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.BatchNormalization()(
        keras.layers.Conv2D(4, 3, strides=2, activation="relu")(x)
    )
    x = keras.layers.Flatten()(x)
    return keras.Model(
        image, keras.layers.Dense(1, activation="sigmoid", dtype="float32")(x), name="small"
    )


def run(stem, model=None, settings=SETTINGS, **changes):
    return train(
        small_model() if model is None else model,
        batches(),
        batches(False),
        stem,
        settings,
        **changes,
    )


class KilledBatches(Batches):
    """Ends the process without warning in the middle of the third epoch."""

    def __getitem__(self, index):
        if self.epoch == 2 and index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def train_until_killed(stem):
    """Run by the child process of a test below."""
    pixels, labels = pixels_and_labels()
    killed = KilledBatches(pixels, labels, batch_size=8, shuffle=True, seed=3)
    train(small_model(), killed, batches(False), Path(stem), SETTINGS)


def assert_equal_weights(one, other, atol=1e-5):
    for ours, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=atol)


def assert_equal_history(one, other):
    clocks = ["seconds", "images_per_second"]
    pd.testing.assert_frame_equal(one.drop(columns=clocks), other.drop(columns=clocks), atol=1e-5)


def forbid_fit(monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: pytest.fail("trained again"))


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """One finished run: folder, model, history."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, *run(folder / "x", verbose=False)


@pytest.fixture
def finished(once, tmp_path):
    """A copy of it, to be changed by a test."""
    folder, model, history = once
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return model, history


def test_files_history_and_best_epoch(tmp_path, capfd):
    model, history = run(tmp_path / "VGG.1-x")
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "VGG.1-x.history.csv",
        "VGG.1-x.json",
        "VGG.1-x.keras",
    ]
    measures = ["loss", *CLASSIFICATION_COLUMNS]
    expected = {
        "epoch",
        "seconds",
        "images_per_second",
        *measures,
        *(f"val_{name}" for name in measures),
    }
    assert set(history.columns) == expected
    assert history["epoch"].tolist() == [1, 2, 3, 4] and (
        history[["seconds", "images_per_second"]] > 0
    ).all(axis=None)
    pd.testing.assert_frame_equal(history, pd.read_csv(tmp_path / "VGG.1-x.history.csv"))
    output = capfd.readouterr()
    assert "val_loss" in output.out and "val_auc" in output.out and "4/4" in output.out
    assert "epoch" not in output.err

    loaded = keras.models.load_model(tmp_path / "VGG.1-x.keras")
    pixels, labels = pixels_and_labels()
    scores = loaded.predict(pixels, verbose=0)
    np.testing.assert_allclose(model.predict(pixels, verbose=0), scores, atol=1e-6)
    loss = keras.losses.BinaryCrossentropy()(labels[:, None], scores)
    assert float(loss) == pytest.approx(history["val_loss"].min(), abs=1e-5)
    assert getattr(loaded, "optimizer", None) is None
    card = read_card(tmp_path / "VGG.1-x")
    assert (
        card["seed"] == 3 and card["backend"] == keras.backend.backend() and card["data"] == "abc"
    )
    assert card["versions"]["keras"] == keras.__version__ and card["config"] == {"name": "tiny"}


def test_the_best_epoch_is_kept_and_the_others_still_run(tmp_path):
    model, history = run(
        tmp_path / "x", settings=replace(SETTINGS, learning_rate=0.5, epochs=5), verbose=False
    )
    assert history["val_loss"].idxmin() < 4 and len(history) == 5
    pixels, labels = pixels_and_labels()
    loss = keras.losses.BinaryCrossentropy()(labels[:, None], model.predict(pixels, verbose=0))
    assert float(loss) == pytest.approx(history["val_loss"].min(), rel=1e-4)


def test_the_step_size_falls_to_zero_when_asked(once, tmp_path):
    _, model, _ = once
    assert float(model.optimizer.learning_rate) == pytest.approx(0, abs=1e-8)
    plain, _ = run(tmp_path / "x", settings=replace(SETTINGS, epochs=1, decay=False), verbose=False)
    assert float(plain.optimizer.learning_rate) == pytest.approx(SETTINGS.learning_rate)


def test_metrics_equal_the_definitions(once):
    _, model, history = once
    pixels, labels = pixels_and_labels()
    said = model.predict(pixels, verbose=0)[:, 0] > 0.5
    row = history.iloc[history["val_loss"].idxmin()]
    assert row["val_accuracy"] == pytest.approx(np.mean(said == labels), abs=1e-6)
    assert row["val_precision"] == pytest.approx(labels[said].mean() if said.any() else 0, abs=1e-6)
    assert row["val_recall"] == pytest.approx(said[labels == 1].mean(), abs=1e-6)


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(once, tmp_path):
    _, model, history = once
    settings = replace(SETTINGS, data="the same, trained again")
    again, same = run(tmp_path / "x", settings=settings, verbose=False)
    assert_equal_history(same, history)
    assert_equal_weights(again, model)
    _, other = run(tmp_path / "y", settings=replace(SETTINGS, seed=4, epochs=1), verbose=False)
    assert abs(other["loss"][0] - history["loss"][0]) > 1e-3


def test_an_epoch_is_every_batch_once_in_order(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (60, 8, 8, 3), dtype="uint8")
    many = Batches(
        pixels, np.arange(60) % 2, batch_size=3, seed=3
    )  # more batches than Keras holds ready
    expected = small_model()
    training._compile(expected, SETTINGS, num_steps=len(many))
    for index in range(len(many)):
        expected.train_on_batch(*many[index])
    model, _ = train(
        small_model(),
        many,
        batches(False),
        tmp_path / "x",
        replace(SETTINGS, epochs=1),
        verbose=False,
    )
    assert_equal_weights(model, expected)


def test_a_killed_run_resumes_as_if_it_had_not_been(once, tmp_path, monkeypatch):
    _, undisturbed, expected = once
    folders = [str(Path(__file__).parents[number]) for number in range(3)]
    code = f"import sys; sys.path[:0] = {folders}\n"
    code += f"import test_training; test_training.train_until_killed({str(tmp_path / 'killed')!r})"
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert not (tmp_path / "killed.keras").exists() and not (tmp_path / "killed.json").exists()
    progress = json.loads((tmp_path / "killed.partial" / "progress.json").read_text())
    assert len(progress["rows"]) == 2

    epochs = []
    fit = keras.Model.fit

    def watched_fit(model, batches, **kwargs):
        epochs.append(batches.batches.epoch)
        return fit(model, batches, **kwargs)

    monkeypatch.setattr(keras.Model, "fit", watched_fit)
    resumed, history = run(tmp_path / "killed", verbose=False)
    assert epochs == [2, 3]
    assert_equal_history(history, expected)
    assert_equal_weights(resumed, undisturbed)
    assert not (tmp_path / "killed.partial").exists()


@pytest.mark.parametrize("state", ["before", "after"])
def test_a_run_killed_while_it_finishes_is_finished_later(tmp_path, monkeypatch, state):
    def die(stem, folder, rows, card):
        if state == "after":
            os.replace(folder / "best.keras", stem.with_name(stem.name + ".keras"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training, "_finish", die)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "x", settings=replace(SETTINGS, epochs=1), verbose=False)
    with pytest.raises(FileNotFoundError, match="train x first"):
        read_card(tmp_path / "x")
    forbid_fit(monkeypatch)
    _, history = run(tmp_path / "x", settings=replace(SETTINGS, epochs=1), verbose=False)
    assert len(history) == 1 and read_card(tmp_path / "x")["epochs"] == 1


def test_a_finished_run_is_reused_and_another_one_is_not(finished, tmp_path, monkeypatch):
    model, history = finished
    with monkeypatch.context() as patched:
        forbid_fit(patched)
        again, same = run(tmp_path / "x")
    assert_equal_weights(model, again, atol=0)
    pd.testing.assert_frame_equal(history, same)
    wider = keras.Sequential(
        [keras.Input((8, 8, 3), dtype="uint8"), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    for changes in [
        {"settings": replace(SETTINGS, data="other")},
        {"settings": replace(SETTINGS, seed=4)},
        {"settings": replace(SETTINGS, config={"name": "other"})},
        {"model": wider},
    ]:
        with monkeypatch.context() as patched:
            forbid_fit(patched)
            with pytest.raises(pytest.fail.Exception, match="trained again"):
                run(tmp_path / "x", verbose=False, **changes)
    assert (tmp_path / "x.keras").exists() and read_card(tmp_path / "x")[
        "data"
    ] == "abc"  # until a new one is whole


@pytest.mark.parametrize("ending", [".keras", ".history.csv"])
def test_a_lost_file_is_trained_again(finished, tmp_path, monkeypatch, ending):
    (tmp_path / f"x{ending}").unlink()
    forbid_fit(monkeypatch)
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        run(tmp_path / "x", verbose=False)


def test_other_settings_do_not_resume_a_killed_run(tmp_path):
    folder = tmp_path / "x.partial"
    folder.mkdir()
    (folder / "progress.json").write_text(
        json.dumps({"fingerprint": "other", "state": "none", "rows": [{}, {}]})
    )
    _, history = run(tmp_path / "x", settings=replace(SETTINGS, epochs=1), verbose=False)
    assert len(history) == 1


def test_cards_take_more_values(finished, tmp_path):
    card = update_card(tmp_path / "x", threshold=0.4, temperature=1.5)
    assert card == read_card(tmp_path / "x") and card["threshold"] == 0.4 and card["seed"] == 3
    run(tmp_path / "x", verbose=False)
    assert read_card(tmp_path / "x")["temperature"] == 1.5  # reuse leaves the card alone
    with pytest.raises(FileNotFoundError, match="train y first"):
        update_card(tmp_path / "y", threshold=0.4)


def test_autoencoder_has_no_classification_metrics(tmp_path):
    pixels, _ = pixels_and_labels()
    model = build_autoencoder(Autoencoder(filters=(4, 4), latent=4), 8)
    training_set = Reconstruction(pixels, batch_size=8, seed=1)
    faces, targets = training_set[0]
    np.testing.assert_allclose(targets, faces / np.float32(255))
    settings = Settings(1e-2, 3, 0, loss="mse", config=Autoencoder())
    model, history = train(model, training_set, Reconstruction(pixels), tmp_path / "a", settings)
    assert set(history.columns) == {"epoch", "loss", "val_loss", "seconds", "images_per_second"}
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    assert read_card(tmp_path / "a")["config"]["latent"] == 2048
    keras.models.load_model(tmp_path / "a.keras").get_layer("encoder")


def test_a_head_on_cached_features_is_saved_in_its_full_model(tmp_path):
    network = Network("X", "vgg16", True, 3, 0.05, 8, 3, weights=None, widths=(2, 2, 2, 2, 2))
    labels = np.arange(12) % 2
    pictures = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), dtype="uint8")
    keras.utils.set_random_seed(0)
    model = build(network, 64)
    extractor, head = split_frozen(model)
    features = cached_features(extractor, pictures, tmp_path, "pictures")
    made = [
        Batches(features, labels, batch_size=8, seed=0, shuffle=shuffle)
        for shuffle in (True, False)
    ]
    settings = Settings(0.05, 3, 0, config=network)
    trained, history = train(
        head, *made, tmp_path / "X-report", settings, full_model=model, verbose=False
    )
    assert trained is model and len(history) == 3
    loaded = keras.models.load_model(tmp_path / "X-report.keras")
    assert loaded.input.shape == (None, 64, 64, 3)
    expected = head.predict(features, verbose=0)
    np.testing.assert_allclose(loaded.predict(pictures, verbose=0), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["direct", "autoencoder"])
def test_cached_features_train_the_same_detector_as_a_backbone_run_anew_in_every_epoch(
    tmp_path, kind
):
    labels = np.arange(20) % 2
    pictures = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype="uint8")

    def built():
        keras.utils.set_random_seed(0)
        if kind == "direct":
            return build(NETWORK, 32)
        encoder = build_autoencoder(Autoencoder(filters=(4, 4), latent=6), 32).get_layer("encoder")
        return join(encoder, build_embedding_classifier(6, hidden=(4,)))

    def batches_of(pixels):
        return [
            Batches(pixels, labels, batch_size=8, seed=0, shuffle=shuffle)
            for shuffle in (True, False)
        ]

    settings = Settings(0.05, 3, 0)
    anew, expected = train(
        built(), *batches_of(pictures), tmp_path / "anew", settings, verbose=False
    )
    whole = built()
    extractor, head = split_frozen(whole)
    features = cached_features(extractor, pictures, tmp_path, "pictures")
    train(head, *batches_of(features), tmp_path / "once", settings, full_model=whole, verbose=False)
    assert expected["loss"].nunique() == 3
    assert_equal_history(pd.read_csv(tmp_path / "once.history.csv"), expected)
    expected = anew.predict(pictures, verbose=0)
    np.testing.assert_allclose(whole.predict(pictures, verbose=0), expected, atol=1e-4)


def test_features_are_computed_once(tmp_path, monkeypatch):
    pixels, _ = pixels_and_labels()
    image = keras.Input((8, 8, 3), dtype="uint8")
    extractor = keras.Model(
        image, keras.layers.Conv2D(2, 8)(keras.layers.Rescaling(1 / 255)(image))
    )
    folder = tmp_path / "new"
    features = cached_features(extractor, pixels, folder, "all", batch_size=5)
    assert isinstance(features, np.memmap) and features.dtype == np.float32
    np.testing.assert_allclose(features, extractor.predict(pixels, verbose=0), atol=1e-5)
    with monkeypatch.context() as patched:
        patched.setattr(keras.Model, "predict_on_batch", lambda *_: pytest.fail("computed again"))
        np.testing.assert_array_equal(cached_features(extractor, pixels, folder, "all"), features)
    cached_features(extractor, pixels[:9], folder, "fewer")
    extractor.set_weights([weight + 1 for weight in extractor.get_weights()])
    changed = cached_features(extractor, pixels[:9], folder, "fewer")
    np.testing.assert_allclose(changed, extractor.predict(pixels[:9], verbose=0), atol=1e-5)
    assert len(list(folder.glob("*.npy"))) == 3


def test_of_two_runs_one_computes_features_and_the_other_waits_and_reads_them(
    tmp_path, monkeypatch
):
    pixels, _ = pixels_and_labels()
    image = keras.Input((8, 8, 3), dtype="uint8")
    extractor = keras.Model(image, keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image)))
    predict, started, may_end, calls = extractor.predict_on_batch, Event(), Event(), []

    def slow(pictures):
        calls.append(len(pictures))
        started.set()
        assert may_end.wait(30)
        return predict(pictures)

    monkeypatch.setattr(extractor, "predict_on_batch", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cached_features, extractor, pixels, tmp_path, "same")
        assert started.wait(30)
        second = pool.submit(cached_features, extractor, pixels, tmp_path, "same")
        with pytest.raises(TimeoutError):
            second.result(timeout=0.5)
        may_end.set()
        np.testing.assert_array_equal(first.result(), second.result())
    assert calls == [len(pixels)]


def test_keys_cover_what_layers_compute_and_not_their_names(tmp_path):
    def extractor(*layers):
        keras.utils.set_random_seed(0)
        image = x = keras.Input((8, 8, 3), dtype="uint8")
        for layer in (*layers, keras.layers.Conv2D(2, 3), keras.layers.Flatten()):
            x = layer(x)
        return keras.Model(image, x)

    kinds = [
        (keras.layers.Rescaling(1 / 255),),
        (keras.layers.Rescaling(1 / 127),),  # a constant
        (keras.layers.Rescaling(1 / 255), keras.layers.Activation("relu")),
        (keras.layers.Rescaling(1 / 255), keras.layers.Activation("tanh")),
        (keras.layers.Rescaling(1 / 255), keras.layers.LeakyReLU(0.1)),
        (keras.layers.Rescaling(1 / 255), keras.layers.LeakyReLU(0.2)),
        (keras.layers.Rescaling(1 / 255), keras.layers.Dropout(0.1)),  # a rate
        (keras.layers.Rescaling(1 / 255), keras.layers.Dropout(0.2)),
    ]
    models = [extractor(*layers) for layers in kinds]
    assert len({training.identity(model) for model in models}) == len(kinds)
    twin = extractor(keras.layers.Rescaling(1 / 255, name="other"))
    assert training.identity(twin) == training.identity(models[0])
    wider = replace(NETWORK, scaling="imagenet")
    keys = [training._architecture(build(network, 32)) for network in (NETWORK, NETWORK, wider)]
    assert keys[0] == keys[1] != keys[2]
    assert training._architecture(build(replace(NETWORK, frozen=False), 32)) != keys[0]
    on_pictures = with_spectrum(build(replace(NETWORK, approach="fourier"), 32))
    assert "class Spectrum" in training._architecture(on_pictures)  # a layer not of Keras


def test_features_of_two_scalings_do_not_share_a_file(tmp_path, monkeypatch):
    pictures = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype="uint8")

    def extractor(**changes):
        keras.utils.set_random_seed(0)
        return split_frozen(build(replace(NETWORK, **changes), 32))[0]

    first, twin, other = extractor(), extractor(), extractor(scaling="imagenet")
    for one, another in zip(first.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, another)  # nothing but the scaling tells them apart
    features = np.array(cached_features(first, pictures, tmp_path, "same"))
    with monkeypatch.context() as patched:
        patched.setattr(keras.Model, "predict_on_batch", lambda *_: pytest.fail("computed again"))
        cached_features(twin, pictures, tmp_path, "same")  # its layers have other names
    changed = cached_features(other, pictures, tmp_path, "same")
    np.testing.assert_allclose(changed, other.predict(pictures, verbose=0), atol=1e-5)
    assert np.abs(changed - features).max() > 0.01


@pytest.mark.filterwarnings("ignore")
def test_mixed_precision_is_saved_in_single_precision(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small_model()
        model, _ = run(
            tmp_path / "x", model=model, settings=replace(SETTINGS, epochs=1), verbose=False
        )
    finally:
        keras.config.set_dtype_policy("float32")
    assert {layer.compute_dtype for layer in model.layers[2:-1]} == {"bfloat16"}
    loaded = keras.models.load_model(tmp_path / "x.keras")
    assert {layer.compute_dtype for layer in loaded.layers[1:]} == {"float32"}
    assert_equal_weights(loaded, model, atol=0)


def test_mixed_precision_only_where_the_device_has_it(monkeypatch):
    try:
        for devices, policy in [
            (["cpu:0"], "float32"),
            (["gpu:0", "gpu:1"], "mixed_float16"),
            (["tpu:0"], "mixed_bfloat16"),
        ]:
            monkeypatch.setattr(keras.distribution, "list_devices", lambda devices=devices: devices)
            assert training.use_mixed_precision() == policy == keras.config.dtype_policy().name
    finally:
        keras.config.set_dtype_policy("float32")


def test_nothing_to_train_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="0 epochs"):
        run(tmp_path / "x", settings=replace(SETTINGS, epochs=0))


def test_a_loss_that_is_not_a_number_stops(tmp_path):
    model = small_model()
    model.layers[-1].set_weights(
        [np.full_like(weight, np.nan) for weight in model.layers[-1].get_weights()]
    )
    with pytest.raises(FloatingPointError, match="x: validation loss nan in epoch 1"):
        run(tmp_path / "x", model=model, verbose=False)
