"""How often the 95 % intervals hold the truth: `python -m benchmarks.coverage [simulations]`.

A photograph and its fake are a group with one shared effect. Scores are normal, so the true AUC of
a fake against the photograph of another group is known. Wanted: 93 to 97 % for 15, 30 and 100
groups. Of few groups with an AUC near 1 more hold it, of differences nearly all: where a handful of
images decide, a difference and its standard error grow together. There intervals are too wide.
"""

import sys
from itertools import product

import numpy as np
from scipy import special, stats

from src.evaluation.intervals import compare, estimate

NUM_SEEDS, SPREAD = 3, 0.3  # trainings, and the standard deviation of their shifts


def draw(random: np.random.Generator, num_groups: int, distance: float, shared: float):
    """Labels, logits and groups: the reals around 0, the fakes further by `distance`."""
    effect = np.sqrt(shared) * random.normal(size=num_groups)
    noise = np.sqrt(1 - shared) * random.normal(size=(2, num_groups))
    logits = effect + noise + [[0.0], [distance]]
    return np.repeat([0, 1], num_groups), logits.ravel(), np.tile(np.arange(num_groups), 2)


def main() -> None:
    """Prints the coverage of the AUC, of a difference and of the mean over trainings."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    random, options = np.random.default_rng(0), {"num_resamples": 300, "names": ("auc",)}
    print("groups  AUC   shared   one training   difference   mean of three trainings")
    for num_groups, auc, shared in product((15, 30, 100), (0.5, 0.8, 0.97), (0.0, 0.5)):
        held, distance = np.zeros((number, 3)), np.sqrt(2) * stats.norm.ppf(auc)
        mean = stats.norm.cdf(distance / np.sqrt(2 + SPREAD**2))
        for row in held:
            labels, logits, groups = draw(random, num_groups, distance, shared)
            other = 0.7 * logits + 0.714 * random.normal(size=len(logits))
            other += 0.3 * labels * distance  # as good as the first
            trainings = []
            for _ in range(NUM_SEEDS):
                noise, shift = random.normal(size=len(logits)), SPREAD * random.normal()
                mixed = np.sqrt(0.5) * (logits - labels * distance + noise)
                trainings.append(special.expit(mixed + labels * (distance + shift)))
            first, second = special.expit(logits), special.expit(other)
            found = [
                (estimate(labels, first, groups, **options), auc),
                (compare(labels, first, second, groups, **options), 0.0),
                (estimate(labels, np.stack(trainings), groups, **options), mean),
            ]
            row[:] = [table["ci_low"][0] <= truth <= table["ci_high"][0] for table, truth in found]
        shares = "   ".join(f"{share:12.1%}" for share in held.mean(axis=0))
        print(f"{num_groups:6d}  {auc:.2f}  {shared:5.1f}   {shares}", flush=True)


if __name__ == "__main__":
    main()
