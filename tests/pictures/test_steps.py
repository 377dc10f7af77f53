"""Steps against their definitions, written out or Pillow's own."""

import io

import keras
import numpy as np
import pytest
from made_pictures import picture
from PIL import Image

from src.pictures import spectrum
from src.pictures.steps import apply, output_shape, protocol_steps


@pytest.mark.parametrize("step, method", [("squash", Image.BICUBIC), ("resize", Image.BILINEAR)])
def test_squash_and_resize_are_pillows(step, method):
    expected = Image.fromarray(picture()).resize((32, 32), method)
    assert np.array_equal(apply(picture(), (f"{step}:32",)), expected)


@pytest.mark.parametrize("size", [16, 96])
def test_aliased_is_the_resize_of_keras(size):
    plain = keras.ops.image.resize(picture().astype("float32"), (size, size), antialias=False)
    found = apply(picture(), (f"aliased:{size}",)).astype(float)
    assert np.abs(found - np.asarray(plain)).max() < 1.01  # OpenCV rounds its weights, too
    assert output_shape((f"aliased:{size}", "grey")) == (size, size, 1)


# Of an odd rest, one more is cut from the end.
@pytest.mark.parametrize(
    "step, size, middle",
    [
        ("square", (40, 60), np.s_[:, 10:50]),
        ("square", (61, 40), np.s_[10:50]),
        ("square", (30, 30), np.s_[:]),
        ("centre:20", (40, 60), np.s_[10:30, 20:40]),
    ],
)
def test_the_middle_is_cut_out(step, size, middle):
    pixels = picture(*size)
    assert np.array_equal(apply(pixels, (step,)), pixels[middle])
    assert np.array_equal(apply(pixels[..., 0], (step,)), pixels[..., 0][middle])


def test_jpeg_is_a_round_trip_through_pillow():
    stream = io.BytesIO()
    Image.fromarray(picture()).save(stream, "JPEG", quality=75)  # 4:2:0 is its default
    once = np.asarray(Image.open(stream))
    assert np.array_equal(apply(picture(), ("jpeg:75",)), once)
    assert np.array_equal(apply(picture(), ("jpeg:75", "jpeg:75")), apply(once, ("jpeg:75",)))
    assert apply(picture(), ("grey", "jpeg:75")).shape == (40, 60)


def test_crop_cuts_the_box():
    pixels = picture(40, 60)
    assert np.array_equal(apply(pixels, ("crop",), (0.5, 0.25, 1, 0.5)), pixels[10:20, 30:60])
    assert np.array_equal(apply(pixels, ("crop",), (-1, -1, 2, 2)), pixels)
    assert apply(pixels, ("crop",), (1, 1, 1, 1)).shape == (1, 1, 3)
    for box in (None, [np.nan] * 4):
        with pytest.raises(ValueError, match="needs a box"):
            apply(pixels, ("crop",), box)
        with pytest.raises(ValueError, match="needs a box"):
            apply(pixels, ("self_blend",), box)


def test_self_blending_is_seeded_by_the_picture_and_leaves_grey_grey():
    box = (0.25, 0.25, 0.75, 0.75)
    blended = apply(picture(), ("self_blend",), box)
    assert blended.shape == picture().shape and (blended != picture()).any()
    assert np.array_equal(blended, apply(picture(), ("self_blend",), box))
    assert apply(picture()[..., 0], ("self_blend",), box).shape == picture().shape[:2]


def test_chroma_scales_cb_and_cr():
    red, green, blue = (picture()[..., channel].astype(float) for channel in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    cb, cr = 0.4 * 0.564 * (blue - luma), 0.4 * 0.713 * (red - luma)
    expected = [luma + 1.403 * cr, luma - 0.344 * cb - 0.714 * cr, luma + 1.773 * cb]
    assert np.abs(apply(picture(), ("chroma:0.4",)) - np.dstack(expected)).max() < 1.1
    assert np.ptp(apply(picture(), ("chroma:0",)), axis=-1).max() == 0
    assert np.array_equal(apply(picture(), ("chroma:1",)), picture())


def test_brightness_multiplies_and_clips():
    expected = np.rint(picture() * np.float32(0.6))
    assert np.array_equal(apply(picture(), ("brightness:0.6",)), expected)
    assert apply(picture(), ("brightness:9",)).max() == 255


@pytest.mark.parametrize("size", [1, 3, 7])
def test_pixelate_gives_every_cell_its_mean(size):
    pixels, expected = picture(20, 31), np.empty((20, 31, 3))
    for top in range(0, 20, size):
        for left in range(0, 31, size):
            cell = np.s_[top : top + size, left : left + size]
            expected[cell] = pixels[cell].mean(axis=(0, 1))
    assert np.abs(apply(pixels, (f"pixelate:{size}",)) - expected).max() < 1  # Pillow rounds


def test_blur_is_a_gaussian_of_a_sixth():
    spot = np.zeros((41, 41, 3), np.uint8)
    spot[20, 20] = 255
    weights = np.exp(-(np.arange(-4, 5) ** 2) / (2 * (9 / 6) ** 2))
    weights /= weights.sum()
    blurred = apply(spot, ("blur:9",))[16:25, 16:25, 0]
    assert np.abs(blurred - 255 * np.outer(weights, weights)).max() < 1
    with pytest.raises(ValueError, match="odd"):
        apply(spot, ("blur:8",))


def test_noise_follows_from_the_picture_alone():
    first, other = (picture(100, 100, seed) for seed in (0, 1))
    noise, again, others = (apply(p, ("noise:10",)).astype(int) - p for p in (first, first, other))
    assert np.array_equal(noise, again) and not np.array_equal(noise, others)
    assert abs(noise[first < 200].std() - 10) < 1


def test_spectrum_is_recorded_as_uint8():
    expected = spectrum.to_uint8(spectrum.magnitude_spectrum(picture()))
    assert np.array_equal(apply(picture(), ("spectrum",)), expected)


WRONG = ["sharpen", "jpeg", "jpeg:", "jpeg:x", "jpeg:0", "jpeg:75.5", "grey:1", "", "noise:nan", 7]


@pytest.mark.parametrize("step", WRONG)
def test_an_unknown_step_names_the_valid_ones(step):
    with pytest.raises(ValueError, match=f"no step {step!r}. Steps are: square, .*jpeg:1..100"):
        apply(picture(), (step,))


def test_apply_refuses_what_is_no_uint8_picture():
    for wrong in (picture() / 255, picture()[None], picture()[..., :2]):
        with pytest.raises(ValueError, match="uint8"):
            apply(wrong, ())


def test_protocol_steps():
    for squashed in (True, False):
        assert protocol_steps("report", 2, 512, squashed=squashed) == ()
    assert protocol_steps("controlled", num_jpeg=0, square_size=256) == ("squash:256",)
    cut = protocol_steps("controlled", 1, 512, squashed=False)
    assert cut == ("square", "squash:512", "jpeg:75")
    with pytest.raises(ValueError, match="report, controlled"):
        protocol_steps("raw", num_jpeg=1, square_size=512)


@pytest.mark.parametrize("size", [(70, 97), (33, 41), (64, 64), (20, 30)])
def test_a_cut_on_the_grid_begins_where_a_block_of_jpeg_does(size):
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    cut = apply(picture, ("on_grid:32",))
    assert cut.shape == apply(picture, ("centre:32",)).shape == output_shape(("centre:32",))
    if min(size) >= 32:
        top, left = (8 * ((side - 32) // 16) for side in size)
        np.testing.assert_array_equal(cut, picture[top : top + 32, left : left + 32])


def test_the_shorter_side_gets_its_size_and_the_aspect_stays():
    picture = np.zeros((60, 90, 3), np.uint8)
    assert apply(picture, ("shorter:20",)).shape == (20, 30, 3)
    assert apply(picture.transpose(1, 0, 2), ("shorter:120",)).shape == (180, 120, 3)
