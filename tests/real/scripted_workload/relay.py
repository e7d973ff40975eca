"""Stands where a collector would: hands OTLP on to several receivers at once, and loses some of it."""

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
"""A batch of spans with these words in it is refused."""
_REFUSED_EVERY = 5
"""Exports of metrics; the next one makes good for it, as counters only grow."""

_REFUSALS: tuple[dict[str, Any], ...] = (
    {"status": 400, "content": b""},
    # What the exporter cannot read is an error of another kind: an exception.
    {"status": 200, "content": b"no gzip", "encoding": "gzip"},
)


@contextlib.contextmanager
def relaying(to: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """The base URL of a relay from each path to some URLs; what one of them refuses is refused."""
    exports = itertools.count(1)
    refusals = {path: itertools.cycle(_REFUSALS) for path in to}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if LOST in body or ("metrics" in self.path and next(exports) % _REFUSED_EVERY == 0):
                self._answer(**next(refusals[self.path]))
            else:
                status, content = max(self._hand_on(url, body) for url in to[self.path])
                self._answer(status, content)

        def _answer(self, status: int, content: bytes, encoding: str = "identity") -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.send_header("content-encoding", encoding)
            self.end_headers()
            self.wfile.write(content)

        def _hand_on(self, url: str, body: bytes) -> tuple[int, bytes]:
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
