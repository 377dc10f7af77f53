"""Procedural portraits for the simulated data: people, scenes, and how they are drawn in linear light.

Nobody in them exists. A person is drawn from parameters (head, skin, eyes, brows, nose, mouth, hair, beard, glasses),
a scene adds pose, light, clothes and background; `render` draws it as light, before any camera.
"""

import math
import zlib
from dataclasses import dataclass, replace
from types import SimpleNamespace

import cv2
import numpy as np

# ---------------------------------------------------------------------------------------------- random numbers


def generator_for(*key: int | str) -> np.random.Generator:
    """A generator of its own for every picture and purpose, so the order of work changes nothing."""
    return np.random.default_rng(
        [zlib.crc32(k.encode()) if isinstance(k, str) else int(k) for k in key]
    )


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def _colour(*rgb: float) -> np.ndarray:
    return np.asarray(rgb, np.float32)


# ------------------------------------------------------------------------------------------ people and scenes

# Linear-light reflectances, set by eye; skin runs from little to much melanin.
_SKINS = np.float32(
    [
        (0.74, 0.50, 0.39),
        (0.62, 0.37, 0.26),
        (0.44, 0.24, 0.15),
        (0.26, 0.13, 0.08),
        (0.14, 0.07, 0.045),
    ]
)
_HAIRS = np.float32(
    [
        (0.012, 0.01, 0.01),
        (0.035, 0.02, 0.013),
        (0.09, 0.048, 0.025),
        (0.2, 0.07, 0.03),
        (0.42, 0.28, 0.13),
    ]
)
_IRISES = np.float32(
    [
        (0.05, 0.025, 0.012),
        (0.12, 0.06, 0.02),
        (0.12, 0.13, 0.05),
        (0.1, 0.2, 0.32),
        (0.2, 0.24, 0.25),
    ]
)
_HAIRSTYLES = {"male": ("short", "short", "side", "buzz", "receding", "curly", "bald"),
               "female": ("long", "long", "wavy", "bob", "tied", "bangs", "curly")}  # fmt: skip


def draw_identity(rng: np.random.Generator, gender: str, age: int) -> SimpleNamespace:
    """Everything that makes one person: lengths in half face widths, colours in linear light."""
    uniform, male = rng.uniform, gender == "male"
    melanin = 4 * rng.beta(1.1, 1.9)
    skin = np.float32([np.interp(melanin, range(5), _SKINS[:, c]) for c in range(3)]) * np.float32(
        uniform(0.92, 1.06)
    )
    shade = min(rng.integers(5), 2 if melanin > 1.2 else 4)
    grey = float(np.clip((age - uniform(35, 70)) / 15, 0, 1))
    hair = (1 - grey) * _HAIRS[shade] * np.float32(uniform(0.7, 1.3)) + grey * _colour(
        0.36, 0.35, 0.34
    )
    beard = rng.choice(5, p=(0.45, 0.25, 0.08, 0.1, 0.12)) if male else 0
    return SimpleNamespace(
        gender=gender, age=age, key=int(rng.integers(2**31)), skin=skin, hair=hair.astype(np.float32), shade=int(shade),
        grey=grey, style=str(rng.choice(_HAIRSTYLES[gender])), volume=uniform(0.05, 0.2), hairline=uniform(-1.2, -0.98),
        parting=uniform(-0.5, 0.5), wave=uniform(0, 1), jaw=uniform(2.1, 2.7) if male else uniform(1.9, 2.25),
        taper=uniform(0.0, 0.07) if male else uniform(0.04, 0.13),
        chin=uniform(1.24, 1.4) if male else uniform(1.18, 1.3),
        eye_x=uniform(0.38, 0.45), eye_y=uniform(-0.22, -0.15), eye_width=uniform(0.195, 0.235),
        eye_open=uniform(0.075, 0.095) if male else uniform(0.085, 0.11), eye_tilt=uniform(-0.06, 0.14),
        iris=_IRISES[0 if melanin > 1.4 else rng.integers(5)] * np.float32(uniform(0.8, 1.2)),
        brow_y=uniform(-0.27, -0.2), brow_width=uniform(0.045, 0.075) if male else uniform(0.025, 0.045),
        brow_arch=uniform(0.02, 0.06) if male else uniform(0.05, 0.1),
        nose_width=uniform(0.16, 0.22) if male else uniform(0.14, 0.19), nose_height=uniform(0.18, 0.28),
        nose_y=uniform(0.36, 0.46), mouth_y=uniform(0.74, 0.84), mouth_width=uniform(0.29, 0.37),
        lip_upper=uniform(0.045, 0.08) if male else uniform(0.06, 0.1), lip_lower=uniform(0.07, 0.11),
        lipstick=0.0 if male else uniform(0, 1), blush=uniform(0.1, 0.35), cheek=uniform(0.02, 0.09),
        freckles=uniform(0, 1) if shade >= 3 else 0.0, wrinkles=float(np.clip((age - 30) / 40, 0, 1)), beard=int(beard),
        glasses=int(rng.integers(1, 4)) if uniform() < 0.16 else 0,
    )  # fmt: skip


@dataclass(frozen=True)
class _Person:
    """An identity in one moment: where it stands (upright picture, pixels), how it holds its head, what it wears."""

    who: SimpleNamespace
    x: float
    y: float
    scale: float  # pixels per half face width
    roll: float
    yaw: float
    pitch: float
    smile: float
    open: float
    gaze: tuple[float, float]
    wears: int


@dataclass(frozen=True)
class Scene:
    """People (the one portrayed last), light and background, in an upright frame of `width` x `height` pixels."""

    width: int
    height: int
    people: tuple[_Person, ...]
    light: np.ndarray  # unit vector to the lamp: right, down, towards the camera
    key: np.ndarray  # colours of lamp and surroundings
    fill: np.ndarray
    background: int  # seed
    turn: int = 0  # quarter turns, counterclockwise, from upright to stored


def _draw_person(
    rng: np.random.Generator, who: SimpleNamespace, x: float, y: float, scale: float, loose: float
) -> _Person:
    smile = float(np.clip(rng.normal(0.4, 0.35), -0.05, 1))
    return _Person(
        who, x, y, scale, roll=rng.normal(0, 0.07) * loose, yaw=float(np.clip(rng.normal(0, 0.2), -0.5, 0.5)),
        pitch=float(np.clip(rng.normal(0.02, 0.07), -0.18, 0.18)), smile=smile,
        open=float(rng.uniform(0.035, 0.075)) if smile > 0.45 and rng.random() < 0.7 else 0.0,
        gaze=(rng.normal(0, 0.016), rng.normal(0, 0.016)), wears=int(rng.integers(2**31)),
    )  # fmt: skip


def draw_scene(
    rng: np.random.Generator, who: SimpleNamespace, width: int, height: int, frame: str = ""
) -> Scene:
    """Places a person: freely (portraits as people post them), or aligned as in FFHQ and in CelebA."""
    side = min(width, height)
    if (
        frame == "ffhq"
    ):  # the side is four times the distance of the eyes (the dataset's alignment script)
        scale = 0.25 * width / (2 * who.eye_x)
        x, y = 0.5 * width, 0.47 * height - who.eye_y * scale
    elif frame == "celeba":  # eyes at (69, 111) and (109, 111) of 178 x 218
        scale = 40 / 178 * width / (2 * who.eye_x)
        x, y = 0.5 * width, 0.51 * height - who.eye_y * scale
    else:
        scale = side * rng.uniform(0.15, 0.28)
        x, y = width * rng.uniform(0.4, 0.6), height * rng.uniform(0.4, 0.5)
        y = float(np.clip(y, 1.35 * scale, max(height - 1.5 * scale, 1.35 * scale)))
    people = [_draw_person(rng, who, x, y, scale, loose=0.2 if frame else 1.0)]
    if not frame and rng.random() < 0.05 and width > height:  # somebody else stands beside
        gender = str(rng.choice(("male", "female")))
        other = draw_identity(rng, gender, int(rng.integers(20, 60)))
        beside = x + scale * rng.uniform(2.9, 3.4) * (1 if x < width / 2 else -1)
        people.insert(0, _draw_person(rng, other, beside, y + 0.2 * scale, 0.8 * scale, loose=1.0))
    direction = np.float32(
        [rng.uniform(-0.9, 0.9), rng.uniform(-0.8, -0.15), rng.uniform(0.7, 1.2)]
    )
    warmth, contrast = rng.normal(0, 0.07), rng.uniform(0.45, 0.85)
    key = 1.15 * contrast * _colour(1 + warmth, 1, 1 - 1.3 * warmth)
    fill = (1.05 - contrast) * _colour(1 - 0.5 * warmth, 1, 1 + 0.7 * warmth)
    return Scene(
        width,
        height,
        tuple(people),
        direction / np.linalg.norm(direction),
        key,
        fill,
        int(rng.integers(2**31)),
    )


# ------------------------------------------------------------------------------------------------- geometry


def _outline(who: SimpleNamespace, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Below 1 inside the face's outline: a superellipse per half, tapered towards the chin."""
    below = b + 0.1 > 0
    semi = np.where(below, np.float32(who.chin + 0.1), np.float32(1.5))
    power = np.where(below, np.float32(who.jaw), np.float32(2.2))
    width = np.abs(a) * (1 + who.taper * np.maximum(b, 0) ** 2)
    return (np.maximum(width, 1e-6) ** power + (np.abs(b + 0.1) / semi) ** power) ** (1 / power)


def _onto_head(person: _Person, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, ...]:
    """From the picture plane (head units) to the turned head: body coordinates, outline value and depth."""
    r = _outline(person.who, a, b)
    z = np.sqrt(np.maximum(1 - np.minimum(r, 1) ** 2, 0))
    u = a * math.cos(person.yaw) - z * math.sin(person.yaw)
    v = b * math.cos(person.pitch) - z * math.sin(person.pitch)
    return u, v, r, z


def _from_head(person: _Person, points: np.ndarray) -> np.ndarray:
    """Body coordinates `(N, 2)` to the picture plane, by fixed-point iteration of the way back."""
    plane = points.astype(np.float64).copy()
    for _ in range(30):
        u, v, *_ = _onto_head(person, plane[:, 0], plane[:, 1])
        plane += 0.7 * (points - np.stack([u, v], 1))
    return plane


_TURNS = {
    0: [[1, 0, 0], [0, 1, 0]],
    1: [[0, -1, 1], [1, 0, 0]],
    2: [[-1, 0, 1], [0, -1, 1]],
    -1: [[0, 1, 0], [-1, 0, 1]],
}


def _compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    return outer @ np.vstack([inner, [0, 0, 1]])


def _plane_to_stored(scene: Scene, person: _Person, points: np.ndarray) -> np.ndarray:
    """Picture plane of a person to fractions of the stored picture."""
    c, s = np.cos(person.roll), np.sin(person.roll)
    xy = points @ np.array([[c, s], [-s, c]]) * person.scale + (person.x, person.y)
    turn = np.vstack([_TURNS[scene.turn], [0, 0, 1]])
    return (
        np.column_stack([xy / (scene.width, scene.height), np.ones(len(xy))])
        @ np.linalg.inv(turn)[:2].T
    )


def landmarks(scene: Scene) -> np.ndarray:
    """Five landmarks `(5, 2)` of the person portrayed, as fractions of the stored picture."""
    person, who = scene.people[-1], scene.people[-1].who
    mouth = who.mouth_y - 0.1 * person.smile
    body = [(-who.eye_x, who.eye_y), (who.eye_x, who.eye_y), (0.2 * math.sin(person.yaw), who.nose_y - 0.04),
            (-who.mouth_width, mouth), (who.mouth_width, mouth)]  # fmt: skip
    return _plane_to_stored(scene, person, _from_head(person, np.array(body)))


def face_box(scene: Scene, margin: float = 0.0) -> np.ndarray:
    """Tight box from the forehead to the chin: left, top, right, bottom, as fractions of the stored picture."""
    person = scene.people[-1]
    shift = 0.3 * math.sin(person.yaw)  # a detector's box follows the features, not the skull
    left, top, right, bottom = -0.86 + shift, -1.06, 0.86 + shift, person.who.chin + 0.01
    wide, high = margin * (right - left) / 2, margin * (bottom - top) / 2
    corners = np.array(
        [(x, y) for x in (left - wide, right + wide) for y in (top - high, bottom + high)]
    )
    level = replace(person, roll=0.0)
    stored = np.clip(_plane_to_stored(scene, level, corners), 0, 1)
    return np.concatenate([stored.min(0), stored.max(0)])


class _View:
    """The map from an output raster to one person's picture plane."""

    def __init__(self, scene: Scene, person: _Person, size: tuple[int, int], crop: np.ndarray):
        self.width, self.height = size
        left, top, right, bottom = crop
        to_stored = np.array([[(right - left) / self.width, 0, left + 0.5 * (right - left) / self.width],
                              [0, (bottom - top) / self.height, top + 0.5 * (bottom - top) / self.height]])  # fmt: skip
        to_upright = np.diag([scene.width, scene.height]) @ _compose(
            np.array(_TURNS[scene.turn]), to_stored
        )
        c, s = np.cos(person.roll), np.sin(person.roll)
        to_plane = np.array([[c, s], [-s, c]]) / person.scale
        self.map = to_plane @ (to_upright - [[0, 0, person.x], [0, 0, person.y]])
        self.pixel = float(np.sqrt(abs(np.linalg.det(self.map[:, :2]))))

    def window(
        self, left: float, top: float, right: float, bottom: float
    ) -> tuple[slice, slice] | None:
        """Rows and columns that hold a rectangle of the picture plane; `None` if it lies outside."""
        corners = np.array([(x, y) for x in (left, right) for y in (top, bottom)]) - self.map[:, 2]
        xy = corners @ np.linalg.inv(self.map[:, :2]).T
        (x0, y0), (x1, y1) = np.floor(xy.min(0)).astype(int) - 1, np.ceil(xy.max(0)).astype(int) + 2
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, self.width), min(y1, self.height)
        return (slice(y0, y1), slice(x0, x1)) if x1 - x0 > 2 and y1 - y0 > 2 else None

    def coordinates(self, window: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(window[0].start, window[0].stop, dtype=np.float32)[:, None]
        x = np.arange(window[1].start, window[1].stop, dtype=np.float32)[None]
        m = self.map.astype(np.float32)
        return m[0, 0] * x + m[0, 1] * y + m[0, 2], m[1, 0] * x + m[1, 1] * y + m[1, 2]

    def gradient(self, field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Slopes along the picture plane's two axes."""
        dx = cv2.Sobel(field, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
        dy = cv2.Sobel(field, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
        j = np.linalg.inv(self.map[:, :2]).astype(np.float32)
        return dx * j[0, 0] + dy * j[1, 0], dx * j[0, 1] + dy * j[1, 1]


# -------------------------------------------------------------------------------------------------- drawing


def _inside(distance: np.ndarray, softness: float) -> np.ndarray:
    """Coverage of a pixel by a region whose signed distance is negative inside."""
    return np.clip(0.5 - distance / softness, 0, 1)


def _over(image: np.ndarray, coverage: np.ndarray, colour: np.ndarray) -> None:
    """Paints over `image` in place, where there is something to paint."""
    part = _where(coverage > 0)
    if part is not None:
        image, coverage = image[part], coverage[part]
        image += coverage[..., None] * ((colour[part] if colour.ndim > 1 else colour) - image)


def _where(condition: np.ndarray) -> tuple[slice, slice] | None:
    """The smallest window that holds all true values; `None` if there are none."""
    rows, columns = np.flatnonzero(condition.any(1)), np.flatnonzero(condition.any(0))
    return (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)) if len(rows) else None


def _bump(x: np.ndarray, y: np.ndarray, width: float, height: float) -> np.ndarray:
    return np.exp(-((x / width) ** 2 + (y / height) ** 2))


def _texture(grid: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Smooth noise: a small grid of random values, interpolated and repeated."""
    x, y = np.broadcast_arrays(x, y)
    return cv2.remap(
        grid,
        x.astype(np.float32),
        y.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )


def _paint_background(scene: Scene, size: tuple[int, int], crop: np.ndarray) -> np.ndarray:
    """A backdrop, lights out of focus, a room, leaves, an open landscape or a wall; blurred by its distance."""
    rng = generator_for("background", scene.background)
    rows, columns = 128, max(int(128 * scene.width / scene.height), 32)
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32) / rows
    aspect = columns / rows
    kind = int(rng.integers(6))
    main = np.float32(rng.uniform(0.06, 0.5) * (0.5 + rng.dirichlet((3, 3, 3)) * 1.5))
    other = np.float32(rng.uniform(0.03, 0.6) * (0.5 + rng.dirichlet((3, 3, 3)) * 1.5))
    field = np.empty((rows, columns, 3), np.float32)
    clouds = cv2.resize(normal(rng, 6, 8), (columns, rows), interpolation=cv2.INTER_CUBIC)
    blur, grain = rng.uniform(1.0, 3.0), 0.02
    if kind == 0:  # studio backdrop
        spot = np.exp(
            -(
                ((x - rng.uniform(0.2, 0.8) * aspect) / 0.6) ** 2
                + ((y - rng.uniform(0.2, 0.6)) / 0.5) ** 2
            )
        )
        field[:] = main * (0.45 + 0.8 * spot + 0.08 * clouds)[..., None]
        grain = 0.03
    elif kind == 1:  # lights out of focus
        field[:] = 0.3 * main * (1 + 0.3 * clouds)[..., None]
        for _ in range(rng.integers(15, 45)):
            disc = np.zeros((rows, columns), np.float32)
            centre = (int(rng.uniform(0, columns)), int(rng.uniform(0, rows)))
            cv2.circle(
                disc, centre, int(rng.uniform(4, 13)), float(rng.uniform(0.2, 0.7)), -1, cv2.LINE_AA
            )
            field += disc[..., None] * np.float32(rng.uniform(0.1, 1.1, 3))
    elif kind == 2:  # a room: shelves, frames, a window
        field[:] = main * (0.9 - 0.25 * y + 0.05 * clouds)[..., None]
        for _ in range(rng.integers(6, 40)):
            x0, y0 = int(rng.uniform(-10, columns)), int(rng.uniform(-10, rows))
            corner = (x0 + int(rng.uniform(4, 40)), y0 + int(rng.uniform(10, 60)))
            tone = (other * rng.uniform(0.3, 1.6) * rng.uniform(0.6, 1.4, 3)).tolist()
            cv2.rectangle(field, (x0, y0), corner, tone, -1 if rng.random() < 0.8 else 2)
    elif kind == 3:  # leaves
        leaves = sum(cv2.resize(normal(rng, rows // s, columns // s), (columns, rows), interpolation=cv2.INTER_CUBIC)
                     for s in (2, 5, 11))  # fmt: skip
        green = np.float32(rng.uniform((0.05, 0.12, 0.02), (0.25, 0.35, 0.08)))
        field[:] = (
            green * np.exp(0.45 * leaves)[..., None]
            + np.float32(0.25) * np.maximum(leaves - 1.6, 0)[..., None]
        )
        grain = 0.03
    elif kind == 4:  # sky, hills or houses, ground
        horizon = rng.uniform(0.35, 0.75) + 0.04 * clouds[0]
        sky = np.float32([0.35, 0.5, 0.75]) * np.float32(rng.uniform(0.6, 1.1))
        field[:] = sky * (0.8 + 0.5 * y + 0.12 * np.maximum(clouds, 0))[..., None]
        for x0 in range(0, columns, 9):
            top = horizon[x0] - rng.uniform(0, 0.25)
            field[int(top * rows) :, x0 : x0 + 9] = other * np.float32(rng.uniform(0.6, 1.4))
        field[y > horizon + 0.1] = main * np.float32(0.6)
    else:  # bricks or boards, nearly in focus
        high, wide = rng.uniform(0.05, 0.09), rng.choice((0.16, 4.0))
        row = np.floor(y / high)
        joint = np.minimum(np.mod(y, high) / high, np.mod(x + row * wide / 2, wide) / high)
        tone = _texture(normal(rng, 40, 40), np.floor((x + row * wide / 2) / wide) * 3.7, row * 1.3)
        field[:] = main * np.exp(0.12 * tone + 0.1 * clouds)[..., None]
        field[joint < 0.1] *= np.float32(0.6)
        blur, grain = rng.uniform(0.5, 1.0), 0.05
    field = cv2.GaussianBlur(np.maximum(field, 0.004), (0, 0), blur)
    to_stored = np.array(
        [[(crop[2] - crop[0]) / size[0], 0, crop[0]], [0, (crop[3] - crop[1]) / size[1], crop[1]]]
    )
    matrix = np.diag([columns, rows]) @ _compose(np.array(_TURNS[scene.turn], float), to_stored)
    image = cv2.warpAffine(
        field,
        matrix,
        size,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    texture = cv2.GaussianBlur(normal(rng, size[1], size[0]), (0, 0), 0.8)
    return image * (1 + 2 * grain * texture)[..., None]


def _paint_body(image: np.ndarray, view: _View, scene: Scene, person: _Person) -> None:
    """Neck, shoulders and clothes."""
    window = view.window(-4.5, 0.4, 4.5, 9)
    if window is None:
        return
    who, rng, soft = person.who, generator_for("clothes", person.wears), 2 * view.pixel
    region = image[window]
    a, b = view.coordinates(window)
    lit = scene.fill + scene.key * 0.75
    male = who.gender == "male"
    neck_width = (0.62 if male else 0.5) + 0.12 * np.maximum(b - 1.3, 0) ** 2
    side = a / neck_width
    shade = np.clip(0.95 - 0.45 * np.abs(side) ** 3 + 0.35 * side * scene.light[0], 0.1, 1.3)
    shade = shade * (
        1 - 0.62 * np.exp(-np.maximum(b - who.chin + 0.25, 0) / 0.28)
    )  # in the shadow of the chin
    neck = _inside(np.abs(a) - neck_width, 2 * soft) * _inside(0.4 - b, soft)
    _over(region, neck, who.skin * lit * shade[..., None])
    kind, cloth = (
        int(rng.integers(4)),
        np.float32(rng.uniform(0.02, 0.55) * (0.25 + rng.dirichlet((1.2, 1.2, 1.2)) * 2.25)),
    )
    if kind == 3:
        cloth *= np.float32(0.25)  # suits are dark
    x = np.abs(a)
    wide = 2.15 if male else 1.8
    shoulder = 1.62 + 0.16 * x**1.6 + 2.5 * np.maximum(x - wide, 0) ** 2
    opening = {0: 1.78 - 0.9 * x**2, 1: 2.5 - 1.35 * x, 2: 1.95 - 0.55 * x, 3: 3.6 - 2.6 * x}[kind]
    folds = _texture(normal(rng, 24, 24), 2.2 * a + 30 + 0.5 * b, 1.1 * b + 20)
    weave = (
        0.1 * np.sin(a * 26)
        if rng.random() < 0.25
        else 0.06 * cv2.GaussianBlur(normal(rng, *a.shape), (0, 0), 0.6)
    )
    shade = (
        0.72 + 0.35 * scene.light[0] * a / wide + 0.13 * folds + weave - 0.12 * np.maximum(b - 2, 0)
    )
    if kind >= 2:  # the shirt shows
        shirt = np.float32(rng.uniform(0.45, 0.8)) * np.float32(rng.uniform(0.85, 1, 3))
        _over(
            region,
            _inside(np.maximum(shoulder - b, 1.75 - 0.1 * x - b), soft),
            shirt * lit * np.clip(shade, 0.2, 1.2)[..., None],
        )
        _over(region, _inside(b - 1.95 + 1.1 * x, soft) * neck, who.skin * lit * np.float32(0.6))
    if kind == 3 and male:
        tie = _inside(np.maximum(x - 0.1 - 0.06 * (b - 1.9), 1.85 - b), soft)
        _over(
            region,
            tie,
            np.float32(rng.uniform(0.02, 0.4, 3)) * lit * np.clip(shade, 0.2, 1.2)[..., None],
        )
    coverage = _inside(np.maximum(shoulder - b, opening - b), soft)
    _over(region, coverage, cloth * lit * np.clip(shade, 0.15, 1.4)[..., None])
    rim = np.exp(-(((b - opening) / 0.035) ** 2)) * _inside(shoulder - b, soft) * (x < 1.1)
    region *= (1 - 0.35 * rim)[..., None]


def _hair_shape(
    person: _Person, a: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signed distances of the hair's outer shape, and strand coordinates across and along."""
    who, style = person.who, person.who.style
    volume = {
        "buzz": 0.02,
        "bald": -0.02,
        "receding": 0.05,
        "tied": 0.06,
        "curly": 0.16 + who.volume,
    }.get(style, who.volume + 0.03)
    cap = (np.sqrt((a / (1.03 + 0.8 * volume)) ** 2 + ((b + 0.2) / (1.42 + volume)) ** 2) - 1) * 1.2
    length = {
        "long": 2.3,
        "wavy": 2.0,
        "bob": 1.15,
        "bangs": 1.6,
        "curly": 0.9 if who.gender == "female" else 0.1,
    }.get(style, 0.0)
    if length > 0.5:
        waves = (0.05 * np.sin(5.5 * b + 2 * np.sign(a) + 6 * who.wave)) * (
            style in ("wavy", "curly")
        )
        width = 1.06 + 0.8 * volume + 0.06 * np.maximum(b, 0) + waves
        tips = 0.2 * _texture(
            normal(generator_for("tips", who.key), 2, 64), 9 * a + 30, np.float32(0)
        ) + 0.25 * np.abs(a)
        fall = np.maximum(np.maximum(np.abs(a) - width, -0.2 - b), b - length + tips)
        cap = np.minimum(cap, fall)
    across = np.arctan2(a - 0.35 * who.parting, b + 2.1) * 1.6
    along = np.hypot(a - 0.35 * who.parting, b + 1.7)
    return (
        cap,
        across + 0.05 * np.sin(6 * along + 9 * who.wave) * (style in ("wavy", "curly")),
        along,
    )


def _hair_colour(
    who: SimpleNamespace, scene: Scene, strands: np.ndarray, a, b, along
) -> np.ndarray:
    """Diffuse light on the hair's volume and a Kajiya-Kay highlight that runs across the strands."""
    depth = np.sqrt(np.maximum(1.6 - a**2 - 0.5 * (b + 0.2) ** 2, 0.05))
    diffuse = np.clip(
        0.62 + 0.4 * (a * scene.light[0] + (b + 0.2) * scene.light[1] + depth * scene.light[2]),
        0.25,
        1.6,
    )
    gloss = np.exp(-(((along - 0.95 + 0.1 * strands) / 0.28) ** 2)) * np.clip(
        0.5 + 0.5 * strands, 0, 2
    )
    tone = np.exp(0.34 * strands) * diffuse
    return (who.hair * tone[..., None] + 0.045 * (0.4 + who.hair) * gloss[..., None]) * (
        scene.fill + scene.key
    )


def _strands(
    who: SimpleNamespace, a, b, across: np.ndarray, along: np.ndarray, pixel: float
) -> np.ndarray:
    """Noise drawn out along the hair; isotropic for curls."""
    grid = normal(generator_for("hair", who.key), 96, 192)
    if who.style == "curly":
        x, y = a + 0.06 * np.sin(9 * b), b + 0.06 * np.sin(9 * a)
        return 0.8 * _texture(grid, 11 * x + 60, 11 * y + 20) + 0.7 * _texture(
            grid, 25 * x + 90, 25 * y + 50
        )
    fine = min(110.0, 0.7 / pixel)  # finer strands than the raster would alias
    return 0.7 * _texture(grid, 28 * across + 90, 1.6 * along) + 0.75 * _texture(
        grid, fine * across + 400, 2.3 * along + 30
    )


def _paint_head(image: np.ndarray, view: _View, scene: Scene, person: _Person) -> None:
    """Hair behind, ears, face with its features, hair in front, glasses."""
    who, pixel = person.who, view.pixel
    window = view.window(-1.75, -2.2, 1.75, 2.6)
    if window is None:
        return
    region = image[window]
    a, b = view.coordinates(window)
    cap, across, along = _hair_shape(person, a, b)
    strands = _strands(who, a, b, across, along, pixel)
    ragged = cap + (0.075 if who.style == "curly" else 0.012) * strands
    hair = _hair_colour(who, scene, strands, a, b, along)
    if who.style != "bald":
        behind = np.where(b > -0.3, ragged, 1.0)
        _over(region, _inside(behind, 0.06 + pixel), hair * np.float32(0.55))
    _paint_body(image, view, scene, person)

    u, v, r, z = _onto_head(person, a, b)
    lit = scene.fill + scene.key * np.float32(max(scene.light[2], 0.3))
    for side in (-1, 1):  # ears stand behind the face
        centre = side * 1.0 * math.cos(person.yaw) - 0.15 * math.sin(person.yaw)
        x, y = (a - centre) / 0.13, (b - 0.02) / 0.27
        ear = np.hypot(x, y + 0.25 * x * side)
        shade = (0.75 - 0.35 * np.exp(-(((ear - 0.55) / 0.2) ** 2))) * (
            0.8 + 0.4 * side * scene.light[0]
        )
        _over(
            region,
            _inside((ear - 1) * 0.13, 2 * pixel),
            who.skin * _colour(1.02, 0.86, 0.84) * lit * shade[..., None],
        )
    face = _inside((r - 1) * 0.9, 2.2 * pixel)
    _over(region, face, _skin(view, scene, person, u, v, r, z))
    inner = view.window(-1.05, -0.95, 1.05, 1.35)
    if inner is not None:
        rows = slice(inner[0].start - window[0].start, inner[0].stop - window[0].start)
        columns = slice(inner[1].start - window[1].start, inner[1].stop - window[1].start)
        _paint_features(
            region[rows, columns],
            pixel,
            scene,
            person,
            u[rows, columns],
            v[rows, columns],
            r[rows, columns],
        )
    if who.style != "bald":
        x = np.abs(u)
        line = who.hairline + 0.32 * x**3
        if who.style == "bangs":
            line = np.maximum(line, -0.62 + 0.1 * u + 0.05 * strands)
        elif who.style == "receding":
            line = -1.2 - 0.22 * np.cos(4.2 * u) + 0.5 * x**3
        elif who.style in ("side", "long", "wavy", "bob"):
            line = line + 0.42 * np.abs(u - who.parting) ** 1.4 - 0.08
        temple = {"long": 0.86, "wavy": 0.84, "bob": 0.85, "bangs": 0.84}.get(who.style)
        front = v - line
        if temple is not None:  # locks beside the face
            front = np.minimum(
                front, temple + 0.07 * np.maximum(v, 0) ** 2 - x + np.maximum(-0.7 - v, 0)
            )
            outside = np.where(np.abs(a) > 0.72, 1 - r, 1.0)
        else:
            burn = np.maximum(0.93 - x + 0.05 * np.maximum(-0.4 - v, 0), v - 0.0)
            front = np.minimum(front, burn)
            outside = np.maximum(1 - r, b - 0.0)
        mask = np.maximum(ragged, np.minimum(front, outside) + 0.03 * strands)
        sparse = 0.75 if who.style in ("buzz", "receding") else 1.0
        shadow = _inside(mask - 0.05, 0.16)
        region *= (1 - 0.25 * shadow * face)[..., None]
        _over(
            region,
            sparse * _inside(mask, (0.13 if who.style == "curly" else 0.05) + 1.5 * pixel),
            hair,
        )
    if who.glasses:
        _paint_glasses(region, pixel, scene, person, u, v, a)


def _skin(view: _View, scene: Scene, person: _Person, u, v, r, z) -> np.ndarray:
    """Radiance of the face: relief, soft light, skin colour with blood, melanin and pores, a little shine."""
    who, x, smile = person.who, np.abs(u), max(person.smile, 0)
    un = u - 0.2 * math.sin(person.yaw) * np.clip(
        (v + 0.35) / 0.6, 0, 1
    )  # the nose stands out: parallax
    ny, nw, mouth = who.nose_y, who.nose_width, who.mouth_y
    ridge = np.clip((v + 0.35) / (ny + 0.35), 0, 1) ** 1.4 * _inside(v - ny, 0.16)
    relief = (
        0.95 * z
        + who.nose_height * 0.95 * ridge * np.exp(-((un / 0.13) ** 2))
        + who.nose_height * 1.0 * _bump(un, v - ny + 0.07, 0.15, 0.13)
        + 0.14 * _bump(np.abs(un) - nw, v - ny, 0.075, 0.075)
        + 0.07 * np.exp(-(((v - who.eye_y + 0.28) / 0.12) ** 2)) * _inside(x - 0.7, 0.3)
        - 0.12 * _bump(x - 0.36, v - who.eye_y + 0.06, 0.2, 0.12)
        + (who.cheek + 0.05 * smile) * _bump(x - 0.5, v - 0.22 - 0.05 * smile, 0.24, 0.2)
        + 0.05 * _bump(u, v - mouth, 0.35, 0.16)
        - 0.04 * _bump(u, v - mouth - 0.19, 0.2, 0.06)
        + 0.08 * _bump(u, v - who.chin + 0.2, 0.2, 0.14)
        - 0.02 * _bump(u, v - (ny + mouth) / 2 + 0.02, 0.045, 0.09)
    )
    fold = (
        np.abs(x - nw - 0.05 - 0.32 * (v - ny)) / 0.035
    )  # from the nostril past the corner of the mouth
    relief -= (
        (0.012 + 0.035 * who.wrinkles + 0.03 * smile)
        * np.exp(-(fold**2))
        * _inside(np.abs(v - ny - 0.18) - 0.2, 0.2)
    )
    lines = generator_for("lines", who.key).uniform(0, 6, 2).tolist()
    crease = np.sin(34 * v + lines[0] + 0.8 * np.sin(3 * u + lines[1])) * _bump(
        u, v + 0.68, 0.5, 0.2
    )
    relief += 0.008 * who.wrinkles * crease
    relief = cv2.GaussianBlur(
        relief, (0, 0), max(0.019 / view.pixel, 0.5)
    )  # light scatters under the skin
    slope_a, slope_b = view.gradient(relief)
    norm = 1 / np.sqrt(1 + slope_a**2 + slope_b**2)
    toward = (-slope_a * scene.light[0] - slope_b * scene.light[1] + scene.light[2]) * norm
    diffuse = np.clip((toward + 0.25) / 1.25, 0, 1)
    half = scene.light + _colour(0, 0, 1)
    half = half / np.linalg.norm(half)
    shine = np.clip((-slope_a * half[0] - slope_b * half[1] + half[2]) * norm, 0, 1) ** 18
    fill = 0.78 - 0.22 * slope_b * norm  # the sky above gives more than the ground
    fill *= (
        1
        - 0.3 * _bump(x - 0.36, v - who.eye_y + 0.05, 0.2, 0.1)
        - 0.22 * _bump(un, v - ny - 0.08, 0.16, 0.05)
    )
    fill *= 1 - 0.25 * np.exp(-(((r - 1) / 0.16) ** 2))

    rng = generator_for("skin", who.key, scene.background)
    blood = (
        who.blush
        * (_bump(x - 0.52, v - 0.26, 0.26, 0.24) + 0.7 * _bump(un, v - ny + 0.08, 0.16, 0.12))
        + 0.06
    )
    patches = cv2.resize(normal(rng, 14, 12), r.shape[::-1], interpolation=cv2.INTER_CUBIC)
    pores = cv2.GaussianBlur(normal(rng, *r.shape), (0, 0), max(0.012 / view.pixel, 0.5))
    pores /= max(float(pores.std()), 1e-6)
    tone = 1 + 0.03 * patches + 0.03 * pores
    if who.freckles > 0.3:
        spots = _texture(
            normal(generator_for("freckles", who.key), 64, 64), 24 * u + 40, 24 * v + 40
        )
        tone -= 0.3 * who.freckles * _inside(1.5 - spots, 0.5) * _bump(x - 0.3, v - 0.2, 0.45, 0.3)
    bags = (0.05 + 0.12 * who.wrinkles) * _bump(x - who.eye_x, v - who.eye_y - 0.16, 0.18, 0.05)
    albedo = (
        who.skin
        * (tone - bags)[..., None]
        * (1 - np.maximum(blood, 0)[..., None] * _colour(0.05, 0.42, 0.42))
    )
    if who.beard:
        moustache = _bump(u, v - (ny + mouth) / 2 - 0.04, 0.3, 0.075)
        chin = _bump(u, v - who.chin + 0.12, 0.3, 0.22)
        jaw = np.clip((r - 0.68) / 0.12, 0, 1) * np.clip((v - 0.05) / 0.25, 0, 1) + np.clip(
            (v - mouth - 0.16) / 0.14, 0, 1
        )
        cover = [
            None,
            0.55 * (jaw + moustache),
            moustache * 1.4,
            (moustache + chin) * 1.2,
            1.4 * (jaw + moustache),
        ][who.beard]
        bristles = _texture(
            normal(generator_for("beard", who.key), 128, 128),
            min(60.0, 0.7 / view.pixel) * u + 300,
            14 * v + 60,
        )
        limit, hue = (
            (0.5, 0.5 * who.hair + 0.35 * who.skin)
            if who.beard == 1
            else (0.88, who.hair * np.float32(1.2))
        )
        cover = np.clip(cover, 0, 1) * np.clip(0.75 + 0.3 * bristles, 0, 1.1) * limit
        albedo += cover[..., None] * (hue * np.exp(0.35 * bristles)[..., None] - albedo)
        shine = shine * (1 - cover)
    return (
        albedo * (scene.fill * fill[..., None] + scene.key * diffuse[..., None])
        + 0.05 * scene.key * shine[..., None]
    )


def _paint_features(
    region: np.ndarray, pixel: float, scene: Scene, person: _Person, u, v, r
) -> None:
    """Eyes, brows, nostrils and mouth."""
    who, rng = person.who, generator_for("features", person.who.key)
    lit = scene.fill + scene.key * np.float32(max(scene.light[2], 0.3))
    soft, smile = 1.8 * pixel, person.smile
    dark = np.minimum(who.skin, 0.3) * _colour(0.22, 0.12, 0.1) + 0.004
    grid = normal(rng, 64, 64)
    whole = region, u, v
    for side in (-1, 1):
        part = _where(
            (np.abs(side * whole[1] - who.eye_x) < 0.36)
            & (np.abs(whole[2] - who.eye_y + 0.1) < 0.35)
        )
        if part is None:
            continue
        region, u, v = (array[part] for array in whole)
        x, y = side * u - who.eye_x, v - who.eye_y
        y = y + who.eye_tilt * x
        arch = np.clip(1 - (x / who.eye_width) ** 2, 0, 1)
        upper = -who.eye_open * arch**0.75 * (1 - 0.12 * x / who.eye_width)
        lower = (0.62 - 0.2 * max(smile, 0)) * who.eye_open * arch
        eye = _inside(np.maximum(np.maximum(upper - y, y - lower), np.abs(x) - who.eye_width), soft)
        gx, gy = x - side * person.gaze[0], y - person.gaze[1] + 0.01
        iris, angle = np.hypot(gx, gy), np.arctan2(gy, gx)
        white = (
            _colour(0.7, 0.63, 0.58)
            * (0.92 - 0.35 * np.clip(np.abs(x) / who.eye_width, 0, 1) ** 3)[..., None]
        )
        ray = 1 + 0.35 * _texture(grid, 9 * angle + 32, 20 * iris + 5)
        _over(
            white,
            _inside(iris - 0.092, 1.5 * soft),
            who.iris * (ray * (1.25 - 9 * np.abs(iris - 0.06)))[..., None],
        )
        _over(white, _inside(iris - 0.036, soft), _colour(0.006, 0.006, 0.007))
        white *= (1 - 0.6 * np.exp(-np.maximum(y - upper, 0) / 0.03))[..., None]  # the lid's shadow
        white *= lit
        glint = _bump(side * gx - 0.03 * scene.light[0], gy + 0.035, 0.017, 0.017)
        white += 0.9 * glint[..., None]
        _over(region, eye, white)
        lash = np.exp(-(((y - upper + 0.006) / (0.02 + 0.5 * pixel)) ** 2)) * _inside(
            np.abs(x) - 1.06 * who.eye_width, 0.05
        )
        rim = np.exp(-(((y - lower - 0.004) / (0.012 + 0.5 * pixel)) ** 2)) * _inside(
            np.abs(x) - 0.98 * who.eye_width, 0.05
        )
        crease = np.exp(-(((y - upper + 0.055) / 0.016) ** 2)) * np.clip(
            1 - (x / (1.15 * who.eye_width)) ** 2, 0, 1
        )
        makeup = 0.92 if who.gender == "female" else 0.78
        _over(region, np.clip(makeup * lash + 0.35 * rim + 0.42 * crease, 0, 0.95), dark * lit)

        t = np.clip((side * u - 0.13) / 0.55, 0, 1)
        middle = who.eye_y + who.brow_y - who.brow_arch * np.sin(2.6 * t) - 0.01 * t
        thick = who.brow_width * (1 - 0.75 * t**2)
        outside = np.maximum(np.abs(v - middle) - thick, np.abs(side * u - 0.13 - 0.275) - 0.275)
        hairs = _texture(
            grid, min(70.0, 0.7 / pixel) * (side * u + 0.8 * (v - middle)) + 200, 14 * v + 30
        )
        brow = _inside(outside + 0.012 * hairs, 0.045) * (0.78 + 0.2 * hairs)
        _over(
            region,
            np.clip(brow, 0, 0.95),
            (0.6 * np.minimum(who.hair, 0.2) + 0.12 * who.skin) * lit,
        )

    part = _where((np.abs(whole[1]) < 0.7) & (np.abs(whole[2] - 0.75) < 0.5))
    if part is None:
        return
    region, u, v = (array[part] for array in whole)
    un = u - 0.2 * math.sin(person.yaw) * np.clip((v + 0.35) / 0.6, 0, 1)
    x, y = np.abs(un), v - who.nose_y
    nostril = _bump(x - 0.56 * who.nose_width, y - 0.055 + 0.2 * (x - 0.1), 0.055, 0.026)
    wing = np.exp(-(((np.hypot(x - who.nose_width + 0.02, y - 0.0) - 0.085) / 0.016) ** 2)) * (
        x > who.nose_width
    )
    under = _bump(x, y - 0.085, 0.6 * who.nose_width, 0.02)
    _over(region, np.clip(0.88 * nostril + 0.25 * wing + 0.3 * under, 0, 0.92), dark * lit)

    lift = 0.12 * smile
    wide = who.mouth_width * (1 + 0.12 * max(smile, 0))
    x, y = u / wide, v - who.mouth_y + lift * (u / who.mouth_width) ** 2
    arch = np.clip(1 - x**2, 0, 1)
    bow = 1 - 0.22 * np.exp(-((u / 0.05) ** 2)) + 0.1 * np.exp(-(((np.abs(u) - 0.09) / 0.06) ** 2))
    top = -who.lip_upper * arch**0.7 * bow - person.open * arch * 0.4
    bottom = who.lip_lower * arch**0.65 + person.open * arch
    lips = _inside(np.maximum(np.maximum(top - y, y - bottom), np.abs(x) - 1), 0.02 + soft)
    red = who.skin * _colour(0.85, 0.5, 0.5) * (1 - who.lipstick) + who.lipstick * _colour(
        0.42, 0.07, 0.09
    ) * (0.4 + 0.6 * who.skin[0])
    level = np.where(y < 0.3 * person.open, 0.68, 1.02) - 0.25 * np.clip(
        (y - 0.6 * bottom) / who.lip_lower, 0, 1
    )
    level = level + 0.08 * _texture(grid, 60 * u + 300, 5 * v)
    gloss = (
        0.05
        * (1 + 2 * who.lipstick)
        * _bump(u - 0.1 * scene.light[0], y - 0.45 * bottom, 0.13, 0.02)
    )
    _over(region, 0.88 * lips, red * lit * level[..., None] + gloss[..., None])
    if person.open:
        gape = _inside(
            np.maximum(np.abs(y - 0.3 * person.open) - person.open * arch * 0.75, np.abs(x) - 0.86),
            soft,
        )
        teeth = (
            _colour(0.66, 0.6, 0.5) * (0.95 - 0.5 * np.clip(np.abs(x), 0, 1) ** 2)[..., None] * lit
        )
        gap = np.exp(-((np.mod(u / 0.075, 1) - 0.5) ** 2) / 0.01)
        teeth *= (1 - 0.18 * gap)[..., None]
        _over(
            teeth,
            _inside(0.62 * person.open * arch - y, 0.03 + soft),
            _colour(0.1, 0.03, 0.03) * lit,
        )
        _over(region, gape, teeth)
    else:
        line = np.exp(-(((y - 0.012 * np.cos(9 * u)) / (0.013 + 0.6 * pixel)) ** 2)) * _inside(
            np.abs(x) - 1.02, 0.08
        )
        _over(region, 0.8 * line, dark * lit)
    corner = _bump(np.abs(x) * wide - wide, y, 0.035, 0.03)
    region *= (1 - 0.35 * corner)[..., None]


def _paint_glasses(
    region: np.ndarray, pixel: float, scene: Scene, person: _Person, u, v, a
) -> None:
    """Two rims, bridge and temples; the lenses reflect a little of the lamp."""
    who, rng = person.who, generator_for("glasses", person.who.key)
    power, wide, high = (
        {1: 2.0, 2: 3.2, 3: 5.0}[who.glasses],
        rng.uniform(0.3, 0.34),
        rng.uniform(0.2, 0.27),
    )
    thick = rng.uniform(0.018, 0.045)
    rim, tone = (
        np.zeros_like(u),
        np.float32(rng.choice([0.015, 0.03, 0.3])) * np.float32(rng.uniform(0.7, 1.1, 3)),
    )
    for side in (-1, 1):
        x, y = (side * u - who.eye_x - 0.02) / wide, (v - who.eye_y - 0.03) / high
        radius = (np.abs(x) ** power + np.abs(y) ** power) ** (1 / power)
        rim = np.maximum(rim, _inside(np.abs(radius - 1) * 0.26 - thick / 2, 1.5 * pixel))
        glare = (
            0.03
            * _inside(radius - 1, 0.1)
            * np.clip(np.sin(5 * (x + y) + 3 * scene.light[0]), 0, 1)
        )
        region += glare[..., None] * scene.key
    bridge = np.maximum(
        np.abs(u) - who.eye_x - 0.02 + wide, np.abs(v - who.eye_y + 0.04 - 0.3 * u**2) - thick / 2
    )
    temple = np.maximum(
        np.maximum(who.eye_x + wide - np.abs(u), np.abs(a) - 1.0), np.abs(v - who.eye_y) - thick / 2
    )
    rim = np.maximum(rim, _inside(np.minimum(bridge, temple), 1.5 * pixel))
    _over(region, 0.95 * rim, tone * (scene.fill + scene.key) + 0.03)


def render(scene: Scene, size: tuple[int, int], crop: np.ndarray = (0, 0, 1, 1)) -> np.ndarray:
    """Linear light `(height, width, 3)` of the part `crop` (fractions of the stored picture) of a scene."""
    image = _paint_background(scene, size, np.asarray(crop, float))
    for person in scene.people:
        _paint_head(image, _View(scene, person, size, np.asarray(crop, float)), scene, person)
    return np.maximum(image, 0)
