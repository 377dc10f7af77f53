"""Training: best epoch, history, resuming after a kill, reuse of finished runs, cached features."""

import json
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from threading import Event

import keras
import numpy as np
import pandas as pd
import pytest
from made_networks import SETTINGS, VGG, batches_of, pictures, pixels_and_labels, small_model

from src.config import Autoencoder
from src.detectors import training
from src.detectors.autoencoder import Reconstruction, build_autoencoder
from src.detectors.models import build, build_embedding_classifier, join, parts, with_spectrum
from src.detectors.training import Settings, cached_features, read_card, train, update_card
from src.pictures.batches import Batches

NETWORK = replace(VGG, frozen=True, head=4)


def run(stem, model=None, **changes):
    settings = replace(SETTINGS, **changes)
    return train(model or small_model(), *batches_of(*pixels_and_labels()), stem, settings)


class KilledBatches(Batches):
    """Kills its process in the middle of the second epoch."""

    def __getitem__(self, index):
        if self.epoch == 1 and index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def train_and_die(stem):
    """The target of a process."""
    pixels, labels = pixels_and_labels()
    killed = KilledBatches(pixels, labels, batch_size=8, seed=3)
    train(small_model(), killed, batches_of(pixels, labels)[1], stem, SETTINGS)


def assert_equal_weights(one, other, atol=1e-5):
    for ours, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=atol)


def assert_equal_history(one, other):
    clocks = ["seconds", "images_per_second"]
    pd.testing.assert_frame_equal(one.drop(columns=clocks), other.drop(columns=clocks), atol=1e-5)


@contextmanager
def forbidden(method):
    """Keras' models lack a method."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, method, lambda *_, **__: pytest.fail("computed again"))
        yield


def validation_loss(model):
    pixels, labels = pixels_and_labels()
    scores = model.predict(pixels, verbose=0)
    return float(keras.losses.BinaryCrossentropy()(labels[:, None], scores))


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """One finished run: folder, model, history."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, *run(folder / "x")


@pytest.fixture
def finished(once, tmp_path):
    """A copy of it, to be changed by a test."""
    folder, model, history = once
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return model, history


def test_files_history_and_card(tmp_path, capfd):
    stem = tmp_path / "VGG.1-x"
    model, history = run(stem)
    files = [f"VGG.1-x.{ending}" for ending in ("history.csv", "json", "keras")]
    assert sorted(file.name for file in tmp_path.iterdir()) == files
    measures = ["loss", "accuracy", "auc", "precision", "recall"]
    measures += [f"val_{name}" for name in measures]
    assert set(history.columns) == {"epoch", "seconds", "images_per_second", *measures}
    assert history["epoch"].tolist() == [1, 2, 3]
    assert (history[["seconds", "images_per_second"]] > 0).all(axis=None)
    pd.testing.assert_frame_equal(history, pd.read_csv(tmp_path / files[0]))
    output = capfd.readouterr()
    assert "val_loss" in output.out and "val_auc" in output.out and "3/3" in output.out
    assert "epoch" not in output.err

    loaded = keras.models.load_model(tmp_path / files[2])
    assert_equal_weights(loaded, model, atol=0)
    assert validation_loss(loaded) == pytest.approx(history["val_loss"].min(), abs=1e-5)
    assert getattr(loaded, "optimizer", None) is None
    card = read_card(stem)
    assert card["seed"] == 3 and card["data"] == "abc" and card["config"] == {"name": "tiny"}
    assert card["backend"] == keras.backend.backend()
    assert card["versions"]["keras"] == keras.__version__


def test_the_best_epoch_is_kept_and_the_others_still_run(tmp_path):
    model, history = run(tmp_path / "x", learning_rate=0.5, epochs=5, decay=False)
    assert history["val_loss"].idxmin() < 4 and len(history) == 5
    assert validation_loss(model) == pytest.approx(history["val_loss"].min(), rel=1e-4)


@pytest.mark.parametrize("decay, last", [(False, SETTINGS.learning_rate), (True, 0)])
def test_the_step_size_falls_to_zero_where_asked(tmp_path, monkeypatch, decay, last):
    monkeypatch.setattr(training, "_COPIES", {})
    run(tmp_path / "x", epochs=2, decay=decay)
    (trained,) = training._COPIES.values()
    assert float(trained.optimizer.learning_rate) == pytest.approx(last, abs=1e-8)


def test_another_seed_gives_other_numbers(once, tmp_path):
    """The same seed gives the same: `test_a_killed_run_resumes_as_if_it_had_not_been`."""
    _, other = run(tmp_path / "x", seed=4, epochs=1)
    assert abs(other["loss"][0] - once[2]["loss"][0]) > 1e-3


def test_an_epoch_is_every_batch_once_in_order(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (60, 8, 8, 3), dtype="uint8")
    many = Batches(pixels, np.arange(60) % 2, batch_size=5, seed=3)  # more than Keras holds ready
    expected = small_model()
    training._compile(expected, SETTINGS, num_steps=len(many))
    for index in range(len(many)):
        expected.train_on_batch(*many[index])
    valid = batches_of(*pixels_and_labels())[1]
    model, _ = train(small_model(), many, valid, tmp_path / "x", replace(SETTINGS, epochs=1))
    assert_equal_weights(model, expected)


def test_a_killed_run_resumes_as_if_it_had_not_been(once, tmp_path):
    _, undisturbed, expected = once
    child = get_context("spawn").Process(target=train_and_die, args=(tmp_path / "x",))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert [file.name for file in tmp_path.iterdir()] == ["x.partial"]
    kept = json.loads((tmp_path / "x.partial" / "progress.json").read_text())["rows"]
    resumed, history = run(tmp_path / "x")
    clock = [row["seconds"] for row in kept]
    assert history["seconds"][:1].tolist() == pytest.approx(clock, rel=1e-9)  # not trained again
    assert_equal_history(history, expected)
    assert_equal_weights(resumed, undisturbed)
    assert not (tmp_path / "x.partial").exists()


@pytest.mark.parametrize("state", ["before", "after"])
def test_a_run_killed_while_it_finishes_is_finished_later(tmp_path, monkeypatch, state):
    def die(stem, folder, rows, card):
        if state == "after":
            os.replace(folder / "best.keras", stem.with_name(stem.name + ".keras"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(training, "_finish", die)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "x", epochs=1)
    with pytest.raises(FileNotFoundError, match="train x first"):
        read_card(tmp_path / "x")
    with forbidden("fit"):
        _, history = run(tmp_path / "x", epochs=1)
    assert len(history) == 1 and read_card(tmp_path / "x")["epochs"] == 1


def test_a_finished_run_is_reused(finished, tmp_path):
    model, history = finished
    update_card(tmp_path / "x", threshold=0.4, temperature=1.5)
    with forbidden("fit"):
        again, same = run(tmp_path / "x")
    assert_equal_weights(model, again, atol=0)
    pd.testing.assert_frame_equal(history, same)
    card = read_card(tmp_path / "x")  # reuse leaves it alone
    assert card["threshold"] == 0.4 and card["temperature"] == 1.5 and card["seed"] == 3
    with pytest.raises(FileNotFoundError, match="train y first"):
        update_card(tmp_path / "y", threshold=0.4)


@pytest.mark.parametrize("changed", ["data", "seed", "config", "model", ".keras", ".history.csv"])
def test_another_run_or_one_of_lost_files_is_trained(finished, tmp_path, changed):
    changes = {"data": "other"}, {"seed": 4}, {"config": {"name": "other"}}
    changes = next((change for change in changes if changed in change), {})
    if changed == "model":
        image = keras.Input((8, 8, 3), dtype="uint8")
        changes["model"] = keras.Model(image, keras.layers.Dense(1)(keras.layers.Flatten()(image)))
    if changed.startswith("."):
        (tmp_path / f"x{changed}").unlink()
    with forbidden("fit"), pytest.raises(pytest.fail.Exception, match="computed again"):
        run(tmp_path / "x", **changes)
    assert read_card(tmp_path / "x")["data"] == "abc"  # until a new one is finished


def test_other_settings_do_not_resume_a_killed_run(tmp_path):
    state = {"fingerprint": "other", "rows": [{}, {}]}
    (tmp_path / "x.partial").mkdir()
    (tmp_path / "x.partial" / "progress.json").write_text(json.dumps(state))
    _, history = run(tmp_path / "x", epochs=1)
    assert len(history) == 1


@pytest.mark.parametrize("decay", [False, True])
def test_a_shared_copy_trains_as_a_new_one(decay, tmp_path, monkeypatch):
    """The second of two models finds the copy of the first, and nothing that the first learnt."""
    monkeypatch.setattr(training, "_COPIES", {})
    settings = {"decay": decay, "seed": 7}
    first, _ = run(tmp_path / "first", decay=decay)
    kept = [weight.copy() for weight in first.get_weights()]
    shared, history = run(tmp_path / "shared", **settings)
    assert len(training._COPIES) == 1
    training._COPIES.clear()
    alone, expected = run(tmp_path / "alone", **settings)
    assert_equal_weights(shared, alone, atol=0)
    assert_equal_history(history, expected)
    for weight, before in zip(first.get_weights(), kept, strict=True):
        np.testing.assert_array_equal(weight, before)


class Held(keras.constraints.Constraint):
    """Holds a variable at a value."""

    def __init__(self, value):
        self.value = np.asarray(value)

    def __call__(self, _):
        return keras.ops.convert_to_tensor(self.value)


def test_a_copy_holds_what_its_own_model_holds(tmp_path):
    """Of two models with equal layers, each is held at its own start; a third is free."""
    models = [small_model() for _ in range(3)]
    for number, model in enumerate(models):
        model.set_weights([weight + number / 8 for weight in model.get_weights()])
    starts = [np.array(model.trainable_variables[0]) for model in models]
    for model, start in zip(models[:2], starts):
        model.trainable_variables[0].constraint = Held(start)
    for number, (model, start) in enumerate(zip(models, starts)):
        trained, _ = run(tmp_path / f"{number}", model, epochs=1)
        change = np.abs(np.array(trained.trainable_variables[0]) - start).max()
        assert (change < 1e-6) == (number < 2)


def test_few_copies_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_COPIES", {})
    monkeypatch.setattr(training, "_MAX_COPIES", 2)
    for rate in (1e-2, 1e-3, 1e-4):
        run(tmp_path / f"{rate}", learning_rate=rate, epochs=1)
    assert [key[0][1] for key in training._COPIES] == [1e-3, 1e-4]


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


def test_cached_features_train_what_a_backbone_run_in_every_epoch_does(tmp_path):
    labels = np.arange(20) % 2
    images = pictures(20)

    def built():
        keras.utils.set_random_seed(0)
        encoder = build_autoencoder(Autoencoder(filters=(4, 4), latent=6), 32).get_layer("encoder")
        return join(encoder, build_embedding_classifier(6, hidden=(4,)))

    settings = Settings(0.05, 2, 0)
    anew, expected = train(built(), *batches_of(images, labels), tmp_path / "anew", settings)
    full = built()
    extractor, head = parts(full)
    features = cached_features(extractor, images, tmp_path, "images")
    made = batches_of(features, labels)
    trained, history = train(head, *made, tmp_path / "once", settings, full_model=full)
    assert expected["loss"].nunique() == 2
    assert_equal_weights(trained, full, atol=0)
    assert_equal_history(history, expected)
    expected = anew.predict(images, verbose=0)
    for model in (full, keras.models.load_model(tmp_path / "once.keras")):
        np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-4)


def test_features_are_computed_once(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "BATCH_SIZE", 5)
    images = pictures(12)

    def extractor(**changes):
        keras.utils.set_random_seed(0)
        return parts(build(replace(NETWORK, **changes), 32))[0]

    def assert_computed(extractor, images, data):
        features = cached_features(extractor, images, tmp_path / "new", data)
        assert isinstance(features, np.memmap) and features.dtype == np.float32
        np.testing.assert_allclose(features, extractor.predict(images, verbose=0), atol=1e-5)

    first, other = extractor(), extractor(scaling="imagenet")
    assert_equal_weights(first, other, atol=0)  # nothing but the scaling tells them apart
    assert_computed(first, images, "all")
    with forbidden("predict_on_batch"):  # the twin's layers have other names
        cached_features(extractor(), images, tmp_path / "new", "all")
    assert_computed(other, images, "all")
    assert_computed(first, images[:9], "fewer")
    first.set_weights([weight + 1 for weight in first.get_weights()])
    assert_computed(first, images[:9], "fewer")


def test_of_two_runs_one_computes_features_and_the_other_waits(tmp_path, monkeypatch):
    pixels, _ = pixels_and_labels()
    extractor = small_model()
    predict, started, may_end, calls = keras.Model.predict_on_batch, Event(), Event(), []

    def slow(model, pictures):
        calls.append(len(pictures))
        started.set()
        assert may_end.wait(30)
        return predict(model, pictures)

    monkeypatch.setattr(keras.Model, "predict_on_batch", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cached_features, extractor, pixels, tmp_path, "same")
        assert started.wait(30)
        second = pool.submit(cached_features, extractor, pixels, tmp_path, "same")
        with pytest.raises(TimeoutError):
            second.result(timeout=0.5)
        may_end.set()
        np.testing.assert_array_equal(first.result(), second.result())
    assert sum(calls) == len(pixels)


def test_keys_cover_what_layers_compute_and_not_their_names():
    def extractor(*layers):
        keras.utils.set_random_seed(0)
        image = x = keras.Input((8, 8, 3), dtype="uint8")
        for layer in (*layers, keras.layers.Conv2D(2, 3), keras.layers.Flatten()):
            x = layer(x)
        return keras.Model(image, x)

    kinds = [keras.layers.Rescaling(1 / scale) for scale in (255, 127)]
    kinds += [keras.layers.Activation(name) for name in ("relu", "tanh")]
    kinds += [keras.layers.LeakyReLU(slope) for slope in (0.1, 0.2)]
    keys = [training.identity(extractor(layer)) for layer in kinds]
    assert len(set(keys)) == len(kinds)
    assert training.identity(extractor(keras.layers.Rescaling(1 / 255, name="other"))) == keys[0]
    changes = [{}, {"scaling": "imagenet"}, {"frozen": False}]
    keys = {training._architecture(build(replace(NETWORK, **change), 32)) for change in changes}
    assert len(keys) == 3 and training._architecture(build(NETWORK, 32)) in keys
    on_pictures = with_spectrum(build(replace(NETWORK, approach="fourier"), 32))
    assert "class Spectrum" in training._architecture(on_pictures)  # a layer not of Keras


@pytest.mark.filterwarnings("ignore")
def test_mixed_precision_is_saved_in_single_precision(any_policy, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model, _ = run(tmp_path / "x", epochs=1)
    keras.config.set_dtype_policy("float32")
    assert {layer.compute_dtype for layer in model.layers[2:-1]} == {"bfloat16"}
    loaded = keras.models.load_model(tmp_path / "x.keras")
    assert {layer.compute_dtype for layer in loaded.layers[1:]} == {"float32"}
    assert_equal_weights(loaded, model, atol=0)


@pytest.mark.parametrize(
    "devices, policy",
    [("cpu:0", "float32"), ("gpu:0 gpu:1", "mixed_float16"), ("tpu:0", "mixed_bfloat16")],
)
def test_mixed_precision_only_where_the_device_has_it(any_policy, monkeypatch, devices, policy):
    monkeypatch.setattr(keras.distribution, "list_devices", devices.split)
    assert training.use_mixed_precision() == policy == keras.config.dtype_policy().name


def test_a_loss_that_is_not_a_number_is_an_error(tmp_path):
    model = small_model()
    weights = [np.full_like(weight, np.nan) for weight in model.layers[-1].get_weights()]
    model.layers[-1].set_weights(weights)
    with pytest.raises(FloatingPointError, match="x: validation loss nan, epoch 1"):
        run(tmp_path / "x", model=model)
