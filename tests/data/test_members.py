"""Parts of remote archives: what is taken is what the whole holds, or the reason is said."""

import dataclasses
import io
import json
import random
import zipfile
from collections import Counter

import datasets
import pytest
from faulty_server import PERMANENT, TRANSIENT, make_tar, outlast_faults, read_tree

from src.data import catalog, copies, members, transfer
from src.data.fetch import fetch_archives
from src.data.members import choose
from src.data.sources import MIRROR, RemoteFile

pytestmark = pytest.mark.usefixtures("alone")
NUMBER, TOTAL = 14, 40  # photographs taken, and all
HUB, LIST = "datasets/owner/copy", "api/datasets/owner/copy/tree/abc"


def make_archive(name, seed=1):
    """A zip as Info-ZIP packs DeepFakeFace: folders, times in extra fields, names in no order."""
    noise, target = random.Random(seed), io.BytesIO()
    paths = [f"{name}/{n % 5:02d}/1{n:03d}{n % 5:02d}_1950-01-01_2000.jpg" for n in range(TOTAL)]
    noise.shuffle(paths)
    paths.sort(key=lambda path: path.split("/")[1])
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (f"{name}/", *(f"{name}/{n:02d}/" for n in range(5)), *paths, "notes.txt"):
            info = zipfile.ZipInfo(path)
            info.extra = b"UT\x05\x00\x03" + noise.randbytes(4)
            info.compress_type = zipfile.ZIP_DEFLATED
            content = b"" if path.endswith("/") else noise.randbytes(noise.randint(1500, 4000))
            archive.writestr(info, content)
    return target.getvalue()


def remote(server, name="wiki", seed=1, **facts):
    """The archive on this server, of which a part is taken."""
    server.files[f"{name}.zip"] = make_archive(name, seed)
    facts = {"expected": ((f"{name}/*.jpg", NUMBER),), "taken": (NUMBER, TOTAL)} | facts
    return RemoteFile(name, f"{name}.zip", f"{server.url}/{name}.zip", **facts)


def unpacked(content, seed=0):
    """The oracle: relative path → content, of the chosen files of a zip that is unpacked."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = choose(archive.namelist(), NUMBER, TOTAL, seed)
        return {name: archive.read(name) for name in names}


def num_needed(content, names):
    """Bytes of some members and of the directory."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        directory = len(content) - archive.start_dir
        return directory + sum(archive.getinfo(name).compress_size for name in names)


# --- Which photographs


def test_the_choice_is_of_whole_folders_but_one_and_depends_on_names_and_seed_alone():
    names = [f"wiki/{n % 10:02d}/{n}.jpg" for n in range(100)]
    chosen = choose(names, 34, 100, 0)
    sizes = Counter(name.split("/")[1] for name in chosen)
    assert sorted(sizes.values()) == [4, 10, 10, 10]
    assert len(set(chosen)) == 34 and chosen == choose(reversed(names), 34, 100, 0)
    others = [name.replace("wiki", "insight") for name in names]
    assert choose(others, 34, 100, 0) == [name.replace("wiki", "insight") for name in chosen]
    assert chosen[:20] == choose(names, 20, 100, 0)  # a larger part holds the smaller one
    assert set(chosen) != set(choose(names, 34, 100, 1))


@pytest.mark.parametrize("names", [["wiki/00/1.jpg"], ["wiki/00/1.jpg"] * 2, ["wiki/x/1.jpg"] * 2])
def test_another_number_of_names_is_refused(names):
    message = "holds . photographs with . names; 2 different ones are expected"
    with pytest.raises(transfer.SourceFailed, match=message):
        choose(names, 1, 2, 0)


# --- Members of a zip


def test_members_are_those_of_the_unpacked_archive_and_little_more_comes(server, places):
    [delivery] = fetch_archives([remote(server)], *places)
    content = server.files["wiki.zip"]
    assert (delivery.status, delivery.problem) == ("taken in part", "")
    assert read_tree(delivery.folder) == unpacked(content)
    assert delivery.num_bytes == sum(map(len, unpacked(content).values()))
    num_requests = len(server.requests)
    assert server.num_sent <= 1.15 * num_needed(content, unpacked(content))
    assert num_requests < 4 + NUMBER  # neighbours come together
    [again] = fetch_archives([remote(server)], *places)
    assert again.status == "already there" and len(server.requests) == num_requests


def test_faults_at_random(server, many_files):
    names = ("wiki", "inpainting", "text2img", "insight")
    files = [remote(server, name, seed) for seed, name in enumerate(names)]
    trees = {name: unpacked(server.files[f"{name}.zip"]) for name in names}
    server.misbehave(random.Random(5), 0.6, [*PERMANENT, *[*TRANSIENT, "redirect"] * 8])
    outlast_faults(server, files, trees, many_files, num_trials=9)
    faults = Counter(fault for *_, fault in server.requests if fault)
    assert faults.total() - faults["redirect"] >= 200
    assert set(faults) == {*TRANSIENT, *PERMANENT, "redirect"}


def test_what_came_before_an_interruption_is_not_fetched_again(server, places):
    file, server.faults = remote(server), ["", "", "", "", "", "", "404"]
    [failed] = fetch_archives([file], *places)
    assert failed.folder is None and "HF_TOKEN" in failed.problem
    came, server.num_sent = read_tree(places[0] / "wiki.part"), 0
    wanted = unpacked(server.files["wiki.zip"])
    assert came and came.items() < wanted.items()
    damaged = next(iter(came))
    # As a kill may leave it.
    (places[0] / "wiki.part" / damaged).write_bytes(came.pop(damaged)[:-1])
    (places[0] / "wiki.part/wiki/other.jpg").write_bytes(b"of an earlier choice")
    [delivery] = fetch_archives([file], *places)
    assert read_tree(delivery.folder) == wanted
    rest = {name: content for name, content in wanted.items() if name not in came}
    assert server.num_sent <= 1.15 * num_needed(server.files["wiki.zip"], rest)


def test_of_a_file_that_changes_in_between_nothing_is_mixed(server, places):
    file, new = remote(server), make_archive("wiki", 2)

    def plan(name):
        if len(server.requests) == 6:
            server.files["wiki.zip"] = new
        return ""

    server.plan = plan
    [delivery] = fetch_archives([file], *places)
    assert read_tree(delivery.folder) == unpacked(new)
    assert server.files["wiki.zip"] == new


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("ignore_range", "HTTP 200 with no range came. A server that answers range requests"),
        ("wrong_byte", "failed 6 times in a row"),
        ("403", "cannot be used: HTTPError: 403"),
        ("503", "503"),
    ],
)
def test_refusals_say_what_to_do(server, places, fault, words):
    file, server.plan = remote(server), lambda name: fault
    [delivery] = fetch_archives([file], *places)
    assert delivery.folder is None and words in delivery.problem
    assert "HF_ENDPOINT" in delivery.problem and "holds wiki.zip. Then" in delivery.problem
    assert not (places[1] / "wiki").exists()


def test_the_token_goes_to_the_hub_and_to_no_other_host(server, places, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setattr(transfer, "HUB", server.url)
    server.plan = lambda name: "redirect" if len(server.requests) % 2 == 0 else ""
    file = dataclasses.replace(remote(server), url=f"{server.url}/resolve/main/wiki.zip")
    [delivery] = fetch_archives([file], *places)
    assert read_tree(delivery.folder) == unpacked(server.files["wiki.zip"])
    told = {(host.split(":")[0], token) for host, token in server.tokens}
    assert told == {("127.0.0.1", "Bearer secret"), ("localhost", None)}


# --- Folders of a tar


@pytest.fixture
def crops(server, monkeypatch):
    """IMDB-WIKI's crops on this server: folders in no order, a large table among them."""
    noise, files = random.Random(3), {}
    for folder in noise.sample(range(20), 20):
        for number in noise.sample(range(30), 30):
            name = f"wiki_crop/{folder:02d}/{number}{folder:02d}_1950-01-01_2010.jpg"
            files[name] = noise.randbytes(noise.randint(100, 3000))
        if folder == 7:
            files["wiki_crop/wiki.mat"] = noise.randbytes(60_000)
    server.files["wiki_crop.tar"] = make_tar(files)
    monkeypatch.setattr(members, "_NUM_LOOKS", 60)
    monkeypatch.setattr(members, "_LOOK", 4096)
    url = f"{server.url}/wiki_crop.tar"
    return RemoteFile("wiki_crop", "wiki_crop.tar", url, taken=(3, 30)), files


def test_folders_of_a_tar_are_those_of_the_choice(server, places, crops):
    """They are the folders from which `choose` takes photographs of the zips."""
    file, files = crops
    [delivery] = fetch_archives([file], *places)
    names = [f"wiki/{number % 20:02d}/{number}.jpg" for number in range(200)]
    chosen = {name.split("/")[1] for name in choose(names, 20, 200, 0)}
    taken = read_tree(delivery.folder)
    assert (delivery.status, delivery.problem) == ("taken in part", "")
    wanted = {name for name in files if name.split("/")[1] in chosen}
    assert len(chosen) == 2 and len(wanted) == 60 and wanted <= set(taken)
    assert taken.items() <= files.items() and "wiki_crop/wiki.mat" not in taken
    needed = 60 * 4096 + sum(len(files[name]) for name in wanted)
    assert server.num_sent < 1.6 * needed < len(server.files["wiki_crop.tar"])


def test_folders_of_a_tar_outlast_faults_and_interruptions(server, places, crops):
    chance, deck = random.Random(7), sorted({*TRANSIENT, "redirect"} - {"wrong_byte"})
    server.plan = lambda name: chance.choice(deck) if chance.random() < 0.3 else ""
    [delivery] = fetch_archives([crops[0]], *places)
    taken = read_tree(delivery.folder)
    assert taken.items() <= crops[1].items() and len(taken) >= 60
    assert sum(1 for *_, fault in server.requests if fault) >= 20
    assert not [*places[0].iterdir()]


def test_pieces_of_a_tar_that_came_are_not_fetched_again(server, places, crops):
    file, files = crops
    server.plan = lambda name: "404" if len(server.requests) > 65 else ""
    [failed] = fetch_archives([file], *places)
    assert failed.folder is None and "cannot be used" in failed.problem
    came = [part.stat().st_size for part in (places[0] / "wiki_crop.part").iterdir()]
    first, server.plan, server.num_sent = server.num_sent, lambda name: "", 0
    [delivery] = fetch_archives([file], *places)
    assert len(came) >= 3 and read_tree(delivery.folder).items() <= files.items()
    assert server.num_sent + sum(came) < first + 61 * 4096


def test_a_tar_of_something_else_is_refused(server, places, crops):
    server.files["wiki_crop.tar"] = b"<html>" * 20_000
    [delivery] = fetch_archives([crops[0]], *places)
    assert delivery.folder is None and not (places[1] / "wiki_crop").exists()
    assert "holds no photographs" in delivery.problem and "go on without it" in delivery.problem


# --- Rows of parquet files


def make_copy(server, names=("real", "fake"), size=300):
    """A copy of the 140k on this server, its rows sorted by label, and the same as tables."""
    noise, tables = random.Random(1), {}
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))}
    for split in ("train", "validation", "test"):
        rows = [{"bytes": b"\xff\xd8" + noise.randbytes(size), "path": None} for _ in range(60)]
        columns = {"image": rows, "label": [0] * 30 + [1] * 30}
        tables[split] = datasets.Dataset.from_dict(columns, datasets.Features(features))
        for half in range(2):
            target, part = io.BytesIO(), tables[split].select(range(30 * half, 30 * half + 30))
            part.to_parquet(target, batch_size=6)
            server.files[f"{HUB}/resolve/abc/data/{split}-{half}.parquet"] = target.getvalue()
    listed = [{"path": name.split("abc/")[1]} for name in server.files if name.startswith(HUB)]
    server.files[LIST] = json.dumps([*listed, {"path": "README.md"}]).encode()
    patterns = [f"*{split}/{label}/*" for split in ("train", "valid", "test") for label in names]
    facts = {"taken": (9, 9, 9), "expected": tuple((pattern, 9) for pattern in patterns)}
    return RemoteFile("gan140k", "gan140k.parquet", f"{server.url}/{LIST}", **facts), tables


@pytest.mark.parametrize("names", [("real", "fake"), ("fake", "real")])
def test_rows_are_those_of_the_whole_copy_and_labels_go_by_name(server, study, names):
    file, tables = make_copy(server, names)
    [delivery] = fetch_archives([file], study.data / "archives", study.data / "raw")
    assert delivery.status == "taken in part" and delivery.num_files == 6 * 9 + 3
    assert ("other way round" in delivery.problem) == (names[0] == "real")
    records = catalog.collect(study)
    assert records.groupby(["split", "label"]).size().tolist() == [9] * 6
    whole = dataclasses.replace(study, name="whole").data / "raw/gan140k"
    copies.take_copy(dataclasses.replace(study, name="whole"), "gan140k", tables)
    folder_of = {path.read_bytes(): path.relative_to(whole).parent for path in whole.rglob("*.jpg")}
    for path in delivery.folder.rglob("*.jpg"):
        assert folder_of[path.read_bytes()] == path.relative_to(delivery.folder).parent


def test_main_is_one_revision_which_is_remarked(server, places):
    file, _ = make_copy(server)
    file = dataclasses.replace(file, url=file.url.replace("tree/abc", "tree/main"))
    server.files["api/datasets/owner/copy/revision/main"] = b'{"sha": "abc"}'
    [delivery] = fetch_archives([file], *places)
    assert delivery.problem.endswith("The Hub's main was revision abc.")
    assert not any("resolve/main" in str(request) for request in server.requests)


def test_only_the_row_groups_that_are_needed_are_fetched(server, places):
    file, _ = make_copy(server, size=12_000)
    [delivery] = fetch_archives([file], *places)
    groups, footers = 6 * 12 * 12_000, 6 * 65_536  # two groups of six for nine pictures
    assert groups < server.num_sent < 1.15 * (groups + footers)
    assert not (places[0] / "gan140k.part").exists()


def test_row_groups_that_came_are_not_fetched_again(server, places):
    file, _ = make_copy(server, size=12_000)
    server.faults = [""] * 12 + ["404"]
    [failed] = fetch_archives([file], *places)
    assert failed.folder is None and "cannot be used" in failed.problem
    num_parts, first = len([*(places[0] / "gan140k.part").iterdir()]), server.num_sent
    assert num_parts >= 2
    [delivery] = fetch_archives([file], *places)
    assert delivery.num_files == 6 * 9 + 3
    assert server.num_sent - first < 6 * 80_000 + (12 - num_parts) * 6 * 12_500


@pytest.mark.parametrize("fault", sorted({*TRANSIENT, "redirect"} - {"wrong_byte"}))
def test_rows_outlast_faults(server, places, fault):
    file, tables = make_copy(server)
    server.faults = [""] + [fault, ""] * 4  # the list of files comes first
    [delivery] = fetch_archives([file], *places)
    assert delivery.num_files == 6 * 9 + 3 and server.faults == []
    plain = [table.cast_column("image", datasets.Image(decode=False)) for table in tables.values()]
    known = {row["image"]["bytes"] for table in plain for row in table}
    assert known >= {path.read_bytes() for path in delivery.folder.rglob("*.jpg")}


def test_a_copy_with_too_few_pictures_is_refused(server, places):
    file, _ = make_copy(server)
    [delivery] = fetch_archives([dataclasses.replace(file, taken=(31, 9, 9))], *places)
    assert "31 pictures of a split, and of each label, are taken" in delivery.problem
    assert MIRROR not in delivery.problem and not (places[1] / "gan140k").exists()


@pytest.mark.parametrize("fault", sorted({*TRANSIENT, "redirect"} - {"wrong_byte", "wrong_total"}))
def test_a_range_is_the_one_asked_for(server, fault):
    server.files["x"] = random.Random(0).randbytes(3000)
    with transfer.Ranges(f"{server.url}/x", print, lambda seconds=0: None) as source:
        server.faults = [fault, fault]
        source.seek(1000)
        assert source.read(1500) == server.files["x"][1000:2500] and server.faults == []
