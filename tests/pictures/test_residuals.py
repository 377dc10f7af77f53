"""Histograms of cosine residuals, against block transforms of SciPy."""

import numpy as np
import pytest
from scipy.fft import dctn

from src.pictures.residuals import NUM_BINS, STEP, dct_histograms


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(90, 130, (1, 40, 56, 3), dtype=np.uint8)


def by_blocks(image: np.ndarray) -> np.ndarray:
    """The same from the DCT of every block of 8 × 8, whatever its corner: `(64, 25, 4)`."""
    plane = image @ (0.299, 0.587, 0.114)
    height, width = (8 * ((side - 7) // 8) for side in plane.shape)
    counts = np.zeros((64, 25, NUM_BINS))
    for top, left in np.ndindex(height, width):
        found = np.abs(dctn(plane[top : top + 8, left : left + 8], norm="ortho")).ravel()
        place = 5 * min(top % 8, 8 - top % 8) + min(left % 8, 8 - left % 8)
        for pattern, level in enumerate(np.rint(found / STEP).astype(int)):
            if level < NUM_BINS:
                counts[pattern, place, level] += 1
    once = np.minimum(np.arange(8), 8 - np.arange(8))
    size = np.bincount(np.add.outer(5 * once, once).ravel()) * height * width / 64
    return np.sqrt(counts / size[:, None])


def test_is_the_transform_of_every_block(picture):
    found = dct_histograms(picture).reshape(64, 25, NUM_BINS)
    away = np.abs(found - by_blocks(picture[0])) > 1e-6
    assert away.mean() < 0.01  # values at the border of two bins may fall into either


def test_a_flat_picture_has_no_residuals_but_its_mean():
    found = dct_histograms(np.full((2, 32, 32, 3), 128, np.uint8)).reshape(2, 64, 25, NUM_BINS)
    assert (found[:, 1:, :, 0] == 1).all() and (found[:, 1:, :, 1:] == 0).all()
    assert (found[:, 0] == 0).all()  # 8 × 128 lies in the last bin, which is left out


def test_sees_one_more_jpeg_that_no_eye_sees():
    from src.pictures.steps import apply

    smooth = np.random.default_rng(1).normal(128, 40, (9, 9, 3)).clip(0, 255).astype(np.uint8)
    image = apply(smooth, ("squash:96", "noise:4"))
    once, twice = (apply(image, ("jpeg:75",) * number) for number in (1, 2))
    assert np.abs(once.astype(int) - twice).mean() < 2
    first, second, raw = dct_histograms(np.stack([once, twice, image]))
    assert np.abs(first - raw).mean() > 5 * np.abs(first - second).mean() > 0


@pytest.mark.parametrize("shape", [(1, 14, 64, 3), (64, 64, 3), (1, 64, 64, 1), (1, 64, 2056, 3)])
def test_other_pictures_are_refused(shape):
    with pytest.raises(ValueError, match="15 to 2048"):
        dct_histograms(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="float"):
        dct_histograms(np.zeros((1, 64, 64, 3)))
