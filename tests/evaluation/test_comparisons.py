from dataclasses import replace

import made_results
import numpy as np
import pandas as pd
import pytest
from made_results import CARD, auc, compute
from scipy import stats

from src.evaluation.intervals import compare, rate
from src.evaluation.metrics import calibrated
from src.evaluation.results import RESULT_COLUMNS, result_rows, write_results, write_scores

BOUNDS = ["ci_low", "ci_high"]


def _write(study, **scores):
    for model_id, frame in scores.items():
        write_scores(study, model_id.replace("__", "-"), frame)


def test_holm_rejects_step_by_step(code, study):
    generator = np.random.default_rng(0)
    for _ in range(50):
        p_values = generator.random(6).round(2) ** 2
        adjusted = code.holm(p_values)
        for alpha in (0.01, 0.05, 0.2, 0.5):
            rejected = set()
            for step, place in enumerate(np.argsort(p_values, kind="stable")):
                if p_values[place] * (6 - step) >= alpha:
                    break
                rejected.add(place)
            assert rejected == set(np.flatnonzero(adjusted < alpha))
    assert code.holm([0.9, 0.9]).tolist() == [1, 1] and code.holm([0.02]).tolist() == [0.02]


def test_rank_agreement_is_that_of_sums_of_ranks(code):
    """Kendall's W with the correction for ties, and its p-value, from their formulas."""
    generator = np.random.default_rng(0)
    for num_sets, decimals in ((2, 1), (4, 1), (4, 9), (40, 1)):
        values = pd.DataFrame(generator.random((5, num_sets)).round(decimals))
        values[[0, 1]] += np.arange(5)[:, None] / 5
        ranks, counts = values.rank(), [values[name].value_counts() for name in values]
        ties = sum((count**3 - count).sum() for count in counts)
        squares = ((ranks.sum(axis=1) - 3 * num_sets) ** 2).sum()
        oracle = 12 * squares / (num_sets**2 * (5**3 - 5) - num_sets * ties)
        p_value = stats.chi2.sf(num_sets * 4 * oracle, 4)
        assert code.rank_agreement(values) == pytest.approx((oracle, p_value))
    assert code.rank_agreement(pd.DataFrame([[1.0, 3], [2, 4], [3, 5]]))[0] == pytest.approx(1)
    for few in (values[:2], values[[0]], values * 0):
        assert np.isnan(code.rank_agreement(few)).all()


def test_differences_are_those_of_paired_tests_on_each_set(code, study):
    first = made_results.scores(1.0)
    second = made_results.scores(0.2, seed=1).sample(frac=1, random_state=0)
    _write(study, A=first, B=second, C=made_results.scores(1.0, seed=2))
    table = code.differences(study, [("A", "B"), ("A", "C")])
    assert table["test_set"].tolist() == list(study.test_sets) * 2
    assert table["real_source"][2] == "gan140k"
    row = table.iloc[0]
    lots = [made_results.tested(frame).set_index("path") for frame in (first, second)]
    label, group = lots[0]["label"], lots[0]["group"]
    scores = [lots[0]["score"], lots[1]["score"][label.index]]
    oracle = compare(label, *scores, group, num_resamples=study.num_resamples).iloc[0]
    areas = [auc(label, score, group) for score in scores]
    names = ["auc_first", "auc_second", "difference"]
    assert row[names].tolist() == pytest.approx([*areas, areas[0] - areas[1]])
    names = [*BOUNDS, "p_value"]
    assert row[names].tolist() == pytest.approx(oracle[names].tolist(), abs=1e-12)
    assert row[["num_real", "num_fake", "num_groups"]].tolist() == [120, 120, 60]
    np.testing.assert_array_equal(table["p_adjusted"], code.holm(table["p_value"]))
    assert table["significant"].tolist() == [True] * 3 + [False] * 3


def test_a_difference_is_significant_only_in_the_whole_family(code, study, monkeypatch):
    _write(study, **{name: made_results.scores(seed=ord(name)) for name in "ABC"})
    values = {"value": 0.1, "value_first": 0.8, "value_second": 0.7, "ci_low": 0.1, "ci_high": 0.3}
    values |= {"num_real": 1, "num_fake": 1, "num_groups": 1}
    p_values = 0.03, 0.04, 0.008, 0.2, 0.049, 0.9, 0.05, 0.04
    tables = iter([pd.DataFrame([values | {"p_value": each}]) for each in p_values])
    monkeypatch.setattr(code, "compare", lambda *_, **__: next(tables))
    table = code.differences(study, [("A", "B"), ("A", "C")])
    assert table["p_adjusted"].tolist() == pytest.approx([0.15, 0.16, 0.048, 0.4, 0.16, 0.9])
    assert table["significant"].tolist() == [False, False, True, False, False, False]
    two = replace(study, test_sets={"inpainting": "wiki", "insight": "wiki"})
    assert not code.differences(two, [("A", "B")])["significant"].any()  # 0.08, 0.08


def test_copies_in_their_group_change_no_difference(code, study):
    for name, frame in (("A", made_results.scores(0.6)), ("B", made_results.scores(0.4, seed=1))):
        four = [frame.assign(path=frame["path"].str.replace("/", f"/{n}")) for n in range(4)]
        _write(study, **{name: frame, f"{name}4": pd.concat(four)})
    once, often = (code.differences(study, [pair]) for pair in (("A", "B"), ("A4", "B4")))
    columns = ["difference", *BOUNDS, "p_value", "p_adjusted"]
    np.testing.assert_allclose(once[columns], often[columns], atol=1e-12)


def test_differences_are_of_what_both_have_scored(code, study):
    first = made_results.scores()
    fewer = first.drop(made_results.tested(first).index[:5])
    without = fewer.query("test_set != 'gan140k'")
    _write(study, A=first, B=without, C=without)
    table = code.differences(study, [("B", "C")])  # a set that could not be had is in neither
    assert table["test_set"].tolist() == ["inpainting", "insight"]
    with pytest.raises(ValueError, match="240 and 0 test rows"):
        code.differences(study, [("A", "B")])
    _write(study, B=fewer)
    table = code.differences(study, [("A", "B")])
    assert table["num_real"].tolist() == [115, 120, 120]
    assert (table["difference"] == 0).all() and (table["p_value"] == 1).all()
    assert not table["significant"].any()
    with pytest.raises(ValueError, match="with a common test set of 'tiny'"):
        code.differences(study, [])
    with pytest.raises(FileNotFoundError, match="no scores of 'D'"):
        code.differences(study, [("A", "D")])


def test_protocol_differences_are_controlled_minus_report_on_the_same_files(code, study):
    report = made_results.scores(2.0)
    controlled = made_results.scores(0.5, seed=1).sample(frac=1, random_state=1)
    _write(study, A__report=report, A__controlled=controlled)
    table = code.protocol_differences(study, ["A"])
    row = table.iloc[0]
    for name, frame in (("report", report), ("controlled", controlled)):
        lot = made_results.tested(frame)
        assert row[f"auc_{name}"] == pytest.approx(auc(lot["label"], lot["score"], lot["group"]))
    assert row["difference"] == pytest.approx(row["auc_controlled"] - row["auc_report"])
    assert row["model"] == "A" and table["significant"].all()
    assert (table["ci_high"] < 0).all() and "second" not in table


def test_reliability_agrees_with_a_loop_over_bins(code, study):
    scores = made_results.scores()
    scores.loc[scores.index[:4], "score"] = 0, 1, 0.5, 1
    bins = code.reliability(scores, CARD)
    tasks = list(study.test_sets.items())  # without the photographs that have no fakes
    assert list(map(tuple, bins[["test_set", "real_source"]].drop_duplicates().values)) == tasks
    lot = made_results.tested(scores, "insight")
    for after, value in ((False, lot["score"]), (True, calibrated(lot["score"], 0.5, 0.2))):
        own = bins[(bins["test_set"] == "insight") & (bins["calibrated"] == after)]
        assert own["num_images"].sum() == len(lot)
        for number, row in own.set_index("bin").iterrows():
            inside = (value >= number / 15) & (value < (number + 1) / 15)
            oracle = [value[inside].mean(), lot["label"][inside].mean(), inside.sum()]
            assert row[["mean_score", "share_fake", "num_images"]].tolist() == pytest.approx(oracle)
    for train_set in ("inpainting", "inpainting+gan140k"):
        bins = code.reliability(scores, CARD | {"train_set": train_set})
        home = bins.loc[bins["in_domain"], "test_set"].unique()
        assert home.tolist() == train_set.split("+")


def test_calibration_errors_are_those_of_the_metrics(code, study):
    scores = made_results.scores(0.3)
    errors = code.calibration_errors(code.reliability(scores, CARD)).set_index("test_set")
    assert errors.index.tolist() == list(study.test_sets) and (errors["num_images"] == 240).all()
    for test_set, row in errors.iterrows():
        lot = made_results.tested(scores, test_set, study.test_sets[test_set])
        assert row["ece"] == pytest.approx(compute(lot["label"], lot["score"])["ece"])
        after = calibrated(lot["score"], 0.5, 0.2)
        assert row["ece_calibrated"] == pytest.approx(compute(lot["label"], after)["ece"])


def test_calibration_error_by_chance_is_that_of_labels_drawn_from_the_scores(code):
    scores = made_results.scores(0.3, num_groups=600)
    row = code.calibration_errors(code.reliability(scores, CARD)).iloc[0]
    probability = calibrated(made_results.tested(scores)["score"], 0.5, 0.2)
    labels = np.random.default_rng(0).random((100, len(probability))) < probability
    drawn = np.mean([compute(label.astype(int), probability)["ece"] for label in labels])
    assert row["ece_by_chance"] == pytest.approx(drawn, rel=0.1)


def test_recall_by_generator_allows_so_many_false_positives_among_all_reals(code):
    scores = made_results.tested(made_results.scores(num_groups=330))  # 440 reals
    scores = scores.assign(score=scores["score"].round(2))  # with ties
    names = np.where(scores["path"].str.contains("_0"), "one", "other")
    scores["generator"] = np.where(scores["label"] == 1, names, "real")
    reals = scores.loc[scores["label"] == 0, "score"]
    table = code.recall_by_generator(scores)
    rules = ["threshold 0.5", "1% false positives", "5% false positives"]
    assert table["rule"].tolist() == list(np.repeat(rules, 2))
    assert table["generator"].tolist() == ["one", "other"] * 3
    for row in table.itertuples():
        at = row.threshold
        assert row.false_positive_rate == (reals >= at).mean()
        lot = scores[scores["generator"] == row.generator]
        oracle = rate(lot["score"] >= at, lot["group"])
        assert (row.value, row.ci_low, row.ci_high) == tuple(oracle.values())
        assert row.num_fake == len(lot)
        if row.rule != "threshold 0.5":  # the lowest that stays within
            allowed = int(row.rule[0]) / 100
            possible = np.unique(scores["score"])
            lowest = min(one for one in possible if (reals >= one).mean() <= allowed)
            assert ((scores["score"] >= at) == (scores["score"] >= lowest)).all()
    few = scores.groupby("label").head(100)  # 1 % of them is less than 2
    assert code.recall_by_generator(few)["rule"].unique().tolist() == [rules[0], rules[2]]


def test_false_alarms_count_each_photograph_once_at_the_threshold_of_the_card(code, study):
    scores = made_results.scores(0.3)
    table = code.false_alarms(scores, CARD)
    tasks = [("inpainting", "wiki"), ("inpainting", "celeba"), ("gan140k", "gan140k")]
    lots = [scores.query("split == 'valid'"), *(made_results.tested(scores, *t) for t in tasks)]
    assert table["split"].tolist() == ["valid", "test", "test", "test"]
    assert table["real_source"].tolist() == ["wiki", "wiki", "celeba", "gan140k"]
    for row, lot in zip(table.itertuples(), lots):
        reals = lot[lot["label"] == 0]
        oracle = rate(reals["score"] >= 0.42, reals["group"])
        assert (row.value, row.ci_low, row.ci_high) == tuple(oracle.values())
        assert row.num_real == len(reals)
    # The training set's preparation counts, whichever comes first.
    again = code.false_alarms(scores.iloc[::-1], CARD)
    keys = ["split", "real_source"]
    pd.testing.assert_frame_equal(*(each.set_index(keys).sort_index() for each in (table, again)))


def _attributes(scores):
    """Of photographs only: a gender, a face size, whether it is grey."""
    paths = scores.loc[scores["label"] == 0, "path"].drop_duplicates()
    number = paths.str.split("/").str[1].str[:3].astype(int)
    size = number / np.where(number % 3 == 0, 100, 150)  # of validation: 0, 0.03, … 0.87
    gender = np.where(paths.str.endswith("_1.jpg"), "male", "female")
    columns = {"gender": gender, "face_size": size, "grey": number < 6}
    return pd.DataFrame(columns).set_index(paths)


def test_subgroups_are_the_rows_of_their_pictures(code, study):
    scores = made_results.scores()
    attributes, bounds = _attributes(scores), {"face_size": 0.4351}
    rows, skipped = code.subgroups(study, scores, attributes, CARD, bounds)
    assert tuple(rows) == RESULT_COLUMNS
    name = scores["path"].str.split("/").str[1]
    female = scores[name.str.endswith("_0.jpg")]
    tested = made_results.tested(female, "insight")
    oracle = result_rows(study, tested, CARD).set_index("metric")
    own = rows[rows["test_set"] == "insight"].set_index("metric")
    columns = ["value", *BOUNDS, "num_real", "num_fake"]
    for metric in ("auc", "fpr_at_threshold"):
        found = own.loc[f"{metric}@gender:female", columns].tolist()
        assert found == oracle.loc[metric, columns].tolist()
    assert own.loc["auc@gender:male", ["num_real", "num_fake"]].tolist() == [60, 60]
    sizes = {metric for metric in own.index if metric.startswith("auc@face_size")}
    assert sizes == {"auc@face_size:<0.435", "auc@face_size:>=0.435"}
    reals = made_results.tested(scores, "insight").query("label == 0")["path"]
    num_small = (attributes.loc[reals, "face_size"] < 0.435).sum()
    assert own.loc["auc@face_size:<0.435", "num_real"] == num_small
    skip = skipped.set_index(["test_set", "real_source", "subgroup"])[["num_real", "num_fake"]]
    assert skip.loc[("inpainting", "wiki", "grey:True")].tolist() == [8, 8]
    assert skip.loc[("inpainting", "celeba", "gender:female")].tolist() == [60, 0]
    assert skip.loc[("gan140k", "gan140k", "grey:True")].tolist() == [8, 8]
    assert "auc@grey:False" in own.index and not rows["metric"].str.contains("True|unknown").any()
    # Crops bear the names of their photographs, in their groups.
    crops = made_results.tested(scores, "inpainting").query("label == 0")
    crops = crops.assign(path="wiki_crop/" + crops["path"], real_source="wiki_crop")
    cropped = attributes.reindex(crops["path"].str.removeprefix("wiki_crop/"))
    both = pd.concat([attributes, cropped.set_axis(crops["path"])])
    found, _ = code.subgroups(study, pd.concat([scores, crops]), both, CARD, bounds)
    pd.testing.assert_frame_equal(found, rows)
    write_results(study, rows)
    uncut, _ = code.subgroups(study, scores, attributes, CARD, {"face_size": np.nan})
    assert not uncut["metric"].str.contains("face_size").any() and len(uncut) < len(rows)
    study = replace(study, aligned={"insight": "wiki"})
    fewer, _ = code.subgroups(study, scores, attributes, CARD, bounds)
    kept = rows[rows["test_set"] != "insight"].reset_index(drop=True)
    pd.testing.assert_frame_equal(fewer, kept)


def test_a_fake_has_attributes_of_its_own_or_those_of_its_photograph(code, study):
    scores = made_results.scores()
    photographs = _attributes(scores).filter(like="wiki/", axis=0)[["gender"]]
    fakes = scores.loc[scores["label"] == 1, "path"].drop_duplicates()
    other = pd.DataFrame({"gender": "other"}, index=fakes[fakes.str.startswith("fake-insight/")])
    both = pd.concat([photographs, other])
    _, skipped = code.subgroups(study, scores, both, CARD, {})
    skip = skipped.set_index(["test_set", "subgroup"])[["num_real", "num_fake"]]
    assert skip.loc[("insight", "gender:other")].tolist() == [0, 120]
    # A photograph of the same name in another group is another photograph.
    apart = scores["group"].where(scores["label"] == 0, "fake/" + scores["group"])
    _, skipped = code.subgroups(study, scores.assign(group=apart), photographs, CARD, {})
    skip = skipped.set_index(["test_set", "subgroup"])["num_fake"]
    assert np.all(skip["insight", "gender:unknown"] == 120)
