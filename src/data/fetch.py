"""How archives get here: each dataset whole or not at all.

Reads archives from the internet, from a mirror (`TRUE_OR_FAKE_MIRROR`), from `archives/` or from
Kaggle's mounted inputs; writes `archives/<archive>` and `raw/<name>/…`. Interrupted at any moment,
the next call goes on from there.
"""

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
from .transfer import SourceFailed, receive, size_of

KAGGLE_INPUT = Path("/kaggle/input")  # where Kaggle mounts the inputs of a notebook
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
        ValueError: If two files share a name.
    """
    names = [file.name for file in files]
    if len(set(names)) < len(names):
        raise ValueError(f"Files need distinct names, one folder each; received {names}.")
    for folder in (archives, raw):
        folder.mkdir(parents=True, exist_ok=True)
    bar = progress_bar(None, "Downloading", 0, "B", unit_scale=True, delay=3)
    with FileLock(raw / ".lock"), bar, ThreadPoolExecutor(_NUM_WORKERS) as pool:
        progress, reserved, no_room = _Progress(bar), 0, {}
        for file in files:  # before anything is written
            try:
                reserved += _require_room(file, archives, raw, reserved)
            except DeliveryError as error:
                no_room[file.name] = error

        def deliver(file):
            try:
                if file.name in no_room:
                    raise no_room[file.name]
                return _deliver(file, archives, raw, progress)
            except Exception as error:  # noqa: BLE001 (it is told, and the others go on)
                kind = "" if isinstance(error, DeliveryError) else f"{type(error).__name__}: "
                return Delivery(file.name, None, problem=f"{file.name}: {kind}{error}")

        try:
            return list(pool.map(deliver, files))
        except BaseException:  # Ctrl-C: threads stop at their next chunk; part files stay
            progress.stopped.set()
            pool.shutdown(cancel_futures=True)
            raise


def _require_room(file, archives, raw, reserved) -> int:
    """Bytes that archive and tree, where JPEGs keep their size, will take of the disk of `raw`."""
    if file.num_bytes is None or _holds_files(raw / file.name):
        return 0
    archive, need = archives / file.archive, file.num_bytes
    if archives.stat().st_dev == raw.stat().st_dev:
        there = max(size_of(archive), size_of(archive.with_name(f"{archive.name}.part")))
        need += max(0, file.num_bytes - there)
    require_space(raw, need, f"{file.archive} and its files", reserved)
    return need


def _deliver(file, archives, raw, progress) -> Delivery:
    """Find, or obtain and extract, one dataset."""
    folder, archive = raw / file.name, archives / file.archive
    clear_leftovers(folder)
    marker, status = read_json(folder / MARKER), "used in place"
    if marker and file.digest in (None, marker["digest"]):
        status = "already there"
    elif marker or not _holds_files(folder):  # else a link, or a tree put there by hand
        found, refusal = _on_kaggle(file, archive)
        if found:
            _link(folder, found)
        else:
            _obtain(file, archive, progress, refusal)
            progress.describe(f"Extracting {file.name}")
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
    counts = [
        (f"files like {pattern}", len(fnmatch.filter(paths, pattern)), number)
        for pattern, number in file.expected
    ]
    if marker:
        counts.append(("files in all", len(paths), marker["num_files"]))
    problems = [
        f"{found:,} {what} where {number:,} are expected"
        for what, found, number in counts
        if found != number
    ]
    text = (
        f"{folder} holds {'; '.join(problems)}. Delete that folder and fetch again, or go on with "
        "what there is."
    )
    return len(paths), text if problems else ""


def _on_kaggle(file, archive) -> tuple[Path | None, str]:
    """Folder of a Kaggle dataset that is mounted or that `kagglehub` delivers, or why it is not."""
    if not file.kaggle:
        return None, ""
    owner, slug = file.kaggle.split("/")
    for mounted in (KAGGLE_INPUT / slug, KAGGLE_INPUT / "datasets" / owner / slug):
        if mounted.is_dir():
            return mounted, ""
    if archive.exists() or os.environ.get(MIRROR):
        return None, ""
    try:
        import kagglehub

        return Path(kagglehub.dataset_download(file.kaggle)), ""
    except Exception as error:  # noqa: BLE001 (no common base); the public URL comes next
        return None, f"kagglehub was tried before ({type(error).__name__}: {error}). "


def _link(folder, target) -> None:
    """Make `raw/<name>` lead to a folder elsewhere, so that paths below `raw` hold."""
    try:
        if folder.is_symlink():
            folder.unlink()
        elif folder.is_dir():
            folder.rmdir()
        folder.symlink_to(target, target_is_directory=True)
    except OSError as error:
        raise DeliveryError(
            f"its files lie in {target}, but no link to them can be made at {folder} ({error}). "
            f"Copy or move that folder to {folder}, or allow links (on Windows: switch on "
            "Developer Mode). Then fetch again."
        ) from error


def _obtain(file, archive, progress, refusal) -> None:
    """Have the verified archive, from the mirror if there is one; or say what a person can do."""
    base = os.environ.get(MIRROR)
    try:
        url = f"{base.rstrip('/')}/{file.archive}" if base else file.url
        return receive(file, url, archive, progress)
    except SourceFailed as error:
        text = f"{error} {refusal}"
    page = f" from {file.page}" if file.page else ""
    steps = [
        f"download it by hand{page} and put it at {archive}",
        f"unset {MIRROR}" if base else f"set {MIRROR} to a base URL that holds {file.archive}",
    ]
    if file.kaggle:
        steps.append(
            "`pip install kagglehub` and sign in with `kagglehub.login()` (free account, token "
            "from https://www.kaggle.com/settings), or in a Kaggle notebook attach "
            f"{file.kaggle} with Add Input"
        )
    steps += [
        f"take Hugging Face's copy: `copies.take_copy(study, {file.name!r}, {copy!r})`"
        for copy in file.copies
    ]
    raise DeliveryError(f"{text}To mend it: {'; or '.join(steps)}. Then fetch again.")


def _holds_files(folder) -> bool:
    return folder.is_dir() and any(folder.iterdir())


class _Progress:
    """One bar in bytes over all files, shown after three seconds, and the signal to stop."""

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

    def describe(self, text):
        """What is being done now."""
        with self.lock:
            self.bar.set_description(text, refresh=False)

    def wait(self, seconds=0.0):
        """Wait, or raise if the call was interrupted."""
        if self.stopped.wait(seconds):
            raise DeliveryError("interrupted; fetch again to go on.")
