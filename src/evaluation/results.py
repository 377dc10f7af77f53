"""From scores per image to `results.csv`: the tables around the functions of `metrics`."""

from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from ..config import SPLITS, STUDIES, Study, get_study
from ..files import write_atomically
from . import metrics
from .intervals import estimate, rate
from .metrics import METRICS

TASK = ["test_set", "real_source"]  # fakes of one generator, and the photographs beside them
SCORE_COLUMNS = ("path", "label", "generator", "group", "split", "score", *TASK)
DETECTOR_KEYS = ["study", "approach", "model", "protocol", "train_set", "seed"]
RESULT_KEYS = [*DETECTOR_KEYS[:-1], *TASK, "seed"]
RESULT_COLUMNS = (*RESULT_KEYS, "metric", "value", "ci_low", "ci_high", "num_real", "num_fake")
RESULT_COLUMNS += ("num_groups", "num_seeds")
ALL_SEEDS = -1  # the `seed` of rows that are means over all trainings of a detector
OWN = "_own"  # ends the name of a baseline fitted on each test set itself, out of fold
FALSE_ALARMS = "fpr_at_threshold"
_VARIANTS = {"": METRICS, "_at_threshold": metrics.THRESHOLD_METRICS}
_VARIANTS["_calibrated"] = metrics.CALIBRATION_METRICS
_DETECTOR_METRICS = [name + ending for ending, names in _VARIANTS.items() for name in names]
_DETECTOR_METRICS += [FALSE_ALARMS]


def model_id(model: str, protocol: str, variant: str = "") -> str:
    """The name of a detector's files: `"VGG16_V3-controlled"`, `"VGG16_V3-report-seed1"`."""
    return f"{model}-{protocol}{variant}"


def scores_file(study: Study, model_id: str) -> Path:
    """The file of a detector's scores."""
    return study.data / "scores" / f"{model_id}.parquet"


def write_scores(study: Study, model_id: str, frame: pd.DataFrame) -> Path:
    """Writes a detector's scores per image, from which every metric is computed.

    The frame holds `SCORE_COLUMNS` (further ones are dropped), a row for each image of each test
    set: `label` 0 (real) or 1 (fake), `score` in `[0, 1]`. A column, row or value that is missing
    or contradicts another is a `ValueError`.
    """
    frame = _checked_scores(frame, f"The scores of {model_id!r}")
    path = scores_file(study, model_id)
    return write_atomically(path, lambda temporary: frame.to_parquet(temporary, index=False))


def read_scores(study: Study, model_id: str | None = None) -> pd.DataFrame:
    """Scores per image of one detector, or of all, with `model_id`; `FileNotFoundError` if none."""
    found = _scored(study)
    wanted = found if model_id is None else [model_id]
    if not wanted or not set(wanted) <= set(found):
        raise FileNotFoundError(
            f"There are no scores of {model_id or 'any detector'!r} in {study.data / 'scores'} "
            f"(found: {', '.join(found) or 'none'}). Run the notebook that trains it first."
        )
    files = [scores_file(study, name) for name in wanted]
    frames = [_checked_scores(pd.read_parquet(file), str(file)) for file in files]
    return pd.concat(frames, keys=wanted, names=["model_id"]).reset_index(0).reset_index(drop=True)


def _scored(study: Study) -> list[str]:
    """The ids of the detectors that have scores on this machine."""
    return sorted(path.stem for path in (study.data / "scores").glob("[!.]*.parquet"))


def test_scores(study: Study, model: str, protocol: str, test_set: str = "") -> pd.DataFrame:
    """The test rows of a detector, each generator (or one) against its own photographs."""
    scores = read_scores(study, model_id(model, protocol))
    own = scores["real_source"] == scores["test_set"].map(study.test_sets)
    tested = scores[own & (scores["split"] == "test")]
    return tested[tested["test_set"] == test_set] if test_set else tested


def _checked_scores(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """The score columns in the agreed types; raises on the first thing that is wrong with them."""
    missing = [column for column in SCORE_COLUMNS if column not in frame]
    if missing or frame.empty:
        received = f"received {len(frame)} rows" + f" without the columns {missing}" * bool(missing)
        raise ValueError(f"{what}: {received}. Expected rows with the columns {SCORE_COLUMNS}.")
    frame = frame[list(SCORE_COLUMNS)].astype({"score": "float64"})
    score, label, is_real = frame["score"], frame["label"], frame["generator"] == "real"
    problems = {
        "no value in some column": frame.drop(columns="score").isna().any(axis=1),
        "a score that is NaN": score.isna(),
        "a score outside [0, 1]; apply the sigmoid first": ~score.between(0, 1) & score.notna(),
        "a label other than 0 (real) or 1 (fake)": ~label.isin([0, 1]),
        "a label that contradicts its generator": (label == 0) != is_real,
        f"a split other than {SPLITS}": ~frame["split"].isin(SPLITS),
        "an image twice in one test set": frame.duplicated(["path", *TASK]),
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

    A `ValueError` if there are none, or if photographs of a training set have several sources.
    """
    valid = scores[scores["split"] == "valid"]
    rows = valid[valid["test_set"].isin(train_set.split("+"))]
    rows = rows[rows.groupby(TASK)["label"].transform("max") == 1]
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
    return {"threshold": metrics.choose_threshold(*arrays), **metrics.fit_calibration(*arrays)}


def result_rows(
    study: Study, scores: pd.DataFrame, card: dict, names=_DETECTOR_METRICS, condition: str = ""
) -> pd.DataFrame:
    """A detector's rows of `results.csv`: metrics on every test set, of the test split only.

    Metrics at a threshold are given at 0.5, as in the report, and at the card's
    (`accuracy_at_threshold`, …); calibration metrics also after the card's slope and intercept
    (`ece_calibrated`, …). `fpr_at_threshold` is the share of real photographs called fake; test
    sets without fakes have only this metric, aligned fakes only the AUC.

    Args:
        study: Gives its name, `num_resamples` and the seed of the resamples.
        scores: As written by `write_scores`, of one detector; a `ValueError` without test rows.
        card: Its `approach, model, protocol, train_set, seed, threshold, slope, intercept`.
        names: The metrics wanted, with their endings.
        condition: What the pictures have in common: `"jpeg:50"` gives `auc@jpeg:50`.
    """
    what = f"The scores of {card['model']!r}"
    tested = _checked_scores(scores, what)
    tested = tested[tested["split"] == "test"]
    if tested.empty:
        raise ValueError(f"{what} hold no rows of the test split.")
    tables, options = [], {"num_resamples": study.num_resamples, "seed": study.seed}
    for task, rows in tested.groupby(TASK, sort=False):
        task, reals = dict(zip(TASK, task)), rows[rows["label"] == 0]
        asked = {"auc"} & set(names) if task["test_set"] in study.aligned else set(names)
        for ending, of_variant in _VARIANTS.items():
            options["names"] = [name for name in of_variant if name + ending in asked]
            if not options["names"] or len(reals) == len(rows):
                continue
            options["threshold"] = card["threshold"] if ending == "_at_threshold" else 0.5
            values = rows["score"]
            if ending == "_calibrated":
                values = metrics.calibrated(values, card["slope"], card["intercept"])
            table = estimate(rows["label"], values, rows["group"], **options)
            tables.append(table.assign(metric=table["metric"] + ending, **task))
        if FALSE_ALARMS in asked:
            alarms = rate(reals["score"] >= card["threshold"], reals["group"])
            counts = {"num_real": len(reals), "num_fake": len(rows) - len(reals)}
            counts["num_groups"] = reals["group"].nunique()
            tables.append(pd.DataFrame([{"metric": FALSE_ALARMS, **alarms, **counts, **task}]))
    table = _of_detector(study, card, tables, num_seeds=1)
    return table.assign(metric=table["metric"] + "@" + condition) if condition else table


def _of_detector(study: Study, card: dict, tables: list, num_seeds: int) -> pd.DataFrame:
    """Tables of metrics as rows of `results.csv`."""
    who = {key: card[key] for key in DETECTOR_KEYS[1:]} | {"num_seeds": num_seeds}
    table = pd.concat(tables, ignore_index=True).assign(study=study.name, **who)
    return table[list(RESULT_COLUMNS)]


def write_results(study: Study, frame: pd.DataFrame) -> Path:
    """Merges rows of `RESULT_COLUMNS` into `figures/<study>/results.csv`.

    Rows of one kind replace each other on a test set: a detector's metrics, those under one family
    of conditions (all `…@jpeg:…`), or a measurement of its own name. Earlier rows stay only if
    their scores per image lie on this machine and their detector was not trained anew. Values that
    are no finite numbers, copies, and rows of another study are a `ValueError`.
    """
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
    if study.name in STUDIES:  # the caller's may be that of another seed
        study = get_study(study.name)
    scored, found = set(_scored(study)), []
    for row in rows[DETECTOR_KEYS].itertuples():
        if row.seed == ALL_SEEDS or row.model.endswith(OWN):
            variants = [""]
        elif row.seed != study.seed:
            variants = [f"-seed{row.seed}"]
        else:
            variants = [f"-{row.train_set}", *([""] if row.train_set == study.train_set else [])]
        found.append(any(model_id(row.model, row.protocol, each) in scored for each in variants))
    return np.array(found, bool)


def _is_outdated(earlier: pd.DataFrame, new: pd.DataFrame) -> np.ndarray:
    """Which earlier rows are of a detector whose metrics had other values than the new ones."""
    old, now = (rows[rows["kind"] == ""] for rows in (earlier, new))
    both = old.merge(now, on=[*RESULT_KEYS, "metric"])
    changed = both[(both["value_x"] - both["value_y"]).abs() > 1e-6]  # the file has six decimals
    other_kinds = _isin(earlier, changed, DETECTOR_KEYS) & (earlier["kind"] != "")
    means = _isin(earlier, changed, DETECTOR_KEYS[:-1]) & (earlier["seed"] == ALL_SEEDS)
    return other_kinds | means


def read_results(study: Study) -> pd.DataFrame:
    """The rows of `figures/<study>/results.csv`; in a fresh clone, those that came with it."""
    path = study.figures / "results.csv"
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}. Run the notebooks 03, 04 and 05 first.")
    return pd.read_csv(path)


def score_baseline(
    study: Study, table: pd.DataFrame, score: np.ndarray, approach: str, name: str, protocol: str
) -> pd.DataFrame:
    """Writes scores and results of a baseline that is no saved network; returns its result rows.

    `score` is the probability of fake for each row of `table` (from `catalog.task_steps` or
    `Pictures.table`), NaN where there is none. A name that ends in `_own` was fitted on each test
    set, out of fold: its threshold is 0.5, its `train_set` the test set, and it has no calibrated
    metrics.
    """
    scores = table.assign(label=(table["label"] == "fake").astype("int8"), score=score)
    scores = scores[(scores["split"] != "train") & scores["score"].notna()]
    write_scores(study, model_id(name, protocol), scores)
    card = {"approach": approach, "model": name, "protocol": protocol, "seed": study.seed}
    if name.endswith(OWN):
        card |= {"threshold": 0.5, "slope": 1.0, "intercept": 0.0}
        names = [name for name in _DETECTOR_METRICS if not name.endswith("_calibrated")]
        rows = [
            result_rows(study, part, {"train_set": test_set, **card}, names)
            for test_set, part in scores.groupby("test_set", sort=False)
        ]
        rows = pd.concat(rows, ignore_index=True)
    else:
        card |= {"train_set": study.train_set} | calibrate(scores, study.train_set)
        rows = result_rows(study, scores, card)
    write_results(study, rows)
    return rows


def write_seed_means(study: Study, approach: str, model: str, protocol: str) -> pd.DataFrame:
    """Writes the rows of a detector's mean over its trainings with `study.seed` and extra seeds.

    Their `seed` is `ALL_SEEDS`; metrics are those at 0.5, with intervals over groups and seeds
    (`intervals.estimate`). Images that not all trainings have scored are left out. Returns the
    rows; none where there is one training.
    """
    others = [f"-seed{seed}" for seed in study.extra_seeds if seed != study.seed]
    names = [model_id(model, protocol, variant) for variant in others]
    names = [name for name in names if scores_file(study, name).is_file()]
    if not names:
        return pd.DataFrame(columns=list(RESULT_COLUMNS))
    trainings = [read_scores(study, name) for name in (model_id(model, protocol), *names)]
    keys = [*TASK, "path", "label", "group"]
    parts = [frame[frame["split"] == "test"].set_index(keys)["score"] for frame in trainings]
    tested = pd.concat(parts, axis=1, join="inner")
    tables = []
    for task, rows in tested.groupby(level=TASK, sort=False):
        label, group = (rows.index.get_level_values(key) for key in ("label", "group"))
        if label.nunique() == 2:
            wanted = ("auc",) if task[0] in study.aligned else METRICS  # as in `result_rows`
            options = {"num_resamples": study.num_resamples, "seed": study.seed, "names": wanted}
            table = estimate(label, rows.to_numpy().T, group, **options)
            tables.append(table.assign(**dict(zip(TASK, task))))
    card = {"approach": approach, "model": model, "protocol": protocol}
    card |= {"train_set": study.train_set, "seed": ALL_SEEDS}
    rows = _of_detector(study, card, tables, len(trainings))
    write_results(study, rows)
    return rows
