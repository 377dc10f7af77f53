"""Training: keeps the best epoch, resumes a killed run, never repeats a finished one.

While `train` runs, everything lies in the folder `<stem>.partial`. The card `<stem>.json` is
written last: a card means a finished run.
"""

import hashlib
import inspect
import json
import os
import platform
import random
import shutil
import time
from collections.abc import Hashable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from filelock import FileLock

from .. import devices
from ..files import progress, read_json, require_space, write_atomically, write_json
from ..pictures.batches import Batches
from .normalisation import fold

CLASSIFICATION = "binary_crossentropy"
_COPIES, _MAX_COPIES = {}, 12  # see `shared`
BATCH_SIZE = 16  # for features: larger feature maps do not fit in the CPU's cache


@dataclass(frozen=True)
class Settings:
    """How a model is trained. Settings and the model's layers identify a run."""

    learning_rate: float  # Adam's step size
    epochs: int
    seed: int  # of the order of the pictures
    loss: str = CLASSIFICATION  # with metrics; any other loss has none
    config: object = field(default_factory=dict)  # what the model was built from
    data: str = ""  # fingerprint of the training and validation data
    decay: bool = False  # of the step size, along half a cosine to 0 (Loshchilov & Hutter, 2017)


def device() -> str:
    """What the backend computes on: `"cpu"`, `"gpu"` or `"tpu"`."""
    names = " ".join(keras.distribution.list_devices()).replace("cuda", "gpu")
    return next((kind for kind in ("tpu", "gpu") if kind in names), "cpu")


def use_mixed_precision() -> str:
    """Lets models built from now on compute in half precision where the device gains from it.

    They are saved in `float32` in any case. Returns the policy, for example `"mixed_float16"`.
    """
    policy = {"gpu": "mixed_float16", "tpu": "mixed_bfloat16"}.get(device(), "float32")
    keras.config.set_dtype_policy(policy)
    return policy


def set_seed(seed: int) -> None:
    """Seeds Python and NumPy, from which Keras draws initial weights.

    `keras.utils.set_random_seed` also seeds TensorFlow, which then forgets what it has compiled.
    """
    random.seed(seed)
    np.random.seed(seed)


def train(
    model: keras.Model,
    train_batches: Batches,
    valid_batches: Batches,
    stem: Path,
    settings: Settings,
    full_model: keras.Model | None = None,
) -> tuple[keras.Model, pd.DataFrame]:
    """Trains a model with Adam and keeps its best epoch by validation loss.

    A finished run with the same settings, layers and data is read back; one that was killed goes on
    after its last full epoch as if it had not been.

    Args:
        model: Not compiled, without dropout: its random state would not be resumed.
        train_batches, valid_batches: Inputs and targets; their epoch is set here.
        stem: Path of the files without their ending.
        settings: How to train, and what model and data were made from.
        full_model: Saved instead of `model`: the detector whose head is trained on features.

    Returns:
        `full_model`, or else `model`, at its best epoch, not compiled; and the history: `epoch`
        (from 1), `loss`, `val_loss`, `seconds`, `images_per_second`; for binary cross-entropy also
        `accuracy`, `auc`, `precision`, `recall` and the same with `val_`.

    Raises:
        ValueError: If there is no epoch to train.
        FloatingPointError: If the validation loss is infinite or not a number.
    """
    if settings.epochs < 1:
        raise ValueError(f"{stem.name}: received {settings.epochs} epochs; expected at least 1.")
    saved = model if full_model is None else full_model
    fingerprint = _hash(json.dumps(asdict(settings), sort_keys=True), _architecture(saved))
    files = [_file(stem, ending) for ending in (".keras", ".history.csv", ".json")]
    finished = all(file.exists() for file in files)
    if not (finished and read_card(stem).get("fingerprint") == fingerprint):
        folder = _file(stem, ".partial")
        with devices.every_device() as part:
            replica = _compiled(model, settings, settings.epochs * len(train_batches), part)
            train_part, valid_part = train_batches.part(*part), valid_batches.part(*part)
        rows = _resume(replica, folder, fingerprint)
        epochs = range(len(rows), settings.epochs)
        bar = progress(epochs, stem.name, settings.epochs, "epoch", initial=len(rows), leave=True)
        for epoch in bar:
            with devices.every_device():
                rows.append(_train_epoch(replica, train_part, valid_part, epoch))
            if not np.isfinite(loss := rows[-1]["val_loss"]):
                where = f"{stem.name}: validation loss {loss}, epoch {epoch + 1}"
                raise FloatingPointError(f"{where}; expected a number. Lower the learning rate.")
            if devices.is_first():
                if np.argmin([row["val_loss"] for row in rows]) == epoch:
                    model.set_weights(replica.get_weights())
                    _save_model(saved, folder / "best.keras")
                _save_state(replica, folder, fingerprint, rows)
            names = [name for name in ("loss", "val_loss", "val_auc") if name in rows[-1]]
            bar.set_postfix({name: f"{rows[-1][name]:.4f}" for name in names})
        if devices.is_first():
            _finish(stem, folder, rows, _card(saved, settings) | {"fingerprint": fingerprint})
        devices.wait_for_all(f"{stem.name} is finished")
    # A copy without optimiser (its state was not kept) and without the compiled training step.
    bare = keras.Model(saved.input, saved.output, name=saved.name)
    bare.load_weights(files[0])
    return bare, pd.read_csv(files[1])


def read_card(stem: Path) -> dict:
    """The card of a finished run: its settings, versions, and values of `update_card`.

    Raises:
        FileNotFoundError: If no run of that name is finished.
    """
    card = read_json(file := _file(stem, ".json"))
    if card is None:
        advice = "`make reproduce` trains the detectors of the demo."
        raise FileNotFoundError(f"{file} is missing: train {stem.name} first. {advice}")
    return card


def update_card(stem: Path, **values) -> None:
    """Adds values, for example a threshold, to the card of a finished run; see `read_card`."""
    write_json(_file(stem, ".json"), read_card(stem) | values)


def cached_features(
    extractor: keras.Model, pixels: np.ndarray, folder: Path, data: str
) -> np.ndarray:
    """The features of all pictures, computed once and kept on disk. Of two runs at once, one waits.

    Returns a read-only memory map `(N, ...)` `float32` for pixels `(N, S, S, C)` `uint8`. The file
    is named by the extractor's `identity` and by `data`, the fingerprint of the pictures.
    """
    shape = (len(pixels), *extractor.output.shape[1:])
    path = folder / f"{identity(extractor)}-{data}.npy"

    def write(file: Path) -> None:
        require_space(file.parent, 4 * int(np.prod(shape)), f"Features of {len(pixels)} pictures")
        features = np.lib.format.open_memmap(file, "w+", np.float32, shape)
        copy = shared(extractor)
        for start in progress(range(0, len(pixels), BATCH_SIZE), "Features", unit="batch"):
            rows = slice(start, start + BATCH_SIZE)
            features[rows] = copy.predict_on_batch(np.asarray(pixels[rows]))
        features.flush()

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            write_atomically(path, write)
    return np.load(path, mmap_mode="r")


def shared(model: keras.Model, use: Hashable = "inference") -> keras.Model:
    """A copy with the weights of the model, one for all models that differ by their weights alone.

    To trace a network takes longer than to train a small one for an epoch, and what was traced
    stays in memory. The copy is good until the next call with such a model and the same use. For
    inference, `fold` makes it.
    """
    key = use, _architecture(model), *sorted({layer.compute_dtype for layer in model.layers})
    copy = _COPIES.pop(key, None)
    if use == "inference":
        copy = fold(model, copy)
    else:
        copy = copy or keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
    while len(_COPIES) >= _MAX_COPIES:
        del _COPIES[next(iter(_COPIES))]
    _COPIES[key] = copy  # the last used comes last
    return copy


def identity(model: keras.Model) -> str:
    """A hash of what a model computes: its weights, and its layers without names and precision."""
    return _hash(_architecture(model), *model.get_weights())


def _architecture(model: keras.Model) -> str:
    """The configuration of a model's layers, and the code of those that are not Keras' own."""
    return json.dumps([_plain(model.get_config(), {}), list(_custom_code(model))], sort_keys=True)


def _plain(value, numbers: dict[str, int]):
    """A configuration with layers numbered in order, and without precision.

    Keras counts names on from model to model, and precision follows from the device.
    """
    if isinstance(value, dict):
        kind = value.get("class_name")
        if kind == "__keras_tensor__":
            return _plain(value["config"]["keras_history"], numbers)
        if "Policy" in str(kind):
            return None
        numbers = {} if "layers" in value else numbers  # a model has names of its own
        skipped = ("module", "registered_name", "build_config")  # where Keras keeps its classes
        return {
            key: numbers.setdefault(item, len(numbers)) if key == "name" else _plain(item, numbers)
            for key, item in value.items()
            if key not in skipped
        }
    if isinstance(value, (list, tuple)):
        if len(value) == 3 and isinstance(value[0], str):  # layer, node, output
            return [numbers.setdefault(value[0], len(numbers)), *value[1:]]
        return [_plain(item, numbers) for item in value]
    return value


def _custom_code(model: keras.Model):
    """The source of every layer that is not Keras' own."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _custom_code(layer)
        elif type(layer).__module__.partition(".")[0] != "keras":
            yield inspect.getsource(type(layer))


def _hash(*parts) -> str:
    """Hash of text or arrays."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part.tobytes())
    return digest.hexdigest()[:16]


def _compiled(model: keras.Model, settings: Settings, num_steps: int, part) -> keras.Model:
    """A compiled copy of the model, `shared`, with a fresh Adam."""
    held = tuple(variable.constraint for variable in model.trainable_variables)
    rate = settings.learning_rate, settings.decay and num_steps
    copy = shared(model, (settings.loss, *rate, str(part), *held))
    if not copy.compiled:
        for variable, constraint in zip(copy.trainable_variables, held):
            variable.constraint = constraint
        _compile(copy, settings, num_steps)
    for variable in copy.optimizer.variables:
        variable.assign(keras.ops.zeros(variable.shape, variable.dtype))
    if not settings.decay:
        copy.optimizer.learning_rate = settings.learning_rate
    return copy


def _compile(model: keras.Model, settings: Settings, num_steps: int) -> None:
    """Sets Adam, the loss and its metrics."""
    metrics, rate = [], settings.learning_rate
    if settings.loss == CLASSIFICATION:
        kinds = keras.metrics
        metrics = [kinds.BinaryAccuracy("accuracy"), kinds.AUC(name="auc")]
        metrics += [kinds.Precision(name="precision"), kinds.Recall(name="recall")]
    if settings.decay:
        rate = keras.optimizers.schedules.CosineDecay(rate, num_steps)
    # On a CPU TensorFlow trains convolutions 2 to 4 times faster without XLA, and traces sooner.
    plain = keras.backend.backend() == "tensorflow" and device() == "cpu"
    options = {"metrics": metrics, "jit_compile": False if plain else "auto"}
    model.compile(keras.optimizers.Adam(rate), settings.loss, **options)
    model.optimizer.build(model.trainable_variables)  # else the first step is traced twice


def _train_epoch(model: keras.Model, train_batches, valid_batches, epoch: int) -> dict:
    """Trains for one epoch and validates; returns a row of the history."""
    train_batches.set_epoch(epoch)
    ends = []  # the time at which validation begins
    clock = keras.callbacks.LambdaCallback(on_test_begin=lambda _: ends.append(time.perf_counter()))
    options = {"shuffle": False, "callbacks": [clock], "verbose": 0}
    start = time.perf_counter()
    train, valid = train_batches.feed(), valid_batches.feed()
    logs = model.fit(train, validation_data=valid, **options).history
    return {
        "epoch": epoch + 1,
        **{name: float(values[0]) for name, values in logs.items()},
        "seconds": time.perf_counter() - start,
        "images_per_second": len(train_batches.rows) / (ends[0] - start),
    }


def _resume(model: keras.Model, folder: Path, fingerprint: str) -> list[dict]:
    """Restores the last full epoch of the same run, if there is one; returns its history."""
    saved = read_json(folder / "progress.json")
    if saved and saved["fingerprint"] == fingerprint:
        model.load_weights(folder / f"epoch{len(saved['rows'])}.weights.h5")
        return saved["rows"]
    if devices.is_first():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    return []


def _save_state(model: keras.Model, folder: Path, fingerprint: str, rows: list[dict]) -> None:
    """Saves weights and optimiser; the number of rows in `progress.json` names the valid file."""
    model.save_weights(folder / f"epoch{len(rows)}.weights.h5")
    write_json(folder / "progress.json", {"fingerprint": fingerprint, "rows": rows})
    (folder / f"epoch{len(rows) - 1}.weights.h5").unlink(missing_ok=True)


def _finish(stem: Path, folder: Path, rows: list[dict], card: dict) -> None:
    """Moves the results to their places, the card last."""
    _file(stem, ".json").unlink(missing_ok=True)
    if (folder / "best.keras").exists():  # else a run killed between these lines has moved it
        os.replace(folder / "best.keras", _file(stem, ".keras"))
    history = pd.DataFrame(rows)
    write_atomically(_file(stem, ".history.csv"), lambda file: history.to_csv(file, index=False))
    write_json(_file(stem, ".json"), card)
    shutil.rmtree(folder)


def _card(model: keras.Model, settings: Settings) -> dict:
    """What is known of a run when it ends."""
    versions = {"python": platform.python_version(), "keras": keras.__version__}
    versions["numpy"] = np.__version__
    card = {"model": model.name, "num_parameters": model.count_params(), "versions": versions}
    return asdict(settings) | card | {"device": device(), "backend": keras.backend.backend()}


def _save_model(model: keras.Model, file: Path) -> None:
    """Saves layers and weights, in single precision and without the optimiser."""
    bare = keras.Model(model.input, model.output, name=model.name)
    config = json.dumps(keras.saving.serialize_keras_object(bare))
    plain = config.replace("mixed_float16", "float32").replace("mixed_bfloat16", "float32")
    if plain != config:  # half precision is slow on a CPU
        bare = keras.saving.deserialize_keras_object(json.loads(plain))
        bare.set_weights(model.get_weights())
    write_atomically(file, bare.save)


def _file(stem: Path, ending: str) -> Path:
    """`with_suffix` would cut a name at its last dot."""
    return stem.with_name(stem.name + ending)
