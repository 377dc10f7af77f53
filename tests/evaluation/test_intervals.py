import numpy as np
import pandas as pd
import pytest
from made_results import auc
from scipy import special, stats

from src.evaluation import metrics
from src.evaluation.intervals import estimate

BOUNDS = ["ci_low", "ci_high"]


def _drawn(num_groups=40, auc=0.8, seed=0, num_trainings=1, spread=0.0):
    """Labels, scores and groups: a photograph and its fake in each, with a shared part. A fake is
    above another photograph with probability `auc`; trainings differ in how far."""
    generator, distance = np.random.default_rng(seed), np.sqrt(2) * stats.norm.ppf(auc)
    noise = np.sqrt(0.5) * generator.normal(size=(num_trainings + 1, 2, num_groups))
    shared = np.sqrt(0.5) * generator.normal(size=num_groups)
    shift = distance + spread * generator.normal(size=(num_trainings, 1, 1))
    # All trainings err on the same images, but not quite alike.
    logits = shared + 0.8 * noise[0] + 0.6 * noise[1:] + shift * [[0.0], [1.0]]
    scores = special.expit(logits.reshape(num_trainings, -1))
    labels, groups = np.repeat([0, 1], num_groups), np.tile(np.arange(num_groups), 2)
    return labels, (scores if num_trainings > 1 else scores[0]), groups


def _on_logit(value, error, df):
    """The interval in closed form."""
    step = stats.t.ppf(0.975, df) * error / (value * (1 - value))
    return special.expit(special.logit(value) + np.array([-step, step])).tolist()


def test_interval_of_the_auc_agrees_with_a_jackknife(code):
    labels, scores, groups = _drawn(30)
    row = code.estimate(labels, scores, groups, names=["auc"], num_resamples=4000).iloc[0]
    arrays = np.array([labels, scores, groups])
    left_out = [auc(*arrays[:, groups != group]) for group in range(30)]
    error = np.sqrt(29 / 30 * np.sum((left_out - np.mean(left_out)) ** 2))
    assert row["value"] == pytest.approx(auc(labels, scores, groups))
    assert row[BOUNDS].tolist() == pytest.approx(_on_logit(row["value"], error, 29), abs=0.01)


def test_interval_and_p_value_of_the_accuracy_are_those_of_a_t_test(code):
    labels, scores, groups = _drawn(12)
    other = _drawn(12, 0.6, seed=1)[1]
    right = [np.bincount(groups, (part >= 0.5) == labels) / 2 for part in (scores, other)]
    options = {"names": ["accuracy"], "num_resamples": 20_000}
    row = code.estimate(labels, scores, groups, **options).iloc[0]
    interval = _on_logit(row["value"], stats.sem(right[0]), 11)
    assert row[BOUNDS].tolist() == pytest.approx(interval, abs=0.005)
    row = code.compare(labels, scores, other, groups, **options).iloc[0]
    oracle = stats.ttest_rel(*right)
    assert row["p_value"] == pytest.approx(oracle.pvalue, rel=0.05)
    assert row[BOUNDS].tolist() == pytest.approx(oracle.confidence_interval(), abs=0.01)
    assert row[["value_first", "value_second"]].tolist() == [part.mean() for part in right]


def test_interval_of_the_log_loss_lies_around_it_by_a_factor(code):
    row = code.estimate(*_drawn(), names=["log_loss"], num_resamples=200).iloc[0]
    assert row["ci_low"] * row["ci_high"] == pytest.approx(row["value"] ** 2)
    assert 0 < row["ci_low"] < row["value"] < row["ci_high"]


def test_where_all_or_nothing_is_seen_the_bound_is_that_of_clopper_and_pearson(code):
    for num_groups in (3, 9, 100):
        labels, groups = np.repeat([0, 1], num_groups), np.tile(np.arange(num_groups), 2)
        for right, scores in ((0, 1.0 - labels), (num_groups, 1.0 * labels)):
            exact = stats.binomtest(right, num_groups).proportion_ci(method="exact")
            names = ["auc", "auc_within_group", "accuracy"]
            table = code.estimate(labels, scores, groups, num_resamples=20, names=names)
            assert (table["value"] == right / num_groups).all()
            np.testing.assert_allclose(table[BOUNDS], [exact] * 3, atol=1e-12)
    # The class with fewer groups counts.
    labels = np.repeat([0, 1], (20, 4))
    row = code.estimate(labels, 1.0 * labels, range(24), num_resamples=20, names=["auc"]).iloc[0]
    assert row["ci_low"] == pytest.approx(stats.binomtest(4, 4).proportion_ci().low)


def test_equal_scores_have_the_bound_of_what_no_resample_shows(code):
    for num_groups in (3, 9, 100):
        labels, groups = np.repeat([0, 1], num_groups), np.tile(np.arange(num_groups), 2)
        row = code.estimate(labels, np.full(len(labels), 0.7), groups, names=["auc"]).iloc[0]
        bound = stats.binomtest(0, num_groups).proportion_ci().high
        assert row["value"] == 0.5
        assert row[BOUNDS].tolist() == pytest.approx([max(0.5 - bound, 0), min(0.5 + bound, 1)])


def test_no_metric_of_one_score_a_class_has_an_interval_without_width(code):
    """Unseen images may score otherwise, up to the bound of Clopper and Pearson times the range."""
    ranges = {"accuracy": 1, "recall": 1, "brier": 1, "ece": 1, "log_loss": -np.log(1e-7)}
    most = np.array([*ranges.values()])
    groups = np.append(np.repeat(np.arange(9), 2), 0)  # resamples differ in the shares of classes
    labels = np.append(np.tile([0, 1], 9), 1)
    bound = stats.binomtest(0, 9).proportion_ci().high
    for scores in (np.full(19, 0.3), np.where(labels, 0.8, 0.2), 1 - labels, 1e-9 * groups + 0.4):
        table = code.estimate(labels, scores, groups, names=[*ranges], num_resamples=20)
        low, high = table["value"] - bound * most, table["value"] + bound * most
        np.testing.assert_allclose(table[BOUNDS], np.stack([low.clip(0), high.clip(upper=most)], 1))
    found = code.estimate(labels, scores, groups, names=["auc"]).iloc[0]  # of their ranks
    expected = code.estimate(labels, groups / 9, groups, names=["auc"]).iloc[0]
    assert found[["value", *BOUNDS]].tolist() == expected[["value", *BOUNDS]].tolist()


def test_two_groups_tell_nothing(code):
    labels, groups = [0, 1, 0, 1], [0, 0, 1, 1]
    names = ["auc", "accuracy", "brier", "log_loss"]
    table = code.estimate(labels, [0.2, 0.6, 0.4, 0.8], groups, names=names)
    assert (table["ci_low"] == 0).all()
    assert table["ci_high"].tolist() == [1, 1, 1, pytest.approx(-np.log(1e-7))]


def test_several_trainings_have_the_mean_and_the_df_of_satterthwaite(code):
    labels, scores, groups = _drawn(20, num_trainings=3, spread=0.4)
    options = {"num_resamples": 300, "seed": 4, "threshold": 0.4, "names": ["accuracy"]}
    counts = code._group_counts(labels.tobytes(), groups.tobytes(), 300, 4)
    right = (scores >= 0.4) == labels
    draws = [right.mean(axis=0) @ count[groups] / count[groups].sum() for count in counts]
    values = right.mean(axis=1)
    of_groups, of_seeds = np.var(draws, ddof=1) * 20 / 19, np.var(values, ddof=1) / 3
    error = np.sqrt(of_groups + of_seeds)
    df = (of_groups + of_seeds) ** 2 / (of_groups**2 / 19 + of_seeds**2 / 2)
    row = code.estimate(labels, scores, groups, **options).iloc[0]
    expected = [values.mean(), *_on_logit(values.mean(), error, df)]
    assert row[["value", *BOUNDS]].tolist() == pytest.approx(expected, abs=1e-12)


def test_copies_of_an_image_in_its_group_do_not_narrow_the_interval(code):
    names = ["auc", "auc_within_group", "ap", "accuracy", "f1", "brier", "ece", "recall_real"]
    arrays, options = _drawn(), {"num_resamples": 200, "names": names}
    once = code.estimate(*arrays, **options)
    often = code.estimate(*(np.repeat(values, 10) for values in arrays), **options)
    columns = ["value", *BOUNDS, "num_groups"]
    np.testing.assert_allclose(once[columns], often[columns], atol=1e-12)
    assert (often["num_real"] == 400).all() and (often["num_fake"] == 400).all()


def test_leaves_out_what_the_images_cannot_tell(code):
    labels, scores, groups = _drawn(200)  # 200 reals
    for drop, left_out in ((0, {"tpr_at_fpr05"}), (1, {"tpr_at_fpr05", "tpr_at_fpr1"})):
        arrays = labels[drop:], scores[drop:], groups[drop:]
        found = code.estimate(*arrays, num_resamples=20)
        assert found["metric"].tolist() == [n for n in metrics.METRICS if n not in left_out]
    found = code.estimate(labels, scores, np.arange(400), num_resamples=20)
    assert "auc_within_group" not in found["metric"].tolist()
    assert found[["num_real", "num_fake", "num_groups"]].values[0].tolist() == [200, 200, 400]


def test_each_resample_keeps_groups_of_one_class_in_proportion(code):
    labels = np.array([0, 0, 0, 1, 1, 0, 1, 0, 1])
    groups = np.array([0, 1, 2, 3, 4, 5, 5, 6, 6])
    counts = code._group_counts(labels.tobytes(), groups.tobytes(), 500, 0)
    for members, size in (([0, 1, 2], 3), ([3, 4], 2), ([5, 6], 2)):
        assert (counts[:, members].sum(axis=1) == size).all()
        assert counts[:, members].mean(axis=0) == pytest.approx(1, abs=0.15)


def test_same_seed_same_interval_however_the_work_is_divided(code, monkeypatch):
    labels, scores, groups = _drawn()
    first = code.estimate(labels, scores, groups, num_resamples=50, seed=1)
    assert not first.equals(code.estimate(labels, scores, groups, num_resamples=50, seed=2))
    monkeypatch.setattr(code, "_WEIGHTS_AT_ONCE", 1)
    names = [f"group {number}" for number in groups]
    again = code.estimate(labels, [scores] * 3, names, num_resamples=50, seed=1)
    pd.testing.assert_frame_equal(first, again)  # a training repeated adds nothing


def test_the_interval_excludes_zero_exactly_when_p_is_below_005(code):
    found = []
    for num_groups in (3, 5, 6, 9, 12, 13):
        labels, (first, second), groups = _drawn(num_groups, num_trainings=2, seed=num_groups)
        better = special.expit(special.logit(second) + 0.15 * num_groups * labels)
        # No resample changes the AUC of these.
        perfect, useless = labels / 1.0, np.full(2 * num_groups, 0.5)
        pairs = [(better, first), (perfect, useless), (useless, perfect), (perfect, 1 - perfect)]
        for pair in pairs:
            row = code.compare(labels, *pair, groups, num_resamples=100).iloc[0]
            found.append((row["ci_low"] > 0 or row["ci_high"] < 0, row["p_value"] < 0.05))
    excluded, small = np.transpose(found)
    np.testing.assert_array_equal(excluded, small)
    assert 5 < small.sum() < 19


def test_differences_that_no_resample_changes_have_the_p_value_of_a_sign_test(code):
    for num_groups in (4, 6, 11):
        labels, _, groups = _drawn(num_groups)
        right = labels / 1.0
        row = code.compare(labels, right, 1 - right, groups, num_resamples=20).iloc[0]
        oracle = stats.binomtest(num_groups, num_groups).pvalue
        assert (row["value"], row["p_value"]) == (1, pytest.approx(oracle))
        same = code.compare(labels, right, right, groups, num_resamples=20).iloc[0]
        assert same[["value", *BOUNDS, "p_value"]].tolist() == [0, 0, 0, 1]


def test_nineteen_in_twenty_intervals_hold_the_truth(code):
    number, held, options = 40, [], {"num_resamples": 150, "names": ["auc"]}
    # The mean over trainings: their shifts are a further normal part of the difference.
    mean = stats.norm.cdf(np.sqrt(2) * stats.norm.ppf(0.8) / np.sqrt(2 + 0.3**2))
    for seed in range(number):
        labels, scores, groups = _drawn(25, 0.8, seed, num_trainings=3, spread=0.3)
        _, (first, second), _ = _drawn(25, 0.8, seed, num_trainings=2)
        rows = [
            (code.estimate(labels, first, groups, **options), 0.8),
            (code.compare(labels, first, second, groups, **options), 0.0),
            (code.estimate(labels, scores, groups, **options), mean),
        ]
        held.append([row["ci_low"][0] <= truth <= row["ci_high"][0] for row, truth in rows])
    for hits in np.sum(held, axis=0):
        assert stats.binomtest(int(hits), number, 0.95).pvalue > 0.01


def test_difference_of_estimates_on_different_images(code):
    first = pd.DataFrame({"value": [0.8], "ci_low": [0.7], "ci_high": [0.85]}, ["a"])
    second = pd.DataFrame({"value": [0.5], "ci_low": [0.4], "ci_high": [0.6]}, ["a"])
    row = code.difference(first, second).loc["a"]
    expected = [0.3, 0.3 - np.hypot(0.1, 0.1), 0.3 + np.hypot(0.05, 0.1)]
    assert row[["value", *BOUNDS]].tolist() == pytest.approx(expected)


def test_mean_has_the_interval_of_a_t_test_over_groups(code):
    values = np.random.default_rng(0).normal(size=(9, 4))
    for each in (1, 4):  # images in a group
        oracle = stats.ttest_1samp(values[:, :each].mean(axis=1), 0)
        found = code.mean(values[:, :each].ravel(), np.repeat(np.arange(9), each))
        expected = [values[:, :each].mean(), *oracle.confidence_interval()]
        assert list(found.values()) == pytest.approx(expected)
    # A group of more images weighs more: a ratio's variance, linearized.
    values, groups = np.arange(6.0) ** 2, np.array([0, 0, 0, 1, 2, 2])
    pulls = [np.sum(values[groups == group] - values.mean()) for group in range(3)]
    reach = stats.t.ppf(0.975, 2) * np.sqrt(1.5 * np.sum(np.square(pulls))) / 6
    expected = values.mean() + np.array([0, -reach, reach])
    assert list(code.mean(values, groups).values()) == pytest.approx(expected)


def test_rate_of_independent_images_has_the_interval_of_wilson(code):
    for hits, num in ((0, 9), (3, 9), (9, 9), (1, 200)):
        oracle = stats.binomtest(hits, num).proportion_ci(method="wilson")
        for copies in (1, 4):  # copies know no more
            events, groups = np.arange(num) < hits, np.arange(num)
            found = code.rate(np.repeat(events, copies), np.repeat(groups, copies))
            assert list(found.values()) == pytest.approx([hits / num, *oracle], abs=1e-12)
    # Each group holds one: less spread than by chance, but no narrower.
    found = code.rate(np.arange(8) % 2 == 0, np.arange(8) // 2)
    oracle = stats.binomtest(4, 8).proportion_ci(method="wilson")
    assert list(found.values()) == pytest.approx([0.5, *oracle])


def test_nineteen_in_twenty_intervals_of_a_rate_hold_the_truth(code):
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), generator.integers(1, 6, 30))
    for truth in (0.05, 0.3):
        holds = []
        for _ in range(1500):  # four in five images follow their group
            follows = generator.random(len(groups)) < 0.8
            own, shared = generator.random(len(groups)) < truth, generator.random(30) < truth
            row = code.rate(np.where(follows, shared[groups], own), groups)
            holds.append(row["ci_low"] <= truth <= row["ci_high"])
        assert 0.91 <= np.mean(holds) <= 0.99


def test_says_what_is_wrong_with_arrays_or_groups():
    labels, scores, groups = _drawn()
    for arrays, message in (
        ((labels, [scores, scores + 1], groups), r"scores \(N,\) in \[0, 1\]"),
        ((labels, scores, groups[1:]), "received 79, 0 missing"),
        ((labels, scores, np.zeros(80)), "at least 2 groups .* classes .*; received 1 groups"),
        ((np.zeros(80), scores, groups), r"of \[0.0\]"),
    ):
        with pytest.raises(ValueError, match=message):
            estimate(*arrays)
