"""From archives to results in one process, on a study smaller than any other."""

import os
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
from made_networks import same_boxes
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from src import config
from src.config import PROTOCOLS, Autoencoder
from src.data import catalog, faces, sources
from src.data.fetch import MIRROR
from src.detectors import autoencoder, models, probe, scoring, training
from src.evaluation import audit, comparisons
from src.evaluation.results import RESULT_COLUMNS, read_scores, scores_file
from src.pictures.decoding import decode
from src.pictures.steps import apply


@pytest.fixture(scope="module")
def pictures(study, records):
    return {name: scoring.prepare(study, records, name, "direct") for name in PROTOCOLS}


def trained(network, pictures, seed=0):
    """A detector after its epochs."""
    keras.utils.set_random_seed(seed)
    model = models.build(network, pictures.study.image_size)
    model, history = scoring.fit(model, network, pictures)
    assert len(history) == network.epochs
    return model


@pytest.fixture(scope="module")
def scored(few, records):
    """A trained network, its model, pictures and rows of results."""
    shown = scoring.prepare(few, records, "report", "direct")
    network = replace(few.direct[2], name="scored", epochs=1)
    model = trained(network, shown)
    return network, model, shown, scoring.score(model, network, shown)


def test_a_study_is_served_as_long_as_it_needs_and_the_mirror_put_back(study, monkeypatch):
    full = config.get_study("full")
    assert sources.remote_files(full) == sources.SOURCES
    monkeypatch.setenv(MIRROR, "http://elsewhere.invalid")
    with sources.served(full):
        assert os.environ[MIRROR] == "http://elsewhere.invalid"
    with sources.served(study):
        assert os.environ[MIRROR].startswith("http://127.0.0.1")
    assert os.environ[MIRROR] == "http://elsewhere.invalid"


def test_pictures_are_what_their_steps_say(study, records, pictures):
    for shown in pictures.values():
        for row in shown.table.sample(12, random_state=0).itertuples():
            made = apply(decode(catalog.root(study) / row.path), tuple(row.steps.split()))
            np.testing.assert_array_equal(shown.pixels[row.row], made)
        assert (shown.labels[shown.table["row"]] == (shown.table["label"] == "fake")).all()
        assert (shown.groups()[shown.table["row"]] == shown.table["group"]).all()


def test_scores_are_kept_while_model_and_pictures_stay(scored):
    network, model, shown, rows = scored
    study, name = shown.study, "scored-report"
    assert set(rows["test_set"]) == {*study.test_sets} and list(rows) == list(RESULT_COLUMNS)
    card, card_file = training.read_card(study.models / name), study.models / f"{name}.json"
    assert card["starts_from"] == "random values" and 0 <= card["threshold"] <= 1
    assert str(config.HOME) not in card_file.read_text()
    of_row, row = read_scores(study, name).iloc[3], shown.table.query("split != 'train'").iloc[3]
    assert of_row["path"] == row["path"]
    alone = model.predict(shown.pixels[[row["row"]]], verbose=0).item()
    assert alone == pytest.approx(of_row["score"], abs=1e-4)
    changed = card_file.stat().st_mtime_ns
    pd.testing.assert_frame_equal(scoring.score(model, network, shown), rows)
    assert card_file.stat().st_mtime_ns == changed  # nothing was scored anew
    scores_file(study, name).unlink()  # as when somebody makes room on the disk
    pd.testing.assert_frame_equal(scoring.score(model, network, shown), rows)
    apart = replace(shown, table=shown.table.assign(group=shown.table["path"]))
    scoring.score(model, network, apart)
    assert set(read_scores(study, name)["group"]) <= set(shown.table["path"])


def test_crops_are_scored_and_change_nothing_else(few, records, scored):
    network, model, bare, _ = scored
    network = replace(network, name="with_crops")
    study = replace(few, cropped_reals=("wiki_crop",))
    shown = scoring.prepare(study, records, "report", "direct")
    assert shown.fingerprint == bare.fingerprint and shown.pixels.shape == bare.pixels.shape
    scoring.fit(model, network, shown)
    rows = scoring.score(model, network, shown).query("real_source == 'wiki_crop'")
    (row,) = rows.to_dict("records")
    assert (row["metric"], row["num_fake"]) == ("fpr_at_threshold", 0)
    scores = read_scores(study, "with_crops-report").query("real_source == 'wiki_crop'")
    assert len(scores) == row["num_real"] == len(shown.cropped.pixels)
    assert set(scores["group"]) <= set(bare.table.query("split == 'test'")["group"])
    file = catalog.root(study) / scores["path"].iloc[-1]
    seen = apply(decode(file), scoring.last_steps(study, "direct"))
    score = model.predict(seen[None], verbose=0).item()
    assert score == pytest.approx(scores["score"].iloc[-1], abs=1e-4)


def test_features_are_shared_by_heads_of_one_extractor_only_and_scored(few, scored):
    shown, extractors = scored[2], []
    for network, seed, num_files in ((0, 0, 1), (1, 0, 1), (1, 1, 2)):
        network = replace(few.direct[network], epochs=1)
        model = trained(network, shown, seed)
        extractors.append(models.parts(model)[0].get_weights()[0])
        files = (few.data / "features").glob(f"*{shown.fingerprint}*.npy")
        assert len(list(files)) == num_files
    np.testing.assert_array_equal(extractors[0], extractors[1])
    assert (extractors[1] != extractors[2]).any()  # not those of the other, read back
    assert set(scoring.score(model, network, shown)["test_set"]) == set(few.test_sets)
    seen = shown.pixels[shown.table.loc[shown.table["split"] != "train", "row"]]
    found = read_scores(few, shown.model_id(network.name))["score"]
    np.testing.assert_allclose(found, model.predict(seen, verbose=0).ravel(), atol=1e-5)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_metadata_baseline_before_and_after_control(study, records, protocol):
    table = catalog.task_steps(study, records, protocol)
    traits = audit.traits_after_steps(study, table)
    assert len(traits) == len(table)
    rows = audit.score_metadata(study, records, protocol)
    assert set(rows["approach"]) == {"metadata"} and set(rows["protocol"]) == {protocol}
    of = rows.groupby("model")["test_set"].agg(set)
    both = ["Metadata", "Metadata_own"]
    assert of.to_dict() == dict.fromkeys(both, {*study.test_sets, *study.aligned})
    labels, task = (table["label"] == "fake").to_numpy(), table["task"] == study.train_set
    square = (traits["width"] == study.square_size) & (traits["height"] == study.square_size)
    square = square[table["task"].isin(["inpainting", "text2img", "insight"])]
    task = task.to_numpy()
    header = traits[task].drop(columns="bytes_per_pixel")
    single = audit.trait_table(header, labels[task], table["group"][task], num_resamples=20)
    single = single.set_index("trait")["auc"]
    if protocol == "report":
        assert (square == labels[square.index]).all() and single["luminance_table"] > 0.99
    else:
        assert square.all() and (single[header.columns] == 0.5).all()


def test_tasks_beside_the_main_ones(study, records):
    table = catalog.tasks(records, study)
    others = ["gan140k / wiki", "celeba", "wiki_crop"]
    assert list(table["task"].unique()) == [*study.test_sets, *study.aligned, *others]
    every = catalog.tasks(records, catalog.every_generator(study, records))
    assert (every.groupby("task")["split"].nunique() == 3).all()
    assert list(every["task"].unique()) == list(study.test_sets)


def test_retrained_pictures(pictures):
    shown = pictures["controlled"]
    assert shown.model_id("VGG16_V3") == "VGG16_V3-controlled"
    seeded = shown.retrained(seed=5)
    assert seeded.model_id("VGG16_V3") == "VGG16_V3-controlled-seed5" and seeded.study.seed == 5
    np.testing.assert_array_equal(seeded.rows("train"), shown.rows("train"))
    both = shown.retrained(train_set="text2img+gan140k")
    assert both.model_id("x") == "x-controlled-text2img+gan140k"
    union = shown.table.query("split == 'test' and task in ['text2img', 'gan140k']")["row"]
    assert sorted(both.rows("test")) == sorted(union)


def test_what_is_tested_though_it_was_trained_on_keeps_its_group_in_training(few, records, scored):
    network, model, plain, _ = scored
    study = replace(few, seen_too={"text2img": "wiki"})
    shown = scoring.prepare(study, records, "report", "direct")
    for split in ("train", "valid"):
        rows = plain.rows(split)
        np.testing.assert_array_equal(shown.rows(split), rows)
        np.testing.assert_array_equal(shown.groups()[rows], plain.groups()[rows])
    network = replace(network, name="seen_too")
    scoring.fit(model, network, shown)
    rows = scoring.score(model, network, shown).query("real_source == 'wiki (seen too)'")
    counts = records.groupby(["dataset", "label"]).size()
    row = rows.set_index("metric").loc["auc"]
    assert row["num_real"] == counts["wiki", "real"]
    assert row["num_fake"] == counts["text2img", "fake"] and row["test_set"] == "text2img"


def test_reconstruction_errors_are_a_plain_loops():
    pictures = np.random.default_rng(0).integers(0, 256, (66, 16, 16, 3)).astype(np.uint8)
    model = autoencoder.build_autoencoder(Autoencoder(filters=(4, 4), latent=8), 16)
    shown = model.predict(pictures, verbose=0)
    expected = [((found - face / 255) ** 2).mean() for found, face in zip(shown, pictures)]
    errors = autoencoder.reconstruction_errors(model, pictures)
    np.testing.assert_allclose(errors, expected, rtol=1e-5)


@pytest.mark.parametrize(("trace", "low", "high"), [(1, 0.4, 0.6), (1.5, 0.9, 1)])
def test_what_detail_explains_of_an_error_is_taken_out(trace, low, high):
    """Fakes are rougher; errors grow with roughness and, perhaps, with a trace of the fakes."""
    random, labels = np.random.default_rng(0), np.repeat([0, 1], 200)
    roughness = random.uniform(2, 20, 400) * (1 + labels)
    pictures = 128 + roughness[:, None, None, None] * random.normal(size=(400, 16, 16, 3))
    pictures = pictures.clip(0, 255).astype(np.uint8)
    errors = roughness * trace**labels * np.exp(0.1 * random.normal(size=400))
    left = autoencoder.unexplained_errors(errors, pictures, np.arange(100))
    assert roc_auc_score(labels, errors) > 0.75
    assert low < roc_auc_score(labels[100:], left[100:]) <= high
    assert abs(left[:100].mean()) < 1e-6 and left[:100].std() == pytest.approx(1)


def test_faces(study, records, monkeypatch):
    needed = faces.face_records(study, records)
    assert {"celeba", "wiki", "inpainting"} <= set(needed["dataset"])
    boxes = same_boxes(needed["path"], 0.25, 0.75)
    boxes.loc[boxes["path"] == needed.query("dataset == 'celeba'")["path"].iloc[0], "left"] = np.nan
    monkeypatch.setattr(faces, "face_boxes", lambda *_: boxes)
    as_they_lie = autoencoder.prepare_faces(study, records, "report")
    learnt = autoencoder.prepare_faces(study, records, "controlled")
    assert learnt.fingerprint != as_they_lie.fingerprint
    assert (learnt.pixels != as_they_lie.pixels).any(axis=(1, 2, 3)).all()
    num_faces = (records["dataset"] == "celeba").sum() - 1
    assert sum(map(len, learnt.rows.values())) == len(learnt.pixels) == num_faces
    without = boxes["path"].unique()[:5]
    others = boxes[~boxes["path"].isin(without)]
    shown = scoring.prepare(study, records, "controlled", "autoencoder", others)
    assert not set(shown.table["path"]) & set(without)
    other = replace(study, autoencoder=replace(study.autoencoder, train_dataset="ffhq"))
    with pytest.raises(ValueError, match="'ffhq', of which there is no record"):
        faces.face_records(other, records)


@pytest.fixture
def boxes(records):
    """A wide box in photographs, a narrow one in fakes."""
    half = np.where(records["label"] == "real", 0.4, 0.2)
    return same_boxes(records["path"], 0.2, 0.8).assign(
        left=np.tile(0.5 - half, 2), right=np.tile(0.5 + half, 2)
    )


def test_so_many_faces_are_learnt_as_are_asked_for_and_as_large_a_share_of_the_rest(study):
    split = np.repeat(["train", "valid", "test"], [800, 400, 400])
    path = [f"celeba/{number}.jpg" for number in range(1600)]
    table = pd.DataFrame({"path": path, "split": split, "label": "real", "dataset": "celeba"})
    table.loc[:9, "dataset"] = "wiki"
    for number, counts in ((200, [200, 100, 100]), (None, [790, 400, 400]), (790, [790, 400, 400])):
        learnt = faces.is_learnt(replace(study, num_faces=number), table)
        found = table[learnt].groupby("split", sort=False).size()
        assert found["train"] == counts[0] and abs(found - counts).max() < 30
    assert not learnt[:10].any()


def test_boxes_alone_can_tell(study, records, boxes, monkeypatch):
    # Few rows need a tree in place of many.
    monkeypatch.setattr(audit, "_boosting", lambda seed: DecisionTreeClassifier(random_state=seed))
    pictures = scoring.prepare(study, records, "controlled", "autoencoder", boxes)
    rows = audit.score_boxes(study, pictures.table, "controlled", boxes)
    auc = rows[rows["metric"] == "auc"]
    auc = auc[auc["real_source"] == auc["test_set"].map(study.test_sets)]
    assert (auc["value"] == 1).all() and set(rows["approach"]) == {"geometry"}
    assert auc["model"].value_counts().to_dict() == {"Face_box": 4, "Face_box_own": 4}
    same = boxes.assign(left=0.2, right=0.8)
    rows = audit.score_boxes(study, pictures.table, "controlled", same)
    auc = rows[rows["metric"] == "auc"].set_index("model")["value"]
    assert (auc == 0.5).all()


def test_faces_are_looked_for_after_the_protocols_steps(study, records, monkeypatch):
    seen = {}

    def detect(root, paths, steps, cache):
        seen["steps"] = dict(zip(paths, steps))
        return same_boxes(paths, 0.4, 0.6)[: len(paths)]

    monkeypatch.setattr(faces, "detect", detect)
    table = faces.face_boxes(study, records, "controlled")
    np.testing.assert_allclose(table[["left", "bottom"]], [[0.36, 0.64]] * len(table))
    datasets = records.set_index("path")["dataset"]
    steps = pd.Series(seen["steps"])
    of = steps.groupby(datasets.reindex(steps.index)).agg(set)
    # Of a photograph's two views, the dict keeps the later one: cut to a square.
    assert of["wiki"] <= {"squash:64 jpeg:75 jpeg:75", "square squash:64 jpeg:75"}
    assert of["inpainting"] <= {"", "squash:64"} and table["squashed"].nunique() == 2
    faces.face_boxes(study, records, "report")
    assert set(seen["steps"].values()) == {""}


def test_attributes_of_photographs(study, records, boxes):
    table = comparisons.attributes(study, records, boxes)
    labels = records.set_index("path").loc[table.index]
    tasks = catalog.tasks(records, study).query("label == 'real' and split != 'train'")
    assert (labels["label"] == "real").all() and set(table.index) == set(tasks["path"])
    assert set(table["gender"].dropna()) <= {"male", "female"}
    assert set(table["colour"]) <= {"grey", "colour"}
    np.testing.assert_allclose(table["face_size"], 0.8 * 0.6)
    assert table["jpeg_quality"].between(1, 100).all()
    bare = comparisons.attributes(study, records, boxes[:0])
    assert bare["face_size"].notna().any()  # what wiki.mat says


def test_decoders_take_turns(study):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    made = sources.decodings(study, np.stack([image] * 3), [0, 1])
    assert made.shape == (3, 64, 64, 3) and made.dtype == np.uint8
    alone = [sources.decodings(study, image[None], [number])[0] for number in (0, 1)]
    np.testing.assert_array_equal(made[0], alone[0])  # the noise of a place is always the same
    assert (alone[0] != alone[1]).any() and (made[2] != made[0]).any()


def test_altered_boxes(study, records):
    table = catalog.task_steps(study, records, "controlled")
    altered = sources.altered_boxes(study, table)
    partly = table["generator"].isin(["insight", "inpainting_local"]).to_numpy()  # others: all
    assert np.isfinite(altered[partly]).all() and np.isnan(altered[~partly]).all()
    middle = table.assign(steps=table["steps"] + f" centre:{study.square_size // 2}")
    seen = sources.altered_boxes(study, middle)
    np.testing.assert_allclose(seen, (2 * altered - 0.5).clip(0, 1))
    assert np.isnan(sources.altered_boxes(replace(study, simulation=None), table)).all()


def test_the_probe_is_its_regression(few, records):
    pictures = scoring.prepare(few, records, "controlled", "probe", view="centre")
    model = models.build(few.probe, few.image_size)
    model, losses = probe.fit_probe(model, few.probe, pictures)
    assert losses["C"].tolist() == list(probe.PENALTIES)
    rows, valid = pictures.rows("train"), pictures.rows("valid")
    extractor, _ = models.parts(model)
    features = [extractor.predict(pictures.pixels[rows], verbose=0) for rows in (rows, valid)]
    scale = StandardScaler().fit(features[0])
    best = LogisticRegression(C=losses.loc[losses["val_loss"].idxmin(), "C"], max_iter=1000)
    best.fit(scale.transform(features[0]), pictures.labels[rows])
    expected = best.predict_proba(scale.transform(features[1]))[:, 1]
    found = model.predict(pictures.pixels[valid], verbose=0).ravel()
    np.testing.assert_allclose(found, expected, atol=1e-3)
    results = scoring.score(model, few.probe, pictures)
    assert set(results["approach"]) == {"probe"} and set(results["model"]) == {"Multidepth_probe"}
    file = few.models / "Multidepth_probe-controlled.keras"
    loaded = keras.models.load_model(file).predict(pictures.pixels[valid], verbose=0).ravel()
    np.testing.assert_allclose(loaded, found, atol=1e-5)


def test_radial_profiles_share_their_radii(study, records):
    table = catalog.task_steps(study, records, "controlled").query("split == 'test'")
    table = table[table["test_set"].isin(["inpainting", "gan140k"])]
    parts = table.groupby(["test_set", "label"])
    assert len({audit.radial_profiles(study, part).shape[1] for _, part in parts}) == 1


def test_each_view_of_a_photograph_has_its_own_box(study, records):
    boxes = same_boxes(records["path"], 0.25, 0.75)
    boxes.loc[~boxes["squashed"], "left"] = 0.5
    table = catalog.task_steps(study, records, "controlled")
    left = faces.boxes_of(table, boxes)[:, 0]
    cut = table["steps"].str.startswith("square")
    assert set(left[cut]) == {0.5} and set(left[~cut]) == {0.25}
    shared = table.loc[cut, "path"].isin(table.loc[~cut, "path"])
    assert shared.any()  # photographs that are squashed for one generator, cut for another
