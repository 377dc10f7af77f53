"""Beyond the study: linear detectors of single traces, in pictures at their own resolution.

Features come in `VIEWS`, none of which is trained here. A specialist is a calibrated logistic
regression that tells the fakes of one family of generators from all photographs: in one view, or
in all of them together. One more family is made of the photographs themselves (`MADE`). Families
are then combined as classes beside "real".
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
from ..data import catalog, faces
from ..data.readers import BOX
from ..evaluation import audit, intervals, results
from ..files import progress
from ..pictures.residuals import DctHistograms, HighPass
from . import models, scoring

VIEWS = ("embedding", "residual", "histograms")
ALL_VIEWS = "all views"
MADE = "self-blended"  # the family of photographs that `blending.self_blend` changed
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

    Returns the rows of `catalog.tasks`, of all splits, then those of self-blended photographs, of
    the generator and the test set `MADE`; and features `(num_pictures, F)` `float32` on disk.
    Column `row` is the place in the features.
    """
    study = replace(catalog.every_generator(study, records), unseen_reals=study.unseen_reals)
    cut = middle(study)
    steps = (lambda path: (*delivery(path, study.detail_size), *cut)) if delivered else cut
    table = catalog.task_steps(study, records, protocol, steps)
    made = self_blended(study, table, catalog.task_steps(study, records, protocol)["steps"])
    both = pd.concat([table, made], ignore_index=True)
    pictures = scoring.prepared(study, protocol, both, both[BOX])
    return pictures.table, pictures.features(build_extractor(study))


def self_blended(study: Study, table: pd.DataFrame, before: pd.Series) -> pd.DataFrame:
    """The photographs in which a face is found, with its box (`BOX`) and the step `self_blend`.

    It comes before the first JPEG of the steps. Where they have none, the result is saved in the
    quality of the file. `before` are the steps that the face is looked for after, one per row.
    """
    chosen = (table["label"] == "real") & ~table["real_source"].isin(study.unseen_reals)
    real = table[chosen].drop_duplicates(["path", "steps"]).copy()
    paths = catalog.root(study), real["path"], before[real.index], study.data / "boxes.parquet"
    real[BOX] = faces.detect(*paths)[BOX].to_numpy()
    real, steps = real.dropna(subset=BOX), []
    quality = audit.file_traits(catalog.files(study, real))["quality"].fillna(100).astype(int)
    for plan, own in zip(real["steps"].str.split(), quality):
        saves = [number for number, step in enumerate(plan) if step.startswith("jpeg")]
        first, save = (saves[0], []) if saves else (0, [f"jpeg:{own}"])
        steps.append(" ".join([*plan[:first], "self_blend", *save, *plan[first:]]))
    return real.assign(steps=steps, label="fake", generator=MADE, test_set=MADE, task=MADE)


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
    fit the calibration.
    """
    middle, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    x, best = (x - middle) / scale, np.inf
    for strength in PENALTIES:
        options = {"tol": 1e-3, "max_iter": 300, "class_weight": "balanced"}
        kernel = LogisticRegression(C=strength, **options).fit(x, labels).coef_[0] / scale
        [slope], bias, loss = _calibrate((valid_x @ kernel)[:, None], valid_labels)
        if loss < best:
            best, found = loss, (kernel * slope, bias)
    return found


def _calibrate(logits: np.ndarray, labels: np.ndarray, strength=np.inf) -> tuple:
    """Weights of logits `(N, V)`, the intercept, and the loss of their sum as a logit.

    After Platt, "Probabilistic outputs for support vector machines", 1999. A finite `strength`
    keeps the weights small where several logits together tell all.
    """
    platt = LogisticRegression(C=strength, class_weight="balanced").fit(logits, labels)
    weights = len(labels) / (2 * np.bincount(labels)[labels])
    loss = log_loss(labels, platt.predict_proba(logits), sample_weight=weights)
    return platt.coef_[0], platt.intercept_[0], loss


def folds(groups: pd.Series) -> np.ndarray:
    """The fold of each row, 0 to 4, drawn from the name of its group."""
    return (groups.map(catalog.unit_interval) * NUM_FOLDS).astype(int).to_numpy()


def out_of_fold(
    table: pd.DataFrame, views: dict[str, np.ndarray], unseen: Sequence[str] = ()
) -> tuple[pd.DataFrame, dict]:
    """Logits for every row of `table`, of specialists that were trained on other groups.

    Each fold is scored by detectors that were fitted on three others and calibrated on the fourth,
    where the views of a family are weighed, too. Rows whose `real_source` is in `unseen` are only
    scored.

    Returns:
        Logits by (view, family), a row for each of `table`. The view `ALL_VIEWS` is of all
        together; the family `"any"`, where there are several, is one detector for all. And by
        family, without `"any"`: kernel and bias in all views, averaged over folds.
    """
    table = table.reset_index(drop=True)
    once = table.drop_duplicates("row").set_index("row").sort_index()
    fold, fakes = folds(once["group"]), once["generator"].map(family)
    labels = (once["label"] == "fake").to_numpy(int)
    learnt = ~once["real_source"].isin(unseen).to_numpy()
    families = fakes[learnt & (labels == 1)].unique()
    names = [*families, "any"] if len(families) > 1 else families
    logits = {(view, name): np.empty(len(once)) for name in names for view in (*views, ALL_VIEWS)}
    jobs, heads = [(name, number) for name in names for number in range(NUM_FOLDS)], {}

    def fit(name: str, number: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = learnt & ((labels == 0) | (fakes == name).to_numpy() | (name == "any"))
        valid = chosen & (fold == (number + 1) % NUM_FOLDS)
        train, y = chosen & ~valid & (fold != number), labels[valid]
        parts = [fit_linear(x[train], labels[train], x[valid], y) for x in views.values()]
        seen = [x @ kernel + bias for x, (kernel, bias) in zip(views.values(), parts)]
        seen, (kernels, biases) = np.stack(seen, axis=1), zip(*parts)
        weights, bias, _ = _calibrate(seen[valid], y, strength=1)
        head = [*map(np.multiply, weights, kernels), [bias + weights @ biases]]
        return np.column_stack([seen, seen @ weights + bias])[fold == number], np.concatenate(head)

    with ThreadPoolExecutor(2) as pool:
        found = pool.map(fit, *zip(*jobs))
        for (name, number), (seen, head) in zip(progress(jobs, "Specialists", unit="fit"), found):
            for view, values in zip((*views, ALL_VIEWS), seen.T):
                logits[view, name][fold == number] = values
            heads[name] = heads.get(name, 0) + head / NUM_FOLDS
    heads = {name: (heads[name][:-1], heads[name][-1]) for name in families}
    return pd.DataFrame(logits).loc[table["row"]].reset_index(drop=True), heads


def combine(logits: pd.DataFrame, without: Sequence[str] = (), view: str = ALL_VIEWS) -> np.ndarray:
    """Scores in [0, 1]: one minus the probability of no trace, of the specialists in a view.

    Each logit weighs a family's trace against none, as in multinomial regression. The families
    `without` are left out, and so is `"any"`.
    """
    asked = logits[view].drop(columns=["any", *without], errors="ignore")
    return expit(logsumexp(asked, axis=1))


def build_head(kernels: np.ndarray, biases: np.ndarray) -> keras.Model:
    """Features of all views to scores `(N, 1)`, as in `combine`.

    `kernels` are `(T, F)`, `biases` `(T,)`; the layer `"families"` has the specialists' logits.
    """
    features = layers.Input((kernels.shape[1],), name="features")
    dense = layers.Dense(len(kernels), name="families", dtype="float32")
    score = ops.sigmoid(ops.logsumexp(dense(features), axis=(1,), keepdims=True))
    dense.set_weights([kernels.T, biases])
    return keras.Model(features, score, name="head")


def scored(table: pd.DataFrame, score: np.ndarray) -> pd.DataFrame:
    """The scores of `table` in the form of a detector's: all count as tests, but those `MADE`."""
    labels = (table["label"] == "fake").astype("int8")
    table = table.assign(label=labels, score=score, split="test")
    return table[table["test_set"] != MADE]


def compare(study: Study, table: pd.DataFrame, logits: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """AUC of single views and of all, by what was trained on: rows as of `results.csv`.

    `train_set` is `"all"` (all specialists), `"all but <family>"` (on the test sets of that
    family), `"any"` (one detector for all), or the family of one specialist. `"generators"` and
    `"generators but <family>"` are without the specialist that learnt photographs alone.
    """
    of_family, rows = table["test_set"].map(family), []
    for view in logits.columns.unique(0):
        asked = {name: (expit(logits[view, name]), of_family) for name in logits[view]}
        for group, without in {"all": [], "generators": [MADE]}.items():
            asked[group] = combine(logits, without, view), of_family
            for name in logits[view].columns.drop(["any", MADE], errors="ignore"):
                score = combine(logits, [*without, name], view)
                asked[f"{group} but {name}"] = score, of_family.where(of_family == name)
        approach = "fusion" if view == ALL_VIEWS else "probe"
        card = {"approach": approach, "model": view, "protocol": protocol, "seed": study.seed}
        for train_set, (score, where) in asked.items():
            tested = scored(table, np.asarray(score)).loc[where.notna()]
            card["train_set"] = train_set
            rows.append(results.result_rows(study, tested, card, ["auc"]))
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
