"""Several seeds and the generator matrix, on a study smaller than any other."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from src.data import catalog
from src.detectors import extended, scoring, training
from src.evaluation.results import ALL_SEEDS, read_results, read_scores, write_scores


@pytest.fixture
def few(study):
    """Two generators, one small network an approach."""
    test_sets = {name: study.test_sets[name] for name in ("inpainting", "gan140k")}
    return dataclasses.replace(
        study, test_sets=test_sets, foreign_reals={}, unseen_reals=(), num_resamples=5
    )


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


def test_several_seeds_leave_the_first_in_peace(few, records, monkeypatch):
    boxes = records[["path"]].assign(left=0.2, top=0.2, right=0.8, bottom=0.8)
    boxes = pd.concat([boxes.assign(squashed=True), boxes.assign(squashed=False)])
    monkeypatch.setattr(extended.faces, "face_boxes", lambda *_: boxes)
    monkeypatch.setattr(extended, "PROTOCOLS", ("controlled",))
    table = catalog.tasks(records, few)
    label = (table["label"] == "fake").astype(int)
    first = table.assign(label=label, score=0.25 + 0.5 * label)
    for name in few.headline:
        write_scores(few, f"{name}-controlled", first)
    extended.several_seeds(few, records)
    auc = read_results(few).query("metric == 'auc'")
    results, means = (auc[auc["seed"] == seed] for seed in (1, ALL_SEEDS))
    keys = ["model", "test_set"]
    both = means.merge(results, on=keys, suffixes=("", "_of_1"))
    assert len(both) == len(results) and set(means["num_seeds"]) == {2}
    np.testing.assert_allclose(both["value"], (1 + both["value_of_1"]) / 2, atol=2e-6)
    assert set(results["model"]) == set(few.headline)
    assert set(results["test_set"]) == set(few.test_sets)
    for name in few.headline:
        card = training.read_card(few.models / f"{name}-controlled-seed1")
        assert card["seed"] == 1 and card["train_set"] == few.train_set
        kept = read_scores(few, f"{name}-controlled")["score"]
        np.testing.assert_array_equal(kept, first["score"])
    assert not (few.models / "VGG16_V3-controlled.keras").exists()
    assert catalog.load(few).equals(records)


def test_a_split_by_picture_has_the_same_sizes_and_leaks(few, records):
    extended.leak_worth(few, records)
    rows = read_results(few).query("metric == 'auc' and protocol == 'report'")
    rows = rows[rows["model"].str.match("Matrix_(by|on)_")]
    means = rows[rows["seed"] == ALL_SEEDS].groupby("model")["test_set"].agg(set)
    assert means["Matrix_by_group"] == means["Matrix_by_picture"] == set(few.test_sets)
    assert means["Matrix_on_training"] == {few.train_set}
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
    scores = read_scores(few, "Matrix_on_training-report").query("split == 'test'")
    assert set(scores["path"]) == set(home[0].query("split == 'train'")["path"])
