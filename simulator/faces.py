"""Draws a face: skin, beard, eyes, nose, mouth.

First come helpers: shapes, blends and textures, as arrays over the pixels of a patch.
"""

from types import SimpleNamespace

import cv2
import numpy as np
from numpy.random import Generator

from simulator.people import colour, generator_for, normal


def inside(distance: np.ndarray, softness: float) -> np.ndarray:
    """Coverage of a pixel by a region whose signed distance is negative inside."""
    return np.clip(0.5 - distance / softness, 0, 1)


def bump(x: np.ndarray, y: np.ndarray, width: float, height: float) -> np.ndarray:
    """A bell of these widths around 0."""
    return np.exp(-((x / width) ** 2 + (y / height) ** 2))


def stroke(distance: np.ndarray, width: float) -> np.ndarray:
    """A soft line where the distance is 0."""
    return np.exp(-((distance / width) ** 2))


def smooth(x: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur."""
    return cv2.GaussianBlur(x, (0, 0), sigma)


def where(condition: np.ndarray) -> tuple[slice, slice]:
    """The smallest window that holds all true values."""
    sides = np.flatnonzero(condition.any(1)), np.flatnonzero(condition.any(0))
    return tuple(slice(side[0], side[-1] + 1) if len(side) else slice(0) for side in sides)


def part(p: SimpleNamespace, condition: np.ndarray) -> SimpleNamespace:
    """The window of all arrays over pixels that holds all true values."""
    window, size = where(condition), condition.shape
    cut = {k: v[window] for k, v in vars(p).items() if np.shape(v)[:2] == size}
    return SimpleNamespace(**vars(p) | cut)


def over(image: np.ndarray, coverage: np.ndarray, paint: np.ndarray, shade=None) -> None:
    """Paints over `image` in place; `shade` darkens the paint at each pixel."""
    window = where(coverage > 0)
    paint = paint if paint.ndim == 1 else paint[window]
    if shade is not None:
        paint = paint * shade[window][..., None]
    image[window] += coverage[window][..., None] * (paint - image[window])


def cloud_cover(rng: Generator, rows: int, columns: int, size: tuple[int, int]) -> np.ndarray:
    """Smooth noise `size` wide and high, from a few random values."""
    return cv2.resize(normal(rng, rows, columns), size, interpolation=cv2.INTER_CUBIC)


def texture(grid: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Noise at (x, y): a grid of random values, interpolated and repeated."""
    return cv2.remap(grid, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def lit_skin(p: SimpleNamespace, r: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Light of the face: relief, lamp with a soft shadow of the nose, blood, pores, shine."""
    who, light, u, v, un, x = p.who, p.scene.light, p.u, p.v, p.nose, np.abs(p.u)
    nose_y, smile = who.nose_y, max(p.person.smile, 0)
    along = np.clip((v + 0.35) / (nose_y + 0.35), 0, 1) ** 1.4
    ridge = along * inside(v - nose_y, 0.16) * stroke(un, 0.13)
    tip = bump(un, v - nose_y + 0.07, 0.15, 0.13)
    wings = bump(np.abs(un) - who.nose_width, v - nose_y, 0.075, 0.075)
    relief = 0.95 * z + who.nose_height * (0.95 * ridge + tip) + 0.14 * wings
    for height, side, y, wide, high in (
        (0.06, 0.36, who.eye_y - 0.28, 0.4, 0.12),  # brows, sockets, cheeks, lips, chin
        (-0.12, 0.36, who.eye_y - 0.06, 0.2, 0.12),
        (0.06 + 0.05 * smile, 0.5, 0.22 + 0.05 * smile, 0.24, 0.2),
        (0.05, 0, who.mouth_y, 0.35, 0.16),
        (-0.04, 0, who.mouth_y + 0.19, 0.2, 0.06),
        (0.08, 0, who.chin - 0.2, 0.2, 0.14),
    ):
        relief += height * bump(x - side, v - y, wide, high)
    relief = smooth(relief, max(0.025 / p.pixel, 0.5))  # light scatters under the skin

    dx, dy = (cv2.Sobel(relief, cv2.CV_32F, i, 1 - i, ksize=3, scale=0.125) for i in (1, 0))
    slope_a, slope_b = (dx * row[0] + dy * row[1] for row in p.to_raster.T)
    norm = 1 / np.sqrt(1 + slope_a**2 + slope_b**2)
    toward = (light[2] - slope_a * light[0] - slope_b * light[1]) * norm
    diffuse, shine = np.clip((toward + 0.25) / 1.25, 0, 1), np.clip(toward, 0, 1) ** 12
    # The nose casts a shadow.
    diffuse *= 1 - 0.5 * bump(un + 0.3 * light[0], v - nose_y - 0.06 + 0.15 * light[1], 0.17, 0.12)
    fill = 0.78 - 0.22 * slope_b * norm  # the sky above gives more than the ground
    fill *= 1 - 0.3 * bump(x - 0.36, v - who.eye_y + 0.05, 0.2, 0.1) - 0.25 * stroke(r - 1, 0.16)

    rng = generator_for("skin", who.key, p.scene.background)
    cheeks = bump(x - 0.52, v - 0.26, 0.26, 0.24)
    blood = (0.05 + 0.15 * cheeks)[..., None] * colour(0.05, 0.4, 0.4)
    pores = smooth(normal(rng, *r.shape), max(0.012 / p.pixel, 0.5))
    tone = 1 + 0.03 * cloud_cover(rng, 14, 12, r.shape[::-1]) + 0.03 * pores / pores.std()
    albedo = who.skin * tone[..., None] * (1 - blood)
    if who.beard:
        moustache = bump(u, v - (nose_y + who.mouth_y) / 2 - 0.04, 0.3, 0.075)
        jaw = np.maximum(
            inside(0.74 - r, 0.12) * inside(0.18 - v, 0.25), inside(who.mouth_y + 0.23 - v, 0.14)
        )
        bristles = hairs(p, "beard", u, v)
        cover = 0.8 * who.beard * np.clip((jaw + moustache) * (0.8 + 0.3 * bristles), 0, 1)
        albedo += cover[..., None] * (who.hair * np.exp(0.3 * bristles)[..., None] - albedo)
        shine = shine * (1 - cover)
    light = p.scene.fill * fill[..., None] + p.scene.key * diffuse[..., None]
    return albedo * light + 0.04 * p.scene.key * shine[..., None]


def hairs(p: SimpleNamespace, name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Noise of short hairs along y, no finer than pixels can show."""
    grid = normal(generator_for(name, p.who.key), 128, 128)
    return texture(grid, min(60.0, 0.7 / p.pixel) * x + 300, 14 * y + 60)


def paint_features(p: SimpleNamespace) -> None:
    """Eyes, brows, nostrils and mouth, each on the part of the patch that holds it."""
    p.soft, p.dark = 1.8 * p.pixel, (np.minimum(p.who.skin, 0.3) * colour(0.2, 0.12, 0.1)) * p.lit
    for paint, x, y, wide, high in (
        (_paint_eye, -p.who.eye_x, p.who.eye_y - 0.1, 0.36, 0.35),
        (_paint_eye, p.who.eye_x, p.who.eye_y - 0.1, 0.36, 0.35),
        (_paint_nose_and_mouth, 0, 0.75, 0.7, 0.5),
    ):
        shown = part(p, (np.abs(p.u - x) < wide) & (np.abs(p.v - y) < high))
        if shown.u.size:
            paint(shown, 1 if x > 0 else -1)


def _paint_eye(p: SimpleNamespace, side: int) -> None:
    """One eye with lids, lashes and brow."""
    who, soft, v, wide = p.who, p.soft, p.v, 0.215
    x, y = side * p.u - who.eye_x, v - who.eye_y
    y = y + 0.04 * x
    arch = np.clip(1 - (x / wide) ** 2, 0, 1)
    upper, lower = -who.eye_open * arch**0.75, (0.6 - 0.2 * p.person.smile) * who.eye_open * arch
    iris = np.hypot(x, y + 0.01)
    white = (
        colour(0.6, 0.55, 0.51) * (0.92 - 0.35 * np.minimum(np.abs(x) / wide, 1) ** 3)[..., None]
    )
    over(white, inside(iris - 0.092, 1.5 * soft), who.iris, 1.25 - 9 * np.abs(iris - 0.06))
    over(white, inside(iris - 0.036, soft), colour(0.006, 0.006, 0.007))
    white *= (1 - 0.6 * np.exp(-np.maximum(y - upper, 0) / 0.03))[..., None]  # the lid's shadow
    glint = bump(side * x - 0.03 * p.scene.light[0], y + 0.045, 0.017, 0.017)
    eye = inside(np.maximum(np.maximum(upper - y, y - lower), np.abs(x) - wide), soft)
    over(p.image, eye, white * p.lit + 0.8 * glint[..., None])
    lash = stroke(y - upper + 0.006, 0.02 + 0.5 * p.pixel) * inside(np.abs(x) - 1.06 * wide, 0.05)
    over(p.image, 0.8 * lash, p.dark)

    t = (side * p.u - 0.13) / 0.55  # along the brow
    off = v - (who.eye_y - 0.24 - 0.06 * np.sin(1.43 * t))
    outside = np.abs(off) - who.brow_width * (1 - 0.75 * t**2)
    bristles = hairs(p, "brows", side * p.u + 0.8 * off, v)
    brow = inside(outside + 0.012 * bristles, 0.045) * ((t > 0) & (t < 1))
    hue = (0.6 * np.minimum(who.hair, 0.2) + 0.12 * who.skin) * p.lit
    over(p.image, brow * np.clip(0.75 + 0.2 * bristles, 0, 0.95), hue)


def _paint_nose_and_mouth(p: SimpleNamespace, _) -> None:
    """Nostrils and lips."""
    who, soft, u, v, smile = p.who, p.soft, p.u, p.v, p.person.smile
    x, y = np.abs(p.nose), v - who.nose_y
    nostril = bump(x - 0.56 * who.nose_width, y - 0.055 + 0.2 * (x - 0.1), 0.055, 0.026)
    under = bump(x, y - 0.085, 0.6 * who.nose_width, 0.02)
    over(p.image, np.clip(0.85 * nostril + 0.25 * under, 0, 0.9), p.dark)

    x = np.abs(u) / (who.mouth_width * (1 + 0.12 * smile))
    y = v - who.mouth_y + 0.12 * smile * (u / who.mouth_width) ** 2
    arch = np.clip(1 - x**2, 0, 1)
    top = -who.lip * arch**0.7 * (1 - 0.22 * stroke(u, 0.05))
    bottom = 1.3 * who.lip * arch**0.65
    lips = inside(np.maximum(np.maximum(top - y, y - bottom), x - 1), 0.02 + soft)
    level = np.where(y < 0, 0.75, 1.0)
    over(p.image, 0.85 * lips, who.skin * colour(0.82, 0.56, 0.55) * p.lit, level)
    line = stroke(y, 0.013 + 0.6 * p.pixel) * inside(x - 1.02, 0.08)
    over(p.image, 0.7 * line, p.dark)
