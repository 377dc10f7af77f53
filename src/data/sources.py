"""Facts: where the archives of a study come from, and what is known of the pictures in them.

Reads nothing of the real datasets; those of a simulated study are drawn to `data/<study>/mirror`.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

from simulator import archives as simulator
from simulator.server import serve

from ..config import LABELS, SPLITS, Study
from .readers import BOX

MIRROR = "TRUE_OR_FAKE_MIRROR"  # environment variable: address of a folder with all the archives


@dataclass(frozen=True)
class RemoteFile:
    """One archive to fetch."""

    name: str  # of the dataset, and of its folder in `raw`
    url: str
    num_bytes: int | None = None  # None where none is published
    digest: str | None = None  # "sha256:<hex>" or "md5:<hex>"; None where none is published
    licence: str = ""  # as its publisher states it
    page: str = ""  # where a person reads about it and can download it by hand
    kaggle: str | None = None  # "owner/slug" of a Kaggle dataset
    copies: tuple[str, ...] = ()  # Hugging Face datasets of its pictures, for `copies.take_copy`
    expected: tuple[tuple[str, int], ...] = ()  # (pattern, files); `*` matches any depth

    @property
    def archive(self) -> str:
        """File name of the archive: the last part of its URL, or Kaggle's slug with `.zip`."""
        name = Path(self.kaggle or urlsplit(self.url).path).name
        return f"{name}.zip" if self.kaggle else name


_DFF_PAGE = "https://huggingface.co/datasets/OpenRL/DeepFakeFace"
_DFF_FILES = f"{_DFF_PAGE}/resolve/eb2a54fbf2567790bd3dc61d09fdaade6bb6c31c"
_DFF_LICENCE = (
    "stated differently in three places: OpenRAIL; Apache-2.0; "
    "source photographs for academic use only"
)
_DFF_ZIPS = dict(  # bytes and SHA-256
    wiki=(1766572515, "e83b55d6692d54e5aad38427531fa831bf30d1051ccc4267d4db90f03aaa7136"),
    inpainting=(1082027665, "795b751f0967b2d940fbd9825e05c541666ec6f8c634acc7640044542897b7b2"),
    text2img=(1134392707, "95e628873d1daea2b539a6bdf5036728a6879470ac37d6a487e091208db28f3b"),
    insight=(1081375437, "3265a6f1eed49c55068c88929608d31c38db4588d942b9679b5f5ed1479ba5d7"),
)
DEEPFAKEFACE = tuple(
    RemoteFile(
        name,
        f"{_DFF_FILES}/{name}.zip",
        num_bytes,
        f"sha256:{sha256}",
        _DFF_LICENCE,
        _DFF_PAGE,
        expected=((f"{name}/*.jpg", 30_000),),
    )
    for name, (num_bytes, sha256) in _DFF_ZIPS.items()
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
_KAGGLE_FILES = "https://www.kaggle.com/api/v1/datasets/download"
_KAGGLE_PAGES = "https://www.kaggle.com/datasets"
GAN140K = RemoteFile(
    "gan140k",
    f"{_KAGGLE_FILES}/xhlulu/140k-real-and-fake-faces",
    licence="see its Kaggle page; the real half is FFHQ (CC BY-NC-SA 4.0)",
    page=f"{_KAGGLE_PAGES}/xhlulu/140k-real-and-fake-faces",
    kaggle="xhlulu/140k-real-and-fake-faces",
    copies=("TheKernel01/140k-Real-and-Fake-Faces",),
    expected=tuple(
        (f"*{split}/{label}/*.jpg", number)
        for split, number in zip(SPLITS, (50_000, 10_000, 10_000))
        for label in LABELS
    )
    + tuple((f"*{split}.csv", 1) for split in SPLITS),
)
CELEBA = RemoteFile(
    "celeba",
    f"{_KAGGLE_FILES}/jessicali9530/celeba-dataset",
    licence="CelebA: non-commercial research only",
    page=f"{_KAGGLE_PAGES}/jessicali9530/celeba-dataset",
    kaggle="jessicali9530/celeba-dataset",
    copies=("flwrlabs/celeba", "nielsr/CelebA-faces"),
    expected=(
        ("*img_align_celeba/*.jpg", 202_599),
        ("*list_eval_partition.csv", 1),
        ("*list_attr_celeba.csv", 1),
        ("*list_landmarks_align_celeba.csv", 1),
    ),
)
SOURCES = (*DEEPFAKEFACE, WIKI_CROP, GAN140K, CELEBA)


def remote_files(study: Study) -> tuple[RemoteFile, ...]:
    """The archives of a study. Those of a simulated study are drawn first, unless they have been.

    Returns:
        One `RemoteFile` an archive; none for a study that reads a manifest.
    """
    if study.from_manifest:
        return ()
    if not study.simulated:
        return SOURCES
    folder = _drawn(study)
    archives = simulator.make_archives(
        folder, **vars(study.simulation), square_size=study.square_size, seed=study.seed
    )
    facts = json.loads((folder / "archives.json").read_text())["files"]
    return tuple(
        RemoteFile(
            name,
            f"http://simulated.invalid/{path.name}",  # answered by `served`
            facts[name]["bytes"],
            f"sha256:{facts[name]['sha256']}",
            licence="simulated data, drawn by this project",
            page="simulator/",
        )
        for name, path in archives.items()
    )


@contextmanager
def served(study: Study) -> Iterator[None]:
    """While it lasts, a simulated study's archives are served on this machine, as a mirror."""
    if not study.simulated:
        yield
        return
    before = {MIRROR: os.environ[MIRROR]} if MIRROR in os.environ else {}
    with serve(_drawn(study)) as address:
        os.environ[MIRROR] = address
        try:
            yield
        finally:
            del os.environ[MIRROR]
            os.environ.update(before)


def truth(study: Study) -> pd.DataFrame:
    """What is known of drawn pictures, see `simulator.archives.truth`; no rows for real data."""
    if study.simulated:
        return simulator.truth(_drawn(study))
    return pd.DataFrame(columns=["path", "background", *BOX])


def altered_boxes(study: Study, table: pd.DataFrame) -> np.ndarray:
    """Where the generator changed each picture: known of inpainting and swaps in simulated data.

    Returns:
        `(N, 4)`: left, top, right, bottom as fractions of the picture; NaN where it is not known
        and for reals.
    """
    columns = [f"altered_{side}" for side in BOX]
    partly = table["generator"].isin(["inpainting", "insight"])
    known = truth(study).set_index("path")
    return known.reindex(index=table["path"].where(partly), columns=columns).to_numpy(float)


def _drawn(study: Study) -> Path:
    return study.data / "mirror"
