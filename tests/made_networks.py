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
    # Not at the top: what predicts is not installed where networks are tested on JAX.
    import keras

    from src import predict
    from src.detectors.autoencoder import build_embedding_classifier
    from src.detectors.reference import Reference

    image = keras.Input((8, 8, 3), dtype="uint8")
    extractor = keras.Model(image, keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image)))
    head = build_embedding_classifier(192, ())
    head.set_weights([np.full((192, 1), 12 / 192), np.array([-6.0])])
    model = keras.Model(image, head(extractor(image)))
    zeros, ones = np.zeros(192), np.ones(192)
    known = Reference("", np.zeros((2, 8, 8)), zeros, ones, zeros[None], np.ones(2), np.inf, 0, 0)
    card = {"slope": 1.0, "intercept": 0.0}
    return predict.Detector(model, ("squash:8",), card, 0.5, (0.3, 0.7), known, "About.")
