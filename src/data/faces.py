"""Face boxes: MTCNN, one face a picture, kept in a table that a later run reads."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache as once
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock
from PIL import Image

from ..config import Study
from ..files import digest_of, map_files, progress, write_atomically
from ..pictures.decoding import UnreadableImage, read, reason_of
from ..pictures.steps import run
from . import catalog
from .readers import BOX

_COLUMNS = [*BOX, "confidence", "num_faces"]
_KEY = ["path", "steps", "digest", "detector"]  # a row holds while all of these do
_TYPES = dict.fromkeys(_KEY, "str") | dict.fromkeys(_COLUMNS, "float64") | {"num_faces": "int64"}

_LONGER_SIDE = 320  # larger pictures are shrunk to this: MTCNN's time grows with the area
_CANVAS = 64  # pictures are laid on black squares of a multiple of this, to share a batch
_DETECTOR = f"mtcnn-1/{_LONGER_SIDE}"
_SAVE_EVERY = 256  # pictures


def face_boxes(
    study: Study, records: pd.DataFrame, protocol: str, margin: float = 0.2
) -> pd.DataFrame:
    """The faces of `face_records`: under `controlled` in pictures after the protocol's steps.

    In files as they lie, the face of a photograph has its own aspect and that of its fake is
    squashed: the boxes alone tell them apart, and so does every detector on crops. After the same
    squashing they are boxes of the same kind.

    Args:
        study: Whose tasks.
        records: From `catalog.load`.
        protocol: `"report"` or `"controlled"`.
        margin: Added to every side of a box, as a fraction of its own width or height.

    Returns:
        The table of `detect`, one row for each record of `face_records`.
    """
    needed = face_records(study, records)
    planned = catalog.task_steps(study, records, protocol).drop_duplicates("path")
    steps = planned.set_index("path")["steps"].reindex(needed["path"]).fillna("").tolist()
    files, root = catalog.files(study, needed), catalog.root(study)
    boxes = detect(files, study.data / "boxes.parquet", root=root, steps=steps)
    return boxes.assign(**dict(zip(BOX, expand(boxes, margin).T)))


def face_records(study: Study, records: pd.DataFrame) -> pd.DataFrame:
    """The records that notebook 5 needs faces of: of all tasks, and those `is_learnt` marks."""
    needed = records["path"].isin(catalog.tasks(records, study)["path"])
    return records[needed | is_learnt(study, records)].reset_index(drop=True)


def is_learnt(study: Study, records: pd.DataFrame) -> pd.Series:
    """Marks the real faces that the autoencoder learns; raises `ValueError` if there are none."""
    dataset = study.autoencoder.train_dataset
    learnt = (records["dataset"] == dataset) & (records["label"] == "real")
    if not learnt.any():
        raise ValueError(
            f"The autoencoder learns real faces of {dataset!r}, of which there is no record. "
            f"Datasets there are: {', '.join(sorted(set(records['dataset'])))}. See notebook 1 on "
            "what is missing."
        )
    return learnt


def detect(
    files: Sequence[Path],
    cache: Path,
    *,
    root: Path,
    steps: Sequence[str] | None = None,
    batch_size: int = 32,
) -> pd.DataFrame:
    """Finds the face in every picture with MTCNN (Zhang et al. 2016, arXiv:1604.02878).

    Of several faces the one with the highest confidence, to two decimals, is kept; of equals the
    largest. Pictures keep their aspect; those whose longer side exceeds 320 pixels are shrunk to
    that first, so faces under 20 of the shrunk pixels, a sixteenth of the longer side, are not
    found.

    Args:
        files: Pictures.
        cache: Parquet file of what was found before. Only pictures that it lacks, or whose content
            differs, are looked at; it is written every 256 pictures, so a run that was killed goes
            on where it was. Of two runs at once, one works and the other waits.
        root: Folder that the paths in the table are relative to.
        steps: What is done to each picture before a face is looked for, for example
            `"squash:256 jpeg:75"`; default: nothing. A squashed face has another box than the same
            face in its own aspect.
        batch_size: Pictures of one size that are looked at together.

    Returns:
        DataFrame, one row a file in their order: `path`, `left`, `top`, `right`, `bottom`
        (fractions of the stored picture in `[0, 1]`), `confidence` (these are NaN where there is no
        face) and `num_faces`.

    Raises:
        UnreadableImage: If a file is no whole picture.
        ImportError: If a picture must be looked at, and `mtcnn` or TensorFlow is missing.
        RuntimeError: If Keras runs on another backend than TensorFlow, which `mtcnn` needs.
        ValueError: If a file does not lie below `root`, or the cache is damaged.
    """
    if not len(files):
        raise ValueError("There are no files to find faces in.")
    steps = [""] * len(files) if steps is None else steps
    if len(steps) != len(files):
        raise ValueError(f"Expected steps for each of {len(files)} files, received {len(steps)}.")
    keys = {
        "path": [_relative(file, root) for file in files],
        "steps": steps,
        "digest": map_files(_digest, files, 2, "Reading"),
    }
    keys = pd.DataFrame(keys).assign(detector=_DETECTOR).astype("str")
    cache.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{cache}.lock"):
        known = _load(cache)
        missing = keys.drop_duplicates().merge(known[_KEY], how="left", on=_KEY, indicator=True)
        missing = missing.loc[missing["_merge"] == "left_only", _KEY]
        bar = progress(None, "Finding faces", len(missing), disable=missing.empty)
        for start in range(0, len(missing), _SAVE_EVERY):
            rows = missing.iloc[start : start + _SAVE_EVERY]
            found = _detect([root / path for path in rows["path"]], rows["steps"], batch_size)
            rows = rows.assign(**dict(zip(_COLUMNS, found.T))).astype(_TYPES)
            known = pd.concat([known, rows])
            known = known.drop_duplicates(["path", "steps"], keep="last", ignore_index=True)
            write_atomically(cache, lambda path: known.to_parquet(path, index=False))  # noqa: B023
            bar.update(len(rows))
        bar.close()
    return keys.merge(known, how="left", on=_KEY)[["path", *_COLUMNS]]


def _relative(file: Path, root: Path) -> str:
    """A file's path below `root`."""
    file, root = Path(os.path.abspath(file)), Path(os.path.abspath(root))
    if not file.is_relative_to(root):
        raise ValueError(f"{file} does not lie below root, {root}.")
    return file.relative_to(root).as_posix()


def _digest(file: Path) -> str:
    """The hash of a file's content."""
    try:
        return digest_of(file)
    except OSError as error:
        raise UnreadableImage(file, reason_of(file, error)) from error


def _load(cache: Path) -> pd.DataFrame:
    """The table of what was found before; without its rows if an older version wrote it."""
    try:
        table = pd.read_parquet(cache) if cache.exists() else pd.DataFrame()
    except Exception as error:
        text = f"{cache} is no table of face boxes. Delete it; the boxes are found anew."
        raise ValueError(text) from error
    table = table if set(_TYPES) <= set(table) else pd.DataFrame(columns=list(_TYPES))
    return table[list(_TYPES)].astype(_TYPES)


@once
def _detector():
    """MTCNN, loaded when a picture must be looked at."""
    import keras

    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"MTCNN needs Keras' TensorFlow backend; this process runs on "
            f"{keras.backend.backend()}. Run this step once with KERAS_BACKEND=tensorflow: the "
            "boxes are kept, and then serve every backend."
        )
    try:
        from mtcnn import MTCNN
    except ImportError as error:
        needed = "mtcnn lz4 tensorflow"
        raise ImportError(f"Finding faces needs other packages: pip install {needed}") from error
    return MTCNN(device="CPU:0")


def _detect(files: list[Path], steps: Sequence[str], batch_size: int) -> np.ndarray:
    """The best face of every file: `(num_files, 6)`, the columns of `_COLUMNS`."""
    with ThreadPoolExecutor(2) as pool:
        pictures = list(pool.map(_shrunk, files, steps))
    sides = np.array([-(-max(picture.shape) // _CANVAS) * _CANVAS for picture in pictures])
    found = np.full((len(files), len(_COLUMNS)), np.nan)
    for side in np.unique(sides):
        members = np.flatnonzero(sides == side)
        for rows in np.split(members, range(batch_size, len(members), batch_size)):
            # Equal canvases, because mtcnn 1.0 mixes up the offsets of pictures of several sizes
            # once one has no face; and its smallest face stays at 20 pixels, because far larger
            # ones give its image pyramid levels under 11 pixels, at which it reports "no face" for
            # the complete batch.
            canvases = np.zeros((len(rows), side, side, 3), np.float32)
            for canvas, row in zip(canvases, rows):
                height, width = pictures[row].shape[:2]
                canvas[:height, :width] = pictures[row]
            faces = _detector().detect_faces(
                list(canvases), box_format="xyxy", output_type="numpy", postprocess=False
            )
            for index, row in enumerate(rows):
                found[row] = _best(faces[faces[:, 0] == index, 1:6], *pictures[row].shape[:2])
    return found


def _shrunk(file: Path, steps: str) -> np.ndarray:
    """The picture after its steps, its longer side at most `_LONGER_SIDE`."""
    image = run(read(file), steps.split(), None)
    scale = min(_LONGER_SIDE / max(image.size), 1)
    size = [max(round(scale * side), 1) for side in image.size]
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR) if scale < 1 else image)


def _best(faces: np.ndarray, height: int, width: int) -> np.ndarray:
    """One row of `_COLUMNS` from all faces of a picture: `(N, 5)`, pixels and confidence."""
    boxes = (faces[:, :4] / (width, height, width, height)).clip(0, 1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    inside = area > 0  # others lie off the picture
    boxes, confidence, area = boxes[inside], faces[inside, 4], area[inside]
    if not len(boxes):
        return np.array([np.nan] * 5 + [0])
    best = np.lexsort((area, confidence.round(2)))[-1]
    return np.array([*boxes[best], confidence[best], len(boxes)])


def expand(boxes: np.ndarray | pd.DataFrame, margin: float) -> np.ndarray:
    """Grows boxes on all sides by a fraction of their own width and height, within the picture.

    Args:
        boxes: `(num_boxes, 4)`: left, top, right, bottom as fractions in `[0, 1]`; or `detect`'s
            table.
        margin: `0.2` adds a fifth of the width at the left and at the right, and so for the height.

    Returns:
        `float64`, `(num_boxes, 4)`. NaN stays NaN.

    Example:
    >>> expand(np.array([[0.4, 0.4, 0.6, 0.8]]), 0.5).round(3).tolist()
    [[0.3, 0.2, 0.7, 1.0]]
    """
    boxes = np.asarray(boxes[BOX] if isinstance(boxes, pd.DataFrame) else boxes, float)
    grow = margin * (boxes[:, 2:] - boxes[:, :2])
    return np.concatenate([boxes[:, :2] - grow, boxes[:, 2:] + grow], axis=1).clip(0, 1)


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union, box by box.

    Args:
        a: `(..., 4)`: left, top, right, bottom.
        b: The same; the leading axes broadcast.

    Returns:
        `float64`, in `[0, 1]`, of the broadcast shape; 0 where both boxes are empty, NaN where one
        is NaN.

    Example:
    >>> float(iou(np.array([0, 0, 2, 2]), np.array([1, 0, 3, 2])).round(3))
    0.333
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = sides.clip(min=0).prod(axis=-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(axis=-1) for box in (a, b)]
    union = areas[0] + areas[1] - shared
    return shared / np.where(union == 0, 1, union)


def box_agreement(boxes: pd.DataFrame, reference: pd.DataFrame) -> pd.Series:
    """How well found boxes agree with others of the same pictures, for example `wiki.mat`'s.

    Args:
        boxes: `detect`'s table, not expanded.
        reference: Columns `path`, `left`, `top`, `right`, `bottom`; rows with NaN are left out.

    Returns:
        `compared`: pictures in both tables; `found`: the share of them in which there is a box; of
        these the `median` intersection over union and the share with `at_least_half`. NaN where
        there is nothing to compare.

    Example:
    >>> found = pd.DataFrame([["a", 0, 0, 1, 1], ["b", *[np.nan] * 4]], columns=["path", *BOX])
    >>> known = pd.DataFrame([["a", 0, 0, 1, 0.8], ["b", 0, 0, 1, 1]], columns=["path", *BOX])
    >>> box_agreement(found, known).to_dict()
    {'compared': 2.0, 'found': 0.5, 'median': 0.8, 'at_least_half': 1.0}
    """
    known = reference[["path", *BOX]].dropna().drop_duplicates("path")
    boxes = boxes[["path", *BOX]].drop_duplicates("path")
    both = boxes.merge(known, on="path", suffixes=("", "_known"))
    found = both.dropna()
    shared = pd.Series(iou(found[BOX], found[[f"{side}_known" for side in BOX]]), dtype=float)
    table = {
        "compared": len(both),
        "found": both["left"].notna().mean(),
        "median": shared.median(),
        "at_least_half": (shared >= 0.5).mean(),
    }
    return pd.Series(table, dtype=float)
