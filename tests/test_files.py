"""Files that appear whole or not at all, free space, and errors that say what to do."""

import errno
import hashlib
import shutil
from types import SimpleNamespace

import pytest

from src.files import (
    DiskFull,
    digest_of,
    explain_full_disk,
    map_files,
    read_json,
    require_space,
    write_atomically,
    write_json,
)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole_or_stays(tmp_path):
    path = tmp_path / "new folder" / "table.csv"
    assert write_atomically(path, lambda temporary: temporary.write_text("old")) == path

    def fail(temporary):
        assert temporary.suffix == ".csv" and path.read_text() == "old"
        temporary.write_text("half")
        raise OSError("the writer fails")

    with pytest.raises(OSError, match="the writer fails"):
        write_atomically(path, fail)
    assert names_in(path.parent) == ["table.csv"] and path.read_text() == "old"
    write_atomically(path, lambda temporary: temporary.write_text("new"))
    assert names_in(path.parent) == ["table.csv"] and path.read_text() == "new"


def test_json_comes_back_and_a_damaged_file_is_none(tmp_path):
    path = tmp_path / "card.json"
    assert read_json(path) is None
    write_json(path, {"name": "été", "values": [1, 0.5, None]})
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
    assert digest_of(tmp_path / "a", algorithm) == expected


def test_a_small_disk_is_refused_with_the_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2000))
    require_space(tmp_path, 2000, "wiki.zip")
    require_space(tmp_path, 500, "wiki.zip", reserved=1500)
    with pytest.raises(DiskFull, match="wiki.zip: 2,001 bytes are needed .* 2,000 are free.*_HOME"):
        require_space(tmp_path, 2001, "wiki.zip")
    with pytest.raises(DiskFull, match="500 are free, 1,500 more are promised"):
        require_space(tmp_path, 501, "wiki.zip", reserved=1500)


def test_a_full_disk_is_explained_and_other_errors_are_not_touched(tmp_path):
    for number in (errno.ENOSPC, errno.EDQUOT):
        with pytest.raises(DiskFull, match="is full. Make room"), explain_full_disk(tmp_path / "a"):
            raise OSError(number, "no space left on device")
    with pytest.raises(PermissionError), explain_full_disk(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "not allowed")


def test_map_files_keeps_the_order():
    files = [f"{index}.png" for index in range(1200)]
    assert map_files(str.upper, files, 4, "names") == [f"{index}.PNG" for index in range(1200)]
