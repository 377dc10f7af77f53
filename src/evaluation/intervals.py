"""Metrics with 95 % intervals over groups and seeds, and differences between detectors.

Versions of one photograph are alike, so images are not independent draws; groups are. A
bootstrap that draws whole groups gives the standard error. The interval is Student's t with as many
degrees of freedom as there are groups, less one, on the scale of the logit (of fractions), where it
cannot leave [0, 1]: percentiles of so few groups are too narrow.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import special, stats

from .metrics import CLIP, CURVE_METRICS, METRICS, check_arrays, group_index, weighted_metrics

# An interval of an AUC lies above or below chance if its two decimals do: where it ends at 0.501,
# another processor, with other last digits, may end it at 0.499.
ABOVE_CHANCE, BELOW_CHANCE = 0.505, 0.495
MIN_REALS = {"tpr_at_fpr1": 200, "tpr_at_fpr05": 400}  # with fewer, one image decides
_FLAT = 1e-6  # the digits of `results.csv`: scores of a class no further apart are one score
_WEIGHTS_AT_ONCE = 25_000  # resamples × images held together: they stay in the processor's cache


def estimate(
    labels, scores, groups, *, threshold=0.5, num_resamples=2000, seed=0, names=METRICS
) -> pd.DataFrame:
    """Metrics with intervals over groups and, for several trainings of a detector, over seeds.

    With several trainings the value is their mean. The variance of the mean over the trainings is
    added to the one over groups, with the degrees of freedom of Satterthwaite (1946), "An
    approximate distribution of estimates of variance components".

    Args:
        labels: `(N,)`, 0 or 1, both present.
        scores: `(N,)` in `[0, 1]`; or `(S, N)`, of S trainings.
        groups: `(N,)`, the group of each image; they are drawn `num_resamples` times.
        threshold: Scores of at least this are called fake.
        names: Some of `metrics.METRICS`.

    Returns:
        One row a metric: `metric, value, ci_low, ci_high, num_real, num_fake, num_groups`. Left
        out: `auc_within_group` without pairs, and a true positive rate with fewer reals than
        `MIN_REALS`. Other arrays, or too few groups to draw from, are a `ValueError`.
    """
    drawn = _drawn(labels, scores, groups, threshold, num_resamples, seed, names)
    value, error, df = drawn.spread()
    return drawn.table(value, *_interval(drawn.names, value, error, df, drawn.df + 1))


def compare(
    labels, first, second, groups, *, num_resamples=2000, seed=0, names=("auc",)
) -> pd.DataFrame:
    """Differences first − second of two detectors, with the p-value of no difference.

    Both are scored on the same resamples, so what makes a resample easy or hard for both cancels.
    Interval and p-value are of the same t-test and agree: the interval excludes 0 where the p-value
    is below 0.05. Thresholds are 0.5; arguments are as for `estimate`, of one training each. So is
    what is returned, but `value` and interval are those of the difference, and there are
    `value_first`, `value_second` and `p_value`.
    """
    options = (groups, 0.5, num_resamples, seed, names)
    first, second = (_drawn(labels, scores, *options) for scores in (first, second))
    both = replace(first, values=first.values - second.values, draws=first.draws - second.draws)
    value, error, df = both.spread()
    # Where no resample differs, each value of 0 or 1 may be off by the bound of `_interval`.
    num_groups = both.df + 1
    edges = sum(np.isin(part.values[0], (0, 1)).astype(int) for part in (first, second))
    edges = np.where(edges == 0, 2, edges)  # two groups
    unseen = edges * (1 - 0.025 ** (1 / num_groups))
    reach = np.where((error == 0) & (value != 0), unseen, stats.t.ppf(0.975, df) * error)
    with np.errstate(divide="ignore", invalid="ignore"):
        p_value = 2 * stats.t.sf(np.abs(value) / error, df)
    # Then p is where this bound would reach 0; of values of 1 and 0 it is a sign test's.
    certain = np.minimum(2 * np.clip(1 - np.abs(value) / edges, 0, 1) ** num_groups, 1)
    table = both.table(value, value - reach, value + reach)
    table = table.assign(value_first=first.values[0], value_second=second.values[0])
    return table.assign(p_value=np.where(error == 0, certain, p_value))


def difference(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """First − second of estimates on different images: `value, ci_low, ci_high` by their index.

    Zou and Donner (2008), "Construction of confidence limits about effect measures: a general
    approach". It takes the two as independent: of partly the same images it is too wide.
    """
    value = first["value"] - second["value"]
    below = [part["value"] - part["ci_low"] for part in (first, second)]
    above = [part["ci_high"] - part["value"] for part in (first, second)]
    low, high = value - np.hypot(below[0], above[1]), value + np.hypot(above[0], below[1])
    return pd.DataFrame({"value": value, "ci_low": low, "ci_high": high})


def mean(values, groups) -> dict[str, float]:
    """The mean of values `(N,)`: `value, ci_low, ci_high`, by Student's t over groups."""
    values = np.asarray(values, dtype="float64")
    index, value = group_index(groups, len(values)), values.mean()
    pulls = np.bincount(index, values - value)
    error = np.sqrt(len(pulls) / (len(pulls) - 1) * np.sum(pulls**2)) / len(values)
    reach = stats.t.ppf(0.975, len(pulls) - 1) * error
    return {"value": float(value), "ci_low": float(value - reach), "ci_high": float(value + reach)}


def rate(events, groups) -> dict[str, float]:
    """`value, ci_low, ci_high` of the share of the images `(N,)` on which a `bool` event happens.

    Wilson's interval (1927), with the number of independent images that would have the same
    variance over groups (Korn and Graubard, 1998, "Confidence intervals for proportions with small
    expected number of positive counts estimated from survey data"). Where something happens always
    or never there is no variance to see, and images of one group count as copies.
    """
    events = np.asarray(events)
    index = group_index(groups, len(events))
    value, size, z = events.mean(), np.bincount(index), stats.norm.ppf(0.975)
    num = len(events) ** 2 / np.sum(size**2)
    if 0 < value < 1 and len(size) > 1:
        pull = np.bincount(index, events - value)
        num = value * (1 - value) * len(events) ** 2 / max(np.sum(pull**2), 1e-12)
    num = min(num, len(events))
    middle = (value + z**2 / (2 * num)) / (1 + z**2 / num)
    half = z / (1 + z**2 / num) * np.sqrt(value * (1 - value) / num + z**2 / (4 * num**2))
    low, high = max(middle - half, 0), min(middle + half, 1)
    return {"value": float(value), "ci_low": float(low), "ci_high": float(high)}


@dataclass
class _Drawn:
    """Metrics of S trainings, and of their resamples: the same groups for each."""

    names: list[str]
    values: np.ndarray  # (S, M)
    draws: np.ndarray  # (R, M), of the mean over the trainings
    counts: dict  # num_real, num_fake, num_groups
    df: int  # groups of the scarcer class, less one

    def table(self, value, low, high) -> pd.DataFrame:
        columns = {"metric": self.names, "value": value, "ci_low": low, "ci_high": high}
        return pd.DataFrame(columns).assign(**self.counts)

    def spread(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean over the trainings, its standard error and degrees of freedom."""
        num_trainings, num_groups = len(self.values), self.counts["num_groups"]
        # Draws vary less than samples do, by the factor (groups − 1) / groups.
        total = np.nanvar(self.draws, axis=0, ddof=1) * num_groups / (num_groups - 1)
        shares = total**2 / self.df
        if num_trainings > 1:
            of_trainings = self.values.var(axis=0, ddof=1) / num_trainings
            total = total + of_trainings
            shares = shares + of_trainings**2 / (num_trainings - 1)
        df = np.divide(total**2, shares, out=np.full_like(total, self.df), where=shares > 0)
        return self.values.mean(axis=0), np.sqrt(total), df


def _drawn(labels, scores, groups, threshold, num_resamples, seed, names) -> _Drawn:
    trainings = np.atleast_2d(np.asarray(scores, "float64"))
    arrays = [check_arrays(labels, one) for one in trainings]
    labels = arrays[0][0]
    index = group_index(groups, len(labels))
    num_real, num_groups = int((labels == 0).sum()), index.max() + 1
    left_out = {name for name, least in MIN_REALS.items() if num_real < least}
    if not np.intersect1d(index[labels == 0], index[labels == 1]).size:
        left_out.add("auc_within_group")
    names = [name for name in names if name not in left_out]
    functions = [weighted_metrics(*each, index, threshold, names) for each in arrays]
    drawn_from = (part.astype(np.int64).tobytes() for part in (labels, index))
    drawn = _group_counts(*drawn_from, num_resamples, seed)
    chunk = max(1, _WEIGHTS_AT_ONCE // len(labels))
    chunks = (drawn[start : start + chunk].astype(float) for start in range(0, len(drawn), chunk))
    draws = [np.mean([function(each) for function in functions], axis=0) for each in chunks]
    draws = np.concatenate(draws)
    values = np.concatenate([function(np.ones((1, num_groups))) for function in functions])
    if max(np.ptp(trainings[:, labels == label], axis=1).max() for label in (0, 1)) < _FLAT:
        # Each class has one score: resamples change the shares of the classes alone, and ranks.
        draws = np.where(np.isin(names, CURVE_METRICS), draws, values.mean(axis=0))
    scarcer = min(len(np.unique(index[labels == label])) for label in (0, 1))
    counts = {"num_real": num_real, "num_fake": len(labels) - num_real, "num_groups": num_groups}
    return _Drawn(names, values, draws, counts, max(scarcer - 1, 1))


def _interval(names, value, error, df, num_groups) -> tuple[np.ndarray, np.ndarray]:
    """Student's t on the logit of fractions, on the logarithm of the log loss.

    Where no resample differs, the value may be off by the bound of Clopper and Pearson (1934) for
    no event in as many independent draws as there are groups, times the range of the metric.
    """
    reach = stats.t.ppf(0.975, df) * error
    fraction, inside = np.array(names) != "log_loss", (value > 0) & (value < 1)
    most = np.where(fraction, 1, -np.log(CLIP))
    factor = np.exp(reach / np.where(fraction, 1, value))
    middle = np.where(fraction & inside, value, 0.5)
    step = reach / (middle * (1 - middle))
    low = np.where(fraction, special.expit(special.logit(middle) - step), value / factor)
    high = np.where(fraction, special.expit(special.logit(middle) + step), value * factor)
    if num_groups < 3:  # too few for resamples to show a spread: the whole range
        return np.zeros_like(value), most
    unseen = most * (1 - 0.025 ** (1 / num_groups))
    edge = (error < 1e-12) | (fraction & ~inside)
    low, high = np.where(edge, value - unseen, low), np.where(edge, value + unseen, high)
    return low.clip(0), high.clip(max=most)


@lru_cache(maxsize=1)  # detectors and thresholds follow each other on the same images
def _group_counts(labels: bytes, index: bytes, num_resamples: int, seed: int) -> np.ndarray:
    """How often each group is drawn, `(num_resamples, num_groups)` `uint8`; of arrays `int64`."""
    labels, index = (np.frombuffer(part, np.int64) for part in (labels, index))
    num_groups = index.max() + 1
    has_fake, has_real = (np.bincount(index, labels == label, num_groups) > 0 for label in (1, 0))
    kind = has_fake + 2 * has_real
    strata = [np.flatnonzero(kind == value) for value in (1, 2, 3) if (kind == value).any()]
    if max(map(len, strata)) < 2:
        kinds = "2 groups with the same classes (real, fake or both)"
        raise ValueError(f"Expected at least {kinds}; received {num_groups} groups, all different.")
    generator, counts = np.random.default_rng(seed), np.zeros((num_resamples, num_groups), np.uint8)
    for row in counts:
        for stratum in strata:
            drawn = generator.integers(len(stratum), size=len(stratum))
            row[stratum] = np.bincount(drawn, minlength=len(stratum))
    return counts
