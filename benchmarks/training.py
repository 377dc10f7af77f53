"""What training costs beside plain Keras, and what a frozen backbone saves.

Networks of the demo: an epoch as `training.train` runs it, from a memory-mapped store, beside an
epoch of `Model.fit` on arrays in memory, from the same initial weights, compiled alike, validation
left out; alone, and with a second process beside it. The classifier on the frozen encoder, at full
size: an epoch of its head on features computed once, beside an epoch of the complete network, and
beside `fit` of the head on arrays in memory, which is its bound. Pictures are noise: times do not
depend on what they show.
"""

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import keras
import numpy as np

from benchmarks import is_quick, race, second_process
from src.config import Study, get_study
from src.detectors import models, training
from src.detectors.autoencoder import build_autoencoder, build_embedding_classifier
from src.pictures.batches import Batches

NAMES = "VGG16_V3", "DenseNet_V2", "EfficientNet_Lite0", "Fourier_DenseNet"
BATCH_SIZE = 16


def draw(folder: Path, num_pictures: int, side: int, num_channels: int = 3) -> np.ndarray:
    """A store of noise, mapped from the disk."""
    shape = num_pictures, side, side, num_channels
    file = folder / f"{'-'.join(map(str, shape))}.npy"
    np.save(file, np.random.default_rng(0).integers(0, 256, shape, dtype="uint8"))
    return np.load(file, mmap_mode="r")


def compiled(model: keras.Model) -> keras.Model:
    training._compile(model, training.Settings(1e-3, 1, 0), num_steps=1)
    return model


def labels_of(pixels: np.ndarray) -> np.ndarray:
    return np.arange(len(pixels)) % 2


def ours(model: keras.Model, inputs: np.ndarray, batch_size: int) -> float:
    """An epoch as `training.train` runs it, with one picture to validate."""
    train = Batches(inputs, labels_of(inputs), batch_size=batch_size)
    valid = Batches(inputs, labels_of(inputs), np.arange(1), batch_size=batch_size)
    training._train_epoch(model, train, valid, 0)
    return len(inputs)


def plain(model: keras.Model, inputs: np.ndarray, batch_size: int) -> int:
    """The same epoch, of plain Keras."""
    targets = labels_of(inputs).astype("float32")[:, None]
    valid = (inputs[:1], targets[:1])
    model.fit(inputs, targets, batch_size=batch_size, validation_data=valid, verbose=0)
    return len(inputs)


def network_loops(folder: Path, names: Sequence[str], num_pictures: int, side: int) -> None:
    study = get_study("demo")
    networks = {network.name: network for network in (*study.direct, study.fourier)}
    for name in names:
        keras.utils.set_random_seed(0)
        one, other = (compiled(models.build(networks[name], side)) for _ in range(2))
        store = draw(folder, num_pictures, side, one.input.shape[-1])
        memory = np.array(store)
        ways = {"ours": partial(ours, one, store, BATCH_SIZE)}
        ways["plain Keras fit"] = partial(plain, other, memory, BATCH_SIZE)
        for way in ways.values():
            way()  # compiles
        for title, load in (("", nullcontext), (", a busy machine", second_process)):
            with load():
                race(f"training {name}{title}", "images", ways, {"plain Keras fit": 0.9})


def frozen(folder: Path, study: Study, num_features: int, num_whole: int) -> None:
    config, size = study.autoencoder, study.autoencoder.classifier.batch_size
    encoder = build_autoencoder(config, study.face_size).get_layer("encoder")
    pixels = draw(folder, num_whole, study.face_size)
    features = np.random.default_rng(0).random((num_features, config.latent), np.float32)
    for title, hidden, goals in (
        ("the report's unit", (), {"the complete network": 20}),
        ("the notebook's layers", config.head, {"fit on arrays, its bound": 0.85}),
    ):
        heads = [build_embedding_classifier(config.latent, hidden) for _ in range(3)]
        whole, one, other = map(compiled, (models.join(encoder, heads[0]), *heads[1:]))
        ways = {
            "ours": partial(ours, one, features, size),
            "the complete network": partial(ours, whole, pixels, size),
            "fit on arrays, its bound": partial(plain, other, features, size),
        }
        for way in ways.values():
            way()  # compiles
        race(f"epoch on frozen features, {title}", "images", ways, goals)


def main() -> None:
    quick = is_quick(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        network_loops(Path(folder), *((NAMES[:1], 32, 32) if quick else (NAMES, 256, 96)))
        sizes = ("tiny", 64, 32) if quick else ("full", 20_000, 256)
        frozen(Path(folder), get_study(sizes[0]), *sizes[1:])


if __name__ == "__main__":
    main()
