"""Simulated archives for the demo, in the very layout of the real ones.

Where no data can be downloaded, the study fetches these instead: same names, folders, CSV and Matlab tables, sizes
and compression, so that the same code fetches, verifies and extracts both. Nothing in them is a real person.

The shortcut of the real data is planted on purpose: every fake of the first three generators is
`square_size` x `square_size`, RGB, JPEG quality 75, and no photograph is.
"""

import datetime
import hashlib
import io
import json
import multiprocessing
import os
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
from PIL import Image
from scipy.io import savemat
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from simulator.cameras import clean, decode, draw_camera, jpeg, photograph, resize
from simulator.generators import imagine, inpaint, networks, swap
from simulator.people import (
    Scene,
    draw_identity,
    draw_scene,
    draw_somebody,
    face_box,
    generator_for,
    landmarks,
)
from simulator.portraits import render

ARCHIVES = {
    name: f"{name}.tar" if name == "wiki_crop" else f"{name}.zip"
    for name in ("wiki", "inpainting", "text2img", "insight", "wiki_crop", "gan140k", "celeba")
}
POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")  # left as seen, as in MTCNN
_CELEBA_POINTS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
_ORIENTATIONS = {0: 1, 1: 6, 2: 3, -1: 8}  # EXIF: how to turn the stored picture upright


# ----------------------------------------------------------------------------- pictures and what is known of them
# Each function makes the pictures of one job: `{path: content}`, rows of the truth, a row of the archive's table.


def _plan(seed: int, count: int, side: int) -> list[SimpleNamespace]:
    """Photographs: names, genders, ages, damages and who is swapped into whose photograph.

    Assumption: the background of a swap comes from the same folder and gender where there is one (files were
    processed folder by folder), so the groups that swaps tie together stay small.
    """
    rng = generator_for(seed, "plan")
    num_folders = int(np.clip(count // 6, 1, 100))
    folders = np.sort(rng.choice(100, num_folders, replace=False)).tolist()
    portraits = []
    for index in range(count):
        month_and_day = (1930, 1986), (1, 13), (1, 29)
        born = datetime.date(*(int(rng.integers(*limits)) for limits in month_and_day))
        year = born.year + int(rng.integers(18, min(75, 2015 - born.year)))
        folder = folders[index % num_folders]
        number = (index // num_folders + 1 + int(rng.integers(1, 9)) * 10000) * 100 + folder
        path = f"{folder:02d}/{number}_{born.isoformat()}_{year}.jpg"
        gender = "male" if rng.random() < 0.55 else "female"
        portraits.append(SimpleNamespace(seed=seed, side=side, index=index, folder=folder, path=path,
                                         gender=gender, born=born, year=year, damage=""))  # fmt: skip
    for position, index in enumerate(rng.permutation(count)[: min(3 + count // 300, count // 4)]):
        portraits[index].damage = ("truncated", "empty", "not an image")[position % 3]
    for portrait in portraits:
        near = [p for p in portraits if not p.damage and p is not portrait] or [portrait]
        near = [p for p in near if p.gender == portrait.gender] or near
        near = [p for p in near if p.folder == portrait.folder] or near
        portrait.background = near[int(rng.integers(len(near)))].index
    return portraits


def _scene(portrait: SimpleNamespace) -> tuple[Scene, np.random.Generator]:
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
    scene = draw_scene(rng, _identity(portrait), width, height)
    turn = int(rng.choice((1, -1, 2))) if rng.random() < 0.02 else 0
    return replace(scene, turn=turn), rng


def _identity(portrait: SimpleNamespace) -> SimpleNamespace:
    rng = generator_for(portrait.seed, "identity", portrait.index)
    return draw_identity(rng, portrait.gender, portrait.year - portrait.born.year)


def _fact(path: str, generator: str, gender: str, scene: Scene, altered=None, **more) -> dict:
    """One row of the truth."""
    label = "real" if generator == "real" else "fake"
    row = {"path": path, "label": label, "generator": generator, "gender": gender}
    sides, points = ("left", "top", "right", "bottom"), np.clip(landmarks(scene), 0, 1)
    row |= dict(zip(sides, face_box(scene).tolist()))
    row |= {
        f"{name}_{axis}": points[i, j]
        for i, name in enumerate(POINTS)
        for j, axis in enumerate("xy")
    }
    altered = [np.nan] * 4 if altered is None else altered
    row |= {f"altered_{side}": float(edge) for side, edge in zip(sides, altered)}
    return row | {"background": "", "damage": ""} | more


def _make_photograph(portrait: SimpleNamespace) -> tuple[dict, list, tuple]:
    """The photograph and its crop; then the photograph as it was before any damage, and the row of `wiki.mat`."""
    scene, rng = _scene(portrait)
    # A few dozen cameras took all photographs, as a web collection holds many of a few models.
    camera = draw_camera(generator_for(portrait.seed, "camera", int(rng.integers(40))), "web")
    image = photograph(render(scene, scene.stored_size), camera, rng)
    height, width = image.shape[:2]
    if rng.random() < 0.09:
        image = np.asarray(Image.fromarray(image).convert("L"))
    exif = Image.Exif()
    if scene.turn or rng.random() < 0.4:
        exif[0x010F], exif[0x0112] = "Simulated", _ORIENTATIONS[scene.turn]
    exif = exif.tobytes() if exif else b""
    if rng.random() < 0.01:  # seen among the real ones
        exif = b"Exif\0\0II*\0" + rng.bytes(60)
    options = {name: vars(camera)[name] for name in ("quality", "subsampling", "progressive")}
    content = crop = jpeg(image, exif=exif, **options)

    is_found = rng.random() > 0.03
    box = np.array([0.0, 0.0, width, height])  # where no face was found: the whole picture
    if is_found:  # the crop carries 40 % of the face on every side, edges repeated
        left, top, right, bottom = box = face_box(scene) * (width, height, width, height)
        margin = 0.4 * max(right - left, bottom - top)
        pad = int(margin) + 1
        wide = np.pad(decode(content), ((pad, pad), (pad, pad), (0, 0)), mode="edge")
        rows = slice(int(top - margin) + pad, int(bottom + margin) + pad)
        columns = slice(int(left - margin) + pad, int(right + margin) + pad)
        crop = jpeg(wide[rows, columns], quality=95)
    row = {
        "dob": portrait.born.toordinal() + 366,  # Matlab counts days from year 0
        "photo_taken": portrait.year,
        "full_path": portrait.path,
        "gender": np.nan if rng.random() < 0.03 else float(portrait.gender == "male"),
        "name": f"Simulated Person {portrait.index}",
        "face_location": (box + (1, 1, 0, 0))[None],  # first and last pixel, counted from one
        "face_score": rng.uniform(0.5, 6.0) if is_found else -np.inf,
        "second_face_score": rng.uniform(0.5, 3.0)
        if is_found and len(scene.people) > 1
        else np.nan,
    }
    path, damage = f"wiki/wiki/{portrait.path}", portrait.damage
    page = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>\n"
    as_found = {"truncated": content[: len(content) // 2], "empty": b"", "not an image": page}
    files = {path: as_found.get(damage, content), f"wiki_crop/wiki_crop/{portrait.path}": crop}
    return files, [_fact(path, "real", portrait.gender, scene, damage=damage)], (content, row)


def _make_forgeries(
    portrait: SimpleNamespace, content: bytes, other: SimpleNamespace, behind: bytes
) -> tuple[dict, list, None]:
    """The three fakes that share a photograph's name; `other` is the photograph its swap is set into."""
    side, codec = portrait.side, networks(portrait.seed)[0]
    rng = generator_for(portrait.seed, "forgeries", portrait.index)
    source, background = f"wiki/wiki/{portrait.path}", f"wiki/wiki/{other.path}"
    made = {
        "inpainting": (source, inpaint(_scene(portrait)[0], content, side, codec, rng)),
        "text2img": ("", imagine(portrait.gender, side, codec, rng)),
        "insight": (background, swap(_scene(other)[0], behind, side, _identity(portrait))),
    }
    files, facts = {}, []
    for name, (source, (image, scene, altered)) in made.items():
        path = f"{name}/{name}/{portrait.path}"
        files[path] = jpeg(image)
        facts.append(_fact(path, name, portrait.gender, scene, altered, background=source))
    return files, facts, None


def _make_gan(seed: int, side: int, index: int, split: str) -> tuple[dict, list, list]:
    """A real and a fake of the 140k set: both reduced to half of `side`, both JPEG quality 75."""
    files, facts, rows = {}, [], []
    for label in ("real", "fake"):
        rng, name = generator_for(seed, "gan140k", label, index), f"{index:05d}"
        who = draw_somebody(rng, (18, 75))
        scene = draw_scene(rng, who, side, side, "ffhq")
        light = render(scene, (side, side))
        if label == "real":
            camera = generator_for(seed, "camera ffhq", int(rng.integers(60)))
            image = photograph(light, draw_camera(camera, "ffhq"), rng)
        else:
            image = networks(seed)[1].synthesise(clean(light), rng)
            letters = list("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")
            letters = generator_for(seed, "gan name", index).choice(letters, 6)
            name = "".join(letters) + f"{index:04d}"
        path = f"gan140k/real_vs_fake/real-vs-fake/{split}/{label}/{name}.jpg"
        files[path] = jpeg(resize(image, side // 2, side // 2, Image.Resampling.LANCZOS))
        generator, altered = ("real", None) if label == "real" else ("gan140k", (0, 0, 1, 1))
        facts.append(_fact(path, generator, who.gender, scene, altered))
        source = "real_vs_fake/resized" if label == "real" else "fake"
        rows.append(
            {
                "original_path": f"/kaggle/input/{source}/{name}.jpg",
                "id": name,
                "label": int(label == "real"),
                "label_str": label,
                "path": f"{split}/{label}/{name}.jpg",
            }
        )
    return files, facts, rows


def _make_celeba(seed: int, index: int) -> tuple[dict, list, dict]:
    """One aligned face of 178 x 218; three pictures in a row show the same person."""
    rng = generator_for(seed, "celeba", index)
    who = draw_somebody(generator_for(seed, "celeba person", index // 3), (18, 70))
    scene = draw_scene(rng, who, 178, 218, "celeba")
    camera = draw_camera(generator_for(seed, "camera press", int(rng.integers(30))), "press")
    image = photograph(render(scene, (178, 218)), camera, rng)
    name = f"{index + 1:06d}.jpg"
    path = f"celeba/img_align_celeba/img_align_celeba/{name}"
    fact = _fact(path, "real", who.gender, scene)
    points = {
        f"{column}_{axis}": round(fact[f"{point}_{axis}"] * size)
        for column, point in zip(_CELEBA_POINTS, POINTS)
        for axis, size in (("x", 178), ("y", 218))
    }
    row = {"image_id": name, "Male": 1 if who.gender == "male" else -1, **points}
    return {path: jpeg(image, quality=90)}, [fact], row


# -------------------------------------------------------------------------------------------- archives


def wiki_mat(rows: list[dict]) -> bytes:
    """`wiki.mat`: one struct of row vectors, texts and boxes as cells."""
    table = pd.DataFrame(rows)
    numbers = table.columns.drop(["full_path", "name", "face_location"])
    table = table.astype(dict.fromkeys(numbers, float))
    buffer = io.BytesIO()
    savemat(buffer, {"wiki": {name: table[name].to_numpy()[None] for name in table}})
    header = b"MATLAB 5.0 MAT-file, simulated".ljust(116)  # SciPy writes the time there
    return header + buffer.getvalue()[116:]


def _pack(file: str, members: dict[str, bytes]) -> bytes:
    """A zip (uncompressed) or tar without dates: its bytes depend on its members alone."""
    buffer = io.BytesIO()
    if file.endswith(".zip"):
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name), content)
    else:
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _start_worker() -> None:
    """One thread in each process."""
    cv2.setNumThreads(1)
    threadpool_limits(1)


def _draw(
    seed: int,
    num_photographs: int,
    num_gan: int,
    num_celeba: int,
    square_size: int,
    num_workers: int,
) -> tuple[dict[str, bytes], list[dict]]:
    """Everything that the archives hold, by its path `<dataset>/<name in the archive>`; rows of the truth."""
    files, facts = {}, []
    spawn = multiprocessing.get_context(
        "spawn"
    )  # a fork of a process that runs TensorFlow can hang
    with (
        ProcessPoolExecutor(num_workers, spawn, _start_worker) as pool,
        tqdm(desc="Drawing simulated pictures", total=2 * num_photographs + num_gan + num_celeba,
             unit="picture", file=sys.stdout, leave=False, dynamic_ncols=True) as bar,
    ):  # fmt: skip

        def draw(make: Callable, *jobs: Iterable) -> list:
            rows = []
            for made, known, row in pool.map(make, *jobs, chunksize=4):
                files.update(made)
                facts.extend(known)
                rows.append(row)
                bar.update()
            return rows

        portraits = _plan(seed, num_photographs, square_size)
        contents, rows = zip(*draw(_make_photograph, portraits))
        files["wiki_crop/wiki_crop/wiki.mat"] = wiki_mat(rows)
        others = [portraits[portrait.background] for portrait in portraits]
        behind = [contents[other.index] for other in others]
        draw(_make_forgeries, portraits, contents, others, behind)

        first, last = round(num_gan * 5 / 7), round(num_gan * 6 / 7)
        splits = np.repeat(["train", "valid", "test"], [first, last - first, num_gan - last])
        rows = sum(
            draw(_make_gan, repeat(seed), repeat(square_size), range(num_gan), splits.tolist()), []
        )
        for split in ("train", "valid", "test"):
            table = pd.DataFrame(row for row in rows if row["path"].startswith(split))
            files[f"gan140k/{split}.csv"] = table.to_csv().encode()

        table = pd.DataFrame(draw(_make_celeba, repeat(seed), range(num_celeba)))
        table["partition"] = np.searchsorted(
            (0.8, 0.9), np.arange(num_celeba) / num_celeba, "right"
        )
        table = table.set_index("image_id")
        files["celeba/list_eval_partition.csv"] = table[["partition"]].to_csv().encode()
        files["celeba/list_attr_celeba.csv"] = table[["Male"]].to_csv().encode()
        points = table.drop(columns=["partition", "Male"])
        files["celeba/list_landmarks_align_celeba.csv"] = points.to_csv().encode()
    return files, facts


def _are_made(folder: Path, recipe: dict) -> bool:
    """Whether the folder holds what this recipe makes, complete."""
    try:
        saved = json.loads((folder / "archives.json").read_text())
        sizes = {file["file"]: file["bytes"] for file in saved["files"].values()}
        is_complete = all((folder / file).stat().st_size == sizes[file] for file in sizes)
        return is_complete and saved["recipe"] == recipe
    except (OSError, ValueError, KeyError):
        return False


def make_archives(
    folder: Path,
    *,
    num_photographs: int,
    num_gan: int,
    num_celeba: int,
    square_size: int = 256,
    seed: int = 0,
    num_workers: int = 2,
) -> dict[str, Path]:
    """Draws all photographs and forgeries and packs them as the real archives are packed.

    The seven archives come with `truth.parquet` (see `truth`) and `archives.json`: for each file its bytes and
    SHA-256, and the recipe it was made by. If the recipe is the same and the files are complete, nothing is done.

    Args:
        folder: Where the archives go; made if missing.
        num_photographs: Photographs, each of which gets three fakes.
        num_gan: Pictures of each class of `gan140k`.
        num_celeba: Faces of `celeba`.
        square_size: Side of the fakes of the first three generators, in pixels, a multiple of 16 and at least 64;
            pictures of `gan140k` have half of it.
        seed: The same seed gives the same bytes, however many workers draw.
        num_workers: Processes that draw.

    Returns:
        Dataset name -> archive.

    Raises:
        ValueError: If a size or a count is out of range.
    """
    counts = {"num_photographs": num_photographs, "num_gan": num_gan, "num_celeba": num_celeba}
    if square_size < 64 or square_size % 16:
        raise ValueError(
            f"square_size must be a multiple of 16, at least 64; received {square_size}."
        )
    if min(*counts.values(), num_workers) < 1:
        raise ValueError(f"Counts must be at least 1; received {counts} and {num_workers=}.")
    folder, note = Path(folder), Path(folder) / "archives.json"
    code = b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))
    recipe = {**counts, "square_size": square_size, "seed": seed, "code": _sha256(code)}
    paths = {name: folder / file for name, file in ARCHIVES.items()}
    if _are_made(folder, recipe):
        return paths
    pictures, facts = _draw(seed, **counts, square_size=square_size, num_workers=num_workers)
    folder.mkdir(parents=True, exist_ok=True)
    note.unlink(missing_ok=True)
    files = {}
    for name, file in {**ARCHIVES, "truth": "truth.parquet"}.items():
        members = {
            path[len(name) + 1 :]: pictures[path]
            for path in pictures
            if path.startswith(f"{name}/")
        }
        content = _pack(file, members) if members else pd.DataFrame(facts).to_parquet(index=False)
        _write(folder / file, content)
        files[name] = {"file": file, "bytes": len(content), "sha256": _sha256(content)}
    _write(note, json.dumps({"recipe": recipe, "files": files}, indent=1).encode())
    return paths


def _write(file: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    part = file.with_name(file.name + ".part")
    part.write_bytes(content)
    os.replace(part, file)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def truth(folder: Path) -> pd.DataFrame:
    """What was drawn: one row per picture of the archives in `folder`, but for the crops of `wiki_crop`.

    Columns: `path` (relative to the folder of extracted datasets), `label`, `generator`, `gender`; the face box
    `left, top, right, bottom`; five landmarks `left_eye_x` ... `mouth_right_y`; the altered region `altered_left` ...
    (NaN for reals); `background` (path of the photograph that a fake was made in) and `damage` (`""`, `"truncated"`,
    `"empty"` or `"not an image"`). Boxes and points are fractions of the stored picture.
    """
    file = Path(folder) / "truth.parquet"
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} does not exist; make_archives({str(folder)!r}, ...) writes it."
        )
    return pd.read_parquet(file)
