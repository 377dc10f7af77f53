"""The networks: models, training, scoring, explanations, robustness."""

from .. import quiet

with quiet():  # TensorFlow has much to say when it starts
    import keras  # noqa: F401
