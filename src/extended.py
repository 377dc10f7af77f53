"""What takes longer than a first run: several seeds, and the generator matrix. `python -m src.extended`.

After the notebooks 01 to 05; notebook 06 then shows what it finds. Models, scores and rows of `results.csv` are written
as the notebooks write them; what is done is read back, and an interrupted run goes on where it was.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace

import keras
import pandas as pd

from . import catalog, crops, models, pipeline, setup, training
from .config import PROTOCOLS, Network, Study


def train_sets(generators: Sequence[str]) -> list[str]:
    """What the matrix trains on: every generator alone, then all but one.

    Example:

    >>> train_sets(["a", "b", "c"])
    ['a', 'b', 'c', 'b+c', 'a+c', 'a+b']
    """
    return [*generators, *("+".join(name for name in generators if name != left_out) for left_out in generators)]


def generator_matrix(study: Study, records: pd.DataFrame) -> None:
    """Trains `study.matrix` on every entry of `train_sets`, under `controlled`, and tests on all generators.

    Whoever sees three generators has three times the pictures and gets a third of the epochs: as many steps.
    """
    every = catalog.every_generator(study, records)
    last = {"direct": (f"resize:{study.image_size}",), "fourier": ("spectrum", f"resize:{study.image_size}")}
    for (approach, steps), network in zip(last.items(), study.matrix):
        pictures = pipeline.prepare(every, records, "controlled", steps)
        build = models.build_direct if approach == "direct" else models.build_fourier
        for train_set in train_sets(every.train_sets):
            as_many_steps = replace(network, epochs=max(1, round(network.epochs / len(train_set.split("+")))))
            _train(approach, as_many_steps, pictures.retrained(train_set=train_set), build)


def several_seeds(study: Study, records: pd.DataFrame) -> None:
    """Trains the headline detectors anew with each of `study.extra_seeds`, under both protocols."""
    networks = {network.name: network for network in study.direct}
    for name in study.headline:
        for seed in (seed for seed in study.extra_seeds if seed != study.seed):
            for protocol in PROTOCOLS:
                if name in networks:
                    steps, approach, build = (), "direct", models.build_direct
                elif name == study.fourier.name:
                    steps, approach, build = ("spectrum",), "fourier", models.build_fourier
                else:
                    _train_classifier(study, records, seed, protocol)
                    continue
                steps = (*steps, f"resize:{study.image_size}")
                pictures = pipeline.prepare(study, records, protocol, steps).retrained(seed=seed)
                _train(approach, networks.get(name, study.fourier), pictures, build)


def _train(approach: str, network: Network, pictures: pipeline.Pictures, build) -> None:
    """Trains and scores one network."""
    training.seed(pictures.study.seed)
    model = build(network, pictures.pixels.shape[1])
    model, _ = pipeline.fit(model, network, pictures, network.name)
    starts_from = pipeline.starts_from(network)
    pipeline.score(model, pictures, approach=approach, name=network.name, starts_from=starts_from)
    keras.backend.clear_session()  # or dozens of networks fill the memory


def _train_classifier(study: Study, records: pd.DataFrame, seed: int, protocol: str) -> None:
    """The autoencoder and the classifier on its embeddings, both with another seed."""
    config, boxes = study.autoencoder, crops.face_boxes(study, records, protocol)
    steps = ("crop", f"resize:{study.face_size}")
    pictures = pipeline.prepare(study, records, protocol, steps, boxes).retrained(seed=seed)
    learnt = crops.prepare_faces(study, records, crops.face_boxes(study, records, "report"))
    autoencoder, _ = crops.fit_autoencoder(pictures.study, learnt, config, f"Autoencoder{pictures.variant}")
    training.seed(seed)
    model = models.join(autoencoder.get_layer("encoder"), models.build_embedding_classifier(config.latent, config.head))
    name, starts_from = "Autoencoder_classifier", f"its own training on {config.train_dataset}"
    model, _ = pipeline.fit(model, pipeline.as_network(config), pictures, name)
    pipeline.score(model, pictures, approach="autoencoder", name=name, starts_from=starts_from)


def main() -> None:
    study = setup(os.environ.get("STUDY", "demo"))
    records = catalog.load(study)
    print("Several seeds of", ", ".join(study.headline), flush=True)
    several_seeds(study, records)
    print("Every generator in turn, and all but one", flush=True)
    generator_matrix(study, records)
    print("Done. Notebook 06 shows it.")


if __name__ == "__main__":
    sys.exit(main())
