"""How archives get here: each dataset complete or not at all; a next call goes on from there."""

import fnmatch
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from ..files import DeliveryError, read_json, require_space
from ..files import progress as progress_bar
from .archives import MARKER, clear_leftovers, extract
from .sources import MIRROR
from .transfer import SourceFailed, receive

_NUM_WORKERS = 4  # archives handled at once


@dataclass(frozen=True)
class Delivery:
    """What became of one archive."""

    name: str  # of the dataset
    folder: Path | None  # its tree; None if it failed
    num_bytes: int | None = None  # of the extracted tree; None where a tree is used in place
    num_files: int = 0
    status: str = "failed"  # or "extracted", "already there", "used in place", "copied"
    problem: str = ""  # why it failed and what to do; with a folder, a warning


def fetch_archives(files, archives: Path, raw: Path) -> list[Delivery]:
    """Fetch and extract several archives at once; one that fails says why, and the others go on.

    Args:
        files: `RemoteFile`s with distinct names.
        archives: Folder for the archives.
        raw: Folder for the extracted trees, `raw/<name>/`. Of two calls, one waits for the other.

    Returns:
        One `Delivery` a file, in the order of `files`. What is already there is reused at once.

    Raises:
        DiskFull: Before anything is written, if the archives and their files do not fit the disk.
    """
    for folder in (archives, raw):
        folder.mkdir(parents=True, exist_ok=True)
    bar = progress_bar(None, "Fetching", 0, "B", unit_scale=True, delay=3)
    with FileLock(raw / ".lock"), bar, ThreadPoolExecutor(_NUM_WORKERS) as pool:
        progress = _Progress(bar)
        num_bytes = sum(_room_needed(file, archives, raw) for file in files)
        require_space(raw, num_bytes, f"{len(files)} archives and their files")

        def deliver(file):
            try:
                return _deliver(file, archives / file.archive, raw / file.name, progress)
            except Exception as error:
                kind = "" if isinstance(error, DeliveryError) else f"{type(error).__name__}: "
                return Delivery(file.name, None, problem=f"{file.name}: {kind}{error}")

        try:
            return list(pool.map(deliver, files))
        except BaseException:  # Ctrl-C: threads stop at their next chunk; part files stay
            progress.stopped.set()
            pool.shutdown(cancel_futures=True)
            raise


def _room_needed(file, archives, raw) -> int:
    """Bytes that an archive and its tree, which is as large, will take."""
    if file.num_bytes is None or holds_files(raw / file.name):
        return 0
    there = [path.stat().st_size for path in archives.glob(f"{file.archive}*")]  # or a part of it
    return file.num_bytes + max(0, file.num_bytes - max(there, default=0))


def _deliver(file, archive, folder, progress) -> Delivery:
    """Find, or obtain and extract, one dataset."""
    clear_leftovers(folder)
    marker, status = read_json(folder / MARKER), "used in place"
    if marker and file.digest in (None, marker["digest"]):
        status = "already there"
    elif marker or not holds_files(folder):  # else a link, or a tree put there by hand
        found, refusal = _on_kaggle(file, archive)
        if found:
            _link(folder, found)
        else:
            _obtain(file, archive, progress, refusal)
            extract(archive, folder, digest=file.digest, check=progress.wait)
            status = "extracted"
        marker = read_json(folder / MARKER)
    num_files, problem = _take_stock(file, folder, marker)
    num_bytes = marker["num_bytes"] if marker else None
    return Delivery(file.name, folder, num_bytes, num_files, status, problem)


def _take_stock(file, folder, marker) -> tuple[int, str]:
    """Number of files below `folder`, and in what they differ from what is expected."""
    paths = []
    for parent, _, names in os.walk(folder):
        base = Path(parent).relative_to(folder)
        paths += [(base / name).as_posix() for name in names if name != MARKER]
    expected = dict(file.expected) | ({"*": marker["num_files"]} if marker else {})
    found = {pattern: len(fnmatch.filter(paths, pattern)) for pattern in expected}
    problems = [
        f"{found[pattern]:,} files like {pattern} where {number:,} are expected"
        for pattern, number in expected.items()
        if found[pattern] != number
    ]
    advice = "Delete that folder and fetch again, or go on with what there is."
    return len(paths), f"{folder} holds {'; '.join(problems)}. {advice}" if problems else ""


def _on_kaggle(file, archive) -> tuple[Path | None, str]:
    """Where `kagglehub` keeps (or, on Kaggle, mounts) a dataset of Kaggle, or why it does not."""
    if not file.kaggle or archive.exists() or os.environ.get(MIRROR):
        return None, ""
    try:
        import kagglehub

        return Path(kagglehub.dataset_download(file.kaggle)), ""
    except Exception as error:  # no common base; the public address comes next
        return None, f"kagglehub was tried before ({type(error).__name__}: {error}). "


def _link(folder, target) -> None:
    """Make `raw/<name>` lead to a folder elsewhere, so that paths below `raw` hold."""
    try:
        folder.unlink(missing_ok=True)  # what is left of an older link
        folder.symlink_to(target, target_is_directory=True)
    except OSError as error:
        raise DeliveryError(
            f"its files lie in {target}, but no link to them can be made at {folder} ({error}). "
            "Copy them there, or allow links (Windows: Developer Mode). Then fetch again."
        ) from error


def _obtain(file, archive, progress, refusal) -> None:
    """Have the verified archive, from the mirror if there is one; or say what a person can do."""
    base = os.environ.get(MIRROR)
    url = f"{base.rstrip('/')}/{file.archive}" if base else file.url
    try:
        receive(file, url, archive, progress)
    except SourceFailed as error:
        steps = [
            f"download it by hand from {file.page or file.url} and put it at {archive}",
            f"unset {MIRROR}" if base else f"set {MIRROR} to a base URL that holds {file.archive}",
        ]
        if file.kaggle:
            steps.append(
                "sign in with `kagglehub.login()` (free account, token from "
                f"https://www.kaggle.com/settings), or on Kaggle attach {file.kaggle} by Add Input"
            )
        steps += [
            f"take Hugging Face's copy: `copies.take_copy(study, {file.name!r}, {copy!r})`"
            for copy in file.copies
        ]
        text = f"{error} {refusal}To mend it: {'; or '.join(steps)}. Then fetch again."
        raise DeliveryError(text) from error


def holds_files(folder) -> bool:
    """Whether it is a folder with anything in it."""
    return folder.is_dir() and any(folder.iterdir())


class _Progress:
    """One bar in bytes over all files, and the signal to stop."""

    def __init__(self, bar):
        self.bar, self.lock, self.stopped = bar, threading.Lock(), threading.Event()
        self.files = {}  # name: (bytes that are there, bytes of the complete file)

    def at(self, file, size, total):
        """So many bytes of this file are there."""
        with self.lock:
            before, _ = self.files.get(file.name, (0, 0))
            self.files[file.name] = size, total or size
            self.bar.total = sum(total for _, total in self.files.values())
            self.bar.update(size - before)

    def wait(self, seconds=0.0):
        """Wait, or raise if the call was interrupted."""
        if self.stopped.wait(seconds):
            raise DeliveryError("interrupted; fetch again to go on.")
