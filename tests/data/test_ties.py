"""Face-swaps and the photographs behind them, merged groups."""

import numpy as np
import pandas as pd
import pytest
from made_pictures import photograph, saved
from PIL import Image, ImageDraw
from scipy.spatial.distance import cosine

from src.data import ties
from src.pictures.steps import apply


@pytest.fixture(scope="module")
def swaps(tmp_path_factory):
    """60 photographs of many sizes and as many swaps: files and truth."""
    folder, random = tmp_path_factory.mktemp("swaps"), np.random.default_rng(0)
    photographs = []
    for seed in range(60):
        image = photograph(seed, *random.integers(90, 260, 2).tolist())
        if seed % 7 == 0:
            image = apply(image, ("grey",))
        if seed % 5 == 0:  # a portrait before a white wall: only the subject has structure
            image, (height, width) = image.copy(), (len(image) // 2, image.shape[1] // 3)
            image[:height, :width] = image[:height, -width:] = 255
        quality = int(random.integers(60, 96))
        photographs.append(saved(folder / "wiki" / f"{seed}.jpg", image, quality=quality))
    background, files = random.permutation(60), []
    for index, source in enumerate(background):
        image = np.asarray(Image.open(photographs[source]).convert("RGB"))
        picture = Image.fromarray(apply(image, ("squash:128", "jpeg:75")))
        other = Image.open(photographs[index]).convert("RGB").resize((128, 128))
        mask, (x, y) = Image.new("L", (128, 128)), random.integers(44, 84, 2)
        side = random.integers(18, 32)
        face = (x - 0.85 * side, y - side, x + 0.85 * side, y + side)
        ImageDraw.Draw(mask).ellipse(face, fill=255)
        picture.paste(other, (0, 0), mask)
        files.append(folder / "insight" / f"{index}.jpg")
        saved(files[-1], np.asarray(picture), quality=75)
    return files, photographs, background


def table_of(swaps, photographs):
    """Their records, and the folder that the paths are relative to."""
    root = swaps[0].parents[1]
    table = pd.DataFrame({"path": [f.relative_to(root).as_posix() for f in photographs + swaps]})
    table["dataset"] = table["path"].str.split("/").str[0]
    return table.assign(generator=table["dataset"].replace("wiki", "real")), root


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
    best, first, second = ties.match_backgrounds(swaps, photographs)
    for row, swap in enumerate(swaps):
        sought, known = ties._descriptor(swap), map(ties._descriptor, photographs)
        distances = [cosine(sought, other) for other in known]
        assert best[row] == np.argmin(distances)
        np.testing.assert_allclose([first[row], second[row]], sorted(distances)[:2], rtol=1e-5)


def test_a_flat_swap_is_tied_to_nothing_and_one_photograph_has_no_second():
    flat = np.full((2, 16, 16), 200, np.uint8)
    one = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    best, first, second = ties.match_backgrounds(flat, one)
    assert best.tolist() == [0, 0] and (first > 0.9).all() and (second == 2).all()


# --- groups


def test_tie_groups_against_a_plain_search():
    random = np.random.default_rng(0)
    groups = random.permutation(np.repeat([f"g{i:02}" for i in range(40)], 3))
    pairs = [tuple(random.choice(groups, 2)) for _ in range(25)]
    merged = ties.tie_groups(groups, pairs, max_size=40)
    names = {name: {name} for name in groups}
    for first, second in pairs:
        union = names[first] | names[second]
        for name in union:
            names[name] = union
    assert merged.tolist() == [min(names[name]) for name in groups]


def test_tie_groups_at_the_edges():
    assert ties.tie_groups(["b", "a"], [], max_size=9).tolist() == ["b", "a"]
    assert ties.tie_groups([], [], max_size=9).tolist() == []
    assert ties.tie_groups(["a", "a"], [("a", "a")], max_size=1).tolist() == ["a", "a"]


@pytest.mark.parametrize("max_size, torn_share", [(1, 1), (20, 0.25), (100, 0.1), (3000, 0.001)])
def test_large_lumps_are_cut_at_few_ties(max_size, torn_share):
    random = np.random.default_rng(0)
    names = [f"{i:05}" for i in range(3000)]
    pairs = [(name, names[other]) for name, other in zip(names, random.integers(0, 3000, 3000))]
    free = ties.tie_groups(names, pairs, max_size=3000)
    assert pd.Series(free).value_counts().iloc[0] > 1500  # by chance
    merged = ties.tie_groups(names, pairs, max_size=max_size)
    group_of = dict(zip(names, merged))
    kept = [(first, second) for first, second in pairs if group_of[first] == group_of[second]]
    assert pd.Series(merged).value_counts().iloc[0] <= max_size
    assert 1 - len(kept) / 3000 < torn_share
    assert ties.tie_groups(names, kept, 3000).tolist() == merged.tolist()  # parts hang together


def test_person_ties():
    persons, groups = ["A", "A", "", "", "B", "A"], ["1", "2", "3", "4", "5", "1"]
    records = pd.DataFrame({"person": persons, "group": groups})
    assert ties.person_ties(records).to_numpy().tolist() == [["2", "1"]]


def test_a_torn_swap_is_left_out_and_listed():
    splits = ["train", "train", "test", "test"]
    records = pd.DataFrame({"path": list("abcd"), "group": list("wxyz"), "split": splits})
    tied = pd.DataFrame({"path": ["a", "c"], "background": ["b", "b"]})
    assert ties.swap_pairs(records, tied).to_numpy().tolist() == [["w", "x"], ["y", "x"]]
    kept, lost = ties.drop_torn_swaps(records.assign(label="fake"), tied)
    assert kept["path"].tolist() == ["a", "b", "d"] and lost["path"].tolist() == ["c"]
    assert "another split" in lost["reason"].item()


def test_tie_quality():
    def table(swaps, photographs):
        paths = {"path": [f"insight/00/{a}" for a in swaps]}
        return pd.DataFrame(paths | {"background": [f"wiki/00/{b}" for b in photographs]})

    every = table("abcde", "abcde")
    records = pd.DataFrame({"path": [*every["path"], *every["background"]]})
    records["generator"] = ["insight"] * 5 + ["real"] * 5
    # The photograph z was rejected: e cannot be tied to it.
    truth, found = table("abcde", "badcz"), table("abce", "badc")
    found = found.assign(distance=[0.1, 0.2, 0.3, 0.6], margin=[0.5, 0.4, 0.3, 0.01])
    quality = ties.tie_quality(found, records, truth)
    assert quality["distance, median"] == pytest.approx(0.25) and quality["margin, min"] == 0.01
    assert quality["mutual"] == 0.5 and quality["recall"] == 0.75 and quality["precision"] == 0.75
    unknown = ties.tie_quality(found, records, truth[:0])
    assert unknown.equals(quality.drop(["recall", "precision"]))
    assert ties.tie_quality(found[:0], records, truth)["recall"] == 0
