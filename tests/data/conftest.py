"""A study with a home of its own, and a server that fails in every way."""

import dataclasses
import sys

import pytest
from faulty_server import FaultyServer

from src import config
from src.data import members, transfer
from src.data.sources import MIRROR


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "HOME", tmp_path / "a folder with späces")
    return dataclasses.replace(config.get_study("tiny"), name="made")


@pytest.fixture
def alone(monkeypatch):
    """No test waits long, or sees Kaggle, the mirror, the token or the proxies of this machine."""
    hasty = {"_TIMEOUTS": (2, 0.3), "_BACKOFF": 0.001, "_LONGEST_WAIT": 0.01, "_CHUNK_BYTES": 512}
    for name, value in hasty.items():
        monkeypatch.setattr(transfer, name, value)
    monkeypatch.setattr(members, "_RUN_FILES", 3)
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    proxies = (f"{kind}_PROXY" for kind in ("HTTP", "HTTPS", "ALL", "NO"))
    for name in (MIRROR, "HF_TOKEN", "HF_ENDPOINT", *proxies):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server():
    with FaultyServer() as running:
        yield running


@pytest.fixture
def places(tmp_path):
    return tmp_path / "archives", tmp_path / "raw"
