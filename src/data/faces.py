"""Face boxes: MTCNN, one face a picture, kept in a table that a later run reads."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache as once
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock
from PIL import Image

from ..config import Study
from ..files import digest_of, progress, write_atomically
from ..pictures.decoding import read
from ..pictures.steps import run
from ..shards import map_files, over
from . import catalog
from .readers import BOX

_COLUMNS = [*BOX, "confidence", "num_faces"]
_KEY = ["path", "steps", "digest", "detector"]  # a row holds while all of these do
_TYPES = dict.fromkeys(_KEY, "str") | dict.fromkeys(_COLUMNS, "float64") | {"num_faces": "int64"}

_LONGER_SIDE = 320  # larger pictures are shrunk to this: MTCNN's time grows with the area
_CANVAS = 64  # pictures are laid on black squares of a multiple of this, to share a batch
_DETECTOR = f"mtcnn-1/{_LONGER_SIDE}"
_VIEW = ["path", "squashed"]  # a picture, and whether it is squashed or cut to a square
_SAVE_EVERY, _BATCH_SIZE = 256, 32  # pictures


def face_boxes(
    study: Study, records: pd.DataFrame, protocol: str, margin: float = 0.2
) -> pd.DataFrame:
    """The faces of `face_records`: under `controlled` in pictures after the protocol's steps.

    In files as they are, a face has its own aspect in a photograph and is squashed in its fake: the
    boxes alone would tell them apart.

    Returns:
        The table of `detect` with the column `squashed`: one row for each record of `face_records`,
        two for photographs that are squashed for one generator and cut to a square for another (the
        training's first). Boxes are grown on every side by `margin`, a fraction of their own width
        or height.
    """
    planned = catalog.task_steps(study, records, protocol).drop_duplicates(_VIEW)
    needed = face_records(study, records).merge(planned[[*_VIEW, "steps"]], how="left", on="path")
    steps, cache = needed["steps"].fillna(""), study.data / "boxes.parquet"
    boxes = detect(catalog.root(study), needed["path"], steps, cache)
    boxes["squashed"] = needed["squashed"].eq(True).to_numpy()
    corners = boxes[BOX].to_numpy()
    grow = margin * (corners[:, 2:] - corners[:, :2])
    boxes[BOX] = np.hstack([corners[:, :2] - grow, corners[:, 2:] + grow]).clip(0, 1)
    return boxes


def boxes_of(table: pd.DataFrame, boxes: pd.DataFrame) -> np.ndarray:
    """The box from `face_boxes` of each row of `catalog.task_steps`, `(N, 4)`; NaN for none."""
    found = boxes.drop_duplicates(_VIEW)[[*_VIEW, *BOX]]
    return table[_VIEW].merge(found, how="left", on=_VIEW)[BOX].to_numpy(float)


def face_records(study: Study, records: pd.DataFrame) -> pd.DataFrame:
    """The records that notebook 5 needs faces of: of all tasks, and those `is_learnt` marks."""
    needed = records["path"].isin(catalog.tasks(records, study)["path"])
    return records[needed | is_learnt(study, records)].reset_index(drop=True)


def is_learnt(study: Study, records: pd.DataFrame) -> np.ndarray:
    """Marks the real faces that the autoencoder learns; raises `ValueError` if there are none.

    Of more than `study.num_faces` in the training split, so many are drawn; of the other splits as
    large a share.
    """
    dataset = study.autoencoder.train_dataset
    learnt = records.index.isin(catalog.photographs(records, dataset).index)
    if not learnt.any():
        there = f"of which there is no record. Use one of these: {set(records['dataset'])}."
        raise ValueError(f"The autoencoder learns real faces of {dataset!r}, {there}")
    training = learnt & (records["split"] == "train").to_numpy()
    if study.num_faces and training.sum() > study.num_faces:
        place = records["path"].map(catalog.unit_interval)
        learnt &= (place <= place[training].nsmallest(study.num_faces).iloc[-1]).to_numpy()
    return learnt


def detect(root: Path, paths: Sequence[str], steps: Sequence[str], cache: Path) -> pd.DataFrame:
    """Finds the face in every picture with MTCNN (Zhang et al. 2016, arXiv:1604.02878).

    Of several faces the one with the highest confidence, to two decimals, is kept; of equals the
    largest. Faces under a sixteenth of the picture's longer side may not be found.

    Args:
        root: Folder that the paths are relative to.
        paths: Pictures.
        steps: What is done to each before, such as `"squash:256 jpeg:75"`.
        cache: Parquet file of what was found before. Only pictures that it lacks, or whose content
            differs, are looked at; a run that was killed goes on, of two at once one waits.

    Returns:
        DataFrame, one row a picture in their order: `path`, `left`, `top`, `right`, `bottom`
        (fractions in `[0, 1]`), `confidence` (these are NaN where there is no face), `num_faces`.

    Raises:
        UnreadableImage: If a file is no whole picture.
        RuntimeError: If Keras runs on another backend than TensorFlow, which `mtcnn` needs.
    """
    keys = pd.DataFrame({"path": list(paths), "steps": list(steps)}, dtype="str")
    keys["digest"] = map_files(digest_of, [root / path for path in paths], 2, "Reading")
    keys = keys.assign(detector=_DETECTOR).astype("str")
    cache.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{cache}.lock"):
        known = pd.read_parquet(cache) if cache.exists() else pd.DataFrame(columns=list(_TYPES))
        known = known.astype(_TYPES)
        missing = keys.drop_duplicates().merge(known[_KEY], how="left", on=_KEY, indicator=True)
        missing = missing.loc[missing["_merge"] == "left_only", _KEY]
        starts = range(0, len(missing), _SAVE_EVERY)
        parts = [missing.iloc[start : start + _SAVE_EVERY] for start in starts]
        found_in = over(partial(_detect, root), parts, num_threads=1)
        bar = progress(parts, "Finding faces", unit=f"{_SAVE_EVERY} files")
        for rows, found in zip(bar, found_in):
            rows = rows.assign(**dict(zip(_COLUMNS, found.T))).astype(_TYPES)
            known = pd.concat([known, rows])
            known = known.drop_duplicates(["path", "steps"], keep="last", ignore_index=True)
            write_atomically(cache, partial(known.to_parquet, index=False))
    return keys.merge(known, how="left", on=_KEY)[["path", *_COLUMNS]]


@once
def _detector():
    """MTCNN, loaded when a picture must be looked at."""
    import keras

    if keras.backend.backend() != "tensorflow":
        advice = "Run this step once with KERAS_BACKEND=tensorflow: its boxes serve every backend"
        raise RuntimeError(f"MTCNN needs TensorFlow. {advice}, also {keras.backend.backend()}.")
    from mtcnn import MTCNN

    return MTCNN(device="CPU:0")


def _detect(root: Path, rows: pd.DataFrame) -> np.ndarray:
    """The best face of every picture: `(num_pictures, 6)`, the columns of `_COLUMNS`."""
    files, plans = [root / path for path in rows["path"]], [plan.split() for plan in rows["steps"]]
    with ThreadPoolExecutor(2) as pool:
        small = pool.map(lambda file, plan: shrunk(run(read(file), plan, None)), files, plans)
        found = find_all(list(small))
    nowhere = np.full((1, len(_COLUMNS) - 1), np.nan)
    return np.array([[*(faces if len(faces) else nowhere)[0], len(faces)] for faces in found])


def find_all(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """All faces of each `shrunk` picture, as `detect` orders them, the best first.

    For each `(num_faces, 5)`: left, top, right, bottom as fractions, and the confidence.
    """
    sides = np.array([-(-max(picture.shape) // _CANVAS) * _CANVAS for picture in pictures])
    found = [None] * len(pictures)
    for side in np.unique(sides):
        members = np.flatnonzero(sides == side)
        for rows in np.split(members, range(_BATCH_SIZE, len(members), _BATCH_SIZE)):
            # Of pictures of several sizes, mtcnn 1.0 mixes up the offsets once one has no face; at
            # image pyramid levels under 11 pixels it reports "no face" for the complete batch.
            canvases = np.zeros((len(rows), side, side, 3), np.float32)
            for canvas, row in zip(canvases, rows):
                height, width = pictures[row].shape[:2]
                canvas[:height, :width] = pictures[row]
            faces = _detector().detect_faces(
                list(canvases), box_format="xyxy", output_type="numpy", postprocess=False
            )
            for index, row in enumerate(rows):
                found[row] = _ordered(faces[faces[:, 0] == index, 1:6], *pictures[row].shape[:2])
    return found


def shrunk(image: Image.Image) -> np.ndarray:
    """A picture as MTCNN looks at it: its longer side at most `_LONGER_SIDE`."""
    scale = min(_LONGER_SIDE / max(image.size), 1)
    size = [max(round(scale * side), 1) for side in image.size]
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR) if scale < 1 else image)


def _ordered(faces: np.ndarray, height: int, width: int) -> np.ndarray:
    """Faces `(N, 5)` from pixels to fractions, the best first; those off the picture go."""
    corners = (faces[:, :4] / (width, height, width, height)).clip(0, 1)
    area = (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    order = np.lexsort((area, faces[:, 4].round(2)))[::-1]
    return np.column_stack([corners, faces[:, 4]])[order][area[order] > 0]


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union, `(...)`, of boxes `(..., 4)`; 0 where both are empty."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = sides.clip(min=0).prod(axis=-1)
    union = sum((box[..., 2:] - box[..., :2]).prod(axis=-1) for box in (a, b)) - shared
    return shared / np.where(union == 0, 1, union)


def box_agreement(boxes: pd.DataFrame, reference: pd.DataFrame) -> pd.Series:
    """How well boxes found by `detect` agree with others, such as `wiki.mat`'s, by `path`.

    Returns:
        `compared`: pictures that have a box in `reference` and a row in `boxes`; `found`: the share
        of them in which there is a box; of these the `median` intersection over union and the share
        with `at_least_half`.
    """
    known = reference[["path", *BOX]].dropna().drop_duplicates("path")
    boxes = boxes[["path", *BOX]].drop_duplicates("path")
    both = boxes.merge(known, on="path", suffixes=("", "_known"))
    found = both.dropna()
    shared = pd.Series(iou(found[BOX], found[[f"{side}_known" for side in BOX]]), dtype=float)
    values = {"compared": len(both), "found": both["left"].notna().mean()}
    values |= {"median": shared.median(), "at_least_half": (shared >= 0.5).mean()}
    return pd.Series(values, dtype=float)
