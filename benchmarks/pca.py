"""Seconds and memory of the joint PCA.

First ours on 10,000 drawn pictures, then ours and scikit-learn's on 1,000 of them: 10,000 pictures
of 224×224×3 are 12 GB in double precision, of which scikit-learn's PCA centres a copy. Needs 4 GB.
"""

from functools import partial

import numpy as np
from sklearn.decomposition import PCA

from benchmarks import is_quick, peak, race, record, timed
from src.evaluation.pca import joint_pca

SIDE, NUM_COMPONENTS, NUM_WAVES = 224, 3, 60


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


def main() -> None:
    num_pictures, num_compared = (60, 30) if is_quick(__doc__) else (10_000, 1000)
    pixels = draw(num_pictures)
    seconds = timed(joint_pca, pixels, NUM_COMPONENTS)[1]
    claim = f"PCA of {num_pictures:,} × {SIDE}×{SIDE}×3"
    record(claim, "ours", "s", [seconds])
    record(claim, "ours, memory", "GiB", [peak()], at_most=4)

    pixels = pixels[:num_compared].reshape(num_compared, -1).copy()
    fitted = {}

    def ours() -> int:
        fitted["ours"] = joint_pca(pixels, NUM_COMPONENTS).components
        return num_compared

    def theirs(name: str, kind: type, model) -> int:
        fitted[name] = model.fit(pixels.astype(kind)).components_
        return num_compared

    model = PCA(NUM_COMPONENTS, random_state=0)
    ways = {"ours": ours}
    ways["scikit-learn PCA, float64"] = partial(theirs, "float64", np.float64, model)
    ways["scikit-learn PCA, float32"] = partial(theirs, "float32", np.float32, model)
    goals = {"scikit-learn PCA, float64": 4}
    race(f"PCA of {num_compared:,} × {SIDE}×{SIDE}×3", "images", ways, goals)
    for name, components in fitted.items():
        assert np.abs((components * fitted["ours"]).sum(1)).min() > 0.999, name


if __name__ == "__main__":
    main()
