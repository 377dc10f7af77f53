"""From labels and scores to numbers: metrics, threshold, calibration.

Fake is 1 and the positive class; a score is the probability of fake; an image is called fake when
its score is at least the threshold.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import special
from sklearn.linear_model import LogisticRegression

CURVE_METRICS = ("auc", "auc_within_group", "ap", "eer", "tpr_at_fpr1", "tpr_at_fpr05")
_CLASS_METRICS = ("precision", "recall", "f1", "precision_real", "recall_real", "f1_real")
THRESHOLD_METRICS = ("accuracy", "balanced_accuracy", *_CLASS_METRICS)
CALIBRATION_METRICS = ("brier", "log_loss", "ece")
METRICS = CURVE_METRICS + THRESHOLD_METRICS + CALIBRATION_METRICS

NUM_BINS = 15  # of the expected calibration error, as in Guo et al. (2017)
BAND_ERROR = 0.05  # of each class may get the other's verdict, on pictures like validation's
CLIP = 1e-7  # Keras' epsilon: float32 probabilities reach 0 and 1, where the log loss is infinite


def choose_threshold(labels, scores) -> float:
    """The threshold of the highest balanced accuracy; choose it on the validation split.

    Every threshold between two neighbouring scores decides alike, so the midpoint is taken; where
    several gaps are equally good, the midpoint of the widest. Above all scores, nothing is called
    fake.

    Example:
        >>> choose_threshold([0, 0, 1, 1], [0.125, 0.25, 0.75, 0.875])
        0.5
    """
    labels, scores = check_arrays(labels, scores)
    # Each of `highs` is tried as the threshold. `balanced` is in whole numbers: ties are exact.
    highs = np.append(np.unique(scores), np.nextafter(max(1.0, scores.max()), 2))
    lows, fakes, reals = np.append(0.0, highs[:-1]), scores[labels == 1], scores[labels == 0]
    fakes_below, reals_below = (np.searchsorted(np.sort(part), highs) for part in (fakes, reals))
    balanced = (len(fakes) - fakes_below) * len(reals) + reals_below * len(fakes)
    best = np.flatnonzero(balanced == balanced.max())
    best = best[np.argmax((highs - lows)[best])]
    middle = (lows[best] + highs[best]) / 2
    return float(middle if middle > lows[best] else highs[best])  # neighbouring floats have none


def fit_calibration(labels, scores) -> dict[str, float]:
    """`slope` and `intercept` on the logit of the scores; fit them on validation.

    Platt (1999), "Probabilistic outputs for support vector machines", with his smoothed targets, so
    that they are finite on classes that a detector separates perfectly.
    """
    labels, scores = check_arrays(labels, scores)
    num_fake, num_real = (labels == 1).sum(), (labels == 0).sum()
    target = np.where(labels == 1, (num_fake + 1) / (num_fake + 2), 1 / (num_real + 2))
    logits = np.tile(_logits(scores), 2)[:, None]
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)
    model.fit(logits, np.repeat([1, 0], len(scores)), np.append(target, 1 - target))
    return {"slope": float(model.coef_[0, 0]), "intercept": float(model.intercept_[0])}


def calibrated(scores, slope: float, intercept: float) -> np.ndarray:
    """The scores as probabilities, after `fit_calibration`; a slope above 0 keeps their order."""
    return special.expit(slope * _logits(scores) + intercept)


def conformal_band(labels: np.ndarray, probability: np.ndarray) -> tuple[float, float]:
    """Two bounds: fakes are seldom below the first, photographs seldom above the second.

    Of new fakes drawn like these at most `BAND_ERROR` lie below the first, of new photographs above
    the second: conformal prediction by class (Vovk et al., "Algorithmic learning in a random
    world", 2005). With too few pictures to say so, a bound is 0 or 1.

    Example:
    >>> conformal_band(np.repeat([0, 1], 99), np.tile(np.arange(99) / 100, 2))
    (0.04, 0.94)
    """
    real, fake = (np.sort(probability[labels == label]) for label in (0, 1))
    num_fake, num_real = (int(BAND_ERROR * (len(part) + 1)) for part in (fake, real))
    low, high = fake[num_fake - 1] if num_fake else 0, real[-num_real] if num_real else 1
    return float(low), float(high)


def _logits(scores) -> np.ndarray:
    return special.logit(np.clip(np.asarray(scores, "float64"), CLIP, 1 - CLIP))


def weighted_metrics(labels, scores, index, threshold, names) -> Callable:
    """The metrics for many weightings of the groups at once, the scores sorted once.

    `auc` compares fakes with the reals of *other* groups: against the photograph that it was made
    from, a slightly different fake always wins or always loses. `auc_within_group` is the share of
    fakes that are above a real image of their own group (NaN where no group has both). `eer` is the
    error rate where the straight-line ROC curve has equal rates of false positives and false
    negatives; `tpr_at_fpr1` and `tpr_at_fpr05` are the highest true positive rates with at most 1 %
    and 0.5 % false positives; `ece` is the expected calibration error over bins of equal width (Guo
    et al., 2017, "On calibration of modern neural networks"). Precision, recall and F1 are those of
    fake, `…_real` those of real; if nothing is called so, precision is 0.

    Args:
        labels: `(N,)`, with `scores` from `check_arrays`; `index` from `group_index`.
        names: Some of `METRICS`.

    Returns:
        A function from `counts` `(R, num_groups)`, how often each group was drawn, to values `(R,
        num_names)`.
    """
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
    wins, pairs = pairs_within_groups(labels, scores, index)

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
            with np.errstate(invalid="ignore"):  # no pairs of the kind: NaN
                own = counts**2 @ pairs
                values["auc"] = (values["area"] - counts**2 @ wins) / (num_fake * num_real - own)
                values["auc_within_group"] = (counts @ wins) / (counts @ pairs)
        return np.column_stack([values[name] for name in names])

    return weighted


def pairs_within_groups(labels, scores, index) -> tuple[np.ndarray, np.ndarray]:
    """Of each group: pairs of a fake and a real in which the fake is higher, and all pairs."""
    num_images, fake = len(labels), labels == 1
    places = index * num_images + np.unique(scores, return_inverse=True)[1]  # by group, then score
    reals, groups = np.sort(places[~fake]), index[fake]
    first, last = np.searchsorted(reals, [groups * num_images, (groups + 1) * num_images])
    below, up_to = (np.searchsorted(reals, places[fake], side) for side in ("left", "right"))
    wins = (below + up_to) / 2 - first  # a tie is half a win
    return tuple(np.bincount(groups, each, index.max() + 1) for each in (wins, last - first))


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
        "area": area / 2,  # pairs of a fake and a real in which the fake is higher
        "ap": (np.diff(fakes) * precision).sum(axis=1) / num_fake,
        "eer": fpr[row, after - 1] - low / (high - low) * step,
        "tpr_at_fpr1": recall_within(0.01),
        "tpr_at_fpr05": recall_within(0.005),
    }


def group_index(groups, num_images: int) -> np.ndarray:
    """The groups as numbers from 0, `(num_images,)`; raises unless there is one for each image."""
    index = pd.factorize(np.asarray(groups))[0]
    if len(index) != num_images or (index < 0).any():
        received = f"{len(index)}, {(index < 0).sum()} missing"
        raise ValueError(f"Expected a group for each of {num_images} images; received {received}.")
    return index


def check_labels(labels, values) -> np.ndarray:
    """Labels `(N,)` as integers; raises unless there are N values, and both classes."""
    labels, shape = np.asarray(labels), (len(values),)
    if labels.shape != shape or set(pd.unique(labels)) != {0, 1}:
        received = f"{labels.shape} of {pd.unique(labels.ravel())[:5].tolist()}"
        raise ValueError(f"Expected labels {shape}, 0 (real) and 1 (fake), received {received}.")
    return labels.astype(int)


def check_arrays(labels, scores) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores as arrays that a metric can be computed from; raises otherwise."""
    scores = np.asarray(scores, dtype="float64")
    wrong = ~((scores >= 0) & (scores <= 1))
    if scores.ndim != 1 or wrong.any():
        received = f"shape {scores.shape}, {wrong.sum()} outside [0, 1] or NaN"
        raise ValueError(f"Expected scores (N,) in [0, 1]; received {received}.")
    return check_labels(labels, scores), scores
