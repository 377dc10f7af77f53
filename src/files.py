"""A file appears whole or not at all: written beside and renamed; hashes, free space, progress."""

import errno
import hashlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import tqdm as _tqdm


class DeliveryError(RuntimeError):
    """A file could not be had; the text says why and what to do."""


def require_space(folder, num_bytes, what, reserved=0) -> None:
    """Raise unless the disk of `folder` has so many bytes free."""
    free = max(0, shutil.disk_usage(folder).free - reserved)
    if num_bytes > free:
        others = f", {reserved:,} more are promised to other files" if reserved else ""
        raise DeliveryError(
            f"{what}: {num_bytes:,} bytes are needed on the disk of {folder}, {free:,} are free{others}. "
            "Make room, or set TRUE_OR_FAKE_HOME to a folder on a larger disk; then fetch again."
        )


@contextmanager
def explain_full_disk(path):
    """Turn "no space left on device" into an error that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DeliveryError(
            f"The disk of {path.parent} is full. Make room, or set TRUE_OR_FAKE_HOME to a folder on a larger disk; "
            "then fetch again: it goes on where it stopped."
        ) from error


def digest_of(path, algorithm="sha256") -> str:
    """`"algorithm:hex"` of a file."""
    state = hashlib.new(algorithm)
    with open(path, "rb") as source:
        while chunk := source.read(1 << 20):
            state.update(chunk)
    return f"{algorithm}:{state.hexdigest()}"


def read_json(path) -> dict | None:
    """A table that `write_json` wrote, or `None`."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_json(path, table) -> None:
    """Write a small table beside, then rename."""
    beside = path.with_name(path.name + ".new")
    with open(beside, "w", encoding="utf-8") as target:
        json.dump(table, target)
        target.flush()
        os.fsync(target.fileno())
    os.replace(beside, path)


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Calls `write` with a path beside `path`, then renames: a reader sees the old file or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}-{uuid.uuid4().hex}{path.suffix}")
    try:
        write(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def progress(
    iterable=None, description: str = "", total: int | None = None, unit: str = "file", **options
):
    """A `tqdm` bar on standard output, so that neither notebooks nor logs hold text that looks like an error.

    Args:
        iterable: What to go through; `None` for a bar that is updated by hand.
        description: In front of the bar.
        total: Number of items, if the iterable does not know.
        unit: Of what is counted.
        **options: Further arguments of `tqdm`.

    Returns:
        A `tqdm.tqdm`.
    """
    options = {
        "file": sys.stdout,
        "leave": False,
        "dynamic_ncols": True,
        "mininterval": 0.5,
        "delay": 0.5,
    } | options
    return _tqdm.tqdm(iterable, description, total, unit=unit, **options)


def map_files(function, files: Sequence, num_threads: int, title: str) -> list:
    """The function's value for every file, in order, from a few threads."""
    with ThreadPoolExecutor(num_threads) as pool:
        return list(
            progress(pool.map(function, files), title, len(files), disable=len(files) < 1000)
        )
