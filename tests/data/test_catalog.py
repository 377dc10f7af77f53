"""Records, groups, splits and tasks, on small trees of files that are mostly empty."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from simulator.archives import wiki_mat
from simulator.drawing import POINTS
from src import config
from src.data import catalog, readers, ties
from src.data.archives import MARKER


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "HOME", tmp_path / "a folder with späces")
    return dataclasses.replace(config.get_study("tiny"), name="made")


@pytest.fixture
def manifest_study(tmp_path, monkeypatch, study):
    monkeypatch.setenv("FACES", str(tmp_path))
    return dataclasses.replace(study, from_manifest=True, train_set="gan", test_sets={"gan": "d"})


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
                touch(
                    raw
                    / f"gan140k/real_vs_fake/real_vs_fake/real-vs-fake/{split}/{label}/{number}.jpg"
                )
    for number in range(1, 5):
        touch(raw / f"celeba/img_align_celeba/img_align_celeba/{number:06d}.jpg")
    pd.DataFrame(
        {"image_id": [f"{n:06d}.jpg" for n in range(1, 5)], "partition": [0, 0, 1, 2]}
    ).to_csv(raw / "celeba/list_eval_partition.csv", index=False)
    return raw


def write_manifest(folder, **changes):
    for name in ("a.jpg", "b.jpg"):
        touch(folder / name)
    columns = dict(
        path=["a.jpg", "b.jpg"],
        label=["real", "fake"],
        generator=["real", "gan"],
        dataset="d",
        group="g",
    )
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
    assert records[records["dataset"] == "celeba"]["split"].tolist() == [
        "train",
        "train",
        "valid",
        "test",
    ]
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
        {
            "path": ["test/real/0.jpg", "test/fake/0.jpg"],
            "label": [1, 0],
            "label_str": ["real", "fake"],
        }
    )
    right.to_csv(csv)
    catalog.collect(study)
    right.assign(label=[0, 1]).to_csv(csv)
    with pytest.raises(
        ValueError, match=r"label \(1 = real\) contradicts the folder names for 2 of 2"
    ):
        catalog.collect(study)


def test_the_csv_files_of_a_flipped_mirror_are_found_out(study, tree):
    rows = [
        {"path": f"train/{label}/{number}.jpg", "label": int(label == "fake"), "label_str": label}
        for label in ("real", "fake")
        for number in range(2)
    ]
    pd.DataFrame(rows).to_csv(tree / "gan140k" / "train.csv")
    with pytest.raises(
        ValueError, match="train.csv: .*contradicts the folder names for 4 of 4 files.*opposite pol"
    ):
        catalog.collect(study)
    flipped = pd.DataFrame(rows).replace({"label_str": {"real": "fake", "fake": "real"}})
    flipped.to_csv(tree / "gan140k" / "train.csv")
    with pytest.raises(ValueError, match="column label_str contradicts"):
        catalog.collect(study)


@pytest.mark.parametrize(
    ("there", "again"),
    [
        (
            "celeba/img_align_celeba/img_align_celeba/000001.jpg",
            "celeba/img_align_celeba/000001.jpg",
        ),
        ("wiki/wiki/01/1_1950-01-01_2010.jpg", "wiki/01/1_1950-01-01_2010.jpg"),
        (
            "gan140k/real_vs_fake/real_vs_fake/real-vs-fake/test/real/0.jpg",
            "gan140k/test/real/0.jpg",
        ),
    ],
)
def test_a_picture_that_lies_twice_is_found_out(there, again, study, tree):
    assert (tree / there).is_file()
    touch(tree / again)
    with pytest.raises(ValueError, match="2 files of the same .* two places.*A doubled folder"):
        catalog.collect(study)


def write_picture(file, width, height, orientation=1):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height)).save(file, exif=exif)


def write_wiki_mat(raw, rows):
    """`wiki.mat` of rows (path, gender, name, face_location, face_score)."""
    blank = {"dob": 0, "photo_taken": 2010, "second_face_score": np.nan}
    names = ("full_path", "gender", "name", "face_location", "face_score")
    table = [
        blank | dict(zip(names, row)) | {"face_location": np.array([row[3]], float)} for row in rows
    ]
    (raw / "wiki_crop/wiki_crop").mkdir(parents=True)
    (raw / "wiki_crop/wiki_crop/wiki.mat").write_bytes(wiki_mat(table))


def test_what_wiki_mat_tells(study, tree):
    """First and last pixel of the stored picture, counted from one; also the inpainting's box."""
    paths = [f"{number % 4:02d}/{number}_1950-01-01_2010.jpg" for number in range(5)]
    for path in paths[:4]:
        write_picture(tree / "wiki/wiki" / path, 40, 20, orientation=6)
    write_wiki_mat(tree, [
        (paths[0], 1.0, "Ann", [11, 6, 30, 15], 2.0),
        (paths[1], 0.0, "Ben", [1, 1, 40, 20], -np.inf),  # no face: the whole picture
        (paths[2], np.nan, "", [-3, 1, 20, 99], 1.0),  # reaches out of the picture
        (paths[4], 0.0, "Ann", [11, 6, 30, 15], 2.0),  # the file is damaged
        ("99/9_1950-01-01_2010.jpg", 1.0, "Cat", [1, 1, 2, 2], 1.0),  # not in DeepFakeFace
    ])  # fmt: skip
    records = catalog.collect(study).set_index("path")
    wiki = records.loc[[f"wiki/wiki/{path}" for path in paths]]
    assert wiki["gender"].tolist() == ["male", "female", "", "", "female"]
    assert wiki["person"].tolist() == ["Ann", "Ben", "", "", "Ann"]
    expected = [[0.25, 0.25, 0.75, 0.75], [np.nan] * 4, [0, 0, 0.5, 1], [np.nan] * 4, [np.nan] * 4]
    np.testing.assert_allclose(wiki[readers.BOX].to_numpy(), expected)
    inpainting = records.loc[[f"inpainting/inpainting/{path}" for path in paths]]
    np.testing.assert_allclose(inpainting[readers.BOX].to_numpy(), expected)
    for generator in ("text2img", "insight"):
        fakes = records.loc[[f"{generator}/{generator}/{path}" for path in paths]]
        assert fakes["gender"].tolist() == wiki["gender"].tolist() and fakes[
            readers.BOX
        ].isna().all(axis=None)
    assert records[readers.LANDMARKS].isna().all(axis=None)
    tie = drawn_ties(**{"3": "0"}).replace(
        r"00/(\d).jpg", r"0\1/\1_1950-01-01_2010.jpg", regex=True
    )
    swapped = ties.add_swap_boxes(records.reset_index(), tie).set_index("path")
    assert swapped.loc[tie["path"].item(), readers.BOX].tolist() == [0.25, 0.25, 0.75, 0.75]
    assert swapped[readers.BOX].notna().sum().eq(records[readers.BOX].notna().sum() + 1).all()
    table = catalog.coverage(swapped.reset_index()).loc["wiki", "real"]
    assert table.tolist() == [20, 2, 3, 3, 2, 0]


def test_what_celeba_tells(study, tree):
    folder, names = tree / "celeba", [f"{number:06d}.jpg" for number in range(1, 5)]
    pd.DataFrame({"image_id": names[:3], "Smiling": 1, "Male": [1, -1, -1]}).to_csv(
        folder / "list_attr_celeba.csv", index=False
    )
    points = dict(
        zip(
            [f"{p}_{axis}" for p in readers._CELEBA_POINTS for axis in "xy"],
            (69, 109, 106, 113, 77, 142, 73, 152, 108, 154),
        )
    )  # of 000001.jpg
    pd.DataFrame([{"image_id": names[0], **points}]).to_csv(
        folder / "list_landmarks_align_celeba.csv", index=False
    )
    boxes = dict(x_1=95, y_1=71, width=226, height=313)  # of the picture before it was aligned
    pd.DataFrame([{"image_id": names[0], **boxes}]).to_csv(
        folder / "list_bbox_celeba.csv", index=False
    )
    (folder / "identity_CelebA.txt").write_text(
        "000001.jpg 2880\n000003.jpg 2937\n000004.jpg 2880\n"
    )
    celeba = catalog.collect(study).query("dataset == 'celeba'")
    assert celeba["gender"].tolist() == ["male", "female", "female", ""]
    assert celeba["person"].tolist() == ["celeba/2880", "", "celeba/2937", "celeba/2880"]
    assert celeba[readers.BOX].isna().all(axis=None)
    first = celeba[readers.LANDMARKS].iloc[0]
    assert (
        first["left_eye_x"] == 69 / 178 < first["right_eye_x"]
        and first["mouth_right_y"] == 154 / 218
    )
    assert celeba[readers.LANDMARKS].iloc[1:].isna().all(axis=None)
    assert ties.person_ties(celeba).to_numpy().tolist() == [
        ["celeba/000004.jpg", "celeba/000001.jpg"]
    ]


def test_landmarks_are_named_as_the_simulator_names_them():
    assert readers.LANDMARKS == [f"{point}_{axis}" for point in POINTS for axis in "xy"]


def swaps_and_photographs(names):
    """Records of photographs and swaps of these names."""
    sources = (("wiki", "real"), ("insight", "insight"))
    rows = [(f"{of}/{of}/00/{name}.jpg", generator) for of, generator in sources for name in names]
    return pd.DataFrame(rows, columns=["path", "generator"])


def drawn_ties(**backgrounds):
    rows = [
        (f"insight/insight/00/{swap}.jpg", f"wiki/wiki/00/{other}.jpg")
        for swap, other in backgrounds.items()
    ]
    return pd.DataFrame(rows, columns=["path", "background"])


def test_tie_quality():
    records = swaps_and_photographs("abcde")
    truth = drawn_ties(
        a="b", b="a", c="d", d="e", e="z"
    )  # the photograph z was rejected: e cannot be tied to it
    found = drawn_ties(a="b", b="a", c="d", e="c").assign(
        distance=[0.1, 0.2, 0.3, 0.6], margin=[0.5, 0.4, 0.3, 0.01]
    )
    quality = ties.tie_quality(found, records, truth)
    assert quality["distance, median"] == pytest.approx(0.25) and quality["margin, min"] == 0.01
    assert quality["mutual"] == 0.5 and quality["recall"] == 0.75 and quality["precision"] == 0.75
    unknown = ties.tie_quality(found, records, truth.iloc[:0])
    assert not {"recall", "precision"} & set(unknown.index) and quality[unknown.index].equals(
        unknown
    )
    nothing = found.iloc[:0]
    assert ties.tie_quality(nothing, records, truth)["recall"] == 0
    assert ties.tie_quality(nothing, records.iloc[:0], truth.iloc[:0]).empty


def test_splits_are_by_group_stable_and_of_the_right_size(study, tree):
    records = catalog.assign_splits(catalog.collect(study), seed=0)
    assert records.groupby("group")["split"].nunique().max() == 1
    fewer = catalog.assign_splits(catalog.collect(study).iloc[::3], seed=0)
    assert (fewer["split"] == records["split"].iloc[::3]).all()
    many = pd.DataFrame({"group": [f"g{n}" for n in range(20_000)], "split": ""})
    shares = catalog.assign_splits(many, seed=1)["split"].value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.8, abs=0.01) and shares["test"] == pytest.approx(
        0.1, abs=0.01
    )
    assert (
        catalog.assign_splits(many, seed=1)["split"] != catalog.assign_splits(many, seed=2)["split"]
    ).any()


def test_adding_files_moves_no_other_file():
    """Any files, in any order, also of new groups and with splits of their own."""
    rng = np.random.default_rng(0)
    for trial in range(20):
        records = pd.DataFrame(
            {"path": np.arange(400), "group": [f"g{n}" for n in rng.integers(0, 150, 400)]}
        )
        own = {
            group: rng.choice(["", "", "train", "valid", "test"])
            for group in records["group"].unique()
        }
        records["split"] = records["group"].map(own)
        whole = catalog.assign_splits(records, seed=trial).set_index("path")["split"]
        kept = [
            f"g{n}" for n in np.flatnonzero(rng.random(150) < 0.5)
        ]  # half of the groups, and of those half of
        some = records[records["group"].isin(kept)].sample(
            frac=0.5, random_state=trial
        )  # the files, in another order
        before = catalog.assign_splits(some, seed=trial).set_index("path")["split"]
        assert before.equals(whole[before.index])


@pytest.mark.parametrize("seed", range(5))
def test_every_label_is_split_in_the_same_shares(seed):
    """5,000 groups a label: the standard deviation of a share is at most 0.006."""
    labels = np.repeat(["real", "fake"], 5000)
    records = pd.DataFrame(
        {"label": labels, "group": [f"{label}/{n}" for n, label in enumerate(labels)], "split": ""}
    )
    split = catalog.assign_splits(records, seed)
    shares = split.groupby("label")["split"].value_counts(normalize=True).unstack()
    assert np.abs(shares[["train", "valid", "test"]] - [0.8, 0.1, 0.1]).max(axis=None) < 0.02


def test_a_person_lies_in_one_split():
    rng = np.random.default_rng(1)
    persons = [f"p{n}" if n else "" for n in rng.integers(0, 400, 2000)]
    records = pd.DataFrame(
        {"person": persons, "group": [f"g{n}" for n in rng.integers(0, 1900, 2000)], "split": ""}
    )
    torn = (
        catalog.assign_splits(records, 0).query("person != ''").groupby("person")["split"].nunique()
    )
    assert torn.max() > 1
    records["group"] = ties.tie_groups(records["group"], ties.person_ties(records).to_numpy())
    records = catalog.assign_splits(records, 0)
    assert records.query("person != ''").groupby("person")["split"].nunique().max() == 1
    assert records.groupby("group")["split"].nunique().max() == 1


def test_a_group_follows_its_sources_split():
    records = pd.DataFrame({"group": ["a", "a", "b"], "split": ["test", "", ""]})
    assert catalog.assign_splits(records, 0)["split"].tolist()[:2] == ["test", "test"]


def test_person_ties():
    records = pd.DataFrame(
        {"person": ["A", "A", "", "", "B", "A"], "group": ["1", "2", "3", "4", "5", "1"]}
    )
    assert ties.person_ties(records).to_numpy().tolist() == [["2", "1"]]


def test_a_torn_swap_is_left_out_and_listed():
    records = pd.DataFrame(
        {
            "path": list("abcd"),
            "label": "fake",
            "group": list("wxyz"),
            "split": ["train", "train", "test", "test"],
        }
    )
    tied = pd.DataFrame({"path": ["a", "c"], "background": ["b", "b"]})
    assert ties.swap_pairs(records, tied).to_numpy().tolist() == [["w", "x"], ["y", "x"]]
    kept, lost = ties.drop_torn_swaps(records, tied)
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


def test_a_task_without_a_class_is_an_error(study, tree):
    records = catalog.assign_splits(catalog.collect(study), seed=0)
    with pytest.raises(
        ValueError, match="'stylegan3' against real photographs of 'wiki' has 0 fakes and 20 reals"
    ):
        catalog.task(records, "stylegan3", "wiki")


def test_save_and_load(study, tree):
    records = catalog.assign_splits(catalog.collect(study), seed=0)
    for _ in range(2):  # the second replaces the first
        catalog.save(study, records, pd.DataFrame({"path": ["x.jpg"], "reason": ["zero bytes"]}))
    assert catalog.load(study).equals(records)
    assert pd.read_csv(study.data / "rejected.csv")["reason"].tolist() == ["zero bytes"]
    assert {path.name for path in study.data.glob(".*")} <= {".records.lock"}


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
        (dict(label=["real", "Fake"]), ValueError, "label must be one of fake, real, found 'Fake'"),
        (
            dict(generator=["real", "mygan"], dataset="mine"),
            ValueError,
            "fakes of mygan and photographs of mine.*trains on 'gan' and knows .*'gan' with .*'d'",
        ),
        (dict(path=["a.jpg", "c.jpg"]), FileNotFoundError, "1 of 2 files that do not exist.*c.jpg"),
        (dict(split=["train", "dev"]), ValueError, "split must be one of .*found 'dev'"),
    ],
)
def test_a_bad_manifest(changes, error, message, manifest_study, tmp_path):
    write_manifest(tmp_path, **changes)
    with pytest.raises(error, match=message):
        catalog.collect(manifest_study)


def test_records_of_another_manifest_are_noticed(manifest_study, tmp_path, monkeypatch):
    write_manifest(tmp_path)
    records = catalog.collect(manifest_study)
    catalog.save(manifest_study, records, pd.DataFrame({"path": []}))
    assert len(catalog.load(manifest_study)) == 2
    write_manifest(tmp_path, group=["g", "h"])
    with pytest.raises(
        ValueError, match="manifest.csv changed after .*01_data_download.ipynb again"
    ):
        catalog.load(manifest_study)
    monkeypatch.delenv("FACES")  # where the pictures are gone, their records still serve the tables
    assert len(catalog.load(manifest_study)) == 2


def test_records_of_another_archive_are_noticed(study, tree):
    marker = tree / "celeba" / MARKER
    marker.write_text('{"digest": "sha256:1"}')
    catalog.save(study, catalog.collect(study), pd.DataFrame({"path": []}))
    catalog.load(study)
    marker.write_text('{"digest": "sha256:2"}')
    with pytest.raises(ValueError, match="celeba changed after"):
        catalog.load(study)


def test_a_manifest_without_columns(manifest_study, tmp_path):
    pd.DataFrame({"path": ["a.jpg"], "label": ["real"]}).to_csv(
        tmp_path / "manifest.csv", index=False
    )
    with pytest.raises(ValueError, match="lacks the columns generator, dataset, group"):
        catalog.collect(manifest_study)


def test_an_empty_manifest(manifest_study, tmp_path):
    (tmp_path / "manifest.csv").write_text("path,label,generator,dataset,group\n")
    with pytest.raises(ValueError, match="0 files"):
        catalog.collect(manifest_study)
