import subprocess

import pandas as pd
import pytest

from src import config


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "HOME", tmp_path)
    return config.get_study("tiny")


@pytest.fixture(scope="session")
def committed():
    """AUCs of the headline rows: (study, model, protocol, test set) → row."""
    from src.report import tables

    command = ["git", "diff", "--quiet", "HEAD", "--", "figures"]
    if subprocess.run(command, cwd=config.ROOT, capture_output=True).returncode:
        pytest.skip("figures/ holds other results than the committed ones")
    found = {}
    for name in ("demo", "faces"):
        results = pd.read_csv(config.ROOT / "figures" / name / "results.csv")
        rows = tables.headline(config.STUDIES[name], results).query("metric == 'auc'")
        keys = zip(rows["model"], rows["protocol"], rows["test_set"])
        found |= {(name, *key): row for key, row in zip(keys, rows.itertuples())}
    return found
