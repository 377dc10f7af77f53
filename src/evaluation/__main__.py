"""Other people's detectors, judged by the same tables: `python -m src.evaluation --help`.

Reads scores per image, or lets a file of Python code make them; writes `results.csv`, `recall.csv`,
and a page with figures.
"""

import argparse
from functools import partial
from pathlib import Path

import pandas as pd

from ..config import get_study
from ..files import progress, write_atomically
from . import detector_files
from .comparisons import recall_by_generator
from .intervals import estimate
from .results import refuse_rows

_COLUMNS = ("path", "label", "generator", "score")
_DEFAULTS = {"detector": "detector", "test_set": "all"}
_FORMAT = """The columns of SCORES (CSV or Parquet), one row an image and detector:

  path       name of the image
  label      0 or "real", 1 or "fake"
  generator  what made it; of a real image, where it comes from
  score      probability of fake, in [0, 1]; empty rows are left out and counted
  group      images that belong together (one photograph, one person); default: each image alone
  detector   default: one detector
  test_set   default: one test set

With --detector, the scores are made here. The file defines `predict(paths)`: from a list of names
of files to the probability of fake of each. FOLDER has a manifest.csv or the folders real/ and
fake/<generator>/. `scores.csv` and `failures.csv`, pictures that it failed on, are written as well.
"""


def read(file: Path) -> pd.DataFrame:
    """Scores per image, with every column that `_FORMAT` lists; `ValueError` on wrong rows."""
    table = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file)
    if missing := [name for name in _COLUMNS if name not in table]:
        raise ValueError(f"{file} lacks the columns {missing}; received {list(table)}.\n{_FORMAT}")
    table = table.assign(**{**_DEFAULTS, "group": table["path"], **table})  # what it has, stays
    labels = table["label"].astype(str).str.removesuffix(".0")
    labels = labels.map({"real": 0, "fake": 1, "0": 0, "1": 1})
    table["score"] = pd.to_numeric(table["score"])
    problems = {
        "no path or generator": table[["path", "generator"]].isna().any(axis=1),
        "a label other than 0, 1, real or fake": labels.isna(),
        "a score outside [0, 1]": table["score"].notna() & ~table["score"].between(0, 1),
        "an image that stands twice": table.duplicated(["detector", "test_set", "path"]),
    }
    refuse_rows(str(file), table, problems)
    return table.assign(label=labels.astype(int))


def evaluate(table: pd.DataFrame, num_resamples: int = 2000) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Metrics of every detector on every test set, and its recall on every generator.

    The columns are `model, test_set` and those of `intervals.estimate`, and of
    `comparisons.recall_by_generator`. A test set of one class is left out.
    """
    results, recalls = {}, {}
    parts = list(table.dropna(subset="score").groupby(["detector", "test_set"], sort=False))
    for (model, test_set), rows in progress(parts, "Evaluating", len(parts), "set"):
        if rows["label"].nunique() < 2:
            continue
        arrays = rows["label"], rows["score"], rows["group"]
        results[model, test_set] = estimate(*arrays, num_resamples=num_resamples)
        recalls[model, test_set] = recall_by_generator(rows)
    if not results:
        raise ValueError("Expected a detector and test set with real and fake images, found none.")
    tables = (pd.concat(found, names=["model", "test_set"]) for found in (results, recalls))
    return tuple(table.droplevel(-1).reset_index() for table in tables)


def _score(options: argparse.Namespace) -> Path:
    """Runs a detector; returns the file of its scores."""
    study, folder = options.study, options.source
    where = detector_files.of_study(get_study(study)) if study else detector_files.of_folder(folder)
    scores, failures = detector_files.score(options.detector, where)
    if len(failures):
        print(f"It failed on {len(failures)} pictures: see failures.csv.")
    _write(options.out / "failures.csv", failures)
    return _write(options.out / "scores.csv", scores)


def _write(file: Path, table: pd.DataFrame, **options) -> Path:
    """Writes a table as CSV."""
    return write_atomically(file, partial(table.to_csv, index=False, **options))


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        "python -m src.evaluation",
        description="Judges other people's detectors by their scores per image.",
        epilog=_FORMAT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("source", type=Path, nargs="?", metavar="SCORES | FOLDER", help="scores, or pictures")
    add("--out", type=Path, required=True, metavar="FOLDER", help="where to write")
    add("--detector", type=Path, metavar="FILE", help="my_detector.py, to be run on FOLDER")
    add("--study", metavar="NAME", help="run it on the test sets of a study instead, such as demo")
    add("--num-resamples", type=int, default=2000, metavar="N", help="bootstrap (default: 2000)")
    options = parser.parse_args(arguments)
    if (options.source is None) != bool(options.study) or options.study and not options.detector:
        parser.error("expected SCORES, or --detector FILE with FOLDER or with --study NAME")
    try:
        table = read(_score(options) if options.detector else options.source)
        results, recalls = evaluate(table, options.num_resamples)
    except (OSError, ValueError) as error:
        parser.exit(2, f"{error}\n")
    from ..report import scores_page  # here, as no other module of `src.evaluation` may import it

    options.out.mkdir(parents=True, exist_ok=True)
    for name, rows in {"results": results, "recall": recalls}.items():
        _write(options.out / f"{name}.csv", rows, float_format="%.6f")
    scores_page.write(options.out, table, results, recalls)
    print(f"Written: {', '.join(sorted(file.name for file in options.out.iterdir()))}")


if __name__ == "__main__":
    main()
