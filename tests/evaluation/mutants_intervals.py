"""Bugs planted in `src.evaluation.intervals`, each with the check that must notice it."""

from evaluation import test_intervals as checks

MUTANTS = {  # bug: (the code, the code with the bug, the check that must notice)
    "the doubt of the training forgotten": (
        "if (size := len(part.values)) > 1:",
        "if (size := len(part.values)) > 99:",
        checks.test_several_trainings_have_the_mean_and_the_df_of_satterthwaite,
    ),
    "resamples taken for samples": (
        "ddof=1) * num_groups / (num_groups - 1), df)",
        "ddof=1), df)",
        checks.test_several_trainings_have_the_mean_and_the_df_of_satterthwaite,
    ),
    "the interval not on the logit": (
        "step = reach / (middle * (1 - middle))",
        "step = reach",
        checks.test_interval_of_the_auc_agrees_with_a_jackknife,
    ),
    "all or nothing without doubt": (
        "unseen, edge = 1 - 0.025 ** (1 / num_groups), ",
        "unseen, edge = 0.0, ",
        checks.test_where_all_or_nothing_is_seen_the_bound_is_that_of_clopper_and_pearson,
    ),
    "the larger class counts": (
        "scarcer = min(",
        "scarcer = max(",
        checks.test_where_all_or_nothing_is_seen_the_bound_is_that_of_clopper_and_pearson,
    ),
    "no doubt about a constant": (
        "(~inside | (error < 1e-12))",
        "~inside",
        checks.test_equal_scores_have_the_bound_of_what_no_resample_shows,
    ),
    "two groups taken seriously": (
        "if num_groups < 3:",
        "if num_groups < 2:",
        checks.test_two_groups_tell_nothing,
    ),
    "one-sided p-value": (
        "p_value = 2 * stats.t.sf(",
        "p_value = stats.t.sf(",
        checks.test_the_interval_excludes_zero_exactly_when_p_is_below_005,
    ),
    "copies taken for independent images": (
        "num = len(events) ** 2 / np.sum(size**2)",
        "num = len(events)",
        checks.test_rate_of_independent_images_has_the_interval_of_wilson,
    ),
    "bounds of a difference swapped": (
        "np.hypot(below[0], above[1])",
        "np.hypot(above[0], below[1])",
        checks.test_difference_of_estimates_on_different_images,
    ),
}
