"""What each dataset says of its files, folder by folder → rows of records, in the columns of `catalog.collect`.

Labels and splits come from folder names and are checked against the tables beside them. Every reader takes the folder
`raw` of a study and returns no row where its dataset is not there; `manifest` takes the folder of a `manifest.csv`.
"""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from ..config import LABELS, SPLITS

BOX = ["left", "top", "right", "bottom"]
# Left as seen in the picture, as MTCNN and CelebA have it.
LANDMARKS = [
    f"{p}_{axis}"
    for p in ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
    for axis in "xy"
]

_TEXTS = ["path", "label", "generator", "dataset", "group", "person", "split", "gender"]
_CELEBA_POINTS = [
    f"{p}_{axis}"
    for p in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
    for axis in "xy"
]
_CELEBA_SIZE = (178, 218)  # of the aligned pictures, in which its landmarks are given


def deepfakeface(raw: Path) -> pd.DataFrame:
    """wiki, inpainting, text2img and insight: one relative path, one photograph, one group.

    A fake has the gender of the photograph it shares its name with, since the public code that made the fakes paired
    photographs of one gender. `inpainting` also has its face box: that was the mask (`process.py`).
    """
    known = _wiki_mat(raw / "wiki_crop")
    rows = []
    for dataset in ("wiki", "inpainting", "text2img", "insight"):
        for file in _images(raw / dataset):
            key = "/".join(file.parts[-2:])  # 07/123_1950-01-01_2010.jpg, the same in all four
            real = dataset == "wiki"
            rows.append(
                dict(
                    path=file.relative_to(raw).as_posix(),
                    label="real" if real else "fake",
                    generator="real" if real else dataset,
                    dataset=dataset,
                    group=f"wiki/{key}",
                    key=key,
                )
            )
    keys = pd.Series([row["key"] for row in rows], dtype=object)
    table = as_table(rows)
    table[["person", "gender"]] = (
        known[["person", "gender"]].reindex(keys, fill_value="").to_numpy()
    )
    is_photograph, is_inpainting = table["dataset"] == "wiki", table["dataset"] == "inpainting"
    corners = known[BOX].reindex(keys[is_photograph])
    sizes = [
        _stored_size(raw / path) if is_known else (np.nan, np.nan)
        for path, is_known in zip(table.loc[is_photograph, "path"], corners["left"].notna())
    ]
    boxes = (corners / np.tile(sizes, 2).reshape(-1, 4)).clip(0, 1)
    table.loc[is_photograph, BOX] = boxes.to_numpy()
    boxes = boxes[~boxes.index.duplicated()].reindex(keys[is_inpainting])
    table.loc[is_inpainting, BOX] = boxes.to_numpy()
    return table


def _wiki_mat(folder: Path) -> pd.DataFrame:
    """What IMDB-WIKI's `wiki.mat` tells of each photograph, by its relative path; empty if it is not there.

    `face_location` (x1, y1, x2, y2) refers to the uncropped photograph as stored, not to the crop it comes with. Its
    publishers cut faces out with Matlab's `img(y1:y2, x1:x2, :)`: first and last pixel, counted from one. Where no face
    was found (`face_score` is infinite) it is the whole picture, which is left out here.

    Returns:
        Columns `person`, `gender` and `BOX`: the edges in pixels, counted from zero.
    """
    from scipy.io import loadmat

    found = sorted(folder.rglob("wiki.mat"))
    if not found:
        return pd.DataFrame(columns=["person", "gender", *BOX]).astype(dict.fromkeys(BOX, float))
    table = loadmat(found[0])["wiki"][0, 0]
    texts = {
        name: [str(cell.item()) if cell.size else "" for cell in table[name].ravel()]
        for name in ("full_path", "name")
    }
    corners = np.array([cell.ravel() for cell in table["face_location"].ravel()], float) - (
        1,
        1,
        0,
        0,
    )
    corners[~np.isfinite(table["face_score"].ravel())] = np.nan
    known = pd.DataFrame(corners, columns=BOX, index=pd.Index(texts["full_path"], dtype=object))
    gender = pd.Series(table["gender"].ravel()).map({1.0: "male", 0.0: "female"}).fillna("")
    known = known.assign(person=texts["name"], gender=gender.to_numpy())
    return known[~known.index.duplicated()]


def _stored_size(file: Path) -> tuple[float, float]:
    """Width and height from the header; NaN for a file that notebook 01 will reject."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged metadata leave the size alone
        try:
            with Image.open(file) as image:
                return image.size
        except Exception:  # decoders meet damaged data with errors of many kinds
            return np.nan, np.nan


def gan140k(raw: Path) -> pd.DataFrame:
    """Kaggle's 140k: label from the folder's name, checked against its CSV files; the source's own split."""
    folder = raw / "gan140k"
    rows = []
    for file in _images(folder):
        split, name = file.parts[-3:-1]
        if split not in SPLITS or name not in LABELS:
            raise ValueError(
                f"Expected …/{{{','.join(SPLITS)}}}/{{real,fake}}/<image>, found {file.relative_to(raw).as_posix()}."
            )
        rows.append(
            dict(
                path=file.relative_to(raw).as_posix(),
                label=name,
                generator="real" if name == "real" else "gan140k",
                dataset="gan140k",
                group=f"gan140k/{split}/{name}/{file.name}",
                split=split,
            )
        )
    _check_polarity(folder, rows)
    return as_table(rows)


def _check_polarity(folder: Path, rows: list[dict]) -> None:
    """Compares the folder names with the CSV files, where label 1 means real."""
    labels = {"/".join(Path(row["path"]).parts[-3:]): row["label"] for row in rows}
    for csv in sorted(path for split in SPLITS for path in folder.rglob(f"{split}.csv")):
        table = pd.read_csv(csv)
        by_folder = table["path"].map(labels)
        is_here, by_number = by_folder.notna(), table["label"].map({1: "real", 0: "fake"})
        for what, said in (("label_str", table["label_str"]), ("label (1 = real)", by_number)):
            num_wrong = int((said != by_folder)[is_here].sum())
            if num_wrong:
                raise ValueError(
                    f"{csv.name}: column {what} contradicts the folder names for {num_wrong} of {is_here.sum()} files. "
                    "A mirror with the opposite polarity? Labels are read from the folder names; "
                    "delete the CSV file if the folders are right, else fetch the dataset anew."
                )


def celeba(raw: Path) -> pd.DataFrame:
    """CelebA: real photographs, with the source's own partition (0 train, 1 valid, 2 test).

    Kaggle's copy tells no names; CelebA's own `identity_CelebA.txt`, put beside it, does. The boxes in
    `list_bbox_celeba.csv` are of the pictures before they were aligned, so they are not used.
    """
    folder = raw / "celeba"
    files = _images(folder)
    table = as_table(
        [
            dict(
                path=file.relative_to(raw).as_posix(),
                label="real",
                generator="real",
                dataset="celeba",
                group=f"celeba/{file.name}",
            )
            for file in files
        ]
    )
    names = [file.name for file in files]
    partition = _celeba_table(folder, "list_eval_partition.csv", names, ["partition"])["partition"]
    table["split"] = partition.map(dict(enumerate(SPLITS))).fillna("").to_numpy()
    male = _celeba_table(folder, "list_attr_celeba.csv", names, ["Male"])["Male"]
    table["gender"] = male.map({1: "male", -1: "female"}).fillna("").to_numpy()
    options = dict(sep=r"\s+", header=None, names=["image_id", "celeb_id"])
    person = _celeba_table(folder, "identity_CelebA.txt", names, ["celeb_id"], **options)[
        "celeb_id"
    ]
    table["person"] = (
        person.map(lambda number: f"celeba/{number:.0f}", na_action="ignore").fillna("").to_numpy()
    )
    points = _celeba_table(folder, "list_landmarks_align_celeba.csv", names, _CELEBA_POINTS)
    table[LANDMARKS] = points.to_numpy(float) / np.tile(_CELEBA_SIZE, 5)
    return table


def _celeba_table(
    folder: Path, name: str, images: list[str], columns: list[str], **options
) -> pd.DataFrame:
    """Some columns of one of CelebA's tables, a row for each image; NaN where nothing is told."""
    found = sorted(folder.rglob(name))
    if not found:
        return pd.DataFrame(np.nan, index=images, columns=columns)
    return pd.read_csv(found[0], **options).set_index("image_id")[columns].reindex(images)


def manifest(folder: Path) -> pd.DataFrame:
    """Any folder with a `manifest.csv`; a column `split`, or folders named train, valid and test, give the split."""
    table = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
    needed = ["path", "label", "generator", "dataset", "group"]
    missing = [column for column in needed if column not in table]
    if missing:
        raise ValueError(
            f"manifest.csv lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; it has "
            f"{', '.join(table.columns)}. Expected at least {', '.join(needed)}."
        )
    wrong = sorted(set(table["label"]) - set(LABELS))
    if wrong:
        raise ValueError(
            f"manifest.csv: label must be 'real' or 'fake', found {', '.join(map(repr, wrong[:5]))}."
        )
    absent = [path for path in table["path"] if not (folder / path).is_file()]
    if absent:
        raise FileNotFoundError(
            f"manifest.csv names {len(absent)} of {len(table)} files that do not exist below FACES, the first: "
            f"{', '.join(absent[:3])}. Paths are relative to the manifest's folder."
        )
    if "split" not in table:
        table["split"] = [
            next((part for part in Path(path).parts if part in SPLITS), "")
            for path in table["path"]
        ]
    unknown = sorted(set(table["split"]) - set(SPLITS) - {""})
    if unknown:
        raise ValueError(
            f"manifest.csv: split must be one of {', '.join(SPLITS)}, found {', '.join(unknown[:5])}."
        )
    table["group"] = table["dataset"] + "/" + table["group"]
    return as_table(table.drop(columns=[*BOX, *LANDMARKS], errors="ignore").to_dict("records"))


def as_table(rows: list[dict]) -> pd.DataFrame:
    """Records from rows that lack what their source does not tell."""
    table = pd.DataFrame(rows)
    table = table.assign(**{name: "" for name in _TEXTS if name not in table})
    return table.reindex(columns=[*_TEXTS, *BOX, *LANDMARKS]).astype(
        dict.fromkeys([*BOX, *LANDMARKS], float)
    )


def _images(folder: Path) -> list[Path]:
    """All JPEG and PNG files below a folder, sorted."""
    suffixes = {".jpg", ".jpeg", ".png"}
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
