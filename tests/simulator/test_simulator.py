"""The simulated archives: layout, repeatability, the planted shortcut, the truth, and the
server."""

import io
import json
import re
import tarfile
import urllib.error
import urllib.request
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import loadmat

from simulator import archives, cameras, generators, people
from simulator.archives import ARCHIVES, make_archives
from simulator.archives import truth as read_truth
from simulator.drawing import POINTS
from simulator.portraits import render
from simulator.server import serve

COUNTS = {"num_photographs": 12, "num_gan": 7, "num_celeba": 10}
FORGED = ("inpainting", "text2img", "insight")
NAME = re.compile(r"(\d\d)/\d*\1_\d{4}-\d\d-\d\d_\d{4}\.jpg")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    make_archives(folder, **COUNTS, square_size=64, seed=3, num_workers=2)
    return folder


@pytest.fixture(scope="module")
def members(folder):
    """Every picture of every archive under its path in the truth."""
    found = {}
    for name, file in ARCHIVES.items():
        if file.endswith(".tar"):
            with tarfile.open(folder / file) as archive:
                found |= {
                    f"{name}/{m.name}": archive.extractfile(m).read() for m in archive.getmembers()
                }
        else:
            with zipfile.ZipFile(folder / file) as archive:
                found |= {f"{name}/{m}": archive.read(m) for m in archive.namelist()}
    return found


@pytest.fixture(scope="module")
def truth(folder):
    return read_truth(folder).set_index("path", drop=False)


def opened(content):
    return Image.open(io.BytesIO(content))


def test_same_relative_paths_in_the_four_sets(members):
    paths = {name: {p.removeprefix(f"{name}/{name}/") for p in members if p.startswith(f"{name}/")}
             for name in ("wiki", *FORGED)}  # fmt: skip
    assert len(paths["wiki"]) == COUNTS["num_photographs"]
    assert all(NAME.fullmatch(path) for path in paths["wiki"])
    assert paths["wiki"] == paths["inpainting"] == paths["text2img"] == paths["insight"]


def test_truth_lists_every_picture_once(members, truth):
    pictures = sorted(p for p in members if p.endswith(".jpg") and not p.startswith("wiki_crop"))
    assert pictures == sorted(truth.path)
    assert truth.index.is_unique
    num_dff, num_gan, num_celeba = (
        COUNTS["num_photographs"],
        COUNTS["num_gan"],
        COUNTS["num_celeba"],
    )
    assert truth.generator.value_counts().to_dict() == {
        "real": num_dff + num_gan + num_celeba, "gan140k": num_gan, **dict.fromkeys(FORGED, num_dff)
    }  # fmt: skip


def test_size_alone_tells_the_fakes(members, truth):
    rows = truth[truth.path.str.match("(wiki|inpainting|text2img|insight)/") & (truth.damage == "")]
    sizes = [opened(members[path]).size for path in rows.path]
    assert [size == (64, 64) for size in sizes] == (rows.label == "fake").tolist()


def test_fakes_are_rgb_quality_75(members, truth):
    reference = io.BytesIO()
    Image.new("RGB", (16, 16)).save(reference, "JPEG", quality=75)
    tables = opened(reference.getvalue()).quantization
    for path in truth[(truth.label == "fake") | truth.path.str.startswith("gan140k")].path:
        picture = opened(members[path])
        assert (picture.mode, picture.quantization) == ("RGB", tables), path
        assert picture.size == ((32, 32) if path.startswith("gan140k") else (64, 64))


def test_damaged_files_are_those_listed(members, truth):
    broken = set()
    for path in truth.path:
        try:
            opened(members[path]).convert("RGB")
        except (OSError, SyntaxError):
            broken.add(path)
    assert broken == set(truth[truth.damage != ""].path)
    assert set(truth.damage) == {"", "truncated", "empty", "not an image"}
    assert all(path.startswith("wiki/") for path in broken)


def test_boxes_and_points_lie_in_the_picture(members, truth):
    for prefix in ("", "altered_"):
        boxes = truth[[prefix + side for side in ("left", "top", "right", "bottom")]].to_numpy()
        boxes = boxes[~np.isnan(boxes).any(1)]
        assert boxes.min() >= 0 and boxes.max() <= 1
        assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert (truth.altered_left.isna() == (truth.label == "real")).all()
    points = (
        truth[[f"{point}_{axis}" for point in POINTS for axis in "xy"]].to_numpy().reshape(-1, 5, 2)
    )
    assert points.min() >= 0 and points.max() <= 1
    is_turned = [b"Simulated" in members[path] and opened(members[path]).getexif().get(0x0112) != 1
                 if truth.damage[path] == "" else True for path in truth.path]  # fmt: skip
    upright = ~np.array(is_turned) & (truth.generator == "real").to_numpy()
    eyes, mouth = points[upright, :2, 1].mean(1), points[upright, 3:, 1].mean(1)
    assert (eyes < mouth).all()


def test_sources_of_a_fake(truth):
    swaps = truth[truth.generator == "insight"]
    sources = truth.loc[swaps.background]
    assert (sources.gender.to_numpy() == swaps.gender.to_numpy()).all()
    names = swaps.background.str.split("/", n=2).str[2], swaps.path.str.split("/", n=2).str[2]
    assert (sources.damage == "").all() and (names[0] != names[1]).all()
    assert (truth[truth.generator == "text2img"][["altered_left", "altered_right"]] == [0, 1]).all(
        axis=None
    )


def test_altered_region_is_where_a_swap_differs(members, truth):
    """Away from the altered box a swap is the background photograph, squashed and compressed
    twice."""
    corners = ["altered_left", "altered_top", "altered_right", "altered_bottom"]
    for _, row in truth[truth.generator == "insight"].iterrows():
        background = opened(members[row.background]).convert("RGB").resize((64, 64))
        difference = np.abs(
            np.asarray(opened(members[row.path]), float) - np.asarray(background, float)
        ).mean(2)
        left, top, right, bottom = (row[corners].to_numpy(float) * 64).round().astype(int)
        inside = np.zeros((64, 64), bool)
        inside[top:bottom, left:right] = True
        assert difference[inside].mean() > difference[~inside].mean()
        assert difference[~inside].mean() < 8


def test_wiki_mat_has_the_fields_of_the_real_one(members):
    wiki = loadmat(io.BytesIO(members["wiki_crop/wiki_crop/wiki.mat"]))["wiki"][0, 0]
    assert wiki.dtype.names == (
        "dob", "photo_taken", "full_path", "gender", "name", "face_location", "face_score",
        "second_face_score",
    )  # fmt: skip
    assert wiki["dob"].shape == (1, COUNTS["num_photographs"])
    path = wiki["full_path"][0][0][0]
    assert f"wiki_crop/wiki_crop/{path}" in members
    born = pd.Timestamp(path.split("_")[1])
    assert (
        pd.Timestamp.fromordinal(int(wiki["dob"][0, 0]) - 366) == born
    )  # Matlab counts days from year 0
    assert wiki["photo_taken"][0, 0] == int(path[-8:-4]) <= 2014
    assert wiki["face_location"][0][0].shape == (1, 4)
    assert set(wiki["gender"][0][~np.isnan(wiki["gender"][0])]) <= {0.0, 1.0}


def test_face_location_is_counted_as_matlab_does(members, truth):
    """First and last pixel of the photograph as stored, from one; the whole picture where no face
    was found."""
    wiki = loadmat(io.BytesIO(members["wiki_crop/wiki_crop/wiki.mat"]))["wiki"][0, 0]
    for path, location, score in zip(
        *(wiki[name][0] for name in ("full_path", "face_location", "face_score"))
    ):
        row = truth.loc[f"wiki/wiki/{path.item()}"]
        if row.damage:
            continue
        width, height = opened(members[row.path]).size
        left, top, right, bottom = location[0]
        if np.isinf(score):
            assert (left, top, right, bottom) == (1, 1, width, height)
        else:
            edges = row[["left", "top", "right", "bottom"]].to_numpy(float)
            np.testing.assert_allclose(
                ((left - 1) / width, (top - 1) / height, right / width, bottom / height), edges
            )


def test_gan_tables(members):
    for split, count in (("train", 5), ("valid", 1), ("test", 1)):
        table = pd.read_csv(io.BytesIO(members[f"gan140k/{split}.csv"]), dtype={"id": str})
        assert list(table.columns) == [
            "Unnamed: 0",
            "original_path",
            "id",
            "label",
            "label_str",
            "path",
        ]
        assert (
            table.label.tolist() == (table.label_str == "real").astype(int).tolist()
        )  # here 1 is real
        assert (table.label_str == table.path.str.split("/").str[1]).all()
        assert table.label.sum() == count and len(table) == 2 * count
        assert all(f"gan140k/real_vs_fake/real-vs-fake/{path}" in members for path in table.path)


def test_celeba_tables(members):
    pictures = [p for p in members if p.startswith("celeba/img_align_celeba/img_align_celeba/")]
    assert len(pictures) == COUNTS["num_celeba"]
    assert {opened(members[path]).size for path in pictures} == {(178, 218)}
    partition = pd.read_csv(io.BytesIO(members["celeba/list_eval_partition.csv"]))
    attributes = pd.read_csv(
        io.BytesIO(members["celeba/list_attr_celeba.csv"]), index_col="image_id"
    )
    assert partition.image_id.tolist() == sorted(p.rsplit("/", 1)[1] for p in pictures)
    assert partition.partition.value_counts().to_dict() == {0: 8, 1: 1, 2: 1}
    assert list(attributes) == ["Male"] and set(attributes.Male) == {-1, 1}


def test_celeba_landmarks(members, truth):
    """Whole pixels of the aligned picture, the left ones left in it."""
    table = pd.read_csv(
        io.BytesIO(members["celeba/list_landmarks_align_celeba.csv"]), index_col="image_id"
    )
    assert (
        list(table.columns[:4]) == ["lefteye_x", "lefteye_y", "righteye_x", "righteye_y"]
        and table.shape[1] == 10
    )
    assert (table.lefteye_x < table.righteye_x).all() and (
        table.leftmouth_x < table.rightmouth_x
    ).all()
    names = [f"{point}_{axis}" for point in POINTS for axis in "xy"]
    true = truth.loc["celeba/img_align_celeba/img_align_celeba/" + table.index, names].to_numpy()
    assert np.abs(table.to_numpy() - true * np.tile([178, 218], 5)).max() <= 0.5


def test_same_seed_same_bytes_however_many_workers(tmp_path):
    small = {"num_photographs": 4, "num_gan": 1, "num_celeba": 1}
    for workers in (1, 2):
        make_archives(tmp_path / f"{workers}", **small, square_size=64, seed=5, num_workers=workers)
    one, two = (json.loads((tmp_path / name / "archives.json").read_text()) for name in ("1", "2"))
    assert one == two


def test_complete_archives_are_reused_and_others_are_drawn_again(folder, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("drawing again")

    monkeypatch.setattr(archives, "_draw", refuse)
    paths = make_archives(folder, **COUNTS, square_size=64, seed=3)
    assert {name: path.name for name, path in paths.items()} == ARCHIVES
    with pytest.raises(RuntimeError):
        make_archives(folder, **COUNTS, square_size=64, seed=4)
    assert make_archives(folder, **COUNTS, square_size=64, seed=3) == paths  # nothing was lost
    copy = folder.parent / "copy"
    copy.mkdir()
    (copy / "archives.json").write_bytes((folder / "archives.json").read_bytes())
    with pytest.raises(RuntimeError):
        make_archives(copy, **COUNTS, square_size=64, seed=3)


@pytest.mark.parametrize(
    "wrong", [{"square_size": 100}, {"square_size": 32}, {"num_workers": 0}, {"num_gan": 0}]
)
def test_wrong_arguments_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match="received"):
        make_archives(tmp_path, **COUNTS | wrong)


def test_truth_says_who_writes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="make_archives"):
        read_truth(tmp_path)


def test_face_turns_with_the_stored_picture():
    rng = people.generator_for("test")
    scene = people.draw_scene(rng, people.draw_identity(rng, "male", 40), 200, 240)
    upright = render(scene, (200, 240))
    for turn in (1, 2, -1):
        turned = replace(scene, turn=turn)
        drawn = render(turned, turned.stored_size)
        assert np.corrcoef(np.rot90(upright, turn).ravel(), drawn.ravel())[0, 1] > 0.97
        left, top, right, bottom = people.face_box(turned)
        points = people.landmarks(turned)
        assert ((points > (left, top)) & (points < (right, bottom))).all()


def test_every_colour_filter_array_keeps_colours():
    """A flat, nearly noise-free field comes back neutral, whichever way the filters are laid."""
    light = np.full((40, 40, 3), 0.2, np.float32)
    for pattern in ("RGGB", "BGGR", "GRBG", "GBRG"):
        camera = cameras.draw_camera(people.generator_for("camera", pattern), "ffhq")
        ideal = dict(pattern=pattern, full_well=1e8, read_noise=0.0, saturation=1.0)
        camera = SimpleNamespace(**vars(camera) | ideal)
        image = cameras.photograph(
            light * people.colour(1, 0.9, 0.8), camera, people.generator_for("shot")
        )
        red, green, blue = image.mean((0, 1))
        assert red > green > blue


def test_latent_codec_blurs_but_keeps_the_picture():
    codec, pyramid = generators.networks(0)
    rng = people.generator_for("codec")
    scene = people.draw_scene(rng, people.draw_identity(rng, "female", 30), 128, 128)
    image = cameras.clean(render(scene, (128, 128)))
    for made in (codec.decode(codec.encode(image), rng), pyramid.synthesise(image, rng)):
        assert made.shape == image.shape and made.dtype == np.uint8
        error = np.mean((made.astype(float) - image) ** 2)
        assert 20 < 10 * np.log10(255**2 / error) < 45


def test_fold_and_unfold_are_inverse():
    x = np.arange(4 * 6 * 3, dtype=np.float32).reshape(4, 6, 3)
    np.testing.assert_array_equal(generators._unfold(generators._fold(x)), x)
    np.testing.assert_array_equal(
        generators._fold(x)[0, 0], np.concatenate([x[0, 0], x[0, 1], x[1, 0], x[1, 1]])
    )


def asked(address, header=None):
    request = urllib.request.Request(address, headers={"Range": header} if header else {})
    with urllib.request.urlopen(request) as response:
        return response.status, response.read(), response.headers


def test_server_gives_ranges(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(range(100)))
    with serve(tmp_path) as base:
        status, content, headers = asked(f"{base}/a.bin")
        assert (status, content) == (200, bytes(range(100)))
        status, content, headers = asked(f"{base}/a.bin", "bytes=90-")
        assert (status, content, headers["Content-Range"]) == (
            206,
            bytes(range(90, 100)),
            "bytes 90-99/100",
        )
        assert asked(f"{base}/a.bin", "bytes=5-9")[1] == bytes(range(5, 10))
        assert asked(f"{base}/a.bin", "bytes=95-1000")[1] == bytes(range(95, 100))
        assert asked(f"{base}/a.bin", "lines=1-2")[0] == 200
        for header, address, code in (("bytes=100-", "a.bin", 416), (None, "b.bin", 404)):
            with pytest.raises(urllib.error.HTTPError) as caught:
                asked(f"{base}/{address}", header)
            assert caught.value.code == code
    with pytest.raises(urllib.error.URLError):
        asked(f"{base}/a.bin")
