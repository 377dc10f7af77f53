"""A local HTTP server that misbehaves to order, a process that dies to order, what they leave."""

import io
import os
import signal
import sys
import tarfile
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from src.data import fetch, transfer
from src.data.archives import MARKER

TRANSIENT = (
    "cut",  # the connection ends after a random byte
    "close",  # it ends before any answer
    "announce_less",  # Content-Length is smaller than what follows
    "announce_more",  # Content-Length is larger than what follows
    "ignore_range",  # the whole file although a part was asked for
    "wrong_range",  # another part than asked for
    "wrong_total",  # the right part, but the length of the file is another
    "wrong_byte",  # one byte differs
    "stall",  # silence in the middle
    "portal",  # a login page instead of the file, with status 200
    "416",
    "429",
    "503",
)
PERMANENT = ("401", "403", "404")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range", "")
        path = self.path.partition("?")[0].lstrip("/")
        name = path if path in server.files else path.rsplit("/", 1)[-1]
        with server.lock:
            fault = server.plan(name)
            server.requests.append((name, wanted, fault))
            server.tokens.append((self.headers["Host"], self.headers.get("Authorization")))
        if fault in ("close", "cut", "stall", "announce_more", "announce_less"):
            self.close_connection = True  # after this answer
        if fault == "close":
            return
        if fault == "redirect":
            target = server.url.replace("127.0.0.1", "localhost") + self.path
            return self.send_headers(302, Location=target, Content_Length=0)
        if fault.isdigit() or name not in server.files:
            return self.send_headers(int(fault or 404), Content_Length=0)
        content, start, stop, status = server.files[name], 0, None, 200
        etag = f'"{len(content)}-{hash(content)}"'
        if fault == "portal":
            content, wanted = b"<html>Please sign in</html>", ""
        if wanted and fault != "ignore_range" and self.headers.get("If-Range", etag) == etag:
            status, (start, last) = 206, wanted.removeprefix("bytes=").split("-")
            start, stop = int(start), int(last) + 1 if last else None
            if start >= len(content):
                return self.send_headers(416, Content_Length=0)
            start = max(0, start - (fault == "wrong_range"))
        body, headers = bytearray(content[start:stop]), {"ETag": etag}
        announced = len(body)
        if fault == "wrong_byte":
            body[server.randint(0, len(body) - 1)] ^= 0xFF
        if fault == "announce_less":
            announced = server.randint(0, len(body) - 1)
        if fault == "announce_more":
            announced += server.randint(1, 1000)
        if status == 206:
            total = len(content) + (fault == "wrong_total")
            headers["Content_Range"] = f"bytes {start}-{start + len(body) - 1}/{total}"
        self.send_headers(status, Content_Length=announced, **headers)
        end = server.randint(0, len(body)) if fault in ("cut", "stall") else len(body)
        for block in range(0, end, 512):
            self.wfile.write(body[block : min(block + 512, end)])
            server.num_sent += min(512, end - block)
            time.sleep(server.pause)
        time.sleep(0.4 * (fault == "stall"))

    def send_headers(self, status, **headers):
        """The answer up to its content."""
        self.send_response(status)
        if status in (429, 503):
            headers["Retry_After"] = self.server.retry_after
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()


class FaultyServer(ThreadingHTTPServer):
    """Serves `files` (name → bytes); `plan(name)` names the fault of an answer, if any.

    `faults` is what `plan` takes from by default; `requests` lists `(name, Range, fault)` of all
    requests, `tokens` their `(host, Authorization)`; `num_sent` are the bytes of all contents;
    `pause` are the seconds between two blocks of 512 bytes. The fault `redirect` is none: the same
    file, at another host.
    """

    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files, self.faults, self.requests, self.tokens = {}, [], [], []
        self.num_sent = 0
        self.plan = lambda name: self.faults.pop(0) if self.faults else ""
        self.randint = lambda low, high: (low + high) // 2  # behind all that is random
        self.pause, self.retry_after, self.lock = 0.0, "0", threading.Lock()

    def handle_error(self, *_):
        """A client went away."""

    def misbehave(self, chance, share_honest, faults):
        """From now on most answers have faults, all of them in a random order, again and again."""
        deck = []

        def plan(name):
            if chance.random() < share_honest:
                return ""
            if not deck:
                deck.extend(faults)
                chance.shuffle(deck)
            return deck.pop()

        self.plan, self.randint = plan, chance.randint


def make_tar(tree, kind=tarfile.REGTYPE):
    """Of files, folders (whose names end with a slash), or what else tar knows."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for path, content in tree.items():
            info = tarfile.TarInfo(path)
            info.type = tarfile.DIRTYPE if path.endswith("/") else kind
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.linkname, content = content.decode(), b""
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


def fetch_and_die(file, home, kill_at):
    """The target of a process: fetch one file, and be killed at the n-th operation on files.

    So a test passes every state in which a process can die. The exit code is the number of
    operations, 255 after a failure.
    """
    transfer._BACKOFF, transfer._CHUNK_BYTES = 0.001, 512
    num_operations = 0

    def count(event, arguments):
        nonlocal num_operations
        opens = event == "open" and str(home) in str(arguments[0])
        if event.startswith(("os.", "shutil.", "fcntl.")) or opens:
            num_operations += 1
            if num_operations == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    [delivery] = fetch.fetch_archives([file], home / "archives", home / "raw")
    os._exit(num_operations if delivery.folder else 255)


def read_tree(folder):
    """Relative path → content of an extracted folder, without its marker."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != MARKER)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def outlast_faults(server, files, trees, folder, num_trials):
    """Each delivery is complete or absent with a reason, and an honest server mends them all."""
    outcomes, faulty = Counter(), server.plan
    for trial in range(num_trials):
        archives, raw = folder / f"{trial}/archives", folder / f"{trial}/raw"
        for server.plan in (faulty, lambda name: ""):
            deliveries = fetch.fetch_archives(files, archives, raw)
            for file, delivery in zip(files, deliveries, strict=True):
                archive = archives / file.archive
                outcomes[server.plan == faulty, delivery.folder is not None] += 1
                if delivery.folder:
                    assert delivery.problem == ""
                    assert read_tree(delivery.folder) == trees[file.name]
                    assert file.taken or archive.read_bytes() == server.files[file.archive]
                else:
                    assert delivery.problem.startswith(file.name)
                    assert file.taken or str(archive) in delivery.problem
                    assert not (raw / file.name).exists() and not archive.exists()
        left = {path.name for path in archives.iterdir()}
        assert left == {file.archive for file in files if not file.taken}
    assert outcomes[True, True] >= 10 and outcomes[True, False] >= 5 and not outcomes[False, False]
