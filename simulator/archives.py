"""Simulated archives for the demo, in the very layout of the real ones. Nobody in them exists.

Names, folders, tables, sizes and compression are those of the real data, so that the same code
fetches, verifies and extracts both. The shortcut of the real data is planted on purpose: every fake
of the first three generators is square, RGB and JPEG quality 75, and no photograph is.
"""

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
from itertools import repeat
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from scipy.io import savemat
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from simulator.drawing import (
    make_celeba,
    make_forgeries,
    make_gan,
    make_photograph,
    make_trace,
    plan,
)

ARCHIVES = {name: f"{name}.zip" for name in ("wiki", "inpainting", "text2img", "insight")}
ARCHIVES |= {
    "wiki_crop": "wiki_crop.tar",
    "gan140k": "gan140k.zip",
    "celeba": "celeba.zip",
    "trace": "trace.zip",
}


NUM_OTHERS = 10**6  # photographs of `trace` are numbered from here on


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
    buffer, is_zip = io.BytesIO(), file.endswith(".zip")
    with zipfile.ZipFile(buffer, "w") if is_zip else tarfile.open(None, "w", buffer) as archive:
        for name, content in members.items():
            if is_zip:
                archive.writestr(zipfile.ZipInfo(name), content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _start_worker() -> None:
    """One thread in each process."""
    cv2.setNumThreads(1)
    threadpool_limits(1)


def _draw(
    counts: tuple[int, int, int, int], side: int, seed: int, num_workers: int
) -> tuple[dict, list]:
    """What the archives hold, by path `<dataset>/<name in the archive>`; rows of the truth."""
    num_photographs, num_gan, num_celeba, num_trace = counts
    files, facts = {}, []
    # A fork of a process that runs TensorFlow can hang.
    spawn, total = multiprocessing.get_context("spawn"), sum(counts) + num_photographs
    look = {"unit": "picture", "file": sys.stdout, "leave": False, "dynamic_ncols": True}
    with (
        ProcessPoolExecutor(num_workers, spawn, _start_worker) as pool,
        tqdm(desc="Drawing simulated pictures", total=total, **look) as bar,
    ):

        def draw(make: Callable, *jobs: Iterable) -> list:
            rows = []
            for made, known, row in pool.map(make, *jobs, chunksize=4):
                files.update(made)
                facts.extend(known)
                rows.append(row)
                bar.update()
            return rows

        portraits = plan(seed, num_photographs, side)
        contents, rows = zip(*draw(make_photograph, portraits))
        files["wiki_crop/wiki_crop/wiki.mat"] = wiki_mat(rows)
        others = [portraits[portrait.background] for portrait in portraits]
        behind = [contents[other.index] for other in others]
        draw(make_forgeries, portraits, contents, others, behind)

        traced = plan(seed, num_trace, side)
        for portrait in traced:  # persons and scenes of their own
            portrait.index, portrait.damage = portrait.index + NUM_OTHERS, ""
        draw(make_trace, traced)

        first, last = round(num_gan * 5 / 7), round(num_gan * 6 / 7)
        splits = ["train"] * first + ["valid"] * (last - first) + ["test"] * (num_gan - last)
        rows = sum(draw(make_gan, repeat(seed), repeat(side), range(num_gan), splits), [])
        for split in ("train", "valid", "test"):
            table = pd.DataFrame(row for row in rows if row["path"].startswith(split))
            files[f"gan140k/{split}.csv"] = table.to_csv().encode()

        table = pd.DataFrame(draw(make_celeba, repeat(seed), range(num_celeba)))
        table = table.set_index("image_id")
        male = table.pop("Male").to_frame()
        positions = np.arange(num_celeba) / num_celeba
        parts = male.assign(partition=np.searchsorted((0.8, 0.9), positions, "right"))
        files["celeba/list_eval_partition.csv"] = parts[["partition"]].to_csv().encode()
        files["celeba/list_attr_celeba.csv"] = male.to_csv().encode()
        files["celeba/list_landmarks_align_celeba.csv"] = table.to_csv().encode()
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
    num_trace: int = 60,
    square_size: int = 256,
    seed: int = 0,
    num_workers: int = 2,
) -> dict[str, Path]:
    """Draws all photographs and forgeries and packs them as the real archives are packed.

    With them come `truth.parquet` (see `truth`) and `archives.json`: each file's bytes and SHA-256,
    and the recipe. If the files of this recipe are complete, nothing is done.

    Args:
        folder: Where the archives go; made if missing.
        num_photographs: Photographs, each of which gets three fakes.
        num_gan: Pictures of each class of `gan140k`, half as large as `square_size`.
        num_celeba: Faces of `celeba`.
        num_trace: Photographs of `trace`, which are in no other archive, each with decodings.
        square_size: Side of the fakes of the first three generators: a multiple of 16, from 64 on.
        seed: The same seed gives the same bytes, however many workers draw.
        num_workers: Processes that draw.

    Returns:
        Dataset name -> archive.

    Raises:
        ValueError: If a size or a count is out of range.
    """
    counts = {"num_photographs": num_photographs, "num_gan": num_gan, "num_celeba": num_celeba}
    counts["num_trace"] = num_trace
    if square_size < 64 or square_size % 16:
        raise ValueError(f"square_size must be 64 or more, in steps of 16; received {square_size}.")
    if min(*counts.values(), num_workers) < 1:
        raise ValueError(f"Counts must be at least 1; received {counts} and {num_workers=}.")
    folder, note = Path(folder), Path(folder) / "archives.json"
    code = b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))
    recipe = {**counts, "square_size": square_size, "seed": seed}
    recipe["code"] = hashlib.sha256(code).hexdigest()
    paths = {name: folder / file for name, file in ARCHIVES.items()}
    if _are_made(folder, recipe):
        return paths
    pictures, facts = _draw(tuple(counts.values()), square_size, seed, num_workers)
    folder.mkdir(parents=True, exist_ok=True)
    note.unlink(missing_ok=True)
    files = {}
    for name, file in {**ARCHIVES, "truth": "truth.parquet"}.items():
        own = [path for path in pictures if path.startswith(f"{name}/")]
        members = {path[len(name) + 1 :]: pictures[path] for path in own}
        content = _pack(file, members) if members else pd.DataFrame(facts).to_parquet(index=False)
        digest = hashlib.sha256(content).hexdigest()
        _write(folder / file, content)
        files[name] = {"file": file, "bytes": len(content), "sha256": digest}
    _write(note, json.dumps({"recipe": recipe, "files": files}, indent=1).encode())
    return paths


def _write(file: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    part = file.with_name(file.name + ".part")
    part.write_bytes(content)
    os.replace(part, file)


def truth(folder: Path) -> pd.DataFrame:
    """What was drawn: a row a picture of the archives in `folder`, without `wiki_crop`.

    Columns: `path` (in the folder of extracted datasets), `label`, `generator`, `gender`; in
    fractions of the stored picture the face box `left, top, right, bottom`, five landmarks
    `left_eye_x` ... `mouth_right_y` and the altered box `altered_left` ... (NaN for reals);
    `background` (photograph that a fake was made in); `damage` (`"truncated"`, `"empty"`, ...).
    """
    file = Path(folder) / "truth.parquet"
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; make_archives writes it.")
    return pd.read_parquet(file)
