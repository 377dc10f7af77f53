"""Untrusted `.zip` and `.tar` files → a folder that is complete or not there."""

import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..files import DeliveryError, digest_of, explain_full_disk, write_json

MARKER = ".complete.json"  # in an extracted folder: the archive's hash, number and size of files
_MAX_BYTES, _MAX_FILES = 8 << 30, 250_000  # larger trees and trees with more members are refused


@dataclass(frozen=True)
class Delivery:
    """What became of one archive."""

    name: str  # of the dataset
    folder: Path | None  # its tree; None if it failed
    num_bytes: int | None = None  # of the extracted tree; None where a tree is used in place
    num_files: int = 0
    # "failed", "extracted", "taken in part", "already there", "used in place" or "copied"
    status: str = "failed"
    problem: str = ""  # why it failed and what to do; with a folder, a warning


def extract(archive: Path, folder: Path, *, digest=None, check=lambda: None) -> None:
    """Extract a `.zip` or `.tar` to `folder`, which appears, with a `MARKER`, when it is complete.

    Args:
        archive: The archive.
        folder: Where its tree goes, in place of an older one.
        digest: Hash of the archive, `"algorithm:hex"`, if known.
        check: Called before each member; may raise to stop.

    Raises:
        DeliveryError: If the archive is damaged, too large or encrypted, or holds a link, a device,
            a file twice, or a name that leads outside.
    """
    try:
        with explain_full_disk(folder), replacing(folder) as growing:
            _write_members(archive, growing, check)
            mark(growing, archive.name, digest or digest_of(archive))
    except DeliveryError:
        raise
    except Exception as error:  # damaged bytes raise errors of many kinds
        reason = f"{type(error).__name__}: {error}"
        advice = "If it is damaged, delete it and fetch again."
        raise DeliveryError(f"{archive} cannot be extracted: {reason}. {advice}") from error


def mark(folder: Path, archive: str, digest: str) -> None:
    """Writes the `MARKER` of a folder that is complete: a hash of what it was made from."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    marker = {"archive": archive, "digest": digest}
    write_json(folder / MARKER, marker | {"num_files": len(sizes), "num_bytes": sum(sizes)})


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder to fill; it takes the place of `folder` if the block ends without error."""
    growing, old = clear_leftovers(folder)
    try:
        growing.mkdir(parents=True)
        yield growing
        if folder.is_symlink():
            folder.unlink()
        elif folder.exists():
            folder.replace(old)
        growing.replace(folder)
    finally:
        clear_leftovers(folder)


def holds_files(folder: Path) -> bool:
    """Whether it is a folder with anything in it."""
    return folder.is_dir() and any(folder.iterdir())


def clear_leftovers(folder: Path) -> tuple[Path, Path]:
    """Remove what a killed `replacing` left; the paths of the growing and of the replaced tree."""
    paths = folder.with_name(f".{folder.name}.growing"), folder.with_name(f".{folder.name}.old")
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
    return paths


def _write_members(archive: Path, growing: Path, check) -> None:
    """Write all members below `growing`."""
    num_members = num_bytes = 0
    for name, size, source in _members(archive):  # no source: a folder
        check()
        num_members, num_bytes = num_members + 1, num_bytes + size
        if num_bytes > _MAX_BYTES or num_members > _MAX_FILES:
            limits = f"{_MAX_BYTES:,} bytes or {_MAX_FILES:,} members"
            raise DeliveryError(f"{archive} holds more than {limits}; refused.")
        target = growing / name
        if ".." in Path(name).parts or not target.is_relative_to(growing):
            raise DeliveryError(f"{archive}: {name!r} leads out of its folder; refused.")
        (target.parent if source else target).mkdir(parents=True, exist_ok=True)
        if source:
            with source, open(target, "xb") as output:
                shutil.copyfileobj(source, output)


def _members(archive: Path):
    """Yield `(name, size, open file or None for a folder)`; no more bytes follow than `size`."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as source:
            for member in source.infolist():
                opened = None if member.is_dir() else source.open(member)
                yield member.filename, member.file_size, opened
    elif archive.suffix == ".tar":
        with tarfile.open(archive, "r:") as source:
            for member in source:
                if not (member.isreg() or member.isdir()):
                    text = f"{archive}: {member.name!r} is a link or a device; refused."
                    raise DeliveryError(text)
                yield member.name, member.size, source.extractfile(member)
    else:
        raise DeliveryError(f"{archive} is neither .zip nor .tar; only these can be extracted.")
