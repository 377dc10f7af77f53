"""Work over shards: in threads of this machine, or on the machines of a Dask cluster.

`TRUE_OR_FAKE_SCHEDULER=tcp://host:port` alone chooses the cluster. Every worker must see the data's
folder under the same path and have the same code; each shard checks both.
"""

import hashlib
import os
import pickle
import platform
import socket
import uuid
from asyncio import TimeoutError
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import cache
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import cv2

from . import config
from .files import progress, write_text

SCHEDULER = "TRUE_OR_FAKE_SCHEDULER"

_SECONDS = 20  # that a scheduler may take to answer, then a first worker
_PACKAGES = "distributed", "keras", "numpy", "pillow", "scipy"
_GO_ON = "What was finished is kept: the same command goes on from there."


class ClusterError(RuntimeError):
    """The cluster cannot do the work; the text says why and what to do."""


def over(function: Callable, shards: Sequence, num_threads: int) -> Iterator:
    """The function's value for every shard, in order.

    Args:
        function: Of one shard; it and its values can be pickled. When a worker dies, it is called
            again with the same shard: it must write the same.
        shards: Small descriptions of the work, such as file names or rows.
        num_threads: On this machine; on a cluster, every thread of every worker takes shards.

    Raises:
        ClusterError: If Dask is missing, no scheduler or worker answers, the scheduler stops, one
            shard ends several workers, or a worker lacks the data or has other versions of code.
            The function's own errors are not changed.
    """
    if address := os.environ.get(SCHEDULER):
        yield from _on_cluster(function, shards, address)
    elif num_threads == 1:
        yield from map(function, shards)
    else:
        with ThreadPoolExecutor(num_threads) as pool:
            yield from pool.map(function, shards)


def map_files(function: Callable, files: Sequence, num_threads: int, title: str) -> list:
    """The function's value for every file, in order, by `over`."""
    size = min(max(len(files) // (8 * num_threads), 1), 64)
    shards, values = [files[start : start + size] for start in range(0, len(files), size)], []
    with progress(None, title, len(files), disable=len(files) < 1000) as bar:
        for part in over(lambda part: [*map(function, part)], shards, num_threads):
            values += part
            bar.update(len(part))
    return values


def _on_cluster(function: Callable, shards: Sequence, address: str) -> Iterator:
    """`over` on the cluster of a scheduler; at most three shards a thread are under way."""
    client = _connect(address)
    import cloudpickle
    import dask
    from distributed import KilledWorker
    from distributed.comm import CommClosedError

    token, text = config.HOME / f".cluster-{uuid.uuid4().hex}", socket.gethostname()
    write_text(token, text)
    remaining, running = iter(shards), deque()
    try:
        # It is sent once to each worker: it may hold a network.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "2 GB"}):
            work = client.submit(pickle.loads, cloudpickle.dumps(function), pure=False)
        options = {"token": token, "text": text, "expected": _versions(), "pure": False}
        num_threads = 0
        while True:
            if len(running) <= num_threads:  # workers may have come or gone
                num_threads = max(sum(client.nthreads().values()), 1)
                for shard in islice(remaining, max(3 * num_threads - len(running), 0)):
                    running.append(client.submit(_checked, work, shard, **options))
            if not running:
                return
            yield running.popleft().result()
    except KilledWorker as error:
        advice = f"Most often memory was short: start fewer workers. {_GO_ON}"
        raise ClusterError(f"One shard ended several workers: {error}. {advice}") from error
    except (ImportError, RuntimeError) as error:
        missing = error if isinstance(error, ImportError) else error.__cause__
        if not isinstance(missing, ImportError):
            raise
        advice = "Start both in the project's folder, with PYTHONPATH=. and the same packages"
        raise ClusterError(f"Scheduler or worker lack code: {missing}. {advice}.") from error
    except (CancelledError, OSError) as error:
        if not isinstance(error, (CancelledError, CommClosedError)) and client.status == "running":
            raise  # the function's own
        _connect.cache_clear()
        raise ClusterError(f"The scheduler at {address} stopped ({error!r}). {_GO_ON}") from error
    finally:
        if client.status == "running":
            client.cancel(list(running))
        token.unlink(missing_ok=True)


@cache
def _connect(address: str):
    """A client of the cluster, once a process."""
    try:
        from distributed import Client
    except ImportError as error:
        advice = "pip install -r requirements-cluster.txt, on every machine"
        raise ClusterError(f"{SCHEDULER} is set, but Dask is not installed: {advice}.") from error
    try:
        client = Client(address, timeout=_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"No scheduler answers at {SCHEDULER}={address} ({error}). Start one in the project's "
            "folder, `PYTHONPATH=. dask scheduler`, or unset the variable to work on this machine."
        ) from error
    try:
        client.wait_for_workers(1, timeout=_SECONDS)
    except TimeoutError as error:
        client.close()
        raise ClusterError(
            f"The scheduler at {address} has no worker after {_SECONDS} s. Start some, in the "
            f"project's folder: `PYTHONPATH=. dask worker {address} --nthreads 1 --nworkers 4`."
        ) from error
    return client


def _checked(function: Callable, shard, *, token: Path, text: str, expected: dict[str, str]):
    """The function's value for a shard, if this worker sees the data and has the same code."""
    found, host = _versions(), socket.gethostname()
    if differ := [name for name in expected if found[name] != expected[name]]:
        told = "; ".join(f"{name}: {found[name]} here, {expected[name]} there" for name in differ)
        raise ClusterError(
            f"Worker on {host}: its versions differ from those of the machine that sends the work. "
            f"{told}. Use one environment and one copy of the project."
        )
    if not token.exists() or token.read_text(encoding="utf-8") != text:
        raise ClusterError(
            f"Worker on {host} does not see {token.parent}. Every machine needs the data under the "
            "same path: set TRUE_OR_FAKE_HOME to a folder that all share."
        )
    return function(shard)


@cache
def _versions() -> dict[str, str]:
    """The versions that pixels and scores depend on."""
    code, found = hashlib.sha256(), {name: version(name) for name in _PACKAGES}
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        code.update(file.read_bytes())
    found |= {"python": platform.python_version(), "backend": os.environ["KERAS_BACKEND"]}
    return found | {"opencv": cv2.__version__, "src": code.hexdigest()[:12]}
