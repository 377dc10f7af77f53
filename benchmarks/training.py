"""What training costs beside plain Keras, and what a frozen backbone saves.

    python -m benchmarks.training [plain|frozen]

plain: epochs of `Model.fit` on arrays in memory take turns with epochs as `training.train` runs
them, on pictures from a memory-mapped store, validation left out. Two models of the same initial
weights, compiled alike; the first epoch of each, which compiles, is left out. The ratio is that of
the medians.

frozen: the study's frozen detectors at full size, each trained twice by `training.train`: the whole
network, whose backbone is then run anew in every epoch, and its head alone, on features computed
once. Seconds are those of the fastest epoch with its validation, the first one left out.

Pictures are noise: times do not depend on what they show.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from benchmarks import timed
from src.config import Network, get_study
from src.detectors import models, training
from src.detectors.autoencoder import build_autoencoder, build_embedding_classifier
from src.pictures.batches import Batches

NUM_PICTURES, NUM_TURNS, SIDE = 192, 4, 128
NAMES = "VGG16_V3", "DenseNet_V2", "EfficientNet_Lite0"


def draw(folder: Path, num_pictures: int, side: int) -> np.ndarray:
    """A store of noise, mapped from the disk."""
    file, shape = folder / f"{side}-{num_pictures}.npy", (num_pictures, side, side, 3)
    np.save(file, np.random.default_rng(0).integers(0, 256, shape, dtype="uint8"))
    return np.load(file, mmap_mode="r")


def plain(folder: Path) -> None:
    networks = {network.name: network for network in get_study("demo").direct}
    store, labels = draw(folder, NUM_PICTURES, SIDE), np.arange(NUM_PICTURES) % 2
    pixels, targets = np.array(store), labels.astype("float32")[:, None]
    print(f"Images/s, {SIDE} px, {NUM_PICTURES} pictures, {NUM_TURNS} turns: min/median/max")
    print("network             batch  plain fit          train              ratio")
    for name in NAMES:
        for size in (16, 32):
            built = []
            for _ in range(2):
                keras.utils.set_random_seed(0)
                built.append(models.build(networks[name], SIDE))
                training._compile(built[-1], training.Settings(1e-3, 1, 0), num_steps=1)
            train = Batches(store, labels, batch_size=size)
            valid = Batches(store, labels, np.arange(size), batch_size=size)
            options = {"batch_size": size, "verbose": 0}
            speeds = []
            for turn in range(NUM_TURNS + 1):
                _, seconds, _ = timed(lambda: built[0].fit(pixels, targets, **options))  # noqa: B023
                row = training._train_epoch(built[1], train, valid, turn)
                speeds.append((NUM_PICTURES / seconds, row["images_per_second"]))
            spans = np.quantile(speeds[1:], [0, 0.5, 1], axis=0).T
            shown = "  ".join("{:5.1f}/{:5.1f}/{:5.1f}".format(*span) for span in spans)
            print(f"{name:18}  {size:5}  {shown}  {spans[1, 1] / spans[0, 1]:5.2f}", flush=True)


def frozen(folder: Path) -> None:
    study = get_study("full")
    vgg16 = replace(study.direct[0], weights=None)
    compare(folder, vgg16, models.build(vgg16, 96), num_train=800)
    encoder = build_autoencoder(study.autoencoder, study.face_size).get_layer("encoder")
    # The one unit of the study's report, the three layers of its notebook.
    for hidden in ((), study.autoencoder.head):
        network = replace(study.autoencoder.classifier, name=f"Autoencoder_{len(hidden) + 1}")
        head = build_embedding_classifier(study.autoencoder.latent, hidden)
        compare(folder, network, models.join(encoder, head), num_train=4000)


def compare(folder: Path, network: Network, model: keras.Model, num_train: int) -> None:
    """Trains a frozen detector in both ways, from the same weights."""
    side = model.input.shape[1]
    pixels = draw(folder, num_train * 5 // 4, side)
    labels, rows = np.arange(len(pixels)) % 2, np.split(np.arange(len(pixels)), [num_train])

    def fit(name: str, part: keras.Model, inputs: np.ndarray) -> tuple[float, np.ndarray]:
        options = {"batch_size": network.batch_size, "shuffle": False}
        made = [Batches(inputs, labels, some, **options) for some in rows]
        settings = training.Settings(network.learning_rate, epochs=3, seed=0, config=network)
        history = training.train(part, *made, folder / f"{network.name}-{name}", settings, model)[1]
        scores = model.predict(Batches(pixels, rows=rows[1], shuffle=False), verbose=0)
        return history["seconds"][1:].min(), scores

    initial = model.get_weights()
    slow, expected = fit("anew", model, pixels)
    model.set_weights(initial)
    extractor, head = models.parts(model)
    features, once, _ = timed(training.cached_features, extractor, pixels, folder, network.name)
    fast, scores = fit("once", head, features)
    print(f"{network.name}, {side} px, {num_train} pictures, batches of {network.batch_size}")
    print(f"  {slow:6.2f} s an epoch with the backbone, {fast:.2f} s on its features: ", end="")
    print(f"{slow / fast:.1f} times as fast; {once:.2f} s once for the features")
    print(f"  predictions differ by {np.abs(scores - expected).max():.0e} at most")


def main() -> None:
    parts = {"plain": plain, "frozen": frozen}
    print(f"Keras {keras.__version__} on {keras.backend.backend()}, {training.device()}")
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or parts:
            parts[name](Path(folder))


if __name__ == "__main__":
    main()
