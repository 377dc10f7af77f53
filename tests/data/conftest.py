"""A study with a home of its own, a server that fails in every way, notebook 1 on a mirror."""

import dataclasses
import os
import sys
import tempfile
import threading
from pathlib import Path

import matplotlib
import pytest
from faulty_server import FaultyServer
from notebook_cells import run_notebook

from simulator.archives import truth
from simulator.server import serve
from src import config
from src.data import catalog, members, transfer
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
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def many_files():
    """A folder for thousands of files, in memory where the system has such a folder."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def places(tmp_path):
    return tmp_path / "archives", tmp_path / "raw"


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def mirror(tmp_path_factory, patch):
    """A folder that is served as the mirror for a study with a home of its own."""
    folder = tmp_path_factory.mktemp("mirror")
    patch.setattr(config, "HOME", tmp_path_factory.mktemp("home"))
    patch.chdir(config.ROOT / "notebooks")
    patch.setattr(sys, "path", list(sys.path))  # the setup cell adds to it
    matplotlib.use("agg")
    with serve(folder) as address:
        patch.setenv(MIRROR, address)
        yield folder


@pytest.fixture(scope="module")
def outcome(drawn):
    """Notebook 1: its variables, what it printed and wrote, and the truth on what was `drawn`."""
    notebook = run_notebook("01")
    notebook.deliveries = {delivery.name: delivery for delivery in notebook.deliveries}
    notebook.records = catalog.load(notebook.study)
    notebook.truth = truth(drawn).set_index("path")
    return notebook
