"""Simulated archives for the demo, in the layout of the real ones. Nobody in them exists.

Names, folders, tables, sizes and compression are those of the real data, so that the same code
fetches, verifies and extracts both. The shortcut of the real data is copied on purpose: every fake
of the first three generators is square, RGB and JPEG quality 75, and no photograph is.
"""

import hashlib
import io
import json
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from itertools import repeat
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.io import savemat
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from simulator import drawing

_NAMES = "wiki inpainting text2img insight wiki_crop gan140k celeba trace".split()
ARCHIVES = {name: f"{name}.{'tar' if name == 'wiki_crop' else 'zip'}" for name in _NAMES}


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


def _on_one_thread(make: Callable, *job) -> tuple:
    """Runs a job of a worker, on one thread."""
    cv2.setNumThreads(1)
    with threadpool_limits(1):
        return make(*job)


def _draw(counts: dict[str, int], side: int, seed: int, num_workers: int) -> tuple[dict, list]:
    """Files by path `<dataset>/<name in the archive>`, and rows of the truth."""
    num_photographs, num_gan, num_celeba, num_trace = counts.values()
    files, facts, total = {}, [], sum(counts.values()) + num_photographs
    look = {"unit": "picture", "file": sys.stdout, "leave": False, "dynamic_ncols": True}

    def draw(make: Callable, *jobs: Iterable) -> list:
        run, rows = Parallel(num_workers, return_as="generator"), []
        for made, known, row in run(delayed(_on_one_thread)(make, *job) for job in zip(*jobs)):
            files.update(made)
            facts.extend(known)
            rows.append(row)
            bar.update()
        return rows

    with tqdm(desc="Drawing simulated pictures", total=total, **look) as bar:
        portraits = drawing.plan(seed, num_photographs, side)
        contents, rows = zip(*draw(drawing.make_photograph, portraits))
        files["wiki_crop/wiki_crop/wiki.mat"] = wiki_mat(rows)
        others = [portraits[portrait.background] for portrait in portraits]
        behind = [contents[other.index] for other in others]
        draw(drawing.make_forgeries, portraits, contents, others, behind)

        traced = drawing.plan(seed, num_trace, side)
        for portrait in traced:  # persons and scenes of their own
            portrait.index, portrait.damage = portrait.index + 10**6, ""
        draw(drawing.make_trace, traced)

        parts = np.searchsorted((5 / 7, 6 / 7), (np.arange(num_gan) + 0.5) / num_gan)
        splits = np.array(["train", "valid", "test"])[parts].tolist()
        rows = draw(drawing.make_gan, repeat(seed), repeat(side), range(num_gan), splits)
        table = pd.DataFrame(sum(rows, []))
        for split, part in table.groupby(np.repeat(splits, 2)):
            files[f"gan140k/{split}.csv"] = part.reset_index(drop=True).to_csv().encode()

        table = pd.DataFrame(draw(drawing.make_celeba, repeat(seed), range(num_celeba)))
        table = table.set_index("image_id")
        points = table.columns.drop("Male")
        positions = np.arange(num_celeba) / num_celeba
        table["partition"] = np.searchsorted((0.8, 0.9), positions, "right")
        tables = {"eval_partition": ["partition"], "attr_celeba": ["Male"]}
        for name, columns in (tables | {"landmarks_align_celeba": points}).items():
            files[f"celeba/list_{name}.csv"] = table[columns].to_csv().encode()
    return files, facts


def _are_made(folder: Path, recipe: dict) -> bool:
    """Whether the folder holds all files of this recipe, in full size."""
    note = folder / "archives.json"
    saved = json.loads(note.read_text()) if note.is_file() else {"recipe": None, "files": {}}
    sizes = {folder / file["file"]: file["bytes"] for file in saved["files"].values()}
    is_complete = all(file.is_file() and file.stat().st_size == sizes[file] for file in sizes)
    return saved["recipe"] == recipe and is_complete


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

    Also writes `truth.parquet` (see `truth`) and `archives.json`: each file's size and SHA-256, and
    the recipe. If the files of this recipe are complete, nothing is done. The same seed gives
    the same bytes, however many workers draw.

    Args:
        num_photographs: Photographs, each of which gets three fakes.
        num_gan: Pictures of each class of `gan140k`, half as large as `square_size`.
        num_celeba: Aligned faces of 178 x 218.
        num_trace: Photographs of `trace`, which are in no other archive, each with decodings.
        square_size: Side of the fakes of the first three generators: a multiple of 16, from 64 on.

    Returns:
        Dataset name -> archive. Other counts or sizes are a `ValueError`.
    """
    names = "num_photographs", "num_gan", "num_celeba", "num_trace"
    counts = dict(zip(names, (num_photographs, num_gan, num_celeba, num_trace)))
    if square_size < 64 or square_size % 16:
        raise ValueError(f"square_size must be 64 or more, in steps of 16; received {square_size}.")
    if min(*counts.values(), num_workers) < 1:
        raise ValueError(f"Counts must be at least 1; received {counts} and {num_workers=}.")
    code = b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))
    recipe = {**counts, "square_size": square_size, "seed": seed}
    recipe["code"] = hashlib.sha256(code).hexdigest()
    if not _are_made(folder, recipe):
        pictures, facts = _draw(counts, square_size, seed, num_workers)
        folder.mkdir(parents=True, exist_ok=True)
        note, part = folder / "archives.json", folder / "archives.json.part"
        note.unlink(missing_ok=True)
        contents = {"truth": ("truth.parquet", pd.DataFrame(facts).to_parquet(index=False))}
        for name, file in ARCHIVES.items():
            own = [path for path in pictures if path.startswith(f"{name}/")]
            members = {path[len(name) + 1 :]: pictures.pop(path) for path in own}
            contents[name] = file, _pack(file, members)
        files = {}
        for name, (file, content) in contents.items():
            (folder / file).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            files[name] = {"file": file, "bytes": len(content), "sha256": digest}
        part.write_text(json.dumps({"recipe": recipe, "files": files}, indent=1))
        part.replace(note)  # comes last, whole or not at all
    return {name: folder / file for name, file in ARCHIVES.items()}


def truth(folder: Path) -> pd.DataFrame:
    """What was drawn: a row a picture of the archives in `folder`, without `wiki_crop`.

    Columns: `path` (in the folder of extracted datasets), `label`, `generator`, `gender`; in
    fractions of the stored picture the face box `left, top, right, bottom`, five landmarks
    `left_eye_x` ... `mouth_right_y` and the altered box `altered_left` ... (NaN for reals);
    `background` (photograph that a fake was made in); `damage` (`"truncated"`, `"empty"`, ...).
    """
    file = folder / "truth.parquet"
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; make_archives writes it.")
    return pd.read_parquet(file)
