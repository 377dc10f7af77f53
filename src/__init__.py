"""True or Fake: what detectors of generated faces really learn.

The door of the package: importing it chooses Keras' backend (TensorFlow, unless `KERAS_BACKEND` says otherwise);
`setup` readies a notebook.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def setup(name: str = "demo"):
    """Readies a notebook: chooses the study, makes its folders, seeds, prints one line on what will run where.

    Args:
        name: The study's name. The environment variable `STUDY`, when set, wins, so that one command can run
            all the notebooks on another study without editing them.

    Returns:
        The `Study`.

    Raises:
        ValueError: If there is no study of that name.
    """
    import warnings

    from .config import get_study

    # A library wants a widget for its progress bars; none are shown here but on standard output.
    warnings.filterwarnings("ignore", message="IProgress not found")
    study = get_study(os.environ.get("STUDY") or name)
    for folder in (study.data, study.models, study.figures):
        folder.mkdir(parents=True, exist_ok=True)
    keras = _import_keras_quietly()
    keras.utils.set_random_seed(study.seed)

    import platform

    devices = ", ".join(keras.distribution.list_devices()) or "cpu"
    print(
        f"Study {study.name!r} ({study.description}) · Python {platform.python_version()} · "
        f"Keras {keras.__version__} on {keras.backend.backend()} · {devices}"
    )
    return study


def _import_keras_quietly():
    """Imports Keras while the backend's start-up chatter on file descriptor 2 is held back (shown if it fails)."""
    import logging
    import sys
    import tempfile

    with tempfile.TemporaryFile() as chatter:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(chatter.fileno(), 2)
        try:
            import keras

            keras.ops.ones(1)  # wakes the device, which chatters too
        except BaseException:
            chatter.seek(0)
            os.write(stderr, chatter.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
    # TensorFlow warns when several models are called in one process, which is what a study does.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    return keras
