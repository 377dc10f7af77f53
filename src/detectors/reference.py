"""What `predict` needs besides weights and card: made once, kept as `<model>.reference.npz`.

It holds the mean spectra of validation pictures, how far features lie from those of the training
pictures, and the scores of two drawn pictures, which another installation must repeat.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import keras
import numpy as np
from PIL import Image
from sklearn.decomposition import PCA

from ..config import LABELS, Study
from ..data import catalog
from ..files import write_atomically
from ..pictures.spectrum import spectrum_picture
from ..pictures.steps import run
from . import models, scoring
from .training import read_card

ERROR_RATE = 0.05  # of validation pictures that lie beyond `limit`
TOLERANCE = 0.05  # of the self-test: in a score, and as a share of the largest feature
_COMPONENTS = 16
_AT_MOST = 2000  # pictures of a split


class Reference(NamedTuple):
    """Of one detector, whose features have `D` numbers and whose pictures `S` pixels a side."""

    scored: str  # as in the card: another training or other pictures need another reference
    spectra: np.ndarray  # (2, S, S): means of validation photographs and fakes, 0..255
    mean: np.ndarray  # (D,) of the training pictures' features
    deviation: np.ndarray  # (D,)
    components: np.ndarray  # (K, D) principal axes of the standardised features
    variances: np.ndarray  # (K + 1,) along them; the last: along every other axis
    limit: float  # squared distance
    features: np.ndarray  # (2, D) of the drawn pictures
    scores: np.ndarray  # (2,)


def load(study: Study, name: str, model: keras.Model, steps: tuple[str, ...]) -> Reference:
    """The reference of a trained detector, made if it is missing, damaged or of another training.

    `steps` lead from a picture to what the detector sees.

    Raises:
        FileNotFoundError: If it must be made, and the study's records are not on this machine.
        RuntimeError: If the detector no longer scores the drawn pictures as when it was made.
    """
    file, card = study.models / f"{name}.reference.npz", read_card(study.models / name)
    try:
        with np.load(file) as arrays:
            found = Reference(**arrays)
    except (OSError, ValueError, TypeError, EOFError, BadZipFile):
        found = None
    if found is None or found.scored != card["scored"]:
        found = _make(study, model, card, steps)
        write_atomically(file, lambda path: np.savez(path, **found._asdict()))
    self_test(found, model, steps, file)
    return found


def spectrum_of(pixels: np.ndarray) -> np.ndarray:
    """The spectrum `(S, S)` `uint8` of `(S, S, 3)`; `(S, S, 1)` is one already."""
    return pixels[..., 0] if pixels.shape[-1] == 1 else spectrum_picture(pixels)


def squared_distances(reference: Reference, features: np.ndarray) -> np.ndarray:
    """How far features `(N, D)` lie from those of the training pictures: `(N,)`.

    Mahalanobis' distance with the covariance of probabilistic PCA: `_COMPONENTS` variances, and one
    for all other directions (Tipping & Bishop, "Probabilistic principal component analysis", 1999).
    """
    standard = (np.asarray(features, float) - reference.mean) / reference.deviation
    along = (standard @ reference.components.T) ** 2
    rest = (standard**2).sum(axis=1) - along.sum(axis=1)
    return along @ (1 / reference.variances[:-1]) + rest / reference.variances[-1]


def _make(study: Study, model: keras.Model, card: dict, steps: tuple[str, ...]) -> Reference:
    """The reference, from the pictures that the detector was trained on and validated with."""
    study = replace(study, train_set=card["train_set"])
    how = {"protocol": card["protocol"], "approach": card["approach"]}
    pictures = scoring.prepare(study, catalog.load(study), **how, view=card["config"]["view"])
    extractor, _ = models.parts(model)
    train, valid = (
        extractor.predict(pictures.pixels[some(pictures.rows(split))], verbose=0)
        for split in ("train", "valid")
    )
    shown = [pictures.pixels[some(pictures.rows("valid", label))] for label in LABELS]
    return of_features(train, valid, shown, model, steps, card["scored"])


def some(rows: np.ndarray) -> np.ndarray:
    """At most `_AT_MOST` of the rows, drawn at random and sorted."""
    return np.sort(np.random.default_rng(0).permutation(rows)[:_AT_MOST])


def of_features(
    train, valid, shown: list[np.ndarray], model: keras.Model, steps: tuple[str, ...], scored: str
) -> Reference:
    """The reference from features `(N, D)`, and pixels of validation photographs and fakes."""
    deviation = train.std(axis=0)
    deviation[deviation == 0] = 1
    standard = (train - train.mean(axis=0)) / deviation
    num = min(_COMPONENTS, *np.subtract(train.shape, 2))
    pca = PCA(num, svd_solver="randomized", random_state=0).fit(standard)
    variances = np.append(pca.explained_variance_, pca.noise_variance_)
    spectra = [np.mean([spectrum_of(image) for image in pixels], axis=0) for pixels in shown]
    drawn, scores = _of_drawn(steps, model)
    found = Reference(
        scored=scored,
        spectra=np.array(spectra, np.float32),
        mean=train.mean(axis=0),
        deviation=deviation,
        components=pca.components_,
        variances=np.maximum(variances, 1e-6),  # features that are always zero have none
        limit=np.inf,
        features=drawn,
        scores=scores,
    )
    limit = np.quantile(squared_distances(found, valid), 1 - ERROR_RATE, method="higher")
    return found._replace(limit=limit)


def _of_drawn(steps: tuple[str, ...], model: keras.Model) -> tuple[np.ndarray, np.ndarray]:
    """Features and scores of two drawn pictures, a smooth and a rough one."""
    down, round_ = Image.linear_gradient("L"), Image.radial_gradient("L")
    smooth = Image.merge("RGB", (down, round_, down.transpose(Image.Transpose.ROTATE_90)))
    rows, columns = np.mgrid[:256, :256]
    rough = np.stack([rows * columns, rows**2 + columns, rows ^ columns], axis=-1) % 256
    pictures = (smooth, Image.fromarray(rough.astype(np.uint8)))
    shape, (extractor, head) = model.input.shape[1:], models.parts(model)
    seen = np.array([np.reshape(run(picture, steps, None), shape) for picture in pictures])
    features = extractor.predict_on_batch(seen)
    return features, np.ravel(head.predict_on_batch(features))


def self_test(reference: Reference, model: keras.Model, steps, file: Path) -> None:
    """Compares features and scores of the drawn pictures with those kept; raises as `load`."""
    features, scores = _of_drawn(steps, model)
    off = np.abs(features - reference.features).max() / np.abs(reference.features).max()
    if max(off, np.abs(scores - reference.scores).max()) <= TOLERANCE:  # not if a value is NaN
        return
    raise RuntimeError(
        f"Self-test: {model.name} scores two drawn pictures {scores.round(3)}, its features are "
        f"off by {off:.1%}; expected {reference.scores.round(3)} and at most {TOLERANCE:.0%}. This "
        "installation computes other values than the one that made the file: pip install -r "
        f"requirements.txt. If pictures or networks were changed on purpose, delete {file.name}."
    )
