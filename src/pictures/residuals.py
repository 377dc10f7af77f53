"""Layers that remove the content of pictures and keep traces too fine to be seen."""

import keras
import numpy as np
from keras import ops
from scipy.fft import dct

from .spectrum import GREY_WEIGHTS

BLOCK = 8  # the side of JPEG's blocks
# Residuals are counted in bins this wide, which suit JPEG of quality 75; the last bin follows from
# the others and is left out.
STEP, NUM_BINS = 4, 4
_PLACES = np.minimum(np.arange(BLOCK), BLOCK - np.arange(BLOCK))  # from the nearest border
NUM_PLACES = 25
_FOLD = np.eye(NUM_PLACES, dtype="float32")[np.add.outer(5 * _PLACES, _PLACES)]
_FOLD /= _FOLD.sum(axis=(0, 1))


class _Layer(keras.layers.Layer):
    """Without weights; always in `float32`: half precision cannot hold one grey level in 255."""

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})


@keras.saving.register_keras_serializable(package="true_or_fake")
class HighPass(_Layer):
    """Pictures `(N, H, W, 3)`, `0..255`, without their coarse part, as pictures of the same kind.

    What a Gaussian blur (σ = 1 pixel) takes away, times 8, around 128: a network that was trained
    on pictures can look at it.
    """

    def call(self, images):
        """See the class."""
        line = np.exp(-(np.arange(-3.0, 4) ** 2) / 2)
        kernel = np.repeat(np.outer(line, line)[..., None, None] / line.sum() ** 2, 3, axis=2)
        images = ops.cast(images, "float32")
        padded = ops.pad(images, [(0, 0), (3, 3), (3, 3), (0, 0)], mode="reflect")
        blurred = ops.depthwise_conv(padded, ops.convert_to_tensor(kernel, "float32"))
        return ops.clip(128 + 8 * (images - blurred), 0, 255)


@keras.saving.register_keras_serializable(package="true_or_fake")
class DctHistograms(_Layer):
    """Histograms of what each pattern of the DCT finds in pictures, by place in JPEG's grid.

    "DCTR" (Holub & Fridrich, "Low complexity features for JPEG steganalysis using undecimated DCT",
    IEEE TIFS 2015), made to find changes of single grey levels in a JPEG file. A picture is
    convolved with each of the 64 patterns; the absolute values, in `STEP`, are counted for each
    place in the grid of 8 × 8, places that mirror each other together. Here square roots of the
    shares are taken: rare and frequent values then vary alike.

    Pictures `(N, S, S, 3)`, `0..255`, S at least 15, whose corners lie on the grid of their files,
    become `(N, 6400)` `float32` in `[0, 1]`: pattern, place, bin.
    """

    def call(self, images):
        """See the class."""
        weights = ops.convert_to_tensor(GREY_WEIGHTS, "float32")
        grey = ops.sum(ops.cast(images, "float32") * weights, axis=-1, keepdims=True)
        size = [BLOCK * (side // BLOCK) - 1 for side in np.add(grey.shape[1:3], 1)]
        kernels = ops.convert_to_tensor(_at_every_place(patterns_of_dct()))
        maps = ops.abs(ops.conv(grey[:, : size[0], : size[1]], kernels, strides=BLOCK))
        fold, shares, below = ops.convert_to_tensor(_FOLD), [], 0
        for number in range(NUM_BINS):
            is_below = ops.cast(maps < STEP * (number + 0.5), "float32")
            so_far = ops.reshape(ops.mean(is_below, axis=(1, 2)), (-1, BLOCK, BLOCK, BLOCK**2))
            shares.append(ops.tensordot(so_far - below, fold, axes=[[1, 2], [0, 1]]))
            below = so_far
        shares = ops.reshape(ops.stack(shares, axis=-1), (-1, BLOCK**2 * NUM_PLACES * NUM_BINS))
        return ops.sqrt(ops.maximum(shares, 0))

    def compute_output_shape(self, input_shape):
        """The number of features does not depend on the size."""
        return (input_shape[0], BLOCK**2 * NUM_PLACES * NUM_BINS)


def patterns_of_dct() -> np.ndarray:
    """The patterns of the 8 × 8 DCT, `(8, 8, 8, 8)` `float32`: a pixel's place, frequencies."""
    waves = dct(np.eye(BLOCK), norm="ortho")
    return np.einsum("yu,xv->yxuv", waves, waves).astype("float32")


def _at_every_place(patterns: np.ndarray) -> np.ndarray:
    """Kernels of each pattern at each place of a block, for strides of 8: `(15, 15, 1, 4096)`."""
    kernels = np.zeros((2 * BLOCK - 1, 2 * BLOCK - 1, 1, BLOCK, BLOCK, BLOCK**2), "float32")
    for down, across in np.ndindex(BLOCK, BLOCK):
        here = kernels[down : down + BLOCK, across : across + BLOCK, 0, down, across]
        here[:] = patterns.reshape(BLOCK, BLOCK, -1)
    return kernels.reshape(*kernels.shape[:3], -1)
