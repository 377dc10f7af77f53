"""Intervals of one detector: 2,000 resamples of 10,000 scores by group, beside scikit-learn's loop.

The loop takes a few resamples, of one metric.
"""

from functools import partial

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks import is_quick, race, record, timed
from src.evaluation.intervals import estimate
from src.evaluation.metrics import METRICS


def main() -> None:
    num_images, num_resamples = (200, 50) if is_quick(__doc__) else (10_000, 2_000)
    generator, num_looped = np.random.default_rng(0), 20
    labels = np.arange(num_images) % 2
    scores = generator.beta(2 + labels, 3 - labels)
    groups = np.arange(num_images) // 2  # a real photograph and its fake
    ours = partial(estimate, labels, scores, groups, num_resamples=num_resamples)

    def loop() -> int:
        for _ in range(num_looped):
            drawn = generator.integers(groups.max() + 1, size=groups.max() + 1)
            rows = (drawn[:, None] * 2 + [0, 1]).ravel()
            roc_auc_score(labels[rows], scores[rows])
        return num_looped

    claim = f"intervals, {num_resamples:,} × {num_images:,} scores"
    seconds = [timed(partial(ours, names=METRICS))[1] for _ in range(5)]
    record(claim, f"ours, all {len(METRICS)} metrics", "s", seconds, at_most=2)

    def ours_auc() -> int:
        ours(names=("auc",))
        return num_resamples

    race(f"{claim}, AUC", "resamples", {"ours": ours_auc, "scikit-learn in a loop": loop}, {})


if __name__ == "__main__":
    main()
