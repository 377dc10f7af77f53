"""A study smaller than any other, and its records."""

import dataclasses
import shutil

import keras
import pandas as pd
import pytest

from src import config
from src.data import catalog, sources, ties
from src.data.fetch import fetch_archives
from src.pictures.decoding import inspect_all

SMALL = dataclasses.replace(
    config.get_study("tiny"), simulation=config.Amounts(24, 14, 10, 3), num_resamples=20
)


@pytest.fixture(scope="session", autouse=True)
def no_graphs(eager):
    """All tests of this room are eager."""


@pytest.fixture
def any_policy():
    """Afterwards networks compute in single precision again."""
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="session")
def delivered(tmp_path_factory):
    """The home of a study whose data are there, made once."""
    home = tmp_path_factory.mktemp("delivered")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "HOME", home)
        files = sources.remote_files(SMALL)
        assert len(files) == 8 and all("simulated" in file.licence for file in files)
        with sources.served(SMALL):
            deliveries = fetch_archives(files, SMALL.data / "archives", SMALL.data / "raw")
        assert all(delivery.folder and not delivery.problem for delivery in deliveries)
        records = catalog.collect(SMALL)
        facts = inspect_all(catalog.files(SMALL, records))
        whole = facts["reason"].isna().to_numpy()
        assert 0 < (~whole).sum() < 8
        records = records.assign(width=facts["width"], height=facts["height"])[whole]
        records = records.reset_index(drop=True)
        found = ties.find_swap_ties(records, catalog.root(SMALL))
        pairs = ties.swap_pairs(records, found)
        records["group"] = ties.tie_groups(records["group"], pairs.to_numpy(), max_size=10)
        # So few photographs would leave some split empty by chance: splits go round the groups.
        groups = records["group"].unique()
        turn = dict(zip(groups, ["train", "valid", "test", "train"] * len(groups)))
        split = records["split"]
        records["split"] = split.where(split != "", records["group"].map(turn))
        records, _ = ties.drop_torn_swaps(records, found)
        catalog.save(SMALL, records, pd.DataFrame(columns=["path", "reason"]))
    return home


@pytest.fixture(scope="module")
def study(delivered, tmp_path_factory):
    """The study in a home of its own, for a file of tests."""
    home = tmp_path_factory.mktemp("hôme with spaces")
    shutil.copytree(delivered, home, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "HOME", home)
        yield SMALL


@pytest.fixture(scope="module")
def records(study):
    return catalog.load(study)


@pytest.fixture(scope="module")
def few(study):
    """Two generators and nothing else to score."""
    test_sets = {name: study.test_sets[name] for name in ("inpainting", "gan140k")}
    study = catalog.without_other_tests(study)
    return dataclasses.replace(study, test_sets=test_sets, num_resamples=5)
