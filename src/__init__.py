"""True or Fake: what detectors of generated faces really learn.

Importing the package chooses Keras' backend: TensorFlow, unless `KERAS_BACKEND` says otherwise.
"""

import ctypes
import logging
import os
import platform
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from threadpoolctl import threadpool_limits

from .config import ROOT, get_study

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# GNU's C library gives what is freed back to the system. A training step on a CPU frees hundreds
# of MB, and the next one takes them again, page by page: `benchmarks/allocator.py` times it.
with suppress(AttributeError, OSError, TypeError):  # other C libraries have no `mallopt`
    _C_LIBRARY = ctypes.CDLL(None)
    _C_LIBRARY.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD: only larger blocks go back at once
    _C_LIBRARY.mallopt(-2, 2**26)  # M_TOP_PAD: bytes that a heap keeps beyond its use


def setup(name: str = "demo", after: Sequence[str] = ()):
    """Prepares a notebook: chooses the study, makes what is missing, seeds, says what runs where.

    Args:
        name: The study's name. The environment variable `STUDY`, when set, wins.
        after: Numbers of the notebooks whose results this one reads, for example `["01"]`. Those
            that have not been run are run first; if one stops, this is a `RuntimeError`.

    Returns:
        The `Study`; a `ValueError` if there is none of that name.
    """
    # Jupyter's progress widget is not used: bars go to standard output.
    warnings.filterwarnings("ignore", message="IProgress not found")
    # Notebooks run two at a time, and threads of BLAS use a core even while they wait for one.
    threadpool_limits(1, user_api="blas")  # for libraries that are loaded
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # for those that will be
    study = get_study(os.environ.get("STUDY") or name)
    for folder in (study.data, study.models, study.figures):
        folder.mkdir(parents=True, exist_ok=True)
    _run_missing(study, after)
    with quiet():  # the first use of the device prints messages, too
        import keras

        from .devices import join_processes

        join_processes()
        keras.ops.ones(1)
    # TensorFlow warns when several models are called in one process, which is what a study does.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    keras.utils.set_random_seed(study.seed)
    devices = ", ".join(keras.distribution.list_devices()) or "cpu"
    if "gpu" in devices.lower():
        study = replace(study, **study.on_gpu)
    print(
        f"Study {study.name!r} ({study.description}) · Python {platform.python_version()} · "
        f"Keras {keras.__version__} on {keras.backend.backend()} · {devices}"
    )
    return study


def _run_missing(study, numbers: Sequence[str]) -> None:
    """Runs those of the notebooks whose results are not there, and shows what they print."""
    last = {"02": "Metadata", "03": study.probe.name, "04": study.fourier.name}
    last["05"] = study.autoencoder.classifier.name
    results = {key: f"scores/{model}-controlled.parquet" for key, model in last.items()}
    results["01"] = "rejected.csv"
    missing = [number for number in numbers if not (study.data / results[number]).exists()]
    if not missing:
        return
    names = ", ".join(missing)
    print(f"Not run on this machine yet: notebooks {names}. They run first:", flush=True)
    command = [sys.executable, "-u", "-m", "tools.run_notebooks", *missing]
    options = {"cwd": ROOT, "env": os.environ | {"STUDY": study.name}, "text": True}
    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, **options) as run:
        for line in run.stdout:
            print(line, end="", flush=True)
    if run.returncode:
        advice = "Correct what its message above says, then run this cell again."
        raise RuntimeError(f"One of the notebooks {names} stopped with an error. {advice}")


@contextmanager
def quiet():
    """Inside, what is written to file descriptor 2 is shown only if an error is raised."""
    with tempfile.TemporaryFile() as messages:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(messages.fileno(), 2)
        try:
            yield
        except BaseException:
            messages.seek(0)
            os.write(stderr, messages.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
