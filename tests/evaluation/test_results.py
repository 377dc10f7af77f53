from dataclasses import replace

import made_results
import numpy as np
import pandas as pd
import pytest
from made_results import auc, compute
from scipy import special

from src import config
from src.evaluation import intervals, metrics
from src.evaluation.results import TASK

CARD = made_results.CARD | {"model": "VGG16_V3", "seed": 3}
SEEDS = {"approach": "direct", "model": "A", "protocol": "report"}
BOUNDS = ["ci_low", "ci_high"]


def _scores(seed=0):
    """Reals and two generators, of which `insight` is met with two kinds of reals; all splits."""
    generator, tables = np.random.default_rng(seed), []
    shifts = {("inpainting", "wiki"): 2, ("insight", "wiki"): 0.3, ("insight", "celeba"): 4}
    for (test_set, real_source), shift in shifts.items():
        for label, name in ((0, "real"), (1, test_set)):
            group = [f"{real_source}/{number:03}" for number in range(60)]
            split = np.array(["train", "valid", "test"] * 20)
            better = shift + np.where(split == "test", 0, 3)  # so that mixing splits shows
            score = special.expit(better * (label - 0.5) + generator.normal(size=60) + 0.5)
            path = [f"{name}/{value}.jpg" for value in group]
            columns = {"path": path, "group": group, "split": split, "score": score}
            columns |= {"label": label, "generator": name}
            columns |= {"test_set": test_set, "real_source": real_source}
            tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def test_scores_come_back_as_they_were_written(code, study):
    frame = _scores()
    with pytest.raises(FileNotFoundError, match="found: none"):
        code.read_scores(study)
    path = code.write_scores(study, "VGG16_V3-controlled", frame.assign(extra=1))
    assert path == study.data / "scores" / "VGG16_V3-controlled.parquet"
    back = code.read_scores(study, "VGG16_V3-controlled")
    assert list(back) == ["model_id", *code.SCORE_COLUMNS] and back["label"].dtype == "int8"
    np.testing.assert_array_equal(back["score"], frame["score"])
    code.write_scores(study, "A-report", frame.iloc[::-1])
    names = ["A-report", "VGG16_V3-controlled"]
    assert code.read_scores(study)["model_id"].unique().tolist() == names
    assert sorted(item.stem for item in path.parent.iterdir()) == names
    with pytest.raises(FileNotFoundError, match="'B-report'.*found: A-report.*Run the notebook"):
        code.read_scores(study, "B-report")


def test_flipped_labels_and_leaking_groups_are_refused(code, study):
    """So are other wrong rows."""
    scores = _scores()
    for wrong, message in (
        (scores.drop(columns="group"), r"without the columns \['group'\]"),
        (scores[:0], r"received 0 rows\."),
        (scores.assign(score=np.nan), "360 of 360 rows have a score that is NaN"),
        (scores.assign(score=scores["score"] * 3 - 1), r"outside \[0, 1\]"),
        (scores.assign(label=scores["label"] + 1), "label other than"),
        (scores.assign(split="validation"), "a split other than"),
        (pd.concat([scores, scores[:1]]), "1 of 361 rows have an image twice"),
        (scores.assign(group=None), "no value in some column"),
        (scores.assign(label=1 - scores["label"]), "contradicts its generator"),
        (scores.assign(split=["train"] * 180 + ["test"] * 180), "a group in several splits"),
    ):
        with pytest.raises(ValueError, match=message):
            code.write_scores(study, "A-report", wrong)
    assert not (study.data / "scores").exists()


def test_threshold_and_calibration_come_from_validation_rows_of_the_training_set(code, study):
    scores = _scores()
    valid = scores[(scores["split"] == "valid") & (scores["test_set"] == "inpainting")]
    arrays = valid["label"], valid["score"]
    expected = {"threshold": metrics.choose_threshold(*arrays), **metrics.fit_calibration(*arrays)}
    assert code.calibrate(scores, "inpainting") == expected
    with pytest.raises(ValueError, match="No scores are validation rows of 'text2img'.*'insight'"):
        code.calibrate(scores, "text2img")


def test_validation_rows_of_several_training_sets_and_of_photographs_alone(code, study):
    scores = _scores().query("real_source == 'wiki'")
    alone = scores.query("label == 0").assign(real_source="celeba")
    rows = code.validation_rows(pd.concat([scores, alone]), "inpainting+insight")
    assert set(rows["test_set"]) == {"inpainting", "insight"} and len(rows) == 80
    assert set(rows["real_source"]) == {"wiki"} and set(rows["split"]) == {"valid"}
    with pytest.raises(ValueError, match="one source of photographs of 'insight', not .'wiki', "):
        code.validation_rows(_scores(), "insight")


def test_result_rows_are_the_metrics_of_each_test_set_alone(code, study):
    scores = _scores()
    rows = code.result_rows(study, scores, CARD)
    assert tuple(rows) == code.RESULT_COLUMNS and len(rows.groupby(TASK)) == 3
    assert (rows[["num_real", "num_fake", "num_groups"]] == 20).all(axis=None)
    assert (rows["seed"] == 3).all() and (rows["num_seeds"] == 1).all()
    for task, part in rows.groupby(TASK):
        tested = made_results.tested(scores, *task)
        label, score, group = (tested[name] for name in ("label", "score", "group"))
        part = part.set_index("metric")
        values = part["value"]
        for suffix, threshold in (("", 0.5), ("_at_threshold", CARD["threshold"])):
            oracle = compute(label, score, threshold, group)
            for name in metrics.THRESHOLD_METRICS:
                assert values[name + suffix] == pytest.approx(oracle[name])
        assert values["auc"] == pytest.approx(auc(label, score, group))
        after = special.expit(CARD["slope"] * special.logit(score) + CARD["intercept"])
        oracle = compute(label, after)["log_loss"]
        assert values["log_loss_calibrated"] == pytest.approx(oracle)
        assert values["fpr_at_threshold"] == pytest.approx(1 - values["recall_real_at_threshold"])
        names = metrics.METRICS + metrics.THRESHOLD_METRICS + metrics.CALIBRATION_METRICS
        assert len(values) == len(names) - len(intervals.MIN_REALS) + 1
        options = {"num_resamples": study.num_resamples, "seed": study.seed, "names": ["auc", "f1"]}
        oracle = intervals.estimate(label, score, group, **options).set_index("metric")
        assert np.allclose(part.loc[["auc", "f1"], BOUNDS], oracle[BOUNDS])


def test_result_rows_depend_on_test_rows_only(code, study):
    scores = _scores()
    other = scores["score"].where(scores["split"] == "test", 1 - scores["score"])
    both = [code.result_rows(study, each, CARD) for each in (scores, scores.assign(score=other))]
    pd.testing.assert_frame_equal(*both)


def test_photographs_without_fakes_have_a_rate_of_false_alarms_and_nothing_else(code, study):
    scores = _scores()
    alone = scores.query("test_set == 'inpainting' and label == 0").assign(real_source="celeba")
    rows = code.result_rows(study, pd.concat([scores, alone]), CARD)
    row = rows.query("real_source == 'celeba' and test_set == 'inpainting'")
    assert row["metric"].tolist() == ["fpr_at_threshold"]
    assert row[["num_real", "num_fake", "num_groups"]].values.tolist() == [[20, 0, 20]]
    score = alone.loc[alone["split"] == "test", "score"]
    assert row["value"].item() == (score >= CARD["threshold"]).mean()
    code.write_results(study, rows)
    with pytest.raises(ValueError, match=r"labels .* of \[1\]"):
        code.result_rows(study, scores[scores["label"] == 1], CARD)


def test_intervals_in_result_rows_draw_groups(code, study):
    scores, names = _scores(), ["auc", "accuracy", "f1_at_threshold"]
    tenfold = pd.concat([scores.assign(path=scores["path"] + str(copy)) for copy in range(10)])
    once, often = (code.result_rows(study, frame, CARD, names) for frame in (scores, tenfold))
    pd.testing.assert_frame_equal(once[["metric", *BOUNDS]], often[["metric", *BOUNDS]])


def test_result_rows_of_some_metrics_and_under_a_condition(code, study):
    names = ["auc", "accuracy_at_threshold", "fpr_at_threshold", "ece_calibrated"]
    every = code.result_rows(study, _scores(), CARD)
    some = code.result_rows(study, _scores(), CARD, names, "jpeg:50")
    some["metric"] = some["metric"].str.removesuffix("@jpeg:50")
    order = [*TASK, "metric"]
    chosen = every[every["metric"].isin(names)].sort_values(order, ignore_index=True)
    pd.testing.assert_frame_equal(some.sort_values(order, ignore_index=True), chosen)
    with pytest.raises(ValueError, match="no rows of the test split"):
        code.result_rows(study, _scores().query("split != 'test'"), CARD)


def test_results_replace_rows_with_the_same_keys_and_keep_the_others(code, study):
    for seed in (3, 4):
        code.write_scores(study, f"VGG16_V3-controlled-seed{seed}", _scores())
    first = code.result_rows(study, _scores(), CARD)
    code.write_results(study, first.assign(seed=4))
    path = code.write_results(study, first)
    before = path.read_bytes()
    back = code.read_results(study)
    assert len(back) == 2 * len(first) and tuple(back) == code.RESULT_COLUMNS
    code.write_results(study, first)
    assert path.read_bytes() == before  # the same rows again change nothing
    part = first[first["test_set"] == "inpainting"].assign(value=0.25)
    code.write_results(study, part[part["metric"] == "auc"])
    back = code.read_results(study)
    replaced = back.query("test_set == 'inpainting' and seed == 3")
    assert replaced["value"].tolist() == [0.25]  # stale metrics of the replaced detector are gone
    assert len(back) == 2 * len(first) - len(part) + 1
    keys = list(code.RESULT_KEYS)
    assert back[keys].equals(back[keys].sort_values(keys, ignore_index=True))


def test_rows_of_another_kind_stay_when_rows_are_replaced(code, study):
    code.write_scores(study, "VGG16_V3-controlled-seed3", _scores())
    first = code.result_rows(study, _scores(), CARD)
    base = first[first["metric"] == "auc"]
    names = ["auc@jpeg:90", "auc@jpeg:50", "auc@face_size:<0.31", "cam_in_region"]
    more = pd.concat([base.assign(metric=name, value=len(name) / 30) for name in names])
    path = code.write_results(study, first)
    code.write_results(study, more)
    before = path.read_bytes()
    for rows in (more, first):  # in any order, and again
        code.write_results(study, rows)
        assert path.read_bytes() == before
    code.write_results(study, base.assign(metric="auc@face_size:<0.4"))
    code.write_results(study, base.assign(metric="auc@jpeg:50", value=0.9))
    back = code.read_results(study)
    kept = back.loc[back["metric"].str.contains("@|cam"), "metric"]
    assert set(kept) == {"auc@jpeg:50", "auc@face_size:<0.4", "cam_in_region"}
    assert len(back) == len(first) + 3 * len(base)


def test_rows_without_scores_on_this_machine_go_with_the_next_write(code, study):
    files = {"A": "A-report", "B": "B-report-seed1", "Matrix": "Matrix-report-insight"}
    changes = {"A": {}, "B": {"seed": 1}, "Matrix": {"train_set": "insight"}}
    rows = {}
    for model, change in changes.items():
        card = {**CARD, "protocol": "report", "seed": study.seed, "model": model, **change}
        rows[model] = code.result_rows(study, _scores(), card, ["auc"])
    conditions = rows["A"].assign(metric="auc@jpeg:50")
    path = code.write_results(study, pd.concat([*rows.values(), conditions]))
    committed, there = path.read_text(), set()
    assert len(code.read_results(study)) == 12  # a fresh clone reads what came with it
    code.write_results(study, rows["B"])
    assert set(code.read_results(study)["model"]) == {"B"}
    for model, file in files.items():
        path.write_text(committed)
        code.write_scores(study, file, _scores())
        there.add(model)
        code.write_results(replace(study, seed=1, train_set="insight"), rows["A"])
        assert set(code.read_results(study)["model"]) == there
    assert "auc@jpeg:50" in set(code.read_results(study)["metric"])


def test_conditions_of_a_detector_go_when_it_was_trained_anew(code, study):
    code.write_scores(study, "VGG16_V3-controlled-seed3", _scores())
    rows = code.result_rows(study, _scores(), CARD, ["auc"])
    conditions = pd.concat([rows.assign(metric=name) for name in ("auc@jpeg:50", "cam_in_region")])
    code.write_results(study, pd.concat([rows, conditions]))
    code.write_results(study, rows)
    assert len(code.read_results(study)) == 3 * len(rows)
    code.write_results(study, rows.assign(value=rows["value"] - 0.01))
    assert set(code.read_results(study)["metric"]) == {"auc"}


def test_means_over_seeds_are_those_of_the_images_that_every_training_scored(code, study):
    study = replace(study, extra_seeds=(study.seed, 1, 2))
    frames = {"": _scores(), "-seed1": _scores(seed=5), "-seed2": _scores(seed=6).iloc[7:]}
    assert code.write_seed_means(study, **SEEDS).empty  # nothing was trained
    for variant, frame in frames.items():
        code.write_scores(study, f"A-report{variant}", frame.sample(frac=1, random_state=1))
    rows = code.write_seed_means(study, **SEEDS)
    assert tuple(rows) == code.RESULT_COLUMNS and code.read_results(study).shape == rows.shape
    assert (rows["seed"] == code.ALL_SEEDS).all() and (rows["num_seeds"] == 3).all()
    wanted = rows.query("test_set == 'inpainting'").set_index("metric")
    tested = [made_results.tested(frame).set_index("path") for frame in frames.values()]
    label, group = (tested[2][name].to_numpy() for name in ("label", "group"))
    scores = [frame["score"][tested[2].index].to_numpy() for frame in tested]
    assert wanted["num_real"].eq((label == 0).sum()).all() and (label == 0).sum() < 20
    mean = np.mean([auc(label, values, group) for values in scores])
    assert wanted["value"]["auc"] == pytest.approx(mean)
    # Other draws, the same interval up to chance.
    oracle = intervals.estimate(label, scores, group, num_resamples=4000, names=["auc"])
    assert np.allclose(wanted.loc["auc", BOUNDS].astype(float), oracle[BOUNDS], atol=0.04)


def test_means_over_seeds_go_when_a_training_changes(code, study):
    for variant, seed in (("", 0), ("-seed1", 1)):
        code.write_scores(study, f"A-report{variant}", _scores(seed=seed))
    code.write_seed_means(study, **SEEDS)
    card = CARD | SEEDS | {"train_set": study.train_set, "seed": study.seed}
    rows = code.result_rows(study, _scores(), card)
    for _ in range(2):  # written anew with the same numbers, the means stay
        code.write_results(study, rows)
        assert code.ALL_SEEDS in set(code.read_results(study)["seed"])
    code.write_results(study, rows.assign(value=rows["value"] - 0.01))
    assert code.ALL_SEEDS not in set(code.read_results(study)["seed"])


def test_own_baselines_are_at_home_on_each_test_set(code, study):
    table = _scores().query("real_source == 'wiki'").assign(task="any")
    score = table["score"].where((table["split"] == "test") | (table["generator"] == "real"))
    table["label"] = table["label"].map(dict(enumerate(config.LABELS)))
    who = {"approach": "geometry", "protocol": "report"}
    rows = code.score_baseline(study, table, table["score"], name="A", **who)
    card = code.calibrate(code.read_scores(study, "A-report"), "inpainting")
    assert (rows["train_set"] == study.train_set).all()
    own = code.score_baseline(study, table, score, name="A_own", **who)
    assert (own["train_set"] == own["test_set"]).all() and own["test_set"].nunique() == 2
    assert not own["metric"].str.endswith("_calibrated").any()
    counts = code.read_results(study).groupby("model").size().to_dict()
    assert counts == {"A": len(rows), "A_own": len(own)}
    tested = code.test_scores(study, "A", "report", "insight")
    for found, threshold in ((rows, card["threshold"]), (own, 0.5)):
        chosen = "metric == 'accuracy_at_threshold' and test_set == 'insight'"
        right = (tested["score"] >= threshold) == (tested["label"] == 1)
        assert found.query(chosen)["value"].item() == pytest.approx(right.mean())


def test_test_rows_are_those_against_each_generators_own_photographs(code, study):
    code.write_scores(study, code.model_id("A", "report"), _scores())
    rows = code.test_scores(study, "A", "report")
    assert set(rows["split"]) == {"test"} and set(rows["real_source"]) == {"wiki"}
    assert set(rows["test_set"]) == {"inpainting", "insight"} and len(rows) == 80
    only = code.test_scores(study, "A", "report", "insight")
    pd.testing.assert_frame_equal(only, rows[rows["test_set"] == "insight"])


def test_says_what_is_wrong_with_results(code, study):
    rows = code.result_rows(study, _scores(), CARD)
    with pytest.raises(FileNotFoundError, match="Run the notebooks"):
        code.read_results(study)
    for change, message in (
        (rows.assign(value=np.nan), "no finite value"),
        (rows.assign(study="full"), "a study other than 'tiny'"),
        (pd.concat([rows, rows]), "81 of 162 rows have a copy"),
    ):
        with pytest.raises(ValueError, match=message):
            code.write_results(study, change)
    assert not study.figures.exists()
