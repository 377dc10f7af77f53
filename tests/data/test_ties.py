"""Near-duplicates, leaks between splits, face-swaps and the photographs behind them, merged groups."""

import io

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw
from scipy.fft import dctn

from src.data import ties
from src.evaluation import audit
from src.pictures.decoding import UnreadableImage


def photograph(seed, width=120, height=150):
    """A picture with large shapes and fine ones, `uint8`."""
    random, size = np.random.default_rng(seed), (width, height)
    layers = [
        Image.fromarray(random.integers(0, 256, (n, n, 3), dtype=np.uint8)).resize(
            size, Image.Resampling.BICUBIC
        )
        for n in (4, 24)
    ]
    return np.asarray(Image.blend(*layers, 0.4))


def save(image, path, quality):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=quality)
    return path


# ------------------------------------------------------------------------------------------- near-duplicates


def test_perceptual_hash_against_scipy():
    image = photograph(0)
    grey = cv2.resize(
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA
    )
    low = dctn(grey.astype(float), norm="ortho")[:8, :8]
    bits = "".join("1" if value > np.median(low) else "0" for value in low.ravel())
    value = audit.perceptual_hash(image)
    assert value.dtype == np.uint64 and int(value) == int(bits, 2)
    assert value == audit.perceptual_hash(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))


def test_hashes_survive_what_files_go_through_and_tell_pictures_apart(tmp_path):
    originals = [
        save(photograph(seed, 200 + seed, 260), tmp_path / f"{seed}.jpg", 95) for seed in range(20)
    ]
    copies = []
    for file in originals:
        squashed = np.asarray(Image.open(file).resize((128, 128), Image.Resampling.BICUBIC))
        copies.append(save(squashed, tmp_path / "copy" / file.name, 75))
    hashes = audit.perceptual_hashes(originals + copies)
    exact = [audit.perceptual_hash(np.asarray(Image.open(file))) for file in originals + copies]
    assert (
        max(bin(int(a) ^ int(b)).count("1") for a, b in zip(hashes, exact)) <= 4
    )  # reduced decoding costs little
    pairs = audit.near_duplicates(hashes, 6)
    assert set(zip(pairs["first"], pairs["second"])) == {(i, i + 20) for i in range(20)}


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8), float), np.zeros((8, 8, 4), np.uint8), np.zeros(8, np.uint8)]
)
def test_perceptual_hash_refuses_other_arrays(image):
    with pytest.raises(ValueError, match="uint8"):
        audit.perceptual_hash(image)


def test_unreadable_files_are_named(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    cut = save(photograph(0), tmp_path / "cut.jpg", 90)
    cut.write_bytes(cut.read_bytes()[:600])
    for name in ("bad.jpg", "cut.jpg", "missing.jpg"):
        with pytest.raises(UnreadableImage, match=name):
            audit.perceptual_hashes([tmp_path / name])
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
    expected = []
    for i in range(60):
        for j in range(i + 1, 60):
            distance = bin(int(hashes[i]) ^ int(hashes[j])).count("1")
            if distance <= max_distance:
                expected.append((i, j, distance))
    found = audit.near_duplicates(hashes, max_distance, chunk=7)
    assert sorted(found.itertuples(index=False, name=None)) == expected and len(expected) >= 10


def test_near_duplicates_at_the_edges():
    assert audit.near_duplicates(np.zeros(0, np.uint64)).empty
    assert audit.near_duplicates(np.zeros(1, np.uint64)).empty
    assert len(audit.near_duplicates(np.zeros(5, np.uint64), 0)) == 10
    with pytest.raises(ValueError, match="uint64"):
        audit.near_duplicates(np.zeros(5, np.int64))


# ------------------------------------------------------------------------------------------------------ leaks


@pytest.fixture
def records():
    """100 photographs, each real and fake, split by group: sound."""
    split = ["train"] * 80 + ["valid"] * 10 + ["test"] * 10
    parts = []
    for label in ("real", "fake"):
        paths = [f"{label}/{i:03}.jpg" for i in range(100)]
        groups = [f"{i:03}" for i in range(100)]
        parts.append(
            pd.DataFrame(
                {"path": paths, "label": label, "group": groups, "split": split, "person": ""}
            )
        )
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def hashes():
    """The fakes' hashes differ from the reals' in one bit, and from all others in many."""
    real = np.random.default_rng(0).integers(0, 2**64, 100, dtype=np.uint64)
    return np.concatenate([real, real ^ np.uint64(8)])


def test_a_sound_split_has_no_leak(records, hashes):
    table = audit.leak_test(records, hashes, digests=records["path"])
    assert table["kind"].tolist() == ["group", "person", "identical file", "near-duplicate"]
    assert not table[["count", "share", "test_in_train"]].to_numpy().any()
    assert all(examples == [] for examples in table["examples"])


def test_planted_leaks_are_found(records, hashes):
    records.loc[records["path"] == "fake/095.jpg", "split"] = (
        "train"  # a version of a test photograph
    )
    records.loc[
        records["path"].isin(["real/005.jpg", "real/085.jpg", "real/086.jpg"]), "person"
    ] = "Ada"
    hashes[3] = hashes[92] ^ np.uint64(
        5
    )  # two groups show one photograph, the first training, the second test
    digests = records["path"].to_numpy(dtype=object).copy()
    digests[[7, 98]] = "same bytes"
    table = audit.leak_test(records, hashes, digests).set_index("kind")
    assert table["count"].to_dict() == {
        "group": 2,
        "person": 3,
        "identical file": 2,
        "near-duplicate": 5,
    }
    assert table["share"].to_dict() == {
        "group": 0.01,
        "person": 0.015,
        "identical file": 0.01,
        "near-duplicate": 0.025,
    }
    num_test = 19
    expected = {"group": 1, "person": 0, "identical file": 1, "near-duplicate": 3}
    assert (table["test_in_train"] * num_test).round(9).to_dict() == expected
    assert table.loc["group", "examples"] == [("real/095.jpg", "fake/095.jpg")]
    assert ("real/092.jpg", "real/003.jpg") in table.loc["near-duplicate", "examples"]


def test_the_study_split_leaks(records, hashes):
    split = audit.study_split(records, seed=0)
    assert split.groupby(["label", "split"]).size().to_dict() == {
        (label, name): count
        for label in ("real", "fake")
        for name, count in (("train", 80), ("valid", 10), ("test", 10))
    }
    table = audit.leak_test(split, hashes).set_index("kind")
    assert (
        table.loc[["group", "near-duplicate"], "test_in_train"] > 0.5
    ).all()  # 80 % are expected
    assert split["split"].tolist() == audit.study_split(records, seed=0)["split"].tolist()
    assert split["split"].tolist() != audit.study_split(records, seed=1)["split"].tolist()
    assert (
        records["split"].tolist()
        == ["train"] * 80 + ["valid"] * 10 + ["test"] * 10 + records["split"].tolist()[100:]
    )


def test_leak_test_says_what_is_missing(records, hashes):
    with pytest.raises(ValueError, match="group"):
        audit.leak_test(records.drop(columns="group"))
    with pytest.raises(ValueError, match="0 rows"):
        audit.leak_test(records[:0])
    with pytest.raises(ValueError, match="one hash a record"):
        audit.leak_test(records, hashes[:-1])
    with pytest.raises(ValueError, match="one digest a record"):
        audit.leak_test(records, digests=["a"])


# ------------------------------------------------------------------------------------------------------ swaps


@pytest.fixture(scope="module")
def swaps(tmp_path_factory):
    """60 photographs of many sizes and as many swaps, the first 50 backgrounds delivered: files and truth."""
    folder, random = tmp_path_factory.mktemp("swaps"), np.random.default_rng(0)
    photographs = []
    for seed in range(60):
        image = photograph(seed, *random.integers(90, 260, 2).tolist())
        if seed % 7 == 0:
            image = np.asarray(Image.fromarray(image).convert("L"))
        if seed % 5 == 0:  # a portrait before a white wall: only the subject has structure
            image = image.copy()
            image[: len(image) // 2, : image.shape[1] // 3] = image[
                : len(image) // 2, -image.shape[1] // 3 :
            ] = 255
        photographs.append(
            save(image, folder / "wiki" / f"{seed}.jpg", int(random.integers(60, 96)))
        )
    background, files = random.permutation(60), []
    for index, source in enumerate(background):
        squashed = (
            Image.open(photographs[source])
            .convert("RGB")
            .resize((128, 128), Image.Resampling.BICUBIC)
        )
        stream = io.BytesIO()
        squashed.save(stream, "JPEG", quality=75)
        picture = Image.open(stream).convert("RGB")
        other = Image.open(photographs[index]).convert("RGB").resize((128, 128))
        mask, (x, y), side = (
            Image.new("L", (128, 128)),
            random.integers(44, 84, 2),
            random.integers(18, 32),
        )
        ImageDraw.Draw(mask).ellipse(
            (x - 0.85 * side, y - side, x + 0.85 * side, y + side), fill=255
        )
        picture.paste(other, (0, 0), mask)
        files.append(save(np.asarray(picture), folder / "insight" / f"{index}.jpg", 75))
    return files, photographs, background


def table_of(swaps, photographs):
    """Their records, and the folder that the paths are relative to."""
    root = swaps[0].parents[1]
    table = pd.DataFrame({"path": [f.relative_to(root).as_posix() for f in photographs + swaps]})
    table["dataset"] = ["wiki"] * len(photographs) + ["insight"] * len(swaps)
    table["generator"] = ["real"] * len(photographs) + ["insight"] * len(swaps)
    return table, root


def test_swap_ties_find_the_photograph_behind_each_swap(swaps):
    files, photographs, background = swaps
    table, root = table_of(files, photographs[:50])
    found = ties.find_swap_ties(table, root)
    assert found.columns.tolist() == ["path", "background", "distance", "margin"]
    assert dict(zip(found["path"], found["background"])) == {
        f"insight/{i}.jpg": f"wiki/{b}.jpg" for i, b in enumerate(background) if b < 50
    }
    assert (found["margin"] > 0.1).all() and (found["distance"] <= ties.MAX_DISTANCE).all()
    for dataset in ("wiki", "insight"):
        empty = ties.find_swap_ties(table[table["dataset"] != dataset], root)
        assert empty.empty and empty.columns.tolist() == found.columns.tolist()


def test_a_photograph_delivered_twice_has_no_margin(swaps):
    files, photographs, background = swaps
    table, root = table_of(files[:3], [*photographs, photographs[background[0]]])
    margin = ties.find_swap_ties(table, root)["margin"].to_numpy()
    assert margin[0] == pytest.approx(0, abs=1e-6) and (margin[1:] > 0.1).all()


def test_match_backgrounds_against_a_plain_loop():
    random = np.random.default_rng(0)
    swaps, photographs = (random.integers(0, 256, (n, 16, 16), dtype=np.uint8) for n in (7, 5))
    best, first, second = ties.match_backgrounds(swaps, photographs, chunk=3)
    for row, swap in enumerate(swaps):
        distances = [1 - ties._descriptor(swap) @ ties._descriptor(other) for other in photographs]
        assert best[row] == np.argmin(distances)
        np.testing.assert_allclose([first[row], second[row]], sorted(distances)[:2], rtol=1e-5)


def test_swaps_at_the_edges():
    flat, one = (
        np.full((2, 16, 16), 200, np.uint8),
        np.arange(256, dtype=np.uint8).reshape(1, 16, 16),
    )
    best, first, second = ties.match_backgrounds(flat, one)
    assert (
        best.tolist() == [0, 0] and (first > 0.9).all() and (second == 2).all()
    )  # nothing to see, nothing tied
    assert ties.match_backgrounds(flat[:0], one)[0].shape == (0,)
    with pytest.raises(ValueError, match="at least one photograph"):
        ties.match_backgrounds(flat, one[:0])
    assert ties.thumbnails([]).shape == (0, 64, 64)


# ----------------------------------------------------------------------------------------------------- groups


def test_tie_groups_against_a_plain_search():
    random = np.random.default_rng(0)
    groups = random.permutation(np.repeat([f"g{i:02}" for i in range(40)], 3))
    pairs = [tuple(random.choice(groups, 2)) for _ in range(25)]
    merged = ties.tie_groups(groups, pairs)
    names = {name: {name} for name in groups}
    for first, second in pairs:
        union = names[first] | names[second]
        for name in union:
            names[name] = union
    assert merged.tolist() == [min(names[name]) for name in groups]


def test_tie_groups_at_the_edges():
    assert ties.tie_groups(["b", "a"], []).tolist() == ["b", "a"]
    assert ties.tie_groups([], []).tolist() == []
    assert ties.tie_groups(["a", "a"], [("a", "a")], max_size=1).tolist() == ["a", "a"]
    with pytest.raises(ValueError, match="1 tied groups.*'z'"):
        ties.tie_groups(["a", "b"], [("a", "z")])


@pytest.mark.parametrize("max_size", [1, 20, 100, 3000])
def test_large_lumps_are_cut_at_few_ties(max_size):
    random = np.random.default_rng(0)
    names = [f"{i:05}" for i in range(3000)]
    pairs = [(name, names[other]) for name, other in zip(names, random.integers(0, 3000, 3000))]
    assert (
        pd.Series(ties.tie_groups(names, pairs)).value_counts().iloc[0] > 1500
    )  # what chance does
    merged = ties.tie_groups(names, pairs, max_size=max_size)
    group_of = dict(zip(names, merged))
    torn = np.array([group_of[first] != group_of[second] for first, second in pairs])
    assert pd.Series(merged).value_counts().iloc[0] <= max_size
    assert torn.mean() < {1: 1, 20: 0.25, 100: 0.1, 3000: 0.001}[max_size]
    connected = ties.tie_groups(names, [tie for tie, is_torn in zip(pairs, torn) if not is_torn])
    assert connected.tolist() == merged.tolist()  # every part hangs together by its own ties
