"""The photograph behind every face-swap: recall, precision, and seconds at DeepFakeFace's size.

First 300 photographs of many sizes are drawn, squashed, saved at quality 75, given another's face
(an ellipse of 5 to 25 % of the picture, off the middle) and saved again; a fifth of the photographs
is then withheld. Then 30,000 swaps are compared with 30,000 photographs, as thumbnails of noise:
the time does not depend on the content. So are the hashes.
Run: python benchmarks/swap_ties.py [number of thumbnails]
"""

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from src.data.ties import GRID, find_swap_ties, match_backgrounds
from src.evaluation.leaks import near_duplicates

NUM_DRAWN, SIDE = 300, 512


def draw_photograph(random: np.random.Generator) -> Image.Image:
    """Large shapes and fine ones, 300 to 1,200 pixels a side."""
    size = tuple(random.integers(300, 1200, 2).tolist())
    picture = Image.new("RGB", size, (128, 128, 128))
    for cells, weight in ((4, 0.8), (20, 0.35), (90, 0.15)):
        noise = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        picture = Image.blend(picture, noise.resize(size, Image.Resampling.BICUBIC), weight)
    return picture


def draw_files(folder: Path) -> tuple[list[Path], list[Path], np.ndarray]:
    """Swaps, photographs, and which photograph lies behind each swap."""
    random = np.random.default_rng(0)
    photographs = [folder / f"photograph{index:03d}.jpg" for index in range(NUM_DRAWN)]
    for file in photographs:
        draw_photograph(random).save(file, quality=int(random.integers(60, 96)))
    swaps = [folder / f"swap{index:03d}.jpg" for index in range(NUM_DRAWN)]
    behind = random.permutation(NUM_DRAWN)
    for index, file in enumerate(swaps):
        Image.open(photographs[behind[index]]).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(
            file, quality=75
        )
        picture, face = (
            Image.open(file).convert("RGB"),
            Image.open(photographs[index]).resize((SIDE, SIDE)),
        )
        radius = SIDE * np.sqrt(random.uniform(0.05, 0.25) / np.pi)
        x, y = SIDE / 2 + random.uniform(-100, 100, 2)
        mask = Image.new("L", picture.size)
        ImageDraw.Draw(mask).ellipse(
            (x - 0.85 * radius, y - radius / 0.85, x + 0.85 * radius, y + radius / 0.85), 255
        )
        picture.paste(face, (0, 0), mask)
        picture.save(file, quality=75)
    return swaps, photographs, behind


def main() -> None:
    num_thumbnails = int(sys.argv[1]) if len(sys.argv) > 1 else 30_000
    print(f"{os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        swaps, photographs, behind = draw_files(Path(folder))
        delivered = NUM_DRAWN * 4 // 5
        start = time.perf_counter()
        paths = [file.name for file in photographs[:delivered] + swaps]
        records = pd.DataFrame({"path": paths, "generator": "real", "dataset": "wiki"})
        records.loc[delivered:, ["generator", "dataset"]] = "insight"
        ties = find_swap_ties(records, Path(folder)).set_index("path")["background"]
        seconds = time.perf_counter() - start
    found = [ties.get(file.name) for file in swaps]
    tied = np.array([name is not None for name in found])
    right = np.array([name == photographs[truth].name for name, truth in zip(found, behind)])
    print(f"{seconds:7.2f} s  {NUM_DRAWN} drawn swaps against {delivered} drawn photographs")
    recall, precision = right[behind < delivered].mean(), right[tied].mean()
    print(f"           recall {recall:.4f}, precision {precision:.4f}")

    random, shape = np.random.default_rng(0), (num_thumbnails, GRID, GRID)
    swaps, photographs = (random.integers(0, 256, shape, dtype=np.uint8) for _ in range(2))
    start = time.perf_counter()
    match_backgrounds(swaps, photographs)
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{seconds:7.2f} s  {num_thumbnails} thumbnails against as many; {peak / 2**20:.2f} GiB")

    hashes, others = random.integers(0, 2**64, (2, num_thumbnails), dtype=np.uint64)
    start = time.perf_counter()
    near_duplicates(hashes, others)
    print(f"{time.perf_counter() - start:7.2f} s  near-duplicates of {num_thumbnails} hashes")


if __name__ == "__main__":
    main()
