"""Decoding, steps, the prepared store and batches: edges, errors and oracles."""

import errno
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from src.pictures import store
from src.pictures.batches import Batches
from src.pictures.decoding import UnreadableImage, decode, inspect, inspect_all, read
from src.pictures.steps import DEGRADATIONS, apply, protocol_steps
from src.pictures.store import prepare

ROOT = Path(__file__).resolve().parents[1]


def picture(height=40, width=60, seed=0):
    """A smooth gradient with some noise: compresses like a photograph."""
    rng = np.random.default_rng(seed)
    slope = np.add.outer(2 * np.arange(height), np.arange(width))[..., None] + [0, 30, 60]
    return (slope + rng.integers(0, 20, (height, width, 3))).clip(0, 255).astype(np.uint8)


def saved(file, pixels=None, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture() if pixels is None else pixels).save(file, **options)
    return file


def make_files(folder, num_files=5, **options):
    return [
        saved(folder / f"{index}.png", picture(seed=index), **options) for index in range(num_files)
    ]


# Decoding


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA"])
def test_decode_gives_rgb_of_every_mode(tmp_path, mode):
    image = Image.fromarray(picture()).convert(mode)
    image.save(tmp_path / "a.png")
    pixels = decode(tmp_path / "a.png")
    assert pixels.dtype == np.uint8 and pixels.flags.writeable
    assert np.array_equal(pixels, np.asarray(image.convert("RGB")))


def test_decode_cmyk(tmp_path):
    image = Image.fromarray(picture()).convert("CMYK")
    image.save(tmp_path / "a.jpg", quality=95)
    assert np.abs(decode(tmp_path / "a.jpg").astype(int) - picture()).mean() < 6


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_decode_keeps_the_upper_byte_of_16_bits(tmp_path, suffix):
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    assert decode(tmp_path / f"a.{suffix}")[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_decode_refuses_values_with_no_range(tmp_path):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "a.tif")
    Image.fromarray(np.full((4, 4), 1 << 20, np.int32)).save(tmp_path / "b.tif")
    for name in "ab":
        with pytest.raises(UnreadableImage, match="no defined range"):
            decode(tmp_path / f"{name}.tif")


def test_decode_takes_the_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "a.mpo", save_all=True, append_images=frames[1:], quality=95)
    for name in ("a.gif", "a.mpo"):
        assert np.abs(decode(tmp_path / name).astype(int) - [255, 0, 0]).max() < 6
    assert inspect(tmp_path / "a.mpo")["format"] == "MPO"


def test_orientation_is_told_but_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = saved(tmp_path / "a.jpg", exif=exif)
    assert decode(file).shape == (40, 60, 3)
    facts = inspect(file)
    assert (facts["width"], facts["height"], facts["orientation"], facts["reason"]) == (
        60,
        40,
        6,
        None,
    )


def test_damaged_exif_does_no_harm(tmp_path, recwarn):
    file = saved(tmp_path / "a.jpg", exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x09\x00\x12\x01")
    assert decode(file).shape == (40, 60, 3)
    assert inspect(file)["reason"] is None


def test_what_is_no_picture_is_refused_with_its_reason(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    (tmp_path / "folder.jpg").mkdir()
    for name, reason in {
        "empty.jpg": "empty",
        "text.jpg": "not a picture",
        "folder.jpg": "directory",
        "missing.jpg": "missing",
    }.items():
        with pytest.raises(UnreadableImage, match=reason) as caught:
            decode(tmp_path / name)
        assert name in str(caught.value)
        assert reason in inspect(tmp_path / name)["reason"]


FORMATS = {
    "jpg": {"quality": 75},
    "progressive.jpg": {"quality": 90, "progressive": True},
    "png": {},
    "gif": {},
    "webp": {},
    "bmp": {},
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.9, 0.99])
def test_truncation_is_found(tmp_path, name, kept):
    whole = saved(tmp_path / f"a.{name}", picture(160, 160), **FORMATS[name]).read_bytes()
    file = tmp_path / f"cut.{name}"
    file.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(UnreadableImage):
        decode(file)
    assert inspect(file)["reason"]
    assert inspect(tmp_path / f"a.{name}")["reason"] is None


def test_a_jpeg_lacking_its_last_bytes_is_found(tmp_path):
    whole = saved(tmp_path / "a.jpg").read_bytes()
    for cut in range(1, 12):
        (tmp_path / "cut.jpg").write_bytes(whole[:-cut])
        with pytest.raises(UnreadableImage, match="truncated"):
            decode(tmp_path / "cut.jpg")
        assert "truncated" in inspect(tmp_path / "cut.jpg")["reason"]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    Image.new("1", (10_000, 10_000)).save(tmp_path / "a.png")
    assert os.path.getsize(tmp_path / "a.png") < 100_000
    with pytest.raises(UnreadableImage, match="pixels"):
        decode(tmp_path / "a.png")


def test_decoding_that_hides_truncation_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(RuntimeError, match="LOAD_TRUNCATED_IMAGES"):
        decode(saved(tmp_path / "a.jpg"))


def test_inspect_all_lists_rejects_in_order(tmp_path):
    files = [
        saved(tmp_path / "a.jpg"),
        tmp_path / "missing.jpg",
        saved(tmp_path / "b.png", picture()[..., 0]),
    ]
    table = inspect_all(files)
    assert table["reason"].isna().tolist() == [True, False, True]
    assert table["mode"].tolist()[::2] == ["RGB", "L"]
    assert table["num_bytes"].dropna().tolist() == [os.path.getsize(file) for file in files[::2]]


# Steps


def test_squash_and_resize_are_pillows():
    image = Image.fromarray(picture())
    assert np.array_equal(
        apply(picture(), ("squash:32",)), np.asarray(image.resize((32, 32), Image.BICUBIC))
    )
    assert np.array_equal(
        apply(picture(), ("resize:32",)), np.asarray(image.resize((32, 32), Image.BILINEAR))
    )
    assert np.array_equal(apply(picture(32, 32), ("squash:32",)), picture(32, 32))


def test_jpeg_is_a_round_trip_through_pillow():
    stream = io.BytesIO()
    Image.fromarray(picture()).save(stream, "JPEG", quality=75)  # 4:2:0 is its default
    once = np.asarray(Image.open(stream))
    assert np.array_equal(apply(picture(), ("jpeg:75",)), once)
    assert np.array_equal(apply(picture(), ("jpeg:75", "jpeg:75")), apply(once, ("jpeg:75",)))
    assert apply(picture(), ("grey", "jpeg:75")).shape == (40, 60)


def test_crop_cuts_the_box():
    pixels = picture(40, 60)
    assert np.array_equal(apply(pixels, ("crop",), (0.5, 0.25, 1, 0.5)), pixels[10:20, 30:60])
    assert np.array_equal(apply(pixels, ("crop",), (-1, -1, 2, 2)), pixels)
    assert apply(pixels, ("crop",), (1, 1, 1, 1)).shape == (1, 1, 3)
    for box in (None, [np.nan] * 4):
        with pytest.raises(ValueError, match="needs a box"):
            apply(pixels, ("crop",), box)


def test_chroma_scales_cb_and_cr():
    red, green, blue = (picture()[..., channel].astype(float) for channel in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    cb, cr = 0.4 * 0.564 * (blue - luma), 0.4 * 0.713 * (red - luma)
    expected = np.stack(
        [luma + 1.403 * cr, luma - 0.344 * cb - 0.714 * cr, luma + 1.773 * cb], axis=-1
    )
    assert np.abs(apply(picture(), ("chroma:0.4",)) - expected).max() < 1.1
    assert np.ptp(apply(picture(), ("chroma:0",)), axis=-1).max() == 0
    assert np.array_equal(apply(picture(), ("chroma:1",)), picture())


def test_brightness_multiplies_and_clips():
    assert np.array_equal(
        apply(picture(), ("brightness:0.6",)), np.rint(picture() * np.float32(0.6))
    )
    assert apply(picture(), ("brightness:9",)).max() == 255


@pytest.mark.parametrize("size", [1, 3, 7])
def test_pixelate_gives_every_cell_its_mean(size):
    pixels, expected = picture(20, 31), np.empty((20, 31, 3))
    for top in range(0, 20, size):
        for left in range(0, 31, size):
            cell = np.s_[top : top + size, left : left + size]
            expected[cell] = pixels[cell].mean(axis=(0, 1))
    assert (
        np.abs(apply(pixels, (f"pixelate:{size}",)) - expected).max() < 1
    )  # Pillow rounds in fixed point


def test_blur_is_a_gaussian_of_a_sixth():
    spot = np.zeros((41, 41, 3), np.uint8)
    spot[20, 20] = 255
    weights = np.exp(-(np.arange(-4, 5) ** 2) / (2 * (9 / 6) ** 2))
    weights /= weights.sum()
    blurred = apply(spot, ("blur:9",))[16:25, 16:25, 0]
    assert np.abs(blurred - 255 * np.outer(weights, weights)).max() < 1
    with pytest.raises(ValueError, match="odd"):
        apply(spot, ("blur:8",))


def test_noise_follows_from_the_picture_alone():
    first, again, other = (apply(picture(100, 100, seed), ("noise:10",)) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    noise = first.astype(int) - picture(100, 100, 0)
    assert abs(noise[picture(100, 100, 0) < 200].std() - 10) < 1
    assert not np.array_equal(noise, other.astype(int) - picture(100, 100, 1))


def test_spectrum_is_that_of_spectra():
    spectra = pytest.importorskip("src.spectra")
    expected = spectra.to_uint8(spectra.magnitude_spectrum(picture()))
    assert np.array_equal(apply(picture(), ("spectrum",)), expected)


@pytest.mark.parametrize(
    "step", [*(step for levels in DEGRADATIONS.values() for step in levels), "downscale:2.5"]
)
def test_degradations_keep_the_shape_and_repeat(step):
    for pixels in (picture(), picture()[..., 0]):
        result = apply(pixels, (step,))
        assert result.shape == pixels.shape and result.dtype == np.uint8
        assert np.array_equal(result, apply(pixels, (step,)))


def test_degradations_grow_worse():
    for name, steps in DEGRADATIONS.items():
        errors = [
            np.abs(apply(picture(64, 64), (step,)).astype(int) - picture(64, 64)).mean()
            for step in steps
        ]
        assert len(steps) == 5 and errors == sorted(errors), name


@pytest.mark.parametrize(
    "step",
    [
        "sharpen",
        "jpeg",
        "jpeg:",
        "jpeg:x",
        "jpeg:0",
        "jpeg:75.5",
        "grey:1",
        "",
        "resize:-3",
        "noise:nan",
        7,
    ],
)
def test_an_unknown_step_names_the_valid_ones(step):
    with pytest.raises(ValueError, match="jpeg:number|needs a number"):
        apply(picture(), (step,))


def test_apply_refuses_what_is_no_uint8_picture():
    for wrong in (picture() / 255, picture()[None], picture()[..., :2]):
        with pytest.raises(ValueError, match="uint8"):
            apply(wrong, ())


def test_protocol_steps():
    assert protocol_steps("report", num_jpeg=2, square_size=512) == ()
    assert protocol_steps("controlled", num_jpeg=0, square_size=256) == ("squash:256",)
    with pytest.raises(ValueError, match="report, controlled"):
        protocol_steps("raw", num_jpeg=1, square_size=512)


# The store


def test_prepare_keeps_order_and_equals_apply(tmp_path):
    files = make_files(tmp_path / "in")
    plans = [("squash:48", *["jpeg:75"] * (index % 3), "crop", "resize:16") for index in range(5)]
    boxes = np.linspace(0, 0.3, 20).reshape(5, 4) + [0, 0, 0.6, 0.6]
    store = prepare(files, plans, tmp_path / "out", boxes=boxes)
    assert isinstance(store.pixels, np.memmap) and not store.pixels.flags.writeable
    assert store.pixels.shape == (5, 16, 16, 3) and store.pixels.dtype == np.uint8
    for row, (file, plan, box) in enumerate(zip(files, plans, boxes)):
        assert np.array_equal(store.pixels[row], apply(decode(file), plan, box))
    assert store.steps["path"].tolist() == [file.name for file in files]
    assert store.steps["steps"].tolist() == [" ".join(plan) for plan in plans]
    assert np.allclose(store.steps[["left", "top", "right", "bottom"]], boxes)


@pytest.mark.parametrize("step", ["grey", "spectrum"])
def test_one_channel_is_stored_as_one(tmp_path, step):
    if step == "spectrum":
        pytest.importorskip("src.spectra")
    store = prepare(make_files(tmp_path / "in", 2), (step, "resize:16"), tmp_path / "out")
    assert store.pixels.shape == (2, 16, 16, 1)


def test_a_finished_store_is_opened_without_decoding(tmp_path, monkeypatch):
    files = make_files(tmp_path / "in")
    first = prepare(files, ("resize:8",), tmp_path / "out")
    monkeypatch.setattr(store, "read", None)
    monkeypatch.chdir(tmp_path)
    start = time.perf_counter()
    again = prepare([f"in/{index}.png" for index in range(5)], ["resize:8"], tmp_path / "out")
    assert time.perf_counter() - start < 0.1
    assert again.folder == first.folder and np.array_equal(again.pixels, first.pixels)


def test_any_change_makes_another_store(tmp_path):
    files = make_files(tmp_path / "in", 3)
    boxes = np.tile([0, 0, 1, 1.0], (3, 1))
    arguments = [
        (files, ("resize:8",), None),
        (files, ("resize:9",), None),
        (files[::-1], ("resize:8",), None),
        (files[:2], ("resize:8",), None),
        (files, ("crop", "resize:8"), boxes),
        (files, ("crop", "resize:8"), boxes * 0.5),
    ]
    stores = [prepare(some, steps, tmp_path / "out", boxes=box) for some, steps, box in arguments]
    os.utime(files[0], ns=(0, 1))
    stores.append(prepare(files, ("resize:8",), tmp_path / "out"))
    saved(files[0], picture(seed=9))
    os.utime(files[0], ns=(0, 1))  # another size only
    stores.append(prepare(files, ("resize:8",), tmp_path / "out"))
    assert len({store.folder for store in stores}) == len(stores)


def test_a_failed_run_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_CHUNK_ROWS", 4)
    files = make_files(tmp_path / "in", 19)
    decoded = []

    def counting(path, read=read):
        if len(decoded) == 11:
            raise KeyboardInterrupt
        decoded.append(path)
        return read(path)

    monkeypatch.setattr(store, "read", counting)
    with pytest.raises(KeyboardInterrupt):
        prepare(files, ("resize:8",), tmp_path / "out", num_threads=1)
    (home,) = (tmp_path / "out").iterdir()
    kept = int((home / "done").read_text())
    assert kept == 8 and not (home / "pixels.npy").exists()

    decoded.clear()
    decoded.extend([None] * 100)
    store = prepare(files, ("resize:8",), tmp_path / "out")
    assert len(decoded) - 100 == 19 - kept
    assert not (home / "done").exists() and not (home / "pixels.npy.part").exists()
    for row, file in enumerate(files):
        assert np.array_equal(store.pixels[row], apply(decode(file), ("resize:8",)))


SLOW = """
import sys, time
from pathlib import Path
from src import images
images._CHUNK_ROWS = 2
read = images.read
images.read = lambda path: (time.sleep(0.1), read(path))[1]
images.prepare(sorted(Path(sys.argv[1]).iterdir()), ("resize:8",), sys.argv[2])
"""


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    files = make_files(tmp_path / "in", 40)
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW, files[0].parent, tmp_path / "out"], cwd=ROOT
    )
    deadline = time.monotonic() + 20
    while not list(tmp_path.glob("out/*/done")) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    (done,) = tmp_path.glob("out/*/done")
    assert 0 < int(done.read_text()) < 40
    store = prepare(files, ("resize:8",), tmp_path / "out")
    assert all(
        np.array_equal(store.pixels[row], apply(decode(file), ("resize:8",)))
        for row, file in enumerate(files)
    )


def _prepare_slowly(files, folder, queue):
    read = read
    read = lambda path: (time.sleep(0.02), queue.put(path), read(path))[2]
    prepare(files, ("resize:8",), folder)


def test_two_processes_share_the_work(tmp_path):
    files = make_files(tmp_path / "in", 12)
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    queue = context.Queue()
    workers = [
        context.Process(target=_prepare_slowly, args=(files, tmp_path / "out", queue))
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert sorted(queue.get(timeout=5) for _ in files) == sorted(map(str, files)) and queue.empty()
    store = prepare(files, ("resize:8",), tmp_path / "out")
    assert all(
        np.array_equal(store.pixels[row], apply(decode(file), ("resize:8",)))
        for row, file in enumerate(files)
    )


def test_names_with_spaces_and_accents_from_a_read_only_folder(tmp_path):
    folder = tmp_path / "Fotos, été 2024"
    files = [saved(folder / "a b" / "Zoë, 1 #.png"), saved(folder / "ö" / "-x.png")]
    modes = {path: path.stat().st_mode for path in [*files, *folder.iterdir(), folder]}
    for path in modes:
        path.chmod(0o444 if path.is_file() else 0o555)
    try:
        store = prepare(files, ("resize:8",), tmp_path / "out")
    finally:
        for path in list(modes)[::-1]:
            path.chmod(modes[path])
    assert store.steps["path"].tolist() == ["a b/Zoë, 1 #.png", "ö/-x.png"]


def test_an_unreadable_file_is_named(tmp_path):
    files = make_files(tmp_path / "in", 3)
    files[1].write_bytes(files[1].read_bytes()[:200])
    with pytest.raises(UnreadableImage, match=r"1\.png.*inspect_all"):
        prepare(files, ("resize:8",), tmp_path / "out")
    with pytest.raises(UnreadableImage, match="missing"):
        prepare([tmp_path / "none.png"], ("resize:8",), tmp_path / "out")


def test_a_small_disk_is_told_before_and_while_writing(tmp_path, monkeypatch):
    files = make_files(tmp_path / "in", 3)
    usage = store.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(OSError, match="100|0 MB are free") as caught:
        prepare(files, ("resize:8",), tmp_path / "out")
    assert caught.value.errno == errno.ENOSPC and not list(tmp_path.glob("out/*/pixels*"))

    free = iter([10**9, 100])
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _: usage._replace(free=next(free)))

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(OSError, match="Make room"):
        prepare(files, ("resize:8",), tmp_path / "out")


def test_steps_and_boxes_must_fit_the_files(tmp_path):
    files = make_files(tmp_path / "in", 2)
    boxes = np.array([[0, 0, 1, 1], [np.nan] * 4])
    for steps, box, message in [
        ((), None, "resize:224"),
        (("resize:8", "crop"), boxes, "many sizes"),
        ([("resize:8",), ("resize:9",)], None, "one shape"),
        ([("resize:8",), ("grey", "resize:8")], None, "one shape"),
        ([("resize:8",)] * 3, None, "one for each of 2"),
        (("crop", "resize:8"), None, "2 of 2 files"),
        (("crop", "resize:8"), boxes, "1 of 2 files"),
        (("resize:8",), boxes[:1], "shape"),
        (("resize:8", "sharpen"), None, "no step 'sharpen'"),
    ]:
        with pytest.raises(ValueError, match=message):
            prepare(files, steps, tmp_path / "out", boxes=box)
    with pytest.raises(ValueError, match="no files"):
        prepare([], ("resize:8",), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Batches


def rows_of(batches):
    return [int(row) for store, _ in batches for row in store[:, 0, 0, 0]]


@pytest.fixture
def pixels():
    return np.arange(50, dtype=np.uint8).reshape(50, 1, 1, 1).repeat(2, axis=1).repeat(2, axis=2)


def test_batches_hold_every_row_once_with_its_label(pixels):
    rows = np.arange(3, 50, 2)
    batches = Batches(pixels, np.arange(50) % 2, rows, batch_size=7, seed=1)
    assert len(batches) == 4
    assert sorted(rows_of(batches)) == rows.tolist() and rows_of(batches) != rows.tolist()
    for images_, labels in batches:
        assert (
            images_.dtype == np.uint8
            and labels.dtype == np.float32
            and labels.shape == (len(images_), 1)
        )
        assert np.array_equal(labels.ravel(), images_[:, 0, 0, 0] % 2)
    assert len(Batches(pixels, batch_size=64)[0]) == 1  # no labels: pictures alone


def test_order_is_a_function_of_seed_and_epoch(pixels):
    def orders(batches, num_epochs):
        for _ in range(num_epochs):
            yield rows_of(batches)
            batches.on_epoch_end()

    def make(seed):
        return Batches(pixels, np.zeros(50), batch_size=8, seed=seed)

    whole = list(orders(make(3), 4))
    resumed = make(3)
    resumed.epoch = 2
    assert list(orders(resumed, 2)) == whole[2:]
    assert len({tuple(order) for order in whole}) == 4
    assert rows_of(make(4)) != whole[0]
    plain = Batches(pixels, np.zeros(50), shuffle=False)
    assert list(orders(plain, 2)) == [list(range(50))] * 2


class Watched(Batches):
    """Remembers the rows of every batch it served, by epoch."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.seen = {}

    def __getitem__(self, index):
        batch = super().__getitem__(index)
        self.seen.setdefault(self.epoch, {})[index] = batch[0][:, 0, 0, 0].tolist()
        return batch


def fit(batches, **options):
    import keras

    model = keras.Sequential(
        [keras.layers.Flatten(), keras.layers.Dense(1)]
    )  # built by Keras as fit begins
    model.compile(loss="mse", optimizer="sgd")
    model.fit(batches, shuffle=False, verbose=0, **options)


def test_keras_sees_that_order_even_when_resumed(pixels, tmp_path):
    np.save(tmp_path / "pixels.npy", pixels)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    whole, resumed = (Watched(mapped, np.arange(50), batch_size=8, seed=5) for _ in range(2))
    assert type(whole[0][0]) is np.ndarray
    fit(whole, epochs=3)
    resumed.epoch = 1
    fit(resumed, epochs=3, initial_epoch=1)
    assert whole.epoch == resumed.epoch == 3
    for epoch in range(3):
        expected = np.random.default_rng((5, epoch)).permutation(50).tolist()
        for batches in (whole, resumed)[: 1 + (epoch > 0)]:
            assert [row for index in range(7) for row in batches.seen[epoch][index]] == expected


def test_batches_refuse_what_does_not_fit(pixels):
    for arguments, message in [
        ((pixels, np.zeros(49)), "a label for each of 50"),
        ((pixels, None, [50]), "0..49"),
        ((pixels, None, [-1]), "0..49"),
        ((pixels, None, []), "rows"),
        ((pixels, None, np.ones(50, bool)), "rows"),
    ]:
        with pytest.raises(ValueError, match=message):
            Batches(*arguments)
    with pytest.raises(IndexError):
        Batches(pixels)[1]


def test_batches_keep_together_what_belongs_together():

    pixels = np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1)
    together = np.array([f"photograph {row // 2}" for row in range(40)])
    batches = Batches(pixels, np.arange(40) % 2, batch_size=8, seed=3, together=together)
    orders = []
    for epoch in (0, 1):
        batches.epoch = epoch
        order = np.concatenate([batches[index][0].ravel() for index in range(len(batches))])
        assert sorted(order.tolist()) == list(range(40))
        assert (order[::2] // 2 == order[1::2] // 2).all()  # twins are neighbours
        orders.append(order.tolist())
    assert orders[0] != orders[1]
    batches.epoch = 0
    assert (
        np.concatenate([batches[index][0].ravel() for index in range(len(batches))]).tolist()
        == orders[0]
    )
