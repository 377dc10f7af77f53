"""Every benchmark runs; none of its times is judged here."""

import importlib
import sys
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
import tensorflow

import benchmarks
from benchmarks import growth
from benchmarks.__main__ import NAMES, table


@pytest.fixture
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(benchmarks, "RESULTS", tmp_path / "results.csv")
    monkeypatch.setenv("BENCHMARKS_QUICK", "")
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--quick"])
    # Without processes that import everything once more, and without graphs.
    monkeypatch.setattr(growth, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
    tensorflow.config.run_functions_eagerly(True)
    yield
    tensorflow.config.run_functions_eagerly(False)


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_runs(quick, name, capsys):
    importlib.import_module(f"benchmarks.{name}").main()
    shown = capsys.readouterr().out
    assert "ours" in shown or "is missing" in shown or name == "costs" and "ties" in shown
    assert not benchmarks.RESULTS.exists()


def test_rows_are_added_and_shown(monkeypatch, tmp_path):
    monkeypatch.setattr(benchmarks, "RESULTS", tmp_path / "results.csv")
    monkeypatch.setenv("BENCHMARKS_QUICK", "")
    amounts = {"ours": lambda: 1000, "another": lambda: 1}
    for goal in (2.0, 1e12):
        benchmarks.race("claim", "images", amounts, {"another": goal})
    rows = pd.read_csv(tmp_path / "results.csv")
    assert rows["reached"].dropna().tolist() == [True, False] and len(rows) == 4
    assert (rows["min"] <= rows["median"]).all() and (rows["ratio_min"] > 0).all()
    shown = table(rows.drop_duplicates(["claim", "candidate"], keep="last"))
    assert "| claim | another |" in shown and "≥ 1e+12, **not reached**" in shown


def test_a_text_is_put_in_its_place(tmp_path):
    file = tmp_path / "a.md"
    file.write_text("one\n<!-- x -->\n\nold\n\n<!-- end -->\ntwo\n<!-- end -->\n")
    benchmarks.put(file, "x", "new")
    assert file.read_text() == "one\n<!-- x -->\n\nnew\n\n<!-- end -->\ntwo\n<!-- end -->\n"
