"""How well detectors do on degraded pictures: degraded, scored, compared.

Nothing is trained here; thresholds are those of clean validation pictures.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from ..config import Study
from ..data import catalog, readers
from ..evaluation.comparisons import is_tested
from ..evaluation.intervals import ABOVE_CHANCE
from ..evaluation.results import SCORE_COLUMNS, result_rows
from ..files import progress, write_atomically
from ..pictures.batches import Batches
from ..pictures.decoding import read
from ..pictures.steps import output_shape, run
from . import training

# Degradations, from mild to severe: three of the five levels of each of DeepFakeFace's four
# families (Song et al. 2023, "Robustness and Generalizability of Deepfake Detection: A Study with
# Diffusion Models", arXiv:2309.02218), and three families more.
FAMILIES = {
    "chroma": ("chroma:0.4", "chroma:0.2", "chroma:0"),
    "brightness": ("brightness:0.85", "brightness:0.6", "brightness:0.35"),
    "blur": ("blur:7", "blur:13", "blur:21"),
    "pixelate": ("pixelate:2", "pixelate:4", "pixelate:6"),
    "jpeg": ("jpeg:90", "jpeg:70", "jpeg:50", "jpeg:30"),
    "noise": ("noise:2", "noise:5", "noise:10", "noise:20"),
    "downscale": ("downscale:1.5", "downscale:2", "downscale:4"),
}
_PICTURES_AT_ONCE = 32


def score_degraded(
    study: Study, detectors: Mapping[str, tuple], *, boxes: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Scores the in-domain test pictures under all of `FAMILIES`, and keeps the scores.

    Real and fake pictures are degraded after the steps of the protocol and before those of the
    network. Scores of an unchanged model on unchanged pictures are read back from
    `data/<study>/degraded/<model id>.parquet`.

    Args:
        study: Whose folders and training set.
        detectors: Model id → (network, its `scoring.Pictures`).
        boxes: Face boxes for networks that see crops, as for `scoring.prepare`.

    Returns:
        `model_id`, the columns of `results.SCORE_COLUMNS`, and `condition`.

    Raises:
        ValueError: If the pictures of a detector hold no test rows of the training set.
    """
    conditions = [step for steps in FAMILIES.values() for step in steps]
    scores = {}
    for model_id, (model, pictures) in detectors.items():
        what = [training.identity(model), pictures.identity, study.train_set]
        made_from = " ".join(what + conditions)
        file = study.data / "degraded" / f"{model_id}.parquet"
        frame = pd.read_parquet(file) if file.is_file() else pd.DataFrame()
        if frame.attrs.get("made_from") != made_from:
            real_source = study.test_sets[study.train_set]
            table = pictures.table[is_tested(pictures.table, study.train_set, real_source)]
            if table.empty:
                raise ValueError(
                    f"The pictures of {model_id!r} hold no tests of {study.train_set!r}. "
                    f"Pass those of `scoring.prepare` for the study {study.name!r}."
                )
            table = table.assign(label=(table["label"] == "fake").astype("int8"))
            columns = _predict_degraded(study, model, table, pictures.protocol, conditions, boxes).T
            pairs = zip(columns, conditions)
            parts = [table.assign(score=column, condition=step) for column, step in pairs]
            frame = pd.concat(parts, ignore_index=True)[[*SCORE_COLUMNS, "condition"]]
            frame.attrs["made_from"] = made_from  # kept in the file's metadata
            write_atomically(file, frame.to_parquet)
        scores[model_id] = frame
    return pd.concat(scores, names=["model_id"]).reset_index("model_id").reset_index(drop=True)


def degraded_rows(study: Study, scores: pd.DataFrame, card: dict) -> pd.DataFrame:
    """Rows for `results.csv` of one detector, such as `auc@jpeg:50`, from `score_degraded`."""
    names = ("auc", "accuracy_at_threshold")
    parts = scores.groupby("condition", sort=False)
    rows = [result_rows(study, part, card, names, condition) for condition, part in parts]
    return pd.concat(rows, ignore_index=True)


def breaks_first(rows: pd.DataFrame) -> pd.DataFrame:
    """The level of each family of degradations at which a detector loses half its AUC above 0.5.

    That is the mildest level at which its AUC is below halfway between 0.5 and the AUC on clean
    pictures. A detector whose clean AUC's interval is not above `ABOVE_CHANCE` is left out.

    Args:
        rows: Of `results.csv`, of one test set, protocol and seed.

    Returns:
        One row a family and detector, the first to break on top: `family, model, clean, halfway,
        breaks_at` (the condition, or empty if it holds out), `auc` there (or at the last level) and
        `first`; no rows if no degraded detector is above chance.
    """
    rows = rows[rows["metric"].str.partition("@")[0] == "auc"]
    wide = rows.pivot(index="model", columns="metric", values="value")
    above_chance = rows[(rows["metric"] == "auc") & (rows["ci_low"] > ABOVE_CHANCE)]["model"]
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


def _before_and_after(steps: str, protocol: str) -> tuple[list[str], list[str]]:
    """The steps of a picture before it is degraded, the protocol's, and after, the network's."""
    plan, num = steps.split(), 0
    if protocol == "controlled":  # a square, then saved as JPEG: see `steps.protocol_steps`
        num = 1 + (plan[0] == "square")
        num += next(n for n, step in enumerate(plan[num:]) if not step.startswith("jpeg:"))
    return plan[:num], plan[num:]


def _predict_degraded(study, model, table, protocol, conditions, boxes) -> np.ndarray:
    """Probabilities of fake, `(num_rows, num_conditions)`."""
    root, corners = catalog.root(study), {}
    if boxes is not None:
        corners = boxes.drop_duplicates("path").set_index("path")[readers.BOX].T.to_dict("list")

    def degrade(path: str, steps: str) -> np.ndarray:
        """One picture under all conditions."""
        before, after = _before_and_after(steps, protocol)
        image, box = run(read(root / path), before, None), corners.get(path)
        made = [run(run(image, (condition,), None), after, box) for condition in conditions]
        return np.reshape([np.asarray(pixels) for pixels in made], (-1, *output_shape(after)))

    model, found = training.shared(model), []
    starts = range(0, len(table), _PICTURES_AT_ONCE)
    with ThreadPoolExecutor(2) as pool:
        for start in progress(starts, "Degrading", unit=f"{_PICTURES_AT_ONCE} images"):
            rows = table.iloc[start : start + _PICTURES_AT_ONCE]
            pixels = np.concatenate(list(pool.map(degrade, rows["path"], rows["steps"])))
            found.append(model.predict(Batches(pixels, shuffle=False).feed(), verbose=0))
    return np.concatenate(found).reshape(len(table), len(conditions))
