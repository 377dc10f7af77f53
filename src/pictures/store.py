"""The prepared pixel store: files → steps → one memory-mapped array.

    <key>/pixels.npy        the array; `pixels.npy.part` and `done` (how many rows) until it is full
    <key>/opened-<hash>     for each list of files that the array was opened for: an empty file
    <key>.lock              held while the array is written, opened or deleted

The key is a hash of contents, steps and boxes. The other hash is of the files' paths, sizes and
times of change: who has changed none opens the array without reading a file.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from ..files import explain_full_disk, map_files, progress, require_space, write_atomically
from .decoding import UnreadableImage, digest, name_in_errors, read
from .steps import output_shape, run

KEEP_DAYS = 14  # an array that no call opened for so long goes when another has been written
NUM_THREADS = min(os.cpu_count() or 1, 8)

_VERSION = 3  # part of every key; raise it when a step changes what it does
_BLOCK_BYTES = 32 << 20  # what a killed run loses at most


class Store(NamedTuple):
    """Pictures that are ready for a network: one row a file, and the folder that holds them."""

    pixels: np.memmap  # uint8, (num_images, size, size, channels), read-only
    folder: Path  # its name is the key


def prepare(
    files: Sequence[Path],
    steps: Sequence[str] | Sequence[Sequence[str]],
    folder: Path | str,
    *,
    boxes: np.ndarray | None = None,
    description: str = "Preparing",
) -> Store:
    """Decodes every file once, applies its steps, and keeps the pixels as one memory-mapped array.

    A run that was killed goes on where it was; of two at once, one works and the other waits.

    Args:
        files: Pictures; rows of the array keep their order.
        steps: One sequence of steps for all, or one for each file; all end in one shape.
        folder: Of all prepared arrays.
        boxes: `float`, `(num_images, 4)`: what the step `crop` cuts, as fractions in `[0, 1]`.
        description: Of the progress bar.

    Raises:
        UnreadableImage: If a file is no whole picture.
        DiskFull: If the disk is too small.
        ValueError: If steps or boxes do not fit the files.
    """
    paths, folder = [os.path.abspath(file) for file in files], Path(folder)
    shared = all(isinstance(step, str) for step in steps)
    plans = [tuple(steps)] * len(paths) if shared else [tuple(plan) for plan in steps]
    boxes = None if boxes is None else np.asarray(boxes, float)
    shape = _check(paths, plans, boxes)

    def prepared(row: int) -> np.ndarray:
        try:
            image = read(paths[row])
        except UnreadableImage as error:
            hint = "`inspect_all` lists such files with their reasons: reject them before preparing"
            raise UnreadableImage(paths[row], f"{error.args[1]} ({hint})") from error
        box = None if boxes is None else boxes[row]
        return np.asarray(run(image, plans[row], box)).reshape(shape)

    opened = f"opened-{_hash_of([_stamp(path) for path in paths], plans, boxes)}"
    home = next((found.parent for found in folder.glob(f"*/{opened}")), None)
    if home is None:
        home = folder / _hash_of(map_files(digest, paths, NUM_THREADS, "Hashing"), plans, boxes)
    ready = home / "pixels.npy"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{home}.lock"):
        is_new = not ready.exists()
        if is_new:
            home.mkdir(exist_ok=True)
            _fill(home, (len(paths), *shape), prepared, description)
            os.replace(home / "pixels.npy.part", ready)
            (home / "done").unlink()
        (home / opened).touch()
        pixels = np.load(ready, mmap_mode="r")
    if is_new:
        _delete_unused(folder)
    return Store(pixels, home)


def _check(paths: list[str], plans: list[tuple], boxes: np.ndarray | None) -> tuple[int, ...]:
    """The shape of all rows; raises if files, steps and boxes do not fit each other."""
    num_files = len(paths)
    if not num_files:
        raise ValueError("There are no files to prepare.")
    if len(plans) != num_files:
        expected = f"Expected one tuple of steps, or one for each of {num_files} files."
        raise ValueError(f"{expected} Received: {len(plans)}.")
    if boxes is not None and boxes.shape != (num_files, 4):
        raise ValueError(f"Expected boxes of shape {(num_files, 4)}. Received: {boxes.shape}.")
    shapes = {output_shape(plan): plan for plan in set(plans)}
    if len(shapes) > 1:
        raise ValueError(f"Steps must end in one shape. Received: {shapes}.")
    boxed = np.zeros(num_files, bool) if boxes is None else np.isfinite(boxes).all(axis=1)
    lost = [path for path, plan, has in zip(paths, plans, boxed) if "crop" in plan and not has]
    if lost:
        raise ValueError(
            f"{len(lost)} of {num_files} files have the step 'crop' but no box, the first: "
            f"{lost[0]}. Pass boxes, or leave out pictures with no face, or their 'crop'."
        )
    return next(iter(shapes))


def _stamp(path: str) -> str:
    """What tells, without reading a file, that it is the same as before."""
    with name_in_errors(path):
        stat = os.stat(path)
    return f"{path} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def _hash_of(files: list[str], plans: list[tuple], boxes: np.ndarray | None) -> str:
    """A hash of the steps, the boxes, and what is said of each file."""
    lines = [str(_VERSION), *(f"{file}|{' '.join(plan)}" for file, plan in zip(files, plans))]
    state = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape"))
    state.update(b"" if boxes is None else np.ascontiguousarray(boxes).tobytes())
    return state.hexdigest()[:16]


def _fill(home: Path, shape: tuple[int, ...], prepared: Callable, description: str) -> None:
    """Writes `pixels.npy.part` in blocks of rows; `done` says how many are safely on the disk."""
    part, done, (num_rows, *_) = home / "pixels.npy.part", home / "done", shape
    row_bytes = int(np.prod(shape[1:]))
    num_safe = int(done.read_text()) if part.exists() and done.exists() else 0
    require_space(home, (num_rows - num_safe) * row_bytes, "Prepared pictures")
    if not num_safe:
        np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
    offset, num_block = np.load(part, mmap_mode="r").offset, max(_BLOCK_BYTES // row_bytes, 1)
    with (
        ThreadPoolExecutor(NUM_THREADS) as pool,
        explain_full_disk(part),
        open(part, "r+b") as stream,  # on a full disk a write is an error, a memory map a crash
        progress(None, description, num_rows, "image", initial=num_safe) as bar,
    ):
        stream.seek(offset + num_safe * row_bytes)
        for first in range(num_safe, num_rows, num_block):
            rows = range(first, min(first + num_block, num_rows))
            for row in pool.map(prepared, rows):
                stream.write(row)
                bar.update()
            stream.flush()
            os.fsync(stream.fileno())
            write_atomically(done, partial(Path.write_text, data=str(rows.stop)))


def _delete_unused(folder: Path) -> None:
    """Deletes the stores that no call opened for `KEEP_DAYS`, but none whose lock is held."""
    for home in {file.parent for file in folder.glob("*/pixels.npy*")}:
        # Another process holds it, has it open (Windows then refuses), or has just deleted it.
        in_use = suppress(Timeout, PermissionError, FileNotFoundError)
        with in_use, FileLock(f"{home}.lock", timeout=0):
            last_use = max((file.stat().st_mtime for file in home.iterdir()), default=0)
            if last_use < time.time() - KEEP_DAYS * 86400:
                shutil.rmtree(home)
