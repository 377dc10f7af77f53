"""What the notebooks show of networks and of the spectrum is what `src` computes with.

The cells are taken from the notebooks by their tags and executed on a small study.
"""

from dataclasses import replace
from pathlib import Path

import keras
import nbformat
import numpy as np
import pytest
from keras import layers

from src.config import ROOT, get_study
from src.detectors import autoencoder, models
from src.pictures.spectrum import magnitude_spectrum

TINY = get_study("tiny")
# As in the full study: no batch normalisation in VGG16.
PLAIN = replace(
    TINY, direct=tuple(replace(network, batch_norm_momentum=None) for network in TINY.direct)
)


def execute(notebook: str, tags: tuple[str, ...], **names) -> dict:
    """Executes the cells with these tags, in this order; returns all names that they define."""
    path: Path = next((ROOT / "notebooks").glob(f"{notebook}_*.ipynb"))
    cells = nbformat.read(path, as_version=4).cells
    for tag in tags:
        (source,) = [cell.source for cell in cells if tag in cell.metadata.get("tags", [])]
        exec(compile(source, f"{path.name}, {tag}", "exec"), names)
    return names


def layer_types(model: keras.Model) -> list[str]:
    """The layers in order, with those of inner models; a ReLU within a convolution counts too."""
    names = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            names += layer_types(layer)
        elif not isinstance(layer, layers.InputLayer):
            names.append(type(layer).__name__)
            if isinstance(layer, layers.Conv2D) and layer.activation is keras.activations.relu:
                names.append("ReLU")
    return names


def assert_equal(shown: keras.Model, built: keras.Model) -> None:
    """The same layers, parameters and outputs."""
    assert layer_types(shown) == layer_types(built)
    assert len(shown.trainable_variables) == len(built.trainable_variables)
    random = np.random.default_rng(0)
    # Near the initial weights: no sigmoid is saturated, and variances stay positive.
    weights = [array + random.normal(0, 0.01, array.shape) for array in built.get_weights()]
    for model in (shown, built):
        model.set_weights(weights)
    inputs = random.integers(0, 256, (4, *built.input.shape[1:])).astype(built.input.dtype)
    expected = built.predict_on_batch(inputs)
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(shown.predict_on_batch(inputs), expected, rtol=1e-5)


@pytest.mark.parametrize("study", [TINY, PLAIN], ids=["with batch norm", "without"])
@pytest.mark.parametrize("name", ["VGG16_V3", "VGG16_V1"])
def test_vgg16(study, name):
    networks = {network.name: network for network in study.direct}
    tags = ("model-vgg16-blocks", "model-vgg16-v3", "model-vgg16-v1")
    shown = execute("03", tags, study=study, networks=networks)
    assert_equal(shown[name.lower()], models.build(networks[name], study.image_size))


def test_fourier_densenet():
    shown = execute("04", ("model-fourier",), study=TINY)
    assert_equal(shown["fourier_densenet"], models.build(TINY.fourier, TINY.image_size))


def test_autoencoder():
    tags = ("model-encoder", "model-decoder", "model-autoencoder")
    shown = execute("05", tags, study=TINY)
    built = autoencoder.build_autoencoder(TINY.autoencoder, TINY.face_size)
    assert_equal(shown["in_sight"], built)
    assert_equal(shown["encoder"], built.get_layer("encoder"))
    assert_equal(shown["decoder"], built.get_layer("decoder"))


@pytest.mark.parametrize("shape", [(32, 32, 3), (31, 44, 3)])
def test_spectrum(shape):
    picture = np.random.default_rng(0).integers(0, 256, shape).astype("uint8")
    shown = execute("04", ("formula-spectrum",), decoded=[picture])
    np.testing.assert_allclose(shown["spectrum"], magnitude_spectrum(picture), atol=0.01)
