"""Seconds and memory of the joint PCA: python -m benchmarks.pca [number of pictures].

First ours on 10,000 drawn pictures, then ours and scikit-learn's on 1,000 of them: 10,000 pictures
of 224x224x3 are 12 GB in double precision, of which scikit-learn's PCA centres a copy. Needs 4 GB.
"""

import resource
import sys

import numpy as np
from sklearn.decomposition import PCA, IncrementalPCA

from benchmarks import timed
from src.evaluation.pca import joint_pca

SIDE, NUM_COMPONENTS, NUM_COMPARED, NUM_WAVES = 224, 3, 1000, 60


def draw(num_pictures: int) -> np.ndarray:
    """Mixtures of waves, the long ones the strongest, and noise: a spectrum like photographs'."""
    random, (y, x) = np.random.default_rng(0), np.mgrid[:SIDE, :SIDE] / SIDE
    waves = np.empty((NUM_WAVES, SIDE * SIDE * 3), np.float32)
    for index in range(NUM_WAVES):
        angle, phase = random.uniform(0, 2 * np.pi, 2)
        along = x * np.cos(angle) + y * np.sin(angle)
        wave = np.cos(2 * np.pi * (0.5 + index / 8) * along + phase) * 60 / (index + 1) ** 0.8
        waves[index] = (wave[..., None] * random.uniform(0.5, 1, 3)).ravel()
    pixels = np.empty((num_pictures, SIDE * SIDE * 3), np.uint8)
    for start in range(0, num_pictures, 100):
        rows = pixels[start : start + 100]
        smooth = random.standard_normal((len(rows), NUM_WAVES), dtype=np.float32) @ waves
        noise = 8 * random.standard_normal(rows.shape, dtype=np.float32)
        rows[:] = (120 + smooth + noise).clip(0, 255)
    return pixels.reshape(num_pictures, SIDE, SIDE, 3)


def peak() -> float:
    """The most memory so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    pixels = draw(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
    before, (_, seconds, _) = peak(), timed(joint_pca, pixels, NUM_COMPONENTS)
    print(f"{NUM_COMPONENTS} components; pictures of {SIDE}x{SIDE}x3")
    print(f"{seconds:7.2f} s  ours, {len(pixels)} pictures; {before:.2f} → {peak():.2f} GiB")

    pixels = pixels[:NUM_COMPARED].reshape(NUM_COMPARED, -1).copy()
    ours, seconds, _ = timed(joint_pca, pixels, NUM_COMPONENTS)
    print(f"{seconds:7.2f} s  ours, {len(pixels)} pictures")
    for name, model, kind in (
        ("PCA, float64", PCA(NUM_COMPONENTS, random_state=0), np.float64),
        ("PCA, float32", PCA(NUM_COMPONENTS, random_state=0), np.float32),
        ("PCA(arpack), float32", PCA(NUM_COMPONENTS, svd_solver="arpack"), np.float32),
        ("IncrementalPCA, float32", IncrementalPCA(NUM_COMPONENTS, batch_size=100), np.float32),
    ):
        _, theirs, _ = timed(model.fit, pixels.astype(kind))
        agree = np.abs((model.components_ * ours.components).sum(1)).min()
        ratio = f"{theirs / seconds:4.1f} times ours; least |cosine| {agree:.6f}"
        print(f"{theirs:7.2f} s  scikit-learn {name}: {ratio}")


if __name__ == "__main__":
    main()
