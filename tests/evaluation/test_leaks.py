"""Perceptual hashes, near-duplicates, leaks between splits."""

import itertools

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.fft import dctn

from src.data import ties
from src.evaluation import leaks
from src.pictures.decoding import UnreadableImage

SPLIT = ["train"] * 80 + ["valid"] * 10 + ["test"] * 10


def photograph(seed, width=120, height=150):
    """A picture with large shapes and fine ones, `uint8`."""
    random, size = np.random.default_rng(seed), (width, height)
    small = [random.integers(0, 256, (n, n, 3), dtype=np.uint8) for n in (4, 24)]
    layers = [Image.fromarray(part).resize(size, Image.Resampling.BICUBIC) for part in small]
    return np.asarray(Image.blend(*layers, 0.4))


def save(image, path, quality):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=quality)
    return path


# --- near-duplicates


def test_perceptual_hash_against_scipy():
    image = photograph(0)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA)
    low = dctn(small.astype(float), norm="ortho")[:8, :8]
    bits = "".join("1" if value > np.median(low) else "0" for value in low.ravel())
    value = leaks.perceptual_hash(image)
    assert value.dtype == np.uint64 and int(value) == int(bits, 2)
    assert value == leaks.perceptual_hash(grey)


def test_hashes_survive_what_files_go_through_and_tell_pictures_apart(tmp_path):
    originals = [
        save(photograph(seed, 200 + seed, 260), tmp_path / f"{seed}.jpg", 95) for seed in range(20)
    ]
    copies = []
    for file in originals:
        squashed = np.asarray(Image.open(file).resize((128, 128), Image.Resampling.BICUBIC))
        copies.append(save(squashed, tmp_path / "copy" / file.name, 75))
    hashes = leaks.perceptual_hashes(originals + copies)
    exact = [leaks.perceptual_hash(np.asarray(Image.open(file))) for file in originals + copies]
    differ = [bin(int(a) ^ int(b)).count("1") for a, b in zip(hashes, exact)]
    assert max(differ) <= 4  # reduced decoding costs little
    pairs = leaks.near_duplicates(hashes, 6)
    assert set(zip(pairs["first"], pairs["second"])) == {(i, i + 20) for i in range(20)}


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8), float), np.zeros((8, 8, 4), np.uint8), np.zeros(8, np.uint8)]
)
def test_perceptual_hash_refuses_other_arrays(image):
    with pytest.raises(ValueError, match="uint8"):
        leaks.perceptual_hash(image)


def test_unreadable_files_are_named(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    cut = save(photograph(0), tmp_path / "cut.jpg", 90)
    cut.write_bytes(cut.read_bytes()[:600])
    for name in ("bad.jpg", "cut.jpg", "missing.jpg"):
        with pytest.raises(UnreadableImage, match=name):
            leaks.perceptual_hashes([tmp_path / name])
        with pytest.raises(UnreadableImage, match=name):
            ties.thumbnails([tmp_path / name])


@pytest.mark.parametrize("old_numpy", [False, True])
@pytest.mark.parametrize("max_distance", [0, 3, 64])
def test_near_duplicates_against_a_plain_loop(old_numpy, max_distance, monkeypatch):
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, 60, dtype=np.uint64)
    hashes[30:50] = hashes[:20] ^ (np.uint64(1) << random.integers(0, 64, 20, dtype=np.uint64))
    hashes[50:] = hashes[:10]
    if old_numpy:  # NumPy 1 cannot count bits
        monkeypatch.delattr(np, "bitwise_count", raising=False)
    pairs = itertools.combinations(range(60), 2)
    every = [(i, j, bin(int(hashes[i]) ^ int(hashes[j])).count("1")) for i, j in pairs]
    expected = [pair for pair in every if pair[2] <= max_distance]
    found = leaks.near_duplicates(hashes, max_distance, chunk=7)
    assert sorted(found.itertuples(index=False, name=None)) == expected and len(expected) >= 10


def test_near_duplicates_at_the_edges():
    assert leaks.near_duplicates(np.zeros(0, np.uint64)).empty
    assert leaks.near_duplicates(np.zeros(1, np.uint64)).empty
    assert len(leaks.near_duplicates(np.zeros(5, np.uint64), 0)) == 10
    with pytest.raises(ValueError, match="uint64"):
        leaks.near_duplicates(np.zeros(5, np.int64))


# --- leaks


@pytest.fixture
def records():
    """100 photographs, each real and fake, split by group: sound."""
    names = [f"{i:03}" for i in range(100)]
    common = {"group": names, "split": SPLIT, "person": ""}
    parts = [
        pd.DataFrame({"path": [f"{label}/{name}.jpg" for name in names], "label": label, **common})
        for label in ("real", "fake")
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def hashes():
    """The fakes' hashes differ from the reals' in one bit, and from all others in many."""
    real = np.random.default_rng(0).integers(0, 2**64, 100, dtype=np.uint64)
    return np.concatenate([real, real ^ np.uint64(8)])


def test_a_sound_split_has_no_leak(records, hashes):
    table = leaks.leak_test(records, hashes)
    assert table["kind"].tolist() == ["group", "person", "near-duplicate"]
    assert not table[["count", "share", "test_in_train"]].to_numpy().any()
    assert all(examples == [] for examples in table["examples"])


def test_planted_leaks_are_found(records, hashes):
    torn = records["path"] == "fake/095.jpg"  # a version of a test photograph
    records.loc[torn, "split"] = "train"
    ada = records["path"].isin(["real/005.jpg", "real/085.jpg", "real/086.jpg"])
    records.loc[ada, "person"] = "Ada"
    hashes[3] = hashes[92] ^ np.uint64(5)  # two groups show one photograph: training and test
    table = leaks.leak_test(records, hashes).set_index("kind")
    assert table["count"].to_dict() == {"group": 2, "person": 3, "near-duplicate": 5}
    assert (table["share"] * 200).to_dict() == {"group": 2, "person": 3, "near-duplicate": 5}
    expected = {"group": 1, "person": 0, "near-duplicate": 3}
    assert (table["test_in_train"] * 19).round(9).to_dict() == expected
    assert table.loc["group", "examples"] == [("real/095.jpg", "fake/095.jpg")]
    assert ("real/092.jpg", "real/003.jpg") in table.loc["near-duplicate", "examples"]


def test_the_study_split_leaks(records, hashes):
    split = leaks.study_split(records, seed=0)
    for _, rows in split.groupby("label"):
        assert rows["split"].value_counts().to_dict() == {"train": 80, "valid": 10, "test": 10}
    table = leaks.leak_test(split, hashes).set_index("kind")
    leaking = table.loc[["group", "near-duplicate"], "test_in_train"]
    assert (leaking > 0.5).all()  # 80 % are expected
    assert split["split"].tolist() == leaks.study_split(records, seed=0)["split"].tolist()
    assert split["split"].tolist() != leaks.study_split(records, seed=1)["split"].tolist()
    assert records["split"].tolist() == 2 * SPLIT


def test_leak_test_says_what_is_missing(records, hashes):
    for rows, given, message in (
        (records.drop(columns="group"), hashes, "without .'group'."),
        (records[:0], hashes[:0], "received 0 records"),
        (records, hashes[:-1], "200 records .*199 hashes"),
    ):
        with pytest.raises(ValueError, match=message):
            leaks.leak_test(rows, given)
