"""Archives on disk: room for them, their hash, and their extraction to a folder that is whole or not there.

Reads a `.zip` or `.tar` that nobody vouches for; writes one folder, and nothing outside of it.
"""

import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from functools import partial
from pathlib import Path

from ..files import DeliveryError, digest_of, explain_full_disk, require_space, write_json

MARKER = ".complete.json"  # in an extracted folder, with the archive's hash: written last, so the folder is whole


def extract(
    archive: Path,
    folder: Path,
    *,
    max_bytes=8 << 30,
    max_files=250_000,
    digest=None,
    check=lambda seconds: None,
) -> None:
    """Extract a `.zip` or `.tar` to `folder`, which appears when it is complete and replaces an older one.

    Args:
        archive: The archive.
        folder: Where its tree goes. The file `.complete.json` in it names the archive's hash.
        max_bytes: Refuse an archive that writes more.
        max_files: Refuse an archive with more members.
        digest: Hash of the archive, `"algorithm:hex"`, if already known.
        check: Called with 0 before each member; may raise to stop.

    Raises:
        DeliveryError: If the archive is damaged, too large, encrypted, or holds a link, a device, or a name that is
            absolute, climbs out, collides with another or is not allowed on every system. Nothing is left then.
    """
    archive, folder = Path(archive), Path(folder)
    growing, old = clear_beside(folder)
    damage = (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        lzma.LZMAError,
        struct.error,
        EOFError,
        ValueError,
    )
    try:
        with explain_full_disk(folder):
            growing.mkdir(parents=True)
            num_files, num_bytes = _write_members(archive, growing, max_bytes, max_files, check)
            marker = {"archive": archive.name, "digest": digest or digest_of(archive)}
            write_json(growing / MARKER, marker | {"num_files": num_files, "num_bytes": num_bytes})
            if folder.is_symlink():
                folder.unlink()
            elif folder.exists():
                os.replace(folder, old)
            os.replace(growing, folder)
    except DeliveryError as error:
        raise DeliveryError(f"{archive}: {error}") from error
    except (*damage, RuntimeError, OverflowError) as error:
        text = f"{archive} is damaged ({type(error).__name__}: {error}). Delete it and fetch again."
        raise DeliveryError(text) from error
    finally:
        clear_beside(folder)


def clear_beside(folder) -> tuple[Path, Path]:
    """Remove what a killed extraction left; the paths of the growing and of the replaced tree."""
    beside = folder.with_name(f".{folder.name}.growing"), folder.with_name(f".{folder.name}.old")
    for leftover in beside:
        shutil.rmtree(leftover, ignore_errors=True)
    return beside


def _write_members(archive, growing, max_bytes, max_files, check) -> tuple[int, int]:
    """Write all members below `growing`, counting what is written; `(number of files, bytes)`."""
    files, folders, num_members, num_bytes = {MARKER}, set(), 0, 0
    for name, is_folder, announced, opened in _members(archive, max_bytes, max_files, growing):
        check(0)
        num_members += 1
        if num_members > max_files:
            raise DeliveryError(f"more than {max_files:,} members; refused.")
        parts = _safe_parts(name, is_folder)
        target = growing.joinpath(*parts)
        # As macOS and Windows compare names: without case, accents composed.
        keys = [
            unicodedata.normalize("NFC", "/".join(parts[: i + 1])).casefold()
            for i in range(len(parts))
        ]
        parents = keys if is_folder else keys[:-1]
        if not files.isdisjoint(keys) or (not is_folder and keys[-1] in folders):
            raise DeliveryError(f"{name!r} collides with another member's name; refused.")
        if not folders.issuperset(parents):
            (target if is_folder else target.parent).mkdir(parents=True, exist_ok=True)
            folders.update(parents)
        if is_folder:
            continue
        files.add(keys[-1])
        size = 0
        with opened() as source, open(target, "xb") as output:
            while chunk := source.read(1 << 18):
                size += len(chunk)
                if num_bytes + size > max_bytes:
                    raise DeliveryError(f"expands to more than {max_bytes:,} bytes; refused.")
                output.write(chunk)
        if size != announced:
            raise DeliveryError(
                f"{name!r} has {size:,} bytes where {announced:,} were announced; damaged."
            )
        num_bytes += size
    return len(files) - 1, num_bytes


def _members(archive, max_bytes, max_files, growing):
    """Yield `(name, is a folder, announced size, function that opens it)` of plain files and folders; refuse others."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as source:
            announced = sum(member.file_size for member in source.infolist())
            if announced > max_bytes or len(source.infolist()) > max_files:
                size = f"{announced:,} bytes in {len(source.infolist()):,} members"
                raise DeliveryError(
                    f"announces {size}, allowed are {max_bytes:,} in {max_files:,}; refused."
                )
            require_space(growing, announced, "its files")
            for member in source.infolist():
                if member.flag_bits & 0x1:
                    raise DeliveryError(f"{member.filename!r} is encrypted; refused.")
                if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise DeliveryError(f"{member.filename!r} is a link or a device; refused.")
                yield (
                    member.orig_filename,
                    member.is_dir(),
                    member.file_size,
                    partial(source.open, member),
                )
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
    """Parts of a member's name, if it stays inside the folder and means the same on every system."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    lengths = [len(part.encode("utf-8", "surrogateescape")) for part in parts]
    if name.startswith("/") or ".." in parts:
        problem = "leads out of its folder"
    elif re.search(r"[\\:\x00-\x1f\x7f]", name):
        problem = "holds a backslash, a colon or a control character"
    elif any(
        re.search(r"[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)", part, re.IGNORECASE)
        for part in parts
    ):
        problem = "is not allowed on Windows"
    elif max(lengths, default=0) > 255 or sum(lengths) > 1024 or len(parts) > 32:
        problem = "is too long or too deep"
    elif not parts and not is_folder:
        problem = "is empty"
    else:
        return parts
    raise DeliveryError(f"a member's name, {name[:100]!r}, {problem}; refused.")
