"""What each dataset says of its files → records, as in `catalog.collect`.

Labels and splits come from folder names and are checked against the tables next to them.
"""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.io import loadmat

from .. import folders
from ..config import LABELS, SPLITS, Study

BOX = ["left", "top", "right", "bottom"]
ALTERED = [f"altered_{side}" for side in BOX]  # what a generator changed of a picture
_POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
LANDMARKS = [f"{point}_{axis}" for point in _POINTS for axis in "xy"]  # left as seen in the picture

TEXTS = ["path", "label", "generator", "dataset", "group", "person", "split", "gender"]
_SUFFIXES = (".jpg", ".jpeg", ".png")
_CELEBA_POINTS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
_CELEBA_SIZE = (178, 218)  # of the aligned pictures, in which its landmarks are given


def deepfakeface(raw: Path) -> pd.DataFrame:
    """wiki, its crops, and three kinds of fakes: one relative path, one photograph, one group.

    IMDB-WIKI's crops of other photographs than DeepFakeFace's are not used.
    """
    # A fake has the gender of the photograph of its name: the public code that made the fakes
    # paired photographs of one gender. `inpainting` also has its face box, which was the mask.
    names = ("wiki", "inpainting", "text2img", "insight", "wiki_crop")
    table = pd.concat([_records(raw, name) for name in names], ignore_index=True)
    keys = table["path"].str.split("/").str[-2:].str.join("/")  # 07/123_1950-01-01_2010.jpg
    is_used = (table["dataset"] != "wiki_crop") | keys.isin(keys[table["dataset"] == "wiki"])
    table, keys, known = table[is_used], keys[is_used], _wiki_mat(raw / "wiki_crop")
    is_wiki, is_real = table["dataset"] == "wiki", table["dataset"].str.startswith("wiki")
    table = table.assign(label=np.where(is_real, "real", "fake"), group="wiki/" + keys)
    table["generator"] = table["dataset"].where(~is_real, "real")
    told = known[["person", "gender"]].reindex(keys, fill_value="")
    table[["person", "gender"]] = told.to_numpy()
    file_of = table[is_wiki].set_index(keys[is_wiki])["path"].to_dict()
    corners = known.loc[known.index.isin(list(file_of)), BOX].dropna()
    sizes = np.reshape([_stored_size(raw / file_of[key]) for key in corners.index], (-1, 2))
    boxes = (corners / np.tile(sizes, 2)).clip(0, 1)
    has_box = table["dataset"].isin(["wiki", "inpainting"])
    table.loc[has_box, BOX] = boxes.reindex(keys[has_box]).to_numpy()
    return table


def _wiki_mat(folder: Path) -> pd.DataFrame:
    """What `wiki.mat` tells of each photograph, by its relative path; `BOX` in pixels from zero."""
    found = sorted(folder.rglob("wiki.mat"))
    if not found:
        return pd.DataFrame(columns=["person", "gender", *BOX]).astype(dict.fromkeys(BOX, float))
    names = ("full_path", "name", "face_location", "face_score", "gender")
    table = loadmat(found[0])["wiki"][0, 0]
    path, person, location, score, gender = (table[name].ravel() for name in names)
    # First and last pixel, counted from one, in the uncropped photograph as stored.
    corners = np.array([cell.ravel() for cell in location], float) - (1, 1, 0, 0)
    corners[~np.isfinite(score)] = np.nan  # no face was found: the box is the whole picture
    path, person = ([str(t.item()) if t.size else "" for t in texts] for texts in (path, person))
    gender = pd.Series(gender).map({1.0: "male", 0.0: "female"}).fillna("").to_numpy()
    known = pd.DataFrame(corners, columns=BOX, index=pd.Index(path, dtype=object))
    return known.assign(person=person, gender=gender)[~known.index.duplicated()]


def _stored_size(file: Path) -> tuple[float, float]:
    """Width and height from the header; NaN for a file that notebook 1 will reject."""
    with suppress(Exception), Image.open(file) as image:  # damaged data raise errors of many kinds
        return image.size
    return np.nan, np.nan


def gan140k(raw: Path) -> pd.DataFrame:
    """Kaggle's 140k: label from the folder's name, checked against its CSV files; its own split."""
    table = _records(raw, "gan140k")
    parts = table["path"].str.split("/")
    table["split"], table["label"] = parts.str[-3], parts.str[-2]
    strange = table[~(table["split"].isin(SPLITS) & table["label"].isin(LABELS))]
    if len(strange):
        expected = f"…/{{{','.join(SPLITS)}}}/{{{','.join(LABELS)}}}/<image>"
        found = f"Found {strange['path'].iloc[0]}; expected {expected}"
        raise ValueError(f"{found}. Move or delete files that are not of the dataset.")
    table.loc[table["label"] == "real", "generator"] = "real"
    names = parts.str[-3:].str.join("/")  # train/real/1.jpg
    table["group"] = "gan140k/" + names
    labels = dict(zip(names, table["label"]))
    for csv in sorted(csv for split in SPLITS for csv in (raw / "gan140k").rglob(f"{split}.csv")):
        _check_polarity(csv, labels)
    return table


def _check_polarity(csv: Path, labels: dict[str, str]) -> None:
    """Compares the folder names with a CSV file, where label 1 means real."""
    table = pd.read_csv(csv)
    by_folder = table["path"].map(labels)
    by_number = table["label"].map({1: "real", 0: "fake"})
    is_here = by_folder.notna()
    for what, told in (("label_str", table["label_str"]), ("label (1 = real)", by_number)):
        if num_wrong := int((told != by_folder)[is_here].sum()):
            raise ValueError(
                f"{csv.name}: column {what} contradicts the folder names for {num_wrong} of "
                f"{is_here.sum()} files (a mirror with the opposite polarity?). Delete the CSV "
                "file if the folders are right, else fetch the dataset anew."
            )


def trace(raw: Path) -> pd.DataFrame:
    """The simulated set of aligned fakes: only tested; a folder holds the photographs."""
    table = _records(raw, "trace").assign(split="test")
    kind = table["path"].str.split("/").str[-2].replace("photograph", "real")
    return table.assign(label=kind.where(kind == "real", "fake"), generator=kind)


def celeba(raw: Path) -> pd.DataFrame:
    """CelebA: real photographs, with the source's own partition (0 train, 1 valid, 2 test)."""
    # Kaggle's copy tells no persons; CelebA's own `identity_CelebA.txt`, put next to it, does. The
    # boxes in `list_bbox_celeba.csv` are of the pictures before they were aligned: not used.
    table = _records(raw, "celeba").assign(label="real", generator="real")
    known = table[["path"]].assign(image_id=table["path"].str.split("/").str[-1])
    identity = dict(sep=r"\s+", header=None, names=["image_id", "celeb_id"])
    tables = ("list_eval_partition.csv", "list_attr_celeba.csv", "list_landmarks_align_celeba.csv")
    for file, options in (dict.fromkeys(tables, {}) | {"identity_CelebA.txt": identity}).items():
        for found in sorted((raw / "celeba").rglob(file))[:1]:
            known = known.merge(pd.read_csv(found, **options), how="left", on="image_id")
    points = [f"{point}_{axis}" for point in _CELEBA_POINTS for axis in "xy"]
    known = known.reindex(columns=["partition", "Male", "celeb_id", *points])  # NaN: not told
    table["split"] = known["partition"].map(dict(enumerate(SPLITS))).fillna("")
    table["gender"] = known["Male"].map({1: "male", -1: "female"}).fillna("")
    persons = known["celeb_id"].map("celeba/{:.0f}".format, na_action="ignore")
    table[LANDMARKS] = known[points].to_numpy(float) / np.tile(_CELEBA_SIZE, 5)
    return table.assign(person=persons.astype(object).fillna(""))


def folder(study: Study) -> pd.DataFrame:
    """What `folders.read` finds; face boxes and `ALTERED` regions, where given, are fractions."""
    table = folders.read(study.faces)
    told = [name for name in (*BOX, *ALTERED) if name in table]
    table[told] = table[told].replace("", np.nan).astype(float)
    wrong = table[((table[told] < 0) | (table[told] > 1)).any(axis=1)]
    if len(wrong):
        found = wrong.iloc[0][["path", *told]].to_dict()
        raise ValueError(f"Boxes in a manifest are fractions, from 0 to 1. Found: {found}.")
    return _completed(table).join(table[[name for name in ALTERED if name in table]])


def _records(raw: Path, dataset: str) -> pd.DataFrame:
    """A record of every JPEG and PNG file of a dataset: fake, if its reader says nothing else."""
    files = (file for file in (raw / dataset).rglob("*") if file.suffix.lower() in _SUFFIXES)
    paths = pd.Series([file.relative_to(raw).as_posix() for file in sorted(files)], dtype="str")
    table = pd.DataFrame({"path": paths, "label": "fake", "generator": dataset, "dataset": dataset})
    return _completed(table.assign(group=f"{dataset}/" + paths.str.split("/").str[-1]))


def _completed(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of records; empty or NaN where the source tells nothing."""
    table = table.assign(**{name: "" for name in TEXTS if name not in table})
    return table.reindex(columns=[*TEXTS, *BOX, *LANDMARKS])
