"""What a study fetches, and from where: the datasets' own addresses, copies, or archives drawn on this machine."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from simulator import archives as simulated
from simulator.server import serve

from ..config import SPLITS, Study
from ..files import DeliveryError, explain_full_disk, progress
from .archives import clear_beside
from .fetch import MIRROR, SOURCES, Delivery, RemoteFile


def remote_files(study: Study) -> tuple[RemoteFile, ...]:
    """The archives of a study. Those of a simulated study are drawn first, unless they have been.

    Returns:
        One `RemoteFile` an archive; none for a study that reads a manifest.
    """
    if study.from_manifest:
        return ()
    if not study.simulated:
        return SOURCES
    folder = _folder(study)
    archives = simulated.make_archives(
        folder, **vars(study.simulation), square_size=study.square_size, seed=study.seed
    )
    facts = json.loads((folder / "archives.json").read_text())["files"]
    return tuple(
        RemoteFile(
            name=name,
            url=f"http://simulated.invalid/{path.name}",  # answered by `served`
            num_bytes=facts[name]["bytes"],
            digest=f"sha256:{facts[name]['sha256']}",
            licence="simulated data, drawn by this project",
            page="simulator/",
        )
        for name, path in archives.items()
    )


@contextmanager
def served(study: Study) -> Iterator[None]:
    """While it lasts, a simulated study's archives are served over HTTP on this machine, as a mirror."""
    if not study.simulated:
        yield
        return
    before = os.environ.get(MIRROR)
    with serve(_folder(study)) as address:
        os.environ[MIRROR] = address
        try:
            yield
        finally:
            os.environ.pop(MIRROR)
            if before is not None:
                os.environ[MIRROR] = before


def truth(study: Study) -> pd.DataFrame:
    """What is known of the pictures because they were drawn: see `simulator.archives.truth`; no rows where data are real."""
    if study.simulated:
        return simulated.truth(_folder(study))
    return pd.DataFrame(columns=["path", "background", "left", "top", "right", "bottom"])


def _folder(study: Study) -> Path:
    return study.data / "mirror"


def take_copy(study: Study, name: str, tables) -> Delivery:
    """Lays a parquet copy of a Kaggle dataset out as Kaggle's archive is; the bytes of its pictures are not touched.

    Args:
        study: `raw/<name>` of its data is written, whole or not at all.
        name: `"gan140k"` or `"celeba"`.
        tables: A dataset of the Hugging Face hub, `"owner/name"` (see `copies` in `download.SOURCES`), or what
            `datasets.load_dataset` made of files at hand: tables with a column `image`; for `gan140k` also `label`, a
            `ClassLabel` whose names decide what is real; for `celeba`, if known, `celeb_id` and attributes as booleans.

    Returns:
        The delivery; `problem` names what differs from Kaggle's files.

    Raises:
        DeliveryError: If the folder holds files already, or the copy cannot be fetched.
        ValueError: If it cannot be told which label is which, or there is no picture.
    """
    import datasets

    layouts, folder = (
        {"gan140k": _lay_out_gan140k, "celeba": _lay_out_celeba},
        study.data / "raw" / name,
    )
    if name not in layouts:
        raise ValueError(f"There are copies of {' and '.join(layouts)}; received {name!r}.")
    if folder.is_dir() and any(folder.iterdir()):
        raise DeliveryError(
            f"{folder} holds files already. Delete it first if the copy is to take its place."
        )
    if isinstance(tables, str):
        try:
            tables = datasets.load_dataset(tables)
        except Exception as error:  # noqa: BLE001 (its errors share no base)
            raise DeliveryError(
                f"{tables} cannot be fetched ({type(error).__name__}: {error})."
            ) from error
    tables = dict(tables) if isinstance(tables, dict) else {"train": tables}
    encoded, same = datasets.Image(decode=False), {"validation": "valid", "val": "valid"}
    tables = {
        same.get(split, split): table.cast_column("image", encoded)
        for split, table in tables.items()
    }
    if unknown := sorted(set(tables) - set(SPLITS)):
        raise ValueError(
            f"The copy of {name} has the splits {unknown}; expected are {', '.join(SPLITS)}."
        )
    if not any(map(len, tables.values())):
        raise ValueError(f"The copy of {name} holds no pictures.")
    growing, _ = clear_beside(folder)
    try:
        with explain_full_disk(folder):
            notes = layouts[name](tables, growing)
            if folder.is_symlink() or folder.is_dir():
                folder.unlink() if folder.is_symlink() else folder.rmdir()
            os.replace(growing, folder)
    finally:
        clear_beside(folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    if num_png := sum(path.suffix == ".png" for path in files):
        notes.append(
            f"{num_png:,} pictures are PNG where Kaggle has JPEG: decoded and written anew, so what their files and "
            "their compression tell is lost."
        )
    num_bytes = sum(path.stat().st_size for path in files)
    return Delivery(name, folder, num_bytes, len(files), "copied", " ".join(notes))


def _lay_out_gan140k(tables: dict, folder: Path) -> list[str]:
    """Writes `real_vs_fake/real-vs-fake/<split>/<label>/` and a CSV file a split; says if labels were flipped."""
    notes = []
    for split, table in tables.items():
        names = [name.lower() for name in getattr(table.features.get("label"), "names", [])]
        if sorted(names) != ["fake", "real"]:
            raise ValueError(
                f"The copy of gan140k must name its labels 'real' and 'fake' (a ClassLabel in the column 'label'), or "
                f"nobody knows which is which; its columns are {dict(table.features)}."
            )
        if names.index("real") == 0 and not notes:
            notes.append(
                "Labels are the other way round than Kaggle's, where 1 is real: they were taken by name."
            )
        rows = []
        for number, row in enumerate(progress(table, f"Writing {split}", len(table))):
            label = dict(enumerate(names)).get(row["label"])
            if label is None:
                raise ValueError(
                    f"Row {number} of {split} has the label {row['label']!r}; expected 0 or 1."
                )
            file = _write_picture(
                row["image"], folder / "real_vs_fake/real-vs-fake" / split / label, f"{number:06d}"
            )
            rows.append({"id": file.stem, "label": int(label == "real"), "label_str": label,
                         "path": f"{split}/{label}/{file.name}"})  # fmt: skip
        pd.DataFrame(rows).to_csv(folder / f"{split}.csv")
    return notes


def _lay_out_celeba(tables: dict, folder: Path) -> list[str]:
    """Writes `img_align_celeba/img_align_celeba/` and, where the copy knows them, partition, persons and attributes."""
    rows = []
    for split, table in tables.items():
        attributes = [
            name
            for name, feature in table.features.items()
            if getattr(feature, "dtype", "") == "bool"
        ]
        for number, row in enumerate(progress(table, f"Writing {split}", len(table))):
            target = folder / "img_align_celeba/img_align_celeba"
            file = _write_picture(
                row["image"], target, f"{split}-{number:06d}"
            )  # CelebA's own numbers are not told
            rows.append({"image_id": file.name, "partition": SPLITS.index(split), "celeb_id": row.get("celeb_id"),
                         **{name: 1 if row[name] else -1 for name in attributes}})  # fmt: skip
    known = pd.DataFrame(rows).set_index("image_id")
    notes = []
    if len(tables) > 1:
        known[["partition"]].to_csv(folder / "list_eval_partition.csv")
    else:
        notes.append("The copy tells no partition: splits follow from the pictures' names.")
    if known["celeb_id"].notna().all():
        known["celeb_id"].to_csv(
            folder / "identity_CelebA.txt", sep=" ", header=False
        )  # as CelebA's authors have it
    else:
        notes.append("The copy tells no persons: two pictures of one may land in two splits.")
    if len(attributes := known.columns.drop(["partition", "celeb_id"])):
        known[attributes].to_csv(folder / "list_attr_celeba.csv")
    return notes


def _write_picture(picture: dict, folder: Path, stem: str) -> Path:
    """Writes an encoded picture as it is, under the name of its format."""
    content = picture["bytes"] or Path(picture["path"]).read_bytes()
    file = folder / (stem + (".png" if content.startswith(b"\x89PNG") else ".jpg"))
    folder.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def altered_boxes(study: Study, table: pd.DataFrame) -> np.ndarray:
    """Where the generator changed each picture, as far as that is known: in simulated data, of inpainting and swaps.

    Returns:
        `(N, 4)`: left, top, right, bottom as fractions of the picture; NaN where it is not known, or a real.
    """
    columns = [f"altered_{side}" for side in ("left", "top", "right", "bottom")]
    partly = table["generator"].isin(["inpainting", "insight"])
    drawn = truth(study).set_index("path")
    return drawn.reindex(index=table["path"].where(partly), columns=columns).to_numpy(float)
