"""Seconds and memory of the joint PCA: ours on 10,000 pictures, then ours and scikit-learn's on
1,000 of them.

10,000 pictures of 224x224x3 are 12 GB in double precision, and scikit-learn's PCA centres a copy;
so scikit-learn is timed on 1,000, where it grows in proportion. The pictures are drawn: smooth,
with a spectrum that falls like that of photographs, and noise. Needs 4 GB of memory. Run: python
benchmarks/pca.py [number of pictures]
"""

import os
import resource
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA, IncrementalPCA

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from src.evaluation.pca import joint_pca

SIDE, NUM_COMPONENTS, NUM_COMPARED = 224, 3, 1000


def draw(num_pictures: int) -> np.ndarray:
    """Pictures `(num_pictures, SIDE, SIDE, 3)`: mixtures of 60 waves, the long ones the strongest,
    and noise."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    waves = []
    for index in range(60):
        angle, phase = random.uniform(0, 2 * np.pi, 2)
        wave = np.cos(
            2 * np.pi * (0.5 + index / 8) * (x * np.cos(angle) + y * np.sin(angle)) + phase
        )
        waves.append(
            (wave[..., None] * random.uniform(0.5, 1, 3)).ravel() * 60 / (index + 1) ** 0.8
        )
    waves = np.array(waves, dtype=np.float32)
    pixels = np.empty((num_pictures, SIDE * SIDE * 3), np.uint8)
    for start in range(0, num_pictures, 100):
        rows = pixels[start : start + 100]
        smooth = random.standard_normal((len(rows), len(waves)), dtype=np.float32) @ waves
        rows[:] = (120 + smooth + 8 * random.standard_normal(rows.shape, dtype=np.float32)).clip(
            0, 255
        )
    return pixels.reshape(num_pictures, SIDE, SIDE, 3)


def timed(function):
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def main() -> None:
    num_pictures = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    pixels = draw(num_pictures)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    _, seconds = timed(lambda: joint_pca(pixels, NUM_COMPONENTS))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{os.cpu_count()} cores; {NUM_COMPONENTS} components; pictures of {SIDE}x{SIDE}x3")
    print(
        f"{seconds:7.2f} s  ours, {num_pictures} pictures; peak {after:.2f} GiB, {before:.2f} "
        "before the fit"
    )

    pixels = pixels[:NUM_COMPARED].reshape(NUM_COMPARED, -1).copy()
    ours, seconds = timed(lambda: joint_pca(pixels, NUM_COMPONENTS))
    print(f"{seconds:7.2f} s  ours, {len(pixels)} pictures")
    rivals = {
        "PCA, float64": (PCA(NUM_COMPONENTS, random_state=0), np.float64),
        "PCA, float32": (PCA(NUM_COMPONENTS, random_state=0), np.float32),
        "PCA(arpack), float32": (
            PCA(NUM_COMPONENTS, svd_solver="arpack", random_state=0),
            np.float32,
        ),
        "IncrementalPCA, float32": (IncrementalPCA(NUM_COMPONENTS, batch_size=100), np.float32),
    }
    for name, (model, kind) in rivals.items():
        values = pixels.astype(kind)
        _, theirs = timed(lambda model=model, values=values: model.fit(values))
        agree = np.abs((model.components_ * ours.components).sum(1)).min()
        print(
            f"{theirs:7.2f} s  scikit-learn {name}: {theirs / seconds:4.1f} times ours; least "
            f"|cosine| {agree:.6f}"
        )


if __name__ == "__main__":
    main()
