"""Replaces a collector: forwards OTLP to several receivers, and rejects some of it."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

LOST = b"lost on the way"
"""A batch of spans that contains these words is rejected."""
_REFUSED_EVERY = 5
"""Exports of metrics; the next export makes up for it, as counters are cumulative."""

_REFUSALS: tuple[dict[str, Any], ...] = (
    {"status": 400, "content": b""},
    # A response that the exporter cannot decode raises an exception.
    {"status": 200, "content": b"no gzip", "encoding": "gzip"},
)


@contextlib.contextmanager
def relaying(to: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield the base URL of a relay from paths to URLs; an error of one receiver is returned."""
    exports = itertools.count(1)
    refusals = {path: itertools.cycle(_REFUSALS) for path in to}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if LOST in body or ("metrics" in self.path and next(exports) % _REFUSED_EVERY == 0):
                self._answer(**next(refusals[self.path]))
            else:
                status, content = max(self._forward(url, body) for url in to[self.path])
                self._answer(status, content)

        def _answer(self, status: int, content: bytes, encoding: str = "identity") -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.send_header("content-encoding", encoding)
            self.end_headers()
            self.wfile.write(content)

        def _forward(self, url: str, body: bytes) -> tuple[int, bytes]:
            address = urlsplit(url)
            headers = {"content-type": self.headers["content-type"]}
            with contextlib.closing(HTTPConnection(address.netloc, timeout=30)) as connection:
                connection.request("POST", address.path, body, headers)
                response = connection.getresponse()
                return response.status, response.read()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
