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
from urllib.parse import parse_qs, urlencode, urlsplit

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
_FONTS = {
    "Inter-Regular.woff2": "inter/files/inter-latin-400-normal.woff2",
    "Inter-Medium.woff2": "inter/files/inter-latin-500-normal.woff2",
    "L0xTDF4xlVMF-BfR8bXMIhJHg45mwgGEFl0_3vrtSM1J-gEPT5Ese6hmHSh0mQ.woff2": (
        "roboto-mono/files/roboto-mono-latin-400-normal.woff2"
    ),
}
"""Grafana's names of the fonts that decide how wide texts are, and ours of the same fonts."""
_JSON = "application/json"
_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}


def answers_of(url: str) -> Answers:
    """Return what asks the Prometheus at a URL."""
    place = urlsplit(url)

    def ask(path: str, parameters: Mapping[str, list[str]]) -> bytes:
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


class PageServer:
    """Serves one board at a time, always at the same URL, so that Chromium compiles the page once."""

    def __init__(self) -> None:
        self._page, self._modules = bundle(), packages()
        self._board: Mapping[str, Any] = {}
        self._answers: Answers = _nothing
        self.url = ""

    def show(self, board: Mapping[str, Any], answers: Answers) -> None:
        """Serve this board from now on."""
        self._board, self._answers = board, answers

    def found(self, path: str, parameters: Mapping[str, list[str]]) -> tuple[str, bytes] | None:
        """Return the type and content of a path, or None."""
        if path.startswith("/api/v1/"):
            return _JSON, self._answers(path.removeprefix("/api/v1/"), parameters)
        if path == "/":
            return "text/html", _HTML
        if path == "/board.json":
            return _JSON, json.dumps(self._board).encode()
        file = self._file(path)
        return (_TYPES[file.suffix], file.read_bytes()) if file.is_file() else None

    def _file(self, path: str) -> Path:
        name = path.rpartition("/")[2]
        if name in _FONTS:
            return self._modules / "@fontsource" / _FONTS[name]
        if name == "uplot.css":
            return self._modules / "uplot/dist/uPlot.min.css"
        if path.startswith("/public/"):
            return self._modules / "@grafana/ui/dist" / path.lstrip("/")
        return self._page / name


def _nothing(path: str, parameters: Mapping[str, list[str]]) -> bytes:
    raise LookupError(path)


@contextlib.contextmanager
def serve_page() -> Iterator[PageServer]:
    """Serve the page to this machine."""
    page = PageServer()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, page)) as server:
        server.daemon_threads = True
        page.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield page
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, page: PageServer, *args: Any) -> None:
        self._page = page
        super().__init__(*args)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        found = self._page.found(url.path, parse_qs(url.query, keep_blank_values=True))
        content_type, body = found or ("text/plain", b"")
        self.send_response(200 if found else 404)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        is_script = content_type == _TYPES[".js"]
        self.send_header("cache-control", "max-age=3600" if is_script else "no-store")
        self.end_headers()
        # The page stops what it no longer needs.
        with contextlib.suppress(BrokenPipeError):
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass
