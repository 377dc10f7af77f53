"""What a training step waits for, and what a frozen backbone costs: python benchmarks/training.py
[waiting|frozen]

waiting: epochs over pictures from a memory-mapped store take turns with epochs of the same steps on
one batch that lies ready in memory. Both go through `Model.fit`, so their difference is what
fetching pictures costs; the share is 1 - ready / store, of the fastest epochs. On a busy machine
that difference is mostly noise. Hence also the time inside `Batches.__getitem__`, as a share of the
same epochs: were nothing fetched ahead, a step would wait just so long.

frozen: the study's frozen detectors at full size, each trained twice by `training.train`: the whole
network, whose backbone is then run anew in every epoch, and its head alone, on features computed
once. Seconds are those of an epoch with its validation, the first epoch, which compiles, left out;
the fastest counts. A picture costs the autoencoder's small encoder 96 million multiplications, and
the larger of its heads 6.5 million in a training step: by that count the gain is 18 at most.

Pictures are noise: times do not depend on what they show. About five minutes on two CPU cores.
"""

import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np

from src.config import Network, get_study
from src.detectors import models, training
from src.detectors.autoencoder import build_autoencoder, build_embedding_classifier
from src.pictures.batches import Batches

NUM_PICTURES, NUM_TURNS = 448, 8


class Timed(Batches):
    """Batches that add up the time they take to make."""

    seconds = 0.0

    def __getitem__(self, index: int):
        start = time.perf_counter()
        batch = super().__getitem__(index)
        self.seconds += time.perf_counter() - start
        return batch


class Ready(keras.utils.PyDataset):
    """One batch again and again, fed to the network in the way of the given ones."""

    def __init__(self, batches: Batches):
        super().__init__(workers=batches.workers, max_queue_size=batches.max_queue_size)
        self.batch, self.length = batches[0], len(batches)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int):
        return self.batch


def draw(folder: Path, num_pictures: int, side: int) -> np.ndarray:
    """A store of noise, mapped from the disk."""
    file = folder / f"{side}-{num_pictures}.npy"
    np.save(
        file,
        np.random.default_rng(0).integers(0, 256, (num_pictures, side, side, 3), dtype="uint8"),
    )
    return np.load(file, mmap_mode="r")


def waiting(folder: Path) -> None:
    study = get_study("demo")
    pixels = draw(folder, NUM_PICTURES, study.image_size)
    print(
        f"Waiting for data, {study.image_size} px, {NUM_PICTURES} pictures, the best of "
        f"{NUM_TURNS} turns"
    )
    print("network      batch  ms/step (store)  ms/step (ready)  share  share of __getitem__")
    for name in ("VGG16_V3", "DenseNet_V2"):
        network = next(network for network in study.direct if network.name == name)
        for batch_size in (16, 64):
            keras.utils.set_random_seed(0)
            model = models.build(network, study.image_size)
            training._compile(model, training.Settings(network.learning_rate, 1, 0), num_steps=1)
            store = Timed(pixels, np.arange(NUM_PICTURES) % 2, batch_size=batch_size)
            kinds, taken = {"store": store, "ready": Ready(store)}, {"store": [], "ready": []}
            model.fit(kinds["ready"], shuffle=False, verbose=0)  # compiles
            store.seconds = 0.0
            for turn in range(NUM_TURNS):
                for kind in sorted(kinds, reverse=bool(turn % 2)):
                    start = time.perf_counter()
                    model.fit(kinds[kind], shuffle=False, verbose=0)
                    taken[kind].append(time.perf_counter() - start)
            real, fixed = (1000 * min(taken[kind]) / len(store) for kind in ("store", "ready"))
            inside = store.seconds / sum(taken["store"])
            print(
                f"{name:12} {batch_size:5}  {real:15.1f}  {fixed:15.1f}  {1 - fixed / real:5.1%} "
                f" {inside:20.2%}"
            )


def frozen(folder: Path) -> None:
    study = get_study("full")
    vgg16 = replace(
        next(network for network in study.direct if network.name == "VGG16_V1"), weights=None
    )
    compare(folder, vgg16, models.build(vgg16, 96), num_train=800)
    encoder = build_autoencoder(study.autoencoder, study.face_size).get_layer("encoder")
    network = study.autoencoder.classifier
    for hidden in (
        (),
        study.autoencoder.head,
    ):  # the one unit of the study's report, the three layers of its notebook
        head = build_embedding_classifier(study.autoencoder.latent, hidden)
        compare(
            folder,
            replace(network, name=f"Autoencoder_{len(hidden) + 1}"),
            models.join(encoder, head),
            4000,
        )


def compare(folder: Path, network: Network, model: keras.Model, num_train: int) -> None:
    """Trains a frozen detector in both ways, from the same weights."""
    side = model.input.shape[1]
    pixels = draw(folder, num_train * 5 // 4, side)
    labels, rows = np.arange(len(pixels)) % 2, np.split(np.arange(len(pixels)), [num_train])

    def fit(
        name: str, part: keras.Model, inputs: np.ndarray, whole: keras.Model
    ) -> tuple[float, np.ndarray]:
        made = [
            Batches(inputs, labels, some, batch_size=network.batch_size, shuffle=False)
            for some in rows
        ]
        settings = training.Settings(network.learning_rate, epochs=3, seed=0, config=network)
        history = training.train(part, *made, folder / f"{network.name}-{name}", settings, whole)[1]
        scores = whole.predict(
            Batches(pixels, rows=rows[1], batch_size=64, shuffle=False), verbose=0
        )
        return history["seconds"][1:].min(), scores

    initial = model.get_weights()
    slow, expected = fit("anew", model, pixels, model)
    model.set_weights(initial)
    extractor, head = models.split_frozen(model)
    start = time.perf_counter()
    features = training.cached_features(extractor, pixels, folder, network.name)
    once = time.perf_counter() - start
    fast, scores = fit("once", head, features, model)
    difference, span = np.abs(scores - expected).max(), np.ptp(expected)
    print(
        f"{network.name}, {side} px, {num_train} + {len(rows[1])} pictures, batches of "
        f"{network.batch_size}"
    )
    print(
        f"  {slow:6.2f} s an epoch with the backbone, {fast:.2f} s on its features: "
        f"{slow / fast:.1f} times as fast"
    )
    print(
        f"  {once:6.2f} s once for the features; predictions span {span:.2f}, differ by "
        f"{difference:.0e} at most"
    )


def main() -> None:
    parts = {"waiting": waiting, "frozen": frozen}
    print(
        f"{os.cpu_count()} cores, Keras {keras.__version__} on {keras.backend.backend()}, "
        f"{training.device()}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or parts:
            parts[name](Path(folder))


if __name__ == "__main__":
    main()
