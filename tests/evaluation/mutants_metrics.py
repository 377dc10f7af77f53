"""Bugs planted in `src.evaluation.metrics`, each with the check that must notice it."""

from evaluation import test_metrics as checks

MUTANTS = {  # bug: (the code, the code with the bug, the check that must notice)
    "labels flipped": (
        "called, clipped = labels == 1",
        "called, clipped = labels == 0",
        checks.test_agrees_with_scikit_learn,
    ),
    "ties in the order they come": (
        "np.append(np.diff(scores[order]) != 0, True)",
        "np.ones(len(scores), bool)",
        checks.test_agrees_with_scikit_learn,
    ),
    "images drawn instead of groups": (
        "index, num_groups = _group_index(groups, len(labels))\n    weighted",
        "index, num_groups = _group_index(np.arange(len(labels)), len(labels))\n    weighted",
        checks.test_copies_of_an_image_in_its_group_do_not_narrow_the_interval,
    ),
    "images drawn, seen by coverage": (
        "index, num_groups = _group_index(groups, len(labels))\n    weighted",
        "index, num_groups = _group_index(np.arange(len(labels)), len(labels))\n    weighted",
        checks.test_nineteen_in_twenty_intervals_hold_the_truth,
    ),
    "threshold not inclusive": (
        "scores >= threshold",
        "scores > threshold",
        checks.test_a_score_at_the_threshold_is_called_fake,
    ),
    "precision of the wrong class": (
        '"precision": true_fakes /',
        '"precision": true_reals /',
        checks.test_agrees_with_scikit_learn,
    ),
    "F1 of the wrong class": (
        "true_reals / (num_real + num_images",
        "true_reals / (num_fake + num_images",
        checks.test_agrees_with_scikit_learn,
    ),
    "balanced accuracy as accuracy": (
        "(true_fakes + true_reals) / num_images",
        "(true_fakes / num_fake + true_reals / num_real) / 2",
        checks.test_agrees_with_scikit_learn,
    ),
    "average precision by other corners": (
        "np.diff(fakes) * fakes[:, 1:] /",
        "np.diff(fakes) * fakes[:, :-1] /",
        checks.test_agrees_with_scikit_learn,
    ),
    "equal error rate not interpolated": (
        "low / (high - low) * step",
        "0 * step",
        checks.test_equal_error_rate_is_where_the_roc_curve_crosses_the_antidiagonal,
    ),
    "one false positive too many": (
        "reals <= allowed[:, None]",
        "reals <= allowed[:, None] + 1",
        checks.test_recall_at_a_false_positive_rate_is_the_best_that_stays_within,
    ),
    "allowed false positives rounded down": (
        "limit * num_real + 1e-9",
        "limit * num_real - 1e-9",
        checks.test_recall_at_a_false_positive_rate_is_the_best_that_stays_within,
    ),
    "bins cancel in the calibration error": (
        "np.abs(totals[6:]).sum(axis=0)",
        "np.abs(totals[6:].sum(axis=0))",
        checks.test_calibration_error_agrees_with_a_loop_over_bins,
    ),
    "log loss clipped hard": (
        "CLIP = 1e-7",
        "CLIP = 1e-2",
        checks.test_confident_mistakes_cost_a_finite_log_loss,
    ),
    "an interval of 90 percent": (
        "(0.025, 0.975)",
        "(0.05, 0.95)",
        checks.test_interval_is_the_central_95_percent_of_the_resamples,
    ),
    "groups drawn across classes": (
        "for value in (1, 2, 3) if (kind == value).any()]",
        "for value in (1,) if (kind == kind).any()]",
        checks.test_each_resample_keeps_groups_of_one_class_in_proportion,
    ),
    "other resamples for each detector": (
        "for scores in (first, second)\n    )",
        "for seed, scores in enumerate((first, second))\n    )",
        checks.test_paired_difference_is_narrower_than_the_detectors_own_intervals,
    ),
    "DeLong without the covariance": (
        "pull = pulls[0] - pulls[1]",
        "pull = pulls[0] + pulls[1]",
        checks.test_delong_agrees_with_every_pair_compared,
    ),
    "DeLong blind to groups": (
        "variance += 2 * num_groups",
        "variance += 0 * num_groups",
        checks.test_delong_by_group_agrees_with_the_bootstrap_by_group,
    ),
    "threshold of the best accuracy": (
        "balanced = (fake.sum() - fakes_below) * (~fake).sum() + reals_below * fake.sum()",
        "balanced = (fake.sum() - fakes_below) + reals_below",
        checks.test_threshold_has_the_best_balanced_accuracy_and_lies_in_the_middle,
    ),
    "threshold at a score": (
        "middle = (lows[best] + highs[best]) / 2",
        "middle = highs[best]",
        checks.test_threshold_has_the_best_balanced_accuracy_and_lies_in_the_middle,
    ),
    "rate blind to groups": (
        "pull = np.bincount(index, events - value)",
        "pull = events - value",
        checks.test_rate_of_independent_images_has_the_interval_of_wilson,
    ),
    "rate blind to groups, seen by coverage": (
        "num = min(num, len(events))",
        "num = len(events)",
        checks.test_nineteen_in_twenty_intervals_of_a_rate_hold_the_truth,
    ),
    "temperature multiplied": (
        "1 - CLIP)) / temperature",
        "1 - CLIP)) * temperature",
        checks.test_temperature_undoes_an_overconfident_scale,
    ),
}
