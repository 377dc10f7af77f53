"""The cells that all notebooks share, and the style they are held to: `python -m src.notebooks`.

The badges and the clone in the setup cell are made from the address in `pyproject.toml`, the one place it stands.
"""

import ast
import re
import statistics
import sys
from pathlib import Path

import nbformat

from src.config import ROOT

MAX_LINES = 25  # of code in a cell
MAX_BYTES = 500_000  # of a notebook with its outputs

_SETUP = """\
import subprocess
import sys
from pathlib import Path

here = Path.cwd().resolve()
root = next((folder for folder in [here, *here.parents] if (folder / "src" / "config.py").is_file()), None)
if root is None:  # Colab, Kaggle or an empty folder: fetch the repository and what it needs
    root = here / "{name}"
    if not root.is_dir():
        subprocess.run(["git", "clone", "-q", "--depth", "1", "{address}", str(root)], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "-r", str(root / "requirements.txt")], check=True)
sys.path.insert(0, str(root))"""


def repository() -> str:
    """The repository's public address, from `pyproject.toml`."""
    return re.search(
        r'^Repository = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    ).group(1)


def setup_source() -> str:
    """The setup cell: identical in every notebook."""
    address = repository()
    return _SETUP.format(address=address, name=address.rsplit("/", 1)[-1])


def badges_source(name: str) -> str:
    """The cell of badges that open the notebook `name` on Colab and on Kaggle."""
    address = repository()
    path = f"blob/main/notebooks/{name}"
    colab = f"https://colab.research.google.com/{address.removeprefix('https://').replace('github.com', 'github')}/{path}"
    kaggle = f"https://kaggle.com/kernels/welcome?src={address}/{path}"
    return (
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab}) "
        f"[![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)]({kaggle})"
    )


def paths() -> list[Path]:
    """The notebooks, in order."""
    return sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def write_shared_cells(path: Path) -> bool:
    """Puts the generated badges and setup cells in their places. Returns whether anything changed."""
    notebook = nbformat.read(path, as_version=4)
    before = [cell.source for cell in notebook.cells]
    notebook.cells[1].source = badges_source(path.name)
    notebook.cells[3].source = setup_source()
    if [cell.source for cell in notebook.cells] == before:
        return False
    nbformat.write(notebook, path)
    return True


def faults(path: Path) -> list[str]:
    """What in a notebook departs from the project's style; empty if nothing does.

    Args:
        path: A notebook, committed with the outputs of one clean run.

    Returns:
        One sentence per fault.
    """
    notebook = nbformat.read(path, as_version=4)
    cells = notebook.cells
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
    if cells[1].source != badges_source(path.name) or cells[3].source != setup_source():
        found.append(
            "badges or setup cell differ from the generated ones: run python -m src.notebooks"
        )
    if not cells[2].source.startswith("## What you will see"):
        found.append("the third cell is not 'What you will see'")
    tags = [
        index for index, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])
    ]
    if tags != [4]:
        found.append(f"the cell tagged 'parameters' should be the fifth, found {tags}")
    elif any(not isinstance(node, ast.Assign) for node in ast.parse(cells[4].source).body):
        found.append("the parameters cell holds more than constants")
    headings = [
        line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines()
    ]
    if sum(line.startswith("# ") for line in headings) != 1:
        found.append("more than one H1")
    return found


def _rhythm_faults(cells: list, code: list) -> list[str]:
    found = []
    lines = [sum(1 for line in cell.source.splitlines() if line.strip()) for cell in code]
    if max(lines) > MAX_LINES:
        found.append(f"a cell of {max(lines)} lines")
    if statistics.median(lines) > 8:
        found.append(f"the median cell has {statistics.median(lines)} lines")
    if len(code) > 1.5 * (len(cells) - len(code)):
        found.append("few words for much code")
    runs = "".join("c" if cell.cell_type == "code" else "t" for cell in cells)
    if "cccc" in runs:
        found.append("more than three code cells in a row")
    for cell in code:
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.ClassDef):
                found.append(f"a class in a notebook: {node.name}")
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
    if [cell.id for cell in cells] != [
        f"{path.name[:2]}-{index:02d}" for index in range(1, len(cells) + 1)
    ]:
        found.append("cell ids are not NN-01, NN-02, …")
    if re.search(r"/(?:home|root|tmp|work|Users)/", path.read_text()):
        found.append("a path of a machine in it")
    return found


def main() -> int:
    """Rewrites the shared cells and prints every fault. Returns the number of faults, at most 1."""
    num_faults = 0
    for path in paths():
        if write_shared_cells(path):
            print(f"{path.name}: badges and setup written")
        for fault in faults(path):
            num_faults += 1
            print(f"{path.name}: {fault}")
    return min(num_faults, 1)


if __name__ == "__main__":
    sys.exit(main())
