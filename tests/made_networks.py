"""Small networks, pictures for them and boxes of faces."""

from dataclasses import replace

import cv2
import numpy as np
import pandas as pd

from src.config import Network

NETWORK = Network("X", "vgg16", False, None, 1e-4, 8, 1, weights=None)
VGG = replace(NETWORK, widths=(4, 4, 4, 4, 4))
DENSENET = replace(NETWORK, backbone="densenet", blocks=(1, 1, 1, 1))
LITE = replace(NETWORK, backbone="efficientnet_lite0")


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
    import keras

    image = keras.Input((8, 8, 3), dtype="uint8")
    features = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    return _detector(image, features, 12 / 192, -6.0, "squash:8")


def sharp_detector():
    """The same with a score that falls with differences of neighbours, so that blur looks fake."""
    import keras

    image = keras.Input((64, 64, 3), dtype="uint8")
    pixels = keras.ops.cast(image, "float32")
    features = keras.ops.mean(keras.ops.abs(pixels[:, 1:] - pixels[:, :-1]), axis=(1, 2))
    return _detector(image, features, -0.2, 2.0, "squash:64")


def _detector(image, features, weight: float, bias: float, step: str):
    # Not at the top: what predicts is not installed where networks are tested on JAX.
    import keras

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
