"""Files that appear whole or not at all; JSON, hashes, free space, a progress bar; templates."""

import errno
import hashlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import jinja2
from tqdm import tqdm

_MAKE_ROOM = (
    "Make room, or set TRUE_OR_FAKE_HOME to a folder on a larger disk; then run this again: "
    "it goes on where it stopped."
)

# By their path in `src`: the words of pages and cards.
TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=lambda name: name == "report/page.html.jinja",
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class DeliveryError(RuntimeError):
    """A file cannot be fetched or written; the text says why and what to do."""


class DiskFull(DeliveryError):
    """A disk has no room for a file."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Writes a file so that a reader finds the old file or the new one, never a part of it.

    `write` is called with the path of a temporary file of the same suffix, in the same folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex}{path.suffix}")
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # without it a power cut may leave an empty file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """Writes a text, whole or not at all."""
    return write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, table: dict) -> Path:
    """Writes a small table, whole or not at all; `read_json` reads it."""
    return write_text(path, json.dumps(table, indent=2) + "\n")


def read_json(path: Path) -> dict | None:
    """A table that `write_json` wrote; `None` if the file is missing or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def digest_of(path: Path, algorithm: str = "sha256") -> str:
    """The hash of a file's bytes, `"algorithm:hexadecimal digits"`."""
    state = hashlib.new(algorithm)
    with open(path, "rb", buffering=0) as source:
        while chunk := source.read(1 << 20):
            state.update(chunk)
    return f"{algorithm}:{state.hexdigest()}"


def require_space(folder: Path, num_bytes: int, what: str) -> None:
    """Raises `DiskFull`, whose text begins with `what`, unless a folder's disk has the room."""
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        need = f"{num_bytes:,} bytes are needed on the disk of {folder}, {free:,} are free"
        raise DiskFull(f"{what}: {need}. {_MAKE_ROOM}")


@contextmanager
def explain_full_disk(path: Path):
    """Turns the error of a full disk or quota, raised as `path` is written, into `DiskFull`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(f"The disk of {path.parent} is full. {_MAKE_ROOM}") from error


def progress(
    iterable=None, description: str = "", total: int | None = None, unit: str = "file", **options
) -> tqdm:
    """A progress bar on standard output: on standard error a notebook would show it as an error.

    `iterable=None` is a bar that is updated by hand; further arguments are those of `tqdm`.
    """
    options = {"mininterval": 0.5, "delay": 0.5, "dynamic_ncols": True, "leave": False} | options
    return tqdm(iterable, description, total, unit=unit, file=sys.stdout, **options)
