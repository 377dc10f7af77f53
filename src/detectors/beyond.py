"""Beyond the study: linear detectors of single traces, in pictures at their own resolution.

Pictures are seen in `VIEWS`, none of which is trained here. A specialist is a logistic regression
that tells the fakes of one family of generators from all photographs, in one view, calibrated. What
several say is combined by the mean over views and the maximum over families.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from ..config import Study
from ..data import catalog
from ..evaluation import results
from ..files import progress
from ..pictures.residuals import dct_histograms
from . import models, scoring, training

SIDE = 224  # pixels of the middle of a picture, not resampled
VIEWS = ("embedding", "residual", "histograms")
NUM_FOLDS = 5
PENALTIES = (1e-4, 1e-3, 1e-2)  # scikit-learn's `C`: validation chooses one


def see(study: Study, records: pd.DataFrame, protocol: str):
    """The features of every picture of every generator, in each view.

    Returns:
        The rows of `catalog.tasks` (all splits; `row` is the place among the features), and by view
        features `(num_pictures, F)` `float32`, on disk: `"embedding"`, what the probe's network
        sees at every depth; `"residual"`, the same of the picture's finest detail alone (the step
        `highpass`); `"histograms"` of the cosine transform (`residuals.dct_histograms`).
    """
    study = replace(catalog.every_generator(study, records), unseen_reals=study.unseen_reals)
    steps, folder = (f"on_grid:{SIDE}",), study.data / "features"
    plain = scoring.prepare(study, records, protocol, "probe", steps=steps)
    sharp = scoring.prepare(study, records, protocol, "probe", steps=(*steps, "highpass"))
    network = models.parts(models.build(study.probe, SIDE))[0]
    ways = zip(VIEWS, (network, network, dct_histograms), (plain, sharp, plain))
    return plain.table, {
        view: training.cached_features(extract, seen.pixels, folder, seen.fingerprint)
        for view, extract, seen in ways
    }


def family(generator: str) -> str:
    """Generators whose names begin with the same word leave the same trace: `inpainting_local`."""
    return generator.partition("_")[0]


def fit_linear(x, labels, valid_x, valid_labels) -> tuple[np.ndarray, float]:
    """Kernel `(F,)` and bias of a calibrated logistic regression: their logit is that of fake.

    Features are standardised, classes weigh the same; the penalty, and slope and intercept of the
    calibration (Platt, "Probabilistic outputs for support vector machines", 1999), are those that
    suit the validation rows best.
    """
    middle, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    x, best = (x - middle) / scale, np.inf
    for strength in PENALTIES:
        model = LogisticRegression(C=strength, max_iter=300, class_weight="balanced")
        kernel = model.fit(x, labels).coef_[0] / scale
        logits = (valid_x @ kernel)[:, None]
        platt = LogisticRegression(C=np.inf, class_weight="balanced").fit(logits, valid_labels)
        weights = len(valid_labels) / (2 * np.bincount(valid_labels)[valid_labels])
        loss = log_loss(valid_labels, platt.predict_proba(logits), sample_weight=weights)
        if loss < best:
            best, found = loss, (kernel * platt.coef_[0, 0], platt.intercept_[0])
    return found


def folds(groups: pd.Series) -> np.ndarray:
    """The fold of each row, 0 to 4: that of its group, by the group's name alone."""
    return (groups.map(catalog.unit_interval) * NUM_FOLDS).astype(int).to_numpy()


def out_of_fold(
    table: pd.DataFrame, views: dict[str, np.ndarray], unseen: Sequence[str] = ()
) -> pd.DataFrame:
    """What specialists, trained on other groups, say of every row of `table`.

    Each fold is scored by detectors that were fitted on three others and calibrated on the fourth.
    None learns of the pictures whose `real_source` is `unseen`.

    Returns:
        Logits by (view, family), a row for each of `table`. The family `"any"` is one detector for
        the fakes of all.
    """
    table = table.reset_index(drop=True)
    once = table.drop_duplicates("row").set_index("row").sort_index()
    fold, fakes = folds(once["group"]), once["generator"].map(family)
    labels = (once["label"] == "fake").to_numpy(int)
    learnt = ~once["real_source"].isin(unseen).to_numpy()
    families = fakes[learnt & (labels == 1)].unique()
    logits = {(view, name): np.empty(len(once)) for view in views for name in (*families, "any")}
    jobs = [(view, name, number) for view, name in logits for number in range(NUM_FOLDS)]
    for view, name, number in progress(jobs, "Specialists", unit="fit"):
        chosen = learnt & ((labels == 0) | (fakes == name).to_numpy() | (name == "any"))
        valid = chosen & (fold == (number + 1) % NUM_FOLDS)
        train, x = chosen & ~valid & (fold != number), views[view]
        kernel, bias = fit_linear(x[train], labels[train], x[valid], labels[valid])
        logits[view, name][fold == number] = x[fold == number] @ kernel + bias
    return pd.DataFrame(logits).loc[table["row"]].reset_index(drop=True)


def combine(logits: pd.DataFrame, views: Sequence[str] = VIEWS, without: str = "") -> np.ndarray:
    """Scores in [0, 1]: mean over views, then the maximum over families but one (and `"any"`)."""
    mean = sum(logits[view] for view in views) / len(views)
    return expit(mean.drop(columns=[name for name in ("any", without) if name in mean]).max(axis=1))


def scored(table: pd.DataFrame, score: np.ndarray) -> pd.DataFrame:
    """Scores of rows of `table` as those of a detector: all pictures of the sets are tested."""
    labels = (table["label"] == "fake").astype("int8")
    return table.assign(label=labels, score=score, split="test")


def compare(study: Study, table: pd.DataFrame, logits: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """AUC of single views and of all, by what was trained on: rows as of `results.csv`.

    `train_set` is `"all"` (the maximum of all specialists), `"all but <family>"` (on the test sets
    of that family), `"any"` (one detector for all), or the name of one specialist's family.
    """
    families = [name for name in logits[VIEWS[0]] if name != "any"]
    of_family = table["test_set"].map(family)
    ways, rows = {view: (view,) for view in VIEWS} | {"all views": VIEWS}, []
    for model, views in ways.items():
        mean = sum(logits[view] for view in views) / len(views)
        asked = {"all": (combine(logits, views), of_family.notna())}
        for name in families:
            asked[f"all but {name}"] = combine(logits, views, name), of_family == name
        for name in (*families, "any"):
            asked[name] = expit(mean[name]), of_family.notna()
        approach = "fusion" if len(views) > 1 else "probe"
        card = {"approach": approach, "model": model, "protocol": protocol, "seed": study.seed}
        for train_set, (score, where) in asked.items():
            tested = scored(table, np.asarray(score))[where]
            rows.append(
                results.result_rows(study, tested, card | {"train_set": train_set}, ["auc"])
            )
    return pd.concat(rows, ignore_index=True)
