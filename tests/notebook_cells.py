"""Runs the code cells of a notebook in this process, as a kernel would."""

import ast
import contextlib
import io
from types import SimpleNamespace

import nbformat

from src.config import ROOT


def run_notebook(number: str) -> SimpleNamespace:
    """Its variables and, as `printed`, what it printed with single spaces; shows what it shows."""
    (path,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    namespace, printed = {"__name__": "__main__", "display": _show}, io.StringIO()
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        body = ast.parse(cell.source).body
        last = ast.Expression(body.pop().value) if isinstance(body[-1], ast.Expr) else None
        with contextlib.redirect_stdout(printed):
            exec(compile(ast.Module(body, []), cell.id, "exec"), namespace)
            _show(eval(compile(last, cell.id, "eval"), namespace) if last else None)
    return SimpleNamespace(**namespace, printed=" ".join(printed.getvalue().split()))


def _show(value) -> None:
    getattr(value, "_repr_html_", value.__repr__)()
