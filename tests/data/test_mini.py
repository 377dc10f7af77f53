"""The study `mini` on a mirror of its sources: all notebooks; the records of the first one."""

from dataclasses import replace
from functools import partial

import keras
import pandas as pd
import pytest
from faulty_server import read_tree
from hub_mirror import REVISION, make_mirror
from notebook_cells import run_notebook

from src import config
from src.config import Amounts, get_study
from src.data import catalog, sources
from src.data.archives import extract
from src.data.sources import SOURCES
from src.detectors import explain
from src.evaluation import pca
from src.report import style

DRAWN = Amounts(36, 35, 40, 1)
DEEPFAKEFACE = ("wiki", "inpainting", "text2img", "insight")
TINY = get_study("tiny")
SMALL = replace(
    get_study("mini"),
    part=Amounts(num_photographs=26, num_gan=14, num_celeba=20),
    shares=(0.4, 0.3, 0.3),
    # VGG16_V2 is VGG16_V1 with another head.
    direct=tuple(replace(each, epochs=1) for each in TINY.direct if each.name != "VGG16_V2"),
    fourier=replace(TINY.fourier, epochs=1),
    autoencoder=replace(TINY.autoencoder, epochs=1, head_epochs=1),
    on_gpu={},
    **{name: getattr(TINY, name) for name in ("image_size", "square_size", "face_size")},
    headline=TINY.headline,
    extra_seeds=(1,),
    num_resamples=10,
)


@pytest.fixture(scope="module")
def drawn(mirror, patch, eager):
    """The mirror that a small `mini` is fetched from."""
    make_mirror(mirror, DRAWN)
    expected = (("*.jpg", DRAWN.num_photographs),)
    patch.setattr(sources, "SOURCES", tuple(replace(file, expected=expected) for file in SOURCES))
    patch.setitem(config.STUDIES, "mini", SMALL)
    patch.setattr(style, "DPI", 20)
    patch.setattr(pca, "_NUM_PERMUTATIONS", 20)
    few = partial(explain.occlusion, patch=16, stride=16)
    patch.setattr(explain, "occlusion", lambda *pictures, **_: few(*pictures))
    patch.setenv("STUDY", "mini")
    return mirror


def test_all_sources_come_in_part(outcome):
    assert {delivery.status for delivery in outcome.deliveries.values()} == {"taken in part"}
    counts = {name: delivery.num_files for name, delivery in outcome.deliveries.items()}
    crops = counts.pop("wiki_crop")
    assert counts == dict.fromkeys(DEEPFAKEFACE, 26) | dict(gan140k=31, celeba=23)
    assert 26 <= crops <= DRAWN.num_photographs
    remarks = {name: found.problem for name, found in outcome.deliveries.items() if found.problem}
    assert list(remarks) == ["gan140k"]
    assert "other way round than Kaggle's" in remarks["gan140k"]
    assert remarks["gan140k"].endswith(f"The Hub's main was revision {REVISION}.")


@pytest.mark.parametrize("name", DEEPFAKEFACE)
def test_files_are_those_of_the_whole_archive(outcome, mirror, tmp_path, name):
    extract(mirror / f"{name}.zip", tmp_path / name)
    taken = read_tree(outcome.deliveries[name].folder)
    assert taken.items() <= read_tree(tmp_path / name).items()
    wiki = read_tree(outcome.deliveries["wiki"].folder)
    assert set(taken) == {f"{name}{path.removeprefix('wiki')}" for path in wiki}


def test_records_are_those_of_the_truth(outcome):
    records = outcome.records
    own = records[records["dataset"].isin(DEEPFAKEFACE)]
    told = outcome.truth.loc[own["path"]]
    assert (own["label"].to_numpy() == told["label"]).all()
    assert (own["generator"].to_numpy() == told["generator"]).all()
    gan = records[records["dataset"] == "gan140k"].groupby(["split", "label"]).size()
    assert gan.tolist() == [2, 2, 10, 10, 2, 2]
    celeba = records[records["dataset"] == "celeba"]
    assert celeba.groupby("split").size().to_dict() == {"train": 16, "valid": 2, "test": 2}
    assert (celeba["person"] != "").all()
    tasks = set(catalog.tasks(records, outcome.study)["task"])
    assert tasks >= {*outcome.study.test_sets, "gan140k / wiki", "celeba", "wiki_crop"}


def test_ties_found_are_right_and_no_group_lies_in_two_splits(outcome):
    ties = outcome.swap_ties
    true = outcome.truth.loc[ties["path"], "background"].to_numpy()
    assert len(true) >= 10 and (ties["background"] == true).mean() >= 0.95
    assert outcome.torn.empty
    for what in ("group", "person"):
        named = outcome.records[outcome.records[what] != ""]
        assert named.groupby(what)["split"].nunique().max() == 1


def test_nothing_leaks_through_a_photograph_that_was_not_chosen(outcome):
    """No picture of it is there but the swap itself, which no other swap shares it with."""
    swaps = outcome.records[outcome.records["generator"] == "insight"]
    behind = outcome.truth.loc[swaps["path"], "background"]
    names = outcome.records["path"].str.split("/").str[-1]
    photographs = outcome.deliveries["wiki"].folder.rglob("*.jpg")
    absent = behind[~behind.str.split("/").str[-1].isin([file.name for file in photographs])]
    assert not names.isin(absent.str.split("/").str[-1]).any() and absent.is_unique


@pytest.mark.parametrize("number", ["02", "03", "04", "05", "06"])
def test_the_other_notebooks_run_on_it(number, outcome):
    notebook = run_notebook(number)
    assert list(outcome.study.figures.glob(f"{number}_*.png")) and "Here: " in notebook.printed
    keras.backend.clear_session()


def test_their_results_are_of_all_test_sets_and_no_simulated_one(outcome):
    """The last test: it reads what the notebooks wrote."""
    results = pd.read_csv(outcome.study.figures / "results.csv")
    assert set(results["study"]) == {"mini"}
    assert set(results["test_set"]) == set(outcome.study.test_sets)
    assert {"direct", "probe", "fourier", "autoencoder"} <= set(results["approach"])
    summary = (outcome.study.figures / "summary.md").read_text(encoding="utf-8")
    assert "Multidepth_probe" in summary and "imulated" not in summary
