"""Are the classes interlaced, or does a plane divide them? Principal components, drawn and probed as they should be.

The study fitted one PCA on the reals and another on the fakes and drew the two clouds over each other, which shows
nothing. Here one PCA sees both, and what a plane through it can do is measured, not judged by eye.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.linalg import eigh, qr
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from .audit import check_classes, cross_validated
from .metrics import estimate


@dataclass(frozen=True)
class PrincipalComponents:
    """What `joint_pca` returns.

    Args:
        scores: `(N, num_components)`, the pictures' coordinates.
        components: `(num_components, num_values)`, unit vectors.
        mean: `(num_values,)`, the mean picture.
        explained_variance_ratio: `(num_components,)`, each component's share of the variance.
    """

    scores: np.ndarray
    components: np.ndarray
    mean: np.ndarray
    explained_variance_ratio: np.ndarray


def joint_pca(
    pixels: np.ndarray,
    num_components: int = 3,
    *,
    num_passes: int = 4,
    num_threads: int = 2,
    seed: int = 0,
) -> PrincipalComponents:
    """The leading principal components of all pictures together, read in slices.

    Neither the pictures as floating-point numbers nor their covariance are ever held: the pixels are read in slices of
    a few pictures, `num_passes + 2` times. Beside `pixels` (a memory map will do) that takes some
    `12 * num_values * num_passes * (num_components + 6)` bytes, 65 MB for 3 components at 224×224×3.

    Source: C. Musco and C. Musco, "Randomized block Krylov methods for stronger and faster approximate singular value
    decomposition", 2015. Signs follow scikit-learn's: the largest value of each component is positive.

    Args:
        pixels: `(N, ...)`, any numbers; all but the first axis are flattened.
        num_components: Fewer than `N`.
        num_passes: More give more exact components where the ones after them explain nearly as much.
        num_threads: Slices in work at once.
        seed: Of the random start.
    """
    flat = pixels.reshape(len(pixels), -1)
    num_rows, num_values = flat.shape
    if not 0 < num_components <= min(num_rows - 1, num_values):
        raise ValueError(
            f"Cannot find {num_components} components of {num_rows} pictures of {num_values} values."
        )
    step = max(1, 2**21 // num_values)  # as many pictures as a processor's cache holds
    starts = np.array_split(np.arange(0, num_rows, step), num_threads)
    width = num_components + 6

    def slices(starts):
        return (flat[start : start + step].astype(np.float32) for start in starts)

    def moments(starts):
        total, squares = np.zeros(num_values), 0.0
        for part in slices(starts):
            total += np.ones(len(part), np.float32) @ part
            squares += (
                np.square(part, out=part).sum(1).sum(dtype=float)
            )  # a plain dot product would round too often
        return total, squares

    def inner_products(starts):
        gram = np.zeros((num_rows, num_rows), np.float32)
        for part in (
            flat[:, start : start + 4096] - mean[start : start + 4096] for start in starts
        ):
            gram += part @ part.T
        return gram

    def covariance_times_block(starts):
        product, offset = np.zeros((width, num_values), np.float32), mean @ block
        for part in slices(starts):
            product += (part @ block - offset).T @ part
        return product

    # Each thread takes its own slices; threads inside a small matrix product would mostly wait for each other.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(num_threads) as pool:
        totals, squares = zip(*pool.map(moments, starts), strict=True)
        exact_mean = sum(totals) / num_rows
        mean, variance = (
            exact_mean.astype(np.float32),
            sum(squares) - num_rows * exact_mean @ exact_mean,
        )
        if (
            num_rows <= 8 * num_passes * width
        ):  # few pictures: the matrix of their inner products is cheaper
            columns = np.arange(0, num_values, 4096)
            gram = sum(pool.map(inner_products, np.array_split(columns, num_threads)))
            vectors = eigh(gram, subset_by_index=(max(num_rows - width, 0), num_rows - 1))[1]
            parts = [
                (flat[:, start : start + 4096] - mean[start : start + 4096]).T @ vectors
                for start in columns
            ]
            basis = qr(np.concatenate(parts), mode="economic")[0]
        elif num_values <= num_passes * width:
            basis = np.eye(num_values, dtype=np.float32)
        else:
            basis = np.zeros((num_values, 0), np.float32)
            block = np.random.default_rng(seed).standard_normal(
                (num_values, width), dtype=np.float32
            )
            for _ in range(num_passes):
                product = sum(pool.map(covariance_times_block, starts))
                for _ in range(2):  # in single precision, once leaves too much
                    product -= (product @ basis) @ basis.T
                block = qr(product.T, mode="economic")[0]
                basis = np.hstack([basis, block])
            basis = qr(basis, mode="economic")[
                0
            ]  # of pictures all too similar, the blocks are not yet orthogonal
        coordinates = pool.map(lambda starts: [part @ basis for part in slices(starts)], starts)
        coordinates = np.concatenate([part for parts in coordinates for part in parts]).astype(
            float
        )
        left, values, right = np.linalg.svd(coordinates - coordinates.mean(0), full_matrices=False)
        left, values, right = (
            left[:, :num_components],
            values[:num_components],
            right[:num_components],
        )
        components = right @ basis.T
    signs = np.sign(components[np.arange(num_components), np.abs(components).argmax(1)])
    ratio = values**2 / variance if variance > 0 else np.zeros(num_components)
    return PrincipalComponents(
        left * (values * signs), components * signs[:, None], exact_mean, ratio
    )


def project(fitted: PrincipalComponents, pixels: np.ndarray) -> np.ndarray:
    """Coordinates of other pictures `(N, ...)` on the components of `joint_pca`, `(N, num_components)`."""
    flat = pixels.reshape(len(pixels), -1)
    slices = (flat[start : start + 64].astype(np.float32) for start in range(0, len(flat), 64))
    return np.concatenate([(part - fitted.mean) @ fitted.components.T for part in slices])


def separate_pca(pixels: np.ndarray, labels: np.ndarray, num_components: int = 2) -> np.ndarray:
    """Coordinates as the study drew them, for demonstration only: one PCA fitted on the reals, another on the fakes.

    Each cloud is centred on its own mean and turned to its own axes, so the two overlap whatever their difference.

    Returns:
        `(N, num_components)`, rows in the order of `pixels`.
    """
    labels = check_classes(pixels, labels, labels)
    scores = np.empty((len(labels), num_components))
    for label in (0, 1):
        scores[labels == label] = joint_pca(pixels[labels == label], num_components).scores
    return scores


def separable_example(
    seed: int = 0, num_per_class: int = 300, num_values: int = 16
) -> tuple[np.ndarray, np.ndarray]:
    """Two classes that a plane divides without error, yet which look interlaced after `separate_pca`.

    Both are the same normal cloud, one shifted by ten standard deviations.

    Returns:
        Points, `(2 * num_per_class, num_values)`, and labels.
    """
    random = np.random.default_rng(seed)
    labels = np.repeat([0, 1], num_per_class)
    points = random.normal(scale=np.linspace(1, 0.2, num_values), size=(len(labels), num_values))
    direction = random.normal(size=num_values)
    return points + 10 * np.outer(labels, direction / np.linalg.norm(direction)), labels


def linear_probe(
    components: np.ndarray,
    labels: np.ndarray,
    groups: Sequence,
    ks: Sequence[int] = (2, 5, 10, 20, 50, 100),
    *,
    num_permutations: int = 20,
    num_resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """How well a line, a plane, … through the first k principal components divides fake from real.

    Logistic regression, cross-validated over groups. The components come from a PCA of all pictures: it saw no label,
    so nothing leaks from it but the pictures' own spread. What chance alone would give is found by shuffling labels:
    within groups, and between groups of one size.

    Args:
        components: `(N, K)`, the scores of `joint_pca`.
        labels: `(N,)`, 1 for fake.
        groups: `(N,)`.
        ks: Numbers of components; those above `K` are an error.
        num_permutations: Shufflings of the labels.
        num_resamples: Of the bootstrap behind the interval.

    Returns:
        A row a k: `k`, `auc`, `ci_low`, `ci_high`, `null_mean` and `null_high` (95th percentile of the shuffled AUCs).
    """
    labels = check_classes(components, labels, groups)
    if not ks or min(ks) < 1 or max(ks) > components.shape[1]:
        raise ValueError(
            f"Expected each k from 1 to {components.shape[1]}, the components given; received {ks}."
        )
    random = np.random.default_rng(seed)
    shuffled = [_shuffled(labels, groups, random) for _ in range(num_permutations)]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    rows = []
    for k in ks:

        def scores(labels, values=components[:, :k]):
            return cross_validated(model, values, labels, groups, seed, "decision_function")

        ranks = rankdata(scores(labels)) / len(labels)
        row = estimate(
            labels, ranks, groups, num_resamples=num_resamples, seed=seed, names=("auc",)
        ).iloc[0]
        null = [roc_auc_score(permuted, scores(permuted)) for permuted in shuffled]
        rows.append(
            (k, row["value"], row["ci_low"], row["ci_high"], np.mean(null), np.quantile(null, 0.95))
        )
    return pd.DataFrame(rows, columns=["k", "auc", "ci_low", "ci_high", "null_mean", "null_high"])


def _shuffled(labels: np.ndarray, groups: Sequence, random: np.random.Generator) -> np.ndarray:
    """Labels shuffled within groups, and the groups' sets of labels among groups of one size."""
    codes = pd.factorize(np.asarray(groups))[0]
    sizes = np.bincount(codes)[codes]
    result = np.empty_like(labels)
    for size in np.unique(sizes):
        rows = np.flatnonzero(sizes == size)
        rows = rows[np.argsort(codes[rows], kind="stable")]
        sets = random.permutation(labels[rows].reshape(-1, size), axis=0)
        result[rows] = random.permuted(sets, axis=1).ravel()
    return result
