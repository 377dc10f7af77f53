"""The photograph behind every face-swap: recall, precision, and seconds at DeepFakeFace's size.

    python -m benchmarks.swap_ties [number of thumbnails]

First 300 photographs of many sizes are drawn, squashed, saved at quality 75, given another's face
(an ellipse of 5 to 25 % of the picture, off the middle) and saved again; a fifth of the photographs
is then withheld. Then 30,000 swaps are compared with 30,000 photographs, as thumbnails of noise:
the time does not depend on the content. So are the hashes.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from benchmarks import peak, timed
from src.data.ties import GRID, find_swap_ties, match_backgrounds
from src.evaluation.leaks import near_duplicates
from src.pictures.decoding import read
from src.pictures.steps import run

NUM_DRAWN, NUM_DELIVERED, SIDE = 300, 240, 512


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
    swaps = [folder / f"swap{index:03d}.jpg" for index in range(NUM_DRAWN)]
    for file in photographs:
        draw_photograph(random).save(file, quality=int(random.integers(60, 96)))
    behind = random.permutation(NUM_DRAWN)
    for index, file in enumerate(swaps):
        picture = run(read(photographs[behind[index]]), (f"squash:{SIDE}", "jpeg:75"), None)
        face, mask = read(photographs[index]).resize((SIDE, SIDE)), Image.new("L", (SIDE, SIDE))
        radius = SIDE * np.sqrt(random.uniform(0.05, 0.25) / np.pi)
        x, y = SIDE / 2 + random.uniform(-100, 100, 2)
        wide, high = 0.85 * radius, radius / 0.85
        ImageDraw.Draw(mask).ellipse((x - wide, y - high, x + wide, y + high), 255)
        picture.paste(face, (0, 0), mask)
        picture.save(file, quality=75)
    return swaps, photographs, behind


def main() -> None:
    num_thumbnails = int(sys.argv[1]) if len(sys.argv) > 1 else 30_000
    with tempfile.TemporaryDirectory() as folder:
        swaps, photographs, behind = draw_files(Path(folder))
        paths = [file.name for file in photographs[:NUM_DELIVERED] + swaps]
        records = pd.DataFrame({"path": paths, "generator": "real", "dataset": "wiki"})
        records.loc[NUM_DELIVERED:, ["generator", "dataset"]] = "insight"
        ties, seconds, _ = timed(find_swap_ties, records, Path(folder))
    found = ties.set_index("path")["background"].reindex([file.name for file in swaps])
    right = found.to_numpy() == [photographs[index].name for index in behind]
    recall, precision = right[behind < NUM_DELIVERED].mean(), right[found.notna()].mean()
    print(f"{seconds:7.2f} s  {NUM_DRAWN} drawn swaps against {NUM_DELIVERED} drawn photographs")
    print(f"           recall {recall:.4f}, precision {precision:.4f}")

    random, shape = np.random.default_rng(0), (2, num_thumbnails, GRID, GRID)
    seconds = timed(match_backgrounds, *random.integers(0, 256, shape, dtype=np.uint8))[1]
    print(f"{seconds:7.2f} s  {num_thumbnails} thumbnails against as many; {peak():.2f} GiB")
    hashes, others = random.integers(0, 2**64, (2, num_thumbnails), dtype=np.uint64)
    seconds = timed(near_duplicates, hashes, others)[1]
    print(f"{seconds:7.2f} s  near-duplicates of {num_thumbnails} hashes")


if __name__ == "__main__":
    main()
