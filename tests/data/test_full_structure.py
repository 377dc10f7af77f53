"""The study `full`, as far as it can be had here: notebook 1 on a mirror of all seven archives.

The archives have the real names and layout, and simulated pictures; of `wiki` the published number
of files is kept, so that one archive is not as expected.
"""

import shutil
from dataclasses import replace

import pandas as pd
import pytest
from notebook_cells import run_notebook

from simulator.archives import make_archives
from src.config import Amounts
from src.data import catalog, readers, sources
from src.data.sources import SOURCES
from src.files import digest_of
from src.pictures.decoding import decode

NUM_PHOTOGRAPHS, NUM_GAN = 30, 28


def counts(file):
    """What `sources.SOURCES` should expect of the small archives."""
    for pattern, number in file.expected:
        if pattern.endswith(".jpg") and file.name == "gan140k":
            number = NUM_GAN * 5 // 7 if "train" in pattern else NUM_GAN // 7
        elif pattern.endswith(".jpg") and file.name != "wiki":
            number = NUM_PHOTOGRAPHS  # as many as of CelebA
        yield pattern, number


@pytest.fixture(scope="module")
def drawn(mirror, patch, tmp_path_factory):
    """The archives as they were drawn; they lie on the mirror that `full` is fetched from."""
    made, files = tmp_path_factory.mktemp("made"), []
    numbers = vars(Amounts(NUM_PHOTOGRAPHS, NUM_GAN, NUM_PHOTOGRAPHS))
    paths = make_archives(made, **numbers, square_size=64, seed=1)
    for file in SOURCES:
        archive = shutil.copy(paths[file.name], mirror / file.archive)
        digest = file.digest and digest_of(archive, file.digest.split(":")[0])
        size = file.num_bytes and archive.stat().st_size
        files.append(replace(file, num_bytes=size, digest=digest, expected=tuple(counts(file))))
    patch.setattr(sources, "SOURCES", tuple(files))
    patch.setenv("STUDY", "full")
    return made


def test_all_archives_come_and_only_an_unexpected_number_is_remarked(outcome):
    assert {delivery.status for delivery in outcome.deliveries.values()} == {"extracted"}
    assert [name for name, found in outcome.deliveries.items() if found.problem] == ["wiki"]
    problem = outcome.deliveries["wiki"].problem
    assert f"{NUM_PHOTOGRAPHS} files like wiki/*.jpg where 30,000 are expected. Delete" in problem
    assert "7 of 7 archives" in outcome.printed and problem in outcome.printed


def test_records_are_those_of_the_truth(outcome):
    rejected = pd.read_csv(outcome.study.data / "rejected.csv")
    truth, records = outcome.truth, outcome.records.set_index("path")
    wanted = truth[(truth["damage"] == "") & ~truth.index.str.startswith("trace/")]
    crops = records["dataset"] == "wiki_crop"
    assert sum(crops) == NUM_PHOTOGRAPHS and (records.loc[crops, "label"] == "real").all()
    records = records[~crops]
    torn = rejected["reason"].str.contains("another split")
    assert set(records.index) == set(wanted.index) - set(rejected.loc[torn, "path"])
    for column in ("label", "generator"):
        assert (records[column] == truth.loc[records.index, column]).all()
    is_told = records["gender"] != ""
    assert (records["gender"] == truth.loc[records.index, "gender"])[is_told].all()
    assert is_told[records["dataset"].isin(["wiki", "celeba"])].mean() > 0.9
    boxes = records.loc[records["generator"] != "inpainting", readers.BOX].dropna()
    # An inpainting's new face may fill its mask otherwise.
    assert set(records.loc[boxes.index, "generator"]) == {"real", "insight"}
    assert abs(boxes - truth.loc[boxes.index, readers.BOX]).max(axis=None) < 1e-6
    celeba = records[records["dataset"] == "celeba"]
    error = celeba[readers.LANDMARKS] - truth.loc[celeba.index, readers.LANDMARKS]
    assert abs(error).max(axis=None) < 0.5 / 178 + 1e-9
    damaged = rejected[~torn]
    assert set(damaged["path"]) == set(truth.index[truth["damage"] != ""])
    assert damaged["reason"].str.len().min() > 10


def test_swaps_are_tied_to_the_right_photographs(outcome):
    ties = outcome.swap_ties
    true = outcome.truth.loc[ties["path"], "background"].to_numpy()
    assert (ties["background"] == true).mean() >= 0.95
    assert len(ties) >= 0.9 * NUM_PHOTOGRAPHS  # some photographs are damaged


def test_groups_and_splits_are_sound(outcome):
    records = outcome.records
    assert set(records["split"]) <= {"train", "valid", "test"}
    assert records.groupby("group")["split"].nunique().max() == 1
    assert records[records["person"] != ""].groupby("person")["split"].nunique().max() == 1
    split_of = records.set_index("path")["split"]
    ends = outcome.swap_ties[["path", "background"]].map(split_of.get).dropna()
    assert len(ends) and (ends["path"] == ends["background"]).all()
    tasks = catalog.tasks(records, outcome.study)
    assert set(outcome.study.test_sets) <= set(tasks["test_set"])
    assert decode(catalog.files(outcome.study, tasks)[0]).ndim == 3


def test_a_missing_archive_is_explained_and_the_rest_goes_on(outcome, mirror):
    """The last test: it takes CelebA away."""
    (mirror / "celeba-dataset.zip").unlink()
    shutil.rmtree(outcome.study.data / "archives")
    shutil.rmtree(outcome.study.data / "raw" / "celeba")
    notebook = run_notebook("01")
    statuses = dict.fromkeys(outcome.deliveries, "already there") | {"celeba": "failed"}
    assert {delivery.name: delivery.status for delivery in notebook.deliveries} == statuses
    assert "6 of 7 archives" in notebook.printed
    assert "copies.take_copy(study, 'celeba'" in notebook.printed
    left = outcome.records[outcome.records["dataset"] != "celeba"].reset_index(drop=True)
    pd.testing.assert_frame_equal(catalog.load(notebook.study), left)
