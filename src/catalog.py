"""The datasets as they lie on disk → one table of records; groups; splits; detection tasks.

A record is one file: path, label, generator, dataset, group, split, width, height, and what its source tells of the
person on it (name, gender, face box, landmarks). Its bytes are never touched.
The unit of a split is the group, not the file: all versions of one photograph, and whatever else ties files
together (a face-swap and the photograph whose background it carries, two photographs of one person).
"""

import hashlib
import os
import shutil
import uuid
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from .config import LABELS, SPLITS, Study, faces_folder

BOX = ["left", "top", "right", "bottom"]
# Left as seen in the picture, as MTCNN and CelebA have it.
LANDMARKS = [f"{p}_{axis}" for p in ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right") for axis in "xy"]

_TEXTS = ["path", "label", "generator", "dataset", "group", "person", "split", "gender"]
_CELEBA_POINTS = [f"{p}_{axis}" for p in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"]
_CELEBA_SIZE = (178, 218)  # of the aligned pictures, in which its landmarks are given
_SHARES = (0.8, 0.1, 0.1)

# How often the public generator code of DeepFakeFace saved a fake as JPEG (quality 75) on its way. What `controlled`
# must replay on the real photographs; the fakes have had it. In every other dataset both classes take the same steps.
_NUM_JPEG = {"inpainting": 2, "insight": 2, "text2img": 1}


def collect(study: Study) -> pd.DataFrame:
    """All files that the study can use, before anybody has looked at their pixels.

    Args:
        study: Where the files lie follows from it: `study.data / "raw"`, or the folder `FACES` for a study that
            reads a manifest.

    Returns:
        DataFrame with columns `path` (relative to `root(study)`, with forward slashes), `label` (`"real"` or
        `"fake"`), `generator` (`"real"` for reals), `dataset`, `group`, `split` (empty where the source gives none),
        `person` and `gender` (`"male"`, `"female"`; both empty where unknown); the face box `left`, `top`, `right`,
        `bottom` and the landmarks `left_eye_x`, `left_eye_y`, …, `mouth_right_y` in fractions of the stored picture
        (its EXIF orientation is not applied), NaN where unknown.

    Raises:
        FileNotFoundError: If nothing is there, or a manifest names files that do not exist.
        ValueError: If labels contradict each other, a picture lies there twice, or only one class is there.
    """
    if study.from_manifest:
        records = _from_manifest(faces_folder())
    else:
        raw = study.data / "raw"
        found = [collector(raw) for collector in (_deepfakeface, _gan140k, _celeba)]
        records = pd.concat([frame for frame in found if len(frame)] or [_table([])], ignore_index=True)
        if records.empty:
            raise FileNotFoundError(
                f"No dataset lies in data/{study.name}/raw. Run notebooks/01_data_download.ipynb first."
            )
        _check_once(records)
    missing = [label for label in LABELS if label not in set(records["label"])]
    if missing:
        raise ValueError(
            f"All {len(records)} files are of one class: no {missing[0]} picture was found. "
            "A detector needs both real and fake pictures."
        )
    return records.sort_values("path", ignore_index=True)


def root(study: Study) -> Path:
    """The folder that the records' paths are relative to."""
    return faces_folder() if study.from_manifest else study.data / "raw"


def files(study: Study, records: pd.DataFrame) -> list[Path]:
    """The records' files, in their order."""
    folder = root(study)
    return [folder / path for path in records["path"]]


def person_ties(records: pd.DataFrame) -> pd.DataFrame:
    """Pairs of groups (columns `group`, `other`) that show the same person, by the name the source gives."""
    named = records.loc[records["person"] != "", ["person", "group"]].drop_duplicates()
    first = named.groupby("person")["group"].transform("first")
    return pd.DataFrame({"group": named["group"], "other": first}).query("group != other")


def swap_pairs(records: pd.DataFrame, ties: pd.DataFrame) -> pd.DataFrame:
    """Pairs of groups (columns `group`, `other`) that face-swaps tie; `ties` is from `leaks.find_swap_ties`."""
    group_of = records.set_index("path")["group"]
    return pd.DataFrame({"group": ties["path"].map(group_of), "other": ties["background"].map(group_of)})


def add_swap_boxes(records: pd.DataFrame, ties: pd.DataFrame) -> pd.DataFrame:
    """Gives every face-swap the face box of the photograph it was set into (fractions survive the squashing)."""
    boxes, background = records.set_index("path")[BOX], ties.set_index("path")["background"]
    is_tied = records["path"].isin(background.index)
    records = records.copy()
    records.loc[is_tied, BOX] = boxes.reindex(records.loc[is_tied, "path"].map(background)).to_numpy()
    return records


def tie_quality(ties: pd.DataFrame, records: pd.DataFrame, truth: pd.DataFrame) -> pd.Series:
    """How far the found ties between face-swaps and photographs can be trusted.

    Args:
        ties: From `leaks.find_swap_ties`.
        records: What the ties were looked for in.
        truth: From `sources.truth`: columns `path` and `background`; no rows where nobody knows.

    Returns:
        Numbers in `[0, 2]`, none if there is no swap. `distance` and `margin` as in `ties`. `mutual` is the share of
        ties that go both ways: all of them where photographs exchanged faces in pairs, as in DeepFakeFace's public code
        (`prompt/wiki.py`). With a truth also `recall`, the share of the swaps whose photograph is among the records
        that are tied to it, and `precision`, the share of the ties that are true.
    """
    swaps, values = records.loc[records["generator"] == "insight", "path"], {}
    if len(ties):
        spread = ties[["distance", "margin"]].agg(["min", "median", "max"])
        values |= {f"{name}, {part}": spread.at[part, name] for name in spread for part in spread.index}
        ends = [ties[name].str.split("/").str[-2:].str.join("/") for name in ("path", "background")]
        pairs = set(zip(*ends))
        values["mutual"] = np.mean([(background, swap) in pairs for swap, background in pairs])
    known = truth[truth["path"].isin(swaps) & truth["background"].isin(records["path"])]
    if len(known):
        num_right = len(known.merge(ties, on=["path", "background"]))
        values |= {"recall": num_right / len(known), "precision": num_right / max(len(ties), 1)}
    return pd.Series(values, dtype=float)


def drop_torn_swaps(records: pd.DataFrame, ties: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Leaves out the face-swaps whose background photograph lies in another split.

    In a large collection the swaps chain nearly all photographs together; where `leaks.tie_groups` gave ties up to
    keep groups small enough to split, the swap itself must go.

    Args:
        records: With their splits.
        ties: From `leaks.find_swap_ties`.

    Returns:
        The records that stay, and the others with columns `path`, `label`, `reason`.
    """
    split_of = records.set_index("path")["split"]
    torn = ties.loc[ties["path"].map(split_of) != ties["background"].map(split_of), "path"]
    lost = records["path"].isin(torn)
    reason = "its background photograph lies in another split"
    return records[~lost].reset_index(drop=True), records.loc[lost, ["path", "label"]].assign(reason=reason)


def coverage(records: pd.DataFrame) -> pd.DataFrame:
    """What the sources tell of the people on their pictures: counts by dataset and label."""
    source = [records["dataset"], records["label"]]
    known = {
        "pictures": records["path"] != "",
        "named": records["person"] != "",
        "with gender": records["gender"] != "",
        "with face box": records["left"].notna(),
        "with landmarks": records[LANDMARKS[0]].notna(),
    }
    table = pd.DataFrame(known).groupby(source).sum()
    persons = records["person"].where(records["person"] != "").groupby(source).nunique()
    table.insert(1, "different persons", persons)
    return table


def samples(records: pd.DataFrame, num_each: int) -> pd.DataFrame:
    """A few records of every source (a dataset's reals, a generator's fakes), of the same groups where it can be.

    Returns:
        `num_each` records for each source in turn, with the column `source`.
    """
    records = records.assign(source=records["dataset"] + ", " + records["label"])
    several = records["group"].map(records.groupby("group")["source"].nunique()) > 1
    order = records.assign(alone=~several, key=records["group"].map(_unit_interval)).sort_values(
        ["alone", "key", "path"]
    )
    chosen = order.groupby("source", sort=False).head(num_each)
    first_reals = chosen["label"].map({"real": 0, "fake": 1})
    return chosen.assign(rank=first_reals).sort_values(["rank", "source"], kind="stable").reset_index(drop=True)


def assign_splits(records: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Gives every record its split: the source's own where it has one, else 80/10/10 by group.

    The split of a group is a pure function of its name and the seed (a hash read as a number in [0, 1)), so adding
    files never moves another file. A group that holds a file with a split of its source's follows it.

    Args:
        records: DataFrame with columns `group` and `split` (empty where unknown).
        seed: Of the hash.

    Returns:
        The records with every `split` filled.
    """
    records = records.copy()
    bounds = np.cumsum(_SHARES)
    drawn = {
        group: SPLITS[int(np.searchsorted(bounds, _unit_interval(f"{seed}/{group}"), side="right"))]
        for group in records["group"].unique()
    }
    given = records[records["split"] != ""].groupby("group")["split"].first()
    drawn.update(given.to_dict())
    records["split"] = records["group"].map(drawn)
    return records


def save(study: Study, records: pd.DataFrame, rejected: pd.DataFrame) -> None:
    """Writes the records as a Hugging Face dataset, and `rejected.csv` with the reason for each rejected file."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    study.data.mkdir(parents=True, exist_ok=True)
    folder, beside = study.data / "records", study.data / f".records-{uuid.uuid4().hex}"
    Dataset.from_pandas(records, preserve_index=False).save_to_disk(beside)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(beside, folder)
    partial = study.data / "rejected.csv.part"
    rejected.to_csv(partial, index=False)
    os.replace(partial, study.data / "rejected.csv")


def load(study: Study) -> pd.DataFrame:
    """The records that notebook 01 wrote.

    Raises:
        FileNotFoundError: If it has not been run for this study.
    """
    from datasets import load_from_disk

    folder = study.data / "records"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"There are no records of the study {study.name!r} (data/{study.name}/records). "
            "Run notebooks/01_data_download.ipynb first."
        )
    return load_from_disk(str(folder)).to_pandas()


def task(records: pd.DataFrame, generator: str, real_source: str) -> pd.DataFrame:
    """A detection task: the fakes of one generator and the real photographs of one dataset.

    Returns:
        The records of both classes with `test_set` (the generator), `real_source` and `num_jpeg`: how many JPEG
        saves (and one squashing) the protocol `controlled` replays on each.

    Raises:
        ValueError: If a class is missing.
    """
    fake = records[records["generator"] == generator]
    real = records[(records["label"] == "real") & (records["dataset"] == real_source)]
    if fake.empty or real.empty:
        raise ValueError(
            f"The task {generator!r} against real photographs of {real_source!r} has {len(fake)} fakes and "
            f"{len(real)} reals; both are needed. Generators there are: "
            f"{', '.join(sorted(set(records['generator'])))}. See what notebook 01 says of what could not be fetched."
        )
    if generator in _NUM_JPEG:
        num_jpeg = [_NUM_JPEG[generator]] * len(real) + [0] * len(fake)
    else:
        num_jpeg = 1
    table = pd.concat([real, fake], ignore_index=True)
    return table.assign(test_set=generator, real_source=real_source, num_jpeg=num_jpeg)


def tasks(records: pd.DataFrame, study: Study) -> pd.DataFrame:
    """What the study trains and tests on: the training tasks whole, of everything else the test split.

    Beside `study.test_sets` there are the same fakes against `foreign_reals`, and of `unseen_reals` a task without
    fakes (`test_set` is then the training set, whose reals' steps they take). What could not be had is left out
    (notebook 01 said so); the training task must be there.

    Returns:
        The rows of every `task` with the column `task`: the generator's name, `"<generator> / <dataset>"` for foreign
        reals, the dataset's name for unseen ones.
    """
    generators, datasets = set(records["generator"]), set(records.loc[records["label"] == "real", "dataset"])
    tables = []
    for generator, real_source in [*study.test_sets.items(), *study.foreign_reals.items()]:
        own = study.test_sets[generator] == real_source
        trained = own and generator in study.train_sets
        if not trained and (generator not in generators or real_source not in datasets):
            continue
        table = task(records, generator, real_source)
        table = _cap(table, study.max_per_class, study.seed) if trained else table[table["split"] == "test"]
        tables.append(table.assign(task=generator if own else f"{generator} / {real_source}"))
    for dataset in study.unseen_reals:
        reals = records[(records["dataset"] == dataset) & (records["label"] == "real") & (records["split"] == "test")]
        num_jpeg = _NUM_JPEG.get(study.train_sets[0], 1)
        tables.append(reals.assign(test_set=study.train_set, real_source=dataset, num_jpeg=num_jpeg, task=dataset))
    return pd.concat(tables, ignore_index=True)


def every_generator(study: Study, records: pd.DataFrame) -> Study:
    """The study as if it trained on every generator there is, so that `tasks` gives all splits of all of them."""
    found = [generator for generator in study.test_sets if (records["generator"] == generator).any()]
    return replace(study, train_set="+".join(found), foreign_reals={}, unseen_reals=())


def _cap(table: pd.DataFrame, max_per_class: int | None, seed: int) -> pd.DataFrame:
    """At most `max_per_class` training files of each class, the groups with the smallest hashes."""
    if max_per_class is None:
        return table
    order = table["group"].map(lambda group: _unit_interval(f"cap/{seed}/{group}"))
    rank = order[table["split"] == "train"].groupby(table["label"]).rank(method="first")
    return table[(table["split"] != "train") | (rank.reindex(table.index) <= max_per_class)]


def _unit_interval(text: str) -> float:
    """A number in [0, 1) that depends on nothing but the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def _table(rows: list[dict]) -> pd.DataFrame:
    """Records from rows that lack what their source does not tell."""
    table = pd.DataFrame(rows)
    table = table.assign(**{name: "" for name in _TEXTS if name not in table})
    return table.reindex(columns=[*_TEXTS, *BOX, *LANDMARKS]).astype(dict.fromkeys([*BOX, *LANDMARKS], float))


def _images(folder: Path) -> list[Path]:
    """All JPEG and PNG files below a folder, sorted."""
    suffixes = {".jpg", ".jpeg", ".png"}
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)


def _check_once(records: pd.DataFrame) -> None:
    """Raises if a picture lies in two places, as when an archive was unpacked into itself."""
    twice = records[records.duplicated(["dataset", "label", "group"], keep=False)].sort_values(["group", "path"])
    if len(twice):
        first, second = twice["path"].iloc[:2]
        raise ValueError(
            f"{twice['group'].nunique()} pictures of {', '.join(sorted(set(twice['dataset'])))} lie in two places, as "
            f"{first} and {second}. A doubled folder? Delete one of the two, or the whole dataset and fetch again."
        )


def _deepfakeface(raw: Path) -> pd.DataFrame:
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
    table = _table(rows)
    table[["person", "gender"]] = known[["person", "gender"]].reindex(keys, fill_value="").to_numpy()
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
        name: [str(cell.item()) if cell.size else "" for cell in table[name].ravel()] for name in ("full_path", "name")
    }
    corners = np.array([cell.ravel() for cell in table["face_location"].ravel()], float) - (1, 1, 0, 0)
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


def _gan140k(raw: Path) -> pd.DataFrame:
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
    return _table(rows)


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


def _celeba(raw: Path) -> pd.DataFrame:
    """CelebA: real photographs, with the source's own partition (0 train, 1 valid, 2 test).

    Kaggle's copy tells no names; CelebA's own `identity_CelebA.txt`, put beside it, does. The boxes in
    `list_bbox_celeba.csv` are of the pictures before they were aligned, so they are not used.
    """
    folder = raw / "celeba"
    files = _images(folder)
    table = _table(
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
    person = _celeba_table(folder, "identity_CelebA.txt", names, ["celeb_id"], **options)["celeb_id"]
    table["person"] = person.map(lambda number: f"celeba/{number:.0f}", na_action="ignore").fillna("").to_numpy()
    points = _celeba_table(folder, "list_landmarks_align_celeba.csv", names, _CELEBA_POINTS)
    table[LANDMARKS] = points.to_numpy(float) / np.tile(_CELEBA_SIZE, 5)
    return table


def _celeba_table(folder: Path, name: str, images: list[str], columns: list[str], **options) -> pd.DataFrame:
    """Some columns of one of CelebA's tables, a row for each image; NaN where nothing is told."""
    found = sorted(folder.rglob(name))
    if not found:
        return pd.DataFrame(np.nan, index=images, columns=columns)
    return pd.read_csv(found[0], **options).set_index("image_id")[columns].reindex(images)


def _from_manifest(folder: Path) -> pd.DataFrame:
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
        raise ValueError(f"manifest.csv: label must be 'real' or 'fake', found {', '.join(map(repr, wrong[:5]))}.")
    absent = [path for path in table["path"] if not (folder / path).is_file()]
    if absent:
        raise FileNotFoundError(
            f"manifest.csv names {len(absent)} of {len(table)} files that do not exist below FACES, the first: "
            f"{', '.join(absent[:3])}. Paths are relative to the manifest's folder."
        )
    if "split" not in table:
        table["split"] = [next((part for part in Path(path).parts if part in SPLITS), "") for path in table["path"]]
    unknown = sorted(set(table["split"]) - set(SPLITS) - {""})
    if unknown:
        raise ValueError(f"manifest.csv: split must be one of {', '.join(SPLITS)}, found {', '.join(unknown[:5])}.")
    table["group"] = table["dataset"] + "/" + table["group"]
    return _table(table.drop(columns=[*BOX, *LANDMARKS], errors="ignore").to_dict("records"))
