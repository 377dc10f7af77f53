"""From scores per image to `results.csv`: the tables around the functions of `metrics`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from ..config import SPLITS, STUDIES, Study
from ..files import write_atomically
from .intervals import estimate, rate
from .metrics import (
    CALIBRATION_METRICS,
    METRICS,
    THRESHOLD_METRICS,
    calibrated,
    choose_threshold,
    fit_calibration,
)

SCORE_COLUMNS = ("path", "label", "generator", "group", "split", "score", "test_set", "real_source")
DETECTOR_KEYS = ["study", "approach", "model", "protocol", "train_set", "seed"]
RESULT_KEYS = [*DETECTOR_KEYS[:-1], "test_set", "real_source", "seed"]
RESULT_COLUMNS = (*RESULT_KEYS, "metric", "value", "ci_low", "ci_high", "num_real", "num_fake")
RESULT_COLUMNS += ("num_groups", "num_seeds")
ALL_SEEDS = -1  # the `seed` of rows that are means over all trainings of a detector
OWN = "_own"  # ends the name of a baseline fitted on each test set itself, out of fold
FALSE_ALARMS = "fpr_at_threshold"
_DETECTOR_METRICS = {  # what `result_rows` may give
    *METRICS,
    *(f"{name}_at_threshold" for name in THRESHOLD_METRICS),
    *(f"{name}_calibrated" for name in CALIBRATION_METRICS),
    FALSE_ALARMS,
}


def model_id(model: str, protocol: str, variant: str = "") -> str:
    """The name of a detector's files: `"VGG16_V3-controlled"`, `"VGG16_V3-report-seed1"`."""
    return f"{model}-{protocol}{variant}"


def scores_file(study: Study, model_id: str) -> Path:
    """Where the scores of a detector lie."""
    return study.data / "scores" / f"{model_id}.parquet"


def write_scores(study: Study, model_id: str, frame: pd.DataFrame) -> Path:
    """Writes a detector's scores per image, from which every metric is computed.

    Args:
        study: Whose folder to write to.
        model_id: From `model_id`.
        frame: The columns `SCORE_COLUMNS`, one row for each image of each test set: `label` 0
            (real) or 1 (fake), `score` in `[0, 1]`. Further columns are dropped.

    Returns:
        The file's path.

    Raises:
        ValueError: If a column, row or value is missing or contradicts another.
    """
    frame = _checked_scores(frame, f"The scores of {model_id!r}")
    path = scores_file(study, model_id)
    return write_atomically(path, lambda temporary: frame.to_parquet(temporary, index=False))


def read_scores(study: Study, model_id: str | None = None) -> pd.DataFrame:
    """The scores per image of one detector, or of all, with the column `model_id` in front.

    Raises:
        FileNotFoundError: If there are none.
    """
    found = _scored(study)
    wanted = found if model_id is None else [model_id]
    if not wanted or not set(wanted) <= set(found):
        raise FileNotFoundError(
            f"There are no scores of {model_id or 'any detector'!r} in {study.data / 'scores'} "
            f"(found: {', '.join(found) or 'none'}). Run the notebook that trains it first."
        )
    frames = []
    for name in wanted:
        path = scores_file(study, name)
        frames.append(_checked_scores(pd.read_parquet(path), str(path)).assign(model_id=name))
    return pd.concat(frames, ignore_index=True)[["model_id", *SCORE_COLUMNS]]


def _scored(study: Study) -> list[str]:
    """The ids of the detectors that have scores on this machine."""
    return sorted(path.stem for path in (study.data / "scores").glob("[!.]*.parquet"))


def test_scores(
    study: Study, model: str, protocol: str, test_set: str | None = None
) -> pd.DataFrame:
    """The test rows of a detector, each generator against its own photographs (`study.test_sets`).

    Args:
        study: Whose scores.
        model: For example `"VGG16_V3"`.
        protocol: `"report"` or `"controlled"`.
        test_set: The generator wanted; `None` takes all.

    Returns:
        The columns of `read_scores`.
    """
    scores = read_scores(study, model_id(model, protocol))
    own = scores["real_source"] == scores["test_set"].map(study.test_sets)
    tested = scores[own & (scores["split"] == "test")]
    return tested[tested["test_set"] == test_set] if test_set else tested


def _checked_scores(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """The score columns in the agreed types; raises on the first thing that is wrong with them."""
    missing = [column for column in SCORE_COLUMNS if column not in frame]
    if missing:
        raise ValueError(f"{what} lack the columns {missing}; received {list(frame)}.")
    if frame.empty:
        raise ValueError(f"{what} hold no rows. Score at least one real and one fake image.")
    frame = frame[list(SCORE_COLUMNS)].astype({"score": "float64"})
    score, label, is_real = frame["score"], frame["label"], frame["generator"] == "real"
    problems = {
        "no value in some column": frame.drop(columns="score").isna().any(axis=1),
        "a score that is NaN": score.isna(),
        "a score outside [0, 1]; apply the sigmoid first": ~score.between(0, 1) & score.notna(),
        "a label other than 0 (real) or 1 (fake)": ~label.isin([0, 1]),
        "a label that contradicts its generator": (label == 0) != is_real,
        f"a split other than {SPLITS}": ~frame["split"].isin(SPLITS),
        "an image twice in one test set": frame.duplicated(["path", "test_set", "real_source"]),
        "a group in several splits": frame.groupby("group")["split"].transform("nunique") > 1,
    }
    refuse_rows(what, frame, problems)
    return frame.astype({"label": "int8"})


def refuse_rows(what: str, frame: pd.DataFrame, problems: dict[str, pd.Series]) -> None:
    """Raises on the first problem that some rows have."""
    for problem, rows in problems.items():
        if rows.any():
            first = frame[rows].iloc[0].to_dict()
            raise ValueError(
                f"{what}: {rows.sum()} of {len(frame)} rows have {problem}. The first: {first}."
            )


def validation_rows(scores: pd.DataFrame, train_set: str) -> pd.DataFrame:
    """The validation rows of what a detector was trained on, without tasks that have no fakes.

    Args:
        scores: As written by `write_scores`, for one detector.
        train_set: The `test_set` that it was trained on, or several joined by `+`.

    Raises:
        ValueError: If there are none, or a training set meets photographs of several sources.
    """
    valid = scores[scores["split"] == "valid"]
    rows = valid[valid["test_set"].isin(train_set.split("+"))]
    rows = rows[rows.groupby(["test_set", "real_source"])["label"].transform("max") == 1]
    if rows.empty:
        have = scores[["test_set", "split"]].drop_duplicates().to_dict("records")
        raise ValueError(f"No scores are validation rows of {train_set!r}; they hold {have}.")
    if (rows.groupby("test_set")["real_source"].nunique() > 1).any():
        received = rows["real_source"].unique().tolist()
        raise ValueError(f"Expected one source of photographs of {train_set!r}, not {received}.")
    return rows


def calibrate(scores: pd.DataFrame, train_set: str) -> dict[str, float]:
    """`threshold`, `slope` and `intercept` for a detector's card, from its `validation_rows`."""
    rows = validation_rows(scores, train_set)
    arrays = rows["label"], rows["score"]
    return {"threshold": choose_threshold(*arrays), **fit_calibration(*arrays)}


def result_rows(
    study: Study,
    scores: pd.DataFrame,
    *,
    approach: str,
    model: str,
    protocol: str,
    card: dict,
    names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """A detector's rows of `results.csv`: every metric on every test set, of the test split only.

    Metrics at a threshold are given at 0.5, as in the report, and at the card's
    (`accuracy_at_threshold`, …); calibration metrics also after the card's slope and
    intercept (`ece_calibrated`, …). `fpr_at_threshold` is the share of real photographs called
    fake, with the interval of `rate`; of photographs without fakes it is all there is.

    Args:
        study: Gives its name, `num_resamples` and the seed of the resamples.
        scores: As written by `write_scores`, for one detector.
        approach: `"direct"`, `"fourier"`, `"autoencoder"`, `"metadata"`, …
        model: For example `"VGG16_V3"`.
        protocol: `"report"` or `"controlled"`.
        card: `train_set`, `seed`, `threshold`, `slope`, `intercept`.
        names: The metrics wanted, with their endings; `None` takes all.

    Returns:
        A table with the columns `RESULT_COLUMNS`; fractions.

    Raises:
        ValueError: If the card lacks a key, or no scores are of the test split.
    """
    keys = ("train_set", "seed", "threshold", "slope", "intercept")
    if missing := [key for key in keys if card.get(key) is None]:
        raise ValueError(f"The card of {model!r} lacks {missing}: run `calibrate`. It is {card}.")
    tested = _checked_scores(scores, f"The scores of {model!r}")
    tested = tested[tested["split"] == "test"]
    if tested.empty:
        raise ValueError(f"The scores of {model!r} hold no rows of the test split.")
    wanted = _DETECTOR_METRICS if names is None else set(names)
    variants = [
        ("", METRICS, 0.5),
        ("_at_threshold", THRESHOLD_METRICS, card["threshold"]),
        ("_calibrated", CALIBRATION_METRICS, 0.5),
    ]
    options = {"num_resamples": study.num_resamples, "seed": study.seed}
    tables = []
    for (test_set, real_source), rows in tested.groupby(["test_set", "real_source"], sort=False):
        task = {"test_set": test_set, "real_source": real_source}
        reals, asked = rows[rows["label"] == 0], wanted
        if test_set in study.aligned:  # one number a strength
            asked = wanted & {"auc"}
        for suffix, of_variant, threshold in variants:
            chosen = [name for name in of_variant if name + suffix in asked]
            if not chosen or len(reals) == len(rows):
                continue
            values = rows["score"]
            if suffix == "_calibrated":
                values = calibrated(values, card["slope"], card["intercept"])
            options |= {"threshold": threshold, "names": chosen}
            table = estimate(rows["label"], values, rows["group"], **options)
            tables.append(table.assign(metric=table["metric"] + suffix, **task))
        if FALSE_ALARMS in asked:
            alarms = rate(reals["score"] >= card["threshold"], reals["group"])
            counts = {"num_real": len(reals), "num_fake": len(rows) - len(reals)}
            counts["num_groups"] = reals["group"].nunique()
            tables.append(pd.DataFrame([{"metric": FALSE_ALARMS, **alarms, **counts, **task}]))
    who = {"study": study.name, "approach": approach, "model": model, "protocol": protocol}
    who |= {"train_set": card["train_set"], "seed": card["seed"], "num_seeds": 1}
    return pd.concat(tables, ignore_index=True).assign(**who)[list(RESULT_COLUMNS)]


def write_results(study: Study, frame: pd.DataFrame) -> Path:
    """Merges rows into `figures/<study>/results.csv`.

    Rows of one kind replace each other on a test set: a detector's metrics, those under one family
    of conditions (all `…@jpeg:…`), or a measurement of its own name. Earlier rows stay only if
    their scores per image lie on this machine and their detector was not trained anew.

    Raises:
        ValueError: If columns are missing or more, a value is not a finite number, a row occurs
            twice, or a row belongs to another study.
    """
    if set(frame) != set(RESULT_COLUMNS):
        raise ValueError(f"Expected the columns {list(RESULT_COLUMNS)}, received {list(frame)}.")
    numbers, order = ["value", "ci_low", "ci_high"], [*RESULT_KEYS, "kind"]
    problems = {
        "no finite value or interval": ~np.isfinite(frame[numbers].astype(float)).all(axis=1),
        "a copy": frame.duplicated([*RESULT_KEYS, "metric"]),
        f"a study other than {study.name!r}": frame["study"] != study.name,
    }
    refuse_rows("The results", frame, problems)
    frame = frame.assign(kind=frame["metric"].map(_kind))
    path = study.figures / "results.csv"
    study.data.mkdir(parents=True, exist_ok=True)
    with FileLock(study.data / "results.lock"):  # two notebooks at once would lose rows
        if path.is_file():
            earlier = read_results(study)
            earlier = earlier.assign(kind=earlier["metric"].map(_kind))
            earlier = earlier[_has_scores(study, earlier)]
            earlier = earlier[~_is_outdated(earlier, frame)]
            frame = pd.concat([earlier[~_isin(earlier, frame, order)], frame], ignore_index=True)
        # Within a kind rows stay in the order they came: of METRICS, or of rising degradation.
        frame = frame.sort_values(order, kind="stable")
        counts = dict.fromkeys(("num_groups", "num_seeds"), "Int64")  # older rows lack the first
        frame = frame[list(RESULT_COLUMNS)].astype(dict.fromkeys(numbers, float) | counts)
        options = {"index": False, "float_format": "%.6f"}
        return write_atomically(path, lambda temporary: frame.to_csv(temporary, **options))


def _kind(metric: str) -> str:
    """Which rows replace each other: metrics `""`, families of conditions, other metrics."""
    name, _, condition = metric.partition("@")
    return condition.partition(":")[0] or ("" if name in _DETECTOR_METRICS else name)


def _isin(rows: pd.DataFrame, others: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """Which rows agree with some row of `others` in all the columns."""
    return pd.MultiIndex.from_frame(rows[columns]).isin(pd.MultiIndex.from_frame(others[columns]))


def _has_scores(study: Study, rows: pd.DataFrame) -> np.ndarray:
    """Which rows are of a detector whose scores per image lie on this machine."""
    study = STUDIES.get(study.name, study)  # the caller's may be that of another seed
    scored, found = set(_scored(study)), []
    for row in rows[DETECTOR_KEYS].itertuples():
        if row.seed == ALL_SEEDS or row.model.endswith(OWN):
            variants = [""]
        elif row.seed != study.seed:
            variants = [f"-seed{row.seed}"]
        else:
            variants = [f"-{row.train_set}", *([""] if row.train_set == study.train_set else [])]
        ids = {model_id(row.model, row.protocol, variant) for variant in variants}
        found.append(not scored.isdisjoint(ids))
    return np.array(found, bool)


def _is_outdated(earlier: pd.DataFrame, new: pd.DataFrame) -> np.ndarray:
    """Which earlier rows are of a detector whose metrics were other values before the new ones."""
    old, now = (rows[rows["kind"] == ""] for rows in (earlier, new))
    both = old.merge(now, on=[*RESULT_KEYS, "metric"])
    changed = both[(both["value_x"] - both["value_y"]).abs() > 1e-6]  # the file has six decimals
    other_kinds = _isin(earlier, changed, DETECTOR_KEYS) & (earlier["kind"] != "")
    means = _isin(earlier, changed, DETECTOR_KEYS[:-1]) & (earlier["seed"] == ALL_SEEDS)
    return other_kinds | means


def read_results(study: Study) -> pd.DataFrame:
    """The rows of `figures/<study>/results.csv`; in a fresh clone, those that came with it.

    Raises:
        FileNotFoundError: If no notebook has written it.
    """
    path = study.figures / "results.csv"
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}. Run the notebooks 03, 04 and 05 first.")
    return pd.read_csv(path)


def score_baseline(
    study: Study,
    table: pd.DataFrame,
    probability: np.ndarray,
    *,
    approach: str,
    name: str,
    protocol: str,
) -> pd.DataFrame:
    """Writes scores and results of a baseline that is no saved network.

    Args:
        study: Whose tasks.
        table: From `catalog.task_steps` or `Pictures.table`.
        probability: Of fake, `(num_rows,)`, one for each row of `table`; NaN where there is none.
        approach: `"metadata"`, `"pixels"`, `"geometry"`, `"pca"` or another.
        name: Of the baseline. One that ends in `_own` was fitted on each test set, out of fold: its
            threshold is 0.5, its `train_set` the test set, and it has no calibrated metrics.
        protocol: `"report"` or `"controlled"`.

    Returns:
        Its rows of `results.csv`.
    """
    scores = table.assign(label=(table["label"] == "fake").astype("int8"), score=probability)
    scores = scores[(scores["split"] != "train") & scores["score"].notna()]
    write_scores(study, model_id(name, protocol), scores)
    scores = read_scores(study, model_id(name, protocol))
    who = {"approach": approach, "model": name, "protocol": protocol}
    if name.endswith(OWN):
        fixed = {"seed": study.seed, "threshold": 0.5, "slope": 1.0, "intercept": 0.0}
        names = [name for name in _DETECTOR_METRICS if not name.endswith("_calibrated")]
        rows = [
            result_rows(study, part, **who, card={"train_set": test_set, **fixed}, names=names)
            for test_set, part in scores.groupby("test_set", sort=False)
        ]
        rows = pd.concat(rows, ignore_index=True)
    else:
        card = {"train_set": study.train_set, "seed": study.seed}
        card |= calibrate(scores, study.train_set)
        rows = result_rows(study, scores, **who, card=card)
    write_results(study, rows)
    return rows


def write_seed_means(study: Study, approach: str, model: str, protocol: str) -> pd.DataFrame:
    """Writes the rows of a detector's mean over its trainings with `study.seed` and extra seeds.

    Their `seed` is `ALL_SEEDS`; metrics are those at 0.5, with intervals over groups and seeds
    (`intervals.estimate`). Images that not all trainings have scored are left out.

    Returns:
        The rows; empty where there is one training.
    """
    seeds = [seed for seed in study.extra_seeds if seed != study.seed]
    names = [model_id(model, protocol, f"-seed{seed}") for seed in seeds]
    names = [name for name in names if scores_file(study, name).is_file()]
    if not names:
        return pd.DataFrame(columns=list(RESULT_COLUMNS))
    trainings = [read_scores(study, name) for name in (model_id(model, protocol), *names)]
    keys = ["test_set", "real_source", "path", "label", "group"]
    tested = pd.concat(
        [frame[frame["split"] == "test"].set_index(keys)["score"] for frame in trainings],
        axis=1,
        join="inner",
    )
    tables = []
    for task, rows in tested.groupby(level=keys[:2], sort=False):
        label, group = (rows.index.get_level_values(key) for key in ("label", "group"))
        if label.nunique() == 2:
            options = {"num_resamples": study.num_resamples, "seed": study.seed}
            if task[0] in study.aligned:  # as in `result_rows`
                options["names"] = ("auc",)
            table = estimate(label, rows.to_numpy().T, group, **options)
            tables.append(table.assign(**dict(zip(keys, task))))
    who = {"study": study.name, "approach": approach, "model": model, "protocol": protocol}
    who |= {"train_set": study.train_set, "seed": ALL_SEEDS, "num_seeds": len(trainings)}
    rows = pd.concat(tables, ignore_index=True).assign(**who)[list(RESULT_COLUMNS)]
    write_results(study, rows)
    return rows
