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
import multiprocessing
import os
import re
import tarfile
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from simulator import generators, portraits
from simulator.generators import (
    LatentCodec,
    clean,
    codecs,
    decode,
    draw_camera,
    jpeg,
    match_colours,
    photograph,
    resize,
)
from simulator.portraits import (
    Scene,
    draw_identity,
    draw_scene,
    face_box,
    generator_for,
    landmarks,
    render,
)

from .config import Simulation
from .files import progress

ARCHIVES = {name: f"{name}.zip" for name in ("wiki", "inpainting", "text2img", "insight")} | {
    "wiki_crop": "wiki_crop.tar", "gan140k": "gan140k.zip", "celeba": "celeba.zip"
}  # fmt: skip
POINTS = (
    "left_eye",
    "right_eye",
    "nose",
    "mouth_left",
    "mouth_right",
)  # MTCNN's, left as seen in the picture
WIKI_FIELDS = (
    "dob",
    "photo_taken",
    "full_path",
    "gender",
    "name",
    "face_location",
    "face_score",
    "second_face_score",
)
_CELEBA_ATTRIBUTES = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips",
    "Big_Nose", "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin",
    "Eyeglasses", "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open",
    "Mustache", "Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline",
    "Rosy_Cheeks", "Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat",
    "Wearing_Lipstick", "Wearing_Necklace", "Wearing_Necktie", "Young",
)  # fmt: skip
_CELEBA_AXES = (("x", 178), ("y", 218))  # of the aligned pictures, in pixels
_CELEBA_POINTS = [
    f"{p}_{axis}"
    for p in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
    for axis in "xy"
]
_EPOCH = (2024, 1, 1, 0, 0, 0)  # the time stamp of every archive member: same seed, same bytes


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
    return draw_identity(
        generator_for(portrait.seed, "identity", portrait.index),
        portrait.gender,
        portrait.year - portrait.born.year,
    )


def _portrait_scene(portrait: _Portrait, square_size: int) -> tuple[Scene, np.random.Generator]:
    """The scene of a photograph, and the generator its remaining draws come from."""
    rng = generator_for(portrait.seed, "photograph", portrait.index)
    long = 2 ** rng.uniform(np.log2(230), np.log2(640))
    aspect = rng.choice(
        (1.0, 4 / 3, 1.5, 1.25, rng.uniform(1.05, 1.8)), p=(0.02, 0.33, 0.3, 0.15, 0.2)
    )
    width, height = int(max(long / aspect, 200)), int(max(long, 200))
    if rng.random() < 0.3:
        width, height = height, width
    if width == height == square_size:
        width += 4
    scene = draw_scene(rng, _identity(portrait), width, height)
    turn = int(rng.choice((1, -1, 2))) if rng.random() < 0.02 else 0
    return replace(scene, turn=turn), rng


_ORIENTATIONS = {0: 1, 1: 6, 2: 3, -1: 8}  # EXIF tag 0x0112: how to turn the stored picture upright


def _stored_size(scene: Scene) -> tuple[int, int]:
    return (scene.height, scene.width) if scene.turn % 2 else (scene.width, scene.height)


def _facts(
    path: str, label: str, generator: str, identity: str, gender: str, scene: Scene, **more
) -> dict:
    """One row of the truth."""
    box, points = face_box(scene), np.clip(landmarks(scene), 0, 1)
    row = {
        "path": path,
        "label": label,
        "generator": generator,
        "identity": identity,
        "gender": gender,
    }
    row |= dict(zip(("left", "top", "right", "bottom"), box.tolist()))
    row |= {
        f"{name}_{axis}": float(points[i, j])
        for i, name in enumerate(POINTS)
        for j, axis in enumerate("xy")
    }
    altered = more.pop("altered", (np.nan,) * 4)
    row |= dict(
        zip(("altered_left", "altered_top", "altered_right", "altered_bottom"), map(float, altered))
    )
    return (
        row
        | {"photograph": "", "background": "", "damage": "", "orientation": 1, "grey": False}
        | more
    )


def _make_photograph(job: tuple[_Portrait, int]) -> tuple[bytes, bytes, dict, dict]:
    """The photograph, its crop for `wiki_crop`, its truth and the crop's row of `wiki.mat`."""
    portrait, square_size = job
    scene, rng = _portrait_scene(portrait, square_size)
    # A few dozen cameras took all photographs, as a web collection holds many of a few models.
    camera = draw_camera(generator_for(portrait.seed, "camera", int(rng.integers(40))), "web")
    image = photograph(render(scene, _stored_size(scene)), camera, rng)
    grey = bool(rng.random() < 0.09)
    if grey:
        image = np.asarray(Image.fromarray(image).convert("L"))
    options = {
        "quality": camera.quality,
        "subsampling": camera.subsampling,
        "progressive": camera.progressive,
    }
    exif = Image.Exif()
    if scene.turn or rng.random() < 0.4:
        exif[0x010F], exif[0x0112] = "Simulated", _ORIENTATIONS[scene.turn]
    if rng.random() < 0.01:  # seen among the real ones
        options["exif"] = b"Exif\0\0II*\0" + rng.bytes(60)
    elif exif:
        options["exif"] = exif.tobytes()
    content = jpeg(image, **options)
    facts = _facts(f"wiki/wiki/{portrait.path}", "real", "real", f"w{portrait.index}", portrait.gender, scene,
                   photograph=f"wiki/wiki/{portrait.path}", damage=portrait.damage, grey=grey,
                   orientation=_ORIENTATIONS[scene.turn])  # fmt: skip

    height, width = image.shape[:2]
    found = rng.random() > 0.03
    face = np.array([1.0, 1.0, width, height])  # where no face was found: the whole picture
    if found:  # the crop carries 40 % of the face on every side, edges repeated
        left, top, right, bottom = face_box(scene) * (width, height, width, height)
        margin = 0.4 * max(right - left, bottom - top)
        pad = int(margin) + 1
        wide = cv2.copyMakeBorder(
            decode(content) if not grey else image, pad, pad, pad, pad, cv2.BORDER_REPLICATE
        )
        rows = slice(int(top - margin) + pad, int(bottom + margin) + pad)
        columns = slice(int(left - margin) + pad, int(right + margin) + pad)
        crop = jpeg(np.ascontiguousarray(wide[rows, columns]), quality=95)
        face = np.array(
            [left + 1, top + 1, right, bottom]
        )  # first and last pixel, counted from one
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
    image = decode(content)
    return decode(jpeg(resize(image, side, side))), bool((np.ptp(image, axis=2) == 0).all())


def _recast(scene: Scene, who: SimpleNamespace, keep: tuple[str, ...], **changes) -> Scene:
    """The same moment with another face, which keeps some traits of the one portrayed."""
    person = scene.people[-1]
    who = SimpleNamespace(**vars(who) | {trait: getattr(person.who, trait) for trait in keep})
    return replace(scene, people=(*scene.people[:-1], replace(person, who=who, **changes)))


def _window(box: np.ndarray, side: int) -> tuple[tuple[slice, slice], tuple[int, int], np.ndarray]:
    """A box in fractions as rows and columns, their size (width, height), and the box they cover."""
    left, top, right, bottom = edges = np.clip(np.round(np.asarray(box) * side), 0, side).astype(
        int
    )
    return (
        (slice(top, bottom), slice(left, right)),
        (int(right - left), int(bottom - top)),
        edges / side,
    )


def _inpaint(
    scene: Scene, content: bytes, codec: LatentCodec, side: int, rng: np.random.Generator
) -> tuple:
    """Another face in the face box, set in in latent space (Rombach et al. 2022; Lugmayr et al. 2022, "RePaint")."""
    image, grey = _squash(content, side)
    who, box = scene.people[-1].who, face_box(scene, margin=0.12)
    new = draw_identity(rng, who.gender, who.age)
    altered = _recast(
        scene, new, ("skin", "hair", "style", "volume"), smile=float(rng.uniform(0, 0.7))
    )
    window, size, crop = _window(box, side)
    filled, mask = image.copy(), np.zeros((side, side), np.float32)
    filled[window] = np.uint8(
        match_colours(clean(render(altered, size, crop)), image[window], grey)
    )
    mask[window] = 1
    mask = cv2.resize(mask, (side // 8, side // 8), interpolation=cv2.INTER_AREA)[..., None]
    latents = (1 - mask) * codec.encode(image) + mask * codec.encode(filled)
    return codec.decode(latents, rng), altered, {"altered": box, "grey": grey}


def _swap(scene: Scene, content: bytes, who: SimpleNamespace, side: int) -> tuple:
    """A face on another's photograph, drawn at a quarter of the side (inswapper's 128 of 512), enlarged, blended in."""
    image, grey = _squash(content, side)
    keep = (
        "hair",
        "style",
        "volume",
        "hairline",
        "parting",
        "wave",
        "glasses",
        "chin",
        "jaw",
        "taper",
    )
    swapped, box = _recast(scene, who, keep), face_box(scene, margin=0.1)
    window, size, crop = _window(box, side)
    small = clean(render(swapped, (side // 4, side // 4), crop))
    face = match_colours(
        cv2.resize(small, size, interpolation=cv2.INTER_LINEAR), image[window], grey
    )
    y, x = np.mgrid[-1 : 1 : size[1] * 1j, -1 : 1 : size[0] * 1j].astype(np.float32)
    feather = np.clip((0.92 - np.sqrt(x**2 + y**2)) / 0.2, 0, 1)[..., None]
    image = image.copy()
    image[window] = np.uint8(np.round(image[window] + feather * (face - image[window])))
    return image, swapped, {"altered": box, "grey": grey}


def _make_forgeries(
    job: tuple[_Portrait, bytes, _Portrait, bytes, int],
) -> tuple[dict[str, bytes], list[dict]]:
    """The three fakes that share a photograph's name; `other` is the photograph its swap is set into."""
    portrait, content, other, other_content, side = job
    codec, rng = codecs(portrait.seed)[0], generator_for(portrait.seed, "forgeries", portrait.index)
    source, person = f"wiki/wiki/{portrait.path}", f"w{portrait.index}"
    made = {"inpainting": _inpaint(_portrait_scene(portrait, side)[0], content, codec, side, rng)}
    # text2img: nothing of the photograph but the name, hence the gender
    scene = draw_scene(
        rng, draw_identity(rng, portrait.gender, int(rng.integers(20, 70))), side, side
    )
    imagined = codec.decode(codec.encode(clean(render(scene, (side, side)))), rng)
    made["text2img"] = imagined, scene, {"altered": (0, 0, 1, 1)}
    made["insight"] = _swap(
        _portrait_scene(other, side)[0], other_content, _identity(portrait), side
    )
    identities = {
        "inpainting": f"{person} inpainted",
        "text2img": f"{person} imagined",
        "insight": person,
    }
    backgrounds = {"inpainting": source, "text2img": "", "insight": f"wiki/wiki/{other.path}"}
    facts = [
        _facts(f"{name}/{name}/{portrait.path}", "fake", name, identities[name], portrait.gender, scene,
               photograph=source, background=backgrounds[name], **more)
        for name, (_, scene, more) in made.items()
    ]  # fmt: skip
    return {name: jpeg(image) for name, (image, *_) in made.items()}, facts


def _make_gan(job: tuple[int, int, int, str]) -> tuple[bytes, bytes, list[dict]]:
    """A real and a fake of the 140k set: both reduced to half of `square_size`, both JPEG quality 75."""
    seed, index, square_size, split = job
    half, files, facts = square_size // 2, [], []
    for label in ("real", "fake"):
        rng = generator_for(seed, "gan140k", label, index)
        gender = str(rng.choice(("male", "female")))
        scene = draw_scene(
            rng,
            draw_identity(rng, gender, int(rng.integers(18, 75))),
            square_size,
            square_size,
            "ffhq",
        )
        light = render(scene, (square_size, square_size))
        if label == "real":
            image = photograph(
                light,
                draw_camera(generator_for(seed, "camera ffhq", int(rng.integers(60))), "ffhq"),
                rng,
            )
        else:
            image = codecs(seed)[1].synthesise(clean(light), rng)
        files.append(jpeg(resize(image, half, half, Image.Resampling.LANCZOS)))
        path = (
            f"gan140k/real_vs_fake/real-vs-fake/{split}/{label}/{_gan_name(seed, index, label)}.jpg"
        )
        altered = {"altered": (0, 0, 1, 1)} if label == "fake" else {}
        facts.append(
            _facts(
                path,
                label,
                "real" if label == "real" else "gan140k",
                f"{label[0]}{index}",
                gender,
                scene,
                **altered,
            )
        )
    return files[0], files[1], facts


def _gan_name(seed: int, index: int, label: str) -> str:
    if label == "real":
        return f"{index:05d}"
    letters = generator_for(seed, "gan name", index).choice(
        list("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"), 6
    )
    return "".join(letters) + f"{index:04d}"


def _make_celeba(job: tuple[int, int]) -> tuple[bytes, dict, dict]:
    """One aligned face of 178 x 218; two or three pictures show the same person."""
    seed, index = job
    rng, person = (
        generator_for(seed, "celeba", index),
        generator_for(seed, "celeba person", index // 3),
    )
    gender = str(person.choice(("male", "female")))
    who = draw_identity(person, gender, int(person.integers(18, 70)))
    scene = draw_scene(rng, who, 178, 218, "celeba")
    camera = draw_camera(generator_for(seed, "camera press", int(rng.integers(30))), "press")
    image = photograph(render(scene, (178, 218)), camera, rng)
    facts = _facts(
        f"celeba/img_align_celeba/img_align_celeba/{index + 1:06d}.jpg",
        "real",
        "real",
        f"c{index // 3}",
        gender,
        scene,
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
    return (
        jpeg(image, quality=90),
        facts,
        {name: 1 if known.get(name) else -1 for name in _CELEBA_ATTRIBUTES},
    )


# -------------------------------------------------------------------------------------------------- archives


def _plan(seed: int, count: int) -> list[_Portrait]:
    """Names, genders, ages, damages and who is swapped into whose photograph.

    Assumption: the background of a swap comes from the same folder and gender where there is one (files were
    processed folder by folder), so the groups that swaps tie together stay small.
    """
    rng = generator_for(seed, "plan")
    num_folders = int(np.clip(count // 6, 1, 100))
    folders = np.sort(rng.choice(100, num_folders, replace=False))
    portraits = []
    for index in range(count):
        born = datetime.date(
            int(rng.integers(1930, 1986)), int(rng.integers(1, 13)), int(rng.integers(1, 29))
        )
        year = born.year + int(rng.integers(18, min(75, 2015 - born.year)))
        number = (index // num_folders + 1 + int(rng.integers(1, 9)) * 10000) * 100 + int(
            folders[index % num_folders]
        )
        path = f"{number % 100:02d}/{number}_{born.isoformat()}_{year}.jpg"
        gender = "male" if rng.random() < 0.55 else "female"
        portraits.append(_Portrait(seed, index, path, gender, born, year))
    damaged = rng.permutation(count)[: min(3 + count // 300, count // 4)]
    for position, index in enumerate(damaged):
        portraits[index] = replace(
            portraits[index], damage=("truncated", "empty", "not an image")[position % 3]
        )
    for index, portrait in enumerate(portraits):
        sound = [p for p in portraits if not p.damage and p.index != index] or [portrait]
        same = [p for p in sound if p.gender == portrait.gender] or sound
        near = [p for p in same if p.path[:2] == portrait.path[:2]] or same
        portraits[index] = replace(portrait, background=near[int(rng.integers(len(near)))].index)
    return portraits


def _damaged(content: bytes, damage: str) -> bytes:
    """A file as it is found in the wild."""
    page = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>\n"
    return {"truncated": content[: len(content) // 2], "empty": b"", "not an image": page}.get(
        damage, content
    )


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
        info.size, info.mtime = (
            len(content),
            int(datetime.datetime(*_EPOCH, tzinfo=datetime.timezone.utc).timestamp()),
        )
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
    warnings.filterwarnings(
        "ignore", category=UserWarning, module=r"PIL\."
    )  # some photographs have damaged EXIF data


@contextlib.contextmanager
def _pool(num_workers: int) -> Iterator[Callable]:
    """A lazy, ordered map over fresh processes of one thread each.

    Processes are spawned, since a fork of a process that runs TensorFlow or JAX can hang.
    """
    limits = {
        name: os.environ.get(name)
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    }
    os.environ.update(dict.fromkeys(limits, "1"))  # read by the workers when they load NumPy
    try:
        pool = multiprocessing.get_context("spawn").Pool(num_workers, _start_worker)
    finally:
        for name, value in limits.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    with pool:
        yield pool.imap


def _recipe(simulation: Simulation, square_size: int, seed: int) -> dict:
    sources = [Path(__file__), Path(generators.__file__), Path(portraits.__file__)]
    code = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    return {**asdict(simulation), "square_size": square_size, "seed": seed, "code": code}


def _reusable(folder: Path, recipe: dict) -> bool:
    """Whether the folder holds what this recipe makes, complete."""
    try:
        saved = json.loads((folder / "archives.json").read_text())
        return saved["recipe"] == recipe and all(
            (folder / facts["file"]).stat().st_size == facts["bytes"]
            for facts in saved["files"].values()
        )
    except (OSError, ValueError, KeyError):
        return False


def make_archives(
    folder: Path,
    simulation: Simulation,
    *,
    square_size: int = 256,
    seed: int = 0,
    num_workers: int = 2,
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
        raise ValueError(
            f"square_size must be a multiple of 16, at least 64; received {square_size}."
        )
    if (
        min(simulation.num_photographs, simulation.num_gan, simulation.num_celeba) < 1
        or num_workers < 1
    ):
        raise ValueError(
            f"Counts must be at least 1; received {simulation} and num_workers={num_workers}."
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    recipe = _recipe(simulation, square_size, seed)
    paths = {name: folder / file for name, file in ARCHIVES.items()}
    if _reusable(folder, recipe):
        return paths
    (folder / "archives.json").unlink(missing_ok=True)
    parts = {name: path.with_name(path.name + ".part") for name, path in paths.items()}
    with contextlib.ExitStack() as stack:
        archives = {
            name: (_Tar if name == "wiki_crop" else _Zip)(part) for name, part in parts.items()
        }
        for archive in archives.values():
            stack.callback(archive.close)
        facts = _fill(archives, simulation, square_size, seed, num_workers)
    parts["truth"], paths_and_truth = (
        folder / "truth.parquet.part",
        {**paths, "truth": folder / "truth.parquet"},
    )
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
    splits = [
        "train" if i < bounds[0] else "valid" if i < bounds[1] else "test" for i in range(num_gan)
    ]
    total = 2 * len(portraits) + num_gan + simulation.num_celeba
    with (
        _pool(num_workers) as spread,
        progress(None, "Drawing simulated pictures", total, "picture") as bar,
    ):
        for portrait, (content, crop, fact, row) in zip(
            portraits, spread(_make_photograph, [(p, square_size) for p in portraits], 4)
        ):
            archives["wiki"].add(f"wiki/{portrait.path}", _damaged(content, portrait.damage))
            archives["wiki_crop"].add(f"wiki_crop/{portrait.path}", crop)
            contents.append(content)
            facts += [fact, fact | {"path": f"wiki_crop/wiki_crop/{portrait.path}", "damage": ""}]
            rows.append(row)
            bar.update()
        archives["wiki_crop"].add("wiki_crop/wiki.mat", _wiki_mat(rows))

        jobs = (
            (p, contents[p.index], portraits[p.background], contents[p.background], square_size)
            for p in portraits
        )
        for portrait, (files, fact) in zip(portraits, spread(_make_forgeries, jobs, 4)):
            for name, content in files.items():
                archives[name].add(f"{name}/{portrait.path}", content)
            facts += fact
            bar.update()

        tables = {split: [] for split in ("train", "valid", "test")}
        for real, fake, fact in spread(
            _make_gan, [(seed, i, square_size, split) for i, split in enumerate(splits)], 4
        ):
            for row, content in zip(fact, (real, fake)):
                archives["gan140k"].add(row["path"].removeprefix("gan140k/"), content)
                split, label, file = row["path"].split("/")[-3:]
                source = "real_vs_fake/resized" if label == "real" else "fake"
                tables[split].append([f"/kaggle/input/{source}/{file}", file[:-4], int(label == "real"), label,
                                      f"{split}/{label}/{file}"])  # fmt: skip
            facts += fact
            bar.update()
        for split, table in tables.items():
            header = ["", "original_path", "id", "label", "label_str", "path"]
            archives["gan140k"].add(
                f"{split}.csv", _table(header, [[n, *row] for n, row in enumerate(table)])
            )

        partition, attributes, points = [], [], []
        for index, (content, fact, known) in enumerate(
            spread(_make_celeba, [(seed, i) for i in range(simulation.num_celeba)], 4)
        ):
            file = fact["path"].rsplit("/", 1)[1]
            archives["celeba"].add(fact["path"].removeprefix("celeba/"), content)
            place = index / simulation.num_celeba
            partition.append([file, 0 if place < 0.8 else 1 if place < 0.9 else 2])
            attributes.append([file, *known.values()])
            points.append(
                [
                    file,
                    *(
                        round(fact[f"{p}_{axis}"] * side)
                        for p in POINTS
                        for axis, side in _CELEBA_AXES
                    ),
                ]
            )
            facts.append(fact)
            bar.update()
        archives["celeba"].add(
            "list_eval_partition.csv", _table(["image_id", "partition"], partition)
        )
        archives["celeba"].add(
            "list_attr_celeba.csv", _table(["image_id", *_CELEBA_ATTRIBUTES], attributes)
        )
        archives["celeba"].add(
            "list_landmarks_align_celeba.csv", _table(["image_id", *_CELEBA_POINTS], points)
        )
    return facts


def truth(folder: Path) -> pd.DataFrame:
    """What was drawn: one row per picture of the archives in `folder`.

    Columns: `path` (relative to the folder of extracted datasets), `label`, `generator`, `identity`, `gender`; the
    face box `left, top, right, bottom`; five landmarks `left_eye_x` ... `mouth_right_y`; the altered region
    `altered_left` ... (NaN for reals); `photograph` and `background` (paths of the sources); `damage` (`""`,
    `"truncated"`, `"empty"` or `"not an image"`), `orientation` (EXIF) and `grey`. Boxes and points are fractions of
    the stored picture.
    """
    file = Path(folder) / "truth.parquet"
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} does not exist; make_archives({str(folder)!r}, ...) writes it."
        )
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
