"""How often the 95 % intervals hold the truth: `python -m benchmarks.coverage [simulations]`.

A photograph and its fake are a group with one shared effect. Scores are normal, so the true AUC of
a fake against the photograph of another group is known. Wanted: 93 to 97 % for 15, 30 and 100
groups. With 15 groups and a true AUC of 0.97, one draw in seven has an AUC of 1, which no interval
of so few groups can tell from 0.97: an interval can only miss on the other side, so 97.5 % is right
there ("missed above": the share of draws whose interval lies above the truth). Differences hold 0
nearly always there: a handful of images decide, and a difference grows with its standard error.
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
    print("groups  AUC   shared   one training   difference   mean of three   missed above")
    for num_groups, auc, shared in product((15, 30, 100), (0.5, 0.8, 0.97), (0.0, 0.5)):
        held, distance = np.zeros((number, 4)), np.sqrt(2) * stats.norm.ppf(auc)
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
            row[:3] = [table["ci_low"][0] <= truth <= table["ci_high"][0] for table, truth in found]
            row[3] = found[0][0]["ci_low"][0] > auc
        shares = "   ".join(f"{share:12.1%}" for share in held.mean(axis=0))
        print(f"{num_groups:6d}  {auc:.2f}  {shared:5.1f}   {shares}", flush=True)


if __name__ == "__main__":
    main()
