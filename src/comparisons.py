"""Tables of comparisons, from scores per image: which differences are real, who is accused, what breaks a detector.

Nothing is trained here. Everything at a threshold uses the one of the detector's card, chosen on validation; tables
hold the test split unless they say otherwise. Intervals are of 95 % and draw whole groups.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from . import catalog, evaluation, faces, steps, training
from .batches import Batches
from .config import Study
from .decoding import read
from .metrics import NUM_BINS
from .progress import progress

SIGNIFICANCE = 0.05
MIN_IMAGES = 10  # of each class in a subgroup
_MIN_GROUPS = 3  # with a class in it: then some kind of group is there twice, and resamples differ

# Beside DeepFakeFace's four families.
_MORE_DEGRADATIONS = {
    "jpeg": tuple(f"jpeg:{quality}" for quality in (90, 80, 70, 60, 50, 40, 30)),
    "noise": ("noise:2", "noise:5", "noise:10", "noise:20"),
    "downscale": ("downscale:1.5", "downscale:2", "downscale:3", "downscale:4"),
}
_BYTES_AT_ONCE = 128 << 20


def holm(p_values: Sequence[float]) -> np.ndarray:
    """P-values adjusted for their number: of those below α none is a false alarm, with probability 1 − α.

    Holm (1979), "A simple sequentially rejective multiple test procedure".

    Example:
        >>> holm([0.04, 0.01, 0.03]).round(3).tolist()
        [0.06, 0.03, 0.06]
    """
    p_values = np.asarray(p_values, float)
    order, adjusted = np.argsort(p_values), np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1)).clip(max=1)
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
    scores = {model_id: evaluation.read_scores(study, model_id) for model_id in names}
    rows = []
    for first, second in pairs:
        for test_set, real_source in study.test_sets.items():
            frames = [frame[_is_tested(frame, test_set, real_source)] for frame in (scores[first], scores[second])]
            if all(frame.empty for frame in frames):  # this set could not be had
                continue
            paired = evaluation.pair_scores(*frames, test_set, common=True)
            arrays = [paired[name] for name in ("label", "first", "second", "group")]
            interval = evaluation.compare(*arrays, num_resamples=study.num_resamples, seed=study.seed).iloc[0]
            test = evaluation.delong(*arrays)
            lot = {"first": first, "second": second, "test_set": test_set, "real_source": real_source}
            values = {name: test[name] for name in ("auc_first", "auc_second", "difference", "p_value")}
            values |= interval[["ci_low", "ci_high", "num_real", "num_fake"]].to_dict()
            rows.append(lot | values | {"num_left_out": sum(map(len, frames)) - 2 * len(paired)})
    if not rows:
        raise ValueError(f"Expected pairs of detectors that share a test set of {study.name!r}, received {pairs}.")
    table = pd.DataFrame(rows)
    table["p_adjusted"] = holm(table["p_value"])
    apart = (table["ci_low"] > 0) | (table["ci_high"] < 0)
    table["real"] = apart & (table["p_adjusted"] < SIGNIFICANCE)
    what = ["auc_first", "auc_second", "difference", "ci_low", "ci_high", "p_value", "p_adjusted", "real"]
    return table[["first", "second", "test_set", "real_source", *what, "num_real", "num_fake", "num_left_out"]]


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
        cooled = evaluation.apply_temperature(lot["score"], card["temperature"])
        for calibrated, score in ((False, lot["score"].to_numpy()), (True, cooled)):
            number = np.minimum((score * num_bins).astype(int), num_bins - 1)
            bins = lot.assign(score=score, bin=number).groupby("bin", as_index=False)
            table = bins.agg(mean_score=("score", "mean"), share_fake=("label", "mean"), num_images=("label", "size"))
            tables.append(table.assign(**where, calibrated=calibrated))
    columns = ["test_set", "real_source", "in_domain", "calibrated", "bin", "mean_score", "share_fake", "num_images"]
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
    sums = bins.assign(gap=gap).groupby(keys, sort=False)[["num_images", "gap"]].sum().unstack("calibrated", sort=False)
    errors = sums["gap"] / sums["num_images"]
    table = {"num_images": sums["num_images"][False], "ece": errors[False], "ece_calibrated": errors[True]}
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
    valid = evaluation.validation_rows(scores, card["train_set"])
    reals = pd.concat([valid, tested]).query("label == 0").drop_duplicates(["split", "path"])
    rows = []
    for (split, source), lot in reals.groupby(["split", "real_source"], sort=False):
        alarms = evaluation.rate(lot["score"] >= card["threshold"], lot["group"])
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
        raise ValueError(f"Expected each path once in attributes, received {len(twice)} twice, the first: {twice[0]}.")
    scores = scores.reset_index(drop=True)
    values = _attributes_of(scores, attributes)
    valid = evaluation.validation_rows(scores, card["train_set"]).query("label == 0").index
    rows, skipped = [], []
    for name in attributes:
        column = values[name]
        if is_numeric_dtype(attributes[name]) and not is_bool_dtype(attributes[name]):
            column = column.astype(float)
            column = _cut(column, (bounds or {}).get(name, column[valid].median()))
        tested = scores.assign(value=column.astype("object").fillna("unknown").astype(str)).query("split == 'test'")
        for (test_set, source, value), lot in tested.groupby(["test_set", "real_source", "value"]):
            classes = [lot[lot["label"] == label] for label in (0, 1)]
            subgroup = f"{name}:{value}"
            few = min(map(len, classes)) < min_images or min(part["group"].nunique() for part in classes) < _MIN_GROUPS
            if few or value == "unknown":
                counts = {"num_real": len(classes[0]), "num_fake": len(classes[1])}
                skipped.append({"test_set": test_set, "real_source": source, "subgroup": subgroup, **counts})
                continue
            rows.append(_rows_under(study, lot, card, subgroup, ("auc", evaluation.FALSE_ALARMS)))
    columns = ["test_set", "real_source", "subgroup", "num_real", "num_fake"]
    found = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=list(evaluation.RESULT_COLUMNS))
    return found, pd.DataFrame(skipped, columns=columns)


def robustness_conditions() -> list[tuple[str, float, str]]:
    """What pictures may suffer on their way, `(family, level, step)`, each family from mild to severe.

    The five levels of DeepFakeFace's robustness test (see `steps.DEGRADATIONS`), and JPEG, noise, and pictures that
    were shrunk and grown again.
    """
    plan = [step for _, conditions in _families() for step in conditions]
    return [(step.partition(":")[0], float(step.partition(":")[2]), step) for step in plan]


def score_degraded(
    study: Study,
    detectors: Mapping[str, tuple],
    *,
    test_set: str | None = None,
    conditions: Sequence[str] | None = None,
    boxes: pd.DataFrame | None = None,
    num_threads: int = 2,
) -> pd.DataFrame:
    """Scores the test pictures of one task under every degradation, and keeps the scores.

    A picture is degraded after the steps of its protocol and before those of the network, real ones and fakes alike.
    It is decoded once for all conditions and detectors. Scores go to `data/<study>/degraded/<model id>.parquet`; those
    of an unchanged model on unchanged pictures are read back.

    Args:
        study: Whose folders and test sets.
        detectors: Model id → (network, its `pipeline.Pictures`).
        test_set: Of the task; default: the training set.
        conditions: Steps, for example `["jpeg:50"]`; default: those of `robustness_conditions`.
        boxes: Face boxes, as for `pipeline.prepare`, for networks that see crops.
        num_threads: Pictures in work at once.

    Returns:
        `model_id`, the columns of `evaluation.SCORE_COLUMNS`, and `condition`.

    Raises:
        ValueError: If the pictures of a detector hold no test rows of the task.
    """
    test_set = test_set or study.train_set
    conditions = list(conditions or (step for _, _, step in robustness_conditions()))
    scores, tables = {}, {}
    for model_id, (_, pictures) in detectors.items():
        fingerprint = training.read_card(study.models / model_id)["fingerprint"]
        made_from = " ".join([fingerprint, pictures.fingerprint, test_set, *conditions])
        file = _degraded_file(study, model_id)
        scores[model_id] = pd.read_parquet(file) if file.is_file() else pd.DataFrame()
        if scores[model_id].attrs.get("made_from") != made_from:
            table = pictures.table[_is_tested(pictures.table, test_set, study.test_sets[test_set])]
            if table.empty:
                raise ValueError(f"The pictures of {model_id!r} hold no test rows of {test_set!r}.")
            before, after = zip(*(_before_and_after(plan, pictures.protocol) for plan in table["steps"]))
            tables[model_id] = table.assign(before=before, after=after, made_from=made_from)
    models = {model_id: detectors[model_id][0] for model_id in tables}
    for model_id, probability in _predict_degraded(study, models, tables, conditions, boxes, num_threads).items():
        table = tables[model_id].assign(label=(tables[model_id]["label"] == "fake").astype("int8"))
        lots = [table.assign(score=column, condition=step) for column, step in zip(probability.T, conditions)]
        frame = pd.concat(lots, ignore_index=True)[[*evaluation.SCORE_COLUMNS, "condition"]]
        frame.attrs["made_from"] = table["made_from"].iloc[0]  # kept in the file's metadata
        evaluation.write_atomically(_degraded_file(study, model_id), frame.to_parquet)
        scores[model_id] = frame
    return pd.concat(scores, names=["model_id"]).reset_index("model_id").reset_index(drop=True)


def degraded_rows(study: Study, scores: pd.DataFrame, card: dict) -> pd.DataFrame:
    """Rows for `results.csv` of one detector under every condition: `auc@jpeg:50`, `accuracy_at_threshold@jpeg:50`, …

    Args:
        study: Gives `num_resamples` and the seed.
        scores: From `score_degraded`, of one detector.
        card: Of the detector: the threshold is the one chosen on clean validation pictures.
    """
    names = ("auc", "accuracy_at_threshold")
    lots = scores.groupby("condition", sort=False)
    return pd.concat([_rows_under(study, lot, card, condition, names) for condition, lot in lots], ignore_index=True)


def breaks_first(rows: pd.DataFrame) -> pd.DataFrame:
    """At which level of each family of degradations a detector has lost half of what it knew.

    That is the mildest level at which its AUC is below halfway between 0.5 and the AUC on clean pictures. A detector
    whose interval on clean pictures holds 0.5 has nothing to lose and is left out.

    Args:
        rows: Of `results.csv`, of one test set, protocol and seed: `auc` and `auc@…` of every detector.

    Returns:
        One row a family and detector, the first to break on top: `family, model, clean, halfway, breaks_at` (the
        condition, or empty if it holds out), `auc` there (or at the last level) and `first`;
        empty where no degraded detector is above chance.

    Raises:
        ValueError: If a detector has several rows of a metric.
    """
    rows = rows[rows["metric"].str.partition("@")[0] == "auc"]
    if (twice := rows.duplicated(["model", "metric"])).any():
        raise ValueError(f"Expected one row a model and metric, received several: {rows[twice].iloc[0].to_dict()}.")
    clean = rows[(rows["metric"] == "auc") & (rows["ci_low"] > 0.5)].set_index("model")["value"]
    wide = rows.pivot(index="model", columns="metric", values="value").loc[clean.index]
    tables = []
    for family, conditions in _families():
        conditions = [step for step in conditions if f"auc@{step}" in wide]
        auc = wide[[f"auc@{step}" for step in conditions]].dropna(how="all")
        if auc.empty:
            continue
        halfway = (clean[auc.index] + 0.5) / 2
        below = auc.lt(halfway, axis=0).to_numpy()
        place = np.where(below.any(axis=1), below.argmax(axis=1), len(conditions))
        there = auc.to_numpy()[np.arange(len(auc)), np.minimum(place, len(conditions) - 1)]
        table = pd.DataFrame({"family": family, "model": auc.index, "clean": clean[auc.index], "halfway": halfway})
        table = table.assign(breaks_at=np.append(conditions, "")[place], auc=there)
        tables.append(table.assign(first=below.any(axis=1) & (place == place.min())).iloc[np.lexsort((there, place))])
    columns = ["family", "model", "clean", "halfway", "breaks_at", "auc", "first"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _families() -> list[tuple[str, tuple[str, ...]]]:
    """The families of degradations, each with its steps."""
    return [*steps.DEGRADATIONS.items(), *_MORE_DEGRADATIONS.items()]


def _is_tested(table: pd.DataFrame, test_set: str, real_source: str) -> pd.Series:
    """Which rows are those of the test split of one task."""
    return (table["split"] == "test") & (table["test_set"] == test_set) & (table["real_source"] == real_source)


def _rows_under(study: Study, scores: pd.DataFrame, card: dict, condition: str, names: Sequence[str]) -> pd.DataFrame:
    """A detector's rows of `results.csv` under a condition."""
    who = {key: card[key] for key in ("approach", "model", "protocol")}
    rows = evaluation.result_rows(study, scores, **who, card=card, names=names)
    return rows.assign(metric=rows["metric"] + "@" + condition)


def _attributes_of(scores: pd.DataFrame, attributes: pd.DataFrame) -> pd.DataFrame:
    """The attributes of every row of `scores`; a fake that has none of its own has those of its photograph."""
    key = pd.MultiIndex.from_arrays([scores["group"], scores["path"].str.rsplit("/", n=1).str[-1]])
    own = scores["path"].isin(attributes.index).to_numpy()
    photographs = pd.DataFrame({"path": scores["path"].to_numpy()}, key)[own & (scores["label"] == 0).to_numpy()]
    photographs = photographs.drop_duplicates()
    photographs = photographs[~photographs.index.duplicated(keep=False)]  # which of two it was, nobody knows
    path = photographs["path"].reindex(key).to_numpy()
    path = np.where(own, scores["path"], np.where(scores["label"] == 1, path, None))
    return attributes.reindex(path).set_index(scores.index)


def _cut(values: pd.Series, bound: float) -> pd.Series:
    """`"<0.31"` or `">=0.31"` for each number; the bound as it is written is the one that holds."""
    if np.isnan(bound):
        raise ValueError(f"No validation photograph has a {values.name!r}. Say in `bounds` where to cut it.")
    text = f"{bound:.3g}"
    return pd.Series(np.where(values < float(text), f"<{text}", f">={text}"), values.index).where(values.notna())


def _degraded_file(study: Study, model_id: str) -> Path:
    return study.data / "degraded" / f"{model_id}.parquet"


def _before_and_after(plan: str, protocol: str) -> tuple[str, str]:
    """The steps of a picture, cut where it is degraded: those of the protocol, and those of the network."""
    plan, num = plan.split(), 0
    if protocol == "controlled":  # squashed, then saved as JPEG: see `steps.protocol_steps`
        num = next(place for place, step in enumerate(plan[1:], 1) if not step.startswith("jpeg:"))
    return " ".join(plan[:num]), " ".join(plan[num:])


def _predict_degraded(study, models, tables, conditions, boxes, num_threads) -> dict[str, np.ndarray]:
    """The probabilities of fake, model id → `(num_rows, num_conditions)`, for the rows of each table."""
    if not tables:
        return {}
    plans = pd.concat(tables.values())[["path", "before", "after"]].drop_duplicates()
    root, plans_of = catalog.root(study), dict(list(plans.groupby("path", sort=False)))
    corners = {} if boxes is None else boxes.drop_duplicates("path").set_index("path")[faces.BOX].T.to_dict("list")

    def degrade(path: str) -> dict[tuple[str, str], np.ndarray]:
        """Plan → pixels of all conditions."""
        whole, made = read(root / path), {}
        for before, endings in plans_of[path].groupby("before")["after"]:
            image = steps.run(whole, before.split(), None)
            for condition in conditions:
                degraded = steps.run(image, (condition,), None)
                for after in endings:
                    pixels = np.asarray(steps.run(degraded, after.split(), corners.get(path)))
                    made.setdefault((before, after), []).append(pixels)
        return {plan: np.reshape(made[plan], (-1, *steps.output_shape(plan[1].split()))) for plan in made}

    num_bytes = sum(np.prod(steps.output_shape(after.split())) for after in plans["after"].unique())
    chunk = max(_BYTES_AT_ONCE // (num_bytes * len(conditions)), 1)
    probability = {name: np.empty((len(table), len(conditions)), np.float32) for name, table in tables.items()}
    paths = list(plans_of)
    with ThreadPoolExecutor(num_threads) as pool, progress(None, "Degrading", len(paths), "image") as bar:
        for start in range(0, len(paths), chunk):
            made = dict(zip(paths[start : start + chunk], pool.map(degrade, paths[start : start + chunk])))
            for name, table in tables.items():
                rows = np.flatnonzero(table["path"].isin(made))
                if len(rows):
                    lot = table.iloc[rows]
                    keys = zip(lot["path"], lot["before"], lot["after"])
                    pixels = np.concatenate([made[path][before, after] for path, before, after in keys])
                    values = models[name].predict(Batches(pixels, shuffle=False), verbose=0)
                    probability[name][rows] = np.reshape(values, (len(rows), -1))
            bar.update(len(made))
    return probability
