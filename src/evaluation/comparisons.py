"""Comparisons from scores per image: differences, calibration, false alarms, subgroups.

Nothing is trained here. Everything at a threshold uses the one of the detector's card, chosen on
validation; tables hold the test split unless they say otherwise. Intervals are of 95 % and draw
whole groups. `scores` are those of one detector, as `results.read_scores` gives them.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from ..config import Study
from ..data import catalog, readers
from . import results
from .audit import file_traits
from .intervals import compare, rate
from .metrics import NUM_BINS, calibrated
from .results import TASK, model_id, read_scores, validation_rows

SIGNIFICANCE = 0.05
MIN_IMAGES = 10  # of each class in a subgroup
_MIN_GROUPS = 3  # that hold a class: then two have the same classes, and resamples can differ
_FALSE_POSITIVE_RATES = (0.01, 0.05)  # of `recall_by_generator`


def holm(p_values: Sequence[float]) -> np.ndarray:
    """P-values adjusted for their number; with probability 1 − α, none below α is a false alarm.

    Holm (1979), "A simple sequentially rejective multiple test procedure".

    Example:
        >>> holm([0.04, 0.01, 0.03]).round(3).tolist()
        [0.06, 0.03, 0.06]
    """
    ordered = pd.Series(np.asarray(p_values, float)).sort_values()
    scaled = ordered * np.arange(len(ordered), 0, -1)
    return scaled.cummax().clip(upper=1).sort_index().to_numpy()


def rank_agreement(values: pd.DataFrame) -> tuple[float, float]:
    """Whether test sets rank detectors alike: Kendall's W, and the p-value of Friedman's test.

    W is Friedman's statistic (corrected for ties) over its largest value: 1 where all test sets
    rank alike, about 1 / their number where ranks are chance. The p-value is of the chi-square
    approximation, cautious with so few sets; it takes the sets as independent and is too small for
    sets that share photographs. Kendall and Smith (1939), "The problem of m rankings".

    `values` are detectors × test sets, for example AUCs, without NaN. Both are NaN with fewer than
    three detectors or two test sets, or where no test set tells two detectors apart.
    """
    num_detectors, num_sets = values.shape
    if num_detectors < 3 or num_sets < 2 or (values.nunique() == 1).all():
        return np.nan, np.nan
    statistic, p_value = stats.friedmanchisquare(*values.to_numpy(float))
    return float(statistic) / (num_sets * (num_detectors - 1)), float(p_value)


def differences(study: Study, pairs: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """Which differences in AUC between detectors are significant, on every test set.

    All rows together are one family of tests. Choose the pairs before looking at test scores.

    Args:
        study: Whose scores; gives the test sets, `num_resamples` and the seed.
        pairs: Model ids, `(first, second)`. Where one detector has not scored some images (no face
            was found), both are compared on those that they have in common; if there are none,
            this is a `ValueError`.

    Returns:
        One row a pair and test set: `first, second, test_set, real_source`, the columns of
        `intervals.compare`, its values as `auc_first, auc_second, difference`, `p_adjusted` (Holm)
        and `significant` (the adjusted p-value is below 0.05).
    """
    pairs, rows = list(pairs), []
    scores = {name: read_scores(study, name) for pair in pairs for name in pair}
    options = {"num_resamples": study.num_resamples, "seed": study.seed}
    for first, second in pairs:
        for task in study.test_sets.items():
            frames = [scores[name][is_tested(scores[name], *task)] for name in (first, second)]
            if all(frame.empty for frame in frames):  # this set could not be had
                continue
            keys, suffixes = ["path", "label", "group"], ("_first", "_second")
            paired = pd.merge(*frames, on=keys, suffixes=suffixes, validate="one_to_one")
            if paired.empty:
                raise ValueError(
                    f"Expected {first} and {second} to have scored the same images of {task[0]!r}; "
                    f"received {len(frames[0])} and {len(frames[1])} test rows, none in common."
                )
            arrays = [paired[name] for name in ("label", "score_first", "score_second", "group")]
            row = {"first": first, "second": second, **dict(zip(TASK, task))}
            rows.append(row | compare(*arrays, **options).iloc[0].to_dict())
    if not rows:
        found = f"none of {pairs} has. Score both of a pair first"
        raise ValueError(f"Expected pairs with a common test set of {study.name!r}; {found}.")
    names = {"value": "difference", "value_first": "auc_first", "value_second": "auc_second"}
    table = pd.DataFrame(rows).rename(columns=names)
    table["p_adjusted"] = holm(table["p_value"])
    return table.assign(significant=table["p_adjusted"] < SIGNIFICANCE)


def protocol_differences(study: Study, models: Iterable[str]) -> pd.DataFrame:
    """As `differences`, of each model: `auc_controlled` minus `auc_report`."""
    pairs = [(model_id(model, "controlled"), model_id(model, "report")) for model in models]
    table = differences(study, pairs).drop(columns="second")
    table["first"] = table["first"].str.removesuffix("-controlled")
    names = {"first": "model", "auc_first": "auc_controlled", "auc_second": "auc_report"}
    return table.rename(columns=names)


def reliability(scores: pd.DataFrame, card: dict) -> pd.DataFrame:
    """How many images with a score around x are fake, before and after calibration.

    A row for each of `NUM_BINS` bins of equal width that holds images: `test_set, real_source,
    in_domain, calibrated` (after the card's calibration?), `bin` from 0, `mean_score, share_fake,
    num_images`. Tasks without fakes are left out.
    """
    tested, tables = scores[scores["split"] == "test"], []
    means = {"mean_score": ("score", "mean"), "share_fake": ("label", "mean")}
    for task, rows in tested.groupby(TASK, sort=False):
        if rows["label"].nunique() < 2:
            continue
        where = dict(zip(TASK, task)) | {"in_domain": task[0] in card["train_set"].split("+")}
        after = calibrated(rows["score"], card["slope"], card["intercept"])
        for is_calibrated, score in ((False, rows["score"].to_numpy()), (True, after)):
            number = np.minimum((score * NUM_BINS).astype(int), NUM_BINS - 1)
            table = rows.assign(score=score, bin=number).groupby("bin", as_index=False)
            table = table.agg(**means, num_images=("label", "size"))
            tables.append(table.assign(**where, calibrated=is_calibrated))
    return pd.concat(tables, ignore_index=True)


def calibration_errors(bins: pd.DataFrame) -> pd.DataFrame:
    """The expected calibration error of every test set of `reliability`, before and after.

    Returns `test_set, real_source, in_domain, num_images, ece, ece_calibrated, ece_by_chance`. With
    few images the error is never 0: each bin's share of fakes varies by chance. The last is the
    error that perfect probabilities would have (for a bin of n images with mean score p, √(2 p (1 −
    p) / (π n)) of the normal approximation).
    """
    gap = bins["num_images"] * (bins["mean_score"] - bins["share_fake"]).abs()
    spread = bins["mean_score"] * (1 - bins["mean_score"]) * bins["num_images"]
    table = bins.assign(gap=gap, chance=np.sqrt(2 / np.pi * spread))
    grouped = table.groupby([*TASK, "in_domain", "calibrated"], sort=False)
    sums = grouped[["num_images", "gap", "chance"]].sum().unstack("calibrated", sort=False)
    counts = sums["num_images"][False]
    table = {"num_images": counts, "ece": sums["gap"][False] / counts}
    table["ece_calibrated"] = sums["gap"][True] / counts
    table["ece_by_chance"] = sums["chance"][True] / counts
    return pd.DataFrame(table).reset_index()


def recall_by_generator(scores: pd.DataFrame) -> pd.DataFrame:
    """How many fakes of each generator are found: at 0.5, and at few false alarms on all reals.

    Few are 1 % and 5 % of the reals of all sources together. A rate needs so many reals that two
    decide, 200 for 1 %; else it is left out. The scores need `label, generator, group, score`.
    Returns a row a `rule` (`"threshold 0.5"`, `"1% false positives"`, …) and `generator`, with
    `threshold, false_positive_rate` (of these reals), `num_fake` and the columns of
    `intervals.rate`, which do not cover the chance in the threshold.
    """
    reals = np.sort(scores.loc[scores["label"] == 0, "score"].to_numpy())[::-1]
    fakes, table, thresholds = scores[scores["label"] == 1], [], {"threshold 0.5": 0.5}
    for allowed in _FALSE_POSITIVE_RATES:
        number = int(np.floor(allowed * len(reals) + 1e-9))  # whole images: 0.01 × 700 is 7
        if number >= 2:  # just above the first photograph that must not be called fake
            thresholds[f"{100 * allowed:g}% false positives"] = np.nextafter(reals[number], 2)
    for rule, threshold in thresholds.items():
        row = {"rule": rule, "threshold": threshold}
        row["false_positive_rate"] = (reals >= threshold).mean()
        for generator, rows in fakes.groupby("generator", sort=False):
            found = rate((rows["score"] >= threshold).to_numpy(), rows["group"])
            table.append(row | {"generator": generator, **found, "num_fake": len(rows)})
    return pd.DataFrame(table)


def false_alarms(scores: pd.DataFrame, card: dict) -> pd.DataFrame:
    """How often photographs of each source are called fake at the validation threshold.

    Each photograph counts once: as it was prepared for the training set, where it was, else as in
    the first test set that holds it. Returns `split, real_source, value, ci_low, ci_high,
    num_real`: first the validation photographs that helped to choose the threshold, then the test
    photographs of every source.
    """
    away = ~scores["test_set"].isin(card["train_set"].split("+"))
    tested = scores[scores["split"] == "test"].assign(away=away).sort_values("away", kind="stable")
    valid = validation_rows(scores, card["train_set"])
    reals = pd.concat([valid, tested]).query("label == 0").drop_duplicates(["split", "path"])
    table = []
    for (split, source), rows in reals.groupby(["split", "real_source"], sort=False):
        alarms = rate(rows["score"] >= card["threshold"], rows["group"])
        table.append({"split": split, "real_source": source, **alarms, "num_real": len(rows)})
    return pd.DataFrame(table)


def subgroups(
    study: Study, scores: pd.DataFrame, attributes: pd.DataFrame, card: dict, bounds: dict
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """AUC and false alarms of one detector on subgroups of test images: men, small faces, ….

    Args:
        study: Gives `num_resamples` and the seed; of its aligned fakes, and of `cropped_reals`,
            there are no subgroups.
        scores: Of the detector, like `card`.
        attributes: Indexed by `path`, a column an attribute; NaN where it is not known. A fake that
            the table lacks has the attributes of the photograph it was made from: the real one of
            its group with its file name.
        bounds: Column of numbers → where to cut it in two; NaN: nothing of it is known.

    Returns:
        Rows for `results.csv`, `auc@gender:female`, `fpr_at_threshold@gender:female`,
        `auc@face_size:<0.31`, …; and the subgroups skipped, `test_set, real_source, subgroup,
        num_real, num_fake`: those of unknown attribute (`gender:unknown`), and those with fewer
        than `MIN_IMAGES` of a class, or fewer than three groups with it.
    """
    left_out = scores["test_set"].isin(study.aligned)
    left_out |= scores["real_source"].isin(study.cropped_reals)
    scores = scores[(scores["split"] == "test") & ~left_out]
    values = _attributes_of(scores, attributes)
    names = ("auc", results.FALSE_ALARMS)
    found, skipped = [pd.DataFrame(columns=list(results.RESULT_COLUMNS))], []
    for name, column in values.items():
        if name in bounds:
            cut = f"{bounds[name]:.3g}"  # holds as it is written
            sides = np.where(column < float(cut), f"<{cut}", f">={cut}")
            known = column.notna() & np.isfinite(bounds[name])
            column = pd.Series(sides, column.index).where(known)
        column = column.astype("object").fillna("unknown").astype(str)
        for (*task, value), rows in scores.assign(value=column).groupby([*TASK, "value"]):
            classes = [rows[rows["label"] == label] for label in (0, 1)]
            counts = [len(part) for part in classes]
            num_groups = min(part["group"].nunique() for part in classes)
            subgroup = f"{name}:{value}"
            if min(counts) < MIN_IMAGES or num_groups < _MIN_GROUPS or value == "unknown":
                skipped.append((*task, subgroup, *counts))
            else:
                found.append(results.result_rows(study, rows, card, names, subgroup))
    skipped = pd.DataFrame(skipped, columns=[*TASK, "subgroup", "num_real", "num_fake"])
    return pd.concat(found[1:] or found, ignore_index=True), skipped


def is_tested(table: pd.DataFrame, test_set: str, real_source: str) -> pd.Series:
    """Which rows are those of the test split of one task."""
    is_task = (table["test_set"] == test_set) & (table["real_source"] == real_source)
    return is_task & (table["split"] == "test")


def _attributes_of(scores: pd.DataFrame, attributes: pd.DataFrame) -> pd.DataFrame:
    """The attributes of every row of `scores`; fakes without their own have their photograph's."""
    key = pd.MultiIndex.from_arrays([scores["group"], scores["path"].str.rsplit("/", n=1).str[-1]])
    own, is_fake = scores["path"].isin(attributes.index), scores["label"] == 1
    photographs = pd.Series(scores["path"].to_numpy(), key)[(own & ~is_fake).to_numpy()]
    photographs = photographs.groupby(level=[0, 1]).agg(["first", "nunique"])
    unique = photographs.loc[photographs["nunique"] == 1, "first"]  # of two, it is not known which
    path = scores["path"].where(own, unique.reindex(key).to_numpy())
    return attributes.reindex(path.where(own | is_fake)).set_index(scores.index)


def attributes(study: Study, records: pd.DataFrame, boxes: pd.DataFrame) -> pd.DataFrame:
    """What is known of the validation and test photographs beside their label, for `subgroups`.

    Indexed by `path`, real photographs only: `gender` (`"male"`, `"female"`), `colour` (`"grey"`,
    `"colour"`: of the file), `face_size` (share of the picture, by `boxes` from `faces.face_boxes`,
    or where they hold no face what the source says), `jpeg_quality` (estimated from its table); NaN
    where unknown.
    """
    table = catalog.tasks(records, study)
    wanted = table.loc[(table["label"] == "real") & (table["split"] != "train"), "path"]
    photographs = records[records["path"].isin(wanted)].set_index("path", drop=False)
    traits = file_traits(catalog.files(study, photographs))
    known = photographs[readers.BOX].astype(float)
    detected = boxes.drop_duplicates("path").set_index("path")[readers.BOX]
    found = detected.reindex(known.index).combine_first(known)
    columns = {
        "gender": photographs["gender"].replace("", np.nan),
        "colour": np.where(traits["channels"] == 1, "grey", "colour"),
        "face_size": (found["right"] - found["left"]) * (found["bottom"] - found["top"]),
        "jpeg_quality": traits["quality"].to_numpy(),
    }
    return pd.DataFrame(columns, index=photographs.index)
