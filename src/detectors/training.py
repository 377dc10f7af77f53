"""Training: the best epoch kept, a killed run resumed where it was, a finished run never repeated.

`train` writes three files beside each other: `<stem>.keras` (the whole model at its best epoch), `<stem>.history.csv`
(a row per epoch) and `<stem>.json` (the card: settings, seed, versions; evaluation adds thresholds later). While it
runs, everything lies in the folder `<stem>.partial`; the card is written last, so a card means a finished run.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import time
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from ..files import progress

CLASSIFICATION = "binary_crossentropy"


@dataclass(frozen=True)
class Settings:
    """How a model is trained; together with the model's layers, what tells one run from another.

    Args:
        learning_rate: Adam's step size.
        epochs: Passes over the training batches.
        seed: Of the order of the pictures and of dropout.
        loss: `"binary_crossentropy"`, with classification metrics, or another Keras loss, without.
        config: What the model was built from: a `Network`, an `Autoencoder` or plain values.
        data: Fingerprint of the training and validation data.
        decay: Whether the step size falls to zero along half a cosine (Loshchilov & Hutter, ICLR 2017).
    """

    learning_rate: float
    epochs: int
    seed: int
    loss: str = CLASSIFICATION
    config: object = field(default_factory=dict)
    data: str = ""
    decay: bool = False

    def to_dict(self) -> dict:
        """All fields as plain values."""
        config = asdict(self.config) if is_dataclass(self.config) else self.config
        values = {name: getattr(self, name) for name in self.__dataclass_fields__} | {
            "config": config
        }
        return json.loads(json.dumps(values))


class _Quiet(keras.utils.PyDataset):
    """Batches without the hooks by which Keras reports the end of an epoch.

    Keras calls them before the first epoch, too, and prefetches an epoch that never comes: an order that they
    changed would depend on threads. Here `train` alone sets the epoch.
    """

    def __init__(self, batches: keras.utils.PyDataset):
        super().__init__(workers=batches.workers, max_queue_size=batches.max_queue_size)
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int):
        return self.batches[index]


class Reconstruction(_Quiet):
    """The same pictures as input (`uint8`) and as target (`float32` in `[0, 1]`), for an autoencoder.

    Args:
        batches: Batches of (pictures `uint8`, anything); its `epoch` sets their order.
    """

    epoch = property(
        lambda self: self.batches.epoch, lambda self, value: setattr(self.batches, "epoch", value)
    )

    def __getitem__(self, index: int):
        pictures = self.batches[index][0]
        return pictures, np.asarray(pictures, np.float32) / 255


def seed(value: int) -> None:
    """Seed Python, NumPy and the backend; call it before a model is built, for its initial weights."""
    keras.utils.set_random_seed(value)


def device() -> str:
    """What the backend computes on: `"cpu"`, `"gpu"` or `"tpu"`."""
    kinds = {name.split(":")[0] for name in keras.distribution.list_devices()}
    return next(
        (kind for kind in ("tpu", "gpu") if kind in kinds), "gpu" if "cuda" in kinds else "cpu"
    )


def use_mixed_precision() -> str:
    """Let models built from now on compute in half precision where the device gains from it.

    Returns:
        The policy: `"mixed_float16"` on a GPU, `"mixed_bfloat16"` on a TPU, `"float32"` on a CPU. Saved models
        are `float32` in any case.
    """
    policy = {"gpu": "mixed_float16", "tpu": "mixed_bfloat16"}.get(device(), "float32")
    keras.config.set_dtype_policy(policy)
    return policy


def train(
    model: keras.Model,
    train_batches: keras.utils.PyDataset,
    valid_batches: keras.utils.PyDataset,
    stem: Path,
    settings: Settings,
    whole: keras.Model | None = None,
    verbose: bool = True,
) -> tuple[keras.Model, pd.DataFrame]:
    """Train a model with Adam and keep its best epoch by validation loss.

    A finished run with the same settings, layers and data is read back at once; one that was killed goes on after
    its last whole epoch, with the same optimiser state, order of pictures and dropout as if it had not been.

    Args:
        model: Not compiled.
        train_batches: Batches (inputs, targets); setting its `epoch` sets the order of that epoch.
        valid_batches: Batches (inputs, targets).
        stem: Path of the files without their ending, for example `study.models / "VGG16_V3-controlled"`.
        settings: Learning rate, epochs, seed, loss; what model and data were made from.
        whole: Saved instead of `model`, whose layers it shares: the detector whose head is trained on features.
        verbose: Whether to show a bar over the epochs on standard output.

    Returns:
        `whole` or else `model`, with the weights of its best epoch, and the history: `epoch` (from 1), `loss`,
        `val_loss`, `seconds`, `images_per_second`; for binary cross-entropy also `accuracy`, `auc`, `precision`,
        `recall` and the same with `val_`.

    Raises:
        ValueError: If there is nothing to train: no batch, or no epoch.
        FloatingPointError: If the validation loss is not a number.
    """
    if settings.epochs < 1 or not len(train_batches) or not len(valid_batches):
        sizes = f"{len(train_batches)} training and {len(valid_batches)} validation batches"
        raise ValueError(
            f"Received {settings.epochs} epochs, {sizes}; expected at least one of each."
        )
    stem = Path(stem)
    kept = model if whole is None else whole
    fingerprint = _fingerprint(kept, settings)
    whole_run = all(
        _beside(stem, ending).exists() for ending in (".keras", ".history.csv", ".json")
    )
    if whole_run and read_card(stem).get("fingerprint") == fingerprint:
        _load_weights(kept, _beside(stem, ".keras"))
        return kept, pd.read_csv(_beside(stem, ".history.csv"))

    folder = _beside(stem, ".partial")
    _compile(model, settings, num_steps=settings.epochs * len(train_batches))
    rows = _resume(model, folder, fingerprint)
    num_images = _count(train_batches)
    epochs, options = (
        range(len(rows), settings.epochs),
        {"initial": len(rows), "disable": not verbose, "leave": True},
    )
    bar = progress(epochs, stem.name, settings.epochs, "epoch", **options)
    for epoch in bar:
        train_batches.epoch = epoch
        _seed_dropout(model, settings.seed, epoch)
        clock = _Clock()
        batches = {
            "x": _Quiet(train_batches),
            "validation_data": _Quiet(valid_batches),
            "shuffle": False,
        }
        logs = model.fit(**batches, callbacks=[clock], verbose=0)
        row = {"epoch": epoch + 1} | {
            name: float(values[0]) for name, values in logs.history.items()
        }
        row |= {"seconds": clock.total(), "images_per_second": num_images / clock.training}
        if not np.isfinite(row["val_loss"]):
            raise FloatingPointError(
                f"{stem.name}: validation loss {row['val_loss']} in epoch {epoch + 1}."
            )
        if row["val_loss"] < min((earlier["val_loss"] for earlier in rows), default=np.inf):
            _save_model(kept, folder / "best.keras")
        rows.append(row)
        _save_state(model, folder, fingerprint, rows)
        bar.set_postfix(
            {name: f"{row[name]:.4f}" for name in ("loss", "val_loss", "val_auc") if name in row}
        )
    _finish(stem, folder, rows, _describe(kept, settings, fingerprint))
    _load_weights(kept, _beside(stem, ".keras"))
    return kept, pd.read_csv(_beside(stem, ".history.csv"))


def read_card(stem: Path) -> dict:
    """The card of a finished run.

    Raises:
        FileNotFoundError: If no run of that name is finished.
    """
    file = _beside(Path(stem), ".json")
    if not file.exists():
        raise FileNotFoundError(f"{file} is missing: train {Path(stem).name} first.")
    return json.loads(file.read_text(encoding="utf-8"))


def update_card(stem: Path, **values) -> dict:
    """Add values to the card of a finished run, for example a threshold; returns the whole card.

    Raises:
        FileNotFoundError: If no run of that name is finished.
    """
    card = read_card(stem) | values
    _write_json(_beside(Path(stem), ".json"), card)
    return card


def cached_features(
    extractor: keras.Model, pixels, path: Path, data: str = "", batch_size: int = 64
) -> np.ndarray:
    """The features of all pictures, computed once and kept on disk.

    Args:
        extractor: From pictures to features, frozen.
        pixels: Pictures `(N, S, S, C)` `uint8` (an array or a memory map), or batches of (pictures, anything) that
            keep the order of the rows.
        path: The `.npy` file; its key lies beside it as `.json`.
        data: Fingerprint of the pictures. Features of other data or of another extractor are computed anew.
        batch_size: Pictures per step.

    Returns:
        Read-only memory map `(N, ...)` `float32`, rows aligned with the pictures.

    Raises:
        ValueError: If the batches are shuffled.
    """
    path, batched = Path(path), isinstance(pixels, keras.utils.PyDataset)
    if getattr(pixels, "shuffle", False):
        raise ValueError(
            "Received shuffled batches; expected shuffle=False, so that features and rows stay aligned."
        )
    num_images = _count(pixels) if batched else len(pixels)
    shape = (num_images, *extractor.output.shape[1:])
    key = {"extractor": identity(extractor), "data": data, "shape": shape}
    key = json.loads(json.dumps(key))
    card = path.with_suffix(".json")
    if path.exists() and card.exists() and json.loads(card.read_text(encoding="utf-8")) == key:
        return np.load(path, mmap_mode="r")
    path.parent.mkdir(parents=True, exist_ok=True)
    card.unlink(missing_ok=True)
    part = path.with_name(f"{path.name}.part")
    features = np.lib.format.open_memmap(part, "w+", np.float32, shape)
    starts = range(0, num_images, batch_size)
    batches = (
        (pixels[i][0] for i in range(len(pixels)))
        if batched
        else (pixels[i : i + batch_size] for i in starts)
    )
    row = 0
    for batch in progress(batches, "Features", len(pixels) if batched else len(starts), "batch"):
        features[row : row + len(batch)] = extractor.predict_on_batch(np.asarray(batch))
        row += len(batch)
    features.flush()
    del features
    os.replace(part, path)
    _write_json(card, key)
    return np.load(path, mmap_mode="r")


def identity(model: keras.Model) -> str:
    """A hash of all that a model computes: its weights and what its layers do, whatever they are called.

    Of two networks with equal weights and shapes one may scale its pictures otherwise.
    """
    config = json.dumps(model.get_config(), sort_keys=True, default=str)
    values = re.sub(r'("name": |"keras_history": \[|put_layers": \[+)"[^"]+"', r"\1", config)
    for number, name in enumerate(dict.fromkeys(re.findall(r'"name": ("[^"]+")', config))):
        config = config.replace(name, str(number))  # Keras counts its names on
    return _hash(config, values, *model.get_weights())


class _Clock(keras.callbacks.Callback):
    """Seconds of one epoch, and of its training without the validation that follows."""

    def on_train_begin(self, logs=None):
        self.start, self.training = time.perf_counter(), 0.0

    def on_test_begin(self, logs=None):
        self.training = time.perf_counter() - self.start

    def total(self) -> float:
        return time.perf_counter() - self.start


def _compile(model: keras.Model, settings: Settings, num_steps: int) -> None:
    """Adam, the loss and its metrics."""
    metrics = []
    if settings.loss == CLASSIFICATION:
        metrics = [
            keras.metrics.BinaryAccuracy("accuracy"),
            keras.metrics.AUC(name="auc"),
            keras.metrics.Precision(name="precision"),
            keras.metrics.Recall(name="recall"),
        ]
    # On a CPU TensorFlow trains convolutions 2 to 4 times faster without XLA, Keras' default, and traces sooner.
    plain = keras.backend.backend() == "tensorflow" and device() == "cpu"
    rate = settings.learning_rate
    optimizer = keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(rate, num_steps) if settings.decay else rate
    )
    model.compile(optimizer, settings.loss, metrics=metrics, jit_compile=False if plain else "auto")


def _seed_dropout(model: keras.Model, seed: int, epoch: int) -> None:
    """Set the random state of every layer from seed and epoch: Keras does not save it with the weights."""
    states = [
        variable for variable in model.variables if variable.path.endswith("seed_generator_state")
    ]
    for index, state in enumerate(states):
        state.assign(np.random.SeedSequence([seed, epoch, index]).generate_state(2, np.uint32))


def _resume(model: keras.Model, folder: Path, fingerprint: str) -> list[dict]:
    """Restore the last whole epoch of the same run, if there is one; returns its history."""
    progress = folder / "progress.json"
    if progress.exists():
        saved = json.loads(progress.read_text(encoding="utf-8"))
        if saved["fingerprint"] == fingerprint:
            model.optimizer.build(model.trainable_variables)
            model.load_weights(folder / saved["state"])
            return saved["rows"]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return []


def _save_state(model: keras.Model, folder: Path, fingerprint: str, rows: list[dict]) -> None:
    """Save weights and optimiser; `progress.json` names the state that counts, so a kill never mixes two epochs."""
    state = folder / f"epoch{len(rows)}.weights.h5"
    model.save_weights(state)
    _write_json(
        folder / "progress.json", {"fingerprint": fingerprint, "state": state.name, "rows": rows}
    )
    for older in folder.glob("epoch*.weights.h5"):
        if older != state:
            older.unlink()


def _finish(stem: Path, folder: Path, rows: list[dict], card: dict) -> None:
    """Move the results to their places, the card last."""
    _beside(stem, ".json").unlink(missing_ok=True)
    if (folder / "best.keras").exists():  # else a run killed between these lines has moved it
        os.replace(folder / "best.keras", _beside(stem, ".keras"))
    pd.DataFrame(rows).to_csv(folder / "history.csv", index=False)
    os.replace(folder / "history.csv", _beside(stem, ".history.csv"))
    _write_json(_beside(stem, ".json"), card)
    shutil.rmtree(folder)


def _describe(model: keras.Model, settings: Settings, fingerprint: str) -> dict:
    """The card of a run."""
    versions = {
        "python": platform.python_version(),
        "keras": keras.__version__,
        "numpy": np.__version__,
    }
    described = {"model": model.name, "num_parameters": model.count_params(), "device": device()}
    described |= {
        "backend": keras.backend.backend(),
        "versions": versions,
        "fingerprint": fingerprint,
    }
    return settings.to_dict() | described


def _fingerprint(model: keras.Model, settings: Settings) -> str:
    """What tells this run from others; the same in every process and with every version of Keras."""
    return _hash(json.dumps([settings.to_dict(), _layers(model)], sort_keys=True))


def _layers(model: keras.Model) -> list:
    """Kind, shapes and trainability of the layers, without the numbers Keras appends to names."""
    described = []
    for layer in model.layers:
        inner = _layers(layer) if isinstance(layer, keras.Model) else []
        shapes = [list(weight.shape) for weight in layer.weights]
        described.append([type(layer).__name__, shapes, bool(layer.trainable), inner])
    return described


def _hash(*parts) -> str:
    """Hash of text or arrays."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(
            part.encode() if isinstance(part, str) else np.ascontiguousarray(part).tobytes()
        )
    return digest.hexdigest()[:16]


def _count(batches: keras.utils.PyDataset) -> int:
    """Number of pictures; all batches but the last are of one size."""
    first, last = len(batches[0][0]), len(batches[len(batches) - 1][0])
    return first * (len(batches) - 1) + last


def _save_model(model: keras.Model, file: Path) -> None:
    """Save layers and weights, in single precision and without the optimiser."""
    bare = keras.Model(model.input, model.output, name=model.name)
    config = json.dumps(keras.saving.serialize_keras_object(bare))
    plain = config.replace("mixed_float16", "float32").replace("mixed_bfloat16", "float32")
    if plain != config:  # half precision is for the device of the training: on a CPU it is slow
        portable = keras.saving.deserialize_keras_object(json.loads(plain))
        portable.set_weights(bare.get_weights())
        bare = portable
    part = file.with_name(f"{file.stem}.part.keras")
    bare.save(part)
    os.replace(part, file)


def _load_weights(model: keras.Model, file: Path) -> None:
    """Load the weights of a saved model, leaving any optimiser alone."""
    keras.Model(model.input, model.output).load_weights(file)


def _write_json(file: Path, values: dict) -> None:
    """Write beside, then rename."""
    part = file.with_name(f"{file.name}.part")
    part.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    os.replace(part, file)


def _beside(stem: Path, ending: str) -> Path:
    """`with_suffix` would cut a name at its last dot."""
    return stem.with_name(stem.name + ending)
