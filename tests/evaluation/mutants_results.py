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
        checks.test_threshold_and_temperature_come_from_validation_rows_of_the_training_set,
    ),
    "threshold from every set": (
        'valid["checks.test_set"].isin(train_set.split("+"))',
        'valid["checks.test_set"] != ""',
        checks.test_threshold_and_temperature_come_from_validation_rows_of_the_training_set,
    ),
    "threshold chosen anew where it is tested": (
        'THRESHOLD_METRICS, card["threshold"], 1)',
        'THRESHOLD_METRICS, choose_threshold(tested["label"], tested["score"]), 1)',
        checks.test_result_rows_are_the_metrics_of_each_test_set_alone,
    ),
    "real sources mixed": (
        'in tested.groupby(["checks.test_set", "real_source"], sort=False)',
        'in ((("insight", "wiki"), t) for _, t in tested.groupby("checks.test_set"))',
        checks.test_result_rows_are_the_metrics_of_each_test_set_alone,
    ),
    "images drawn instead of groups": (
        'rows["group"],',
        'rows["path"] + rows["generator"],',
        checks.test_intervals_in_result_rows_draw_groups,
    ),
    "flipped labels let through": (
        '(frame["label"] == 0) != (frame["generator"] == "real")',
        'frame["label"].isna()',
        checks.test_a_flipped_label_is_refused,
    ),
    "leaking groups let through": (
        '["split"].transform("nunique") > 1',
        '["split"].transform("nunique") > 3',
        checks.test_a_group_in_two_splits_is_refused,
    ),
    "temperature forgotten": (
        'rows["score"] if temperature == 1 else',
        'rows["score"] if temperature else',
        checks.test_result_rows_are_the_metrics_of_each_test_set_alone,
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
        "keys = study.figures / \"results.csv\", list(RESULT_KEYS)",
        "keys = study.figures / \"results.csv\", list(RESULT_KEYS[:-1])",
        checks.test_results_replace_rows_with_the_same_keys_and_keep_the_others,
    ),
}  # fmt: skip
