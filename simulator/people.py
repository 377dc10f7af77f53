"""People and scenes drawn at random (nobody in them exists), and where their faces lie.

Lengths are in half face widths, colours in linear light. A person's *picture plane* has its origin
between the ears and turns with the head's roll; a *stored* picture may be turned by quarters.
"""

import math
import zlib
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from numpy.random import Generator


def generator_for(*key: int | str) -> Generator:
    """A random generator for each picture and purpose: the order of work changes nothing."""
    numbers = [zlib.crc32(k.encode()) if isinstance(k, str) else k for k in key]
    return np.random.default_rng(numbers)


def normal(rng: Generator, *shape: int) -> np.ndarray:
    """Normal random numbers, `float32`."""
    return rng.standard_normal(shape, dtype=np.float32)


def colour(*rgb: float) -> np.ndarray:
    """Linear RGB, `float32`."""
    return np.asarray(rgb, np.float32)


def muted(rng: Generator, dark: float, bright: float) -> np.ndarray:
    """A random colour of low chroma."""
    return np.float32(rng.uniform(dark, bright) * rng.uniform(0.8, 1.2, 3))


# Reflectances of red, green and blue, a row a colour, set by eye; skin (hues of 15 to 25 degrees)
# runs from little to much melanin.
_SKINS = [(0.7, 0.5, 0.4), (0.52, 0.34, 0.26), (0.28, 0.17, 0.12), (0.14, 0.085, 0.06)]
_HAIRS = [(0.012, 0.01, 0.01), (0.035, 0.022, 0.015), (0.08, 0.048, 0.028), (0.36, 0.25, 0.14)]
_IRISES = [(0.05, 0.027, 0.015), (0.1, 0.06, 0.025), (0.12, 0.14, 0.1), (0.14, 0.2, 0.26)]
_STYLES = {"male": ("short",), "female": ("long", "long", "bob", "short")}
_TRAITS = {  # lowest and highest value, or those of men, then of women
    "volume": (0.05, 0.2),
    "hairline": (-1.2, -0.98),
    "parting": (-0.5, 0.5),
    "jaw": (2.1, 2.7, 1.9, 2.25),
    "taper": (0.0, 0.07, 0.04, 0.13),
    "chin": (1.24, 1.4, 1.18, 1.3),
    "eye_x": (0.38, 0.45),
    "eye_y": (-0.22, -0.15),
    "eye_open": (0.075, 0.095, 0.085, 0.11),
    "brow_width": (0.045, 0.07, 0.025, 0.045),
    "nose_width": (0.16, 0.22, 0.14, 0.19),
    "nose_height": (0.18, 0.28),
    "nose_y": (0.36, 0.46),
    "mouth_y": (0.74, 0.84),
    "mouth_width": (0.29, 0.37),
    "lip": (0.045, 0.08, 0.06, 0.09),
}


def draw_identity(rng: Generator, gender: str, age: int) -> SimpleNamespace:
    """Everything that makes one person."""
    male, melanin = gender == "male", 3 * rng.beta(1.1, 1.9)
    who = {name: rng.uniform(*(at[:2] if male else at[-2:])) for name, at in _TRAITS.items()}
    skin = [np.interp(melanin, range(4), channel) for channel in zip(*_SKINS)]
    shade, iris = (int(rng.integers(2 if melanin > 1 else 4)) for _ in range(2))
    grey = np.clip((age - rng.uniform(35, 70)) / 15, 0, 1)
    hair = (1 - grey) * colour(*_HAIRS[shade]) + grey * colour(0.36, 0.35, 0.34)
    beard = rng.uniform(0.3, 1) if male and rng.random() < 0.5 else 0.0
    return SimpleNamespace(
        **who, gender=gender, age=age, key=int(rng.integers(2**31)), beard=beard,
        skin=np.float32(skin), hair=np.float32(hair), iris=colour(*_IRISES[iris]),
        style=str(rng.choice(_STYLES[gender])),
    )  # fmt: skip


def draw_somebody(rng: Generator, ages: tuple[int, int], gender: str = "") -> SimpleNamespace:
    """An identity of any age in a range, and of any gender unless it is given."""
    gender = gender or str(rng.choice(("male", "female")))
    return draw_identity(rng, gender, int(rng.integers(*ages)))


@dataclass(frozen=True)
class Scene:
    """People (the one portrayed last), light, background; upright, `width` x `height` pixels."""

    width: int
    height: int
    people: tuple[SimpleNamespace, ...]  # see `_draw_person`
    light: np.ndarray  # unit vector to the lamp: right, down, towards the camera
    key: np.ndarray  # colours of lamp and surroundings
    fill: np.ndarray
    background: int  # seed
    turn: int = 0  # quarter turns, counterclockwise, from upright to stored

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height as stored."""
        return (self.height, self.width) if self.turn % 2 else (self.width, self.height)


def _draw_person(rng: Generator, who, x: float, y: float, scale: float, loose) -> SimpleNamespace:
    """A person at (x, y) of the upright picture; `scale`: pixels of half a face width."""
    smile, roll = np.clip(rng.normal(0.4, 0.35), -0.05, 1), rng.normal(0, 0.07) * loose
    yaw, pitch = np.clip(rng.normal((0, 0.02), (0.2, 0.07)), (-0.5, -0.18), (0.5, 0.18)).tolist()
    pose = {"smile": float(smile), "roll": roll, "yaw": yaw, "pitch": pitch}
    return SimpleNamespace(who=who, x=x, y=y, scale=scale, wears=int(rng.integers(2**31)), **pose)


def draw_scene(rng: Generator, who, width: int, height: int, frame: str = "") -> Scene:
    """Places a person freely (as people post them), or aligned as in `"ffhq"`, `"celeba"`."""
    if frame:
        # FFHQ's side is four times the distance of the eyes (the dataset's alignment script);
        # CelebA has the eyes at (69, 111) and (109, 111) of 178 x 218.
        eyes, middle = {"ffhq": (0.25, 0.47), "celeba": (40 / 178, 0.51)}[frame]
        scale = eyes * width / (2 * who.eye_x)
        x, y = 0.5 * width, middle * height - who.eye_y * scale
    else:
        # In fractions of the shorter side, so that every picture frames alike, cut to a square.
        side = min(width, height)
        scale = side * rng.uniform(0.15, 0.28)
        x, y = width / 2 + side * rng.uniform(-0.1, 0.1), height / 2 - side * rng.uniform(0, 0.1)
        y = float(np.clip(y, 1.35 * scale, max(height - 1.5 * scale, 1.35 * scale)))
    people = [_draw_person(rng, who, x, y, scale, loose=0.2 if frame else 1.0)]
    if not frame and rng.random() < 0.05 and width > height:  # somebody else stands beside
        other = draw_somebody(rng, (20, 60))
        beside = x + scale * rng.uniform(2.9, 3.4) * (1 if x < width / 2 else -1)
        people.insert(0, _draw_person(rng, other, beside, y + 0.2 * scale, 0.8 * scale, loose=1.0))
    direction = np.float32(rng.uniform((-0.9, -0.8, 0.7), (0.9, -0.15, 1.2)))
    light = direction / np.linalg.norm(direction)
    warmth, contrast = rng.normal(0, 0.05), rng.uniform(0.45, 0.85)
    key = 1.15 * contrast * colour(1 + warmth, 1, 1 - 1.3 * warmth)
    fill = (1.05 - contrast) * colour(1 - 0.5 * warmth, 1, 1 + 0.7 * warmth)
    return Scene(width, height, tuple(people), light, key, fill, int(rng.integers(2**31)))


def onto_head(person: SimpleNamespace, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, ...]:
    """From the picture plane to the turned head: coordinates on it, value of the outline, depth."""
    # A superellipse per half, tapered towards the chin; its value is below 1 inside.
    who, below = person.who, b + 0.1 > 0
    semi = np.where(below, np.float32(who.chin + 0.1), np.float32(1.5))
    power = np.where(below, np.float32(who.jaw), np.float32(2.2))
    width = np.abs(a) * (1 + who.taper * np.maximum(b, 0) ** 2)
    r = (np.maximum(width, 1e-6) ** power + (np.abs(b + 0.1) / semi) ** power) ** (1 / power)
    z = np.sqrt(np.maximum(1 - np.minimum(r, 1) ** 2, 0))
    u = a * math.cos(person.yaw) - z * math.sin(person.yaw)
    v = b * math.cos(person.pitch) - z * math.sin(person.pitch)
    return u, v, r, z


def _plane_to_stored(scene: Scene, points: np.ndarray, roll: float) -> np.ndarray:
    """Picture plane of the person portrayed to fractions of the stored picture `(N, 2)`, in it."""
    person, c, s = scene.people[-1], np.cos(roll), np.sin(roll)
    xy = points @ np.array([[c, s], [-s, c]]) * person.scale + (person.x, person.y)
    x, y = (xy / (scene.width, scene.height)).T
    turns = {0: (x, y), 1: (y, 1 - x), 2: (1 - x, 1 - y), -1: (1 - y, x)}
    return np.clip(np.column_stack(turns[scene.turn]), 0, 1)


def landmarks(scene: Scene) -> np.ndarray:
    """Five landmarks `(5, 2)` of the person portrayed, as fractions of the stored picture."""
    person, who = scene.people[-1], scene.people[-1].who
    mouth_y, nose_x = who.mouth_y - 0.1 * person.smile, 0.2 * math.sin(person.yaw)
    x = -who.eye_x, who.eye_x, nose_x, -who.mouth_width, who.mouth_width
    body = np.array([x, (who.eye_y, who.eye_y, who.nose_y - 0.04, mouth_y, mouth_y)]).T
    plane = body.copy()
    for _ in range(30):  # the way back from the head, by fixed-point iteration
        u, v, *_ = onto_head(person, plane[:, 0], plane[:, 1])
        plane += 0.7 * (body - np.stack([u, v], 1))
    return _plane_to_stored(scene, plane, person.roll)


def face_box(scene: Scene, margin: float = 0.0) -> np.ndarray:
    """Tight box, forehead to chin: left, top, right, bottom in fractions of the stored picture."""
    person = scene.people[-1]
    shift = 0.3 * math.sin(person.yaw)  # a detector's box follows the features, not the skull
    left, top, right, bottom = -0.86 + shift, -1.06, 0.86 + shift, person.who.chin + 0.01
    wide, high = margin * (right - left) / 2, margin * (bottom - top) / 2
    corners = [(x, y) for x in (left - wide, right + wide) for y in (top - high, bottom + high)]
    stored = _plane_to_stored(scene, np.array(corners), roll=0.0)
    return np.concatenate([stored.min(0), stored.max(0)])
