"""Batch normalisation, beside that of Keras."""

import keras
import numpy as np
import pytest

from src.detectors.normalisation import BatchNormalization, fold

MAPS = np.random.default_rng(0).normal(3, 2, (8, 5, 6, 4)).astype("float32")


def trained(kind, inputs, dtype="float32"):
    """A model of one layer after three steps, and its loss and outputs."""
    keras.utils.set_random_seed(0)
    image = keras.layers.Input(inputs.shape[1:])
    outputs = kind(epsilon=1e-3, momentum=0.9, name="norm", dtype=dtype)(image)
    model = keras.Model(image, keras.layers.Dense(1)(outputs))
    model.compile(keras.optimizers.SGD(0.1), "mean_squared_error")
    target = inputs.sum(axis=-1, keepdims=True) ** 2 / 100
    losses = [model.train_on_batch(inputs, target) for _ in range(3)]
    return model, np.array(losses), model.predict(inputs, verbose=0)


@pytest.mark.parametrize("inputs", [MAPS, MAPS[:1, :1, :1].repeat(2, 0), MAPS[:, 0, 0]])
def test_as_in_keras(inputs):
    ours, theirs = (
        trained(kind, inputs) for kind in (BatchNormalization, keras.layers.BatchNormalization)
    )
    assert len(ours[0].get_weights()) == 6
    for one, other in zip(
        (*ours[0].get_weights(), *ours[1:]), (*theirs[0].get_weights(), *theirs[1:])
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_frozen_layer_keeps_its_averages():
    layer = BatchNormalization()
    layer.trainable = False
    assert np.array_equal(layer(MAPS, training=True), layer(MAPS))
    np.testing.assert_array_equal(layer.get_weights()[2], 0)


def test_half_precision_comes_back_as_such():
    model, losses, _ = trained(BatchNormalization, MAPS, "mixed_bfloat16")
    assert keras.backend.standardize_dtype(model.get_layer("norm").output.dtype) == "bfloat16"
    np.testing.assert_allclose(losses, trained(BatchNormalization, MAPS)[1], rtol=0.05)


def test_is_saved_and_loaded(tmp_path):
    model, _, outputs = trained(BatchNormalization, MAPS)
    model.save(tmp_path / "a.keras")
    loaded = keras.saving.load_model(tmp_path / "a.keras")
    assert isinstance(loaded.get_layer("norm"), BatchNormalization)
    np.testing.assert_allclose(loaded.predict(MAPS, verbose=0), outputs, rtol=1e-6)


def network(seed):
    """Convolutions with and without a normalisation that can be folded, one model in another."""
    kinds, generator = keras.layers, np.random.default_rng(seed)
    image = kinds.Input((6, 6, 4))
    x = BatchNormalization(name="a_norm")(kinds.Conv2D(5, 3, use_bias=False, name="a")(image))
    x = kinds.DepthwiseConv2D(3, depth_multiplier=2, padding="same", name="b")(x)
    x = kinds.ReLU()(kinds.BatchNormalization(epsilon=0.1, name="b_norm")(x))
    inner = keras.Model(image, x, name="inner")
    image = kinds.Input((6, 6, 4))
    x = kinds.BatchNormalization(name="c_norm")(kinds.Conv2D(3, 1, activation="relu")(inner(image)))
    seen_twice = kinds.Conv2D(3, 1, name="d")(x)
    x = kinds.Add()([seen_twice, BatchNormalization(name="d_norm")(seen_twice)])
    shown = kinds.Conv2D(2, 1, name="e")(x)
    last = kinds.BatchNormalization(name="f_norm")(kinds.Conv2D(2, 1, name="f")(x))
    model = keras.Model(image, [shown, BatchNormalization(name="e_norm")(shown), last])
    model.set_weights([generator.uniform(0.2, 1, w.shape) for w in model.get_weights()])
    return model


def test_folded_convolutions_do_the_same():
    first, second = network(1), network(2)
    before = [weights.copy() for weights in first.get_weights()]
    copy = fold(first)
    left = [layer.name for layer in copy.layers + copy.get_layer("inner").layers]
    assert [name for name in sorted(left) if "norm" in name] == ["c_norm", "d_norm", "e_norm"]
    maps = np.resize(MAPS, (8, 6, 6, 4))
    for model in (first, second):
        assert fold(model, copy) is copy
        for ours, theirs in zip(copy.predict(maps, verbose=0), model.predict(maps, verbose=0)):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    for one, other in zip(first.get_weights(), before):
        np.testing.assert_array_equal(one, other)
