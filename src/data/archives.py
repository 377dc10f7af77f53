"""Untrusted `.zip` and `.tar` files → a folder that is complete or not there."""

import itertools
import lzma
import re
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ..files import DeliveryError, digest_of, explain_full_disk, require_space, write_json

MARKER = ".complete.json"  # in an extracted folder: the archive's hash, number and size of files
_MAX_BYTES, _MAX_FILES = 8 << 30, 250_000  # larger trees and trees with more members are refused
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error)
_DAMAGE += (EOFError, ValueError, RuntimeError, OverflowError)


def extract(archive: Path, folder: Path, *, digest=None, check=lambda: None) -> None:
    """Extract a `.zip` or `.tar` to `folder`, which appears when it is complete.

    Args:
        archive: The archive.
        folder: Where its tree goes, in place of an older one. The file `.complete.json` in it
            names the archive's hash.
        digest: Hash of the archive, `"algorithm:hex"`, if already known.
        check: Called before each member; may raise to stop.

    Raises:
        DeliveryError: If the archive is damaged, too large, encrypted, or holds a link, a device,
            or a name that is absolute, climbs out, collides with another or is not allowed on
            every system. Nothing is left then.
    """
    try:
        with explain_full_disk(folder), replacing(folder) as growing:
            num_files, num_bytes = _write_members(archive, growing, check)
            marker = {"archive": archive.name, "digest": digest or digest_of(archive)}
            write_json(growing / MARKER, marker | {"num_files": num_files, "num_bytes": num_bytes})
    except DeliveryError as error:
        raise DeliveryError(f"{archive}: {error}") from error
    except _DAMAGE as error:
        text = f"{archive} is damaged ({type(error).__name__}: {error}). Delete it and fetch again."
        raise DeliveryError(text) from error


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
    """Write all members below `growing`, counting what is written; `(number of files, bytes)`."""
    files, folders, num_members, num_bytes = {MARKER}, set(), 0, 0
    for name, is_folder, announced, opened in _members(archive, growing):
        check()
        num_members += 1
        if num_members > _MAX_FILES:
            raise DeliveryError(f"more than {_MAX_FILES:,} members; refused.")
        parts = _safe_parts(name, is_folder)
        # As macOS and Windows compare names: without case, accents composed.
        key = unicodedata.normalize("NFC", "/".join(parts)).casefold()
        keys = list(itertools.accumulate(key.split("/"), "{}/{}".format)) if parts else []
        parents = keys if is_folder else keys[:-1]
        if not files.isdisjoint(keys) or (not is_folder and key in folders):
            raise DeliveryError(f"{name!r} collides with another member's name; refused.")
        target = growing.joinpath(*parts)
        if not folders.issuperset(parents):
            (target if is_folder else target.parent).mkdir(parents=True, exist_ok=True)
            folders.update(parents)
        if is_folder:
            continue
        files.add(key)
        size = 0
        with opened() as source, open(target, "xb") as output:
            while chunk := source.read(1 << 18):
                size += len(chunk)
                if num_bytes + size > _MAX_BYTES:
                    raise DeliveryError(f"expands to more than {_MAX_BYTES:,} bytes; refused.")
                output.write(chunk)
        if size != announced:
            text = f"{name!r} has {size:,} bytes where {announced:,} were announced; damaged."
            raise DeliveryError(text)
        num_bytes += size
    return len(files) - 1, num_bytes


def _members(archive, growing):
    """Yield `(name, is a folder, announced size, function that opens it)`; refuse links."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as source:
            members = source.infolist()
            announced = sum(member.file_size for member in members)
            if announced > _MAX_BYTES or len(members) > _MAX_FILES:
                size = f"{announced:,} bytes in {len(members):,} members"
                allowed = f"{_MAX_BYTES:,} in {_MAX_FILES:,}"
                raise DeliveryError(f"announces {size}, allowed are {allowed}; refused.")
            require_space(growing, announced, "its files")
            for member in members:
                name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
                if member.flag_bits & 0x1:
                    raise DeliveryError(f"{name!r} is encrypted; refused.")
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise DeliveryError(f"{name!r} is a link or a device; refused.")
                yield name, member.is_dir(), member.file_size, partial(source.open, member)
    elif archive.suffix == ".tar":
        require_space(growing, archive.stat().st_size, "its files")
        with tarfile.open(archive, "r:") as source:
            for member in source:
                if not (member.isreg() or member.isdir()) or member.issparse():
                    raise DeliveryError(f"{member.name!r} is a link, a device or sparse; refused.")
                yield member.name, member.isdir(), member.size, partial(source.extractfile, member)
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
    windows = re.compile(r"[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
    if name.startswith("/") or ".." in parts:
        problem = "leads out of its folder"
    elif re.search(r"[\\:\x00-\x1f\x7f]", name):
        problem = "holds a backslash, a colon or a control character"
    elif any(map(windows.search, parts)):
        problem = "is not allowed on Windows"
    elif max(lengths, default=0) > 255 or sum(lengths) > 1024 or len(parts) > 32:
        problem = "is too long or too deep"
    elif not parts and not is_folder:
        problem = "is empty"
    else:
        return parts
    raise DeliveryError(f"a member's name, {name[:100]!r}, {problem}; refused.")
