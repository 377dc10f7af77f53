"""A local HTTP server for the simulated archives, as a mirror that the study fetches from."""

import contextlib
import functools
import http.server
import io
import re
import threading
from collections.abc import Iterator
from pathlib import Path


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, also from a given byte on (RFC 9110, section 14)."""

    def log_message(self, *_) -> None:
        pass

    def send_head(self):
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if not asked or not path.is_file():
            return super().send_head()
        size, start = path.stat().st_size, int(asked[1])
        stop = min(int(asked[2] or size) + 1, size)
        sent = f"{start}-{stop - 1}" if start < stop else "*"
        self.send_response(206 if start < stop else 416)
        self.send_header("Content-Range", f"bytes {sent}/{size}")
        self.send_header("Content-Length", str(max(stop - start, 0)))
        self.end_headers()
        with path.open("rb") as stream:
            stream.seek(start)
            return io.BytesIO(stream.read(max(stop - start, 0)))


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serves a folder on this machine while a `with` block runs; gives the base address."""
    handler = functools.partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
