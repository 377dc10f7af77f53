"""The probe: a logistic regression on the feature maps of a pretrained network at every depth.

The network is not trained. Early feature maps hold fine detail, late ones objects; their means and
standard deviations are the features (`models.build` with the approach `"probe"`).
"""

from dataclasses import asdict

import keras
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..config import Network
from ..files import read_json, write_atomically, write_json
from .scoring import Pictures, frozen_parts

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1)  # scikit-learn's `C`: validation chooses one


def fit_probe(
    model: keras.Model, network: Network, pictures: Pictures
) -> tuple[keras.Model, pd.DataFrame]:
    """Fits the probe on standardised features, and sets it as the head of the model.

    Returns:
        The model, of `models.build`, saved with its card; and a row for each of `PENALTIES`: `C`,
        `val_loss`, `val_auc`. The one with the smallest loss is the probe.
    """
    stem = pictures.study.models / pictures.model_id(network.name)
    head, features = frozen_parts(model, pictures)
    (x, y), (valid_x, valid_y) = (
        (features[rows], pictures.labels[rows]) for rows in map(pictures.rows, ("train", "valid"))
    )
    rows, fitted = [], []
    for strength in PENALTIES:
        regression = LogisticRegression(C=strength, max_iter=1000)
        fitted.append(make_pipeline(StandardScaler(), regression).fit(x, y))
        score = fitted[-1].predict_proba(valid_x)[:, 1]
        rows.append((strength, log_loss(valid_y, score), roc_auc_score(valid_y, score)))
    found = pd.DataFrame(rows, columns=["C", "val_loss", "val_auc"])
    scaler, regression = fitted[found["val_loss"].idxmin()]
    kernel = regression.coef_.T / scaler.scale_[:, None]
    head.set_weights([kernel, regression.intercept_ - scaler.mean_ @ kernel])
    write_atomically(stem.with_name(f"{stem.name}.keras"), model.save)
    card = read_json(file := stem.with_name(f"{stem.name}.json")) or {}
    write_json(file, card | {"config": asdict(network), "num_parameters": model.count_params()})
    return model, found
