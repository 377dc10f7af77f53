"""Bugs planted in `src.evaluation.comparisons`, each with the check that must notice it."""

from evaluation import test_comparisons as checks

MUTANTS = {  # bug: (the code, the code with the bug, the check that must notice)
    "Holm forgotten": (
        'table["p_adjusted"] = holm(table["p_value"])',
        'table["p_adjusted"] = table["p_value"]',
        checks.test_a_difference_is_significant_only_in_the_whole_family,
    ),
    "Holm without its running maximum": (
        "np.maximum.accumulate(scaled).clip(max=1)",
        "scaled.clip(max=1)",
        checks.test_holm_rejects_step_by_step,
    ),
    "images drawn instead of groups": (
        '("label", "first", "second", "group")',
        '("label", "first", "second", "path")',
        checks.test_copies_in_their_group_change_no_difference,
    ),
    "unpaired bootstrap": (
        "compare(*arrays, **options)",
        "compare(*arrays[:2], arrays[2].sample(frac=1, random_state=0), arrays[3], **options)",
        checks.test_differences_are_those_of_paired_tests_on_each_set,
    ),
    "significant without the family": (
        'table["p_adjusted"] < SIGNIFICANCE',
        'table["p_value"] < SIGNIFICANCE',
        checks.test_a_difference_is_significant_only_in_the_whole_family,
    ),
    "foreign photographs mixed in": (
        '(table["test_set"] == test_set) & (table["real_source"] == real_source)',
        'table["test_set"] == test_set',
        checks.test_differences_are_those_of_paired_tests_on_each_set,
    ),
    "protocols the wrong way round": (
        '(model_id(model, "controlled"), model_id(model, "report"))',
        '(model_id(model, "report"), model_id(model, "controlled"))',
        checks.test_protocol_differences_are_controlled_minus_report_on_the_same_files,
    ),
    "before and after calibration swapped": (
        '(False, rows["score"].to_numpy()), (True, after)',
        '(True, rows["score"].to_numpy()), (False, after)',
        checks.test_calibration_errors_are_those_of_the_metrics,
    ),
    "validation images in the reliability": (
        'tested, tables = scores[scores["split"] == "test"], []',
        'tested, tables = scores[scores["split"] != "train"], []',
        checks.test_calibration_errors_are_those_of_the_metrics,
    ),
    "chance after the wrong scores": (
        'sums["chance"][True] / counts',
        'sums["chance"][False] / counts',
        checks.test_calibration_error_by_chance_is_that_of_labels_drawn_from_the_scores,
    ),
    "one false positive too many": (
        "np.nextafter(reals[number], 2)",
        "reals[number]",
        checks.test_recall_by_generator_allows_so_many_false_positives_among_all_reals,
    ),
    "threshold from the test split": (
        'rows["score"] >= card["threshold"]',
        'rows["score"] >= tested["score"].median()',
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
        "unique.reindex(key).to_numpy()",
        "None",
        checks.test_subgroups_are_the_rows_of_their_pictures,
    ),
    "a namesake taken for the photograph": (
        '[scores["group"], scores["path"].str',
        '[scores["label"] * 0, scores["path"].str',
        checks.test_a_fake_has_attributes_of_its_own_or_those_of_its_photograph,
    ),
}
