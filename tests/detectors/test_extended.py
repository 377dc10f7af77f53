"""The generator matrix, on a study smaller than any other."""

import dataclasses

from src.detectors import extended, scoring, training
from src.evaluation.results import ALL_SEEDS, read_results, read_scores


def test_the_matrix_trains_on_each_and_tests_on_all(few, records, monkeypatch):
    test_sets = few.test_sets | {"text2img": "wiki"}
    three = dataclasses.replace(few, test_sets=test_sets, matrix=few.matrix[:1])
    train_sets = ["gan140k", "inpainting+text2img"]
    monkeypatch.setattr(extended, "train_sets", lambda generators: train_sets)
    extended.generator_matrix(three, records)
    results = read_results(three).query("metric == 'auc' and model == 'Matrix_direct'")
    assert len(results) == 6 and set(results["protocol"]) == {"controlled"}
    counts = results.groupby("train_set")["test_set"].nunique()
    assert counts.to_dict() == dict.fromkeys(train_sets, 3)
    card = training.read_card(three.models / "Matrix_direct-controlled-inpainting+text2img")
    assert card["train_set"] == "inpainting+text2img" and 0 <= card["threshold"] <= 1
    scores = read_scores(three, "Matrix_direct-controlled-gan140k")
    assert set(scores.query("test_set == 'inpainting'")["split"]) == {"valid", "test"}


def test_a_split_by_picture_has_the_same_sizes_and_leaks(few, records):
    extended.leak_worth(few, records)
    rows = read_results(few).query("metric == 'auc' and protocol == 'report'")
    rows = rows[rows["model"].str.match("Matrix_(by|on)_")]
    means = rows[rows["seed"] == ALL_SEEDS].groupby("model")["test_set"].agg(set)
    assert means["Matrix_by_group"] == means["Matrix_by_picture"] == set(few.test_sets)
    assert set(rows["seed"]) == {few.seed, *few.extra_seeds, ALL_SEEDS}
    table = scoring.prepare(few, records, "report", "direct").table
    shuffled = extended.split_by_picture(table, few)
    home = [part[part["task"] == few.train_set] for part in (table, shuffled)]
    sizes = [part.groupby(["label", "split"]).size().to_dict() for part in home]
    assert sizes[0] == sizes[1]
    groups = table.drop_duplicates("path").set_index("path")["group"]
    trained = set(groups[home[1].query("split == 'train'")["path"]])
    assert trained & set(home[1].query("split == 'test'")["group"])
    seen = set(home[1].query("split != 'test'")["path"])
    assert not seen & set(shuffled.query("split == 'test'")["path"])
