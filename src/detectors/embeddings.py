"""Embeddings of a face recogniser, beside the autoencoder's: `python -m src.detectors.embeddings`.

It needs `pip install -r requirements-faces.txt` and the boxes that notebook 5 found. Notebook 7
shows its rows of `results.csv`.
"""

import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from src import setup

from ..config import Study
from ..data import catalog, faces
from ..evaluation import results
from ..files import progress
from ..pictures.decoding import decode
from ..pictures.steps import apply
from . import beyond

NAME = "Beyond_embedding"
_WEIGHTS = "face_recognition_models"  # a package of files: it is not imported
_FILES = ("shape_predictor_5_face_landmarks.dat", "dlib_face_recognition_resnet_model_v1.dat")


@lru_cache(maxsize=1)
def _recogniser():
    """dlib, and its models of five landmarks and of faces."""
    spec = importlib.util.find_spec(_WEIGHTS)
    if spec is None or importlib.util.find_spec("dlib") is None:
        advice = "Install it with `pip install -r requirements-faces.txt`."
        raise ModuleNotFoundError(f"The face recogniser is missing. {advice}")
    import dlib

    folder = Path(spec.submodule_search_locations[0], "models")
    points, network = (str(folder / name) for name in _FILES)
    return dlib, dlib.shape_predictor(points), dlib.face_recognition_model_v1(network)


def embed(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Who a face looks like: `(128,)`, alike for pictures of one person.

    A ResNet trained on 3 million pictures of 7,485 persons (King, "High quality face recognition
    with deep metric learning", 2017), of the face upright and 150 pixels wide. `image` is `(H, W,
    3)` `uint8`, `box` left, top, right and bottom in fractions.
    """
    dlib, points, network = _recogniser()
    height, width = image.shape[:2]
    corners = np.rint(np.asarray(box) * (width, height, width, height)).astype(int)
    found = points(image, dlib.rectangle(*corners.tolist()))
    return np.array(network.compute_face_descriptor(dlib.get_face_chip(image, found, size=150)))


def score(study: Study, records: pd.DataFrame, protocol: str = "controlled") -> pd.DataFrame:
    """Trains a linear classifier on the embeddings, like the autoencoder's; writes its results.

    Pictures without a face have no score. Returns the rows of `results.csv`.
    """
    table = catalog.task_steps(study, records, protocol)
    boxes = faces.boxes_of(table, faces.face_boxes(study, records, protocol, margin=0))
    has_face = np.isfinite(boxes).all(axis=1)
    table, boxes = table[has_face].reset_index(drop=True), boxes[has_face]
    row = table.groupby(["path", "steps"], sort=False).ngroup().to_numpy()
    once = table.index[~pd.Series(row).duplicated()]
    x, files = [], catalog.files(study, table.loc[once])
    for number, file in zip(once, progress(files, "Embedding faces", unit="face")):
        image = apply(decode(file), table["steps"][number].split())
        x.append(embed(np.ascontiguousarray(image), boxes[number]))
    x = np.array(x)[row]
    labels = (table["label"] == "fake").to_numpy(int)
    home = table["task"].isin(study.train_sets)
    train, valid = ((home & (table["split"] == split)).to_numpy() for split in ("train", "valid"))
    kernel, bias = beyond.fit_linear(x[train], labels[train], x[valid], labels[valid])
    score = expit(x @ kernel + bias)
    return results.score_baseline(study, table, score, "embedding", NAME, protocol)


if __name__ == "__main__":
    chosen = setup()
    rows = score(chosen, catalog.load(chosen)).query("metric == 'auc'")
    print(rows[["test_set", "real_source", "value", "ci_low", "ci_high"]].round(2).to_string())
