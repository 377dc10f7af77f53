"""The study `full`, as far as it can be had here: notebook 1 on a mirror of all seven archives.

The archives have the real names and layout, and simulated pictures; of `wiki` the published number
of files is kept, so that one archive is not as expected.
"""

import hashlib
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import matplotlib
import pandas as pd
import pytest
from notebook_cells import run_notebook

from simulator.archives import make_archives, truth
from simulator.server import serve
from src import config
from src.config import ROOT, Amounts
from src.data import catalog, readers, sources
from src.data.sources import MIRROR, SOURCES
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
def outcome(tmp_path_factory):
    """Notebook 1 after `STUDY=full`: its variables, what it printed and wrote, and the truth."""
    home, made, mirror = (tmp_path_factory.mktemp(name) for name in ("home", "made", "mirror"))
    numbers = vars(Amounts(NUM_PHOTOGRAPHS, NUM_GAN, NUM_PHOTOGRAPHS))
    paths, files = make_archives(made, **numbers, square_size=64, seed=1), []
    for file in SOURCES:
        content = paths[file.name].read_bytes()
        (mirror / file.archive).write_bytes(content)
        algorithm = file.digest.split(":")[0] if file.digest else None
        digest = algorithm and f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"
        size = file.num_bytes and len(content)
        files.append(replace(file, num_bytes=size, digest=digest, expected=tuple(counts(file))))
    with pytest.MonkeyPatch.context() as patch, serve(mirror) as address:
        patch.setattr(config, "HOME", home)
        patch.setattr(sources, "SOURCES", tuple(files))
        patch.setenv(MIRROR, address)
        patch.setenv("STUDY", "full")
        patch.chdir(ROOT / "notebooks")
        patch.setattr(sys, "path", list(sys.path))  # the setup cell adds to it
        matplotlib.use("agg")
        notebook = run_notebook("01")
        yield SimpleNamespace(
            study=notebook.study,
            mirror=mirror,
            deliveries={delivery.name: delivery for delivery in notebook.deliveries},
            records=catalog.load(notebook.study),
            rejected=pd.read_csv(notebook.study.data / "rejected.csv"),
            ties=notebook.swap_ties,
            printed=notebook.printed,
            truth=truth(made).set_index("path"),
        )


def test_all_archives_come_and_only_an_unexpected_number_is_remarked(outcome):
    assert {delivery.status for delivery in outcome.deliveries.values()} == {"extracted"}
    assert [name for name, found in outcome.deliveries.items() if found.problem] == ["wiki"]
    problem = outcome.deliveries["wiki"].problem
    assert f"{NUM_PHOTOGRAPHS} files like wiki/*.jpg where 30,000 are expected. Delete" in problem
    assert "7 of 7 archives" in outcome.printed and problem in outcome.printed


def test_records_are_those_of_the_truth(outcome):
    truth, records = outcome.truth, outcome.records.set_index("path")
    wanted = truth[(truth["damage"] == "") & ~truth.index.str.startswith("trace/")]
    crops = records["dataset"] == "wiki_crop"
    assert sum(crops) == NUM_PHOTOGRAPHS and (records.loc[crops, "label"] == "real").all()
    records = records[~crops]
    torn = outcome.rejected["reason"].str.contains("another split")
    assert set(records.index) == set(wanted.index) - set(outcome.rejected.loc[torn, "path"])
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
    damaged = outcome.rejected[~torn]
    assert set(damaged["path"]) == set(truth.index[truth["damage"] != ""])
    assert damaged["reason"].str.len().min() > 10


def test_swaps_are_tied_to_the_right_photographs(outcome):
    true = outcome.truth.loc[outcome.ties["path"], "background"].to_numpy()
    assert (outcome.ties["background"] == true).mean() >= 0.95
    assert len(outcome.ties) >= 0.9 * NUM_PHOTOGRAPHS  # some photographs are damaged


def test_groups_and_splits_are_sound(outcome):
    records = outcome.records
    assert set(records["split"]) <= {"train", "valid", "test"}
    assert records.groupby("group")["split"].nunique().max() == 1
    assert records[records["person"] != ""].groupby("person")["split"].nunique().max() == 1
    split_of = records.set_index("path")["split"]
    ends = outcome.ties[["path", "background"]].map(split_of.get).dropna()
    assert len(ends) and (ends["path"] == ends["background"]).all()
    tasks = catalog.tasks(records, outcome.study)
    assert set(outcome.study.test_sets) <= set(tasks["test_set"])
    assert decode(catalog.files(outcome.study, tasks)[0]).ndim == 3


def test_a_missing_archive_is_explained_and_the_rest_goes_on(outcome):
    """The last test: it takes CelebA away."""
    (outcome.mirror / "celeba-dataset.zip").unlink()
    shutil.rmtree(outcome.study.data / "archives")
    shutil.rmtree(outcome.study.data / "raw" / "celeba")
    notebook = run_notebook("01")
    statuses = dict.fromkeys(outcome.deliveries, "already there") | {"celeba": "failed"}
    assert {delivery.name: delivery.status for delivery in notebook.deliveries} == statuses
    assert "6 of 7 archives" in notebook.printed
    assert "copies.take_copy(study, 'celeba'" in notebook.printed
    left = outcome.records[outcome.records["dataset"] != "celeba"].reset_index(drop=True)
    pd.testing.assert_frame_equal(catalog.load(notebook.study), left)
