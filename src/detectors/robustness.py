"""What a detector is worth on pictures that have suffered on their way: degraded, scored, compared.

Nothing is trained here; thresholds are those of clean validation pictures.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from ..config import Study
from ..data import catalog, readers
from ..evaluation.comparisons import is_tested
from ..evaluation.results import SCORE_COLUMNS, result_rows
from ..files import progress, write_atomically
from ..pictures.batches import Batches
from ..pictures.decoding import read
from ..pictures.steps import DEGRADATIONS, output_shape, run
from . import training

# What pictures may suffer: DeepFakeFace's four families and three more, each from mild to severe.
FAMILIES = DEGRADATIONS | {
    "jpeg": tuple(f"jpeg:{quality}" for quality in (90, 80, 70, 60, 50, 40, 30)),
    "noise": ("noise:2", "noise:5", "noise:10", "noise:20"),
    "downscale": ("downscale:1.5", "downscale:2", "downscale:3", "downscale:4"),
}
_BYTES_AT_ONCE = 128 << 20


def score_degraded(
    study: Study,
    detectors: Mapping[str, tuple],
    *,
    conditions: Sequence[str] | None = None,
    boxes: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Scores the in-domain test pictures under every degradation, and keeps the scores.

    A picture is degraded after the steps of its protocol and before those of the network, real ones
    and fakes alike. It is decoded once for all conditions and detectors. Scores go to
    `data/<study>/degraded/<model id>.parquet`; those of an unchanged model on unchanged pictures
    are read back.

    Args:
        study: Whose folders and training set.
        detectors: Model id → (network, its `scoring.Pictures`).
        conditions: Steps, for example `["jpeg:50"]`; default: those of `FAMILIES`.
        boxes: Face boxes, as for `scoring.prepare`, for networks that see crops.

    Returns:
        `model_id`, the columns of `results.SCORE_COLUMNS`, and `condition`.

    Raises:
        ValueError: If the pictures of a detector hold no test rows of the task.
    """
    conditions = list(conditions or (step for steps in FAMILIES.values() for step in steps))
    scores, tables = {}, {}
    for model_id, (model, pictures) in detectors.items():
        parts = [training.identity(model), pictures.identity, study.train_set, *conditions]
        made_from = " ".join(parts)
        file = study.data / "degraded" / f"{model_id}.parquet"
        scores[model_id] = pd.read_parquet(file) if file.is_file() else pd.DataFrame()
        if scores[model_id].attrs.get("made_from") != made_from:
            real_source = study.test_sets[study.train_set]
            table = pictures.table[is_tested(pictures.table, study.train_set, real_source)]
            if table.empty:
                raise ValueError(
                    f"The pictures of {model_id!r} hold no tests of {study.train_set!r}."
                )
            cut = [_before_and_after(plan, pictures.protocol) for plan in table["steps"]]
            tables[model_id] = table.assign(before=[b for b, _ in cut], after=[a for _, a in cut])
            tables[model_id].attrs["made_from"] = made_from  # kept in the file's metadata
    if tables:
        probabilities = _predict_degraded(study, detectors, tables, conditions, boxes)
    for model_id, table in tables.items():
        table["label"] = (table["label"] == "fake").astype("int8")
        parts = [
            table.assign(score=column, condition=step)
            for column, step in zip(probabilities[model_id].T, conditions)
        ]
        frame = pd.concat(parts, ignore_index=True)[[*SCORE_COLUMNS, "condition"]]
        write_atomically(study.data / "degraded" / f"{model_id}.parquet", frame.to_parquet)
        scores[model_id] = frame
    return pd.concat(scores, names=["model_id"]).reset_index("model_id").reset_index(drop=True)


def degraded_rows(study: Study, scores: pd.DataFrame, card: dict) -> pd.DataFrame:
    """Rows for `results.csv` of one detector under every condition, for example `auc@jpeg:50`.

    Args:
        study: Gives `num_resamples` and the seed.
        scores: From `score_degraded`, of one detector.
        card: Of the detector.
    """
    names = ("auc", "accuracy_at_threshold")
    parts = scores.groupby("condition", sort=False)
    rows = [result_rows(study, part, card, names, condition) for condition, part in parts]
    return pd.concat(rows, ignore_index=True)


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
    wide = rows.pivot(index="model", columns="metric", values="value")
    above_chance = rows[(rows["metric"] == "auc") & (rows["ci_low"] > 0.5)]["model"]
    wide = wide.loc[above_chance]
    columns = ["family", "model", "clean", "halfway", "breaks_at", "auc", "first"]
    tables = [pd.DataFrame(columns=columns)]
    for family, steps in FAMILIES.items():
        steps = [step for step in steps if f"auc@{step}" in wide]
        auc = wide[[f"auc@{step}" for step in steps]].dropna(how="all")
        if auc.empty:
            continue
        clean = wide.loc[auc.index, "auc"]
        halfway = (clean + 0.5) / 2
        below = auc.lt(halfway, axis=0).to_numpy()
        place = np.where(below.any(axis=1), below.argmax(axis=1), len(steps))
        there = auc.to_numpy()[np.arange(len(auc)), np.minimum(place, len(steps) - 1)]
        first = below.any(axis=1) & (place == place.min())
        cells = [family, auc.index, clean, halfway, np.append(steps, "")[place], there, first]
        table = pd.DataFrame(dict(zip(columns, cells)))
        tables.append(table.iloc[np.lexsort((there, place))])
    return pd.concat(tables[1:] or tables, ignore_index=True)


def _before_and_after(plan: str, protocol: str) -> tuple[str, str]:
    """The steps of a picture, cut where it is degraded: the protocol's and the network's."""
    plan, num = plan.split(), 0
    if protocol == "controlled":  # a square, then saved as JPEG: see `steps.protocol_steps`
        num = 1 + (plan[0] == "square")
        num += next(n for n, step in enumerate(plan[num:]) if not step.startswith("jpeg:"))
    return " ".join(plan[:num]), " ".join(plan[num:])


def _predict_degraded(study, detectors, tables, conditions, boxes) -> dict[str, np.ndarray]:
    """Probabilities of fake, model id → `(num_rows, num_conditions)`, a row for each of a table."""
    plans = pd.concat(tables.values())[["path", "before", "after"]].drop_duplicates()
    root, plans_of = catalog.root(study), dict(list(plans.groupby("path", sort=False)))
    corners = {}
    if boxes is not None:
        corners = boxes.drop_duplicates("path").set_index("path")[readers.BOX].T.to_dict("list")

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
    bar = progress(None, "Degrading", len(paths), "image")
    with ThreadPoolExecutor(2) as pool, bar:
        for start in range(0, len(paths), chunk):
            some = paths[start : start + chunk]
            made = dict(zip(some, pool.map(degrade, some)))
            for name, table in tables.items():
                rows = np.flatnonzero(table["path"].isin(made))
                if len(rows):
                    keys = table.iloc[rows][["path", "before", "after"]].to_numpy()
                    pixels = [made[path][before, after] for path, before, after in keys]
                    batches = Batches(np.concatenate(pixels), shuffle=False)
                    values = detectors[name][0].predict(batches, verbose=0)
                    probability[name][rows] = np.reshape(values, (len(rows), -1))
            bar.update(len(made))
    return probability
