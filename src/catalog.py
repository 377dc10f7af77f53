"""The datasets as they lie on disk → one table of records; groups; splits; detection tasks.

A record is one file: path, label, generator, dataset, group, split, width, height. Its bytes are never touched.
The unit of a split is the group, not the file: all versions of one photograph, and whatever else ties files
together (a face-swap and the photograph whose background it carries, two photographs of one person).
"""

import hashlib
import os
import shutil
import uuid
from pathlib import Path

import numpy as np
import pandas as pd

from .config import LABELS, SPLITS, Study, faces_folder

_SHARES = (0.8, 0.1, 0.1)

# How often the public generator code of DeepFakeFace saved a fake as JPEG (quality 75) on its way. What `controlled`
# must replay on the real photographs; the fakes have had it. In every other dataset both classes take the same steps.
_NUM_JPEG = {"inpainting": 2, "insight": 2, "text2img": 1}


def collect(study: Study) -> pd.DataFrame:
    """All files that the study can use, before anybody has looked inside them.

    Args:
        study: Where the files lie follows from it: `study.data / "raw"`, or the folder `FACES` for a study that
            reads a manifest.

    Returns:
        DataFrame with columns `path` (relative to `root(study)`, with forward slashes), `label` (`"real"` or
        `"fake"`), `generator` (`"real"` for reals), `dataset`, `group`, `person` (empty where unknown) and
        `split` (empty where the source gives none).

    Raises:
        FileNotFoundError: If nothing is there, or a manifest names files that do not exist.
        ValueError: If labels contradict each other, or only one class is there.
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
    """What the study trains and tests on: the training task whole, of every other test set its test split.

    Test sets whose files could not be had are left out (notebook 01 said so); the training task must be there.
    """
    tables = []
    for generator, real_source in study.test_sets.items():
        if generator != study.train_set and not (records["generator"] == generator).any():
            continue
        table = task(records, generator, real_source)
        if generator == study.train_set:
            table = _cap(table, study.max_per_class, study.seed)
        else:
            table = table[table["split"] == "test"]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


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
    return pd.DataFrame(rows, columns=["path", "label", "generator", "dataset", "group", "person", "split"])


def _images(folder: Path) -> list[Path]:
    """All JPEG and PNG files below a folder, sorted."""
    suffixes = {".jpg", ".jpeg", ".png"}
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)


def _deepfakeface(raw: Path) -> pd.DataFrame:
    """wiki, inpainting, text2img and insight: one relative path, one photograph, one group."""
    persons = _wiki_persons(raw / "wiki_crop")
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
                    person=persons.get(key, ""),
                    split="",
                )
            )
    return _table(rows)


def _wiki_persons(folder: Path) -> dict[str, str]:
    """Name of the person on each photograph, from `wiki.mat`; empty if it is not there."""
    from scipy.io import loadmat

    found = sorted(folder.rglob("wiki.mat"))
    if not found:
        return {}
    table = loadmat(found[0])["wiki"][0, 0]
    paths, names = table["full_path"].ravel(), table["name"].ravel()
    return {str(path.item()): str(name.item()) if name.size else "" for path, name in zip(paths, names)}


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
                person="",
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
        by_name = table["label_str"].where(by_folder.notna())
        by_number = table["label"].map({1: "real", 0: "fake"}).where(by_folder.notna())
        for what, said in (("label_str", by_name), ("label (1 = real)", by_number)):
            num_wrong = int((said.dropna() != by_folder.dropna()).sum())
            if num_wrong:
                raise ValueError(
                    f"{csv.name}: column {what} contradicts the folder names for {num_wrong} of {len(table)} files. "
                    "A mirror with the opposite polarity? Labels are read from the folder names; "
                    "delete the CSV file if the folders are right, else fetch the dataset anew."
                )


def _celeba(raw: Path) -> pd.DataFrame:
    """CelebA: real photographs, with the source's own partition (0 train, 1 valid, 2 test)."""
    folder = raw / "celeba"
    partition = {}
    for csv in folder.rglob("list_eval_partition.csv"):
        table = pd.read_csv(csv)
        partition = dict(zip(table["image_id"], table["partition"].map(dict(enumerate(SPLITS)))))
    return _table(
        [
            dict(
                path=file.relative_to(raw).as_posix(),
                label="real",
                generator="real",
                dataset="celeba",
                group=f"celeba/{file.name}",
                person="",
                split=partition.get(file.name, ""),
            )
            for file in _images(folder)
        ]
    )


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
    return table.reindex(columns=[*needed, "person", "split"], fill_value="")
