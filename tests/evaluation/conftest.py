"""What `tests/mutants.py` gives to the same tests: the module under test, and a study."""

from dataclasses import replace
from importlib import import_module

import pytest

from src import config


@pytest.fixture
def code(request):
    return import_module(f"src.evaluation.{request.path.stem.removeprefix('test_')}")


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "HOME", tmp_path)
    test_sets = {"inpainting": "wiki", "insight": "wiki", "gan140k": "gan140k"}
    return replace(config.get_study("tiny"), num_resamples=60, test_sets=test_sets)
