"""The house: rooms import in one direction only; files and rooms stay small."""

import ast

import pytest

from src.config import ROOT

# A module may import from modules of a lower rank, and from its own room.
RANKS = {"src": 0, "src.config": 0, "src.files": 0, "src.pictures": 1, "src.data": 2}
RANKS |= {"src.evaluation": 3, "src.detectors": 4, "src.report": 5}
RANKS |= {"src.predict": 6}
# Entry points: nothing imports them, so they may import every room.
ENTRIES = ("src.evaluation.__main__", "src.app")
RANKS |= dict.fromkeys(ENTRIES, 7)
FILES = sorted(
    path for room in ("src", "simulator", "tools") for path in (ROOT / room).rglob("*.py")
)
NAMES = [path.relative_to(ROOT).as_posix() for path in FILES]


def room_of(module: str) -> str:
    """The longest name in `RANKS` that the module lies in, else its first part."""
    parts = module.split(".")
    prefixes = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((prefix for prefix in prefixes if prefix in RANKS), parts[0])


def imported(path) -> set[str]:
    """Full names of what a file imports."""
    package, found = path.relative_to(ROOT).parts[:-1], set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, node.module or ""]).rstrip(".")
            found |= {f"{base}.{name.name}" for name in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_imports_go_one_way(path):
    here = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for module in imported(path):
        there = room_of(module)
        assert there not in ENTRIES, module
        if here == "simulator":
            assert there not in ("tools", "src") and there not in RANKS, module
        elif there == "simulator":
            assert here == "tools" or path.name == "sources.py", module
        elif here in RANKS:
            assert there != "tools", module
            assert there == here or RANKS.get(there, -1) < RANKS[here] or RANKS[there] == 0, module


def test_the_rooms_do_not_grow():
    def lines(room):
        files = (ROOT / room).rglob("*.py")
        return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)

    assert lines("src") <= 10_980 and lines("simulator") <= 1_234
