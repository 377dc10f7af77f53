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

SETUP = """\
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


def address() -> str:
    """The public address of this copy, from `pyproject.toml`; empty if it has none yet."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return re.search(r'^address = "(.*)"$', text, re.MULTILINE)[1]


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


def write_shared_cells(path: Path, keep: bool = True) -> bool:
    """Sets badges, setup cell and cell ids, in the file if `keep`. Returns whether any changed."""
    notebook = nbformat.read(path, as_version=4)
    before = nbformat.writes(notebook)
    introduction, *rest = notebook.cells
    rest = [cell for cell in rest if not cell.source.startswith("[![Open in Colab]")]
    if badges(path.name):
        rest.insert(0, nbformat.v4.new_markdown_cell(badges(path.name)))
    notebook.cells = [introduction, *rest]
    setup = next(cell for cell in rest if cell.cell_type == "code")
    setup.source = SETUP.format(address=address())
    setup.metadata = {"jupyter": {"source_hidden": True}, "tags": ["hide-input"]}
    for index, cell in enumerate(notebook.cells, 1):
        cell.id = f"{path.name[:2]}-{index:02d}"
    is_changed = nbformat.writes(notebook) != before
    if is_changed and keep:
        nbformat.write(notebook, path)
    return is_changed


def faults(path: Path) -> list[str]:
    """One sentence for each departure of a notebook from the project's style."""
    cells = nbformat.read(path, as_version=4).cells
    setup, *code = [cell for cell in cells if cell.cell_type == "code"]
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    headings = [line for text in texts for line in text.splitlines() if line.startswith("# ")]
    outputs = [output for cell in (setup, *code) for output in cell.outputs]
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    trees = [ast.parse(cell.source) for cell in code]  # without the setup cell, which is hidden
    nodes = [node for tree in trees for node in ast.walk(tree)]
    defined = [node.name for node in nodes if isinstance(node, (ast.ClassDef, ast.FunctionDef))]
    lines = sorted(sum(bool(x.strip()) for x in cell.source.splitlines()) for cell in code)
    wide = [line[:60] for cell in code for line in cell.source.splitlines() if len(line) > 100]
    branch = re.compile(r"\bif\b.*\b(study\.name|testing|STUDY)\b")
    num_bytes, median = path.stat().st_size, statistics.median(lines)
    counts = [cell.execution_count for cell in (setup, *code)]
    opening = re.fullmatch(r"# [^\n]+\n\n[^\n]+", cells[0].source.strip())
    machine = re.search(r"/(?:home|root|tmp|work|Users)/", path.read_text(encoding="utf-8"))
    promise = cells[cells.index(setup) - 1].source.startswith("## What you will see")
    constants = all(isinstance(node, ast.Assign) for node in trees[0].body)
    usual = lines[int(0.9 * (len(lines) - 1))]
    found = {
        "the first cell is not one H1 and one paragraph": not opening,
        "more than one H1": len(headings) > 1,
        "badges, setup cell or cell ids are not the shared ones: run "
        "python -m tools.check_notebooks": write_shared_cells(path, keep=False),
        "'What you will see' does not stand before the setup cell": not promise,
        "the cell tagged 'parameters' does not follow the setup cell": tagged != code[:1],
        "the parameters cell holds more than constants": not constants,
        f"a cell of {lines[-1]} lines": lines[-1] > MAX_LINES,
        f"more than one cell in ten has over {MAX_USUAL_LINES} lines": usual > MAX_USUAL_LINES,
        f"the median cell has {median} lines": median > MAX_MEDIAN_LINES,
        "few words for much code": len(code) > 1.5 * (len(texts) + 1),
        "more than three code cells in a row": "cccc" in "".join(c.cell_type[0] for c in cells),
        f"lines of over 100 characters: {wide}": wide,
        f"a definition in a notebook: {defined}": defined,
        "a branch on the study": any(branch.search(cell.source) for cell in code),
        f"not one clean run: execution counts {counts}": counts != list(range(1, len(counts) + 1)),
        "an error in the outputs": any(output.output_type == "error" for output in outputs),
        "stderr in the outputs": any(output.get("name") == "stderr" for output in outputs),
        f"{num_bytes / 1000:.0f} KB, more than {MAX_BYTES / 1000:.0f}": num_bytes > MAX_BYTES,
        "a path of a machine in it": machine,
    }
    return [fault for fault, is_found in found.items() if is_found]


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns its exit status: 1 if there is a fault, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tools.check_notebooks", description=__doc__)
    parser.add_argument("--address", help="public address of this copy, for badges and Colab")
    if url := parser.parse_args(arguments).address:
        if not re.fullmatch(r"https://[\w.-]+(/[\w.-]+)+", url):
            parser.error(f"expected such as https://github.com/you/true-or-fake, received {url!r}")
        file = ROOT / "pyproject.toml"
        old, new = (f'\naddress = "{one}"\n' for one in (address(), url))
        file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    found = []
    for path in paths():
        if write_shared_cells(path):
            print(f"{path.name}: shared cells written")
        found += [f"{path.name}: {fault}" for fault in faults(path)]
    print("\n".join(found) or "No fault.")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
