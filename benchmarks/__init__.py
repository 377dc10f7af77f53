"""What takes how long, beside the plain way.

    python -m benchmarks                 all that has a goal; the table in the README; make bench
    python -m benchmarks.NAME [--quick]  one; --quick: so few pictures that only errors count

The candidates of a claim run in one process, on the same files, in turn. Every run adds its rows to
`results.csv`. A ratio is that of two neighbours in one turn: what else the machine does meets both.
"""

import argparse
import os
import platform
import resource
import subprocess
import time
from collections.abc import Callable
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

os.environ.setdefault("TQDM_DISABLE", "1")  # no bars between the rows

from src.files import write_text  # `src` chooses the backend, before Keras is imported

RESULTS = Path(__file__).with_name("results.csv")
NUM_TURNS = 5
LONG = 15  # seconds: if three turns took longer, there are no more


def timed(function, *arguments):
    """What the function returns, the seconds it took, and those of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    value = function(*arguments)
    return value, time.perf_counter() - wall, time.process_time() - processor


def is_quick(description: str) -> bool:
    """The command line of a benchmark: whether it was called with `--quick`."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=layout)
    parser.add_argument("--quick", action="store_true", help="few pictures: only errors count")
    os.environ["BENCHMARKS_QUICK"] = "1" if parser.parse_args().quick else ""
    return bool(os.environ["BENCHMARKS_QUICK"])


def race(
    claim: str, unit: str, candidates: dict[str, Callable[[], float]], goals: dict[str, float]
) -> dict[str, np.ndarray]:
    """Runs the candidates in turn, the first of which is ours, and records their rates.

    Args:
        claim: What they do.
        unit: Of their amounts, for example `"images"`.
        candidates: By name, a function that returns the amount it did.
        goals: How many times as fast ours is to be, at least, in the median of the turns.

    Returns:
        The rates of every turn, amounts a second, by name.
    """
    rates, begin = {name: [] for name in candidates}, time.perf_counter()
    for turn in range(1 if os.environ.get("BENCHMARKS_QUICK") else NUM_TURNS):
        if turn == 3 and time.perf_counter() - begin > LONG:
            break
        for name, work in candidates.items():
            amount, seconds, _ = timed(work)
            rates[name].append(amount / seconds)
    rates = {name: np.array(values) for name, values in rates.items()}
    ours = next(iter(rates.values()))
    for name, values in rates.items():
        record(claim, name, f"{unit}/s", values, ours / values, at_least=goals.get(name))
    return rates


def record(
    claim: str, name: str, unit: str, values, ratios=(), at_least=None, at_most=None
) -> None:
    """Prints a row and adds it to `results.csv`.

    A goal, `at_least` or `at_most`, is for the median of the ratios, or of the values if there are
    no ratios.
    """
    spans = "min", "median", "max"
    ratio_spans = "ratio_min", "ratio_median", "ratio_max"
    row = dict(zip(spans, np.quantile(values, [0, 0.5, 1])))
    row |= dict(zip(ratio_spans, np.quantile(ratios, [0, 0.5, 1]) if len(ratios) else [np.nan] * 3))
    judged, goal, reached = row["ratio_median" if len(ratios) else "median"], "", ""
    if at_least is not None:
        goal, reached = f"≥ {at_least:,g}", judged >= at_least
    elif at_most is not None:
        goal, reached = f"≤ {at_most:g}", judged <= at_most
    row = {"claim": claim, "candidate": name, "unit": unit, **row, "goal": goal, "reached": reached}
    row |= machine() | {"load": round(os.getloadavg()[0], 1)}
    row["quick"] = bool(os.environ.get("BENCHMARKS_QUICK"))
    row["date"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
    if not row["quick"]:
        table = pd.DataFrame([row]).round(4)
        table.to_csv(RESULTS, mode="a", header=not RESULTS.exists(), index=False)
    verdict = goal and f"goal {goal}: {'reached' if reached else 'NOT REACHED'}"
    rate, ratio = ("/".join(f"{row[key]:,.4g}" for key in keys) for keys in (spans, ratio_spans))
    ratio = f"ours is {ratio} times it" if len(ratios) else ""
    print(f"{claim:32} {name:34} {rate:>26} {unit:10} {ratio:36} {verdict}", flush=True)


@cache
def machine() -> dict[str, object]:
    """What a row says of the machine and of the code."""
    names = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = [line.split(": ")[1] for line in names.splitlines() if line.startswith("model name")]
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = model[0] if model else platform.processor()
    return {"machine": name, "cores": cores, "python": platform.python_version(), "commit": commit}


def peak() -> float:
    """The most memory that this process has had, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def draw_files(folder: Path, num_images: int, side: int = 512) -> list[Path]:
    """Writes noisy gradients as JPEG files, about as hard to decode as photographs."""
    random, slope = np.random.default_rng(0), np.add.outer(*2 * [np.arange(side)]) // 5
    files = [folder / ("real", "fake")[index % 2] / f"{index}.jpg" for index in range(num_images)]
    for index, file in enumerate(files):
        pixels = slope[..., None] + random.integers(0, 40, (side, side, 3)) + index % 20
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, quality=75)
    return files


@contextmanager
def second_process():
    """Inside, another process keeps every core busy."""
    context = get_context("spawn")
    busy = [context.Process(target=_spin, daemon=True) for _ in range(machine()["cores"])]
    for process in busy:
        process.start()
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.join()


def _spin() -> None:
    while True:
        pass


def put(file: Path, name: str, text: str) -> None:
    """Writes a text where a document has a place for it, `<!-- name -->` to `<!-- end -->`."""
    begin, end, old = f"<!-- {name} -->\n", "\n<!-- end -->", file.read_text(encoding="utf-8")
    before, rest = old.split(begin)
    new = f"{before}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}"
    write_text(file, new)
