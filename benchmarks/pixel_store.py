"""How fast pictures are prepared and batched, beside the bare loop that they cannot beat.

    python -m benchmarks.pixel_store [FOLDER] [--num 2000] [--size 224] [--protocol report]

FOLDER is any folder of pictures; without one, pictures of 512×512 are drawn. Both use two threads
and take turns, and the best of three counts; on a machine that others use compare the CPU time.
About one minute on two CPU cores.
"""

import argparse
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import timed
from src.pictures import store as pixel_store
from src.pictures.batches import Batches
from src.pictures.steps import protocol_steps, run
from src.pictures.store import prepare


def draw(folder: Path, num_images: int) -> Path:
    """Writes noisy gradients as JPEG files: about as hard to decode as photographs."""
    random, slope = np.random.default_rng(0), np.add.outer(np.arange(512), np.arange(512)) // 5
    folder.mkdir()
    for index in range(num_images):
        pixels = slope[..., None] + random.integers(0, 40, (512, 512, 3)) + index % 20
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        image.save(folder / f"{index}.jpg", quality=75)
    return folder


def bare_loop(files: list[Path], steps: tuple[str, ...]) -> np.ndarray:
    """Pillow in two threads, into memory; nothing checked, nothing kept."""

    def one(file: Path) -> np.ndarray:
        with Image.open(file) as image:
            return np.asarray(run(image.convert("RGB"), steps, None))

    with ThreadPoolExecutor(2) as pool:
        return np.stack(list(pool.map(one, files)))


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--num", type=int, default=2000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--protocol", default="report")
    options = parser.parse_args()
    pixel_store.NUM_THREADS = 2  # as the bare loop
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or draw(Path(scratch, "drawn"), min(options.num, 500))
        kinds = {".jpg", ".jpeg", ".png"}
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in kinds)
        files = files[:: max(len(files) // options.num, 1)][: options.num]
        if not files:
            parser.error(f"{folder} holds no JPEG or PNG files")
        for file in files:  # into the page cache, so that the disk is not what is measured
            file.read_bytes()
        steps = protocol_steps(options.protocol, num_jpeg=2, square_size=512)
        steps += (f"resize:{options.size}",)
        taken = {"bare loop": [], "prepare": []}
        for turn in range(3):
            expected, *seconds = timed(bare_loop, files, steps)
            taken["bare loop"].append(seconds)
            store, *seconds = timed(prepare, files, steps, Path(scratch, str(turn)))
            taken["prepare"].append(seconds)
        assert np.array_equal(store.pixels, expected), "the store differs from the loop"
        print(f"{len(files)} files, {options.protocol}, {options.size}×{options.size}, two threads")
        for name, seconds in taken.items():
            (wall, cpu), base = np.min(seconds, axis=0), np.min(taken["bare loop"], axis=0)[0]
            speed = f"{len(files) / wall:8,.0f} images/s  {base / wall:4.0%}"
            print(f"{name:22}  {speed}  {1000 * cpu / len(files):.2f} CPU ms/image")
        seconds = timed(prepare, files, steps, Path(scratch, "0"))[1]
        print(f"open a finished store   {1000 * seconds:8,.1f} ms")

        # The batches are kept: fresh memory for each, as in training.
        rows = np.tile(np.arange(len(files)), -(-3200 // len(files)))
        batches = Batches(store.pixels, np.zeros(len(files)), rows, batch_size=64)
        seconds = min(timed(lambda: [batches[index] for index in range(50)])[1] for _ in range(3))
        print(f"random batches of 64    {3200 / seconds:8,.0f} images/s, from the page cache")


if __name__ == "__main__":
    main()
