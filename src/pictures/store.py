"""The prepared pixel store: files → steps → one memory-mapped array.

`prepare` decodes many files once, in parallel, applies to each its steps (see `steps`), and keeps the result.
What notebooks need of decoding and steps is at hand here too.
"""

import errno
import hashlib
import os
import shutil
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from ..files import progress
from .decoding import UnreadableImage, decode, inspect, inspect_all, read, reason_of
from .steps import DEGRADATIONS, apply, output_shape, protocol_steps, run

__all__ = [
    "DEGRADATIONS",
    "Store",
    "UnreadableImage",
    "apply",
    "decode",
    "inspect",
    "inspect_all",
    "prepare",
    "protocol_steps",
]

_VERSION = 2  # part of every fingerprint; raise it when a step changes what it does
_CHUNK_BYTES, _CHUNK_ROWS, _TASK_ROWS = 8 << 20, 128, 16


@dataclass(frozen=True)
class Store:
    """Pictures that are ready for a network.

    Args:
        pixels: `uint8`, `(num_images, size, size, channels)`, mapped from the disk, read-only; one row a file.
        folder: Where `pixels.npy` and `steps.csv` lie.
    """

    pixels: np.memmap
    folder: Path

    @property
    def steps(self) -> pd.DataFrame:
        """Columns `path`, `steps` and, if there were boxes, `left`, `top`, `right`, `bottom`; one row a file."""
        return pd.read_csv(self.folder / "steps.csv", keep_default_na=False)


def prepare(
    files: Sequence[Path],
    steps: Sequence[str] | Sequence[Sequence[str]],
    folder: Path | str,
    *,
    boxes: np.ndarray | None = None,
    num_threads: int = 2,
    description: str = "Preparing",
) -> Store:
    """Decodes every file once, applies its steps, and keeps the pixels as one memory-mapped array.

    The array lies in `folder/<fingerprint>/pixels.npy`. The fingerprint covers each file's name, size and time of
    change, the steps and the boxes, so the same call finds the array ready and any change makes a new one. A run
    that was killed goes on where it was; of two at once, one works and the other waits for it.

    Args:
        files: Pictures; rows of the array keep their order.
        steps: One sequence of steps for all, or one for each file. All must end in pictures of one shape.
        folder: Of all prepared arrays.
        boxes: `float`, `(num_images, 4)`: left, top, right, bottom as fractions in `[0, 1]`, for the step `crop`.
        num_threads: Decoders at work.
        description: Of the progress bar.

    Returns:
        A `Store`.

    Raises:
        UnreadableImage: If a file is no whole picture.
        OSError: If the disk is too small.
        ValueError: If steps or boxes do not fit the files.
    """
    paths = [os.path.abspath(file) for file in files]
    steps = list(steps)
    shared = all(isinstance(step, str) for step in steps)
    plans = [tuple(steps)] * len(paths) if shared else [tuple(plan) for plan in steps]
    boxes = None if boxes is None else np.asarray(boxes, float)
    shape = _check(paths, plans, boxes)
    start = len(os.path.join(os.path.dirname(os.path.commonprefix(paths)), ""))
    names = [path[start:].replace(os.sep, "/") for path in paths]
    home = Path(folder) / _fingerprint(paths, names, plans, boxes)
    ready = home / "pixels.npy"
    if not ready.exists():
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / "lock"):
            if not ready.exists():
                table = pd.DataFrame({"path": names, "steps": [" ".join(plan) for plan in plans]})
                if boxes is not None:
                    table[["left", "top", "right", "bottom"]] = boxes
                table.to_csv(home / "steps.csv", index=False, errors="backslashreplace")
                one = partial(_prepared, paths, plans, boxes)
                _fill(home, (len(paths), *shape), one, num_threads, description)
                os.replace(home / "pixels.npy.part", ready)
                (home / "done").unlink()
    return Store(np.load(ready, mmap_mode="r"), home)


def _check(paths: list[str], plans: list[tuple], boxes: np.ndarray | None) -> tuple[int, ...]:
    """The shape of all rows; raises if files, steps and boxes do not fit each other."""
    if not paths:
        raise ValueError("There are no files to prepare.")
    if len(plans) != len(paths):
        raise ValueError(
            f"Expected one tuple of steps, or one for each of {len(paths)} files. Received: {len(plans)}."
        )
    if boxes is not None and np.shape(boxes) != (len(paths), 4):
        raise ValueError(f"Expected boxes of shape {(len(paths), 4)}. Received: {np.shape(boxes)}.")
    shapes = {output_shape(plan): plan for plan in set(plans)}
    if len(shapes) > 1:
        raise ValueError(
            f"Steps must end in one shape; these end in {sorted(shapes)}: {list(shapes.values())}."
        )
    cropped = np.array(["crop" in plan for plan in plans])
    boxed = np.zeros(len(paths), bool) if boxes is None else np.isfinite(boxes).all(axis=1)
    lost = np.flatnonzero(cropped & ~boxed)
    if len(lost):
        raise ValueError(
            f"{len(lost)} of {len(paths)} files have the step 'crop' but no box, the first: {paths[lost[0]]}. "
            "Pass boxes, leave out pictures with no face, or leave out their 'crop'."
        )
    return next(iter(shapes))


def _fingerprint(
    paths: list[str], names: list[str], plans: list[tuple], boxes: np.ndarray | None
) -> str:
    """A name for everything that the prepared pixels depend on, wherever the files' common folder lies."""
    lines = [str(_VERSION)]
    for path, name, plan in zip(paths, names, plans):
        try:
            stat = os.stat(path)
        except OSError as error:
            raise UnreadableImage(path, reason_of(path, error)) from error
        lines.append(f"{name}|{stat.st_size}|{stat.st_mtime_ns}|{' '.join(plan)}")
    digest = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape"))
    digest.update(b"" if boxes is None else np.ascontiguousarray(boxes).tobytes())
    return digest.hexdigest()[:16]


def _prepared(
    paths: list[str], plans: list[tuple], boxes: np.ndarray | None, row: int
) -> np.ndarray:
    """One row of the store."""
    try:
        image = read(paths[row])
    except UnreadableImage as error:
        hint = "`inspect_all` lists such files with their reasons: reject them before preparing"
        raise UnreadableImage(paths[row], f"{error.reason} ({hint})") from error
    return np.asarray(run(image, plans[row], None if boxes is None else boxes[row]))


def _fill(
    home: Path, shape: tuple[int, ...], prepared: Callable, num_threads: int, description: str
) -> None:
    """Writes `pixels.npy.part` in chunks of rows; the file `done` says how many rows are safely on the disk.

    Rows are written, not assigned to a memory map: on a full disk a write is an error, an assignment a crash.
    """
    part, done, (num_rows, *_) = home / "pixels.npy.part", home / "done", shape
    row_bytes = int(np.prod(shape[1:]))
    num_done = int(done.read_text()) if part.exists() and done.exists() else 0
    _check_space(home, (num_rows - num_done) * row_bytes)
    if not num_done:
        np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
    offset = np.load(part, mmap_mode="r").offset
    chunk = min(max(_CHUNK_BYTES // row_bytes, 1), _CHUNK_ROWS)

    def fill(buffer: np.ndarray, first: int) -> None:
        for index in range(len(buffer)):
            buffer[index] = prepared(first + index).reshape(shape[1:])

    with (
        ThreadPoolExecutor(num_threads) as pool,
        open(part, "r+b") as stream,
        progress(None, description, num_rows, "image", initial=num_done) as bar,
    ):

        def start(first: int) -> tuple[int, np.ndarray, list[Future]]:
            rows = np.empty((min(chunk, num_rows - first), *shape[1:]), np.uint8)
            pieces = range(0, len(rows), _TASK_ROWS)
            return (
                first,
                rows,
                [pool.submit(fill, rows[at : at + _TASK_ROWS], first + at) for at in pieces],
            )

        def finish(first: int, rows: np.ndarray, tasks: list[Future]) -> None:
            for task in tasks:
                task.result()
            stream.seek(offset + first * row_bytes)
            stream.write(rows)
            stream.flush()
            os.fsync(stream.fileno())
            beside = done.with_suffix(".part")
            beside.write_text(str(first + len(rows)))
            os.replace(beside, done)
            bar.update(len(rows))

        ahead = deque()  # threads work on one chunk while the chunk before it is written
        try:
            for first in range(num_done, num_rows, chunk):
                ahead.append(start(first))
                if len(ahead) > 1:
                    finish(*ahead.popleft())
            while ahead:
                finish(*ahead.popleft())
        except OSError as error:
            pool.shutdown(cancel_futures=True)
            if error.errno == errno.ENOSPC:
                _check_space(home, (num_rows - bar.n) * row_bytes)
            raise
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _check_space(folder: Path, num_bytes: int) -> None:
    """Raises if the disk lacks room."""
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise OSError(
            errno.ENOSPC,
            f"Prepared pictures need {num_bytes / 1e6:,.0f} MB more, and {free / 1e6:,.0f} MB are free. Make room, or "
            "set TRUE_OR_FAKE_HOME to a folder on a larger disk; what is prepared already is kept",
            str(folder),
        )
