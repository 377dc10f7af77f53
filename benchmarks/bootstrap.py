"""Processor seconds for 2,000 bootstrap resamples of 10,000 scores, by group: python
benchmarks/bootstrap.py

Compared with the plain way, scikit-learn in a loop, measured on a few resamples and scaled up.
"""

import sys
import time
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src.evaluation.intervals import estimate
from src.evaluation.metrics import METRICS

NUM_IMAGES, NUM_RESAMPLES, NUM_LOOPED = 10_000, 2_000, 20


def main():
    generator = np.random.default_rng(0)
    labels = np.arange(NUM_IMAGES) % 2
    scores = generator.beta(2 + labels, 3 - labels)
    groups = np.arange(NUM_IMAGES) // 2  # a real photograph and its fake

    for names in (METRICS, ("auc",), ("accuracy", "f1")):
        start = time.process_time()
        estimate(labels, scores, groups, num_resamples=NUM_RESAMPLES, names=names)
        seconds = time.process_time() - start
        print(
            f"{seconds:6.2f} s  {len(names)} metrics ({', '.join(names[:2])}, …), all resamples "
            "at once"
        )

    start = time.process_time()
    for _ in range(NUM_LOOPED):
        drawn = generator.integers(groups.max() + 1, size=groups.max() + 1)
        rows = (drawn[:, None] * 2 + [0, 1]).ravel()
        roc_auc_score(labels[rows], scores[rows])
    seconds = (time.process_time() - start) * NUM_RESAMPLES / NUM_LOOPED
    print(
        f"{seconds:6.2f} s  1 metric (auc), scikit-learn in a loop ({NUM_LOOPED} resamples, "
        "scaled up)"
    )


if __name__ == "__main__":
    main()
