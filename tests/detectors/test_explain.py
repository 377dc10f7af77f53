"""Explanations: against differences, plain loops, and detectors of known gaze."""

from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers
from made_networks import DENSENET, LITE, VGG, pictures

from src import config
from src.data import catalog, sources
from src.detectors import explain, models
from src.detectors.autoencoder import build_autoencoder, build_embedding_classifier
from src.evaluation.results import RESULT_COLUMNS

NETWORKS = {
    "vgg16": VGG,
    "vgg16, frozen, hidden": replace(VGG, frozen=True, head=16),
    "vgg16, normalised": replace(VGG, batch_norm_momentum=0.9),
    "densenet, hidden": replace(DENSENET, head=16),
    "efficientnet_lite0": LITE,
    "fourier": replace(DENSENET, head=16, approach="fourier"),
}


def flat_detector(weights):
    """Its logit is the sum of `weights` times pixels from 0 to 1."""
    image = layers.Input(weights.shape, dtype="uint8")
    extractor = keras.Model(image, layers.Flatten()(layers.Rescaling(1 / 255)(image)))
    head = build_embedding_classifier(weights.size, hidden=())
    head.layers[-1].set_weights([np.reshape(weights, (-1, 1)), np.zeros(1)])
    return models.join(extractor, head)


def grad_cam_by_differences(model, pixels, step=1e-6):
    """Grad-CAM as in the paper, for scaling "unit": gradients as differences, in double precision.

    The mean gradient over a channel is the rise of the logit as all of the channel rises.
    """
    extractor, head = models.parts(model)
    backbone = next(layer for layer in extractor.layers if isinstance(layer, keras.Model))
    last = backbone.layers[-1]
    pools = isinstance(last, layers.MaxPooling2D)
    flattens = any(isinstance(layer, layers.Flatten) for layer in extractor.layers)
    x = keras.ops.repeat(pixels.astype("float32") / 255, 3 // pixels.shape[-1], axis=-1)
    maps = keras.Model(backbone.input, last.input if pools else last.output)(x, training=False)
    maps = keras.ops.convert_to_numpy(maps).astype(float)
    (*hidden, output) = [layer.get_weights() for layer in head.layers if layer.weights]

    def logit(x):
        if pools:
            rows, columns, channels = x.shape[1:]
            x = x.reshape(-1, rows // 2, 2, columns // 2, 2, channels).max(axis=(2, 4))
        x = x.reshape(len(x), -1) if flattens else x.mean(axis=(1, 2))
        for kernel, bias in hidden:
            x = np.maximum(x @ kernel + bias, 0)
        return (x @ output[0] + output[1])[:, 0]

    rises = step * np.eye(maps.shape[-1])
    weights = [(logit(maps + rise) - logit(maps - rise)) / (2 * step) for rise in rises]
    weights = np.transpose(weights)[:, None, None] / np.prod(maps.shape[1:3])
    small = np.maximum((weights * maps).sum(axis=-1, keepdims=True), 0)
    enlarged = keras.ops.image.resize(small.astype("float32"), pixels.shape[1:3])
    return keras.ops.convert_to_numpy(enlarged)[..., 0]


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_grad_cam_is_that_of_differences(network):
    keras.utils.set_random_seed(3)
    model = models.build(network, 96)
    pixels = pictures(size=(96, 96), channels=model.input.shape[-1])
    output = models.parts(model)[1].layers[-1]  # by chance, no place might speak for fake
    output.kernel.assign(np.linspace(-0.5, 1, output.kernel.shape[0])[:, None])
    expected = grad_cam_by_differences(model, pixels)
    heat = explain.grad_cam(model, pixels)
    assert heat.shape == (4, 96, 96) and heat.dtype == np.float32 and heat.max() > 0
    np.testing.assert_allclose(heat, expected, rtol=0, atol=1e-4 * expected.max())


def test_grad_cam_leaves_the_model_as_it_is(tmp_path):
    model, pixels = models.build(VGG, 64), pictures(size=(64, 64))
    scores = model.predict(pixels, verbose=0)
    first = explain.grad_cam(model, pixels)
    np.testing.assert_array_equal(explain.grad_cam(model, pixels), first)
    np.testing.assert_array_equal(model.predict(pixels, verbose=0), scores)
    model.save(tmp_path / "detector.keras")
    loaded = keras.models.load_model(tmp_path / "detector.keras")
    np.testing.assert_allclose(explain.grad_cam(loaded, pixels), first, atol=1e-6)


def test_models_that_are_no_such_chain_are_refused():
    autoencoder = build_autoencoder(config.Autoencoder(filters=(8, 6, 4), latent=5), 32)
    joined = models.join(autoencoder.get_layer("encoder"), build_embedding_classifier(5, (4,)))
    on_pictures = models.with_spectrum(models.build(replace(VGG, approach="fourier"), 32))
    pixels = pictures(size=(32, 32))
    for model, message in ((joined, "ends with Dense"), (on_pictures, "expected a chain")):
        with pytest.raises(ValueError, match=message):
            explain.grad_cam(model, pixels)
    heat = explain.occlusion(joined, pixels, patch=16, stride=16)  # needs no feature map
    assert heat.shape == (4, 32, 32)


def test_occlusion_is_that_of_a_plain_loop():
    size, patch, stride = (12, 14), 5, 3
    weights = np.random.default_rng(1).normal(size=(*size, 3))
    pixels = pictures(3, size)
    heat = explain.occlusion(flat_detector(weights), pixels, patch=patch, stride=stride)
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


def test_share_inside_is_a_count_of_small_pixels():
    random = np.random.default_rng(0)
    heat = random.random((20, 6, 9)).astype("float32")
    # In steps of a tenth of a pixel.
    corners = np.sort(random.integers(-20, 120, (20, 2, 2)), axis=1)
    found = explain.share_inside(heat, (corners / 100).reshape(20, 4))
    for picture, pixel, share in zip(heat, corners * [9, 6], found):
        big = picture.repeat(100, axis=0).repeat(100, axis=1)
        (left, top), (right, bottom) = pixel.clip(0)
        assert share == pytest.approx(big[top:bottom, left:right].sum() / big.sum(), abs=1e-5)


def test_share_elsewhere_is_the_mean_over_the_other_boxes():
    random = np.random.default_rng(0)
    heat, low = random.random((5, 8, 8)), random.random((5, 2)) / 2
    boxes = np.hstack([low, low + 0.4])
    heat[3], boxes[4] = 0, np.nan
    found = explain.share_elsewhere(heat, boxes)
    for place in (0, 1, 2):
        others = [explain.share_inside(heat[[place]], boxes[[k]]) for k in range(4) if k != place]
        assert found[place] == pytest.approx(np.mean(others))
    assert np.isnan(found[3:]).all()
    assert np.isnan(explain.share_elsewhere(heat[:1], boxes[:1])).all()  # there is no other


def test_shares_of_what_is_not_there_are_nan_and_of_negative_heat_an_error():
    heat, boxes = np.ones((3, 4, 4)), np.array([[0, 0, 1, 1], [0.5, 0.5, 0.5, 0.5], [np.nan] * 4])
    heat[0] = 0
    np.testing.assert_array_equal(explain.share_inside(heat, boxes), [np.nan, 0, np.nan])
    with pytest.raises(ValueError, match="maximum"):
        explain.share_inside(-heat, boxes)


def test_region_rows_are_means_of_the_pictures_with_heat(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "HOME", tmp_path)
    study, random = config.get_study("tiny"), np.random.default_rng(0)
    table = pd.DataFrame({"group": np.arange(20) // 2, "task": "inpainting", "row": range(20)})
    table.loc[20] = ("alone", "insight", 20)  # one group: no rows
    table.loc[21] = ("a", "text2img", 21)  # one region: none
    table.loc[22] = ("b", "text2img", 22)
    table = table.assign(split="test", test_set=table["task"], real_source="wiki")
    low = random.random((23, 2)) / 2
    boxes, heat = np.hstack([low, low + 0.3]), random.random((23, 8, 8))
    boxes[22] = boxes[21]
    heat[3], boxes[4] = 0, np.nan
    card = {"study": study.name, "approach": "direct", "model": "A", "protocol": "controlled"}
    card |= {"train_set": "inpainting", "seed": 1, "threshold": 0.5}
    shown = SimpleNamespace(study=study, table=table, pixels=np.arange(23), model_id=str)
    monkeypatch.setattr(explain, "altered_boxes", lambda *_: boxes)
    monkeypatch.setattr(explain, "read_card", lambda stem: card)
    monkeypatch.setattr(explain, "grad_cam", lambda model, pixels: heat[pixels])
    rows = explain.score_regions(shown, {"A": None})
    assert tuple(rows) == RESULT_COLUMNS and set(rows["test_set"]) == {"inpainting"}
    names = ["cam_in_region", "cam_in_region_chance"]
    names += ["cam_in_region_elsewhere", "cam_in_region_excess"]
    assert rows["metric"].tolist() == names and (rows["seed"] == 1).all()
    counts = rows[["num_fake", "num_real", "num_groups", "num_seeds"]].drop_duplicates()
    assert counts.to_numpy().tolist() == [[18, 0, 10, 1]]
    known = heat[np.delete(np.arange(20), 4)], boxes[np.delete(np.arange(20), 4)]
    shares = (explain.share_inside(*known), explain.share_elsewhere(*known))
    inside, elsewhere = (np.delete(share, 3).mean() for share in shares)
    np.testing.assert_allclose(rows["value"], [inside, 0.09, elsewhere, inside - elsewhere])
    assert (rows["ci_low"] <= rows["value"]).all() and (rows["value"] <= rows["ci_high"]).all()
    verdicts = {(0.1, 0.2): "follows", (-0.2, -0.1): "lies elsewhere", (-0.1, 0.1): "is not shown"}
    for (low, high), verdict in verdicts.items():
        (sentence,) = explain.region_sentences(rows.assign(ci_low=low, ci_high=high))
        assert sentence.startswith(f"A on inpainting: the heat {verdict}")
    assert explain.region_sentences(rows[:0])[0].startswith("No test set has altered regions")


def ring_of(side, num_rings):
    """Number of every pixel's ring, by a plain loop."""
    rings = np.full((side, side), num_rings)
    for row, column in np.ndindex(side, side):
        radius = np.hypot(row - side // 2, column - side // 2) / side
        for number in reversed(range(num_rings)):
            if radius <= (number + 1) / (2 * num_rings):
                rings[row, column] = number
    return rings


@pytest.mark.parametrize("read", [0, 2, 4])
def test_ring_occlusion_finds_the_one_ring_that_a_detector_reads(read):
    random = np.random.default_rng(0)
    labels = np.arange(60) % 2
    spectra = random.integers(0, 200, (60, 16, 16, 1)).astype(np.uint8)
    inside = (ring_of(16, 4) == read)[..., None]
    spectra[labels == 1] += (30 * inside).astype(np.uint8)
    model = flat_detector(inside / inside.sum())
    found = explain.ring_occlusion(model, spectra, labels, np.arange(60) // 4, num_rings=4)
    assert tuple(found) == ("low", "high", "auc", "drop", "ci_low", "ci_high")
    np.testing.assert_allclose(found["low"], [0, 0.125, 0.25, 0.375, 0.5])
    np.testing.assert_allclose(found["high"], [0.125, 0.25, 0.375, 0.5, 0.5**0.5])
    row, others = found.loc[read], found.drop(index=read)
    assert (others[["drop", "ci_low", "ci_high"]] == 0).all(axis=None)
    assert others["auc"].nunique() == 1 and row["auc"] == 0.5 and row["ci_low"] > 0
    assert row["drop"] == pytest.approx(others["auc"].iloc[0] - 0.5)


@pytest.mark.parametrize("side", [15, 16])
def test_ring_occlusion_shows_the_mean_inside_a_ring_and_the_spectra_elsewhere(side, monkeypatch):
    random, rings, seen = np.random.default_rng(0), ring_of(side, 5), []
    monkeypatch.setattr(explain, "shared", lambda model: model)
    spectra, labels = random.integers(0, 256, (10, side, side, 1), dtype="uint8"), np.arange(10) % 2

    def predict(batches, **_):
        seen.append(np.concatenate([part for (part,) in batches]))
        return np.full((len(seen[-1]), 1), 0.5)

    model = SimpleNamespace(predict=predict)
    explain.ring_occlusion(model, spectra, labels, np.arange(10), num_rings=5)
    mean = np.rint(spectra.astype(float).mean(axis=0))
    np.testing.assert_array_equal(seen[0], spectra)
    for number, batch in enumerate(seen[1:]):
        inside = (rings == number)[..., None]
        assert inside.any() and batch.dtype == np.uint8
        np.testing.assert_array_equal(batch, np.where(inside, mean, spectra))
    assert len(seen) == 7


def test_altered_pictures_are_whole_and_their_boxes_are_known(study):
    """Also where a network sees the middle alone, if it averages; else its middle."""
    records, network = catalog.load(study), replace(VGG, view="centre")
    shown = explain.altered_pictures(study, records, network)
    assert shown.pixels.shape[1:] == (study.square_size, study.square_size, 3)
    assert set(shown.table["task"]) == {"insight", "inpainting_local"}
    assert (shown.table["split"] == "test").all() and (shown.table["label"] == "fake").all()
    assert np.isfinite(sources.altered_boxes(study, shown.table)).all()
    middle = explain.altered_pictures(study, records, replace(network, head=3))
    assert middle.pixels.shape[1:] == (study.image_size, study.image_size, 3)
    cut = (study.square_size - study.image_size) // 2
    np.testing.assert_array_equal(middle.pixels, shown.pixels[:, cut:-cut, cut:-cut])


def test_without_altered_regions_fakes_of_the_training_set_are_shown(study, monkeypatch):
    monkeypatch.setattr(explain, "altered_boxes", lambda _, table: np.full((len(table), 4), np.nan))
    shown = explain.altered_pictures(study, catalog.load(study), VGG)
    assert 0 < len(shown.table) <= 6 and set(shown.table["task"]) == {study.train_set}
    assert explain.score_regions(shown, {}).empty
