"""The generator matrix, on a study smaller than any other."""

import dataclasses

import pytest

from src.detectors import extended, training
from src.evaluation.results import read_results, read_scores


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
