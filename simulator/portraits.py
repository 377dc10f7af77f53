"""How a scene is drawn, in linear light: background, clothes, hair, face, glasses.

Painters get a *patch*: a part of the picture and, for each pixel, its place on a person's head.
"""

import math
from types import SimpleNamespace

import cv2
import numpy as np

from simulator import faces
from simulator.faces import bump, cloud_cover, inside, over, ramp, smooth, stroke, texture
from simulator.people import Scene, colour, generator_for, normal, onto_head, raster_to_upright


def render(scene: Scene, size: tuple[int, int], crop: np.ndarray = (0, 0, 1, 1)) -> np.ndarray:
    """Linear light `(height, width, 3)` of the part `crop` (fractions) of the stored picture."""
    crop = np.asarray(crop, float)
    image = _paint_background(scene, size, crop)
    for person in scene.people:
        head = _patch(image, scene, person, crop, (-1.75, -2.2), (1.75, 2.6))
        if head is not None:
            _paint_person(head, _patch(image, scene, person, crop, (-4.5, 0.4), (4.5, 9)))
    return np.maximum(image, 0)


def _patch(image, scene, person, crop, first, last) -> SimpleNamespace | None:
    """The patch with a rectangle (two corners) of a person's plane; `None` if outside."""
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
    patch = SimpleNamespace(scene=scene, person=person, who=person.who, a=a, b=b)
    patch.image, patch.to_raster = image[y0:y1, x0:x1], to_raster.astype(np.float32)
    patch.pixel = float(np.sqrt(abs(np.linalg.det(to_plane[:, :2]))))
    return patch


def _paint_background(scene: Scene, size: tuple[int, int], crop: np.ndarray) -> np.ndarray:
    """A backdrop, lights, a room, leaves, a landscape or a wall, more or less blurred."""
    rng = generator_for("background", scene.background)
    rows, columns = 128, max(int(128 * scene.width / scene.height), 32)
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32) / rows
    kind = int(rng.integers(6))
    main = np.float32(rng.uniform(0.06, 0.5) * (0.5 + rng.dirichlet((3, 3, 3)) * 1.5))
    other = np.float32(rng.uniform(0.03, 0.6) * (0.5 + rng.dirichlet((3, 3, 3)) * 1.5))
    clouds = cloud_cover(rng, 6, 8, (columns, rows))
    blur, grain = rng.uniform(1.0, 3.0), (0.03, 0.02, 0.02, 0.03, 0.02, 0.05)[kind]
    if kind == 0:  # studio backdrop
        spot = x - rng.uniform(0.2, 0.8) * (columns / rows), y - rng.uniform(0.2, 0.6)
        field = main * (0.45 + 0.8 * bump(*spot, 0.6, 0.5) + 0.08 * clouds)[..., None]
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
        leaves = sum(cloud_cover(rng, rows // s, columns // s, (columns, rows)) for s in (2, 5, 11))
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
        tone = texture(normal(rng, 40, 40), np.floor(x / wide) * 3.7, row * 1.3)
        field = main * np.exp(0.12 * tone + 0.1 * clouds)[..., None]
        field[joint < 0.1] *= np.float32(0.6)
        blur = rng.uniform(0.5, 1.0)
    field = smooth(np.maximum(field, 0.004), blur)
    matrix = np.diag([columns, rows]) @ raster_to_upright(scene, size, crop, 0)
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    image = cv2.warpAffine(field, matrix, size, flags=how, borderMode=cv2.BORDER_REPLICATE)
    return image * (1 + 2 * grain * smooth(normal(rng, size[1], size[0]), 0.8))[..., None]


def _paint_body(p: SimpleNamespace) -> None:
    """Neck, shoulders and clothes."""
    who, light, soft, a, b, x = p.who, p.scene.light, 2 * p.pixel, p.a, p.b, np.abs(p.a)
    male, lit = who.gender == "male", p.scene.fill + p.scene.key * 0.75
    rng = generator_for("clothes", p.person.wears)
    neck_width = (0.62 if male else 0.5) + 0.12 * np.maximum(b - 1.3, 0) ** 2
    side = a / neck_width
    shade = np.clip(0.95 - 0.45 * np.abs(side) ** 3 + 0.35 * side * light[0], 0.1, 1.3)
    shade = shade * (1 - 0.62 * np.exp(-np.maximum(b - who.chin + 0.25, 0) / 0.28))  # of the chin
    neck = inside(x - neck_width, 2 * soft) * inside(0.4 - b, soft)
    over(p.image, neck, who.skin * lit, shade)

    kind = int(rng.integers(4))
    cloth = np.float32(rng.uniform(0.02, 0.55) * (0.25 + rng.dirichlet((1.2, 1.2, 1.2)) * 2.25))
    cloth *= np.float32(0.25 if kind == 3 else 1)  # suits are dark
    wide = 2.15 if male else 1.8
    below_shoulder = 1.62 + 0.16 * x**1.6 + 2.5 * np.maximum(x - wide, 0) ** 2 - b
    opening = (1.78 - 0.9 * x**2, 2.5 - 1.35 * x, 1.95 - 0.55 * x, 3.6 - 2.6 * x)[kind]
    folds = texture(normal(rng, 24, 24), 2.2 * a + 30 + 0.5 * b, 1.1 * b + 20)
    striped = rng.random() < 0.25
    weave = 0.1 * np.sin(a * 26) if striped else 0.06 * smooth(normal(rng, *a.shape), 0.6)
    shade = 0.72 + 0.35 * light[0] * a / wide + 0.13 * folds + weave - 0.12 * np.maximum(b - 2, 0)
    if kind >= 2:  # the shirt shows
        shirt = np.float32(rng.uniform(0.45, 0.8)) * np.float32(rng.uniform(0.85, 1, 3))
        coverage = inside(np.maximum(below_shoulder, 1.75 - 0.1 * x - b), soft)
        over(p.image, coverage, shirt * lit, np.clip(shade, 0.2, 1.2))
        coverage = inside(b - 1.95 + 1.1 * x, soft) * neck
        over(p.image, coverage, who.skin * lit * np.float32(0.6))
    if kind == 3 and male:
        tie = inside(np.maximum(x - 0.1 - 0.06 * (b - 1.9), 1.85 - b), soft)
        over(p.image, tie, np.float32(rng.uniform(0.02, 0.4, 3)) * lit, np.clip(shade, 0.2, 1.2))
    coverage = inside(np.maximum(below_shoulder, opening - b), soft)
    over(p.image, coverage, cloth * lit, np.clip(shade, 0.15, 1.4))
    rim = stroke(b - opening, 0.035) * inside(below_shoulder, soft) * (x < 1.1)
    p.image *= (1 - 0.35 * rim)[..., None]


_VOLUMES = {"buzz": 0.02, "bald": -0.02, "receding": 0.05, "tied": 0.06}
_LENGTHS = {"long": 2.3, "wavy": 2.0, "bob": 1.15, "bangs": 1.6}
_TEMPLES = {"long": 0.86, "wavy": 0.84, "bob": 0.85, "bangs": 0.84}


def _hair(p: SimpleNamespace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signed distance of the hair's outer shape, noise along the strands, the hair's light."""
    who, a, b, style, light = p.who, p.a, p.b, p.who.style, p.scene.light
    curly, sway = style == "curly", style in ("wavy", "curly")
    volume = _VOLUMES.get(style, who.volume + (0.16 if curly else 0.03))
    cap = (np.sqrt((a / (1.03 + 0.8 * volume)) ** 2 + ((b + 0.2) / (1.42 + volume)) ** 2) - 1) * 1.2
    length = 0.9 if curly and who.gender == "female" else _LENGTHS.get(style)
    if length:
        waves = 0.05 * sway * np.sin(5.5 * b + 2 * np.sign(a) + 6 * who.wave)
        width = 1.06 + 0.8 * volume + 0.06 * np.maximum(b, 0) + waves
        tips = texture(normal(generator_for("tips", who.key), 2, 64), 9 * a + 30, np.float32(0))
        tips = 0.2 * tips + 0.25 * np.abs(a)
        fall = np.maximum(np.maximum(np.abs(a) - width, -0.2 - b), b - length + tips)
        cap = np.minimum(cap, fall)
    along = np.hypot(a - 0.35 * who.parting, b + 1.7)
    across = np.arctan2(a - 0.35 * who.parting, b + 2.1) * 1.6
    across = across + 0.05 * sway * np.sin(6 * along + 9 * who.wave)
    grid = normal(generator_for("hair", who.key), 96, 192)
    if curly:
        x, y = a + 0.06 * np.sin(9 * b), b + 0.06 * np.sin(9 * a)
        strands = 0.8 * texture(grid, 11 * x + 60, 11 * y + 20)
        strands = strands + 0.7 * texture(grid, 25 * x + 90, 25 * y + 50)
    else:
        fine = min(110.0, 0.7 / p.pixel)  # finer strands than the raster would alias
        strands = 0.7 * texture(grid, 28 * across + 90, 1.6 * along)
        strands = strands + 0.75 * texture(grid, fine * across + 400, 2.3 * along + 30)
    # Light on the volume, a highlight across the strands (Kajiya and Kay 1989, "Rendering fur").
    depth = np.sqrt(np.maximum(1.6 - a**2 - 0.5 * (b + 0.2) ** 2, 0.05))
    diffuse = 0.62 + 0.4 * (a * light[0] + (b + 0.2) * light[1] + depth * light[2])
    tone = np.exp(0.34 * strands) * np.clip(diffuse, 0.25, 1.6)
    gloss = stroke(along - 0.95 + 0.1 * strands, 0.28) * np.clip(0.5 + 0.5 * strands, 0, 2)
    hair = who.hair * tone[..., None] + 0.045 * (0.4 + who.hair) * gloss[..., None]
    ragged = cap + (0.075 if curly else 0.012) * strands
    return ragged, strands, hair * (p.scene.fill + p.scene.key)


def _paint_person(p: SimpleNamespace, body: SimpleNamespace | None) -> None:
    """Hair behind, body, ears, face with its features, hair in front, glasses."""
    who, scene, a, b, pixel = p.who, p.scene, p.a, p.b, p.pixel
    ragged, strands, hair = _hair(p)
    if who.style != "bald":
        behind = np.where(b > -0.3, ragged, 1.0)
        over(p.image, inside(behind, 0.06 + pixel), hair * np.float32(0.55))
    if body is not None:
        _paint_body(body)
    p.lit = scene.fill + scene.key * np.float32(max(scene.light[2], 0.3))
    for side in (-1, 1):  # ears stand behind the face
        centre = side * 1.0 * math.cos(p.person.yaw) - 0.15 * math.sin(p.person.yaw)
        x, y = (a - centre) / 0.13, (b - 0.02) / 0.27
        ear = np.hypot(x, y + 0.25 * x * side)
        shade = (0.75 - 0.35 * stroke(ear - 0.55, 0.2)) * (0.8 + 0.4 * side * scene.light[0])
        skin = who.skin * colour(1.02, 0.86, 0.84) * p.lit
        over(p.image, inside((ear - 1) * 0.13, 2 * pixel), skin, shade)
    p.u, p.v, r, z = onto_head(p.person, a, b)
    p.nose = p.u - 0.2 * math.sin(p.person.yaw) * ramp(p.v + 0.35, 0.6)  # it stands out: parallax
    face = inside((r - 1) * 0.9, 2.2 * pixel)
    over(p.image, face, faces.lit_skin(p, r, z))
    faces.paint_features(p)
    if who.style != "bald":
        mask = np.maximum(ragged, _hairline(p, r, strands))
        p.image *= (1 - 0.25 * inside(mask - 0.05, 0.16) * face)[..., None]  # its shadow
        sparse = 0.75 if who.style in ("buzz", "receding") else 1.0
        softness = (0.13 if who.style == "curly" else 0.05) + 1.5 * pixel
        over(p.image, sparse * inside(mask, softness), hair)
    if who.glasses:
        faces.paint_glasses(p)


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
