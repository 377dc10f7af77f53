"""Perceptual hashes, near-duplicates, leaks between splits."""

import cv2
import numpy as np
import pandas as pd
import pytest
from made_pictures import photograph, saved
from PIL import Image
from scipy.fft import dctn

from src.data import ties
from src.evaluation import leaks
from src.pictures.decoding import UnreadableImage

SPLIT = ["train"] * 80 + ["valid"] * 10 + ["test"] * 10


def bits_apart(first, second):
    return bin(int(first) ^ int(second)).count("1")


def test_perceptual_hash_against_scipy():
    grey = cv2.cvtColor(photograph(0), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA)
    low = dctn(small.astype(float), norm="ortho")[:8, :8]
    bits = "".join("1" if value > np.median(low) else "0" for value in low.ravel())
    value = leaks.perceptual_hash(grey)
    assert value.dtype == np.uint64 and int(value) == int(bits, 2)


def test_hashes_survive_what_files_go_through_and_tell_pictures_apart(tmp_path, monkeypatch):
    originals, copies = [], []
    for seed in range(20):
        pixels = photograph(seed, 200 + seed, 260)
        originals.append(saved(tmp_path / f"{seed}.jpg", pixels, quality=95))
        squashed = Image.open(originals[-1]).resize((128, 128), Image.Resampling.BICUBIC)
        copies.append(saved(tmp_path / f"{seed}_copy.jpg", np.asarray(squashed), quality=75))
    files = originals + copies
    hashes = leaks.perceptual_hashes(files)
    exact = [leaks.perceptual_hash(np.asarray(Image.open(file).convert("L"))) for file in files]
    assert max(map(bits_apart, hashes, exact)) <= 4  # reduced decoding costs little
    monkeypatch.setattr(leaks, "MAX_DISTANCE", 6)
    for place in range(20):
        found = leaks.near_duplicates(hashes[:20], hashes[20 + place :][:1])
        assert np.flatnonzero(found).tolist() == [place]


def test_unreadable_files_are_named(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    cut = saved(tmp_path / "cut.jpg", photograph(0), quality=90)
    cut.write_bytes(cut.read_bytes()[:600])
    for name in ("bad.jpg", "cut.jpg", "missing.jpg"):
        for function in (leaks.perceptual_hashes, ties.thumbnails):
            with pytest.raises(UnreadableImage, match=name):
                function([tmp_path / name])


@pytest.mark.parametrize("max_distance", [0, 3, 64])
def test_near_duplicates_against_a_plain_loop(max_distance, monkeypatch):
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, 60, dtype=np.uint64)
    flipped = np.uint64(1) << random.integers(0, 64, 20, dtype=np.uint64)
    others = np.concatenate([hashes[20:40] ^ flipped, hashes[:10]])
    expected = [min(bits_apart(one, other) for other in others) for one in hashes]
    monkeypatch.setattr(leaks, "MAX_DISTANCE", max_distance)
    found = leaks.near_duplicates(hashes, others)
    assert found.tolist() == [least <= max_distance for least in expected]
    assert not leaks.near_duplicates(hashes, others[:0]).any()


@pytest.fixture
def records():
    """100 photographs, each real and fake, split by group: sound."""
    columns = {"label": np.repeat(["real", "fake"], 100), "split": SPLIT * 2, "person": ""}
    table = pd.DataFrame(columns | {"group": [f"{number:03}" for number in range(100)] * 2})
    return table.assign(path=table["label"] + "/" + table["group"] + ".jpg")


@pytest.fixture
def hashes():
    """The fakes' hashes differ from the reals' in one bit, and from all others in many."""
    real = np.random.default_rng(0).integers(0, 2**64, 100, dtype=np.uint64)
    return np.concatenate([real, real ^ np.uint64(8)])


def test_planted_leaks_are_found_and_a_sound_split_has_none(records, hashes):
    table = leaks.leak_test(records, hashes)
    assert table["kind"].tolist() == ["group", "near-duplicate"]  # no person is named
    assert not table["test_in_train"].any()
    records.loc[records["path"] == "fake/095.jpg", "split"] = "train"  # of a test photograph
    ada = records["path"].isin(["real/005.jpg", "real/085.jpg", "real/096.jpg"])
    records.loc[ada, "person"] = "Ada"
    hashes[3] = hashes[92] ^ np.uint64(5)  # two groups show one photograph: training and test
    table = leaks.leak_test(records, hashes).set_index("kind")
    found = (table["test_in_train"] * 19).round(9).to_dict()
    assert found == {"group": 1, "person": 1, "near-duplicate": 3}


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
