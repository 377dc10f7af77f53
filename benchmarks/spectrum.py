"""Recording spectra: the study's loop against ours, from the same JPEG files of 512x512 pixels, in the same run.

    python benchmarks/spectrum.py [number of pictures]

The study takes one picture at a time: grey levels, a complex transform in double precision, the zero frequency to the
centre, 20 ln(|F| + 1e-8), a PNG through matplotlib. Ours is `prepare`, as notebook 4 calls it: decoding, a real
transform in single precision and the resize to 224x224 in two threads, 8-bit rows of a store on the disk.

The two take turns; the best of each counts, and the range is shown. On a machine that others use compare the CPU time.
Pictures are noise made smooth. About a minute on two CPU cores.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import cv2
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from src.images import prepare
from src.spectra import magnitude_spectrum, to_uint8

NUM_TURNS, NUM_STUDY, SIDE = 6, 30, 512
STEPS = ("spectrum", "resize:224")


def make_pictures(folder: Path, num_pictures: int) -> list[Path]:
    """JPEG files of quality 75."""
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
        spectrum = np.fft.fftshift(np.fft.fft2(grey.astype(np.complex128)))
        plt.imsave(file.with_suffix(".png"), 20 * np.log(np.abs(spectrum) + 1e-8), cmap="gray")


def timed(function, *arguments) -> tuple[float, float]:
    """Seconds, and seconds of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    function(*arguments)
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    num_pictures = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        files = make_pictures(folder, num_pictures)
        some = files[: min(NUM_STUDY, num_pictures)]
        study(files[:2]), prepare(files[:2], STEPS, folder / "warm")  # imports are not part of the comparison
        theirs, ours = [], []
        for turn in range(NUM_TURNS):
            theirs.append(np.divide(timed(study, some), len(some)))
            ours.append(np.divide(timed(prepare, files, STEPS, folder / str(turn)), num_pictures))
        png = np.mean([file.with_suffix(".png").stat().st_size for file in some])
        row = prepare(files, STEPS, folder / "0").pixels[0].nbytes
        jpeg = np.mean([file.stat().st_size for file in files])
        # The study rounds the grey levels first; given the same levels, the two must agree.
        written = cv2.imread(str(files[0].with_suffix(".png")), cv2.IMREAD_GRAYSCALE)
        grey = cv2.cvtColor(cv2.imread(str(files[0])), cv2.COLOR_BGR2GRAY)
        difference = np.abs(written.astype(int) - to_uint8(magnitude_spectrum(grey)))
    print(f"{num_pictures} JPEG files of {SIDE}x{SIDE}, {jpeg / 1000:.0f} kB each; {os.cpu_count()} cores")
    for name, taken, size in (("study's loop", theirs, png), ("prepare, 2 threads", ours, row)):
        wall, processor = np.transpose(taken)
        rates = f"{1 / wall.min():7.1f} pictures/s (from {1 / wall.max():.1f})"
        print(f"{name:18}  {rates}, {1000 * processor.min():6.2f} CPU ms and {size / 1000:.1f} kB a picture")
    (wall, processor), (our_wall, our_processor) = np.min(theirs, axis=0), np.min(ours, axis=0)
    print(f"{wall / our_wall:.1f} times as fast, {processor / our_processor:.1f} times on one core")
    print(f"{png / row:.1f} times smaller on the disk")
    print(f"largest difference on the same grey levels: {difference.max()} of 255")


if __name__ == "__main__":
    main()
