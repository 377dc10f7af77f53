"""Principal components and the linear probe."""

import numpy as np
import pytest
from made_results import auc
from sklearn.decomposition import PCA
from sklearn.model_selection import GroupKFold

from src.evaluation import pca


@pytest.fixture
def few(monkeypatch):
    """A probe with few resamples, and a function that sets the number of its permutations."""
    monkeypatch.setattr(pca, "_NUM_RESAMPLES", 20)
    return lambda number: monkeypatch.setattr(pca, "_NUM_PERMUTATIONS", number)


@pytest.mark.parametrize(
    "num_rows, num_values, k", [(12, 300, 3), (700, 24, 5), (900, 768, 3), (400, 48, 40), (9, 5, 5)]
)
def test_joint_pca_equals_sklearn(num_rows, num_values, k):
    random = np.random.default_rng(0)
    spread = 0.9 ** np.arange(min(num_rows, num_values))
    mixed = random.normal(size=(num_rows, len(spread))) * spread
    mixed = mixed @ random.normal(size=(len(spread), num_values))
    pixels = (120 + 12 * mixed).clip(0, 255).astype(np.uint8)
    ours, oracle = pca.joint_pca(pixels, k), PCA(k, svd_solver="full").fit(pixels.astype(float))
    signs, scale = np.sign((ours.components * oracle.components_).sum(1)), 2e-4
    expected = oracle.transform(pixels) * signs
    np.testing.assert_allclose(ours.scores, expected, atol=scale * oracle.singular_values_[0])
    np.testing.assert_allclose(ours.components, oracle.components_ * signs[:, None], atol=2e-3)
    ratio = oracle.explained_variance_ratio_
    np.testing.assert_allclose(ours.explained_variance_ratio, ratio, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(ours.mean, oracle.mean_, rtol=1e-5)


def test_joint_pca_takes_memory_maps_and_more_pictures_than_it_fits(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    first, second = pca.joint_pca(pixels), pca.joint_pca(mapped)
    np.testing.assert_array_equal(first.scores, second.scores)
    assert first.scores.shape == (30, 3) and first.components.shape == (3, 192)
    monkeypatch.setattr(pca, "MAX_FITTED", 20)
    some, chosen = pca.joint_pca(mapped, 3, seed=1), np.random.default_rng(1)
    rows = np.sort(chosen.choice(30, 20, replace=False))
    alone = pca.joint_pca(pixels[rows], 3)
    np.testing.assert_array_equal(some.components, alone.components)
    expected = pca.project(pixels, alone.mean, alone.components)
    np.testing.assert_array_equal(some.scores, expected)


def test_joint_pca_of_alike_pictures():
    alike = np.full((500, 8, 8, 3), 50, np.uint8)
    constant = pca.joint_pca(alike, 2)
    assert np.abs(constant.scores).max() < 1e-2
    assert np.isfinite(constant.explained_variance_ratio).all()
    alike[::2, :4] = 90  # rank one, far below the number of components asked for
    ratio = pca.joint_pca(alike, 2).explained_variance_ratio
    np.testing.assert_allclose(ratio, [1, 0], atol=1e-4)


def test_separate_fits_hide_what_a_plane_divides(few):
    few(2)
    points, labels = pca.separable_example()
    separate, joint = pca.separate_pca(points, labels), pca.joint_pca(points, 2).scores
    apart = np.abs(separate[labels == 1].mean(0) - separate[labels == 0].mean(0))
    assert (apart < 1e-5 * separate.std(0)).all()  # the clouds are drawn over each other
    groups = np.arange(len(labels))
    looks, truth = (
        pca.linear_probe(each, labels, groups, (2,), groups) for each in (separate, joint)
    )
    assert looks["auc"][0] < 0.6 and truth["auc"][0] == 1


def test_linear_probe_finds_the_component_that_matters(few):
    few(20)
    random = np.random.default_rng(0)
    labels, groups = np.tile([0, 1], 150), np.repeat(np.arange(150), 2)
    components = random.normal(size=(300, 10))
    components[:, 6] += 1.5 * labels
    table = pca.linear_probe(components, labels, groups, (2, 5, 10), groups)
    assert table["k"].tolist() == [2, 5, 10]
    assert table["auc"][2] > 0.8 and table["auc"][0] < 0.6
    assert (table["null_mean"].sub(0.5).abs() < 0.05).all() and (table["null_high"] < 0.62).all()
    assert table["ci_low"][2] > table["null_high"][2] and (table["ci_low"] <= table["auc"]).all()
    assert table["p_value"][2] == 1 / 21 and table["p_value"][0] > 0.05


def test_the_probe_is_least_squares_on_the_other_folds(few):
    few(9)
    random = np.random.default_rng(0)
    groups, labels = np.repeat(np.arange(30), 4), random.integers(0, 2, 120)
    values = random.normal(size=(120, 6)) * [9, 5, 3, 2, 1, 0.1] + 0.5 * labels[:, None]
    targets = np.column_stack([labels, random.permuted(labels)])
    design, expected = np.column_stack([values, np.ones(120)]), np.empty((120, 2))
    for train, test in GroupKFold(5).split(values, groups=groups):
        weights = np.linalg.lstsq(design[train], targets[train], rcond=None)[0]
        expected[test] = design[test] @ weights
    np.testing.assert_allclose(pca._out_of_fold(values, targets, groups), expected)
    row = pca.linear_probe(values, labels, groups, (6,), groups)
    assert row["auc"][0] == pytest.approx(auc(labels, expected[:, 0], groups))


def test_p_values_of_components_without_classes_are_even(few):
    few(19)
    random, groups, found = np.random.default_rng(0), np.repeat(np.arange(30), 2), []
    for _ in range(25):
        values, labels = random.normal(size=(60, 2)), random.integers(0, 2, 60)
        found.append(pca.linear_probe(values, labels, groups, (2,), groups)["p_value"][0])
    assert 0.35 < np.mean(found) < 0.65 and np.mean(np.array(found) <= 0.05) <= 0.15


def test_shuffling_keeps_the_groups_sizes_and_the_classes():
    labels = np.array([0, 1, 0, 1, 1, 1, 0, 0, 0])
    groups, random = np.array(list("aabbcdefg")), np.random.default_rng(0)
    drawn = np.stack([pca._shuffled(labels, groups, random) for _ in range(300)])
    for rows, num_fakes in ((slice(0, 2), 1), (slice(2, 4), 1), (slice(4, 9), 2)):
        assert (drawn[:, rows].sum(1) == num_fakes).all()
    np.testing.assert_allclose(drawn.mean(0), [0.5] * 4 + [0.4] * 5, atol=0.12)
