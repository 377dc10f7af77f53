"""What larger collections would cost on larger machines: on paper, from measured rates.

Measured: pictures per second and core that are prepared (`benchmarks.pixel_store`, from
`results.csv`), pairs a second that are compared for ties, shards a second that a scheduler hands
out, bytes of memory a record takes. Counted: the multiplications of a network. Assumed: what a GPU
sustains and how fast the shared disk is (`MACHINES`). The slowest of parts that run at the same
time decides; those that follow each other are added. `docs/scale.md` holds the table.
"""

import os
from dataclasses import replace
from typing import NamedTuple
from unittest.mock import patch

import keras
import numpy as np
import pandas as pd
from keras import layers

from benchmarks import RESULTS, is_quick, put, timed
from src import shards
from src.config import ROOT, get_study
from src.data.ties import GRID, match_backgrounds
from src.detectors import models
from src.pictures.store import _BLOCK_BYTES

GPU_FLOPS = 40e12  # sustained: a tenth of what the largest of 2024 promise. No GPU was at hand
FILE_BYTES, ROW_BYTES, EPOCHS = 50_000, 224 * 224 * 3, 10
NUM_PICTURES = 120_000, 2_700_000, 100_000_000


class Machine(NamedTuple):
    name: str
    hosts: int
    cores: int  # of all hosts, as are the GPUs
    gpus: int
    disk: float  # bytes a second that all hosts together read from or write to the shared folder


MACHINES = (
    Machine("1 GPU, 8 cores", 1, 8, 1, 1e9),
    Machine("8 GPUs, 64 cores", 1, 64, 8, 4e9),
    Machine("64 hosts of these", 64, 4096, 512, 40e9),
)


class Rates(NamedTuple):
    prepared: float  # pictures per second and core
    pairs: float  # per second and core
    shards: float  # a second
    record: float  # bytes
    multiplications: float  # of a network, a picture


def measure() -> Rates:
    """The rates of this machine."""
    rows = pd.read_csv(RESULTS)
    rows = rows[(rows["claim"] == "preparing the store") & (rows["candidate"] == "ours")]
    if rows.empty:
        raise FileNotFoundError(f"{RESULTS} lacks a rate: python -m benchmarks.pixel_store first.")
    prepared = rows["median"].iloc[-1] / 2  # two threads
    thumbnails = np.random.default_rng(0).integers(0, 256, (2, 3000, GRID, GRID), dtype=np.uint8)
    cores = len(os.sched_getaffinity(0))
    pairs = 3000**2 / timed(match_backgrounds, *thumbnails)[1] / cores
    table = pd.DataFrame({"path": [f"raw/insight/{index:012d}.jpg" for index in range(10_000)]})
    record = 8 * table.memory_usage(deep=True).sum() / len(table)  # texts, in tables and lists
    network = models.build(replace(get_study("full").direct[3], weights=None), 224)
    return Rates(prepared, pairs, shards_a_second(), record, multiplications(network))


def shards_a_second() -> float:
    """How many shards without work a scheduler hands to one worker, and back."""
    from distributed import LocalCluster

    options = {"processes": False, "protocol": "tcp://", "dashboard_address": None}
    with LocalCluster(n_workers=1, threads_per_worker=1, **options) as cluster:
        with patch.dict(os.environ, {shards.SCHEDULER: cluster.scheduler_address}):
            list(shards.over(len, [""], 1))
            seconds = timed(lambda: list(shards.over(len, [""] * 500, 1)))[1]
            shards._connect(cluster.scheduler_address).close()
    return 500 / seconds


def multiplications(model: keras.Model) -> int:
    """Of one picture's way through the convolutions and dense layers of a network."""
    total, kinds = 0, (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense)
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, kinds):  # a dense layer has one place
            total += int(np.prod(layer.kernel.shape)) * int(np.prod(layer.output.shape[1:-1]))
    return total


def hours(machine: Machine, num: int, rates: Rates) -> dict[str, float]:
    """Each part of the work, alone; the first three run at the same time."""
    flops = 2 * num * rates.multiplications / (machine.gpus * GPU_FLOPS)
    seconds = {
        "decoding": num / (rates.prepared * machine.cores),
        "disk, preparing": num * (2 * FILE_BYTES + ROW_BYTES) / machine.disk,
        "scheduler": num * ROW_BYTES / _BLOCK_BYTES / rates.shards * (machine.hosts > 1),
        "ties": (num / 4) ** 2 / (rates.pairs * machine.cores / machine.hosts),
        "training": EPOCHS * 3 * flops,
        "disk, training": EPOCHS * num * ROW_BYTES / machine.disk,
        "scoring": flops,
    }
    return {name: value / 3600 for name, value in seconds.items()}


def rounded(value: float) -> str:
    """Two digits, written out."""
    return np.format_float_positional(float(f"{value:.2g}"), trim="-")


def table(rates: Rates) -> str:
    lines = ["| pictures | machine | prepare | ties | train | score | disk | memory | slowest |"]
    lines.append("|" + " --- |" * 9)
    for num in NUM_PICTURES:
        for machine in MACHINES:
            part = hours(machine, num, rates)
            prepare = max(part["decoding"], part["disk, preparing"], part["scheduler"])
            train = max(part["training"], part["disk, training"])
            times = [prepare, part["ties"], train, part["scoring"]]
            disk, memory = num * (FILE_BYTES + ROW_BYTES) / 1e12, num * rates.record / 1e9
            cells = [f"{num:,}", machine.name, *(f"{rounded(value)} h" for value in times)]
            cells += [f"{rounded(disk)} TB", f"{rounded(memory)} GB", max(part, key=part.get)]
            lines.append("| " + " | ".join(cells) + " |")
    values = [f"prepared {rates.prepared:,.0f} pictures per second and core"]
    values += [f"compared {rates.pairs:,.0f} pairs per second and core"]
    values += [f"handed out {rates.shards:,.0f} shards per second"]
    values += [f"kept a record in {rates.record:,.0f} bytes"]
    network = f"DenseNet121 takes {rates.multiplications / 1e9:.1f} billion multiplications"
    return "\n".join([*lines, "", f"This machine {', '.join(values)}; {network} a picture."])


def main() -> None:
    quick = is_quick(__doc__)
    text = table(Rates(100, 1e6, 500, 600, 3e9) if quick else measure())
    print(text)
    if not quick:
        put(ROOT / "docs" / "scale.md", "costs", text)


if __name__ == "__main__":
    main()
