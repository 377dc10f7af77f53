"""From scores per image to `results.csv`: the tables around the functions of `metrics`.

Reads and writes `data/<study>/scores/<model id>.parquet` and `figures/<study>/results.csv`. Fake is
1 and the positive class; a score is the probability of fake.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from ..config import SPLITS, STUDIES, Study
from ..files import write_atomically
from .metrics import (
    CALIBRATION_METRICS,
    METRICS,
    THRESHOLD_METRICS,
    apply_temperature,
    choose_threshold,
    estimate,
    fit_temperature,
    rate,
)

SCORE_COLUMNS = ("path", "label", "generator", "group", "split", "score", "test_set", "real_source")
DETECTOR_KEYS = ["study", "approach", "model", "protocol", "train_set", "seed"]
RESULT_KEYS = [*DETECTOR_KEYS[:-1], "test_set", "real_source", "seed"]
RESULT_COLUMNS = (*RESULT_KEYS, "metric", "value", "ci_low", "ci_high", "num_real", "num_fake")
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
        ValueError: If columns or rows are missing, a score is NaN or outside `[0, 1]`, a label
            contradicts its generator, an image occurs twice in a test set, or a group in two
            splits.
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
            f"(found: {', '.join(found) or 'none'}). Run the notebook that trains the detector "
            "first (03, 04 or 05)."
        )
    paths = [scores_file(study, name) for name in wanted]
    frames = [_checked_scores(pd.read_parquet(path), str(path)) for path in paths]
    frames = [frame.assign(model_id=name) for frame, name in zip(frames, wanted)]
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

    Raises:
        FileNotFoundError: If the detector has no scores.
    """
    scores = read_scores(study, model_id(model, protocol))
    wanted = scores["real_source"] == scores["test_set"].map(study.test_sets)
    wanted &= scores["split"] == "test"
    if test_set:
        wanted &= scores["test_set"] == test_set
    return scores[wanted]


def _checked_scores(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """The score columns in the agreed types; raises on the first thing that is wrong with them."""
    missing = [column for column in SCORE_COLUMNS if column not in frame]
    if missing:
        raise ValueError(
            f"{what} lack the columns {missing}; expected {list(SCORE_COLUMNS)}, "
            f"received {list(frame)}."
        )
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
    for problem, rows in problems.items():
        if rows.any():
            raise ValueError(
                f"{what}: {rows.sum()} of {len(frame)} rows have {problem}. "
                f"The first: {frame[rows].iloc[0].to_dict()}."
            )
    return frame.astype({"label": "int8"})


def validation_rows(scores: pd.DataFrame, train_set: str) -> pd.DataFrame:
    """The validation rows of what a detector was trained on, without tasks that have no fakes.

    Args:
        scores: As written by `write_scores`, for one detector.
        train_set: The `test_set` that the detector was trained on, or several joined by `+`.

    Raises:
        ValueError: If there are none, or a training set meets photographs of several sources.
    """
    valid = scores[scores["split"] == "valid"]
    rows = valid[valid["test_set"].isin(train_set.split("+"))]
    rows = rows[rows.groupby(["test_set", "real_source"])["label"].transform("max") == 1]
    if rows.empty:
        have = scores[["test_set", "split"]].drop_duplicates().to_dict("records")
        raise ValueError(
            f"There are no validation rows of {train_set!r} in the scores; they hold {have}."
        )
    if (rows.groupby("test_set")["real_source"].nunique() > 1).any():
        raise ValueError(
            f"Expected one source of photographs in the validation of {train_set!r}, "
            f"received {rows['real_source'].unique().tolist()}."
        )
    return rows


def calibrate(scores: pd.DataFrame, train_set: str) -> dict[str, float]:
    """`threshold` and `temperature` for a detector's card, from its `validation_rows`."""
    rows = validation_rows(scores, train_set)
    return {
        "threshold": choose_threshold(rows["label"], rows["score"]),
        "temperature": fit_temperature(rows["label"], rows["score"]),
    }


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
    (`accuracy_at_threshold`, …); with a temperature in the card, the calibration metrics also after
    it (`ece_calibrated`, …). `fpr_at_threshold` is the share of real photographs called fake, with
    the interval of `rate`; of photographs without fakes it is all there is.

    Args:
        study: Gives its name, `num_resamples` and the seed of the resamples.
        scores: As written by `write_scores`, for one detector.
        approach: `"direct"`, `"fourier"`, `"autoencoder"`, `"metadata"`, …
        model: For example `"VGG16_V3"`.
        protocol: `"report"` or `"controlled"`.
        card: `train_set`, `seed`, `threshold`, and perhaps `temperature`.
        names: The metrics wanted, with their endings; `None` takes all.

    Returns:
        A table with the columns `RESULT_COLUMNS`; fractions.

    Raises:
        ValueError: If the card lacks a key, the scores are those of several detectors, none is of
            the test split, or there are no metrics of these names.
    """
    missing = [key for key in ("train_set", "seed", "threshold") if card.get(key) is None]
    if missing:
        raise ValueError(
            f"The card of {model!r} lacks {missing}; it has {sorted(card)}. "
            "`calibrate` gives thresholds."
        )
    if "model_id" in scores and scores["model_id"].nunique() > 1:
        received = scores["model_id"].unique().tolist()
        raise ValueError(f"Expected the scores of one detector, received {received}.")
    tested = _checked_scores(scores, f"The scores of {model!r}")
    tested = tested[tested["split"] == "test"]
    if tested.empty:
        raise ValueError(f"The scores of {model!r} hold no rows of the test split.")
    wanted = _DETECTOR_METRICS if names is None else set(names)
    if unknown := sorted(wanted - _DETECTOR_METRICS):
        valid = sorted(_DETECTOR_METRICS)
        raise ValueError(f"There are no metrics named {unknown}; valid: {valid}.")
    variants = [
        ("", METRICS, 0.5, None),
        ("_at_threshold", THRESHOLD_METRICS, card["threshold"], None),
    ]
    if card.get("temperature") is not None:
        variants.append(("_calibrated", CALIBRATION_METRICS, 0.5, card["temperature"]))
    tables = []
    for (test_set, real_source), rows in tested.groupby(["test_set", "real_source"], sort=False):
        task = {"test_set": test_set, "real_source": real_source}
        reals = rows[rows["label"] == 0]
        for suffix, of_variant, threshold, temperature in variants:
            chosen = [name for name in of_variant if name + suffix in wanted]
            if not chosen or len(reals) == len(rows):
                continue
            values = rows["score"]
            if temperature is not None:
                values = apply_temperature(values, temperature)
            table = estimate(
                rows["label"],
                values,
                rows["group"],
                threshold=threshold,
                num_resamples=study.num_resamples,
                seed=study.seed,
                names=chosen,
            )
            tables.append(table.assign(metric=table["metric"] + suffix, **task))
        if FALSE_ALARMS in wanted:
            alarms = rate(reals["score"] >= card["threshold"], reals["group"])
            counts = {"num_real": len(reals), "num_fake": len(rows) - len(reals)}
            tables.append(pd.DataFrame([{"metric": FALSE_ALARMS, **alarms, **counts, **task}]))
    who = {"study": study.name, "approach": approach, "model": model, "protocol": protocol}
    who |= {"train_set": card["train_set"], "seed": card["seed"]}
    return pd.concat(tables, ignore_index=True).assign(**who)[list(RESULT_COLUMNS)]


def write_results(study: Study, frame: pd.DataFrame) -> Path:
    """Merges rows into `figures/<study>/results.csv`.

    Rows of one kind replace each other on a test set: a detector's metrics, those under one family
    of conditions (`auc@jpeg:50` and whatever else has `@jpeg:`), or a measurement of its own name.
    Earlier rows stay only if they can be true beside the new ones: their scores per image lie in
    `data/<study>/scores` (rows of another machine, or of a detector whose scores were deleted, go),
    and the metrics of their detector are what they were (rows of other kinds go when it was trained
    anew).

    Raises:
        ValueError: If columns are missing or more, a value is not a finite number, a row occurs
            twice, or a row belongs to another study.
    """
    if set(frame) != set(RESULT_COLUMNS):
        raise ValueError(f"Expected the columns {list(RESULT_COLUMNS)}, received {list(frame)}.")
    numbers, order = ["value", "ci_low", "ci_high"], [*RESULT_KEYS, "kind"]
    wrong = frame[~np.isfinite(frame[numbers].astype(float)).all(axis=1)]
    if len(wrong):
        raise ValueError(
            f"{len(wrong)} rows have no finite value or interval. The first: "
            f"{wrong.iloc[0].to_dict()}."
        )
    if frame.duplicated([*RESULT_KEYS, "metric"]).any() or not (frame["study"] == study.name).all():
        raise ValueError(
            f"Expected each row once and of the study {study.name!r}; "
            f"received {frame['study'].unique()}."
        )
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
        frame = frame[list(RESULT_COLUMNS)].astype(dict.fromkeys(numbers, float))
        return write_atomically(
            path, lambda temporary: frame.to_csv(temporary, index=False, float_format="%.6f")
        )


def _kind(metric: str) -> str:
    """Which rows replace each other: metrics `""`, families of conditions, other metrics."""
    name, _, condition = metric.partition("@")
    return condition.partition(":")[0] or ("" if name in _DETECTOR_METRICS else name)


def _isin(rows: pd.DataFrame, others: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """Which rows agree with some row of `others` in all the columns."""
    return pd.MultiIndex.from_frame(rows[columns]).isin(pd.MultiIndex.from_frame(others[columns]))


def _has_scores(study: Study, rows: pd.DataFrame) -> np.ndarray:
    """Which rows are of a detector whose scores per image lie on this machine."""
    # The caller's study may be that of a training with another seed.
    study = STUDIES.get(study.name, study)
    scored, found = set(_scored(study)), []
    for row in rows[DETECTOR_KEYS].itertuples():
        if row.seed != study.seed:
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
    return _isin(earlier, changed, DETECTOR_KEYS) & (earlier["kind"] != "")


def read_results(study: Study) -> pd.DataFrame:
    """The rows of `figures/<study>/results.csv`; in a fresh clone, those that came with it.

    Raises:
        FileNotFoundError: If no notebook has written it.
    """
    path = study.figures / "results.csv"
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no {path}. Run the notebooks that evaluate detectors first (03, 04, 05)."
        )
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
        probability: Of fake, `(num_rows,)`, one for each row of `table`.
        approach: `"metadata"`, `"pca"` or another.
        name: Of the baseline.
        protocol: `"report"` or `"controlled"`.

    Returns:
        Its rows of `results.csv`.
    """
    scores = table.assign(label=(table["label"] == "fake").astype("int8"), score=probability)
    write_scores(study, model_id(name, protocol), scores[scores["split"] != "train"])
    scores = read_scores(study, model_id(name, protocol))
    card = {"train_set": study.train_set, "seed": study.seed, **calibrate(scores, study.train_set)}
    rows = result_rows(study, scores, approach=approach, model=name, protocol=protocol, card=card)
    write_results(study, rows)
    return rows
