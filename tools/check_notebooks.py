"""The cells that all notebooks share, and the style they are held to.

`python -m tools.check_notebooks` writes the shared cells and prints every fault it finds;
`--address URL` first writes the public address of this copy into `pyproject.toml`.
"""

import argparse
import ast
import re
import statistics
import sys
from pathlib import Path

import nbformat

from src.config import ROOT

MAX_LINES = 20  # of code in a cell
MAX_USUAL_LINES = 12  # of nine cells in ten
MAX_MEDIAN_LINES = 5
MAX_BYTES = 500_000  # of a notebook with its outputs

_SETUP = """\
# Finds the project. On Colab, Kaggle or in an empty folder: fetches it with what it needs.
import subprocess
import sys
from pathlib import Path

ADDRESS = "{address}"
here = Path.cwd()
root = next((p for p in (here, *here.parents) if (p / "src" / "config.py").is_file()), None)
if root is None:
    assert ADDRESS, "ADDRESS is empty. Put the address of your copy of the project there."
    root = here / "true-or-fake"
    if not root.is_dir():
        subprocess.run(["git", "clone", "-q", "--depth", "1", ADDRESS, root], check=True)
    pip = [sys.executable, "-m", "pip", "install", "-q", "-r"]
    subprocess.run([*pip, root / "requirements.txt"], check=True)
sys.path.insert(0, str(root))"""
_ADDRESS = re.compile(r'^address = "(.*)"$', re.MULTILINE)


def address() -> str:
    """The public address of this copy, from `pyproject.toml`; empty if it has none yet."""
    return _ADDRESS.search((ROOT / "pyproject.toml").read_text(encoding="utf-8")).group(1)


def write_address(url: str) -> None:
    """Writes the public address into `pyproject.toml`."""
    if not re.fullmatch(r"https://[\w.-]+(/[\w.-]+)+", url):
        raise ValueError(
            f"Expected an address such as https://github.com/you/true-or-fake: {url!r}"
        )
    file = ROOT / "pyproject.toml"
    text = _ADDRESS.sub(f'address = "{url}"', file.read_text(encoding="utf-8"))
    file.write_text(text, encoding="utf-8")


def badges(name: str) -> str:
    """The line of badges that open a notebook on Colab and Kaggle; empty without an address."""
    if not address():
        return ""
    path = f"blob/main/notebooks/{name}"
    colab = "https://colab.research.google.com"
    repository = address().removeprefix("https://").replace("github.com", "github")
    kaggle = f"https://kaggle.com/kernels/welcome?src={address()}/{path}"
    return (
        f"[![Open in Colab]({colab}/assets/colab-badge.svg)]({colab}/{repository}/{path}) "
        f"[![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)]({kaggle})"
    )


def paths() -> list[Path]:
    """The notebooks, in order."""
    return sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def write_shared_cells(path: Path) -> bool:
    """Writes badges, setup cell and cell ids. Returns whether anything changed."""
    notebook = nbformat.read(path, as_version=4)
    before = nbformat.writes(notebook)
    introduction, *rest = notebook.cells
    rest = [cell for cell in rest if not cell.source.startswith("[![Open in Colab]")]
    if badges(path.name):
        rest.insert(0, nbformat.v4.new_markdown_cell(badges(path.name)))
    notebook.cells = [introduction, *rest]
    setup = _setup_cell(notebook.cells)
    setup.source = _SETUP.format(address=address())
    setup.metadata = {"jupyter": {"source_hidden": True}, "tags": ["hide-input"]}
    for index, cell in enumerate(notebook.cells, 1):
        cell.id = f"{path.name[:2]}-{index:02d}"
    if nbformat.writes(notebook) == before:
        return False
    nbformat.write(notebook, path)
    return True


def _setup_cell(cells: list):
    """The first code cell."""
    return next(cell for cell in cells if cell.cell_type == "code")


def faults(path: Path) -> list[str]:
    """What in a notebook departs from the project's style; empty if nothing does.

    Args:
        path: A notebook, committed with the outputs of one clean run.

    Returns:
        One sentence per fault.
    """
    cells = nbformat.read(path, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    return [
        *_opening_faults(path, cells),
        *_rhythm_faults(cells, code),
        *_output_faults(path, cells, code),
    ]


def _opening_faults(path: Path, cells: list) -> list[str]:
    found = []
    if not re.fullmatch(r"# [^\n]+\n\n[^\n]+", cells[0].source.strip()):
        found.append("the first cell is not one H1 and one paragraph")
    shown = [cell.source for cell in cells if "[![Open in Colab]" in cell.source]
    if shown != [badges(path.name)] * bool(address()):
        found.append("the badges are not those of the address: run python -m tools.check_notebooks")
    if _setup_cell(cells).source != _SETUP.format(address=address()):
        found.append("the setup cell is not the shared one: run python -m tools.check_notebooks")
    first = next(index for index, cell in enumerate(cells) if cell.cell_type == "code")
    if not cells[first - 1].source.startswith("## What you will see"):
        found.append("'What you will see' does not stand before the setup cell")
    parameters = cells[first + 1]
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if tagged != [parameters]:
        found.append("the cell tagged 'parameters' does not follow the setup cell")
    elif any(not isinstance(node, ast.Assign) for node in ast.parse(parameters.source).body):
        found.append("the parameters cell holds more than constants")
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    if sum(line.startswith("# ") for text in texts for line in text.splitlines()) != 1:
        found.append("more than one H1")
    return found


def _rhythm_faults(cells: list, code: list) -> list[str]:
    found = []
    code = code[1:]  # the shared setup cell is hidden
    lines = sorted(sum(1 for line in cell.source.splitlines() if line.strip()) for cell in code)
    if lines[-1] > MAX_LINES:
        found.append(f"a cell of {lines[-1]} lines")
    if lines[int(0.9 * (len(lines) - 1))] > MAX_USUAL_LINES:
        found.append(f"more than one cell in ten has over {MAX_USUAL_LINES} lines")
    if statistics.median(lines) > MAX_MEDIAN_LINES:
        found.append(f"the median cell has {statistics.median(lines)} lines")
    if len(code) > 1.5 * (len(cells) - len(code)):
        found.append("few words for much code")
    if "cccc" in "".join(cell.cell_type[0] for cell in cells):
        found.append("more than three code cells in a row")
    wide = [line for cell in code for line in cell.source.splitlines() if len(line) > 100]
    if wide:
        found.append(f"{len(wide)} lines of over 100 characters, the first: {wide[0][:60]}…")
    for cell in code:
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                found.append(f"a definition in a notebook: {node.name}")
    if any(re.search(r"\bif\b.*\b(study\.name|testing|STUDY)\b", cell.source) for cell in code):
        found.append("a branch on the study")
    return found


def _output_faults(path: Path, cells: list, code: list) -> list[str]:
    found = []
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        found.append("not one clean run: execution counts are not 1..n")
    outputs = [output for cell in code for output in cell.outputs]
    if any(output.output_type == "error" for output in outputs):
        found.append("an error in the outputs")
    if any(output.get("name") == "stderr" for output in outputs):
        found.append("stderr in the outputs")
    if path.stat().st_size > MAX_BYTES:
        found.append(f"{path.stat().st_size / 1000:.0f} KB, more than {MAX_BYTES / 1000:.0f}")
    ids = [f"{path.name[:2]}-{index:02d}" for index in range(1, len(cells) + 1)]
    if [cell.id for cell in cells] != ids:
        found.append("cell ids are not NN-01, NN-02, …")
    if re.search(r"/(?:home|root|tmp|work|Users)/", path.read_text(encoding="utf-8")):
        found.append("a path of a machine in it")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Writes the shared cells and prints every fault. Returns 1 if there is a fault, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tools.check_notebooks", description=__doc__)
    parser.add_argument("--address", help="public address of this copy, for badges and Colab")
    options = parser.parse_args(arguments)
    if options.address:
        write_address(options.address)
    found = []
    for path in paths():
        if write_shared_cells(path):
            print(f"{path.name}: shared cells written")
        found += [f"{path.name}: {fault}" for fault in faults(path)]
    print("\n".join(found) or "No fault.")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
