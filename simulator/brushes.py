"""Shapes, blends and textures that painters share, as arrays over the pixels of a patch."""

import cv2
import numpy as np

from simulator.people import normal


def inside(distance: np.ndarray, softness: float) -> np.ndarray:
    """Coverage of a pixel by a region whose signed distance is negative inside."""
    return np.clip(0.5 - distance / softness, 0, 1)


def bump(x: np.ndarray, y: np.ndarray, width: float, height: float) -> np.ndarray:
    """A bell of these widths around 0."""
    return np.exp(-((x / width) ** 2 + (y / height) ** 2))


def stroke(distance: np.ndarray, width: float) -> np.ndarray:
    """A soft line where the distance is 0."""
    return np.exp(-((distance / width) ** 2))


def ramp(x: np.ndarray, width: float) -> np.ndarray:
    """From 0 to 1 around 0, within the width."""
    return np.clip(x / width, 0, 1)


def arc_over(x: np.ndarray) -> np.ndarray:
    """An arc over -1 to 1."""
    return np.clip(1 - x**2, 0, 1)


def smooth(x: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur."""
    return cv2.GaussianBlur(x, (0, 0), sigma)


def where(condition: np.ndarray) -> tuple[slice, slice] | None:
    """The smallest window that holds all true values; `None` if there are none."""
    rows, columns = np.flatnonzero(condition.any(1)), np.flatnonzero(condition.any(0))
    return (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)) if len(rows) else None


def over(image: np.ndarray, coverage: np.ndarray, paint: np.ndarray, shade=None) -> None:
    """Paints over `image` in place; `shade` darkens the paint at each pixel."""
    if (part := where(coverage > 0)) is None:
        return
    paint = paint if paint.ndim == 1 else paint[part]
    if shade is not None:
        paint = paint * shade[part][..., None]
    image[part] += coverage[part][..., None] * (paint - image[part])


def cloud_cover(
    rng: np.random.Generator, rows: int, columns: int, size: tuple[int, int]
) -> np.ndarray:
    """Smooth noise `size` wide and high, from a few random values."""
    return cv2.resize(normal(rng, rows, columns), size, interpolation=cv2.INTER_CUBIC)


def texture(grid: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Noise at (x, y): a grid of random values, interpolated and repeated."""
    x, y = (np.float32(c) for c in np.broadcast_arrays(x, y))
    return cv2.remap(grid, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
