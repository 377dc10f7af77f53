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
import time
import types
import zipfile
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
from faulty_server import PERMANENT, TRANSIENT, FaultyServer

from src import config
from src.data import archives, catalog, copies, readers, transfer
from src.data.archives import MARKER, extract
from src.data.fetch import _Progress, fetch_archives
from src.data.sources import CELEBA, GAN140K, MIRROR, SOURCES, RemoteFile
from src.files import DeliveryError, digest_of

HASTY = {"_TIMEOUTS": (2, 0.15), "_BACKOFF": 0.001, "_LONGEST_WAIT": 0.01, "_CHUNK_BYTES": 512}
UNKNOWN = {"num_bytes": None, "digest": None}  # what no publisher says of a file


def make_tree(name, seed=1, num_files=12):
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
            info = zipfile.ZipInfo(path) if isinstance(path, str) else path
            archive.writestr(info, content, compression)
    return target.getvalue()


def make_tar(*members, tree=None):
    """From a tree, or from triples: name, content or target of a link, type."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content, kind in members or [(*file, tarfile.REGTYPE) for file in tree.items()]:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.linkname, content = content, b""
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
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


def read_tree(folder):
    """Relative path → content of an extracted folder, without its marker."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MARKER)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def everything(folder):
    """All paths below a folder except locks."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return sorted(path for path in paths if not path.endswith(".lock"))


@pytest.fixture(autouse=True)
def no_kaggle(monkeypatch):
    """No test waits long, or sees the Kaggle, the mirror or the proxy of the machine it runs on."""
    for name, value in HASTY.items():
        monkeypatch.setattr(transfer, name, value)
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    for name in (MIRROR, *(f"{kind}_PROXY" for kind in ("HTTP", "HTTPS", "ALL", "NO"))):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def many_files():
    """A folder for thousands of files, in memory where the system has such a folder."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def server():
    with FaultyServer() as running:
        yield running


@pytest.fixture
def places(tmp_path):
    return tmp_path / "archives", tmp_path / "raw"


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
    """Each delivery is complete or absent with a reason, and an honest server mends them all."""
    chance, deck, quiet, outcomes = random.Random(7), [], False, {"whole": 0, "failed": 0}
    names = ("wiki", "inpainting", "insight", "wiki_crop")
    trees = {name: make_tree(name, seed) for seed, name in enumerate(names)}

    def plan(name):
        if quiet or chance.random() < 0.2:
            return ""
        if not deck:
            deck.extend([*PERMANENT, *TRANSIENT * 4])
            chance.shuffle(deck)
        return deck.pop()

    server.plan, server.randint = plan, chance.randint
    files = [remote(server, name, make_zip(trees[name])) for name in names[:3]]
    tar = make_tar(tree=trees["wiki_crop"])
    files.append(remote(server, "wiki_crop", tar, "wiki_crop.tar", "md5", num_bytes=None))
    for trial in range(34):
        archives, raw = many_files / f"{trial}/archives", many_files / f"{trial}/raw"
        for quiet in (False, True):
            for file, delivery in zip(files, fetch_archives(files, archives, raw), strict=True):
                archive = archives / file.archive
                if delivery.folder:
                    assert delivery.problem == ""
                    assert read_tree(delivery.folder) == trees[file.name]
                    assert archive.read_bytes() == server.files[file.archive]
                    outcomes["whole"] += not quiet
                else:
                    assert not quiet and delivery.problem.startswith(file.name), delivery.problem
                    assert str(archives) in delivery.problem
                    assert not (raw / file.name).exists() and not archive.exists()
                    outcomes["failed"] += 1
        assert everything(archives) == sorted(file.archive for file in files)
    faults = [fault for *_, fault in server.requests if fault]
    assert len(faults) >= 200 and set(faults) == {*TRANSIENT, *PERMANENT}
    assert outcomes["whole"] >= 20 and outcomes["failed"] >= 5, outcomes


@pytest.mark.parametrize(
    ("faults", "known"),
    [*(([fault], {}) for fault in TRANSIENT)]
    + [
        (["cut", "ignore_range"], {}),
        (["cut", "wrong_range"], {}),
        (["cut", "wrong_range"], UNKNOWN),
    ],
)
def test_one_fault_of_each_kind(server, places, faults, known):
    """One fault, then honest answers: the file arrives, also where no hash would tell."""
    server.faults = list(faults)
    assert read_tree(fetch_one(remote(server, **known), *places).folder) == TREE
    assert not server.faults


def test_going_on_asks_only_for_the_rest(server, places):
    server.faults = ["cut"] * 4
    fetch_one(remote(server), *places)
    assert [wanted != "" for _, wanted, _ in server.requests] == [False, True, True, True, True]
    assert server.num_bytes < len(ZIP) + 4 * transfer._CHUNK_BYTES


def test_a_changed_file_is_not_glued_together(server, places, monkeypatch):
    """The first half of one version is never continued with the second half of another."""
    file = remote(server, "wiki", make_tar(tree=TREE), "wiki.tar", **UNKNOWN)
    server.faults, new = ["cut"], make_tree("wiki", 2)
    with monkeypatch.context() as impatient, pytest.raises(DeliveryError, match="1 times in a row"):
        impatient.setattr(transfer, "_NUM_ATTEMPTS", 1)
        fetch_one(file, *places)
    server.files["wiki.tar"] = make_tar(tree=new)
    assert read_tree(fetch_one(file, *places).folder) == new
    assert server.requests[-1][1].startswith("bytes=")


@pytest.mark.parametrize(
    ("fault", "words", "num_requests"),
    [(fault, f"refuses the file: HTTP {fault}", 1) for fault in PERMANENT]
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
def test_retry_after(server, places, monkeypatch, asked, waited):
    waits = []
    monkeypatch.setattr(_Progress, "wait", lambda self, seconds=0: waits.append(seconds))
    if asked == "date":
        asked = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=20), usegmt=True)
    server.retry_after, server.faults = asked, ["503"]
    monkeypatch.setattr(transfer, "_BACKOFF", 0)
    monkeypatch.setattr(transfer, "_LONGEST_WAIT", 30)
    fetch_one(remote(server), *places)
    assert max(waits) == pytest.approx(waited, abs=2)


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


def test_space_for_a_file_of_unknown_size(server, places, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=10))
    with pytest.raises(DeliveryError, match="wiki.zip: 36,244 bytes are needed .* 10 are free"):
        fetch_one(remote(server, **UNKNOWN), *places)


@pytest.mark.parametrize(("victim", "module"), [(".part", transfer), (".jpg", archives)])
def test_full_disk_while_writing(server, places, monkeypatch, victim, module):
    def full(path, mode="r", **options):
        if str(path).endswith(victim) and "r" not in mode:
            Path(path).touch()
            raise OSError(errno.ENOSPC, "No space left on device")
        return open(path, mode, **options)

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


def test_interrupt_stops_all_and_keeps_the_parts(server, places, monkeypatch):
    names, at, seen = ("wiki", "insight", "text2img"), _Progress.at, []
    files = [remote(server, name, make_zip(make_tree(name, 1, 60))) for name in names]
    server.pause = 0.001

    def interrupted(self, file, size, total):
        at(self, file, size, total)
        seen.append(file)
        if len(seen) == 4:
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


ON_KAGGLE = RemoteFile(
    "gan140k", "faces-set.zip", "http://127.0.0.1:9/x", kaggle="somebody/faces-set"
)


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    """A dataset as `kagglehub` delivers it."""
    folder = tmp_path / "input" / "faces-set"
    (folder / "train" / "real").mkdir(parents=True)
    (folder / "train" / "real" / "1.jpg").write_bytes(b"x")
    folders = {"somebody/faces-set": str(folder)}
    hub = types.SimpleNamespace(dataset_download=folders.pop)  # it is asked once
    monkeypatch.setitem(sys.modules, "kagglehub", hub)
    return folder


def test_what_kagglehub_delivers_is_used_in_place(places, tmp_path, mounted):
    expected = (("*train/real/*.jpg", 1), ("*train/fake/*.jpg", 1))
    file = dataclasses.replace(ON_KAGGLE, expected=expected)
    for _ in range(2):
        delivery = fetch_one(file, *places)
        assert delivery.status == "used in place" and delivery.folder == places[1] / "gan140k"
        assert delivery.folder.is_symlink() and delivery.folder.samefile(mounted)
        assert "holds 0 files like *train/fake/*.jpg where 1 are expected. D" in delivery.problem
    mounted.rename(tmp_path / "elsewhere")  # a new session without that input
    with pytest.raises(DeliveryError, match="attach somebody/faces-set by Add Input"):
        fetch_one(file, *places)


def test_a_folder_that_cannot_be_linked_is_an_error(places, mounted, monkeypatch):
    def refused(*_, **__):
        raise OSError(1314, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refused)
    with pytest.raises(DeliveryError, match="faces-set, but no link .*raw/gan140k.*Developer Mode"):
        fetch_one(ON_KAGGLE, *places)


def test_without_kagglehub_the_public_address_or_the_steps(server, places, monkeypatch):
    server.files["faces-set"] = ZIP
    file = dataclasses.replace(ON_KAGGLE, url=f"{server.url}/api/faces-set")
    assert read_tree(fetch_one(file, *places).folder) == TREE
    assert everything(places[0]) == ["faces-set.zip"]

    def refused(handle):
        raise PermissionError("please sign in")

    monkeypatch.setitem(sys.modules, "kagglehub", types.SimpleNamespace(dataset_download=refused))
    url, page = f"{server.url}/gone", "https://example.org/m"
    gated = dataclasses.replace(CELEBA, name="gated", url=url, page=page)
    steps = f"HTTP 404.*please sign in.*{page}.*kagglehub.login"
    copy = "take_copy.study, 'gated', 'flwrlabs/celeba'.*'nielsr/CelebA-faces'"
    with pytest.raises(DeliveryError, match=f"{steps}.*{copy}"):
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


def copy_of(folder, splits=("train", "validation", "test"), **columns):
    """The same rows as every split of a parquet folder, from `name=(values, type)`."""
    features = {name: feature for name, (_, feature) in columns.items()}
    values = {name: values for name, (values, _) in columns.items()}
    values["image"] = [{"bytes": content, "path": None} for content in PICTURES]
    features = datasets.Features({"image": datasets.Image(), **features})
    table = datasets.Dataset.from_dict(values, features=features)
    (folder / "hub").mkdir()
    for split in splits:
        table.to_parquet(folder / "hub" / f"{split}-00000-of-00001.parquet")
    cache = str(folder / "cache")
    return datasets.load_dataset("parquet", data_dir=str(folder / "hub"), cache_dir=cache)


@pytest.mark.parametrize(
    ("names", "flipped"), [(["real", "fake"], True), (["Fake", "Real"], False)]
)
def test_a_copy_of_the_140k_is_read_by_name(study, tmp_path, names, flipped):
    """The hub's copy has real = 0 where Kaggle has real = 1: nothing but the names decides."""
    numbers = [0, 1, 0, 1, 1, 0]
    tables = copy_of(
        tmp_path,
        label=(numbers, datasets.ClassLabel(names=names)),
        generator=(numbers, datasets.ClassLabel(names=["Real", "StyleGAN"])),
    )
    delivery = copies.take_copy(study, "gan140k", tables)
    assert delivery.status == "copied" and delivery.num_files == 18 + 3
    assert ("other way round" in delivery.problem) == flipped
    assert "6 pictures are PNG" in delivery.problem
    records = catalog.collect(study)  # which holds the folders' names against the CSV files
    assert records.groupby(["split", "label"]).size().tolist() == [3] * 6
    for record, file in zip(records.itertuples(), catalog.files(study, records)):
        assert file.read_bytes() == PICTURES[int(file.stem)]
        assert names[numbers[int(file.stem)]].lower() == record.label == file.parent.name
    table = pd.read_csv(delivery.folder / "valid.csv")
    assert (table["label"] == (table["label_str"] == "real")).all()  # as Kaggle writes them
    expected = tuple((pattern, 3 if "/" in pattern else 1) for pattern, _ in GAN140K.expected)
    file = dataclasses.replace(GAN140K, expected=expected)
    again = fetch_one(file, study.data / "archives", study.data / "raw")
    assert again.status == "used in place" and ".csv" not in again.problem
    pattern = f"*train/{names[0].lower()}/*.jpg"
    assert f"1 files like {pattern} where 3" in again.problem  # the others are PNG


def test_a_copy_of_celeba_keeps_persons_and_attributes(study, tmp_path):
    male, persons = [True, False, True, True, False, False], [7, 8, 7, 9, 8, 10]
    known = {"Male": (male, datasets.Value("bool")), "Smiling": (male, datasets.Value("bool"))}
    known["celeb_id"] = (persons, datasets.Value("int64"))
    delivery = copies.take_copy(study, "celeba", copy_of(tmp_path, **known))
    assert "partition" not in delivery.problem and "persons" not in delivery.problem
    celeba = readers.celeba(study.data / "raw")
    assert celeba.groupby("split").size().to_dict() == {"test": 6, "train": 6, "valid": 6}
    train = celeba[celeba["split"] == "train"]
    assert train["person"].tolist() == [f"celeba/{number}" for number in persons]
    assert (train["gender"] == np.where(male, "male", "female")).all()
    assert len(pd.read_csv(delivery.folder / "list_attr_celeba.csv").columns) == 3


def test_a_copy_of_pictures_only(study, tmp_path):
    tables = copy_of(tmp_path, ["train"])
    delivery = copies.take_copy(study, "celeba", tables)
    assert "no partition" in delivery.problem and "no persons" in delivery.problem
    celeba = readers.celeba(study.data / "raw")
    assert len(celeba) == 6 and (celeba[["split", "person", "gender"]] == "").all(axis=None)
    with pytest.raises(DeliveryError, match="holds files already"):
        copies.take_copy(study, "celeba", tables["train"])
    shutil.rmtree(delivery.folder)
    delivery.folder.symlink_to(tmp_path / "gone")  # what is left of a mounted folder
    assert copies.take_copy(study, "celeba", tables["train"]).num_files == 6


def test_copies_that_cannot_be_taken(study, tmp_path, monkeypatch):
    def refused(name):
        raise ConnectionError(f"Couldn't reach {name}")

    monkeypatch.setattr(datasets, "load_dataset", refused)
    with pytest.raises(DeliveryError, match="flwrlabs/celeba cannot be fetched .ConnectionError"):
        copies.take_copy(study, "celeba", "flwrlabs/celeba")
    with pytest.raises(ValueError, match="copies of gan140k and celeba; received 'wiki'"):
        copies.take_copy(study, "wiki", None)
    table = datasets.Dataset.from_dict({"image": []})
    with pytest.raises(ValueError, match="splits .'other'.; expected are train, valid, test"):
        copies.take_copy(study, "celeba", {"other": table})


@pytest.mark.parametrize(
    ("labels", "feature", "message"),
    [
        ([0, 1] * 3, datasets.Value("int64"), "must be a ClassLabel with the names 'real'"),
        ([0, 1] * 3, datasets.ClassLabel(names=["0", "1"]), "must be a ClassLabel with the names"),
        ([0] * 5 + [None], datasets.ClassLabel(names=["real", "fake"]), "Row 5 .* label None"),
    ],
)
def test_a_copy_whose_labels_cannot_be_told_leaves_nothing(
    study, tmp_path, labels, feature, message
):
    tables = copy_of(tmp_path, ["train"], label=(labels, feature))
    with pytest.raises(ValueError, match=message):
        copies.take_copy(study, "gan140k", tables)
    assert everything(study.data / "raw") == []


# --- Hostile and damaged archives


def patched(content, old, new):
    """Bytes with a replacement of equal length."""
    assert old in content and len(old) == len(new)
    return content.replace(old, new)


def of_size(content, size, told):
    """A zip of one member that tells another size than it has."""
    return patched(make_zip({"a": content}), struct.pack("<I", size), struct.pack("<I", told))


def zip_with_mode(mode):
    info = zipfile.ZipInfo("name")
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
TREES = {
    "case trick": {"a/B.jpg": b"1", "A/b.jpg": b"2"},
    "accent trick": {"\u00e9.jpg": b"1", "e\u0301.jpg": b"2"},
    "file is folder": {"a": b"1", "a/b": b"2"},
    "folder is file": {"a/b": b"2", "a": b"1"},
    "expands too far": {"a": bytes(600_000), "b": bytes(600_000)},
    "too many": {str(i): b"" for i in range(200)},
} | {kind: {name: b"evil"} for kind, name in NAMES.items()}
HOSTILE = {f"zip: {kind}": make_zip(tree) for kind, tree in TREES.items()}
HOSTILE |= {f"tar: {kind}": make_tar(tree=tree) for kind, tree in TREES.items()}
HOSTILE |= {
    "zip: NUL": patched(make_zip({"good.jpgX../evil": b"evil"}), b"good.jpgX", b"good.jpg\0"),
    "zip: link": zip_with_mode(stat.S_IFLNK | 0o777),
    "zip: fifo": zip_with_mode(stat.S_IFIFO | 0o644),
    "zip: device": zip_with_mode(stat.S_IFCHR | 0o644),
    "zip: twice": patched(make_zip({"a1": b"1", "a2": b"2"}), b"a2", b"a1"),
    "zip: encrypted": flagged(6, 8, 0x1),
    "zip: unknown compression": flagged(8, 10, 99),
    "zip: wrong checksum": patched(flagged(6, 8, 0), b"content", b"contend"),
    "zip: understated size": of_size(bytes(50_000), 50_000, 10),
    "zip: overstated size": of_size(bytes(1000), 1000, 9000),
    "zip: truncated": ZIP[:-30],
    "zip: a web page": b"<html>Please sign in</html>",
    "tar: link": make_tar(("link", "/etc", tarfile.SYMTYPE)),
    "tar: through a link": make_tar(
        ("a", "../..", tarfile.SYMTYPE), ("a/evil", b"evil", tarfile.REGTYPE)
    ),
    "tar: hard link": make_tar(("link", "/etc/passwd", tarfile.LNKTYPE)),
    "tar: fifo": make_tar(("fifo", b"", tarfile.FIFOTYPE)),
    "tar: device": make_tar(("device", b"", tarfile.CHRTYPE)),
    "tar: twice": make_tar(tree={"a": b"1", "./a": b"2"}),
    "tar: no name": make_tar(tree={".": b"1"}),
    "tar: too many folders": make_tar(*((str(i), b"", tarfile.DIRTYPE) for i in range(200))),
    "tar: truncated": make_tar(tree=TREE)[:9000],
    "tar: damaged header": patched(make_tar(tree={"a": b"1", "bb": b"2"}), b"bb\0", b"cc\0"),
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


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_damaged_anywhere(many_files, small_limits, suffix):
    """Bytes changed at random, no known hash: the tree is complete or absent."""
    chance, tree, num_refused = random.Random(3), make_tree("a", 1, 5), 0
    content = make_zip(tree) if suffix == ".zip" else make_tar(tree=tree)
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
    assert num_refused > 20


def test_harmless_oddities_are_extracted(tmp_path):
    """Folders, a leading ./, empty files, names that are not ASCII or differ only in case."""
    tree = {"a/1.jpg": b"2", "a/é.jpg": b"1", "a/empty": b""}
    members = {name.replace("a/1", "A/1"): content for name, content in tree.items()}
    files = [(f"./{name}", content, tarfile.REGTYPE) for name, content in members.items()]
    folders = [("./", b"", tarfile.DIRTYPE), ("./a", b"", tarfile.DIRTYPE)]
    (tmp_path / "x.tar").write_bytes(make_tar(*folders, *files))
    (tmp_path / "x.zip").write_bytes(make_zip({"a/": b""} | members))
    for name in ("x.tar", "x.zip"):
        extract(tmp_path / name, tmp_path / "tree")
        found = read_tree(tmp_path / "tree")  # macOS merges the folders "A" and "a"
        assert {name.lower(): content for name, content in found.items()} == tree
        marker = json.loads((tmp_path / "tree" / MARKER).read_text())
        assert marker["num_files"] == 3 and marker["digest"] == digest_of(tmp_path / name)


# --- Killed processes, two processes

# Imports the module once and forks a child for each order, so that a kill costs milliseconds.
# `kill_at` n: the child kills itself at its n-th operation on files, and so passes every state in
# which a process can die.
CHILD = """
import json, os, signal, sys
from pathlib import Path
from src.data import fetch, sources, transfer
transfer._BACKOFF, transfer._CHUNK_BYTES = 0.001, 512
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


@pytest.fixture(scope="module")
def fetch_in_child():
    """Fetches one file in processes of their own."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    parent = subprocess.Popen([sys.executable, "-c", CHILD], cwd=config.ROOT, **pipes)

    def fetch(file, home, *, num_children=1, kill_at=0, kill_after=None):
        """Exit codes: the number of operations on files, −9 if killed."""
        order = {"file": dataclasses.asdict(file), "home": str(home)}
        order |= {"num_children": num_children, "kill_at": kill_at}
        parent.stdin.write(json.dumps(order) + "\n")
        parent.stdin.flush()
        pids = json.loads(parent.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(pids[0], signal.SIGKILL)
        return json.loads(parent.stdout.readline())

    yield fetch
    parent.stdin.close()
    parent.wait(10)


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


@pytest.mark.parametrize(("archive", "step"), [("wiki.zip", 1), ("wiki.tar", 4)])
def test_killed_at_every_operation(fetch_in_child, server, many_files, archive, step):
    """Before each operation on files, of download, extraction and replacement of an older tree."""
    old, tree = make_tree("wiki", 1, 3), make_tree("wiki", 2, 6)
    old_content, content = (
        make_zip(tree) if archive == "wiki.zip" else make_tar(tree=tree) for tree in (old, tree)
    )
    old_file, file = (remote(server, "wiki", made, archive) for made in (old_content, content))
    [num_operations] = fetch_in_child(file, many_files / "clean")
    assert 40 < num_operations < 250
    for kill_at in range(1, num_operations + 1, step):
        home, older = many_files / str(kill_at), kill_at % 2 == 1
        if older:
            server.files[archive] = old_content
            fetch_one(old_file, home / "archives", home / "raw")
            (home / "archives" / archive).unlink()
            server.files[archive] = content
        assert fetch_in_child(file, home, kill_at=kill_at) == [-signal.SIGKILL]
        check_after_kill(file, [old, tree] if older else [tree], home)


def test_killed_at_random_moments_of_a_download(fetch_in_child, server, many_files):
    tree, chance, num_resumed = make_tree("wiki", 1, 20), random.Random(5), 0
    file = remote(server, "wiki", make_zip(tree))
    for trial in range(20):
        server.pause = 0.002
        fetch_in_child(file, many_files / str(trial), kill_after=chance.uniform(0.01, 0.1))
        server.pause = 0
        check_after_kill(file, [tree], many_files / str(trial))
        num_resumed += server.requests[-1][1] != ""
    assert num_resumed >= 5


def test_processes_and_threads_at_once(fetch_in_child, server, tmp_path, places):
    """One fetches it, the others wait."""
    file, server.pause = remote(server), 0.001
    assert 0 < min(fetch_in_child(file, tmp_path / "home", num_children=3))
    assert server.num_bytes == len(ZIP)
    check_after_kill(file, [TREE], tmp_path / "home")
    with ThreadPoolExecutor(3) as pool:
        results = [pool.submit(fetch_one, file, *places) for _ in range(3)]
    statuses = sorted(result.result().status for result in results)
    assert statuses == ["already there", "already there", "extracted"]
    assert server.num_bytes == 2 * len(ZIP)
