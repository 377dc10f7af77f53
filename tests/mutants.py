"""Plants a bug in a module's source, to see whether the checks notice: `python -m pytest
tests/mutants.py`.

The bugs stand in the tables `MUTANTS` of `tests/evaluation/mutants_*.py`: the code, the code with
the bug, and the check that must fail on it. They match source text, so pytest does not collect this
file by itself.
"""

import importlib
import importlib.util
import tempfile
import types
from dataclasses import replace
from pathlib import Path

import pytest

from src import config

ROOMS = {"metrics": "evaluation", "results": "evaluation", "comparisons": "evaluation"}
ROOMS |= {"intervals": "evaluation", "robustness": "detectors"}


def tables():
    """Module → its bugs."""
    return {
        f"src.{room}.{name}": importlib.import_module(f"evaluation.mutants_{name}").MUTANTS
        for name, room in ROOMS.items()
    }


def pytest_generate_tests(metafunc):
    if "bug" in metafunc.fixturenames:
        cases = [
            (module, name, bug) for module, found in tables().items() for name, bug in found.items()
        ]
        values = [(module, bug) for module, _, bug in cases]
        metafunc.parametrize("module, bug", values, ids=[f"{m}: {n}" for m, n, _ in cases])


def test_checks_notice_a_planted_bug(module, bug, tmp_path, monkeypatch):
    monkeypatch.setattr(config, "HOME", tmp_path)
    test_sets = {"inpainting": "wiki", "insight": "wiki", "gan140k": "gan140k"}
    num_resamples = 40 if module.endswith("results") else 60
    study = replace(config.get_study("tiny"), num_resamples=num_resamples, test_sets=test_sets)
    must_be_noticed(module, bug, study, monkeypatch)


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
    """Fails unless the check of `bug` fails on the module with it; gives the check as many fixtures
    as it takes."""
    old, new, check = bug
    assert check.__code__.co_varnames[0] == "code", f"{check.__name__} takes no module."
    arguments = (plant(module_name, old, new), *fixtures)[: check.__code__.co_argcount]
    assert noticed(check, *arguments), f"{check.__name__} passes in spite of it."


def noticed(check, *arguments) -> bool:
    """Whether the check fails; a crash is noticed as well as a wrong number."""
    try:
        check(*arguments)
    except (Exception, pytest.fail.Exception):  # noqa: BLE001
        return True
    return False
