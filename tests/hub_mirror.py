"""A mirror of what the study `mini` fetches: DeepFakeFace's zips and copies on the Hub.

Pictures are the simulator's; names, folders, columns and polarity are those of the real ones.
"""

import json
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import datasets
import pandas as pd

from simulator.archives import make_archives
from src.config import SPLITS, Amounts, get_study
from src.data import sources

REVISION = "0123abc"  # that the Hub's `main` is of


def make_mirror(folder: Path, simulation: Amounts, square_size: int = 64) -> None:
    """Draws the archives into `folder`, and beside them the copies as the Hub would serve them."""
    paths = make_archives(folder, **vars(simulation), square_size=square_size, seed=1)
    lists = {file.name: file.url for file in sources.remote_files(get_study("mini"))}
    with zipfile.ZipFile(paths["gan140k"]) as archive:
        pictures = {name: archive.read(name) for name in archive.namelist() if ".jpg" in name}
    kinds = {"label": datasets.ClassLabel(names=["real", "fake"])}  # not Kaggle's order
    kinds["generator"] = datasets.ClassLabel(names=["Real", "StyleGAN"])
    tables = {}
    for split, theirs in zip(SPLITS, ("train", "validation", "test")):
        names = [name for name in pictures if f"/{split}/" in name]
        labels = [int("/fake/" in name) for name in names]
        columns = {"label": labels, "generator": labels}
        tables[theirs] = (columns, [pictures[name] for name in names])
    _write(folder, lists["gan140k"], "data", tables, kinds)

    with zipfile.ZipFile(paths["celeba"]) as archive:
        table = pd.read_csv(archive.open("list_eval_partition.csv"))
        table = table.merge(pd.read_csv(archive.open("list_attr_celeba.csv")), on="image_id")
        table["celeb_id"] = table.index // 3 + 1000 * table["partition"]
        file_of = {Path(name).name: name for name in archive.namelist()}
        tables = {}
        for number, split in enumerate(("train", "valid", "test")):
            part = table[table["partition"] == number]
            columns = {"celeb_id": part["celeb_id"].tolist(), "Male": (part["Male"] == 1).tolist()}
            tables[split] = (columns, [archive.read(file_of[name]) for name in part["image_id"]])
    kinds = {"celeb_id": datasets.Value("int64"), "Male": datasets.Value("bool")}
    _write(folder, lists["celeba"], "img_align+identity+attr", tables, kinds)


def _write(folder: Path, url: str, where: str, tables: dict, kinds: dict) -> None:
    """Two parquet files a split in row groups of five, and the Hub's list of them."""
    features, listed = datasets.Features({"image": datasets.Image()} | kinds), []
    listing = folder / urlsplit(url).path.lstrip("/")
    if listing.name == "main":
        newest = listing.parents[1] / "revision" / "main"
        newest.parent.mkdir(parents=True)
        newest.write_text(json.dumps({"sha": REVISION}))
        listing = listing.with_name(REVISION)
    files = Path(str(listing).replace("/api/", "/").replace("/tree/", "/resolve/"))
    (files / where).mkdir(parents=True)
    listing.parent.mkdir(parents=True)
    for split, (columns, pictures) in tables.items():
        rows = {"image": [{"bytes": content, "path": None} for content in pictures]} | columns
        table = datasets.Dataset.from_dict(rows, features)
        for half in range(2):
            name = f"{where}/{split}-0000{half}-of-00002.parquet"
            table.shard(2, half).to_parquet(files / name, batch_size=5)
            listed.append({"type": "file", "path": name})
    listing.write_text(json.dumps([*listed, {"type": "file", "path": "README.md"}]))
