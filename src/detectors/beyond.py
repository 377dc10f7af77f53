"""Beyond the study: linear detectors of single traces, in pictures at their own resolution.

Features come in `VIEWS`, none of which is trained here. A specialist is a calibrated logistic
regression, in one view, that tells the fakes of one family of generators from all photographs.
Logits are averaged over views; families are then combined as classes beside "real".
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
from keras import layers, ops
from scipy.special import expit, logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from ..config import Study
from ..data import catalog
from ..evaluation import intervals, results
from ..files import progress
from ..pictures.residuals import DctHistograms, HighPass
from . import models, scoring

VIEWS = ("embedding", "residual", "histograms")
NUM_FOLDS = 5
PENALTIES = (1e-4, 1e-3, 1e-2)  # scikit-learn's `C`: validation chooses one


def build_extractor(study: Study, views: Sequence[str] = VIEWS) -> keras.Model:
    """Pictures `(N, S, S, 3)` `uint8` to the features of views, `S` the study's `detail_size`.

    `"embedding"`: of the probe's network at every depth; `"residual"`: the same of `HighPass`, the
    picture's finest detail; `"histograms"`: of `DctHistograms`.
    """
    side = study.detail_size
    image = layers.Input((side, side, 3), dtype="uint8", name="image")
    network = models.parts(models.build(study.probe, side))[0]
    sharp = ops.cast(ops.round(HighPass(name="high_pass")(image)), "uint8")
    counts = DctHistograms(name="counts")(image)
    seen = dict(zip(VIEWS, (network(image), network(sharp), counts)))
    features = [seen[view] for view in views]
    every = layers.Concatenate()(features) if len(views) > 1 else features[0]
    return keras.Model(image, every, name="extractor")


def delivery(path: str, side: int) -> tuple[str, ...]:
    """Steps that resize a picture and save it as JPEG: a size and a quality drawn from its path.

    After the augmentation of Wang et al., "CNN-generated images are
    surprisingly easy to spot ... for now", CVPR 2020.
    """
    size, quality = (catalog.unit_interval(f"{what} of {path}") for what in ("size", "quality"))
    return f"shorter:{side + int(176 * size)}", f"jpeg:{50 + int(46 * quality)}"


def middle(study: Study) -> tuple[str, ...]:
    """The step that cuts out the middle, which is resampled only if the picture is smaller."""
    return (f"on_grid:{study.detail_size}",)


def see(
    study: Study, records: pd.DataFrame, protocol: str, delivered: bool = False
) -> tuple[pd.DataFrame, np.ndarray]:
    """The features of every picture of every generator, at its own resolution or `delivered`.

    Returns the rows of `catalog.tasks`, of all splits, and features `(num_pictures, F)` `float32`
    on disk. Column `row` is the place in the features.
    """
    study = replace(catalog.every_generator(study, records), unseen_reals=study.unseen_reals)
    cut = middle(study)
    steps = (lambda path: (*delivery(path, study.detail_size), *cut)) if delivered else cut
    pictures = scoring.prepare(study, records, protocol, "probe", steps=steps)
    return pictures.table, pictures.features(build_extractor(study))


def in_views(features: np.ndarray) -> dict[str, np.ndarray]:
    """The features of `see` by view."""
    num_histograms = DctHistograms().compute_output_shape((None,))[1]
    half = (features.shape[1] - num_histograms) // 2
    return dict(zip(VIEWS, np.split(features, [half, 2 * half], axis=1)))


def family(generator: str) -> str:
    """The first word of a generator's name: `inpainting` and `inpainting_local` are one family."""
    return generator.partition("_")[0]


def fit_linear(x, labels, valid_x, valid_labels) -> tuple[np.ndarray, float]:
    """Kernel `(F,)` and bias of a calibrated logistic regression; they give the logit of fake.

    Features are standardised, classes weigh the same. The validation rows choose the penalty, and
    fit slope and intercept of the calibration (Platt, "Probabilistic outputs for support vector
    machines", 1999).
    """
    middle, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    x, best = (x - middle) / scale, np.inf
    for strength in PENALTIES:
        options = {"tol": 1e-3, "max_iter": 300, "class_weight": "balanced"}
        kernel = LogisticRegression(C=strength, **options).fit(x, labels).coef_[0] / scale
        logits = (valid_x @ kernel)[:, None]
        platt = LogisticRegression(C=np.inf, class_weight="balanced").fit(logits, valid_labels)
        weights = len(valid_labels) / (2 * np.bincount(valid_labels)[valid_labels])
        loss = log_loss(valid_labels, platt.predict_proba(logits), sample_weight=weights)
        if loss < best:
            best, found = loss, (kernel * platt.coef_[0, 0], platt.intercept_[0])
    return found


def folds(groups: pd.Series) -> np.ndarray:
    """The fold of each row, 0 to 4, drawn from the name of its group."""
    return (groups.map(catalog.unit_interval) * NUM_FOLDS).astype(int).to_numpy()


def out_of_fold(
    table: pd.DataFrame, views: dict[str, np.ndarray], unseen: Sequence[str] = ()
) -> tuple[pd.DataFrame, dict]:
    """Logits for every row of `table`, of specialists that were trained on other groups.

    Each fold is scored by detectors that were fitted on three others and calibrated on the fourth.
    Rows whose `real_source` is in `unseen` are only scored.

    Returns:
        Logits by (view, family), a row for each of `table`; the family `"any"`, where there are
        several, is one detector for all. And by the same keys kernel and bias, averaged over folds.
    """
    table = table.reset_index(drop=True)
    once = table.drop_duplicates("row").set_index("row").sort_index()
    fold, fakes = folds(once["group"]), once["generator"].map(family)
    labels = (once["label"] == "fake").to_numpy(int)
    learnt = ~once["real_source"].isin(unseen).to_numpy()
    families = fakes[learnt & (labels == 1)].unique()
    names = [*families, "any"] if len(families) > 1 else families
    logits = {(view, name): np.empty(len(once)) for view in views for name in names}
    jobs = [(view, name, number) for view, name in logits for number in range(NUM_FOLDS)]
    heads = {key: (0, 0) for key in logits}

    def fit(view: str, name: str, number: int) -> tuple[np.ndarray, float]:
        chosen = learnt & ((labels == 0) | (fakes == name).to_numpy() | (name == "any"))
        valid = chosen & (fold == (number + 1) % NUM_FOLDS)
        train, x = chosen & ~valid & (fold != number), views[view]
        return fit_linear(x[train], labels[train], x[valid], labels[valid])

    with ThreadPoolExecutor(2) as pool:
        found = pool.map(fit, *zip(*jobs))
        for job, (kernel, bias) in zip(progress(jobs, "Specialists", unit="fit"), found):
            view, name, number = job
            logits[view, name][fold == number] = views[view][fold == number] @ kernel + bias
            before = heads[view, name]
            heads[view, name] = before[0] + kernel / NUM_FOLDS, before[1] + bias / NUM_FOLDS
    return pd.DataFrame(logits).loc[table["row"]].reset_index(drop=True), heads


def combine(logits: pd.DataFrame, views: Sequence[str] = VIEWS, without: str = "") -> np.ndarray:
    """Scores in [0, 1]: logits averaged over views, then one minus the probability of no trace.

    Each logit weighs a family's trace against none, as in multinomial regression. The family
    `without` is left out, and so is `"any"`.
    """
    mean = sum(logits[view] for view in views) / len(views)
    asked = mean.drop(columns=[name for name in ("any", without) if name in mean])
    return expit(logsumexp(asked, axis=1))


def joined(heads: dict) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names of the families, and their kernels `(T, F)` and biases `(T,)` in all views together."""
    families = [name for view, name in heads if view == VIEWS[0] and name != "any"]
    kernels = [np.concatenate([heads[view, name][0] for view in VIEWS]) for name in families]
    biases = [np.mean([heads[view, name][1] for view in VIEWS]) for name in families]
    return families, np.array(kernels, "float32") / len(VIEWS), np.array(biases, "float32")


def build_head(kernels: np.ndarray, biases: np.ndarray) -> keras.Model:
    """Features of all views to scores `(N, 1)`, by specialists of `joined`, as in `combine`.

    The layer `"families"` has a logit for each family.
    """
    features = layers.Input((kernels.shape[1],), name="features")
    dense = layers.Dense(len(kernels), name="families", dtype="float32")
    score = ops.sigmoid(ops.logsumexp(dense(features), axis=(1,), keepdims=True))
    dense.set_weights([kernels.T, biases])
    return keras.Model(features, score, name="head")


def scored(table: pd.DataFrame, score: np.ndarray) -> pd.DataFrame:
    """The scores of `table` in the form of a detector's; every row counts as a test."""
    labels = (table["label"] == "fake").astype("int8")
    return table.assign(label=labels, score=score, split="test")


def compare(study: Study, table: pd.DataFrame, logits: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """AUC of single views and of all, by what was trained on: rows as of `results.csv`.

    `train_set` is `"all"` (all specialists), `"all but <family>"` (on the test sets of that
    family), `"any"` (one detector for all), or the family of one specialist.
    """
    families = [name for name in logits[VIEWS[0]] if name != "any"]
    of_family = table["test_set"].map(family)
    ways, rows = {view: (view,) for view in VIEWS} | {"all views": VIEWS}, []
    for model, views in ways.items():
        mean = sum(logits[view] for view in views) / len(views)
        asked = {"all": (combine(logits, views), of_family.notna())}
        for name in families:
            asked[f"all but {name}"] = combine(logits, views, name), of_family == name
        asked |= {name: (expit(mean[name]), of_family.notna()) for name in mean}
        approach = "fusion" if len(views) > 1 else "probe"
        card = {"approach": approach, "model": model, "protocol": protocol, "seed": study.seed}
        for train_set, (score, where) in asked.items():
            tested = scored(table, np.asarray(score))[where]
            rows.append(
                results.result_rows(study, tested, card | {"train_set": train_set}, ["auc"])
            )
    return pd.concat(rows, ignore_index=True)


def false_alarms(
    scores: dict[str, pd.DataFrame], limits: pd.Series, unseen: Sequence[str]
) -> pd.DataFrame:
    """Shares of photographs of `unseen` sources with scores of at least a limit, a row each.

    `scores` are of `scored` by protocol, `limits` by protocol and rule, of the other photographs.
    """
    rows = []
    for (protocol, rule), limit in limits.items():
        for source in unseen:
            part = scores[protocol].query("real_source == @source")
            alarms = intervals.rate((part["score"] >= limit).to_numpy(), part["group"])
            rows.append({"protocol": protocol, "rule": rule, "source": source, **alarms})
            rows[-1]["num_real"] = len(part)
    return pd.DataFrame(rows)
