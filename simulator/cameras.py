"""From light to a file: cameras, exposure and tone, JPEG."""

import io
from types import SimpleNamespace

import cv2
import numpy as np
from numpy.random import Generator
from PIL import Image

from simulator.people import normal


def draw_camera(rng: Generator, kind: str) -> SimpleNamespace:
    """A camera of the population `"web"` (old and new), `"ffhq"` or `"press"` (good recent ones).

    Noise model: Foi et al. 2008, "Practical Poissonian-Gaussian noise modeling and fitting", IEEE
    TIP. Read noise, 2 to 15 electrons in most cameras: Clark, clarkvision.com.
    """
    good = kind != "web"
    return SimpleNamespace(
        blur=rng.uniform(0.4, 0.6) if good else rng.uniform(0.45, 0.85),  # of lens, in pixels
        full_well=rng.uniform(3000, 12000) if good else rng.uniform(800, 6000),  # electrons
        read_noise=rng.uniform(2, 5) if good else rng.uniform(3, 12),  # electrons
        red=rng.uniform(0.45, 0.7),  # sensitivity to red and blue, relative to green
        blue=rng.uniform(0.5, 0.8),
        # Colour filter array (Bayer 1976, US patent 3971065), demosaiced along edges or bilinearly.
        pattern=str(rng.choice(("RGGB", "BGGR", "GRBG", "GBRG"))),
        edge_aware=bool(rng.random() < (0.8 if good else 0.5)),
        contrast=rng.uniform(0.0, 0.5),
        saturation=rng.uniform(0.95, 1.3),
        sharpening=rng.uniform(0.1, 0.5) if good else rng.uniform(0.0, 0.9),
        quality=int(rng.integers(84, 99)),  # of JPEG
        subsampling=str(rng.choice(("4:2:0", "4:2:2", "4:4:4"), p=(0.55, 0.3, 0.15))),
        progressive=bool(rng.random() < 0.1),
    )


def _develop(light: np.ndarray, contrast: float, saturation: float) -> np.ndarray:
    """Linear light to `uint8`: saturation, an S-shaped curve, sRGB transfer (IEC 61966-2-1)."""
    grey = light.mean(2, keepdims=True)
    light = grey + np.float32(saturation) * (light - grey)
    x = np.linspace(0, 1, 4096)
    srgb = np.where(x < 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
    curve = (1 - contrast) * srgb + contrast * (3 * srgb**2 - 2 * srgb**3)
    return np.uint8(np.round(255 * curve))[np.uint16(np.clip(light, 0, 1) * 4095)]


def _expose(light: np.ndarray) -> np.ndarray:
    """Automatic exposure: a mean of 0.2, near the 18 % grey of light meters."""
    return light * np.float32(0.2 / max(float(light.mean()), 1e-3))


def photograph(light: np.ndarray, camera: SimpleNamespace, rng: Generator) -> np.ndarray:
    """Light to photograph: lens, colour filters, noise, demosaicing, white balance, tone."""
    light = _expose(light) * np.float32(2.0 ** np.clip(rng.normal(0, 0.25), -0.6, 0.6))
    light = cv2.GaussianBlur(light, (0, 0), camera.blur)
    gain = np.float32([camera.red, 1, camera.blue])
    mosaic = np.empty(light.shape[:2], np.float32)
    for position, letter in enumerate(camera.pattern):
        (y, x), channel = divmod(position, 2), "RGB".index(letter)
        mosaic[y::2, x::2] = light[y::2, x::2, channel] * gain[channel]
    electrons = np.clip(mosaic, 0, 1) * np.float32(camera.full_well)
    noise = np.sqrt(electrons + np.float32(camera.read_noise**2))  # shot and read noise
    electrons += noise * normal(rng, *mosaic.shape)
    raw = np.uint16(np.clip(electrons * np.float32(60000 / camera.full_well) + 1000, 0, 65535))
    how = f"COLOR_Bayer{camera.pattern}2RGB" + ("_EA" if camera.edge_aware else "")
    image = (cv2.demosaicing(raw, getattr(cv2, how)).astype(np.float32) - 1000) / 60000
    red, blue = np.float32(rng.normal(1, 0.02, 2))  # errors of the white balance
    image = image / (gain * np.float32([red, 1, blue]))
    image = _develop(image, camera.contrast, camera.saturation)
    if camera.sharpening > 0.05:
        soft, amount = cv2.GaussianBlur(image, (0, 0), 1.0), camera.sharpening
        image = cv2.addWeighted(image, 1 + amount, soft, -amount, 0)
    return image


def clean(light: np.ndarray) -> np.ndarray:
    """A picture no camera has seen: exposed and toned, without noise, blur or mosaic."""
    return _develop(_expose(light), contrast=0.2, saturation=1.1)


def jpeg(image: np.ndarray, quality: int = 75, **options) -> bytes:
    """JPEG bytes; quality 75 with Pillow's defaults is what the generators' code writes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, **options)
    return buffer.getvalue()


def decode(content: bytes) -> np.ndarray:
    """RGB `uint8` of an encoded picture."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def resize(image: np.ndarray, side: int, how=Image.Resampling.BICUBIC) -> np.ndarray:
    """The picture as a square."""
    return np.asarray(Image.fromarray(image).resize((side, side), how))
