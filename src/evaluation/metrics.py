"""From labels and scores to numbers: metrics, intervals, comparisons, threshold, temperature.

Fake is 1 and the positive class; a score is the probability of fake; an image is called fake when
its score is at least the threshold.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

CURVE_METRICS = ("auc", "ap", "eer", "tpr_at_fpr1", "tpr_at_fpr05")
THRESHOLD_METRICS = ("accuracy", "balanced_accuracy", "precision", "recall", "f1")
THRESHOLD_METRICS += ("precision_real", "recall_real", "f1_real")
CALIBRATION_METRICS = ("brier", "log_loss", "ece")
METRICS = CURVE_METRICS + THRESHOLD_METRICS + CALIBRATION_METRICS

NUM_BINS = 15  # of the expected calibration error, as in Guo et al. (2017)
CLIP = 1e-7  # Keras' epsilon: float32 probabilities reach 0 and 1, where the log loss is infinite
TEMPERATURES = (0.05, 20.0)
_WEIGHTS_AT_ONCE = 25_000  # resamples × images held together: they stay in the processor's cache


def compute(labels, scores, threshold: float = 0.5) -> dict[str, float]:
    """All metrics of one detector on one set of images.

    `eer` is the error rate where the straight-line ROC curve has equal rates of both errors;
    `tpr_at_fpr1` and `tpr_at_fpr05` the highest true positive rate with at most 1 % and 0.5 % false
    positives; `ece` the expected calibration error (Guo et al., 2017, "On calibration of modern
    neural networks"). Precision, recall and F1 are those of fake, `…_real` those of real.

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
    weighted = _weighted_metrics(labels, scores, np.arange(len(labels)), threshold, METRICS)
    return dict(zip(METRICS, weighted(np.ones((1, len(labels))))[0].tolist()))


def estimate(
    labels, scores, groups, *, threshold=0.5, num_resamples=2000, seed=0, names=METRICS
) -> pd.DataFrame:
    """Metrics with 95 % intervals (percentiles) from a bootstrap that draws whole groups.

    Groups are drawn among those that hold only reals, only fakes, or both, so that each resample
    has both classes.

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
    found = _bootstrap(labels, scores, groups, threshold, num_resamples, seed, names)
    return _table(labels, *found, names)


def compare(labels, first, second, groups, *, num_resamples=2000, seed=0) -> pd.DataFrame:
    """The difference in AUC, first − second, of two detectors, from a paired bootstrap over groups.

    Args and returns are those of `estimate`, `value` and interval those of the difference.
    """
    (value, draws), (other_value, other_draws) = (
        _bootstrap(labels, scores, groups, 0.5, num_resamples, seed, ["auc"])
        for scores in (first, second)
    )
    return _table(labels, value - other_value, draws - other_draws, ["auc"])


def bootstrap_mean(values, groups, *, num_resamples=2000, seed=0) -> dict[str, float]:
    """The mean of values, with a 95 % interval from a bootstrap that draws whole groups.

    Calls with the same groups and seed draw the same resamples.

    Args:
        values: `(N,)`, one for each image.
        groups: `(N,)`, the group of each image; at least two.
        num_resamples: How often groups are drawn.
        seed: Of the draws.

    Returns:
        `value, ci_low, ci_high`.
    """
    values = np.asarray(values, dtype="float64")
    index, num_groups = _group_index(groups, len(values))
    sums, sizes = np.bincount(index, values), np.bincount(index)
    chunks = _group_counts(np.zeros(len(values)), index, num_groups, num_resamples, seed)
    draws = np.concatenate([(counts @ sums) / (counts @ sizes) for counts in chunks])
    low, high = np.quantile(draws, (0.025, 0.975))
    return {"value": float(values.mean()), "ci_low": float(low), "ci_high": float(high)}


def delong(labels, first, second, groups) -> dict[str, float]:
    """DeLong's test of whether two detectors have the same AUC on the same images, by group.

    DeLong, DeLong and Clarke-Pearson (1988), "Comparing the areas under two or more correlated
    receiver operating characteristic curves", extended to clustered data by Obuchowski (1997),
    "Nonparametric analysis of clustered ROC curve data".

    Args:
        labels: `(N,)`, 0 or 1.
        first: `(N,)`, one detector's scores.
        second: `(N,)`, the other's.
        groups: `(N,)`, the group of each image.

    Returns:
        `auc_first, auc_second, difference, standard_error, p_value` (two-sided).

    Raises:
        ValueError: As `compute`; or if a class has fewer than 2 groups.
    """
    labels, first = _checked_arrays(labels, first)
    _, second = _checked_arrays(labels, second)
    index, num_groups = _group_index(groups, len(labels))
    fake, areas, pulls = labels == 1, [], []
    for scores in (first, second):
        # How often an image is on the right side of those of the other class, from mid-ranks.
        rank, within = stats.rankdata(scores), np.empty(len(scores))
        within[fake], within[~fake] = stats.rankdata(scores[fake]), stats.rankdata(scores[~fake])
        wins = np.where(fake, (rank - within) / (~fake).sum(), 1 - (rank - within) / fake.sum())
        areas.append(wins[fake].mean())
        pulls.append((wins - areas[-1]) / np.where(fake, fake.sum(), (~fake).sum()))
    pull, variance, of_class = pulls[0] - pulls[1], 0.0, []
    for chosen in (fake, ~fake):
        num = len(np.unique(index[chosen]))
        if num < 2:
            raise ValueError(f"Expected at least 2 groups with each class; one has {num}.")
        of_class.append(np.bincount(index, pull * chosen, num_groups))
        variance += num / (num - 1) * np.sum(of_class[-1] ** 2)
    variance += 2 * num_groups / (num_groups - 1) * np.sum(of_class[0] * of_class[1])
    difference, error = areas[0] - areas[1], np.sqrt(max(variance, 0.0))
    z = difference / error if error > 0 else np.inf if difference else 0.0
    found = {"auc_first": areas[0], "auc_second": areas[1], "difference": difference}
    found |= {"standard_error": error, "p_value": 2 * stats.norm.sf(abs(z))}
    return {name: float(value) for name, value in found.items()}


def rate(events, groups) -> dict[str, float]:
    """Share of the images on which something happens, with a 95 % interval that knows of groups.

    Wilson's interval (1927), with the number of independent images that would have the same
    variance (Korn and Graubard, 1998, "Confidence intervals for proportions with small expected
    number of positive counts estimated from survey data"). Where something happens always or never
    there is no variance to see, and images of one group count as copies.

    Args:
        events: `(N,)`, `bool`.
        groups: `(N,)`, the group of each image.

    Returns:
        `value, ci_low, ci_high`.

    Raises:
        ValueError: If there are no images, or not a group for each.
    """
    events = np.asarray(events)
    if events.dtype != bool or events.ndim != 1 or not len(events):
        received = f"{events.dtype}, {events.shape}"
        raise ValueError(f"Expected events bool, (N,), N > 0; received {received}.")
    index, num_groups = _group_index(groups, len(events))
    value, size, z = events.mean(), np.bincount(index), stats.norm.ppf(0.975)
    num = len(events) ** 2 / np.sum(size**2)
    if 0 < value < 1 and num_groups > 1:
        pull = np.bincount(index, events - value)
        num = value * (1 - value) * len(events) ** 2 / max(np.sum(pull**2), 1e-12)
    num = min(num, len(events))
    middle = (value + z**2 / (2 * num)) / (1 + z**2 / num)
    half = z / (1 + z**2 / num) * np.sqrt(value * (1 - value) / num + z**2 / (4 * num**2))
    low, high = max(middle - half, 0), min(middle + half, 1)
    return {"value": float(value), "ci_low": float(low), "ci_high": float(high)}


def choose_threshold(labels, scores) -> float:
    """The threshold of the highest balanced accuracy; choose it on the validation split.

    It lies in the middle of a gap between two scores, of several equally good ones in the widest.
    """
    labels, scores = _checked_arrays(labels, scores)
    highs, num_fake = np.unique(scores), labels.sum()
    fakes_below, reals_below = (
        np.searchsorted(np.sort(scores[labels == label]), highs) for label in (1, 0)
    )
    # Cut k calls fake whatever scores highs[k] or more. Whole numbers, so that ties are exact.
    balanced = (num_fake - fakes_below) * (len(labels) - num_fake) + reals_below * num_fake
    lows = np.append(0.0, highs[:-1])
    best = np.flatnonzero(balanced == balanced.max())
    best = best[np.argmax((highs - lows)[best])]
    middle = (lows[best] + highs[best]) / 2
    return float(middle if middle > lows[best] else highs[best])  # neighbouring floats have none


def fit_temperature(labels, scores) -> float:
    """The temperature that divides logits for the lowest log loss; fit it on validation.

    Guo et al. (2017). Bounded: on classes perfectly separated there is no minimum.
    """
    labels, scores = _checked_arrays(labels, scores)
    logits, sign = special.logit(np.clip(scores, CLIP, 1 - CLIP)), np.where(labels == 1, -1, 1)

    def loss(inverse):  # convex in the inverse of the temperature
        return np.logaddexp(0, sign * logits * inverse).mean()

    bounds = (1 / TEMPERATURES[1], 1 / TEMPERATURES[0])
    return float(1 / optimize.minimize_scalar(loss, bounds=bounds, options={"xatol": 1e-8}).x)


def apply_temperature(scores, temperature: float) -> np.ndarray:
    """The scores with their logits divided by the temperature: same order, other confidence."""
    scores = np.clip(np.asarray(scores, "float64"), CLIP, 1 - CLIP)
    return special.expit(special.logit(scores) / temperature)


def _weighted_metrics(labels, scores, index, threshold, names) -> Callable:
    """The function from `counts` `(R, num_groups)` of the groups drawn to metrics `(R, M)`."""
    fake, called, clipped = labels == 1, scores >= threshold, np.clip(scores, CLIP, 1 - CLIP)
    log_loss = -np.log(np.where(fake, clipped, 1 - clipped))
    sums = [fake, ~fake, fake & called, ~fake & called, (scores - labels) ** 2, log_loss]
    # A bin's share of the calibration error is |sum of (label − score)| / N.
    gaps = np.zeros((len(labels), NUM_BINS))
    bins = np.minimum((scores * NUM_BINS).astype(int), NUM_BINS - 1)
    gaps[np.arange(len(labels)), bins] = labels - scores
    group_sums = np.zeros((index.max() + 1, len(sums) + NUM_BINS))
    np.add.at(group_sums, index, np.column_stack([*sums, gaps]))
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # of blocks of equal scores

    def weighted(counts: np.ndarray) -> np.ndarray:
        totals = (counts @ group_sums).T
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
        if set(names) & set(CURVE_METRICS):
            values |= _curve_metrics(counts[:, index[order]], fake[order], ends)
        return np.column_stack([values[name] for name in names])

    return weighted


def _curve_metrics(weights, is_fake, ends) -> dict[str, np.ndarray]:
    """The metrics of ROC curves from weights `(R, N)` by falling score, and where ties end."""
    images, fakes = np.zeros((2, len(weights), len(ends) + 1))  # called fake so far; from 0
    images[:, 1:] = np.cumsum(weights, axis=1)[:, ends]
    fakes[:, 1:] = np.cumsum(weights * is_fake, axis=1)[:, ends]
    reals = images - fakes
    num_fake, num_real = fakes[:, -1], reals[:, -1]
    fpr = reals / num_real[:, None]
    margin = fpr + fakes / num_fake[:, None] - 1  # false positive − false negative rate, −1 to 1
    row, after = np.arange(len(weights)), np.argmax(margin >= 0, axis=1)
    low, high = margin[row, after - 1], margin[row, after]
    step = fpr[row, after] - fpr[row, after - 1]
    area = (np.diff(reals) * (fakes[:, 1:] + fakes[:, :-1])).sum(axis=1)
    precision = fakes[:, 1:] / np.maximum(images[:, 1:], 1)

    def recall_within(limit):
        allowed = np.floor(limit * num_real + 1e-9)  # whole images: 0.01 × 700 must be 7
        return fakes[row, (reals <= allowed[:, None]).sum(axis=1) - 1] / num_fake

    return {
        "auc": area / (2 * num_fake * num_real),
        "ap": (np.diff(fakes) * precision).sum(axis=1) / num_fake,
        "eer": fpr[row, after - 1] - low / (high - low) * step,
        "tpr_at_fpr1": recall_within(0.01),
        "tpr_at_fpr05": recall_within(0.005),
    }


def _bootstrap(labels, scores, groups, threshold, num_resamples, seed, names):
    """Metrics `(M,)` and resamples `(R, M)`; draws depend on labels, groups and seed only."""
    labels, scores = _checked_arrays(labels, scores)
    index, num_groups = _group_index(groups, len(labels))
    weighted = _weighted_metrics(labels, scores, index, threshold, names)
    chunks = _group_counts(labels, index, num_groups, num_resamples, seed)
    draws = np.concatenate([weighted(counts) for counts in chunks])
    return weighted(np.ones((1, num_groups)))[0], draws


def _group_counts(labels, index, num_groups, num_resamples, seed) -> Iterator[np.ndarray]:
    """How often each group is drawn, `(chunk, num_groups)` at a time; the same for any chunk."""
    has_fake, has_real = (np.bincount(index, labels == label, num_groups) > 0 for label in (1, 0))
    kind = has_fake + 2 * has_real
    strata = [np.flatnonzero(kind == value) for value in (1, 2, 3) if (kind == value).any()]
    if max(map(len, strata)) < 2:
        raise ValueError(f"Expected at least 2 groups with the same classes, of {num_groups}.")
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
        received = f"{len(index)}, {(index < 0).sum()} missing"
        raise ValueError(f"Expected a group for each of {num_images} images; received {received}.")
    return index, len(names)


def _table(labels, value, draws, names) -> pd.DataFrame:
    """The rows that `estimate` and `compare` return."""
    low, high = np.quantile(draws, (0.025, 0.975), axis=0)
    table = pd.DataFrame({"metric": list(names), "value": value, "ci_low": low, "ci_high": high})
    num_fake = int(np.sum(labels))
    return table.assign(num_real=len(labels) - num_fake, num_fake=num_fake)


def check_labels(labels, values) -> np.ndarray:
    """Labels `(N,)` as integers; raises unless there are N values, and both classes."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or len(values) != len(labels):
        raise ValueError(f"Expected labels (N,), N = {len(values)}; received {labels.shape}.")
    if not np.isin(labels, (0, 1)).all():
        received = pd.unique(labels)[:5].tolist()
        raise ValueError(f"Expected labels 0 (real) and 1 (fake), received {received}.")
    num_fake = int(labels.sum())
    if not 0 < num_fake < len(labels):
        received = f"{len(labels) - num_fake} real and {num_fake} fake"
        raise ValueError(f"Both classes are needed; received {received}.")
    return labels.astype(int)


def _checked_arrays(labels, scores) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores as arrays that a metric can be computed from; raises otherwise."""
    scores = np.asarray(scores, dtype="float64")
    wrong = ~((scores >= 0) & (scores <= 1))
    if scores.ndim != 1 or wrong.any():
        raise ValueError(
            f"Expected scores (N,) in [0, 1], received {scores.shape}, {wrong.sum()} of them "
            f"others, {np.isnan(scores).sum()} NaN. Apply the sigmoid first."
        )
    return check_labels(labels, scores), scores
