"""Fixtures shared by the tests. Nothing here or in any test needs the network or files outside the
repository."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "agg")


def pytest_collection_modifyitems(items):
    """What takes longest begins first, so that no process waits for it at the end."""
    items.sort(key=lambda item: "test_check_notebooks" not in item.nodeid)
