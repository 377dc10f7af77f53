"""Untrusted `.zip` and `.tar` files → a folder that is complete or not there."""

import itertools
import re
import shutil
import stat
import tarfile
import unicodedata
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..files import DeliveryError, digest_of, explain_full_disk, write_json

MARKER = ".complete.json"  # in an extracted folder: the archive's hash, number and size of files
_MAX_BYTES, _MAX_FILES = 8 << 30, 250_000  # larger trees and trees with more members are refused
_NOT_EVERYWHERE = re.compile(  # backslash, colon, control characters; what Windows refuses
    r"[\\:\x00-\x1f\x7f]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE
)


def extract(archive: Path, folder: Path, *, digest=None, check=lambda: None) -> None:
    """Extract a `.zip` or `.tar` to `folder`, which appears, with a `MARKER`, when it is complete.

    Args:
        archive: The archive.
        folder: Where its tree goes, in place of an older one.
        digest: Hash of the archive, `"algorithm:hex"`, if known.
        check: Called before each member; may raise to stop.

    Raises:
        DeliveryError: If the archive is damaged, too large, encrypted, or holds a link, a device,
            or a name that leads outside, collides with another or is not allowed on every system.
    """
    try:
        with explain_full_disk(folder), replacing(folder) as growing:
            num_files, num_bytes = _write_members(archive, growing, check)
            marker = {"archive": archive.name, "digest": digest or digest_of(archive)}
            write_json(growing / MARKER, marker | {"num_files": num_files, "num_bytes": num_bytes})
    except OSError:
        raise
    except Exception as error:  # damaged bytes raise errors of many kinds
        kind = f"damaged, delete it and fetch again ({type(error).__name__}): "
        known = isinstance(error, DeliveryError)
        raise DeliveryError(f"{archive}: {'' if known else kind}{error}") from error


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


def clear_leftovers(folder: Path) -> tuple[Path, Path]:
    """Remove what a killed `replacing` left; the paths of the growing and of the replaced tree."""
    paths = folder.with_name(f".{folder.name}.growing"), folder.with_name(f".{folder.name}.old")
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
    return paths


def _write_members(archive, growing, check) -> tuple[int, int]:
    """Write all members below `growing`; `(number of files, bytes)` as written."""
    files, folders, num_bytes = {MARKER}, set(), 0
    for name, announced, source in _members(archive):  # no source: a folder
        check()
        parts = _safe_parts(name, source is None)
        # As macOS and Windows compare names: without case, accents composed.
        key = unicodedata.normalize("NFC", "/".join(parts)).casefold()
        *parents, key = itertools.accumulate(key.split("/"), "{}/{}".format)
        if not files.isdisjoint([*parents, key]) or (source and key in folders):
            raise DeliveryError(f"{name!r} collides with another member's name; refused.")
        (files if source else folders).add(key)
        folders.update(parents)
        if len(files) + len(folders) > _MAX_FILES:
            raise DeliveryError(f"more than {_MAX_FILES:,} files and folders; refused.")
        target = growing.joinpath(*parts)
        (target.parent if source else target).mkdir(parents=True, exist_ok=True)
        if source is None:
            continue
        end = num_bytes + announced
        with source, open(target, "xb") as output:
            while chunk := source.read(1 << 18):
                num_bytes += len(chunk)
                if num_bytes > _MAX_BYTES:
                    raise DeliveryError(f"expands to more than {_MAX_BYTES:,} bytes; refused.")
                output.write(chunk)
        if num_bytes != end:
            raise DeliveryError(f"{name!r} has not the {announced:,} bytes announced; damaged.")
    return len(files) - 1, num_bytes


def _members(archive):
    """Yield `(name, announced size, open file or None for a folder)`; refuse links."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as source:
            for member in source.infolist():
                name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise DeliveryError(f"{name!r} is a link or a device; refused.")
                yield name, member.file_size, None if member.is_dir() else source.open(member)
    elif archive.suffix == ".tar":
        with tarfile.open(archive, "r:") as source:
            for member in source:
                if not (member.isreg() or member.isdir()) or member.issparse():
                    raise DeliveryError(f"{member.name!r} is a link, a device or sparse; refused.")
                yield member.name, member.size, source.extractfile(member)
            with open(archive, "rb") as tail:  # tarfile takes a damaged header for the end
                tail.seek(source.offset)
                if tail.read(512) != bytes(512):
                    raise tarfile.ReadError(f"no proper end at byte {source.offset:,}")
    else:
        raise DeliveryError("neither .zip nor .tar; only these can be extracted.")


def _safe_parts(name: str, is_folder: bool) -> list[str]:
    """Parts of a member's name, if it stays inside and means the same on every system."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    lengths = [len(part.encode("utf-8", "surrogateescape")) for part in parts]
    if name.startswith("/") or ".." in parts:
        problem = "leads out of its folder"
    elif any(map(_NOT_EVERYWHERE.search, parts)):
        problem = "is not allowed on every system"
    elif max(lengths, default=0) > 255 or sum(lengths) > 1024 or len(parts) > 32:
        problem = "is too long or too deep"
    elif not parts and not is_folder:
        problem = "is empty"
    else:
        return parts
    raise DeliveryError(f"a member's name, {name[:100]!r}, {problem}; refused.")
