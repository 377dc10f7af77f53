"""Records, groups, splits and tasks, on small trees of files that are mostly empty."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_pictures import picture, saved
from PIL import Image

from simulator.archives import wiki_mat
from src.data import catalog, readers, ties
from src.data.archives import MARKER


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


FAKES = ("inpainting", "text2img", "insight")
NAMES = [f"{number % 4:02d}/{number}_1950-01-01_2010.jpg" for number in range(20)]
GAN = "gan140k/real_vs_fake/real_vs_fake/real-vs-fake"
SHARES = (0.8, 0.1, 0.1)
CELEBA = "celeba/img_align_celeba/img_align_celeba"


@pytest.fixture
def tree(study):
    raw = study.data / "raw"
    touch(raw / "wiki_crop/wiki_crop/00/9_1950-01-01_2010.jpg")  # of no photograph that is there
    for dataset in ("wiki", *FAKES, "wiki_crop"):
        for name in NAMES:
            touch(raw / dataset / dataset / name)
    for split, count in (("train", 6), ("valid", 2), ("test", 2)):
        for label in ("real", "fake"):
            for number in range(count):
                touch(raw / GAN / split / label / f"{number}.jpg")
    names = [f"{number:06d}.jpg" for number in range(1, 5)]
    for name in names:
        touch(raw / CELEBA / name)
    write_csv(raw / "celeba/list_eval_partition.csv", image_id=names, partition=[0, 0, 1, 2])
    return raw


@pytest.fixture
def records(study, tree):
    return catalog.assign_splits(catalog.collect(study), 0, SHARES)


def write_csv(file, **columns):
    pd.DataFrame(columns).to_csv(file, index=False)


def test_collect_reads_every_layout(study, tree):
    records = catalog.collect(study)
    counts = (records["dataset"] + " " + records["label"]).value_counts().to_dict()
    expected = {"celeba real": 4, "gan140k fake": 10, "gan140k real": 10, "wiki real": 20}
    expected["wiki_crop real"] = 20
    assert counts == expected | {f"{name} fake": 20 for name in FAKES}
    assert all(path.is_file() for path in catalog.files(study, records))
    photographs = records[records["group"].str.startswith("wiki/")]
    assert photographs.groupby("group")["dataset"].nunique().eq(5).all()
    celeba = records[records["dataset"] == "celeba"]
    assert celeba["split"].tolist() == ["train", "train", "valid", "test"]
    gan = records[records["dataset"] == "gan140k"]
    assert (gan["split"] == gan["path"].str.split("/").str[-3]).all()
    assert (gan["label"] == gan["path"].str.split("/").str[-2]).all()


def test_collect_without_data_says_which_notebook_to_run(study):
    with pytest.raises(FileNotFoundError, match="01_data_download"):
        catalog.collect(study)
    with pytest.raises(FileNotFoundError, match="01_data_download"):
        catalog.load(study)


@pytest.mark.parametrize(
    "labels, names, message",
    [
        ([1, 0], ["real", "fake"], None),
        ([0, 1], ["real", "fake"], r"label \(1 = real\) contradicts the folder names for 2 of 2"),
        ([0, 1], ["fake", "real"], "column label_str contradicts.*opposite pol"),
    ],
)
def test_gan_polarity_is_checked_against_the_csv(study, tree, labels, names, message):
    paths = ["test/real/0.jpg", "test/fake/0.jpg"]
    write_csv(tree / "gan140k" / "test.csv", path=paths, label=labels, label_str=names)
    with pytest.raises(ValueError, match=f"test.csv: .*{message}") if message else nullcontext():
        catalog.collect(study)


@pytest.mark.parametrize(
    "there, again",
    [
        (f"{CELEBA}/000001.jpg", "celeba/img_align_celeba/000001.jpg"),
        (f"wiki/wiki/{NAMES[1]}", f"wiki/{NAMES[1]}"),
        (f"{GAN}/test/real/0.jpg", "gan140k/test/real/0.jpg"),
    ],
)
def test_a_picture_that_lies_twice_is_found_out(there, again, study, tree):
    assert (tree / there).is_file()
    touch(tree / again)
    with pytest.raises(ValueError, match="2 files of the same .* two places.*A doubled folder"):
        catalog.collect(study)


def test_what_wiki_mat_tells(study, tree):
    """First and last pixel of the stored picture, counted from one; also the inpainting's box."""
    paths, exif = NAMES[:5], Image.Exif()
    exif[0x0112] = 6
    for path in paths[:4]:
        saved(tree / "wiki/wiki" / path, picture(20, 40), exif=exif)
    columns = ("full_path", "gender", "name", "face_location", "face_score")
    rows = [
        (paths[0], 1.0, "Ann", np.array([[11.0, 6, 30, 15]]), 2.0),
        (paths[1], 0.0, "Ben", np.array([[1.0, 1, 40, 20]]), -np.inf),  # no face: all of it
        (paths[2], np.nan, "", np.array([[-3.0, 1, 20, 99]]), 1.0),  # reaches out of the picture
        (paths[4], 0.0, "Ann", np.array([[11.0, 6, 30, 15]]), 2.0),  # the file is damaged
        ("99/9_1950-01-01_2010.jpg", 1.0, "Cat", np.ones((1, 4)), 1.0),  # not in DeepFakeFace
    ]
    blank = {"dob": 0, "photo_taken": 2010, "second_face_score": np.nan}
    table = wiki_mat([blank | dict(zip(columns, row)) for row in rows])
    (tree / "wiki_crop/wiki.mat").write_bytes(table)
    records = catalog.collect(study).set_index("path")
    wiki = records.loc[[f"wiki/wiki/{path}" for path in paths]]
    assert wiki["gender"].tolist() == ["male", "female", "", "", "female"]
    assert wiki["person"].tolist() == ["Ann", "Ben", "", "", "Ann"]
    expected = [[0.25, 0.25, 0.75, 0.75], [np.nan] * 4, [0, 0, 0.5, 1], [np.nan] * 4, [np.nan] * 4]
    np.testing.assert_allclose(wiki[readers.BOX].to_numpy(), expected)
    boxes = {name: records.loc[[f"{name}/{name}/{path}" for path in paths]] for name in FAKES}
    np.testing.assert_allclose(boxes["inpainting"][readers.BOX].to_numpy(), expected)
    for generator in ("text2img", "insight"):
        assert boxes[generator]["gender"].tolist() == wiki["gender"].tolist()
        assert boxes[generator][readers.BOX].isna().all(axis=None)
    assert records[readers.LANDMARKS].isna().all(axis=None)
    swap = f"insight/insight/{NAMES[3]}"
    tie = pd.DataFrame({"path": [swap], "background": [f"wiki/wiki/{NAMES[0]}"]})
    swapped = ties.add_swap_boxes(records.reset_index(), tie).set_index("path")
    assert swapped.loc[swap, readers.BOX].tolist() == [0.25, 0.25, 0.75, 0.75]
    assert swapped[readers.BOX].notna().sum().eq(records[readers.BOX].notna().sum() + 1).all()
    table = catalog.coverage(swapped.reset_index()).loc["wiki", "real"]
    assert table.tolist() == [20, 2, 3, 3, 2, 0]


def test_what_celeba_tells(study, tree):
    folder, names = tree / "celeba", [f"{number:06d}.jpg" for number in range(1, 5)]
    write_csv(folder / "list_attr_celeba.csv", image_id=names[:3], Smiling=1, Male=[1, -1, -1])
    places = (69, 109, 106, 113, 77, 142, 73, 152, 108, 154)  # of 000001.jpg
    points = dict(zip([f"{p}_{axis}" for p in readers._CELEBA_POINTS for axis in "xy"], places))
    write_csv(folder / "list_landmarks_align_celeba.csv", image_id=names[:1], **points)
    persons = "000001.jpg 2880\n000003.jpg 2937\n000004.jpg 2880\n"
    (folder / "identity_CelebA.txt").write_text(persons)
    celeba = catalog.collect(study).query("dataset == 'celeba'")
    assert celeba["gender"].tolist() == ["male", "female", "female", ""]
    assert celeba["person"].tolist() == ["celeba/2880", "", "celeba/2937", "celeba/2880"]
    assert celeba[readers.BOX].isna().all(axis=None)
    first = celeba[readers.LANDMARKS].iloc[0]
    assert first["left_eye_x"] == 69 / 178 < first["right_eye_x"]
    assert first["mouth_right_y"] == 154 / 218
    assert celeba[readers.LANDMARKS].iloc[1:].isna().all(axis=None)
    tied = ties.person_ties(celeba).to_numpy().tolist()
    assert tied == [["celeba/000004.jpg", "celeba/000001.jpg"]]


def test_splits_are_by_group():
    rng = np.random.default_rng(1)
    persons = [f"p{n}" if n else "" for n in rng.integers(0, 400, 2000)]
    groups = [f"g{n}" for n in rng.integers(0, 1900, 2000)]
    records = pd.DataFrame({"person": persons, "group": groups, "split": ""})

    def splits_of(name):
        split = catalog.assign_splits(records, 0, SHARES)
        return split[split[name] != ""].groupby(name)["split"].nunique().max()

    assert splits_of("group") == 1 and splits_of("person") > 1
    records["group"] = ties.tie_groups(records["group"], ties.person_ties(records).to_numpy(), 2000)
    assert splits_of("group") == splits_of("person") == 1


def test_adding_files_moves_no_other_file():
    """Any files, in any order, also of new groups and with splits of their own."""
    rng = np.random.default_rng(0)
    own = [f"{split}" for split in rng.choice(["", "", "train", "valid", "test"], 150)]
    for seed in range(20):
        numbers = rng.integers(0, 150, 400)
        records = pd.DataFrame({"number": numbers, "split": [own[n] for n in numbers]})
        records = records.assign(group="g" + records["number"].astype(str))
        whole = catalog.assign_splits(records, seed, SHARES)["split"]
        kept = np.flatnonzero(rng.random(150) < 0.5)  # half of the groups, half of their files
        some = records[records["number"].isin(kept)].sample(frac=0.5, random_state=seed)
        before = catalog.assign_splits(some, seed, SHARES)["split"]
        assert before.equals(whole[before.index])


@pytest.mark.parametrize("seed", range(2))
def test_every_label_is_split_in_the_same_shares(seed):
    """5,000 groups a label: the standard deviation of a share is at most 0.006."""
    labels = np.repeat(["real", "fake"], 5000)
    groups = [f"{label}/{n}" for n, label in enumerate(labels)]
    records = pd.DataFrame({"label": labels, "group": groups, "split": ""})
    split = catalog.assign_splits(records, seed, SHARES)
    shares = split.groupby("label")["split"].value_counts(normalize=True).unstack()
    assert np.abs(shares[["train", "valid", "test"]] - [0.8, 0.1, 0.1]).max(axis=None) < 0.02
    other = catalog.assign_splits(records, seed + 1, SHARES)
    assert (split["split"] != other["split"]).any()
    records.loc[:1, "group"], records.loc[0, "split"] = "one", "test"  # of its source
    assert catalog.assign_splits(records, seed, SHARES)["split"].tolist()[:2] == ["test", "test"]


def test_samples_show_the_same_photographs_in_every_row(records):
    shown = catalog.samples(records, num_each=3)
    assert shown.groupby("source").size().eq(3).all() and shown["source"].nunique() == 8
    rows = shown[shown["group"].str.startswith("wiki/")].groupby("source")["group"].apply(tuple)
    assert rows.nunique() == 1


def test_what_is_not_trained_on_is_tested(study, records):
    """All of every other task, whatever its split, but the groups of training and validation."""
    known = records["split"] != "test"
    gan = records["dataset"] == "gan140k"
    torn = records[gan & known].index[0]  # a picture that shares a photograph's group
    photograph = records[(records["dataset"] == "wiki") & known].iloc[0]
    records.loc[torn, ["group", "split"]] = photograph[["group", "split"]].tolist()
    real = records["label"] == "real"
    learnt = records[(records["generator"] == "inpainting")
                     | real & records["dataset"].isin(["wiki", "celeba"])]  # fmt: skip
    seen = set(learnt.loc[learnt["split"] != "test", "group"])
    pairs = {**study.test_sets, "gan140k / wiki": "wiki"}
    pairs |= {"celeba": "celeba", "wiki_crop": "wiki_crop"}
    expected = set()
    for task, source in pairs.items():
        generator = task.split(" / ")[0]
        for row in records.itertuples():
            of_task = row.dataset == source if row.label == "real" else row.generator == generator
            if of_task and (task == "inpainting" or row.group not in seen):
                expected.add((task, row.path, row.split if task == "inpainting" else "test"))
    table = catalog.tasks(records, study)
    assert set(zip(table["task"], table["path"], table["split"])) == expected
    assert len(table) == len(expected) and records.loc[torn, "path"] not in set(table["path"])
    tested, others = (set(table.loc[table["split"].isin(names), "group"])
                      for names in (["test"], ["train", "valid"]))  # fmt: skip
    assert not tested & others and set(records["group"]) == tested | seen


def test_what_was_trained_on_is_marked_where_it_is_tested_too(study, records):
    bare = catalog.tasks(records, study)
    study = replace(study, seen_too={"text2img": "wiki"}, num_tested=12)
    table = catalog.tasks(records, study)
    counts = table[table["split"] == "test"].groupby(["task", "label"]).size()
    assert counts.max() == 12 and counts["text2img / wiki (seen too)"].tolist() == [12, 12]
    home = bare["task"] == "inpainting"
    pd.testing.assert_frame_equal(table[table["task"] == "inpainting"], bare[home])
    seen = set(bare.loc[home & (bare["split"] != "test"), "group"])
    tested = table[table["real_source"] == "wiki (seen too)"]
    marked = tested["group"].str.removeprefix("seen ")
    assert ((marked != tested["group"]) == marked.isin(seen)).all() and marked.isin(seen).any()
    own = records.set_index("path")["group"]
    assert (marked == own[tested["path"]].to_numpy()).all() and marked.nunique() == 12


def test_photographs_are_cut_to_squares_where_the_fakes_were_no_squashed_photographs(
    study, records
):
    size, jpeg = f"squash:{study.square_size}", "jpeg:75"
    plans = {  # of photographs and of fakes
        "inpainting": (f"{size} {jpeg} {jpeg}", size),
        "insight": (f"{size} {jpeg} {jpeg}", size),
        "text2img": (f"square {size} {jpeg}", f"square {size}"),
        "gan140k": (f"square {size} {jpeg}", f"square {size} {jpeg}"),
        "gan140k / wiki": (f"square {size} {jpeg}", f"square {size} {jpeg}"),
        "celeba": (f"{size} {jpeg} {jpeg}", None),
        "wiki_crop": (f"{size} {jpeg} {jpeg}", None),
    }
    table = catalog.task_steps(study, records, "controlled", ("grey",))
    found = table.groupby(["task", "label"])["steps"].agg(set).to_dict()
    expected = {
        (task, label): {f"{plan} grey"}
        for task, pair in plans.items()
        for label, plan in zip(("real", "fake"), pair)
        if plan
    }
    assert found == expected
    assert set(catalog.task_steps(study, records, "report")["steps"]) == {""}


def test_a_task_without_a_class_is_an_error(records):
    message = "'stylegan3' against real photographs of 'wiki' has 0 fakes and 20 reals"
    with pytest.raises(ValueError, match=message):
        catalog.task(records, "stylegan3", "wiki")


def test_save_and_load(study, records):
    for _ in range(2):  # the second replaces the first
        catalog.save(study, records, pd.DataFrame({"path": ["x.jpg"], "reason": ["zero bytes"]}))
    assert catalog.load(study).equals(records)
    assert pd.read_csv(study.data / "rejected.csv")["reason"].tolist() == ["zero bytes"]
    assert {path.name for path in study.data.glob(".*")} <= {".records.lock"}


def test_records_of_another_archive_are_noticed(study, tree):
    marker = tree / "celeba" / MARKER
    marker.write_text('{"digest": "sha256:1"}')
    catalog.save(study, catalog.collect(study), pd.DataFrame({"path": []}))
    catalog.load(study)
    marker.write_text('{"digest": "sha256:2"}')
    with pytest.raises(ValueError, match="celeba changed after"):
        catalog.load(study)
