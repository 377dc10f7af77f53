"""Do the tests notice planted bugs? `python -m pytest tests/mutants.py`.

The bugs stand in `planted_bugs.diff`. They match source text, so pytest does not collect this file
by itself.
"""

import importlib
import importlib.util
import re
import types
from dataclasses import replace
from pathlib import Path

import pytest

from src import config


def cases():
    """The bugs, as (module, check, code, code with the bug)."""
    text = Path(__file__).with_name("planted_bugs.diff").read_text(encoding="utf-8")
    for section in text.split("\n@@ ")[1:]:
        heading, bugs = section.split("\n", 1)
        module, check = heading.split(": ")
        for name, old, new in re.findall(r"^(.+)\n-(.+)\n\+(.*)$", bugs, re.MULTILINE):
            yield pytest.param(module, check, old, new, id=f"{module}: {name}")


@pytest.mark.parametrize("module, check, old, new", cases())
def test_checks_notice_a_planted_bug(module, check, old, new, tmp_path, monkeypatch):
    monkeypatch.setattr(config, "HOME", tmp_path)
    test_sets = {"inpainting": "wiki", "insight": "wiki", "gan140k": "gan140k"}
    num_resamples = 40 if module.endswith("results") else 60
    study = replace(config.get_study("tiny"), num_resamples=num_resamples, test_sets=test_sets)
    room, _, name = module.partition(".")
    check = getattr(importlib.import_module(f"{room}.test_{name}"), check)
    fixtures = {"code": plant(f"src.{module}", old, new, tmp_path), "study": study}
    fixtures |= {"monkeypatch": monkeypatch}
    names = check.__code__.co_varnames[: check.__code__.co_argcount]
    arguments = {name: fixtures[name] for name in names}  # here: a missing one notices no bug
    with pytest.raises((Exception, pytest.fail.Exception)):  # noqa: B017
        check(**arguments)


def plant(module: str, old: str, new: str, folder: Path) -> types.ModuleType:
    """A copy of the module in which `old` reads `new`; `old` must occur exactly once."""
    source = Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8")
    if source.count(old) != 1:
        pytest.exit(f"{old!r} occurs {source.count(old)} times in {module}; update the bug.", 1)
    path = folder / "mutant.py"
    path.write_text(source.replace(old, new), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"{module}_mutant", path)
    mutant = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mutant)
    return mutant
