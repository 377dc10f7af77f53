"""Files over HTTP, whole or by ranges: every interruption is resumed, every answer verified."""

import io
import os
import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial
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
HUB = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


class SourceFailed(DeliveryError):
    """No further attempt makes sense; another source may do."""


class FileChanged(Exception):
    """A file is another one than when it was first asked for."""


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
        with explain_full_disk(part), connect(url) as session:
            attempt = partial(_receive_rest, session, file, url, part, advance, wait)
            persist(url, attempt, partial(_size_of, part), wait)
        problem = _mismatch(file, part)
        if not problem:
            part.with_suffix(".etag").unlink(missing_ok=True)
            part.replace(path)
            return
        part.unlink()
    raise SourceFailed(f"{url} sent other bytes than expected, twice: {problem}; nothing was kept.")


def _mismatch(file, path: Path) -> str:
    """How a file differs from its published size and hash; empty if it does not."""
    size, digest = path.stat().st_size, None
    if file.num_bytes not in (None, size):
        return f"{size:,} bytes received, {file.num_bytes:,} expected"
    if file.digest:
        digest = digest_of(path, file.digest.split(":")[0])
    return "" if digest == file.digest else f"hash {digest} received, {file.digest} expected"


def persist(url: str, attempt: Callable, reached: Callable, wait: Callable):
    """The value of `attempt`, called again after a `RequestException` where that may help.

    `SourceFailed` after one that no repetition mends, or `_NUM_ATTEMPTS` in a row after which
    `reached`, which tells how far it has come, gives no larger number. `wait` is called with the
    seconds in between: as many as the server asks for, within reason.
    """
    failures, furthest = 0, reached()
    while True:
        try:
            return attempt()
        except requests.RequestException as error:
            reason = f"{type(error).__name__}: {error}"[:300]
            status = getattr(error.response, "status_code", 500)
            # A `ValueError`: the URL itself is at fault.
            if isinstance(error, ValueError) or (status < 500 and status not in _TRY_AGAIN):
                raise SourceFailed(f"{url} cannot be used: {reason}.") from error
            asked = 0
            with suppress(AttributeError, InvalidHeader):  # no answer, nonsense in the header
                asked = Retry().get_retry_after(error.response) or 0
        now = reached()
        failures, furthest = 1 if now > furthest else failures + 1, max(now, furthest)
        if failures >= _NUM_ATTEMPTS:
            raise SourceFailed(
                f"{url} failed {failures} times in a row, the last time with: {reason}. Check "
                "the internet connection (behind a proxy, HTTPS_PROXY) and fetch again."
            )
        backoff = _BACKOFF * 2 ** (failures - 1) * random.uniform(0.5, 1)
        wait(min(_LONGEST_WAIT, max(backoff, asked)))


def connect(url: str) -> requests.Session:
    """A session for requests to `url`: through proxies if elsewhere, signed in if on the Hub."""
    session = requests.Session()
    session.headers["Accept-Encoding"] = "identity"
    own = ("localhost", "127.0.0.1", "::1")
    session.trust_env = urlsplit(url).hostname not in own  # no proxy to this machine
    token = os.environ.get("HF_TOKEN")
    if token and url.startswith(f"{HUB}/"):  # not sent on to other hosts by requests
        session.headers["Authorization"] = f"Bearer {token}"
    return session


def _receive_rest(session, file, url, part, advance, wait) -> None:
    """One request for the bytes that `part` lacks; after a `RequestException`, try again."""
    size = _size_of(part)
    if size == file.num_bytes:
        return
    etag_file, headers = part.with_suffix(".etag"), {}  # which version its server sends
    etag = etag_file.read_text() if etag_file.exists() else ""
    if size and (etag or file.digest):  # else nothing could tell whether the rest belongs to it
        headers = {"Range": f"bytes={size}-"} | ({"If-Range": etag} if etag else {})
    with session.get(url, headers=headers, stream=True, timeout=_TIMEOUTS) as response:
        status, told = response.status_code, response.headers
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
            text = f"{total:,} bytes are offered, {file.num_bytes:,} are expected"
            raise requests.RequestException(text)
        if size == 0:
            part.unlink(missing_ok=True)
            etag_file.write_text(told.get("ETag", ""))
        with open(part, "ab") as target:
            for chunk in response.iter_content(_CHUNK_BYTES):
                target.write(chunk)
                advance(len(chunk))
                wait(0)
    if total not in (None, _size_of(part)):
        raise requests.RequestException(f"fewer than the {total:,} bytes announced came")


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


class Ranges(io.RawIOBase):
    """A file at an address, open for reading by range requests; what was read last is kept.

    A read within what is kept asks for nothing; any other is one request for exactly the bytes
    read, repeated for those that it lacks.

    Raises:
        SourceFailed: If the server refuses, stays silent or has no ranges.
        FileChanged: If the file has another length or ETag than at the first request.
    """

    def __init__(self, url: str, advance: Callable, wait: Callable):
        self._url, self._advance, self._wait = url, advance, wait
        self._session, self.version = connect(url), None  # version: length and ETag, when known
        self._position = self._start = self.size = 0
        self._kept = self._request(0, 1)

    def readable(self) -> bool:
        """Yes, which pyarrow asks."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As in any file, but a position before the beginning becomes 0."""
        self._position = max(0, offset + (0, self._position, self.size)[whence])
        return self._position

    def readinto(self, target) -> int:
        """Fills `target` until the file ends; returns the number of bytes."""
        start, stop = self._position, min(self._position + len(target), self.size)
        if start >= stop:
            return 0
        if start < self._start or stop > self._start + len(self._kept):
            self._kept, self._start = self._request(start, stop), start
        target[: stop - start] = self._kept[start - self._start : stop - self._start]
        self._position = stop
        return stop - start

    def close(self) -> None:
        """Ends the connection."""
        self._session.close()
        super().close()

    def _request(self, start: int, stop: int) -> bytearray:
        content = bytearray()
        attempt = partial(self._receive, content, start, stop)
        persist(self._url, attempt, content.__len__, self._wait)
        return content

    def _receive(self, content: bytearray, start: int, stop: int) -> None:
        """One request for what `content` lacks; after a `RequestException`, try again."""
        num_bytes, asked = stop - start, f"bytes {start + len(content)}-{stop - 1}"
        if len(content) == num_bytes:
            return
        options = {"headers": {"Range": asked.replace(" ", "=")}, "timeout": _TIMEOUTS}
        with self._session.get(self._url, stream=True, **options) as response:
            span, _, size = response.headers.get("Content-Range", "").rpartition("/")
            etag = response.headers.get("ETag")
            if size.isdigit():
                known = self.version = self.version or (size, etag)
                if size != known[0] or (etag or known[1]) != (known[1] or etag):
                    raise FileChanged(f"{self._url} has changed since the first request")
            response.raise_for_status()
            if response.status_code != 206 or span != asked or not size.isdigit():
                came = f"HTTP {response.status_code} with {span or 'no range'} came"
                needed = "A server that answers range requests is needed"
                raise requests.RequestException(f"{asked} were asked for, {came}. {needed}")
            self.size = int(size)
            for chunk in response.iter_content(_CHUNK_BYTES):
                content += chunk[: num_bytes - len(content)]
                self._advance(len(chunk))
                self._wait(0)
        if len(content) < num_bytes:
            raise requests.RequestException(f"fewer than the {num_bytes:,} bytes asked for came")
