"""Bugs for `mutants.py`: module → check that must notice → the code, the code with the bug."""

BUGS = {
    "evaluation.metrics": {
        "test_agrees_with_scikit_learn": [
            ("called, clipped = labels == 1", "called, clipped = labels == 0"),
            ("np.append(np.diff(scores[order]) != 0, True)", "np.ones(len(scores), bool)"),
            ('"precision": true_fakes /', '"precision": true_reals /'),
            ("true_reals / (num_real + num_images", "true_reals / (num_fake + num_images"),
            (
                "(true_fakes + true_reals) / num_images",
                "(true_fakes / num_fake + true_reals / num_real) / 2",
            ),
            ("precision = fakes[:, 1:] /", "precision = fakes[:, :-1] /"),
        ],
        "test_a_fake_a_hair_above_its_photograph_is_no_better_than_chance": [
            (
                '(values["area"] - counts**2 @ wins) / (num_fake * num_real - own)',
                'values["area"] / (num_fake * num_real)',
            )
        ],
        "test_auc_leaves_out_the_pairs_within_a_group": [
            ("(num_fake * num_real - own)", "(num_fake * num_real)"),
            (
                '(np.sign(pairs["score_x"] - pairs["score_y"]) + 1) / 2',
                'pairs["score_x"] > pairs["score_y"]',
            ),
        ],
        "test_a_weight_counts_its_group_so_many_times": [
            ("own = counts**2 @ pairs", "own = counts @ pairs")
        ],
        "test_a_score_at_the_threshold_is_called_fake_and_none_called_is_precision_zero": [
            ("scores >= threshold", "scores > threshold"),
            ("CLIP = 1e-7", "CLIP = 1e-2"),
        ],
        "test_equal_error_rate_is_where_the_roc_curve_crosses_the_antidiagonal": [
            ("low / (high - low) * step", "0 * step")
        ],
        "test_recall_at_a_false_positive_rate_is_the_best_that_stays_within": [
            ("reals <= allowed[:, None]", "reals <= allowed[:, None] + 1"),
            ("limit * num_real + 1e-9", "limit * num_real - 1e-9"),
        ],
        "test_calibration_error_agrees_with_a_loop_over_bins": [
            ("np.abs(totals[6:]).sum(axis=0)", "np.abs(totals[6:].sum(axis=0))")
        ],
        "test_threshold_has_the_best_balanced_accuracy_and_lies_in_the_middle": [
            (
                "balanced = (fake.sum() - fakes_below) * (~fake).sum() + reals_below * fake.sum()",
                "balanced = (fake.sum() - fakes_below) + reals_below",
            ),
            ("middle = (lows[best] + highs[best]) / 2", "middle = highs[best]"),
        ],
        "test_threshold_may_call_all_or_nothing_fake": [
            (
                "np.flatnonzero(balanced == balanced.max())",
                "np.flatnonzero(balanced[:-1] == balanced.max())",
            )
        ],
        "test_calibration_agrees_with_scikit_learn": [
            ("(num_fake + 1) / (num_fake + 2), 1 / (num_real + 2)", "1 - 1e-9, 1e-9"),
            (
                "special.expit(slope * _logits(scores) + intercept)",
                "special.expit(slope * _logits(scores))",
            ),
        ],
    },
    "evaluation.intervals": {
        "test_several_trainings_have_the_mean_and_the_df_of_satterthwaite": [
            ("if num_trainings > 1:", "if num_trainings > 99:"),
            ("ddof=1) * num_groups / (num_groups - 1)", "ddof=1)"),
        ],
        "test_interval_of_the_auc_agrees_with_a_jackknife": [
            ("step = reach / (middle * (1 - middle))", "step = reach")
        ],
        "test_where_all_or_nothing_is_seen_the_bound_is_that_of_clopper_and_pearson": [
            ("unseen, edge = 1 - 0.025 ** (1 / num_groups), ", "unseen, edge = 0.0, "),
            ("scarcer = min(", "scarcer = max("),
        ],
        "test_equal_scores_have_the_bound_of_what_no_resample_shows": [
            ("(~inside | (error < 1e-12))", "~inside")
        ],
        "test_two_groups_tell_nothing": [("if num_groups < 3:", "if num_groups < 2:")],
        "test_the_interval_excludes_zero_exactly_when_p_is_below_005": [
            ("p_value = 2 * stats.t.sf(", "p_value = stats.t.sf(")
        ],
        "test_rate_of_independent_images_has_the_interval_of_wilson": [
            ("num = len(events) ** 2 / np.sum(size**2)", "num = len(events)")
        ],
        "test_difference_of_estimates_on_different_images": [
            ("np.hypot(below[0], above[1])", "np.hypot(above[0], below[1])")
        ],
    },
    "evaluation.results": {
        "test_result_rows_depend_on_test_rows_only": [
            (
                'tested = tested[tested["split"] == "test"]',
                'tested = tested[tested["split"] != "train"]',
            )
        ],
        "test_threshold_and_calibration_come_from_validation_rows_of_the_training_set": [
            ('scores["split"] == "valid"', 'scores["split"] == "test"'),
            ('valid["test_set"].isin(train_set.split("+"))', 'valid["test_set"] != ""'),
        ],
        "test_result_rows_are_the_metrics_of_each_test_set_alone": [
            (
                'card["threshold"] if ending',
                'choose_threshold(tested["label"], tested["score"]) if ending',
            ),
            (
                "in tested.groupby(TASK, sort=False)",
                'in ((("insight", "wiki"), t) for _, t in tested.groupby("test_set"))',
            ),
            ('values = calibrated(values, card["slope"], card["intercept"])', "pass"),
            ('card["slope"], card["intercept"])', 'card["slope"], 0.0)'),
        ],
        "test_intervals_in_result_rows_draw_groups": [
            (
                'values, rows["group"], **options',
                'values, rows["path"] + rows["generator"], **options',
            )
        ],
        "test_flipped_labels_and_leaking_groups_are_refused": [
            ("(label == 0) != is_real", "label.isna()"),
            ('["split"].transform("nunique") > 1', '["split"].transform("nunique") > 3'),
        ],
        "test_means_over_seeds_are_those_of_the_images_that_every_training_scored": [
            ('join="inner"', 'join="outer"'),
            ('frame[frame["split"] == "test"].set_index(keys)', "frame.set_index(keys)"),
        ],
        "test_means_over_seeds_go_when_a_training_changes": [
            ("return other_kinds | means", "return other_kinds")
        ],
        "test_own_baselines_are_at_home_on_each_test_set": [
            ('{"train_set": test_set, **card}', '{"train_set": study.train_set, **card}')
        ],
        "test_validation_rows_of_several_training_sets_and_of_photographs_alone": [
            ('["label"].transform("max") == 1', '["label"].transform("max") >= 0')
        ],
        "test_photographs_without_fakes_have_a_rate_of_false_alarms_and_nothing_else": [
            ('rate(reals["score"] >= card["threshold"]', 'rate(reals["score"] >= 0.5')
        ],
        "test_rows_of_another_kind_stay_when_rows_are_replaced": [
            ('condition.partition(":")[0] or', '"" or')
        ],
        "test_results_replace_rows_with_the_same_keys_and_keep_the_others": [
            (
                "_isin(earlier, frame, order)",
                '_isin(earlier, frame, [name for name in order if name != "seed"])',
            )
        ],
    },
    "evaluation.comparisons": {
        "test_a_difference_is_significant_only_in_the_whole_family": [
            (
                'table["p_adjusted"] = holm(table["p_value"])',
                'table["p_adjusted"] = table["p_value"]',
            ),
            ('table["p_adjusted"] < SIGNIFICANCE', 'table["p_value"] < SIGNIFICANCE'),
        ],
        "test_holm_rejects_step_by_step": [
            ("np.maximum.accumulate(scaled).clip(max=1)", "scaled.clip(max=1)")
        ],
        "test_copies_in_their_group_change_no_difference": [
            (
                '("label", "score_first", "score_second", "group")',
                '("label", "score_first", "score_second", "path")',
            )
        ],
        "test_differences_are_those_of_paired_tests_on_each_set": [
            (
                "compare(*arrays, **options)",
                "compare(*arrays[:2], arrays[2][::-1], arrays[3], **options)",
            ),
            (
                '(table["test_set"] == test_set) & (table["real_source"] == real_source)',
                'table["test_set"] == test_set',
            ),
        ],
        "test_protocol_differences_are_controlled_minus_report_on_the_same_files": [
            (
                '(model_id(model, "controlled"), model_id(model, "report"))',
                '(model_id(model, "report"), model_id(model, "controlled"))',
            )
        ],
        "test_calibration_errors_are_those_of_the_metrics": [
            (
                '(False, rows["score"].to_numpy()), (True, after)',
                '(True, rows["score"].to_numpy()), (False, after)',
            ),
            (
                'tested, tables = scores[scores["split"] == "test"], []',
                'tested, tables = scores[scores["split"] != "train"], []',
            ),
        ],
        "test_calibration_error_by_chance_is_that_of_labels_drawn_from_the_scores": [
            ('sums["chance"][True] / counts', 'sums["chance"][False] / counts')
        ],
        "test_recall_by_generator_allows_so_many_false_positives_among_all_reals": [
            ("np.nextafter(reals[number], 2)", "reals[number]")
        ],
        "test_false_alarms_count_each_photograph_once_at_the_threshold_of_the_card": [
            ('rows["score"] >= card["threshold"]', 'rows["score"] >= tested["score"].median()'),
            ('.drop_duplicates(["split", "path"])', ""),
        ],
        "test_subgroups_are_the_rows_of_their_pictures": [
            ("unique.reindex(key).to_numpy()", "None"),
            (' & ~scores["test_set"].isin(study.aligned)', ""),
        ],
        "test_a_fake_has_attributes_of_its_own_or_those_of_its_photograph": [
            ('[scores["group"], scores["path"].str', '[scores["label"] * 0, scores["path"].str')
        ],
    },
    "detectors.robustness": {
        "test_degraded_scores_are_those_of_pictures_degraded_between_protocol_and_network": [
            ('if protocol == "controlled":', "if False:"),
            ('num = 1 + (plan[0] == "square")', "num = 1"),
            ("zip(columns, conditions)", "zip(columns, reversed(conditions))"),
        ],
        "test_degraded_scores_are_kept_until_model_or_pictures_change": [
            ('"made_from") != made_from', '"made_from") is None')
        ],
        "test_breaks_first_finds_the_mildest_level_below_halfway": [
            ("(clean + 0.5) / 2", "clean / 2")
        ],
    },
}
