"""Bugs planted in `src.evaluation.comparisons`, each with the check that must notice it."""

from evaluation import test_comparisons as checks

MUTANTS = {  # bug: (the code, the code with the bug, the check that must notice)
    "Holm forgotten": (
        'table["p_adjusted"] = holm(table["p_value"])',
        'table["p_adjusted"] = table["p_value"]',
        checks.test_a_difference_is_significant_only_in_the_whole_family,
    ),
    "Holm without its running maximum": (
        "np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))",
        "(p_values[order] * np.arange(len(p_values), 0, -1))",
        checks.test_holm_rejects_step_by_step,
    ),
    "images drawn instead of groups": (
        '("label", "first", "second", "group")',
        '("label", "first", "second", "path")',
        checks.test_copies_in_their_group_change_no_difference,
    ),
    "unpaired bootstrap": (
        "evaluation.compare(*arrays,",
        "evaluation.compare(arrays[0], arrays[1], arrays[2].sample(frac=1, random_state=0), "
        "arrays[3],",
        checks.test_differences_are_those_of_paired_tests_on_each_set,
    ),
    "foreign photographs mixed in": (
        '(table["checks.test_set"] == checks.test_set) & (table["real_source"] == real_source)',
        '(table["checks.test_set"] == checks.test_set)',
        checks.test_differences_are_those_of_paired_tests_on_each_set,
    ),
    "protocols the wrong way round": (
        '(f"{model}-controlled", f"{model}-report")',
        '(f"{model}-report", f"{model}-controlled")',
        checks.test_protocol_differences_are_controlled_minus_report_on_the_same_files,
    ),
    "temperature before and after swapped": (
        '(False, lot["score"].to_numpy()), (True, cooled)',
        '(True, lot["score"].to_numpy()), (False, cooled)',
        checks.test_calibration_errors_are_those_of_the_metrics,
    ),
    "validation images in the reliability": (
        'tested = scores[scores["split"] == "test"]\n    trained',
        'tested = scores[scores["split"] != "train"]\n    trained',
        checks.test_calibration_errors_are_those_of_the_metrics,
    ),
    "threshold from the test split": (
        'lot["score"] >= card["threshold"]',
        'lot["score"] >= evaluation.choose_threshold(tested["label"], tested["score"])',
        checks.test_false_alarms_count_each_photograph_once_at_the_threshold_of_the_card,
    ),
    "a photograph counted in every test set": (
        '.drop_duplicates(["split", "path"])',
        "",
        checks.test_false_alarms_count_each_photograph_once_at_the_threshold_of_the_card,
    ),
    "the cut from test photographs": (
        "column[valid].median()",
        "column.median()",
        checks.test_the_cut_comes_from_validation_photographs_or_from_the_caller,
    ),
    "fakes without their photograph": (
        'np.where(scores["label"] == 1, path, None)',
        "None",
        checks.test_subgroups_are_the_rows_of_their_pictures,
    ),
    "a namesake taken for the photograph": (
        '[scores["group"], scores["path"]',
        '[scores["label"] * 0, scores["path"]',
        checks.test_a_fake_has_attributes_of_its_own_or_those_of_its_photograph,
    ),
}
