"""Serves the page that draws a board: scripts, icons, the board, and the answers of Prometheus."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.drawing.installation import bundle, packages

Answers = Callable[[str, Mapping[str, list[str]]], bytes]
"""What Prometheus answers to a path under `/api/v1/` with these parameters."""

_HTML = b"""<!doctype html>
<meta charset="utf-8">
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/page.css">
<link rel="stylesheet" href="/uplot.css">
<script>
  window.__grafana_public_path__ = "/public/";
  window.grafanaBootData = { settings: { featureToggles: {} }, user: {} };
</script>
<body style="margin: 0"><div id="root"></div><script src="/page.js"></script>
"""
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def answers_of(url: str) -> Answers:
    """Return what asks the Prometheus at a URL."""
    place = urlsplit(url)

    def ask(path: str, parameters: Mapping[str, list[str]]) -> bytes:
        from urllib.parse import urlencode

        # Bodies may be long, but the values of a label are a GET.
        is_get = path.startswith("label/")
        sent = urlencode(parameters, doseq=True)
        where = f"/api/v1/{path}" + (f"?{sent}" if is_get else "")
        headers = {"content-type": "application/x-www-form-urlencoded"}
        with contextlib.closing(HTTPConnection(place.netloc, timeout=120)) as connection:
            connection.request(
                *("GET", where, None) if is_get else ("POST", where, sent.encode()),
                headers=headers,
            )
            return connection.getresponse().read()

    return ask


@contextlib.contextmanager
def serve_page(board: Mapping[str, Any], answers: Answers) -> Iterator[str]:
    """Serve the page for one board, and give its URL."""
    handler = partial(_Handler, board, answers, bundle(), packages())
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(
        self, board: Mapping[str, Any], answers: Answers, page: Path, modules: Path, *args: Any
    ) -> None:
        self._board, self._answers, self._page, self._modules = board, answers, page, modules
        super().__init__(*args)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path.startswith("/api/v1/"):
            asked = parse_qs(url.query, keep_blank_values=True)
            self._send("application/json", self._answers(url.path.removeprefix("/api/v1/"), asked))
        elif url.path == "/":
            self._send("text/html", _HTML)
        elif url.path == "/board.json":
            self._send("application/json", json.dumps(self._board).encode())
        else:
            self._file(url.path)

    def _file(self, path: str) -> None:
        if path == "/uplot.css":
            file = self._modules / "uplot/dist/uPlot.min.css"
        elif path.startswith("/public/") and ".." not in path:
            file = self._modules / "@grafana/ui/dist" / path.lstrip("/")
        else:
            file = self._page / path.rpartition("/")[2]
        if file.is_file():
            self._send(_TYPES.get(file.suffix, "application/octet-stream"), file.read_bytes())
        else:
            self._send("text/plain", b"", status=404)

    def _send(self, content_type: str, body: bytes, *, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass
