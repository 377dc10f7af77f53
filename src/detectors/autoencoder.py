"""The autoencoder of notebook 5, which learns to reconstruct real faces; the dense head."""

from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
from keras import layers
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from ..config import SPLITS, Autoencoder, Study
from ..data import catalog, faces, readers
from ..evaluation.audit import pixel_traits
from ..pictures.batches import Batches
from ..pictures.store import prepare
from . import training
from .normalisation import BatchNormalization


def build_autoencoder(config: Autoencoder, face_size: int) -> keras.Model:
    """The study's autoencoder.

    Returns:
        Model from RGB faces `(N, S, S, 3)` `uint8`, where `S` can be halved for every convolution,
        to reconstructions `(N, S, S, 3)` `float32` in `[0, 1]`. Its layers `encoder` (faces `uint8`
        → `(N, latent)`) and `decoder` are models.

    Raises:
        ValueError: If a face cannot be halved that often.
    """
    if face_size % 2 ** len(config.filters):
        side = f"a multiple of {2 ** len(config.filters)}, as each convolution halves it"
        raise ValueError(f"Received faces of {face_size} pixels; expected {side}.")

    def activate(x):
        return BatchNormalization()(layers.LeakyReLU(negative_slope=0.2)(x))

    face = layers.Input((face_size, face_size, 3), dtype="uint8", name="face")
    x = layers.Rescaling(1 / 255)(face)
    for filters in config.filters:
        x = activate(layers.Conv2D(filters, 3, strides=2, padding="same")(x))
    grid = x.shape[1:]
    latent = layers.Dense(config.latent, name="latent")(layers.Flatten()(x))
    encoder = keras.Model(face, latent, name="encoder")

    code = layers.Input((config.latent,), name="code")
    x = layers.Reshape(grid)(layers.Dense(grid[0] * grid[1] * grid[2])(code))
    for filters in reversed(config.filters):
        x = activate(layers.Conv2DTranspose(filters, 3, strides=2, padding="same")(x))
    x = layers.Conv2DTranspose(3, 3, padding="same")(x)
    decoder = keras.Model(code, layers.Activation("sigmoid", dtype="float32")(x), name="decoder")

    face = layers.Input((face_size, face_size, 3), dtype="uint8", name="face")
    return keras.Model(face, decoder(encoder(face)), name="autoencoder")


def build_embedding_classifier(latent: int, hidden: tuple[int, ...]) -> keras.Model:
    """A detector's head: `(N, latent)` `float32` to the probability of fake `(N, 1)` `float32`.

    `hidden` holds the units of the dense layers before the last; `()` gives a linear head.
    """
    features = layers.Input((latent,), name="features")
    x = features
    for units in hidden:
        x = layers.Dense(units, activation="relu")(x)
    # A probability near 1 needs single precision, under mixed precision too.
    probability = layers.Dense(1, activation="sigmoid", dtype="float32")(x)
    return keras.Model(features, probability, name="head")


@dataclass(frozen=True)
class Faces:
    """Real faces: `pixels` `(N, S, S, 3)` `uint8`, the rows of each split, and a fingerprint."""

    pixels: np.ndarray
    rows: dict[str, np.ndarray]
    fingerprint: str


def prepare_faces(study: Study, records: pd.DataFrame, protocol: str) -> Faces:
    """The real faces that the autoencoder learns, cut out at their boxes; without a box, left out.

    First, a picture goes through the protocol's steps for photographs of the training task. Boxes
    are fractions of the picture: squashing does not move them.
    """
    table = catalog.task_steps(study, records, protocol)
    trained_on = table["task"].isin(study.train_sets) & (table["label"] == "real")
    boxes = faces.face_boxes(study, records, "report")
    corners = boxes.drop_duplicates("path").set_index("path")[readers.BOX].dropna()
    chosen = records[faces.is_learnt(study, records) & records["path"].isin(corners.index)]
    chosen = chosen.reset_index(drop=True)
    store = prepare(
        catalog.files(study, chosen),
        (*table.loc[trained_on, "steps"].iloc[0].split(), "crop", f"resize:{study.face_size}"),
        study.data / "store",
        boxes=corners.loc[chosen["path"]].to_numpy(),
        description="Preparing faces",
    )
    rows = {split: np.flatnonzero(chosen["split"] == split) for split in SPLITS}
    hashed = pd.util.hash_pandas_object(chosen["split"]).sum()
    return Faces(store.pixels, rows, f"{store.folder.name}-{hashed:016x}")


class Reconstruction(Batches):
    """Batches of pictures `uint8` as input, and the same as target, `float32` in `[0, 1]`."""

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        (pictures,) = super().__getitem__(index)
        return pictures, np.asarray(pictures, np.float32) / 255


def fit_autoencoder(
    study: Study, learnt: Faces, config: Autoencoder, name: str
) -> tuple[keras.Model, pd.DataFrame]:
    """Trains an autoencoder on real faces, from `study.seed`; returns as `training.train`."""
    training.set_seed(study.seed)
    model = build_autoencoder(config, learnt.pixels.shape[1])
    options = {"batch_size": config.batch_size, "seed": study.seed}
    train = Reconstruction(learnt.pixels, rows=learnt.rows["train"], **options)
    valid = Reconstruction(learnt.pixels, rows=learnt.rows["valid"], shuffle=False, **options)
    size, loss = (config.learning_rate, config.epochs, study.seed), "mean_squared_error"
    settings = training.Settings(*size, loss, config=config, data=learnt.fingerprint)
    model, history = training.train(model, train, valid, study.models / name, settings)
    training.update_card(study.models / name, starts_from="random values")
    return model, history


def reconstruction_errors(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """Mean squared error `(N,)`, in units of `[0, 1]`, on pictures `(N, S, S, 3)` `uint8`."""
    errors = []
    for batch in np.split(pixels, range(64, len(pixels), 64)):
        difference = model.predict_on_batch(np.asarray(batch)) - batch / np.float32(255)
        errors.append((difference**2).mean(axis=(1, 2, 3)))
    return np.concatenate(errors)


def unexplained_errors(errors, pixels: np.ndarray, photographs: np.ndarray) -> np.ndarray:
    """The part of the errors that the detail of the pictures does not explain, `(N,)`.

    A picture rich in detail is hard to reconstruct, whoever made it. On the rows `photographs`, the
    logarithm of the error is regressed on those of contrast, sharpness and noise and on their
    products. The residuals are divided by their standard deviation on these rows.
    """
    detail = np.log(pixel_traits(pixels)[["contrast", "sharpness", "noise"]].to_numpy() + 0.1)
    model = make_pipeline(StandardScaler(), PolynomialFeatures(2), LinearRegression())
    target = np.log(np.asarray(errors, float))
    left = target - model.fit(detail[photographs], target[photographs]).predict(detail)
    return left / left[photographs].std()
