"""How a face is painted: skin, beard, eyes, nose, mouth, glasses; first the brushes for it.

Brushes are shapes, blends and textures, as arrays over the pixels of a patch.
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


def ramp(x: np.ndarray, width: float) -> np.ndarray:
    """From 0 to 1 around 0, within the width."""
    return np.clip(x / width, 0, 1)


def smooth(x: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur."""
    return cv2.GaussianBlur(x, (0, 0), sigma)


def where(condition: np.ndarray) -> tuple[slice, slice] | None:
    """The smallest window that holds all true values; `None` if there are none."""
    rows, columns = np.flatnonzero(condition.any(1)), np.flatnonzero(condition.any(0))
    return (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)) if len(rows) else None


def over(image: np.ndarray, coverage: np.ndarray, paint: np.ndarray, shade=None) -> None:
    """Paints over `image` in place; `shade` darkens the paint at each pixel."""
    if (part := where(coverage > 0)) is None:
        return
    paint = paint if paint.ndim == 1 else paint[part]
    if shade is not None:
        paint = paint * shade[part][..., None]
    image[part] += coverage[part][..., None] * (paint - image[part])


def cloud_cover(rng: Generator, rows: int, columns: int, size: tuple[int, int]) -> np.ndarray:
    """Smooth noise `size` wide and high, from a few random values."""
    return cv2.resize(normal(rng, rows, columns), size, interpolation=cv2.INTER_CUBIC)


def texture(grid: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Noise at (x, y): a grid of random values, interpolated and repeated."""
    x, y = (np.float32(c) for c in np.broadcast_arrays(x, y))
    return cv2.remap(grid, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def lit_skin(p: SimpleNamespace, r: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Light of the face: relief, soft light, skin with blood, melanin and pores, shine."""
    who, light, u, v, un, x = p.who, p.scene.light, p.u, p.v, p.nose, np.abs(p.u)
    nose_y, mouth_y, eye_x, eye_y = who.nose_y, who.mouth_y, who.eye_x, who.eye_y
    smile, high = max(p.person.smile, 0), who.nose_height
    ridge = ramp(v + 0.35, nose_y + 0.35) ** 1.4 * inside(v - nose_y, 0.16)
    relief = (
        0.95 * z
        + high * 0.95 * ridge * stroke(un, 0.13)
        + high * 1.0 * bump(un, v - nose_y + 0.07, 0.15, 0.13)
        + 0.14 * bump(np.abs(un) - who.nose_width, v - nose_y, 0.075, 0.075)
        + 0.07 * stroke(v - eye_y + 0.28, 0.12) * inside(x - 0.7, 0.3)
        - 0.12 * bump(x - 0.36, v - eye_y + 0.06, 0.2, 0.12)
        + (who.cheek + 0.05 * smile) * bump(x - 0.5, v - 0.22 - 0.05 * smile, 0.24, 0.2)
        + 0.05 * bump(u, v - mouth_y, 0.35, 0.16)
        - 0.04 * bump(u, v - mouth_y - 0.19, 0.2, 0.06)
        + 0.08 * bump(u, v - who.chin + 0.2, 0.2, 0.14)
        - 0.02 * bump(u, v - (nose_y + mouth_y) / 2 + 0.02, 0.045, 0.09)
    )
    fold = stroke(x - who.nose_width - 0.05 - 0.32 * (v - nose_y), 0.035)  # from nostril to mouth
    depth = 0.012 + 0.035 * who.wrinkles + 0.03 * smile
    relief -= depth * fold * inside(np.abs(v - nose_y - 0.18) - 0.2, 0.2)
    lines = generator_for("lines", who.key).uniform(0, 6, 2).tolist()
    crease = np.sin(34 * v + lines[0] + 0.8 * np.sin(3 * u + lines[1]))
    relief += 0.008 * who.wrinkles * (crease * bump(u, v + 0.68, 0.5, 0.2))
    relief = smooth(relief, max(0.019 / p.pixel, 0.5))  # light scatters under the skin

    dx, dy = (cv2.Sobel(relief, cv2.CV_32F, i, 1 - i, ksize=3, scale=0.125) for i in (1, 0))
    slope_a, slope_b = (dx * row[0] + dy * row[1] for row in p.to_raster.T)
    norm = 1 / np.sqrt(1 + slope_a**2 + slope_b**2)
    half = light + colour(0, 0, 1)
    ways = (light, half / np.linalg.norm(half))
    toward, shine = ((-slope_a * w[0] - slope_b * w[1] + w[2]) * norm for w in ways)
    diffuse, shine = np.clip((toward + 0.25) / 1.25, 0, 1), np.clip(shine, 0, 1) ** 18
    fill = 0.78 - 0.22 * slope_b * norm  # the sky above gives more than the ground
    sockets = 0.3 * bump(x - 0.36, v - eye_y + 0.05, 0.2, 0.1)
    fill *= 1 - sockets - 0.22 * bump(un, v - nose_y - 0.08, 0.16, 0.05)
    fill *= 1 - 0.25 * stroke(r - 1, 0.16)

    rng = generator_for("skin", who.key, p.scene.background)
    cheeks, tip = bump(x - 0.52, v - 0.26, 0.26, 0.24), bump(un, v - nose_y + 0.08, 0.16, 0.12)
    blood = np.maximum(who.blush * (cheeks + 0.7 * tip) + 0.06, 0)[..., None]
    tone = 1 + 0.03 * cloud_cover(rng, 14, 12, r.shape[::-1])
    pores = smooth(normal(rng, *r.shape), max(0.012 / p.pixel, 0.5))
    tone = tone + 0.03 * (pores / max(float(pores.std()), 1e-6))
    if who.freckles > 0.3:
        grid = normal(generator_for("freckles", who.key), 64, 64)
        spots = inside(1.5 - texture(grid, 24 * u + 40, 24 * v + 40), 0.5)
        tone -= 0.3 * who.freckles * spots * bump(x - 0.3, v - 0.2, 0.45, 0.3)
    bags = (0.05 + 0.12 * who.wrinkles) * bump(x - eye_x, v - eye_y - 0.16, 0.18, 0.05)
    albedo = who.skin * (tone - bags)[..., None] * (1 - blood * colour(0.05, 0.42, 0.42))
    if who.beard:
        cover, hue = beard_cover(p, r)
        albedo += cover[..., None] * (hue - albedo)
        shine = shine * (1 - cover)
    light = p.scene.fill * fill[..., None] + p.scene.key * diffuse[..., None]
    return albedo * light + 0.05 * p.scene.key * shine[..., None]


def beard_cover(p: SimpleNamespace, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and colour of stubble (1), a moustache (2), a goatee (3) or a full beard (4)."""
    who, u, v = p.who, p.u, p.v
    moustache = bump(u, v - (who.nose_y + who.mouth_y) / 2 - 0.04, 0.3, 0.075)
    chin = bump(u, v - who.chin + 0.12, 0.3, 0.22)
    jaw = ramp(r - 0.68, 0.12) * ramp(v - 0.05, 0.25) + ramp(v - who.mouth_y - 0.16, 0.14)
    weight = {1: 0.55, 2: 1.4, 3: 1.2, 4: 1.4}[who.beard]
    cover = {2: moustache, 3: moustache + chin}.get(who.beard, jaw + moustache)
    grid = normal(generator_for("beard", who.key), 128, 128)
    bristles = texture(grid, min(60.0, 0.7 / p.pixel) * u + 300, 14 * v + 60)
    stubble = 0.5, 0.5 * who.hair + 0.35 * who.skin
    limit, hue = stubble if who.beard == 1 else (0.88, who.hair * np.float32(1.2))
    cover = np.clip(weight * cover, 0, 1) * np.clip(0.75 + 0.3 * bristles, 0, 1.1) * limit
    return cover, hue * np.exp(0.35 * bristles)[..., None]


def part_where(p: SimpleNamespace, condition: np.ndarray) -> SimpleNamespace | None:
    """The part of a patch that holds all true values; `None` if there are none."""
    part = where(condition)
    names = "image", "u", "v", "nose"
    return part and SimpleNamespace(**vars(p) | {name: vars(p)[name][part] for name in names})


def paint_features(p: SimpleNamespace) -> None:
    """Eyes, brows, nostrils and mouth."""
    who = p.who
    p.soft, p.grid = 1.8 * p.pixel, normal(generator_for("features", who.key), 64, 64)
    p.dark = (np.minimum(who.skin, 0.3) * colour(0.22, 0.12, 0.1) + 0.004) * p.lit
    for side in (-1, 1):
        near = (np.abs(side * p.u - who.eye_x) < 0.36) & (np.abs(p.v - who.eye_y + 0.1) < 0.35)
        if (part := part_where(p, near)) is not None:
            paint_eye(part, side)
    if (part := part_where(p, (np.abs(p.u) < 0.7) & (np.abs(p.v - 0.75) < 0.5))) is not None:
        paint_nose_and_mouth(part)


def paint_eye(p: SimpleNamespace, side: int) -> None:
    """One eye with lids, lashes and brow."""
    who, soft, v, wide = p.who, p.soft, p.v, p.who.eye_width
    x, y = side * p.u - who.eye_x, v - who.eye_y
    y = y + who.eye_tilt * x
    arch = np.clip(1 - (x / wide) ** 2, 0, 1)
    upper = -who.eye_open * arch**0.75 * (1 - 0.12 * x / wide)
    lower = (0.62 - 0.2 * max(p.person.smile, 0)) * who.eye_open * arch
    eye = inside(np.maximum(np.maximum(upper - y, y - lower), np.abs(x) - wide), soft)
    gx, gy = x - side * p.person.gaze[0], y - p.person.gaze[1] + 0.01
    iris, angle = np.hypot(gx, gy), np.arctan2(gy, gx)
    white = colour(0.7, 0.63, 0.58) * (0.92 - 0.35 * ramp(np.abs(x), wide) ** 3)[..., None]
    ray = 1 + 0.35 * texture(p.grid, 9 * angle + 32, 20 * iris + 5)
    over(white, inside(iris - 0.092, 1.5 * soft), who.iris, ray * (1.25 - 9 * np.abs(iris - 0.06)))
    over(white, inside(iris - 0.036, soft), colour(0.006, 0.006, 0.007))
    white *= (1 - 0.6 * np.exp(-np.maximum(y - upper, 0) / 0.03))[..., None]  # the lid's shadow
    white *= p.lit
    glint = bump(side * gx - 0.03 * p.scene.light[0], gy + 0.035, 0.017, 0.017)
    white += 0.9 * glint[..., None]
    over(p.image, eye, white)
    lash = stroke(y - upper + 0.006, 0.02 + 0.5 * p.pixel) * inside(np.abs(x) - 1.06 * wide, 0.05)
    rim = stroke(y - lower - 0.004, 0.012 + 0.5 * p.pixel) * inside(np.abs(x) - 0.98 * wide, 0.05)
    crease = stroke(y - upper + 0.055, 0.016) * np.clip(1 - (x / (1.15 * wide)) ** 2, 0, 1)
    makeup = 0.92 if who.gender == "female" else 0.78
    over(p.image, np.clip(makeup * lash + 0.35 * rim + 0.42 * crease, 0, 0.95), p.dark)

    along = side * p.u - 0.13  # the brow
    t = ramp(along, 0.55)
    off = v - (who.eye_y + who.brow_y - who.brow_arch * np.sin(2.6 * t) - 0.01 * t)
    thick = who.brow_width * (1 - 0.75 * t**2)
    outside = np.maximum(np.abs(off) - thick, np.abs(along - 0.275) - 0.275)
    fine = min(70.0, 0.7 / p.pixel)
    hairs = texture(p.grid, fine * (side * p.u + 0.8 * off) + 200, 14 * v + 30)
    brow = inside(outside + 0.012 * hairs, 0.045) * (0.78 + 0.2 * hairs)
    hue = (0.6 * np.minimum(who.hair, 0.2) + 0.12 * who.skin) * p.lit
    over(p.image, np.clip(brow, 0, 0.95), hue)


def paint_nose_and_mouth(p: SimpleNamespace) -> None:
    """Nostrils, lips, teeth."""
    who, soft, u, v, lit, gap = p.who, p.soft, p.u, p.v, p.lit, p.person.open
    x, y = np.abs(p.nose), v - who.nose_y
    nostril = bump(x - 0.56 * who.nose_width, y - 0.055 + 0.2 * (x - 0.1), 0.055, 0.026)
    wing = stroke(np.hypot(x - who.nose_width + 0.02, y) - 0.085, 0.016) * (x > who.nose_width)
    under = bump(x, y - 0.085, 0.6 * who.nose_width, 0.02)
    over(p.image, np.clip(0.88 * nostril + 0.25 * wing + 0.3 * under, 0, 0.92), p.dark)

    wide = who.mouth_width * (1 + 0.12 * max(p.person.smile, 0))
    x = u / wide
    y = v - who.mouth_y + 0.12 * p.person.smile * (u / who.mouth_width) ** 2
    arch = np.clip(1 - x**2, 0, 1)
    bow = 1 - 0.22 * stroke(u, 0.05) + 0.1 * stroke(np.abs(u) - 0.09, 0.06)
    top = -who.lip_upper * arch**0.7 * bow - gap * arch * 0.4
    bottom = who.lip_lower * arch**0.65 + gap * arch
    x = np.abs(x)
    lips = inside(np.maximum(np.maximum(top - y, y - bottom), x - 1), 0.02 + soft)
    red = who.skin * colour(0.85, 0.5, 0.5) * (1 - who.lipstick)
    red = red + who.lipstick * colour(0.42, 0.07, 0.09) * (0.4 + 0.6 * who.skin[0])
    level = np.where(y < 0.3 * gap, 0.68, 1.02) - 0.25 * ramp(y - 0.6 * bottom, who.lip_lower)
    level = level + 0.08 * texture(p.grid, 60 * u + 300, 5 * v)
    gloss = bump(u - 0.1 * p.scene.light[0], y - 0.45 * bottom, 0.13, 0.02)
    gloss = 0.05 * (1 + 2 * who.lipstick) * gloss
    over(p.image, 0.88 * lips, red * lit * level[..., None] + gloss[..., None])
    if gap:
        teeth = colour(0.66, 0.6, 0.5) * (0.95 - 0.5 * np.clip(x, 0, 1) ** 2)[..., None] * lit
        between = np.exp(-((np.mod(u / 0.075, 1) - 0.5) ** 2) / 0.01)
        teeth *= (1 - 0.18 * between)[..., None]
        over(teeth, inside(0.62 * gap * arch - y, 0.03 + soft), colour(0.1, 0.03, 0.03) * lit)
        gape = np.maximum(np.abs(y - 0.3 * gap) - gap * arch * 0.75, x - 0.86)
        over(p.image, inside(gape, soft), teeth)
    else:
        line = stroke(y - 0.012 * np.cos(9 * u), 0.013 + 0.6 * p.pixel) * inside(x - 1.02, 0.08)
        over(p.image, 0.8 * line, p.dark)
    p.image *= (1 - 0.35 * bump(x * wide - wide, y, 0.035, 0.03))[..., None]  # the corners


def paint_glasses(p: SimpleNamespace) -> None:
    """Two rims, bridge and temples; the lenses reflect a little of the lamp."""
    who, scene, u, v, soft = p.who, p.scene, p.u, p.v, 1.5 * p.pixel
    rng, power = generator_for("glasses", who.key), {1: 2.0, 2: 3.2, 3: 5.0}[who.glasses]
    wide, high, thick = rng.uniform((0.3, 0.2, 0.018), (0.34, 0.27, 0.045)).tolist()
    tone = np.float32(rng.choice([0.015, 0.03, 0.3])) * np.float32(rng.uniform(0.7, 1.1, 3))
    x, below = np.abs(u), np.abs(v - who.eye_y + 0.04 - 0.3 * u**2) - thick / 2
    bridge = np.maximum(x - who.eye_x - 0.02 + wide, below)
    temple = who.eye_x + wide - x, np.abs(p.a) - 1.0, np.abs(v - who.eye_y) - thick / 2
    rim = inside(np.minimum(bridge, np.maximum.reduce(temple)), soft)
    for side in (-1, 1):
        x, y = (side * u - who.eye_x - 0.02) / wide, (v - who.eye_y - 0.03) / high
        radius = (np.abs(x) ** power + np.abs(y) ** power) ** (1 / power)
        rim = np.maximum(rim, inside(np.abs(radius - 1) * 0.26 - thick / 2, soft))
        glare = np.clip(np.sin(5 * (x + y) + 3 * scene.light[0]), 0, 1)
        p.image += (0.03 * inside(radius - 1, 0.1) * glare)[..., None] * scene.key
    over(p.image, 0.95 * rim, tone * (scene.fill + scene.key) + 0.03)
