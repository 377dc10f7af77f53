"""One training on two devices, of one process or of two, is the training on one device."""

import json
import os
import signal
import socket
import subprocess
import sys

import keras
import pandas as pd
import pytest
from made_networks import SETTINGS, batches_of, pixels_and_labels, small_model

from src.config import ROOT
from src.detectors.training import train
from src.devices import join_processes
from src.pictures.batches import Batches

pytestmark = pytest.mark.skipif(keras.backend.backend() != "jax", reason="Needs JAX.")
TOLERANCE = 1e-4  # of losses: sums over two devices are rounded otherwise
TRAIN = """
import os, signal, sys, traceback
from pathlib import Path
import src
from made_networks import SETTINGS, batches_of, pixels_and_labels, small_model
from src.detectors import training
from src.devices import is_first, join_processes
from src.pictures.batches import Batches

class KilledBatches(Batches):
    def __getitem__(self, index):
        if not is_first() and self.epoch == 1 and index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)

join_processes()
if not is_first():
    training.write_json = training.write_atomically = None  # so that it cannot write
batches = batches_of(*pixels_and_labels())
if len(sys.argv) > 2:
    batches[0].__class__ = KilledBatches
try:
    training.train(small_model(), *batches, Path(sys.argv[1]), SETTINGS)
except RuntimeError:
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(3)  # an ordinary exit waits 100 s for the lost process
"""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(stem, *, num_devices=1, num_processes=1, dies=False):
    """Trains in other processes; returns their statuses and what they said."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    flag = f"--xla_force_host_platform_device_count={num_devices}"
    environment["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
    environment["KERAS_DISTRIBUTION_JOB_ADDRESSES"] = f"127.0.0.1:{free_port()}"
    environment["KERAS_DISTRIBUTION_NUM_PROCESSES"] = str(num_processes)
    running = []
    for index in range(num_processes):
        command = [sys.executable, "-c", TRAIN, str(stem), *["dies"] * dies]
        environment["KERAS_DISTRIBUTION_PROCESS_ID"] = str(index)
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        running.append(subprocess.Popen(command, env=environment.copy(), **options))
    said = [process.communicate(timeout=200)[0] for process in running]
    return [process.returncode for process in running], said


def history(stem):
    return pd.read_csv(f"{stem}.history.csv").filter(regex="loss|auc|accuracy")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    stem = tmp_path_factory.mktemp("alone") / "small"
    train(small_model(), *batches_of(*pixels_and_labels()), stem, SETTINGS)
    return history(stem)


def test_two_devices_of_one_process(alone, tmp_path):
    statuses, said = start(tmp_path / "small", num_devices=2)
    assert statuses == [0], said
    pd.testing.assert_frame_equal(history(tmp_path / "small"), alone, atol=TOLERANCE)


def test_two_processes_one_of_them_lost_and_both_begun_again(alone, tmp_path):
    stem = tmp_path / "small"
    statuses, said = start(stem, num_processes=2, dies=True)
    assert statuses == [3, -signal.SIGKILL] and "because another was lost" in said[0], said
    saved = json.loads((tmp_path / "small.partial" / "progress.json").read_text())
    assert len(saved["rows"]) == 1
    statuses, said = start(stem, num_processes=2)
    assert statuses == [0, 0], said
    pd.testing.assert_frame_equal(history(stem), alone, atol=TOLERANCE)
    assert not (tmp_path / "small.partial").exists()


def test_a_batch_has_a_part_for_every_device(tmp_path):
    pixels = pd.Series(range(7)).to_numpy()
    batches = Batches(pixels, batch_size=4, shuffle=False)
    parts = [batches.part(range(index, index + 1), 2) for index in range(2)]
    assert [[part[index][0].tolist() for part in parts] for index in range(2)] == [
        [[0, 1], [2, 3]],
        [[4, 5], [6, 4]],
    ]
    with pytest.raises(ValueError, match="divides by 3 devices; use fewer. Received: 4"):
        batches.part(range(1), 3)


def test_processes_need_jax(monkeypatch):
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "2")
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    with pytest.raises(ValueError, match="KERAS_BACKEND=jax. Received .*=2 on tensorflow"):
        join_processes()
