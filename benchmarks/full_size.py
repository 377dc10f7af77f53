"""Every network of the study `full` takes training steps, at its own size and batch size.

    python -m benchmarks.full_size [network ...]

Each runs in a process of its own, one after the other. A step is a gradient step of
`Model.train_on_batch`; with a frozen backbone, the features of one batch and a step of the head.
The first step traces the network, too. Weights start from random values, since a step takes as long
from ImageNet's. Pictures are eight simulated portraits, repeated. Peak memory is that of the
process, TensorFlow included. Needs 11 GB; about eight minutes on two CPU cores.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import keras
import numpy as np

from benchmarks import peak, timed
from simulator.cameras import clean
from simulator.people import draw_identity, draw_scene, face_box, generator_for
from simulator.portraits import render
from src.config import get_study
from src.detectors import models, training
from src.detectors.autoencoder import build_autoencoder, build_embedding_classifier
from src.pictures.steps import apply

NUM_PORTRAITS, NUM_LATER = 8, 2
STUDY = get_study("full")
AUTOENCODER, CLASSIFIER = STUDY.autoencoder, STUDY.autoencoder.classifier
FACE_STEPS = ("crop", f"resize:{STUDY.face_size}")
NETWORKS = {network.name: network for network in (*STUDY.direct, STUDY.fourier)}


def draw(steps: tuple[str, ...], num_pictures: int) -> np.ndarray:
    """Simulated portraits after some steps, repeated: `(num_pictures, S, S, channels)` `uint8`."""
    pictures, size = [], (STUDY.square_size, STUDY.square_size)
    for index in range(NUM_PORTRAITS):
        random = generator_for(0, "full size", index)
        identity = draw_identity(random, ("female", "male")[index % 2], 25 + 5 * index)
        scene = draw_scene(random, identity, *size)
        picture = apply(clean(render(scene, size)), steps, face_box(scene))
        pictures.append(picture.reshape(*picture.shape[:2], -1))
    return np.resize(pictures, (num_pictures, *pictures[0].shape))


def build(name: str) -> tuple[keras.Model, training.Settings, int, tuple[str, ...]]:
    """A network, how it is trained, its batch size, and the steps that its pictures go through."""
    if name == "Autoencoder":
        size = (AUTOENCODER.learning_rate, AUTOENCODER.epochs, STUDY.seed)
        settings = training.Settings(*size, loss="mse")
        model = build_autoencoder(AUTOENCODER, STUDY.face_size)
        return model, settings, AUTOENCODER.batch_size, FACE_STEPS
    if name == CLASSIFIER.name:
        network, steps = CLASSIFIER, FACE_STEPS
        encoder = build_autoencoder(AUTOENCODER, STUDY.face_size).get_layer("encoder")
        head = build_embedding_classifier(AUTOENCODER.latent, AUTOENCODER.head)
        model = models.join(encoder, head)
    else:
        network = replace(NETWORKS[name], weights=None)
        first = "spectrum" if network.approach == "fourier" else "jpeg:75"
        steps = (first, f"resize:{STUDY.image_size}")
        model = models.build(network, STUDY.image_size)
    settings = training.Settings(network.learning_rate, network.epochs, STUDY.seed)
    return model, settings, network.batch_size, steps


def measure(name: str) -> str:
    """Builds a network and takes its steps; returns the row of the table."""
    keras.utils.set_random_seed(STUDY.seed)
    (model, settings, batch_size, steps), building, _ = timed(build, name)
    inputs = draw(steps, batch_size)
    is_frozen = name == CLASSIFIER.name or name in NETWORKS and NETWORKS[name].frozen
    extractor, trained = models.parts(model) if is_frozen else (None, model)
    training._compile(trained, settings, num_steps=1 + NUM_LATER)
    targets = np.float32(np.arange(batch_size) % 2)[:, None]
    if settings.loss == "mse":
        targets = inputs / np.float32(255)

    def step() -> float:
        features = extractor.predict_on_batch(inputs) if is_frozen else inputs
        return float(trained.train_on_batch(features, targets, return_dict=True)["loss"])

    losses, (first, *later), _ = zip(*(timed(step) for _ in range(1 + NUM_LATER)))
    if not np.isfinite(losses).all():
        raise FloatingPointError(f"{name}: losses {losses}")
    num_trained = sum(int(np.prod(weight.shape)) for weight in trained.trainable_weights)
    shape = "x".join(map(str, inputs.shape[1:]))
    seconds = f"{building:7.1f}  {first:7.1f}  {min(later):7.1f}  {batch_size / min(later):10.1f}"
    sizes = f"{peak():7.1f}  {model.count_params():10,}, {num_trained:,} trained"
    return f"{name:22}  {shape:11}  {batch_size:5}  {seconds}  {sizes}"


def main() -> None:
    print(f"Keras {keras.__version__} on {keras.backend.backend()}, {training.device()}")
    print("network                 input        batch  build s  first s  later s  ", end="")
    print("pictures/s  peak GB  parameters")
    for name in sys.argv[1:] or (*NETWORKS, "Autoencoder", CLASSIFIER.name):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            row = process.submit(measure, name)
            failed = row.exception() and f"{name:22}  FAILED: {row.exception()!r}"
            print(failed or row.result(), flush=True)


if __name__ == "__main__":
    main()
