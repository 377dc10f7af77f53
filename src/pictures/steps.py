"""What can be done to a picture before a network sees it: steps, protocols, degradations.

A step is a short string, `"name:number"`. A tuple of steps, in order, says everything that happened
to a picture between its file and a network: `("squash:512", "jpeg:75", "jpeg:75", "resize:224")`.
"""

import io
import zlib
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from PIL import Image

from ..config import PROTOCOLS

# The five levels of DeepFakeFace's robustness test, mildest first (Song et al. 2023, "Robustness
# and Generalizability of Deepfake Detection: A Study with Diffusion Models", arXiv:2309.02218).
DEGRADATIONS = {
    name: tuple(f"{name}:{level}" for level in levels)
    for name, levels in {
        "chroma": (0.4, 0.3, 0.2, 0.1, 0),
        "brightness": (0.85, 0.725, 0.6, 0.475, 0.35),
        "blur": (7, 9, 13, 17, 21),
        "pixelate": (2, 3, 4, 5, 6),
    }.items()
}


def _squash(image, size):
    return image.resize((size, size), Image.Resampling.BICUBIC)


def _resize(image, size):
    return image.resize((size, size), Image.Resampling.BILINEAR)


def _jpeg(image, quality):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, subsampling="4:2:0")
    return Image.open(stream)  # decoded by the next step that touches its pixels


def _crop(image, box):
    if box is None or not np.isfinite(box).all():
        raise ValueError(
            f"The step 'crop' needs a box, four fractions of the picture. Received: {box}."
        )
    sizes = np.array([image.width, image.height] * 2)
    left, top, right, bottom = np.rint(np.clip(box, 0, 1) * sizes).astype(int).tolist()
    left, top = min(left, image.width - 1), min(top, image.height - 1)
    return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))


def _grey(image, _):
    return image.convert("L")


def _spectrum(image, _):
    from .spectrum import uint8_spectrum  # brings Keras along, which takes seconds to import

    return Image.fromarray(uint8_spectrum(np.asarray(image)))


def _blur(image, size):
    if size % 2 == 0:
        raise ValueError(f"The kernel of 'blur' must have an odd size. Received: 'blur:{size}'.")
    return Image.fromarray(cv2.GaussianBlur(np.asarray(image), (size, size), size / 6))


def _noise(image, sigma):
    pixels = np.asarray(image)
    generator = np.random.default_rng(zlib.crc32(pixels.tobytes()))
    return _from_float(pixels + sigma * generator.standard_normal(pixels.shape, dtype=np.float32))


def _downscale(image, factor):
    small = (max(round(image.width / factor), 1), max(round(image.height / factor), 1))
    return image.resize(small, Image.Resampling.BICUBIC).resize(
        image.size, Image.Resampling.BICUBIC
    )


def _pixelate(image, size):
    cells = np.asarray(image.reduce(size))
    return Image.fromarray(
        cells.repeat(size, axis=0).repeat(size, axis=1)[: image.height, : image.width]
    )


def _chroma(image, factor):
    if image.mode == "L":
        return image
    pixels = np.asarray(image, np.float32)
    luma = (pixels @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    return _from_float(luma + np.float32(factor) * (pixels - luma))


def _brightness(image, factor):
    return _from_float(np.asarray(image, np.float32) * np.float32(factor))


def _from_float(pixels: np.ndarray) -> Image.Image:
    """Floating-point pixels, rounded and clipped to [0, 255]."""
    return Image.fromarray(np.rint(pixels).clip(0, 255).astype(np.uint8))


# name: (function of picture and number, type of the number or None, smallest, largest)
_STEPS = {
    "squash": (_squash, int, 1, 8192),
    "resize": (_resize, int, 1, 8192),
    "jpeg": (_jpeg, int, 1, 100),
    "crop": (_crop, None, None, None),
    "grey": (_grey, None, None, None),
    "spectrum": (_spectrum, None, None, None),
    "blur": (_blur, int, 1, 255),
    "noise": (_noise, float, 0, 255),
    "downscale": (_downscale, float, 1, 64),
    "pixelate": (_pixelate, int, 1, 256),
    "chroma": (_chroma, float, 0, 10),
    "brightness": (_brightness, float, 0, 10),
}


@cache
def parse(step: str) -> tuple:
    """A step's name, function and number; raises `ValueError` if there is no such step."""
    name, colon, text = str(step).partition(":")
    valid = ", ".join(key + (":number" if kind else "") for key, (_, kind, *_) in _STEPS.items())
    if name not in _STEPS or bool(colon) != bool(_STEPS[name][1]):
        raise ValueError(f"There is no step {step!r}. Steps are: {valid}.")
    function, kind, low, high = _STEPS[name]
    try:
        number = kind(text) if kind else None
    except ValueError:
        number = None
    if kind and (number is None or not low <= number <= high):
        raise ValueError(
            f"The step {step!r} needs a number ({kind.__name__}) from {low} to {high} after `:`."
        )
    return name, function, number


def run(image: Image.Image, steps: Sequence[str], box) -> Image.Image:
    """`apply` on Pillow pictures: between steps of Pillow, nothing is copied to arrays."""
    for step in steps:
        name, function, number = parse(step)
        image = function(image, box if name == "crop" else number)
    return image


def output_shape(plan: tuple[str, ...]) -> tuple[int, int, int]:
    """The shape `(size, size, channels)` of every picture that has gone through the steps.

    Raises:
        ValueError: If a step is unknown, or the steps leave pictures of many sizes.
    """
    size, channels = None, 3
    for step in plan:
        name, _, number = parse(step)
        if name in ("squash", "resize"):
            size = number
        elif name == "crop":
            size = None
        elif name in ("grey", "spectrum"):
            channels = 1
    if size is None:
        raise ValueError(
            f"The steps {plan} leave pictures of many sizes. Add one like 'resize:224' at the end."
        )
    return size, size, channels


def apply(
    image: np.ndarray, steps: Sequence[str], box: Sequence[float] | None = None
) -> np.ndarray:
    """Applies steps to a picture, in order. The same input always gives the same output.

    | step | what it does |
    |---|---|
    | `squash:S` | to S×S whatever the aspect, Pillow's bicubic, as the makers of the fakes did |
    | `resize:S` | to S×S, Pillow's bilinear: averages over all source pixels when shrinking |
    | `jpeg:Q` | JPEG at quality Q in memory and back: libjpeg-turbo, chroma halved (4:2:0) |
    | `crop` | cuts out the box |
    | `grey` | ITU-R 601 luma, one channel |
    | `spectrum` | log-magnitude spectrum, scaled to its own range, one channel |
    | `blur:K` | Gaussian kernel of K×K pixels, σ = K / 6 |
    | `noise:σ` | adds Gaussian noise, seeded by the picture's own pixels |
    | `downscale:F` | shrinks by F and grows back, bicubic |
    | `pixelate:F` | F×F pixels become their mean |
    | `chroma:F` | multiplies the distance from grey |
    | `brightness:F` | multiplies every value |

    The study's bilinear `resize` (Keras') takes the nearest four pixels only, so how much it
    aliases depends on the size of the file: a trait of files, not of faces. Pillow's does not.

    Args:
        image: `uint8`, `(height, width, 3)` or `(height, width)`.
        steps: Steps in order.
        box: What `crop` cuts: left, top, right, bottom, as fractions of the picture in `[0, 1]`.

    Returns:
        `uint8`, `(height, width, 3)`, or `(height, width)` after `grey` or `spectrum`.

    Raises:
        ValueError: If a step is unknown or lacks its number, or `crop` its box.

    Example:
    >>> apply(np.full((2, 4, 3), 200, np.uint8), ("brightness:0.5", "grey")).tolist()
    [[100, 100, 100, 100], [100, 100, 100, 100]]
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or not (image.ndim == 2 or image.ndim == 3 and image.shape[2] == 3):
        raise ValueError(
            "Expected a uint8 picture, (height, width, 3) or (height, width). "
            f"Received: {image.dtype}, {image.shape}."
        )
    return np.array(run(Image.fromarray(image), steps, box))


def protocol_steps(protocol: str, *, num_jpeg: int, square_size: int) -> tuple[str, ...]:
    """The steps by which a protocol begins; the ones after them (crop, resize) are the network's.

    Files of real and fake pictures differ in size and in how often they were saved as JPEG, and
    either difference tells the classes apart with no look at a face (the shortcut). `report` keeps
    the files as the study did. `controlled` replays on a picture the rest of the fakes' way:
    squashed to a square, then saved as JPEG of quality 75 as often as the fakes were and this
    picture was not.

    Args:
        protocol: `"report"` or `"controlled"`.
        num_jpeg: How often `controlled` saves: the column `num_jpeg` of a detection task; 0 for
            pictures that have had it.
        square_size: Side of the square that the fakes were squashed to; pictures of that size stay
            as they are.

    Returns:
        Steps for `prepare` or `apply`.

    Raises:
        ValueError: If there is no such protocol.

    Example:
    >>> protocol_steps("controlled", num_jpeg=2, square_size=512)
    ('squash:512', 'jpeg:75', 'jpeg:75')
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}. Received: {protocol!r}.")
    return () if protocol == "report" else (f"squash:{square_size}",) + ("jpeg:75",) * int(num_jpeg)
