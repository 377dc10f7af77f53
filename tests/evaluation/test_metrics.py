import numpy as np
import pytest
import sklearn.metrics
from made_results import compute
from scipy import optimize, special
from sklearn.calibration import _SigmoidCalibration

from src.evaluation.metrics import choose_threshold, fit_calibration


def _scored(num_images=400, seed=0, decimals=None, shift=0.7):
    """Labels, scores and groups: pairs of a real and a fake that share a part of their score, then
    single images."""
    generator, number = np.random.default_rng(seed), np.arange(num_images)
    labels = number % 2
    groups = np.minimum(number // 2, num_images // 4) + np.maximum(number - num_images // 2, 0)
    shared = generator.normal(size=num_images)[groups]
    scores = special.expit(shift * (2 * labels - 1) + shared + generator.normal(size=num_images))
    return labels, (scores if decimals is None else scores.round(decimals)), groups


def test_agrees_with_scikit_learn(code):
    for decimals in (None, 1):  # with one decimal nearly every score is tied
        labels, scores, _ = _scored(decimals=decimals)
        labels, scores = labels[7:-40:3], scores[7:-40:3]
        labels[:30] = 1  # unequal classes
        for threshold in (0.5, 0.3, 0.8):
            ours, called = compute(labels, scores, threshold, code=code), scores >= threshold
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
    assert set(ours) == set(code.METRICS) and np.isnan(ours["auc_within_group"])


def test_auc_leaves_out_the_pairs_within_a_group(code):
    for decimals in (None, 1):
        labels, scores, _ = _scored(60, decimals=decimals)
        groups = np.random.default_rng(1).integers(12, size=60)
        won = {True: [], False: []}  # in the same group?
        for fake in np.flatnonzero(labels == 1):
            for real in np.flatnonzero(labels == 0):
                win = 0.5 + 0.5 * np.sign(scores[fake] - scores[real])
                won[groups[fake] == groups[real]].append(win)
        ours = compute(labels, scores, groups=[f"group {number}" for number in groups], code=code)
        assert ours["auc"] == pytest.approx(np.mean(won[False]), abs=1e-12)
        assert ours["auc_within_group"] == pytest.approx(np.mean(won[True]), abs=1e-12)


def test_a_fake_a_hair_above_its_photograph_is_no_better_than_chance(code):
    photographs = np.random.default_rng(0).permutation(np.linspace(0.1, 0.9, 40))
    labels, groups = np.repeat([0, 1], 40), np.tile(np.arange(40), 2)
    values = compute(labels, np.r_[photographs, photographs + 1e-6], groups=groups, code=code)
    assert (values["auc"], values["auc_within_group"]) == (0.5, 1)


def test_a_weight_counts_its_group_so_many_times(code):
    for decimals in (None, 1):
        labels, scores, groups = _scored(120, decimals=decimals)
        counts = np.random.default_rng(2).integers(4, size=(8, groups.max() + 1)).astype(float)
        weighted = code.weighted_metrics(labels, scores, groups, 0.4, code.METRICS)
        for row, count in zip(weighted(counts), counts):
            images = np.repeat(np.arange(120), count[groups].astype(int))
            copies = np.concatenate([np.arange(number) for number in count[groups].astype(int)])
            arrays = labels[images], scores[images], 0.4
            oracle = compute(*arrays, groups[images], code=code)
            own = compute(*arrays, 10 * groups[images] + copies, code=code)["auc_within_group"]
            expected = [*(oracle | {"auc_within_group": own}).values()]
            assert row == pytest.approx(expected, abs=1e-12)


def test_equal_error_rate_is_where_the_roc_curve_crosses_the_antidiagonal(code):
    for decimals in (None, 1, 2):
        labels, scores, _ = _scored(decimals=decimals, seed=3)
        fpr, tpr, _ = sklearn.metrics.roc_curve(labels, scores, drop_intermediate=False)
        oracle = optimize.brentq(lambda x, fpr=fpr, tpr=tpr: 1 - x - np.interp(x, fpr, tpr), 0, 1)
        assert compute(labels, scores, code=code)["eer"] == pytest.approx(oracle, abs=1e-9)
    assert compute([0, 1], [0.5, 0.5], code=code)["eer"] == 0.5
    assert compute([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], code=code)["eer"] == 0
    assert compute([0, 1], [0.9, 0.1], code=code)["eer"] == 1


def test_recall_at_a_false_positive_rate_is_the_best_that_stays_within(code):
    for decimals in (None, 2):
        labels, scores, _ = _scored(4000, decimals=decimals, shift=1.5)
        fpr, tpr, _ = sklearn.metrics.roc_curve(labels, scores, drop_intermediate=False)
        ours = compute(labels, scores, code=code)
        for name, limit in (("tpr_at_fpr1", 0.01), ("tpr_at_fpr05", 0.005)):
            assert ours[name] == pytest.approx(tpr[fpr <= limit].max(), abs=1e-12)
    # 7 of 700 reals are 1 % exactly, one more is too many.
    for num_above, recall in ((7, 1.0), (8, 0.5)):
        reals = np.r_[np.full(num_above, 0.8), np.full(700 - num_above, 0.1)]
        labels, scores = np.r_[np.zeros(700), 1, 1], np.r_[reals, 0.9, 0.5]
        assert compute(labels, scores, code=code)["tpr_at_fpr1"] == recall


def test_calibration_error_agrees_with_a_loop_over_bins(code):
    labels, scores, _ = _scored(decimals=3)
    scores[:2] = 0, 1
    bins, error = np.minimum((scores * 15).astype(int), 14), 0
    for number in np.unique(bins):
        inside = bins == number
        error += inside.mean() * abs(labels[inside].mean() - scores[inside].mean())
    assert compute(labels, scores, code=code)["ece"] == pytest.approx(error, abs=1e-12)
    assert compute([0, 1] * 10, [0.5] * 20, code=code)["ece"] == 0


def test_a_score_at_the_threshold_is_called_fake_and_none_called_is_precision_zero(code):
    assert compute([0, 1], [0.4, 0.5], code=code)["accuracy"] == 1
    values = compute([0, 1], [0.1, 0.2], code=code)
    assert (values["precision"], values["f1"], values["recall_real"]) == (0, 0, 1)
    assert compute([0, 1], [0.8, 0.9], code=code)["precision_real"] == 0
    mistaken = compute([0, 1], [1.0, 0.0], code=code)["log_loss"]
    assert mistaken == pytest.approx(-np.log(1e-7), rel=1e-6)  # finite


def test_threshold_has_the_best_balanced_accuracy_and_lies_in_the_middle(code):
    for seed in range(5):
        labels, scores, _ = _scored(90, seed, decimals=2)
        labels[:40] = 0  # unequal classes: accuracy would choose another
        chosen = code.choose_threshold(labels, scores)
        called = (scores >= value for value in np.arange(0, 1.01, 0.005))
        best = max(sklearn.metrics.balanced_accuracy_score(labels, each) for each in called)
        found = compute(labels, scores, chosen, code=code)["balanced_accuracy"]
        assert found == pytest.approx(best)
        assert np.abs(scores - chosen).min() > 0.0049
    # Two cuts are equally good; the wider gap wins.
    assert code.choose_threshold([0, 1, 0, 1], [0.1, 0.2, 0.6, 0.9]) == pytest.approx(0.75)


def test_threshold_may_call_all_or_nothing_fake(code):
    assert code.choose_threshold([0, 1], [0.9, 0.3]) == pytest.approx(0.15)  # worse than a coin
    assert code.choose_threshold([0, 1], [0.7, 0.1]) == pytest.approx(0.85)
    assert code.choose_threshold([0, 1], [0.0, 0.0]) > 0
    assert code.choose_threshold([0, 1], [1.0, 1.0]) == pytest.approx(0.5)
    scores = [0.0, np.nextafter(0.3, 1), 0.3, 1.0]  # neighbouring floats: no number in between
    assert code.choose_threshold([0, 1, 0, 1], scores) == scores[1]


def test_calibration_agrees_with_scikit_learn(code):
    generator = np.random.default_rng(0)
    logits = generator.normal(size=5000)
    labels = (generator.random(5000) < special.expit(logits)).astype(int)
    scores = special.expit(3 * logits + 1)  # too sure, and too often fake
    for part in (slice(None), slice(30)):
        card = code.fit_calibration(labels[part], scores[part])
        oracle = _SigmoidCalibration().fit(special.logit(scores[part]), labels[part])
        assert [card["slope"], card["intercept"]] == pytest.approx([-oracle.a_, -oracle.b_], 1e-4)
        expected = oracle.predict(special.logit(scores))
        assert code.calibrated(scores, **card) == pytest.approx(expected, abs=1e-4)
    card = code.fit_calibration(labels, scores)
    before = compute(labels, scores, code=code)
    after = compute(labels, code.calibrated(scores, **card), code=code)
    assert after["ece"] < 0.03 < 0.1 < before["ece"] and after["auc"] == before["auc"]


def test_calibration_is_finite_where_the_classes_are_apart(code):
    # Platt's targets are 1/3 and 2/3, and ±logit(1 − 1e-7) the clipped scores.
    card = code.fit_calibration([0, 1], [0.0, 1.0])
    assert card["slope"] == pytest.approx(np.log(2) / special.logit(1 - 1e-7), rel=1e-4)
    assert card["intercept"] == pytest.approx(0, abs=1e-4)
    assert code.calibrated([0.0, 1.0], **card) == pytest.approx([1 / 3, 2 / 3], abs=1e-4)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([], [], r"received \(0,\) of \[\]"),
        ([0, 1], [0.5], r"labels \(1,\).* received \(2,\)"),
        ([0, 0], [0.1, 0.2], r"of \[0\]"),
        ([0, 2], [0.1, 0.2], r"0 \(real\) and 1 \(fake\), received \(2,\) of \[0, 2\]"),
        ([[0, 1]], [[0.1, 0.2]], r"received shape \(1, 2\)"),
        ([0, 1], [0.1, np.nan], "1 outside"),
    ],
)
def test_says_what_is_wrong_with_labels_or_scores(labels, scores, message):
    for function in (compute, choose_threshold, fit_calibration):
        with pytest.raises(ValueError, match=message):
            function(labels, scores)


def test_says_what_is_wrong_with_groups(code):
    for groups, message in (([0, 1], "of 3 images; received 2, 0"), ([0, 1, None], "3, 1 missing")):
        with pytest.raises(ValueError, match=message):
            code.group_index(groups, 3)
