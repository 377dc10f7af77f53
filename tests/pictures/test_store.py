"""The store: what it holds, when it is made anew, resumed, shared and deleted."""

import errno
import multiprocessing
import os
import shutil
import sys
import time
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from filelock import FileLock
from made_pictures import make_files, picture, saved

from src.files import DiskFull
from src.pictures import store
from src.pictures.decoding import UnreadableImage, decode, read
from src.pictures.steps import apply
from src.pictures.store import prepare

STEPS = ("resize:8",)


def assert_holds(prepared, files):
    for pixels, file in zip(prepared.pixels, files, strict=True):
        assert np.array_equal(pixels, apply(decode(file), STEPS))


def test_prepare_keeps_order_and_equals_apply(tmp_path):
    """In a folder that may only be read, with names that are hard to write."""
    folder = tmp_path / "Fotos, été 2024" / "-#1"
    files = [file.rename(folder / f"ü {file.name}") for file in make_files(folder)]
    folder.chmod(0o555)
    plans = [("squash:48", *["jpeg:75"] * (index % 3), "crop", "resize:16") for index in range(5)]
    boxes = np.linspace(0, 0.3, 20).reshape(5, 4) + [0, 0, 0.6, 0.6]
    pixels = prepare(files, plans, tmp_path / "out", boxes=boxes).pixels
    assert isinstance(pixels, np.memmap) and not pixels.flags.writeable
    assert pixels.shape == (5, 16, 16, 3) and pixels.dtype == np.uint8
    for row, (file, plan, box) in enumerate(zip(files, plans, boxes)):
        assert np.array_equal(pixels[row], apply(decode(file), plan, box))
    for step in ("grey", "spectrum"):
        grey = prepare(files[:2], (step, "resize:16"), tmp_path / "out").pixels
        assert np.array_equal(grey[0, ..., 0], apply(decode(files[0]), (step, "resize:16")))
    assert sorted(folder.iterdir()) == files  # an administrator could have written there
    folder.chmod(0o755)


def test_a_finished_store_is_opened_without_reading_files(tmp_path, monkeypatch):
    files = make_files(tmp_path / "in")
    first = prepare(files, STEPS, tmp_path / "out")
    monkeypatch.setattr(store, "read", None)
    moved = [shutil.copy(file, tmp_path / f"other {file.name}") for file in files]
    assert prepare(moved, STEPS, tmp_path / "out").folder == first.folder  # the same bytes
    monkeypatch.setattr(store, "digest_of", None)
    monkeypatch.chdir(tmp_path)
    again = prepare([f"in/{index}.png" for index in range(5)], list(STEPS), tmp_path / "out")
    assert again.folder == first.folder and np.array_equal(again.pixels, first.pixels)


def test_any_change_of_the_pixels_makes_another_store(tmp_path):
    files = make_files(tmp_path / "in", 3)
    whole, half = np.tile([0, 0, 1, 1.0], (3, 1)), np.tile([0, 0, 0.5, 0.5], (3, 1))
    crop = ("crop", *STEPS)
    variants = [(files, STEPS), (files, ("resize:9",)), (files[::-1], STEPS), (files[:2], STEPS)]
    stores = [prepare(*variant, tmp_path / "out") for variant in variants]
    stores += [prepare(files, crop, tmp_path / "out", boxes=boxes) for boxes in (whole, half)]
    times, contents = files[0].stat(), files[0].read_bytes()
    saved(files[0], picture(seed=9))
    stores.append(prepare(files, STEPS, tmp_path / "out"))
    assert len({prepared.folder for prepared in stores}) == len(stores)
    files[0].write_bytes(contents)  # the old contents are back: so is the old store
    os.utime(files[0], ns=(times.st_atime_ns, times.st_mtime_ns))
    assert prepare(files, STEPS, tmp_path / "out").folder == stores[0].folder


def test_a_store_that_no_call_opens_is_deleted_when_another_is_written(tmp_path):
    files, out = make_files(tmp_path / "in", 6), tmp_path / "out"
    unused, opened, recent, filling = (prepare(files[:n], STEPS, out) for n in (1, 2, 3, 4))
    saved(out / "not a store" / "a.png")
    for path in out.glob("*/*"):
        days = store.KEEP_DAYS + (-1 if path.parent == recent.folder else 1)
        os.utime(path, (time.time() - days * 86400,) * 2)
    prepare(files[:2], STEPS, out)
    assert unused.folder.exists()  # opening a store deletes nothing
    with FileLock(f"{filling.folder}.lock"):  # as another process holds it
        prepare(files[:5], STEPS, out)
    assert not unused.folder.exists()
    assert_holds(unused, files[:1])  # who has it open can go on reading
    for kept in (opened, recent, filling):
        assert (kept.folder / "pixels.npy").exists()
    assert (out / "not a store" / "a.png").exists()
    prepare(files, STEPS, out)
    assert not filling.folder.exists()
    assert_holds(prepare(files[:1], STEPS, out), files[:1])


CONTEXT = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")


def _prepare_slowly(files, folder, seen, seconds):
    store._BLOCK_BYTES = 2 * 8 * 8 * 3
    store.read = lambda path: (time.sleep(seconds), seen.put(path), read(path))[2]
    prepare(files, STEPS, folder)


def test_a_killed_run_goes_on_where_it_was(tmp_path, monkeypatch):
    files = make_files(tmp_path / "in", 40)
    arguments = (files, tmp_path / "out", CONTEXT.SimpleQueue(), 0.05)
    child = CONTEXT.Process(target=_prepare_slowly, args=arguments)
    child.start()
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("out/*/done")) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.kill()
    child.join()
    (done,) = tmp_path.glob("out/*/done")
    num_done, decoded = int(done.read_text()), []
    monkeypatch.setattr(store, "read", lambda path: (decoded.append(path), read(path))[1])
    prepared = prepare(files, STEPS, tmp_path / "out")
    assert 0 < num_done < 40 and len(decoded) == 40 - num_done
    assert not done.exists() and not list(tmp_path.glob("out/*/*.part"))
    assert prepared.folder == done.parent
    assert_holds(prepared, files)


def test_of_two_processes_one_works_and_the_other_waits(tmp_path):
    files, queue = make_files(tmp_path / "in", 12), CONTEXT.Queue()
    arguments = (files, tmp_path / "out", queue, 0.02)
    workers = [CONTEXT.Process(target=_prepare_slowly, args=arguments) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert sorted(queue.get(timeout=5) for _ in files) == sorted(map(str, files)) and queue.empty()
    assert_holds(prepare(files, STEPS, tmp_path / "out"), files)


def test_an_unreadable_file_is_named(tmp_path):
    files = make_files(tmp_path / "in", 3)
    files[1].write_bytes(files[1].read_bytes()[:200])
    with pytest.raises(UnreadableImage, match=r"1\.png: .*truncated"):
        prepare(files, STEPS, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="none.png"):
        prepare([tmp_path / "none.png"], STEPS, tmp_path / "out")


def test_a_small_disk_is_told_before_and_while_writing(tmp_path, monkeypatch):
    files = make_files(tmp_path / "in", 3)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
        with pytest.raises(DiskFull, match="576 bytes are needed .* 100 are free"):
            prepare(files, STEPS, tmp_path / "out")
    assert not list(tmp_path.glob("out/*/pixels*"))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", Mock(side_effect=OSError(errno.ENOSPC, "No space left")))
        with pytest.raises(DiskFull, match="is full. Make room"):
            prepare(files, STEPS, tmp_path / "out")
    assert_holds(prepare(files, STEPS, tmp_path / "out"), files)


@pytest.mark.parametrize(
    "steps, boxes, message",
    [
        ((), None, "resize:224"),
        (("resize:8", "crop"), [[0, 0, 1, 1]] * 2, "sizes differ"),
        ([("resize:8",), ("grey", "resize:8")], None, "which end in one shape"),
        ([("resize:8",)] * 3, None, "2 files, 3 plans"),
        (("crop", "resize:8"), [[0, 0, 1, 1]], "2 plans, 1 boxes"),
    ],
)
def test_steps_and_boxes_must_fit_the_files(tmp_path, steps, boxes, message):
    with pytest.raises(ValueError, match=message):
        prepare(make_files(tmp_path / "in", 2), steps, tmp_path / "out", boxes=boxes)
    with pytest.raises(ValueError, match="0 files"):
        prepare([], STEPS, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("boxes", [None, [[0, 0, 1, 1], [np.nan] * 4]])
def test_a_crop_needs_a_box(tmp_path, boxes):
    files = make_files(tmp_path / "in", 2)
    with pytest.raises(ValueError, match="needs a box"):
        prepare(files, ("crop", "resize:8"), tmp_path / "out", boxes=boxes)
