"""How a scene is drawn, in linear light and before any camera: background, clothes, hair, face, glasses.

A painter gets a *patch*: a part of the picture and, for each of its pixels, where it lies on a person's head.
"""

import math
from types import SimpleNamespace

import cv2
import numpy as np

from simulator.people import Scene, colour, generator_for, normal, onto_head, raster_to_upright


def render(scene: Scene, size: tuple[int, int], crop: np.ndarray = (0, 0, 1, 1)) -> np.ndarray:
    """Linear light `(height, width, 3)` of the part `crop` (fractions of the stored picture) of a scene."""
    crop = np.asarray(crop, float)
    image = _paint_background(scene, size, crop)
    for person in scene.people:
        head = _patch(image, scene, person, crop, (-1.75, -2.2), (1.75, 2.6))
        if head is not None:
            _paint_person(head, _patch(image, scene, person, crop, (-4.5, 0.4), (4.5, 9)))
    return np.maximum(image, 0)


def _patch(image, scene, person, crop, first, last) -> SimpleNamespace | None:
    """What holds a rectangle of a person's picture plane (corners `first` and `last`); `None` if it lies outside."""
    size = image.shape[1::-1]
    to_upright = np.diag([scene.width, scene.height]) @ raster_to_upright(scene, size, crop, 0.5)
    c, s = np.cos(person.roll), np.sin(person.roll)
    to_plane = np.array([[c, s], [-s, c]]) / person.scale
    to_plane = to_plane @ (to_upright - [[0, 0, person.x], [0, 0, person.y]])
    to_raster = np.linalg.inv(to_plane[:, :2])
    corners = np.array([(x, y) for x in (first[0], last[0]) for y in (first[1], last[1])])
    xy = (corners - to_plane[:, 2]) @ to_raster.T
    x0, y0 = np.maximum(np.floor(xy.min(0)).astype(int) - 1, 0)
    x1, y1 = np.minimum(np.ceil(xy.max(0)).astype(int) + 2, size)
    if x1 - x0 <= 2 or y1 - y0 <= 2:
        return None
    x = np.arange(x0, x1, dtype=np.float32)
    y = np.arange(y0, y1, dtype=np.float32)[:, None]
    a, b = (row[0] * x + row[1] * y + row[2] for row in to_plane.astype(np.float32))
    return SimpleNamespace(
        image=image[y0:y1, x0:x1], scene=scene, person=person, who=person.who, a=a, b=b,
        pixel=float(np.sqrt(abs(np.linalg.det(to_plane[:, :2])))), to_raster=to_raster.astype(np.float32),
    )  # fmt: skip


# -------------------------------------------------------------------------------------------- tools


def _inside(distance: np.ndarray, softness: float) -> np.ndarray:
    """Coverage of a pixel by a region whose signed distance is negative inside."""
    return np.clip(0.5 - distance / softness, 0, 1)


def _bump(x: np.ndarray, y: np.ndarray, width: float, height: float) -> np.ndarray:
    return np.exp(-((x / width) ** 2 + (y / height) ** 2))


def _line(distance: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-((distance / width) ** 2))


def _ramp(x: np.ndarray, width: float) -> np.ndarray:
    return np.clip(x / width, 0, 1)


def _arch(x: np.ndarray) -> np.ndarray:
    return np.clip(1 - x**2, 0, 1)


def _blur(x: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(x, (0, 0), sigma)


def _where(condition: np.ndarray) -> tuple[slice, slice] | None:
    """The smallest window that holds all true values; `None` if there are none."""
    rows, columns = np.flatnonzero(condition.any(1)), np.flatnonzero(condition.any(0))
    return (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)) if len(rows) else None


def _over(image: np.ndarray, coverage: np.ndarray, paint: np.ndarray, shade=None) -> None:
    """Paints over `image` in place, where there is something to paint; `shade` is the paint's at each pixel."""
    if (part := _where(coverage > 0)) is None:
        return
    paint = paint if paint.ndim == 1 else paint[part]
    if shade is not None:
        paint = paint * shade[part][..., None]
    image[part] += coverage[part][..., None] * (paint - image[part])


def _clouds(rng: np.random.Generator, rows: int, columns: int, size: tuple[int, int]) -> np.ndarray:
    """Smooth noise `size` wide and high, from a few random values."""
    return cv2.resize(normal(rng, rows, columns), size, interpolation=cv2.INTER_CUBIC)


def _texture(grid: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Noise at (x, y): a grid of random values, interpolated and repeated."""
    x, y = (np.float32(c) for c in np.broadcast_arrays(x, y))
    return cv2.remap(grid, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


# ------------------------------------------------------------------------------ background and clothes


def _paint_background(scene: Scene, size: tuple[int, int], crop: np.ndarray) -> np.ndarray:
    """A backdrop, lights out of focus, a room, leaves, an open landscape or a wall, more or less blurred."""
    rng = generator_for("background", scene.background)
    rows, columns = 128, max(int(128 * scene.width / scene.height), 32)
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32) / rows
    kind = int(rng.integers(6))
    main, other = (
        np.float32(rng.uniform(*levels) * (0.5 + rng.dirichlet((3, 3, 3)) * 1.5))
        for levels in ((0.06, 0.5), (0.03, 0.6))
    )
    clouds = _clouds(rng, 6, 8, (columns, rows))
    blur, grain = rng.uniform(1.0, 3.0), (0.03, 0.02, 0.02, 0.03, 0.02, 0.05)[kind]
    if kind == 0:  # studio backdrop
        spot = x - rng.uniform(0.2, 0.8) * (columns / rows), y - rng.uniform(0.2, 0.6)
        field = main * (0.45 + 0.8 * _bump(*spot, 0.6, 0.5) + 0.08 * clouds)[..., None]
    elif kind == 1:  # lights out of focus
        field = 0.3 * main * (1 + 0.3 * clouds)[..., None]
        for _ in range(rng.integers(15, 45)):
            disc = np.zeros((rows, columns), np.float32)
            centre = int(rng.uniform(0, columns)), int(rng.uniform(0, rows))
            radius, level = int(rng.uniform(4, 13)), float(rng.uniform(0.2, 0.7))
            cv2.circle(disc, centre, radius, level, -1, cv2.LINE_AA)
            field += disc[..., None] * np.float32(rng.uniform(0.1, 1.1, 3))
    elif kind == 2:  # a room: shelves, frames, a window
        field = main * (0.9 - 0.25 * y + 0.05 * clouds)[..., None]
        for _ in range(rng.integers(6, 40)):
            x0, y0 = int(rng.uniform(-10, columns)), int(rng.uniform(-10, rows))
            corner = x0 + int(rng.uniform(4, 40)), y0 + int(rng.uniform(10, 60))
            tone = (other * rng.uniform(0.3, 1.6) * rng.uniform(0.6, 1.4, 3)).tolist()
            cv2.rectangle(field, (x0, y0), corner, tone, -1 if rng.random() < 0.8 else 2)
    elif kind == 3:  # leaves
        leaves = sum(_clouds(rng, rows // s, columns // s, (columns, rows)) for s in (2, 5, 11))
        green = np.float32(rng.uniform((0.05, 0.12, 0.02), (0.25, 0.35, 0.08)))
        field = green * np.exp(0.45 * leaves)[..., None]
        field += np.float32(0.25) * np.maximum(leaves - 1.6, 0)[..., None]
    elif kind == 4:  # sky, hills or houses, ground
        horizon = rng.uniform(0.35, 0.75) + 0.04 * clouds[0]
        sky = colour(0.35, 0.5, 0.75) * np.float32(rng.uniform(0.6, 1.1))
        field = sky * (0.8 + 0.5 * y + 0.12 * np.maximum(clouds, 0))[..., None]
        for x0 in range(0, columns, 9):
            top = int((horizon[x0] - rng.uniform(0, 0.25)) * rows)
            field[top:, x0 : x0 + 9] = other * np.float32(rng.uniform(0.6, 1.4))
        field[y > horizon + 0.1] = main * np.float32(0.6)
    else:  # bricks or boards, nearly in focus
        high, wide = rng.uniform(0.05, 0.09), rng.choice((0.16, 4.0))
        row = np.floor(y / high)
        x = x + row * wide / 2
        joint = np.minimum(np.mod(y, high) / high, np.mod(x, wide) / high)
        tone = _texture(normal(rng, 40, 40), np.floor(x / wide) * 3.7, row * 1.3)
        field = main * np.exp(0.12 * tone + 0.1 * clouds)[..., None]
        field[joint < 0.1] *= np.float32(0.6)
        blur = rng.uniform(0.5, 1.0)
    field = _blur(np.maximum(field, 0.004), blur)
    matrix = np.diag([columns, rows]) @ raster_to_upright(scene, size, crop, 0)
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    image = cv2.warpAffine(field, matrix, size, flags=how, borderMode=cv2.BORDER_REPLICATE)
    return image * (1 + 2 * grain * _blur(normal(rng, size[1], size[0]), 0.8))[..., None]


def _paint_body(p: SimpleNamespace) -> None:
    """Neck, shoulders and clothes."""
    who, light, soft, a, b, x = p.who, p.scene.light, 2 * p.pixel, p.a, p.b, np.abs(p.a)
    male, lit = who.gender == "male", p.scene.fill + p.scene.key * 0.75
    rng = generator_for("clothes", p.person.wears)
    neck_width = (0.62 if male else 0.5) + 0.12 * np.maximum(b - 1.3, 0) ** 2
    side = a / neck_width
    shade = np.clip(0.95 - 0.45 * np.abs(side) ** 3 + 0.35 * side * light[0], 0.1, 1.3)
    shade = shade * (1 - 0.62 * np.exp(-np.maximum(b - who.chin + 0.25, 0) / 0.28))  # of the chin
    neck = _inside(x - neck_width, 2 * soft) * _inside(0.4 - b, soft)
    _over(p.image, neck, who.skin * lit, shade)

    kind = int(rng.integers(4))
    cloth = np.float32(rng.uniform(0.02, 0.55) * (0.25 + rng.dirichlet((1.2, 1.2, 1.2)) * 2.25))
    if kind == 3:
        cloth *= np.float32(0.25)  # suits are dark
    wide = 2.15 if male else 1.8
    below_shoulder = 1.62 + 0.16 * x**1.6 + 2.5 * np.maximum(x - wide, 0) ** 2 - b
    opening = (1.78 - 0.9 * x**2, 2.5 - 1.35 * x, 1.95 - 0.55 * x, 3.6 - 2.6 * x)[kind]
    folds = _texture(normal(rng, 24, 24), 2.2 * a + 30 + 0.5 * b, 1.1 * b + 20)
    striped = rng.random() < 0.25
    weave = 0.1 * np.sin(a * 26) if striped else 0.06 * _blur(normal(rng, *a.shape), 0.6)
    shade = 0.72 + 0.35 * light[0] * a / wide + 0.13 * folds + weave - 0.12 * np.maximum(b - 2, 0)
    if kind >= 2:  # the shirt shows
        shirt = np.float32(rng.uniform(0.45, 0.8)) * np.float32(rng.uniform(0.85, 1, 3))
        coverage = _inside(np.maximum(below_shoulder, 1.75 - 0.1 * x - b), soft)
        _over(p.image, coverage, shirt * lit, np.clip(shade, 0.2, 1.2))
        coverage = _inside(b - 1.95 + 1.1 * x, soft) * neck
        _over(p.image, coverage, who.skin * lit * np.float32(0.6))
    if kind == 3 and male:
        tie = _inside(np.maximum(x - 0.1 - 0.06 * (b - 1.9), 1.85 - b), soft)
        _over(p.image, tie, np.float32(rng.uniform(0.02, 0.4, 3)) * lit, np.clip(shade, 0.2, 1.2))
    coverage = _inside(np.maximum(below_shoulder, opening - b), soft)
    _over(p.image, coverage, cloth * lit, np.clip(shade, 0.15, 1.4))
    rim = _line(b - opening, 0.035) * _inside(below_shoulder, soft) * (x < 1.1)
    p.image *= (1 - 0.35 * rim)[..., None]


# ------------------------------------------------------------------------------------------ the head

_VOLUMES = {"buzz": 0.02, "bald": -0.02, "receding": 0.05, "tied": 0.06}
_LENGTHS = {"long": 2.3, "wavy": 2.0, "bob": 1.15, "bangs": 1.6}
_TEMPLES = {"long": 0.86, "wavy": 0.84, "bob": 0.85, "bangs": 0.84}


def _hair(p: SimpleNamespace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signed distance of the hair's outer shape, noise drawn out along the strands, and the hair's light."""
    who, a, b, style, light = p.who, p.a, p.b, p.who.style, p.scene.light
    curly, sway = style == "curly", style in ("wavy", "curly")
    volume = _VOLUMES.get(style, who.volume + (0.16 if curly else 0.03))
    cap = (np.sqrt((a / (1.03 + 0.8 * volume)) ** 2 + ((b + 0.2) / (1.42 + volume)) ** 2) - 1) * 1.2
    length = 0.9 if curly and who.gender == "female" else _LENGTHS.get(style)
    if length:
        waves = 0.05 * sway * np.sin(5.5 * b + 2 * np.sign(a) + 6 * who.wave)
        width = 1.06 + 0.8 * volume + 0.06 * np.maximum(b, 0) + waves
        tips = _texture(normal(generator_for("tips", who.key), 2, 64), 9 * a + 30, np.float32(0))
        tips = 0.2 * tips + 0.25 * np.abs(a)
        fall = np.maximum(np.maximum(np.abs(a) - width, -0.2 - b), b - length + tips)
        cap = np.minimum(cap, fall)
    along = np.hypot(a - 0.35 * who.parting, b + 1.7)
    across = np.arctan2(a - 0.35 * who.parting, b + 2.1) * 1.6
    across = across + 0.05 * sway * np.sin(6 * along + 9 * who.wave)
    grid = normal(generator_for("hair", who.key), 96, 192)
    if curly:
        x, y = a + 0.06 * np.sin(9 * b), b + 0.06 * np.sin(9 * a)
        strands = 0.8 * _texture(grid, 11 * x + 60, 11 * y + 20)
        strands = strands + 0.7 * _texture(grid, 25 * x + 90, 25 * y + 50)
    else:
        fine = min(110.0, 0.7 / p.pixel)  # finer strands than the raster would alias
        strands = 0.7 * _texture(grid, 28 * across + 90, 1.6 * along)
        strands = strands + 0.75 * _texture(grid, fine * across + 400, 2.3 * along + 30)
    # Diffuse light on the volume and a highlight across the strands (Kajiya and Kay 1989, "Rendering fur").
    depth = np.sqrt(np.maximum(1.6 - a**2 - 0.5 * (b + 0.2) ** 2, 0.05))
    diffuse = 0.62 + 0.4 * (a * light[0] + (b + 0.2) * light[1] + depth * light[2])
    tone = np.exp(0.34 * strands) * np.clip(diffuse, 0.25, 1.6)
    gloss = _line(along - 0.95 + 0.1 * strands, 0.28) * np.clip(0.5 + 0.5 * strands, 0, 2)
    hair = who.hair * tone[..., None] + 0.045 * (0.4 + who.hair) * gloss[..., None]
    ragged = cap + (0.075 if curly else 0.012) * strands
    return ragged, strands, hair * (p.scene.fill + p.scene.key)


def _paint_person(p: SimpleNamespace, body: SimpleNamespace | None) -> None:
    """Hair behind, body, ears, face with its features, hair in front, glasses."""
    who, scene, a, b, pixel = p.who, p.scene, p.a, p.b, p.pixel
    ragged, strands, hair = _hair(p)
    if who.style != "bald":
        behind = np.where(b > -0.3, ragged, 1.0)
        _over(p.image, _inside(behind, 0.06 + pixel), hair * np.float32(0.55))
    if body is not None:
        _paint_body(body)
    p.lit = scene.fill + scene.key * np.float32(max(scene.light[2], 0.3))
    for side in (-1, 1):  # ears stand behind the face
        centre = side * 1.0 * math.cos(p.person.yaw) - 0.15 * math.sin(p.person.yaw)
        x, y = (a - centre) / 0.13, (b - 0.02) / 0.27
        ear = np.hypot(x, y + 0.25 * x * side)
        shade = (0.75 - 0.35 * _line(ear - 0.55, 0.2)) * (0.8 + 0.4 * side * scene.light[0])
        skin = who.skin * colour(1.02, 0.86, 0.84) * p.lit
        _over(p.image, _inside((ear - 1) * 0.13, 2 * pixel), skin, shade)
    p.u, p.v, r, z = onto_head(p.person, a, b)
    p.nose = p.u - 0.2 * math.sin(p.person.yaw) * _ramp(p.v + 0.35, 0.6)  # it stands out: parallax
    face = _inside((r - 1) * 0.9, 2.2 * pixel)
    _over(p.image, face, _skin(p, r, z))
    _paint_features(p)
    if who.style != "bald":
        mask = np.maximum(ragged, _hairline(p, r, strands))
        p.image *= (1 - 0.25 * _inside(mask - 0.05, 0.16) * face)[..., None]  # its shadow
        sparse = 0.75 if who.style in ("buzz", "receding") else 1.0
        softness = (0.13 if who.style == "curly" else 0.05) + 1.5 * pixel
        _over(p.image, sparse * _inside(mask, softness), hair)
    if who.glasses:
        _paint_glasses(p)


def _hairline(p: SimpleNamespace, r: np.ndarray, strands: np.ndarray) -> np.ndarray:
    """Signed distance of the hair in front of the head."""
    who, style, u, v, x = p.who, p.who.style, p.u, p.v, np.abs(p.u)
    line = who.hairline + 0.32 * x**3
    if style == "bangs":
        line = np.maximum(line, -0.62 + 0.1 * u + 0.05 * strands)
    elif style == "receding":
        line = -1.2 - 0.22 * np.cos(4.2 * u) + 0.5 * x**3
    elif style in ("side", "long", "wavy", "bob"):
        line = line + 0.42 * np.abs(u - who.parting) ** 1.4 - 0.08
    if style in _TEMPLES:  # locks beside the face
        lock = _TEMPLES[style] + 0.07 * np.maximum(v, 0) ** 2 - x + np.maximum(-0.7 - v, 0)
        outside = np.where(np.abs(p.a) > 0.72, 1 - r, 1.0)
    else:  # short of the ears
        lock = np.maximum(0.93 - x + 0.05 * np.maximum(-0.4 - v, 0), v)
        outside = np.maximum(1 - r, p.b)
    return np.minimum(np.minimum(v - line, lock), outside) + 0.03 * strands


# ------------------------------------------------------------------------------------------ the face


def _skin(p: SimpleNamespace, r: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Light of the face: relief, soft light, skin colour with blood, melanin and pores, a little shine."""
    who, light, u, v, un, x = p.who, p.scene.light, p.u, p.v, p.nose, np.abs(p.u)
    nose_y, mouth_y, eye_x, eye_y = who.nose_y, who.mouth_y, who.eye_x, who.eye_y
    smile, high = max(p.person.smile, 0), who.nose_height
    ridge = _ramp(v + 0.35, nose_y + 0.35) ** 1.4 * _inside(v - nose_y, 0.16)
    relief = (
        0.95 * z
        + high * 0.95 * ridge * _line(un, 0.13)
        + high * 1.0 * _bump(un, v - nose_y + 0.07, 0.15, 0.13)
        + 0.14 * _bump(np.abs(un) - who.nose_width, v - nose_y, 0.075, 0.075)
        + 0.07 * _line(v - eye_y + 0.28, 0.12) * _inside(x - 0.7, 0.3)
        - 0.12 * _bump(x - 0.36, v - eye_y + 0.06, 0.2, 0.12)
        + (who.cheek + 0.05 * smile) * _bump(x - 0.5, v - 0.22 - 0.05 * smile, 0.24, 0.2)
        + 0.05 * _bump(u, v - mouth_y, 0.35, 0.16)
        - 0.04 * _bump(u, v - mouth_y - 0.19, 0.2, 0.06)
        + 0.08 * _bump(u, v - who.chin + 0.2, 0.2, 0.14)
        - 0.02 * _bump(u, v - (nose_y + mouth_y) / 2 + 0.02, 0.045, 0.09)
    )
    fold = _line(x - who.nose_width - 0.05 - 0.32 * (v - nose_y), 0.035)  # from nostril to mouth
    depth = 0.012 + 0.035 * who.wrinkles + 0.03 * smile
    relief -= depth * fold * _inside(np.abs(v - nose_y - 0.18) - 0.2, 0.2)
    lines = generator_for("lines", who.key).uniform(0, 6, 2).tolist()
    crease = np.sin(34 * v + lines[0] + 0.8 * np.sin(3 * u + lines[1]))
    relief += 0.008 * who.wrinkles * (crease * _bump(u, v + 0.68, 0.5, 0.2))
    relief = _blur(relief, max(0.019 / p.pixel, 0.5))  # light scatters under the skin

    dx, dy = (cv2.Sobel(relief, cv2.CV_32F, i, 1 - i, ksize=3, scale=0.125) for i in (1, 0))
    slope_a, slope_b = (dx * row[0] + dy * row[1] for row in p.to_raster.T)
    norm = 1 / np.sqrt(1 + slope_a**2 + slope_b**2)
    toward, shine = (
        (-slope_a * way[0] - slope_b * way[1] + way[2]) * norm
        for way in (light, (light + colour(0, 0, 1)) / np.linalg.norm(light + colour(0, 0, 1)))
    )
    diffuse, shine = np.clip((toward + 0.25) / 1.25, 0, 1), np.clip(shine, 0, 1) ** 18
    fill = 0.78 - 0.22 * slope_b * norm  # the sky above gives more than the ground
    sockets = 0.3 * _bump(x - 0.36, v - eye_y + 0.05, 0.2, 0.1)
    fill *= 1 - sockets - 0.22 * _bump(un, v - nose_y - 0.08, 0.16, 0.05)
    fill *= 1 - 0.25 * _line(r - 1, 0.16)

    rng = generator_for("skin", who.key, p.scene.background)
    cheeks, tip = _bump(x - 0.52, v - 0.26, 0.26, 0.24), _bump(un, v - nose_y + 0.08, 0.16, 0.12)
    blood = np.maximum(who.blush * (cheeks + 0.7 * tip) + 0.06, 0)[..., None]
    tone = 1 + 0.03 * _clouds(rng, 14, 12, r.shape[::-1])
    pores = _blur(normal(rng, *r.shape), max(0.012 / p.pixel, 0.5))
    tone = tone + 0.03 * (pores / max(float(pores.std()), 1e-6))
    if who.freckles > 0.3:
        grid = normal(generator_for("freckles", who.key), 64, 64)
        spots = _inside(1.5 - _texture(grid, 24 * u + 40, 24 * v + 40), 0.5)
        tone -= 0.3 * who.freckles * spots * _bump(x - 0.3, v - 0.2, 0.45, 0.3)
    bags = (0.05 + 0.12 * who.wrinkles) * _bump(x - eye_x, v - eye_y - 0.16, 0.18, 0.05)
    albedo = who.skin * (tone - bags)[..., None] * (1 - blood * colour(0.05, 0.42, 0.42))
    if who.beard:
        cover, hue = _beard(p, r)
        albedo += cover[..., None] * (hue - albedo)
        shine = shine * (1 - cover)
    light = p.scene.fill * fill[..., None] + p.scene.key * diffuse[..., None]
    return albedo * light + 0.05 * p.scene.key * shine[..., None]


def _beard(p: SimpleNamespace, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and colour of stubble (1), a moustache (2), a goatee (3) or a full beard (4)."""
    who, u, v = p.who, p.u, p.v
    moustache = _bump(u, v - (who.nose_y + who.mouth_y) / 2 - 0.04, 0.3, 0.075)
    chin = _bump(u, v - who.chin + 0.12, 0.3, 0.22)
    jaw = _ramp(r - 0.68, 0.12) * _ramp(v - 0.05, 0.25) + _ramp(v - who.mouth_y - 0.16, 0.14)
    weight, cover = {
        1: (0.55, jaw + moustache),
        2: (1.4, moustache),
        3: (1.2, moustache + chin),
        4: (1.4, jaw + moustache),
    }[who.beard]
    grid = normal(generator_for("beard", who.key), 128, 128)
    bristles = _texture(grid, min(60.0, 0.7 / p.pixel) * u + 300, 14 * v + 60)
    limit, hue = 0.88, who.hair * np.float32(1.2)
    if who.beard == 1:
        limit, hue = 0.5, 0.5 * who.hair + 0.35 * who.skin
    cover = np.clip(weight * cover, 0, 1) * np.clip(0.75 + 0.3 * bristles, 0, 1.1) * limit
    return cover, hue * np.exp(0.35 * bristles)[..., None]


def _cut(p: SimpleNamespace, condition: np.ndarray) -> SimpleNamespace | None:
    """The part of a patch that holds all true values; `None` if there are none."""
    part = _where(condition)
    names = "image", "u", "v", "nose"
    return part and SimpleNamespace(**vars(p) | {name: vars(p)[name][part] for name in names})


def _paint_features(p: SimpleNamespace) -> None:
    """Eyes, brows, nostrils and mouth."""
    who = p.who
    p.soft, p.grid = 1.8 * p.pixel, normal(generator_for("features", who.key), 64, 64)
    p.dark = (np.minimum(who.skin, 0.3) * colour(0.22, 0.12, 0.1) + 0.004) * p.lit
    for side in (-1, 1):
        near = (np.abs(side * p.u - who.eye_x) < 0.36) & (np.abs(p.v - who.eye_y + 0.1) < 0.35)
        if (part := _cut(p, near)) is not None:
            _paint_eye(part, side)
    if (part := _cut(p, (np.abs(p.u) < 0.7) & (np.abs(p.v - 0.75) < 0.5))) is not None:
        _paint_nose_and_mouth(part)


def _paint_eye(p: SimpleNamespace, side: int) -> None:
    who, soft, v, wide = p.who, p.soft, p.v, p.who.eye_width
    x, y = side * p.u - who.eye_x, v - who.eye_y
    y = y + who.eye_tilt * x
    arch = _arch(x / wide)
    upper = -who.eye_open * arch**0.75 * (1 - 0.12 * x / wide)
    lower = (0.62 - 0.2 * max(p.person.smile, 0)) * who.eye_open * arch
    eye = _inside(np.maximum(np.maximum(upper - y, y - lower), np.abs(x) - wide), soft)
    gx, gy = x - side * p.person.gaze[0], y - p.person.gaze[1] + 0.01
    iris, angle = np.hypot(gx, gy), np.arctan2(gy, gx)
    white = colour(0.7, 0.63, 0.58) * (0.92 - 0.35 * _ramp(np.abs(x), wide) ** 3)[..., None]
    ray = 1 + 0.35 * _texture(p.grid, 9 * angle + 32, 20 * iris + 5)
    _over(
        white, _inside(iris - 0.092, 1.5 * soft), who.iris, ray * (1.25 - 9 * np.abs(iris - 0.06))
    )
    _over(white, _inside(iris - 0.036, soft), colour(0.006, 0.006, 0.007))
    white *= (1 - 0.6 * np.exp(-np.maximum(y - upper, 0) / 0.03))[..., None]  # the lid's shadow
    white *= p.lit
    glint = _bump(side * gx - 0.03 * p.scene.light[0], gy + 0.035, 0.017, 0.017)
    white += 0.9 * glint[..., None]
    _over(p.image, eye, white)
    lash = _line(y - upper + 0.006, 0.02 + 0.5 * p.pixel) * _inside(np.abs(x) - 1.06 * wide, 0.05)
    rim = _line(y - lower - 0.004, 0.012 + 0.5 * p.pixel) * _inside(np.abs(x) - 0.98 * wide, 0.05)
    crease = _line(y - upper + 0.055, 0.016) * _arch(x / (1.15 * wide))
    makeup = 0.92 if who.gender == "female" else 0.78
    _over(p.image, np.clip(makeup * lash + 0.35 * rim + 0.42 * crease, 0, 0.95), p.dark)

    along = side * p.u - 0.13  # the brow
    t = _ramp(along, 0.55)
    off = v - (who.eye_y + who.brow_y - who.brow_arch * np.sin(2.6 * t) - 0.01 * t)
    thick = who.brow_width * (1 - 0.75 * t**2)
    outside = np.maximum(np.abs(off) - thick, np.abs(along - 0.275) - 0.275)
    fine = min(70.0, 0.7 / p.pixel)
    hairs = _texture(p.grid, fine * (side * p.u + 0.8 * off) + 200, 14 * v + 30)
    brow = _inside(outside + 0.012 * hairs, 0.045) * (0.78 + 0.2 * hairs)
    hue = (0.6 * np.minimum(who.hair, 0.2) + 0.12 * who.skin) * p.lit
    _over(p.image, np.clip(brow, 0, 0.95), hue)


def _paint_nose_and_mouth(p: SimpleNamespace) -> None:
    who, soft, u, v, lit, gap = p.who, p.soft, p.u, p.v, p.lit, p.person.open
    x, y = np.abs(p.nose), v - who.nose_y
    nostril = _bump(x - 0.56 * who.nose_width, y - 0.055 + 0.2 * (x - 0.1), 0.055, 0.026)
    wing = _line(np.hypot(x - who.nose_width + 0.02, y) - 0.085, 0.016) * (x > who.nose_width)
    under = _bump(x, y - 0.085, 0.6 * who.nose_width, 0.02)
    _over(p.image, np.clip(0.88 * nostril + 0.25 * wing + 0.3 * under, 0, 0.92), p.dark)

    wide = who.mouth_width * (1 + 0.12 * max(p.person.smile, 0))
    x = u / wide
    y = v - who.mouth_y + 0.12 * p.person.smile * (u / who.mouth_width) ** 2
    arch = _arch(x)
    bow = 1 - 0.22 * _line(u, 0.05) + 0.1 * _line(np.abs(u) - 0.09, 0.06)
    top = -who.lip_upper * arch**0.7 * bow - gap * arch * 0.4
    bottom = who.lip_lower * arch**0.65 + gap * arch
    x = np.abs(x)
    lips = _inside(np.maximum(np.maximum(top - y, y - bottom), x - 1), 0.02 + soft)
    red = who.skin * colour(0.85, 0.5, 0.5) * (1 - who.lipstick)
    red = red + who.lipstick * colour(0.42, 0.07, 0.09) * (0.4 + 0.6 * who.skin[0])
    level = np.where(y < 0.3 * gap, 0.68, 1.02) - 0.25 * _ramp(y - 0.6 * bottom, who.lip_lower)
    level = level + 0.08 * _texture(p.grid, 60 * u + 300, 5 * v)
    gloss = _bump(u - 0.1 * p.scene.light[0], y - 0.45 * bottom, 0.13, 0.02)
    gloss = 0.05 * (1 + 2 * who.lipstick) * gloss
    _over(p.image, 0.88 * lips, red * lit * level[..., None] + gloss[..., None])
    if gap:
        teeth = colour(0.66, 0.6, 0.5) * (0.95 - 0.5 * np.clip(x, 0, 1) ** 2)[..., None] * lit
        between = np.exp(-((np.mod(u / 0.075, 1) - 0.5) ** 2) / 0.01)
        teeth *= (1 - 0.18 * between)[..., None]
        _over(teeth, _inside(0.62 * gap * arch - y, 0.03 + soft), colour(0.1, 0.03, 0.03) * lit)
        gape = np.maximum(np.abs(y - 0.3 * gap) - gap * arch * 0.75, x - 0.86)
        _over(p.image, _inside(gape, soft), teeth)
    else:
        line = _line(y - 0.012 * np.cos(9 * u), 0.013 + 0.6 * p.pixel) * _inside(x - 1.02, 0.08)
        _over(p.image, 0.8 * line, p.dark)
    p.image *= (1 - 0.35 * _bump(x * wide - wide, y, 0.035, 0.03))[..., None]  # the corners


def _paint_glasses(p: SimpleNamespace) -> None:
    """Two rims, bridge and temples; the lenses reflect a little of the lamp."""
    who, scene, u, v, soft = p.who, p.scene, p.u, p.v, 1.5 * p.pixel
    rng, power = generator_for("glasses", who.key), {1: 2.0, 2: 3.2, 3: 5.0}[who.glasses]
    wide, high, thick = rng.uniform((0.3, 0.2, 0.018), (0.34, 0.27, 0.045)).tolist()
    tone = np.float32(rng.choice([0.015, 0.03, 0.3])) * np.float32(rng.uniform(0.7, 1.1, 3))
    bridge = (
        np.abs(u) - who.eye_x - 0.02 + wide,
        np.abs(v - who.eye_y + 0.04 - 0.3 * u**2) - thick / 2,
    )
    temple = who.eye_x + wide - np.abs(u), np.abs(p.a) - 1.0, np.abs(v - who.eye_y) - thick / 2
    rim = _inside(np.minimum(np.maximum(*bridge), np.maximum.reduce(temple)), soft)
    for side in (-1, 1):
        x, y = (side * u - who.eye_x - 0.02) / wide, (v - who.eye_y - 0.03) / high
        radius = (np.abs(x) ** power + np.abs(y) ** power) ** (1 / power)
        rim = np.maximum(rim, _inside(np.abs(radius - 1) * 0.26 - thick / 2, soft))
        glare = np.clip(np.sin(5 * (x + y) + 3 * scene.light[0]), 0, 1)
        p.image += (0.03 * _inside(radius - 1, 0.1) * glare)[..., None] * scene.key
    _over(p.image, 0.95 * rim, tone * (scene.fill + scene.key) + 0.03)
