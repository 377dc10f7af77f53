"""Deliveries: complete and byte-identical, or absent with the reason, whatever goes wrong."""

import dataclasses
import errno
import hashlib
import io
import json
import multiprocessing.forkserver
import os
import random
import shutil
import signal
import sys
import tarfile
import threading
import types
import zipfile
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import pytest
from faulty_server import PERMANENT, TRANSIENT, fetch_and_die, make_tar, outlast_faults, read_tree

from src.data import archives, transfer
from src.data.archives import MARKER, extract
from src.data.fetch import fetch_archives
from src.data.sources import CELEBA, GAN140K, MIRROR, SOURCES, RemoteFile
from src.files import DeliveryError, digest_of

pytestmark = pytest.mark.usefixtures("alone")
UNKNOWN = {"num_bytes": None, "digest": None}  # what no publisher says of a file


def make_tree(name, seed=1, num_files=12):
    """Relative path → content, in the layout of the real archives."""
    noise = random.Random(seed)
    return {
        f"{name}/{i % 3:02d}/{i}.jpg": noise.randbytes(noise.randint(0, 2500))
        for i in range(num_files)
    }


def make_zip(tree):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in tree.items():
            archive.writestr(path, content)
    return target.getvalue()


TREE = make_tree("wiki")
ZIP = make_zip(TREE)


def remote(server, name="wiki", content=ZIP, archive=None, algorithm="sha256", **fields):
    """What the project would know about an archive on this server."""
    archive = archive or f"{name}.zip"
    server.files[archive] = content
    digest = f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"
    known = {"num_bytes": len(content), "digest": digest} | fields
    return RemoteFile(name, archive, f"{server.url}/{archive}", **known)


def fetch_one(file, archives, raw):
    """Fetch and extract one archive; raise if it cannot be had."""
    [delivery] = fetch_archives([file], archives, raw)
    if delivery.folder is None:
        raise DeliveryError(delivery.problem)
    return delivery


def everything(folder):
    """All paths below a folder except locks."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return sorted(path for path in paths if not path.endswith(".lock"))


def test_sources_are_complete():
    names = [file.name for file in SOURCES]
    assert names == ["wiki", "inpainting", "text2img", "insight", "wiki_crop", "gan140k", "celeba"]
    for file in SOURCES:
        assert file.url.startswith("https://") and file.page.startswith("https://")
        assert file.licence and file.expected and Path(file.archive).suffix in (".zip", ".tar")
        if file.digest:
            algorithm, digest = file.digest.split(":")
            assert len(bytes.fromhex(digest)) == hashlib.new(algorithm).digest_size
    assert sum(number for file in SOURCES[:4] for _, number in file.expected) == 120_000
    assert dict(GAN140K.expected)["*valid/fake/*.jpg"] == 10_000


# --- Faults of the server


def test_faults_at_random(server, many_files):
    names = ("wiki", "inpainting", "insight", "wiki_crop")
    trees = {name: make_tree(name, seed) for seed, name in enumerate(names)}
    files = [remote(server, name, make_zip(trees[name])) for name in names[:3]]
    tar = make_tar(trees["wiki_crop"])
    files.append(remote(server, "wiki_crop", tar, "wiki_crop.tar", "md5", num_bytes=None))
    server.misbehave(random.Random(7), 0.2, [*PERMANENT, *TRANSIENT * 4])
    outlast_faults(server, files, trees, many_files, num_trials=16)
    faults = [fault for *_, fault in server.requests if fault]
    assert len(faults) >= 100 and set(faults) == {*TRANSIENT, *PERMANENT}


@pytest.mark.parametrize("second", ["ignore_range", "wrong_range"])
@pytest.mark.parametrize("known", [{}, UNKNOWN])
def test_a_wrong_rest_is_not_taken(server, places, second, known):
    """Also where no hash would tell."""
    server.faults = ["cut", second]
    assert read_tree(fetch_one(remote(server, **known), *places).folder) == TREE
    assert not server.faults


def test_going_on_asks_only_for_the_rest(server, places):
    server.faults = ["cut"] * 4
    fetch_one(remote(server), *places)
    asked = [int(wanted.strip("bytes=-") or 0) for _, wanted, _ in server.requests]
    for before, now in zip(asked, asked[1:]):  # each brought half of what was missing
        assert now == pytest.approx((before + len(ZIP)) / 2, abs=transfer._CHUNK_BYTES)


def test_a_changed_file_is_not_glued_together(server, places, monkeypatch):
    """The first half of one version is never continued with the second half of another."""
    file = remote(server, "wiki", make_tar(TREE), "wiki.tar", **UNKNOWN)
    server.faults, new = ["cut"], make_tree("wiki", 2)
    with monkeypatch.context() as impatient, pytest.raises(DeliveryError, match="1 times in a row"):
        impatient.setattr(transfer, "_NUM_ATTEMPTS", 1)
        fetch_one(file, *places)
    server.files["wiki.tar"] = make_tar(new)
    assert read_tree(fetch_one(file, *places).folder) == new
    assert server.requests[-1][1].startswith("bytes=")


@pytest.mark.parametrize(
    ("fault", "words", "num_requests"),
    [(fault, f"cannot be used: HTTPError: {fault}", 1) for fault in PERMANENT]
    + [("wrong_byte", "twice: hash sha256:.* received, sha256:.* expected; nothing was kept", 2)],
)
def test_refusals_say_what_to_do(server, places, fault, words, num_requests):
    file, server.faults = remote(server, page="https://example.org/wiki"), [fault] * 9
    advice = "download it by hand from https://example.org/wiki and put it at .*wiki.zip"
    with pytest.raises(DeliveryError, match=f"{words}.*{advice}"):
        fetch_one(file, *places)
    assert len(server.requests) == num_requests
    assert not any(path.suffix == ".part" for path in places[0].iterdir())


def test_without_internet_the_rest_goes_on(server, places):
    lost = RemoteFile("lost", "lost.zip", "http://127.0.0.1:9/lost.zip", page="https://example.org")
    broken = RemoteFile("broken", "broken.zip", "htp:/broken.zip")
    deliveries = fetch_archives([lost, remote(server), broken], *places)
    assert [delivery.folder is not None for delivery in deliveries] == [False, True, False]
    assert "6 times in a row" in deliveries[0].problem
    assert "internet connection" in deliveries[0].problem
    assert "cannot be used" in deliveries[2].problem


@pytest.mark.parametrize(
    ("asked", "waited"),
    [("0", 0), ("7", 7), ("100000", 30), ("date", 20), ("nonsense", 0), ("-5", 0)],
)
def test_retry_after(server, tmp_path, monkeypatch, asked, waited):
    if asked == "date":
        asked = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=20), usegmt=True)
    server.retry_after, server.faults = asked, ["503"]
    monkeypatch.setattr(transfer, "_BACKOFF", 0)
    monkeypatch.setattr(transfer, "_LONGEST_WAIT", 30)
    file, waits, sizes = remote(server), [], []
    transfer.receive(file, file.url, tmp_path / "wiki.zip", sizes.append, waits.append)
    assert max(waits) == pytest.approx(waited, abs=2) and sum(sizes) == len(ZIP)


# --- Disk


def test_too_little_space_is_said_before_any_request(server, places, monkeypatch):
    files = [remote(server, name) for name in ("wiki", "insight")]
    places[0].mkdir()
    (places[0] / "wiki.zip.part").write_bytes(ZIP[:100])
    need = 4 * len(ZIP) - 100
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=need - 1))
    with pytest.raises(DeliveryError, match=f"2 archives .* {need:,} bytes .*TRUE_OR_FAKE_HOME"):
        fetch_archives(files, *places)
    assert server.requests == []
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=need))
    assert all(delivery.folder for delivery in fetch_archives(files, *places))


@pytest.mark.parametrize(("victim", "module"), [(".part", transfer), (".jpg", archives)])
def test_full_disk_while_writing(server, places, monkeypatch, victim, module):
    def full(path, mode="r"):
        if str(path).endswith(victim):
            Path(path).touch()
            raise OSError(errno.ENOSPC, "No space left on device")
        return open(path, mode)

    monkeypatch.setattr(module, "open", full, raising=False)
    with pytest.raises(DeliveryError, match="is full. Make room"):
        fetch_one(remote(server), *places)
    assert everything(places[1]) == []
    monkeypatch.undo()
    assert fetch_one(remote(server), *places).folder


# --- What is already there


def test_reused_at_once_and_counted(server, places):
    file = remote(server, expected=(("wiki/*.jpg", 12), ("wiki/00/*.jpg", 5), ("*.csv", 0)))
    first, again = fetch_one(file, *places), fetch_one(file, *places)
    assert (first.status, first.num_files, again.status) == ("extracted", 12, "already there")
    assert first.num_bytes == again.num_bytes == sum(map(len, TREE.values()))
    assert len(server.requests) == 1
    for delivery in (first, again):
        assert "holds 4 files like wiki/00/*.jpg where 5 are expected. D" in delivery.problem
    next(first.folder.rglob("*.jpg")).unlink()
    for pattern in ("wiki/*.jpg", "*"):
        problem = f"11 files like {pattern} where 12 are expected"
        assert problem in fetch_one(file, *places).problem


def test_a_new_version_replaces_the_old_but_a_hostile_one_does_not(server, places):
    for seed in (1, 2):
        tree = make_tree("wiki", seed, 10 * seed)
        assert read_tree(fetch_one(remote(server, "wiki", make_zip(tree)), *places).folder) == tree
    with pytest.raises(DeliveryError, match="leads out of its folder"):
        fetch_one(remote(server, "wiki", make_zip({"../evil": b""})), *places)
    assert read_tree(places[1] / "wiki") == tree and not (places[1] / "evil").exists()


def test_what_was_put_there_by_hand_is_used(server, places):
    places[0].mkdir()
    (places[0] / "wiki.zip").write_bytes(ZIP)
    assert fetch_one(remote(server), *places).status == "extracted"
    shutil.rmtree(places[1] / "wiki")
    (places[1] / "wiki" / "wiki").mkdir(parents=True)
    (places[1] / "wiki" / "wiki" / "1.jpg").write_bytes(b"mine")
    delivery = fetch_one(remote(server, expected=(("wiki/*.jpg", 12),)), *places)
    assert delivery.status == "used in place" and "1 files like" in delivery.problem
    assert read_tree(delivery.folder) == {"wiki/1.jpg": b"mine"} and server.requests == []


def test_interrupt_stops_all_and_keeps_the_parts(server, places):
    names = ("wiki", "insight", "text2img")
    files = [remote(server, name, make_zip(make_tree(name, 1, 60))) for name in names]
    server.pause = 0.01
    # A shell's background jobs ignore the signal, and so would the tests in one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        fetch_archives(files, *places)
    assert not any((places[1] / file.name).exists() for file in files)
    assert any(path.suffix == ".part" for path in places[0].iterdir())
    server.pause = 0
    assert all(delivery.folder for delivery in fetch_archives(files, *places))


# --- Mirror, proxy, Kaggle


def test_mirror(server, places, monkeypatch):
    url = "https://example.invalid/deep/x?download=1"
    monkeypatch.setenv(MIRROR, server.url + "/some/folder/")
    assert fetch_one(dataclasses.replace(remote(server), url=url), *places).folder
    with pytest.raises(DeliveryError, match=f"unset {MIRROR}"):
        fetch_one(RemoteFile("absent", "absent.zip", "https://example.invalid/a"), *places)


def test_proxies_are_respected_but_not_for_oneself(server, places, monkeypatch):
    outside = dataclasses.replace(remote(server), url="http://example.invalid/wiki.zip")
    monkeypatch.setenv("HTTP_PROXY", server.url)
    assert fetch_one(outside, *places).folder
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert fetch_one(remote(server, "insight"), *places).folder


def test_what_kagglehub_delivers_is_used_in_place(places, tmp_path, monkeypatch):
    mounted = tmp_path / "input" / "faces-set"
    (mounted / "train" / "real").mkdir(parents=True)
    (mounted / "train" / "real" / "1.jpg").write_bytes(b"x")
    folders = {"somebody/faces-set": str(mounted)}
    hub = types.SimpleNamespace(dataset_download=folders.pop)  # it is asked once
    monkeypatch.setitem(sys.modules, "kagglehub", hub)
    expected = (("*train/real/*.jpg", 1), ("*train/fake/*.jpg", 1))
    facts = dict(kaggle="somebody/faces-set", expected=expected)
    file = RemoteFile("gan140k", "faces-set.zip", "http://127.0.0.1:9/x", **facts)
    for _ in range(2):
        delivery = fetch_one(file, *places)
        assert delivery.status == "used in place" and delivery.folder == places[1] / "gan140k"
        assert delivery.folder.is_symlink() and delivery.folder.samefile(mounted)
        assert "holds 0 files like *train/fake/*.jpg where 1 are expected. D" in delivery.problem
    mounted.rename(tmp_path / "elsewhere")  # a new session without that input
    with pytest.raises(DeliveryError, match="attach somebody/faces-set by Add Input"):
        fetch_one(file, *places)


def test_without_kagglehub_the_public_address_or_the_steps(server, places, monkeypatch):
    server.files["faces-set"] = ZIP
    url = f"{server.url}/api/faces-set"
    file = RemoteFile("gan140k", "faces-set.zip", url, kaggle="somebody/faces-set")
    assert read_tree(fetch_one(file, *places).folder) == TREE
    assert everything(places[0]) == ["faces-set.zip"]

    def refused(handle):
        raise PermissionError("please sign in")

    monkeypatch.setitem(sys.modules, "kagglehub", types.SimpleNamespace(dataset_download=refused))
    url, page = f"{server.url}/gone", "https://example.org/m"
    gated = dataclasses.replace(CELEBA, name="gated", url=url, page=page)
    steps = f"404.*please sign in.*{page}.*kagglehub.login"
    copy = "take_copy.study, 'gated', 'flwrlabs/celeba'.*'nielsr/CelebA-faces'"
    with pytest.raises(DeliveryError, match=f"{steps}.*{copy}"):
        fetch_one(gated, *places)


# --- Hostile and damaged archives


def spoiled(place, value):
    """A zip of one member, with one byte of its entry in the directory changed."""
    content = bytearray(make_zip({"a": b"0123456789" * 100}))
    content[content.index(b"PK\1\2") + place] = value
    return bytes(content)


def twice(make):
    """An archive that holds a name two times."""
    return make({"a1": b"1", "a2": b"2"}).replace(b"a2", b"a1")


TREES = {
    "climbs out": {"../evil.txt": b"evil"},
    "climbs out later": {"a/../../evil.txt": b"evil"},
    "absolute": {"/evil.txt": b"evil"},
    "file is folder": {"a": b"1", "a/b": b"2"},
    "folder is file": {"a/b": b"2", "a": b"1"},
    "expands too far": {"a": bytes(600_000), "b": bytes(600_000)},
    "too many": {f"{i}/": b"" for i in range(200)},
}
HOSTILE = {f"zip: {kind}": make_zip(tree) for kind, tree in TREES.items()}
HOSTILE |= {f"tar: {kind}": make_tar(tree) for kind, tree in TREES.items()}
HOSTILE |= {
    "zip: twice": twice(make_zip),
    "zip: encrypted": spoiled(8, 1),
    "zip: unknown compression": spoiled(10, 99),
    "zip: wrong checksum": spoiled(16, 1),
    "zip: understated size": spoiled(25, 0),
    "zip: truncated": ZIP[:-30],
    "zip: a web page": b"<html>Please sign in</html>",
    "tar: link": make_tar({"link": b"/etc"}, tarfile.SYMTYPE),
    "tar: hard link": make_tar({"link": b"/etc/passwd"}, tarfile.LNKTYPE),
    "tar: fifo": make_tar({"fifo": b""}, tarfile.FIFOTYPE),
    "tar: device": make_tar({"device": b""}, tarfile.CHRTYPE),
    "tar: twice": make_tar({"a": b"1", "./a": b"2"}),
    "tar: truncated": make_tar(TREE)[:9000],
    "tar: a web page": b"<html>Please sign in</html>",
    "gz: not supported": b"\x1f\x8b",
}


@pytest.fixture
def small_limits(monkeypatch):
    monkeypatch.setattr(archives, "_MAX_BYTES", 1_000_000)
    monkeypatch.setattr(archives, "_MAX_FILES", 100)


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_write_nothing_anywhere(kind, tmp_path, small_limits):
    archive = tmp_path / f"deep/er/archive.{kind.split(':')[0]}"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(HOSTILE[kind])
    before = everything(tmp_path)
    with pytest.raises(DeliveryError, match="archive.*refused|cannot be extracted|only these"):
        extract(archive, archive.parent / "tree")
    assert everything(tmp_path) == before
    assert not Path("/evil.txt").exists()


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_damaged_anywhere(many_files, small_limits, suffix):
    """Bytes changed at random, no known hash: the tree is complete or absent."""
    chance, tree, num_refused = random.Random(3), make_tree("a", 1, 5), 0
    content = make_zip(tree) if suffix == ".zip" else make_tar(tree)
    headers = [i for i in range(len(content)) if content[i : i + 2] in (b"PK", b"a/")]
    archive = many_files / f"archive{suffix}"
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 3)):
            near_header = chance.choice(headers) + chance.randint(0, 60)
            place = near_header if chance.random() < 0.7 else chance.randrange(10**9)
            damaged[place % len(content)] = chance.randrange(256)
        archive.write_bytes(damaged)
        try:
            extract(archive, many_files / "tree")
            assert (many_files / "tree" / MARKER).exists()
        except DeliveryError:
            num_refused += 1
        shutil.rmtree(many_files / "tree", ignore_errors=True)
        assert everything(many_files) == [archive.name]
    assert num_refused > 10


@pytest.mark.parametrize(("make", "suffix"), [(make_zip, "zip"), (make_tar, "tar")])
def test_harmless_oddities_are_extracted(tmp_path, make, suffix):
    """Folders, a leading ./, empty files, names that are not ASCII, a way through ".."."""
    tree, archive = {"a/1.jpg": b"2", "a/é.jpg": b"1", "a/empty": b""}, tmp_path / f"x.{suffix}"
    members = {f"./{name}": content for name, content in tree.items()}
    archive.write_bytes(make({"./a/": b""} | members))
    extract(archive, tmp_path / ".." / tmp_path.name / "tree")
    assert read_tree(tmp_path / "tree") == tree
    marker = json.loads((tmp_path / "tree" / MARKER).read_text())
    assert marker["num_files"] == 3 and marker["digest"] == digest_of(archive)


# --- Killed processes


@pytest.fixture(scope="module")
def process():
    """Starts `fetch_and_die` in a process that is forked where its modules are loaded."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("needs fork")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["faulty_server"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        multiprocessing.forkserver.ensure_running()

    def start(*arguments):
        started = context.Process(target=fetch_and_die, args=arguments)
        started.start()
        return started

    return start


def exit_code(process):
    process.join()
    return process.exitcode


def check_after_kill(file, trees, home):
    """Final names are absent or whole; a clean fetch completes whatever was left behind."""
    if (home / "raw" / file.name).exists():
        assert read_tree(home / "raw" / file.name) in trees
        assert (home / "raw" / file.name / MARKER).exists()
    if (home / "archives" / file.archive).exists():
        assert digest_of(home / "archives" / file.archive) == file.digest
    delivery = fetch_one(file, home / "archives", home / "raw")
    assert read_tree(delivery.folder) == trees[-1] and delivery.problem == ""
    assert everything(home / "archives") == [file.archive]
    assert {path.name for path in (home / "raw").iterdir()} == {file.name, ".lock"}


@pytest.mark.parametrize(
    ("make", "archive", "step"), [(make_zip, "wiki.zip", 1), (make_tar, "wiki.tar", 4)]
)
def test_killed_at_every_operation(process, server, many_files, make, archive, step):
    """Before each operation on files, of download, extraction and replacement of an older tree."""
    trees = make_tree("wiki", 1, 3), make_tree("wiki", 2, 6)
    old, new = map(make, trees)
    old_file, file = (remote(server, "wiki", content, archive) for content in (old, new))
    num_operations = exit_code(process(file, many_files / "clean", 0))
    assert 40 < num_operations < 250
    for kill_at in range(1, num_operations + 1, step):
        home, older = many_files / str(kill_at), kill_at % 2 == 1
        if older:
            server.files[archive] = old
            fetch_one(old_file, home / "archives", home / "raw")
            (home / "archives" / archive).unlink()
            server.files[archive] = new
        assert exit_code(process(file, home, kill_at)) == -signal.SIGKILL
        check_after_kill(file, trees if older else trees[1:], home)


def test_of_three_processes_one_fetches(process, server, tmp_path):
    file, server.pause = remote(server), 0.001
    started = [process(file, tmp_path, 0) for _ in range(3)]
    assert {*map(exit_code, started)}.isdisjoint({255, 0, 1}) and len(server.requests) == 1
    check_after_kill(file, [TREE], tmp_path)
