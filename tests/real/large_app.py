"""An app that asks 50 models on 5 servers everything there is to ask: `python -m tests.real.large_app`.

Calls are told to the recorder as values; only what the servers hold is asked of servers, as there is no other way.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

from ollama_otel import Telemetry, configure
from ollama_otel._telemetry.instrumentation import instrumentation_for
from tests.telemetry.call_script import Scene, chat, final

SERVERS = 5
MODELS = tuple(f"model-{number}:8b" for number in range(50))
TIMINGS = {
    "total_duration": 3_000_000_000,
    "load_duration": 900_000_000,
    "prompt_eval_count": 10,
    "prompt_eval_duration": 200_000_000,
    "eval_count": 20,
    "eval_duration": 400_000_000,
}
SILENT = (b'{"error":"model failed to load"}',)


class Holding:
    """Servers that hold all models, or none."""

    def __init__(self) -> None:
        self.is_loaded = True

    def said(self, path: str) -> dict[str, Any]:
        if path == "/api/version":
            return {"version": "0.33.0"}
        is_empty = path == "/api/ps" and not self.is_loaded
        return {"models": [] if is_empty else [self._model(name) for name in MODELS]}

    def _model(self, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "model": name,
            "size": 5_000_000_000,
            "size_vram": 4_000_000_000,
            "context_length": 4096,
            "expires_at": "2318-01-01T00:00:00Z",
        }

    @contextlib.contextmanager
    def serving(self) -> Iterator[int]:
        """One of them, at a port."""
        holding = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(holding.said(self.path)).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever, args=(0.02,))
            thread.start()
            try:
                yield server.server_address[1]
            finally:
                server.shutdown()
                thread.join()


def encoded(**fields: Any) -> bytes:
    return json.dumps({"model": "m", **fields}).encode() + b"\n"


STREAM = (chat("Hi"), 0.5, chat(" there"), 0.5, final(**TIMINGS))
TEXT = (
    encoded(response="Hi", done=False),
    0.5,
    encoded(response=" there", done=False),
    0.5,
    encoded(response="", done=True, **TIMINGS),
)
VECTORS = (encoded(embeddings=[[0.1]], **TIMINGS),)
INFERENCES: tuple[tuple[str, tuple[bytes | float, ...], dict[str, Any]], ...] = (
    ("/api/chat", STREAM, {"messages": [{"role": "user", "content": "Hi"}]}),
    ("/api/generate", TEXT, {"prompt": "Hi"}),
    ("/api/embed", VECTORS, {"input": "Hi"}),
)


def ask_everything(scene: Scene, model: str, port: int) -> None:
    """Every operation on a model, inferences in every outcome."""
    for path, answer, rest in INFERENCES:
        asked: dict[str, Any] = {"path": path, "port": port}
        body = {"model": model, **rest}
        if path != "/api/embed":
            body["stream"] = True
            scene.play(*answer, body=body, stops_after=1, **asked)
        scene.play(0.5, *answer, body=body, **asked)
        scene.play(answer[0], KeyboardInterrupt(), body=body, **asked)
        scene.play(*SILENT, status=500, body=body, **asked)
        scene.play(ConnectionRefusedError(), body=body, **asked)
        scene.play(b'{"done":true}', body={"model": model}, **asked)
        scene.play(b'{"done":true}', body={"model": model, "keep_alive": 0}, **asked)
    for path in ("/api/pull", "/api/push"):
        moved = [
            encoded(status="moving", digest="d", total=9, completed=size, model=None)
            for size in (1, 9)
        ]
        body = {"model": model, "stream": True}
        scene.play(*moved, encoded(status="success"), path=path, body=body, port=port)
    for method, path in (
        ("POST", "/api/show"),
        ("POST", "/api/create"),
        ("DELETE", "/api/delete"),
    ):
        scene.play(b"{}", method=method, path=path, body={"model": model}, port=port)
    copied = {"source": model, "destination": "x"}
    scene.play(b"{}", path="/api/copy", body=copied, port=port)


def wait_for_models(telemetry: Telemetry, ports: list[int], count: int) -> None:
    assert telemetry.residency is not None
    deadline = time.monotonic() + 60
    while True:
        states = [state for state in telemetry.residency.servers() if state.port in ports]
        if [len(state.models or ()) for state in states] == [count] * SERVERS:
            return
        assert time.monotonic() < deadline, states
        time.sleep(0.05)


def main() -> None:
    telemetry = configure(
        service_name="large",
        export_interval=3600.0,
        residency=True,
        residency_interval=0.1,
        time_per_output_chunk=True,
    )
    scene = Scene(SimpleNamespace(options={}))  # type: ignore[arg-type]
    # The process's own, residency included.
    scene.instrumentation = replace(instrumentation_for({})(), clock=scene.clock)
    holding = Holding()
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(holding.serving()) for _ in range(SERVERS)]
        assert telemetry.residency is not None
        for port in ports:
            telemetry.residency.watch(f"http://127.0.0.1:{port}")
            for path in ("/api/tags", "/api/ps", "/api/version"):
                scene.play(b"{}", method="GET", path=path, body={}, port=port)
            for model in MODELS:
                ask_everything(scene, model, port)
        for is_loaded in (True, False, True):
            holding.is_loaded = is_loaded
            wait_for_models(telemetry, ports, len(MODELS) if is_loaded else 0)
        assert telemetry.flush(60)
        telemetry.shutdown()


if __name__ == "__main__":
    main()
