"""Training on all devices of this machine, and of others that run the same command.

Only on the JAX backend does Keras spread batches over devices. Several processes join one training
when each has `KERAS_DISTRIBUTION_JOB_ADDRESSES` (host:port of the first), `…_NUM_PROCESSES` and
`…_PROCESS_ID` in its environment.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import keras

_PROCESSES = "KERAS_DISTRIBUTION_NUM_PROCESSES"


def join_processes() -> None:
    """Joins the other processes of a training, if the environment names any; JAX only."""
    if int(os.environ.get(_PROCESSES) or 1) == 1:
        return
    if keras.backend.backend() != "jax":
        received = f"Received {_PROCESSES}={os.environ[_PROCESSES]} on {keras.backend.backend()}."
        raise ValueError(f"Training in several processes needs JAX: KERAS_BACKEND=jax. {received}")
    keras.distribution.initialize()


def process() -> tuple[int, int]:
    """The number of this process among those of a training, from 0, and how many there are."""
    if keras.backend.backend() != "jax":
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


def is_first() -> bool:
    """Whether this process is the one of a training that writes files."""
    return process()[0] == 0


def wait_for_all(what: str) -> None:
    """Returns when every process of a training has called it."""
    if process()[1] > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(what)


@contextmanager
def every_device() -> Iterator[tuple[range, int]]:
    """In this block, JAX builds models on all devices of all processes, and computes on them.

    Yields which devices belong to this process, and how many there are: `(range(1), 1)` without
    JAX. Write files outside: Keras makes variables as it writes, and all processes must make them.
    """
    num_devices, (index, num_processes) = len(keras.distribution.list_devices()), process()
    if keras.backend.backend() != "jax" or num_devices == 1:
        yield range(1), 1
        return
    num_own = num_devices // num_processes
    try:
        with keras.distribution.DataParallel(auto_shard_dataset=False).scope():
            yield range(index * num_own, (index + 1) * num_own), num_devices
    except Exception as error:  # JAX reports a lost connection by errors of several kinds
        if num_processes == 1:
            raise
        raise RuntimeError(
            f"Process {index} of {num_processes} stopped, most often because another was lost. "
            "Start all or fewer again: the training goes on after its last full epoch."
        ) from error
