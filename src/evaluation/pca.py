"""Principal components: do the classes lie mixed, or does a plane divide them?

The study fitted one PCA on the reals and another on the fakes and drew the two clouds over each
other, which shows nothing. Here one PCA is fitted on both, and how well a plane divides them is
measured, not judged by eye.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.linalg import eigh
from scipy.stats import rankdata
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .audit import NUM_FOLDS
from .intervals import estimate
from .metrics import check_labels, group_index, weighted_metrics

MAX_FITTED = 2000  # pictures of 224×224×3: 1.2 GB in single precision
_NUM_PERMUTATIONS, _NUM_RESAMPLES = 200, 1000  # of `linear_probe`


class PrincipalComponents(NamedTuple):
    """What `joint_pca` returns."""

    scores: np.ndarray  # (N, num_components), the pictures' coordinates
    components: np.ndarray  # (num_components, num_values), unit vectors
    mean: np.ndarray  # (num_values,), the mean picture
    explained_variance_ratio: np.ndarray  # (num_components,), of the variance


def joint_pca(pixels: np.ndarray, num_components: int = 3, *, seed: int = 0) -> PrincipalComponents:
    """The leading principal components of pictures `(N, ...)`, fewer than N, together.

    Fitted on all pictures, or on `MAX_FITTED` drawn at random where there are more; the coordinates
    are those of all. Pictures have far more values than there are pictures, so the eigenvectors of
    the small matrix of inner products give the components. Only what is fitted is held in floating
    point; `pixels` may be a memory map. The largest value of each component is positive.
    """
    flat, num_rows = pixels.reshape(len(pixels), -1), min(len(pixels), MAX_FITTED)
    chosen = slice(None)
    if len(flat) > num_rows:
        chosen = np.random.default_rng(seed).choice(len(flat), num_rows, replace=False)
        chosen.sort()
    values = flat[chosen].astype(np.float32)
    mean = values.mean(axis=0, dtype=np.float64).astype(np.float32)
    values -= mean
    leading = (num_rows - num_components, num_rows - 1)
    products = values @ values.T
    squares, vectors = (found[..., ::-1] for found in eigh(products, subset_by_index=leading))
    components = vectors.T @ values
    components /= np.maximum(np.linalg.norm(components, axis=1, keepdims=True), 1e-12)
    largest = np.abs(components).argmax(axis=1)
    components *= np.sign(components[np.arange(num_components), largest])[:, None]
    ratio = squares / max(np.trace(products), 1e-12)
    return PrincipalComponents(project(pixels, mean, components), components, mean, ratio)


def project(pixels: np.ndarray, mean: np.ndarray, components: np.ndarray) -> np.ndarray:
    """Coordinates `(N, num_components)` of pictures `(N, ...)` on the components of `joint_pca`."""
    flat = pixels.reshape(len(pixels), -1)
    slices = (flat[start : start + 64].astype(np.float32) for start in range(0, len(flat), 64))
    return np.concatenate([(part - mean) @ components.T for part in slices])


def separate_pca(pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Coordinates `(N, 2)` as the study drew them, for demonstration only: one PCA for each class.

    Each cloud is centred on its own mean and turned to its own axes, so the two overlap whatever
    their difference.
    """
    scores = np.empty((len(labels), 2))
    for label in (0, 1):
        scores[labels == label] = joint_pca(pixels[labels == label], 2).scores
    return scores


def separable_example(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points and labels that a plane divides without error, but mixed after `separate_pca`.

    Both classes are the same normal cloud, one shifted by ten standard deviations.
    """
    random, labels = np.random.default_rng(seed), np.repeat([0, 1], 300)
    points = random.normal(scale=np.linspace(1, 0.2, 16), size=(len(labels), 16))
    direction = random.normal(size=16)
    return points + 10 * np.outer(labels, direction / np.linalg.norm(direction)), labels


def linear_probe(
    components: np.ndarray, labels: np.ndarray, groups: Sequence, ks: Sequence[int], twins: Sequence
) -> pd.DataFrame:
    """How well a line, a plane, … through the first k principal components divides fake from real.

    The linear discriminant (least squares on the labels), out of fold over groups. The components
    come from a PCA of all pictures: it saw no label, so nothing leaks from it but the pictures' own
    spread. What chance alone would give is found by shuffling labels: within twins (a photograph
    and what was made from it), and between sets of twins of one size.

    `components` are `(N, K)`, the scores of `joint_pca`; `labels` (1 for fake), `groups` and the
    finer `twins` are `(N,)`; `ks` are up to `K`. Returns a row a k: `k`, `auc`, `ci_low`,
    `ci_high`, `null_mean`, `null_high` (95th percentile of the shuffled AUCs) and `p_value`, the
    share of shufflings with as high an AUC.
    """
    labels, random = check_labels(labels, components), np.random.default_rng(0)
    sets = [labels, *(_shuffled(labels, twins, random) for _ in range(_NUM_PERMUTATIONS))]
    rows, names, index = [], ("auc",), group_index(groups, len(labels))
    every = np.ones((1, index.max() + 1))  # each group once
    for k in ks:
        scores = _out_of_fold(components[:, :k], np.column_stack(sets), index)
        ranks = rankdata(scores, axis=0).T / len(labels)
        row = estimate(labels, ranks[0], groups, num_resamples=_NUM_RESAMPLES, names=names).iloc[0]
        aucs = [weighted_metrics(*one, index, 0.5, names)(every) for one in zip(sets, ranks)]
        null = np.ravel(aucs[1:])
        found = [k, *row[["value", "ci_low", "ci_high"]], null.mean(), np.quantile(null, 0.95)]
        rows.append([*found, (1 + np.sum(null >= row["value"])) / (1 + len(null))])
    columns = ["k", "auc", "ci_low", "ci_high", "null_mean", "null_high", "p_value"]
    return pd.DataFrame(rows, columns=columns)


def _out_of_fold(values: np.ndarray, targets: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Least-squares predictions of each column of `targets`; no fold divides a group of `index`."""
    model = make_pipeline(StandardScaler(), LinearRegression())
    folds = GroupKFold(min(NUM_FOLDS, index.max() + 1))
    return cross_val_predict(model, values, targets, groups=index, cv=folds)


def _shuffled(labels: np.ndarray, groups: Sequence, random: np.random.Generator) -> np.ndarray:
    """Labels shuffled within groups, and the groups' sets of labels among groups of one size."""
    codes = group_index(groups, len(labels))
    sizes, result = np.bincount(codes)[codes], np.empty_like(labels)
    for size in np.unique(sizes):
        rows = np.flatnonzero(sizes == size)
        rows = rows[np.argsort(codes[rows], kind="stable")]
        sets = random.permutation(labels[rows].reshape(-1, size), axis=0)
        result[rows] = random.permuted(sets, axis=1).ravel()
    return result
