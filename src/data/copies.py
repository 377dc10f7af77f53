"""A parquet copy of a Kaggle dataset → files as in Kaggle's archive; no picture changes."""

from pathlib import Path

import pandas as pd

from ..config import SPLITS, Study
from ..files import DeliveryError, explain_full_disk, progress
from .archives import replacing
from .fetch import Delivery


def take_copy(study: Study, name: str, tables) -> Delivery:
    """Writes `raw/<name>` of a study from a copy on the Hugging Face hub, whole or not at all.

    Args:
        study: Whose data.
        name: `"gan140k"` or `"celeba"`.
        tables: A dataset of the hub, `"owner/name"` (see `copies` in `sources.SOURCES`), or what
            `datasets.load_dataset` made of files at hand: tables with a column `image`; for
            `gan140k` also `label`, a `ClassLabel` whose names decide what is real; for `celeba`,
            if known, `celeb_id` and attributes as booleans.

    Returns:
        The delivery; `problem` names what differs from Kaggle's files.

    Raises:
        DeliveryError: If the folder holds files already, or the copy cannot be fetched.
        ValueError: If it cannot be told which label is which, or there is no picture.
    """
    import datasets

    layouts = {"gan140k": _lay_out_gan140k, "celeba": _lay_out_celeba}
    folder = study.data / "raw" / name
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
            reason = f"{type(error).__name__}: {error}"
            raise DeliveryError(f"{tables} cannot be fetched ({reason}).") from error
    tables = dict(tables) if isinstance(tables, dict) else {"train": tables}
    encoded, same = datasets.Image(decode=False), {"validation": "valid", "val": "valid"}
    tables = {
        same.get(split, split): table.cast_column("image", encoded)
        for split, table in tables.items()
    }
    if unknown := sorted(set(tables) - set(SPLITS)):
        raise ValueError(f"The copy has the splits {unknown}; expected are {', '.join(SPLITS)}.")
    if not any(map(len, tables.values())):
        raise ValueError(f"The copy of {name} holds no pictures.")
    with explain_full_disk(folder), replacing(folder) as growing:
        notes = layouts[name](tables, growing)
    files = [path for path in folder.rglob("*") if path.is_file()]
    if num_png := sum(path.suffix == ".png" for path in files):
        notes.append(
            f"{num_png:,} pictures are PNG where Kaggle has JPEG: decoded and written anew, so "
            "what their files and their compression tell is lost."
        )
    num_bytes = sum(path.stat().st_size for path in files)
    return Delivery(name, folder, num_bytes, len(files), "copied", " ".join(notes))


def _lay_out_gan140k(tables: dict, folder: Path) -> list[str]:
    """Writes the folders of labels and a CSV file a split; says if labels were flipped."""
    notes = []
    for split, table in tables.items():
        names = [name.lower() for name in getattr(table.features.get("label"), "names", [])]
        if sorted(names) != ["fake", "real"]:
            raise ValueError(
                "The copy of gan140k must name its labels 'real' and 'fake' (a ClassLabel in the "
                "column 'label'), or nobody knows which is which; its columns are "
                f"{dict(table.features)}."
            )
        if names[0] == "real" and not notes:
            notes.append(
                "Labels are the other way round than Kaggle's, where 1 is real: "
                "they were taken by name."
            )
        rows = []
        for number, row in enumerate(progress(table, f"Writing {split}", len(table))):
            if row["label"] not in (0, 1):
                text = f"Row {number} of {split} has the label {row['label']!r}; expected 0 or 1."
                raise ValueError(text)
            label = names[row["label"]]
            path = f"{split}/{label}/{number:06d}"
            file = _write_picture(row["image"], folder / "real_vs_fake/real-vs-fake" / path)
            is_real = int(label == "real")
            rows.append((file.stem, is_real, label, f"{split}/{label}/{file.name}"))
        table = pd.DataFrame(rows, columns=["id", "label", "label_str", "path"])
        table.to_csv(folder / f"{split}.csv")
    return notes


def _lay_out_celeba(tables: dict, folder: Path) -> list[str]:
    """Writes the pictures and, where the copy knows them, partition, persons and attributes."""
    rows = []
    for split, table in tables.items():
        kinds = {name: getattr(kind, "dtype", "") for name, kind in table.features.items()}
        attributes = [name for name, kind in kinds.items() if kind == "bool"]
        for number, row in enumerate(progress(table, f"Writing {split}", len(table))):
            name = f"img_align_celeba/img_align_celeba/{split}-{number:06d}"  # not CelebA's number
            file = _write_picture(row["image"], folder / name)
            known = {"partition": SPLITS.index(split), "celeb_id": row.get("celeb_id")}
            known |= {name: 1 if row[name] else -1 for name in attributes}
            rows.append({"image_id": file.name} | known)
    known = pd.DataFrame(rows).set_index("image_id")
    notes = []
    if len(tables) > 1:
        known[["partition"]].to_csv(folder / "list_eval_partition.csv")
    else:
        notes.append("The copy tells no partition: splits follow from the pictures' names.")
    if known["celeb_id"].notna().all():  # the file as CelebA's authors have it
        known["celeb_id"].to_csv(folder / "identity_CelebA.txt", sep=" ", header=False)
    else:
        notes.append("The copy tells no persons: two pictures of one may land in two splits.")
    if len(attributes := known.columns.drop(["partition", "celeb_id"])):
        known[attributes].to_csv(folder / "list_attr_celeba.csv")
    return notes


def _write_picture(picture: dict, path: Path) -> Path:
    """Writes an encoded picture as it is, with the suffix of its format."""
    content = picture["bytes"] or Path(picture["path"]).read_bytes()
    file = path.with_suffix(".png" if content.startswith(b"\x89PNG") else ".jpg")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file
