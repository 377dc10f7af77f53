"""How a scene becomes linear light: background, then each person, hair and clothes included.

First come helpers: shapes, blends and textures, as arrays over the pixels of a patch.
"""

import math
from types import SimpleNamespace

import cv2
import numpy as np
from numpy.random import Generator

from simulator.people import Scene, colour, generator_for, muted, normal, onto_head


def inside(distance: np.ndarray, softness: float) -> np.ndarray:
    """Coverage of a pixel by a region whose signed distance is negative inside."""
    return np.clip(0.5 - distance / softness, 0, 1)


def bump(x: np.ndarray, width: float, y=0.0, height=1.0) -> np.ndarray:
    """A bell around 0, of these widths; without `y`, a soft line where x is 0."""
    return np.exp(-((x / width) ** 2 + (y / height) ** 2))


def where(condition: np.ndarray) -> tuple[slice, slice]:
    """The smallest window that holds all true values."""
    x, y, wide, high = cv2.boundingRect(np.uint8(condition))
    return slice(y, y + high), slice(x, x + wide)


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


def render(scene: Scene, size: tuple[int, int]) -> np.ndarray:
    """Linear light `(height, width, 3)` of the stored picture, at any `size` (width, height)."""
    image = _paint_background(scene, size[::-1] if scene.turn % 2 else size)
    for person in scene.people:
        p = _plane(image, scene, person)
        head = part(p, (np.abs(p.a) < 1.75) & (np.abs(p.b - 0.2) < 2.4))
        if head.a.size:
            _paint_person(head, part(p, (np.abs(p.a) < 4.5) & (p.b > 0.4)))
    return np.rot90(np.maximum(image, 0), scene.turn)


def _plane(image: np.ndarray, scene: Scene, person: SimpleNamespace) -> SimpleNamespace:
    """The canvas, and each pixel's place in the person's plane, `a` and `b`."""
    size, c, s = image.shape[1::-1], np.cos(person.roll), np.sin(person.roll)
    wide, high = scene.width / size[0], scene.height / size[1]
    to_upright = [[wide, 0, wide / 2 - person.x], [0, high, high / 2 - person.y]]
    matrix = np.array([[c, s], [-s, c]]) @ to_upright / person.scale
    x, y = np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32)[:, None]
    a, b = (row[0] * x + row[1] * y + row[2] for row in matrix.astype(np.float32))
    p = SimpleNamespace(image=image, scene=scene, person=person, who=person.who, a=a, b=b)
    p.pixel = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    p.to_raster = np.linalg.inv(matrix[:, :2]).astype(np.float32)
    return p


def _paint_background(scene: Scene, size: tuple[int, int]) -> np.ndarray:
    """A backdrop, leaves or a room, out of focus, in muted colours."""
    rng = generator_for("background", scene.background)
    rows, columns = 128, max(int(128 * scene.width / scene.height), 32)
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32) / rows
    main, kind = muted(rng, 0.08, 0.45), rng.integers(3)
    clouds = cloud_cover(rng, 6, 8, x.shape[::-1])
    field = main * (0.8 - 0.2 * y + 0.08 * clouds)[..., None]
    if kind == 0:
        across, down = x - rng.uniform(0.2, 0.8) * (columns / rows), y - rng.uniform(0.2, 0.6)
        field *= (0.6 + 0.8 * bump(across, 0.6, down, 0.5))[..., None]
    elif kind == 1:
        leaves = sum(cloud_cover(rng, rows // s, columns // s, x.shape[::-1]) for s in (2, 5, 11))
        field *= np.exp(0.4 * leaves)[..., None] * colour(0.85, 1, 0.7)
    else:  # shelves, frames, a window
        for _ in range(rng.integers(6, 25)):
            x0, y0, wide, high = rng.integers((-10, -10, 4, 10), (columns, rows, 40, 60)).tolist()
            tone = (main * muted(rng, 0.3, 1.7)).tolist()
            cv2.rectangle(field, (x0, y0), (x0 + wide, y0 + high), tone, -1)
    field = cv2.GaussianBlur(np.maximum(field, 0.004), (0, 0), rng.uniform(0.5, 3.0))
    image = cv2.resize(field, size, interpolation=cv2.INTER_CUBIC)
    grain = rng.uniform(0.02, 0.15) * cv2.GaussianBlur(normal(rng, *size[::-1]), (0, 0), 0.8)
    return image * (1 + grain)[..., None]


def _paint_body(p: SimpleNamespace) -> None:
    """Neck with the chin's shadow, shoulders and a garment with a round or pointed opening."""
    who, light, soft, a, b, x = p.who, p.scene.light, 2 * p.pixel, p.a, p.b, np.abs(p.a)
    rng, lit = generator_for("clothes", p.person.wears), p.scene.fill + p.scene.key * 0.75
    neck_width, wide = (0.62, 2.15) if who.gender == "male" else (0.5, 1.8)
    neck_width = neck_width + 0.12 * np.maximum(b - 1.3, 0) ** 2
    side = a / neck_width
    chin = bump(a + 0.5 * light[0], 0.8) * np.exp(-np.maximum(b - who.chin + 0.2, 0) / 0.35)
    shade = (0.95 - 0.4 * np.abs(side) ** 3 + 0.35 * side * light[0]) * (1 - 0.6 * chin)
    neck = inside(x - neck_width, 2 * soft) * inside(0.4 - b, soft)
    over(p.image, neck, who.skin * lit, np.clip(shade, 0.1, 1.3))

    opening = 1.78 - 0.9 * x**2 if rng.random() < 0.5 else 2.5 - 1.35 * x
    below_shoulder = 1.62 + 0.16 * x**1.6 + 2.5 * np.maximum(x - wide, 0) ** 2 - b
    folds = texture(normal(rng, 24, 24), 2.2 * a + 30 + 0.5 * b, 1.1 * b + 20)
    weave = rng.uniform(0.02, 0.12) * cv2.GaussianBlur(normal(rng, *a.shape), (0, 0), 0.6)
    shade = 0.72 + 0.35 * light[0] * a / wide + 0.1 * folds + weave - 0.12 * np.maximum(b - 2, 0)
    shade *= 1 - 0.35 * bump(b - opening, 0.035) * (x < 1.1)
    coverage = inside(np.maximum(below_shoulder, opening - b), soft)
    over(p.image, coverage, muted(rng, 0.03, 0.45) * lit, np.clip(shade, 0.15, 1.4))


_LENGTHS = {"long": 2.3, "bob": 1.15}


def _hair(p: SimpleNamespace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signed distance of the hair's outer shape, noise along the strands, the hair's light."""
    who, a, b, light, volume = p.who, p.a, p.b, p.scene.light, p.who.volume
    wide, high = 1.05 + 0.8 * volume, 1.45 + volume
    shape = 1.2 * np.hypot(a / wide, (b + 0.2) / high) - 1.2
    if who.style in _LENGTHS:
        tips = b - _LENGTHS[who.style] + 0.25 * np.abs(a)
        fall = np.maximum(np.abs(a) - wide - 0.06 * np.maximum(b, 0), tips)
        shape = np.minimum(shape, np.maximum(fall, -0.2 - b))
    along = np.hypot(a - 0.35 * who.parting, b + 1.7)
    across = np.arctan2(a - 0.35 * who.parting, b + 2.1) * 1.6
    grid = normal(generator_for("hair", who.key), 96, 192)
    fine = min(110.0, 0.7 / p.pixel)  # finer strands than the raster would alias
    strands = 0.7 * texture(grid, 28 * across + 90, 1.6 * along)
    strands = strands + 0.75 * texture(grid, fine * across + 400, 2.3 * along + 30)
    # Light on the volume, a highlight across the strands (Kajiya and Kay 1989, "Rendering fur").
    depth = np.sqrt(np.maximum(1.6 - a**2 - 0.5 * (b + 0.2) ** 2, 0.05))
    diffuse = 0.62 + 0.4 * (a * light[0] + (b + 0.2) * light[1] + depth * light[2])
    tone = np.exp(0.25 * strands) * np.clip(diffuse, 0.25, 1.6)
    hair = who.hair * tone[..., None] + 0.02 * bump(along - 0.95, 0.28)[..., None]
    return shape + 0.012 * strands, strands, hair * (p.scene.fill + p.scene.key)


def _paint_person(p: SimpleNamespace, body: SimpleNamespace) -> None:
    """Hair behind, body, ears, face with its features, hair in front."""
    who, scene, a, b, pixel = p.who, p.scene, p.a, p.b, p.pixel
    shape, strands, hair = _hair(p)
    over(p.image, inside(np.where(b > -0.3, shape, 1.0), 0.06 + pixel), hair * 0.55)
    if body.a.size:
        _paint_body(body)
    p.lit = scene.fill + scene.key * np.float32(max(scene.light[2], 0.3))
    for side in (-1, 1):  # ears stand behind the face
        centre = side * 1.0 * math.cos(p.person.yaw) - 0.15 * math.sin(p.person.yaw)
        ear = np.hypot((a - centre) / 0.13, (b - 0.02) / 0.27)
        shade = (0.75 - 0.35 * bump(ear - 0.55, 0.2)) * (0.8 + 0.4 * side * scene.light[0])
        over(p.image, inside((ear - 1) * 0.13, 2 * pixel), who.skin * p.lit, shade)
    p.u, p.v, r, z = onto_head(p.person, a, b)
    rise = np.clip((p.v + 0.35) / 0.6, 0, 1)
    p.nose = p.u - 0.2 * math.sin(p.person.yaw) * rise  # it stands out: parallax
    face = inside((r - 1) * 0.9, 2.2 * pixel)
    over(p.image, face, lit_skin(p, r, z))
    paint_features(p)
    front = np.maximum(shape, _hairline(p, r, strands))
    p.image *= (1 - 0.25 * inside(front - 0.05, 0.16) * face)[..., None]  # its shadow
    over(p.image, inside(front, 0.05 + 1.5 * pixel), hair)


def _hairline(p: SimpleNamespace, r: np.ndarray, strands: np.ndarray) -> np.ndarray:
    """Signed distance of the hair in front of the head."""
    who, v, x = p.who, p.v, np.abs(p.u)
    line = who.hairline + 0.32 * x**3
    if who.style in _LENGTHS:  # parted, with locks beside the face
        line = line + 0.42 * np.abs(p.u - who.parting) ** 1.4 - 0.08
        lock = 0.85 + 0.07 * np.maximum(v, 0) ** 2 - x + np.maximum(-0.7 - v, 0)
        outside = np.where(np.abs(p.a) > 0.72, 1 - r, 1.0)
    else:  # short of the ears
        lock = np.maximum(0.93 - x + 0.05 * np.maximum(-0.4 - v, 0), v)
        outside = np.maximum(1 - r, p.b)
    return np.minimum(np.minimum(v - line, lock), outside) + 0.03 * strands


def lit_skin(p: SimpleNamespace, r: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Light of the face: relief, lamp with a soft shadow of the nose, blood, pores, shine."""
    who, light, u, v, un, x = p.who, p.scene.light, p.u, p.v, p.nose, np.abs(p.u)
    nose_y, smile = who.nose_y, max(p.person.smile, 0)
    along = np.clip((v + 0.35) / (nose_y + 0.35), 0, 1) ** 1.4
    ridge = along * inside(v - nose_y, 0.16) * bump(un, 0.13)
    tip = bump(un, 0.15, v - nose_y + 0.07, 0.13)
    wings = bump(np.abs(un) - who.nose_width, 0.075, v - nose_y, 0.075)
    relief = 0.95 * z + who.nose_height * (0.95 * ridge + tip) + 0.14 * wings
    for height, side, y, wide, high in (
        (0.06, 0.36, who.eye_y - 0.28, 0.4, 0.12),  # brows, sockets, cheeks, lips, chin
        (-0.12, 0.36, who.eye_y - 0.06, 0.2, 0.12),
        (0.06 + 0.05 * smile, 0.5, 0.22 + 0.05 * smile, 0.24, 0.2),
        (0.05, 0, who.mouth_y, 0.35, 0.16),
        (-0.04, 0, who.mouth_y + 0.19, 0.2, 0.06),
        (0.08, 0, who.chin - 0.2, 0.2, 0.14),
    ):
        relief += height * bump(x - side, wide, v - y, high)
    scatter = max(0.025 / p.pixel, 0.5)  # of light under the skin
    relief = cv2.GaussianBlur(relief, (0, 0), scatter)

    dx, dy = (cv2.Sobel(relief, cv2.CV_32F, i, 1 - i, ksize=3, scale=0.125) for i in (1, 0))
    slope_a, slope_b = (dx * row[0] + dy * row[1] for row in p.to_raster.T)
    norm = 1 / np.sqrt(1 + slope_a**2 + slope_b**2)
    toward = (light[2] - slope_a * light[0] - slope_b * light[1]) * norm
    diffuse, shine = np.clip((toward + 0.25) / 1.25, 0, 1), np.clip(toward, 0, 1) ** 12
    # The nose casts a shadow.
    diffuse *= 1 - 0.5 * bump(un + 0.3 * light[0], 0.17, v - nose_y - 0.06 + 0.15 * light[1], 0.12)
    fill = 0.78 - 0.22 * slope_b * norm  # the sky above gives more than the ground
    fill *= 1 - 0.3 * bump(x - 0.36, 0.2, v - who.eye_y + 0.05, 0.1) - 0.25 * bump(r - 1, 0.16)

    rng = generator_for("skin", who.key, p.scene.background)
    cheeks = bump(x - 0.52, 0.26, v - 0.26, 0.24)
    blood = (0.05 + 0.15 * cheeks)[..., None] * colour(0.05, 0.4, 0.4)
    pores = cv2.GaussianBlur(normal(rng, *r.shape), (0, 0), max(0.012 / p.pixel, 0.5))
    tone = 1 + 0.03 * cloud_cover(rng, 14, 12, r.shape[::-1]) + 0.03 * pores / pores.std()
    albedo = who.skin * tone[..., None] * (1 - blood)
    if who.beard:
        moustache = bump(u, 0.3, v - (nose_y + who.mouth_y) / 2 - 0.04, 0.075)
        jaw = inside(0.74 - r, 0.12) * inside(0.18 - v, 0.25)
        jaw = np.maximum(jaw, inside(who.mouth_y + 0.23 - v, 0.14))
        bristles = hairs(p, "beard", u, v)
        cover = 0.8 * who.beard * np.clip((jaw + moustache) * (0.8 + 0.3 * bristles), 0, 1)
        over(albedo, cover, who.hair, np.exp(0.3 * bristles))
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
    x = side * p.u - who.eye_x
    y = v - who.eye_y + 0.04 * x
    arch = np.clip(1 - (x / wide) ** 2, 0, 1)
    upper, lower = -who.eye_open * arch**0.75, (0.6 - 0.2 * p.person.smile) * who.eye_open * arch
    iris = np.hypot(x, y + 0.01)
    level = 0.92 - 0.35 * np.minimum(np.abs(x) / wide, 1) ** 3
    white = colour(0.6, 0.55, 0.51) * level[..., None]
    over(white, inside(iris - 0.092, 1.5 * soft), who.iris, 1.25 - 9 * np.abs(iris - 0.06))
    over(white, inside(iris - 0.036, soft), colour(0.006, 0.006, 0.007))
    white *= (1 - 0.6 * np.exp(-np.maximum(y - upper, 0) / 0.03))[..., None]  # the lid's shadow
    glint = bump(side * x - 0.03 * p.scene.light[0], 0.017, y + 0.045, 0.017)
    eye = inside(np.maximum(np.maximum(upper - y, y - lower), np.abs(x) - wide), soft)
    over(p.image, eye, white * p.lit + 0.8 * glint[..., None])
    lash = bump(y - upper + 0.006, 0.02 + 0.5 * p.pixel) * inside(np.abs(x) - 1.06 * wide, 0.05)
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
    nostril = bump(x - 0.56 * who.nose_width, 0.055, y - 0.055 + 0.2 * (x - 0.1), 0.026)
    under = bump(x, 0.6 * who.nose_width, y - 0.085, 0.02)
    over(p.image, np.clip(0.85 * nostril + 0.25 * under, 0, 0.9), p.dark)

    x = np.abs(u) / (who.mouth_width * (1 + 0.12 * smile))
    y = v - who.mouth_y + 0.12 * smile * (u / who.mouth_width) ** 2
    arch = np.clip(1 - x**2, 0, 1)
    top = -who.lip * arch**0.7 * (1 - 0.22 * bump(u, 0.05))
    bottom = 1.3 * who.lip * arch**0.65
    lips = inside(np.maximum(np.maximum(top - y, y - bottom), x - 1), 0.02 + soft)
    level = np.where(y < 0, 0.75, 1.0)
    over(p.image, 0.85 * lips, who.skin * colour(0.82, 0.56, 0.55) * p.lit, level)
    line = bump(y, 0.013 + 0.6 * p.pixel) * inside(x - 1.02, 0.08)
    over(p.image, 0.7 * line, p.dark)
