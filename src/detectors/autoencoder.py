"""What notebook 5 adds to `pipeline`: faces found and cut out, and the autoencoder that learns the real ones."""

from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd

from ..config import SPLITS, Autoencoder, Study
from ..data import catalog, readers
from ..data.faces import is_learnt
from ..pictures.batches import Batches
from ..pictures.store import prepare
from . import models, training


@dataclass(frozen=True)
class Faces:
    """Real faces for the autoencoder: `pixels` `(N, S, S, 3)` `uint8`, and for each split its rows."""

    pixels: np.ndarray
    rows: dict[str, np.ndarray]
    fingerprint: str


def prepare_faces(study: Study, records: pd.DataFrame, boxes: pd.DataFrame) -> Faces:
    """Decodes the real faces that the autoencoder learns, cut out and resized; those without a box are left out.

    Args:
        study: Gives the dataset and the side of the crops.
        records: From `catalog.load`.
        boxes: As for `prepare`.
    """
    corners = boxes.drop_duplicates("path").set_index("path")[readers.BOX].dropna()
    chosen = records[is_learnt(study, records) & records["path"].isin(corners.index)].reset_index(
        drop=True
    )
    store = prepare(
        catalog.files(study, chosen),
        ("crop", f"resize:{study.face_size}"),
        study.data / "store",
        boxes=corners.loc[chosen["path"]].to_numpy(),
        description="Preparing faces",
    )
    rows = {split: np.flatnonzero(chosen["split"] == split) for split in SPLITS}
    return Faces(
        store.pixels,
        rows,
        f"{store.folder.name}-{pd.util.hash_pandas_object(chosen['split']).sum():016x}",
    )


def fit_autoencoder(
    study: Study, crops: Faces, config: Autoencoder, name: str = "Autoencoder"
) -> tuple[keras.Model, pd.DataFrame]:
    """Trains the autoencoder on real faces and keeps its best epoch by validation error.

    Args:
        study: Gives the seed and the folder of the models.
        crops: From `prepare_faces`.
        config: Size and training of the network.
        name: Of the saved model.

    Returns:
        The autoencoder at its best epoch, and its history (see `training.train`).
    """
    training.seed(study.seed)
    model = models.build_autoencoder(config, crops.pixels.shape[1])
    train, valid = (
        training.Reconstruction(
            Batches(
                crops.pixels,
                rows=crops.rows[split],
                batch_size=config.batch_size,
                shuffle=split == "train",
                seed=study.seed,
            )
        )
        for split in ("train", "valid")
    )
    settings = training.Settings(
        config.learning_rate,
        config.epochs,
        study.seed,
        "mean_squared_error",
        config,
        crops.fingerprint,
    )
    model, history = training.train(model, train, valid, study.models / name, settings)
    training.update_card(study.models / name, starts_from="random values")
    return model, history


def reconstruction_errors(
    model: keras.Model, pixels: np.ndarray, batch_size: int = 64
) -> np.ndarray:
    """Mean squared error of the autoencoder on every picture, `(N,)`, for pixels in `[0, 1]`."""
    errors = [
        ((model.predict_on_batch(np.asarray(crops)) - crops / np.float32(255)) ** 2).mean(
            axis=(1, 2, 3)
        )
        for crops in np.split(pixels, range(batch_size, len(pixels), batch_size))
    ]
    return np.concatenate(errors)
