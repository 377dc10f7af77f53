"""Simulated archives for the demo: photographs, forgeries of them, and a server to fetch them from.

Where no data can be downloaded, this module makes archives of the very layout of the real ones (names,
folders, CSV and Matlab tables, sizes, compression) and serves them over HTTP, so that the same code fetches,
verifies and extracts both. Nothing in it is a real person.

*Photographs* are procedural portraits seen by a simulated camera. *Generators* follow the mechanism of the real
ones, so whatever gives them away comes from that mechanism: a latent encoder and up-convolutions fitted by least
squares (`inpainting`, `text2img`), a face made at low resolution and blended into another photograph (`insight`),
another up-sampling ladder with noise injected at every resolution (`gan140k`). Parameters were set from the
sources named beside them, once, and not from any detector's results.

The shortcut of the real data is planted on purpose: every fake of the first three generators is
`square_size` x `square_size`, RGB, JPEG quality 75, and no photograph is.
"""

import contextlib
import csv
import datetime
import functools
import hashlib
import http.server
import io
import json
import math
import multiprocessing
import os
import re
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from .config import Simulation

ARCHIVES = {name: f"{name}.zip" for name in ("wiki", "inpainting", "text2img", "insight")} | {
    "wiki_crop": "wiki_crop.tar", "gan140k": "gan140k.zip", "celeba": "celeba.zip"
}  # fmt: skip
POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")  # MTCNN's, left as seen in the picture
WIKI_FIELDS = ("dob", "photo_taken", "full_path", "gender", "name", "face_location", "face_score", "second_face_score")
_CELEBA_ATTRIBUTES = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips",
    "Big_Nose", "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin",
    "Eyeglasses", "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open",
    "Mustache", "Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline",
    "Rosy_Cheeks", "Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat",
    "Wearing_Lipstick", "Wearing_Necklace", "Wearing_Necktie", "Young",
)  # fmt: skip
_EPOCH = (2024, 1, 1, 0, 0, 0)  # the time stamp of every archive member: same seed, same bytes


# ---------------------------------------------------------------------------------------------- random numbers


def _rng(*key: int | str) -> np.random.Generator:
    """A generator of its own for every picture and purpose, so the order of work changes nothing."""
    return np.random.default_rng([zlib.crc32(k.encode()) if isinstance(k, str) else int(k) for k in key])


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def _colour(*rgb: float) -> np.ndarray:
    return np.asarray(rgb, np.float32)


# ------------------------------------------------------------------------------------------ people and scenes

# Linear-light reflectances, set by eye; skin runs from little to much melanin.
_SKINS = np.float32(
    [(0.74, 0.50, 0.39), (0.62, 0.37, 0.26), (0.44, 0.24, 0.15), (0.26, 0.13, 0.08), (0.14, 0.07, 0.045)]
)
_HAIRS = np.float32(
    [(0.012, 0.01, 0.01), (0.035, 0.02, 0.013), (0.09, 0.048, 0.025), (0.2, 0.07, 0.03), (0.42, 0.28, 0.13)]
)
_IRISES = np.float32(
    [(0.05, 0.025, 0.012), (0.12, 0.06, 0.02), (0.12, 0.13, 0.05), (0.1, 0.2, 0.32), (0.2, 0.24, 0.25)]
)
_HAIRSTYLES = {"male": ("short", "short", "side", "buzz", "receding", "curly", "bald"),
               "female": ("long", "long", "wavy", "bob", "tied", "bangs", "curly")}  # fmt: skip


def _draw_identity(rng: np.random.Generator, gender: str, age: int) -> SimpleNamespace:
    """Everything that makes one person: lengths in half face widths, colours in linear light."""
    uniform, male = rng.uniform, gender == "male"
    melanin = 4 * rng.beta(1.1, 1.9)
    skin = np.float32([np.interp(melanin, range(5), _SKINS[:, c]) for c in range(3)]) * np.float32(uniform(0.92, 1.06))
    shade = min(rng.integers(5), 2 if melanin > 1.2 else 4)
    grey = float(np.clip((age - uniform(35, 70)) / 15, 0, 1))
    hair = (1 - grey) * _HAIRS[shade] * np.float32(uniform(0.7, 1.3)) + grey * _colour(0.36, 0.35, 0.34)
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
class _Scene:
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


def _draw_scene(rng: np.random.Generator, who: SimpleNamespace, width: int, height: int, frame: str = "") -> _Scene:
    """Places a person: freely (portraits as people post them), or aligned as in FFHQ and in CelebA."""
    side = min(width, height)
    if frame == "ffhq":  # the side is four times the distance of the eyes (the dataset's alignment script)
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
        other = _draw_identity(rng, gender, int(rng.integers(20, 60)))
        beside = x + scale * rng.uniform(2.9, 3.4) * (1 if x < width / 2 else -1)
        people.insert(0, _draw_person(rng, other, beside, y + 0.2 * scale, 0.8 * scale, loose=1.0))
    direction = np.float32([rng.uniform(-0.9, 0.9), rng.uniform(-0.8, -0.15), rng.uniform(0.7, 1.2)])
    warmth, contrast = rng.normal(0, 0.07), rng.uniform(0.45, 0.85)
    key = 1.15 * contrast * _colour(1 + warmth, 1, 1 - 1.3 * warmth)
    fill = (1.05 - contrast) * _colour(1 - 0.5 * warmth, 1, 1 + 0.7 * warmth)
    return _Scene(
        width, height, tuple(people), direction / np.linalg.norm(direction), key, fill, int(rng.integers(2**31))
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


def _plane_to_stored(scene: _Scene, person: _Person, points: np.ndarray) -> np.ndarray:
    """Picture plane of a person to fractions of the stored picture."""
    c, s = np.cos(person.roll), np.sin(person.roll)
    xy = points @ np.array([[c, s], [-s, c]]) * person.scale + (person.x, person.y)
    turn = np.vstack([_TURNS[scene.turn], [0, 0, 1]])
    return np.column_stack([xy / (scene.width, scene.height), np.ones(len(xy))]) @ np.linalg.inv(turn)[:2].T


def _landmarks(scene: _Scene) -> np.ndarray:
    """Five landmarks `(5, 2)` of the person portrayed, as fractions of the stored picture."""
    person, who = scene.people[-1], scene.people[-1].who
    mouth = who.mouth_y - 0.1 * person.smile
    body = [(-who.eye_x, who.eye_y), (who.eye_x, who.eye_y), (0.2 * math.sin(person.yaw), who.nose_y - 0.04),
            (-who.mouth_width, mouth), (who.mouth_width, mouth)]  # fmt: skip
    return _plane_to_stored(scene, person, _from_head(person, np.array(body)))


def _face_box(scene: _Scene, margin: float = 0.0) -> np.ndarray:
    """Tight box from the forehead to the chin: left, top, right, bottom, as fractions of the stored picture."""
    person = scene.people[-1]
    shift = 0.3 * math.sin(person.yaw)  # a detector's box follows the features, not the skull
    left, top, right, bottom = -0.86 + shift, -1.06, 0.86 + shift, person.who.chin + 0.01
    wide, high = margin * (right - left) / 2, margin * (bottom - top) / 2
    corners = np.array([(x, y) for x in (left - wide, right + wide) for y in (top - high, bottom + high)])
    level = replace(person, roll=0.0)
    stored = np.clip(_plane_to_stored(scene, level, corners), 0, 1)
    return np.concatenate([stored.min(0), stored.max(0)])


class _View:
    """The map from an output raster to one person's picture plane."""

    def __init__(self, scene: _Scene, person: _Person, size: tuple[int, int], crop: np.ndarray):
        self.width, self.height = size
        left, top, right, bottom = crop
        to_stored = np.array([[(right - left) / self.width, 0, left + 0.5 * (right - left) / self.width],
                              [0, (bottom - top) / self.height, top + 0.5 * (bottom - top) / self.height]])  # fmt: skip
        to_upright = np.diag([scene.width, scene.height]) @ _compose(np.array(_TURNS[scene.turn]), to_stored)
        c, s = np.cos(person.roll), np.sin(person.roll)
        to_plane = np.array([[c, s], [-s, c]]) / person.scale
        self.map = to_plane @ (to_upright - [[0, 0, person.x], [0, 0, person.y]])
        self.pixel = float(np.sqrt(abs(np.linalg.det(self.map[:, :2]))))

    def window(self, left: float, top: float, right: float, bottom: float) -> tuple[slice, slice] | None:
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
    return cv2.remap(grid, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def _paint_background(scene: _Scene, size: tuple[int, int], crop: np.ndarray) -> np.ndarray:
    """A backdrop, lights out of focus, a room, leaves, an open landscape or a wall; blurred by its distance."""
    rng = _rng("background", scene.background)
    rows, columns = 128, max(int(128 * scene.width / scene.height), 32)
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32) / rows
    aspect = columns / rows
    kind = int(rng.integers(6))
    main = np.float32(rng.uniform(0.06, 0.5) * (0.5 + rng.dirichlet((3, 3, 3)) * 1.5))
    other = np.float32(rng.uniform(0.03, 0.6) * (0.5 + rng.dirichlet((3, 3, 3)) * 1.5))
    field = np.empty((rows, columns, 3), np.float32)
    clouds = cv2.resize(_normal(rng, 6, 8), (columns, rows), interpolation=cv2.INTER_CUBIC)
    blur, grain = rng.uniform(1.0, 3.0), 0.02
    if kind == 0:  # studio backdrop
        spot = np.exp(-(((x - rng.uniform(0.2, 0.8) * aspect) / 0.6) ** 2 + ((y - rng.uniform(0.2, 0.6)) / 0.5) ** 2))
        field[:] = main * (0.45 + 0.8 * spot + 0.08 * clouds)[..., None]
        grain = 0.03
    elif kind == 1:  # lights out of focus
        field[:] = 0.3 * main * (1 + 0.3 * clouds)[..., None]
        for _ in range(rng.integers(15, 45)):
            disc = np.zeros((rows, columns), np.float32)
            centre = (int(rng.uniform(0, columns)), int(rng.uniform(0, rows)))
            cv2.circle(disc, centre, int(rng.uniform(4, 13)), float(rng.uniform(0.2, 0.7)), -1, cv2.LINE_AA)
            field += disc[..., None] * np.float32(rng.uniform(0.1, 1.1, 3))
    elif kind == 2:  # a room: shelves, frames, a window
        field[:] = main * (0.9 - 0.25 * y + 0.05 * clouds)[..., None]
        for _ in range(rng.integers(6, 40)):
            x0, y0 = int(rng.uniform(-10, columns)), int(rng.uniform(-10, rows))
            corner = (x0 + int(rng.uniform(4, 40)), y0 + int(rng.uniform(10, 60)))
            tone = (other * rng.uniform(0.3, 1.6) * rng.uniform(0.6, 1.4, 3)).tolist()
            cv2.rectangle(field, (x0, y0), corner, tone, -1 if rng.random() < 0.8 else 2)
    elif kind == 3:  # leaves
        leaves = sum(cv2.resize(_normal(rng, rows // s, columns // s), (columns, rows), interpolation=cv2.INTER_CUBIC)
                     for s in (2, 5, 11))  # fmt: skip
        green = np.float32(rng.uniform((0.05, 0.12, 0.02), (0.25, 0.35, 0.08)))
        field[:] = green * np.exp(0.45 * leaves)[..., None] + np.float32(0.25) * np.maximum(leaves - 1.6, 0)[..., None]
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
        tone = _texture(_normal(rng, 40, 40), np.floor((x + row * wide / 2) / wide) * 3.7, row * 1.3)
        field[:] = main * np.exp(0.12 * tone + 0.1 * clouds)[..., None]
        field[joint < 0.1] *= np.float32(0.6)
        blur, grain = rng.uniform(0.5, 1.0), 0.05
    field = cv2.GaussianBlur(np.maximum(field, 0.004), (0, 0), blur)
    to_stored = np.array([[(crop[2] - crop[0]) / size[0], 0, crop[0]], [0, (crop[3] - crop[1]) / size[1], crop[1]]])
    matrix = np.diag([columns, rows]) @ _compose(np.array(_TURNS[scene.turn], float), to_stored)
    image = cv2.warpAffine(
        field, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    texture = cv2.GaussianBlur(_normal(rng, size[1], size[0]), (0, 0), 0.8)
    return image * (1 + 2 * grain * texture)[..., None]


def _paint_body(image: np.ndarray, view: _View, scene: _Scene, person: _Person) -> None:
    """Neck, shoulders and clothes."""
    window = view.window(-4.5, 0.4, 4.5, 9)
    if window is None:
        return
    who, rng, soft = person.who, _rng("clothes", person.wears), 2 * view.pixel
    region = image[window]
    a, b = view.coordinates(window)
    lit = scene.fill + scene.key * 0.75
    male = who.gender == "male"
    neck_width = (0.62 if male else 0.5) + 0.12 * np.maximum(b - 1.3, 0) ** 2
    side = a / neck_width
    shade = np.clip(0.95 - 0.45 * np.abs(side) ** 3 + 0.35 * side * scene.light[0], 0.1, 1.3)
    shade = shade * (1 - 0.62 * np.exp(-np.maximum(b - who.chin + 0.25, 0) / 0.28))  # in the shadow of the chin
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
    folds = _texture(_normal(rng, 24, 24), 2.2 * a + 30 + 0.5 * b, 1.1 * b + 20)
    weave = (
        0.1 * np.sin(a * 26) if rng.random() < 0.25 else 0.06 * cv2.GaussianBlur(_normal(rng, *a.shape), (0, 0), 0.6)
    )
    shade = 0.72 + 0.35 * scene.light[0] * a / wide + 0.13 * folds + weave - 0.12 * np.maximum(b - 2, 0)
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
        _over(region, tie, np.float32(rng.uniform(0.02, 0.4, 3)) * lit * np.clip(shade, 0.2, 1.2)[..., None])
    coverage = _inside(np.maximum(shoulder - b, opening - b), soft)
    _over(region, coverage, cloth * lit * np.clip(shade, 0.15, 1.4)[..., None])
    rim = np.exp(-(((b - opening) / 0.035) ** 2)) * _inside(shoulder - b, soft) * (x < 1.1)
    region *= (1 - 0.35 * rim)[..., None]


def _hair_shape(person: _Person, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signed distances of the hair's outer shape, and strand coordinates across and along."""
    who, style = person.who, person.who.style
    volume = {"buzz": 0.02, "bald": -0.02, "receding": 0.05, "tied": 0.06, "curly": 0.16 + who.volume}.get(
        style, who.volume + 0.03
    )
    cap = (np.sqrt((a / (1.03 + 0.8 * volume)) ** 2 + ((b + 0.2) / (1.42 + volume)) ** 2) - 1) * 1.2
    length = {"long": 2.3, "wavy": 2.0, "bob": 1.15, "bangs": 1.6, "curly": 0.9 if who.gender == "female" else 0.1}.get(
        style, 0.0
    )
    if length > 0.5:
        waves = (0.05 * np.sin(5.5 * b + 2 * np.sign(a) + 6 * who.wave)) * (style in ("wavy", "curly"))
        width = 1.06 + 0.8 * volume + 0.06 * np.maximum(b, 0) + waves
        tips = 0.2 * _texture(_normal(_rng("tips", who.key), 2, 64), 9 * a + 30, np.float32(0)) + 0.25 * np.abs(a)
        fall = np.maximum(np.maximum(np.abs(a) - width, -0.2 - b), b - length + tips)
        cap = np.minimum(cap, fall)
    across = np.arctan2(a - 0.35 * who.parting, b + 2.1) * 1.6
    along = np.hypot(a - 0.35 * who.parting, b + 1.7)
    return cap, across + 0.05 * np.sin(6 * along + 9 * who.wave) * (style in ("wavy", "curly")), along


def _hair_colour(who: SimpleNamespace, scene: _Scene, strands: np.ndarray, a, b, along) -> np.ndarray:
    """Diffuse light on the hair's volume and a Kajiya-Kay highlight that runs across the strands."""
    depth = np.sqrt(np.maximum(1.6 - a**2 - 0.5 * (b + 0.2) ** 2, 0.05))
    diffuse = np.clip(
        0.62 + 0.4 * (a * scene.light[0] + (b + 0.2) * scene.light[1] + depth * scene.light[2]), 0.25, 1.6
    )
    gloss = np.exp(-(((along - 0.95 + 0.1 * strands) / 0.28) ** 2)) * np.clip(0.5 + 0.5 * strands, 0, 2)
    tone = np.exp(0.34 * strands) * diffuse
    return (who.hair * tone[..., None] + 0.045 * (0.4 + who.hair) * gloss[..., None]) * (scene.fill + scene.key)


def _strands(who: SimpleNamespace, a, b, across: np.ndarray, along: np.ndarray, pixel: float) -> np.ndarray:
    """Noise drawn out along the hair; isotropic for curls."""
    grid = _normal(_rng("hair", who.key), 96, 192)
    if who.style == "curly":
        x, y = a + 0.06 * np.sin(9 * b), b + 0.06 * np.sin(9 * a)
        return 0.8 * _texture(grid, 11 * x + 60, 11 * y + 20) + 0.7 * _texture(grid, 25 * x + 90, 25 * y + 50)
    fine = min(110.0, 0.7 / pixel)  # finer strands than the raster would alias
    return 0.7 * _texture(grid, 28 * across + 90, 1.6 * along) + 0.75 * _texture(
        grid, fine * across + 400, 2.3 * along + 30
    )


def _paint_head(image: np.ndarray, view: _View, scene: _Scene, person: _Person) -> None:
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
        shade = (0.75 - 0.35 * np.exp(-(((ear - 0.55) / 0.2) ** 2))) * (0.8 + 0.4 * side * scene.light[0])
        _over(
            region, _inside((ear - 1) * 0.13, 2 * pixel), who.skin * _colour(1.02, 0.86, 0.84) * lit * shade[..., None]
        )
    face = _inside((r - 1) * 0.9, 2.2 * pixel)
    _over(region, face, _skin(view, scene, person, u, v, r, z))
    inner = view.window(-1.05, -0.95, 1.05, 1.35)
    if inner is not None:
        rows = slice(inner[0].start - window[0].start, inner[0].stop - window[0].start)
        columns = slice(inner[1].start - window[1].start, inner[1].stop - window[1].start)
        _paint_features(
            region[rows, columns], pixel, scene, person, u[rows, columns], v[rows, columns], r[rows, columns]
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
            front = np.minimum(front, temple + 0.07 * np.maximum(v, 0) ** 2 - x + np.maximum(-0.7 - v, 0))
            outside = np.where(np.abs(a) > 0.72, 1 - r, 1.0)
        else:
            burn = np.maximum(0.93 - x + 0.05 * np.maximum(-0.4 - v, 0), v - 0.0)
            front = np.minimum(front, burn)
            outside = np.maximum(1 - r, b - 0.0)
        mask = np.maximum(ragged, np.minimum(front, outside) + 0.03 * strands)
        sparse = 0.75 if who.style in ("buzz", "receding") else 1.0
        shadow = _inside(mask - 0.05, 0.16)
        region *= (1 - 0.25 * shadow * face)[..., None]
        _over(region, sparse * _inside(mask, (0.13 if who.style == "curly" else 0.05) + 1.5 * pixel), hair)
    if who.glasses:
        _paint_glasses(region, pixel, scene, person, u, v, a)


def _skin(view: _View, scene: _Scene, person: _Person, u, v, r, z) -> np.ndarray:
    """Radiance of the face: relief, soft light, skin colour with blood, melanin and pores, a little shine."""
    who, x, smile = person.who, np.abs(u), max(person.smile, 0)
    un = u - 0.2 * math.sin(person.yaw) * np.clip((v + 0.35) / 0.6, 0, 1)  # the nose stands out: parallax
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
    fold = np.abs(x - nw - 0.05 - 0.32 * (v - ny)) / 0.035  # from the nostril past the corner of the mouth
    relief -= (
        (0.012 + 0.035 * who.wrinkles + 0.03 * smile) * np.exp(-(fold**2)) * _inside(np.abs(v - ny - 0.18) - 0.2, 0.2)
    )
    lines = _rng("lines", who.key).uniform(0, 6, 2).tolist()
    crease = np.sin(34 * v + lines[0] + 0.8 * np.sin(3 * u + lines[1])) * _bump(u, v + 0.68, 0.5, 0.2)
    relief += 0.008 * who.wrinkles * crease
    relief = cv2.GaussianBlur(relief, (0, 0), max(0.019 / view.pixel, 0.5))  # light scatters under the skin
    slope_a, slope_b = view.gradient(relief)
    norm = 1 / np.sqrt(1 + slope_a**2 + slope_b**2)
    toward = (-slope_a * scene.light[0] - slope_b * scene.light[1] + scene.light[2]) * norm
    diffuse = np.clip((toward + 0.25) / 1.25, 0, 1)
    half = scene.light + _colour(0, 0, 1)
    half = half / np.linalg.norm(half)
    shine = np.clip((-slope_a * half[0] - slope_b * half[1] + half[2]) * norm, 0, 1) ** 18
    fill = 0.78 - 0.22 * slope_b * norm  # the sky above gives more than the ground
    fill *= 1 - 0.3 * _bump(x - 0.36, v - who.eye_y + 0.05, 0.2, 0.1) - 0.22 * _bump(un, v - ny - 0.08, 0.16, 0.05)
    fill *= 1 - 0.25 * np.exp(-(((r - 1) / 0.16) ** 2))

    rng = _rng("skin", who.key, scene.background)
    blood = who.blush * (_bump(x - 0.52, v - 0.26, 0.26, 0.24) + 0.7 * _bump(un, v - ny + 0.08, 0.16, 0.12)) + 0.06
    patches = cv2.resize(_normal(rng, 14, 12), r.shape[::-1], interpolation=cv2.INTER_CUBIC)
    pores = cv2.GaussianBlur(_normal(rng, *r.shape), (0, 0), max(0.012 / view.pixel, 0.5))
    pores /= max(float(pores.std()), 1e-6)
    tone = 1 + 0.03 * patches + 0.03 * pores
    if who.freckles > 0.3:
        spots = _texture(_normal(_rng("freckles", who.key), 64, 64), 24 * u + 40, 24 * v + 40)
        tone -= 0.3 * who.freckles * _inside(1.5 - spots, 0.5) * _bump(x - 0.3, v - 0.2, 0.45, 0.3)
    bags = (0.05 + 0.12 * who.wrinkles) * _bump(x - who.eye_x, v - who.eye_y - 0.16, 0.18, 0.05)
    albedo = who.skin * (tone - bags)[..., None] * (1 - np.maximum(blood, 0)[..., None] * _colour(0.05, 0.42, 0.42))
    if who.beard:
        moustache = _bump(u, v - (ny + mouth) / 2 - 0.04, 0.3, 0.075)
        chin = _bump(u, v - who.chin + 0.12, 0.3, 0.22)
        jaw = np.clip((r - 0.68) / 0.12, 0, 1) * np.clip((v - 0.05) / 0.25, 0, 1) + np.clip(
            (v - mouth - 0.16) / 0.14, 0, 1
        )
        cover = [None, 0.55 * (jaw + moustache), moustache * 1.4, (moustache + chin) * 1.2, 1.4 * (jaw + moustache)][
            who.beard
        ]
        bristles = _texture(
            _normal(_rng("beard", who.key), 128, 128), min(60.0, 0.7 / view.pixel) * u + 300, 14 * v + 60
        )
        limit, hue = (0.5, 0.5 * who.hair + 0.35 * who.skin) if who.beard == 1 else (0.88, who.hair * np.float32(1.2))
        cover = np.clip(cover, 0, 1) * np.clip(0.75 + 0.3 * bristles, 0, 1.1) * limit
        albedo += cover[..., None] * (hue * np.exp(0.35 * bristles)[..., None] - albedo)
        shine = shine * (1 - cover)
    return (
        albedo * (scene.fill * fill[..., None] + scene.key * diffuse[..., None]) + 0.05 * scene.key * shine[..., None]
    )


def _paint_features(region: np.ndarray, pixel: float, scene: _Scene, person: _Person, u, v, r) -> None:
    """Eyes, brows, nostrils and mouth."""
    who, rng = person.who, _rng("features", person.who.key)
    lit = scene.fill + scene.key * np.float32(max(scene.light[2], 0.3))
    soft, smile = 1.8 * pixel, person.smile
    dark = np.minimum(who.skin, 0.3) * _colour(0.22, 0.12, 0.1) + 0.004
    grid = _normal(rng, 64, 64)
    whole = region, u, v
    for side in (-1, 1):
        part = _where((np.abs(side * whole[1] - who.eye_x) < 0.36) & (np.abs(whole[2] - who.eye_y + 0.1) < 0.35))
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
        white = _colour(0.7, 0.63, 0.58) * (0.92 - 0.35 * np.clip(np.abs(x) / who.eye_width, 0, 1) ** 3)[..., None]
        ray = 1 + 0.35 * _texture(grid, 9 * angle + 32, 20 * iris + 5)
        _over(white, _inside(iris - 0.092, 1.5 * soft), who.iris * (ray * (1.25 - 9 * np.abs(iris - 0.06)))[..., None])
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
        crease = np.exp(-(((y - upper + 0.055) / 0.016) ** 2)) * np.clip(1 - (x / (1.15 * who.eye_width)) ** 2, 0, 1)
        makeup = 0.92 if who.gender == "female" else 0.78
        _over(region, np.clip(makeup * lash + 0.35 * rim + 0.42 * crease, 0, 0.95), dark * lit)

        t = np.clip((side * u - 0.13) / 0.55, 0, 1)
        middle = who.eye_y + who.brow_y - who.brow_arch * np.sin(2.6 * t) - 0.01 * t
        thick = who.brow_width * (1 - 0.75 * t**2)
        outside = np.maximum(np.abs(v - middle) - thick, np.abs(side * u - 0.13 - 0.275) - 0.275)
        hairs = _texture(grid, min(70.0, 0.7 / pixel) * (side * u + 0.8 * (v - middle)) + 200, 14 * v + 30)
        brow = _inside(outside + 0.012 * hairs, 0.045) * (0.78 + 0.2 * hairs)
        _over(region, np.clip(brow, 0, 0.95), (0.6 * np.minimum(who.hair, 0.2) + 0.12 * who.skin) * lit)

    part = _where((np.abs(whole[1]) < 0.7) & (np.abs(whole[2] - 0.75) < 0.5))
    if part is None:
        return
    region, u, v = (array[part] for array in whole)
    un = u - 0.2 * math.sin(person.yaw) * np.clip((v + 0.35) / 0.6, 0, 1)
    x, y = np.abs(un), v - who.nose_y
    nostril = _bump(x - 0.56 * who.nose_width, y - 0.055 + 0.2 * (x - 0.1), 0.055, 0.026)
    wing = np.exp(-(((np.hypot(x - who.nose_width + 0.02, y - 0.0) - 0.085) / 0.016) ** 2)) * (x > who.nose_width)
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
    red = who.skin * _colour(0.85, 0.5, 0.5) * (1 - who.lipstick) + who.lipstick * _colour(0.42, 0.07, 0.09) * (
        0.4 + 0.6 * who.skin[0]
    )
    level = np.where(y < 0.3 * person.open, 0.68, 1.02) - 0.25 * np.clip((y - 0.6 * bottom) / who.lip_lower, 0, 1)
    level = level + 0.08 * _texture(grid, 60 * u + 300, 5 * v)
    gloss = 0.05 * (1 + 2 * who.lipstick) * _bump(u - 0.1 * scene.light[0], y - 0.45 * bottom, 0.13, 0.02)
    _over(region, 0.88 * lips, red * lit * level[..., None] + gloss[..., None])
    if person.open:
        gape = _inside(np.maximum(np.abs(y - 0.3 * person.open) - person.open * arch * 0.75, np.abs(x) - 0.86), soft)
        teeth = _colour(0.66, 0.6, 0.5) * (0.95 - 0.5 * np.clip(np.abs(x), 0, 1) ** 2)[..., None] * lit
        gap = np.exp(-((np.mod(u / 0.075, 1) - 0.5) ** 2) / 0.01)
        teeth *= (1 - 0.18 * gap)[..., None]
        _over(teeth, _inside(0.62 * person.open * arch - y, 0.03 + soft), _colour(0.1, 0.03, 0.03) * lit)
        _over(region, gape, teeth)
    else:
        line = np.exp(-(((y - 0.012 * np.cos(9 * u)) / (0.013 + 0.6 * pixel)) ** 2)) * _inside(np.abs(x) - 1.02, 0.08)
        _over(region, 0.8 * line, dark * lit)
    corner = _bump(np.abs(x) * wide - wide, y, 0.035, 0.03)
    region *= (1 - 0.35 * corner)[..., None]


def _paint_glasses(region: np.ndarray, pixel: float, scene: _Scene, person: _Person, u, v, a) -> None:
    """Two rims, bridge and temples; the lenses reflect a little of the lamp."""
    who, rng = person.who, _rng("glasses", person.who.key)
    power, wide, high = {1: 2.0, 2: 3.2, 3: 5.0}[who.glasses], rng.uniform(0.3, 0.34), rng.uniform(0.2, 0.27)
    thick = rng.uniform(0.018, 0.045)
    rim, tone = np.zeros_like(u), np.float32(rng.choice([0.015, 0.03, 0.3])) * np.float32(rng.uniform(0.7, 1.1, 3))
    for side in (-1, 1):
        x, y = (side * u - who.eye_x - 0.02) / wide, (v - who.eye_y - 0.03) / high
        radius = (np.abs(x) ** power + np.abs(y) ** power) ** (1 / power)
        rim = np.maximum(rim, _inside(np.abs(radius - 1) * 0.26 - thick / 2, 1.5 * pixel))
        glare = 0.03 * _inside(radius - 1, 0.1) * np.clip(np.sin(5 * (x + y) + 3 * scene.light[0]), 0, 1)
        region += glare[..., None] * scene.key
    bridge = np.maximum(np.abs(u) - who.eye_x - 0.02 + wide, np.abs(v - who.eye_y + 0.04 - 0.3 * u**2) - thick / 2)
    temple = np.maximum(np.maximum(who.eye_x + wide - np.abs(u), np.abs(a) - 1.0), np.abs(v - who.eye_y) - thick / 2)
    rim = np.maximum(rim, _inside(np.minimum(bridge, temple), 1.5 * pixel))
    _over(region, 0.95 * rim, tone * (scene.fill + scene.key) + 0.03)


def _render(scene: _Scene, size: tuple[int, int], crop: np.ndarray = (0, 0, 1, 1)) -> np.ndarray:
    """Linear light `(height, width, 3)` of the part `crop` (fractions of the stored picture) of a scene."""
    image = _paint_background(scene, size, np.asarray(crop, float))
    for person in scene.people:
        _paint_head(image, _View(scene, person, size, np.asarray(crop, float)), scene, person)
    return np.maximum(image, 0)


# --------------------------------------------------------------------------------------------------- cameras


@dataclass(frozen=True)
class _Camera:
    """One camera: lens, sensor, processing and file writer."""

    blur: float  # of lens and antialiasing filter, in pixels
    full_well: float  # electrons of a saturated pixel
    read_noise: float  # electrons
    red: float  # sensitivity to the red and blue of the light, relative to green
    blue: float
    pattern: str  # of the colour filter array (Bayer 1976, US patent 3971065)
    edge_aware: bool  # demosaicing along edges, otherwise bilinear
    contrast: float
    saturation: float
    sharpening: float
    quality: int  # JPEG
    subsampling: str
    progressive: bool


def _draw_camera(rng: np.random.Generator, kind: str) -> _Camera:
    """A camera of a population: `"web"` (all sorts, old and new), `"ffhq"` (good recent ones) or `"press"`.

    Noise model of Foi et al. 2008, "Practical Poissonian-Gaussian noise modeling and fitting", IEEE TIP. Read noise
    lies between about 2 and 15 electrons in most cameras (Clark, "Digital camera reviews and sensor performance
    summary", clarkvision.com); saturation is that of small pixels at raised gain.
    """
    good = kind != "web"
    return _Camera(
        blur=rng.uniform(0.4, 0.6) if good else rng.uniform(0.45, 0.85),
        full_well=rng.uniform(3000, 12000) if good else rng.uniform(800, 6000),
        read_noise=rng.uniform(2, 5) if good else rng.uniform(3, 12),
        red=rng.uniform(0.45, 0.7), blue=rng.uniform(0.5, 0.8),
        pattern=str(rng.choice(("RGGB", "BGGR", "GRBG", "GBRG"))),
        edge_aware=bool(rng.random() < (0.8 if good else 0.5)),
        contrast=rng.uniform(0.0, 0.5), saturation=rng.uniform(0.95, 1.3),
        sharpening=rng.uniform(0.1, 0.5) if good else rng.uniform(0.0, 0.9),
        quality=int(rng.integers(84, 99)),
        subsampling=str(rng.choice(("4:2:0", "4:2:2", "4:4:4"), p=(0.55, 0.3, 0.15))),
        progressive=bool(rng.random() < 0.1),
    )  # fmt: skip


def _expose(light: np.ndarray) -> np.ndarray:
    """Automatic exposure: the mean at about 18 % grey, as a light meter has it."""
    return light * np.float32(0.2 / max(float(light.mean()), 1e-3))


def _develop(light: np.ndarray, contrast: float = 0.2, saturation: float = 1.1) -> np.ndarray:
    """Linear light to display values `uint8`: saturation, an S-shaped curve, the sRGB transfer (IEC 61966-2-1)."""
    if saturation != 1:
        grey = light.mean(2, keepdims=True)
        light = grey + np.float32(saturation) * (light - grey)
    x = np.linspace(0, 1, 4096)
    srgb = np.where(x < 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
    curve = np.uint8(np.round(255 * ((1 - contrast) * srgb + contrast * (3 * srgb**2 - 2 * srgb**3))))
    return curve[np.uint16(np.clip(light, 0, 1) * 4095)]


def _photograph(light: np.ndarray, camera: _Camera, rng: np.random.Generator) -> np.ndarray:
    """What a camera makes of the light: lens, colour filters, noise, demosaicing, white balance, tone, sharpening."""
    light = cv2.GaussianBlur(
        _expose(light) * np.float32(2.0 ** np.clip(rng.normal(0, 0.25), -0.6, 0.6)), (0, 0), camera.blur
    )
    gain = {"R": np.float32(camera.red), "G": np.float32(1), "B": np.float32(camera.blue)}
    mosaic = np.empty(light.shape[:2], np.float32)
    for position, colour in enumerate(camera.pattern):
        y, x = divmod(position, 2)
        mosaic[y::2, x::2] = light[y::2, x::2, "RGB".index(colour)] * gain[colour]
    electrons = np.clip(mosaic, 0, 1) * np.float32(camera.full_well)
    electrons += np.sqrt(electrons + np.float32(camera.read_noise**2)) * _normal(
        rng, *mosaic.shape
    )  # shot and read noise
    raw = np.uint16(np.clip(electrons * np.float32(60000 / camera.full_well) + 1000, 0, 65535))
    code = getattr(cv2, f"COLOR_Bayer{camera.pattern}2RGB" + ("_EA" if camera.edge_aware else ""))
    image = (cv2.demosaicing(raw, code).astype(np.float32) - 1000) / 60000
    error = rng.normal(1, 0.02, 2).astype(np.float32)
    image /= np.stack([gain["R"] * error[0], gain["G"], gain["B"] * error[1]])  # white balance
    image = _develop(image, camera.contrast, camera.saturation)
    if camera.sharpening > 0.05:
        image = cv2.addWeighted(
            image, 1 + camera.sharpening, cv2.GaussianBlur(image, (0, 0), 1.0), -camera.sharpening, 0
        )
    return image


def _clean(light: np.ndarray) -> np.ndarray:
    """A picture no camera has seen: exposed and toned, without noise, blur or mosaic."""
    return _develop(_expose(light))


def _jpeg(image: np.ndarray, quality: int = 75, **options) -> bytes:
    """JPEG bytes; quality 75 with Pillow's defaults is what the generators' code writes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, **options)
    return buffer.getvalue()


def _decode(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def _resize(image: np.ndarray, width: int, height: int, how: Image.Resampling = Image.Resampling.BICUBIC) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), how))


# ------------------------------------------------------------------------------------------------ generators


def _fold(x: np.ndarray) -> np.ndarray:
    """2 x 2 pixels to channels: `(H, W, C)` to `(H/2, W/2, 4C)`."""
    h, w, c = x.shape
    return x.reshape(h // 2, 2, w // 2, 2, c).swapaxes(1, 2).reshape(h // 2, w // 2, 4 * c)


def _unfold(x: np.ndarray) -> np.ndarray:
    h, w, c = x.shape
    return x.reshape(h, w, 2, 2, c // 4).swapaxes(1, 2).reshape(2 * h, 2 * w, c // 4)


def _neighbours(x: np.ndarray) -> np.ndarray:
    """Each pixel's 3 x 3 neighbourhood: `(H, W, C)` to `(H, W, 9C)`."""
    h, w, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)), mode="edge")
    return np.concatenate([padded[i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=2)


def _samples(maps: list[np.ndarray], limit: int = 12000) -> np.ndarray:
    """Feature vectors of many pictures, evenly thinned out: `(N, C)`."""
    step = max(sum(len(x) * x.shape[1] for x in maps) // limit, 1) | 1
    return np.concatenate([x.reshape(-1, x.shape[-1])[::step] for x in maps])


def _ridge(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Least-squares weights with a small ridge, in closed form."""
    gram = (inputs.T @ inputs).astype(np.float64)
    ridge = 1e-4 * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.linalg.solve(gram + ridge, (inputs.T @ targets).astype(np.float64)).astype(np.float32)


class _Encoder:
    """A pyramid of principal components: every level folds 2 x 2 pixels and keeps the strongest channels."""

    def __init__(self, images: np.ndarray, channels: tuple[int, ...]):
        self.bases: list[np.ndarray] = []
        features = list(images)
        for count in channels:
            features = [_fold(x) for x in features]
            flat = _samples(features)
            vectors = np.linalg.eigh((flat.T @ flat).astype(np.float64))[1][:, ::-1][:, :count]
            vectors *= np.sign(vectors[np.abs(vectors).argmax(0), np.arange(count)])
            self.bases.append(vectors.astype(np.float32))
            features = [x @ self.bases[-1] for x in features]

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        """The picture and its features at 1/2, 1/4, ... of the size."""
        levels = [image]
        for basis in self.bases:
            levels.append(_fold(levels[-1]) @ basis)
        return levels


class _LatentCodec:
    """Latent space of a diffusion model: a linear encoder to 1/8 of the size and three fitted up-convolutions.

    Each decoder layer is a transposed convolution of stride 2 (3 x 3 coarse neighbours to 2 x 2 fine pixels), fitted
    by least squares to the encoder's features of its level. Its four output phases have weights, hence errors, of
    their own: the origin of checkerboards and spectral replicas in up-sampling networks (Odena et al. 2016,
    "Deconvolution and checkerboard artifacts"; Zhang et al. 2019, "Detecting and simulating artifacts in GAN fake
    images"; Durall et al. 2020, "Watch your up-convolution"). Layout after Rombach et al. 2022 (latent diffusion):
    three halvings. A linear code needs more channels than their four; with these it keeps about 32 dB on the
    portraits, milder than the kl-f8 autoencoder of Stable Diffusion on photographs of all sorts (23.4 dB on COCO 2017,
    model card of stabilityai/sd-vae-ft-ema-original).
    """

    CHANNELS = (6, 12, 16)
    RESIDUAL = 0.04  # noise that sampling leaves in the latents, in their standard deviations (assumed)

    def __init__(self, images: np.ndarray):
        self.encoder = _Encoder(images, self.CHANNELS)
        levels = [self.encoder(image) for image in images]
        self.layers = [
            _ridge(_samples([_neighbours(x[n]) for x in levels]), _samples([_fold(x[n - 1]) for x in levels]))
            for n in (3, 2, 1)
        ]
        self.spread = np.stack([x[3] for x in levels]).std((0, 1, 2))

    def encode(self, image: np.ndarray) -> np.ndarray:
        """`uint8 (S, S, 3)` to latents `(S/8, S/8, C)`."""
        return self.encoder(image.astype(np.float32) / 255 - 0.5)[-1]

    def decode(self, latents: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        x = latents + np.float32(self.RESIDUAL) * self.spread * _normal(rng, *latents.shape)
        for layer in self.layers:
            x = _unfold(_neighbours(x) @ layer)
        return np.uint8(np.clip(np.round((x + 0.5) * 255), 0, 255))


class _NoisePyramid:
    """A style-based GAN's synthesis network: smooth up-sampling, 3 x 3 convolutions, noise at every resolution.

    Up-sampling by [1, 3, 3, 1] (bilinear), one noise image per resolution scaled per channel, colours summed over
    resolutions (Karras et al. 2019 and 2020, "A style-based generator architecture", "Analyzing and improving the image
    quality of StyleGAN"). The noise of a level follows the first principal component of what its convolution leaves
    unexplained, that is, of the detail it stands in for.
    """

    CHANNELS = (8, 16, 24)

    def __init__(self, images: np.ndarray):
        self.encoder = _Encoder(images, self.CHANNELS)
        levels = [self.encoder(image) for image in images]
        self.layers, self.noise = [], []
        for n in (3, 2, 1):
            inputs = _samples([_neighbours(self._double(x[n])) for x in levels])
            targets = _samples([x[n - 1] for x in levels])
            self.layers.append(_ridge(inputs, targets))
            left = targets - inputs @ self.layers[-1]
            direction = np.linalg.eigh(np.cov(left.T.astype(np.float64)))[1][:, -1]
            direction *= np.sign(direction.sum() or 1)
            # The median, not the mean square: noise stands in for pores and strands, not for edges.
            self.noise.append((np.median(np.abs(left @ direction)) / 0.6745 * direction).astype(np.float32))

    @staticmethod
    def _double(x: np.ndarray) -> np.ndarray:
        return cv2.resize(x, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)

    def synthesise(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draws the content of `image` again, from its coarsest features up."""
        x = self.encoder(image.astype(np.float32) / 255 - 0.5)[-1]
        for layer, noise in zip(self.layers, self.noise):
            x = _neighbours(self._double(x)) @ layer
            x += _normal(rng, *x.shape[:2], 1) * noise
        return np.uint8(np.clip(np.round((x + 0.5) * 255), 0, 255))


@functools.lru_cache(maxsize=2)
def _codecs(seed: int) -> tuple[_LatentCodec, _NoisePyramid]:
    """Both generators' networks, fitted to photographs that are in no archive."""
    photographs = []
    for index in range(14):
        rng = _rng(seed, "held out", index)
        who = _draw_identity(rng, ("male", "female")[index % 2], int(rng.integers(18, 70)))
        scene = _draw_scene(rng, who, 256, 256, "ffhq" if index % 2 else "")
        photographs.append(_photograph(_render(scene, (256, 256)), _draw_camera(rng, "ffhq"), rng))
    images = np.stack(photographs).astype(np.float32) / 255 - 0.5
    return _LatentCodec(images), _NoisePyramid(images)


def _match_colours(image: np.ndarray, like: np.ndarray, grey: bool) -> np.ndarray:
    """Gives `image` the mean and spread of each channel of `like` (Reinhard et al. 2001, in display values)."""
    image, like = image.astype(np.float32), like.astype(np.float32)
    if grey:
        image = np.repeat(image.mean(2, keepdims=True), 3, 2)
    scale = np.clip((like.std((0, 1)) + 1) / (image.std((0, 1)) + 1), 0.6, 1.6)
    return np.clip((image - image.mean((0, 1))) * scale + like.mean((0, 1)), 0, 255)


# ------------------------------------------------------------------------------------------- what is portrayed


@dataclass(frozen=True)
class _Portrait:
    """A photograph as planned: everything random about it follows from `seed` and `index`."""

    seed: int
    index: int
    path: str  # inside each set: "07/1234507_1961-02-03_2004.jpg"
    gender: str
    born: datetime.date
    year: int
    damage: str = ""
    background: int = -1  # index of the photograph that its swap is set into


def _identity(portrait: _Portrait) -> SimpleNamespace:
    return _draw_identity(
        _rng(portrait.seed, "identity", portrait.index), portrait.gender, portrait.year - portrait.born.year
    )


def _portrait_scene(portrait: _Portrait, square_size: int) -> tuple[_Scene, np.random.Generator]:
    """The scene of a photograph, and the generator its remaining draws come from."""
    rng = _rng(portrait.seed, "photograph", portrait.index)
    long = 2 ** rng.uniform(np.log2(230), np.log2(640))
    aspect = rng.choice((1.0, 4 / 3, 1.5, 1.25, rng.uniform(1.05, 1.8)), p=(0.02, 0.33, 0.3, 0.15, 0.2))
    width, height = int(max(long / aspect, 200)), int(max(long, 200))
    if rng.random() < 0.3:
        width, height = height, width
    if width == height == square_size:
        width += 4
    scene = _draw_scene(rng, _identity(portrait), width, height)
    turn = int(rng.choice((1, -1, 2))) if rng.random() < 0.02 else 0
    return replace(scene, turn=turn), rng


_ORIENTATIONS = {0: 1, 1: 6, 2: 3, -1: 8}  # EXIF tag 0x0112: how to turn the stored picture upright


def _stored_size(scene: _Scene) -> tuple[int, int]:
    return (scene.height, scene.width) if scene.turn % 2 else (scene.width, scene.height)


def _facts(path: str, label: str, generator: str, identity: str, gender: str, scene: _Scene, **more) -> dict:
    """One row of the truth."""
    box, points = _face_box(scene), np.clip(_landmarks(scene), 0, 1)
    row = {"path": path, "label": label, "generator": generator, "identity": identity, "gender": gender}
    row |= dict(zip(("left", "top", "right", "bottom"), box.tolist()))
    row |= {f"{name}_{axis}": float(points[i, j]) for i, name in enumerate(POINTS) for j, axis in enumerate("xy")}
    altered = more.pop("altered", (np.nan,) * 4)
    row |= dict(zip(("altered_left", "altered_top", "altered_right", "altered_bottom"), map(float, altered)))
    return row | {"photograph": "", "background": "", "damage": "", "orientation": 1, "grey": False} | more


def _make_photograph(job: tuple[_Portrait, int]) -> tuple[bytes, bytes, dict, dict]:
    """The photograph, its crop for `wiki_crop`, its truth and the crop's row of `wiki.mat`."""
    portrait, square_size = job
    scene, rng = _portrait_scene(portrait, square_size)
    # A few dozen cameras took all photographs, as a web collection holds many of a few models.
    camera = _draw_camera(_rng(portrait.seed, "camera", int(rng.integers(40))), "web")
    image = _photograph(_render(scene, _stored_size(scene)), camera, rng)
    grey = bool(rng.random() < 0.09)
    if grey:
        image = np.asarray(Image.fromarray(image).convert("L"))
    options = {"quality": camera.quality, "subsampling": camera.subsampling, "progressive": camera.progressive}
    exif = Image.Exif()
    if scene.turn or rng.random() < 0.4:
        exif[0x010F], exif[0x0112] = "Simulated", _ORIENTATIONS[scene.turn]
    if rng.random() < 0.01:  # seen among the real ones
        options["exif"] = b"Exif\0\0II*\0" + rng.bytes(60)
    elif exif:
        options["exif"] = exif.tobytes()
    content = _jpeg(image, **options)
    facts = _facts(f"wiki/wiki/{portrait.path}", "real", "real", f"w{portrait.index}", portrait.gender, scene,
                   photograph=f"wiki/wiki/{portrait.path}", damage=portrait.damage, grey=grey,
                   orientation=_ORIENTATIONS[scene.turn])  # fmt: skip

    height, width = image.shape[:2]
    found = rng.random() > 0.03
    face = np.array([0.0, 0.0, 1.0, 1.0])
    if found:  # the crop carries 40 % of the face on every side, edges repeated
        left, top, right, bottom = _face_box(scene) * (width, height, width, height)
        margin = 0.4 * max(right - left, bottom - top)
        pad = int(margin) + 1
        wide = cv2.copyMakeBorder(_decode(content) if not grey else image, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
        rows = slice(int(top - margin) + pad, int(bottom + margin) + pad)
        columns = slice(int(left - margin) + pad, int(right + margin) + pad)
        crop = _jpeg(np.ascontiguousarray(wide[rows, columns]), quality=95)
        face = np.array([left + 1, top + 1, right + 1, bottom + 1])  # Matlab counts from one
    else:
        crop = content
    row = {
        "dob": portrait.born.toordinal() + 366, "photo_taken": portrait.year, "full_path": portrait.path,
        "gender": np.nan if rng.random() < 0.03 else float(portrait.gender == "male"),
        "name": f"Simulated Person {portrait.index}",
        "face_location": face[None], "face_score": rng.uniform(0.5, 6.0) if found else -np.inf,
        "second_face_score": rng.uniform(0.5, 3.0) if found and len(scene.people) > 1 else np.nan,
    }  # fmt: skip
    return content, crop, facts, row


def _squash(content: bytes, side: int) -> tuple[np.ndarray, bool]:
    """A file as the generators take it in (square, JPEG quality 75), and whether it holds no colour."""
    image = _decode(content)
    return _decode(_jpeg(_resize(image, side, side))), bool((np.ptp(image, axis=2) == 0).all())


def _recast(scene: _Scene, who: SimpleNamespace, keep: tuple[str, ...], **changes) -> _Scene:
    """The same moment with another face, which keeps some traits of the one portrayed."""
    person = scene.people[-1]
    who = SimpleNamespace(**vars(who) | {trait: getattr(person.who, trait) for trait in keep})
    return replace(scene, people=(*scene.people[:-1], replace(person, who=who, **changes)))


def _window(box: np.ndarray, side: int) -> tuple[tuple[slice, slice], tuple[int, int], np.ndarray]:
    """A box in fractions as rows and columns, their size (width, height), and the box they cover."""
    left, top, right, bottom = edges = np.clip(np.round(np.asarray(box) * side), 0, side).astype(int)
    return (slice(top, bottom), slice(left, right)), (int(right - left), int(bottom - top)), edges / side


def _inpaint(scene: _Scene, content: bytes, codec: _LatentCodec, side: int, rng: np.random.Generator) -> tuple:
    """Another face in the face box, set in in latent space (Rombach et al. 2022; Lugmayr et al. 2022, "RePaint")."""
    image, grey = _squash(content, side)
    who, box = scene.people[-1].who, _face_box(scene, margin=0.12)
    new = _draw_identity(rng, who.gender, who.age)
    altered = _recast(scene, new, ("skin", "hair", "style", "volume"), smile=float(rng.uniform(0, 0.7)))
    window, size, crop = _window(box, side)
    filled, mask = image.copy(), np.zeros((side, side), np.float32)
    filled[window] = np.uint8(_match_colours(_clean(_render(altered, size, crop)), image[window], grey))
    mask[window] = 1
    mask = cv2.resize(mask, (side // 8, side // 8), interpolation=cv2.INTER_AREA)[..., None]
    latents = (1 - mask) * codec.encode(image) + mask * codec.encode(filled)
    return codec.decode(latents, rng), altered, {"altered": box, "grey": grey}


def _swap(scene: _Scene, content: bytes, who: SimpleNamespace, side: int) -> tuple:
    """A face on another's photograph, drawn at a quarter of the side (inswapper's 128 of 512), enlarged, blended in."""
    image, grey = _squash(content, side)
    keep = ("hair", "style", "volume", "hairline", "parting", "wave", "glasses", "chin", "jaw", "taper")
    swapped, box = _recast(scene, who, keep), _face_box(scene, margin=0.1)
    window, size, crop = _window(box, side)
    small = _clean(_render(swapped, (side // 4, side // 4), crop))
    face = _match_colours(cv2.resize(small, size, interpolation=cv2.INTER_LINEAR), image[window], grey)
    y, x = np.mgrid[-1 : 1 : size[1] * 1j, -1 : 1 : size[0] * 1j].astype(np.float32)
    feather = np.clip((0.92 - np.sqrt(x**2 + y**2)) / 0.2, 0, 1)[..., None]
    image = image.copy()
    image[window] = np.uint8(np.round(image[window] + feather * (face - image[window])))
    return image, swapped, {"altered": box, "grey": grey}


def _make_forgeries(job: tuple[_Portrait, bytes, _Portrait, bytes, int]) -> tuple[dict[str, bytes], list[dict]]:
    """The three fakes that share a photograph's name; `other` is the photograph its swap is set into."""
    portrait, content, other, other_content, side = job
    codec, rng = _codecs(portrait.seed)[0], _rng(portrait.seed, "forgeries", portrait.index)
    source, person = f"wiki/wiki/{portrait.path}", f"w{portrait.index}"
    made = {"inpainting": _inpaint(_portrait_scene(portrait, side)[0], content, codec, side, rng)}
    # text2img: nothing of the photograph but the name, hence the gender
    scene = _draw_scene(rng, _draw_identity(rng, portrait.gender, int(rng.integers(20, 70))), side, side)
    imagined = codec.decode(codec.encode(_clean(_render(scene, (side, side)))), rng)
    made["text2img"] = imagined, scene, {"altered": (0, 0, 1, 1)}
    made["insight"] = _swap(_portrait_scene(other, side)[0], other_content, _identity(portrait), side)
    identities = {"inpainting": f"{person} inpainted", "text2img": f"{person} imagined", "insight": person}
    backgrounds = {"inpainting": source, "text2img": "", "insight": f"wiki/wiki/{other.path}"}
    facts = [
        _facts(f"{name}/{name}/{portrait.path}", "fake", name, identities[name], portrait.gender, scene,
               photograph=source, background=backgrounds[name], **more)
        for name, (_, scene, more) in made.items()
    ]  # fmt: skip
    return {name: _jpeg(image) for name, (image, *_) in made.items()}, facts


def _make_gan(job: tuple[int, int, int, str]) -> tuple[bytes, bytes, list[dict]]:
    """A real and a fake of the 140k set: both reduced to half of `square_size`, both JPEG quality 75."""
    seed, index, square_size, split = job
    half, files, facts = square_size // 2, [], []
    for label in ("real", "fake"):
        rng = _rng(seed, "gan140k", label, index)
        gender = str(rng.choice(("male", "female")))
        scene = _draw_scene(
            rng, _draw_identity(rng, gender, int(rng.integers(18, 75))), square_size, square_size, "ffhq"
        )
        light = _render(scene, (square_size, square_size))
        if label == "real":
            image = _photograph(light, _draw_camera(_rng(seed, "camera ffhq", int(rng.integers(60))), "ffhq"), rng)
        else:
            image = _codecs(seed)[1].synthesise(_clean(light), rng)
        files.append(_jpeg(_resize(image, half, half, Image.Resampling.LANCZOS)))
        path = f"gan140k/real_vs_fake/real-vs-fake/{split}/{label}/{_gan_name(seed, index, label)}.jpg"
        altered = {"altered": (0, 0, 1, 1)} if label == "fake" else {}
        facts.append(
            _facts(
                path, label, "real" if label == "real" else "gan140k", f"{label[0]}{index}", gender, scene, **altered
            )
        )
    return files[0], files[1], facts


def _gan_name(seed: int, index: int, label: str) -> str:
    if label == "real":
        return f"{index:05d}"
    letters = _rng(seed, "gan name", index).choice(list("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"), 6)
    return "".join(letters) + f"{index:04d}"


def _make_celeba(job: tuple[int, int]) -> tuple[bytes, dict, dict]:
    """One aligned face of 178 x 218; two or three pictures show the same person."""
    seed, index = job
    rng, person = _rng(seed, "celeba", index), _rng(seed, "celeba person", index // 3)
    gender = str(person.choice(("male", "female")))
    who = _draw_identity(person, gender, int(person.integers(18, 70)))
    scene = _draw_scene(rng, who, 178, 218, "celeba")
    camera = _draw_camera(_rng(seed, "camera press", int(rng.integers(30))), "press")
    image = _photograph(_render(scene, (178, 218)), camera, rng)
    facts = _facts(
        f"celeba/img_align_celeba/img_align_celeba/{index + 1:06d}.jpg", "real", "real", f"c{index // 3}", gender, scene
    )
    smile, style = scene.people[-1].smile, who.style
    known = {
        "Bald": style == "bald", "Bangs": style == "bangs", "Receding_Hairline": style == "receding",
        "Wavy_Hair": style in ("wavy", "curly"), "Straight_Hair": style in ("long", "bob"),
        "Gray_Hair": who.grey > 0.6, "Black_Hair": who.grey < 0.4 and who.shade == 0,
        "Blond_Hair": who.grey < 0.4 and who.shade == 4,
        "Brown_Hair": who.grey < 0.4 and who.shade in (1, 2), "Eyeglasses": who.glasses > 0, "Goatee": who.beard == 3,
        "Mustache": who.beard in (2, 4), "No_Beard": who.beard < 2, "5_o_Clock_Shadow": who.beard == 1,
        "Male": gender == "male",
        "Smiling": smile > 0.4, "Mouth_Slightly_Open": scene.people[-1].open > 0,
        "Wearing_Lipstick": who.lipstick > 0.5,
        "Young": who.age < 40, "Pale_Skin": float(who.skin[0]) > 0.68, "Heavy_Makeup": who.lipstick > 0.8,
    }  # fmt: skip
    return _jpeg(image, quality=90), facts, {name: 1 if known.get(name) else -1 for name in _CELEBA_ATTRIBUTES}


# -------------------------------------------------------------------------------------------------- archives


def _plan(seed: int, count: int) -> list[_Portrait]:
    """Names, genders, ages, damages and who is swapped into whose photograph.

    Assumption: the background of a swap comes from the same folder and gender where there is one (files were
    processed folder by folder), so the groups that swaps tie together stay small.
    """
    rng = _rng(seed, "plan")
    num_folders = int(np.clip(count // 6, 1, 100))
    folders = np.sort(rng.choice(100, num_folders, replace=False))
    portraits = []
    for index in range(count):
        born = datetime.date(int(rng.integers(1930, 1986)), int(rng.integers(1, 13)), int(rng.integers(1, 29)))
        year = born.year + int(rng.integers(18, min(75, 2015 - born.year)))
        number = (index // num_folders + 1 + int(rng.integers(1, 9)) * 10000) * 100 + int(folders[index % num_folders])
        path = f"{number % 100:02d}/{number}_{born.isoformat()}_{year}.jpg"
        gender = "male" if rng.random() < 0.55 else "female"
        portraits.append(_Portrait(seed, index, path, gender, born, year))
    damaged = rng.permutation(count)[: min(3 + count // 300, count // 4)]
    for position, index in enumerate(damaged):
        portraits[index] = replace(portraits[index], damage=("truncated", "empty", "not an image")[position % 3])
    for index, portrait in enumerate(portraits):
        sound = [p for p in portraits if not p.damage and p.index != index] or [portrait]
        same = [p for p in sound if p.gender == portrait.gender] or sound
        near = [p for p in same if p.path[:2] == portrait.path[:2]] or same
        portraits[index] = replace(portrait, background=near[int(rng.integers(len(near)))].index)
    return portraits


def _damaged(content: bytes, damage: str) -> bytes:
    """A file as it is found in the wild."""
    page = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>\n"
    return {"truncated": content[: len(content) // 2], "empty": b"", "not an image": page}.get(damage, content)


class _Zip:
    """A zip whose bytes depend on its members alone: fixed times, pictures stored as they are."""

    def __init__(self, file: Path):
        self.archive = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED)

    def add(self, name: str, content: bytes) -> None:
        info = zipfile.ZipInfo(name, _EPOCH)
        info.external_attr = 0o644 << 16
        info.create_system = 3
        self.archive.writestr(info, content)

    def close(self) -> None:
        self.archive.close()


class _Tar(_Zip):
    """The same for a tar."""

    def __init__(self, file: Path):
        self.archive = tarfile.open(file, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def add(self, name: str, content: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mtime = len(content), int(datetime.datetime(*_EPOCH, tzinfo=datetime.timezone.utc).timestamp())
        self.archive.addfile(info, io.BytesIO(content))


def _table(header: list[str], rows: list[list]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue().encode()


def _wiki_mat(rows: list[dict]) -> bytes:
    """`wiki.mat`: one struct of row vectors, texts and boxes as cells."""
    from scipy.io import savemat

    fields = {}
    for name in WIKI_FIELDS:
        if name in ("full_path", "name", "face_location"):
            fields[name] = np.empty((1, len(rows)), object)
            for column, row in enumerate(rows):
                fields[name][0, column] = row[name]
        else:
            fields[name] = np.array([[row[name] for row in rows]], float)
    buffer = io.BytesIO()
    savemat(buffer, {"wiki": fields})
    header = b"MATLAB 5.0 MAT-file, simulated".ljust(116)  # SciPy writes the time there
    return header + buffer.getvalue()[116:]


def _start_worker() -> None:
    cv2.setNumThreads(1)


@contextlib.contextmanager
def _pool(num_workers: int) -> Iterator[Callable]:
    """A lazy, ordered map over fresh processes of one thread each.

    Processes are spawned, since a fork of a process that runs TensorFlow or JAX can hang.
    """
    limits = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ.update(dict.fromkeys(limits, "1"))  # read by the workers when they load NumPy
    try:
        pool = multiprocessing.get_context("spawn").Pool(num_workers, _start_worker)
    finally:
        for name, value in limits.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    with pool:
        yield pool.imap


def _recipe(simulation: Simulation, square_size: int, seed: int) -> dict:
    code = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    return {**asdict(simulation), "square_size": square_size, "seed": seed, "code": code}


def _reusable(folder: Path, recipe: dict) -> bool:
    """Whether the folder holds what this recipe makes, complete."""
    try:
        saved = json.loads((folder / "archives.json").read_text())
        return saved["recipe"] == recipe and all(
            (folder / facts["file"]).stat().st_size == facts["bytes"] for facts in saved["files"].values()
        )
    except (OSError, ValueError, KeyError):
        return False


def make_archives(
    folder: Path, simulation: Simulation, *, square_size: int = 256, seed: int = 0, num_workers: int = 2
) -> dict[str, Path]:
    """Draws all photographs and forgeries and packs them as the real archives are packed.

    Beside the seven archives lie `truth.parquet` (see `truth`) and `archives.json`: for each file its bytes and
    SHA-256, and the recipe it was made by. If the recipe is the same and the files are whole, nothing is done.

    Args:
        folder: Where the archives go; made if missing.
        simulation: How many pictures to draw.
        square_size: Side of the fakes of the first three generators, in pixels, a multiple of 16 and at least 64;
            pictures of `gan140k` have half of it.
        seed: The same seed gives the same bytes, however many workers draw.
        num_workers: Processes that draw.

    Returns:
        Dataset name -> archive.

    Raises:
        ValueError: If a size or a count is out of range.
    """
    if square_size < 64 or square_size % 16:
        raise ValueError(f"square_size must be a multiple of 16, at least 64; received {square_size}.")
    if min(simulation.num_photographs, simulation.num_gan, simulation.num_celeba) < 1 or num_workers < 1:
        raise ValueError(f"Counts must be at least 1; received {simulation} and num_workers={num_workers}.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    recipe = _recipe(simulation, square_size, seed)
    paths = {name: folder / file for name, file in ARCHIVES.items()}
    if _reusable(folder, recipe):
        return paths
    (folder / "archives.json").unlink(missing_ok=True)
    parts = {name: path.with_name(path.name + ".part") for name, path in paths.items()}
    with contextlib.ExitStack() as stack:
        archives = {name: (_Tar if name == "wiki_crop" else _Zip)(part) for name, part in parts.items()}
        for archive in archives.values():
            stack.callback(archive.close)
        facts = _fill(archives, simulation, square_size, seed, num_workers)
    parts["truth"], paths_and_truth = folder / "truth.parquet.part", {**paths, "truth": folder / "truth.parquet"}
    pd.DataFrame(facts).to_parquet(parts["truth"], index=False)
    files = {
        name: {
            "file": path.name,
            "bytes": parts[name].stat().st_size,
            "sha256": hashlib.sha256(parts[name].read_bytes()).hexdigest(),
        }
        for name, path in paths_and_truth.items()
    }
    for name, path in paths_and_truth.items():
        os.replace(parts[name], path)
    note = folder / "archives.json.part"
    note.write_text(json.dumps({"recipe": recipe, "files": files}, indent=1))
    os.replace(note, folder / "archives.json")
    return paths


def _fill(
    archives: dict[str, _Zip], simulation: Simulation, square_size: int, seed: int, num_workers: int
) -> list[dict]:
    """Draws everything, in a fixed order, into the open archives; returns the truth."""
    portraits = _plan(seed, simulation.num_photographs)
    num_gan, facts, rows, contents = simulation.num_gan, [], [], []
    bounds = (round(num_gan * 5 / 7), round(num_gan * 6 / 7))
    splits = ["train" if i < bounds[0] else "valid" if i < bounds[1] else "test" for i in range(num_gan)]
    total = 2 * len(portraits) + num_gan + simulation.num_celeba
    with _pool(num_workers) as spread, tqdm(total=total, desc="simulating", unit="picture", leave=False) as progress:
        for portrait, (content, crop, fact, row) in zip(
            portraits, spread(_make_photograph, [(p, square_size) for p in portraits], 4)
        ):
            archives["wiki"].add(f"wiki/{portrait.path}", _damaged(content, portrait.damage))
            archives["wiki_crop"].add(f"wiki_crop/{portrait.path}", crop)
            contents.append(content)
            facts += [fact, fact | {"path": f"wiki_crop/wiki_crop/{portrait.path}", "damage": ""}]
            rows.append(row)
            progress.update()
        archives["wiki_crop"].add("wiki_crop/wiki.mat", _wiki_mat(rows))

        jobs = ((p, contents[p.index], portraits[p.background], contents[p.background], square_size) for p in portraits)
        for portrait, (files, fact) in zip(portraits, spread(_make_forgeries, jobs, 4)):
            for name, content in files.items():
                archives[name].add(f"{name}/{portrait.path}", content)
            facts += fact
            progress.update()

        tables = {split: [] for split in ("train", "valid", "test")}
        for real, fake, fact in spread(_make_gan, [(seed, i, square_size, split) for i, split in enumerate(splits)], 4):
            for row, content in zip(fact, (real, fake)):
                archives["gan140k"].add(row["path"].removeprefix("gan140k/"), content)
                split, label, file = row["path"].split("/")[-3:]
                source = "real_vs_fake/resized" if label == "real" else "fake"
                tables[split].append([f"/kaggle/input/{source}/{file}", file[:-4], int(label == "real"), label,
                                      f"{split}/{label}/{file}"])  # fmt: skip
            facts += fact
            progress.update()
        for split, table in tables.items():
            header = ["", "original_path", "id", "label", "label_str", "path"]
            archives["gan140k"].add(f"{split}.csv", _table(header, [[n, *row] for n, row in enumerate(table)]))

        partition, attributes = [], []
        for index, (content, fact, known) in enumerate(
            spread(_make_celeba, [(seed, i) for i in range(simulation.num_celeba)], 4)
        ):
            file = fact["path"].rsplit("/", 1)[1]
            archives["celeba"].add(fact["path"].removeprefix("celeba/"), content)
            place = index / simulation.num_celeba
            partition.append([file, 0 if place < 0.8 else 1 if place < 0.9 else 2])
            attributes.append([file, *known.values()])
            facts.append(fact)
            progress.update()
        archives["celeba"].add("list_eval_partition.csv", _table(["image_id", "partition"], partition))
        archives["celeba"].add("list_attr_celeba.csv", _table(["image_id", *_CELEBA_ATTRIBUTES], attributes))
    return facts


def truth(folder: Path) -> pd.DataFrame:
    """What was drawn: one row per picture of the archives in `folder`.

    Columns: `path` (relative to the folder of extracted datasets), `label`, `generator`, `identity`, `gender`; the face
    box `left, top, right, bottom`; five landmarks `left_eye_x` ... `mouth_right_y`; the altered region
    `altered_left` ... (NaN for reals); `photograph` and `background` (paths of the sources); `damage` (`""`, `"truncated"`, `"empty"` or
    `"not an image"`), `orientation` (EXIF) and `grey`. Boxes and points are fractions of the stored picture.
    """
    file = Path(folder) / "truth.parquet"
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; make_archives({str(folder)!r}, ...) writes it.")
    return pd.read_parquet(file)


# --------------------------------------------------------------------------------------------------- serving


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, silently, with single byte ranges (RFC 9110, section 14)."""

    def log_message(self, *_) -> None:
        pass

    def end_headers(self) -> None:
        self.send_header("Accept-Ranges", "bytes")
        super().end_headers()

    def send_head(self):
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if not asked or not any(asked.groups()) or not path.is_file():
            return super().send_head()
        size, (first, last) = path.stat().st_size, asked.groups()
        start = int(first) if first else max(size - int(last), 0)
        stop = min(int(last) + 1, size) if first and last else size
        if start >= stop:
            self.send_response(http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        with path.open("rb") as stream:
            stream.seek(start)
            content = stream.read(stop - start)
        self.send_response(http.HTTPStatus.PARTIAL_CONTENT)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return io.BytesIO(content)


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serves a folder on this machine for the duration of a `with` block; gives the base address.

    Example:

    >>> import tempfile, urllib.request
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "a.txt").write_text("picture")
    ...     with serve(Path(folder)) as address:
    ...         urllib.request.urlopen(f"{address}/a.txt").read()
    b'picture'
    """
    handler = functools.partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
