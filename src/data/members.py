"""Parts of remote archives that a study takes: files of a zip or a tar, rows of parquet files."""

import hashlib
import math
import re
import shutil
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

import requests

from ..config import SPLITS
from ..files import DeliveryError, explain_full_disk, write_atomically
from .archives import mark, replacing
from .copies import lay_out
from .transfer import Ranges, SourceFailed, connect, persist

_RUN_FILES = 64  # neighbours in a zip, some 3 MB, that are asked for together
_PHOTOGRAPH = r"(?a)\w+/\d\d/[^/\\]+\.jpg"
_NUM_LOOKS, _LOOK = 256, 1 << 15  # into a tar, at most, and bytes of each


def choose(names: Iterable[str], number: int, total: int, seed: int) -> list[str]:
    """The photographs that a study takes of an archive of DeepFakeFace: folder after folder.

    A pure function of the names and the seed, and the same in all four archives, since their names
    are. A folder holds the photographs whose numbers end with its name, which is as good as drawn
    at random; its files are neighbours in the archive. Of the last folder the first by name come.

    Faces were swapped between two photographs drawn from one gender and all folders; which two,
    only IMDB-WIKI's 1 GB would tell (DeepFakeFace's `prompt/wiki.py`). For most swaps
    the photograph that gave the background is **not** chosen, nor is any other picture made of it:
    no leak. Where it is chosen, `ties.find_swap_ties` finds it as in the complete data.

    Of `names`, those unlike `"wiki/07/1007_1950-01-01_2010.jpg"` are passed over; of the others
    `number` are taken, in folders whose order follows from `seed`. `SourceFailed` unless there are
    `total` of them.
    """
    known = [name for name in names if re.fullmatch(_PHOTOGRAPH, name)]
    if not number <= total == len(known) == len(set(known)):
        there = f"{len(known):,} photographs with {len(set(known)):,} names"
        raise SourceFailed(f"The archive holds {there}; {total:,} different ones are expected.")
    return sorted(known, key=lambda name: (_draw(seed, name.split("/")[1]), name))[:number]


def take(file, url: str, growing: Path, folder: Path, advance, wait) -> str:
    """Have a part of a remote archive in `folder`, complete with a `MARKER` or not at all.

    Of a zip or a tar it is what `choose` takes, byte for byte as if it were unpacked; of parquet
    files of the Hugging Face Hub rows, laid out as Kaggle's files. `url` is then the Hub's list of
    them, of one revision or of `main`. The server must answer range requests.

    What has come so far lies in the folder `growing` and is not fetched again. `advance` and `wait`
    are those of `transfer.receive`.

    Returns:
        Remarks on parquet files: what differs from Kaggle's, which revision `main` was.

    Raises:
        SourceFailed: If the source refuses, stays silent, or goes on sending what is no such file.
        DiskFull: If the disk is too small.
    """
    kind = Path(file.archive).suffix
    bring = {".zip": _members, ".tar": _folders, ".parquet": _row_groups}[kind]

    def attempt():
        try:
            return bring(file, url, growing, partial(Ranges, advance=advance, wait=wait))
        except (DeliveryError, requests.RequestException):
            raise
        except Exception as error:  # of damaged data: `persist` tries again
            if getattr(error, "errno", None):  # of this machine
                raise
            raise requests.RequestException(f"{type(error).__name__}: {error}") from error

    with explain_full_disk(growing):
        growing.mkdir(parents=True, exist_ok=True)
        parts, found, remarks = persist(url, attempt, lambda: len([*growing.rglob("*")]), wait)
        with replacing(folder) as complete:
            if kind == ".parquet":
                remarks = [*lay_out(file.name, found, complete), *remarks]
            else:
                for name, content in found:
                    _write(complete / name, content)
            mark(complete, file.archive, f"sha256:{_draw(0, parts)}")
        shutil.rmtree(growing)
    return " ".join(remarks)


# Each of these brings what is taken into `growing`, through the class `Ranges` as `connected`. It
# returns what identifies it; then names and contents of files, or tables by split; and remarks.


def _members(file, url: str, growing: Path, connected):
    """Of a zip: its directory first, then runs of neighbouring members.

    Each is checked against the directory's CRC, now and when a later call finds it there. The
    directory has none itself.
    """
    with connected(url) as source, zipfile.ZipFile(source) as remote:
        names = choose(remote.namelist(), *file.taken, file.seed)
        parts = sorted((name, remote.getinfo(name).CRC) for name in names)
        there = [(name, crc) for name, crc in parts if (growing / name).is_file()]
        whole = {name for name, crc in there if zlib.crc32((growing / name).read_bytes()) == crc}
        lacking = set(names) - whole
        members = sorted(remote.infolist(), key=lambda member: member.header_offset)
        ends = [*(member.header_offset for member in members[1:]), remote.start_dir]
        kinds = [(n // _RUN_FILES, m.filename in lacking) for n, m in enumerate(members)]
        runs = groupby(zip(kinds, members, ends), lambda entry: entry[0])
        for run in (list(run) for (_, is_lacking), run in runs if is_lacking):
            start = run[0][1].header_offset
            source.seek(start)
            source.read(run[-1][2] - start)  # and keeps it
            for _, member, _ in run:
                # If it is cut off, its CRC is wrong: again.
                _write(growing / member.filename, remote.read(member))
    return parts, ((name, (growing / name).read_bytes()) for name, _ in parts), []


def _folders(file, url: str, growing: Path, connected):
    """Of a tar: its first folders, in the order of `choose`.

    A tar has no directory, but a folder's files are neighbours in it. Looks into it at equal
    distances show where the folders are; then each piece between two looks is fetched if either saw
    a chosen one, and all photographs in it are kept. Only headers have checksums: a damaged picture
    is noticed where it cannot be decoded.
    """
    parts = []
    with connected(url) as source:
        step = max(source.size // _NUM_LOOKS, _LOOK) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
        looks = [_look(source, place) for place in range(0, source.size, step)]
        looks = [look for look in looks if look]  # others fell into one large file
        starts = [*map(min, looks), source.size]
        seen = [{name.split("/")[1] for name in look.values()} for look in looks] + [set()]
        folders = sorted(set().union(*seen), key=partial(_draw, file.seed))
        number = math.ceil(len(folders) * file.taken[0] / file.taken[1])
        for start, stop, *near in zip(starts, starts[1:], seen, seen[1:]):
            if not set().union(*near).isdisjoint(folders[:number]):
                parts.append(growing / f"{_draw(start, source.version)[:16]}.tar")
                if not parts[-1].exists():
                    source.seek(start)
                    content = source.read(stop - start)
                    list(_files(content))  # verifies the headers
                    write_atomically(parts[-1], partial(Path.write_bytes, data=content))
    if not parts:
        raise SourceFailed(f"{url} holds no photographs named like wiki_crop/07/<name>.jpg.")
    found = (file for part in parts for file in _files(part.read_bytes()))
    return [part.name for part in parts], found, []


def _look(source: Ranges, start: int) -> dict[int, str]:
    """The photographs of a tar whose headers lie in the next `_LOOK` bytes, by their place."""
    source.seek(start)
    window, found = source.read(_LOOK), {}
    for place in range(0, len(window), tarfile.BLOCKSIZE):
        with suppress(tarfile.HeaderError):
            name = _header(window, place).name
            if re.fullmatch(_PHOTOGRAPH, name):
                found[start + place] = name
    return found


def _files(piece: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a tar's photographs; a damaged header is a `tarfile.HeaderError`."""
    place = 0
    with suppress(tarfile.EOFHeaderError):
        while place < len(piece):
            member = _header(piece, place)
            start, place = place + tarfile.BLOCKSIZE, place + tarfile.BLOCKSIZE + member.size
            if re.fullmatch(_PHOTOGRAPH, member.name):
                yield member.name, piece[start:place]
            place += -place % tarfile.BLOCKSIZE


def _header(content: bytes, place: int) -> tarfile.TarInfo:
    block = content[place : place + tarfile.BLOCKSIZE]
    return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")


def _row_groups(file, url: str, growing: Path, connected):
    """Of parquet files: whole row groups, in an order drawn from the seed.

    They come until there are as many pictures of each split, and of each label by its name, as are
    taken. Parquet has no checksums: length and version of the files are verified.
    """
    import datasets
    import pyarrow

    base, _, revision = url.rpartition("/tree/")
    remarks, tables = [], {}
    with connect(url) as session:
        if revision == "main":  # the same one for all files
            revision = _json(session, f"{base}/revision/main")["sha"]
            remarks = [f"The Hub's main was revision {revision}."]
        listed = _json(session, f"{base}/tree/{revision}?recursive=true")
    there = sorted((entry["path"] for entry in listed), key=partial(_draw, file.seed))
    files = f"{base.replace('/api/', '/', 1)}/resolve/{revision}"
    for split, number in zip(SPLITS, file.taken):
        own = [path for path in there if re.search(rf"\b{split[:3]}.*\.parquet$", path)]
        urls = [f"{files}/{quote(path)}" for path in own]
        found = _rows(urls, number, file.seed, growing, connected)
        tables[split] = datasets.Dataset(pyarrow.concat_tables(found))
    return sorted(path.name for path in growing.glob("[!.]*")), tables, remarks


def _json(session: requests.Session, url: str):
    """What the Hub answers."""
    with session.get(url, timeout=60) as response:
        response.raise_for_status()
        return response.json()


def _rows(urls: list, number: int, seed: int, growing: Path, connected) -> list:
    """Tables of `number` pictures, of each label where there are labels, from parquet files."""
    from pyarrow import parquet

    tables, taken = [], Counter()
    for url in urls:
        with connected(url) as source:
            remote = parquet.ParquetFile(source, pre_buffer=True)  # columns are read together
            labelled = "label" in remote.schema_arrow.names
            for index in sorted(range(remote.num_row_groups), key=partial(_draw, seed)):
                columns = remote.metadata.row_group(index).to_dict()["columns"]
                known = [c["statistics"] for c in columns if c["path_in_schema"] == "label"]
                if any(s and s["min"] == s["max"] and taken[s["min"]] >= number for s in known):
                    continue  # it holds one label only, of which there are enough
                part = growing / f"{_draw(index, (url.rsplit('/', 1)[1], columns))[:16]}.parquet"
                if not part.exists():
                    table = remote.read_row_group(index)
                    write_atomically(part, partial(parquet.write_table, table))
                table, rows = parquet.read_table(part), []
                labels = table["label"].to_pylist() if labelled else [0] * len(table)
                for row, label in enumerate(labels):
                    taken[label] += 1
                    if taken[label] <= number:
                        rows.append(row)
                tables.append(table.take(rows))
                if min(taken[0], taken[1] if labelled else number) >= number:
                    return tables
    there = f"in {', '.join(urls) or 'no files'} there are, by label, {dict(taken)}"
    raise SourceFailed(f"{number:,} pictures of a split, and of each label, are taken; {there}.")


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _draw(seed: int, thing) -> str:
    """Sorts things as if they were shuffled: a hash of the seed and each."""
    return hashlib.sha256(f"{seed}/{thing}".encode()).hexdigest()
