"""What each dataset says of its files → records, as in `catalog.collect`.

Labels and splits come from folder names and are checked against the tables next to them.
"""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.io import loadmat

from ..config import LABELS, SPLITS

BOX = ["left", "top", "right", "bottom"]
_POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
LANDMARKS = [f"{point}_{axis}" for point in _POINTS for axis in "xy"]  # left as seen in the picture

_TEXTS = ["path", "label", "generator", "dataset", "group", "person", "split", "gender"]
_CELEBA_POINTS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
_CELEBA_SIZE = (178, 218)  # of the aligned pictures, in which its landmarks are given


def deepfakeface(raw: Path) -> pd.DataFrame:
    """wiki, inpainting, text2img and insight: one relative path, one photograph, one group."""
    # A fake has the gender of the photograph of its name: the public code that made the fakes
    # paired photographs of one gender. `inpainting` also has its face box, which was the mask.
    rows = [
        _row(raw, file, dataset, dataset == "wiki", "/".join(("wiki", *file.parts[-2:])))
        for dataset in ("wiki", "inpainting", "text2img", "insight")
        for file in _images(raw / dataset)
    ]
    table, known = _as_table(rows), _wiki_mat(raw / "wiki_crop")
    keys = table["group"].str.removeprefix("wiki/")  # 07/123_1950-01-01_2010.jpg
    told = known[["person", "gender"]].reindex(keys, fill_value="")
    table[["person", "gender"]] = told.to_numpy()
    file_of = table.set_index(keys).query("dataset == 'wiki'")["path"].to_dict()
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged metadata leave the size alone
        try:
            with Image.open(file) as image:
                return image.size
        except Exception:  # decoders meet damaged data with errors of many kinds
            return np.nan, np.nan


def gan140k(raw: Path) -> pd.DataFrame:
    """Kaggle's 140k: label from the folder's name, checked against its CSV files; its own split."""
    rows = []
    for file in _images(raw / "gan140k"):
        split, label = file.parts[-3:-1]
        if split not in SPLITS or label not in LABELS:
            expected = f"…/{{{','.join(SPLITS)}}}/{{{','.join(LABELS)}}}/<image>"
            raise ValueError(f"Expected {expected}, found {file.relative_to(raw).as_posix()}.")
        group = f"gan140k/{split}/{label}/{file.name}"
        rows.append(_row(raw, file, "gan140k", label == "real", group) | {"split": split})
    labels = {row["group"].removeprefix("gan140k/"): row["label"] for row in rows}
    for csv in sorted(csv for split in SPLITS for csv in (raw / "gan140k").rglob(f"{split}.csv")):
        _check_polarity(csv, labels)
    return _as_table(rows)


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
    rows = []
    for file in _images(raw / "trace"):
        kind, is_real = file.parent.name, file.parent.name == "photograph"
        row = _row(raw, file, "trace", is_real, f"trace/{file.name}") | {"split": "test"}
        rows.append(row if is_real else row | {"generator": kind})
    return _as_table(rows)


def celeba(raw: Path) -> pd.DataFrame:
    """CelebA: real photographs, with the source's own partition (0 train, 1 valid, 2 test)."""
    # Kaggle's copy tells no persons; CelebA's own `identity_CelebA.txt`, put next to it, does. The
    # boxes in `list_bbox_celeba.csv` are of the pictures before they were aligned: not used.
    files = _images(raw / "celeba")
    names = [file.name for file in files]

    def told(name, columns, **options):
        """Columns of one of CelebA's tables, a row for each file; NaN where it tells nothing."""
        found = sorted((raw / "celeba").rglob(name))
        if not found:
            return pd.DataFrame(np.nan, index=names, columns=columns)
        return pd.read_csv(found[0], **options).set_index("image_id")[columns].reindex(names)

    table = _as_table([_row(raw, file, "celeba", True, f"celeba/{file.name}") for file in files])
    partition = told("list_eval_partition.csv", ["partition"])["partition"]
    table["split"] = partition.map(dict(enumerate(SPLITS))).fillna("").to_numpy()
    male = told("list_attr_celeba.csv", ["Male"])["Male"]
    table["gender"] = male.map({1: "male", -1: "female"}).fillna("").to_numpy()
    options = dict(sep=r"\s+", header=None, names=["image_id", "celeb_id"])
    person = told("identity_CelebA.txt", ["celeb_id"], **options)["celeb_id"]
    person = person.map(lambda number: f"celeba/{number:.0f}", na_action="ignore")
    table["person"] = person.fillna("").to_numpy()
    points = [f"{point}_{axis}" for point in _CELEBA_POINTS for axis in "xy"]
    points = told("list_landmarks_align_celeba.csv", points)
    table[LANDMARKS] = points.to_numpy(float) / np.tile(_CELEBA_SIZE, 5)
    return table


def manifest(folder: Path) -> pd.DataFrame:
    """Any folder with a `manifest.csv`; a column or folders named after splits give the split.

    Raises:
        FileNotFoundError: If it names files that do not exist.
        ValueError: If columns are missing, or hold other labels or splits than there are.
    """
    table = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
    needed = ["path", "label", "generator", "dataset", "group"]
    if missing := [column for column in needed if column not in table]:
        raise ValueError(
            f"manifest.csv lacks the columns {', '.join(missing)}; it has "
            f"{', '.join(table.columns)}. Expected at least {', '.join(needed)}."
        )
    if "split" not in table:
        folders = [Path(path).parts for path in table["path"]]
        table["split"] = [next((name for name in parts if name in SPLITS), "") for parts in folders]
    for column, known in (("label", set(LABELS)), ("split", {*SPLITS, ""})):
        if wrong := sorted(set(table[column]) - known):
            expected, found = ", ".join(sorted(known)), ", ".join(map(repr, wrong[:5]))
            raise ValueError(f"manifest.csv: {column} must be one of {expected}, found {found}.")
    if absent := [path for path in table["path"] if not (folder / path).is_file()]:
        raise FileNotFoundError(
            f"manifest.csv names {len(absent)} of {len(table)} files that do not exist below "
            f"FACES, the first: {', '.join(absent[:3])}. Paths are relative to its folder."
        )
    table["group"] = table["dataset"] + "/" + table["group"]
    return _as_table(table)


def _row(raw: Path, file: Path, dataset: str, is_real: bool, group: str) -> dict:
    """A record, with what every source tells of its files."""
    return {
        "path": file.relative_to(raw).as_posix(),
        "label": "real" if is_real else "fake",
        "generator": "real" if is_real else dataset,
        "dataset": dataset,
        "group": group,
    }


def _as_table(rows) -> pd.DataFrame:
    """Records from rows that lack what their source does not tell."""
    table = pd.DataFrame(rows)
    table = table.assign(**{name: "" for name in _TEXTS if name not in table})
    return table[_TEXTS].assign(**dict.fromkeys([*BOX, *LANDMARKS], np.nan))


def _images(folder: Path) -> list[Path]:
    """All JPEG and PNG files below a folder, sorted."""
    suffixes = {".jpg", ".jpeg", ".png"}
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
