"""Tables of comparisons, from scores per image: which differences are real, who is accused, what breaks a detector.

Nothing is trained here. Everything at a threshold uses the one of the detector's card, chosen on validation; tables
hold the test split unless they say otherwise. Intervals are of 95 % and draw whole groups.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from ..config import Study
from ..data import catalog, readers
from .audit import file_traits
from .metrics import NUM_BINS, apply_temperature, compare, delong, rate
from .results import (
    FALSE_ALARMS,
    RESULT_COLUMNS,
    pair_scores,
    read_scores,
    result_rows,
    validation_rows,
)

SIGNIFICANCE = 0.05
MIN_IMAGES = 10  # of each class in a subgroup
_MIN_GROUPS = 3  # with a class in it: then some kind of group is there twice, and resamples differ


def holm(p_values: Sequence[float]) -> np.ndarray:
    """P-values adjusted for their number: of those below α none is a false alarm, with probability 1 − α.

    Holm (1979), "A simple sequentially rejective multiple test procedure".

    Example:
        >>> holm([0.04, 0.01, 0.03]).round(3).tolist()
        [0.06, 0.03, 0.06]
    """
    p_values = np.asarray(p_values, float)
    order, adjusted = np.argsort(p_values), np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1)).clip(
        max=1
    )
    return adjusted


def differences(study: Study, pairs: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """Which differences in AUC between detectors on the same images are real, on every test set of the study.

    All rows together are one family of tests. Choose the pairs before looking at test scores.

    Args:
        study: Whose scores; gives the test sets, `num_resamples` and the seed.
        pairs: Model ids, `(first, second)`. Where one detector has not scored some images (no face was found), both
            are compared on those that they have in common.

    Returns:
        One row a pair and test set: `first, second, test_set, real_source, auc_first, auc_second, difference` (first −
        second) with `ci_low, ci_high` from the paired bootstrap by group, `p_value` of DeLong's test by group,
        `p_adjusted` (Holm), `real` (the adjusted p-value is below 0.05 and the interval excludes 0), `num_real,
        num_fake`, and `num_left_out`, the images that only one of both has scored.

    Raises:
        FileNotFoundError: If a detector has no scores.
        ValueError: If there are no pairs, or two detectors share no test set.
    """
    pairs = list(pairs)
    names = {name for pair in pairs for name in pair}
    scores = {model_id: read_scores(study, model_id) for model_id in names}
    rows = []
    for first, second in pairs:
        for test_set, real_source in study.test_sets.items():
            frames = [
                frame[is_tested(frame, test_set, real_source)]
                for frame in (scores[first], scores[second])
            ]
            if all(frame.empty for frame in frames):  # this set could not be had
                continue
            paired = pair_scores(*frames, test_set, common=True)
            arrays = [paired[name] for name in ("label", "first", "second", "group")]
            interval = compare(*arrays, num_resamples=study.num_resamples, seed=study.seed).iloc[0]
            test = delong(*arrays)
            lot = {
                "first": first,
                "second": second,
                "test_set": test_set,
                "real_source": real_source,
            }
            values = {
                name: test[name] for name in ("auc_first", "auc_second", "difference", "p_value")
            }
            values |= interval[["ci_low", "ci_high", "num_real", "num_fake"]].to_dict()
            rows.append(lot | values | {"num_left_out": sum(map(len, frames)) - 2 * len(paired)})
    if not rows:
        raise ValueError(
            f"Expected pairs of detectors that share a test set of {study.name!r}, received {pairs}."
        )
    table = pd.DataFrame(rows)
    table["p_adjusted"] = holm(table["p_value"])
    apart = (table["ci_low"] > 0) | (table["ci_high"] < 0)
    table["real"] = apart & (table["p_adjusted"] < SIGNIFICANCE)
    what = [
        "auc_first",
        "auc_second",
        "difference",
        "ci_low",
        "ci_high",
        "p_value",
        "p_adjusted",
        "real",
    ]
    return table[
        [
            "first",
            "second",
            "test_set",
            "real_source",
            *what,
            "num_real",
            "num_fake",
            "num_left_out",
        ]
    ]


def protocol_differences(study: Study, models: Iterable[str]) -> pd.DataFrame:
    """What each detector gains or loses by the control: AUC under `controlled` minus `report`, on the same files.

    Args:
        study: As for `differences`.
        models: Names without protocol, for example `"VGG16_V3"`.

    Returns:
        As `differences`, with `model` in place of the pair, and `auc_controlled` and `auc_report`.
    """
    table = differences(study, [(f"{model}-controlled", f"{model}-report") for model in models])
    table["first"] = table["first"].str.removesuffix("-controlled")
    names = {"first": "model", "auc_first": "auc_controlled", "auc_second": "auc_report"}
    return table.drop(columns="second").rename(columns=names)


def reliability(scores: pd.DataFrame, card: dict, *, num_bins: int = NUM_BINS) -> pd.DataFrame:
    """How many of the images with a score around x are fake, before and after the card's temperature.

    Args:
        scores: As written by `evaluation.write_scores`, for one detector.
        card: `train_set` and `temperature`.
        num_bins: Bins of equal width between 0 and 1.

    Returns:
        One row a bin that holds images: `test_set, real_source, in_domain, calibrated` (after the temperature?),
        `bin` from 0, `mean_score, share_fake, num_images`. Photographs without fakes are left out.
    """
    tested = scores[scores["split"] == "test"]
    trained, tables = card["train_set"].split("+"), []
    for (test_set, real_source), lot in tested.groupby(["test_set", "real_source"], sort=False):
        if lot["label"].nunique() < 2:
            continue
        where = {"test_set": test_set, "real_source": real_source, "in_domain": test_set in trained}
        cooled = apply_temperature(lot["score"], card["temperature"])
        for calibrated, score in ((False, lot["score"].to_numpy()), (True, cooled)):
            number = np.minimum((score * num_bins).astype(int), num_bins - 1)
            bins = lot.assign(score=score, bin=number).groupby("bin", as_index=False)
            table = bins.agg(
                mean_score=("score", "mean"),
                share_fake=("label", "mean"),
                num_images=("label", "size"),
            )
            tables.append(table.assign(**where, calibrated=calibrated))
    columns = [
        "test_set",
        "real_source",
        "in_domain",
        "calibrated",
        "bin",
        "mean_score",
        "share_fake",
        "num_images",
    ]
    return pd.concat(tables, ignore_index=True)[columns]


def calibration_errors(bins: pd.DataFrame) -> pd.DataFrame:
    """The expected calibration error of every test set, before and after the temperature.

    Args:
        bins: From `reliability`.

    Returns:
        `test_set, real_source, in_domain, num_images, ece, ece_calibrated`; the errors are those of `metrics`.
    """
    gap = bins["num_images"] * (bins["mean_score"] - bins["share_fake"]).abs()
    keys = ["test_set", "real_source", "in_domain", "calibrated"]
    sums = (
        bins.assign(gap=gap)
        .groupby(keys, sort=False)[["num_images", "gap"]]
        .sum()
        .unstack("calibrated", sort=False)
    )
    errors = sums["gap"] / sums["num_images"]
    table = {
        "num_images": sums["num_images"][False],
        "ece": errors[False],
        "ece_calibrated": errors[True],
    }
    return pd.DataFrame(table).reset_index()


def false_alarms(scores: pd.DataFrame, card: dict) -> pd.DataFrame:
    """How often real photographs of each source are called fake at the threshold chosen on validation.

    Each photograph counts once: as it was prepared beside the fakes of the training set, where it was, else as in the
    first test set that holds it.

    Args:
        scores: As written by `evaluation.write_scores`, for one detector.
        card: `train_set` and `threshold`.

    Returns:
        `split, real_source, value, ci_low, ci_high, num_real`: first the validation photographs by which the threshold
        was chosen, then the test photographs of every source. Intervals are those of `metrics.rate`.
    """
    home = scores["test_set"].isin(card["train_set"].split("+"))
    tested = scores[scores["split"] == "test"].assign(away=~home).sort_values("away", kind="stable")
    valid = validation_rows(scores, card["train_set"])
    reals = pd.concat([valid, tested]).query("label == 0").drop_duplicates(["split", "path"])
    rows = []
    for (split, source), lot in reals.groupby(["split", "real_source"], sort=False):
        alarms = rate(lot["score"] >= card["threshold"], lot["group"])
        rows.append({"split": split, "real_source": source, **alarms, "num_real": len(lot)})
    return pd.DataFrame(rows)


def subgroups(
    study: Study,
    scores: pd.DataFrame,
    attributes: pd.DataFrame,
    card: dict,
    *,
    bounds: Mapping[str, float] | None = None,
    min_images: int = MIN_IMAGES,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """AUC and false alarms of one detector on subgroups of the test images: men and women, small faces and large.

    Args:
        study: Gives `num_resamples` and the seed.
        scores: As written by `evaluation.write_scores`, for one detector.
        attributes: Indexed by `path`, a column an attribute; NaN where it is not known. A fake that the table lacks has
            the attributes of the photograph it was made from: the real one of its group with its file name. Columns of
            numbers are cut in two.
        card: Of the detector.
        bounds: Column → where to cut it; else the median of the photographs of the validation split.
        min_images: Subgroups with fewer images of a class, or fewer than three groups with it, are skipped.

    Returns:
        Rows for `results.csv`, `auc@gender:female`, `fpr_at_threshold@gender:female`, `auc@face_size:<0.31`, …; and
        the subgroups skipped, `test_set, real_source, subgroup, num_real, num_fake`. Images whose attribute is not
        known are among the latter, as `gender:unknown`.

    Raises:
        ValueError: If no validation photograph has a number to find the median of, and there is no bound.
    """
    if attributes.index.has_duplicates:
        twice = attributes.index[attributes.index.duplicated()]
        raise ValueError(
            f"Expected each path once in attributes, received {len(twice)} twice, the first: {twice[0]}."
        )
    scores = scores.reset_index(drop=True)
    values = _attributes_of(scores, attributes)
    valid = validation_rows(scores, card["train_set"]).query("label == 0").index
    rows, skipped = [], []
    for name in attributes:
        column = values[name]
        if is_numeric_dtype(attributes[name]) and not is_bool_dtype(attributes[name]):
            column = column.astype(float)
            column = _cut(column, (bounds or {}).get(name, column[valid].median()))
        tested = scores.assign(value=column.astype("object").fillna("unknown").astype(str)).query(
            "split == 'test'"
        )
        for (test_set, source, value), lot in tested.groupby(["test_set", "real_source", "value"]):
            classes = [lot[lot["label"] == label] for label in (0, 1)]
            subgroup = f"{name}:{value}"
            few = (
                min(map(len, classes)) < min_images
                or min(part["group"].nunique() for part in classes) < _MIN_GROUPS
            )
            if few or value == "unknown":
                counts = {"num_real": len(classes[0]), "num_fake": len(classes[1])}
                skipped.append(
                    {"test_set": test_set, "real_source": source, "subgroup": subgroup, **counts}
                )
                continue
            rows.append(rows_under(study, lot, card, subgroup, ("auc", FALSE_ALARMS)))
    columns = ["test_set", "real_source", "subgroup", "num_real", "num_fake"]
    found = (
        pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=list(RESULT_COLUMNS))
    )
    return found, pd.DataFrame(skipped, columns=columns)


def is_tested(table: pd.DataFrame, test_set: str, real_source: str) -> pd.Series:
    """Which rows are those of the test split of one task."""
    return (
        (table["split"] == "test")
        & (table["test_set"] == test_set)
        & (table["real_source"] == real_source)
    )


def rows_under(
    study: Study, scores: pd.DataFrame, card: dict, condition: str, names: Sequence[str]
) -> pd.DataFrame:
    """A detector's rows of `results.csv` under a condition."""
    who = {key: card[key] for key in ("approach", "model", "protocol")}
    rows = result_rows(study, scores, **who, card=card, names=names)
    return rows.assign(metric=rows["metric"] + "@" + condition)


def _attributes_of(scores: pd.DataFrame, attributes: pd.DataFrame) -> pd.DataFrame:
    """The attributes of every row of `scores`; a fake that has none of its own has those of its photograph."""
    key = pd.MultiIndex.from_arrays([scores["group"], scores["path"].str.rsplit("/", n=1).str[-1]])
    own = scores["path"].isin(attributes.index).to_numpy()
    photographs = pd.DataFrame({"path": scores["path"].to_numpy()}, key)[
        own & (scores["label"] == 0).to_numpy()
    ]
    photographs = photographs.drop_duplicates()
    photographs = photographs[
        ~photographs.index.duplicated(keep=False)
    ]  # which of two it was, nobody knows
    path = photographs["path"].reindex(key).to_numpy()
    path = np.where(own, scores["path"], np.where(scores["label"] == 1, path, None))
    return attributes.reindex(path).set_index(scores.index)


def _cut(values: pd.Series, bound: float) -> pd.Series:
    """`"<0.31"` or `">=0.31"` for each number; the bound as it is written is the one that holds."""
    if np.isnan(bound):
        raise ValueError(
            f"No validation photograph has a {values.name!r}. Say in `bounds` where to cut it."
        )
    text = f"{bound:.3g}"
    return pd.Series(np.where(values < float(text), f"<{text}", f">={text}"), values.index).where(
        values.notna()
    )


def attributes(
    study: Study, records: pd.DataFrame, boxes: pd.DataFrame | None = None
) -> pd.DataFrame:
    """What is known of the validation and test photographs beside their label, for `comparisons.subgroups`.

    Args:
        study: Whose tasks.
        records: From `catalog.load`.
        boxes: From `faces.detect`; without it, or where it found no face, the size of a face is what the source says.

    Returns:
        Indexed by `path`, real photographs only: `gender` (`"male"`, `"female"`), `colour` (`"grey"`, `"colour"`: of
        the file), `face_size` (share of the picture), `jpeg_quality` (estimated from its table); NaN where unknown.
    """
    table = catalog.tasks(records, study)
    wanted = table.loc[(table["label"] == "real") & (table["split"] != "train"), "path"]
    photographs = records[records["path"].isin(wanted)].set_index("path", drop=False)
    traits = file_traits(catalog.files(study, photographs))
    found = photographs[readers.BOX].astype(float)
    if boxes is not None:
        found = (
            boxes.drop_duplicates("path")
            .set_index("path")[readers.BOX]
            .reindex(found.index)
            .combine_first(found)
        )
    return pd.DataFrame(
        {
            "gender": photographs["gender"].replace("", np.nan),
            "colour": np.where(traits["channels"] == 1, "grey", "colour"),
            "face_size": (found["right"] - found["left"]) * (found["bottom"] - found["top"]),
            "jpeg_quality": traits["quality"].to_numpy(),
        },
        index=photographs.index,
    )
