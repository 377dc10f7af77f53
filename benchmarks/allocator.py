"""What it brings that freed memory is kept, as `src` tells GNU's C library to do.

A network of the demo trains on noise in processes of its own, with and without, in turn. In one
process they could not be compared: the state of the heap after the first decides for both.
"""

import subprocess
import sys

import numpy as np

from benchmarks import is_quick, record
from src.config import ROOT

NUM_TURNS = 3
CODE = """
import ctypes, resource, sys
from unittest import mock
name, kept, num_pictures, side = sys.argv[1], sys.argv[2] == "kept", *map(int, sys.argv[3:])
with mock.patch("ctypes.CDLL", ctypes.CDLL if kept else mock.Mock(side_effect=OSError)):
    import src
from benchmarks import training, timed
from src.detectors import models
study = training.get_study("demo")
network = {each.name: each for each in (*study.direct, study.fourier)}[name]
model = training.compiled(models.build(network, side))
pixels = training.np.random.default_rng(0).integers(0, 256, (num_pictures, side, side, 3), "uint8")
training.ours(model, pixels, training.BATCH_SIZE)  # compiles
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
_, seconds, _ = timed(training.ours, model, pixels, training.BATCH_SIZE)
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(num_pictures / seconds, faults / num_pictures)
"""


def child(*arguments) -> list[float]:
    """Images a second, and page faults an image, of one process."""
    command = [sys.executable, "-c", CODE, *map(str, arguments)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [float(text) for text in ended.stdout.split()[-2:]]


def main() -> None:
    size, num_turns = ((16, 32), 1) if is_quick(__doc__) else ((128, 96), NUM_TURNS)
    found = {"kept": [], "freed": []}
    for _ in range(num_turns):
        for way, measured in found.items():
            measured.append(child("VGG16_V3", way, *size))
    (kept, few), (freed, many) = (np.transpose(measured) for measured in found.values())
    claim = "training VGG16_V3, a new process"
    record(claim, "ours, freed memory kept", "images/s", kept)
    record(claim, "freed memory given back", "images/s", freed, kept / freed)
    record(claim, "ours, page faults", "an image", few)
    record(claim, "page faults where given back", "an image", many)


if __name__ == "__main__":
    main()
