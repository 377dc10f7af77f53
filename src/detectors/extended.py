"""What takes longer than a first run: several seeds, and the generator matrix.

`python -m src.detectors.extended`, after the notebooks 01 to 05; notebook 06 shows the results.
What is done is read back, and an interrupted run goes on where it was.
"""

import itertools
import os
from collections.abc import Sequence
from dataclasses import replace

import keras
import pandas as pd

from src import setup

from ..config import PROTOCOLS, Network, Study
from ..data import catalog, faces
from ..evaluation.results import write_seed_means
from . import autoencoder, models, scoring


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
        pictures = scoring.prepare(every, records, "controlled", network.approach)
        for train_set in train_sets(every.train_sets):
            epochs = max(1, round(network.epochs / len(train_set.split("+"))))
            _train(replace(network, epochs=epochs), pictures.retrained(train_set=train_set))


def several_seeds(study: Study, records: pd.DataFrame) -> None:
    """Trains the headline detectors with each of `study.extra_seeds`, under both protocols."""
    networks = {network.name: network for network in (*study.direct, study.fourier)}
    seeds = [seed for seed in study.extra_seeds if seed != study.seed]
    for name, seed, protocol in itertools.product(study.headline, seeds, PROTOCOLS):
        if name in networks:
            pictures = scoring.prepare(study, records, protocol, networks[name].approach)
            _train(networks[name], pictures.retrained(seed=seed))
        else:
            _train_classifier(study, records, seed, protocol)
    for name, protocol in itertools.product(study.headline, PROTOCOLS):
        network = networks.get(name, study.autoencoder.classifier)
        write_seed_means(study, network.approach, name, protocol)


def _train(network: Network, pictures: scoring.Pictures, model=None) -> None:
    """Trains and scores a network; `model` where `models.build` does not build it."""
    if model is None:
        keras.utils.set_random_seed(pictures.study.seed)
        model = models.build(network, pictures.pixels.shape[1])
    model, _ = scoring.fit(model, network, pictures)
    scoring.score(model, network, pictures)
    keras.backend.clear_session()  # or dozens of networks fill the memory


def _train_classifier(study: Study, records: pd.DataFrame, seed: int, protocol: str) -> None:
    """Trains the autoencoder and the classifier on its embeddings with another seed."""
    config, boxes = study.autoencoder, faces.face_boxes(study, records, protocol)
    pictures = scoring.prepare(study, records, protocol, "autoencoder", boxes).retrained(seed=seed)
    learnt = autoencoder.prepare_faces(study, records, faces.face_boxes(study, records, "report"))
    name = f"Autoencoder{pictures.variant}"
    trained, _ = autoencoder.fit_autoencoder(pictures.study, learnt, config, name)
    keras.utils.set_random_seed(seed)
    head = models.build_embedding_classifier(config.latent, config.head)
    _train(config.classifier, pictures, models.join(trained.get_layer("encoder"), head))


def main() -> None:
    """Trains and scores what is not done yet, for the study named in `STUDY`."""
    study = setup(os.environ.get("STUDY", "demo"))
    records = catalog.load(study)
    print("Several seeds of", ", ".join(study.headline), flush=True)
    several_seeds(study, records)
    print("Every generator in turn, and all but one", flush=True)
    generator_matrix(study, records)
    print("Done. Notebook 06 shows it.")


if __name__ == "__main__":
    main()
