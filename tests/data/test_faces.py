"""Face boxes: the choice of a face, the cache, geometry; and MTCNN itself on a few pictures."""

import os
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from made_pictures import saved
from PIL import Image

from src.data import faces
from src.data.faces import box_agreement, detect, iou
from src.data.readers import BOX
from src.pictures.decoding import UnreadableImage

SHARED = Path(__file__).resolve().parents[2] / "shared" / "faces"


class Detector:
    """Stands in for MTCNN: the face is the bright rectangle; remembers its batches' shapes."""

    def __init__(self):
        self.batches = []

    def detect_faces(self, pictures, **_):
        self.batches.append((len(pictures), *pictures[0].shape))
        found = []
        for index, picture in enumerate(pictures):
            assert picture.dtype == np.float32 and picture.shape == pictures[0].shape
            rows, columns = np.nonzero(picture[..., 1] > 200)
            if len(rows):
                box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                found.append([index, *box, 0.99, *[0] * 10])
        return np.array(found).reshape(-1, 16)

    @property
    def num_pictures(self):
        return sum(batch[0] for batch in self.batches)


@pytest.fixture
def detector(monkeypatch):
    detector = Detector()
    monkeypatch.setattr(faces, "_detector", lambda: detector)
    return detector


def drawn(file, width=64, height=64, box=(0, 0, 0.5, 0.5)):
    """A dark picture with a bright rectangle at `box` (fractions)."""
    pixels = np.full((height, width, 3), 30, np.uint8)
    if box is not None:
        left, top, right, bottom = np.rint(np.multiply(box, [width, height] * 2)).astype(int)
        pixels[top:bottom, left:right] = 250
    return saved(file, pixels)


@pytest.fixture
def find(tmp_path):
    """`detect` in files below a folder, with a cache."""

    def find(files, steps=None):
        paths = [file.relative_to(tmp_path).as_posix() for file in files]
        return detect(tmp_path, paths, steps or [""] * len(files), find.cache)

    find.cache = tmp_path / "deep" / "boxes.parquet"
    return find


def test_boxes_are_fractions_of_the_stored_picture_at_any_size(tmp_path, detector, find):
    box, folder = (0.25, 0.5, 0.5, 0.75), tmp_path / "a é"
    sizes = [(64, 64), (300, 200), (200, 300), (640, 480), (1000, 40), (33, 20)]
    table = find([drawn(folder / f"{row}.png", *size, box) for row, size in enumerate(sizes)])
    assert list(table) == ["path", *BOX, "confidence", "num_faces"]
    assert table["path"].tolist() == [f"a é/{index}.png" for index in range(6)]
    for row, (width, height) in enumerate(sizes):
        pixel = max(width, height, 320) / 320 / np.array([width, height] * 2)
        assert np.all(np.abs(table.loc[row, BOX].to_numpy(float) - box) <= 1.5 * pixel), sizes[row]
    assert all(max(batch[1:3]) <= 320 and batch[1] == batch[2] for batch in detector.batches)


def test_pictures_without_a_face_do_not_shift_the_others(tmp_path, detector, find, monkeypatch):
    monkeypatch.setattr(faces, "_BATCH_SIZE", 2)
    box, empty = (0.25, 0.25, 0.75, 0.75), np.arange(9) % 4 == 0
    boxes = [None if is_empty else box for is_empty in empty]
    files = [
        drawn(tmp_path / f"{row}.png", 100 + 40 * (row % 3), 120, box)
        for row, box in enumerate(boxes)
    ]
    table = find(files)
    assert (table["num_faces"] == ~empty).all() and table["num_faces"].dtype == np.int64
    assert table.loc[empty, [*BOX, "confidence"]].isna().all(axis=None)
    assert np.allclose(table.loc[~empty, BOX], box, atol=0.01)
    assert max(batch[0] for batch in detector.batches) == 2


def test_only_new_and_changed_pictures_are_looked_at(tmp_path, detector, find):
    files = [drawn(tmp_path / "in" / f"{index}.png") for index in range(4)]
    first = find(files[:3])
    assert detector.num_pictures == 3
    again = find(files[2::-1])
    assert detector.num_pictures == 3
    pd.testing.assert_frame_equal(again, first[::-1].reset_index(drop=True))
    drawn(files[0], box=(0.5, 0.5, 1, 1))
    os.utime(files[1], ns=(0, 1))  # the time of change says nothing
    table = find([*files, files[0]])
    assert detector.num_pictures == 5
    assert table["left"].tolist() == [0.5, 0, 0, 0, 0.5]
    assert len(pd.read_parquet(find.cache)) == 4


def test_of_two_runs_at_once_one_detects(tmp_path, detector, find):
    files = [drawn(tmp_path / f"{index}.png") for index in range(4)]
    find.cache.parent.mkdir()
    with ThreadPoolExecutor(2) as pool:
        with FileLock(f"{find.cache}.lock"):
            runs = [pool.submit(find, files) for _ in range(2)]
            wait(runs, 0.5)  # both have come to the lock
            assert detector.num_pictures == 0
        first, second = (run.result() for run in runs)
    assert detector.num_pictures == 4 and first.equals(second)


def test_faces_are_found_after_the_steps(tmp_path, detector, find):
    file = drawn(tmp_path / "wide.png", 200, 100, (0.25, 0.25, 0.75, 0.75))
    turned = ["", "squash:64", "squash:64 jpeg:75"]
    table = find([file] * 3, steps=turned)  # fractions of what the steps leave
    assert np.allclose(table[BOX], (0.25, 0.25, 0.75, 0.75), atol=0.03)
    assert {batch[1] for batch in detector.batches} == {256, 64} and detector.num_pictures == 3
    again = find([file, file], steps=turned[1:])
    assert detector.num_pictures == 3
    pd.testing.assert_frame_equal(again, table[1:].reset_index(drop=True))


def test_a_stopped_run_goes_on_where_it_was(tmp_path, detector, find, monkeypatch):
    monkeypatch.setattr(faces, "_SAVE_EVERY", 3)
    files = [drawn(tmp_path / f"{index}.png") for index in range(8)]
    whole = files[4].read_bytes()
    files[4].write_bytes(whole[:60])
    with pytest.raises(UnreadableImage, match=r"4\.png"):
        find(files)
    with pytest.raises(FileNotFoundError, match="none.png"):
        find([tmp_path / "none.png"])
    assert len(pd.read_parquet(find.cache)) == 3
    files[4].write_bytes(whole)
    assert len(find(files)) == 8 and detector.num_pictures == 8


def test_another_backend_is_told_how_to_get_boxes(monkeypatch):
    keras = pytest.importorskip("keras")
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="KERAS_BACKEND=tensorflow"):
        faces._detector.__wrapped__()


def test_the_surest_face_is_kept_then_the_largest():
    def ordered(*rows):
        return faces._ordered(np.array(rows, float).reshape(-1, 5), 100, 200).tolist()

    small, large, unsure = [0, 0, 20, 20, 0.999], [50, 10, 150, 90, 0.996], [0, 0, 200, 100, 0.9]
    for rows in ((small, large, unsure), (unsure, large, small)):
        assert ordered(*rows)[0] == [0.25, 0.1, 0.75, 0.9, 0.996] and len(ordered(*rows)) == 3
    assert ordered(small, unsure) == [[0, 0, 0.1, 0.2, 0.999], [0, 0, 1, 1, 0.9]]
    off, over = [210, 0, 250, 50, 0.99], [-20, -10, 100, 120, 0.95]
    assert ordered(off, over) == [[0, 0, 0.5, 1, 0.95]]
    assert ordered() == ordered(off) == []


def test_iou_against_counted_cells():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 12, (20, 2, 2, 2))
    boxes = np.concatenate([corners.min(axis=2), corners.max(axis=2)], axis=-1)  # (20, 2, 4)
    for a, b in boxes:
        cells = np.zeros((2, 12, 12), bool)
        for index, (left, top, right, bottom) in enumerate((a, b)):
            cells[index, top:bottom, left:right] = True
        union = cells.any(axis=0).sum()
        assert iou(a, b) == pytest.approx(cells.all(axis=0).sum() / union if union else 0)
    pairs = iou(boxes[:, None, 0], boxes[None, :, 1])
    assert pairs.shape == (20, 20) and np.allclose(pairs.diagonal(), iou(boxes[:, 0], boxes[:, 1]))
    assert np.isnan(iou(np.full(4, np.nan), boxes[0, 0]))


def test_box_agreement_against_a_loop():
    rng = np.random.default_rng(0)

    def table(paths, share_known):
        corners = np.sort(rng.random((len(paths), 2, 2)), axis=1).reshape(-1, 4)
        corners[rng.random(len(paths)) > share_known] = np.nan
        return pd.DataFrame(corners, columns=BOX).assign(path=paths, confidence=1.0)

    boxes, known = table([*map(str, range(80))], 0.7), table([*map(str, range(139, 39, -1))], 0.8)
    by_path = known.dropna().set_index("path")[BOX].T.to_dict("list")
    shared = [
        iou(row[BOX].to_numpy(float), by_path[row["path"]])
        for _, row in boxes.iterrows()
        if row["path"] in by_path
    ]
    found, expected = box_agreement(boxes, known), np.array(shared)
    assert found["compared"] == len(expected)
    expected = expected[~np.isnan(expected)]
    assert found["found"] == pytest.approx(len(expected) / len(shared))
    assert found["median"] == pytest.approx(np.median(expected))
    assert found["at_least_half"] == pytest.approx((expected >= 0.5).mean())
    nothing = box_agreement(boxes, known.iloc[:0])
    assert nothing["compared"] == 0 and nothing.drop("compared").isna().all()


# MTCNN itself


def test_mtcnn_finds_no_face_where_there_is_none(tmp_path, find):
    pytest.importorskip("mtcnn")
    noise = np.random.default_rng(0).integers(0, 256, (64, 90, 3), dtype=np.uint8)
    sides = (1, 12, 65, 320, 500)
    files = [drawn(tmp_path / f"{side}.png", side, side // 2 + 1, None) for side in sides]
    table = find([*files, saved(tmp_path / "noise.png", noise)])
    assert (table["num_faces"] == 0).all() and table[BOX].isna().all(axis=None)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the sample of real photographs")
def test_mtcnn_finds_the_same_face_at_any_size_and_place(tmp_path, find):
    pytest.importorskip("mtcnn")
    source = Image.open(min(SHARED.glob("140k/**/real/*.jpg")))
    sizes = np.array([(256, 256), (600, 256), (300, 900), (320, 192)])
    places = np.array([(0, 0, 256), (300, 0, 256), (0, 500, 300), (9, 3, 180)])
    files = [drawn(tmp_path / "none.png", 310, 310, None)]
    for size, (left, top, side) in zip(sizes, places):
        canvas = Image.new("RGB", tuple(size), (90, 120, 90))
        canvas.paste(source.resize((side, side)), (left, top))
        files.append(saved(tmp_path / f"{len(files)}.png", np.asarray(canvas)))
    table = find([*files[1:3], files[0], *files[3:]])
    assert (table["num_faces"] > 0).tolist() == [True, True, False, True, True]
    boxes = table[BOX].dropna().to_numpy() * np.tile(sizes, 2)
    boxes = (boxes - np.tile(places[:, :2], 2)) / places[:, 2:]
    assert (iou(boxes, boxes[0]) > 0.75).all()
