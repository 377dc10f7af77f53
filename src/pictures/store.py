"""The prepared pixel store: files → steps → one memory-mapped array.

`prepare` decodes many files once, in parallel, applies to each its steps (see `steps`), and keeps
the result, a folder for each array:

    <key>/pixels.npy        the array; until all rows are there `pixels.npy.part`, and `done`, how
    many <key>/opened-<hash>     an empty file for each list of files that the array was opened for
    <key>.lock              held while the array is written, opened or deleted

The key is a hash of contents, steps and boxes: the same bytes find the same array wherever they lie
and whenever they were fetched. All files are hashed to find it (measured: 2 % of the time of
preparing them), but only once: `opened-<hash>` remembers their paths, sizes and times of change,
and whoever has changed none opens the array without reading a file.

Arrays that no call opened for `KEEP_DAYS` are deleted when another one has been written. A process
that still has one open can go on reading it.
"""

import hashlib
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from ..files import (
    digest_of,
    explain_full_disk,
    map_files,
    progress,
    require_space,
    write_atomically,
)
from .decoding import UnreadableImage, name_in_errors, read
from .steps import output_shape, run

KEEP_DAYS = 14
NUM_THREADS = min(os.cpu_count() or 1, 8)

_VERSION = 3  # part of every key; raise it when a step changes what it does
_BLOCK_ROWS, _BLOCK_BYTES, _SAFE_BYTES = 16, 2 << 20, 8 << 20


@dataclass(frozen=True)
class Store:
    """Pictures that are ready for a network.

    Args:
        pixels: `uint8`, `(num_images, size, size, channels)`, mapped from the disk, read-only; one
            row a file.
        folder: Where `pixels.npy` lies; its name is the key, a hash of all that the pixels depend
            on.
    """

    pixels: np.memmap
    folder: Path


def prepare(
    files: Sequence[Path],
    steps: Sequence[str] | Sequence[Sequence[str]],
    folder: Path | str,
    *,
    boxes: np.ndarray | None = None,
    description: str = "Preparing",
) -> Store:
    """Decodes every file once, applies its steps, and keeps the pixels as one memory-mapped array.

    The same contents, steps and boxes find the array ready, and any change makes a new one. A run
    that was killed goes on where it was; of two at once, one works and the other waits for it.

    Args:
        files: Pictures; rows of the array keep their order.
        steps: One sequence of steps for all, or one for each file. All must end in pictures of one
            shape.
        folder: Of all prepared arrays.
        boxes: `float`, `(num_images, 4)`: left, top, right, bottom as fractions in `[0, 1]`, for
            the step `crop`.
        description: Of the progress bar.

    Returns:
        A `Store`.

    Raises:
        UnreadableImage: If a file is no whole picture.
        DiskFull: If the disk is too small.
        ValueError: If steps or boxes do not fit the files.
    """
    paths, steps, folder = [os.path.abspath(file) for file in files], list(steps), Path(folder)
    shared = all(isinstance(step, str) for step in steps)
    plans = [tuple(steps)] * len(paths) if shared else [tuple(plan) for plan in steps]
    boxes = None if boxes is None else np.asarray(boxes, float)
    shape = _check(paths, plans, boxes)
    opened = f"opened-{_hash_of([_stamp(path) for path in paths], plans, boxes)}"
    home = next((found.parent for found in folder.glob(f"*/{opened}")), None)
    if home is None:
        digests = map_files(_digest, paths, NUM_THREADS, "Hashing")
        home = folder / _hash_of(digests, plans, boxes)
    ready = home / "pixels.npy"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{home}.lock"):
        is_new = not ready.exists()
        if is_new:
            home.mkdir(exist_ok=True)
            _fill(home, (len(paths), *shape), partial(_prepared, paths, plans, boxes), description)
            os.replace(home / "pixels.npy.part", ready)
            (home / "done").unlink()
        (home / opened).touch()
        pixels = np.load(ready, mmap_mode="r")
    if is_new:
        _delete_unused(folder)
    return Store(pixels, home)


def _check(paths: list[str], plans: list[tuple], boxes: np.ndarray | None) -> tuple[int, ...]:
    """The shape of all rows; raises if files, steps and boxes do not fit each other."""
    if not paths:
        raise ValueError("There are no files to prepare.")
    if len(plans) != len(paths):
        raise ValueError(
            f"Expected one tuple of steps, or one for each of {len(paths)} files. "
            f"Received: {len(plans)}."
        )
    if boxes is not None and boxes.shape != (len(paths), 4):
        raise ValueError(f"Expected boxes of shape {(len(paths), 4)}. Received: {boxes.shape}.")
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
            f"{len(lost)} of {len(paths)} files have the step 'crop' but no box, the first: "
            f"{paths[lost[0]]}. Pass boxes, or leave out pictures with no face, or their 'crop'."
        )
    return next(iter(shapes))


def _stamp(path: str) -> str:
    """What tells, without reading a file, that it is the same as before."""
    with name_in_errors(path):
        stat = os.stat(path)
    return f"{path} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def _digest(path: str) -> str:
    with name_in_errors(path):
        return digest_of(path)


def _hash_of(files: list[str], plans: list[tuple], boxes: np.ndarray | None) -> str:
    """A hash of the steps, the boxes, and what is said of each file."""
    lines = [str(_VERSION), *(f"{file}|{' '.join(plan)}" for file, plan in zip(files, plans))]
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


def _fill(home: Path, shape: tuple[int, ...], prepared: Callable, description: str) -> None:
    """Writes `pixels.npy.part` in blocks of rows; `done` says how many are safely on the disk.

    Rows are written, not assigned to a memory map: on a full disk a write is an error, an
    assignment a crash.
    """
    part, done, (num_rows, *_) = home / "pixels.npy.part", home / "done", shape
    row_bytes = int(np.prod(shape[1:]))
    num_safe = int(done.read_text()) if part.exists() and done.exists() else 0
    require_space(home, (num_rows - num_safe) * row_bytes, "Prepared pictures")
    if not num_safe:
        np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
    offset = np.load(part, mmap_mode="r").offset + num_safe * row_bytes
    num_block = min(max(_BLOCK_BYTES // row_bytes, 1), _BLOCK_ROWS)

    def block(first: int) -> np.ndarray:
        rows = range(first, min(first + num_block, num_rows))
        return np.stack([prepared(row) for row in rows])

    with (
        ThreadPoolExecutor(NUM_THREADS) as pool,
        explain_full_disk(part),
        open(part, "r+b") as stream,
        progress(None, description, num_rows, "image", initial=num_safe) as bar,
    ):
        stream.seek(offset)
        starts, num_written = iter(range(num_safe, num_rows, num_block)), num_safe
        ahead = deque(pool.submit(block, first) for first in islice(starts, 4 * NUM_THREADS))
        try:
            while ahead:
                rows = ahead.popleft().result()
                ahead.extend(pool.submit(block, first) for first in islice(starts, 1))
                stream.write(rows)
                bar.update(len(rows))
                num_written += len(rows)
                if (num_written - num_safe) * row_bytes >= _SAFE_BYTES or not ahead:
                    stream.flush()
                    os.fsync(stream.fileno())
                    num_safe = num_written
                    write_atomically(done, partial(Path.write_text, data=str(num_safe)))
        finally:
            pool.shutdown(cancel_futures=True)


def _delete_unused(folder: Path) -> None:
    """Deletes the stores that no call opened for `KEEP_DAYS`, but none whose lock is held."""
    for home in {file.parent for file in folder.glob("*/pixels.npy*")}:
        # Another process holds it, has it open (Windows then refuses), or has just deleted it.
        in_use = suppress(Timeout, PermissionError, FileNotFoundError)
        with in_use, FileLock(f"{home}.lock", timeout=0):
            last_use = max((file.stat().st_mtime for file in home.iterdir()), default=0)
            if last_use < time.time() - KEEP_DAYS * 86400:
                shutil.rmtree(home)
