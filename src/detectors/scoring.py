"""From records to results, in the same steps for every detector: `prepare`, `fit`, `score`."""

from dataclasses import dataclass, replace
from functools import partial

import keras
import numpy as np
import pandas as pd

from ..config import LABELS, Network, Study
from ..data import catalog
from ..data.faces import boxes_of
from ..evaluation import results
from ..pictures import store
from ..pictures.batches import Batches
from ..shards import over
from . import model_card, models, training

_SHARD = 64 * 64  # pictures, in full batches, so that no score depends on the shards


@dataclass(frozen=True)
class Pictures:
    """The prepared pictures of all tasks of a study under one protocol."""

    study: Study
    protocol: str
    # The rows of `catalog.tasks` with `steps`, what was done to the picture, and `row`, its place
    # in `pixels`. One picture may serve several tasks.
    table: pd.DataFrame
    pixels: np.ndarray  # `(num_pictures, S, S, channels)` `uint8`, mapped from the disk
    fingerprint: str  # of pictures, labels and splits together
    variant: str = ""  # ending of the detectors' names, see `retrained`
    # Those of `study.cropped_reals`, which are only scored. They have an array of their own: no
    # training depends on them.
    cropped: "Pictures | None" = None

    @property
    def identity(self) -> str:
        """A name for all that scores depend on or repeat: `fingerprint`, and the groups."""
        return f"{self.fingerprint}-{_hash_rows(self.table[['path', 'group']])}"

    def retrained(self, *, seed: int | None = None, train_set: str | None = None) -> "Pictures":
        """The same pictures for another training: with another seed, or another training set."""
        if seed is None:
            study = replace(self.study, train_set=train_set)
            return replace(self, study=study, variant=f"-{train_set}")
        return replace(self, study=replace(self.study, seed=seed), variant=f"-seed{seed}")

    def model_id(self, name: str) -> str:
        """The name of the files of a detector."""
        return results.model_id(name, self.protocol, self.variant)

    def _by_row(self, values: pd.Series) -> np.ndarray:
        """Values for the rows of `pixels`, each from its first row in `table`."""
        found = np.zeros(len(self.pixels), values.to_numpy().dtype)
        found[self.table["row"][::-1]] = values[::-1]
        return found

    @property
    def labels(self) -> np.ndarray:
        """Label of every row of `pixels`, `(num_pictures,)` `int8`: fake = 1."""
        return self._by_row((self.table["label"] == "fake").astype("int8"))

    def groups(self) -> np.ndarray:
        """Group of every row of `pixels`."""
        return self._by_row(self.table["group"])

    def names(self) -> np.ndarray:
        """File name of every row of `pixels`; DeepFakeFace gives a fake that of its photograph."""
        return self._by_row(self.table["path"].str.rsplit("/", n=1).str[-1]).astype(str)

    def rows(self, split: str, label: str | None = None) -> np.ndarray:
        """Places in `pixels` of one split of the training tasks, perhaps of one label."""
        chosen = (self.table["split"] == split) & self.table["task"].isin(self.study.train_sets)
        chosen &= self.table["label"].isin([label] if label else LABELS)
        return self.table.loc[chosen, "row"].to_numpy()

    def features(self, extractor: keras.Model) -> np.ndarray:
        """What a network sees in every row of `pixels`: `training.cached_features`."""
        folder = self.study.data / "features"
        return training.cached_features(extractor, self.pixels, folder, self.fingerprint)

    def batches(self, split: str, pixels: np.ndarray, **options) -> Batches:
        """Batches of one split of the training tasks; of features, if they are the `pixels`."""
        options |= {"shuffle": split == "train", "seed": self.study.seed}
        options["together"] = self.names() if self.study.paired_batches else None
        return Batches(pixels, self.labels, self.rows(split), **options)


def last_steps(study: Study, approach: str, view: str = "resize") -> tuple[str, ...]:
    """The steps between a protocol's own and a network of the approach."""
    cut = f"centre:{study.detail_size}" if view == "crops" else f"{view}:{study.image_size}"
    return {
        "direct": (cut,),
        "probe": (cut,),
        "fourier": ("spectrum", f"resize:{study.image_size}"),
        "autoencoder": ("crop", f"resize:{study.face_size}"),
    }[approach]


def prepare(
    study: Study,
    records: pd.DataFrame,
    protocol: str,
    approach: str,
    boxes: pd.DataFrame | None = None,
    *,
    view: str = "resize",
    steps: catalog.Steps | None = None,
) -> Pictures:
    """Decodes the pictures of all tasks under one protocol into a pixel store.

    `approach` and `view` of a network (`config.Network`) give its `last_steps`, unless there are
    other `steps`. `boxes`, from `faces.face_boxes`, are for the step `"crop"`; given them, pictures
    without one are left out.
    """
    table = catalog.task_steps(study, records, protocol, steps or last_steps(study, approach, view))
    corners = None
    if boxes is not None:
        corners = pd.DataFrame(boxes_of(table, boxes), table.index).dropna()
        table = table.loc[corners.index]
    is_cropped = table["task"].isin(study.cropped_reals)
    pictures = prepared(study, protocol, table[~is_cropped], corners)
    if is_cropped.any():
        cropped = prepared(study, protocol, table[is_cropped], corners)
        pictures = replace(pictures, cropped=cropped)
    return pictures


def prepared(study: Study, protocol: str, table: pd.DataFrame, corners=None) -> Pictures:
    """`prepare` for rows of `catalog.task_steps`; `corners` are boxes of these rows, and more."""
    table = table.assign(row=table.groupby(["path", "steps"], sort=False).ngroup())
    once = table.drop_duplicates("row")
    prepared = store.prepare(
        catalog.files(study, once),
        [tuple(steps.split()) for steps in once["steps"]],
        study.data / "store",
        boxes=None if corners is None else corners.loc[once.index].to_numpy(),
        description=f"Preparing {protocol}",
    )
    table = table.reset_index(drop=True)
    hashed = _hash_rows(table[["path", "label", "split", "test_set", "real_source", "row"]])
    return Pictures(study, protocol, table, prepared.pixels, f"{prepared.folder.name}-{hashed}")


def fit(
    model: keras.Model, network: Network, pictures: Pictures
) -> tuple[keras.Model, pd.DataFrame]:
    """Trains a detector on the training task; returns what `training.train` returns.

    The model, of `models.build` or `models.join`, is not compiled; `network` says how to train it.
    With the view `"crops"` it is one of `models.on_quarters`.
    A frozen backbone is run once per picture, and only the head is trained, on its features; the
    full model is saved.
    """
    study = pictures.study
    trained, pixels, data = model, pictures.pixels, f"{pictures.fingerprint}/{study.train_set}"
    crop = study.detail_size // 2 if network.view == "crops" else None
    if crop:
        trained = model.get_layer(network.name)
    if study.paired_batches:
        data += "/paired"
    if network.frozen:
        data += f"/{training.identity(models.parts(model)[0])}"
        trained, pixels = frozen_parts(model, pictures)
    made_from = {"config": network, "data": data, "decay": network.decay}
    settings = training.Settings(network.learning_rate, network.epochs, study.seed, **made_from)
    how = {"batch_size": network.batch_size, "crop": crop}
    batches = [pictures.batches(split, pixels, **how) for split in ("train", "valid")]
    stem = study.models / pictures.model_id(network.name)
    return training.train(trained, *batches, stem, settings, full_model=model)


def frozen_parts(model: keras.Model, pictures: Pictures) -> tuple[keras.Model, np.ndarray]:
    """The head of a detector whose backbone is frozen, and the features it takes, kept on disk."""
    extractor, head = models.parts(model)
    return head, pictures.features(extractor)


def score(model: keras.Model, network: Network, pictures: Pictures) -> pd.DataFrame:
    """Scores every validation and test picture; writes scores, cards and rows of `results.csv`.

    Returns the rows. Threshold and calibration come from the training task's validation split.
    Scores of an unchanged model on unchanged pictures are read back.
    """
    study, name = pictures.study, pictures.model_id(network.name)
    parts = [part for part in (pictures, pictures.cropped) if part]
    scored = "-".join([training.identity(model), *(part.identity for part in parts)])
    stem = study.models / name
    kept = training.read_card(stem).get("scored")  # raises before the work if training is missing
    if kept != scored or not results.scores_file(study, name).is_file():
        scores = pd.concat([_probabilities(model, network, part) for part in parts])
        results.write_scores(study, name, scores.reset_index(drop=True))
        card = {"study": study.name, "train_set": study.train_set, "seed": study.seed}
        card |= {"approach": network.approach, "model": network.name, "starts_from": network.start}
        card |= {"protocol": pictures.protocol, "scored": scored}
        card |= results.calibrate(results.read_scores(study, name), study.train_set)
        training.update_card(stem, **card)
    card = training.read_card(stem)
    rows = results.result_rows(study, results.read_scores(study, name), card)
    results.write_results(study, rows)
    model_card.write(study, name, model.input.shape[1:], card, rows)
    return rows


def _probabilities(model: keras.Model, network: Network, pictures: Pictures) -> pd.DataFrame:
    """The validation and test rows of `Pictures.table`, with `label` (fake = 1) and `score`."""
    table = pictures.table[pictures.table["split"] != "train"]
    rows = np.unique(table["row"])
    probability = np.full(len(pictures.pixels), np.nan, np.float32)
    shards = np.split(rows, range(_SHARD, len(rows), _SHARD))
    pixels = pictures.pixels
    if network.frozen:
        model, pixels = frozen_parts(model, pictures)
    work = partial(_predict, training.shared(model), pixels.filename)
    probability[rows] = np.concatenate([*over(work, shards, num_threads=1)])
    labels = (table["label"] == "fake").astype("int8")
    return table.assign(label=labels, score=probability[table["row"]])


def _predict(model: keras.Model, store_file: str, rows: np.ndarray) -> np.ndarray:
    """The scores of some rows of a store, `(num_rows,)`."""
    batches = Batches(np.load(store_file, mmap_mode="r"), rows=rows, shuffle=False)
    return model.predict(batches.feed(), verbose=0).ravel()


def _hash_rows(table: pd.DataFrame) -> str:
    """A hash of a table's rows, whatever their order."""
    return f"{pd.util.hash_pandas_object(table, index=False).to_numpy().sum():016x}"
