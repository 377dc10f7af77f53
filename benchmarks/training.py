"""What training costs beside plain Keras, and what a frozen backbone saves: python
benchmarks/training.py [plain|frozen]

plain: epochs of `Model.fit` on arrays in memory take turns with epochs as `training.train` runs
them, on pictures from a memory-mapped store, validation left out. Two models of the same initial
weights, compiled alike; the first epoch of each, which compiles, is left out. The ratio is that of
the medians. Page faults are in thousands; those of `train` count a validation of one batch too.

frozen: the study's frozen detectors at full size, each trained twice by `training.train`: the whole
network, whose backbone is then run anew in every epoch, and its head alone, on features computed
once. Seconds are those of an epoch with its validation, the first epoch, which compiles, left out;
the fastest counts. A picture costs the autoencoder's small encoder 96 million multiplications, and
the larger of its heads 6.5 million in a training step: by that count the gain is 18 at most.

Pictures are noise: times do not depend on what they show.
"""

import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np

from src.config import Network, get_study
from src.detectors import models, training
from src.detectors.autoencoder import build_autoencoder, build_embedding_classifier
from src.pictures.batches import Batches

NUM_PICTURES, NUM_TURNS, SIDE = 192, 4, 128
NAMES = "VGG16_V3", "DenseNet_V2", "EfficientNet_Lite0"


def draw(folder: Path, num_pictures: int, side: int) -> np.ndarray:
    """A store of noise, mapped from the disk."""
    file = folder / f"{side}-{num_pictures}.npy"
    np.save(
        file,
        np.random.default_rng(0).integers(0, 256, (num_pictures, side, side, 3), dtype="uint8"),
    )
    return np.load(file, mmap_mode="r")


def plain(folder: Path) -> None:
    networks = {network.name: network for network in get_study("demo").direct}
    networks |= {"EfficientNet_Lite0": get_study("sample").direct[-1]}
    store, labels = draw(folder, NUM_PICTURES, SIDE), np.arange(NUM_PICTURES) % 2
    pixels, targets = np.array(store), labels.astype("float32")[:, None]
    print(f"Images/s, {SIDE} px, {NUM_PICTURES} pictures, {NUM_TURNS} turns: min/median/max")
    print("network             batch  plain fit          train              ratio  faults")
    for name in NAMES:
        for batch_size in (16, 32):
            built = []
            for _ in range(2):
                keras.utils.set_random_seed(0)
                built.append(models.build(networks[name], SIDE))
                training._compile(built[-1], training.Settings(1e-3, 1, 0), num_steps=1)
            train = Batches(store, labels, batch_size=batch_size)
            valid = Batches(store, labels, np.arange(batch_size), batch_size=batch_size)
            speeds, faults = ([], []), [0, 0]
            for turn in range(NUM_TURNS + 1):
                for kind in (turn % 2, 1 - turn % 2):
                    before = getrusage(RUSAGE_SELF).ru_minflt
                    if kind == 0:
                        start = time.perf_counter()
                        built[0].fit(pixels, targets, batch_size=batch_size, verbose=0)
                        speed = NUM_PICTURES / (time.perf_counter() - start)
                    else:
                        row = training._train_epoch(built[1], train, valid, turn)
                        speed = row["images_per_second"]
                    if turn:
                        speeds[kind].append(speed)
                        faults[kind] += getrusage(RUSAGE_SELF).ru_minflt - before
            shown = "  ".join("{:5.1f}/{:5.1f}/{:5.1f}".format(*_span(kind)) for kind in speeds)
            ratio = np.median(speeds[1]) / np.median(speeds[0])
            counts = "/".join(f"{count / 1000:.0f}" for count in faults)
            print(f"{name:18}  {batch_size:5}  {shown}  {ratio:5.2f}  {counts}", flush=True)


def _span(values: list[float]) -> tuple[float, float, float]:
    return min(values), np.median(values), max(values)


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
    extractor, head = models.parts(model)
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
    parts = {"plain": plain, "frozen": frozen}
    print(
        f"{os.cpu_count()} cores, Keras {keras.__version__} on {keras.backend.backend()}, "
        f"{training.device()}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or parts:
            parts[name](Path(folder))


if __name__ == "__main__":
    main()
