"""Facts: where the archives of a study come from, and what is known of the pictures in them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd

from simulator import archives as simulator
from simulator import generators
from simulator.server import serve

from ..config import LABELS, SPLITS, Study
from ..files import read_json
from .readers import ALTERED, BOX
from .transfer import HUB

MIRROR = "TRUE_OR_FAKE_MIRROR"  # environment variable: address of a folder with all the archives


@dataclass(frozen=True)
class RemoteFile:
    """One archive to fetch."""

    name: str  # of the dataset, and of its folder in `raw`
    archive: str  # its file name
    url: str
    num_bytes: int | None = None  # None where none is published
    digest: str | None = None  # "sha256:<hex>" or "md5:<hex>"; None where none is published
    licence: str = ""  # as its publisher states it
    page: str = ""  # where a person reads about it and can download it by hand
    kaggle: str | None = None  # "owner/slug" of a Kaggle dataset
    copies: tuple[str, ...] = ()  # Hugging Face datasets of its pictures, for `copies.take_copy`
    expected: tuple[tuple[str, int], ...] = ()  # (pattern, files); `*` matches any depth
    # Where only a part is taken. Of a zip or a tar: how many photographs, of how many. Of parquet
    # files, whose `url` is the Hub's list: how many pictures of each split, and of each label.
    taken: tuple[int, ...] = ()
    seed: int = 0  # of the choice


def _deepfakeface(name: str, num_bytes: int, sha256: str) -> RemoteFile:
    """One of the four archives of DeepFakeFace."""
    page, archive = f"{HUB}/datasets/OpenRL/DeepFakeFace", f"{name}.zip"
    url = f"{page}/resolve/eb2a54fbf2567790bd3dc61d09fdaade6bb6c31c/{archive}"
    licences = "OpenRAIL; Apache-2.0; source photographs for academic use only"
    facts = (num_bytes, f"sha256:{sha256}", f"stated differently in three places: {licences}", page)
    return RemoteFile(name, archive, url, *facts, expected=((f"{name}/*.jpg", 30_000),))


def _on_kaggle(name: str, slug: str, **facts) -> RemoteFile:
    """A dataset of Kaggle, which packs its zips on demand: no size or hash is published."""
    url = f"https://www.kaggle.com/api/v1/datasets/download/{slug}"
    page = f"https://www.kaggle.com/datasets/{slug}"
    return RemoteFile(name, f"{Path(slug).name}.zip", url, page=page, kaggle=slug, **facts)


_DEEPFAKEFACE = dict(  # bytes and SHA-256
    wiki=(1766572515, "e83b55d6692d54e5aad38427531fa831bf30d1051ccc4267d4db90f03aaa7136"),
    inpainting=(1082027665, "795b751f0967b2d940fbd9825e05c541666ec6f8c634acc7640044542897b7b2"),
    text2img=(1134392707, "95e628873d1daea2b539a6bdf5036728a6879470ac37d6a487e091208db28f3b"),
    insight=(1081375437, "3265a6f1eed49c55068c88929608d31c38db4588d942b9679b5f5ed1479ba5d7"),
)
_WIKI_PAGE = "https://data.vision.ee.ethz.ch/cvl/rrothe/imdb-wiki/"
WIKI_CROP = RemoteFile(
    "wiki_crop",
    "wiki_crop.tar",
    f"{_WIKI_PAGE}static/wiki_crop.tar",
    digest="md5:f536eb7f5eae229ae8f286184364b42b",
    licence="IMDB-WIKI: academic research only",
    page=_WIKI_PAGE,
    expected=(("wiki_crop/*.jpg", 62_328), ("wiki_crop/wiki.mat", 1)),
)
_NUM_GAN = dict(zip(SPLITS, (50_000, 10_000, 10_000)))  # of each label
GAN140K = _on_kaggle(
    "gan140k",
    "xhlulu/140k-real-and-fake-faces",
    licence="see its Kaggle page; the real half is FFHQ (CC BY-NC-SA 4.0)",
    copies=("TheKernel01/140k-Real-and-Fake-Faces",),
    expected=(
        *((f"*{split}/{label}/*.jpg", _NUM_GAN[split]) for split in SPLITS for label in LABELS),
        *((f"*{split}.csv", 1) for split in SPLITS),
    ),
)
CELEBA = _on_kaggle(
    "celeba",
    "jessicali9530/celeba-dataset",
    licence="CelebA: non-commercial research only",
    copies=("flwrlabs/celeba", "nielsr/CelebA-faces"),
    expected=(
        ("*img_align_celeba/*.jpg", 202_599),
        ("*list_eval_partition.csv", 1),
        ("*list_attr_celeba.csv", 1),
        ("*list_landmarks_align_celeba.csv", 1),
    ),
)
# Of the copies on the Hugging Face Hub of which a part is taken: the revision, what shares of the
# pictures the splits get, as in the complete sets, and where the pictures then lie. Without a
# revision the newest is taken, and notebook 1 says which that was.
_COPIES = {
    "gan140k": (None, (5, 1, 1), ("*/real/*", "*/fake/*")),
    "celeba": ("6c14bd4eb86179a64c3f34900da75f270245ce47", (8, 1, 1), ("*img_align_celeba/*",)),
}
SOURCES = (
    *(_deepfakeface(name, *facts) for name, facts in _DEEPFAKEFACE.items()),
    WIKI_CROP,
    GAN140K,
    CELEBA,
)
UNSEEN_DECODERS = tuple(generators.TEXT2IMG)  # that the simulated inpainting never draws from


def remote_files(study: Study) -> tuple[RemoteFile, ...]:
    """The archives of a study, none of a folder's; simulated ones are drawn if missing."""
    if study.faces:
        return ()
    if study.part:
        return _parts(study)
    if not study.simulated:
        return SOURCES
    folder, size = _drawn(study), study.square_size
    counts = vars(study.simulation)
    archives = simulator.make_archives(folder, **counts, square_size=size, seed=study.seed)
    known = read_json(folder / "archives.json")["files"]
    licence, page = "simulated data, drawn by this project", "simulator/"
    found = []
    for name, path in archives.items():
        num_bytes, digest = known[name]["bytes"], f"sha256:{known[name]['sha256']}"
        url = f"http://simulated.invalid/{path.name}"  # answered by `served`
        found.append(RemoteFile(name, path.name, url, num_bytes, digest, licence, page))
    return tuple(found)


def _parts(study: Study) -> tuple[RemoteFile, ...]:
    """What a study takes of DeepFakeFace, and of copies of the sets that Kaggle delivers."""
    number, found = study.part.num_photographs, []
    for file in SOURCES[: len(_DEEPFAKEFACE)]:
        [(pattern, total)] = file.expected
        about, expected = round(file.num_bytes * number / total), ((pattern, number),)
        part = dict(digest=None, taken=(number, total))
        found.append(replace(file, num_bytes=about, expected=expected, **part))
    found.append(replace(WIKI_CROP, expected=(), **part))
    for file, number in ((GAN140K, study.part.num_gan), (CELEBA, study.part.num_celeba)):
        revision, shares, patterns = _COPIES[file.name]
        copy = f"datasets/{file.copies[0]}/tree/{revision or 'main'}"
        taken = tuple(round(number * share / sum(shares)) for share in shares)
        expected = tuple((pattern, sum(taken)) for pattern in patterns)
        facts = dict(licence=file.licence, page=f"{HUB}/{copy}", expected=expected, taken=taken)
        found.append(RemoteFile(file.name, f"{file.name}.parquet", f"{HUB}/api/{copy}", **facts))
    return tuple(replace(file, seed=study.seed) for file in found)


def address(file: RemoteFile) -> str:
    """Where to ask for a file. A mirror has the archives in one folder, and the Hub's addresses."""
    mirror = (os.environ.get(MIRROR) or HUB).rstrip("/")
    if mirror == HUB or file.archive.endswith(".parquet"):
        return file.url.replace(HUB, mirror)
    return f"{mirror}/{file.archive}"


@contextmanager
def served(study: Study) -> Iterator[None]:
    """While it lasts, a simulated study's archives are served on this machine, as a mirror."""
    if study.simulated:
        with serve(_drawn(study)) as address, patch.dict(os.environ, {MIRROR: address}):
            yield
    else:
        yield


def truth(study: Study) -> pd.DataFrame:
    """What is known of drawn pictures, see `simulator.archives.truth`; no rows for real data."""
    if study.simulated:
        return simulator.truth(_drawn(study))
    return pd.DataFrame(columns=["path", "background", *BOX])


def altered_boxes(study: Study, table: pd.DataFrame) -> np.ndarray:
    """Where the generator changed each picture: `(N, 4)`, `BOX` in fractions of what is shown.

    Known of simulated swaps, of inpainting with the background restored, and from manifests; NaN
    for all others, and where the whole picture is new, as of `inpainting`. `table` is that of
    `catalog.task_steps`; after `square` and `centre` the middle alone is shown.
    """
    partly = table["generator"].isin(["insight", "inpainting_local"])
    known = truth(study).set_index("path").reindex(table["path"].where(partly))
    known = (known if study.simulated else table).reindex(columns=ALTERED).astype(float)
    boxes = known.mask((known == (0, 0, 1, 1)).all(axis=1)).to_numpy()
    is_cut, sizes = table["steps"].str.startswith("square"), table[["width", "height"] * 2]
    boxes = (boxes - 0.5) * sizes.div(sizes.min(axis=1), axis=0).where(is_cut, 1).to_numpy() + 0.5
    side = table["steps"].str.extract(r"centre:(\d+)").fillna(study.square_size).to_numpy(float)
    return ((boxes - 0.5) * study.square_size / side + 0.5).clip(0, 1)


def decodings(study: Study, pixels: np.ndarray, decoders: Sequence[int]) -> np.ndarray:
    """Square pictures `(N, S, S, 3)` `uint8` as the simulator's latent decoders restore them.

    They take turns: the first picture goes through the first of `decoders`.
    """
    made, detail = [], generators.DETAIL["inpainting"]
    for number, image in enumerate(pixels):
        codec = generators.network(study.seed, decoders[number % len(decoders)])
        made.append(codec.decode(codec.encode(image), np.random.default_rng(number), detail))
    return np.stack(made)


def _drawn(study: Study) -> Path:
    return study.data / "mirror"
