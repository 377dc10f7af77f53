from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from src import config
from src.evaluation import intervals, metrics, results
from src.evaluation.metrics import choose_threshold, compute

CARD = {"train_set": "inpainting", "seed": 3, "threshold": 0.42, "slope": 0.5, "intercept": 0.2}
WHO = {"approach": "direct", "model": "VGG16_V3", "protocol": "controlled"}


@pytest.fixture
def code():
    return results


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "HOME", tmp_path)
    return replace(config.get_study("tiny"), num_resamples=40)


def _scores(num_groups=60, seed=0):
    """Scores of reals and two generators, of which `insight` is met with two kinds of reals; all
    splits."""
    generator = np.random.default_rng(seed)
    tables = []
    for test_set, real_source, shift in (
        ("inpainting", "wiki", 2),
        ("insight", "wiki", 0.3),
        ("insight", "celeba", 4),
    ):
        for label, name in ((0, "real"), (1, test_set)):
            group = [f"{real_source}/{number:03}" for number in range(num_groups)]
            split = np.array(["train", "valid", "test"])[np.arange(num_groups) % 3]
            better = np.where(split == "test", 0, 3)  # than on the test split: mixing splits shows
            score = 1 / (
                1
                + np.exp((shift + better) * (0.5 - label) + generator.normal(size=num_groups) - 0.5)
            )
            path = [f"{name}/{value}.jpg" for value in group]
            table = pd.DataFrame(
                {"path": path, "label": label, "generator": name, "group": group, "split": split}
            )
            tables.append(table.assign(score=score, test_set=test_set, real_source=real_source))
    return pd.concat(tables, ignore_index=True)


def test_scores_come_back_as_they_were_written(code, study):
    frame = _scores()
    path = code.write_scores(study, "VGG16_V3-controlled", frame.assign(extra=1))
    assert path == study.data / "scores" / "VGG16_V3-controlled.parquet"
    back = code.read_scores(study, "VGG16_V3-controlled")
    assert list(back) == ["model_id", *code.SCORE_COLUMNS] and back["label"].dtype == "int8"
    np.testing.assert_array_equal(back["score"], frame["score"])
    code.write_scores(study, "A-report", frame.iloc[::-1])
    assert code.read_scores(study)["model_id"].unique().tolist() == [
        "A-report",
        "VGG16_V3-controlled",
    ]
    assert sorted(item.name for item in path.parent.iterdir()) == [
        "A-report.parquet",
        "VGG16_V3-controlled.parquet",
    ]


def test_missing_scores_are_named_with_what_there_is(code, study):
    with pytest.raises(FileNotFoundError, match="found: none"):
        code.read_scores(study)
    code.write_scores(study, "A-report", _scores())
    with pytest.raises(FileNotFoundError, match="'B-report'.*found: A-report.*Run the notebook"):
        code.read_scores(study, "B-report")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="group"), r"lack the columns \['group'\]"),
        (lambda frame: frame.iloc[:0], "no rows"),
        (
            lambda frame: frame.assign(score=frame["score"].where(frame.index != 7)),
            "1 of 360 rows have a score that is NaN",
        ),
        (lambda frame: frame.assign(score=frame["score"] * 3 - 1), r"outside \[0, 1\]"),
        (lambda frame: frame.assign(label=frame["label"] + 1), "label other than"),
        (lambda frame: frame.assign(label=1 - frame["label"]), "contradicts its generator"),
        (lambda frame: frame.assign(split="validation"), "a split other than"),
        (lambda frame: pd.concat([frame, frame.iloc[:1]]), "1 of 361 rows have an image twice"),
        (
            lambda frame: frame.assign(split=["train"] * 180 + ["test"] * 180),
            "a group in several splits",
        ),
        (lambda frame: frame.assign(group=None), "no value in some column"),
    ],
)
def test_says_what_is_wrong_with_scores(code, study, change, message):
    with pytest.raises(ValueError, match=message):
        code.write_scores(study, "A-report", change(_scores()))
    assert not (study.data / "scores").exists()


def test_a_flipped_label_is_refused(code, study):
    with pytest.raises(ValueError, match="contradicts its generator"):
        code.write_scores(
            study, "A-report", _scores().assign(label=lambda frame: 1 - frame["label"])
        )


def test_a_group_in_two_splits_is_refused(code, study):
    with pytest.raises(ValueError, match="several splits"):
        code.write_scores(
            study, "A-report", _scores().assign(split=["train"] * 180 + ["test"] * 180)
        )


def test_threshold_and_calibration_come_from_validation_rows_of_the_training_set(code, study):
    scores = _scores()
    valid = scores[(scores["split"] == "valid") & (scores["test_set"] == "inpainting")]
    chosen = code.calibrate(scores, "inpainting")
    assert chosen == {
        "threshold": choose_threshold(valid["label"], valid["score"]),
        **metrics.fit_calibration(valid["label"], valid["score"]),
    }
    with pytest.raises(ValueError, match="No scores are validation rows of 'text2img'.*'insight'"):
        code.calibrate(scores, "text2img")


def test_validation_rows_of_several_training_sets_and_of_photographs_alone(code, study):
    scores = _scores().query("real_source == 'wiki'")
    valid = scores[scores["split"] == "valid"]
    pd.testing.assert_frame_equal(code.validation_rows(scores, "inpainting+insight"), valid)
    alone = valid[(valid["label"] == 0) & (valid["test_set"] == "inpainting")].assign(
        real_source="celeba"
    )
    assert code.calibrate(pd.concat([scores, alone]), "inpainting") == code.calibrate(
        scores, "inpainting"
    )
    with pytest.raises(
        ValueError, match="one source of photographs of 'insight', not .'wiki', 'celeba'"
    ):
        code.validation_rows(_scores(), "insight")


def test_result_rows_are_the_metrics_of_each_test_set_alone(code, study):
    scores = _scores()
    rows = code.result_rows(study, scores, **WHO, card=CARD)
    assert tuple(rows) == code.RESULT_COLUMNS
    assert (rows[["num_real", "num_fake", "num_groups"]] == 20).all(axis=None)
    assert (rows["seed"] == 3).all() and (rows["num_seeds"] == 1).all()
    names = metrics.METRICS + metrics.THRESHOLD_METRICS + metrics.CALIBRATION_METRICS
    assert len(rows.groupby(["test_set", "real_source"])) == 3
    tests = scores[scores["split"] == "test"].set_index(["test_set", "real_source"]).sort_index()
    for task, part in rows.groupby(["test_set", "real_source"]):
        tested = tests.loc[task].reset_index(drop=True)
        label, score, group = tested["label"], tested["score"], tested["group"]
        part = part.set_index("metric")
        values = part["value"]
        for suffix, threshold in (("", 0.5), ("_at_threshold", CARD["threshold"])):
            oracle = compute(label, score, threshold, group)
            for name in metrics.THRESHOLD_METRICS:
                assert values[name + suffix] == pytest.approx(oracle[name])
        fakes, reals = tested[label == 1], tested[label == 0]
        pairs = fakes.merge(reals, how="cross").query("group_x != group_y")
        assert values["auc"] == pytest.approx((pairs["score_x"] > pairs["score_y"]).mean())
        logit = CARD["slope"] * np.log(score / (1 - score)) + CARD["intercept"]
        assert values["log_loss_calibrated"] == pytest.approx(
            compute(label, 1 / (1 + np.exp(-logit)))["log_loss"]
        )
        assert values["fpr_at_threshold"] == pytest.approx(1 - values["recall_real_at_threshold"])
        assert len(values) == len(names) - len(intervals.MIN_REALS) + 1
        options = {"num_resamples": study.num_resamples, "seed": study.seed, "names": ["auc", "f1"]}
        oracle = intervals.estimate(label, score, group, **options).set_index("metric")
        bounds = ["ci_low", "ci_high"]
        assert np.allclose(part.loc[["auc", "f1"], bounds], oracle[bounds])


def test_result_rows_depend_on_test_rows_only(code, study):
    scores = _scores()
    other = scores.assign(
        score=scores["score"].where(scores["split"] == "test", 1 - scores["score"])
    )
    pd.testing.assert_frame_equal(
        code.result_rows(study, scores, **WHO, card=CARD),
        code.result_rows(study, other, **WHO, card=CARD),
    )


def test_photographs_without_fakes_have_a_rate_of_false_alarms_and_nothing_else(code, study):
    scores = _scores()
    alone = scores[(scores["test_set"] == "inpainting") & (scores["label"] == 0)].assign(
        real_source="celeba"
    )
    rows = code.result_rows(study, pd.concat([scores, alone]), **WHO, card=CARD)
    row = rows[rows["real_source"].eq("celeba") & rows["test_set"].eq("inpainting")]
    assert row["num_groups"].item() == 20
    tested = alone[alone["split"] == "test"]
    assert row["metric"].tolist() == ["fpr_at_threshold"] and row[
        ["num_real", "num_fake"]
    ].values.tolist() == [[20, 0]]
    assert row["value"].item() == (tested["score"] >= CARD["threshold"]).mean()
    code.write_results(study, rows)
    with pytest.raises(ValueError, match="received 0 real and 20 fake"):
        code.result_rows(study, scores[scores["label"] == 1], **WHO, card=CARD)


def test_intervals_in_result_rows_draw_groups(code, study):
    scores = _scores()
    tenfold = pd.concat([scores.assign(path=scores["path"] + str(copy)) for copy in range(10)])
    columns = ["metric", "ci_low", "ci_high"]
    once, often = (
        code.result_rows(study, frame, **WHO, card=CARD)[columns] for frame in (scores, tenfold)
    )
    names = ["auc", "accuracy", "f1_at_threshold"]
    once, often = (
        rows[rows["metric"].isin(names)].reset_index(drop=True) for rows in (once, often)
    )
    pd.testing.assert_frame_equal(once, often)


def test_says_what_is_wrong_with_card_or_rows(code, study):
    scores = _scores()
    with pytest.raises(ValueError, match=r"lacks \['seed', 'threshold', 'slope', 'intercept'\]"):
        code.result_rows(study, scores, **WHO, card={"train_set": "inpainting", "threshold": None})
    with pytest.raises(ValueError, match="no rows of the test split"):
        code.result_rows(study, scores[scores["split"] != "test"], **WHO, card=CARD)
    names = ["auc", "accuracy_at_threshold", "fpr_at_threshold", "ece_calibrated"]
    every, some = (
        code.result_rows(study, scores, **WHO, card=CARD, names=given) for given in (None, names)
    )
    chosen = every[every["metric"].isin(names)].reset_index(drop=True)
    assert some.sort_values(["test_set", "real_source", "metric"], ignore_index=True).equals(
        chosen.sort_values(["test_set", "real_source", "metric"], ignore_index=True)
    )


def test_results_replace_rows_with_the_same_keys_and_keep_the_others(code, study):
    scores = _scores()
    for seed in (3, 4):
        code.write_scores(study, f"VGG16_V3-controlled-seed{seed}", _scores())
    first = code.result_rows(study, scores, **WHO, card=CARD)
    other_seed = code.result_rows(study, scores, **WHO, card={**CARD, "seed": 4})
    code.write_results(study, other_seed)
    path = code.write_results(study, first.sample(frac=1, random_state=0).sort_index())
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
    first = code.result_rows(study, _scores(), **WHO, card=CARD)
    base = first[first["metric"] == "auc"]
    names = ["auc@jpeg:90", "auc@jpeg:50", "auc@face_size:<0.31", "cam_in_region"]
    more = pd.concat(
        [base.assign(metric=name, value=number / 10) for number, name in enumerate(names)]
    )
    path = code.write_results(study, first)
    code.write_results(study, more)
    before = path.read_bytes()
    for rows in (more, first):  # in any order, and again
        code.write_results(study, rows)
        assert path.read_bytes() == before
    path.unlink()
    code.write_results(study, more)
    code.write_results(study, first)
    assert path.read_bytes() == before
    code.write_results(study, base.assign(metric="auc@face_size:<0.4"))
    code.write_results(study, base.assign(metric="auc@jpeg:50", value=0.9))
    back = code.read_results(study)
    kept = back.loc[back["metric"].str.contains("@|cam"), "metric"]
    assert set(kept) == {"auc@jpeg:50", "auc@face_size:<0.4", "cam_in_region"}
    assert len(back) == len(first) + 3 * len(base)


def test_rows_without_scores_on_this_machine_go_with_the_next_write(code, study):
    card = {**CARD, "seed": study.seed}
    kinds = {
        "A": ("A-report", card),
        "B": ("B-report-seed1", {**card, "seed": 1}),
        "Matrix": ("Matrix-report-insight", {**card, "train_set": "insight"}),
    }
    who = {"approach": "direct", "protocol": "report"}
    rows = {
        model: code.result_rows(study, _scores(), **who, model=model, card=card, names=["auc"])
        for model, (_, card) in kinds.items()
    }
    conditions = rows["A"].assign(metric="auc@jpeg:50")
    path = code.write_results(study, pd.concat([*rows.values(), conditions]))
    committed = path.read_text()
    assert len(code.read_results(study)) == 12  # a fresh clone reads what came with it
    code.write_results(study, rows["B"])
    assert set(code.read_results(study)["model"]) == {"B"}
    for model, (model_id, _) in kinds.items():
        path.write_text(committed)
        code.write_scores(study, model_id, _scores())
        code.write_results(replace(study, seed=1, train_set="insight"), rows["A"])
        assert set(code.read_results(study)["model"]) == {
            *list(kinds)[: list(kinds).index(model) + 1]
        }
    code.scores_file(study, "A-report-seed1")
    assert "auc@jpeg:50" in set(code.read_results(study)["metric"])


def test_conditions_of_a_detector_go_when_it_was_trained_anew(code, study):
    code.write_scores(study, "VGG16_V3-controlled-seed3", _scores())
    rows = code.result_rows(study, _scores(), **WHO, card=CARD, names=["auc"])
    conditions = pd.concat([rows.assign(metric=name) for name in ("auc@jpeg:50", "cam_in_region")])
    code.write_results(study, pd.concat([rows, conditions]))
    code.write_results(study, rows)
    assert len(code.read_results(study)) == 3 * len(rows)
    code.write_results(study, rows.assign(value=rows["value"] - 0.01))
    assert set(code.read_results(study)["metric"]) == {"auc"}


SEEDS = {"approach": "direct", "model": "A", "protocol": "report"}


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
    label, group, scores = [], [], [[], [], []]
    for row in frames["-seed2"].query("split == 'test' and test_set == 'inpainting'").itertuples():
        label.append(row.label)
        group.append(row.group)
        for values, frame in zip(scores, frames.values()):
            same = frame[(frame["path"] == row.path) & (frame["test_set"] == "inpainting")]
            values.append(same["score"].item())
    assert wanted["num_real"].eq(label.count(0)).all() and label.count(0) < 20
    auc = np.mean([compute(label, values, groups=group)["auc"] for values in scores])
    assert wanted["value"]["auc"] == pytest.approx(auc)
    order = np.argsort(group, kind="stable")  # other draws, the same interval up to chance
    arrays = np.array(label)[order], np.array(scores)[:, order], np.array(group)[order]
    oracle = intervals.estimate(*arrays, num_resamples=4000, names=["auc"])
    bounds = ["ci_low", "ci_high"]
    assert np.allclose(wanted.loc["auc", bounds].astype(float), oracle[bounds], atol=0.04)


def test_means_over_seeds_go_when_a_training_changes(code, study):
    card = {**CARD, "train_set": study.train_set, "seed": study.seed}
    for variant, seed in (("", 0), ("-seed1", 1)):
        code.write_scores(study, f"A-report{variant}", _scores(seed=seed))
    code.write_seed_means(study, **SEEDS)
    rows = code.result_rows(study, _scores(), **SEEDS, card=card)
    for _ in range(2):  # written anew with the same numbers, the means stay
        code.write_results(study, rows)
        assert code.ALL_SEEDS in set(code.read_results(study)["seed"])
    code.write_results(study, rows.assign(value=rows["value"] - 0.01))
    assert code.ALL_SEEDS not in set(code.read_results(study)["seed"])


def test_own_baselines_are_at_home_on_each_test_set(code, study):
    table = _scores().query("real_source == 'wiki'").assign(task="any")
    probability = table["score"].where((table["split"] == "test") | (table["generator"] == "real"))
    table["label"] = table["label"].map(dict(enumerate(config.LABELS)))
    who = {"approach": "geometry", "protocol": "report"}
    rows = code.score_baseline(study, table, table["score"], name="A", **who)
    card = code.calibrate(code.read_scores(study, "A-report"), "inpainting")
    assert (rows["train_set"] == study.train_set).all()
    own = code.score_baseline(study, table, probability, name="A_own", **who)
    assert (own["train_set"] == own["test_set"]).all() and own["test_set"].nunique() == 2
    assert not own["metric"].str.endswith("_calibrated").any()
    back = code.read_results(study)
    assert back.groupby("model").size().to_dict() == {"A": len(rows), "A_own": len(own)}
    assert code.read_scores(study, "A_own-report")["score"].notna().all()
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
    rows = code.result_rows(study, _scores(), **WHO, card=CARD)
    with pytest.raises(FileNotFoundError, match="Run the notebooks"):
        code.read_results(study)
    for change, message in (
        (rows.drop(columns="seed"), "Expected the columns"),
        (rows.assign(more=1), "Expected the columns"),
        (rows.assign(value=np.nan), "no finite value"),
        (rows.assign(study="full"), "a study other than 'tiny'"),
        (pd.concat([rows, rows]), "81 of 162 rows have a copy"),
    ):
        with pytest.raises(ValueError, match=message):
            code.write_results(study, change)
    assert not study.figures.exists()


def test_a_failed_write_leaves_the_old_file_and_no_other(code, study):
    path = study.figures / "results.csv"
    path.parent.mkdir(parents=True)
    path.write_text("old")

    def fail(beside):
        beside.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        code.write_atomically(path, fail)
    assert [item.name for item in path.parent.iterdir()] == [
        "results.csv"
    ] and path.read_text() == "old"
