"""Deliveries: complete and byte-identical, or absent with the reason, whatever goes wrong."""

import dataclasses
import errno
import hashlib
import io
import json
import os
import random
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import types
import zipfile
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import requests
from faulty_server import PERMANENT, TRANSIENT, FaultyServer

from src import config
from src.data import archives, catalog, copies, fetch, readers, transfer
from src.data.archives import MARKER, extract
from src.data.fetch import _Progress, fetch_archives
from src.data.sources import CELEBA, GAN140K, MIRROR, SOURCES, RemoteFile
from src.files import DeliveryError, digest_of

HASTY = {"_TIMEOUTS": (2, 0.15), "_BACKOFF": 0.001, "_LONGEST_WAIT": 0.01, "_CHUNK_BYTES": 512}


def make_tree(name, seed, num_files=12):
    """Relative path → content, in the layout of the real archives."""
    noise = random.Random(seed)
    return {
        f"{name}/{i % 3:02d}/{i}.jpg": noise.randbytes(noise.randint(0, 2500))
        for i in range(num_files)
    }


def make_zip(tree, compression=zipfile.ZIP_DEFLATED):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for path, content in tree.items():
            archive.writestr(
                zipfile.ZipInfo(path) if isinstance(path, str) else path, content, compression
            )
    return target.getvalue()


def make_tar(members):
    """From a tree, or from `(TarInfo, content)` pairs."""
    target = io.BytesIO()
    if isinstance(members, dict):
        members = [
            (tar_info(path, size=len(content)), content) for path, content in members.items()
        ]
    with tarfile.open(fileobj=target, mode="w") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


def tar_info(name, kind=tarfile.REGTYPE, link="", size=0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def remote(server, name, content, archive=None, algorithm="sha256", **fields):
    """What the project would know about an archive on this server."""
    archive = archive or f"{name}.zip"
    server.files[archive] = content
    fields.setdefault("num_bytes", len(content))
    fields.setdefault("digest", f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}")
    return RemoteFile(name, f"{server.url}/{archive}", **fields)


def fetch_one(file, archives, raw):
    """Fetch and extract one archive; raise if it cannot be had."""
    [delivery] = fetch_archives([file], archives, raw)
    if delivery.folder is None:
        raise DeliveryError(delivery.problem)
    return delivery


def read_tree(folder):
    """Relative path → content of an extracted folder, without its marker."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MARKER)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def everything(folder):
    """All paths below a folder except locks."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return sorted(path for path in paths if not path.endswith(".lock"))


@pytest.fixture(autouse=True)
def no_kaggle(monkeypatch, tmp_path):
    """No test waits long, or sees the Kaggle, the mirror or the proxy of the machine it runs on."""
    for name, value in HASTY.items():
        monkeypatch.setattr(transfer, name, value)
    monkeypatch.setattr(fetch, "KAGGLE_INPUT", tmp_path / "no-kaggle")
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    proxies = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "no_proxy")
    for name in (MIRROR, *proxies):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def many_files():
    """A folder for thousands of files, in memory where the system has such a folder."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def server():
    with FaultyServer({}) as running:
        yield running


@pytest.fixture
def places(tmp_path):
    return tmp_path / "archives", tmp_path / "raw"


# --- What is known about the sources


def test_sources_are_complete():
    names = [file.name for file in SOURCES]
    assert names == ["wiki", "inpainting", "text2img", "insight", "wiki_crop", "gan140k", "celeba"]
    for file in SOURCES:
        assert (
            file.url.startswith("https://")
            and file.page.startswith("https://")
            and file.licence
            and file.expected
        )
        assert Path(file.archive).suffix in (".zip", ".tar")
        if file.digest:
            algorithm, digest = file.digest.split(":")
            assert len(bytes.fromhex(digest)) == hashlib.new(algorithm).digest_size
    assert sum(number for file in SOURCES[:4] for _, number in file.expected) == 120_000
    assert dict(GAN140K.expected)["*valid/fake/*.jpg"] == 10_000


# --- Faults of the server


def test_faults_at_random(many_files):
    """Each delivery is complete or absent with a reason, and an honest server mends them all."""
    chance = random.Random(7)
    trees = {
        name: make_tree(name, seed)
        for seed, name in enumerate(("wiki", "inpainting", "insight", "wiki_crop"))
    }
    outcomes, faults, deck = {"whole": 0, "failed": 0}, [], []

    def plan(name):
        if quiet or chance.random() < 0.2:
            return None
        if not deck:
            deck.extend([*PERMANENT, *TRANSIENT * 4])
            chance.shuffle(deck)
        return deck.pop()

    with FaultyServer({}, plan, randint=chance.randint, silence=0.2) as server:
        files = [remote(server, name, make_zip(tree)) for name, tree in list(trees.items())[:3]]
        files.append(
            remote(
                server,
                "wiki_crop",
                make_tar(trees["wiki_crop"]),
                "wiki_crop.tar",
                "md5",
                num_bytes=None,
            )
        )
        for trial in range(34):
            archives, raw = many_files / f"{trial}/archives", many_files / f"{trial}/raw"
            for quiet in (False, True):
                for file, delivery in zip(files, fetch_archives(files, archives, raw), strict=True):
                    if delivery.folder:
                        assert (
                            delivery.problem == ""
                            and read_tree(delivery.folder) == trees[file.name]
                        )
                        assert (archives / file.archive).read_bytes() == server.files[file.archive]
                        outcomes["whole"] += not quiet
                    else:
                        assert not quiet, delivery.problem
                        assert (
                            delivery.problem.startswith(file.name)
                            and str(archives) in delivery.problem
                        )
                        assert (
                            not (raw / file.name).exists()
                            and not (archives / file.archive).exists()
                        )
                        outcomes["failed"] += 1
            assert everything(archives) == sorted(file.archive for file in files)
        faults = [fault for *_, fault in server.requests if fault]
    assert len(faults) >= 200 and set(faults) == {*TRANSIENT, *PERMANENT}
    assert outcomes["whole"] >= 20 and outcomes["failed"] >= 5, outcomes


@pytest.mark.parametrize("fault", TRANSIENT)
def test_one_fault_of_each_kind(server, places, fault):
    """One fault, then honest answers: the file arrives."""
    tree = make_tree("wiki", 1)
    file = remote(server, "wiki", make_zip(tree))
    faults = ["cut", fault] if fault in ("ignore_range", "wrong_range") else [fault]
    server.plan, server.randint = (
        lambda name: faults.pop(0) if faults else None,
        lambda low, high: (low + high) // 2,
    )
    assert read_tree(fetch_one(file, *places).folder) == tree
    assert not faults


def test_other_bytes_than_asked_for_are_not_taken(server, places):
    """Also where no hash would tell."""
    tree = make_tree("wiki", 1)
    file = remote(server, "wiki", make_zip(tree), num_bytes=None, digest=None)
    faults = ["wrong_range", "cut"]
    server.plan, server.randint = (
        lambda name: faults.pop() if faults else None,
        lambda low, high: high // 2,
    )
    assert read_tree(fetch_one(file, *places).folder) == tree


def test_going_on_asks_only_for_the_rest(server, places):
    content = make_zip(make_tree("wiki", 1))
    file = remote(server, "wiki", content)
    faults = ["cut"] * 4
    server.plan, server.randint = (
        lambda name: faults.pop() if faults else None,
        lambda low, high: high // 3,
    )
    fetch_one(file, *places)
    assert [wanted != "" for _, wanted, _ in server.requests] == [False, True, True, True, True]
    assert server.num_bytes < len(content) + 4 * transfer._CHUNK_BYTES


def test_a_changed_file_is_not_glued_together(server, places, monkeypatch):
    """The first half of one version is never continued with the second half of another."""
    old, new = make_tree("wiki", 1), make_tree("wiki", 2)
    file = remote(server, "wiki", make_tar(old), "wiki.tar", num_bytes=None, digest=None)
    server.plan, server.randint = lambda name: "cut", lambda low, high: high // 2
    with monkeypatch.context() as impatient, pytest.raises(DeliveryError, match="1 times in a row"):
        impatient.setattr(transfer, "_NUM_ATTEMPTS", 1)
        fetch_one(file, *places)
    server.plan, server.files["wiki.tar"] = lambda name: None, make_tar(new)
    assert read_tree(fetch_one(file, *places).folder) == new
    assert server.requests[-1][1].startswith("bytes=")


def test_wrong_bytes_twice_is_an_error(server, places):
    file = remote(server, "wiki", make_zip(make_tree("wiki", 1)))
    server.plan, server.randint = lambda name: "wrong_byte", lambda low, high: 0
    with pytest.raises(
        DeliveryError, match="twice: hash sha256:.* received, sha256:.* expected; nothing was kept"
    ):
        fetch_one(file, *places)
    assert len(server.requests) == 2 and not any(
        path.suffix == ".part" for path in places[0].iterdir()
    )


@pytest.mark.parametrize(
    ("fault", "words"),
    [("401", "refuses access"), ("403", "refuses access"), ("404", "has no such file")],
)
def test_refusals_say_what_to_do_and_are_not_repeated(server, places, fault, words):
    file = remote(server, "wiki", b"", page="https://example.org/wiki")
    server.plan = lambda name: fault
    with pytest.raises(
        DeliveryError,
        match=f"{words}.*HTTP {fault}.*https://example.org/wiki and put it at .*wiki.zip",
    ):
        fetch_one(file, *places)
    assert len(server.requests) == 1


def test_without_internet_the_rest_goes_on(server, places):
    good = remote(server, "wiki", make_zip(make_tree("wiki", 1)))
    lost = RemoteFile("lost", "http://127.0.0.1:9/lost.zip", page="https://example.org")
    broken = RemoteFile("broken", "htp:/broken.zip")
    deliveries = fetch_archives([lost, good, broken], *places)
    assert [delivery.folder is not None for delivery in deliveries] == [False, True, False]
    assert (
        "6 times in a row" in deliveries[0].problem
        and "internet connection" in deliveries[0].problem
    )
    assert "cannot be used" in deliveries[2].problem


@pytest.mark.parametrize(
    ("asked", "waited"),
    [("0", 0), ("7", 7), ("100000", 30), ("date", 20), ("nonsense", 0), ("-5", 0)],
)
def test_retry_after(server, places, monkeypatch, asked, waited):
    waits = []
    monkeypatch.setattr(_Progress, "wait", lambda self, seconds=0: waits.append(seconds))
    if asked == "date":
        asked = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=20), usegmt=True)
    faults = ["503"]
    server.retry_after, server.plan = asked, lambda name: faults.pop() if faults else None
    file = remote(server, "wiki", make_zip(make_tree("wiki", 1)))
    monkeypatch.setattr(transfer, "_BACKOFF", 0)
    monkeypatch.setattr(transfer, "_LONGEST_WAIT", 30)
    fetch_one(file, *places)
    assert max(waits) == pytest.approx(waited, abs=2)


# --- Disk


def test_too_little_space_is_said_before_any_request(server, places, monkeypatch):
    files = [remote(server, name, make_zip(make_tree(name, 1))) for name in ("wiki", "insight")]
    enough = 2 * max(file.num_bytes for file in files) + 100
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=enough))
    first, second = fetch_archives(files, *places)
    assert first.folder and second.folder is None and "TRUE_OR_FAKE_HOME" in second.problem
    assert {name for name, *_ in server.requests} == {"wiki.zip"}
    assert first.problem == ""


def test_space_for_a_file_of_unknown_size(server, places, monkeypatch):
    file = remote(server, "wiki", make_zip(make_tree("wiki", 1)), num_bytes=None, digest=None)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=10))
    with pytest.raises(DeliveryError, match="wiki.zip: 36,244 bytes are needed .* 10 are free"):
        fetch_one(file, *places)


@pytest.mark.parametrize(("victim", "module"), [(".part", transfer), (".jpg", archives)])
def test_full_disk_while_writing(server, places, monkeypatch, victim, module):
    file = remote(server, "wiki", make_zip(make_tree("wiki", 1)))

    def full(path, mode="r", **options):
        if str(path).endswith(victim) and "r" not in mode:
            Path(path).touch()
            raise OSError(errno.ENOSPC, "No space left on device")
        return open(path, mode, **options)

    monkeypatch.setattr(module, "open", full, raising=False)
    with pytest.raises(DeliveryError, match="is full. Make room"):
        fetch_one(file, *places)
    assert everything(places[1]) == []
    monkeypatch.undo()
    assert fetch_one(file, *places).folder


# --- What is already there


def test_reused_at_once_and_checked(server, places):
    file = remote(server, "wiki", make_zip(make_tree("wiki", 1)), expected=(("wiki/*.jpg", 12),))
    first = fetch_one(file, *places)
    assert (first.status, first.num_files, first.problem) == ("extracted", 12, "")
    assert first.num_bytes == sum(map(len, read_tree(first.folder).values()))
    num_requests = len(server.requests)
    again = fetch_one(file, *places)
    assert again.status == "already there" and again.num_bytes == first.num_bytes
    assert len(server.requests) == num_requests
    next(first.folder.rglob("*.jpg")).unlink()
    assert "11 files like wiki/*.jpg where 12 are expected" in fetch_one(file, *places).problem
    assert "11 files in all where 12 are expected" in fetch_one(file, *places).problem


def test_unexpected_counts_are_reported(server, places):
    file = remote(
        server,
        "wiki",
        make_zip(make_tree("wiki", 1)),
        expected=(("wiki/00/*.jpg", 5), ("*.csv", 0)),
    )
    for _ in range(2):  # also when reused
        delivery = fetch_one(file, *places)
        assert (
            delivery.folder
            and "4 files like wiki/00/*.jpg where 5 are expected" in delivery.problem
        )
        assert "csv" not in delivery.problem


def test_a_new_version_replaces_the_old(server, places):
    for seed in (1, 2):
        tree = make_tree("wiki", seed, 10 * seed)
        file = remote(server, "wiki", make_zip(tree))
        assert read_tree(fetch_one(file, *places).folder) == tree
    assert everything(places[1])[0] == "wiki" and len(read_tree(places[1] / "wiki")) == 20


def test_an_archive_fetched_by_hand_is_used(server, places):
    content = make_zip(make_tree("wiki", 1))
    file = remote(server, "wiki", content)
    places[0].mkdir()
    (places[0] / "wiki.zip").write_bytes(content)
    assert fetch_one(file, *places).folder and server.requests == []


def test_a_tree_put_there_by_hand_is_used_in_place(server, places):
    file = remote(server, "wiki", make_zip(make_tree("wiki", 1)), expected=(("wiki/*.jpg", 12),))
    (places[1] / "wiki" / "wiki").mkdir(parents=True)
    (places[1] / "wiki" / "wiki" / "1.jpg").write_bytes(b"mine")
    delivery = fetch_one(file, *places)
    assert (
        delivery.status == "used in place"
        and "1 files like" in delivery.problem
        and server.requests == []
    )
    assert read_tree(delivery.folder) == {"wiki/1.jpg": b"mine"}


def test_names_must_differ(places):
    with pytest.raises(ValueError, match="distinct names, one folder each; received ..a., .a.."):
        fetch_archives(
            [RemoteFile("a", "http://x/a.zip"), RemoteFile("a", "http://x/b.zip")], *places
        )


def test_interrupt_stops_all_and_keeps_the_parts(server, places, monkeypatch):
    files = [
        remote(server, name, make_zip(make_tree(name, 1, 60)))
        for name in ("wiki", "insight", "text2img")
    ]
    server.pause, at, seen = 0.001, _Progress.at, []

    def interrupted(self, file, size, total):
        at(self, file, size, total)
        seen.append(file)
        if len(seen) == 10:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(_Progress, "at", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch_archives(files, *places)
    assert not any((places[1] / file.name).exists() for file in files)
    assert any(path.suffix == ".part" for path in places[0].iterdir())
    monkeypatch.undo()
    server.pause = 0
    assert all(delivery.folder for delivery in fetch_archives(files, *places))


# --- Mirror, proxy, Kaggle


def test_mirror(server, places, monkeypatch):
    file = remote(server, "wiki", make_zip(make_tree("wiki", 1)))
    moved = RemoteFile(
        "wiki", "https://example.invalid/deep/wiki.zip?download=1", file.num_bytes, file.digest
    )
    monkeypatch.setenv(MIRROR, server.url + "/some/folder/")
    assert fetch_one(moved, *places).folder
    absent = RemoteFile("absent", "https://example.invalid/absent.zip")
    with pytest.raises(DeliveryError, match=f"unset {MIRROR}"):
        fetch_one(absent, *places)


def test_proxies_are_respected_but_not_for_oneself(server, places, monkeypatch):
    file = remote(server, "wiki", make_zip(make_tree("wiki", 1)))
    outside = RemoteFile("wiki", "http://example.invalid/wiki.zip", file.num_bytes, file.digest)
    monkeypatch.setenv("HTTP_PROXY", server.url)
    assert fetch_one(outside, *places).folder
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    own = remote(server, "insight", make_zip(make_tree("insight", 1)))
    assert fetch_one(own, *places).folder


@pytest.mark.parametrize("layout", ["faces-set", "datasets/somebody/faces-set"])
def test_mounted_kaggle_input_is_used_in_place(places, tmp_path, monkeypatch, layout):
    mounted = tmp_path / "input" / layout
    (mounted / "train" / "real").mkdir(parents=True)
    (mounted / "train" / "real" / "1.jpg").write_bytes(b"x")
    monkeypatch.setattr(fetch, "KAGGLE_INPUT", tmp_path / "input")
    expected = (("*train/real/*.jpg", 1), ("*train/fake/*.jpg", 1))
    file = RemoteFile(
        "gan140k", "http://127.0.0.1:9/x", kaggle="somebody/faces-set", expected=expected
    )
    for _ in range(2):
        delivery = fetch_one(file, *places)
        assert delivery.status == "used in place" and delivery.folder == places[1] / "gan140k"
        assert delivery.folder.is_symlink() and (delivery.folder / "train/real/1.jpg").samefile(
            mounted / "train/real/1.jpg"
        )
        assert "0 files like *train/fake/*.jpg where 1 are expected" in delivery.problem
    mounted.rename(tmp_path / "elsewhere")  # a new session without that input
    with pytest.raises(DeliveryError, match="attach somebody/faces-set with Add Input"):
        fetch_one(file, *places)


def test_a_mounted_set_that_cannot_be_linked_is_an_error(places, tmp_path, monkeypatch):
    (tmp_path / "input/faces-set").mkdir(parents=True)
    monkeypatch.setattr(fetch, "KAGGLE_INPUT", tmp_path / "input")

    def refused(*_, **__):
        raise OSError(1314, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refused)
    file = RemoteFile("gan140k", "http://127.0.0.1:9/x", kaggle="somebody/faces-set")
    with pytest.raises(DeliveryError, match="faces-set, but no link .*raw/gan140k.*Developer Mode"):
        fetch_one(file, *places)


def test_kagglehub_delivers(places, tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "1.jpg").write_bytes(b"x")
    handles = []
    hub = types.SimpleNamespace(
        dataset_download=lambda handle: handles.append(handle) or str(tmp_path / "cache")
    )
    monkeypatch.setitem(sys.modules, "kagglehub", hub)
    file = RemoteFile("gan140k", "http://127.0.0.1:9/x", kaggle="somebody/faces-set")
    assert [fetch_one(file, *places).num_files for _ in range(2)] == [1, 1] and handles == [
        "somebody/faces-set"
    ]


def test_without_kagglehub_the_public_address_or_the_steps(server, places, monkeypatch):
    tree = make_tree("train", 1)
    server.files["faces-set"] = make_zip(tree)
    file = RemoteFile("gan140k", f"{server.url}/api/faces-set", kaggle="somebody/faces-set")
    assert read_tree(fetch_one(file, *places).folder) == tree
    assert everything(places[0]) == ["faces-set.zip"]

    def refused(handle):
        raise PermissionError("please sign in")

    monkeypatch.setitem(sys.modules, "kagglehub", types.SimpleNamespace(dataset_download=refused))
    gated = RemoteFile(
        "gated", f"{server.url}/gone", kaggle="somebody/gated", page="https://example.org/m"
    )
    with pytest.raises(
        DeliveryError, match="HTTP 404.*please sign in.*https://example.org/m.*kagglehub.login"
    ):
        fetch_one(gated, *places)


# --- Copies on Hugging Face

PICTURES = [
    kind + random.Random(n).randbytes(40)
    for n, kind in enumerate([b"\xff\xd8", b"\xff\xd8", b"\x89PNG"] * 2)
]


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "HOME", tmp_path / "home")
    return dataclasses.replace(config.get_study("tiny"), name="made")


def copy_of(columns, features, folder, splits=("train", "validation", "test")):
    """The same rows as every split of a parquet folder, loaded as from the hub."""
    features = datasets.Features({"image": datasets.Image(), **features})
    images = [{"bytes": content, "path": None} for content in PICTURES]
    table = datasets.Dataset.from_dict({"image": images, **columns}, features=features)
    (folder / "data").mkdir(parents=True)
    for split in splits:
        table.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return datasets.load_dataset(
        "parquet", data_dir=str(folder / "data"), cache_dir=str(folder / "cache")
    )


@pytest.mark.parametrize(
    ("names", "flipped"), [(["real", "fake"], True), (["Fake", "Real"], False)]
)
def test_a_copy_of_the_140k_is_read_by_name(study, tmp_path, names, flipped):
    """The hub's copy has real = 0 where Kaggle has real = 1: nothing but the names decides."""
    numbers = [0, 1, 0, 1, 1, 0]
    tables = copy_of(
        {"label": numbers, "generator": numbers},
        {
            "label": datasets.ClassLabel(names=names),
            "generator": datasets.ClassLabel(names=["Real", "StyleGAN"]),
        },
        tmp_path / "hub",
    )
    delivery = copies.take_copy(study, "gan140k", tables)
    assert delivery.status == "copied" and delivery.num_files == 18 + 3
    assert (
        "other way round" in delivery.problem
    ) == flipped and "6 pictures are PNG" in delivery.problem
    records = catalog.collect(study)  # which holds the folders' names against the CSV files
    assert records.groupby(["split", "label"]).size().tolist() == [3] * 6
    for record, file in zip(records.itertuples(), catalog.files(study, records)):
        assert file.read_bytes() == PICTURES[int(file.stem)]
        assert names[numbers[int(file.stem)]].lower() == record.label == file.parent.name
    table = pd.read_csv(delivery.folder / "valid.csv")
    assert (table["label"] == (table["label_str"] == "real")).all()  # as Kaggle writes them
    expected = tuple((pattern, 3 if "/" in pattern else 1) for pattern, _ in GAN140K.expected)
    archives, raw = study.data / "archives", study.data / "raw"
    again = fetch_one(dataclasses.replace(GAN140K, expected=expected), archives, raw)
    assert again.status == "used in place" and ".csv" not in again.problem
    assert (
        f"1 files like *train/{names[0].lower()}/*.jpg where 3" in again.problem
    )  # the others are PNG


def test_a_copy_of_celeba_keeps_persons_and_attributes(study, tmp_path):
    male = [True, False, True, True, False, False]
    tables = copy_of(
        {"celeb_id": [7, 8, 7, 9, 8, 10], "Male": male, "Smiling": male[::-1]},
        {
            "celeb_id": datasets.Value("int64"),
            "Male": datasets.Value("bool"),
            "Smiling": datasets.Value("bool"),
        },
        tmp_path / "hub",
    )
    delivery = copies.take_copy(study, "celeba", tables)
    assert "partition" not in delivery.problem and "persons" not in delivery.problem
    celeba = readers.celeba(study.data / "raw")
    assert celeba.groupby("split").size().to_dict() == {"test": 6, "train": 6, "valid": 6}
    train = celeba[celeba["split"] == "train"]
    assert train["person"].tolist() == [f"celeba/{number}" for number in (7, 8, 7, 9, 8, 10)]
    assert (train["gender"] == np.where(male, "male", "female")).all()
    assert len(pd.read_csv(delivery.folder / "list_attr_celeba.csv").columns) == 3


def test_a_copy_of_pictures_only(study, tmp_path):
    tables = copy_of({}, {}, tmp_path / "hub", splits=["train"])
    delivery = copies.take_copy(study, "celeba", tables)
    assert "no partition" in delivery.problem and "no persons" in delivery.problem
    celeba = readers.celeba(study.data / "raw")
    assert len(celeba) == 6 and (celeba[["split", "person", "gender"]] == "").all(axis=None)
    with pytest.raises(DeliveryError, match="holds files already"):
        copies.take_copy(study, "celeba", tables["train"])
    shutil.rmtree(delivery.folder)
    with pytest.raises(ValueError, match="copies of gan140k and celeba; received 'wiki'"):
        copies.take_copy(study, "wiki", tables)
    with pytest.raises(ValueError, match="no pictures"):
        copies.take_copy(study, "celeba", tables["train"].select([]))
    with pytest.raises(
        ValueError, match="has the splits .'other'.; expected are train, valid, test"
    ):
        copies.take_copy(study, "celeba", {"other": tables["train"]})
    delivery.folder.symlink_to(tmp_path / "gone")  # what is left of a mounted folder
    assert copies.take_copy(study, "celeba", tables["train"]).num_files == 6


@pytest.mark.parametrize(
    ("labels", "feature", "message"),
    [
        ([0, 1] * 3, datasets.Value("int64"), "nobody knows which is which"),
        ([0, 1] * 3, datasets.ClassLabel(names=["0", "1"]), "nobody knows which is which"),
        (
            [0, 1, 0, 1, 0, None],
            datasets.ClassLabel(names=["real", "fake"]),
            "Row 5 of train has the label None",
        ),
    ],
)
def test_a_copy_whose_labels_cannot_be_told_leaves_nothing(
    study, tmp_path, labels, feature, message
):
    tables = copy_of({"label": labels}, {"label": feature}, tmp_path / "hub", splits=["train"])
    with pytest.raises(ValueError, match=message):
        copies.take_copy(study, "gan140k", tables)
    assert everything(study.data / "raw") == []


def test_a_copy_that_cannot_be_fetched(study, monkeypatch):
    def refused(name):
        raise ConnectionError(f"Couldn't reach {name}")

    monkeypatch.setattr(datasets, "load_dataset", refused)
    with pytest.raises(DeliveryError, match="flwrlabs/celeba cannot be fetched .ConnectionError"):
        copies.take_copy(study, "celeba", "flwrlabs/celeba")


def test_a_refusal_names_the_copies(places):
    lost = dataclasses.replace(CELEBA, url="http://127.0.0.1:9/x")
    with pytest.raises(
        DeliveryError, match="take_copy.study, 'celeba', 'flwrlabs/celeba'.*'nielsr/CelebA-faces'"
    ):
        fetch_one(lost, *places)


# --- Hostile and damaged archives


def patched(content, *changes):
    """Bytes with replacements of equal length."""
    for old, new in changes:
        assert old in content and len(old) == len(new)
        content = content.replace(old, new)
    return content


def zip_with_mode(name, mode):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return make_zip({info: b"/etc/passwd"})


def flagged(offset_local, offset_central, value):
    """A stored one-file zip with a 16-bit field of both headers set."""
    content = bytearray(make_zip({"a.jpg": b"content"}, zipfile.ZIP_STORED))
    struct.pack_into("<H", content, content.index(b"PK\x03\x04") + offset_local, value)
    struct.pack_into("<H", content, content.index(b"PK\x01\x02") + offset_central, value)
    return bytes(content)


NAMES = {
    "climbs out": "../evil.txt",
    "climbs out later": "a/../../evil.txt",
    "absolute": "/evil.txt",
    "drive": "C:/evil.txt",
    "drive without slash": "C:evil.txt",
    "backslashes": "a\\..\\..\\evil.txt",
    "share": "\\\\host\\share\\evil.txt",
    "stream": "a.jpg:evil",
    "control character": "evil\n.txt",
    "device name": "a/NUL.txt",
    "trailing dot": "evil.",
    "long part": "a" * 300,
    "long path": "/".join(["a" * 200] * 7),
    "deep": "a/" * 40 + "b",
    "the marker": ".complete.json",
}
HOSTILE = {f"zip: {kind}": make_zip({name: b"evil"}) for kind, name in NAMES.items()}
HOSTILE |= {f"tar: {kind}": make_tar({name: b"evil"}) for kind, name in NAMES.items()}
HOSTILE |= {
    "zip: NUL": patched(make_zip({"good.jpgX../evil": b"evil"}), (b"good.jpgX", b"good.jpg\0")),
    "zip: link": zip_with_mode("link", stat.S_IFLNK | 0o777),
    "zip: fifo": zip_with_mode("fifo", stat.S_IFIFO | 0o644),
    "zip: device": zip_with_mode("device", stat.S_IFCHR | 0o644),
    "zip: case trick": make_zip({"a/B.jpg": b"1", "A/b.jpg": b"2"}),
    "zip: accent trick": make_zip({"\u00e9.jpg": b"1", "e\u0301.jpg": b"2"}),
    "zip: twice": patched(make_zip({"a1": b"1", "a2": b"2"}), (b"a2", b"a1")),
    "zip: file is folder": make_zip({"a": b"1", "a/b": b"2"}),
    "zip: folder is file": make_zip({"a/b": b"2", "a": b"1"}),
    "zip: encrypted": flagged(6, 8, 0x1),
    "zip: unknown compression": flagged(8, 10, 99),
    "zip: expands too far": make_zip({"a": bytes(2_000_000)}),
    "zip: too many": make_zip({str(i): b"" for i in range(200)}),
    "zip: wrong checksum": patched(
        make_zip({"a": b"content"}, zipfile.ZIP_STORED), (b"content", b"contend")
    ),
    "zip: understated size": patched(
        make_zip({"a": bytes(50_000)}), (struct.pack("<I", 50_000), struct.pack("<I", 10))
    ),
    "zip: overstated size": patched(
        make_zip({"a": bytes(1000)}), (struct.pack("<I", 1000), struct.pack("<I", 9000))
    ),
    "zip: truncated": make_zip(make_tree("a", 1))[:-30],
    "zip: a web page": b"<html>Please sign in</html>",
    "tar: link": make_tar([(tar_info("link", tarfile.SYMTYPE, "/etc"), b"")]),
    "tar: through a link": make_tar(
        [(tar_info("a", tarfile.SYMTYPE, "../.."), b""), (tar_info("a/evil", size=4), b"evil")]
    ),
    "tar: hard link": make_tar([(tar_info("link", tarfile.LNKTYPE, "/etc/passwd"), b"")]),
    "tar: fifo": make_tar([(tar_info("fifo", tarfile.FIFOTYPE), b"")]),
    "tar: device": make_tar([(tar_info("device", tarfile.CHRTYPE), b"")]),
    "tar: twice": make_tar([(tar_info("a", size=1), b"1"), (tar_info("./a", size=1), b"2")]),
    "tar: file is folder": make_tar({"a": b"1", "a/b": b"2"}),
    "tar: no name": make_tar({".": b"1"}),
    "tar: expands too far": make_tar({"a": bytes(600_000), "b": bytes(600_000)}),
    "tar: too many": make_tar([(tar_info(str(i), tarfile.DIRTYPE), b"") for i in range(200)]),
    "tar: truncated": make_tar(make_tree("a", 1))[:9000],
    "tar: damaged header": patched(make_tar({"a": b"1", "bbbb": b"2"}), (b"bbbb\0", b"cccc\0")),
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
    with pytest.raises(DeliveryError, match="refused|damaged|only these"):
        extract(archive, archive.parent / "tree")
    assert everything(tmp_path) == before
    assert not Path("/evil.txt").exists()


def test_a_hostile_download_leaves_the_older_tree(server, places):
    tree = make_tree("wiki", 1)
    fetch_one(remote(server, "wiki", make_zip(tree)), *places)
    evil = remote(server, "wiki", make_zip({"../evil": b""}))
    [delivery] = fetch_archives([evil], *places)
    assert delivery.folder is None and "leads out of its folder" in delivery.problem
    assert read_tree(places[1] / "wiki") == tree and not (places[1] / "evil").exists()


def test_damaged_anywhere(many_files, small_limits):
    """Bytes changed at random, no known hash: the tree is complete or absent."""
    chance, tree = random.Random(3), make_tree("a", 1, 5)
    results = {"whole": 0, "refused": 0}
    for suffix, content in ((".zip", make_zip(tree)), (".tar", make_tar(tree))):
        archive = many_files / f"archive{suffix}"
        for _ in range(60):
            damaged = bytearray(content)
            headers = [i for i in range(len(content)) if content[i : i + 2] in (b"PK", b"a/")]
            for _ in range(chance.randint(1, 3)):
                place = (
                    chance.choice(headers) + chance.randint(0, 60)
                    if chance.random() < 0.7
                    else chance.randrange(10**9)
                )
                damaged[place % len(content)] = chance.randrange(256)
            archive.write_bytes(damaged)
            try:
                extract(archive, many_files / "tree")
                results["whole"] += 1
                assert (many_files / "tree" / MARKER).exists()
            except DeliveryError:
                results["refused"] += 1
            shutil.rmtree(many_files / "tree", ignore_errors=True)
            assert everything(many_files) in ([archive.name], ["archive.tar", "archive.zip"])
    assert results["refused"] > 40, results


def test_harmless_oddities_are_extracted(tmp_path):
    """Folders of their own, a leading ./, empty files, names that are not ASCII."""
    members = [(tar_info("./", tarfile.DIRTYPE), b""), (tar_info("./a", tarfile.DIRTYPE), b"")]
    members += [(tar_info("./a/é.jpg", size=1), b"1"), (tar_info("a/empty"), b"")]
    (tmp_path / "x.tar").write_bytes(make_tar(members))
    (tmp_path / "x.zip").write_bytes(make_zip({"a/": b"", "a/é.jpg": b"1", "a/empty": b""}))
    for name in ("x.tar", "x.zip"):
        extract(tmp_path / name, tmp_path / "tree")
        assert read_tree(tmp_path / "tree") == {"a/é.jpg": b"1", "a/empty": b""}
        marker = json.loads((tmp_path / "tree" / MARKER).read_text())
        assert marker["num_files"] == 2 and marker["digest"] == digest_of(tmp_path / name)


# --- Killed processes, two processes

# Imports the module once and forks a child for each order, so that a kill costs milliseconds.
# `kill_at` n: the child kills itself at its n-th operation on files, and so passes every state in
# which a process can die.
CHILD = """
import json, os, signal, sys
from pathlib import Path
from src.data import fetch, sources, transfer
fetch.KAGGLE_INPUT, transfer._BACKOFF, transfer._CHUNK_BYTES = Path("none"), 0.001, 512
for line in sys.stdin:
    order = json.loads(line)
    children = []
    for _ in range(order["num_children"]):
        children.append(os.fork())
        if not children[-1]:
            events = 0
            def count(event, arguments):
                global events
                opens = event == "open" and order["home"] in str(arguments[0])
                if event.startswith(("os.", "shutil.", "fcntl.")) or opens:
                    events += 1
                    if events == order["kill_at"]:
                        os.kill(os.getpid(), signal.SIGKILL)
            sys.addaudithook(count)
            code = 255
            try:
                home, file = Path(order["home"]), sources.RemoteFile(**order["file"])
                [delivery] = fetch.fetch_archives([file], home / "archives", home / "raw")
                code = min(events, 254) if delivery.folder else 255
            finally:
                os._exit(code)
    print(json.dumps(children), flush=True)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    print(json.dumps(statuses), flush=True)
"""


class Children:
    """Fetches one file in processes of their own."""

    def __init__(self):
        command = [sys.executable, "-c", CHILD]
        self.parent = subprocess.Popen(
            command, cwd=config.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def fetch(self, file, home, *, num_children=1, kill_at=0, kill_after=None):
        """Exit codes: the number of operations on files, −9 if killed."""
        fields = {name: getattr(file, name) for name in ("name", "url", "num_bytes", "digest")}
        order = {
            "file": fields,
            "home": str(home),
            "num_children": num_children,
            "kill_at": kill_at,
        }
        self.parent.stdin.write(json.dumps(order) + "\n")
        self.parent.stdin.flush()
        pids = json.loads(self.parent.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(pids[0], signal.SIGKILL)
        return json.loads(self.parent.stdout.readline())


@pytest.fixture(scope="module")
def children():
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    running = Children()
    yield running
    running.parent.stdin.close()
    running.parent.wait(10)


def check_after_kill(file, trees, home):
    """Final names are absent or whole; a clean fetch completes whatever was left behind."""
    if (home / "raw" / file.name).exists():
        assert read_tree(home / "raw" / file.name) in trees
        assert (home / "raw" / file.name / MARKER).exists()
    if (home / "archives" / file.archive).exists():
        assert digest_of(home / "archives" / file.archive) == file.digest
    delivery = fetch_one(file, home / "archives", home / "raw")
    assert read_tree(delivery.folder) == trees[-1] and delivery.problem == ""
    left = [path for path in everything(home / "archives") if not path.startswith(".")]
    assert left == [file.archive]
    assert {path.name for path in (home / "raw").iterdir()} == {file.name, ".lock"}


@pytest.mark.parametrize(("archive", "make"), [("wiki.zip", make_zip), ("wiki.tar", make_tar)])
def test_killed_at_every_operation(children, server, many_files, archive, make):
    """Before each operation on files, of download, extraction and replacement of an older tree."""
    old, tree = make_tree("wiki", 1, 3), make_tree("wiki", 2, 6)
    old_file, file = (
        remote(server, "wiki", make(old), archive),
        remote(server, "wiki", make(tree), archive),
    )
    [num_operations] = children.fetch(file, many_files / "clean")
    assert 40 < num_operations < 250
    for kill_at in range(1, num_operations + 1, 1 if archive == "wiki.zip" else 4):
        home, older = many_files / str(kill_at), kill_at % 2 == 1
        if older:
            server.files[archive] = make(old)
            fetch_one(old_file, home / "archives", home / "raw")
            (home / "archives" / archive).unlink()
            server.files[archive] = make(tree)
        assert children.fetch(file, home, kill_at=kill_at) == [-signal.SIGKILL]
        check_after_kill(file, [old, tree] if older else [tree], home)


def test_killed_at_random_moments_of_a_download(children, server, many_files):
    tree = make_tree("wiki", 1, 20)
    file, chance = remote(server, "wiki", make_zip(tree)), random.Random(5)
    resumed = 0
    for trial in range(20):
        server.pause = 0.002
        children.fetch(file, many_files / str(trial), kill_after=chance.uniform(0.01, 0.1))
        server.pause = 0
        check_after_kill(file, [tree], many_files / str(trial))
        resumed += server.requests[-1][1] != ""
    assert resumed >= 5


def test_processes_and_threads_at_once(children, server, tmp_path, places):
    tree = make_tree("wiki", 1, 20)
    content = make_zip(tree)
    file = remote(server, "wiki", content)
    server.pause = 0.001
    assert 0 < min(children.fetch(file, tmp_path / "home", num_children=3))
    assert server.num_bytes == len(content)  # one fetched it, the others waited
    check_after_kill(file, [tree], tmp_path / "home")
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(fetch_one(file, *places))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = sorted(result.status for result in results)
    assert statuses == ["already there", "already there", "extracted"]
    assert server.num_bytes == 2 * len(content)


def test_everything_that_requests_raises_is_caught(server, places, monkeypatch):
    """No exception of the HTTP library leaves `fetch_one`."""
    file = remote(server, "wiki", b"x")
    for error in (
        requests.ConnectionError,
        requests.ReadTimeout,
        requests.TooManyRedirects,
        requests.exceptions.SSLError,
    ):

        def fail(*_, error=error, **__):
            raise error("no")

        monkeypatch.setattr(requests.Session, "get", fail)
        with pytest.raises(DeliveryError, match=error.__name__):
            fetch_one(file, *places)
