"""One file over HTTP: resumed after any interruption, retried, verified, and named only when it is whole.

Writes `<file>.part` and `<file>.part.json` (what the server said about the whole), then `<file>`.
"""

import os
import random
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import requests

from ..files import (
    DeliveryError,
    digest_of,
    explain_full_disk,
    read_json,
    require_space,
    write_json,
)


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server, in seconds; attempts count anew whenever more bytes have come."""

    connect_timeout: float = 15.0
    read_timeout: float = 60.0
    num_attempts: int = 6
    backoff: float = 1.0
    longest_wait: float = 120.0
    chunk_bytes: int = 1 << 15


class _TryAgain(Exception):
    """`(reason, seconds the server asked to wait)`: another attempt may succeed."""


class SourceFailed(DeliveryError):
    """No further attempt makes sense; another source may do."""


def receive(file, url: str, path: Path, patience: Patience, progress) -> None:
    """Have the verified file at `path`; what is there already is checked and reused.

    Args:
        file: Its `num_bytes` and `digest` (`"algorithm:hex"`) are what is expected; `None` where unknown.
        url: Where it comes from.
        path: Where it goes; it appears there only when size and hash are right.
        patience: Time-outs, attempts, back-off.
        progress: `progress.at(file, size, total)` is told about each chunk; `progress.wait(seconds)` waits, or raises
            to stop.

    Raises:
        SourceFailed: If the source refuses, stays silent, or sends other bytes than expected twice.
        DeliveryError: If the disk is too small.
    """
    part = path.with_name(path.name + ".part")
    if not path.exists() or _mismatch(file, path):
        with explain_full_disk(part):
            _receive_all(file, url, part, patience, progress)
            if _mismatch(file, part):
                part.unlink()
                _receive_all(file, url, part, patience, progress)
        if problem := _mismatch(file, part):
            part.unlink()
            raise SourceFailed(
                f"{url} sent other bytes than expected, twice: {problem}; nothing was kept."
            )
        os.replace(part, path)
    _notes(part).unlink(missing_ok=True)


def _mismatch(file, path) -> str:
    """In what a file differs from its published size and hash; empty if in nothing."""
    if file.num_bytes not in (None, size := path.stat().st_size):
        return f"{size:,} bytes received, {file.num_bytes:,} expected"
    if file.digest and (digest := digest_of(path, file.digest.split(":")[0])) != file.digest:
        return f"hash {digest} received, {file.digest} expected"
    return ""


def _receive_all(file, url, part, patience, progress) -> None:
    """Bring `part` to its full length, going on where it stops, until `num_attempts` in a row bring nothing new."""
    failures, furthest = 0, size_of(part)
    with requests.Session() as session:
        session.trust_env = urlsplit(url).hostname not in (
            "localhost",
            "127.0.0.1",
            "::1",
        )  # no proxy to oneself
        while True:
            asked = 0.0
            try:
                if _receive_rest(file, url, part, patience, progress, session):
                    return
                reason = "the connection closed early"
            except requests.RequestException as error:
                reason = f"{type(error).__name__}: {error}"[:300]
                if isinstance(error, ValueError):  # the URL itself is at fault
                    raise SourceFailed(f"{url} cannot be used: {reason}.") from error
            except _TryAgain as error:
                reason, asked = error.args
            failures = 1 if size_of(part) > furthest else failures + 1
            furthest = max(furthest, size_of(part))
            if failures >= patience.num_attempts:
                raise SourceFailed(
                    f"{url} failed {failures} times in a row, the last time with: {reason}. Check the internet "
                    f"connection (behind a proxy, HTTPS_PROXY) and fetch again: it goes on from byte {size_of(part):,}."
                )
            backoff = patience.backoff * 2 ** (failures - 1) * random.uniform(0.5, 1)
            progress.wait(min(patience.longest_wait, max(asked, backoff)))


def _receive_rest(file, url, part, patience, progress, session) -> bool:
    """One request for the bytes that `part` lacks; whether it is whole now."""
    size, notes = size_of(part), read_json(_notes(part)) or {}
    validator, total = notes.get("validator"), file.num_bytes or notes.get("total")
    if total and size == total:
        progress.at(file, size, total)
        return True
    if (total and size > total) or not (validator or file.digest):
        part.unlink(
            missing_ok=True
        )  # not ours, or nothing could tell whether the rest belongs to it
        size = 0
    headers = {"Accept-Encoding": "identity"}
    if size:
        headers |= {"Range": f"bytes={size}-"} | ({"If-Range": validator} if validator else {})
    timeout = (patience.connect_timeout, patience.read_timeout)
    with session.get(url, headers=headers, stream=True, timeout=timeout) as response:
        size, total = _check_answer(file, response, part, size, validator)
        if size == 0:
            part.unlink(missing_ok=True)
            write_json(_notes(part), {"validator": _validator(response.headers), "total": total})
        if total:  # of a file whose size was not known before, the tree needs room too
            require_space(
                part.parent, total - size + (0 if file.num_bytes else total), file.archive
            )
        with open(part, "ab") as target:
            for chunk in response.iter_content(patience.chunk_bytes):
                size += len(chunk)
                if total and size > total:
                    break
                target.write(chunk)
                progress.at(file, size, total)
                progress.wait(0)
            target.flush()
            os.fsync(target.fileno())
    if total and size > total:
        part.unlink()
        raise _TryAgain(f"the server sent more than the {total:,} bytes it announced", 0.0)
    return total is None or size == total


def _check_answer(file, response, part, size, validator) -> tuple[int, int | None]:
    """`(first byte, length of the whole file)` of a usable answer to a request from byte `size`; raises on others."""
    status, headers = response.status_code, response.headers
    answer = f"HTTP {status} {response.reason}"
    if status in (408, 425, 429) or status >= 500:
        raise _TryAgain(answer, _seconds(headers.get("Retry-After")))
    if status == 416:
        part.unlink(missing_ok=True)
        raise _TryAgain(f"{answer}: the server has no such bytes, starting over", 0.0)
    if status not in (200, 206):
        what = {
            401: "refuses access",
            403: "refuses access",
            404: "has no such file",
            410: "has no such file",
        }
        raise SourceFailed(f"{response.url} {what.get(status, 'cannot deliver')} ({answer}).")
    start, total = 0, headers.get("Content-Length", "")
    if status == 206:
        given = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
        changed = validator and _validator(headers) not in (None, validator)
        if not given or int(given[1]) != size or changed:
            part.unlink(missing_ok=True)
            raise _TryAgain(
                f"other bytes than asked for ({headers.get('Content-Range')}), starting over", 0.0
            )
        start, total = size, given[2]
    total = int(total) if total.isdigit() else file.num_bytes
    if total == 0 or file.num_bytes not in (None, total):
        raise _TryAgain(
            f"the server offers {total:,} bytes, {file.num_bytes or 'some'} are expected", 0.0
        )
    return start, total


def _validator(headers) -> str | None:
    """What `If-Range` may quote: a strong ETag, or else the date."""
    etag = headers.get("ETag", "W/")
    return headers.get("Last-Modified") if etag.startswith("W/") else etag


def _seconds(retry_after: str | None) -> float:
    """Seconds that a `Retry-After` header asks for, as a number or as a date."""
    if (retry_after or "").strip().isdigit():
        return float(retry_after)
    try:
        when = parsedate_to_datetime(retry_after)
    except (TypeError, ValueError):
        return 0.0
    when = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
    return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())


def _notes(part) -> Path:
    """Beside a part file: what its server said about the whole."""
    return part.with_name(part.name + ".json")


def size_of(path) -> int:
    """Bytes of a file, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0
