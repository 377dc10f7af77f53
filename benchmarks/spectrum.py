"""Spectra per second: the study's loop against ours, on the same pictures, in the same run.

The study computed one picture at a time: a complex transform in double precision, then a PNG through matplotlib.
Ours decodes the JPEG and computes the real transform in two threads, and keeps the 8-bit spectrum in an array. Both
start from the same JPEG files of 512x512 pixels, which are noise made smooth: the time does not depend on the content.

Run: python benchmarks/spectrum.py [number of pictures]
"""

import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from src.spectra import magnitude_spectrum, to_uint8

NUM_THREADS = 2


def make_pictures(folder: Path, num_pictures: int, side: int = 512) -> list[Path]:
    """JPEG files of quality 75."""
    random = np.random.default_rng(0)
    files = [folder / f"{index:04d}.jpg" for index in range(num_pictures)]
    for file in files:
        noise = random.integers(0, 256, (side, side, 3), dtype="uint8")
        cv2.imwrite(str(file), cv2.GaussianBlur(noise, (9, 9), 2), [cv2.IMWRITE_JPEG_QUALITY, 75])
    return files


def study(file: Path) -> None:
    """The study's way: read, grey levels, complex transform, a grey PNG through matplotlib."""
    grey = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2GRAY)
    spectrum = np.fft.fftshift(np.fft.fft2(grey.astype(np.complex128)))
    plt.imsave(file.with_suffix(".png"), 20 * np.log(np.abs(spectrum) + 1e-8), cmap="gray")


def ours(file: Path) -> np.ndarray:
    """Read, real transform, 8-bit array."""
    return to_uint8(magnitude_spectrum(cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)))


def main() -> None:
    num_pictures = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        files = make_pictures(Path(folder), num_pictures)
        study(files[0]), ours(files[0])  # imports and FFT plans are not part of the comparison
        start = time.perf_counter()
        for file in files:
            study(file)
        study_rate = num_pictures / (time.perf_counter() - start)
        our_rates = {}
        for num_threads in (1, NUM_THREADS):
            start = time.perf_counter()
            with ThreadPoolExecutor(num_threads) as pool:
                list(pool.map(ours, files))
            our_rates[num_threads] = num_pictures / (time.perf_counter() - start)
        # The study rounds the grey levels first; given the same levels, the two must agree.
        written = cv2.imread(str(files[0].with_suffix(".png")), cv2.IMREAD_GRAYSCALE)
        grey = cv2.cvtColor(cv2.imread(str(files[0])), cv2.COLOR_BGR2GRAY)
        difference = np.abs(written.astype(int) - to_uint8(magnitude_spectrum(grey)))
    print(f"{num_pictures} pictures of 512x512, {os.cpu_count()} cores")
    print(f"study's loop         {study_rate:7.1f} pictures/s")
    for num_threads, rate in our_rates.items():
        print(f"ours, {num_threads} thread(s)    {rate:7.1f} pictures/s: {rate / study_rate:.1f} times as fast")
    print(f"largest difference on the same grey levels: {difference.max()} of 255")


if __name__ == "__main__":
    main()
