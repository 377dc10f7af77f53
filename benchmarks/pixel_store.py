"""How fast pictures are prepared and batched, beside the bare loops they cannot beat.

    python benchmarks/pixel_store.py [FOLDER] [--num 2000] [--size 224] [--protocol report]

FOLDER is any folder of pictures; without one, pictures of 512×512 are drawn. Two threads
throughout. Every loop runs `--repeats` times, by turns, and the best counts; on a machine that
others use compare the CPU time. About one minute on two CPU cores.
"""

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.pictures import store as pixel_store
from src.pictures.batches import Batches
from src.pictures.decoding import decode
from src.pictures.steps import apply, protocol_steps
from src.pictures.store import prepare


def draw(folder: Path, num_images: int) -> None:
    """Writes noisy gradients as JPEG files: about as hard to decode as photographs."""
    rng = np.random.default_rng(0)
    slope = np.add.outer(np.arange(512), np.arange(512))[..., None] // 5
    for index in range(num_images):
        pixels = (
            (slope + rng.integers(0, 40, (512, 512, 3)) + index % 20).clip(0, 255).astype(np.uint8)
        )
        Image.fromarray(pixels).save(folder / f"{index}.jpg", quality=75)


def bare_loop(files: list[Path], size: int, steps: tuple[str, ...]) -> np.ndarray:
    """Decode and resize in two threads, into memory; nothing checked, nothing kept."""
    pixels = np.empty((len(files), size, size, 3), np.uint8)

    def one(row: int) -> None:
        if steps:
            pixels[row] = apply(decode(files[row]), (*steps, f"resize:{size}"))
        else:
            with Image.open(files[row]) as image:
                pixels[row] = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, range(len(files)), chunksize=16))
    return pixels


def seconds(function, *args) -> float:
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--num", type=int, default=2000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--protocol", default="report")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    pixel_store.NUM_THREADS = 2  # as the bare loop
    with tempfile.TemporaryDirectory() as scratch:
        scratch, folder = Path(scratch), options.folder
        if folder is None:
            folder = scratch / "drawn"
            folder.mkdir()
            draw(folder, min(options.num, 500))
        files = sorted(
            path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"}
        )
        files = files[:: max(len(files) // options.num, 1)][: options.num]
        if not files:
            parser.error(f"{folder} holds no JPEG or PNG files")
        for file in files:  # into the page cache, so that the disk is not what is measured
            file.read_bytes()

        steps = protocol_steps(options.protocol, num_jpeg=2, square_size=512)
        all_steps = (*steps, f"resize:{options.size}")
        loops = {
            "bare loop": lambda repeat: bare_loop(files, options.size, steps),
            "prepare": lambda repeat: prepare(files, all_steps, scratch / str(repeat)),
        }
        wall, cpu = {name: [] for name in loops}, {name: [] for name in loops}
        for repeat in range(options.repeats):
            for name in list(loops)[
                :: 1 if repeat % 2 else -1
            ]:  # by turns first: neither gets the quieter machine
                start = time.process_time()
                wall[name].append(seconds(loops[name], repeat))
                cpu[name].append(time.process_time() - start)
        store = prepare(files, all_steps, scratch / "0")
        assert np.array_equal(store.pixels, bare_loop(files, options.size, steps)), (
            "the store differs from the loop"
        )
        print(f"{len(files)} files, {options.protocol}, {options.size}×{options.size}, two threads")
        for name in loops:
            rate, share = len(files) / min(wall[name]), min(wall["bare loop"]) / min(wall[name])
            print(
                f"{name:22}  {rate:8,.0f} images/s  {share:4.0%}  "
                f"{1000 * min(cpu[name]) / len(files):.2f} CPU ms/image"
            )
        print(
            "open a finished store   "
            f"{1000 * seconds(prepare, files, all_steps, scratch / '0'):8,.1f} ms"
        )

        # The batches are kept: fresh memory for each, as in training; one reused buffer would look
        # far faster.
        rows = np.tile(np.arange(len(files)), -(-3200 // len(files)))
        batches = Batches(store.pixels, np.zeros(len(files)), rows, batch_size=64)
        taken = min(seconds(lambda: [batches[index] for index in range(50)]) for _ in range(3))
        print(f"random batches of 64    {3200 / taken:8,.0f} images/s, the store in the page cache")


if __name__ == "__main__":
    main()
