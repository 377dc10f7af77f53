"""Bugs planted in `src.detectors.robustness`, each with the check that must notice it."""

from detectors import test_robustness as checks

MUTANTS = {  # bug: (the code, the code with the bug, the check that must notice)
    "degraded before the protocol": (
        'if protocol == "controlled":',
        "if False:",
        checks.test_degraded_scores_are_those_of_pictures_degraded_between_protocol_and_network,
    ),
    "degraded before the square is squashed": (
        'num = 1 + (plan[0] == "square")',
        "num = 1",
        checks.test_degraded_scores_are_those_of_pictures_degraded_between_protocol_and_network,
    ),
    "conditions mixed up": (
        "zip(columns, conditions)",
        "zip(columns, reversed(conditions))",
        checks.test_degraded_scores_are_those_of_pictures_degraded_between_protocol_and_network,
    ),
    "scores of an older model": (
        '"made_from") != made_from',
        '"made_from") is None',
        checks.test_degraded_scores_are_kept_until_model_or_pictures_change,
    ),
    "half of the AUC in place of half of what is above chance": (
        "(clean + 0.5) / 2",
        "clean / 2",
        checks.test_breaks_first_finds_the_mildest_level_below_halfway,
    ),
}  # fmt: skip
