"""Bugs planted in `src.evaluation.results`, each with the check that must notice it."""

from evaluation import test_results as checks

MUTANTS = {  # bug: (the code, the code with the bug, the check that must notice)
    "validation and test rows mixed": (
        'tested = tested[tested["split"] == "test"]',
        'tested = tested[tested["split"] != "train"]',
        checks.test_result_rows_depend_on_test_rows_only,
    ),
    "threshold from the test split": (
        'scores["split"] == "valid"',
        'scores["split"] == "test"',
        checks.test_threshold_and_calibration_come_from_validation_rows_of_the_training_set,
    ),
    "threshold from every set": (
        'valid["test_set"].isin(train_set.split("+"))',
        'valid["test_set"] != ""',
        checks.test_threshold_and_calibration_come_from_validation_rows_of_the_training_set,
    ),
    "threshold chosen anew where it is tested": (
        'THRESHOLD_METRICS, card["threshold"])',
        'THRESHOLD_METRICS, choose_threshold(tested["label"], tested["score"]))',
        checks.test_result_rows_are_the_metrics_of_each_test_set_alone,
    ),
    "real sources mixed": (
        'in tested.groupby(["test_set", "real_source"], sort=False)',
        'in ((("insight", "wiki"), t) for _, t in tested.groupby("test_set"))',
        checks.test_result_rows_are_the_metrics_of_each_test_set_alone,
    ),
    "images drawn instead of groups": (
        'values, rows["group"], **options',
        'values, rows["path"] + rows["generator"], **options',
        checks.test_intervals_in_result_rows_draw_groups,
    ),
    "flipped labels let through": (
        "(label == 0) != is_real",
        "label.isna()",
        checks.test_a_flipped_label_is_refused,
    ),
    "leaking groups let through": (
        '["split"].transform("nunique") > 1',
        '["split"].transform("nunique") > 3',
        checks.test_a_group_in_two_splits_is_refused,
    ),
    "calibration forgotten": (
        'values = calibrated(values, card["slope"], card["intercept"])',
        "pass",
        checks.test_result_rows_are_the_metrics_of_each_test_set_alone,
    ),
    "intercept forgotten": (
        'card["slope"], card["intercept"])',
        'card["slope"], 0.0)',
        checks.test_result_rows_are_the_metrics_of_each_test_set_alone,
    ),
    "images of some trainings only": (
        'join="inner"',
        'join="outer"',
        checks.test_means_over_seeds_are_those_of_the_images_that_every_training_scored,
    ),
    "means over validation rows, too": (
        'frame[frame["split"] == "test"].set_index(keys)',
        'frame.set_index(keys)',
        checks.test_means_over_seeds_are_those_of_the_images_that_every_training_scored,
    ),
    "stale means stay": (
        "return other_kinds | means",
        "return other_kinds",
        checks.test_means_over_seeds_go_when_a_training_changes,
    ),
    "own baselines at home in the study's training set": (
        'card={"train_set": test_set, **fixed}',
        'card={"train_set": study.train_set, **fixed}',
        checks.test_own_baselines_are_at_home_on_each_test_set,
    ),
    "photographs alone move the threshold": (
        '["label"].transform("max") == 1',
        '["label"].transform("max") >= 0',
        checks.test_validation_rows_of_several_training_sets_and_of_photographs_alone,
    ),
    "false alarms at 0.5": (
        'rate(reals["score"] >= card["threshold"]',
        'rate(reals["score"] >= 0.5',
        checks.test_photographs_without_fakes_have_a_rate_of_false_alarms_and_nothing_else,
    ),
    "conditions wipe the headline": (
        "condition.partition(\":\")[0] or",
        "\"\" or",
        checks.test_rows_of_another_kind_stay_when_rows_are_replaced,
    ),
    "seeds replace each other": (
        "_isin(earlier, frame, order)",
        '_isin(earlier, frame, [name for name in order if name != "seed"])',
        checks.test_results_replace_rows_with_the_same_keys_and_keep_the_others,
    ),
}  # fmt: skip
