"""A study smaller than any other, and its records, made once for a file of tests."""

import dataclasses

import pandas as pd
import pytest

from src import config
from src.data import catalog, sources, ties
from src.data.fetch import fetch_archives
from src.pictures.decoding import inspect_all


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr(config, "HOME", tmp_path_factory.mktemp("hôme with spaces"))
    tiny = config.get_study("tiny")
    small = dataclasses.replace(tiny, simulation=config.Simulation(30, 14, 10), num_resamples=20)
    yield small
    patch.undo()


@pytest.fixture(scope="module")
def records(study):
    files = sources.remote_files(study)
    assert len(files) == 8 and all("simulated" in file.licence for file in files)
    with sources.served(study):
        deliveries = fetch_archives(files, study.data / "archives", study.data / "raw")
    assert all(delivery.folder and not delivery.problem for delivery in deliveries)
    records = catalog.collect(study)
    facts = inspect_all(catalog.files(study, records))
    whole = facts["reason"].isna().to_numpy()
    assert 0 < (~whole).sum() < 8
    records = records.assign(width=facts["width"], height=facts["height"])[whole].reset_index(
        drop=True
    )
    found = ties.find_swap_ties(records, catalog.root(study))
    pairs = ties.swap_pairs(records, found)
    records["group"] = ties.tie_groups(records["group"], pairs.to_numpy(), max_size=10)
    # Thirty photographs would leave some split empty by chance: here splits go round the groups.
    groups = records["group"].unique()
    turn = ["train", "valid", "test", "train"]
    split = {group: turn[index % 4] for index, group in enumerate(groups)}
    records["split"] = records["split"].where(records["split"] != "", records["group"].map(split))
    records, _ = ties.drop_torn_swaps(records, found)
    catalog.save(study, records, pd.DataFrame(columns=["path", "reason"]))
    return catalog.load(study)


@pytest.fixture
def few(study):
    """Two generators, one small network an approach."""
    test_sets = {name: study.test_sets[name] for name in ("inpainting", "gan140k")}
    return dataclasses.replace(
        study, test_sets=test_sets, foreign_reals={}, aligned={}, unseen_reals=(), num_resamples=5
    )
