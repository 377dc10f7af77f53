"""Face-swaps and the photographs behind them, merged groups."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from src.data import ties


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


@pytest.fixture(scope="module")
def swaps(tmp_path_factory):
    """60 photographs of many sizes and as many swaps: files and truth."""
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


# --- groups


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
