"""What a detector is worth on pictures that have suffered on their way: degraded, scored, compared.

Nothing is trained here, and thresholds are those chosen on clean validation pictures. Real pictures
and fakes are degraded alike.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from ..config import Study
from ..data import catalog, readers
from ..evaluation.comparisons import is_tested, rows_under
from ..evaluation.results import SCORE_COLUMNS
from ..files import progress, write_atomically
from ..pictures.batches import Batches
from ..pictures.decoding import read
from ..pictures.steps import DEGRADATIONS, output_shape, run
from . import training

# Beside DeepFakeFace's four families.
_MORE_DEGRADATIONS = {
    "jpeg": tuple(f"jpeg:{quality}" for quality in (90, 80, 70, 60, 50, 40, 30)),
    "noise": ("noise:2", "noise:5", "noise:10", "noise:20"),
    "downscale": ("downscale:1.5", "downscale:2", "downscale:3", "downscale:4"),
}
_BYTES_AT_ONCE = 128 << 20


def all_conditions() -> list[tuple[str, float, str]]:
    """What pictures may suffer, `(family, level, step)`, each family from mild to severe.

    The five levels of DeepFakeFace's robustness test (see `steps.DEGRADATIONS`), and JPEG, noise,
    and pictures that were shrunk and grown again.
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

    A picture is degraded after the steps of its protocol and before those of the network, real ones
    and fakes alike. It is decoded once for all conditions and detectors. Scores go to
    `data/<study>/degraded/<model id>.parquet`; those of an unchanged model on unchanged pictures
    are read back.

    Args:
        study: Whose folders and test sets.
        detectors: Model id → (network, its `scoring.Pictures`).
        test_set: Of the task; default: the training set.
        conditions: Steps, for example `["jpeg:50"]`; default: those of `all_conditions`.
        boxes: Face boxes, as for `scoring.prepare`, for networks that see crops.
        num_threads: Pictures in work at once.

    Returns:
        `model_id`, the columns of `results.SCORE_COLUMNS`, and `condition`.

    Raises:
        ValueError: If the pictures of a detector hold no test rows of the task.
    """
    test_set = test_set or study.train_set
    conditions = list(conditions or (step for _, _, step in all_conditions()))
    scores, tables = {}, {}
    for model_id, (model, pictures) in detectors.items():
        made_from = " ".join([training.identity(model), pictures.identity, test_set, *conditions])
        file = _degraded_file(study, model_id)
        scores[model_id] = pd.read_parquet(file) if file.is_file() else pd.DataFrame()
        if scores[model_id].attrs.get("made_from") != made_from:
            table = pictures.table[is_tested(pictures.table, test_set, study.test_sets[test_set])]
            if table.empty:
                raise ValueError(f"The pictures of {model_id!r} hold no test rows of {test_set!r}.")
            before, after = zip(
                *(_before_and_after(plan, pictures.protocol) for plan in table["steps"])
            )
            tables[model_id] = table.assign(before=before, after=after, made_from=made_from)
    models = {model_id: detectors[model_id][0] for model_id in tables}
    for model_id, probability in _predict_degraded(
        study, models, tables, conditions, boxes, num_threads
    ).items():
        table = tables[model_id].assign(label=(tables[model_id]["label"] == "fake").astype("int8"))
        lots = [
            table.assign(score=column, condition=step)
            for column, step in zip(probability.T, conditions)
        ]
        frame = pd.concat(lots, ignore_index=True)[[*SCORE_COLUMNS, "condition"]]
        frame.attrs["made_from"] = table["made_from"].iloc[0]  # kept in the file's metadata
        write_atomically(_degraded_file(study, model_id), frame.to_parquet)
        scores[model_id] = frame
    return pd.concat(scores, names=["model_id"]).reset_index("model_id").reset_index(drop=True)


def degraded_rows(study: Study, scores: pd.DataFrame, card: dict) -> pd.DataFrame:
    """Rows for `results.csv` of one detector under every condition, for example `auc@jpeg:50`.

    Args:
        study: Gives `num_resamples` and the seed.
        scores: From `score_degraded`, of one detector.
        card: Of the detector: the threshold is the one chosen on clean validation pictures.
    """
    names = ("auc", "accuracy_at_threshold")
    lots = scores.groupby("condition", sort=False)
    return pd.concat(
        [rows_under(study, lot, card, condition, names) for condition, lot in lots],
        ignore_index=True,
    )


def breaks_first(rows: pd.DataFrame) -> pd.DataFrame:
    """At which level of each family of degradations a detector has lost half of what it knew.

    That is the mildest level at which its AUC is below halfway between 0.5 and the AUC on clean
    pictures. A detector whose interval on clean pictures holds 0.5 has nothing to lose and is left
    out.

    Args:
        rows: Of `results.csv`, of one test set, protocol and seed: `auc` and `auc@…` of every
            detector.

    Returns:
        One row a family and detector, the first to break on top: `family, model, clean, halfway,
        breaks_at` (the condition, or empty if it holds out), `auc` there (or at the last level) and
        `first`; empty where no degraded detector is above chance.

    Raises:
        ValueError: If a detector has several rows of a metric.
    """
    rows = rows[rows["metric"].str.partition("@")[0] == "auc"]
    if (twice := rows.duplicated(["model", "metric"])).any():
        raise ValueError(
            "Expected one row a model and metric, received several: "
            f"{rows[twice].iloc[0].to_dict()}."
        )
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
        table = pd.DataFrame(
            {"family": family, "model": auc.index, "clean": clean[auc.index], "halfway": halfway}
        )
        table = table.assign(breaks_at=np.append(conditions, "")[place], auc=there)
        tables.append(
            table.assign(first=below.any(axis=1) & (place == place.min())).iloc[
                np.lexsort((there, place))
            ]
        )
    columns = ["family", "model", "clean", "halfway", "breaks_at", "auc", "first"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _families() -> list[tuple[str, tuple[str, ...]]]:
    """The families of degradations, each with its steps."""
    return [*DEGRADATIONS.items(), *_MORE_DEGRADATIONS.items()]


def _degraded_file(study: Study, model_id: str) -> Path:
    return study.data / "degraded" / f"{model_id}.parquet"


def _before_and_after(plan: str, protocol: str) -> tuple[str, str]:
    """The steps of a picture, cut where it is degraded: the protocol's and the network's."""
    plan, num = plan.split(), 0
    if protocol == "controlled":  # squashed, then saved as JPEG: see `steps.protocol_steps`
        num = next(place for place, step in enumerate(plan[1:], 1) if not step.startswith("jpeg:"))
    return " ".join(plan[:num]), " ".join(plan[num:])


def _predict_degraded(
    study, models, tables, conditions, boxes, num_threads
) -> dict[str, np.ndarray]:
    """Probabilities of fake, model id → `(num_rows, num_conditions)`, a row for each of a table."""
    if not tables:
        return {}
    plans = pd.concat(tables.values())[["path", "before", "after"]].drop_duplicates()
    root, plans_of = catalog.root(study), dict(list(plans.groupby("path", sort=False)))
    corners = (
        {}
        if boxes is None
        else boxes.drop_duplicates("path").set_index("path")[readers.BOX].T.to_dict("list")
    )

    def degrade(path: str) -> dict[tuple[str, str], np.ndarray]:
        """Plan → pixels of all conditions."""
        whole, made = read(root / path), {}
        for before, endings in plans_of[path].groupby("before")["after"]:
            image = run(whole, before.split(), None)
            for condition in conditions:
                degraded = run(image, (condition,), None)
                for after in endings:
                    pixels = np.asarray(run(degraded, after.split(), corners.get(path)))
                    made.setdefault((before, after), []).append(pixels)
        return {plan: np.reshape(made[plan], (-1, *output_shape(plan[1].split()))) for plan in made}

    num_bytes = sum(np.prod(output_shape(after.split())) for after in plans["after"].unique())
    chunk = max(_BYTES_AT_ONCE // (num_bytes * len(conditions)), 1)
    probability = {
        name: np.empty((len(table), len(conditions)), np.float32) for name, table in tables.items()
    }
    paths = list(plans_of)
    with (
        ThreadPoolExecutor(num_threads) as pool,
        progress(None, "Degrading", len(paths), "image") as bar,
    ):
        for start in range(0, len(paths), chunk):
            made = dict(
                zip(paths[start : start + chunk], pool.map(degrade, paths[start : start + chunk]))
            )
            for name, table in tables.items():
                rows = np.flatnonzero(table["path"].isin(made))
                if len(rows):
                    lot = table.iloc[rows]
                    keys = zip(lot["path"], lot["before"], lot["after"])
                    pixels = np.concatenate(
                        [made[path][before, after] for path, before, after in keys]
                    )
                    values = models[name].predict(Batches(pixels, shuffle=False), verbose=0)
                    probability[name][rows] = np.reshape(values, (len(rows), -1))
            bar.update(len(made))
    return probability
