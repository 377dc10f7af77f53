"""Recording spectra: ours, the study's loop, and the bare limit, on the same JPEG files of 512×512.

The study takes one picture at a time: grey levels, a complex transform in double precision, the
zero frequency to the centre, 20 ln(|F| + 1e-8), a PNG through matplotlib. Ours is `prepare`, as
notebook 4 calls it, at the network's size. The limit decodes, transforms real grey levels and
throws the magnitudes away. Ours and the limit have two threads.
"""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image
from scipy import fft

from benchmarks import is_quick, race, record
from src.pictures import store
from src.pictures.spectrum import magnitude_spectrum, to_uint8

matplotlib.use("agg")
SIDE, STEPS = 512, ("spectrum", "resize:224")
CLAIM = "spectra of 512×512 JPEGs"


def make_pictures(folder: Path, num_pictures: int) -> list[Path]:
    """Noise made smooth, as JPEG files of quality 75."""
    random = np.random.default_rng(0)
    files = [folder / f"{index:04d}.jpg" for index in range(num_pictures)]
    for file in files:
        noise = random.integers(0, 256, (SIDE, SIDE, 3), dtype="uint8")
        cv2.imwrite(str(file), cv2.GaussianBlur(noise, (9, 9), 2), [cv2.IMWRITE_JPEG_QUALITY, 75])
    return files


def study(files: list[Path]) -> int:
    """The study's way."""
    for file in files:
        grey = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2GRAY)
        spectrum = 20 * np.log(np.abs(np.fft.fftshift(np.fft.fft2(grey))) + 1e-8)
        matplotlib.image.imsave(file.with_suffix(".png"), spectrum, cmap="gray")
    return len(files)


def limit(files: list[Path]) -> int:
    """Decode and transform, nothing kept."""

    def one(file: Path) -> None:
        with Image.open(file) as image:
            np.abs(fft.rfft2(np.asarray(image.convert("L"), np.float32)))

    with ThreadPoolExecutor(2) as pool:
        return len(list(pool.map(one, files)))


def main() -> None:
    quick, turn = is_quick(__doc__), count()
    cv2.setNumThreads(1)
    store.NUM_THREADS = 2  # as the limit
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        files = make_pictures(folder, 8 if quick else 400)
        some, prepared = files[: 4 if quick else 30], []

        def ours() -> int:
            prepared[:] = [store.prepare(files, STEPS, folder / str(next(turn)))]
            return len(files)

        study(files[:2]), ours()  # imports are not part of the comparison
        ways = {"ours, at 224×224": ours, "the study's loop": lambda: study(some)}
        ways["decode + real FFT alone"] = lambda: limit(files)
        race(CLAIM, "images", ways, {"the study's loop": 60, "decode + real FFT alone": 0.85})
        sizes = [file.with_suffix(".png").stat().st_size for file in some]
        times = np.array(sizes) / prepared[0].pixels[0].nbytes
        record(CLAIM, "size of the study's PNG", "bytes", sizes, times, at_least=5)
        # The study rounds the grey levels first; given the same levels, the two must agree.
        written = cv2.imread(str(files[0].with_suffix(".png")), cv2.IMREAD_GRAYSCALE)
        grey = cv2.cvtColor(cv2.imread(str(files[0])), cv2.COLOR_BGR2GRAY)
        difference = np.abs(written.astype(int) - to_uint8(magnitude_spectrum(grey))).max()
        record(CLAIM, "largest difference to it", "of 255", [difference], at_most=2)


if __name__ == "__main__":
    main()
