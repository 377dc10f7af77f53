"""Runs the notebooks top to bottom from the command line: `python -m tools.run_notebooks`.

The study is the environment variable `STUDY` (default: demo). Executed copies go to
`data/<study>/notebooks/`. A whole run of a simulated study is not repeated while nothing that it
rests on has changed. A whole run `--in-place` gives the reference of later runs, and the README its
times.
"""

import argparse
import base64
import functools
import hashlib
import io
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.metadata import distributions
from pathlib import Path
from threading import Event, Lock, Thread

import nbformat
import pandas as pd
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from PIL import Image

from src.config import ROOT, Study, get_study
from src.files import digest_of, read_json, write_atomically, write_json
from src.report.web import compressed

_LARGE_PNG = 20_000  # characters of base64
_WIDGET = "application/vnd.jupyter.widget-view+json"
_MAX_WIDTH = 900  # of a picture among the outputs, in pixels
_SAME = (
    "Nothing has changed since the last whole run, so nothing is run. "
    "A notebook that is named runs nevertheless: python -m tools.run_notebooks 06."
)
_KEPT = "What was finished is kept: the same command goes on from there."
_APART = "07"  # runs only where it is named
_BETWEEN = ("03", "05", "04", "02")  # they need the first notebook only; longest first


class _Client(NotebookClient):
    """Runs a notebook and gives `write` what it prints while it runs."""

    def process_message(self, message, cell, cell_index):
        if message["msg_type"] == "stream":
            self.write(message["content"]["text"])
        return super().process_message(message, cell, cell_index)


class Screen:
    """What several notebooks print at a time: finished lines, and one last line that changes."""

    def __init__(self):
        self._lock, self._begun, self._drawn = Lock(), {}, 0

    def write(self, name: str, text: str) -> None:
        """Shows a piece of what the notebook `name` prints, with or without the end of a line."""
        with self._lock:
            *finished, self._begun[name] = settle(self._begun.get(name, "") + text).split("\n")
            shown = "\r" + " " * self._drawn + "\r" if self._drawn else ""
            shown += "".join(f"{name} | {line.rstrip()}\n" for line in finished if line.strip())
            begun = [f"{key} | {line}" for key, line in sorted(self._begun.items()) if line.strip()]
            width = shutil.get_terminal_size().columns // max(len(begun), 1) - 1
            last = "".join(f"{line:{width}.{width}} " for line in begun)
            self._drawn = len(last)
            print(shown + last, end="", flush=True)


def settle(text: str) -> str:
    r"""What is left on screen of text that a progress bar rewrote with carriage returns.

    Example:
    >>> settle("one\n 10%\r 100%\ntwo")
    'one\n 100%\ntwo'
    """
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines)


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Settles what the cells printed; makes large pictures smaller (PNG with a palette or JPEG).

    Widgets go: without their kernel they are empty.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if _WIDGET not in o.get("data", {})]
    for output in [output for cell in notebook.cells for output in cell.get("outputs", [])]:
        if output.output_type == "stream":
            output.text = settle(output.text)
        elif len(encoded := output.get("data", {}).get("image/png", "")) >= _LARGE_PNG:
            image = Image.open(io.BytesIO(base64.b64decode(encoded)))
            image.thumbnail((_MAX_WIDTH, image.height))
            kind, data = compressed(image)
            del output["data"]["image/png"]
            output["data"][f"image/{kind}"] = base64.b64encode(data).decode()
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}  # versions differ by machine


def _run_notebook(path: Path, target: Path, write: Callable[[str], None]) -> float:
    """Executes a notebook and writes it, as far as it got, to `target`. Returns the seconds."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    start = time.time()
    options = {"kernel_name": "python3", "record_timing": False, "coalesce_streams": True}
    options |= {"resources": {"metadata": {"path": str(path.parent)}}}
    client = _Client(notebook, extra_arguments=["--log-level=ERROR"], **options)
    client.write = write
    # The kernel's own messages as it closes; what cells print comes another way.
    with tempfile.TemporaryFile() as messages:
        try:
            client.execute(stderr=messages)
        except DeadKernelError:
            messages.seek(0)
            sys.stderr.write(messages.read().decode(errors="replace"))
            raise
        finally:
            tidy(notebook)
            write_atomically(target, lambda path: nbformat.write(notebook, path))
    return time.time() - start


@contextmanager
def _most_memory() -> Iterator[list[float]]:
    """Inside, a list of one number: the most GB that one notebook has had to itself so far.

    Pages of mapped files do not count where the system tells them apart (Linux): it takes them back
    when it needs them.
    """
    most, ended = [0.0], Event()

    def watch() -> None:
        while not ended.wait(0.2):
            for kernel in psutil.Process().children():
                with suppress(psutil.Error):  # it has ended
                    memory = kernel.memory_info()
                    most[0] = max(most[0], (memory.rss - getattr(memory, "shared", 0)) / 2**30)

    Thread(target=watch, daemon=True).start()
    try:
        yield most
    finally:
        ended.set()


def _state(study: Study, notebooks: list[Path]) -> dict:
    """What a whole run rests on, as a hash, and the files of its results, with size and time."""
    rests_on = hashlib.sha256(repr([study, os.environ.get("KERAS_BACKEND")]).encode())
    for folder in ("src", "simulator", "models/shipped"):
        for path in sorted(path for path in (ROOT / folder).rglob("*") if path.is_file()):
            if path.suffix != ".pyc":
                rests_on.update(f"{path.relative_to(ROOT)} {digest_of(path)}".encode())
    for path in notebooks:
        sources = [cell.source for cell in nbformat.read(path, as_version=4).cells]
        rests_on.update(repr([path.name, sources]).encode())
    packages = sorted((package.name, package.version) for package in distributions())
    rests_on.update(repr(packages).encode())
    folders = study.data / "notebooks", study.models, study.figures
    files = sorted(path for folder in folders for path in folder.glob("*.*") if path.is_file())
    stats = {str(path): path.stat() for path in files}
    results = {path: [stat.st_size, stat.st_mtime_ns] for path, stat in stats.items()}
    return {"rests_on": rests_on.hexdigest(), "results": results}


def _report(study: Study, minutes: dict[str, float], gigabytes: float) -> None:
    """The last lines: how long each notebook took, how much memory, where the results are."""
    print(*_compared_with_reference(study), sep="\n", end="\n\n")
    if minutes:
        print(*(f"  {name:<32}{taken:6.1f} min" for name, taken in minutes.items()), sep="\n")
        apart = ", not counting mapped files" if sys.platform == "linux" else ""
        print(f"  At most {gigabytes:.1f} GB of memory in one notebook{apart}.\n")
    files = {"Figures:": "", "Numbers:": "results.csv", "Summary:": "summary.html"}
    for title, file in (files | {"": "summary.md"}).items():
        print(f"{title:8} {_shown(study.figures / file)}")


def _compared_with_reference(study: Study) -> list[str]:
    """Lines that tell how many headline AUCs lie within the intervals of the reference run."""
    # Another processor gives other last digits, and a small network trained with them another AUC:
    # as if by another seed. Only the interval of a mean over seeds covers that.
    file, results = ROOT / "figures" / study.name / "reference.csv", study.figures / "results.csv"
    if not file.is_file() or not results.is_file():
        return []
    keys = ["model", "protocol", "train_set", "test_set", "real_source", "seed", "metric"]
    both = pd.read_csv(results).merge(pd.read_csv(file), on=keys, suffixes=("", "_reference"))
    both = both[both["model"].isin(study.headline) & (both["metric"] == "auc")]
    within = both["value"].between(both["ci_low_reference"], both["ci_high_reference"])
    mean = both["seed"] < 0
    lines = [
        f"Compared with the reference run, AUCs of {', '.join(study.headline)}:",
        f"{within[mean].sum()} of {mean.sum()} means over trainings lie within its intervals,",
        f"and {within[~mean].sum()} of {(~mean).sum()} of single trainings, whose intervals hold "
        "the choice of test pictures only.",
    ]
    for row in both[~within].itertuples():
        interval = f"[{row.ci_low_reference:.3f}, {row.ci_high_reference:.3f}]"
        where = f"{row.model}, {row.protocol}, {row.test_set} against {row.real_source}"
        what = "mean" if row.seed < 0 else f"seed {row.seed}"
        lines.append(f"  {where}, {what}: {row.value:.3f}, reference {interval}")
    return lines


def _shown(path: Path) -> str:
    """The path from here, if it is below here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _in_stages(paths: list[Path], num_jobs: int) -> list[list[Path]]:
    """The notebooks in their order; with several jobs, those that can run at a time in one list."""
    between = [path for name in _BETWEEN for path in paths if path.name.startswith(name)]
    if num_jobs == 1 or not between:
        return [[path] for path in paths]
    before = [[path] for path in paths if path < min(between)]
    return [*before, between, [path for path in paths if path > max(between)]]


def _run_stage(jobs: dict[Path, tuple[str, Path]], num_jobs: int) -> dict[Path, float]:
    """Runs notebooks, each with its title and target. Returns the seconds of those that ended."""
    screen, seconds, stopped = Screen(), {}, []

    def run(path: Path) -> None:
        if stopped:
            return
        title, target = jobs[path]
        write = functools.partial(print, end="", flush=True)
        if len(jobs) > 1:
            write = functools.partial(screen.write, path.name[:2])
        write(f"\n{title} begins\n")
        try:
            seconds[path] = _run_notebook(path, target, write)
            write(f"\n{title} is done: {seconds[path] / 60:.1f} min\n")
        except (CellExecutionError, DeadKernelError) as error:
            stopped.append(path)
            advice = "; try --jobs 1" if num_jobs > 1 else ""
            message = f"{error}. Most often memory was short{advice}."
            if isinstance(error, CellExecutionError):
                message = re.sub(r"\x1b\[[0-9;]*m", "", f"{error.ename}: {error.evalue}")
            where = f"The whole traceback: {_shown(target)}"
            print(f"\n{path.name} stopped.\n{message}\n{where}\n{_KEPT}", file=sys.stderr)

    try:
        list(ThreadPoolExecutor(num_jobs).map(run, jobs))
    except KeyboardInterrupt:
        print(f"\nInterrupted. {_KEPT}", file=sys.stderr, flush=True)
        os._exit(130)  # an ordinary exit would wait for the notebooks
    return seconds


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns its exit status: 0, or 1 when a notebook failed."""
    description = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser("python -m tools.run_notebooks", description=description)
    add = parser.add_argument
    add("notebooks", nargs="*", help="numbers or names, for example 03 (default: all but 07)")
    add("--in-place", action="store_true", help="overwrite the notebooks with executed ones")
    add("--jobs", type=int, help="notebooks at a time (default: 2; 1 for full and rehearsal)")
    options = parser.parse_args(arguments)
    paths = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if options.notebooks:
        paths = [path for path in paths if path.name.startswith(tuple(options.notebooks))]
    else:
        paths = [path for path in paths if not path.name.startswith(_APART)]
    try:
        study = get_study(os.environ.get("STUDY") or "demo")
        if not paths:
            raise FileNotFoundError(f"No notebook matches {' '.join(options.notebooks)}.")
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    num_jobs = max(options.jobs or min(study.num_jobs, os.cpu_count() or 1), 1)
    together = f", {num_jobs} at a time where they can" if num_jobs > 1 else ""
    print(f"Study {study.name!r}: {study.description}. {len(paths)} notebooks{together}.")
    is_whole = study.simulated and not (options.notebooks or options.in_place)
    state = _state(study, paths) if is_whole else {}
    finished = study.data / "finished.json"
    if is_whole and read_json(finished) == state:
        print(_SAME, end="\n\n")
        _report(study, {}, 0)
        return 0
    jobs, start, seconds = {}, time.time(), {}
    for number, path in enumerate(paths, 1):
        target = path if options.in_place else study.data / "notebooks" / path.name
        jobs[path] = f"[{number}/{len(paths)}] {path.stem}", target
    from_nothing = not any(study.models.glob("*.keras"))
    with _most_memory() as most:
        for stage in _in_stages(paths, num_jobs):
            seconds |= (done := _run_stage({path: jobs[path] for path in stage}, num_jobs))
            if len(done) < len(stage):
                return 1
    minutes = {path.stem: seconds[path] / 60 for path in paths}
    minutes["all"] = (time.time() - start) / 60
    _report(study, minutes, *most)
    if is_whole:  # with the code as it was when the run began
        write_json(finished, _state(study, paths) | {"rests_on": state["rests_on"]})
    if options.in_place and not options.notebooks:
        times = pd.DataFrame(minutes.items(), columns=["notebook", "minutes"])
        times = times.assign(from_nothing=from_nothing, num_cores=os.cpu_count(), gigabytes=most[0])
        times.round(1).to_csv(study.figures / "minutes.csv", index=False)
        rows = pd.read_csv(study.figures / "results.csv").query("metric == 'auc'")
        rows = rows[rows["model"].isin(study.headline)]
        rows.to_csv(study.figures / "reference.csv", index=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
