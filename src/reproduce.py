"""Runs the notebooks top to bottom from the command line: `python -m src.reproduce`.

The study is the environment variable `STUDY` (default: demo). Executed copies go to `data/<study>/notebooks/`;
with `--in-place` the notebooks themselves are overwritten (for those who maintain them).
"""

import argparse
import base64
import io
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from PIL import Image

from .config import ROOT, Study, faces_folder, get_study
from .html_page import compressed

_LARGE_PNG = 20_000  # characters of base64


class _Client(NotebookClient):
    """Runs a notebook and shows what it prints while it runs."""

    def process_message(self, message, cell, cell_index):
        if message["msg_type"] == "stream":
            sys.stdout.write(message["content"]["text"])
            sys.stdout.flush()
        return super().process_message(message, cell, cell_index)


def settle(text: str) -> str:
    """What is left on screen of text that a progress bar rewrote with carriage returns.

    Example:

    >>> settle("one\\n 10%\\r 100%\\ntwo")
    'one\\n 100%\\ntwo'
    """
    text = text.replace("\r\n", "\n")
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n"))


def slim(notebook: nbformat.NotebookNode) -> None:
    """Makes large pictures among the outputs smaller: charts with a palette, photographs as JPEG, what is less."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            encoded = output.get("data", {}).get("image/png", "")
            if len(encoded) < _LARGE_PNG:
                continue
            with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
                kind, data = compressed(image)
            del output["data"]["image/png"]
            output["data"][f"image/{kind}"] = base64.b64encode(data).decode()


def run_notebook(path: Path, target: Path, folder: Path | None = None) -> float:
    """Executes one notebook in a fresh kernel and writes it with its outputs.

    Args:
        path: The notebook.
        target: Where the executed notebook goes; also written, as far as it got, when a cell fails.
        folder: Working directory of the kernel; default: the notebook's own folder.

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
        timeout=None,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],  # not that the kernel talks to this process over TCP
        resources={"metadata": {"path": str(folder or path.parent)}},
    )
    try:
        with tempfile.TemporaryFile() as chatter:  # of the kernel's own, as it closes; what cells say comes by message
            try:
                client.execute(stderr=chatter)
            except DeadKernelError:
                chatter.seek(0)
                sys.stderr.write(chatter.read().decode(errors="replace"))
                raise
    finally:
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                if output.output_type == "stream":
                    output.text = settle(output.text)
        slim(notebook)
        notebook.metadata.pop("widgets", None)
        notebook.metadata.language_info = {"name": "python"}  # without versions: they would differ by machine
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.part")
        nbformat.write(notebook, partial)
        os.replace(partial, target)
    return time.time() - start


def _report(study: Study, minutes: list[tuple[str, float]]) -> None:
    """The last lines: how long each notebook took, how much memory, where the results are."""
    print("\n" + "\n".join(f"  {name:<32}{seconds / 60:6.1f} min" for name, seconds in minutes))
    total = sum(seconds for _, seconds in minutes)
    try:
        import resource

        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        memory = f", at most {peak:.1f} GB of memory in one notebook"
    except ImportError:  # Windows
        memory = ""
    print(f"  {'all':<32}{total / 60:6.1f} min{memory}\n")
    print(f"Figures: {_shown(study.figures)}")
    print(f"Numbers: {_shown(study.figures / 'results.csv')}")
    print(f"Summary: {_shown(study.figures / 'summary.html')}")
    print(f"         {_shown(study.figures / 'summary.md')}")


def _shown(path: Path) -> str:
    """The path from here, if it is below here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns its exit status: 0, or 1 when a notebook failed."""
    parser = argparse.ArgumentParser(prog="python -m src.reproduce", description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", help="numbers or names, for example 03 (default: all)")
    parser.add_argument("--in-place", action="store_true", help="overwrite the notebooks with their executed selves")
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
        paths = [path for path in paths if any(path.name.startswith(name) for name in options.notebooks)]
    if not paths:
        print(f"No notebook matches {' '.join(options.notebooks)}.", file=sys.stderr)
        return 1
    print(f"Study {study.name!r}: {study.description}. {len(paths)} notebooks.")
    minutes = []
    for index, path in enumerate(paths, start=1):
        print(f"\n[{index}/{len(paths)}] {path.stem}", flush=True)
        target = path if options.in_place else study.data / "notebooks" / path.name
        try:
            minutes.append((path.stem, run_notebook(path, target)))
        except CellExecutionError as error:
            message = re.sub(r"\x1b\[[0-9;]*m", "", f"{error.ename}: {error.evalue}")
            print(f"\n{path.name} stopped.\n{message}\nThe whole traceback: {_shown(target)}", file=sys.stderr)
            print("What was finished is kept: the same command goes on from there.", file=sys.stderr)
            return 1
    _report(study, minutes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
