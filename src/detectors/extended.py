"""More trainings: other seeds of a detector, the generator matrix, a leaking split.

`python -m src.detectors.extended` trains the last two (with `leak` only the last), after notebooks
01 to 05; notebook 06 shows them. What is done is read back, and an interrupted run goes on.
"""

import gc
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from src import setup

from ..config import Network, Study
from ..data import catalog, faces
from ..evaluation.results import write_seed_means
from . import autoencoder, models, scoring, training


def train_seeds(study: Study, records: pd.DataFrame, network: Network) -> pd.DataFrame:
    """Trains a detector with each of `study.extra_seeds`, under `controlled`.

    Splits stay. Initial weights and the order of the pictures differ; for the classifier on
    embeddings those of the autoencoder, too. Returns the rows of `results.write_seed_means`.
    """
    protocol, approach, boxes = "controlled", network.approach, None
    if approach == "autoencoder":
        boxes = faces.face_boxes(study, records, protocol)
    pictures = scoring.prepare(study, records, protocol, approach, boxes, view=network.view)
    for seed in study.extra_seeds:
        train(network, pictures.retrained(seed=seed), records)
    return write_seed_means(study, approach, network.name, protocol)


def train(
    network: Network, pictures: scoring.Pictures, records: pd.DataFrame, build=models.build
) -> None:
    """Builds, trains and scores a detector."""
    study, config = pictures.study, pictures.study.autoencoder
    if network.approach == "autoencoder":
        learnt = autoencoder.prepare_faces(study, records, pictures.protocol)
        name = pictures.model_id("Autoencoder")
        trained, _ = autoencoder.fit_autoencoder(study, learnt, config, name)
        training.set_seed(study.seed)
        head = models.build_embedding_classifier(config.latent, config.head)
        model = models.join(trained.get_layer("encoder"), head)
    else:
        training.set_seed(study.seed)
        model = build(network, pictures.pixels.shape[1])
    model, _ = scoring.fit(model, network, pictures)
    scoring.score(model, network, pictures)
    gc.collect()  # else dozens of networks fill the memory


def train_all_seeds(
    network: Network, pictures: scoring.Pictures, records: pd.DataFrame, build=models.build
) -> pd.DataFrame:
    """`train` with every seed of the study; returns the rows of the means over them."""
    train(network, pictures, records, build)
    for seed in pictures.study.extra_seeds:
        train(network, pictures.retrained(seed=seed), records, build)
    return write_seed_means(pictures.study, network.approach, network.name, pictures.protocol)


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

    A training on three generators has about three times the pictures, and a third of the epochs.
    """
    every = catalog.every_generator(study, records)
    for network in study.matrix:
        pictures = scoring.prepare(
            every, records, "controlled", network.approach, view=network.view
        )
        for train_set in train_sets(every.train_sets):
            epochs = max(1, round(network.epochs / len(train_set.split("+"))))
            train(replace(network, epochs=epochs), pictures.retrained(train_set=train_set), records)


def leak_worth(study: Study, records: pd.DataFrame) -> None:
    """What a leak adds to results: `study.matrix[0]` under `report`, split by group and by picture.

    Each is trained with `study.seed` and `extra_seeds`, and tested on pictures that it did not
    train on. But `Matrix_by_picture` may have trained on their photograph, their fake or their swap
    partner. Only the mean over seeds shows what a leak adds.
    """
    study = catalog.without_other_tests(study)
    network = study.matrix[0]
    by_group = scoring.prepare(study, records, "report", network.approach, view=network.view)
    by_picture = replace(by_group, table=split_by_picture(by_group.table, study))
    by_picture = replace(by_picture, fingerprint=by_picture.identity)
    for pictures, name in ((by_group, "Matrix_by_group"), (by_picture, "Matrix_by_picture")):
        train_all_seeds(replace(network, name=name), pictures, records)


def split_by_picture(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """`Pictures.table` with the splits of the training task's files shuffled within each class.

    The other tasks keep their fakes, and their photographs unless these are files of the training
    task: then they get its test photographs instead. Rows of the training task outside its test
    split get groups of their own, as a group must not lie in several splits.
    """
    home, columns = table["task"].isin(study.train_sets), ["task", "test_set", "real_source"]
    draw = np.random.default_rng(study.seed).permutation
    own = table[home].copy()
    own["split"] = own.groupby(["task", "label"])["split"].transform(draw)
    tested = own[(own["split"] == "test") & (own["label"] == "real")]
    parts = [own.assign(group=own["group"].where(own["split"] == "test", "file " + own["path"]))]
    for task, rows in table[~home].groupby(columns, sort=False):
        kept = rows[~rows["path"].isin(own["path"])]
        shared = tested.assign(**dict(zip(columns, task))) if len(kept) < len(rows) else None
        parts.append(pd.concat([shared, kept]))
    return pd.concat(parts, ignore_index=True)


def main() -> None:
    """Trains and scores what is not done yet, for the study named in `STUDY`."""
    study = setup()
    records = catalog.load(study)
    if sys.argv[1:] == ["leak"]:
        return leak_worth(study, records)
    print("Every generator in turn, and all but one", flush=True)
    generator_matrix(study, records)
    print("A split by picture against the split by group", flush=True)
    leak_worth(study, records)
    print("Done. Notebook 06 shows it.")


if __name__ == "__main__":
    main()
