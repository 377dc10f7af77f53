"""Files that appear whole or not at all, free space, and errors that say what to do."""

import errno
import hashlib
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from src import files
from src.files import DiskFull, read_json, write_atomically


def test_a_file_is_replaced_whole_or_stays(tmp_path):
    path = tmp_path / "new folder" / "table.csv"
    assert write_atomically(path, lambda temporary: temporary.write_text("old")) == path

    def fail(temporary):
        assert temporary.suffix == ".csv" and path.read_text() == "old"
        temporary.write_text("half")
        raise OSError("the writer fails")

    with pytest.raises(OSError, match="the writer fails"):
        write_atomically(path, fail)
    assert list(path.parent.iterdir()) == [path] and path.read_text() == "old"
    write_atomically(path, lambda temporary: temporary.write_text("new"))
    assert list(path.parent.iterdir()) == [path] and path.read_text() == "new"


def test_json_comes_back_and_a_damaged_file_is_none(tmp_path):
    path = tmp_path / "card.json"
    assert read_json(path) is None
    files.write_json(path, {"name": "été", "values": [1, 0.5, None]})
    assert read_json(path) == {"name": "été", "values": [1, 0.5, None]}
    assert path.read_text().endswith("}\n")
    path.write_text('{"name": ')
    assert read_json(path) is None and read_json(path / "below a file") is None
    with pytest.raises(IsADirectoryError):
        read_json(tmp_path)


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_digest_is_hashlibs(tmp_path, algorithm):
    contents = bytes(range(256)) * 10_000  # several chunks
    (tmp_path / "a").write_bytes(contents)
    expected = f"{algorithm}:{hashlib.new(algorithm, contents).hexdigest()}"
    assert files.digest_of(tmp_path / "a", algorithm) == expected


def test_a_small_disk_is_refused_with_the_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2000))
    files.require_space(tmp_path, 2000, "wiki.zip")
    with pytest.raises(DiskFull, match="wiki.zip: 2,001 bytes are needed .* 2,000 are free.*_HOME"):
        files.require_space(tmp_path, 2001, "wiki.zip")


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EACCES, PermissionError)],
)
def test_a_full_disk_is_explained_and_other_errors_are_not_touched(number, expected):
    message = "is full. Make room" if expected is DiskFull else "as it was"
    with pytest.raises(expected, match=message), files.explain_full_disk(Path("a")):
        raise OSError(number, "as it was")
