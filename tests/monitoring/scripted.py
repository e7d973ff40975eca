"""HTTP servers with scripted responses that record their requests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes

    @property
    def route(self) -> str:
        return urlsplit(self.path).path

    @property
    def form(self) -> dict[str, str]:
        """Parameters of the URL or the body."""
        text = urlsplit(self.path).query if self.method == "GET" else self.body.decode()
        return {name: values[0] for name, values in parse_qs(text).items()}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Scripted:
    url: str
    requests: list[Request] = field(default_factory=list)

    def asked(self, method: str, route: str) -> list[Request]:
        return [each for each in self.requests if (each.method, each.route) == (method, route)]


Answering = Callable[[Request], tuple[int, Any]]
"""Returns status and body; a body that is not bytes is sent as JSON."""


@contextmanager
def answering(answer: Answering) -> Iterator[Scripted]:
    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            request = Request(
                method=self.command,
                path=self.path,
                headers={name.lower(): value for name, value in self.headers.items()},
                body=self.rfile.read(int(self.headers.get("content-length", 0))),
            )
            scripted.requests.append(request)
            status, said = answer(request)
            content = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = respond  # noqa: N815 - the base class has them so

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        scripted = Scripted(url=f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield scripted
        finally:
            server.shutdown()
            thread.join()
