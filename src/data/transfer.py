"""One file over HTTP: resumed after any interruption, verified, named only when it is complete."""

import random
from pathlib import Path
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from .. import files

_TIMEOUTS = (15.0, 60.0)  # seconds to connect, and between two answers of the server
_NUM_ATTEMPTS = 6  # in a row that bring nothing new
_BACKOFF, _LONGEST_WAIT = 1.0, 120.0  # seconds
_CHUNK_BYTES = 1 << 15


class SourceFailed(files.DeliveryError):
    """No further attempt makes sense; another source may do."""


def receive(file, url: str, path: Path, progress) -> None:
    """Have the verified file at `path`; what is there already is checked and reused.

    Args:
        file: Its `num_bytes` and `digest` (`"algorithm:hex"`) are expected; `None` where unknown.
        url: Where it comes from.
        path: Where it goes; until then it grows as `<path>.part`.
        progress: `at(file, size, total)` is told of each chunk; `wait(seconds)` may raise to stop.

    Raises:
        SourceFailed: If the source refuses, stays silent, or sends other bytes twice.
        DiskFull: If the disk is too small.
    """
    part = path.with_name(f"{path.name}.part")
    if path.exists() and not _mismatch(file, path):
        return
    for _ in range(2):
        with files.explain_full_disk(part):
            _receive_all(file, url, part, progress)
        problem = _mismatch(file, part)
        if not problem:
            _notes(part).unlink(missing_ok=True)
            part.replace(path)
            return
        part.unlink()
    raise SourceFailed(f"{url} sent other bytes than expected, twice: {problem}; nothing was kept.")


def _mismatch(file, path) -> str:
    """In what a file differs from its published size and hash; empty if in nothing."""
    size, digest = path.stat().st_size, None
    if file.num_bytes not in (None, size):
        return f"{size:,} bytes received, {file.num_bytes:,} expected"
    if file.digest:
        digest = files.digest_of(path, file.digest.split(":")[0])
    return "" if digest == file.digest else f"hash {digest} received, {file.digest} expected"


def _receive_all(file, url, part, progress) -> None:
    """Bring `part` to its full length, until `_NUM_ATTEMPTS` in a row bring nothing new."""
    failures, furthest = 0, _size_of(part)
    with requests.Session() as session:
        own = ("localhost", "127.0.0.1", "::1")
        session.trust_env = urlsplit(url).hostname not in own  # no proxy to this machine
        while True:
            try:
                return _receive_rest(file, url, part, progress, session)
            except requests.RequestException as error:
                reason = f"{type(error).__name__}: {error}"[:300]
                if isinstance(error, ValueError):  # the URL itself is at fault
                    raise SourceFailed(f"{url} cannot be used: {reason}.") from error
                asked = _seconds_asked(error.response)
            failures = 1 if _size_of(part) > furthest else failures + 1
            furthest = max(furthest, _size_of(part))
            if failures >= _NUM_ATTEMPTS:
                raise SourceFailed(
                    f"{url} failed {failures} times in a row, the last time with: {reason}. Check "
                    "the internet connection (behind a proxy, HTTPS_PROXY) and fetch again."
                )
            backoff = _BACKOFF * 2 ** (failures - 1) * random.uniform(0.5, 1)
            progress.wait(min(_LONGEST_WAIT, max(backoff, asked)))


def _seconds_asked(response) -> float:
    """What the header `Retry-After` of a response asks for, as a number or as a date."""
    try:
        return Retry().parse_retry_after(response.headers["Retry-After"])
    except (AttributeError, KeyError, InvalidHeader):  # no response, no header, nonsense
        return 0.0


def _receive_rest(file, url, part, progress, session) -> None:
    """One request for the bytes that `part` lacks; after a `RequestException`, try again."""
    size, notes = _size_of(part), files.read_json(_notes(part)) or {}
    etag, total = notes.get("etag"), file.num_bytes or notes.get("total")
    if total and size == total:
        return progress.at(file, size, total)
    if (total and size > total) or not (etag or file.digest):
        size = 0  # nothing could tell whether the rest belongs to it
    headers = {"Accept-Encoding": "identity"}
    if size:
        headers |= {"Range": f"bytes={size}-"} | ({"If-Range": etag} if etag else {})
    with session.get(url, headers=headers, stream=True, timeout=_TIMEOUTS) as response:
        size, total = _check_answer(file, response, part, size, etag)
        if size == 0:
            part.unlink(missing_ok=True)
            files.write_json(_notes(part), {"etag": response.headers.get("ETag"), "total": total})
        if total and not file.num_bytes:  # for the file and its tree, as `fetch` could not check
            files.require_space(part.parent, 2 * total - size, file.archive)
        with open(part, "ab") as target:
            for chunk in response.iter_content(_CHUNK_BYTES):
                size += len(chunk)
                if total and size > total:
                    break
                target.write(chunk)
                progress.at(file, size, total)
                progress.wait(0)
    if total not in (None, size):
        raise requests.RequestException(f"{total:,} bytes were announced and {size:,} came")


def _check_answer(file, response, part, size, etag) -> tuple[int, int | None]:
    """First byte, and length of the complete file, of an answer to a request from byte `size`."""
    status, headers = response.status_code, response.headers
    if status in (408, 425, 429) or status >= 500:
        response.raise_for_status()
    if status not in (200, 206, 416):
        raise SourceFailed(f"{response.url} refuses the file: HTTP {status} {response.reason}.")
    start, total = 0, headers.get("Content-Length", "")
    if status != 200:
        part_sent, _, total = headers.get("Content-Range", "").partition("/")
        changed = etag and headers.get("ETag") not in (None, etag)
        if not part_sent.startswith(f"bytes {size}-") or changed:
            part.unlink(missing_ok=True)
            raise requests.RequestException(f"HTTP {status}, not the bytes asked for; starts over")
        start = size
    total = int(total) if total.isdigit() else file.num_bytes
    if file.num_bytes not in (None, total):
        expected = f"{file.num_bytes:,} are expected"
        raise requests.RequestException(f"{total:,} bytes are offered, {expected}")
    return start, total


def _notes(part) -> Path:  # what its server said about the file
    return part.with_name(f"{part.name}.json")


def _size_of(path) -> int:
    return path.stat().st_size if path.exists() else 0
