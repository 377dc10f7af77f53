"""The datasets as they lie on disk → one table of records; splits; detection tasks.

A record is one file; its bytes are never changed. The unit of a split is the group: all versions of
one photograph, and whatever else ties files together (a face-swap, two photographs of one person).
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from .. import folders
from ..config import LABELS, SPLITS, STRENGTHS, Study
from ..files import read_json, write_atomically, write_json
from ..folders import JOIN
from ..pictures.steps import protocol_steps
from . import readers
from .archives import MARKER, replacing

Steps = tuple[str, ...] | Callable[[str], tuple[str, ...]]
_LEAST = 4  # pictures of a class in every split of what is trained on
_NOTEBOOK = "Run notebooks/01_data_download.ipynb"

# Their fakes are photographs squashed to a square. All others' were squares from the start.
_SQUASHED = ("inpainting", "insight", "inpainting_local", *STRENGTHS)
# How often DeepFakeFace's public code saved a fake as JPEG (quality 75): `controlled` replays it on
# the photographs. In every other dataset both classes take the same steps.
_NUM_JPEG = dict.fromkeys(_SQUASHED, 2) | {"text2img": 1}


def collect(study: Study) -> pd.DataFrame:
    """All files that the study can use, before their pixels have been looked at.

    Returns:
        The columns of `data/README.md` but width and height; texts that are not known are empty,
        numbers NaN. `path` is relative to `root(study)`.

    Raises:
        FileNotFoundError: If nothing is there, or if none of the files in a manifest exists.
        ValueError: If labels contradict each other, a picture lies there twice, or a class or what
            the study trains on is missing.
    """
    if study.faces:
        records = readers.folder(study)
    else:
        found = (readers.deepfakeface, readers.gan140k, readers.celeba, readers.trace)
        records = pd.concat([reader(root(study)) for reader in found], ignore_index=True)
        records = records.astype(dict.fromkeys(readers.TEXTS, "str"))  # of empty tables: object
        if records.empty:
            raise FileNotFoundError(f"No dataset lies in data/{study.name}/raw. {_NOTEBOOK} first.")
        doubled = records.duplicated(["dataset", "generator", "group"], keep=False)
        twice = records[doubled].sort_values(["group", "path"])["path"].tolist()
        if twice:  # as when an archive was unpacked into itself
            text = f"{len(twice)} files of the same pictures lie in two places, as {twice[:2]}."
            raise ValueError(f"{text} A doubled folder? Delete one of the two.")
    if missing := set(LABELS) - set(records["label"]):
        text = f"no {missing.pop()} picture was found. A detector needs real and fake pictures."
        raise ValueError(f"All {len(records)} files are of one class: {text}")
    return records.sort_values("path", ignore_index=True)


def root(study: Study) -> Path:
    """The folder that the records' paths are relative to."""
    return folders.root(study.faces) if study.faces else study.data / "raw"


def files(study: Study, records: pd.DataFrame) -> list[Path]:
    """The records' files, in their order."""
    folder = root(study)
    return [folder / path for path in records["path"]]


def coverage(records: pd.DataFrame) -> pd.DataFrame:
    """What the sources tell of the people on their pictures: counts by dataset and label."""
    source = [records["dataset"], records["label"]]
    known = records.replace("", np.nan).groupby(source)
    table = {"pictures": known.size(), "different persons": known["person"].nunique()}
    columns = {"named": "person", "with gender": "gender", "with face box": "left"}
    columns["with landmarks"] = readers.LANDMARKS[0]
    return pd.DataFrame(table | {name: known[column].count() for name, column in columns.items()})


def samples(records: pd.DataFrame, num_each: int) -> pd.DataFrame:
    """`num_each` records of every `source` (a dataset's reals or a generator's fakes), reals first.

    They are of the same groups where it can be.
    """
    records = records.assign(source=records["dataset"] + ", " + records["label"])
    num_sources = records["group"].map(records.groupby("group")["source"].nunique())
    records = records.assign(alone=num_sources < 2, key=records["group"].map(unit_interval))
    chosen = records.sort_values(["alone", "key", "path"]).groupby("source", sort=False)
    chosen = chosen.head(num_each).assign(rank=lambda table: table["label"].map(LABELS.index))
    return chosen.sort_values(["rank", "source"], kind="stable", ignore_index=True)


def assign_splits(records: pd.DataFrame, seed: int, shares: tuple[float, ...]) -> pd.DataFrame:
    """Gives every record its split: that of its source, also to others of its group, else `shares`.

    The split of a group is a pure function of its name and the seed: adding files moves no other.
    """
    groups = records["group"].unique()
    places = [unit_interval(f"{seed}/{group}") for group in groups]
    numbers = np.searchsorted(np.cumsum(shares), places, side="right")
    split_of = {group: SPLITS[number] for group, number in zip(groups, numbers)}
    split_of |= records[records["split"] != ""].groupby("group")["split"].first().to_dict()
    return records.assign(split=records["group"].map(split_of))


def unit_interval(text: str) -> float:
    """A number in [0, 1) that depends on nothing but the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def save(study: Study, records: pd.DataFrame, rejected: pd.DataFrame) -> None:
    """Writes the records as a Hugging Face dataset, and `rejected.csv` with a reason for each.

    Raises:
        ValueError: If a folder's pictures are too few to train on, or to test with.
    """
    from datasets import Dataset, disable_progress_bars

    if study.faces:
        home = task(records, study.train_set, study.test_sets[study.train_set])
        counts = pd.crosstab(home["split"], home["label"]).reindex(SPLITS, columns=LABELS)
        if (counts := counts.fillna(0).astype(int)).min(axis=None) < _LEAST:
            what = f"each split needs at least {_LEAST} of a class to train on {study.train_set}"
            advice = "Add pictures (80 of each class are enough) or set splits in a manifest.csv."
            raise ValueError(f"Too few pictures: {what}. {advice} There are:\n{counts}")
    disable_progress_bars()
    study.data.mkdir(parents=True, exist_ok=True)
    folder = study.data / "records"
    with FileLock(study.data / ".records.lock"), replacing(folder) as growing:
        Dataset.from_pandas(records, preserve_index=False).save_to_disk(growing)
        write_json(growing / "origin.json", _origin(study))
    write_atomically(study.data / "rejected.csv", lambda file: rejected.to_csv(file, index=False))


def load(study: Study) -> pd.DataFrame:
    """The records that notebook 1 wrote; `ValueError` if what they are made of has changed."""
    from datasets import load_from_disk

    folder = study.data / "records"
    if not folder.is_dir():
        text = f"There are no records in data/{study.name}/records."
        raise FileNotFoundError(f"{text} {_NOTEBOOK} first.")
    then = read_json(folder / "origin.json") or {}
    if changed := [name for name, now in _origin(study).items() if then.get(name, now) != now]:
        what = f"{', '.join(changed)} changed after the records of {study.name!r} were made"
        raise ValueError(f"{what}. {_NOTEBOOK} again.")
    return load_from_disk(str(folder)).to_pandas()


def _origin(study: Study) -> dict[str, str]:
    """What records are made from: the archives that are there and the shares, or those of FACES."""
    if study.faces:
        rows = pd.util.hash_pandas_object(folders.read(study.faces))
        return {"FACES": f"{rows.sum():016x}"}
    markers = sorted(root(study).glob(f"*/{MARKER}"))
    digests = {marker.parent.name: read_json(marker)["digest"] for marker in markers}
    return digests | {"shares": str(study.shares)}


def photographs(records: pd.DataFrame, name: str) -> pd.DataFrame:
    """The real photographs of a dataset, or of several that stand for one (`JOIN`)."""
    is_real = records["label"] == "real"
    return records[is_real & records["dataset"].isin(name.split(JOIN))]


def task(records: pd.DataFrame, generator: str, real_source: str) -> pd.DataFrame:
    """A detection task: the fakes of one generator and the real photographs of one dataset.

    Returns:
        Their records with `test_set` (the generator), `real_source` and `num_jpeg`: how many JPEG
        saves the protocol `controlled` replays on each.
    """
    fake = records[records["generator"].isin(generator.split(JOIN))]
    real = photographs(records, real_source)
    if fake.empty or real.empty:
        raise ValueError(
            f"The task {generator!r} against real photographs of {real_source!r} has {len(fake)} "
            f"fakes and {len(real)} reals; both are needed. There are {set(records['generator'])}. "
            "See notebook 1 on what could not be fetched."
        )
    table = pd.concat([real, fake], ignore_index=True)
    replayed = {"real": _NUM_JPEG.get(generator, 1), "fake": int(generator not in _NUM_JPEG)}
    how = {"num_jpeg": table["label"].map(replayed), "squashed": generator in _SQUASHED}
    return table.assign(test_set=generator, real_source=real_source, **how)


def tasks(records: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The tasks that a study trains on, then its tests, without groups that it trains on.

    First the training tasks, with the splits of the records. Then, with the split `"test"`, the
    other `study.test_sets`, the `aligned` sets, fakes against `foreign_reals`, and without fakes
    `unseen_reals` and `cropped_reals` (`test_set` is then the training set). Tests without
    data are left out. Last come the sets `seen_too`: their `real_source` ends with "(seen too)",
    and groups that the study trains on are renamed `"seen <group>"`.

    Returns:
        The rows of every `task`; the column `task` is the generator's name, `"<generator> /
        <dataset>"` for foreign reals, the dataset's name for unseen ones.
    """
    generators, own = set(records["generator"]), {**study.test_sets, **study.aligned}
    pairs = [(generator, source, generator) for generator, source in own.items()]
    pairs += [(*pair, " / ".join(pair)) for pair in study.foreign_reals.items()]
    tables, others = [], []
    for generator, source, name in pairs:
        if name in study.train_sets:
            tables.append(task(records, generator, source).assign(task=name))
        elif generators & set(generator.split(JOIN)) and len(photographs(records, source)):
            others.append(task(records, generator, source).assign(task=name))
    seen = pd.concat([*tables, photographs(records, study.autoencoder.train_dataset)])
    seen = seen.loc[seen["split"] != "test", "group"]
    first = study.train_sets[0]
    how = {"num_jpeg": _NUM_JPEG.get(first, 1), "squashed": first in _SQUASHED}
    for source in (*study.unseen_reals, *study.cropped_reals):
        kind = {"test_set": study.train_set, "real_source": source, "task": source}
        others.append(photographs(records, source).assign(**how, **kind))
    others = [table[~table["group"].isin(seen)] for table in others]
    for generator, source in study.seen_too.items():
        table, name = task(records, generator, source), f"{source} (seen too)"
        group = table["group"].mask(table["group"].isin(seen), "seen " + table["group"])
        kind = {"real_source": name, "task": f"{generator} / {name}"}
        others.append(table.assign(group=group, **kind))
    if study.num_tested:
        others = [_drawn(table, study.num_tested) for table in others]
    tables += [table.assign(split="test") for table in others]
    return pd.concat(tables, ignore_index=True)


def _drawn(table: pd.DataFrame, number: int) -> pd.DataFrame:
    """At most so many pictures of each label, of the same groups where it can be."""
    place = table["group"].map(unit_interval)
    return table[place.groupby(table["label"]).rank(method="first") <= number]


def task_steps(
    study: Study, records: pd.DataFrame, protocol: str, last_steps: Steps = ()
) -> pd.DataFrame:
    """The rows of `tasks` with `steps`: what a protocol does to each picture, then `last_steps`.

    These are the same for all, or a function of the picture's path.
    """
    table, size = tasks(records, study), study.square_size
    steps = [
        protocol_steps(protocol, number, size, squashed=squashed)
        for number, squashed in zip(table["num_jpeg"], table["squashed"])
    ]
    last = map(last_steps, table["path"]) if callable(last_steps) else [last_steps] * len(table)
    steps = [" ".join((*first, *then)) for first, then in zip(steps, last)]
    return table.assign(steps=steps)


def every_generator(study: Study, records: pd.DataFrame) -> Study:
    """The study as if it trained on every generator there is: `tasks` then gives all splits."""
    generators = set(records["generator"])
    found = [name for name in study.test_sets if generators & set(name.split(JOIN))]
    return replace(without_other_tests(study), train_set="+".join(found))


def without_other_tests(study: Study) -> Study:
    """The study as if `test_sets` were all that it tests on."""
    return replace(
        study, foreign_reals={}, seen_too={}, aligned={}, unseen_reals=(), cropped_reals=()
    )
