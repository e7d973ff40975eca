"""A workload of every kind of call, written to a log and traced at the same time."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import httpx
import ollama

from ollama_otel import instrument_client
from ollama_otel.context import call_context
from ollama_otel.replay import ReplayLog
from ollama_otel.settings import Settings
from ollama_otel.testing import Capture, FakeOllama, Fault

TOOL = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "parameters": {"type": "object", "properties": {"location": {"type": "string"}}},
    },
}


def run(log: Path, *, bodies: bool = False) -> Capture:
    """Make the calls; return what was traced."""
    capture = Capture()
    server = FakeOllama()
    with ReplayLog(log, bodies=bodies) as written:
        options = dict(capture.options)
        options["observers"] = [*options["observers"], written]
        client: Any = instrument_client(
            ollama.Client("http://127.0.0.1:11434", transport=server.transport()),
            settings=Settings(),
            **options,
        )
        _calls(client, server)
    return capture


def _calls(client: Any, server: FakeOllama) -> None:
    hello = [{"role": "user", "content": "Hello"}]
    for number in range(6):
        with call_context(
            conversation_id=f"c{number // 2}",
            user_id=f"user {number % 3}",
            tags={"team": "red" if number % 2 else "blue's", "stage.name": "x"},
        ):
            client.chat(
                "llama3.2", hello, options={"num_ctx": 2048 * (1 + number % 2), "temperature": 0.5}
            )
    for part in client.chat("llama3.2", hello, stream=True, keep_alive="5m"):
        assert part
    stream = client.chat("llama3.2", hello, stream=True)
    next(iter(stream))
    stream.close()
    client.generate("llama3.2", "Why?", options={"num_predict": -1, "stop": ["x", "'"]}, raw=True)
    client.generate("llama3.2", "Why?", options={"num_predict": 5, "seed": 3})
    client.generate("llama3.2")
    client.embed("nomic-embed-text", ["a", "b"])
    client.chat("llama3.2", hello, tools=[TOOL])
    client.chat("qwen3", hello, think=True, format="json")
    with suppress(ollama.ResponseError):
        client.chat("nobody's", hello)
    server.fault("/api/chat", Fault(refuse=True))
    with suppress(ConnectionError, httpx.HTTPError):
        client.chat("llama3.2", hello)
    client.list()
    client.show("llama3.2")
    _at_once(client)


def _at_once(client: Any) -> None:
    """Make four calls at the same time."""
    start = Barrier(4)

    def call() -> None:
        start.wait(60)
        client.generate("llama3.2", "Why is the sky blue?")

    threads = [Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
