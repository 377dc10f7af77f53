"""What remains of a picture without its content: layers that show traces too fine to be seen."""

import keras
import numpy as np
from keras import ops

from .spectrum import GREY_WEIGHTS

BLOCK = 8  # the side of JPEG's blocks
# Residuals are counted in such steps, which suit JPEG of quality 75; the last bin, which follows
# from the others, is left out.
STEP, NUM_BINS = 4, 4
_PLACES = np.minimum(np.arange(BLOCK), BLOCK - np.arange(BLOCK))  # from the nearest border
_FOLD = np.eye(25, dtype="float32")[np.add.outer(5 * _PLACES, _PLACES)]
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
    become `(N, 6400)` `float32` in `[0, 1]`: row of the pattern, bin, column, place.
    """

    def call(self, images):
        """See the class."""
        weights = ops.convert_to_tensor(GREY_WEIGHTS, "float32")
        grey = ops.sum(ops.cast(images, "float32") * weights, axis=-1, keepdims=True)
        height, width = ((side - BLOCK + 1) // BLOCK for side in grey.shape[1:3])
        fold, rows = ops.convert_to_tensor(_FOLD), []
        for patterns in patterns_of_dct().transpose(2, 0, 1, 3):  # a row at a time: maps are large
            maps = ops.conv(grey, ops.convert_to_tensor(patterns[:, :, None]), padding="valid")
            levels = ops.floor(ops.abs(maps[:, : BLOCK * height, : BLOCK * width]) / STEP + 0.5)
            levels = ops.reshape(levels, (-1, height, BLOCK, width, BLOCK, BLOCK))
            for value in range(NUM_BINS):
                shares = ops.mean(ops.cast(ops.equal(levels, value), "float32"), axis=(1, 3))
                rows.append(ops.tensordot(shares, fold, axes=[[1, 2], [0, 1]]))
        return ops.sqrt(ops.reshape(ops.stack(rows, axis=1), (-1, 64 * NUM_BINS * _FOLD.shape[2])))

    def compute_output_shape(self, input_shape):
        """The number of features does not depend on the size."""
        return (input_shape[0], 64 * NUM_BINS * _FOLD.shape[2])


def patterns_of_dct() -> np.ndarray:
    """The patterns of the 8 × 8 DCT, `(8, 8, 8, 8)` `float32`: a pixel's place, frequencies."""
    number = np.arange(BLOCK)
    waves = np.cos(np.pi * np.outer(2 * number + 1, number) / (2 * BLOCK)) / 2
    waves[:, 0] /= np.sqrt(2)
    return np.einsum("yu,xv->yxuv", waves, waves).astype("float32")
