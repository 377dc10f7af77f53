"""Where the six datasets come from, and how they get here: whole or not at all.

Reads archives from the internet, from a mirror (`TRUE_OR_FAKE_MIRROR`), from `archives/` or from Kaggle's mounted
inputs; writes `archives/<archive>` and `raw/<name>/…`. Interrupted at any moment, the next call goes on from there.
"""

import os
import re
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from ..files import DeliveryError, read_json, require_space
from ..files import progress as progress_bar
from .archives import MARKER, clear_beside, extract
from .transfer import Patience, SourceFailed, receive, size_of

MIRROR = "TRUE_OR_FAKE_MIRROR"  # environment variable: a base URL that holds the archives under their own names
KAGGLE_INPUT = Path("/kaggle/input")  # where Kaggle mounts the inputs of a notebook


@dataclass(frozen=True)
class RemoteFile:
    """One archive to fetch.

    Args:
        name: Of the dataset, and of its folder in `raw`.
        url: Where the archive lies.
        num_bytes: Its size; `None` where none is published.
        digest: `"sha256:<hex>"` or `"md5:<hex>"`; `None` where none is published.
        licence: As its publisher states it.
        page: Where a person reads about it and can download it by hand.
        kaggle: `"owner/slug"` of a Kaggle dataset.
        copies: Hugging Face datasets that hold the same pictures as parquet, for `sources.take_copy`.
        expected: `((pattern, number of files), …)`; `*` in a pattern matches any depth.
        max_bytes: The extracted tree may not grow larger.
        max_files: Nor have more members.
    """

    name: str
    url: str
    num_bytes: int | None = None
    digest: str | None = None
    licence: str = ""
    page: str = ""
    kaggle: str | None = None
    copies: tuple[str, ...] = ()
    expected: tuple[tuple[str, int], ...] = ()
    max_bytes: int = 8 << 30
    max_files: int = 250_000

    @property
    def archive(self) -> str:
        """File name of the archive: the last part of its URL, or Kaggle's slug with `.zip`."""
        return Path(self.kaggle or urlsplit(self.url).path).name + (".zip" if self.kaggle else "")


@dataclass(frozen=True)
class Delivery:
    """What became of one file.

    Args:
        name: Of the dataset.
        folder: Its tree, or `None` if it failed.
        num_bytes: Size of the extracted tree; `None` where a tree is used in place, which is not measured.
        num_files: Files in the tree.
        status: `"extracted"`, `"already there"`, `"used in place"`, `"copied"` or `"failed"`.
        problem: Why it failed and what to do; with a folder, a warning; empty if all is well.
    """

    name: str
    folder: Path | None
    num_bytes: int | None = None
    num_files: int = 0
    status: str = "failed"
    problem: str = ""


_DFF, _DFF_REVISION = (
    "https://huggingface.co/datasets/OpenRL/DeepFakeFace",
    "eb2a54fbf2567790bd3dc61d09fdaade6bb6c31c",
)
DEEPFAKEFACE = tuple(
    RemoteFile(
        name,
        f"{_DFF}/resolve/{_DFF_REVISION}/{name}.zip",
        num_bytes,
        f"sha256:{sha256}",
        "stated differently in three places: OpenRAIL; Apache-2.0; source photographs for academic use only",
        _DFF,
        expected=((f"{name}/*.jpg", 30_000),),
    )
    for name, num_bytes, sha256 in (
        ("wiki", 1_766_572_515, "e83b55d6692d54e5aad38427531fa831bf30d1051ccc4267d4db90f03aaa7136"),
        (
            "inpainting",
            1_082_027_665,
            "795b751f0967b2d940fbd9825e05c541666ec6f8c634acc7640044542897b7b2",
        ),
        (
            "text2img",
            1_134_392_707,
            "95e628873d1daea2b539a6bdf5036728a6879470ac37d6a487e091208db28f3b",
        ),
        (
            "insight",
            1_081_375_437,
            "3265a6f1eed49c55068c88929608d31c38db4588d942b9679b5f5ed1479ba5d7",
        ),
    )
)
WIKI_CROP = RemoteFile(
    "wiki_crop",
    "https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/static/wiki_crop.tar",
    digest="md5:f536eb7f5eae229ae8f286184364b42b",
    licence="IMDB-WIKI: academic research only",
    page="https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/",
    expected=(("wiki_crop/*.jpg", 62_328), ("wiki_crop/wiki.mat", 1)),
)
# Kaggle packs its zips on demand: neither size nor hash is published.
GAN140K = RemoteFile(
    "gan140k",
    "https://www.kaggle.com/api/v1/datasets/download/xhlulu/140k-real-and-fake-faces",
    licence="see its Kaggle page; the real half is FFHQ (CC BY-NC-SA 4.0)",
    page="https://www.kaggle.com/datasets/xhlulu/140k-real-and-fake-faces",
    kaggle="xhlulu/140k-real-and-fake-faces",
    copies=("TheKernel01/140k-Real-and-Fake-Faces",),
    expected=tuple(
        (f"*{split}/{label}/*.jpg", number)
        for split, number in (("train", 50_000), ("valid", 10_000), ("test", 10_000))
        for label in ("real", "fake")
    )
    + tuple((f"*{split}.csv", 1) for split in ("train", "valid", "test")),
)
CELEBA = RemoteFile(
    "celeba",
    "https://www.kaggle.com/api/v1/datasets/download/jessicali9530/celeba-dataset",
    licence="CelebA: non-commercial research only",
    page="https://www.kaggle.com/datasets/jessicali9530/celeba-dataset",
    kaggle="jessicali9530/celeba-dataset",
    copies=("flwrlabs/celeba", "nielsr/CelebA-faces"),
    expected=(("*img_align_celeba/*.jpg", 202_599),)
    + tuple(
        (f"*list_{name}.csv", 1)
        for name in ("eval_partition", "attr_celeba", "landmarks_align_celeba")
    ),
)
SOURCES = (*DEEPFAKEFACE, WIKI_CROP, GAN140K, CELEBA)


def fetch(
    files,
    archives: Path,
    raw: Path,
    *,
    num_workers=4,
    keep_archives=True,
    patience: Patience | None = None,
) -> list[Delivery]:
    """Fetch and extract several archives at once; one that fails says why, and the others go on.

    Args:
        files: `RemoteFile`s with distinct names.
        archives: Folder for the archives.
        raw: Folder for the extracted trees, `raw/<name>/`.
        num_workers: Archives handled at once.
        keep_archives: Whether an archive stays after its extraction.
        patience: Time-outs, attempts, back-off.

    Returns:
        One `Delivery` a file, in the order of `files`. What is already there is reused at once.

    Raises:
        ValueError: If two files share a name.
    """
    files, archives, raw = tuple(files), Path(archives), Path(raw)
    if doubled := [
        name for name, number in Counter(file.name for file in files).items() if number > 1
    ]:
        raise ValueError(
            f"Files need distinct names, as each gets a folder of its own; received twice: {doubled}."
        )
    rooms, reserved, patience = {}, Counter(), patience or Patience()
    for file in files:  # before anything is written
        rooms[file.name] = _reserve_space(file, archives, raw, reserved)

    def deliver(file):
        try:
            if rooms[file.name]:
                raise rooms[file.name]
            return _deliver(file, archives, raw, keep_archives, patience, progress)
        except DeliveryError as error:
            return Delivery(file.name, None, problem=f"{file.name}: {error}")
        except Exception as error:  # noqa: BLE001 (whatever it was, it is told and the other files go on)
            return Delivery(
                file.name, None, problem=f"{file.name}: {type(error).__name__}: {error}"
            )

    with _Progress() as progress, ThreadPoolExecutor(num_workers) as pool:
        try:
            return list(pool.map(deliver, files))
        except (
            BaseException
        ):  # Ctrl-C: the threads stop at their next chunk; part files stay for the next call
            progress.stopped.set()
            pool.shutdown(cancel_futures=True)
            raise


def _deliver(file, archives, raw, keep_archives, patience, progress) -> Delivery:
    """Find, or obtain and extract, one dataset."""
    folder, archive = raw / file.name, archives / file.archive
    with _locked(raw / f".{file.name}.lock", progress):
        clear_beside(folder)
        marker, status = read_json(folder / MARKER), "used in place"
        if marker and file.digest in (None, marker["digest"]):
            status = "already there"
        elif marker or not _holds_files(
            folder
        ):  # else it is a link to Kaggle's copy, or a tree put there by hand
            found, refusal = _on_kaggle(file, archive)
            if found:
                folder = _link(folder, found)
            else:
                with _locked(archives / f".{file.archive}.lock", progress):
                    _obtain(file, archive, patience, progress, refusal)
                    progress.describe(f"Extracting {file.name}")
                    limits = {"max_bytes": file.max_bytes, "max_files": file.max_files}
                    extract(archive, folder, digest=file.digest, check=progress.wait, **limits)
                    if not keep_archives:
                        archive.unlink()
                marker, status = read_json(folder / MARKER), "extracted"
        num_files, problem = _take_stock(file, folder, marker)
        return Delivery(
            file.name, folder, (marker or {}).get("num_bytes"), num_files, status, problem
        )


def _take_stock(file, folder, marker) -> tuple[int, str]:
    """Number of files under `folder`, and in what they differ from what was extracted and from what is expected."""
    patterns = {pattern: re.compile(translate(pattern)) for pattern, _ in file.expected}
    num_files, found = 0, Counter()
    for parent, _, names in os.walk(folder):
        base = Path(parent).relative_to(folder).as_posix() + "/"
        for path in ((base + name).removeprefix("./") for name in names if name != MARKER):
            num_files += 1
            found.update(
                pattern for pattern, expression in patterns.items() if expression.match(path)
            )
    counts = [
        (f"{found[pattern]:,} files like {pattern}", found[pattern], number)
        for pattern, number in file.expected
    ]
    if marker:
        counts.append((f"{num_files:,} files in all", num_files, marker["num_files"]))
    problems = [
        f"{text} where {right:,} are expected" for text, number, right in counts if number != right
    ]
    text = f"{folder} holds {'; '.join(problems)}. Delete that folder and fetch again, or go on with what there is."
    return num_files, text if problems else ""


def _on_kaggle(file, archive) -> tuple[Path | None, str]:
    """Folder of a Kaggle dataset that is mounted or that `kagglehub` delivers, or why it does not."""
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
    except Exception as error:  # noqa: BLE001 (its errors share no base); the public URL, tried next, needs no account
        return None, f"kagglehub was tried before ({type(error).__name__}: {error}). "


def _link(folder, target) -> Path:
    """Make `raw/<name>` lead to a folder elsewhere, so that paths below `raw` hold; where links fail, `target`."""
    try:
        if folder.is_symlink():
            folder.unlink()
        elif folder.is_dir():
            folder.rmdir()
        folder.symlink_to(target, target_is_directory=True)
        return folder
    except OSError:
        return target


def _obtain(file, archive, patience, progress, refusal) -> None:
    """Have the verified archive, from the mirror if there is one; or say what a person can do."""
    base = os.environ.get(MIRROR)
    try:
        receive(
            file,
            f"{base.rstrip('/')}/{file.archive}" if base else file.url,
            archive,
            patience,
            progress,
        )
        return
    except SourceFailed as error:
        text = f"{error} {refusal}"
    steps = [
        f"download it by hand{f' from {file.page}' if file.page else ''} and put it at {archive}"
    ]
    steps.append(
        f"unset {MIRROR}" if base else f"set {MIRROR} to a base URL that holds {file.archive}"
    )
    if file.kaggle:
        steps.append(
            "`pip install kagglehub` and sign in with `kagglehub.login()` (free account, token from "
            f"https://www.kaggle.com/settings), or in a Kaggle notebook attach {file.kaggle} with Add Input"
        )
    steps += [
        f"take Hugging Face's copy: `sources.take_copy(study, {file.name!r}, {copy!r})`"
        for copy in file.copies
    ]
    raise DeliveryError(f"{text}To mend it: {'; or '.join(steps)}. Then fetch again.")


def _reserve_space(file, archives, raw, reserved: Counter) -> DeliveryError | None:
    """Reserve room for archive and tree (JPEGs unpack to about their size) on their disks; the error if there is none."""
    for folder in (archives, raw):
        folder.mkdir(parents=True, exist_ok=True)
    if file.num_bytes is None or _holds_files(raw / file.name):
        return None
    archive, needs = archives / file.archive, Counter()
    missing = file.num_bytes - max(
        size_of(archive), size_of(archive.with_name(archive.name + ".part"))
    )
    try:
        for folder, need in ((archives, max(0, missing)), (raw, file.num_bytes)):
            disk = folder.stat().st_dev
            needs[disk] += need
            require_space(folder, needs[disk], f"{file.archive} and its files", reserved[disk])
    except DeliveryError as error:
        return error
    reserved.update(needs)
    return None


def _holds_files(folder) -> bool:
    """Whether a folder exists and is not empty."""
    return folder.is_dir() and any(folder.iterdir())


@contextmanager
def _locked(path, progress):
    """Hold a lock between processes, which ends with its process; waiting for it can be interrupted."""
    lock = FileLock(path)
    while not lock.is_locked:
        progress.wait(0)
        try:
            lock.acquire(timeout=0.5, poll_interval=0.02)
        except Timeout:
            progress.describe(f"Waiting for another process ({path.name})")
    try:
        yield
    finally:
        lock.release()


class _Progress:
    """One bar in bytes over all files, shown after three seconds, and the signal to stop."""

    def __init__(self):
        self.lock, self.stopped, self.sizes, self.totals = (
            threading.Lock(),
            threading.Event(),
            {},
            {},
        )

    def __enter__(self):
        self.bar = progress_bar(
            description="Downloading", total=0, unit="B", unit_scale=True, delay=3
        )
        return self

    def __exit__(self, *_):
        self.bar.close()

    def at(self, file, size, total):
        """So many bytes of this file are there."""
        with self.lock:
            before, self.sizes[file.name], self.totals[file.name] = (
                self.sizes.get(file.name, 0),
                size,
                total or size,
            )
            self.bar.total = sum(self.totals.values())
            self.bar.update(size - before)

    def describe(self, text):
        """What is being done now."""
        with self.lock:
            self.bar.set_description(text, refresh=False)

    def wait(self, seconds):
        """Wait, or raise if the call was interrupted."""
        if self.stopped.wait(seconds):
            raise DeliveryError("interrupted; fetch again to go on.")
