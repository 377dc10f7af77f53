"""One file over HTTP: resumed after any interruption, verified, named only when it is complete."""

import random
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from ..files import DeliveryError, digest_of, explain_full_disk

_TIMEOUTS = (15.0, 60.0)  # seconds to connect, and between two answers of the server
_NUM_ATTEMPTS = 6  # in a row that bring nothing new
_BACKOFF, _LONGEST_WAIT = 1.0, 120.0  # seconds
_CHUNK_BYTES = 1 << 15
_TRY_AGAIN = (408, 416, 425, 429)  # of the statuses below 500


class SourceFailed(DeliveryError):
    """No further attempt makes sense; another source may do."""


def receive(file, url: str, path: Path, advance, wait) -> None:
    """Have the verified file at `path`; what is there already is checked and reused.

    Args:
        file: Its `num_bytes` and `digest` (`"algorithm:hex"`) are expected; `None` where unknown.
        url: Where it comes from.
        path: Where it goes; until then it grows as `<path>.part`.
        advance: Called with the number of bytes of each chunk.
        wait: Called with seconds to wait; may raise to stop.

    Raises:
        SourceFailed: If the source refuses, stays silent, or sends other bytes twice.
        DiskFull: If the disk is too small.
    """
    if path.exists() and not _mismatch(file, path):
        return
    part = path.with_name(f"{path.name}.part")
    for _ in range(2):
        with explain_full_disk(part):
            _receive_all(file, url, part, advance, wait)
        problem = _mismatch(file, part)
        if not problem:
            _etag_file(part).unlink(missing_ok=True)
            part.replace(path)
            return
        part.unlink()
    raise SourceFailed(f"{url} sent other bytes than expected, twice: {problem}; nothing was kept.")


def _mismatch(file, path: Path) -> str:
    """In what a file differs from its published size and hash; empty if in nothing."""
    size, digest = path.stat().st_size, None
    if file.num_bytes not in (None, size):
        return f"{size:,} bytes received, {file.num_bytes:,} expected"
    if file.digest:
        digest = digest_of(path, file.digest.split(":")[0])
    return "" if digest == file.digest else f"hash {digest} received, {file.digest} expected"


def _receive_all(file, url, part, advance, wait) -> None:
    """Bring `part` to its full length, until `_NUM_ATTEMPTS` in a row bring nothing new."""
    failures, furthest = 0, _size_of(part)
    while True:
        try:
            return _receive_rest(file, url, part, advance, wait)
        except requests.RequestException as error:
            reason = f"{type(error).__name__}: {error}"[:300]
            status = getattr(error.response, "status_code", 500)
            # A `ValueError`: the URL itself is at fault.
            if isinstance(error, ValueError) or (status < 500 and status not in _TRY_AGAIN):
                raise SourceFailed(f"{url} cannot be used: {reason}.") from error
            asked = 0
            with suppress(AttributeError, InvalidHeader):  # no answer, nonsense in the header
                asked = Retry().get_retry_after(error.response) or 0
        failures = 1 if _size_of(part) > furthest else failures + 1
        furthest = max(furthest, _size_of(part))
        if failures >= _NUM_ATTEMPTS:
            raise SourceFailed(
                f"{url} failed {failures} times in a row, the last time with: {reason}. Check "
                "the internet connection (behind a proxy, HTTPS_PROXY) and fetch again."
            )
        backoff = _BACKOFF * 2 ** (failures - 1) * random.uniform(0.5, 1)
        wait(min(_LONGEST_WAIT, max(backoff, asked)))


def _receive_rest(file, url, part, advance, wait) -> None:
    """One request for the bytes that `part` lacks; after a `RequestException`, try again."""
    size = _size_of(part)
    if size == file.num_bytes:
        return
    etag = _etag_file(part).read_text() if _etag_file(part).exists() else ""
    headers = {"Accept-Encoding": "identity"}
    if size and (etag or file.digest):  # else nothing could tell whether the rest belongs to it
        headers |= {"Range": f"bytes={size}-"} | ({"If-Range": etag} if etag else {})
    with requests.Session() as session:
        own = ("localhost", "127.0.0.1", "::1")
        session.trust_env = urlsplit(url).hostname not in own  # no proxy to this machine
        response = session.get(url, headers=headers, stream=True, timeout=_TIMEOUTS)
        status, told = response.status_code, response.headers
        if status == 206:
            is_rest = told.get("Content-Range", "").startswith(f"bytes {size}-")
            is_rest &= not etag or told.get("ETag", etag) == etag
        if status == 416 or (status == 206 and not is_rest):
            part.unlink(missing_ok=True)
            raise requests.RequestException(f"HTTP {status}, not the bytes asked for; starts over")
        response.raise_for_status()
        size = size if status == 206 else 0
        length = told.get("Content-Length", "")
        total = size + int(length) if length.isdigit() else file.num_bytes
        if file.num_bytes not in (None, total):
            expected = f"{file.num_bytes:,} are expected"
            raise requests.RequestException(f"{total:,} bytes are offered, {expected}")
        if size == 0:
            part.unlink(missing_ok=True)
            _etag_file(part).write_text(told.get("ETag", ""))
        with open(part, "ab") as target:
            for chunk in response.iter_content(_CHUNK_BYTES):
                target.write(chunk)
                advance(len(chunk))
                wait(0)
    if total not in (None, _size_of(part)):
        raise requests.RequestException(f"fewer than the {total:,} bytes announced came")


def _etag_file(part: Path) -> Path:  # which version of the file its server sends
    return part.with_suffix(".etag")


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
