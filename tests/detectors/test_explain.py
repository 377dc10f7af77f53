"""Explanations: against automatic differentiation, plain loops, and detectors of known gaze."""

from dataclasses import replace
from types import SimpleNamespace

import cv2
import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers

from src import config
from src.config import Network
from src.detectors import explain, models
from src.detectors.autoencoder import build_autoencoder, build_embedding_classifier
from src.evaluation.results import RESULT_COLUMNS, write_results

NETWORK = Network("X", "vgg16", False, None, 1e-4, 8, 1, weights=None)
VGG = replace(NETWORK, widths=(4, 4, 4, 4, 4))
DENSENET = replace(NETWORK, backbone="densenet", blocks=(1, 1, 1, 1))
NETWORKS = {
    "vgg16": VGG,
    "vgg16, frozen, hidden": replace(VGG, frozen=True, head=16),
    "vgg16, normalised": replace(VGG, batch_norm_momentum=0.9),
    "densenet": DENSENET,
    "densenet, hidden": replace(DENSENET, head=16),
    "densenet, resized": replace(DENSENET, side=64),
    "efficientnet_lite0": replace(NETWORK, backbone="efficientnet_lite0"),
}


def pictures(num_images=4, size=(96, 96), channels=3, seed=0):
    noise = np.random.default_rng(seed).integers(
        0, 256, (num_images, *size, channels), dtype="uint8"
    )
    return np.stack(
        [cv2.GaussianBlur(image, (0, 0), 3).reshape(*size, channels) for image in noise]
    )


def detector(extractor_output, image, weights, bias=0.0):
    """A chain whose extractor is given and whose head is one unit of given weights."""
    head = build_embedding_classifier(len(weights), hidden=())
    head.layers[-1].set_weights([np.reshape(weights, (-1, 1)), np.array([bias])])
    return models.join(keras.Model(image, extractor_output, name="extractor"), head)


def flat_detector(size, channels, weights):
    """A detector whose logit is the sum of pixels, from 0 to 1, times `weights`."""
    image = layers.Input((*size, channels), dtype="uint8")
    return detector(layers.Flatten()(layers.Rescaling(1 / 255)(image)), image, weights)


def grad_cam_by_autodiff(model, pixels):
    """Grad-CAM as in the paper, for scaling "unit", by TensorFlow's automatic differentiation."""
    import tensorflow as tf

    extractor, head = model.get_layer("extractor"), model.get_layer("head")
    backbone = next(layer for layer in extractor.layers if isinstance(layer, keras.Model))
    last = backbone.layers[-1]
    pools = isinstance(last, layers.MaxPooling2D)
    x = tf.image.resize(tf.cast(pixels, "float32"), backbone.input.shape[1:3], antialias=True) / 255
    x = tf.repeat(x, 3, axis=-1) if pixels.shape[-1] == 1 else x
    maps = keras.Model(backbone.input, last.input if pools else last.output)(x, training=False)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        pooled = last(maps) if pools else maps
        averaged = any(
            isinstance(layer, layers.GlobalAveragePooling2D) for layer in extractor.layers
        )
        probability = head(
            tf.reduce_mean(pooled, (1, 2)) if averaged else tf.reshape(pooled, (len(pixels), -1))
        )
        logit = tf.math.log(probability) - tf.math.log1p(-probability)
    weights = tf.reduce_mean(tape.gradient(logit, maps), (1, 2), keepdims=True)
    small = tf.nn.relu(tf.reduce_sum(weights * maps, -1, keepdims=True))
    return tf.image.resize(small, pixels.shape[1:3])[..., 0].numpy()


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the oracle is TensorFlow's GradientTape"
)
@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("name", NETWORKS)
def test_grad_cam_is_that_of_automatic_differentiation(name, channels):
    keras.utils.set_random_seed(3)
    network = replace(NETWORKS[name], approach="direct" if channels == 3 else "fourier")
    model, pixels = models.build(network, 96), pictures(channels=channels)
    expected = grad_cam_by_autodiff(model, pixels)
    heat = explain.grad_cam(model, pixels, batch_size=3)
    assert heat.shape == (4, 96, 96) and heat.dtype == np.float32 and heat.max() > 0
    np.testing.assert_allclose(heat, expected, rtol=0, atol=1e-4 * expected.max())


def test_grad_cam_leaves_the_model_as_it_is(tmp_path):
    model, pixels = models.build(VGG, 64), pictures(size=(64, 64))
    scores = model.predict(pixels, verbose=0)
    first = explain.grad_cam(model, pixels)
    np.testing.assert_array_equal(explain.grad_cam(model, pixels), first)
    np.testing.assert_array_equal(model.predict(pixels, verbose=0), scores)
    model.save(tmp_path / "detector.keras")
    np.testing.assert_allclose(
        explain.grad_cam(keras.models.load_model(tmp_path / "detector.keras"), pixels),
        first,
        atol=1e-6,
    )


def test_grad_cam_of_averaged_maps_adds_up_to_the_logit():
    image = layers.Input((8, 12, 3), dtype="uint8")
    features = layers.GlobalAveragePooling2D()(
        layers.AveragePooling2D(2)(layers.Rescaling(1 / 255)(image))
    )
    pixels = pictures(size=(8, 12))
    model = detector(features, image, np.array([0.2, 0.5, 0.3]))
    probability = model.predict(pixels, verbose=0)[:, 0].astype(float)
    heat = explain.grad_cam(model, pixels)
    assert heat.shape == (4, 8, 12)
    # Each of the 4 x 6 cells became 4 pixels; enlarging keeps the sum but for what the edges
    # repeat.
    np.testing.assert_allclose(
        heat.sum(axis=(1, 2)) / 4, np.log(probability / (1 - probability)), rtol=0.02
    )


def test_grad_cam_asks_at_each_picture_which_hidden_units_are_on():
    image = layers.Input((8, 8, 1), dtype="uint8")
    extractor = keras.Model(
        image, layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(image))
    )
    head = build_embedding_classifier(1, hidden=(2,))
    weights = [
        [[1, -1]],
        [-0.5, 0.25],
        [[2], [-3]],
        [0],
    ]  # logit = 2 relu(x - 1/2) - 3 relu(1/4 - x)
    head.set_weights([np.array(array, np.float32) for array in weights])
    pixels = (
        np.full((3, 8, 8, 1), 1, np.uint8) * np.array([30, 100, 200], np.uint8)[:, None, None, None]
    )
    heat = explain.grad_cam(models.join(extractor, head), pixels)
    np.testing.assert_allclose(heat[:, 4, 4], [3 * 30 / 255 / 64, 0, 2 * 200 / 255 / 64], rtol=1e-5)


def test_grad_cam_is_zero_where_nothing_speaks_for_fake():
    image = layers.Input((8, 8, 3), dtype="uint8")
    model = detector(
        layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(image)), image, -np.ones(3)
    )
    heat = explain.grad_cam(model, pictures(size=(8, 8)))
    assert (
        not heat.any() and np.isnan(explain.share_inside(heat, np.tile([0, 0, 1, 1], (4, 1)))).all()
    )


def test_models_that_are_no_such_chain_are_refused():
    autoencoder = build_autoencoder(config.Autoencoder(filters=(8, 6, 4), latent=5), 32)
    joined = models.join(autoencoder.get_layer("encoder"), build_embedding_classifier(5, (4,)))
    pixels = pictures(size=(32, 32))
    with pytest.raises(ValueError, match="head is .*Reshape"):
        explain.grad_cam(autoencoder, pixels)
    with pytest.raises(ValueError, match="encoder cannot be explained: it ends with Dense"):
        explain.grad_cam(joined, pixels)
    assert explain.occlusion(joined, pixels, patch=16, stride=16).shape == (
        4,
        32,
        32,
    )  # needs no feature map
    with pytest.raises(ValueError, match="1 parts"):
        explain.grad_cam(
            models.with_spectrum(models.build(replace(VGG, approach="fourier"), 32)), pixels
        )
    model = models.build(VGG, 32)
    for wrong in (pixels / 255, pixels[:, :16], pixels[0], pixels[:0]):
        with pytest.raises(ValueError, match=r"takes uint8 pictures \(N, 32, 32, 3\)"):
            explain.grad_cam(model, wrong)


def test_occlusion_is_that_of_a_plain_loop():
    size, patch, stride = (12, 14), 5, 3
    weights = np.random.default_rng(1).normal(size=(*size, 3))
    pixels = pictures(3, size)
    model = flat_detector(size, 3, weights.ravel())
    heat = explain.occlusion(model, pixels, patch=patch, stride=stride, batch_size=7)
    for picture, found in zip(pixels, heat):
        total, count = np.zeros(size), np.zeros(size)
        for top in (0, 3, 6, 7):  # the last ends with the picture
            for left in (0, 3, 6, 9):
                square = np.s_[top : top + patch, left : left + patch]
                covered = picture.copy()
                covered[square] = np.rint(picture.mean(axis=(0, 1)))
                total[square] += (weights * (picture / 255 - covered / 255)).sum()
                count[square] += 1
        np.testing.assert_allclose(found, total / count, atol=1e-4)


def test_occlusion_finds_the_corner_that_a_detector_looks_at():
    weights = np.zeros((32, 32, 1))
    weights[:8, -8:] = 1  # above 60 logits: the probability is 1 whatever is covered
    pixels = np.full((2, 32, 32, 1), 255, np.uint8)
    heat = explain.occlusion(
        flat_detector((32, 32), 1, weights.ravel()), pixels, patch=8, stride=8, fill=(0,)
    )
    np.testing.assert_allclose(heat[:, :8, -8:], 64, rtol=1e-5)
    assert explain.share_inside(heat, np.tile([0.75, 0, 1, 0.25], (2, 1))) == pytest.approx([1, 1])
    even = explain.occlusion(flat_detector((32, 32), 1, weights.ravel()), pixels, patch=8, stride=4)
    np.testing.assert_allclose(even, 0, atol=1e-5)  # the mean colour changes nothing
    for wrong in (dict(patch=8, stride=9), dict(patch=33, stride=8), dict(patch=8, stride=0)):
        with pytest.raises(ValueError, match="1 <= stride <= patch"):
            explain.occlusion(flat_detector((32, 32), 1, weights.ravel()), pixels, **wrong)
    with pytest.raises(ValueError, match="fill in 0..255"):
        explain.occlusion(
            flat_detector((32, 32), 1, weights.ravel()), pixels, patch=8, stride=8, fill=(256,)
        )


def test_share_inside_is_a_count_of_small_pixels():
    random = np.random.default_rng(0)
    heat = random.random((20, 6, 9)).astype("float32")
    corners = np.sort(
        random.integers(-20, 120, (20, 2, 2)), axis=1
    )  # in steps of a tenth of a pixel
    fine = corners * [9, 6] / 10 / 10
    boxes = (corners / 100).reshape(20, 4)
    for picture, box, pixels_box, share in zip(
        heat, boxes, fine, explain.share_inside(heat, boxes)
    ):
        big = picture.repeat(100, axis=0).repeat(100, axis=1)
        (left, top), (right, bottom) = np.rint(pixels_box * 100).clip(0).astype(int)
        assert share == pytest.approx(big[top:bottom, left:right].sum() / big.sum(), abs=1e-5)
        assert explain.share_inside(np.ones((1, 6, 9)), box[None]) == pytest.approx(
            explain.area_of(box[None])
        )


def test_share_elsewhere_is_the_mean_over_the_other_boxes():
    random = np.random.default_rng(0)
    heat, low = random.random((5, 8, 8)), random.random((5, 2)) / 2
    boxes = np.hstack([low, low + 0.4])
    heat[3], boxes[4] = 0, np.nan
    found = explain.share_elsewhere(heat, boxes)
    for place in (0, 1, 2):
        others = [
            explain.share_inside(heat[[place]], boxes[[k]])[0] for k in range(4) if k != place
        ]
        assert found[place] == pytest.approx(np.mean(others))
    assert np.isnan(found[3:]).all()
    with pytest.raises(ValueError, match="at least two boxes, received 1"):
        explain.share_elsewhere(heat[:1], boxes[:1])


def test_shares_of_what_is_not_there_are_nan_and_of_what_is_wrong_an_error():
    heat, boxes = np.ones((3, 4, 4)), np.array([[0, 0, 1, 1], [0.5, 0.5, 0.5, 0.5], [np.nan] * 4])
    heat[0] = 0
    np.testing.assert_array_equal(explain.share_inside(heat, boxes), [np.nan, 0, np.nan])
    np.testing.assert_array_equal(explain.area_of(boxes), [1, 0, np.nan])
    np.testing.assert_array_equal(explain.area_of([[2, 2, 3, 3]]), [0])
    for wrong_heat, wrong_boxes, message in (
        (heat, boxes[:2], "received .3, 4, 4. and .2, 4."),
        (-heat, boxes, "maximum"),
        (heat + np.inf, boxes, "finite"),
        (heat, boxes[:, ::-1], "left <= right"),
        (heat, boxes[0], "left, top, right, bottom"),
    ):
        with pytest.raises(ValueError, match=message):
            explain.share_inside(wrong_heat, wrong_boxes)


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "HOME", tmp_path)
    return config.get_study("tiny")


def test_region_rows_are_group_means_with_intervals(study):
    random = np.random.default_rng(0)
    groups = np.repeat([f"g{number}" for number in range(12)], random.integers(1, 4, 12))
    table = pd.DataFrame({"group": groups, "test_set": "inpainting", "real_source": "wiki"})
    table.loc[len(table)] = ("alone", "insight", "wiki")
    inside, chance = random.random((2, len(table)))
    inside[3] = np.nan
    card = dict(
        approach="direct",
        model="A",
        protocol="controlled",
        train_set="inpainting",
        seed=1,
        threshold=0.5,
    )
    rows = explain.region_rows(study, table, inside, chance, card, chance)
    assert tuple(rows) == RESULT_COLUMNS and set(rows["test_set"]) == {
        "inpainting"
    }  # one group: no rows
    names = [
        "cam_in_region",
        "cam_in_region_chance",
        "cam_in_region_elsewhere",
        "cam_in_region_excess",
    ]
    assert rows["metric"].tolist() == names and (rows["seed"] == 1).all()
    assert set(rows["num_fake"]) == {len(groups) - 1} and set(rows["num_real"]) == {0}
    used = np.delete(np.arange(len(groups)), 3)
    drawn = np.random.default_rng(study.seed).integers(12, size=(study.num_resamples, 12))
    for values, (_, row) in zip((inside, chance, chance, inside - chance), rows.iterrows()):
        means = []
        for draw in drawn:
            chosen = [place for number in draw for place in used if groups[place] == f"g{number}"]
            means.append(values[chosen].mean())
        expected = [values[used].mean(), *np.quantile(means, (0.025, 0.975))]
        np.testing.assert_allclose(row[["value", "ci_low", "ci_high"]].astype(float), expected)
    write_results(study, rows)
    assert explain.region_rows(study, table[:1], inside[:1], chance[:1], card).empty
    with pytest.raises(ValueError, match="each of the 1 rows"):
        explain.region_rows(study, table[:1], inside, chance, card)
    with pytest.raises(ValueError, match="lacks 'approach'"):
        explain.region_rows(study, table, inside, chance, {"seed": 0})


def ring_of(side, num_rings):
    """Number of every pixel's ring, by a plain loop."""
    rings = np.zeros((side, side), int)
    for row in range(side):
        for column in range(side):
            radius = np.hypot(row - side // 2, column - side // 2) / side
            rings[row, column] = next(
                (k for k in range(num_rings) if radius <= (k + 1) / (2 * num_rings)), num_rings
            )
    return rings


@pytest.mark.parametrize("read", [0, 2, 4])
def test_ring_occlusion_finds_the_one_ring_that_a_detector_reads(read):
    random = np.random.default_rng(0)
    labels = np.arange(60) % 2
    spectra = random.integers(0, 200, (60, 16, 16, 1)).astype(np.uint8)
    rings = ring_of(16, 4)
    spectra[labels == 1] += (30 * (rings == read)).astype(np.uint8)[..., None]
    model = flat_detector((16, 16), 1, (rings == read).ravel() / (rings == read).sum())
    found = explain.ring_occlusion(model, spectra, labels, np.arange(60) // 4, num_rings=4)
    assert tuple(found) == ("low", "high", "auc", "drop", "ci_low", "ci_high")
    np.testing.assert_allclose(found["low"], [0, 0.125, 0.25, 0.375, 0.5])
    np.testing.assert_allclose(found["high"], [0.125, 0.25, 0.375, 0.5, 0.5**0.5])
    others = found.drop(index=read)
    assert (others[["drop", "ci_low", "ci_high"]] == 0).all(axis=None) and others[
        "auc"
    ].nunique() == 1
    row = found.loc[read]
    assert (
        row["auc"] == 0.5
        and row["drop"] == pytest.approx(others["auc"].iloc[0] - 0.5)
        and row["ci_low"] > 0
    )


@pytest.mark.parametrize("side", [15, 16])
def test_ring_occlusion_shows_the_model_the_mean_inside_a_ring_and_the_spectra_elsewhere(side):
    random, rings, seen = np.random.default_rng(0), ring_of(side, 5), []
    spectra, labels = random.integers(0, 256, (10, side, side, 1), dtype="uint8"), np.arange(10) % 2

    def predict(batch):
        seen.append(batch)
        return np.full((len(batch), 1), 0.5)

    model = SimpleNamespace(
        name="recorder",
        input=SimpleNamespace(shape=(None, side, side, 1)),
        predict_on_batch=predict,
    )
    explain.ring_occlusion(
        model, spectra, labels, np.arange(10), num_rings=5, num_resamples=2, batch_size=20
    )
    mean = np.rint(spectra.astype(float).mean(axis=0))
    np.testing.assert_array_equal(seen[0], spectra)
    for number, batch in enumerate(seen[1:]):
        inside = rings == number
        assert inside.any() and batch.dtype == np.uint8
        np.testing.assert_array_equal(batch[:, ~inside], spectra[:, ~inside])
        np.testing.assert_array_equal(
            batch[:, inside], np.broadcast_to(mean[inside], batch[:, inside].shape)
        )
    assert len(seen) == 7


def test_ring_occlusion_refuses_what_does_not_fit():
    model = flat_detector((8, 8), 1, np.ones(64))
    spectra, labels = np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 0, 1])
    for rings in (0, 5):
        with pytest.raises(ValueError, match=f"num_rings={rings}; expected"):
            explain.ring_occlusion(model, spectra, labels, labels, num_rings=rings)
    with pytest.raises(ValueError, match="takes uint8 pictures"):
        explain.ring_occlusion(model, spectra[..., 0], labels, labels)
    with pytest.raises(ValueError, match="both classes"):
        explain.ring_occlusion(model, spectra, 0 * labels, labels, num_rings=2)


def test_the_module_imports_no_backend():
    source = (config.ROOT / "src" / "detectors" / "explain.py").read_text()
    assert not any(f"import {name}" in source for name in ("tensorflow", "jax", "torch"))
