"""What takes longer than a first run: the generator matrix.

`python -m src.detectors.extended`, after the notebooks 01 to 05; notebook 06 shows the results.
What is done is read back, and an interrupted run goes on where it was.
"""

import os
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from src import setup

from ..config import Study
from ..data import catalog
from . import scoring
from .seeds import train


def train_sets(generators: Sequence[str]) -> list[str]:
    """What the matrix trains on: every generator alone, then all but one.

    Example:
    >>> train_sets(["a", "b", "c"])
    ['a', 'b', 'c', 'b+c', 'a+c', 'a+b']
    """
    others = [[name for name in generators if name != left_out] for left_out in generators]
    return [*generators, *map("+".join, others)]


def generator_matrix(study: Study, records: pd.DataFrame) -> None:
    """Trains `study.matrix` on every entry of `train_sets`, under `controlled`, tests on all.

    Three generators have three times the pictures and get a third of the epochs: as many steps.
    """
    every = catalog.every_generator(study, records)
    for network in study.matrix:
        pictures = scoring.prepare(
            every, records, "controlled", network.approach, view=network.view
        )
        for train_set in train_sets(every.train_sets):
            epochs = max(1, round(network.epochs / len(train_set.split("+"))))
            train(replace(network, epochs=epochs), pictures.retrained(train_set=train_set), records)


def main() -> None:
    """Trains and scores what is not done yet, for the study named in `STUDY`."""
    study = setup(os.environ.get("STUDY", "demo"))
    records = catalog.load(study)
    print("Every generator in turn, and all but one", flush=True)
    generator_matrix(study, records)
    print("Done. Notebook 06 shows it.")


if __name__ == "__main__":
    main()
