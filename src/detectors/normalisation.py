"""Batch normalisation in one operation."""

import keras
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
