"""Every network of the study `full` takes training steps, as large and with as many pictures a step
as the report's.

    python benchmarks/full_size.py [network ...]

Each runs in a process of its own, one after the other. A step is a gradient step of
`Model.train_on_batch`; with a frozen backbone, the features of one batch and a step of the head.
The first step traces the network, too. Weights start from random values, since a step takes as long
from ImageNet's. Pictures are eight simulated portraits, repeated. Peak memory is that of the
process, TensorFlow included. Needs 11 GB; about eight minutes on two CPU cores.
"""

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np

from simulator.cameras import clean
from simulator.people import draw_identity, draw_scene, face_box, generator_for
from simulator.portraits import render
from src.config import get_study
from src.detectors import models, training
from src.detectors.autoencoder import build_autoencoder, build_embedding_classifier
from src.pictures.steps import apply

NUM_PORTRAITS, NUM_LATER = 8, 2
STUDY = get_study("full")
NETWORKS = {
    network.name: replace(network, weights=None) for network in (*STUDY.direct, STUDY.fourier)
}
NAMES = (*NETWORKS, "Autoencoder", "Autoencoder_classifier")


def draw(steps: tuple[str, ...], num_pictures: int) -> np.ndarray:
    """Simulated portraits after some steps, repeated: `(num_pictures, S, S, channels)` `uint8`."""
    pictures = []
    for index in range(NUM_PORTRAITS):
        random = generator_for(0, "full size", index)
        identity = draw_identity(random, ("female", "male")[index % 2], 25 + 5 * index)
        scene = draw_scene(random, identity, STUDY.square_size, STUDY.square_size)
        light = render(scene, (STUDY.square_size, STUDY.square_size))
        pictures.append(apply(clean(light), steps, face_box(scene)))
    pictures = np.stack(pictures)
    pictures = pictures[..., None] if pictures.ndim == 3 else pictures
    return np.resize(pictures, (num_pictures, *pictures.shape[1:]))


def build(name: str) -> tuple[keras.Model, training.Settings, int, tuple[str, ...]]:
    """A network, how it is trained, its batch size, and the steps that its pictures go through."""
    config, side = STUDY.autoencoder, STUDY.image_size
    face_steps = ("crop", f"resize:{STUDY.face_size}")
    if name == "Autoencoder":
        settings = training.Settings(config.learning_rate, config.epochs, STUDY.seed, loss="mse")
        return (
            build_autoencoder(config, STUDY.face_size),
            settings,
            config.batch_size,
            face_steps,
        )
    if name == "Autoencoder_classifier":
        network, steps = config.classifier, face_steps
        encoder = build_autoencoder(config, STUDY.face_size).get_layer("encoder")
        model = models.join(encoder, build_embedding_classifier(config.latent, config.head))
    else:
        network, is_fourier = NETWORKS[name], name == STUDY.fourier.name
        steps = ("spectrum", f"resize:{side}") if is_fourier else ("jpeg:75", f"resize:{side}")
        model = models.build(network, side)
    settings = training.Settings(network.learning_rate, network.epochs, STUDY.seed)
    return model, settings, network.batch_size, steps


def measure(name: str) -> dict:
    """Builds a network and takes its steps."""
    start = time.perf_counter()
    keras.utils.set_random_seed(STUDY.seed)
    model, settings, batch_size, steps = build(name)
    row = {"network": name, "build": time.perf_counter() - start}
    inputs = draw(steps, batch_size)
    frozen = name == "Autoencoder_classifier" or name in NETWORKS and NETWORKS[name].frozen
    extractor, trained = models.parts(model) if frozen else (None, model)
    training._compile(trained, settings, num_steps=1 + NUM_LATER)
    targets = (
        np.float32(np.arange(batch_size) % 2)[:, None]
        if settings.loss != "mse"
        else inputs / np.float32(255)
    )
    seconds, losses = [], []
    for _ in range(1 + NUM_LATER):
        start = time.perf_counter()
        features = extractor.predict_on_batch(inputs) if frozen else inputs
        losses.append(float(trained.train_on_batch(features, targets, return_dict=True)["loss"]))
        seconds.append(time.perf_counter() - start)
    if not np.isfinite(losses).all():
        raise FloatingPointError(f"{name}: losses {losses}")
    row |= {
        "first": seconds[0],
        "later": min(seconds[1:]),
        "batch": batch_size,
        "input": list(inputs.shape[1:]),
    }
    row |= {"parameters": model.count_params(), "loss": losses[-1]}
    row["trainable"] = sum(int(np.prod(weight.shape)) for weight in trained.trainable_weights)
    return row | {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(sys.argv[2])))
        return
    print(
        f"{os.cpu_count()} cores, Keras {keras.__version__} on {keras.backend.backend()}, "
        f"{training.device()}"
    )
    print(
        "network                 input        batch  build s  first s  later s  pictures/s  peak "
        "GB  parameters"
    )
    for name in sys.argv[1:] or NAMES:
        command = [sys.executable, __file__, "--measure", name]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        if child.returncode:
            reason = (child.stderr.strip().splitlines() or ["nothing said"])[-1]
            print(f"{name:23}  FAILED with status {child.returncode}: {reason}", flush=True)
            continue
        row = json.loads(child.stdout.splitlines()[-1])
        rate = row["batch"] / row["later"]
        seconds = "  ".join(f"{row[name]:7.1f}" for name in ("build", "first", "later"))
        cells = f"{seconds}  {rate:10.1f}"
        sizes = f"{row['peak']:7.1f}  {row['parameters']:10,}, {row['trainable']:,} trained"
        print(
            f"{name:22}  {'x'.join(map(str, row['input'])):11}  {row['batch']:5}  {cells}  {sizes}",
            flush=True,
        )


if __name__ == "__main__":
    main()
