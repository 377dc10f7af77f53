"""A study with a home of its own."""

import dataclasses

import pytest

from src import config


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "HOME", tmp_path / "a folder with späces")
    return dataclasses.replace(config.get_study("tiny"), name="made")
