"""Spectra against a Fourier transform written out as four loops, and the layer against NumPy."""

import cmath
import math

import keras
import numpy as np
import pytest

from src.pictures.spectrum import Spectrum, magnitude_spectrum, radial_profile, to_uint8

SIZES = [(8, 8), (9, 12), (12, 9), (7, 5), (1, 6), (6, 1), (2, 2), (5, 2), (2, 5)]


def slow_spectrum(image):
    """The definition: a sum over all pixels for every frequency, zero frequency in the centre,
    double precision."""
    height, width = image.shape[:2]
    weights = (0.299, 0.587, 0.114)
    grey = [
        [sum(w * float(c) for w, c in zip(weights, image[y, x])) for x in range(width)]
        for y in range(height)
    ]
    result = np.empty((height, width))
    for row in range(height):
        for column in range(width):
            u, v = row - height // 2, column - width // 2
            total = 0j
            for y in range(height):
                for x in range(width):
                    total += grey[y][x] * cmath.exp(
                        -2j * math.pi * (u * y / height + v * x / width)
                    )
            result[row, column] = 20 * math.log(abs(total) + 1e-8)
    return result


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype="uint8")


def rescale(spectrum):
    return (spectrum - spectrum.min()) / (spectrum.max() - spectrum.min()) * 255


@pytest.mark.parametrize("size", SIZES)
def test_numpy_and_layer_equal_the_definition(size):
    image = noise(size)
    expected = slow_spectrum(image)
    ours = magnitude_spectrum(image)
    assert ours.dtype == np.float32 and ours.shape == size
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    layer = keras.ops.convert_to_numpy(Spectrum()(image[None]))
    assert layer.dtype == np.float32 and layer.shape == (1, *size, 1)
    np.testing.assert_allclose(layer[0, ..., 0], rescale(expected), atol=1e-4)


def test_full_size_equals_numpys_complex_transform():
    image = noise((512, 384)) // 4 + 90
    grey = image @ np.array([0.299, 0.587, 0.114])
    expected = 20 * np.log(np.abs(np.fft.fftshift(np.fft.fft2(grey))) + 1e-8)
    difference = np.abs(magnitude_spectrum(image) - expected)
    assert (
        difference.mean() < 1e-4 and difference.max() < 0.1
    )  # single precision, where |F| is next to nothing
    layer = keras.ops.convert_to_numpy(Spectrum()(image[None]))[0, ..., 0]
    assert np.abs(layer - rescale(expected)).max() < 0.1


def test_grey_picture_equals_its_rgb_copy():
    grey = noise((10, 6))[..., 0]
    copied = np.repeat(grey[..., None], 3, axis=-1)
    np.testing.assert_allclose(magnitude_spectrum(grey), magnitude_spectrum(copied), atol=1e-3)
    turned = np.asfortranarray(copied.transpose(1, 0, 2))  # however the pixels lie in memory
    np.testing.assert_allclose(
        magnitude_spectrum(turned), magnitude_spectrum(turned.copy("C")), atol=1e-6
    )


def test_stripes_show_at_their_frequency():
    stripes = np.tile(np.uint8(128 + 100 * np.cos(2 * np.pi * 5 * np.arange(64) / 64)), (64, 1))
    spectrum = magnitude_spectrum(stripes)
    spectrum[32, 32] = -np.inf
    peaks = {
        tuple(int(i) for i in np.unravel_index(i, spectrum.shape))
        for i in np.argsort(spectrum.ravel())[-2:]
    }
    assert peaks == {(32, 27), (32, 37)}
    assert radial_profile(magnitude_spectrum(stripes)).shape == (33,)


@pytest.mark.parametrize("value", [0, 77, 255])
def test_constant_picture_is_defined(value):
    image = np.full((6, 10, 3), value, "uint8")
    spectrum = magnitude_spectrum(image)
    assert np.isfinite(spectrum).all()
    expected = 20 * math.log(60 * value + 1e-8)
    assert spectrum[3, 5] == pytest.approx(expected, abs=1e-3)
    assert np.isfinite(keras.ops.convert_to_numpy(Spectrum()(image[None]))).all()


def test_to_uint8_of_a_flat_spectrum_is_black_and_rejects_nan():
    assert not to_uint8(np.full((3, 4), 7.0)).any()
    impulse = np.zeros((8, 8, 3), "uint8")
    impulse[0, 0] = (
        255  # |F| is the same everywhere: what differs is rounding, and must not be blown up
    )
    assert not to_uint8(magnitude_spectrum(impulse)).any()
    assert not keras.ops.convert_to_numpy(Spectrum()(impulse[None])).any()
    with pytest.raises(ValueError, match="finite"):
        to_uint8(np.array([[0.0, np.nan]]))


@pytest.mark.parametrize("shape", [(4,), (4, 4, 4), (2, 4, 4, 3), (0, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="shape"):
        magnitude_spectrum(np.zeros(shape, "uint8"))


def test_radial_profile_averages_rings():
    spectrum = np.hypot(*np.mgrid[-16:16, -16:16])
    profile = radial_profile(spectrum)
    np.testing.assert_allclose(profile, np.arange(17), atol=0.25)
    slow = [spectrum[np.rint(spectrum) == radius].mean() for radius in range(17)]
    np.testing.assert_allclose(profile, slow)
    assert np.isfinite(radial_profile(np.ones((20, 50)))).all()
    with pytest.raises(ValueError, match="H, W"):
        radial_profile(np.ones((2, 2, 1)))


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
        layer = Spectrum()
        pictures = np.full(
            (1, 300, 300, 3), 255, "uint8"
        )  # the sum of its grey levels is beyond half precision
        assert layer.compute_dtype == "float32"
        assert np.isfinite(keras.ops.convert_to_numpy(layer(pictures))).all()
    finally:
        keras.config.set_dtype_policy("float32")
