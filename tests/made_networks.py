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
