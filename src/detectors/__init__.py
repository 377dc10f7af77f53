"""The networks: models, training, scoring, explanations, robustness."""

from .. import quiet

with quiet():  # TensorFlow logs much when it starts
    import keras  # noqa: F401
