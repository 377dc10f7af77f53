"""Layers of residuals, against OpenCV, and block transforms of SciPy."""

import cv2
import keras
import numpy as np
import pytest
from scipy.fft import dctn

from src.pictures.residuals import NUM_BINS, STEP, DctHistograms, HighPass
from src.pictures.steps import apply


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(90, 130, (2, 40, 56, 3), dtype=np.uint8)


def histograms(pixels: np.ndarray) -> np.ndarray:
    """`DctHistograms` as `(N, 64, 25, 4)`."""
    return keras.ops.convert_to_numpy(DctHistograms()(pixels)).reshape(-1, 64, 25, NUM_BINS)


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


def test_histograms_are_of_the_transform_of_every_block(pictures):
    away = np.abs(histograms(pictures) - np.stack([*map(by_blocks, pictures)])) > 1e-3
    assert away.mean() < 0.01  # values at the border of two bins may fall into either


def test_a_flat_picture_has_no_residuals_but_its_mean():
    flat = np.full((2, 32, 32, 3), 128, np.uint8)
    found = histograms(flat)
    assert (found[:, 1:, :, 0] == 1).all() and (found[:, 1:, :, 1:] == 0).all()
    assert (found[:, 0] == 0).all()  # 8 × 128 lies in the last bin, which is left out
    np.testing.assert_allclose(HighPass()(flat), 128, atol=1e-3)


def test_histograms_see_one_more_jpeg_that_no_eye_sees():
    smooth = np.random.default_rng(1).normal(128, 40, (9, 9, 3)).clip(0, 255).astype(np.uint8)
    image = apply(smooth, ("squash:96", "noise:4"))
    once, twice = (apply(image, ("jpeg:75",) * number) for number in (1, 2))
    assert np.abs(once.astype(int) - twice).mean() < 2
    first, second, raw = histograms(np.stack([once, twice, image]))
    assert np.abs(first - raw).mean() > 5 * np.abs(first - second).mean() > 0


def test_high_pass_is_what_a_blur_takes_away(pictures):
    image = pictures[0].astype(np.float32)
    kernel = cv2.getGaussianKernel(7, 1)
    blurred = cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    expected = (128 + 8 * (image - blurred)).clip(0, 255)
    np.testing.assert_allclose(HighPass()(pictures)[0], expected, atol=1e-2)
    assert expected.min() == 0 and expected.max() == 255


def test_layers_are_saved_with_a_model(pictures, tmp_path):
    image = keras.Input((40, 56, 3), dtype="uint8")
    model = keras.Model(image, DctHistograms()(HighPass()(image)))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    found = [each.predict_on_batch(pictures) for each in (model, again)]
    np.testing.assert_array_equal(*found)
