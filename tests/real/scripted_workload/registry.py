"""A registry from which an Ollama server can pull any model."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

SIZE = 300_000
"""Size of the weights of each model, in bytes."""
PIECE, PAUSE = SIZE // 8, 0.05
"""Bytes, and seconds between them: the server reports no progress for a body sent at once."""


def weights(model: str) -> bytes:
    """Different weights per name; the server does not read them before it loads them."""
    return Random(model).randbytes(SIZE)


@contextlib.contextmanager
def serving_models() -> Iterator[str]:
    """Yield the `HOST:PORT` of the registry, the prefix of its models' names."""
    blobs: dict[str, bytes] = {}

    def layer(kind: str, content: bytes) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        blobs[digest] = content
        return {"mediaType": kind, "digest": digest, "size": len(content)}

    def manifest(model: str) -> bytes:
        configuration = {"model_format": "gguf", "model_family": "none"}
        content = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": layer(
                "application/vnd.docker.container.image.v1+json",
                json.dumps(configuration).encode(),
            ),
            "layers": [layer("application/vnd.ollama.image.model", weights(model))],
        }
        return json.dumps(content).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
            if "/manifests/" in self.path:
                self._answer(200, manifest(self.path))
            elif self.command == "HEAD":
                self._answer(200, blobs[name])
            elif asked:
                self._answer(206, blobs[name][int(asked[1]) : int(asked[2]) + 1])
            else:
                # An Ollama server takes blobs from another host than the registry's.
                elsewhere = f"http://localhost:{server.server_address[1]}{self.path}"
                self._answer(307, b"", location=elsewhere)

        def _answer(self, status: int, content: bytes, **headers: str) -> None:
            self.send_response(status)
            for header, value in {**headers, "content-length": str(len(content))}.items():
                self.send_header(header, value)
            self.end_headers()
            if self.command == "GET":
                for begin in range(0, len(content), PIECE):
                    self.wfile.write(content[begin : begin + PIECE])
                    time.sleep(PAUSE)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
