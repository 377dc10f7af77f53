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
    "pairs within a group among those of the AUC": (
        '(area - counts**2 @ wins) / (num_fake * num_real - own)',
        "area / (num_fake * num_real)",
        checks.test_a_fake_a_hair_above_its_photograph_is_no_better_than_chance,
    ),
    "pairs within a group won, but not counted": (
        "(num_fake * num_real - own)",
        "(num_fake * num_real)",
        checks.test_auc_leaves_out_the_pairs_within_a_group,
    ),
    "ties within a group lost": (
        '(np.sign(pairs["score_x"] - pairs["score_y"]) + 1) / 2',
        'pairs["score_x"] > pairs["score_y"]',
        checks.test_auc_leaves_out_the_pairs_within_a_group,
    ),
    "a group drawn twice taken for two": (
        "own = counts**2 @ pairs",
        "own = counts @ pairs",
        checks.test_a_weight_counts_its_group_so_many_times,
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
        "precision = fakes[:, 1:] /",
        "precision = fakes[:, :-1] /",
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
    "something must be called fake": (
        "np.flatnonzero(balanced == balanced.max())",
        "np.flatnonzero(balanced[:-1] == balanced.max())",
        checks.test_threshold_may_call_all_or_nothing_fake,
    ),
    "calibration without Platt's targets": (
        "(num_fake + 1) / (num_fake + 2), 1 / (num_real + 2)",
        "1 - 1e-9, 1e-9",
        checks.test_calibration_agrees_with_scikit_learn,
    ),
    "intercept forgotten": (
        "special.expit(slope * _logits(scores) + intercept)",
        "special.expit(slope * _logits(scores))",
        checks.test_calibration_agrees_with_scikit_learn,
    ),
}  # fmt: skip
