"""Other people's detectors as Python files, `predict(paths) -> scores`, run on folder or study."""

from collections.abc import Callable, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pandas as pd

from .. import folders
from ..config import Study
from ..data import catalog
from ..files import progress

_COLUMNS = ["path", "label", "generator", "group", "test_set", "file"]
_AT_ONCE = 64  # paths


def of_folder(folder: Path) -> pd.DataFrame:
    """The pictures of a folder, as `folders.read` finds them, as one test set.

    Returns the texts `path`, `label`, `generator` (of a photograph, its dataset), `group`,
    `test_set` and `file`, its full path.
    """
    places = (folder.resolve(),)
    table = folders.read(places)
    files = [folders.root(places) / path for path in table["path"]]
    return _named(table.assign(file=files, test_set="all"))


def of_study(study: Study) -> pd.DataFrame:
    """The pictures of all tests of a study, files as they are; columns as of `of_folder`."""
    table = catalog.tasks(catalog.load(study), study).query("split == 'test'")
    return _named(table.assign(file=catalog.files(study, table), test_set=table["task"]))


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """Photographs get the name of their dataset."""
    named = table["generator"].mask(table["label"] == "real", table["dataset"])
    table = table.assign(generator=named, file=table["file"].astype(str))
    return table[_COLUMNS].reset_index(drop=True)


def score(detector: Path, pictures: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores pictures with `predict(paths)` of a file, the only one that is imported.

    `predict` gets a list of texts and returns the probability of fake of each. If it raises an
    error, it gets the same paths one by one.

    Returns the pictures with `detector` (the file's name) and `score`, NaN where it raised an
    error; and these errors: `path`, `reason`. A `ValueError` if the file cannot be imported or has
    no such function; if this fails on all of the first paths; if it returns other than one number
    in `[0, 1]` for each.
    """
    predict, scores, reasons = _imported(detector), {}, {}
    files = pictures["file"].unique().tolist()
    starts = range(0, len(files), _AT_ONCE)
    for start in progress(starts, "Scoring", unit="batch"):
        paths = files[start : start + _AT_ONCE]
        found, reason = _attempt(predict, paths, detector)
        if reason:
            for path in paths:
                one, reason = _attempt(predict, [path], detector)
                found |= one
                reasons |= {path: reason} if reason else {}
        scores |= found
        if len(reasons) == len(scores):
            what = f"{detector} fails on all of the first {len(scores)} pictures"
            raise ValueError(f"{what}. Of {paths[0]} it says: {reasons[paths[0]]}")
    table = pictures.assign(detector=detector.stem, score=pictures["file"].map(scores))
    failures = table.assign(reason=table["file"].map(reasons)).dropna(subset="reason")
    return table.drop(columns="file"), failures[["path", "reason"]].drop_duplicates()


def _imported(file: Path) -> Callable:
    """The function `predict` of a Python file."""
    if not (file.is_file() and file.suffix == ".py"):
        raise ValueError(f"{file} is no Python file: expected a file such as my_detector.py.")
    spec = spec_from_file_location(f"detector_file_{file.stem}", file)
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever its first lines raise
        raise ValueError(f"{file} cannot be imported. {_words(error)}") from error
    if not callable(found := getattr(module, "predict", None)):
        raise ValueError(f"{file} has no function predict(paths), which returns the scores.")
    return found


def _attempt(predict: Callable, paths: Sequence[str], detector: Path) -> tuple[dict, str | None]:
    """Scores by path, or NaN for all and the reason."""
    try:
        values = predict(list(paths))
    except Exception as error:  # the detector is other people's: any kind
        return dict.fromkeys(paths, np.nan), _words(error)
    try:
        values = np.asarray(values, float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{detector} returned no numbers: {values!r:.200}.") from error
    if values.shape not in ((len(paths),), (len(paths), 1)):
        expected = f"expected one number for each of {len(paths)} paths"
        raise ValueError(f"{detector} returned scores of the shape {values.shape}; {expected}.")
    values = values.ravel()
    if len(wrong := np.flatnonzero(~((values >= 0) & (values <= 1)))):
        first = f"{values[wrong[0]]} for {paths[wrong[0]]}"
        raise ValueError(f"{detector} returned {first}; expected probabilities of fake in [0, 1].")
    return dict(zip(paths, values.tolist())), None


def _words(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {error}".replace("\n", " ")
