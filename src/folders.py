"""Reads any folders of pictures into a table of files, and makes the study `faces` of it."""

import os
from dataclasses import replace
from pathlib import Path
from posixpath import normpath

import pandas as pd

from .config import LABELS, SPLITS, STUDIES, Study

JOIN = "&"  # joins the names of generators, or datasets, that count as one
_COLUMNS = ["path", "label", "generator", "dataset", "group"]
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
_IN_SPLIT = r"(?i)/(train|valid|validation|val|test)(?=/)"  # a folder named after a split
_IN_LABEL = r"(?i)/(real|fake)/(?:([^/]+)/)?"
# Names that have a meaning in the studies of DeepFakeFace, such as how files were saved.
_TAKEN = ("real", *STUDIES["demo"].test_sets, *STUDIES["demo"].aligned)
_HELP = (
    "Expected a folder with a manifest.csv of the columns path,label,generator,dataset,group, or "
    "with the folders real and fake/<generator>, as in: make reproduce STUDY=faces FACES=/pictures"
)


def study_of(study: Study, faces: str, train: str) -> Study:
    """Adds the pictures in folders to a study that has only networks and sizes.

    `faces` joins places of `read` as in `PATH` (by `:` on Linux). `train` is the generator to train
    on; `"a+b"` treats two as one, `""` takes the generator with most fakes. Fakes are compared with
    the photographs of their `dataset`; where it has none, with those of all datasets. The
    description says which. Errors are those of `read`, and a `ValueError` for a wrong `train`.
    """
    places = tuple(Path(place).expanduser().resolve() for place in faces.split(os.pathsep) if place)
    if not places:
        raise FileNotFoundError(f"The environment variable FACES is not set. {_HELP}")
    table = read(places)
    fakes = table[table["label"] == "fake"]
    photographs = sorted(set(table.loc[table["label"] == "real", "dataset"]))
    found = fakes["generator"].value_counts().sort_index().sort_values(kind="stable").index[::-1]
    chosen = [*dict.fromkeys(_words(pd.Series(train.split("+")), _TAKEN) if train else found[:1])]
    if unknown := sorted(set(chosen) - set(found)):
        have = f"The generators in FACES are {', '.join(found)}; TRAIN names one, or some as a+b"
        raise ValueError(f"TRAIN names {', '.join(unknown)}, of which there are no fakes. {have}.")
    train_set, test_sets = JOIN.join(chosen), {}
    for name in (train_set, *found.drop(chosen)):
        own = set(fakes.loc[fakes["generator"].isin(name.split(JOIN)), "dataset"])
        test_sets[name] = JOIN.join(sorted(own & set(photographs)) or photographs)
    home = test_sets[train_set]
    others = JOIN.join(name for name in photographs if name not in home.split(JOIN))
    against = "; ".join(f"{name} against photographs of {test_sets[name]}" for name in test_sets)
    return replace(
        study,
        description=f"trained on {train_set}; {against}",
        faces=places,
        train_set=train_set,
        test_sets=test_sets,
        foreign_reals={train_set: others} if others else {},
        autoencoder=replace(study.autoencoder, train_dataset=home),
    )


def root(places: tuple[Path, ...]) -> Path:
    """The innermost folder that holds all places."""
    return Path(os.path.commonpath([p if p.is_dir() else p.parent for p in places]))


def read(places: tuple[Path, ...]) -> pd.DataFrame:
    """The pictures of all places, a row each.

    A place is a folder with a `manifest.csv`, a manifest of any name, or a folder whose pictures
    lie, at any depth, below `real` (or `real/<dataset>`) and `fake/<generator>`. There, files of
    one name and split share a group, whatever their suffix, unless a source has the name twice. A
    folder named after a split gives the split, unless a manifest has that column. In names of
    generators and datasets, characters other than letters, digits, `.`, `-` and `_` become `_`.

    Returns:
        Texts: `path` (relative to `root`), `label`, `generator` (`"real"` for photographs),
        `dataset`, `group`, `split` (empty where it is not known), and further columns of manifests.

    Raises:
        FileNotFoundError: If a place holds no pictures, or none of the files in its manifest.
        ValueError: If a manifest cannot be read, or if labels, splits, paths or groups are wrong.
    """
    tables, base = [], root(places)
    for place in places:
        manifest = place / "manifest.csv" if place.is_dir() else place
        is_there = manifest.is_file()
        tables.append(_of_manifest(manifest, places[0]) if is_there else _of_folders(place))
        if tables[-1].empty:
            raise FileNotFoundError(f"FACES names {str(place)!r}, which holds no pictures. {_HELP}")
    table = pd.concat(tables, ignore_index=True).fillna("").astype("str")
    table["path"] = table["path"].str.removeprefix(base.as_posix()).str.lstrip("/")
    table["label"] = table["label"].str.lower()
    table["split"] = table["split"].str.lower().replace(["val", "validation"], "valid")
    table["dataset"], generators = _words(table["dataset"]), _words(table["generator"], _TAKEN)
    table["generator"] = generators.mask(table["label"] == "real", "real")
    table["group"] = table["group"].mask(table["group"] == "", table["path"])
    for column, known in (("label", LABELS), ("split", (*SPLITS, ""))):
        if wrong := sorted(set(table[column]) - set(known)):
            raise ValueError(f"A manifest's {column} must be one of {known}. Found: {wrong[:5]}.")
    if twice := table.loc[table["path"].duplicated(), "path"].tolist():
        advice = "Name each folder, and each file of a manifest, once."
        raise ValueError(f"{len(twice)} paths are in FACES twice, such as {twice[:3]}. {advice}")
    num_splits = table[table["split"] != ""].groupby("group")["split"].nunique()
    if torn := num_splits.index[num_splits > 1].tolist():
        advice = "Give all files of a group the same split."
        raise ValueError(f"{len(torn)} groups lie in several splits, as {torn[:3]}. {advice}")
    if missing := [label for label in LABELS if label not in set(table["label"])]:
        found = f"All {len(table)} pictures are of one class: there is no {missing[0]} picture"
        raise ValueError(f"{found}. Expected real and fake pictures. {_HELP}")
    return table


def _words(names: pd.Series, taken: tuple[str, ...] = ()) -> pd.Series:
    """Names made fit for the name of a file; those in `taken` get a `_` at the end."""
    words = names.str.replace(r"[^\w.-]+", "_", regex=True).str.strip("_").replace("", "unnamed")
    return words.mask(words.isin(taken), words + "_")


def _of_manifest(file: Path, first: Path) -> pd.DataFrame:
    """A manifest's rows; paths are relative to its folder, or to `first` if more exist there."""
    try:
        table = pd.read_csv(file, dtype="str", keep_default_na=False, encoding="utf-8-sig")
    except ValueError as error:
        raise ValueError(f"{file} cannot be read as CSV in UTF-8: {error}.") from error
    if missing := [column for column in _COLUMNS if column not in table]:
        have = f"it has {', '.join(table)}. Expected at least {', '.join(_COLUMNS)}"
        raise ValueError(f"{file} lacks the columns {', '.join(missing)}; {have}.")
    paths = [normpath(path) for path in table["path"].str.replace("\\", "/")]
    if outside := [path for path in paths if path.startswith(("/", "../")) or path[1:2] == ":"]:
        what = f"{len(outside)} paths in {file} lead out of its folder, such as {outside[0]}"
        raise ValueError(f"{what}. Expected paths that begin in it.")
    wholes = {b: [f"{b.as_posix()}/{path}" for path in paths] for b in (file.parent, first)}
    base = max(wholes, key=lambda base: sum(map(os.path.isfile, wholes[base])))
    if paths and not any(map(os.path.isfile, wholes[base])):
        advice = "Expected paths relative to the manifest's folder"
        raise FileNotFoundError(f"None of the files in {file} exists. {advice}. First: {paths[0]}")
    inside = pd.Series(paths, dtype="str").radd("/")
    table = table if "split" in table else table.assign(split=inside.str.extract(_IN_SPLIT)[0])
    return table.assign(path=wholes[base])


def _of_folders(folder: Path) -> pd.DataFrame:
    """The pictures below folders named `real` and `fake`; others are ignored."""
    tree = os.walk(folder, followlinks=True)
    files = [Path(parent, name) for parent, _, names in tree for name in names if name[0] != "."]
    paths = sorted(file.as_posix() for file in files if file.suffix.lower() in _SUFFIXES)
    table = pd.DataFrame({"path": paths}, dtype="str")
    inside = table["path"].str[len(folder.as_posix()) :]
    table["split"] = inside.str.extract(_IN_SPLIT)[0]
    inside = inside.str.replace(_IN_SPLIT, "", regex=True)
    table[["label", "generator"]] = inside.str.extract(_IN_LABEL)
    table = table.dropna(subset="label")
    table["dataset"] = table["generator"] = table["generator"].fillna(table["label"])
    table["group"] = table["split"].fillna("") + inside.str.extract(r"(/[^/]*)\.\w+$")[0]
    doubled = table.loc[table.duplicated(["label", "generator", "group"]), "group"]
    return table.assign(group=table["group"].mask(table["group"].isin(doubled), ""))
