"""What can be done to a picture before a network sees it: steps, protocols.

A tuple of steps says what happened to a picture between its file and a network, in order:
`("squash:512", "jpeg:75", "jpeg:75", "resize:224")`. `STEPS` lists them.
"""

import io
import zlib
from collections.abc import Sequence
from contextlib import suppress
from functools import cache, partial

import cv2
import numpy as np
from PIL import Image

from ..config import PROTOCOLS
from .blending import self_blend

_BICUBIC = Image.Resampling.BICUBIC


def _to_square(method):
    return lambda image, size: image.resize((size, size), method)


def _aliased(image, size):
    shown = np.asarray(image)
    return Image.fromarray(cv2.resize(shown, (size, size), interpolation=cv2.INTER_LINEAR))


def _shorter(image, size):
    scale = size / min(image.size)
    return image.resize([max(round(side * scale), size) for side in image.size], _BICUBIC)


def _centre(image, size, grid=1):
    image = _shorter(image, size) if size > min(image.size) else image
    left, top = ((side - size) // 2 // grid * grid for side in image.size)
    return image.crop((left, top, left + size, top + size))


def _jpeg(image, quality):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, subsampling="4:2:0")
    return Image.open(stream)  # decoded by the next step that touches its pixels


def _checked(box):
    if box is None or not np.isfinite(box).all():
        expected = "Each of 'crop' and 'self_blend' needs a box of four fractions."
        raise ValueError(f"{expected} Received: {box}.")
    return np.clip(box, 0, 1)


def _crop(image, box):
    sizes = np.array([image.width, image.height] * 2)
    left, top, right, bottom = np.rint(_checked(box) * sizes).astype(int).tolist()
    left, top = min(left, image.width - 1), min(top, image.height - 1)
    return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))


def _self_blend(image, box):
    pixels = np.asarray(image.convert("RGB"))
    blended = self_blend(pixels, _checked(box), zlib.crc32(pixels.tobytes()))
    return Image.fromarray(blended).convert(image.mode)


def _spectrum(image, _):
    from .spectrum import spectrum_picture  # brings Keras along, which takes seconds

    return Image.fromarray(spectrum_picture(np.asarray(image)))


def _blur(image, size):
    if size % 2 == 0:
        raise ValueError(f"The kernel of 'blur' must have an odd size. Received: 'blur:{size}'.")
    return Image.fromarray(cv2.GaussianBlur(np.asarray(image), (size, size), size / 6))


def _noise(image, sigma):
    pixels = np.asarray(image)
    generator = np.random.default_rng(zlib.crc32(pixels.tobytes()))
    return _from_float(pixels + sigma * generator.standard_normal(pixels.shape, dtype=np.float32))


def _downscale(image, factor):
    small = image.resize([max(round(side / factor), 1) for side in image.size], _BICUBIC)
    return small.resize(image.size, _BICUBIC)


def _pixelate(image, size):
    cells = np.asarray(image.reduce(size)).repeat(size, axis=0).repeat(size, axis=1)
    return Image.fromarray(cells[: image.height, : image.width])


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


# name: function of picture and number; type, smallest and largest number, where it takes one
STEPS = {
    # Cuts out the largest square, in the middle.
    "square": (lambda image, _: _centre(image, min(image.size)),),
    "squash": (_to_square(_BICUBIC), int, 1, 8192),  # whatever the aspect, as the fakes' makers did
    "resize": (_to_square(Image.Resampling.BILINEAR), int, 1, 8192),
    # The same from the nearest four pixels alone, as with Keras' `resize` in the study. How much it
    # aliases depends on the size of the file: a trait of files, not of faces.
    "aliased": (_aliased, int, 1, 8192),
    "shorter": (_shorter, int, 1, 8192),  # resized: its shorter side has so many pixels
    "centre": (_centre, int, 1, 8192),  # cuts out the middle, resampled only if it is smaller
    # The same, from a corner of JPEG's grid of 8 × 8 on.
    "on_grid": (partial(_centre, grid=8), int, 1, 8192),
    "jpeg": (_jpeg, int, 1, 100),  # saved at this quality and read again: libjpeg-turbo, 4:2:0
    "crop": (_crop,),  # cuts out the box
    "self_blend": (_self_blend,),  # the face in the box, see `blending`; seeded as "noise"
    "grey": (lambda image, _: image.convert("L"),),  # ITU-R 601 luma, one channel
    "spectrum": (_spectrum,),  # log-magnitude, scaled to its range, one channel
    "blur": (_blur, int, 1, 255),  # Gaussian kernel of so many pixels (odd), σ a sixth of it
    "noise": (_noise, float, 0, 255),  # Gaussian, of this σ, seeded by the picture's own pixels
    "downscale": (_downscale, float, 1, 64),  # shrinks by the factor and grows back, bicubic
    "pixelate": (_pixelate, int, 1, 256),  # squares of so many pixels a side become their mean
    "chroma": (_chroma, float, 0, 10),  # multiplies the distance from grey
    "brightness": (_brightness, float, 0, 10),  # multiplies every value
}


@cache
def parse(step: str) -> tuple:
    """A step's name, function and number; raises `ValueError` if there is no such step."""
    name, _, text = str(step).partition(":")
    function, *limits = STEPS.get(name, [None])
    if function and not limits and step == name:
        return name, function, None
    with suppress(ValueError):
        if limits and limits[1] <= limits[0](text) <= limits[2]:
            return name, function, limits[0](text)
    valid = []
    for key, (_, *limits) in STEPS.items():
        valid.append(f"{key}:{limits[1]}..{limits[2]}" if limits else key)
    raise ValueError(f"There is no step {step!r}. Steps are: {', '.join(valid)}.")


def run(image: Image.Image, steps: Sequence[str], box) -> Image.Image:
    """`apply` on Pillow pictures: between two steps of Pillow, no pixels are copied."""
    for step in steps:
        name, function, number = parse(step)
        image = function(image, box if name in ("crop", "self_blend") else number)
    return image


def output_shape(plan: tuple[str, ...]) -> tuple[int, int, int]:
    """The shape `(size, size, channels)` of every picture that has gone through the steps."""
    size, channels = None, 3
    for step in plan:
        name, _, number = parse(step)
        if name in ("squash", "resize", "aliased", "centre", "on_grid", "crop"):
            size = number
        elif name in ("grey", "spectrum"):
            channels = 1
    if size is None:
        raise ValueError(f"After {plan} sizes differ. Add a step that sets one: 'resize:224'.")
    return size, size, channels


def apply(image: np.ndarray, steps: Sequence[str], box: Sequence | None = None) -> np.ndarray:
    """Applies steps to a picture, in order. The same input always gives the same output.

    Args:
        image: `uint8`, `(height, width, 3)` or `(height, width)`.
        steps: Of `STEPS`, with their numbers.
        box: Of `crop` and `self_blend`: left, top, right, bottom, as fractions in `[0, 1]`.

    Returns:
        `uint8`, `(height, width, 3)`, or `(height, width)` if grey: after `grey`, `spectrum`.

    Raises:
        ValueError: If picture, step or number is none of these, or a box is missing.

    Example:
    >>> apply(np.full((2, 4, 3), 200, np.uint8), ("brightness:0.5", "grey")).tolist()
    [[100, 100, 100, 100], [100, 100, 100, 100]]
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or not (image.ndim == 2 or image.ndim == 3 and image.shape[2] == 3):
        expected = "Expected a uint8 picture, (height, width, 3) or (height, width)."
        raise ValueError(f"{expected} Received: {image.dtype}, {image.shape}.")
    return np.array(run(Image.fromarray(image), steps, box))


def protocol_steps(
    protocol: str, num_jpeg: int, square_size: int, *, squashed: bool = True
) -> tuple[str, ...]:
    """The first steps, those of a protocol; the ones after them (crop, resize) are the network's.

    Real and fake files differ in size and in how often they were saved as JPEG. Either difference
    tells the classes apart without a look at a face. `report` keeps the files as the study did.
    `controlled` repeats the steps that fakes went through and a picture did not. Where the fakes
    were squares from the start, squashing would mark photographs by narrow or wide faces: both
    classes are cut to a square first.

    Args:
        num_jpeg: How often `controlled` saves as JPEG: a column of `catalog.tasks`.
        square_size: Side of the square fakes.
        squashed: Whether the fakes were squashed, whatever the aspect.

    Example:
    >>> protocol_steps("controlled", num_jpeg=2, square_size=512)
    ('squash:512', 'jpeg:75', 'jpeg:75')
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}. Received: {protocol!r}.")
    if protocol == "report":
        return ()
    return (*["square"] * (not squashed), f"squash:{square_size}", *["jpeg:75"] * int(num_jpeg))
