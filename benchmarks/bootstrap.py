"""Processor seconds for 2,000 bootstrap resamples of 10,000 scores, by group.

python -m benchmarks.bootstrap compares with the plain way, scikit-learn in a loop, measured on a
few resamples and scaled up.
"""

from functools import partial

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks import timed
from src.evaluation.intervals import estimate
from src.evaluation.metrics import METRICS

NUM_IMAGES, NUM_RESAMPLES, NUM_LOOPED = 10_000, 2_000, 20


def main():
    generator = np.random.default_rng(0)
    labels = np.arange(NUM_IMAGES) % 2
    scores = generator.beta(2 + labels, 3 - labels)
    groups = np.arange(NUM_IMAGES) // 2  # a real photograph and its fake

    def loop():
        for _ in range(NUM_LOOPED):
            drawn = generator.integers(groups.max() + 1, size=groups.max() + 1)
            rows = (drawn[:, None] * 2 + [0, 1]).ravel()
            roc_auc_score(labels[rows], scores[rows])

    for names in (METRICS, ("auc",), ("accuracy", "f1")):
        options = {"num_resamples": NUM_RESAMPLES, "names": names}
        seconds = timed(partial(estimate, labels, scores, groups, **options))[2]
        print(f"{seconds:6.2f} s  {len(names)} metrics ({', '.join(names[:2])}, …), all at once")
    seconds = timed(loop)[2] * NUM_RESAMPLES / NUM_LOOPED
    print(f"{seconds:6.2f} s  auc, scikit-learn in a loop ({NUM_LOOPED} resamples, scaled up)")


if __name__ == "__main__":
    main()
