"""Fixtures shared by the tests. Nothing here or in any test needs the network or files outside the
repository."""

import os

import pytest

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "agg")


def pytest_collection_modifyitems(items):
    """What takes longest begins first, so that no process waits for it at the end."""
    items.sort(key=lambda item: "test_check_notebooks" not in item.nodeid)


@pytest.fixture(scope="session")
def eager():
    """TensorFlow traces no graphs, which would take longer than a few steps. The notebooks do."""
    if os.environ["KERAS_BACKEND"] != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
