"""Three experiments of notebook 7 with the views and specialists of `beyond`."""

import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import expit

from ..config import Study
from ..data import catalog, faces, sources
from ..data.readers import BOX
from ..evaluation import intervals, results
from ..files import progress
from ..pictures.batches import Batches
from ..pictures.blending import self_blend
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


def self_blended(study: Study, records: pd.DataFrame) -> pd.DataFrame:
    """Can swaps be detected without training on one? A specialist for self-blended photographs.

    It learns photographs of all sources and what `self_blend` makes of them, before the last steps
    of `controlled`. Returns rows as `compare`, of every test set.
    """
    table, features = beyond.see(study, records, "controlled")
    real = table[table["label"] == "real"].drop_duplicates("row")
    plans = [steps.split() for steps in real["steps"]]
    # A picture is blended at its size under the protocol, before it is saved as JPEG and cut.
    sizes = [[step for step in plan if step.startswith("squ")] for plan in plans]
    root, names = catalog.root(study), [""] * len(real)
    boxes = faces.detect(root, real["path"], names, study.data / "boxes.parquet")[BOX].to_numpy()
    boxes = _in_square(boxes, real[["width", "height"]].to_numpy(), ["square" in s for s in sizes])
    made, found = [], np.isfinite(boxes).all(axis=1)
    for number in progress(np.flatnonzero(found), "Blending", unit="image"):
        path = real["path"].iloc[number]
        picture = apply(decode(root / path), sizes[number])
        picture = self_blend(picture, boxes[number], zlib.crc32(path.encode()))
        made.append(apply(picture, plans[number][len(sizes[number]) :]))
    pixels, folder = np.stack(made), study.data / "features"
    made.clear()
    extractor, data = beyond.build_extractor(study), f"blended-{zlib.crc32(pixels):08x}"
    seen = training.cached_features(extractor, pixels, folder, data)
    rows = {"row": len(features) + np.arange(len(pixels)), "label": "fake", "generator": "blended"}
    # Fakes of generators are only scored.
    judged = table.assign(real_source=table["real_source"].mask(table["label"] == "fake", "none"))
    both = pd.concat([judged, real[found].assign(**rows)], ignore_index=True)
    views = beyond.in_views(np.concatenate([features, seen]))
    logits, _ = beyond.out_of_fold(both, views, ["none"])
    score = beyond.combine(logits)[: len(table)]
    card = {"approach": "fusion", "model": "all views", "protocol": "controlled"}
    card |= {"train_set": "self-blended photographs", "seed": study.seed}
    return results.result_rows(study, beyond.scored(table, score), card, ["auc"])


def _in_square(boxes: np.ndarray, sizes: np.ndarray, is_cut: Sequence[bool]) -> np.ndarray:
    """Boxes as fractions of a picture, or of the largest square in its middle where it is cut.

    Example:
    >>> _in_square(np.array([[0.25, 0, 0.75, 1]]), np.array([[200, 100]]), [True]).tolist()
    [[0.0, 0.0, 1.0, 1.0]]
    """
    side = sizes.min(axis=1, keepdims=True)
    corner, places = (sizes - side) / 2, boxes.reshape(-1, 2, 2) * sizes[:, None]
    inside = ((places - corner[:, None]) / side[:, None]).reshape(-1, 4)
    return np.where(np.reshape(is_cut, (-1, 1)), inside, boxes)
