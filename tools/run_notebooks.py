"""Runs the notebooks top to bottom from the command line: `python -m tools.run_notebooks`.

The study is the environment variable `STUDY` (default: demo). Executed copies go to
`data/<study>/notebooks/`. With `--in-place` the notebooks themselves are overwritten, and the
numbers become the reference that later runs are compared with (for those who maintain them).
"""

import argparse
import base64
import io
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Lock

import nbformat
import pandas as pd
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from PIL import Image

from src.config import ROOT, Study, get_study
from src.data.catalog import faces_folder
from src.files import write_atomically
from src.report.page import compressed

_LARGE_PNG = 20_000  # characters of base64
_MAX_WIDTH = 900  # of a picture among the outputs, in pixels
_KEPT = "What was finished is kept: the same command goes on from there."
_BETWEEN = ("03", "05", "04", "02")  # they need the first notebook only; longest first


class _Client(NotebookClient):
    """Runs a notebook and passes on what it prints while it runs."""

    def __init__(self, notebook: nbformat.NotebookNode, write: Callable[[str], None], **options):
        super().__init__(notebook, **options)
        self._write = write

    def process_message(self, message, cell, cell_index):
        if message["msg_type"] == "stream":
            self._write(message["content"]["text"])
        return super().process_message(message, cell, cell_index)


class Screen:
    r"""What several notebooks print at a time: finished lines, and one last line that changes.

    Args:
        width: Characters of a line; default: those of the terminal.

    Example:
    >>> screen = Screen()
    >>> screen.write("03", "one\\n")
    03 | one
    """

    def __init__(self, width: int | None = None):
        self._lock, self._begun, self._drawn, self._width = Lock(), {}, 0, width

    def write(self, name: str, text: str) -> None:
        """Show a piece of what the notebook `name` prints, with or without the end of a line."""
        with self._lock:
            whole, end, begun = (self._begun.pop(name, "") + text).rpartition("\n")
            begun = begun.rstrip("\r").rsplit("\r", 1)[-1]
            if begun.strip():
                self._begun[name] = begun
            shown = "\r" + " " * self._drawn + "\r" if self._drawn else ""
            if end:
                lines = settle(whole).split("\n")
                shown += "".join(f"{name} | {line.rstrip()}\n" for line in lines if line.strip())
            width = (self._width or shutil.get_terminal_size().columns) // max(len(self._begun), 1)
            last = "".join(
                f"{f'{name} | {begun}':{width - 1}.{width - 1}} "
                for name, begun in sorted(self._begun.items())
            )
            self._drawn = len(last)
            sys.stdout.write(shown + last)
            sys.stdout.flush()


def _print(text: str) -> None:
    """Text as it comes."""
    sys.stdout.write(text)
    sys.stdout.flush()


def settle(text: str) -> str:
    r"""What is left on screen of text that a progress bar rewrote with carriage returns.

    Example:
    >>> settle("one\\n 10%\\r 100%\\ntwo")
    'one\\n 100%\\ntwo'
    """
    text = text.replace("\r\n", "\n")
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n"))


def slim(notebook: nbformat.NotebookNode) -> None:
    """Makes large pictures among the outputs smaller, as PNG with a palette or as JPEG."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            encoded = output.get("data", {}).get("image/png", "")
            if len(encoded) < _LARGE_PNG:
                continue
            with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
                image.thumbnail((_MAX_WIDTH, image.height))
                kind, data = compressed(image)
            del output["data"]["image/png"]
            output["data"][f"image/{kind}"] = base64.b64encode(data).decode()


def run_notebook(
    path: Path, target: Path, folder: Path | None = None, write: Callable[[str], None] = _print
) -> float:
    """Executes one notebook in a fresh kernel and writes it with its outputs.

    Args:
        path: The notebook.
        target: Where the executed notebook goes; also written, as far as it got, when a cell fails.
        folder: Working directory of the kernel; default: the notebook's own folder.
        write: Is given what the notebook prints, piece by piece.

    Returns:
        Seconds taken.

    Raises:
        CellExecutionError: If a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    start = time.time()
    client = _Client(
        notebook,
        write,
        timeout=None,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(folder or path.parent)}},
    )
    try:
        # The kernel's own messages as it closes; what cells print comes another way.
        with tempfile.TemporaryFile() as messages:
            try:
                client.execute(stderr=messages)
            except DeadKernelError:
                messages.seek(0)
                sys.stderr.write(messages.read().decode(errors="replace"))
                raise
    finally:
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                if output.output_type == "stream":
                    output.text = settle(output.text)
        slim(notebook)
        notebook.metadata.pop("widgets", None)
        notebook.metadata.language_info = {"name": "python"}  # versions differ by machine
        write_atomically(target, lambda path: nbformat.write(notebook, path))
    return time.time() - start


def _report(study: Study, seconds: dict[str, float], total: float) -> None:
    """The last lines: how long each notebook took, how much memory, where the results are."""
    print(*compared_with_reference(study), sep="\n")
    print("\n" + "\n".join(f"  {name:<32}{taken / 60:6.1f} min" for name, taken in seconds.items()))
    try:
        import resource

        # Linux counts in KB, macOS in bytes.
        unit = 2**30 if sys.platform == "darwin" else 2**20
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit
        memory = f", at most {peak:.1f} GB of memory in one notebook"
    except ImportError:  # Windows
        memory = ""
    print(f"  {'all':<32}{total / 60:6.1f} min{memory}\n")
    print(f"Figures: {_shown(study.figures)}")
    print(f"Numbers: {_shown(study.figures / 'results.csv')}")
    print(f"Summary: {_shown(study.figures / 'summary.html')}")
    print(f"         {_shown(study.figures / 'summary.md')}")


def compared_with_reference(study: Study) -> list[str]:
    """Lines that tell how many headline AUCs lie within the intervals of the reference run.

    The reference is `figures/<study>/reference.csv` of the project, which no run overwrites.
    Another processor gives other last digits, and a small network trained with them another AUC.
    """
    reference, results = (
        ROOT / "figures" / study.name / "reference.csv",
        study.figures / "results.csv",
    )
    if not reference.is_file() or not results.is_file():
        return []
    keys = ["model", "protocol", "train_set", "test_set", "real_source", "seed", "metric"]
    both = pd.read_csv(results).merge(pd.read_csv(reference), on=keys, suffixes=("", "_reference"))
    both = both[both["model"].isin(study.headline) & (both["metric"] == "auc")]
    within = both["value"].between(both["ci_low_reference"], both["ci_high_reference"])
    lines = [
        f"Compared with the reference run: {within.sum()} of {len(both)} AUCs of "
        f"{', '.join(study.headline)} lie within its intervals."
    ]
    for row in both[~within].itertuples():
        interval = f"[{row.ci_low_reference:.3f}, {row.ci_high_reference:.3f}]"
        where = f"{row.model}, {row.protocol}, {row.test_set} against {row.real_source}"
        lines.append(f"  {where}, seed {row.seed}: {row.value:.3f}, reference {interval}")
    return lines


def _shown(path: Path) -> str:
    """The path from here, if it is below here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _in_stages(paths: Sequence[Path], num_jobs: int) -> list[list[Path]]:
    """The notebooks in their order; with several jobs, those that can run at a time in one list."""
    between = [path for name in _BETWEEN for path in paths if path.name.startswith(name)]
    if num_jobs == 1 or not between:
        return [[path] for path in paths]
    before = [[path] for path in paths if path < min(between)]
    return [*before, between, *([path] for path in paths if path > max(between))]


def _run_stage(
    titles: dict[Path, str], targets: dict[Path, Path], num_jobs: int
) -> dict[Path, float]:
    """Runs notebooks, several at a time. Returns their seconds; says why a missing one stopped."""
    screen, pool, seconds = Screen(), ThreadPoolExecutor(num_jobs), {}

    def run(path: Path) -> float:
        if len(titles) == 1:
            _print(f"\n{titles[path]}\n")
            return run_notebook(path, targets[path])
        name = path.name[:2]
        screen.write(name, f"{titles[path]} begins\n")
        taken = run_notebook(path, targets[path], write=lambda text: screen.write(name, text))
        screen.write(name, f"\n{titles[path]} is done: {taken / 60:.1f} min\n")
        return taken

    tasks = {pool.submit(run, path): path for path in titles}
    try:
        for task in as_completed(tasks):
            path = tasks[task]
            try:
                seconds[path] = task.result()
            except (CellExecutionError, DeadKernelError) as error:
                pool.shutdown(wait=False, cancel_futures=True)
                advice = "; try --jobs 1" if num_jobs > 1 else ""
                message = f"{error}. Most often memory was short{advice}."
                if isinstance(error, CellExecutionError):
                    message = re.sub(r"\x1b\[[0-9;]*m", "", f"{error.ename}: {error.evalue}")
                where = f"The whole traceback: {_shown(targets[path])}"
                print(f"\n{path.name} stopped.\n{message}\n{where}\n{_KEPT}", file=sys.stderr)
            except CancelledError:
                pass  # not begun when another one stopped
    except KeyboardInterrupt:
        print(f"\nInterrupted. {_KEPT}", file=sys.stderr, flush=True)
        os._exit(130)  # an ordinary exit would wait for the notebooks
    return seconds


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns its exit status: 0, or 1 when a notebook failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.run_notebooks", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "notebooks", nargs="*", help="numbers or names, for example 03 (default: all)"
    )
    parser.add_argument(
        "--in-place", action="store_true", help="overwrite the notebooks with their executed selves"
    )
    parser.add_argument(
        "--jobs", type=int, help="notebooks at a time (default: 2 for the demo, else 1)"
    )
    options = parser.parse_args(arguments)
    try:
        study = get_study(os.environ.get("STUDY") or "demo")
        if study.from_manifest:
            faces_folder()
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    paths = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if options.notebooks:
        paths = [
            path for path in paths if any(path.name.startswith(name) for name in options.notebooks)
        ]
    if not paths:
        print(f"No notebook matches {' '.join(options.notebooks)}.", file=sys.stderr)
        return 1
    num_jobs = max(options.jobs or min(study.num_jobs, os.cpu_count() or 1), 1)
    side_by_side = f", {num_jobs} at a time where they can" if num_jobs > 1 else ""
    print(
        f"Study {study.name!r}: {study.description}. {len(paths)} notebooks{side_by_side}.",
        flush=True,
    )
    targets = {
        path: path if options.in_place else study.data / "notebooks" / path.name for path in paths
    }
    start, seconds = time.time(), {}
    for stage in _in_stages(paths, num_jobs):
        titles = {path: f"[{paths.index(path) + 1}/{len(paths)}] {path.stem}" for path in stage}
        seconds |= (done := _run_stage(titles, targets, num_jobs))
        if len(done) < len(stage):
            return 1
    if options.in_place and not options.notebooks:
        shutil.copy(study.figures / "results.csv", study.figures / "reference.csv")
    _report(study, {path.stem: seconds[path] for path in paths}, time.time() - start)
    return 0


if __name__ == "__main__":
    sys.exit(main())
