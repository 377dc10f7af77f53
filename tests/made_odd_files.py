"""Damaged, foreign and unusual files with the endings of pictures."""

import io
import struct
import zlib

import numpy as np
from made_pictures import photograph
from PIL import Image


def odd_file(seed: int) -> tuple[str, bytes]:
    """A name and contents, the same for the same seed; the kinds of `_KINDS` in turn."""
    random, kind = np.random.default_rng(seed), _KINDS[seed % len(_KINDS)]
    size = random.integers(1, 400, 2).tolist() if random.random() < 0.5 else (160, 200)
    name, contents = kind(Image.fromarray(photograph(seed, *size)), random)
    return f"{seed:03d}-{kind.__name__.strip('_')}.{name}", contents


def _saved(image, ending, **options) -> tuple[str, bytes]:
    stream = io.BytesIO()
    image.save(stream, {"jpg": "JPEG", "tif": "TIFF"}.get(ending, ending.upper()), **options)
    return ending, stream.getvalue()


def _any(image, random) -> tuple[str, bytes]:
    return _saved(image, random.choice(["jpg", "png", "webp", "gif", "bmp", "tif"]).item())


def _truncated(image, random):
    ending, contents = _any(image, random)
    return ending, contents[: random.integers(0, len(contents))]


def _flipped(image, random):
    ending, contents = _any(image, random)
    values = np.frombuffer(contents, np.uint8).copy()
    places = random.integers(0, len(values), random.integers(1, 20))
    values[places] ^= (1 << random.integers(0, 8, len(places))).astype(np.uint8)
    return ending, values.tobytes()


def _wrong_ending(image, random):
    return random.choice(["jpg", "png", "tif"]).item(), _any(image, random)[1]


def _no_picture(image, random):
    heads = (b"", b"hello\n", b"%PDF-1.7\n", b"PK\x03\x04", b"<svg/>", b"\xff\xd8\xff", b"GIF89a")
    return "jpg", heads[random.integers(len(heads))] + random.bytes(random.integers(0, 500))


def _png(width, height, data) -> bytes:
    """A PNG of one grey channel, well formed but for its data."""
    parts = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", data)
    chunks = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in (*parts, (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _huge(image, random):
    side = random.choice([9_500, 60_000, 2**31 - 1]).item()
    return "png", _png(side, side, zlib.compress(bytes(1000)))


def _bomb(image, random):
    """A few KB that would be 90 million pixels and more."""
    return "png", _png(10_000, random.integers(9_000, 12_000).item(), zlib.compress(bytes(1 << 20)))


def _animated(image, random):
    frames = [image.rotate(angle) for angle in (90, 180)]
    ending = random.choice(["gif", "webp", "png"]).item()
    return _saved(image, ending, save_all=True, append_images=frames)


def _deep(image, random):
    values = np.asarray(image.convert("L"), np.uint16) * 257
    return _saved(Image.fromarray(values), random.choice(["png", "tif"]).item())


def _unusual(image, random):
    mode, ending = [
        *(("CMYK", "jpg"), ("CMYK", "tif"), ("L", "jpg"), ("1", "png"), ("P", "png")),
        *(("RGBA", "png"), ("RGBA", "webp"), ("LA", "png"), ("F", "tif"), ("I", "tif")),
    ][random.integers(10)]
    return _saved(image.convert(mode), ending)


def _turned(image, random):
    tags = Image.Exif()
    tags[0x0112] = random.integers(0, 12).item()
    return _saved(image, random.choice(["jpg", "png", "webp"]).item(), exif=tags)


_KINDS = (_any, _truncated, _flipped, _wrong_ending, _no_picture, _huge, _bomb, _animated)
_KINDS += (_deep, _unusual, _turned, _truncated, _flipped)
