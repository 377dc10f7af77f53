"""Records, groups, splits and tasks, on small trees of empty files (nothing here opens a picture)."""

import dataclasses

import pandas as pd
import pytest

from src import catalog, config


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "HOME", tmp_path / "a folder with späces")
    return dataclasses.replace(config.get_study("tiny"), name="made")


@pytest.fixture
def manifest_study(tmp_path, monkeypatch, study):
    monkeypatch.setenv("FACES", str(tmp_path))
    return dataclasses.replace(study, from_manifest=True)


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


@pytest.fixture
def tree(study):
    raw = study.data / "raw"
    for number in range(20):
        name = f"{number % 4:02d}/{number}_1950-01-01_2010.jpg"
        for dataset in ("wiki", "inpainting", "text2img", "insight"):
            touch(raw / dataset / dataset / name)
    for split, count in (("train", 6), ("valid", 2), ("test", 2)):
        for label in ("real", "fake"):
            for number in range(count):
                touch(raw / f"gan140k/real_vs_fake/real_vs_fake/real-vs-fake/{split}/{label}/{number}.jpg")
    for number in range(1, 5):
        touch(raw / f"celeba/img_align_celeba/img_align_celeba/{number:06d}.jpg")
    pd.DataFrame({"image_id": [f"{n:06d}.jpg" for n in range(1, 5)], "partition": [0, 0, 1, 2]}).to_csv(
        raw / "celeba/list_eval_partition.csv", index=False
    )
    return raw


def write_manifest(folder, **changes):
    for name in ("a.jpg", "b.jpg"):
        touch(folder / name)
    columns = dict(path=["a.jpg", "b.jpg"], label=["real", "fake"], generator=["real", "gan"], dataset="d", group="g")
    pd.DataFrame({**columns, **changes}).to_csv(folder / "manifest.csv", index=False)


def test_collect_reads_every_layout(study, tree):
    records = catalog.collect(study)
    counts = records.groupby(["dataset", "label"]).size().to_dict()
    assert counts == {
        ("celeba", "real"): 4,
        ("gan140k", "fake"): 10,
        ("gan140k", "real"): 10,
        ("inpainting", "fake"): 20,
        ("insight", "fake"): 20,
        ("text2img", "fake"): 20,
        ("wiki", "real"): 20,
    }
    assert all(path.is_file() for path in catalog.files(study, records))
    photographs = records[records["group"].str.startswith("wiki/")]
    assert photographs.groupby("group")["dataset"].nunique().eq(4).all()
    assert records[records["dataset"] == "celeba"]["split"].tolist() == ["train", "train", "valid", "test"]
    gan = records[records["dataset"] == "gan140k"]
    assert (gan["split"] == gan["path"].str.split("/").str[-3]).all()
    assert (gan["label"] == gan["path"].str.split("/").str[-2]).all()


def test_collect_without_data_says_which_notebook_to_run(study):
    with pytest.raises(FileNotFoundError, match="01_data_download"):
        catalog.collect(study)
    with pytest.raises(FileNotFoundError, match="01_data_download"):
        catalog.load(study)


def test_gan_polarity_is_checked_against_the_csv(study, tree):
    csv = tree / "gan140k" / "test.csv"
    right = pd.DataFrame(
        {"path": ["test/real/0.jpg", "test/fake/0.jpg"], "label": [1, 0], "label_str": ["real", "fake"]}
    )
    right.to_csv(csv)
    catalog.collect(study)
    right.assign(label=[0, 1]).to_csv(csv)
    with pytest.raises(ValueError, match=r"label \(1 = real\) contradicts the folder names for 2 of 2"):
        catalog.collect(study)


def test_splits_are_by_group_stable_and_of_the_right_size(study, tree):
    records = catalog.assign_splits(catalog.collect(study), seed=0)
    assert records.groupby("group")["split"].nunique().max() == 1
    fewer = catalog.assign_splits(catalog.collect(study).iloc[::3], seed=0)
    assert (fewer["split"] == records["split"].iloc[::3]).all()
    many = pd.DataFrame({"group": [f"g{n}" for n in range(20_000)], "split": ""})
    shares = catalog.assign_splits(many, seed=1)["split"].value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.8, abs=0.01) and shares["test"] == pytest.approx(0.1, abs=0.01)
    assert (catalog.assign_splits(many, seed=1)["split"] != catalog.assign_splits(many, seed=2)["split"]).any()


def test_a_group_follows_its_sources_split():
    records = pd.DataFrame({"group": ["a", "a", "b"], "split": ["test", "", ""]})
    assert catalog.assign_splits(records, 0)["split"].tolist()[:2] == ["test", "test"]


def test_person_ties():
    records = pd.DataFrame({"person": ["A", "A", "", "", "B", "A"], "group": ["1", "2", "3", "4", "5", "1"]})
    assert catalog.person_ties(records).to_numpy().tolist() == [["2", "1"]]


def test_a_torn_swap_is_left_out_and_listed():
    records = pd.DataFrame(
        {"path": list("abcd"), "label": "fake", "group": list("wxyz"), "split": ["train", "train", "test", "test"]}
    )
    ties = pd.DataFrame({"path": ["a", "c"], "background": ["b", "b"]})
    assert catalog.swap_pairs(records, ties).to_numpy().tolist() == [["w", "x"], ["y", "x"]]
    kept, lost = catalog.drop_torn_swaps(records, ties)
    assert kept["path"].tolist() == ["a", "b", "d"] and lost["path"].tolist() == ["c"]
    assert "another split" in lost["reason"].item()


def test_samples_show_the_same_photographs_in_every_row(study, tree):
    shown = catalog.samples(catalog.collect(study), num_each=3)
    assert shown.groupby("source").size().eq(3).all() and shown["source"].nunique() == 7
    rows = shown[shown["group"].str.startswith("wiki/")].groupby("source")["group"].apply(tuple)
    assert rows.nunique() == 1


def test_tasks_and_what_the_controlled_protocol_replays(study, tree):
    records = catalog.assign_splits(catalog.collect(study), seed=0)
    table = catalog.tasks(records, study)
    assert set(table["test_set"]) == {"inpainting", "text2img", "insight", "gan140k"}
    assert set(table.loc[table["test_set"] != "inpainting", "split"]) == {"test"}
    replayed = table.groupby(["test_set", "label"])["num_jpeg"].unique().map(list).to_dict()
    assert replayed[("inpainting", "real")] == [2] and replayed[("inpainting", "fake")] == [0]
    assert replayed[("text2img", "real")] == [1] and replayed[("text2img", "fake")] == [0]
    assert replayed[("gan140k", "real")] == [1] == replayed[("gan140k", "fake")]
    train = table[table["split"] == "train"]
    assert not set(train["group"]) & set(table.loc[table["split"] == "test", "group"])
    capped = catalog.tasks(records, dataclasses.replace(study, max_per_class=5))
    assert (capped[capped["split"] == "train"]["label"].value_counts() == 5).all()


def test_a_task_without_a_class_is_an_error(study, tree):
    records = catalog.assign_splits(catalog.collect(study), seed=0)
    with pytest.raises(ValueError, match="'stylegan3' against real photographs of 'wiki' has 0 fakes and 20 reals"):
        catalog.task(records, "stylegan3", "wiki")


def test_save_and_load(study, tree):
    records = catalog.assign_splits(catalog.collect(study), seed=0)
    for _ in range(2):  # the second replaces the first
        catalog.save(study, records, pd.DataFrame({"path": ["x.jpg"], "reason": ["zero bytes"]}))
    assert catalog.load(study).equals(records)
    assert pd.read_csv(study.data / "rejected.csv")["reason"].tolist() == ["zero bytes"]
    assert not list(study.data.glob(".records-*"))


def test_manifest(manifest_study, tmp_path):
    write_manifest(tmp_path)
    records = catalog.collect(manifest_study)
    assert records[["path", "label", "group"]].to_numpy().tolist() == [
        ["a.jpg", "real", "d/g"],
        ["b.jpg", "fake", "d/g"],
    ]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (dict(label=["real", "real"]), ValueError, "no fake picture"),
        (dict(label=["real", "Fake"]), ValueError, "'real' or 'fake', found 'Fake'"),
        (dict(path=["a.jpg", "c.jpg"]), FileNotFoundError, "1 of 2 files that do not exist.*c.jpg"),
        (dict(split=["train", "dev"]), ValueError, "found dev"),
    ],
)
def test_a_bad_manifest(changes, error, message, manifest_study, tmp_path):
    write_manifest(tmp_path, **changes)
    with pytest.raises(error, match=message):
        catalog.collect(manifest_study)


def test_a_manifest_without_columns(manifest_study, tmp_path):
    pd.DataFrame({"path": ["a.jpg"], "label": ["real"]}).to_csv(tmp_path / "manifest.csv", index=False)
    with pytest.raises(ValueError, match="lacks the columns generator, dataset, group"):
        catalog.collect(manifest_study)


def test_an_empty_manifest(manifest_study, tmp_path):
    (tmp_path / "manifest.csv").write_text("path,label,generator,dataset,group\n")
    with pytest.raises(ValueError, match="0 files"):
        catalog.collect(manifest_study)
