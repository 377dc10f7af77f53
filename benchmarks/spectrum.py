"""Recording spectra: the study's loop beside ours, from the same JPEG files of 512x512 pixels.

    python -m benchmarks.spectrum [number of pictures]

The study takes one picture at a time: grey levels, a complex transform in double precision, the
zero frequency to the centre, 20 ln(|F| + 1e-8), a PNG through matplotlib. Ours is `prepare`, as
notebook 4 calls it, in two threads: at the study's 512x512, then also resized to 224x224, which the
study does when it reads its PNGs. They take turns; the best of each counts, and the slowest is
shown. On a machine that others use compare the CPU time. About a minute on two CPU cores.
"""

import sys
import tempfile
from pathlib import Path

import cv2
import matplotlib
import numpy as np

from benchmarks import timed
from src.pictures.spectrum import magnitude_spectrum, to_uint8
from src.pictures.store import prepare

matplotlib.use("agg")
NUM_TURNS, NUM_STUDY, SIDE = 6, 30, 512
PLANS = {"ours, 512x512": ("spectrum", "resize:512"), "ours, 224x224": ("spectrum", "resize:224")}


def make_pictures(folder: Path, num_pictures: int) -> list[Path]:
    """Noise made smooth, as JPEG files of quality 75."""
    random = np.random.default_rng(0)
    files = [folder / f"{index:04d}.jpg" for index in range(num_pictures)]
    for file in files:
        noise = random.integers(0, 256, (SIDE, SIDE, 3), dtype="uint8")
        cv2.imwrite(str(file), cv2.GaussianBlur(noise, (9, 9), 2), [cv2.IMWRITE_JPEG_QUALITY, 75])
    return files


def study(files: list[Path]) -> None:
    """The study's way."""
    for file in files:
        grey = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2GRAY)
        spectrum = 20 * np.log(np.abs(np.fft.fftshift(np.fft.fft2(grey))) + 1e-8)
        matplotlib.image.imsave(file.with_suffix(".png"), spectrum, cmap="gray")


def main() -> None:
    num_pictures = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        files = make_pictures(folder, num_pictures)
        some = files[: min(NUM_STUDY, num_pictures)]
        study(files[:2])  # imports are not part of the comparison
        prepare(files[:2], PLANS["ours, 224x224"], folder / "warm")
        taken, size = {name: [] for name in ("study's loop", *PLANS)}, {}
        for turn in range(NUM_TURNS):
            taken["study's loop"].append(np.divide(timed(study, some)[1:], len(some)))
            for name, steps in PLANS.items():
                store, *seconds = timed(prepare, files, steps, folder / str(turn))
                taken[name].append(np.divide(seconds, num_pictures))
                size[name] = store.pixels[0].nbytes
        size["study's loop"] = np.mean([file.with_suffix(".png").stat().st_size for file in some])
        # The study rounds the grey levels first; given the same levels, the two must agree.
        written = cv2.imread(str(files[0].with_suffix(".png")), cv2.IMREAD_GRAYSCALE)
        grey = cv2.cvtColor(cv2.imread(str(files[0])), cv2.COLOR_BGR2GRAY)
        difference = np.abs(written.astype(int) - to_uint8(magnitude_spectrum(grey)))
    (base, base_processor), base_size = np.min(taken["study's loop"], axis=0), size["study's loop"]
    print(f"{num_pictures} JPEG files of {SIDE}x{SIDE}")
    print("               pictures/s (slowest)   ratio  CPU ms  ratio   kB each  ratio")
    for name in taken:
        wall, processor = np.transpose(taken[name])
        rates = f"{1 / wall.min():8.1f} ({1 / wall.max():5.1f})  {base / wall.min():9.1f}"
        cpu = f"{1000 * processor.min():6.2f}  {base_processor / processor.min():5.1f}"
        print(f"{name:14} {rates}  {cpu}  {size[name] / 1000:8.1f}  {base_size / size[name]:5.1f}")
    print(f"largest difference on the same grey levels: {difference.max()} of 255")


if __name__ == "__main__":
    main()
