"""The simulated archives: layout, repeatability, the planted shortcut, the truth; the server."""

import contextlib
import io
import json
import re
import shutil
import urllib.error
import urllib.request
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import loadmat
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from simulator import archives, cameras, generators, people
from simulator.archives import ARCHIVES, make_archives
from simulator.archives import truth as read_truth
from simulator.drawing import AXES, STRENGTHS, plan, scene_of
from simulator.portraits import render
from simulator.server import serve
from src import config

NUM_PHOTOGRAPHS, NUM_GAN, NUM_CELEBA, NUM_TRACE = 12, 7, 10, 2
NAMES = ("num_photographs", "num_gan", "num_celeba", "num_trace", "square_size")
COUNTS = dict(zip(NAMES, (NUM_PHOTOGRAPHS, NUM_GAN, NUM_CELEBA, NUM_TRACE, 64)))
FORGED = ("inpainting", "text2img", "insight")
SIDES = ["left", "top", "right", "bottom"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    make_archives(folder, **COUNTS, seed=3)
    return folder


@pytest.fixture(scope="module")
def members(folder, tmp_path_factory):
    """The files of all archives by their paths in the truth."""
    home = tmp_path_factory.mktemp("extracted")
    for name, file in ARCHIVES.items():
        shutil.unpack_archive(folder / file, home / name)
    files = (path for path in home.rglob("*") if path.is_file())
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def truth(folder):
    return read_truth(folder).set_index("path", drop=False)


@pytest.fixture(scope="module")
def wiki(members):
    return loadmat(io.BytesIO(members["wiki_crop/wiki_crop/wiki.mat"]))["wiki"][0, 0]


def opened(content):
    return Image.open(io.BytesIO(content))


def table_of(members, file, **options):
    return pd.read_csv(io.BytesIO(members[file]), **options)


def test_same_relative_paths_in_the_four_sets(members):
    sets = [
        {path.removeprefix(f"{name}/{name}/") for path in members if path.startswith(f"{name}/")}
        for name in ("wiki", *FORGED)
    ]
    pattern = r"(\d\d)/\d*\1_\d{4}-\d\d-\d\d_\d{4}\.jpg"
    assert all(found == sets[0] for found in sets) and len(sets[0]) == NUM_PHOTOGRAPHS
    assert all(re.fullmatch(pattern, path) for path in sets[0])


def test_truth_lists_every_picture_once(members, truth):
    pictures = sorted(p for p in members if p.endswith(".jpg") and not p.startswith("wiki_crop"))
    assert pictures == sorted(truth.path) and truth.index.is_unique
    fakes = {"gan140k": NUM_GAN, **dict.fromkeys(FORGED, NUM_PHOTOGRAPHS)}
    aligned = "inpainting_local", *(f"strength_{strength:g}" for strength in STRENGTHS)
    fakes |= dict.fromkeys(aligned, NUM_TRACE)
    reals = NUM_PHOTOGRAPHS + NUM_GAN + NUM_CELEBA + NUM_TRACE
    assert truth.generator.value_counts().to_dict() == {"real": reals, **fakes}


def test_size_alone_tells_the_fakes_which_are_rgb_quality_75(members, truth):
    rows = truth[truth.path.str.match("(wiki|inpainting|text2img|insight)/") & (truth.damage == "")]
    sizes = [opened(members[path]).size for path in rows.path]
    assert [size == (64, 64) for size in sizes] == (rows.label == "fake").tolist()
    Image.new("RGB", (16, 16)).save(reference := io.BytesIO(), "JPEG", quality=75)
    tables = Image.open(reference).quantization
    for path in truth[(truth.label == "fake") | truth.path.str.startswith("gan140k")].path:
        picture = opened(members[path])
        assert (picture.mode, picture.quantization) == ("RGB", tables), path
        assert picture.size == ((32, 32) if path.startswith("gan140k") else (64, 64))


def test_damaged_files_are_those_listed(members, truth):
    for row in truth.itertuples():
        with pytest.raises(OSError) if row.damage else contextlib.nullcontext():
            opened(members[row.path]).load()
    assert truth.damage[~truth.index.str.startswith("wiki/")].eq("").all()
    assert set(truth.damage) == {"", "truncated", "empty", "not an image"}


def test_boxes_and_points_lie_in_the_picture(members, truth):
    for prefix in ("", "altered_"):
        boxes = truth[[prefix + side for side in SIDES]].dropna().to_numpy()
        assert boxes.min() >= 0 and boxes.max() <= 1 and (boxes[:, :2] < boxes[:, 2:]).all()
    assert (truth.altered_left.isna() == (truth.label == "real")).all()
    assert truth[AXES].min(axis=None) >= 0 and truth[AXES].max(axis=None) <= 1
    kept = truth[(truth.generator == "real") & (truth.damage == "")]
    upright = kept[[opened(members[path]).getexif().get(0x0112, 1) == 1 for path in kept.path]]
    assert (upright.left_eye_y + upright.right_eye_y < 2 * upright.mouth_left_y).all()


def test_sources_of_a_fake(truth):
    swaps = truth[truth.generator == "insight"]
    sources = truth.loc[swaps.background]
    assert (sources.gender.to_numpy() == swaps.gender.to_numpy()).all()
    names = [column.str.split("/", n=2).str[2] for column in (swaps.path, swaps.background)]
    assert np.not_equal(*names).all()
    behind = dict(zip(*names))
    assert all(behind[behind[name]] == name for name in behind)  # faces are exchanged in pairs
    imagined = truth[truth.generator == "text2img"]
    assert (imagined.altered_left == 0).all() and (imagined.altered_right == 1).all()


def test_fakes_differ_most_in_the_altered_box(members, truth):
    """Elsewhere a swap is the photograph, compressed twice; a local inpainting is it exactly."""
    for row in truth[truth.generator.isin(["insight", "inpainting_local"])].itertuples():
        is_local = row.generator == "inpainting_local"
        behind = row.path.replace("inpainting_local", "strength_0") if is_local else row.background
        if truth.damage[behind]:
            continue
        behind = cameras.resize(cameras.decode(members[behind]), 64)
        change = np.abs(cameras.decode(members[row.path]).astype(float) - behind).max(2)
        left, top, right, bottom = (round(getattr(row, f"altered_{s}") * 64) for s in SIDES)
        inside = change[top:bottom, left:right].mean()
        margin = 16 * is_local  # blocks of JPEG reach beyond the box
        top, left = max(top - margin, 0), max(left - margin, 0)
        change[top : bottom + margin, left : right + margin] = np.nan
        assert inside > 1 and inside > np.nanmean(change)
        assert np.nanmax(change) <= 3 if is_local else np.nanmean(change) < 8


def test_wiki_mat_has_the_fields_of_the_real_one(members, wiki):
    names = "dob photo_taken full_path gender name face_location face_score second_face_score"
    assert wiki.dtype.names == tuple(names.split()) and wiki["dob"].shape == (1, NUM_PHOTOGRAPHS)
    path = wiki["full_path"][0][0][0]
    assert f"wiki_crop/wiki_crop/{path}" in members
    days = int(wiki["dob"][0, 0]) - 366  # Matlab counts days from year 0
    assert pd.Timestamp.fromordinal(days) == pd.Timestamp(path.split("_")[1])
    assert wiki["photo_taken"][0, 0] == int(path[-8:-4]) <= 2014
    assert wiki["face_location"][0][0].shape == (1, 4)
    assert set(wiki["gender"][0][~np.isnan(wiki["gender"][0])]) <= {0.0, 1.0}


def test_face_location_is_counted_as_matlab_does(members, truth, wiki):
    """First and last pixel as stored, from one; the whole picture where no face was found."""
    columns = (wiki[name][0] for name in ("full_path", "face_location", "face_score"))
    for path, location, score in zip(*columns):
        row = truth.loc[f"wiki/wiki/{path.item()}"]
        if not row.damage:
            size = np.tile(opened(members[row.path]).size, 2)
            edges = (0, 0, 1, 1) if np.isinf(score) else row[SIDES].to_numpy(float)
            np.testing.assert_allclose((location[0] - (1, 1, 0, 0)) / size, edges)


def test_gan_tables(members):
    for split, count in (("train", 5), ("valid", 1), ("test", 1)):
        table = table_of(members, f"gan140k/{split}.csv", dtype={"id": str}, index_col=0)
        assert list(table) == ["original_path", "id", "label", "label_str", "path"]
        assert (table.label == (table.label_str == "real")).all()  # here 1 is real
        assert (table.label_str == table.path.str.split("/").str[1]).all()
        assert table.label.sum() == count and len(table) == 2 * count
        assert all(f"gan140k/real_vs_fake/real-vs-fake/{path}" in members for path in table.path)


def test_celeba_tables(members, truth):
    home = "celeba/img_align_celeba/img_align_celeba/"
    pictures = sorted(path for path in members if path.startswith(home))
    assert {opened(members[path]).size for path in pictures} == {(178, 218)}
    partition = table_of(members, "celeba/list_eval_partition.csv")
    assert (home + partition.image_id).tolist() == pictures and len(pictures) == NUM_CELEBA
    assert partition.partition.value_counts().to_dict() == {0: 8, 1: 1, 2: 1}
    attributes = table_of(members, "celeba/list_attr_celeba.csv", index_col="image_id")
    assert list(attributes) == ["Male"] and set(attributes.Male) == {-1, 1}
    # Landmarks are whole pixels of the aligned picture, the left ones left in it.
    points = table_of(members, "celeba/list_landmarks_align_celeba.csv", index_col="image_id")
    assert list(points)[:4] == ["lefteye_x", "lefteye_y", "righteye_x", "righteye_y"]
    assert (points.lefteye_x < points.righteye_x).all()
    assert (points.leftmouth_x < points.rightmouth_x).all()
    expected = truth.loc[home + points.index, AXES].to_numpy() * np.tile([178, 218], 5)
    assert np.abs(points.to_numpy() - expected).max() <= 0.5


def test_same_seed_same_bytes_however_many_workers(tmp_path):
    small, notes = {"num_photographs": 4, "num_gan": 1, "num_celeba": 1, "num_trace": 1}, []
    for workers in (1, 2):
        make_archives(tmp_path / f"{workers}", **COUNTS | small, seed=3, num_workers=workers)
        notes.append(json.loads((tmp_path / f"{workers}" / "archives.json").read_text()))
    assert notes[0] == notes[1]


def test_complete_archives_are_reused_and_others_are_drawn_again(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_draw", Mock(side_effect=RuntimeError))
    paths = make_archives(folder, **COUNTS, seed=3)
    assert {name: path.name for name, path in paths.items()} == ARCHIVES
    shutil.copy(folder / "archives.json", tmp_path)
    for place, seed in ((folder, 4), (tmp_path, 3)):
        with pytest.raises(RuntimeError):
            make_archives(place, **COUNTS, seed=seed)
    assert make_archives(folder, **COUNTS, seed=3) == paths  # nothing was lost


@pytest.mark.parametrize(
    "wrong", [{"square_size": 100}, {"square_size": 32}, {"num_workers": 0}, {"num_gan": 0}]
)
def test_wrong_arguments_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match="received"):
        make_archives(tmp_path, **COUNTS | wrong)
    with pytest.raises(FileNotFoundError, match="make_archives"):
        read_truth(tmp_path)


@pytest.mark.parametrize("turn", [1, 2, -1])
def test_face_turns_with_the_stored_picture(turn):
    rng = people.generator_for("test")
    scene = people.draw_scene(rng, people.draw_identity(rng, "male", 40), 200, 240)
    turned = replace(scene, turn=turn)
    upright, drawn = render(scene, (200, 240)), render(turned, turned.stored_size)
    np.testing.assert_array_equal(np.rot90(upright, turn), drawn)
    places = np.rot90(np.moveaxis(np.mgrid[:240, :200], 0, 2)[..., ::-1] / (200, 240), turn)
    points = people.landmarks(turned)
    x, y = np.int32(points * turned.stored_size).T
    np.testing.assert_allclose(places[y, x], people.landmarks(scene), atol=1 / 200)
    left, top, right, bottom = people.face_box(turned)
    assert ((points > (left, top)) & (points < (right, bottom))).all()


def test_photographs_cut_to_squares_frame_faces_as_text2img_does():
    """And squashed photographs do not: their boxes alone tell them from squares."""
    boxes = {"cut": [], "squashed": [], "text2img": []}
    for portrait in plan(0, 1000, 256):
        scene = replace(scene_of(portrait)[0], turn=0)  # upright, as it is decoded
        size, rng = np.array([scene.width, scene.height]), people.generator_for(portrait.index)
        boxes["squashed"].append(people.face_box(scene))
        start, side = np.tile((size - size.min()) / 2, 2), size.min()
        boxes["cut"].append((boxes["squashed"][-1] * np.tile(size, 2) - start) / side)
        who = people.draw_somebody(rng, (20, 70), portrait.gender)
        boxes["text2img"].append(people.face_box(people.draw_scene(rng, who, 256, 256)))
    labels, found = np.repeat([0, 1], 1000), {}
    for name in ("cut", "squashed"):
        left, top, right, bottom = np.transpose([*boxes[name], *boxes["text2img"]])
        wide, high = right - left, bottom - top
        traits = np.column_stack([left + right, top + bottom, wide, high, wide / high])
        model = RandomForestClassifier(50, min_samples_leaf=20, random_state=0)
        scores = cross_val_predict(model, traits, labels, cv=5, method="predict_proba")
        found[name] = roc_auc_score(labels, scores[:, 1])
    assert 0.45 <= found["cut"] <= 0.55 and found["squashed"] > 0.9


@pytest.mark.parametrize("pattern", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_every_colour_filter_array_keeps_colours(pattern):
    """A flat, nearly noise-free field keeps its order of colours, however the filters are laid."""
    camera = vars(cameras.draw_camera(people.generator_for("camera", pattern), "ffhq"))
    ideal = {"pattern": pattern, "full_well": 1e8, "read_noise": 0.0, "saturation": 1.0}
    light = np.full((40, 40, 3), 0.2, np.float32) * people.colour(1, 0.9, 0.8)
    camera, rng = SimpleNamespace(**camera | ideal), people.generator_for("shot")
    red, green, blue = cameras.photograph(light, camera, rng).mean((0, 1))
    assert red > green > blue


@pytest.mark.parametrize("member", [0, generators.TEXT2IMG[0], generators.GAN[0]])
def test_every_network_keeps_the_picture_and_leaves_a_trace(member):
    network, rng = generators.network(0, member), people.generator_for("codec")
    scene = people.draw_scene(rng, people.draw_identity(rng, "female", 30), 128, 128)
    image = cameras.clean(render(scene, (128, 128)))
    made = network.decode(network.encode(image), rng, detail=0.5)
    assert made.shape == image.shape and made.dtype == np.uint8
    assert 20 < 10 * np.log10(255**2 / np.mean((made.astype(float) - image) ** 2)) < 45


def test_every_generator_has_networks_of_its_own():
    members = [*generators.INPAINTING, *generators.TEXT2IMG, *generators.GAN]
    some = [generators.network(0, member).layers[-1][2].tobytes() for member in members[::5]]
    assert len(set(members)) == len(members) and len(set(some)) == len(some)


def test_the_trace_grows_with_its_strength_and_nothing_else_changes(members, truth):
    weakest = []
    for name in (name for name in members if name.startswith("trace/photograph/")):
        photograph = cameras.resize(cameras.decode(members[name]), 64)
        twice = cameras.decode(cameras.jpeg(cameras.decode(cameras.jpeg(photograph))))
        path = name.replace("photograph", "strength_{}").format
        made = np.stack([cameras.decode(members[path(f"{value:g}")]) for value in STRENGTHS])
        apart = np.abs(made.astype(float) - twice).mean((1, 2, 3))
        weakest.append(apart[1])
        assert apart[0] == 0 and (np.diff(apart[1:]) > 0).all()
        assert truth.loc[path("1"), "background"] == name
    assert tuple(config.STRENGTHS.values()) == STRENGTHS  # the study knows what is drawn
    assert np.mean(weakest) > 0  # in one small picture alone, JPEG may remove a quarter of it


def test_server_gives_ranges(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(range(100)))

    def asked(name, header):
        request = urllib.request.Request(f"{base}/{name}", headers={"Range": header})
        with urllib.request.urlopen(request) as response:
            return response.status, response.read(), response.headers["Content-Range"]

    with serve(tmp_path) as base:
        assert asked("a.bin", "lines=1-2") == (200, bytes(range(100)), None)
        assert asked("a.bin", "bytes=90-") == (206, bytes(range(90, 100)), "bytes 90-99/100")
        assert asked("a.bin", "bytes=5-9")[1] == bytes(range(5, 10))
        assert asked("a.bin", "bytes=95-1000")[1] == bytes(range(95, 100))
        for name, header, code in (("a.bin", "bytes=100-", 416), ("b.bin", "bytes=0-", 404)):
            with pytest.raises(urllib.error.HTTPError) as caught:
                asked(name, header)
            assert caught.value.code == code
    with pytest.raises(urllib.error.URLError):
        asked("a.bin", "bytes=0-")
