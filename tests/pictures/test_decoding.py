"""Decoding: every mode and format, and every way in which a file is no whole picture."""

import os

import numpy as np
import pytest
from made_pictures import picture, saved
from PIL import Image, ImageFile

from src.pictures.decoding import UnreadableImage, decode, inspect, inspect_all, read_grey


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK"])
def test_decode_gives_rgb_of_every_mode(tmp_path, mode):
    image = Image.fromarray(picture()).convert(mode)
    image.save(tmp_path / "a.tif")
    pixels = decode(tmp_path / "a.tif")
    assert pixels.dtype == np.uint8 and pixels.flags.writeable
    assert np.array_equal(pixels, np.asarray(image.convert("RGB")))


def test_decode_cmyk_jpeg(tmp_path):
    """Such files hold inverted ink; a TIFF does not."""
    Image.fromarray(picture()).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(decode(tmp_path / "a.jpg").astype(int) - picture()).mean() < 6


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_decode_keeps_the_upper_byte_of_16_bits(tmp_path, suffix):
    file = saved(tmp_path / f"a.{suffix}", np.array([[0, 255, 256, 32768, 65535]], np.uint16))
    assert decode(file)[0, :, 0].tolist() == [0, 0, 1, 128, 255]


@pytest.mark.parametrize("pixels", [np.ones((4, 4), "f4"), np.full((4, 4), 1 << 20, "i4")])
def test_decode_refuses_values_with_no_range(tmp_path, pixels):
    with pytest.raises(UnreadableImage, match="no defined range"):
        decode(saved(tmp_path / "a.tif", pixels))


def test_decode_takes_the_first_frame(tmp_path):
    red, blue = (Image.new("RGB", (8, 8), color) for color in ("red", "blue"))
    for kind in ("gif", "mpo"):
        red.save(tmp_path / f"a.{kind}", save_all=True, append_images=[blue], quality=95)
        assert np.abs(decode(tmp_path / f"a.{kind}").astype(int) - [255, 0, 0]).max() < 6
        assert inspect(tmp_path / f"a.{kind}")["format"] == kind.upper()


TURNED = Image.Exif()
TURNED[0x0112] = 6
DAMAGED = b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x09\x00\x12\x01"


@pytest.mark.parametrize("exif, orientation", [(TURNED, 6), (DAMAGED, 1)])
def test_exif_is_told_but_not_applied_and_does_no_harm(tmp_path, exif, orientation):
    file = saved(tmp_path / "a.jpg", exif=exif)
    assert decode(file).shape == (40, 60, 3)
    known = {"width": 60, "height": 40, "orientation": orientation, "reason": None}
    assert inspect(file).items() >= known.items()


REASONS = {"empty": "empty", "text": "not a picture", "folder": "directory", "none": "missing"}


@pytest.mark.parametrize("name", REASONS)
def test_what_is_no_picture_is_refused_with_its_reason(tmp_path, name):
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("<html>404</html>")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UnreadableImage, match=f"{name}: .*{REASONS[name]}"):
        decode(tmp_path / name)
    assert REASONS[name] in inspect(tmp_path / name)["reason"]


FORMATS = {"jpg": {"quality": 75}, "progressive.jpg": {"quality": 90, "progressive": True}}
FORMATS |= dict.fromkeys(["png", "gif", "webp", "bmp"], {})


@pytest.mark.parametrize("name", FORMATS)
def test_truncation_is_found(tmp_path, name):
    file = saved(tmp_path / f"a.{name}", picture(160, 160), **FORMATS[name])
    whole = file.read_bytes()
    assert inspect(file)["reason"] is None
    lengths = [int(len(whole) * kept) for kept in (0.02, 0.3, 0.9, 0.99)]
    # Where nothing but a JPEG's end marker of two bytes is missing, all pixels are there.
    lengths += [len(whole) - cut for cut in range(3, 12) if name.endswith("jpg")]
    for length in lengths:
        file.write_bytes(whole[:length])
        with pytest.raises(UnreadableImage):
            decode(file)
        assert inspect(file)["reason"]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    Image.new("1", (10_000, 10_000)).save(tmp_path / "a.png")
    for reader in (decode, lambda file: read_grey(file, 64)):
        with pytest.raises(UnreadableImage, match="pixels"):
            reader(tmp_path / "a.png")


def test_decoding_that_hides_truncation_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(RuntimeError, match="LOAD_TRUNCATED_IMAGES"):
        decode(saved(tmp_path / "a.jpg"))


def test_inspect_all_lists_rejects_in_order(tmp_path):
    grey = saved(tmp_path / "b.png", picture()[..., 0])
    files = [saved(tmp_path / "a.jpg"), tmp_path / "none.jpg", grey]
    table = inspect_all(files)
    assert table["reason"].isna().tolist() == [True, False, True]
    assert table["mode"].tolist()[::2] == ["RGB", "L"]
    assert table["num_bytes"].dropna().tolist() == [os.path.getsize(file) for file in files[::2]]
