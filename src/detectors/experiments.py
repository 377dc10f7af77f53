"""Two experiments of notebook 7 with the views and specialists of `beyond`."""

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import expit

from ..config import Study
from ..data import catalog, sources
from ..evaluation import intervals
from ..files import progress
from ..pictures.batches import Batches
from ..pictures.decoding import decode
from ..pictures.steps import apply
from . import beyond, scoring, training

NUM_DECODED = 600  # photographs at most, of `variety`


def confounded(study: Study, records: pd.DataFrame) -> pd.DataFrame:
    """Does a probe learn fakes, or files? It is trained and tested on two versions of each picture.

    The first is resized to the side of the study's squares and saved as JPEG of quality 95, the
    second to 5/8 of that side, with quality 75. `"confounded"` learns photographs in the first
    version and fakes in the second; `"controlled"` both classes in both. Tests: `"same"` as the
    confounded training, `"equal"` (both classes in the second version), `"reversed"`. Pictures are
    those of the training task; scores are out of fold.

    Returns:
        A row for each `trained` and `tested`: `value`, `ci_low`, `ci_high` of the AUC.
    """
    own = {study.train_set: study.test_sets[study.train_set]}
    study = replace(catalog.without_other_tests(study), test_sets=own)
    network, seen = beyond.build_extractor(study, ["embedding"]), []
    for side, quality in ((study.square_size, 95), (study.square_size * 5 // 8, 75)):
        steps = (f"shorter:{side}", *beyond.middle(study), f"jpeg:{quality}")
        pictures = scoring.prepare(study, records, "report", "probe", steps=steps)
        seen.append(pictures.features(network))
    seen, every = np.stack(seen), np.arange(len(pictures.pixels))
    labels, groups = pictures.labels.astype(int), pictures.groups()
    # 0 or 1: which version of each picture is learnt or tested.
    tests = {"same": labels, "equal": np.ones_like(labels), "reversed": 1 - labels}
    ways = {"confounded": [labels], "controlled": [labels, 1 - labels]}
    fold, rows = beyond.folds(pd.Series(groups)), []
    for trained, versions in ways.items():
        x = np.concatenate([seen[version, every] for version in versions])
        y, fold_of = np.tile(labels, len(versions)), np.tile(fold, len(versions))
        scores = {tested: np.empty(len(labels)) for tested in tests}
        for number in range(beyond.NUM_FOLDS):
            test, valid = fold_of == number, fold_of == (number + 1) % beyond.NUM_FOLDS
            learn = ~(test | valid)
            kernel, bias = beyond.fit_linear(x[learn], y[learn], x[valid], y[valid])
            for tested, version in tests.items():
                left = fold == number
                scores[tested][left] = expit(seen[version, every][left] @ kernel + bias)
        for tested, score in scores.items():
            table = _auc(study, labels, score, groups)
            rows.append(table.assign(trained=trained, tested=tested))
    return pd.concat(rows, ignore_index=True)


def _auc(study: Study, labels, scores, groups) -> pd.DataFrame:
    """The row of `intervals.estimate` for the AUC."""
    return intervals.estimate(
        labels, scores, groups, num_resamples=study.num_resamples, names=("auc",)
    )


def variety(
    study: Study, records: pd.DataFrame, numbers=(1, 2, 5, 14)
) -> tuple[pd.DataFrame, pd.Series]:
    """Does it help to learn from more generators? Measured with simulated decoders only.

    The fakes are photographs, decoded by the first `numbers` decoders of inpainting; every training
    has as many. The tests are other photographs, decoded by decoders that no training saw.

    Returns:
        A row for each number: `number`, and `value`, `ci_low`, `ci_high` of the AUC of the probe on
        the residual. And the same three of the paired difference, last number minus first.
    """
    real = catalog.photographs(records, study.test_sets[study.train_set])
    real = real.sort_values("path").head(NUM_DECODED)
    steps = ("square", f"squash:{study.square_size}")
    images = np.stack([apply(decode(file), steps) for file in catalog.files(study, real)])
    network = training.shared(beyond.build_extractor(study, ["residual"]))
    fold = beyond.folds(real["group"])
    test, valid = fold == 0, fold == 1

    def features(pixels):
        made = [apply(each, ("jpeg:75", *beyond.middle(study))) for each in pixels]
        batches = Batches(np.stack(made), batch_size=32, shuffle=False)
        return network.predict(batches.feed(), verbose=0)

    reals, rows, scores = features(images), [], []
    labels, groups = np.repeat([0, 1], test.sum()), np.tile(real["group"].to_numpy()[test], 2)
    unseen = features(sources.decodings(study, images[test], sources.UNSEEN_DECODERS))
    for number in progress(numbers, "Learning from more decoders", unit="training"):
        fakes = np.zeros_like(reals)
        fakes[~test] = features(sources.decodings(study, images[~test], range(number)))
        x, y = np.concatenate([reals, fakes]), np.repeat([0, 1], len(reals))
        learn, check = (np.tile(part, 2) for part in (~test & ~valid, valid))
        kernel, bias = beyond.fit_linear(x[learn], y[learn], x[check], y[check])
        scores.append(expit(np.concatenate([reals[test], unseen]) @ kernel + bias))
        rows.append(_auc(study, labels, scores[-1], groups).assign(number=number))
    pair = scores[-1], scores[0]
    gain = intervals.compare(labels, *pair, groups, num_resamples=study.num_resamples)
    return pd.concat(rows, ignore_index=True), gain.iloc[0][["value", "ci_low", "ci_high"]]
