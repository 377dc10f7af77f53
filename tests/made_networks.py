"""Small networks, pictures for them and boxes of faces."""

from dataclasses import replace

import cv2
import keras
import numpy as np
import pandas as pd

from src.config import Network
from src.detectors.training import Settings
from src.pictures.batches import Batches

NETWORK = Network("X", "vgg16", False, None, 1e-4, 8, 1, weights=None)
VGG = replace(NETWORK, widths=(4, 4, 4, 4, 4))
DENSENET = replace(NETWORK, backbone="densenet", blocks=(1, 1, 1, 1))
LITE = replace(NETWORK, backbone="efficientnet_lite0")
SETTINGS = Settings(
    learning_rate=0.02, epochs=3, seed=3, config={"name": "tiny"}, data="abc", decay=True
)


def pictures(num_images=4, size=(32, 32), channels=3):
    """Blurred noise, `(N, *size, channels)` `uint8`."""
    shape = (num_images, *size, channels)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype="uint8")
    return np.reshape([cv2.GaussianBlur(image, (5, 5), 1) for image in noise], shape)


def same_boxes(paths, low, high):
    """The same face box on every picture, squashed or cut to a square."""
    boxes = pd.DataFrame({"path": [*paths], "left": low, "top": low, "right": high, "bottom": high})
    views = [boxes.assign(squashed=True), boxes.assign(squashed=False)]
    return pd.concat(views, ignore_index=True)


def bright_detector():
    """A detector for `predict.judge`: its score rises with the mean of the pixels."""
    image = keras.Input((8, 8, 3), dtype="uint8")
    features = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    return _detector(image, features, 12 / 192, -6.0, "squash:8")


def sharp_detector():
    """The same with a score that falls with differences of neighbours, so that blur looks fake."""
    image = keras.Input((64, 64, 3), dtype="uint8")
    pixels = keras.ops.cast(image, "float32")
    features = keras.ops.mean(keras.ops.abs(pixels[:, 1:] - pixels[:, :-1]), axis=(1, 2))
    return _detector(image, features, -0.2, 2.0, "squash:64")


def _detector(image, features, weight: float, bias: float, step: str):
    # Not at the top: what predicts is not installed where networks are tested on JAX.
    from src import predict
    from src.detectors.autoencoder import build_embedding_classifier
    from src.detectors.reference import Reference

    size, side = features.shape[-1], image.shape[1]
    head = build_embedding_classifier(size, ())
    head.set_weights([np.full((size, 1), weight), np.array([bias])])
    model = keras.Model(image, head(keras.Model(image, features)(image)))
    zeros, ones = np.zeros(size), np.ones(size)
    spectra = np.zeros((2, side, side))
    known = Reference("", spectra, zeros, ones, zeros[None], np.ones(2), np.inf, 0, 0)
    card = {"slope": 1.0, "intercept": 0.0}
    return predict.Detector(model, (step,), card, 0.5, (0.3, 0.7), known, "About.")


def pixels_and_labels(num_images=22):
    """Pictures whose fakes are brighter, and labels."""
    labels = np.arange(num_images) % 2
    noise = np.random.default_rng(0).integers(0, 200, (num_images, 8, 8, 3))
    return (noise + 40 * labels[:, None, None, None]).astype("uint8"), labels


def batches_of(pixels, labels):
    """Batches for training and for validation."""
    options = {"batch_size": 8, "seed": 3}
    return [Batches(pixels, labels, shuffle=shuffle, **options) for shuffle in (True, False)]


def small_model():
    """With batch normalisation, which has a state besides its weights."""
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu")(x)
    x = keras.layers.Flatten()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Dense(1, activation="sigmoid", dtype="float32")(x)
    return keras.Model(image, x, name="small")
