"""Files → pixels: a picture is read to its end or rejected with a reason."""

import io
import os
import warnings
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFile, UnidentifiedImageError

from ..shards import map_files

MAX_PIXELS = 89_478_485  # Pillow's own mark of a decompression bomb: 256 MiB as RGB

_FACTS = ["width", "height", "mode", "format", "num_bytes", "orientation", "reason"]

# Damaged metadata, as of many IMDB-WIKI files, do no harm to pixels; `_opened` refuses bombs.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class UnreadableImage(ValueError):
    """A file that is no whole picture; `args` are the file and the reason."""

    def __str__(self) -> str:
        return "{}: {}.".format(*self.args)


def decode(file: Path | str) -> np.ndarray:
    """Pixels of a picture in any format that Pillow reads: `uint8`, `(height, width, 3)`, RGB.

    The EXIF orientation is not applied, as neither the makers of the fakes nor the study did. Alpha
    is dropped; of an animation the first frame is taken; of 16 bits the upper 8 are kept.

    Raises:
        UnreadableImage: If the file is missing, damaged, no picture, larger than `MAX_PIXELS`, or
            has values without a defined range.
    """
    return np.array(read(file))


def read(file: Path | str | io.BytesIO) -> Image.Image:
    """As `decode`, but a Pillow picture; also of a file in memory."""
    with _opened(file) as image:
        return _to_rgb(image)


def read_grey(file: Path | str, min_side: int) -> np.ndarray:
    """Grey levels `(height, width)` `uint8`; a JPEG is shrunk, to sides of at least `min_side`."""
    with _opened(file) as image:
        image.draft("L", (min_side, min_side))
        return np.asarray(image.convert("L"))


def inspect_all(files: Sequence[Path]) -> pd.DataFrame:
    """The facts of picture files, and whether they can be decoded to the end.

    One row a file, in order: `width`, `height` (as stored), `mode`, `format` (Pillow's names),
    `num_bytes`, `orientation` (EXIF, 1 to 8; missing if the metadata are damaged) and `reason`: why
    it cannot be used, `None` for a sound picture.
    """
    table = pd.DataFrame(map_files(inspect, files, 2, "Inspecting"), columns=_FACTS)
    return table.astype({name: "Int64" for name in ("width", "height", "num_bytes", "orientation")})


def inspect(file: Path | str) -> dict:
    """The row of `inspect_all` for one file; `None` for what is not known."""
    facts = dict.fromkeys(_FACTS)
    try:
        facts["num_bytes"] = os.path.getsize(file) if os.path.exists(file) else None
        with _opened(file) as image:
            facts |= {name: getattr(image, name) for name in ("width", "height", "mode", "format")}
            # Truncation shows only at the end; an eighth of the size decodes the same bits faster.
            image.draft(None, (max(image.width // 8, 1), max(image.height // 8, 1)))
            _to_rgb(image)
            with suppress(Exception):  # damaged metadata raise errors of many kinds
                facts["orientation"] = image.getexif().get(0x0112, 1)
    except UnreadableImage as error:
        facts["reason"] = error.args[1]
    return facts


@contextmanager
def _opened(file: Path | str | io.BytesIO):
    """A picture, not yet decoded; whatever goes wrong inside the block is an `UnreadableImage`."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is True: truncated pictures pass. Set it to False."
        )
    try:
        with Image.open(file) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"more than {MAX_PIXELS:,} pixels")
            yield image
    except MemoryError:  # says nothing about the file
        raise
    except Exception as error:  # damaged data raise errors of many kinds
        raise UnreadableImage(file, reason_of(file, error)) from error


def reason_of(file: Path | str | io.BytesIO, error: Exception) -> str:
    """Why a file could not be read, in a few words."""
    if isinstance(error, FileNotFoundError):
        return "the file is missing"
    if isinstance(error, UnidentifiedImageError):
        known = "not a picture in a known format, or one cut off in its header"
        is_open = hasattr(file, "getbuffer")
        num_bytes = file.getbuffer().nbytes if is_open else os.path.getsize(file)
        return known if num_bytes else "the file is empty (0 bytes)"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _to_rgb(image: Image.Image) -> Image.Image:
    """The picture as 8-bit RGB. Of 16 bits the upper 8 stay, as Pillow does with colours."""
    image.load()
    if image.mode.startswith("I"):  # 16-bit grey, which older versions of Pillow open as 32-bit
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("32-bit values have no defined range")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point values have no defined range")
    return image if image.mode == "RGB" else image.convert("RGB")
