"""One file over HTTP: resumed after any interruption, verified, and named only when it is whole.

Writes `<file>.part` and `<file>.part.json` (what the server said about the file), then `<file>`.
"""

import os
import random
import re
from pathlib import Path
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from ..files import (
    DeliveryError,
    digest_of,
    explain_full_disk,
    read_json,
    require_space,
    write_json,
)

_TIMEOUTS = (15.0, 60.0)  # seconds to connect, and between two answers of the server
_NUM_ATTEMPTS = 6  # in a row that bring nothing new
_BACKOFF, _LONGEST_WAIT = 1.0, 120.0  # seconds
_CHUNK_BYTES = 1 << 15
_REFUSALS = {401: "refuses access", 403: "refuses access"} | dict.fromkeys(
    (404, 410), "has no such file"
)


class SourceFailed(DeliveryError):
    """No further attempt makes sense; another source may do."""


class _TryAgain(Exception):
    """Another attempt may succeed: the reason, and the seconds that the server asked to wait."""


def receive(file, url: str, path: Path, progress) -> None:
    """Have the verified file at `path`; what is there already is checked and reused.

    Args:
        file: Its `num_bytes` and `digest` (`"algorithm:hex"`) are expected; `None` where unknown.
        url: Where it comes from.
        path: Where it goes; it appears there only when size and hash are right.
        progress: `progress.at(file, size, total)` is told of each chunk; `progress.wait(seconds)`
            waits, or raises to stop.

    Raises:
        SourceFailed: If the source refuses, stays silent, or sends other bytes twice.
        DeliveryError: If the disk is too small.
    """
    part = path.with_name(f"{path.name}.part")
    if path.exists() and not _mismatch(file, path):
        _notes(part).unlink(missing_ok=True)
        return
    for _ in range(2):
        with explain_full_disk(part):
            _receive_all(file, url, part, progress)
        problem = _mismatch(file, part)
        if not problem:
            part.replace(path)
            _notes(part).unlink(missing_ok=True)
            return
        part.unlink()
    raise SourceFailed(f"{url} sent other bytes than expected, twice: {problem}; nothing was kept.")


def _mismatch(file, path) -> str:
    """In what a file differs from its published size and hash; empty if in nothing."""
    if file.num_bytes not in (None, size := path.stat().st_size):
        return f"{size:,} bytes received, {file.num_bytes:,} expected"
    if file.digest and (digest := digest_of(path, file.digest.split(":")[0])) != file.digest:
        return f"hash {digest} received, {file.digest} expected"
    return ""


def _receive_all(file, url, part, progress) -> None:
    """Bring `part` to its full length, until `_NUM_ATTEMPTS` in a row bring nothing new."""
    failures, furthest = 0, size_of(part)
    with requests.Session() as session:
        own = ("localhost", "127.0.0.1", "::1")
        session.trust_env = urlsplit(url).hostname not in own  # no proxy to this machine
        while True:
            try:
                return _receive_rest(file, url, part, progress, session)
            except _TryAgain as error:
                reason, *asked = error.args
            except requests.RequestException as error:
                reason, asked = f"{type(error).__name__}: {error}"[:300], []
                if isinstance(error, ValueError):  # the URL itself is at fault
                    raise SourceFailed(f"{url} cannot be used: {reason}.") from error
            failures = 1 if size_of(part) > furthest else failures + 1
            furthest = max(furthest, size_of(part))
            if failures >= _NUM_ATTEMPTS:
                raise SourceFailed(
                    f"{url} failed {failures} times in a row, the last time with: {reason}. Check "
                    "the internet connection (behind a proxy, HTTPS_PROXY) and fetch again: it "
                    f"goes on from byte {size_of(part):,}."
                )
            backoff = _BACKOFF * 2 ** (failures - 1) * random.uniform(0.5, 1)
            progress.wait(min(_LONGEST_WAIT, max([backoff, *asked])))


def _receive_rest(file, url, part, progress, session) -> None:
    """One request for the bytes that `part` lacks."""
    size, notes = size_of(part), read_json(_notes(part)) or {}
    validator, total = notes.get("validator"), file.num_bytes or notes.get("total")
    if total and size == total:
        return progress.at(file, size, total)
    if (total and size > total) or not (validator or file.digest):
        part.unlink(missing_ok=True)  # nothing could tell whether the rest belongs to it
        size = 0
    headers = {"Accept-Encoding": "identity"}
    if size:
        headers |= {"Range": f"bytes={size}-"} | ({"If-Range": validator} if validator else {})
    with session.get(url, headers=headers, stream=True, timeout=_TIMEOUTS) as response:
        size, total = _check_answer(file, response, part, size, validator)
        if size == 0:
            part.unlink(missing_ok=True)
            write_json(_notes(part), {"validator": _validator(response.headers), "total": total})
        if total:  # of a file whose size was not known before, the tree needs room too
            tree = 0 if file.num_bytes else total
            require_space(part.parent, total - size + tree, file.archive)
        with open(part, "ab") as target:
            for chunk in response.iter_content(_CHUNK_BYTES):
                size += len(chunk)
                if total and size > total:
                    break
                target.write(chunk)
                progress.at(file, size, total)
                progress.wait(0)
            target.flush()
            os.fsync(target.fileno())
    if total not in (None, size):  # if there are too many, the next attempt starts over
        raise _TryAgain(f"{total:,} bytes were announced and {size:,} came")


def _check_answer(file, response, part, size, validator) -> tuple[int, int | None]:
    """First byte, and length of the complete file, of an answer to a request from byte `size`."""
    status, headers = response.status_code, response.headers
    answer = f"HTTP {status} {response.reason}"
    if status in (408, 425, 429) or status >= 500:
        raise _TryAgain(answer, _seconds(headers.get("Retry-After", "")))
    if status == 416:
        part.unlink(missing_ok=True)
        raise _TryAgain(f"{answer}: the server has no such bytes, starting over")
    if status not in (200, 206):
        raise SourceFailed(f"{response.url} {_REFUSALS.get(status, 'cannot deliver')} ({answer}).")
    start, total = 0, headers.get("Content-Length", "")
    if status == 206:
        content_range = headers.get("Content-Range", "")
        given = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range)
        changed = validator and _validator(headers) not in (None, validator)
        if not given or int(given[1]) != size or changed:
            part.unlink(missing_ok=True)
            raise _TryAgain(f"other bytes than asked for ({content_range}), starting over")
        start, total = size, given[2]
    total = int(total) if total.isdigit() else file.num_bytes
    if total == 0 or file.num_bytes not in (None, total):
        expected = file.num_bytes or "some"
        raise _TryAgain(f"the server offers {total:,} bytes, {expected} are expected")
    return start, total


def _validator(headers) -> str | None:
    """What `If-Range` may quote: a strong ETag, or else the date."""
    etag = headers.get("ETag", "W/")
    return headers.get("Last-Modified") if etag.startswith("W/") else etag


def _seconds(retry_after: str) -> float:
    """What a `Retry-After` header asks for, as a number or as a date."""
    try:
        return Retry().parse_retry_after(retry_after)
    except InvalidHeader:
        return 0.0


def _notes(part) -> Path:
    """Next to a part file: what its server said about the file."""
    return part.with_name(f"{part.name}.json")


def size_of(path) -> int:
    """Bytes of a file, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0
