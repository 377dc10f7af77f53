"""Draws the pictures; each `make_…` returns files, rows of the truth, a row for a table."""

import datetime
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
from numpy.random import Generator
from PIL import Image

from simulator import people
from simulator.cameras import decode, draw_camera, jpeg, photograph, resize
from simulator.generators import DETAIL, GAN, INPAINTING, TEXT2IMG, imagine, inpaint, network, swap
from simulator.people import Scene, draw_scene, draw_somebody, face_box, generator_for
from simulator.portraits import render

_POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")  # left as seen: MTCNN's
AXES = [f"{point}_{axis}" for point in _POINTS for axis in "xy"]
_CELEBA_POINTS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
_NOWHERE = (np.nan,) * 4  # box of what was altered in a photograph
STRENGTHS = (0, 0.25, 0.5, 1, 2)  # of the trace, in the archive `trace`
_ORIENTATIONS = {0: 1, 1: 6, 2: 3, -1: 8}  # EXIF: how to turn the stored picture upright
_DAMAGES = ("truncated", "empty", "not an image")


def plan(seed: int, count: int, side: int) -> list[SimpleNamespace]:
    """Photographs: names, genders, ages, damages and who is swapped into whose photograph.

    Pairs in one folder exchange faces, so that groups stay small; DeepFakeFace's own code draws the
    pairs from all folders.
    """
    rng = generator_for(seed, "plan")
    num_folders = int(np.clip(count // 6, 1, 100))
    folders = np.sort(rng.choice(100, num_folders, replace=False)).tolist()
    portraits = []
    for index in range(count):
        born = datetime.date(*rng.integers((1930, 1, 1), (1986, 13, 29)).tolist())
        year = born.year + int(rng.integers(18, min(75, 2015 - born.year)))
        # Two in a row exchange faces, of one folder and gender.
        folder, other = folders[index // 2 % num_folders], index ^ 1
        path = f"{folder:02d}/{10001 + index}{folder:02d}_{born}_{year}.jpg"
        if index % 2 == 0:
            gender = "male" if rng.random() < 0.55 else "female"
        facts = {"seed": seed, "side": side, "index": index, "path": path, "gender": gender}
        facts |= {"background": other if other < count else 0, "born": born, "year": year}
        portraits.append(SimpleNamespace(damage="", **facts))
    for position, index in enumerate(rng.permutation(count)[: min(3 + count // 300, count // 4)]):
        portraits[index].damage = _DAMAGES[position % 3]
    return portraits


def scene_of(portrait: SimpleNamespace) -> tuple[Scene, Generator]:
    """The scene of a photograph, and the generator its remaining draws come from."""
    rng = generator_for(portrait.seed, "photograph", portrait.index)
    long = 2 ** rng.uniform(np.log2(230), np.log2(640))
    aspects = 1.0, 4 / 3, 1.5, 1.25, rng.uniform(1.05, 1.8)
    aspect = rng.choice(aspects, p=(0.02, 0.33, 0.3, 0.15, 0.2))
    width, height = int(max(long / aspect, 200)), int(max(long, 200))
    if rng.random() < 0.3:
        width, height = height, width
    if width == height == portrait.side:
        width += 4
    scene = draw_scene(rng, identity_of(portrait), width, height)
    return replace(scene, turn=int(rng.choice((1, -1, 2))) if rng.random() < 0.02 else 0), rng


def identity_of(portrait: SimpleNamespace) -> SimpleNamespace:
    """Who is shown, by the key of the portrait."""
    rng = generator_for(portrait.seed, "identity", portrait.index)
    return people.draw_identity(rng, portrait.gender, portrait.year - portrait.born.year)


def _shoot(seed: int, scene: Scene, kind: str, count: int, rng: Generator) -> tuple:
    """A photograph by one of the few cameras that took all photographs of a kind; the camera."""
    camera = draw_camera(generator_for(seed, "camera", kind, int(rng.integers(count))), kind)
    return photograph(render(scene, scene.stored_size), camera, rng), camera


def fact_of(path: str, generator: str, gender: str, scene, altered=_NOWHERE, **more) -> dict:
    """One row of the truth."""
    label = "real" if generator == "real" else "fake"
    row = {"path": path, "label": label, "generator": generator, "gender": gender}
    sides = ("left", "top", "right", "bottom")
    row |= dict(zip(sides, face_box(scene).tolist()))
    row |= dict(zip(AXES, people.landmarks(scene).ravel()))
    row |= {f"altered_{side}": float(edge) for side, edge in zip(sides, altered)}
    return row | {"background": "", "damage": ""} | more


def make_photograph(portrait: SimpleNamespace) -> tuple[dict, list, tuple]:
    """Photograph and crop; the photograph before any damage, and its row of `wiki.mat`."""
    scene, rng = scene_of(portrait)
    image, camera = _shoot(portrait.seed, scene, "web", 40, rng)
    height, width = image.shape[:2]
    if rng.random() < 0.09:
        image = np.asarray(Image.fromarray(image).convert("L"))
    tags = Image.Exif()
    if scene.turn or rng.random() < 0.4:
        tags[0x010F], tags[0x0112] = "Simulated", _ORIENTATIONS[scene.turn]
    options = {name: vars(camera)[name] for name in ("quality", "subsampling", "progressive")}
    content = crop = jpeg(image, exif=tags.tobytes() if tags else b"", **options)

    is_found = rng.random() > 0.03
    box = np.array([0.0, 0.0, width, height])  # where no face was found: the whole picture
    if is_found:  # the crop carries 40 % of the face on every side, edges repeated
        left, top, right, bottom = box = face_box(scene) * (width, height, width, height)
        margin = 0.4 * max(right - left, bottom - top)
        rows = np.arange(int(top - margin), int(bottom + margin)).clip(0, height - 1)
        columns = np.arange(int(left - margin), int(right + margin)).clip(0, width - 1)
        crop = jpeg(decode(content)[np.ix_(rows, columns)], quality=95)
    is_second = is_found and len(scene.people) > 1
    row = {
        "dob": portrait.born.toordinal() + 366,  # Matlab counts days from year 0
        "photo_taken": portrait.year,
        "full_path": portrait.path,
        "gender": np.nan if rng.random() < 0.03 else float(portrait.gender == "male"),
        "name": f"Simulated Person {portrait.index}",
        "face_location": (box + (1, 1, 0, 0))[None],  # first and last pixel, counted from one
        "face_score": rng.uniform(0.5, 6.0) if is_found else -np.inf,
        "second_face_score": rng.uniform(0.5, 3.0) if is_second else np.nan,
    }
    path, damage = f"wiki/wiki/{portrait.path}", portrait.damage
    page = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>\n"
    damaged = dict(zip(_DAMAGES, (content[: len(content) // 2], b"", page)))
    files = {path: damaged.get(damage, content), f"wiki_crop/wiki_crop/{portrait.path}": crop}
    return files, [fact_of(path, "real", portrait.gender, scene, damage=damage)], (content, row)


def make_forgeries(portrait, content: bytes, other, behind: bytes) -> tuple[dict, list, None]:
    """The three fakes named like a photograph; `other` is the background of its face-swap."""
    side, rng = portrait.side, generator_for(portrait.seed, "forgeries", portrait.index)
    codec, held_out = (network(portrait.seed, rng.choice(part)) for part in (INPAINTING, TEXT2IMG))
    source, background = f"wiki/wiki/{portrait.path}", f"wiki/wiki/{other.path}"
    made = {
        "inpainting": (source, inpaint(scene_of(portrait)[0], content, side, codec, rng)),
        "text2img": ("", imagine(portrait.gender, side, held_out, rng)),
        "insight": (background, swap(scene_of(other)[0], behind, side, identity_of(portrait))),
    }
    files, facts = {}, []
    for name, (source, (image, scene, altered)) in made.items():
        path = f"{name}/{name}/{portrait.path}"
        files[path] = jpeg(image)
        facts.append(fact_of(path, name, portrait.gender, scene, altered, background=source))
    return files, facts, None


def make_gan(seed: int, side: int, index: int, split: str) -> tuple[dict, list, list]:
    """A real and a fake of the 140k set: both reduced to half of `side`, both JPEG quality 75."""
    files, facts, rows = {}, [], []
    for label in ("real", "fake"):
        rng, name = generator_for(seed, "gan140k", label, index), f"{index:05d}"
        who = draw_somebody(rng, (18, 75))
        scene = draw_scene(rng, who, side, side, "ffhq")
        image, _ = _shoot(seed, scene, "ffhq", 60, rng)
        generator, altered, source = "real", _NOWHERE, "real_vs_fake/resized"
        if label == "fake":  # its training photographs were of such cameras
            generator, altered, source = "gan140k", (0, 0, 1, 1), "fake"
            codec = network(seed, rng.choice(GAN))
            image = codec.decode(codec.encode(image), rng, DETAIL["gan140k"])
            name = f"{rng.integers(16**6):06X}{index:04d}"
        row = {"original_path": f"/kaggle/input/{source}/{name}.jpg", "id": name}
        row |= {"label": int(label == "real"), "label_str": label}
        rows.append(row | {"path": f"{split}/{label}/{name}.jpg"})
        path = f"gan140k/real_vs_fake/real-vs-fake/{split}/{label}/{name}.jpg"
        files[path] = jpeg(resize(image, side // 2, Image.Resampling.LANCZOS))
        facts.append(fact_of(path, generator, who.gender, scene, altered))
    return files, facts, rows


def make_trace(portrait: SimpleNamespace) -> tuple[dict, list, None]:
    """A photograph and decodings of it with rising strength of the trace; a face inpainted in it.

    At strength 0 the pixels are the photograph's, at 1 they are what the codec makes of them.
    """
    _, _, (content, _) = make_photograph(portrait)
    side, rng = portrait.side, generator_for(portrait.seed, "trace", portrait.index)
    scene, codec = scene_of(portrait)[0], network(portrait.seed, rng.choice(INPAINTING))
    image = decode(jpeg(resize(decode(content), side))).astype(np.float32)
    decoded = codec.decode(codec.encode(image), rng, DETAIL["inpainting"])
    change, whole = decoded - image, (0, 0, 1, 1)
    made = {f"strength_{s:g}": (image + s * change, scene, whole) for s in STRENGTHS}
    forged, altered, box = inpaint(scene, content, side, codec, rng)
    made["inpainting_local"] = (image + _inside(box, side) * (forged - image), altered, box)
    name = f"{portrait.index}.jpg"
    source = f"trace/photograph/{name}"
    files, facts = {source: content}, [fact_of(source, "real", portrait.gender, scene)]
    for kind, (image, shown, box) in made.items():
        path = f"trace/{kind}/{name}"
        files[path] = jpeg(np.uint8(np.clip(np.round(image), 0, 255)))
        facts.append(fact_of(path, kind, portrait.gender, shown, box, background=source))
    return files, facts, None


def _inside(box: np.ndarray, side: int) -> np.ndarray:
    """1 in the box, 0 outside, with a soft edge within: `(S, S, 1)`."""
    left, top, right, bottom = np.round(np.asarray(box) * side).astype(int)
    mask, edge = np.zeros((side, side), np.float32), max(side // 64, 1)
    mask[top + edge : bottom - edge, left + edge : right - edge] = 1
    return cv2.blur(mask, (2 * edge + 1, 2 * edge + 1))[..., None]


def make_celeba(seed: int, index: int) -> tuple[dict, list, dict]:
    """One aligned face of 178 x 218; three pictures in a row show the same person."""
    rng = generator_for(seed, "celeba", index)
    who = draw_somebody(generator_for(seed, "celeba person", index // 3), (18, 70))
    scene = draw_scene(rng, who, 178, 218, "celeba")
    image, _ = _shoot(seed, scene, "press", 30, rng)
    name = f"{index + 1:06d}.jpg"
    path = f"celeba/img_align_celeba/img_align_celeba/{name}"
    row = {"image_id": name, "Male": 1 if who.gender == "male" else -1}
    for point, (x, y) in zip(_CELEBA_POINTS, people.landmarks(scene) * (178, 218)):
        row |= {f"{point}_x": round(x), f"{point}_y": round(y)}
    return {path: jpeg(image, quality=90)}, [fact_of(path, "real", who.gender, scene)], row
