import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from scipy import optimize, special, stats

from src.evaluation import metrics
from src.evaluation.metrics import choose_threshold, compute, delong, estimate, fit_temperature


@pytest.fixture
def code():
    return metrics


def _scored(num_images=400, seed=0, decimals=None, shift=0.7):
    """Labels, scores and groups: pairs of a real and a fake that share a part of their score, then
    single images."""
    generator = np.random.default_rng(seed)
    labels = np.arange(num_images) % 2
    groups = np.minimum(np.arange(num_images) // 2, num_images // 4) + np.maximum(
        np.arange(num_images) - num_images // 2, 0
    )
    shared = generator.normal(size=num_images)[groups]
    scores = special.expit(shift * (2 * labels - 1) + shared + generator.normal(size=num_images))
    return labels, (scores if decimals is None else scores.round(decimals)), groups


def test_agrees_with_scikit_learn(code):
    for decimals in (None, 1):  # with one decimal nearly every score is tied
        labels, scores, _ = _scored(decimals=decimals)
        labels, scores = labels[7:-40:3], scores[7:-40:3]
        labels[:30] = 1  # unequal classes
        for threshold in (0.5, 0.3, 0.8):
            ours, called = code.compute(labels, scores, threshold), scores >= threshold
            theirs = {
                "auc": sklearn.metrics.roc_auc_score(labels, scores),
                "ap": sklearn.metrics.average_precision_score(labels, scores),
                "accuracy": sklearn.metrics.accuracy_score(labels, called),
                "balanced_accuracy": sklearn.metrics.balanced_accuracy_score(labels, called),
                "brier": sklearn.metrics.brier_score_loss(labels, scores),
                "log_loss": sklearn.metrics.log_loss(labels, np.clip(scores, 1e-7, 1 - 1e-7)),
            }
            for suffix, positive in (("", 1), ("_real", 0)):
                for name in ("precision", "recall", "f1"):
                    function = getattr(sklearn.metrics, f"{name}_score")
                    theirs[name + suffix] = function(labels, called, pos_label=positive)
            for name, value in theirs.items():
                assert ours[name] == pytest.approx(value, abs=1e-12), name
    assert set(ours) == set(code.METRICS)


def test_equal_error_rate_is_where_the_roc_curve_crosses_the_antidiagonal(code):
    for decimals in (None, 1, 2):
        labels, scores, _ = _scored(decimals=decimals, seed=3)
        fpr, tpr, _ = sklearn.metrics.roc_curve(labels, scores, drop_intermediate=False)
        oracle = optimize.brentq(lambda x, fpr=fpr, tpr=tpr: 1 - x - np.interp(x, fpr, tpr), 0, 1)
        assert code.compute(labels, scores)["eer"] == pytest.approx(oracle, abs=1e-9)
    assert code.compute([0, 1], [0.5, 0.5])["eer"] == 0.5
    assert code.compute([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4])["eer"] == 0
    assert code.compute([0, 1], [0.9, 0.1])["eer"] == 1


def test_recall_at_a_false_positive_rate_is_the_best_that_stays_within(code):
    for decimals in (None, 2):
        labels, scores, _ = _scored(4000, decimals=decimals, shift=1.5)
        fpr, tpr, _ = sklearn.metrics.roc_curve(labels, scores, drop_intermediate=False)
        for name, limit in (("tpr_at_fpr1", 0.01), ("tpr_at_fpr05", 0.005)):
            assert code.compute(labels, scores)[name] == pytest.approx(
                tpr[fpr <= limit].max(), abs=1e-12
            )
    # 7 of 700 reals are 1 % exactly, one more is too many.
    for num_above, recall in ((7, 1.0), (8, 0.5)):
        reals = np.r_[np.full(num_above, 0.8), np.full(700 - num_above, 0.1)]
        labels, scores = np.r_[np.zeros(700), 1, 1], np.r_[reals, 0.9, 0.5]
        assert code.compute(labels, scores)["tpr_at_fpr1"] == recall


def test_calibration_error_agrees_with_a_loop_over_bins(code):
    labels, scores, _ = _scored(decimals=3)
    scores[:2] = 0, 1
    bins, error = np.minimum((scores * 15).astype(int), 14), 0
    for number in np.unique(bins):
        inside = bins == number
        error += inside.mean() * abs(labels[inside].mean() - scores[inside].mean())
    assert code.compute(labels, scores)["ece"] == pytest.approx(error, abs=1e-12)
    assert code.compute([0, 1] * 10, [0.5] * 20)["ece"] == 0


def test_a_score_at_the_threshold_is_called_fake(code):
    assert code.compute([0, 1], [0.4, 0.5])["accuracy"] == 1


def test_no_image_called_fake_has_precision_and_f1_of_zero(code):
    values = code.compute([0, 1], [0.1, 0.2])
    assert (values["precision"], values["f1"], values["recall_real"]) == (0, 0, 1)
    assert code.compute([0, 1], [0.8, 0.9])["precision_real"] == 0


def test_confident_mistakes_cost_a_finite_log_loss(code):
    assert code.compute([0, 1], [1.0, 0.0])["log_loss"] == pytest.approx(-np.log(1e-7), rel=1e-6)


def test_every_resample_is_the_metrics_of_the_images_of_the_drawn_groups(code):
    for decimals in (None, 1):
        labels, scores, groups = _scored(120, decimals=decimals)
        value, draws = code._bootstrap(labels, scores, groups, 0.4, 25, 5, code.METRICS)
        counts = np.concatenate(list(code._group_counts(labels, groups, groups.max() + 1, 25, 5)))
        assert value == pytest.approx(list(code.compute(labels, scores, 0.4).values()), abs=1e-12)
        for row, count in zip(draws, counts):
            images = np.repeat(np.arange(120), count[groups].astype(int))
            oracle = code.compute(labels[images], scores[images], 0.4)
            assert row == pytest.approx([oracle[name] for name in code.METRICS], abs=1e-12)
            assert oracle["auc"] == pytest.approx(
                sklearn.metrics.roc_auc_score(labels[images], scores[images])
            )


def test_copies_of_an_image_in_its_group_do_not_narrow_the_interval(code):
    labels, scores, groups = _scored(100)
    once = code.estimate(labels, scores, groups, num_resamples=200)
    often = code.estimate(
        *(np.repeat(values, 10) for values in (labels, scores, groups)), num_resamples=200
    )
    smooth = once["metric"].isin(["auc", "ap", "accuracy", "f1", "brier", "ece", "recall_real"])
    columns = ["value", "ci_low", "ci_high"]
    np.testing.assert_allclose(once.loc[smooth, columns], often.loc[smooth, columns], atol=1e-12)
    assert (often["num_real"] == 500).all() and (often["num_fake"] == 500).all()


def test_nineteen_in_twenty_intervals_hold_the_truth(code):
    generator, truth, holds = np.random.default_rng(0), stats.norm.cdf(1 / np.sqrt(2)), []
    labels, groups = np.arange(240) % 2, np.arange(240) // 6  # 40 groups of 3 reals and 3 fakes
    spread = np.sqrt([0.5, 0.5])
    for seed in range(300):
        # A share of each score is common to its class and group, which an image bootstrap would not
        # see.
        shared = generator.normal(size=(40, 2))[groups, labels]
        scores = special.expit(labels + spread[0] * shared + spread[1] * generator.normal(size=240))
        row = code.estimate(
            labels, scores, groups, num_resamples=200, seed=seed, names=["auc"]
        ).iloc[0]
        holds.append(row["ci_low"] <= truth <= row["ci_high"])
    assert 0.91 <= np.mean(holds) <= 0.98


def test_interval_is_the_central_95_percent_of_the_resamples(code):
    labels, scores, groups = _scored()
    _, draws = code._bootstrap(labels, scores, groups, 0.5, 300, 1, ["auc"])
    row = code.estimate(labels, scores, groups, num_resamples=300, seed=1, names=["auc"]).iloc[0]
    assert [row["ci_low"], row["ci_high"]] == pytest.approx(np.percentile(draws, [2.5, 97.5]))


def test_each_resample_keeps_groups_of_one_class_in_proportion(code):
    labels = np.array([0, 0, 0, 1, 1, 0, 1, 0, 1])
    groups = np.array([0, 1, 2, 3, 4, 5, 5, 6, 6])
    counts = np.concatenate(list(code._group_counts(labels, groups, 7, 500, 0)))
    for members, size in (([0, 1, 2], 3), ([3, 4], 2), ([5, 6], 2)):
        assert (counts[:, members].sum(axis=1) == size).all()
        assert counts[:, members].mean(axis=0) == pytest.approx(1, abs=0.15)
    table = code.estimate(labels, np.linspace(0, 1, 9), groups, num_resamples=500)
    assert np.isfinite(table[["ci_low", "ci_high"]]).all(axis=None)


def test_same_seed_same_interval_however_the_work_is_divided(code):
    labels, scores, groups = _scored()
    names = np.array([f"group {number}" for number in groups])
    first = code.estimate(labels, scores, groups, num_resamples=50, seed=1)
    pd.testing.assert_frame_equal(
        first, code.estimate(labels, scores, names, num_resamples=50, seed=1)
    )
    assert not first.equals(code.estimate(labels, scores, groups, num_resamples=50, seed=2))
    before = code._WEIGHTS_AT_ONCE
    try:
        code._WEIGHTS_AT_ONCE = 1
        pd.testing.assert_frame_equal(
            first, code.estimate(labels, scores, groups, num_resamples=50, seed=1)
        )
    finally:
        code._WEIGHTS_AT_ONCE = before


def _two_detectors(num_images=600):
    """A detector, and a better one that is right about much the same images."""
    labels, first, groups = _scored(num_images)
    noise = np.random.default_rng(1).normal(size=num_images)[
        groups
    ]  # its errors, too, are shared within groups
    return (
        labels,
        first,
        special.expit(special.logit(first) + 0.3 * (2 * labels - 1) + 0.4 * noise),
        groups,
    )


def test_paired_difference_is_narrower_than_the_detectors_own_intervals(code):
    labels, first, second, groups = _two_detectors()
    row = code.compare(labels, second, first, groups, num_resamples=500).iloc[0]
    single = code.estimate(labels, first, groups, num_resamples=500, names=["auc"]).iloc[0]
    areas = [sklearn.metrics.roc_auc_score(labels, scores) for scores in (second, first)]
    assert (
        row["value"] == pytest.approx(areas[0] - areas[1])
        and 0 < row["ci_low"] < row["value"] < row["ci_high"]
    )
    assert row["ci_high"] - row["ci_low"] < 0.8 * (single["ci_high"] - single["ci_low"])
    same = code.compare(labels, first, first, groups, num_resamples=50, names=["auc", "f1"])
    assert (same[["value", "ci_low", "ci_high"]] == 0).all(axis=None)


def test_delong_agrees_with_every_pair_compared(code):
    labels, first, second, _ = _two_detectors(200)
    first, second = first.round(1), second.round(1)  # with ties
    placements = []
    for scores in (first, second):
        fakes, reals = scores[labels == 1, None], scores[None, labels == 0]
        wins = (fakes > reals) + 0.5 * (fakes == reals)
        placements.append((wins.mean(axis=1), wins.mean(axis=0)))
    covariance = sum(np.cov(placements[0][side], placements[1][side]) / 100 for side in (0, 1))
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    difference = placements[0][0].mean() - placements[1][0].mean()
    result = code.delong(labels, first, second)
    assert result["difference"] == pytest.approx(difference) and result[
        "standard_error"
    ] == pytest.approx(error)
    assert result["p_value"] == pytest.approx(2 * stats.norm.sf(abs(difference / error)))
    assert code.delong(labels, first, second, np.arange(200)) == result
    assert code.delong(labels, first, first)["p_value"] == 1


def test_delong_by_group_agrees_with_the_bootstrap_by_group(code):
    labels, first, second, groups = _two_detectors(1200)
    labels, first, second, groups = (
        np.repeat(values, 3) for values in (labels, first, second, groups)
    )
    _, draws = code._bootstrap(labels, first, groups, 0.5, 1000, 0, ["auc"])
    _, other = code._bootstrap(labels, second, groups, 0.5, 1000, 0, ["auc"])
    by_group = code.delong(labels, first, second, groups)["standard_error"]
    assert by_group == pytest.approx((draws - other).std(), rel=0.1)
    assert by_group > 1.5 * code.delong(labels, first, second)["standard_error"]


def test_one_p_value_in_twenty_is_small_where_there_is_no_difference(code):
    generator, small = np.random.default_rng(0), []
    labels, groups = np.tile([0, 1], 120), np.arange(240) // 4  # 60 groups of 2 reals and 2 fakes
    for _ in range(300):
        shared = generator.normal(size=(60, 2))[groups, labels]
        pair = [special.expit(labels + shared + 0.7 * generator.normal(size=240)) for _ in range(2)]
        small.append(code.delong(labels, *pair, groups)["p_value"] < 0.05)
    assert stats.binomtest(sum(small), 300, 0.05).pvalue > 0.01


def test_rate_of_independent_images_has_the_interval_of_wilson(code):
    for hits, num in ((0, 9), (3, 9), (9, 9), (1, 200)):
        low, high = stats.binomtest(hits, num).proportion_ci(method="wilson")
        found = code.rate(np.arange(num) < hits, np.arange(num))
        assert list(found.values()) == pytest.approx([hits / num, low, high], abs=1e-12)
        copies = code.rate(
            np.repeat(np.arange(num) < hits, 4), np.repeat(np.arange(num), 4)
        )  # know no more
        assert list(copies.values()) == pytest.approx([hits / num, low, high], abs=1e-12)
    halves = code.rate(
        np.arange(8) % 2 == 0, np.arange(8) // 2
    )  # each group holds one: less spread than by chance
    assert list(halves.values()) == pytest.approx(
        [0.5, *stats.binomtest(4, 8).proportion_ci(method="wilson")]
    )


def test_nineteen_in_twenty_intervals_of_a_rate_hold_the_truth(code):
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), generator.integers(1, 6, 30))
    for truth in (0.05, 0.3):
        holds = []
        for _ in range(1500):  # four in five images follow their group
            follows, own = (
                generator.random(len(groups)) < 0.8,
                generator.random(len(groups)) < truth,
            )
            row = code.rate(np.where(follows, (generator.random(30) < truth)[groups], own), groups)
            holds.append(row["ci_low"] <= truth <= row["ci_high"])
        assert 0.91 <= np.mean(holds) <= 0.99


def test_says_what_is_wrong_with_events(code):
    for events, groups, message in (
        ([], [], "N > 0"),
        ([0.2, 0.7], [1, 2], "Expected events bool"),
        ([True, False], [1], "received 1, 0 missing"),
    ):
        with pytest.raises(ValueError, match=message):
            code.rate(events, groups)


def test_threshold_has_the_best_balanced_accuracy_and_lies_in_the_middle(code):
    for seed in range(5):
        labels, scores, _ = _scored(90, seed, decimals=2)
        labels[:40] = 0  # unequal classes: accuracy would choose another
        chosen = code.choose_threshold(labels, scores)
        grid = np.arange(0, 1.01, 0.005)
        best = max(
            sklearn.metrics.balanced_accuracy_score(labels, scores >= value) for value in grid
        )
        assert code.compute(labels, scores, chosen)["balanced_accuracy"] == pytest.approx(best)
        assert np.abs(scores - chosen).min() == pytest.approx(0.005) or chosen not in scores
    assert code.choose_threshold([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9]) == pytest.approx(0.4)
    # Two cuts are equally good; the wider gap wins.
    assert code.choose_threshold([0, 1, 0, 1], [0.1, 0.2, 0.6, 0.9]) == pytest.approx(0.75)


def test_threshold_of_hard_cases(code):
    assert 0 < code.choose_threshold([0, 1], [0.4, 0.4]) <= 0.4
    low = 0.3
    high = np.nextafter(low, 1)
    assert (
        code.compute([0, 1], [low, high], code.choose_threshold([0, 1], [low, high]))["accuracy"]
        == 1
    )
    assert (
        code.compute([0, 1], [0.9, 0.1], code.choose_threshold([0, 1], [0.9, 0.1]))[
            "balanced_accuracy"
        ]
        == 0.5
    )


def test_temperature_undoes_an_overconfident_scale(code):
    generator = np.random.default_rng(0)
    logits = generator.normal(size=20_000)
    labels = (generator.random(20_000) < special.expit(logits)).astype(int)
    scores = special.expit(3 * logits)
    temperature = code.fit_temperature(labels, scores)
    assert temperature == pytest.approx(3, rel=0.05)
    before, after = (
        code.compute(labels, scores),
        code.compute(labels, code.apply_temperature(scores, temperature)),
    )
    assert after["ece"] < 0.02 < before["ece"] and after["auc"] == before["auc"]
    for other in (0.9 * temperature, 1.1 * temperature):
        assert (
            after["log_loss"]
            < code.compute(labels, code.apply_temperature(scores, other))["log_loss"]
        )


def test_temperature_is_bounded_where_there_is_no_minimum(code):
    assert code.fit_temperature([0, 1], [0.4, 0.6]) == pytest.approx(0.05, rel=1e-3)
    assert code.fit_temperature([0, 1], [0.6, 0.4]) == pytest.approx(20, rel=1e-3)
    assert code.fit_temperature([0, 1], [0.0, 1.0]) > 0


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([], [], "N > 0"),
        ([0, 1], [0.5], r"\(2,\) and \(1,\)"),
        ([[0, 1]], [[0.1, 0.2]], "one shape"),
        ([0, 0], [0.1, 0.2], "2 reals and nothing else"),
        ([1], [0.1], "1 fakes and nothing else"),
        ([0, 2], [0.1, 0.2], r"labels 0 \(real\) and 1 \(fake\), received \[0, 2\]"),
        ([0, 1], [0.1, np.nan], "1 of them NaN"),
        ([0, 1], [np.nan, np.nan], "2 of them NaN"),
        ([0, 1], [-3.0, 2.0], "sigmoid"),
    ],
)
def test_says_what_is_wrong_with_labels_or_scores(labels, scores, message):
    calls = [
        lambda: compute(labels, scores),
        lambda: estimate(labels, scores, range(len(labels))),
        lambda: choose_threshold(labels, scores),
        lambda: fit_temperature(labels, scores),
        lambda: delong(labels, scores, scores),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()


def test_says_what_is_wrong_with_groups_names_or_resamples():
    labels, scores, groups = _scored(40)
    with pytest.raises(ValueError, match="received 39, 0 missing"):
        estimate(labels, scores, groups[1:])
    with pytest.raises(ValueError, match="40, 1 missing"):
        estimate(labels, scores, np.where(groups == groups[-1], None, groups))
    with pytest.raises(ValueError, match=r"1 group\(s\) are too few"):
        estimate(labels, scores, np.zeros(40))
    with pytest.raises(ValueError, match="at least 2 groups with fakes"):
        delong(labels, scores, scores, np.zeros(40))
    with pytest.raises(ValueError, match="no metrics named .'roc'"):
        estimate(labels, scores, groups, names=["roc"])
    with pytest.raises(ValueError, match="num_resamples"):
        estimate(labels, scores, groups, num_resamples=0)
