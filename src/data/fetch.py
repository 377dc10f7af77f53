"""How archives get here: each dataset complete or not at all; a next call goes on from there."""

import fnmatch
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from ..files import DeliveryError, progress, read_json, require_space
from .archives import MARKER, Delivery, clear_leftovers, extract, holds_files
from .members import take
from .sources import MIRROR, address
from .transfer import SourceFailed, receive

_NUM_WORKERS = 4  # archives handled at once


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
    stopped = threading.Event()

    def wait(seconds=0.0):
        if stopped.wait(seconds):
            raise DeliveryError("interrupted; fetch again to go on.")

    def deliver(file):
        try:
            return _deliver(file, archives / file.archive, raw / file.name, bar.update, wait)
        except Exception as error:
            kind = "" if isinstance(error, DeliveryError) else f"{type(error).__name__}: "
            return Delivery(file.name, None, problem=f"{file.name}: {kind}{error}")

    with FileLock(raw / ".lock"), ThreadPoolExecutor(_NUM_WORKERS) as pool:
        new = [file for file in files if file.num_bytes and not holds_files(raw / file.name)]
        num_bytes = sum(_lacking(file, archives) for file in new)
        room = num_bytes + sum(file.num_bytes for file in new)  # a tree is as large as its archive
        require_space(raw, room, f"{len(files)} archives and their files")
        with progress(None, "Fetching", num_bytes, "B", unit_scale=True, delay=3) as bar:
            try:
                return list(pool.map(deliver, files))
            except BaseException:  # Ctrl-C: threads stop at their next chunk; part files stay
                stopped.set()
                pool.shutdown(cancel_futures=True)
                raise


def _lacking(file, archives: Path) -> int:
    """Bytes of an archive that are not there, not even in a part of it."""
    there = [path.stat().st_size for path in archives.glob(f"{file.archive}*")]
    return max(0, file.num_bytes - max(there, default=0))


def _deliver(file, archive, folder, advance, wait) -> Delivery:
    """Find, or obtain and extract, one dataset."""
    clear_leftovers(folder)
    marker, status, remark = read_json(folder / MARKER), "used in place", ""
    if marker and file.digest in (None, marker["digest"]):
        status = "already there"
    elif file.taken and not holds_files(folder):
        with _advising(file, archive):
            remark = take(file, address(file), archive.with_suffix(".part"), folder, advance, wait)
        status = "taken in part"
    elif marker or not holds_files(folder):  # else a link, or a tree put there by hand
        refusal = _link_from_kaggle(file, archive, folder)
        if refusal is not None:
            with _advising(file, archive, refusal):
                receive(file, address(file), archive, advance, wait)
            extract(archive, folder, digest=file.digest, check=wait)
            status = "extracted"
    marker = read_json(folder / MARKER)
    num_files, problem = _take_stock(file, folder, marker)
    num_bytes = marker["num_bytes"] if marker else None
    return Delivery(file.name, folder, num_bytes, num_files, status, f"{remark} {problem}".strip())


def _link_from_kaggle(file, archive, folder) -> str | None:
    """Links `folder` to kagglehub's copy: None if done, "" if not tried, else why it failed."""
    if not file.kaggle or archive.exists() or os.environ.get(MIRROR):
        return ""
    try:
        import kagglehub

        target = kagglehub.dataset_download(file.kaggle)
        folder.unlink(missing_ok=True)  # what is left of an older link
        folder.symlink_to(target, target_is_directory=True)
        return None
    except Exception as error:  # no common base; the public address comes next
        return f"kagglehub was tried before ({type(error).__name__}: {error}). "


@contextmanager
def _advising(file, archive, refusal: str = ""):
    """Adds to a source's failure what a person can do about it."""
    try:
        yield
    except SourceFailed as error:
        if file.taken and archive.suffix == ".tar":
            steps = ["go on without it: it only tells how often such photographs are called fake"]
        elif file.taken:
            steps = ["name another address of the Hub in HF_ENDPOINT, your token in HF_TOKEN"]
        else:
            steps = [f"download it by hand from {file.page or file.url} and put it at {archive}"]
        if os.environ.get(MIRROR):
            steps.append(f"unset {MIRROR}")
        elif archive.suffix != ".parquet":
            steps.append(f"set {MIRROR} to a base URL that holds {file.archive}")
        if file.kaggle:
            account = "(free account, token from https://www.kaggle.com/settings)"
            steps.append(f"sign in with `kagglehub.login()` {account}")
            steps.append(f"on Kaggle, attach {file.kaggle} by Add Input")
        for copy in file.copies:
            call = f"copies.take_copy(study, {file.name!r}, {copy!r})"
            steps.append(f"take Hugging Face's copy: `{call}`")
        text = f"{error} {refusal}To correct this: {'; or '.join(steps)}. Then fetch again."
        raise DeliveryError(text) from error


def _take_stock(file, folder, marker) -> tuple[int, str]:
    """Number of files below `folder`, and in what they differ from what is expected."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != MARKER)
    names = [path.relative_to(folder).as_posix() for path in paths]
    expected = dict(file.expected) | ({"*": marker["num_files"]} if marker else {})
    problems = [
        f"{found:,} files like {pattern} where {number:,} are expected"
        for pattern, number in expected.items()
        if (found := len(fnmatch.filter(names, pattern))) != number
    ]
    advice = "Delete that folder and fetch again, or go on with what there is."
    return len(names), f"{folder} holds {'; '.join(problems)}. {advice}" if problems else ""
