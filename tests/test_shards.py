"""Work over shards: the same results from threads and from a cluster, whatever dies."""

import os
import signal
import subprocess
import sys
from functools import partial

import cloudpickle
import keras
import numpy as np
import pytest
from made_pictures import make_files

from src import config, shards
from src.config import ROOT
from src.detectors import scoring
from src.pictures import store
from src.pictures.decoding import UnreadableImage
from src.shards import ClusterError, map_files, over

distributed = pytest.importorskip("distributed", reason="Needs requirements-cluster.txt.")
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not see the tests
STEPS = ("jpeg:75", "resize:8")
CLUSTER = """
import sys, time
from distributed import LocalCluster
options = {"dashboard_address": None, "threads_per_worker": 1, "protocol": "tcp://"}
with LocalCluster(n_workers=int(sys.argv[1]), processes=False, **options) as cluster:
    print(cluster.scheduler_address, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes on loopback; one that dies is replaced."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        pytest.MonkeyPatch.context() as patch,
        distributed.LocalCluster(silence_logs=50, **options) as made,
    ):
        patch.setenv("PYTHONPATH", str(ROOT))
        client = shards._connect(made.scheduler_address)
        yield made.scheduler_address
        client.close()


@pytest.fixture
def on_cluster(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(config, "HOME", tmp_path)
    monkeypatch.setenv(shards.SCHEDULER, cluster)
    yield
    assert not list(tmp_path.glob(".cluster*"))


@pytest.fixture
def start(monkeypatch, tmp_path):
    """Starts a cluster in a process of its own, of so many workers; returns the process."""
    started = []
    monkeypatch.setattr(config, "HOME", tmp_path)
    monkeypatch.setattr(shards, "_SECONDS", 2)

    def run(num_workers, folder=ROOT):
        command = [sys.executable, "-c", CLUSTER, str(num_workers)]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        environment = {key: os.environ[key] for key in os.environ if key != "PYTHONPATH"}
        started.append(subprocess.Popen(command, cwd=folder, env=environment, **options))
        monkeypatch.setenv(shards.SCHEDULER, started[-1].stdout.readline().strip())
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def die_once(flag, write_block, part, block):
    """Writes half a shard; then the first worker that comes here is killed."""
    place, rows = block
    write_block(part, (place, rows[: len(rows) // 2]))
    if place > 1000 and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return write_block(part, block)


def test_map_files_keeps_the_order():
    names = [f"{index}.png" for index in range(1200)]
    assert map_files(str.upper, names, 4, "names") == [name.upper() for name in names]


def test_a_store_is_the_same_from_a_cluster_that_lost_a_worker(on_cluster, tmp_path, monkeypatch):
    files = make_files(tmp_path / "in", 40)
    monkeypatch.setattr(store, "_BLOCK_BYTES", 4 * 8 * 8 * 3)
    with monkeypatch.context() as patch:
        flag = tmp_path / "died"
        patch.setattr(store, "_write_block", partial(die_once, flag, store._write_block))
        made = store.prepare(files, STEPS, tmp_path / "cluster").folder
    assert flag.exists()
    monkeypatch.delenv(shards.SCHEDULER)
    alone = store.prepare(files, STEPS, tmp_path / "alone").folder
    assert alone.name == made.name
    assert (alone / "pixels.npy").read_bytes() == (made / "pixels.npy").read_bytes()


def test_scores_are_the_same_from_a_cluster(on_cluster, tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (70, 8, 8, 3), dtype="uint8")
    np.save(tmp_path / "pixels.npy", pixels)
    image = keras.Input((8, 8, 3), dtype="uint8")
    features = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    model = keras.Model(image, keras.layers.Dense(1, activation="sigmoid")(features))
    work = partial(scoring._predict, model, str(tmp_path / "pixels.npy"))
    rows = np.split(np.arange(70), [64])
    found = np.concatenate([*over(work, rows, 1)])
    monkeypatch.delenv(shards.SCHEDULER)
    expected = np.concatenate([*over(work, rows, 1)])
    assert found.shape == (70,)
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # another process, other last digits


def test_errors_of_the_work_come_as_they_are(on_cluster, tmp_path):
    files = make_files(tmp_path / "in", 3)
    files[1].write_bytes(files[1].read_bytes()[:200])
    with pytest.raises(UnreadableImage, match=r"1\.png: .*truncated"):
        store.prepare(files, STEPS, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        map_files(os.path.getsize, ["none.png"], 2, "sizes")


def test_a_worker_that_cannot_see_the_data_is_named(on_cluster, monkeypatch, tmp_path):
    monkeypatch.setattr(shards, "write_text", lambda *_: None)
    with pytest.raises(ClusterError, match=f"does not see {tmp_path}. Every .* that all share"):
        next(over(len, ["ab"], 1))


def test_a_worker_of_another_version_is_named(on_cluster, monkeypatch):
    other = shards._versions() | {"pillow": "1.0"}
    monkeypatch.setattr(shards, "_versions", lambda: other)
    with pytest.raises(ClusterError, match=r"pillow: \S+ here, 1.0 there. Use one environment"):
        next(over(len, ["ab"], 1))


def test_a_shard_that_ends_every_worker_is_given_up(on_cluster):
    with pytest.raises(ClusterError, match="ended several workers.*start fewer workers"):
        next(over(lambda _: os.kill(os.getpid(), signal.SIGKILL), [0], 1))


def test_a_cluster_without_workers_is_told(start):
    start(0)
    with pytest.raises(ClusterError, match="has no worker after 2 s. Start some"):
        next(over(len, ["ab"], 1))


def test_a_cluster_without_the_project_is_told(start, tmp_path):
    start(1, tmp_path)
    with pytest.raises(ClusterError, match="lack code: No module named 'src'. Start both in"):
        next(over(len, ["ab"], 1))


def test_a_scheduler_that_dies_or_never_lived_is_told(start):
    process = start(1)
    values = over(len, [["ab"]] * 50, 1)
    assert next(values) == 1
    process.kill()
    with pytest.raises(ClusterError, match="stopped .* goes on from there"):
        list(values)
    with pytest.raises(ClusterError, match=f"No scheduler answers at {shards.SCHEDULER}=tcp"):
        next(over(len, ["ab"], 1))


def test_dask_is_asked_for(monkeypatch):
    monkeypatch.setenv(shards.SCHEDULER, "tcp://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match="pip install -r requirements-cluster.txt"):
        next(over(len, ["ab"], 1))
