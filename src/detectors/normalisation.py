"""Batch normalisation: in training one operation, in inference none."""

import keras
import numpy as np
from keras import layers, ops


@keras.saving.register_keras_serializable(package="true_or_fake")
class BatchNormalization(layers.BatchNormalization):
    """That of Keras, faster: on TensorFlow, training normalises maps in one operation.

    Keras takes some ten, and each goes over the whole map `(N, H, W, C)`. On a CPU this was half
    the time of a training step of EfficientNet-Lite0. The results differ by rounding only.
    """

    def call(self, inputs, training=None, mask=None):
        """As the layer of Keras."""
        learns = training and self.trainable and len(inputs.shape) == 4 and mask is None
        if not learns or keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training, mask=mask)
        from tensorflow.compat.v1.nn import fused_batch_norm

        x, momentum = ops.cast(inputs, "float32"), self.momentum
        x, mean, variance = fused_batch_norm(x, self.gamma, self.beta, epsilon=self.epsilon)
        count = ops.cast(ops.size(inputs) // inputs.shape[-1], "float32")
        variance = variance * (count - 1) / count  # TensorFlow divides by count - 1, Keras by count
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * momentum + new * (1 - momentum))
        return ops.cast(x, self.compute_dtype)


def fold(model: keras.Model, copy: keras.Model | None = None) -> keras.Model:
    """A copy for inference: a normalisation behind a convolution becomes part of its weights.

    The outputs differ by rounding only (Jacob et al., CVPR 2018, section 3.2). `copy` is what an
    earlier call made of a model with the same layers: it takes the weights of this one.
    """
    every = list(model._flatten_layers())  # also those of models in the model
    norms = dict(_behind_convolutions(every))

    def cloned(layer):
        if layer in norms.values():
            return layer
        config = layer.get_config() | ({"use_bias": True} if layer in norms else {})
        new = type(layer).from_config(config)
        new.place = every.index(layer) if layer in every else None  # operations have no weights
        return new

    def called(layer, *args, **kwargs):
        return args[0] if layer in norms.values() else layer(*args, **kwargs)

    how = {"clone_function": cloned, "call_function": called, "recursive": True}
    copy = copy or keras.models.clone_model(model, **how)
    for layer in copy._flatten_layers():
        if hasattr(layer, "place"):
            original = every[layer.place]
            weights = original.get_weights()
            layer.set_weights(_folded(original, norms[original]) if original in norms else weights)
    return copy


def _behind_convolutions(every: list):
    """Pairs of a convolution and a normalisation that alone sees its output."""
    shown = [id(output) for part in every for output in getattr(part, "outputs", ())]
    for layer in every:
        if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)):
            users = [node.operation for node in layer._outbound_nodes]
            is_linear = layer.activation is keras.activations.linear
            if is_linear and len(users) == 1 and id(layer.output) not in shown:
                if isinstance(users[0], layers.BatchNormalization):
                    yield layer, users[0]


def _folded(layer: layers.Layer, norm: layers.BatchNormalization) -> list[np.ndarray]:
    """Kernel and bias of a convolution that does the work of a normalisation, too."""
    gamma, beta, mean, variance = norm.get_weights()
    scale = gamma / np.sqrt(variance + norm.epsilon)
    kernel, bias = layer.get_weights() if layer.use_bias else (layer.get_weights()[0], 0)
    is_depthwise = isinstance(layer, layers.DepthwiseConv2D)
    each = scale.reshape(kernel.shape[2:]) if is_depthwise else scale
    return [kernel * each, (bias - mean) * scale + beta]
