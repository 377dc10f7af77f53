"""Variants of fine-tuning: what is held stays, what is delivered is only learnt from."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from src.config import Network
from src.detectors import models, scoring
from src.detectors import variants as code
from src.evaluation.results import read_scores, write_scores

WIDTHS = {"widths": (4, 4, 4, 4, 4), "batch_norm_momentum": 0.9}
NETWORK = Network("small", "vgg16", False, None, 1e-2, 8, 1, None, view="centre", **WIDTHS)


def test_leading_directions_stay_and_others_move():
    random = np.random.default_rng(0)
    start, now = random.normal(size=(2, 3, 3, 5, 20)).astype(np.float32)
    held = np.asarray(code.KeepLeading(start, 0.5)(now))
    again = np.asarray(code.KeepLeading(start, 0.5)(held))
    np.testing.assert_allclose(again, held, atol=1e-5)
    change = (held - start).reshape(45, 20)
    left, _, right = np.linalg.svd(start.reshape(45, 20), full_matrices=False)
    np.testing.assert_allclose(left[:, :10].T @ change, 0, atol=1e-4)
    np.testing.assert_allclose(change @ right[:10].T, 0, atol=1e-4)
    # What is left of the change is what a projection on the other directions gives.
    others = np.eye(45) - left[:, :10] @ left[:, :10].T, np.eye(20) - right[:10].T @ right[:10]
    expected = others[0] @ (now - start).reshape(45, 20) @ others[1]
    np.testing.assert_allclose(change, expected, atol=1e-4)
    same, others = code.KeepLeading(start.copy(), 0.5), [code.KeepLeading(start), None]
    assert len({same, code.KeepLeading(start, 0.5), *others}) == 3  # trained in one graph


def test_training_keeps_them(monkeypatch):
    model, plain = code.build_kept(NETWORK, 32), models.build(NETWORK, 32)
    plain.set_weights(model.get_weights())
    random = np.random.default_rng(0)
    pictures, labels = random.integers(0, 256, (8, 32, 32, 3), np.uint8), np.arange(8) % 2
    before = model.get_weights()
    for each in (model, plain):
        each.compile(keras.optimizers.Adam(1e-2), "binary_crossentropy")
        each.fit(pictures, labels, epochs=2, verbose=0)
    kernels = [n for n, weight in enumerate(before) if weight.ndim == 4]
    for number in kernels:
        start, kept, free = (
            weights[number].reshape(-1, 4)
            for weights in (before, model.get_weights(), plain.get_weights())
        )
        leading = np.linalg.svd(start, full_matrices=False)[0][:, :4]
        assert (
            np.abs(leading.T @ (kept - start)).max()
            < 1e-5
            < np.abs(leading.T @ (free - start)).max()
        )


def test_neighbours_are_subtracted():
    """What reaches the network is 128 where a pixel equals the first of its block."""
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    shown = np.empty_like(pictures)
    for image, row, column in np.ndindex(2, 32, 32):
        first = pictures[image, row // 2 * 2, column // 2 * 2].astype(int)
        shown[image, row, column] = (128 + 4 * (pictures[image, row, column] - first)).clip(0, 255)
    np.testing.assert_array_equal(code.neighbours(pictures), shown)


@pytest.mark.parametrize("change", [None, code.neighbours, code.spectrum])
def test_crops_are_scored_in_quarters(few, change):
    network = few.direct[3]
    model, plain = code.build_on_crops(network, 64, change), models.build(network, 32)
    plain.set_weights(model.get_weights())
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    quarters = pictures[:, :32, :32], pictures[:, :32, 32:], pictures[:, 32:, :32]
    quarters = *quarters, pictures[:, 32:, 32:]
    shown = [np.uint8(change(each)) if change else each for each in quarters]
    expected = np.mean([plain(each) for each in shown], axis=0)
    np.testing.assert_allclose(model(pictures), expected, atol=1e-5)


def test_two_branches_see_pixels_and_spectrum(few):
    model = code.build_two_branches(NETWORK, few.fourier, 32)
    branches = models.parts(model)[0]
    names = [layer.name for layer in branches.layers if isinstance(layer, keras.Model)]
    assert sorted(names) == ["pixels", "spectrum"]
    parts = [branches.get_layer(name).output.shape[-1] for name in names]
    assert branches.output.shape[-1] == sum(parts)


@pytest.fixture(scope="module")
def variants(few, records):
    dense = replace(few.direct[3], epochs=1)
    study = replace(few, extra_seeds=(1,), direct=(dense, NETWORK))
    return study, code.train_variants(study, records)


def test_each_variant_has_rows_of_all_seeds(variants):
    study, rows = variants
    auc = rows[rows["metric"] == "auc"]
    assert set(auc["model"]) == set(code.plain_networks(study))
    assert set(auc["test_set"]) == set(study.test_sets) and (auc["num_seeds"] == 2).all()


def test_half_of_the_training_pictures_are_delivered(few, records, variants):
    plain = scoring.prepare(few, records, "controlled", "direct", view="centre")
    half = code.half_delivered(few, records, "controlled", NETWORK)
    changed = half.table["steps"] != plain.table["steps"]
    assert half.table["path"].equals(plain.table["path"])
    assert half.table["steps"][changed].str.contains("shorter:").all()
    assert set(half.table["split"][changed]) == {"train"}
    assert set(half.table["task"][changed]) == set(few.train_sets)
    assert 0.2 < changed.sum() / len(plain.rows("train")) < 0.8
    assert len(half.rows("train")) == len(plain.rows("train"))
    tested = [read_scores(few, f"{name}-controlled") for name in (code.DELIVERED, code.KEPT)]
    assert tested[0]["path"].equals(tested[1]["path"])


def test_a_fusion_weighs_what_its_parts_know(few, records, variants):
    """Of two detectors one knows nothing: their fusion orders pictures as the other does."""
    scores = read_scores(few, f"{code.KEPT}-controlled")
    random = np.random.default_rng(0)
    good = 1 / (1 + np.exp(-(3 * scores["label"] - 1.5 + random.normal(size=len(scores)))))
    write_scores(few, "good-controlled", scores.assign(score=good))
    write_scores(few, "useless-controlled", scores.assign(score=0.5))
    found = code.fuse(few, ["useless", "good"], "controlled")
    assert set(found["second"]) == {"good-controlled"}
    np.testing.assert_allclose(found["difference"], 0, atol=1e-9)
    fused = read_scores(few, f"{code.FUSION}-controlled")
    np.testing.assert_array_equal(np.argsort(fused["score"]), np.argsort(good))
    assert roc_auc_score(fused["label"], fused["score"]) > 0.9
