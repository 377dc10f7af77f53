"""How fast pictures are prepared and batched, beside what a user would pick, and the bare limits.

Preparing: `prepare` beside Pillow in two threads, into memory, nothing checked and nothing kept;
alone, and while another process keeps every core busy. Batches: 64 random pictures at 224 pixels
from the store, beside Keras' loaders and tf.data, which decode the files again in every epoch, and
beside a copy from memory.
"""

import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from benchmarks import draw_files, is_quick, race, record, second_process, timed
from src.pictures import store
from src.pictures.batches import Batches
from src.pictures.steps import protocol_steps, run

SIZE, BATCH_SIZE = 224, 64
STEPS = (*protocol_steps("report", num_jpeg=2, square_size=512), f"resize:{SIZE}")


def bare_loop(files: list[Path]) -> np.ndarray:
    """Pillow in two threads."""

    def one(file: Path) -> np.ndarray:
        with Image.open(file) as image:
            return np.asarray(run(image.convert("RGB"), STEPS, None))

    with ThreadPoolExecutor(2) as pool:
        return np.stack(list(pool.map(one, files)))


def preparing(folder: Path, files: list[Path]) -> np.ndarray:
    """Both ways, idle and under load; returns the store's pixels."""
    turn, prepared = count(), []

    def ours() -> int:
        prepared[:] = [store.prepare(files, STEPS, folder / f"store {next(turn)}")]
        return len(files)

    ways = {"ours": ours, "decode + resize alone": lambda: len(bare_loop(files))}
    race("preparing the store", "images", ways, {"decode + resize alone": 0.85})
    with second_process():
        race("preparing, a busy machine", "images", ways, {"decode + resize alone": 0.85})
    assert np.array_equal(prepared[0].pixels, bare_loop(files)), "the store differs from the loop"
    again = [timed(store.prepare, files, STEPS, folder / "store 0")[1] for _ in range(5)]
    record("opening a finished store", "ours", "s", again)
    return prepared[0].pixels


def batching(folder: Path, pixels: np.ndarray) -> None:
    """Random batches, by everybody's way."""
    rows = np.tile(np.arange(len(pixels)), max(6400 // len(pixels), 1))
    batches = Batches(pixels, np.zeros(len(pixels)), rows, batch_size=BATCH_SIZE)
    memory = np.array(pixels)
    options = {"batch_size": BATCH_SIZE, "shuffle": True}
    dataset = keras.utils.image_dataset_from_directory(
        folder, image_size=(SIZE, SIZE), verbose=0, **options
    )
    generator = tf.keras.preprocessing.image.ImageDataGenerator()
    flow = generator.flow_from_directory(folder, target_size=(SIZE, SIZE), **options)

    def decode(name):
        image = tf.io.decode_jpeg(tf.io.read_file(name), channels=3)
        return tf.cast(tf.image.resize(image, (SIZE, SIZE)), tf.uint8)

    names = tf.data.Dataset.list_files(str(folder / "*" / "*.jpg"))
    plain = names.map(decode, num_parallel_calls=2).batch(BATCH_SIZE).prefetch(2)

    def ours() -> int:
        return sum(len(batches[index][0]) for index in range(len(batches)))

    def copies() -> int:
        places = np.random.default_rng(0).permutation(rows)
        parts = [places[start : start + BATCH_SIZE] for start in range(0, len(rows), BATCH_SIZE)]
        return sum(len(memory[part]) for part in parts)

    ways = {
        "ours": ours,
        "ImageDataGenerator": lambda: sum(len(flow[index][0]) for index in range(len(flow))),
        "image_dataset_from_directory": lambda: sum(len(images) for images, _ in dataset),
        "tf.data, decode_jpeg": lambda: sum(len(images) for images in plain),
        "a copy from memory": copies,
    }
    goals = {"ImageDataGenerator": 20, "image_dataset_from_directory": 10}
    claim = "random batches of 64 at 224 px"
    rates = race(claim, "images", ways, goals)
    record(claim, "ours, images/s", "images/s", rates["ours"], at_least=10_000)


def main() -> None:
    quick = is_quick(__doc__)
    warnings.filterwarnings("ignore")
    store.NUM_THREADS = 2  # as the bare loop
    with tempfile.TemporaryDirectory() as scratch:
        files = draw_files(Path(scratch, "drawn"), 8 if quick else 500)
        batching(Path(scratch, "drawn"), preparing(Path(scratch), files))


if __name__ == "__main__":
    main()
