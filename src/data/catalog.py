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
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ..config import LABELS, SPLITS, Study
from ..pictures.steps import protocol_steps
from . import readers

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
        records = readers.manifest(faces_folder())
    else:
        raw = study.data / "raw"
        found = [
            collector(raw) for collector in (readers.deepfakeface, readers.gan140k, readers.celeba)
        ]
        records = pd.concat(
            [frame for frame in found if len(frame)] or [readers.as_table([])], ignore_index=True
        )
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


def coverage(records: pd.DataFrame) -> pd.DataFrame:
    """What the sources tell of the people on their pictures: counts by dataset and label."""
    source = [records["dataset"], records["label"]]
    known = {
        "pictures": records["path"] != "",
        "named": records["person"] != "",
        "with gender": records["gender"] != "",
        "with face box": records["left"].notna(),
        "with landmarks": records[readers.LANDMARKS[0]].notna(),
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
    return (
        chosen.assign(rank=first_reals)
        .sort_values(["rank", "source"], kind="stable")
        .reset_index(drop=True)
    )


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
    generators, datasets = (
        set(records["generator"]),
        set(records.loc[records["label"] == "real", "dataset"]),
    )
    tables = []
    for generator, real_source in [*study.test_sets.items(), *study.foreign_reals.items()]:
        own = study.test_sets[generator] == real_source
        trained = own and generator in study.train_sets
        if not trained and (generator not in generators or real_source not in datasets):
            continue
        table = task(records, generator, real_source)
        table = (
            _cap(table, study.max_per_class, study.seed)
            if trained
            else table[table["split"] == "test"]
        )
        tables.append(table.assign(task=generator if own else f"{generator} / {real_source}"))
    for dataset in study.unseen_reals:
        reals = records[
            (records["dataset"] == dataset)
            & (records["label"] == "real")
            & (records["split"] == "test")
        ]
        num_jpeg = _NUM_JPEG.get(study.train_sets[0], 1)
        tables.append(
            reals.assign(
                test_set=study.train_set, real_source=dataset, num_jpeg=num_jpeg, task=dataset
            )
        )
    return pd.concat(tables, ignore_index=True)


def every_generator(study: Study, records: pd.DataFrame) -> Study:
    """The study as if it trained on every generator there is, so that `tasks` gives all splits of all of them."""
    found = [
        generator for generator in study.test_sets if (records["generator"] == generator).any()
    ]
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


def _check_once(records: pd.DataFrame) -> None:
    """Raises if a picture lies in two places, as when an archive was unpacked into itself."""
    twice = records[records.duplicated(["dataset", "label", "group"], keep=False)].sort_values(
        ["group", "path"]
    )
    if len(twice):
        first, second = twice["path"].iloc[:2]
        raise ValueError(
            f"{twice['group'].nunique()} pictures of {', '.join(sorted(set(twice['dataset'])))} lie in two places, as "
            f"{first} and {second}. A doubled folder? Delete one of the two, or the whole dataset and fetch again."
        )


def faces_folder() -> Path:
    """The folder of real pictures that the study `sample` reads: the environment variable `FACES`.

    Raises:
        FileNotFoundError: If `FACES` is not set, is not a folder, or holds no `manifest.csv`.
    """
    advice = "Run, for example: STUDY=sample FACES=/folder/with/manifest.csv make reproduce"
    value = os.environ.get("FACES")
    if not value:
        raise FileNotFoundError(
            f"The study 'sample' needs the environment variable FACES, which is not set. {advice}"
        )
    folder = Path(value).expanduser().resolve()
    if not (folder / "manifest.csv").is_file():
        what = "there is no such folder" if not folder.is_dir() else "it holds no manifest.csv"
        raise FileNotFoundError(
            f"FACES is {value!r}, but {what}. Expected a folder with a manifest.csv of the columns "
            f"path,label,generator,dataset,group. {advice}"
        )
    return folder


def task_steps(
    study: Study, records: pd.DataFrame, protocol: str, last_steps: tuple[str, ...] = ()
) -> pd.DataFrame:
    """The rows of `catalog.tasks` with `steps`: what a protocol does to each picture, one string, then `last_steps`."""
    table = tasks(records, study)
    plans = [
        (*protocol_steps(protocol, num_jpeg=number, square_size=study.square_size), *last_steps)
        for number in table["num_jpeg"]
    ]
    return table.assign(steps=[" ".join(plan) for plan in plans])
