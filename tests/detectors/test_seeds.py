"""Several seeds of a detector, on a study smaller than any other."""

import numpy as np
import pandas as pd

from src.data import catalog, faces
from src.detectors import seeds, training
from src.evaluation.results import ALL_SEEDS, read_results, read_scores, write_scores


def test_several_seeds_leave_the_first_in_peace(few, records, monkeypatch):
    boxes = records[["path"]].assign(left=0.2, top=0.2, right=0.8, bottom=0.8)
    boxes = pd.concat([boxes.assign(squashed=True), boxes.assign(squashed=False)])
    monkeypatch.setattr(faces, "face_boxes", lambda *_: boxes)
    monkeypatch.setattr(seeds, "PROTOCOLS", ("controlled",))
    table = catalog.tasks(records, few)
    label = (table["label"] == "fake").astype(int)
    first = table.assign(label=label, score=0.25 + 0.5 * label)
    for name in few.headline:
        write_scores(few, f"{name}-controlled", first)
    networks = {network.name: network for network in (*few.direct, few.fourier)}
    for name in few.headline:
        means = seeds.train_seeds(few, records, networks.get(name, few.autoencoder.classifier))
        assert set(means["model"]) == {name} and set(means["seed"]) == {ALL_SEEDS}
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
