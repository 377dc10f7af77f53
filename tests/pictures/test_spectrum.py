"""Spectra against a Fourier transform written out as sums, and the layer against NumPy."""

import math

import keras
import numpy as np
import pytest

from src.pictures.spectrum import (
    Spectrum,
    magnitude_spectrum,
    radial_profile,
    spectral_peaks,
    to_uint8,
)


def slow_spectrum(image):
    """The definition: a sum over all pixels for every frequency, in double precision."""
    rows, columns = (
        np.exp(-2j * np.pi * np.outer(np.arange(size) - size // 2, np.arange(size)) / size)
        for size in image.shape[:2]
    )
    sums = rows @ (image @ [0.299, 0.587, 0.114]) @ columns.T
    return 20 * np.log(np.abs(sums) + 1e-8)


def layer(*images):
    """What the layer makes of pictures of one size."""
    return keras.ops.convert_to_numpy(Spectrum()(np.stack(images)))[..., 0]


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype="uint8")


def rescale(spectrum):
    return (spectrum - spectrum.min()) / (spectrum.max() - spectrum.min()) * 255


SIZES = [(8, 8), (9, 12), (12, 9), (7, 5), (1, 6), (6, 1), (2, 2), (5, 2), (2, 5), (512, 384)]


@pytest.mark.parametrize("size", SIZES)
def test_numpy_and_layer_equal_the_definition(size):
    image = noise(size) // 4 + 90
    expected, ours, scaled = slow_spectrum(image), magnitude_spectrum(image), layer(image)
    assert ours.dtype == scaled.dtype == np.float32 and scaled.shape == (1, *size)
    # Single precision tells in a large picture, where |F| is next to nothing.
    tolerance = 0.1 if size[0] > 12 else 1e-3
    np.testing.assert_allclose(ours, expected, atol=tolerance)
    np.testing.assert_allclose(scaled[0], rescale(expected), atol=tolerance)
    assert np.abs(ours - expected).mean() < 1e-4


def test_grey_picture_equals_its_rgb_copy():
    grey = noise((10, 6))[..., 0]
    copied = np.repeat(grey[..., None], 3, axis=-1)
    np.testing.assert_allclose(magnitude_spectrum(grey), magnitude_spectrum(copied), atol=1e-3)
    turned = copied.transpose(1, 0, 2)  # however the pixels lie in memory
    expected = magnitude_spectrum(turned.copy("C"))
    np.testing.assert_allclose(magnitude_spectrum(turned), expected, atol=1e-6)


@pytest.mark.parametrize("value", [0, 77, 255])
def test_constant_picture_is_defined(value):
    image = np.full((6, 10, 3), value, "uint8")
    spectrum = magnitude_spectrum(image)
    assert np.isfinite(spectrum).all() and np.isfinite(layer(image)).all()
    assert spectrum[3, 5] == pytest.approx(20 * math.log(60 * value + 1e-8), abs=1e-3)


def test_to_uint8_of_a_flat_spectrum_is_black_and_rejects_nan():
    impulse = np.zeros((8, 8, 3), "uint8")
    impulse[0, 0] = 255  # |F| is the same everywhere: what differs is rounding
    for flat in (to_uint8(np.full((3, 4), 7.0)), to_uint8(magnitude_spectrum(impulse))):
        assert not flat.any()
    assert not layer(impulse).any()
    with pytest.raises(ValueError, match="finite"):
        to_uint8(np.array([[0.0, np.nan]]))


@pytest.mark.parametrize("shape", [(4,), (4, 4, 4), (2, 4, 4, 3), (0, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="shape"):
        magnitude_spectrum(np.zeros(shape, "uint8"))


def test_radial_profile_averages_rings():
    spectrum = np.hypot(*np.mgrid[-16:16, -16:16])
    slow = [spectrum[np.rint(spectrum) == radius].mean() for radius in range(17)]
    np.testing.assert_allclose(radial_profile(spectrum), slow)
    assert np.isfinite(radial_profile(np.ones((20, 50)))).all()


def test_a_replica_stands_out_by_its_height_and_all_else_is_level():
    expected = []
    for places in ([], [(4, 4)], [(4, 4), (12, 12), (0, 0)], [(3, 4)]):
        waves = np.zeros((16, 16))
        for row, column in places:  # of the centred spectrum
            phases = np.add.outer((row - 8) * np.arange(16), (column - 8) * np.arange(16))
            waves += 12 * np.cos(2 * np.pi * phases / 16)
        grey = np.random.default_rng(0).normal(128, 4, (16, 16)) + waves
        expected.append(np.clip(grey, 0, 255).astype("uint8"))
    pictures = np.repeat(np.array(expected)[..., None], 3, axis=-1)
    none, one, more, elsewhere = spectral_peaks(pictures)
    assert none + 5 < one < more and abs(elsewhere - none) < 5
    with pytest.raises(ValueError, match="multiple of 4"):
        spectral_peaks(pictures[:, :15, :15])


def test_layer_is_saved_and_takes_batches_of_any_size(tmp_path):
    image = keras.Input((None, None, 3), dtype="uint8")
    model = keras.Model(image, Spectrum(name="spectrum")(image))
    model.save(tmp_path / "spectrum.keras")
    loaded = keras.models.load_model(tmp_path / "spectrum.keras")
    for size in [(16, 16), (9, 14)]:
        pictures = np.stack([noise(size, seed) for seed in range(3)])
        result = loaded.predict(pictures, verbose=0)
        assert result.min() == 0 and result.max() == pytest.approx(255, abs=1e-3)
        single = [to_uint8(magnitude_spectrum(picture)) for picture in pictures]
        assert np.abs(result[..., 0] - single).max() <= 0.51


def test_layer_computes_in_single_precision_under_any_policy():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        assert Spectrum().compute_dtype == "float32"
        # The sum of the grey levels is beyond half precision.
        assert np.isfinite(layer(np.full((300, 300, 3), 255, "uint8"))).all()
    finally:
        keras.config.set_dtype_policy("float32")
