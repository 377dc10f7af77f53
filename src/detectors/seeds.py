"""More seeds of a detector: what one training reaches may be its luck."""

import keras
import pandas as pd

from ..config import PROTOCOLS, Network, Study
from ..data import faces
from ..evaluation.results import write_seed_means
from . import autoencoder, models, scoring


def train_seeds(study: Study, records: pd.DataFrame, network: Network) -> pd.DataFrame:
    """Trains a detector with each of `study.extra_seeds`, under both protocols.

    Splits stay; what differs is the initial weights and the order of the pictures, for the
    classifier on embeddings those of the autoencoder, too. Returns the rows of the means over all
    seeds (`results.write_seed_means`).
    """
    means, approach, boxes = [], network.approach, None
    for protocol in PROTOCOLS:
        if approach == "autoencoder":
            boxes = faces.face_boxes(study, records, protocol)
        pictures = scoring.prepare(study, records, protocol, approach, boxes, view=network.view)
        for seed in study.extra_seeds:
            train(network, pictures.retrained(seed=seed), records)
        means.append(write_seed_means(study, approach, network.name, protocol))
    return pd.concat(means)


def train(network: Network, pictures: scoring.Pictures, records: pd.DataFrame) -> None:
    """Builds, trains and scores a detector."""
    study, config = pictures.study, pictures.study.autoencoder
    if network.approach == "autoencoder":
        learnt = autoencoder.prepare_faces(study, records, pictures.protocol)
        name = pictures.model_id("Autoencoder")
        trained, _ = autoencoder.fit_autoencoder(study, learnt, config, name)
        keras.utils.set_random_seed(study.seed)
        head = models.build_embedding_classifier(config.latent, config.head)
        model = models.join(trained.get_layer("encoder"), head)
    else:
        keras.utils.set_random_seed(study.seed)
        model = models.build(network, pictures.pixels.shape[1])
    model, _ = scoring.fit(model, network, pictures)
    scoring.score(model, network, pictures)
    keras.backend.clear_session()  # or dozens of networks fill the memory
