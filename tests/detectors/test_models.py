"""Models: published sizes, what each takes and returns, saving, and the two ways of a spectrum."""

from dataclasses import replace

import cv2
import keras
import numpy as np
import pytest
from made_networks import DENSENET, LITE, NETWORK, VGG, pictures

from src.config import Autoencoder
from src.detectors.autoencoder import build_autoencoder, build_embedding_classifier
from src.detectors.models import build, join, parts, resized, with_spectrum
from src.detectors.pretrained import LITE0
from src.pictures.steps import apply

FOURIER = replace(VGG, approach="fourier")
AUTOENCODER = Autoencoder(filters=(8, 6, 4), latent=5)


@pytest.fixture(autouse=True)
def seeded():
    """Weights do not depend on the tests before."""
    keras.utils.set_random_seed(0)


def predict(model, images):
    return model.predict(images, verbose=0)


def saved(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.models.load_model(tmp_path / "model.keras")


def num_trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def test_vgg16_v1_has_the_studys_size():
    """The others are measured in `test_backbones_are_those_of_keras`."""
    model = build(replace(NETWORK, frozen=True, head=256), 224)
    assert num_trainable(model) == 25088 * 256 + 256 + 257
    assert model.count_params() == num_trainable(model) + 14_714_688


def test_autoencoder_has_the_studys_size():
    """Its layers are compared with those of the notebook in `test_notebook_models`."""
    model = build_autoencoder(Autoencoder(), 64)
    encoder, decoder = model.get_layer("encoder"), model.get_layer("decoder")
    filters = [layer.filters for layer in decoder.layers if hasattr(layer, "filters")]
    assert filters == [64, 128, 256, 3] and encoder.output.shape == (None, 2048)
    assert encoder.layers[-2].output.shape == (None, 4096)
    classifier = join(encoder, build_embedding_classifier(2048, (1024, 64)))
    assert (classifier.count_params(), num_trainable(classifier)) == (10_932_289, 2_163_841)
    assert num_trainable(encoder) > 0  # the autoencoder itself stays trainable


def test_autoencoder_takes_pixels_and_returns_the_unit_interval(tmp_path):
    model = build_autoencoder(AUTOENCODER, 32)
    faces = pictures()
    result = predict(model, faces)
    assert result.shape == (4, 32, 32, 3) and result.dtype == np.float32
    assert 0 <= result.min() and result.max() <= 1
    codes = predict(model.get_layer("encoder"), faces)
    np.testing.assert_allclose(predict(model.get_layer("decoder"), codes), result, atol=1e-6)
    np.testing.assert_allclose(predict(saved(model, tmp_path), faces), result)


@pytest.mark.parametrize("network", [replace(VGG, frozen=True, head=3), DENSENET, LITE])
def test_detectors_take_raw_pixels_and_survive_saving(tmp_path, network):
    model = build(replace(network, scaling="imagenet"), 32)
    assert model.input.dtype == "uint8"
    scores = predict(model, pictures())
    assert scores.shape == (4, 1) and scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()
    np.testing.assert_allclose(predict(saved(model, tmp_path), pictures()), scores)


@pytest.mark.parametrize(
    ("network", "preprocess"),
    [
        (replace(VGG, scaling="imagenet"), keras.applications.vgg16.preprocess_input),
        (replace(DENSENET, scaling="imagenet"), keras.applications.densenet.preprocess_input),
        (VGG, lambda pixels: pixels / 255),
    ],
    ids=["vgg16", "densenet", "unit"],
)
def test_scaling_is_that_of_keras_or_from_0_to_1(network, preprocess):
    extractor = build(network, 32).get_layer("extractor")
    backbone = extractor.get_layer(network.backbone)
    expected = predict(backbone, preprocess(pictures().astype("float32"))).mean(axis=(1, 2))
    np.testing.assert_allclose(predict(extractor, pictures()), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "application", "trainable", "frozen"),
    [("vgg16", "VGG16", 14_715_201, 0), ("densenet", "DenseNet121", 6_954_881, 83_648)],
)
def test_backbones_are_those_of_keras(monkeypatch, backbone, application, trainable, frozen):
    """Kinds, shapes and names of the layers, what they compute from copied weights, and sizes."""
    build_reference = getattr(keras.applications, application)
    reference = build_reference(weights=None, include_top=False, input_shape=(32, 32, 3))
    monkeypatch.setattr(keras.applications, application, lambda **_: reference)
    model = build(replace(NETWORK, backbone=backbone, weights="imagenet"), 32)
    assert (num_trainable(model), model.count_params()) == (trainable, trainable + frozen)
    ours = model.get_layer("extractor").get_layer(backbone)

    def layers_of(model):
        return [(type(layer).__name__, layer.output.shape) for layer in model.layers]

    def weights_of(model):
        named = [layer for layer in model.layers if layer.weights]
        return [(layer.name, [weight.shape for weight in layer.weights]) for layer in named]

    assert layers_of(ours) == layers_of(reference)
    assert weights_of(ours) == weights_of(reference)
    pixels = pictures(1).astype("float32")
    np.testing.assert_allclose(predict(ours, pixels), predict(reference, pixels), rtol=1e-5)


@pytest.mark.parametrize("network", [VGG, DENSENET])
def test_a_network_that_averages_looks_at_larger_pictures(network):
    small, images = build(network, 32), pictures(size=(96, 96))
    np.testing.assert_array_equal(
        predict(resized(small, network, 32), images[:, :32, :32]),
        predict(small, images[:, :32, :32]),
    )
    wide = resized(small, network, 96)
    assert wide.input.shape == (None, 96, 96, 3) and predict(wide, images).shape == (4, 1)
    for ours, theirs in zip(wide.get_weights(), small.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="shape"):
        flat = replace(VGG, head=3)
        resized(build(flat, 32), flat, 96)


def test_join_equals_the_two_after_each_other(tmp_path):
    encoder = build_autoencoder(AUTOENCODER, 32).get_layer("encoder")
    head = build_embedding_classifier(5, hidden=())
    model = join(encoder, head)
    scores = predict(model, pictures())
    np.testing.assert_allclose(scores, predict(head, predict(encoder, pictures())), atol=1e-6)
    assert num_trainable(model) == 6 and parts(model)[1] is head
    np.testing.assert_allclose(predict(saved(model, tmp_path), pictures()), scores)


@pytest.mark.parametrize("size", [(128, 128), (33, 47)])
def test_spectrum_in_a_saved_model_equals_recorded_spectra(size, tmp_path):
    inner = build(replace(FOURIER, widths=(8, 8, 8, 8, 8)), 32)
    random = np.random.default_rng(3)  # every backend draws its own initial weights
    spread = [np.sqrt(2 / np.prod(weight.shape[:-1])) for weight in inner.get_weights()]
    inner.set_weights(
        [random.normal(0, s, w.shape) * (w.ndim > 1) for s, w in zip(spread, inner.get_weights())]
    )
    whole = saved(with_spectrum(inner), tmp_path)
    drawn = enumerate(pictures(size=size))  # noise, made smoother from one to the next
    images = np.stack([cv2.GaussianBlur(each, (0, 0), 0.3 + number) for number, each in drawn])
    recorded = np.stack([apply(image, ("spectrum", "resize:32")) for image in images])[..., None]
    levels = predict(keras.Model(whole.input, whole.operations[-2].output), images)
    difference = np.abs(levels.astype(int) - recorded)
    assert difference.max() <= 1 and difference.mean() < 0.2  # Pillow rounds in between
    expected = predict(inner, recorded)
    assert np.ptp(expected) > 2e-3
    np.testing.assert_allclose(predict(whole, images), expected, atol=5e-4)


def test_scores_are_single_precision_under_mixed_precision(any_policy):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model, autoencoder = build(VGG, 32), build_autoencoder(AUTOENCODER, 32)
    assert model.output.dtype == autoencoder.output.dtype == "float32"
    assert model.get_layer("extractor").output.dtype == "bfloat16"
    assert predict(model, pictures()).dtype == np.float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "resnet"}, "'resnet'.*expected .*vgg16"),
        ({"weights": LITE0}, f"'vgg16' with weights '{LITE0}'"),
        ({"backbone": "densenet", "weights": LITE0}, "'densenet' with"),
        ({"backbone": "efficientnet_lite0", "weights": "imagenet"}, LITE0),
        ({"scaling": "caffe"}, "'unit' or 'imagenet'"),
    ],
)
def test_impossible_networks_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        build(replace(NETWORK, **changes), 32)


def test_imagenet_weights_that_cannot_be_fetched_stop_with_advice(monkeypatch):
    def unreachable(**_):
        raise OSError("URL fetch failure on https://storage.googleapis.com/...: unreachable")

    monkeypatch.setattr(keras.applications, "VGG16", unreachable)
    with pytest.raises(RuntimeError, match="VGG16: URL fetch failure(.|\n)*efficientnet-lite0"):
        build(replace(NETWORK, weights="imagenet"), 32)


def test_vgg_is_normalised_when_asked():
    normalised = build(replace(VGG, batch_norm_momentum=0.8), 32)
    assert normalised.count_params() == build(VGG, 32).count_params() + 13 * 4 * 4
    layers = normalised.get_layer("extractor").get_layer("vgg16").layers
    assert {layer.momentum for layer in layers if hasattr(layer, "momentum")} == {0.8}
