"""Plants a bug in a module's source, to see whether the checks notice.

The bugs stand in the table `MUTANTS` at the end of `test_metrics`, `test_evaluation`, `test_comparisons` and `test_robustness`, each with the
check that must fail on it; `test_checks_notice_a_planted_bug` plants one after the other.
"""

import importlib.util
import tempfile
import types
from pathlib import Path

import pytest


def plant(module_name: str, old: str, new: str) -> types.ModuleType:
    """A copy of the module in which `old` reads `new`; `old` must occur exactly once."""
    source = Path(importlib.util.find_spec(module_name).origin).read_text(encoding="utf-8")
    assert source.count(old) == 1, (
        f"{old!r} occurs {source.count(old)} times in {module_name}; update the mutant."
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mutant.py")
        path.write_text(source.replace(old, new), encoding="utf-8")
        spec = importlib.util.spec_from_file_location(f"{module_name}_mutant", path)
        mutant = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(mutant)
    return mutant


def must_be_noticed(module_name: str, bug: tuple, *fixtures) -> None:
    """Fails unless the check of `bug` fails on the module with it; gives the check as many fixtures as it takes."""
    old, new, check = bug
    arguments = (plant(module_name, old, new), *fixtures)[: check.__code__.co_argcount]
    assert noticed(check, *arguments), f"{check.__name__} passes in spite of it."


def noticed(check, *arguments) -> bool:
    """Whether the check fails; a crash is noticed as well as a wrong number."""
    try:
        check(*arguments)
    except (Exception, pytest.fail.Exception):  # noqa: BLE001
        return True
    return False
