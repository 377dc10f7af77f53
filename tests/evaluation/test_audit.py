"""Traits, trait tables, the baselines on traits."""

import io

import numpy as np
import pandas as pd
import pytest
from made_pictures import photograph, saved
from made_results import auc
from PIL import Image
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from src.evaluation import audit
from src.evaluation.results import read_scores
from src.pictures.decoding import UnreadableImage, decode
from src.pictures.steps import apply

PICTURE = photograph(0)


def encoded(image, kind="JPEG", **options):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


def test_file_traits_read_what_was_written(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # sideways: traits keep to the stored orientation
    contents = [
        encoded(PICTURE, quality=75, subsampling="4:2:0"),
        encoded(PICTURE, quality=92, subsampling="4:4:4", progressive=True, exif=exif),
        encoded(PICTURE[..., 0], quality=30),
        encoded(PICTURE, "PNG"),
    ]
    (tmp_path / "a.jpg").write_bytes(contents[0])
    traits = audit.file_traits([tmp_path / "a.jpg", str(tmp_path / "a.jpg"), *contents])
    assert traits.iloc[0].equals(traits.iloc[1]) and traits.iloc[0].equals(traits.iloc[2])
    traits = traits.iloc[2:].reset_index(drop=True)
    assert (traits[["width", "height", "aspect"]] == [120, 150, 0.8]).all(axis=None)
    assert traits["bytes_per_pixel"].tolist() == [len(each) / (120 * 150) for each in contents]
    assert traits["channels"].tolist() == [3, 3, 1, 3]
    assert traits["exif"].tolist() == [0, 1, 0, 0]
    assert traits["quality"].tolist()[:3] == [75, 92, 30]
    assert traits["subsampling"].tolist()[:2] == [2, 0]
    assert traits["progressive"].tolist()[:3] == [0, 1, 0]
    assert traits["luminance_table"][0] > traits["luminance_table"][1] >= 1
    assert traits["chrominance_table"].isna().tolist() == [False, False, True, True]
    assert traits.loc[3, ["luminance_table", "quality", "subsampling", "progressive"]].isna().all()


def test_quality_is_recovered_over_the_whole_scale():
    qualities = [1, 10, 49, 50, 51, 75, 90, 99, 100]
    traits = audit.file_traits([encoded(PICTURE, quality=quality) for quality in qualities])
    assert traits["quality"].tolist() == qualities


def test_file_traits_decode_no_pixels_and_refuse_what_is_no_picture(tmp_path):
    cut = encoded(photograph(0, 400, 300), quality=90)[:2000]
    assert audit.file_traits([cut])["width"].tolist() == [400]
    (tmp_path / "text.jpg").write_text("not a picture")
    for bad in (tmp_path / "text.jpg", tmp_path / "missing.jpg", b"", b"abc"):
        with pytest.raises(UnreadableImage):
            audit.file_traits([bad])
    assert audit.file_traits([]).shape == (0, 11)


def test_replay_is_the_file_behind_the_pixels(tmp_path):
    file = saved(tmp_path / "a.png", PICTURE)
    steps = ("squash:32", "jpeg:75", "jpeg:75")
    content = audit.replay(file, steps)
    np.testing.assert_array_equal(decode(io.BytesIO(content)), apply(PICTURE, steps))
    traits = audit.file_traits([content])
    assert traits[["width", "height", "quality", "subsampling"]].iloc[0].tolist() == [32, 32, 75, 2]


def test_replay_keeps_a_file_that_has_had_the_pipeline(tmp_path):
    file = saved(tmp_path / "a.jpg", photograph(0, 32, 32), quality=75)
    for steps in ((), ("squash:32",), ("square", "squash:32")):
        assert audit.replay(file, steps) == file.read_bytes()
    for steps in (("squash:16",), ("blur:3",)):
        with pytest.raises(ValueError, match="not a file"):
            audit.replay(file, steps)


def test_controlled_files_cannot_be_told_apart_by_their_headers(tmp_path):
    """The shortcut and its cure: big square fakes against small oblong reals, then the replay."""
    steps, reals, fakes = ("squash:64", "jpeg:75", "jpeg:75"), [], []
    for seed in range(40):
        pixels, file = photograph(seed, 60 + seed, 90), tmp_path / f"real{seed}.jpg"
        reals.append(saved(file, pixels, quality=80 + seed % 15))
        fakes.append(audit.replay(reals[-1], steps))  # untouched: its photograph's pixels
    labels, groups = np.repeat([0, 1], 40), np.tile(np.arange(40), 2)
    as_they_lie = audit.file_traits(reals + fakes)
    assert audit.trait_table(as_they_lie, labels, groups, num_resamples=50).iloc[-1]["auc"] == 1
    controlled = audit.file_traits([audit.replay(file, steps) for file in reals] + fakes)
    table = audit.trait_table(controlled, labels, groups, num_resamples=50)
    assert (table["auc"] - 0.5).abs().max() < 1e-9


def test_pixel_traits_measure_what_they_say():
    random = np.random.default_rng(0)
    grey = np.full((64, 64, 3), 100, np.uint8)
    red = grey * np.array([2, 0, 0], np.uint8)
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None] * 2, (64, 64, 3))
    noisy = (100 + random.normal(scale=6, size=(64, 64, 1)).repeat(3, 2)).round().astype(np.uint8)
    sharp = grey.copy()
    sharp[:, 32:] = 200
    traits = audit.pixel_traits(np.stack([grey, red, ramp, noisy, sharp]))
    assert traits["brightness"][0] == pytest.approx(100, abs=0.01)
    assert traits["contrast"][[0, 4]].tolist() == pytest.approx([0, 50], abs=0.01)
    assert traits["saturation"].tolist()[:3] == [0, 1, 0]
    assert traits["noise"][3] == pytest.approx(6, rel=0.1)
    assert (traits["noise"][[0, 1, 2, 4]] < 0.01).all()  # neither a slope nor an edge is noise
    assert traits["sharpness"][0] == 0 and traits["sharpness"][4] > 100


@pytest.fixture
def planted():
    """200 pairs of one group each: one trait shifted up, one down, one useless, one two-sided, one
    constant."""
    random = np.random.default_rng(0)
    labels, groups = np.tile([0, 1], 200), np.repeat(np.arange(200), 2)
    traits = pd.DataFrame(random.normal(size=(400, 3)), columns=["up", "down", "useless"])
    traits["up"] += labels
    traits["down"] -= 2 * labels
    either = np.where(labels == 1, 0.0, random.choice([-1, 1], 400))
    traits["two_sided"] = either + random.normal(scale=0.1, size=400)
    traits["constant"] = 7.0
    return traits, labels, groups


def test_trait_table_tells_each_trait_and_all(planted):
    traits, labels, groups = planted
    traits.loc[:9, "up"] = np.nan
    table = audit.trait_table(traits, labels, groups, num_resamples=200).set_index("trait")
    for name in traits:
        expected = auc(labels, traits[name].fillna(-1e9).to_numpy(), groups)
        assert table.loc[name, "auc"] == pytest.approx(expected, abs=1e-12)
        assert table.loc[name, "ci_low"] <= expected <= table.loc[name, "ci_high"]
    assert table.index[0] == "down" and table.index[-1] == audit.ALL_TRAITS
    assert table.loc["down", "ci_high"] < 0.2 and table.loc["up", "ci_low"] > 0.65
    assert table.loc["constant", "auc"] == 0.5
    for name in ("useless", "constant"):
        assert table.loc[name, "ci_low"] < 0.5 < table.loc[name, "ci_high"]
    assert abs(table.loc["two_sided", "auc"] - 0.5) < 0.1
    assert table.loc[audit.ALL_TRAITS, "auc"] > 0.99


def test_groups_do_not_leak_between_folds():
    """A trait that names the group tells everything of a known group and nothing of a new one."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 10)
    labels = random.permutation(np.repeat([0, 1], 20))[groups]
    names = random.permutation(40)[groups][:, None]
    alone, whole = (
        audit.cross_validated(names, labels, each, seed=0) for each in (np.arange(400), groups)
    )
    assert roc_auc_score(labels, alone) > 0.9 and roc_auc_score(labels, whole) < 0.75
    with pytest.raises(ValueError, match="at least 2 groups"):
        audit.cross_validated(names, labels, groups * 0, seed=0)


@pytest.fixture
def tasks(study):
    """A training task with three splits, a second generator, photographs without fakes; a trait of
    the first generator, one of the second."""
    random, lots = np.random.default_rng(0), []
    sizes = {("inpainting", "train"): 120, ("inpainting", "valid"): 40, ("inpainting", "test"): 40}
    sizes |= {("insight", "test"): 80, ("celeba", "test"): 20}
    for (task, split), size in sizes.items():
        for label in ("real",) if task == "celeba" else ("real", "fake"):
            rows = pd.DataFrame({"path": [f"{task}/{split}/{label}/{n}" for n in range(size)]})
            rows["group"] = rows["path"]
            generator = "real" if label == "real" else task
            shift = [6 * (generator == "inpainting"), 6 * (generator == "insight")]
            rows[["of_first", "of_second"]] = random.normal(size=(size, 2)) + shift
            lots.append(rows.assign(task=task, split=split, label=label, generator=generator))
    table = pd.concat(lots).sample(frac=1, random_state=0)  # the index is no range
    celeba = table["task"] == "celeba"
    table["test_set"] = table["task"].where(~celeba, "inpainting")
    table["real_source"] = np.where(celeba, "celeba", "wiki")
    return study, table, table[["of_first", "of_second"]]


WHO = {"approach": "pixels", "name": "Traits", "protocol": "controlled"}


def test_traits_transferred_and_own(tasks):
    study, table, traits = tasks
    rows = audit.score_traits(study, table, traits, **WHO)
    assert set(rows["approach"]) == {"pixels"} and set(rows["protocol"]) == {"controlled"}
    auc = rows[rows["metric"] == "auc"].set_index(["model", "test_set"])["value"]
    assert len(auc) == 4
    assert (auc[:, "inpainting"] > 0.97).all()
    assert abs(auc["Traits", "insight"] - 0.5) < 0.12 and auc["Traits_own", "insight"] > 0.97

    train = table["split"] == "train"
    oracle = HistGradientBoostingClassifier(early_stopping=False, random_state=study.seed)
    oracle.fit(traits[train].to_numpy(), table.loc[train, "label"] == "fake")
    scores = read_scores(study, "Traits-controlled").set_index("path")
    assert set(scores["split"]) == {"valid", "test"}
    there = traits.set_index(table["path"]).loc[scores.index].to_numpy()
    np.testing.assert_allclose(scores["score"], oracle.predict_proba(there)[:, 1])

    own = read_scores(study, "Traits_own-controlled")
    assert set(own["path"]) == set(table.query("split == 'test' and task != 'celeba'")["path"])
    homes = rows[["model", "test_set", "train_set"]].drop_duplicates()
    expected = [("Traits", name, "inpainting") for name in ("inpainting", "insight")]
    expected += [("Traits_own", name, name) for name in ("inpainting", "insight")]
    assert sorted(homes.itertuples(index=False, name=None)) == expected
    of_celeba = rows[rows["real_source"] == "celeba"]
    assert of_celeba[["model", "metric"]].to_numpy().tolist() == [["Traits", "fpr_at_threshold"]]


def test_own_scores_are_of_models_that_did_not_see_the_picture(tasks):
    """A trait that names the picture tells nothing of a new one."""
    study, table, _ = tasks
    names = pd.DataFrame({"name": np.random.default_rng(1).permutation(len(table))})
    rows = audit.score_traits(study, table, names, **WHO)
    own = rows[(rows["metric"] == "auc") & (rows["model"] == "Traits_own")]
    assert len(own) == 2 and (own["value"].sub(0.5).abs() < 0.2).all()
    real = (table["label"] == "real").to_numpy()
    with pytest.raises(ValueError, match="received .* of .0."):
        audit.score_traits(study, table[real], names[real], **WHO)
