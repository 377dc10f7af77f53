"""From 1,000 to 16,000 pictures: does the time grow in proportion, and does the memory stay?

Preparing, recording spectra, finding ties (a quarter of the pictures are face-swaps, a quarter are
photographs that may lie behind them), scoring, each in a process of its own for every size. R² is
that of a line. Memory is the most that a process allocated: pages of mapped files, which the system
takes back when it needs them, do not count. The files are a few of 256×256, listed again and again:
the disk is not what is measured.
"""

import os
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import draw_files, is_quick, record, timed

WORK = ("preparing", "spectra", "ties", "scoring")


def do(work: str, files: list[Path], folder: Path) -> float | None:
    """One kind of work on all files; returns the seconds of the part that counts, if not of all."""
    from src.data import ties
    from src.pictures.store import prepare

    if work == "ties":
        sources = [("insight", ""), ("real", "wiki"), ("text2img", ""), ("inpainting", "")]
        names = ["generator", "dataset"]
        records = pd.DataFrame((sources * len(files))[: len(files)], columns=names)
        ties.find_swap_ties(records.assign(path=[str(file) for file in files]), folder)
    elif work == "scoring":
        return score(folder, len(files))
    else:
        steps = ("spectrum", "resize:64") if work == "spectra" else ("resize:64",)
        prepare(files, steps, folder / f"{work} {len(files)} {os.getpid()}")  # new: it imports


def score(folder: Path, num_pictures: int) -> float:
    """A small network on a store of noise; returns the seconds."""
    import keras

    from src.detectors.scoring import _SHARD, _predict

    store = folder / "noise.npy"
    image = keras.Input((64, 64, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(8, 3, strides=4, activation="relu")(x)
    x = keras.layers.Dense(1, activation="sigmoid")(keras.layers.GlobalAveragePooling2D()(x))
    model, rows = keras.Model(image, x), np.arange(num_pictures)
    _predict(model, str(store), rows[:64])  # traces
    begin = time.perf_counter()
    for part in np.split(rows, range(_SHARD, num_pictures, _SHARD)):
        _predict(model, str(store), part)
    return time.perf_counter() - begin


def measure(work: str, files: list[Path], folder: Path) -> tuple[float, float]:
    """Seconds, and the most MiB allocated."""
    most, ended = [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            lines = Path("/proc/self/status").read_text().splitlines()
            anonymous = next(line for line in lines if line.startswith("RssAnon"))
            most[0] = max(most[0], int(anonymous.split()[1]) / 1024)

    watcher = threading.Thread(target=watch)
    watcher.start()
    counted, seconds, _ = timed(do, work, files, folder)
    ended.set()
    watcher.join()
    return counted or seconds, most[0]


def main() -> None:
    sizes = [20, 40] if is_quick(__doc__) else [1000, 2000, 4000, 8000, 16_000]
    with tempfile.TemporaryDirectory() as scratch:
        files, folder = draw_files(Path(scratch, "drawn"), 20, 256), Path(scratch)
        shape = (max(sizes), 64, 64, 3)
        np.save(folder / "noise.npy", np.random.default_rng(0).integers(0, 256, shape, "uint8"))
        for work in WORK:
            found = []
            for size in sizes:
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                    process.submit(do, work, files[:2], folder).result()
                    some = (files * (size // len(files) + 1))[:size]
                    found.append(process.submit(measure, work, some, folder).result())
            seconds, memory = np.transpose(found)
            claim = f"growth to {sizes[-1]:,}: {work}"
            r2 = np.corrcoef(sizes, seconds)[0, 1] ** 2
            record(claim, "R² of the time", "", [r2], at_least=0.99)
            record(claim, "ours, images/s", "images/s", np.array(sizes) / seconds)
            growth = memory[-1] / max(memory[0], 1)
            record(claim, "memory, largest / smallest", "", [growth], at_most=1.1)


if __name__ == "__main__":
    main()
