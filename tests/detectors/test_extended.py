"""Other seeds, the matrix of generators and a leaking split, on a study smaller than any other."""

from dataclasses import replace

import numpy as np
import pytest
from made_networks import same_boxes

from src.data import catalog, faces
from src.detectors import extended, scoring, training
from src.evaluation.results import ALL_SEEDS, read_results, read_scores, write_scores


@pytest.fixture
def quick(few):
    """The matrix trains the head of a frozen network."""
    network = replace(few.direct[0], name="Matrix_direct", epochs=1)
    return replace(few, matrix=(network,))


def test_the_matrix_trains_on_each_and_tests_on_all(quick, records, monkeypatch):
    three = replace(quick, test_sets=quick.test_sets | {"text2img": "wiki"})
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


def test_a_split_by_picture_has_the_same_sizes_and_leaks(quick, records):
    extended.leak_worth(quick, records)
    rows = read_results(quick).query("metric == 'auc' and protocol == 'report'")
    rows = rows[rows["model"].str.startswith("Matrix_by_")]
    means = rows[rows["seed"] == ALL_SEEDS].groupby("model")["test_set"].agg(set)
    assert means["Matrix_by_group"] == means["Matrix_by_picture"] == set(quick.test_sets)
    assert set(rows["seed"]) == {quick.seed, *quick.extra_seeds, ALL_SEEDS}
    table = scoring.prepare(quick, records, "report", "direct").table
    shuffled = extended.split_by_picture(table, quick)
    home = [part[part["task"] == quick.train_set] for part in (table, shuffled)]
    sizes = [part.groupby(["label", "split"]).size().to_dict() for part in home]
    assert sizes[0] == sizes[1]
    groups = table.drop_duplicates("path").set_index("path")["group"]
    trained = set(groups[home[1].query("split == 'train'")["path"]])
    assert trained & set(home[1].query("split == 'test'")["group"])
    seen = set(home[1].query("split != 'test'")["path"])
    assert not seen & set(shuffled.query("split == 'test'")["path"])


def test_several_seeds_leave_the_first_in_peace(few, records, monkeypatch):
    boxes = same_boxes(records["path"], 0.2, 0.8)
    monkeypatch.setattr(faces, "face_boxes", lambda *_: boxes)
    table = catalog.tasks(records, few)
    label = (table["label"] == "fake").astype(int)
    first = table.assign(label=label, score=0.25 + 0.5 * label)
    for network in (few.fourier, few.autoencoder.classifier):
        name = network.name
        write_scores(few, f"{name}-controlled", first)
        means = extended.train_seeds(few, records, network).query("metric == 'auc'")
        assert set(means["model"]) == {name} and set(means["seed"]) == {ALL_SEEDS}
        one = read_results(few).query("metric == 'auc' and model == @name and seed == 1")
        both = means.merge(one, on="test_set", suffixes=("", "_of_1"))
        assert set(both["test_set"]) == set(few.test_sets) and set(means["num_seeds"]) == {2}
        np.testing.assert_allclose(both["value"], (1 + both["value_of_1"]) / 2, atol=2e-6)
        card = training.read_card(few.models / f"{name}-controlled-seed1")
        assert card["seed"] == 1 and card["train_set"] == few.train_set
        kept = read_scores(few, f"{name}-controlled")["score"]
        np.testing.assert_array_equal(kept, first["score"])
        assert not (few.models / f"{name}-controlled.keras").exists()
