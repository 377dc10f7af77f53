"""A parquet copy of a Kaggle dataset → files as in Kaggle's archive; no picture changes."""

from pathlib import Path

import pandas as pd

from ..config import SPLITS, Study
from ..files import DeliveryError, explain_full_disk, progress
from .archives import Delivery, holds_files, replacing


def take_copy(study: Study, name: str, tables) -> Delivery:
    """Writes `raw/<name>` of a study from a copy on the Hugging Face hub, complete or not at all.

    Args:
        study: Whose data.
        name: `"gan140k"` or `"celeba"`.
        tables: A dataset of the hub, `"owner/name"`, or what `datasets.load_dataset` made of files
            at hand: a column `image`; for `gan140k` also `label`, a `ClassLabel` whose names decide
            what is real; for `celeba`, if known, `celeb_id` and attributes as booleans.

    Returns:
        The delivery; `problem` names what differs from Kaggle's files.

    Raises:
        DeliveryError: If the folder holds files already.
        ValueError: If it cannot be told which label or split is which.
    """
    import datasets

    folder = study.data / "raw" / name
    if holds_files(folder):
        raise DeliveryError(f"{folder} holds files already. Delete it first to put the copy there.")
    tables = datasets.load_dataset(tables) if isinstance(tables, str) else tables
    tables = tables if isinstance(tables, dict) else {"train": tables}
    with explain_full_disk(folder), replacing(folder) as growing:
        notes = lay_out(name, tables, growing)
    files = [path for path in folder.rglob("*") if path.is_file()]
    if num_png := sum(path.suffix == ".png" for path in files):
        notes.append(f"{num_png:,} pictures are PNG, so the traces of Kaggle's JPEG are lost.")
    num_bytes = sum(path.stat().st_size for path in files)
    return Delivery(name, folder, num_bytes, len(files), "copied", " ".join(notes))


def lay_out(name: str, tables: dict, folder: Path) -> list[str]:
    """Writes the files of `take_copy`; returns how they differ from Kaggle's, in sentences."""
    import datasets

    encoded, same = datasets.Image(decode=False), {"validation": "valid", "val": "valid"}
    tables = {same.get(k, k): table.cast_column("image", encoded) for k, table in tables.items()}
    if unknown := sorted(set(tables) - set(SPLITS)):
        raise ValueError(f"The copy has the splits {unknown}; expected are {', '.join(SPLITS)}.")
    return {"gan140k": _lay_out_gan140k, "celeba": _lay_out_celeba}[name](tables, folder)


def _lay_out_gan140k(tables: dict, folder: Path) -> list[str]:
    """Writes the folders of labels and a CSV file a split; says if labels were flipped."""
    notes = []
    for split, table in tables.items():
        names = [name.lower() for name in getattr(table.features.get("label"), "names", [])]
        if sorted(names) != ["fake", "real"] or not set(table["label"]) <= {0, 1}:
            raise ValueError(
                "The column 'label' of a copy of gan140k must be a ClassLabel with the names "
                f"'real' and 'fake' and the values 0 and 1; its columns are {table.features}."
            )
        if names[0] == "real":
            notes = ["Labels are the other way round than Kaggle's: taken by name."]
        rows = []
        for number, row in enumerate(progress(table, f"Writing {split}", len(table))):
            label = names[row["label"]]
            path = folder / f"real_vs_fake/real-vs-fake/{split}/{label}/{number:06d}"
            file = _write_picture(row["image"], path)
            rows.append((file.stem, int(label == "real"), label, f"{split}/{label}/{file.name}"))
        table = pd.DataFrame(rows, columns=["id", "label", "label_str", "path"])
        table.to_csv(folder / f"{split}.csv")
    return notes


def _lay_out_celeba(tables: dict, folder: Path) -> list[str]:
    """Writes the pictures and, where the copy knows them, partition, persons and attributes."""
    rows, notes = [], []
    for split, table in tables.items():
        kinds = table.features.items()
        attributes = [name for name, kind in kinds if getattr(kind, "dtype", "") == "bool"]
        for number, row in enumerate(progress(table, f"Writing {split}", len(table))):
            name = f"img_align_celeba/img_align_celeba/{split}-{number:06d}"  # not CelebA's number
            file = _write_picture(row["image"], folder / name)
            known = {"partition": SPLITS.index(split), "celeb_id": row.get("celeb_id")}
            known |= {name: 1 if row[name] else -1 for name in attributes}
            rows.append({"image_id": file.name} | known)
    known = pd.DataFrame(rows).set_index("image_id")
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
