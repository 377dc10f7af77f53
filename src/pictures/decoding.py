"""Files → pixels: a picture is read to its end or rejected with a reason."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFile, UnidentifiedImageError

from ..files import map_files

MAX_PIXELS = 89_478_485  # Pillow's own mark of a decompression bomb: 256 MiB as RGB

_FACTS = ["width", "height", "mode", "format", "num_bytes", "orientation", "reason"]

# Damaged metadata leave the pixels alone (many IMDB-WIKI files have such); `_opened` refuses bombs.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class UnreadableImage(ValueError):
    """A file that is no whole picture. `file` and `reason` say which and why."""

    def __init__(self, file: Path | str, reason: str):
        super().__init__(file, reason)
        self.file, self.reason = file, reason

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}."


def decode(file: Path | str) -> np.ndarray:
    """Reads a picture, whole or not at all.

    Pixels come in stored orientation: the EXIF orientation is not applied, as neither the code that
    made the fakes nor the study's loader applied it. Alpha is dropped; of an animation the first
    frame is taken; of 16 bits the upper 8 are kept. Pillow decodes, since it refuses truncated
    files in every version; OpenCV is faster on small files, but versions before 5 fill the missing
    part with grey.

    Args:
        file: The picture, in any format that Pillow reads.

    Returns:
        Pixels: `uint8`, `(height, width, 3)`, RGB.

    Raises:
        UnreadableImage: If the file is missing, empty, truncated, not a picture, or has over
            `MAX_PIXELS` pixels.
    """
    return np.array(read(file))


def read(file: Path | str) -> Image.Image:
    """`decode`, as a Pillow picture."""
    with _opened(file) as image:
        return _to_rgb(image)


def read_grey(file: Path | str, min_side: int) -> np.ndarray:
    """Grey levels `(height, width)` `uint8`, at the least JPEG scale that keeps `min_side`."""
    with _opened(file) as image:
        image.draft("L", (min_side, min_side))
        return np.asarray(image.convert("L"))


def inspect(file: Path | str) -> dict:
    """What is known of a picture without its pixels, and whether it can be decoded to its end.

    All of the file is read, since truncation shows only at the end; of a JPEG the pixels are then
    rebuilt at an eighth of the size, which decodes the same bits in less time.

    Args:
        file: The picture.

    Returns:
        Dict with `width`, `height` (stored orientation), `mode` and `format` (Pillow's names),
        `num_bytes`, `orientation` (EXIF, 1 to 8; 1 if not given; `None` if the metadata are
        damaged) and
        `reason`: `None` for a sound picture, else why it cannot be used (what is not known is then
        `None`).
    """
    facts = dict.fromkeys(_FACTS)
    try:
        with name_in_errors(file):
            facts["num_bytes"] = os.path.getsize(file)
        with _opened(file) as image:
            facts |= {name: getattr(image, name) for name in ("width", "height", "mode", "format")}
            image.draft(None, (max(image.width // 8, 1), max(image.height // 8, 1)))
            _to_rgb(image)
            with suppress(Exception):  # damaged metadata raise errors of many kinds
                facts["orientation"] = image.getexif().get(0x0112, 1)
    except UnreadableImage as error:
        facts["reason"] = error.reason
    return facts


def inspect_all(files: Sequence[Path]) -> pd.DataFrame:
    """`inspect` for many files: one row a file, in their order; `reason` marks the rejects."""
    table = pd.DataFrame(map_files(inspect, files, 2, "Inspecting"), columns=_FACTS)
    return table.astype({name: "Int64" for name in ("width", "height", "num_bytes", "orientation")})


@contextmanager
def name_in_errors(file: Path | str) -> Iterator[None]:
    """Whatever goes wrong with a file inside the block becomes an `UnreadableImage`."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # decoders meet damaged data with errors of many kinds
        raise UnreadableImage(file, reason_of(file, error)) from error


@contextmanager
def _opened(file: Path | str) -> Iterator[Image.Image]:
    """A picture, not yet decoded; errors inside the block name its file."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is True, so truncated pictures would pass unseen. "
            "Some other code has set it; set it back to False."
        )
    with name_in_errors(file), Image.open(file) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        yield image


def reason_of(file: Path | str, error: Exception) -> str:
    """Why a file could not be read, in a few words."""
    if isinstance(error, FileNotFoundError):
        return "the file is missing"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS:,} pixels"
    if isinstance(error, UnidentifiedImageError):
        known = "not a picture in a known format, or one cut off in its header"
        return known if os.path.getsize(file) else "the file is empty (0 bytes)"
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
