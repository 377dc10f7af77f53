"""The named studies, and how a wrong choice is answered."""

import dataclasses
from operator import attrgetter

from src import config


def test_full_is_the_report_to_the_letter():
    study = config.get_study("full")
    fields = attrgetter("name", "frozen", "head", "learning_rate", "batch_size", "epochs")
    assert list(map(fields, study.direct)) == [
        ("VGG16_V1", True, 256, 1e-3, 128, 10),
        ("VGG16_V2", True, 2048, 1e-3, 128, 10),
        ("VGG16_V3", False, None, 1e-4, 64, 5),
        ("DenseNet_V1", False, None, 1e-4, 64, 25),
        ("DenseNet_V2", False, None, 1e-4, 64, 3),
    ]
    starts = {(network.weights, network.scaling) for network in (*study.direct, study.fourier)}
    assert starts == {("imagenet", "unit")}
    assert {network.view for network in study.direct} == {"resize"}
    assert (study.image_size, study.face_size) == (224, 64)
    assert study.autoencoder.filters == (256, 128, 64) and study.autoencoder.latent == 2048
    assert study.autoencoder.learning_rate == 1e-2 and study.autoencoder.head == (1024, 64)
    assert list(study.test_sets) == ["inpainting", "text2img", "insight", "gan140k"]


def test_the_rehearsal_is_full_but_for_data_weights_and_epochs():
    full, rehearsal = config.get_study("full"), config.get_study("rehearsal")
    fields = "train_set test_sets image_size square_size face_size paired_batches".split()
    assert attrgetter(*fields)(full) == attrgetter(*fields)(rehearsal)
    networks = (*full.direct, full.fourier)
    rehearsed = [dataclasses.replace(network, weights=None, epochs=1) for network in networks]
    assert [*rehearsal.direct, rehearsal.fourier] == rehearsed
