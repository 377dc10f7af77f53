"""What the patterns of JPEG's cosine transform find in a picture: traces too fine to be seen."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

BLOCK = 8  # the side of JPEG's blocks
# Residuals are counted in such steps, which suit JPEG of quality 75; the last bin, which follows
# from the others, is left out.
STEP, NUM_BINS = 4, 4
_PLACES = np.minimum(np.arange(BLOCK), BLOCK - np.arange(BLOCK))  # from the nearest border
_FOLD = np.eye(25, dtype=np.float32)[np.add.outer(5 * _PLACES, _PLACES).ravel()]
_FOLD /= _FOLD.sum(axis=0)
# A count of each bin in 16 bits of one number: so they are summed at once.
_UNITS = np.array([1 << 16 * min(level, NUM_BINS) for level in range(NUM_BINS)] + [0] * 252, "u8")


def _waves() -> np.ndarray:
    """The basis of the DCT-II of eight values, `(8, 8)` `float32`: frequency, place."""
    number = np.arange(BLOCK)
    waves = np.cos(np.pi * np.outer(number, 2 * number + 1) / (2 * BLOCK)) / 2
    waves[0] /= np.sqrt(2)
    return waves.astype(np.float32)


_WAVES = _waves()


def dct_histograms(pixels: np.ndarray) -> np.ndarray:
    """Histograms of what each pattern of the DCT finds, by place in JPEG's grid.

    "DCTR" (Holub & Fridrich, "Low complexity features for JPEG steganalysis using undecimated DCT",
    IEEE TIFS 2015), made to find changes of single grey levels in a JPEG file. A picture is
    convolved with each of the 64 patterns; the absolute values, in `STEPS`, are counted for each
    place in the grid of 8 × 8, places that mirror each other together. Here
    square roots of the shares are taken: rare and frequent values then vary alike.

    Args:
        pixels: RGB `(N, S, S, 3)` `uint8`, S from 15 to 2048; corners lie on the grid of the files.

    Returns:
        `(N, 6400)` `float32` in `[0, 1]`: pattern, place, bin.

    Raises:
        ValueError: If the pictures are of another kind or size.
    """
    shape = pixels.shape
    fits = shape[3:] == (3,) and 15 <= min(shape[1:3]) <= max(shape[1:3]) <= 2048
    if pixels.dtype != np.uint8 or not fits:
        expected = "Expected uint8 pictures (N, S, S, 3), S from 15 to 2048."
        raise ValueError(f"{expected} Received: {pixels.dtype}, {shape}.")
    with ThreadPoolExecutor(2) as pool:
        return np.sqrt(np.stack([*pool.map(_histograms, pixels)]))


def _histograms(image: np.ndarray) -> np.ndarray:
    """Of one picture, before the root: `(6400,)`."""
    plane = cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2GRAY)
    height, width = ((side - BLOCK + 1) // BLOCK for side in plane.shape)
    found = []
    for down in _WAVES:
        for across in _WAVES:
            maps = cv2.sepFilter2D(plane, cv2.CV_32F, across, down, anchor=(0, 0))
            levels = cv2.convertScaleAbs(maps[: BLOCK * height, : BLOCK * width], alpha=1 / STEP)
            counts = _UNITS[levels].reshape(height, BLOCK, width, BLOCK).sum(axis=(0, 2))
            bins = counts.ravel().view("u2").reshape(BLOCK**2, NUM_BINS)
            found.append(_FOLD.T @ bins / np.float32(height * width))
    return np.concatenate(found, axis=None)
