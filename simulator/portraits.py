"""How a scene becomes linear light: background, then each person, hair and clothes included."""

import math
from types import SimpleNamespace

import cv2
import numpy as np

from simulator import faces, people
from simulator.faces import bump, cloud_cover, inside, over, smooth, stroke, texture
from simulator.people import Scene, colour, generator_for, muted, normal


def render(scene: Scene, size: tuple[int, int]) -> np.ndarray:
    """Linear light `(height, width, 3)` of the stored picture, at any `size` (width, height)."""
    image = _paint_background(scene, size[::-1] if scene.turn % 2 else size)
    for person in scene.people:
        p = _plane(image, scene, person)
        head = faces.part(p, (np.abs(p.a) < 1.75) & (np.abs(p.b - 0.2) < 2.4))
        if head.a.size:
            _paint_person(head, faces.part(p, (np.abs(p.a) < 4.5) & (p.b > 0.4)))
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
        spot = x - rng.uniform(0.2, 0.8) * (columns / rows), y - rng.uniform(0.2, 0.6)
        field *= (0.6 + 0.8 * bump(*spot, 0.6, 0.5))[..., None]
    elif kind == 1:
        leaves = sum(cloud_cover(rng, rows // s, columns // s, x.shape[::-1]) for s in (2, 5, 11))
        field *= np.exp(0.4 * leaves)[..., None] * colour(0.85, 1, 0.7)
    else:  # shelves, frames, a window
        for _ in range(rng.integers(6, 25)):
            x0, y0, wide, high = rng.integers((-10, -10, 4, 10), (columns, rows, 40, 60)).tolist()
            tone = (main * muted(rng, 0.3, 1.7)).tolist()
            cv2.rectangle(field, (x0, y0), (x0 + wide, y0 + high), tone, -1)
    field = smooth(np.maximum(field, 0.004), rng.uniform(0.5, 3.0))
    image = cv2.resize(field, size, interpolation=cv2.INTER_CUBIC)
    grain = rng.uniform(0.02, 0.15) * smooth(normal(rng, *size[::-1]), 0.8)
    return image * (1 + grain)[..., None]


def _paint_body(p: SimpleNamespace) -> None:
    """Neck with the chin's shadow, shoulders and a garment with a round or pointed opening."""
    who, light, soft, a, b, x = p.who, p.scene.light, 2 * p.pixel, p.a, p.b, np.abs(p.a)
    rng, lit = generator_for("clothes", p.person.wears), p.scene.fill + p.scene.key * 0.75
    neck_width, wide = (0.62, 2.15) if who.gender == "male" else (0.5, 1.8)
    neck_width = neck_width + 0.12 * np.maximum(b - 1.3, 0) ** 2
    side = a / neck_width
    chin = stroke(a + 0.5 * light[0], 0.8) * np.exp(-np.maximum(b - who.chin + 0.2, 0) / 0.35)
    shade = (0.95 - 0.4 * np.abs(side) ** 3 + 0.35 * side * light[0]) * (1 - 0.6 * chin)
    neck = inside(x - neck_width, 2 * soft) * inside(0.4 - b, soft)
    over(p.image, neck, who.skin * lit, np.clip(shade, 0.1, 1.3))

    opening = 1.78 - 0.9 * x**2 if rng.random() < 0.5 else 2.5 - 1.35 * x
    below_shoulder = 1.62 + 0.16 * x**1.6 + 2.5 * np.maximum(x - wide, 0) ** 2 - b
    folds = texture(normal(rng, 24, 24), 2.2 * a + 30 + 0.5 * b, 1.1 * b + 20)
    weave = rng.uniform(0.02, 0.12) * smooth(normal(rng, *a.shape), 0.6)
    shade = 0.72 + 0.35 * light[0] * a / wide + 0.1 * folds + weave - 0.12 * np.maximum(b - 2, 0)
    shade *= 1 - 0.35 * stroke(b - opening, 0.035) * (x < 1.1)
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
    hair = who.hair * tone[..., None] + 0.02 * stroke(along - 0.95, 0.28)[..., None]
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
        shade = (0.75 - 0.35 * stroke(ear - 0.55, 0.2)) * (0.8 + 0.4 * side * scene.light[0])
        over(p.image, inside((ear - 1) * 0.13, 2 * pixel), who.skin * p.lit, shade)
    p.u, p.v, r, z = people.onto_head(p.person, a, b)
    rise = np.clip((p.v + 0.35) / 0.6, 0, 1)
    p.nose = p.u - 0.2 * math.sin(p.person.yaw) * rise  # it stands out: parallax
    face = inside((r - 1) * 0.9, 2.2 * pixel)
    over(p.image, face, faces.lit_skin(p, r, z))
    faces.paint_features(p)
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
