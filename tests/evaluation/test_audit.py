"""Traits, trait tables, the baselines on traits, principal components."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from src import config
from src.evaluation import audit, metrics, pca
from src.evaluation.results import read_scores
from src.pictures.decoding import UnreadableImage, decode
from src.pictures.steps import apply


def picture(seed=0, width=48, height=40):
    """A smooth colour picture with a little noise, `uint8`."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    return (smooth + random.integers(-4, 5, smooth.shape)).clip(0, 255).astype(np.uint8)


def encoded(image, kind="JPEG", **options):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


# ------------------------------------------------------------------------------------------- traits


def test_file_traits_read_what_was_written(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # sideways: traits keep to the stored orientation
    contents = [
        encoded(picture(), quality=75, subsampling="4:2:0"),
        encoded(picture(), quality=92, subsampling="4:4:4", progressive=True, exif=exif),
        encoded(picture()[..., 0], quality=30),
        encoded(picture(), "PNG"),
    ]
    (tmp_path / "a.jpg").write_bytes(contents[0])
    traits = audit.file_traits([tmp_path / "a.jpg", str(tmp_path / "a.jpg"), *contents])
    assert traits.iloc[0].equals(traits.iloc[1]) and traits.iloc[0].equals(traits.iloc[2])
    traits = traits.iloc[2:].reset_index(drop=True)
    assert traits["width"].tolist() == [48] * 4 and traits["height"].tolist() == [40] * 4
    assert traits["aspect"].tolist() == [1.2] * 4
    assert traits["bytes_per_pixel"].tolist() == [len(content) / (48 * 40) for content in contents]
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
    traits = audit.file_traits([encoded(picture(), quality=quality) for quality in qualities])
    assert traits["quality"].tolist() == qualities


def test_file_traits_decode_no_pixels():
    cut = encoded(picture(width=400, height=300), quality=90)[:2000]
    assert audit.file_traits([cut])["width"].tolist() == [400]


def test_file_traits_of_no_picture(tmp_path):
    (tmp_path / "text.jpg").write_text("not a picture")
    for bad in (tmp_path / "text.jpg", tmp_path / "missing.jpg", b"", b"abc"):
        with pytest.raises(UnreadableImage):
            audit.file_traits([bad])
    assert audit.file_traits([]).shape == (0, 11)


def test_replay_is_the_file_behind_the_pixels(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(encoded(picture(), "PNG"))
    steps = ("squash:32", "jpeg:75", "jpeg:75")
    content = audit.replay(file, steps)
    np.testing.assert_array_equal(decode(io.BytesIO(content)), apply(picture(), steps))
    traits = audit.file_traits([content])
    assert traits[["width", "height", "quality", "subsampling"]].iloc[0].tolist() == [32, 32, 75, 2]


def test_replay_keeps_a_file_that_has_had_the_pipeline(tmp_path):
    file = tmp_path / "a.jpg"
    file.write_bytes(encoded(picture(width=32, height=32), quality=75))
    assert audit.replay(file, ("squash:32",)) == file.read_bytes() == audit.replay(file, ())
    assert audit.replay(file, ("square", "squash:32")) == file.read_bytes()
    with pytest.raises(ValueError, match="not a file"):
        audit.replay(file, ("squash:16",))
    with pytest.raises(ValueError, match="not a file"):
        audit.replay(file, ("blur:3",))


def test_controlled_files_cannot_be_told_apart_by_their_headers(tmp_path):
    """The shortcut and its cure: big square fakes against small oblong reals, then the replay."""
    steps, reals, fakes = ("squash:64", "jpeg:75", "jpeg:75"), [], []
    for seed in range(40):
        real, fake = tmp_path / f"real{seed}.jpg", tmp_path / f"fake{seed}.jpg"
        real.write_bytes(encoded(picture(seed, 60 + seed, 90), quality=80 + seed % 15))
        Image.open(real).resize((64, 64), Image.Resampling.BICUBIC).save(
            tmp_path / "once.jpg", quality=75
        )
        Image.open(tmp_path / "once.jpg").save(
            fake, quality=75
        )  # an untouched "fake": its photograph's pixels
        reals.append(real)
        fakes.append(fake)
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
    assert traits["contrast"][0] == pytest.approx(0, abs=0.01) and traits["contrast"][
        4
    ] == pytest.approx(50, abs=0.01)
    assert traits["saturation"].tolist()[:3] == [0, 1, 0]
    assert traits["noise"][3] == pytest.approx(6, rel=0.1)
    assert (traits["noise"][[0, 1, 2, 4]] < 0.01).all()  # neither a slope nor an edge is noise
    assert traits["sharpness"][0] == 0 and traits["sharpness"][4] > 100


@pytest.mark.parametrize("shape, kind", [((2, 8, 8), np.uint8), ((2, 8, 8, 3), np.float32)])
def test_pixel_traits_refuse_other_pixels(shape, kind):
    with pytest.raises(ValueError, match="uint8"):
        audit.pixel_traits(np.zeros(shape, kind))


# ---------------------------------------------------------------------------------------- baselines


@pytest.fixture
def planted():
    """200 pairs of one group each: one trait shifted up, one down, one useless, one two-sided, one
    constant."""
    random = np.random.default_rng(0)
    labels, groups = np.tile([0, 1], 200), np.repeat(np.arange(200), 2)
    traits = pd.DataFrame(random.normal(size=(400, 3)), columns=["up", "down", "useless"])
    traits["up"] += labels
    traits["down"] -= 2 * labels
    traits["two_sided"] = np.where(labels == 1, 0.0, random.choice([-1, 1], 400)) + random.normal(
        scale=0.1, size=400
    )
    traits["constant"] = 7.0
    return traits, labels, groups


def auc_by_loop(labels, scores, groups):
    """Fakes against the reals of other groups."""
    pairs = [
        1.0 if fake > real else 0.5 if fake == real else 0.0
        for fake, of_fake in zip(scores[labels == 1], groups[labels == 1])
        for real, of_real in zip(scores[labels == 0], groups[labels == 0])
        if of_fake != of_real
    ]
    return np.mean(pairs)


def test_trait_table_against_a_loop(planted):
    traits, labels, groups = planted
    traits.loc[:9, "up"] = np.nan
    table = audit.trait_table(traits, labels, groups, num_resamples=200).set_index("trait")
    for name in traits:
        expected = auc_by_loop(labels, traits[name].fillna(-1e9).to_numpy(), groups)
        assert table.loc[name, "auc"] == pytest.approx(expected, abs=1e-12)
        assert table.loc[name, "ci_low"] <= expected <= table.loc[name, "ci_high"]
    assert table.index[0] == "down" and table.index[-1] == audit.ALL_TRAITS
    assert table.loc["down", "ci_high"] < 0.2 and table.loc["up", "ci_low"] > 0.65
    assert table.loc["useless", "ci_low"] < 0.5 < table.loc["useless", "ci_high"]
    constant = table.loc["constant"]
    assert constant["auc"] == 0.5 and constant["ci_low"] < 0.5 < constant["ci_high"]
    assert (
        abs(table.loc["two_sided", "auc"] - 0.5) < 0.1 and table.loc[audit.ALL_TRAITS, "auc"] > 0.99
    )


def test_useless_traits_stay_at_chance(planted):
    _, labels, groups = planted
    random = np.random.default_rng(1)
    noise = pd.DataFrame(random.normal(size=(400, 4)))
    assert abs(roc_auc_score(labels, _out_of_fold(noise, labels, groups)) - 0.5) < 0.1


def test_groups_do_not_leak_between_folds():
    """A trait that names the group tells everything of a known group and nothing of a new one."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 10)
    labels = random.permutation(np.repeat([0, 1], 20))[groups]
    traits = pd.DataFrame({"group": random.permutation(40)[groups]})
    as_files = _out_of_fold(traits, labels, np.arange(400))
    by_group = _out_of_fold(traits, labels, groups)
    assert roc_auc_score(labels, as_files) > 0.9 and roc_auc_score(labels, by_group) < 0.75


@pytest.fixture
def tasks():
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
            traits = random.normal(size=(size, 2))
            traits += [6 * (generator == "inpainting"), 6 * (generator == "insight")]
            rows[["of_first", "of_second"]] = traits
            lots.append(rows.assign(task=task, split=split, label=label, generator=generator))
    table = pd.concat(lots).sample(frac=1, random_state=0)  # the index is no range
    celeba = table["task"] == "celeba"
    table["test_set"] = table["task"].where(~celeba, "inpainting")
    table["real_source"] = np.where(celeba, "celeba", "wiki")
    return table, table[["of_first", "of_second"]]


def test_traits_transferred_and_own(tasks, tmp_path, monkeypatch):
    monkeypatch.setattr(config, "HOME", tmp_path)
    (table, traits), study = tasks, config.get_study("tiny")
    rows = audit.score_traits(
        study, table, traits, approach="pixels", name="Traits", protocol="controlled"
    )
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
    expected = roc_auc_score(*scores.query("test_set == 'insight'")[["label", "score"]].T.values)
    assert auc["Traits", "insight"] == pytest.approx(expected)

    own = read_scores(study, "Traits_own-controlled")
    assert set(own["path"]) == set(table.query("split == 'test' and task != 'celeba'")["path"])
    cards = rows[["model", "test_set", "train_set", "num_seeds"]].drop_duplicates()
    assert sorted(cards.itertuples(index=False, name=None)) == [
        ("Traits", "inpainting", "inpainting", 1), ("Traits", "insight", "inpainting", 1),
        ("Traits_own", "inpainting", "inpainting", 1), ("Traits_own", "insight", "insight", 1),
    ]  # fmt: skip
    of_celeba = rows[rows["real_source"] == "celeba"]
    assert of_celeba[["model", "metric"]].to_numpy().tolist() == [["Traits", "fpr_at_threshold"]]


def test_own_scores_are_of_models_that_did_not_see_the_picture(tasks, tmp_path, monkeypatch):
    """A trait that names the picture tells nothing of a new one."""
    monkeypatch.setattr(config, "HOME", tmp_path)
    table, study = tasks[0], config.get_study("tiny")
    names = pd.DataFrame({"name": np.random.default_rng(1).permutation(len(table))})
    rows = audit.score_traits(
        study, table, names, approach="pixels", name="Names", protocol="controlled"
    )
    own = rows[(rows["metric"] == "auc") & (rows["model"] == "Names_own")]
    assert len(own) == 2 and (own["value"].sub(0.5).abs() < 0.2).all()
    with pytest.raises(ValueError, match="Both classes"):
        real = (table["label"] == "real").to_numpy()
        audit.score_traits(
            study, table[real], names[real], approach="pixels", name="Names", protocol="controlled"
        )


def test_baselines_say_what_is_wrong(planted):
    traits, labels, groups = planted
    with pytest.raises(ValueError, match="Both classes.*400 real and 0 fake"):
        audit.trait_table(traits, labels * 0, groups)
    with pytest.raises(ValueError, match="N = 400; received .399"):
        audit.trait_table(traits, labels[1:], groups)
    with pytest.raises(ValueError, match="0 .real. and 1 .fake."):
        audit.trait_table(traits, np.where(labels, "fake", "real"), groups)
    with pytest.raises(ValueError, match="Both classes"):
        audit.trait_table(traits[:0], labels[:0], groups[:0])
    with pytest.raises(ValueError, match="at least 2 groups"):
        _out_of_fold(traits, labels, groups * 0)


# ---------------------------------------------------------------------------------------------- PCA


@pytest.mark.parametrize(
    "num_rows, num_values, k", [(12, 300, 3), (700, 24, 5), (900, 768, 3), (400, 48, 40), (9, 5, 5)]
)
def test_joint_pca_equals_sklearn(num_rows, num_values, k):
    random = np.random.default_rng(0)
    spread = 0.9 ** np.arange(min(num_rows, num_values))
    mixed = (
        random.normal(size=(num_rows, len(spread)))
        * spread
        @ random.normal(size=(len(spread), num_values))
    )
    pixels = (120 + 12 * mixed).clip(0, 255).astype(np.uint8)
    ours, oracle = pca.joint_pca(pixels, k), PCA(k, svd_solver="full").fit(pixels.astype(float))
    scale = oracle.singular_values_[0]
    np.testing.assert_allclose(
        ours.scores, oracle.transform(pixels) * signs(ours, oracle), atol=2e-4 * scale
    )
    np.testing.assert_allclose(
        ours.components * signs(ours, oracle)[:, None], oracle.components_, atol=2e-3
    )
    np.testing.assert_allclose(
        ours.explained_variance_ratio, oracle.explained_variance_ratio_, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(ours.mean, oracle.mean_, rtol=1e-5)


def _out_of_fold(traits, labels, groups):
    labels = metrics.check_labels(labels, traits)
    model = audit._boosting(0)
    values = traits.to_numpy(float)
    return audit.cross_validated(model, values, labels, groups, 0)


def signs(ours, oracle):
    return np.sign((ours.components * oracle.components_).sum(1))


def test_joint_pca_takes_pictures_memory_maps_and_repeats(tmp_path):
    pixels = np.stack([picture(seed, 16, 16) for seed in range(30)])
    np.save(tmp_path / "pixels.npy", pixels)
    first = pca.joint_pca(pixels)
    second = pca.joint_pca(np.load(tmp_path / "pixels.npy", mmap_mode="r"))
    np.testing.assert_array_equal(first.scores, second.scores)
    assert first.scores.shape == (30, 3) and first.components.shape == (3, 768)
    rebuilt = first.mean + first.scores @ first.components
    residual = (
        np.square(pixels.reshape(30, -1) - rebuilt).sum()
        / np.square(pixels.reshape(30, -1) - first.mean).sum()
    )
    assert residual == pytest.approx(1 - first.explained_variance_ratio.sum(), abs=1e-4)


def test_joint_pca_of_alike_pictures():
    alike = np.full((500, 8, 8, 3), 50, np.uint8)
    constant = pca.joint_pca(alike, 2)
    assert (
        np.abs(constant.scores).max() < 1e-2
        and np.isfinite(constant.explained_variance_ratio).all()
    )
    alike[::2, :4] = 90  # rank one, far below the number of components asked for
    ratio = pca.joint_pca(alike, 2).explained_variance_ratio
    np.testing.assert_allclose(ratio, [1, 0], atol=1e-4)


@pytest.mark.parametrize("num_components", [0, 10, 50])
def test_joint_pca_refuses_impossible_numbers(num_components):
    with pytest.raises(ValueError, match="Expected at most"):
        pca.joint_pca(np.zeros((10, 20), np.uint8), num_components)


def test_separate_fits_hide_what_a_plane_divides():
    points, labels = pca.separable_example()
    groups = np.arange(len(labels))
    separate, joint = pca.separate_pca(points, labels, 2), pca.joint_pca(points, 2).scores
    apart = np.abs(separate[labels == 1].mean(0) - separate[labels == 0].mean(0))
    assert (apart < 1e-5 * separate.std(0)).all()  # the clouds are drawn over each other
    looks = pca.linear_probe(separate, labels, groups, (2,), num_permutations=2, num_resamples=50)
    truth = pca.linear_probe(joint, labels, groups, (2,), num_permutations=2, num_resamples=50)
    assert looks["auc"][0] < 0.6 and truth["auc"][0] == 1


def test_linear_probe_finds_the_component_that_matters():
    random = np.random.default_rng(0)
    labels, groups = np.tile([0, 1], 150), np.repeat(np.arange(150), 2)
    components = random.normal(size=(300, 10))
    components[:, 6] += 1.5 * labels
    table = pca.linear_probe(
        components, labels, groups, (2, 5, 10), num_permutations=20, num_resamples=200
    )
    assert table["k"].tolist() == [2, 5, 10]
    assert table["auc"][2] > 0.8 and table["auc"][0] < 0.6
    assert (table["null_mean"].sub(0.5).abs() < 0.05).all() and (table["null_high"] < 0.62).all()
    assert table["ci_low"][2] > table["null_high"][2] and (table["ci_low"] <= table["auc"]).all()
    assert table["p_value"][2] == 1 / 21 and table["p_value"][0] > 0.05
    with pytest.raises(ValueError, match="from 1 to 10"):
        pca.linear_probe(components, labels, groups, (2, 20))


def test_the_probe_is_least_squares_on_the_other_folds():
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 4)
    labels = random.integers(0, 2, 120)
    values = random.normal(size=(120, 6)) * [9, 5, 3, 2, 1, 0.1] + 0.5 * labels[:, None]
    shuffled = random.permuted(labels)
    found = pca._out_of_fold(values, np.column_stack([labels, shuffled]), groups)
    design, expected = np.column_stack([values, np.ones(120)]), np.empty((120, 2))
    for train, test in GroupKFold(5).split(values, groups=groups):
        for column, target in enumerate((labels, shuffled)):
            weights = np.linalg.lstsq(design[train], target[train], rcond=None)[0]
            expected[test, column] = design[test] @ weights
    np.testing.assert_allclose(found, expected)
    row = pca.linear_probe(values, labels, groups, (6,), num_permutations=9, num_resamples=20)
    assert row["auc"][0] == pytest.approx(auc_by_loop(labels, expected[:, 0], groups))


def test_p_values_of_components_without_classes_are_even():
    random, groups = np.random.default_rng(0), np.repeat(np.arange(30), 2)
    options = {"num_permutations": 19, "num_resamples": 2}
    found = [
        pca.linear_probe(
            random.normal(size=(60, 2)), random.integers(0, 2, 60), groups, (2,), **options
        )["p_value"][0]
        for _ in range(25)
    ]
    assert 0.35 < np.mean(found) < 0.65 and np.mean(np.array(found) <= 0.05) <= 0.15


def test_shuffling_keeps_the_groups_sizes_and_the_classes():
    labels = np.array([0, 1, 0, 1, 1, 1, 0, 0, 0])
    groups = np.array(["a", "a", "b", "b", "c", "d", "e", "f", "g"])
    random = np.random.default_rng(0)
    drawn = np.stack([pca._shuffled(labels, groups, random) for _ in range(300)])
    assert (
        (drawn[:, :2].sum(1) == 1).all()
        and (drawn[:, 2:4].sum(1) == 1).all()
        and (drawn[:, 4:].sum(1) == 2).all()
    )
    np.testing.assert_allclose(drawn.mean(0), [0.5] * 4 + [0.4] * 5, atol=0.12)
