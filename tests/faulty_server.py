"""A local HTTP server that misbehaves to order, to prove that a delivery survives it."""

import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TRANSIENT = (
    "cut",  # the connection ends after a random byte
    "close",  # it ends before any answer
    "announce_less",  # Content-Length is smaller than what follows
    "announce_more",  # Content-Length is larger than what follows
    "ignore_range",  # the whole file although a part was asked for
    "wrong_range",  # another part than asked for
    "wrong_byte",  # one byte differs
    "stall",  # silence in the middle
    "portal",  # a login page instead of the file, with status 200
    "416",
    "429",
    "500",
    "503",
)
PERMANENT = ("401", "403", "404")


class FaultyServer:
    """Serves `files` (name → bytes), with a fault wherever `plan(name)` names one.

    Args:
        files: File name → content; may be changed while it runs.
        plan: Function of a file name that returns one of `TRANSIENT` or `PERMANENT`, or `None` for
            an honest answer. Called under a lock.
        randint: `randint(low, high)` behind the random bytes.
        silence: Seconds that a stall lasts.
        pause: Seconds between two blocks of 512 bytes.

    Attributes:
        requests: `(name, Range header or "", fault or "")` of all requests.
        num_bytes: Bytes of content sent so far.
    """

    def __init__(
        self,
        files,
        plan=lambda name: None,
        *,
        randint=lambda low, high: high,
        silence=0.3,
        pause=0.0,
    ):
        self.files, self.plan, self.randint, self.silence, self.pause = (
            files,
            plan,
            randint,
            silence,
            pause,
        )
        self.requests, self.num_bytes, self.retry_after = [], 0, "0"
        self.lock, self.closing = threading.Lock(), threading.Event()

    def __enter__(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads, block_on_close = True, False

            def handle_error(self, *_):  # a client that went away
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    def answer(self, handler):
        """One request."""
        name, wanted = handler.path.rsplit("/", 1)[-1], handler.headers.get("Range", "")
        with self.lock:
            fault = self.plan(name) or ""
            self.requests.append((name, wanted, fault))
        if fault == "close":
            return self.hang_up(handler)
        if fault.isdigit() or name not in self.files:
            return self.refuse(handler, int(fault or 404))
        content = self.files[name]
        etag = f'"{len(content)}-{hash(content)}"'
        if fault == "portal":
            content, wanted = b"<html>Please sign in</html>", ""
        start = 0
        if wanted and fault != "ignore_range" and handler.headers.get("If-Range", etag) == etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                return self.refuse(handler, 416)
            if fault == "wrong_range":
                start = max(0, start - 1)
        body = bytearray(content[start:])
        announced = len(body)
        if fault == "wrong_byte":
            body[self.randint(0, len(body) - 1)] ^= 0xFF
        if fault == "announce_less":
            announced = self.randint(0, len(body) - 1)
        if fault == "announce_more":
            announced += self.randint(1, 1000)
        handler.send_response(206 if start else 200)
        if start:
            total = len(content) + announced - len(body)
            handler.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{total}")
        handler.send_header("Content-Length", str(announced))
        handler.send_header("ETag", etag)
        handler.end_headers()
        self.send(handler, fault, body)

    def send(self, handler, fault, body):
        """The content, up to where the fault strikes."""
        end = self.randint(0, len(body)) if fault in ("cut", "stall") else len(body)
        try:
            for block in range(0, end, 512):
                sent = body[block : min(block + 512, end)]
                handler.wfile.write(sent)
                self.num_bytes += len(sent)
                if self.pause:
                    time.sleep(self.pause)
        except OSError:
            handler.close_connection = True
            return
        if fault == "stall":
            self.closing.wait(self.silence)
        if fault in ("cut", "stall", "announce_more", "announce_less"):
            self.hang_up(handler)

    def refuse(self, handler, status):
        """An answer without the file."""
        handler.send_response(status)
        if status in (429, 503):
            handler.send_header("Retry-After", self.retry_after)
        handler.send_header("Date", formatdate(usegmt=True))
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def hang_up(self, handler):
        """End the connection."""
        handler.close_connection = True
        try:
            handler.connection.shutdown(2)
        except OSError:
            pass
