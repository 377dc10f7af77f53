"""The prepared pixel store: files → steps → one memory-mapped array.

    <key>/pixels.npy        the array; `pixels.npy.part` and `done` (how many rows) until it is full
    <key>/opened-<hash>     for each list of files that the array was opened for: an empty file
    <key>.lock              held while the array is written, opened or deleted

The key is a hash of contents, steps and boxes. The other hash is of the files' paths, sizes and
times of change: while none changes, the array is opened without reading a file.
"""

import hashlib
import math
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from ..files import digest_of, explain_full_disk, progress, require_space, write_atomically
from ..shards import map_files, over
from .decoding import read
from .steps import output_shape, run

KEEP_DAYS = 14  # an array not opened for so long is deleted when another is written
NUM_THREADS = min(os.cpu_count() or 1, 8)

_VERSION = 3  # part of every key; raise it when a step changes what it does
# A killed run loses the blocks under way, and those done since `done` was last written.
_BLOCK_BYTES, _NUM_BLOCKS, _SAVE_SECONDS = 32 << 20, 64, 1


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
        boxes: `float`, `(num_images, 4)`: of the steps `crop` and `self_blend`, fractions.

    Raises:
        UnreadableImage: If a file is no whole picture; an `OSError` if it cannot be opened.
        DiskFull: If the disk has no room.
        ValueError: If steps or boxes do not fit the files.
    """
    paths, folder = [os.path.abspath(file) for file in files], Path(folder)
    shared = all(isinstance(step, str) for step in steps)
    plans = [tuple(steps)] * len(paths) if shared else [tuple(plan) for plan in steps]
    boxes = None if boxes is None else np.asarray(boxes, float)
    columns = [paths, plans, [None] * len(paths) if boxes is None else boxes]
    shapes = {output_shape(plan) for plan in set(plans)}
    if len(set(map(len, columns))) > 1 or len(shapes) != 1:
        expected = "Expected as many plans of steps (and boxes) as files, which end in one shape."
        received = "{} files, {} plans, {} boxes".format(*map(len, columns))
        raise ValueError(f"{expected} Received: {received}, shapes {shapes}.")
    stats = zip(paths, map(os.stat, paths))
    stamps = [f"{path} {now.st_size} {now.st_mtime_ns} {now.st_ctime_ns}" for path, now in stats]
    opened = f"opened-{_hash_of(stamps, plans, boxes)}"
    home = next((found.parent for found in folder.glob(f"*/{opened}")), None)
    if home is None:
        home = folder / _hash_of(map_files(digest_of, paths, NUM_THREADS, "Hashing"), plans, boxes)
    ready = home / "pixels.npy"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{home}.lock"):
        is_new = not ready.exists()
        if is_new:
            home.mkdir(exist_ok=True)
            _fill(home, list(zip(*columns)), *shapes, description)
        (home / opened).touch()
        pixels = np.load(ready, mmap_mode="r")
    if is_new:
        _delete_unused(folder)
    return Store(pixels, home)


def _hash_of(files: list[str], plans: list[tuple], boxes: np.ndarray | None) -> str:
    """A hash of the steps, the boxes, and a text for each file."""
    lines = [str(_VERSION), *(f"{file}|{' '.join(plan)}" for file, plan in zip(files, plans))]
    state = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape"))
    state.update(b"" if boxes is None else np.ascontiguousarray(boxes).tobytes())
    return state.hexdigest()[:16]


def _fill(home: Path, rows: list[tuple], shape: tuple[int, ...], description: str) -> None:
    """Writes the array in blocks of rows; `done` says how many are safely on the disk."""
    part, done, row_bytes = home / "pixels.npy.part", home / "done", math.prod(shape)
    num_safe = int(done.read_text()) if part.exists() and done.exists() else 0
    require_space(home, (len(rows) - num_safe) * row_bytes, "Prepared pictures")
    if not num_safe:
        np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=(len(rows), *shape))
    start, saved = np.load(part, mmap_mode="r").offset, -np.inf
    num_block = max(min(_BLOCK_BYTES // row_bytes, len(rows) // _NUM_BLOCKS), 1)
    firsts = range(num_safe, len(rows), num_block)
    blocks = [(start + first * row_bytes, rows[first : first + num_block]) for first in firsts]
    with (
        explain_full_disk(part),
        progress(None, description, len(rows), "image", initial=num_safe) as bar,
    ):
        for num_new in over(partial(_write_block, part), blocks, NUM_THREADS):
            num_safe += num_new
            bar.update(num_new)
            if time.monotonic() > saved + _SAVE_SECONDS:
                write_atomically(done, partial(Path.write_text, data=str(num_safe)))
                saved = time.monotonic()
    os.replace(part, home / "pixels.npy")
    done.unlink()


def _write_block(part: Path, block: tuple[int, list[tuple]]) -> int:
    """Writes the pixels of some rows to their place, safely; returns their number."""
    place, rows = block
    with open(part, "r+b") as stream:  # on a full disk a write is an error, a memory map a crash
        stream.seek(place)
        for file, plan, box in rows:
            stream.write(run(read(file), plan, box).tobytes())
        stream.flush()
        os.fsync(stream.fileno())
    return len(rows)


def _delete_unused(folder: Path) -> None:
    """Deletes the stores not opened for `KEEP_DAYS`, but none whose lock is held."""
    for home in {file.parent for file in folder.glob("*/pixels.npy*")}:
        # Another process holds it, has it open (Windows then refuses), or has just deleted it.
        in_use = suppress(Timeout, PermissionError, FileNotFoundError)
        with in_use, FileLock(f"{home}.lock", timeout=0):
            last_use = max((file.stat().st_mtime for file in home.iterdir()), default=0)
            if last_use < time.time() - KEEP_DAYS * 86400:
                shutil.rmtree(home)
