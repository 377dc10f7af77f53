"""What notebook 5 adds to `pipeline`: faces found and cut out, and the autoencoder that learns the real ones."""

from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd

from . import audit, catalog, faces, images, models, pipeline, readers, training
from .batches import Batches
from .config import SPLITS, Autoencoder, Study


def face_boxes(study: Study, records: pd.DataFrame, protocol: str, margin: float = 0.2) -> pd.DataFrame:
    """The faces that notebook 5 needs, found once: under `controlled` in pictures that have had the protocol's steps.

    In files as they lie, the face of a photograph has its own aspect and that of its fake is squashed: the boxes alone
    tell them apart, and so does every detector on crops. After the same squashing they are boxes of the same kind.

    Args:
        study: Whose tasks.
        records: From `catalog.load`.
        protocol: `"report"` or `"controlled"`.
        margin: Added to every side of a box, as a fraction of its own width or height.

    Returns:
        The table of `faces.detect`, one row for each record of `face_records`.
    """
    needed = face_records(study, records)
    plans = pipeline.task_steps(study, records, protocol).drop_duplicates("path").set_index("path")["steps"]
    steps = plans.reindex(needed["path"]).fillna("").tolist()
    files, root = catalog.files(study, needed), catalog.root(study)
    boxes = faces.detect(files, study.data / "boxes.parquet", root=root, steps=steps)
    return boxes.assign(**dict(zip(readers.BOX, faces.expand(boxes, margin).T)))


def score_boxes(study: Study, pictures: pipeline.Pictures, boxes: pd.DataFrame) -> pd.DataFrame:
    """Writes scores and results of the baseline `Face_box`: what the place and shape of the face alone tell.

    Args:
        study: Whose tasks.
        pictures: The crops, from `prepare`.
        boxes: The table that they were cut by.

    Returns:
        Its rows of `results.csv`.
    """
    table = pictures.table
    corners = boxes.drop_duplicates("path").set_index("path")[readers.BOX].loc[table["path"]].to_numpy()
    left, top, right, bottom = corners.T
    traits = pd.DataFrame({"x": left + right, "y": top + bottom, "width": right - left, "height": bottom - top})
    traits["aspect"] = traits["width"] / traits["height"]
    train = ((table["split"] == "train") & table["task"].isin(study.train_sets)).to_numpy()
    scores = audit.metadata_scores(traits[train], table.loc[train, "label"] == "fake", traits, seed=study.seed)
    return pipeline.score_baseline(
        study, table, scores, approach="metadata", name="Face_box", protocol=pictures.protocol
    )


@dataclass(frozen=True)
class Faces:
    """Real faces for the autoencoder: `pixels` `(N, S, S, 3)` `uint8`, and for each split its rows."""

    pixels: np.ndarray
    rows: dict[str, np.ndarray]
    fingerprint: str


def face_records(study: Study, records: pd.DataFrame) -> pd.DataFrame:
    """The records that notebook 5 needs faces of: those of all tasks, and the real faces the autoencoder learns."""
    needed = set(catalog.tasks(records, study)["path"])
    return records[records["path"].isin(needed) | _is_learnt(study, records)].reset_index(drop=True)


def prepare_faces(study: Study, records: pd.DataFrame, boxes: pd.DataFrame) -> Faces:
    """Decodes the real faces that the autoencoder learns, cut out and resized; those without a box are left out.

    Args:
        study: Gives the dataset and the side of the crops.
        records: From `catalog.load`.
        boxes: As for `prepare`.
    """
    corners = boxes.drop_duplicates("path").set_index("path")[readers.BOX].dropna()
    chosen = records[_is_learnt(study, records) & records["path"].isin(corners.index)].reset_index(drop=True)
    store = images.prepare(
        catalog.files(study, chosen),
        ("crop", f"resize:{study.face_size}"),
        study.data / "store",
        boxes=corners.loc[chosen["path"]].to_numpy(),
        description="Preparing faces",
    )
    rows = {split: np.flatnonzero(chosen["split"] == split) for split in SPLITS}
    return Faces(store.pixels, rows, f"{store.folder.name}-{pd.util.hash_pandas_object(chosen['split']).sum():016x}")


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
        config.learning_rate, config.epochs, study.seed, "mean_squared_error", config, crops.fingerprint
    )
    model, history = training.train(model, train, valid, study.models / name, settings)
    training.update_card(study.models / name, starts_from="random values")
    return model, history


def reconstruction_errors(model: keras.Model, pixels: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """Mean squared error of the autoencoder on every picture, `(N,)`, for pixels in `[0, 1]`."""
    errors = [
        ((model.predict_on_batch(np.asarray(crops)) - crops / np.float32(255)) ** 2).mean(axis=(1, 2, 3))
        for crops in np.split(pixels, range(batch_size, len(pixels), batch_size))
    ]
    return np.concatenate(errors)


def _is_learnt(study: Study, records: pd.DataFrame) -> pd.Series:
    learnt = (records["dataset"] == study.autoencoder.train_dataset) & (records["label"] == "real")
    if not learnt.any():
        raise ValueError(
            f"The autoencoder learns real faces of {study.autoencoder.train_dataset!r}, of which there is no record. "
            f"Datasets there are: {', '.join(sorted(set(records['dataset'])))}. See notebook 1 on what is missing."
        )
    return learnt
