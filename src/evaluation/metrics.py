"""From labels and scores to numbers: metrics with intervals, comparisons of two detectors, threshold, temperature.

Arrays in, numbers out; `evaluation` applies it to tables. Fake is 1 and the positive class; a score is the probability
of fake; an image is called fake when its score is at least the threshold.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

CURVE_METRICS = ("auc", "ap", "eer", "tpr_at_fpr1", "tpr_at_fpr05")
_CLASS_METRICS = ("precision", "recall", "f1", "precision_real", "recall_real", "f1_real")
THRESHOLD_METRICS = ("accuracy", "balanced_accuracy", *_CLASS_METRICS)
CALIBRATION_METRICS = ("brier", "log_loss", "ece")
METRICS = CURVE_METRICS + THRESHOLD_METRICS + CALIBRATION_METRICS

NUM_BINS = 15  # of the expected calibration error, as in Guo et al. (2017)
CLIP = 1e-7  # Keras' epsilon: float32 probabilities reach 0 and 1 exactly, where the log loss is infinite
TEMPERATURES = (0.05, 20.0)
_WEIGHTS_AT_ONCE = (
    25_000  # resamples × images held together: arrays that stay in the processor's cache
)


def compute(labels, scores, threshold: float = 0.5) -> dict[str, float]:
    """All metrics of one detector on one set of images.

    `eer` is the error rate where the straight-line ROC curve has as many false positives as false negatives (rates);
    `tpr_at_fpr1` and `tpr_at_fpr05` the highest true positive rate with at most 1 % and 0.5 % false positives; `ece`
    the expected calibration error over 15 bins of equal width (Guo et al., 2017, "On calibration of modern neural
    networks"). Precision, recall and F1 are those of fake, `…_real` those of real; nothing called, precision 0.

    Args:
        labels: `(N,)`, 0 (real) or 1 (fake), both present.
        scores: `(N,)`, probabilities of fake in `[0, 1]`.
        threshold: Scores of at least this are called fake.

    Returns:
        Name → value, for each of `METRICS`.

    Raises:
        ValueError: If the arrays are empty, of other shapes or values, or hold one class only.

    Example:
        >>> round(compute([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9])["auc"], 2)
        0.75
    """
    labels, scores = _checked_arrays(labels, scores)
    weighted = _WeightedMetrics(labels, scores, np.arange(len(labels)), threshold, METRICS)
    return {name: float(values[0]) for name, values in weighted(np.ones((1, len(labels)))).items()}


def estimate(
    labels,
    scores,
    groups,
    *,
    threshold: float = 0.5,
    num_resamples: int = 2000,
    seed: int = 0,
    names=METRICS,
) -> pd.DataFrame:
    """Metrics with 95 % intervals from a bootstrap that draws whole groups.

    Versions of one photograph share their fate, so images are no independent draws; groups are. They are drawn with
    replacement among those that hold only reals, only fakes, or both, so that each resample has both classes. The
    interval is the 2.5th to the 97.5th percentile.

    Args:
        labels: `(N,)`, 0 or 1, both present.
        scores: `(N,)`, in `[0, 1]`.
        groups: `(N,)`, the group of each image.
        threshold: Scores of at least this are called fake.
        num_resamples: How often groups are drawn.
        seed: Of the draws.
        names: The metrics wanted.

    Returns:
        One row a metric: `metric, value, ci_low, ci_high, num_real, num_fake`.

    Raises:
        ValueError: As `compute`; or if the groups are too few to draw from.
    """
    labels, scores = _checked_arrays(labels, scores)
    value, draws = _bootstrap(labels, scores, groups, threshold, num_resamples, seed, names)
    return _table(labels, value, draws, names)


def compare(
    labels, first, second, groups, *, num_resamples: int = 2000, seed: int = 0, names=("auc",)
) -> pd.DataFrame:
    """Differences first − second of two detectors on the same images, from a paired bootstrap over groups.

    Both are scored on the same resamples, so what makes a resample easy or hard for both cancels. Thresholds are 0.5.

    Returns:
        As `estimate`, `value` and interval being those of the difference.
    """
    labels, first = _checked_arrays(labels, first)
    _, second = _checked_arrays(labels, second)
    (value, draws), (other_value, other_draws) = (
        _bootstrap(labels, scores, groups, 0.5, num_resamples, seed, names)
        for scores in (first, second)
    )
    return _table(labels, value - other_value, draws - other_draws, names)


def delong(labels, first, second, groups=None) -> dict[str, float]:
    """DeLong's test of whether two detectors have the same AUC on the same images.

    DeLong, DeLong and Clarke-Pearson (1988), "Comparing the areas under two or more correlated receiver operating
    characteristic curves"; with `groups`, the extension to clustered data of Obuchowski (1997), "Nonparametric
    analysis of clustered ROC curve data".

    Args:
        labels: `(N,)`, 0 or 1.
        first: `(N,)`, one detector's scores.
        second: `(N,)`, the other's.
        groups: `(N,)`, the group of each image; `None` takes images as independent.

    Returns:
        `auc_first, auc_second, difference, standard_error, z, p_value` (two-sided).
    """
    labels, first = _checked_arrays(labels, first)
    _, second = _checked_arrays(labels, second)
    index, num_groups = _group_index(
        np.arange(len(labels)) if groups is None else groups, len(labels)
    )
    fake = labels == 1
    areas, pulls = [], []
    for scores in (first, second):
        # How often an image is on the right side of those of the other class, from ranks with ties at the middle.
        rank, within = stats.rankdata(scores), np.empty(len(scores))
        within[fake], within[~fake] = stats.rankdata(scores[fake]), stats.rankdata(scores[~fake])
        wins = np.where(fake, (rank - within) / (~fake).sum(), 1 - (rank - within) / fake.sum())
        areas.append(wins[fake].mean())
        pulls.append((wins - areas[-1]) / np.where(fake, fake.sum(), (~fake).sum()))
    pull = pulls[0] - pulls[1]
    of_class = [np.bincount(index, pull * chosen, num_groups) for chosen in (fake, ~fake)]
    num_of_class = [len(np.unique(index[chosen])) for chosen in (fake, ~fake)]
    if min(num_of_class) < 2:
        raise ValueError(
            f"Expected at least 2 groups with fakes and 2 with reals, received {num_of_class}."
        )
    variance = sum(
        count / (count - 1) * np.sum(part**2)
        for part, count in zip(of_class, num_of_class, strict=True)
    )
    variance += 2 * num_groups / (num_groups - 1) * np.sum(of_class[0] * of_class[1])
    difference, error = areas[0] - areas[1], np.sqrt(max(variance, 0.0))
    z = difference / error if error > 0 else np.copysign(np.inf, difference) if difference else 0.0
    return {
        "auc_first": float(areas[0]),
        "auc_second": float(areas[1]),
        "difference": float(difference),
        "standard_error": float(error),
        "z": float(z),
        "p_value": float(2 * stats.norm.sf(abs(z))),
    }


def rate(events, groups) -> dict[str, float]:
    """Share of the images on which something happens, with a 95 % interval that knows of groups.

    Wilson's interval (1927), in which as many images stand as independent ones would have the same variance (Korn and
    Graubard, 1998, "Confidence intervals for proportions with small expected number of positive counts estimated from
    survey data"). Where something happens always or never there is no variance to see, and images of one group count
    as copies. Images that are groups of their own give Wilson's interval as it is. A bootstrap of no event in
    59 images would say "exactly 0".

    Args:
        events: `(N,)`, `bool`.
        groups: `(N,)`, the group of each image.

    Returns:
        `value, ci_low, ci_high`.

    Raises:
        ValueError: If there are no images, or not a group for each.

    Example:
        >>> {name: round(value, 3) for name, value in rate([True, False, False, False], [1, 2, 3, 4]).items()}
        {'value': 0.25, 'ci_low': 0.046, 'ci_high': 0.699}
    """
    events = np.asarray(events)
    if events.dtype != bool or events.ndim != 1 or not len(events):
        raise ValueError(
            f"Expected events bool, (N,), N > 0; received {events.dtype}, {events.shape}."
        )
    index, num_groups = _group_index(groups, len(events))
    value, size, z = events.mean(), np.bincount(index), stats.norm.ppf(0.975)
    num = len(events) ** 2 / np.sum(size**2)
    if 0 < value < 1 and num_groups > 1:
        pull = np.bincount(index, events - value)
        num = value * (1 - value) * len(events) ** 2 / max(np.sum(pull**2), 1e-12)
    num = min(num, len(events))
    middle = (value + z**2 / (2 * num)) / (1 + z**2 / num)
    half = z / (1 + z**2 / num) * np.sqrt(value * (1 - value) / num + z**2 / (4 * num**2))
    return {
        "value": float(value),
        "ci_low": float(max(middle - half, 0)),
        "ci_high": float(min(middle + half, 1)),
    }


class _WeightedMetrics:
    """The metrics of one scored set for many weightings of its groups at once, with its scores sorted once."""

    def __init__(self, labels, scores, index, threshold, names):
        fake, called, clipped = labels == 1, scores >= threshold, np.clip(scores, CLIP, 1 - CLIP)
        log_loss = -np.log(np.where(fake, clipped, 1 - clipped))
        sums = np.column_stack(
            [fake, ~fake, fake & called, ~fake & called, (scores - labels) ** 2, log_loss]
        )
        # A bin's share of the calibration error is |sum of (label − score)| / N.
        gaps = np.zeros((len(labels), NUM_BINS))
        gaps[np.arange(len(labels)), np.minimum((scores * NUM_BINS).astype(int), NUM_BINS - 1)] = (
            labels - scores
        )
        self._sums = np.zeros((index.max() + 1, sums.shape[1] + NUM_BINS))
        np.add.at(self._sums, index, np.hstack([sums, gaps]))
        self._names, self._has_curve = tuple(names), bool(set(names) & set(CURVE_METRICS))
        order = np.argsort(-scores, kind="stable")
        self._index, self._fake = index[order], fake[order]
        self._block_ends = np.flatnonzero(
            np.append(np.diff(scores[order]) != 0, True)
        )  # equal scores: one block

    def __call__(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        """For `counts` `(R, num_groups)`, how often each group was drawn: name → values `(R,)`."""
        totals = (counts @ self._sums).T
        num_fake, num_real, true_fakes, false_fakes = totals[:4]
        num_images, true_reals = num_fake + num_real, num_real - false_fakes
        values = {
            "accuracy": (true_fakes + true_reals) / num_images,
            "balanced_accuracy": (true_fakes / num_fake + true_reals / num_real) / 2,
            "precision": true_fakes / np.maximum(true_fakes + false_fakes, 1),
            "recall": true_fakes / num_fake,
            "f1": 2 * true_fakes / (num_fake + true_fakes + false_fakes),
            "precision_real": true_reals / np.maximum(num_images - true_fakes - false_fakes, 1),
            "recall_real": true_reals / num_real,
            "f1_real": 2 * true_reals / (num_real + num_images - true_fakes - false_fakes),
            "brier": totals[4] / num_images,
            "log_loss": totals[5] / num_images,
            "ece": np.abs(totals[6:]).sum(axis=0) / num_images,
        }
        if self._has_curve:
            values |= self._curve(counts)
        return {name: values[name] for name in self._names}

    def _curve(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        """The metrics that follow from the ROC curve, whose corners are the ends of the blocks of equal scores."""
        weights = counts[:, self._index]
        images, fakes = np.zeros(
            (2, len(counts), len(self._block_ends) + 1)
        )  # called fake so far; from 0
        images[:, 1:] = np.cumsum(weights, axis=1)[:, self._block_ends]
        fakes[:, 1:] = np.cumsum(weights * self._fake, axis=1)[:, self._block_ends]
        reals = images - fakes
        num_fake, num_real = fakes[:, -1], reals[:, -1]
        fpr = reals / num_real[:, None]
        margin = (
            fpr + fakes / num_fake[:, None] - 1
        )  # false positive rate − false negative rate, from −1 to 1
        row, after = np.arange(len(counts)), np.argmax(margin >= 0, axis=1)
        low, high = margin[row, after - 1], margin[row, after]
        step = fpr[row, after] - fpr[row, after - 1]

        def recall_within(limit):
            allowed = np.floor(limit * num_real + 1e-9)  # whole images: 0.01 × 700 must be 7
            return fakes[row, (reals <= allowed[:, None]).sum(axis=1) - 1] / num_fake

        return {
            "auc": (np.diff(reals) * (fakes[:, 1:] + fakes[:, :-1])).sum(axis=1)
            / (2 * num_fake * num_real),
            "ap": (np.diff(fakes) * fakes[:, 1:] / np.maximum(images[:, 1:], 1)).sum(axis=1)
            / num_fake,
            "eer": fpr[row, after - 1] - low / (high - low) * step,
            "tpr_at_fpr1": recall_within(0.01),
            "tpr_at_fpr05": recall_within(0.005),
        }


def _bootstrap(labels, scores, groups, threshold, num_resamples, seed, names):
    """The metrics `(M,)` and their resamples `(R, M)`; the draws depend on labels, groups and seed only."""
    unknown = sorted(set(names) - set(METRICS))
    if unknown or not names:
        raise ValueError(
            f"There are no metrics named {unknown}; received {list(names)}, valid: {list(METRICS)}."
        )
    if num_resamples < 1:
        raise ValueError(f"Expected num_resamples of at least 1, received {num_resamples}.")
    index, num_groups = _group_index(groups, len(labels))
    weighted = _WeightedMetrics(labels, scores, index, threshold, names)
    chunks = _group_counts(labels, index, num_groups, num_resamples, seed)
    draws = pd.concat([pd.DataFrame(weighted(counts)) for counts in chunks])
    return pd.DataFrame(weighted(np.ones((1, num_groups)))).to_numpy()[0], draws.to_numpy()


def _group_counts(labels, index, num_groups, num_resamples, seed) -> Iterator[np.ndarray]:
    """How often each group is drawn, `(chunk, num_groups)` at a time; the same numbers however they are chunked."""
    holds_fake, holds_real = (
        np.bincount(index, labels == label, num_groups) > 0 for label in (1, 0)
    )
    kind = holds_fake + 2 * holds_real
    strata = [np.flatnonzero(kind == value) for value in (1, 2, 3) if (kind == value).any()]
    if max(map(len, strata)) < 2:
        raise ValueError(
            f"{num_groups} group(s) are too few for an interval: expected at least 2 with the same classes in them."
        )
    generator = np.random.default_rng(seed)
    chunk = max(1, _WEIGHTS_AT_ONCE // len(labels))
    for start in range(0, num_resamples, chunk):
        counts = np.zeros((min(chunk, num_resamples - start), num_groups))
        for row in counts:
            for stratum in strata:
                drawn = generator.integers(len(stratum), size=len(stratum))
                row[stratum] = np.bincount(drawn, minlength=len(stratum))
        yield counts


def _group_index(groups, num_images: int) -> tuple[np.ndarray, int]:
    """The groups as numbers from 0, and how many there are."""
    index, names = pd.factorize(np.asarray(groups))
    if len(index) != num_images or (index < 0).any():
        raise ValueError(
            f"Expected a group for each of the {num_images} images, received {len(index)}, {(index < 0).sum()} missing."
        )
    return index, len(names)


def _table(labels, value, draws, names) -> pd.DataFrame:
    """The rows that `estimate` and `compare` return."""
    low, high = np.quantile(draws, (0.025, 0.975), axis=0)
    table = pd.DataFrame({"metric": list(names), "value": value, "ci_low": low, "ci_high": high})
    return table.assign(num_real=int((labels == 0).sum()), num_fake=int((labels == 1).sum()))


def _checked_arrays(labels, scores) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores as arrays that a metric can be computed from; says what is wrong otherwise."""
    labels, scores = np.asarray(labels), np.asarray(scores, dtype="float64")
    if labels.ndim != 1 or labels.shape != scores.shape or not len(labels):
        raise ValueError(
            f"Expected labels and scores of one shape (N,), N > 0; received {labels.shape} and {scores.shape}."
        )
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(
            f"Expected labels 0 (real) and 1 (fake), received {np.unique(labels)[:5].tolist()}."
        )
    wrong = ~((scores >= 0) & (scores <= 1))
    if wrong.any():
        raise ValueError(
            f"Expected scores in [0, 1], received {wrong.sum()} of {len(scores)} others, {np.isnan(scores).sum()} of "
            f"them NaN; the first: {scores[wrong][0]}. Scores are probabilities of fake: apply the sigmoid first."
        )
    if len(np.unique(labels)) < 2:
        only = "fakes" if labels[0] else "reals"
        raise ValueError(
            f"Received {len(labels)} {only} and nothing else; metrics need both classes."
        )
    return labels.astype(int), scores


def choose_threshold(labels, scores) -> float:
    """The threshold of the highest balanced accuracy; choose it on the validation split.

    Every threshold between two neighbouring scores decides alike, so the midpoint is taken; where several gaps are
    equally good, the midpoint of the widest.

    Example:
        >>> choose_threshold([0, 0, 1, 1], [0.125, 0.25, 0.75, 0.875])
        0.5
    """
    labels, scores = _checked_arrays(labels, scores)
    highs, block = np.unique(scores, return_inverse=True)
    num_blocks, fake = len(highs), labels == 1
    # Cut k calls fake whatever scores highs[k] or more. Whole numbers, so that ties are exact.
    fakes_below, reals_below = (
        np.concatenate([[0], np.cumsum(np.bincount(block[chosen], minlength=num_blocks))[:-1]])
        for chosen in (fake, ~fake)
    )
    balanced = (fake.sum() - fakes_below) * (~fake).sum() + reals_below * fake.sum()
    lows = np.concatenate([[0.0], highs[:-1]])
    best = np.flatnonzero(balanced == balanced.max())
    best = best[np.argmax((highs - lows)[best])]
    middle = (lows[best] + highs[best]) / 2
    return float(
        middle if middle > lows[best] else highs[best]
    )  # neighbouring floats have no midpoint


def fit_temperature(labels, scores) -> float:
    """The temperature by which to divide the logits for the lowest log loss; fit it on the validation split.

    Guo et al. (2017). Searched in `[0.05, 20]`: on classes that a detector separates perfectly there is no minimum.
    """
    labels, scores = _checked_arrays(labels, scores)
    logits, sign = special.logit(np.clip(scores, CLIP, 1 - CLIP)), np.where(labels == 1, -1, 1)

    def loss(inverse):  # convex in the inverse of the temperature
        return np.logaddexp(0, sign * logits * inverse).mean()

    bounds = (1 / TEMPERATURES[1], 1 / TEMPERATURES[0])
    return float(
        1
        / optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-8}).x
    )


def apply_temperature(scores, temperature: float) -> np.ndarray:
    """The scores with their logits divided by the temperature: same order, other confidence."""
    return special.expit(
        special.logit(np.clip(np.asarray(scores, "float64"), CLIP, 1 - CLIP)) / temperature
    )
