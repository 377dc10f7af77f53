"""The face recogniser's embeddings: alike for alike faces, and scored as any detector."""

import importlib.util

import numpy as np
import pytest
from made_networks import same_boxes

from src.data import faces
from src.detectors import embeddings
from src.evaluation.results import read_scores


def test_a_linear_classifier_of_what_is_embedded_is_scored(few, records, monkeypatch):
    """Embedded is how much neighbouring pixels differ, and nothing else."""

    def embed(image, box):
        return np.abs(np.diff(image.astype(float), axis=0)).mean(axis=(0, 1))

    boxes = same_boxes(records["path"], 0.2, 0.8)
    monkeypatch.setattr(faces, "face_boxes", lambda *_, **__: boxes)
    monkeypatch.setattr(embeddings, "embed", embed)
    monkeypatch.setattr(embeddings.beyond, "PENALTIES", (1.0,))  # so few pictures
    rows = embeddings.score(few, records)
    assert set(rows["model"]) == {embeddings.NAME} and set(rows["test_set"]) == set(few.test_sets)
    scores = read_scores(few, f"{embeddings.NAME}-controlled")
    assert scores["score"].between(0, 1).all() and scores["score"].nunique() > 10


def test_without_its_packages_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    embeddings._recogniser.cache_clear()
    with pytest.raises(ModuleNotFoundError, match="requirements-faces.txt"):
        embeddings.embed(np.zeros((8, 8, 3), np.uint8), [0, 0, 1, 1])


@pytest.mark.skipif(not importlib.util.find_spec("dlib"), reason="dlib is not installed")
def test_a_face_is_nearer_to_itself_than_to_another(few, records):
    from src.data import catalog
    from src.pictures.decoding import decode

    embeddings._recogniser.cache_clear()
    real = records[(records["dataset"] == "wiki") & records["left"].notna()].head(3)
    images = [np.ascontiguousarray(decode(file)) for file in catalog.files(few, real)]
    found = real[["left", "top", "right", "bottom"]].to_numpy(float)
    first = np.stack([embeddings.embed(*pair) for pair in zip(images, found)])
    moved = np.stack([embeddings.embed(*pair) for pair in zip(images, found + 0.01)])
    distance = np.linalg.norm(first[:, None] - moved, axis=-1)
    assert (distance.argmin(axis=1) == np.arange(3)).all()
