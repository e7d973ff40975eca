"""Every native route on a real Ollama, through the drop-in client: what is recorded is what it said."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import httpx
import ollama
import pytest

from ollama_otel import AsyncClient, CallRecord, Client
from ollama_otel.testing import Capture

from .servers import RealOllama

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_current_weather",
            "description": "Current weather",
            "parameters": {
                "type": "object",
                "properties": {"location": {"type": "string"}},
                "required": ["location"],
            },
        },
    }
]


class Colour:
    """One scenario for both colours: `run(client -> call)` gives a list of parts."""

    def __init__(self, *, is_async: bool, url: str, capture: Capture) -> None:
        self.is_async = is_async
        self.url = url
        self.capture = capture

    def run(self, call: Callable[[Any], Any]) -> list[Any]:
        if self.is_async:
            return asyncio.run(self._arun(call))
        client = Client(self.url, **self.capture.options)
        with client:
            result = call(client)
            return list(result) if inspect.isgenerator(result) else [result]

    async def _arun(self, call: Callable[[Any], Any]) -> list[Any]:
        async with AsyncClient(self.url, **self.capture.options) as client:
            result = await call(client)
            if inspect.isasyncgen(result):
                return [part async for part in result]
            return [result]


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def colour(request: pytest.FixtureRequest, real_ollama: RealOllama, capture: Capture) -> Colour:
    return Colour(is_async=request.param, url=real_ollama.url, capture=capture)


def chat(text: str, **options: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **options}


@pytest.fixture
def client(real_ollama: RealOllama, capture: Capture) -> Iterator[Client]:
    with Client(real_ollama.url, **capture.options) as client:
        yield client


def the_record(capture: Capture) -> CallRecord:
    assert len(capture.records) == len(capture.spans) == 1
    return capture.records[0]


def agrees(record: CallRecord, final: Any) -> None:
    """The span's and the record's counts and durations are the server's own."""
    response = record.response
    assert response.input_tokens == final.prompt_eval_count is not None
    assert response.output_tokens == final.eval_count
    for seconds, nanoseconds in (
        (response.total_duration, final.total_duration),
        (response.load_duration, final.load_duration),
        (response.prompt_eval_duration, final.prompt_eval_duration),
        (response.eval_duration, final.eval_duration),
    ):
        assert (seconds is None) == (nanoseconds is None)
        if seconds is not None:
            assert seconds == pytest.approx(nanoseconds / 1e9)


def test_a_chat_is_recorded_with_the_servers_counts(colour: Colour, capture: Capture) -> None:
    [answer] = colour.run(lambda client: client.chat("tiny-agent", **chat("Hello")))
    record = the_record(capture)
    [span] = capture.spans
    agrees(record, answer)
    assert record.outcome == "completed"
    assert span.name == "chat tiny-agent"
    assert span.attributes is not None
    assert span.attributes["gen_ai.usage.input_tokens"] == answer.prompt_eval_count
    assert span.attributes["gen_ai.usage.output_tokens"] == answer.eval_count
    assert span.attributes["ollama.response.eval_duration"] == answer.eval_duration / 1e9
    assert span.attributes["gen_ai.response.finish_reasons"] == ("stop",)


def test_a_stream_is_recorded_chunk_by_chunk(colour: Colour, capture: Capture) -> None:
    parts = colour.run(
        lambda client: client.chat("tiny-agent", stream=True, **chat("Tell me a story."))
    )
    record = the_record(capture)
    agrees(record, parts[-1])
    assert record.chunk_count == len(parts)
    assert record.time_to_first_chunk is not None
    assert record.time_to_first_answer == record.time_to_first_chunk
    assert record.longest_gap is not None
    assert 0 < record.time_to_first_chunk < record.duration
    assert record.response.total_duration is not None
    # The client's clock runs around the server's.
    assert record.duration >= record.response.total_duration * 0.99
    usage = capture.metrics()["gen_ai.client.token.usage"]
    by_type = {point.attributes["gen_ai.token.type"]: point.value for point in usage}
    assert by_type == {"input": parts[-1].prompt_eval_count, "output": parts[-1].eval_count}


def test_thinking_is_told_apart_from_the_answer(colour: Colour, capture: Capture) -> None:
    parts = colour.run(
        lambda client: client.chat("tiny-thinker", stream=True, **chat("Why is the sky blue?"))
    )
    record = the_record(capture)
    assert any(part.message.thinking for part in parts)
    assert record.response.has_thinking
    assert record.time_to_first_chunk is not None
    assert record.time_to_first_answer is not None
    assert record.time_to_first_answer > record.time_to_first_chunk


def test_tools_called_at_once_are_named(colour: Colour, capture: Capture) -> None:
    question = "Compare the weather in Paris and Tokyo."
    parts = colour.run(
        lambda client: client.chat("tiny-agent", stream=True, tools=TOOLS, **chat(question))
    )
    called = [call.function.name for part in parts for call in part.message.tool_calls or ()]
    record = the_record(capture)
    assert called == ["get_current_weather"] * 2
    assert list(record.response.tool_calls) == called
    assert record.start.request.tools == ("get_current_weather",)
    assert record.finish_reason == "tool_call"


def test_generate_embed_and_embeddings_are_recorded(colour: Colour, capture: Capture) -> None:
    [generated] = colour.run(lambda client: client.generate("tiny-agent", "Hello"))
    [embedded] = colour.run(lambda client: client.embed("tiny-embed", ["one", "two"]))
    [legacy] = colour.run(lambda client: client.embeddings("tiny-embed", "one"))
    first, second, third = capture.records
    agrees(first, generated)
    assert second.response.input_tokens == embedded.prompt_eval_count
    assert second.response.total_duration == pytest.approx(embedded.total_duration / 1e9)
    assert second.start.request.input_count == 2
    assert len(embedded.embeddings) == 2
    assert len(legacy.embedding) == 128
    # The old route says nothing, so nothing is known.
    assert third.outcome == "completed"
    assert third.response.input_tokens is None
    assert [span.name for span in capture.spans] == [
        "text_completion tiny-agent",
        "embeddings tiny-embed",
        "embeddings tiny-embed",
    ]


def test_model_management_is_recorded(colour: Colour, capture: Capture, tmp_path: Any) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(b"a blob of its own %f" % time.time())
    name = "copied-async" if colour.is_async else "copied"
    steps: tuple[tuple[str, Callable[[Any], Any]], ...] = (
        ("list_models", lambda client: client.list()),
        ("show_model tiny-agent", lambda client: client.show("tiny-agent")),
        ("list_running_models", lambda client: client.ps()),
        ("copy_model tiny-agent", lambda client: client.copy("tiny-agent", name)),
        (
            f"create_model {name}-2",
            lambda client: client.create(
                f"{name}-2", from_="tiny-agent", system="Hi.", stream=True
            ),
        ),
        (f"delete_model {name}", lambda client: client.delete(name)),
        (f"delete_model {name}-2", lambda client: client.delete(f"{name}-2")),
        ("create_blob", lambda client: client.create_blob(blob)),
        ("load_model tiny-agent", lambda client: client.generate("tiny-agent")),
        ("load_model tiny-embed", lambda client: client.embed("tiny-embed", "")),
        (
            "unload_model tiny-agent",
            lambda client: client.generate("tiny-agent", keep_alive=0),
        ),
    )
    for _, step in steps:
        colour.run(step)
    assert [span.name for span in capture.spans] == [name for name, _ in steps]
    assert [record.outcome for record in capture.records] == ["completed"] * len(steps)
    managed = capture.metrics()["ollama.client.operation.duration"]
    assert sum(point.count or 0 for point in managed) == len(steps)
    assert "gen_ai.client.operation.duration" not in capture.metrics()


def test_the_version_is_asked_through_an_instrumented_httpx_client(
    real_ollama: RealOllama, capture: Capture
) -> None:
    from ollama_otel import instrument_client

    with instrument_client(httpx.Client(base_url=real_ollama.url), **capture.options) as client:
        assert client.get("/api/version").json() == {"version": real_ollama.version}
        assert client.head("/api/version").status_code == 200
        assert client.get("/").text == "Ollama is running"
    assert [span.name for span in capture.spans] == ["get_version", "get_version"]


def test_a_pull_that_fails_in_its_stream_is_a_failure(colour: Colour, capture: Capture) -> None:
    with pytest.raises(ollama.ResponseError, match="pull model manifest"):
        colour.run(lambda client: client.pull("127.0.0.1:1/library/absent", stream=True))
    record = the_record(capture)
    assert record.http_status == 200
    assert (record.outcome, record.error_type) == ("failed", "upstream")


@pytest.mark.parametrize(
    ("call", "status", "error_type"),
    [
        (lambda c: c.chat("absent", **chat("Hi")), 404, "model_not_found"),
        (lambda c: c.chat("absent", stream=True, **chat("Hi")), 404, "model_not_found"),
        (lambda c: c.chat("tiny-agent", think=True, **chat("Hi")), 400, "unsupported"),
        (lambda c: c.chat("tiny-embed", **chat("Hi")), 400, "unsupported"),
        (lambda c: c.chat("tiny-thinker", tools=TOOLS, **chat("Hi")), 400, "unsupported"),
        (lambda c: c.embed("tiny-agent", "Hi"), 501, "unsupported"),
        (lambda c: c.embed("tiny-embed", "word " * 3000, truncate=False), 400, "context_exceeded"),
        (
            lambda c: c.chat("tiny-agent", options={"stop": "."}, **chat("Hi")),
            500,
            "invalid_request",
        ),
    ],
)
def test_errors_are_raised_as_ever_and_typed(
    colour: Colour, capture: Capture, call: Callable[[Any], Any], status: int, error_type: str
) -> None:
    with pytest.raises(ollama.ResponseError) as raised:
        colour.run(call)
    record = the_record(capture)
    assert raised.value.status_code == status == record.http_status
    assert (record.outcome, record.error_type) == ("failed", error_type)
    assert not capture.spans[0].status.is_ok


@pytest.mark.parametrize(
    ("body", "known"),
    [
        ({"model": "absent"}, "model 'absent' not found"),
        (
            {"think": "Zq9Canary"},
            'invalid think value: [...] (must be "high", "medium", "low", "max", true, or false)',
        ),
        ({"keep_alive": "Zq9Canary"}, "time: invalid duration [...]"),
        (
            {"format": "Zq9Canary"},
            'invalid format: [...] expected "json" or a valid JSON Schema object',
        ),
        (
            {"options": {"temperature": "Zq9Canary"}},
            'option "temperature" must be of type float32',
        ),
        (
            {"model": "tiny-thinker", "tools": TOOLS},
            "registry.ollama.ai/library/tiny-thinker:latest does not support tools",
        ),
        (
            {"messages": [{"role": "user", "content": "x", "images": ["Zq9Canary"]}]},
            "illegal base64 data at input byte 8",
        ),
    ],
)
def test_an_error_is_said_without_what_it_quotes(
    real_ollama: RealOllama, capture: Capture, body: dict[str, Any], known: str
) -> None:
    from ollama_otel import instrument_client

    asked = {"model": "tiny-agent", **chat("Zq9Canary"), **body}
    with instrument_client(httpx.Client(base_url=real_ollama.url), **capture.options) as client:
        assert client.post("/api/chat", json=asked, timeout=60).status_code >= 400
    assert the_record(capture).error_message == known
    [span] = capture.spans
    assert span.status.description == known
    assert "Zq9Canary" not in span.to_json()


def test_a_prompt_too_long_is_told_from_a_document_in_a_string(
    real_ollama: RealOllama, capture: Capture
) -> None:
    from ollama_otel import instrument_client

    body = {"model": "tiny-agent", "truncate": False, "stream": False, **chat("word " * 3000)}
    with instrument_client(httpx.Client(base_url=real_ollama.url), **capture.options) as client:
        assert client.post("/api/chat", json=body, timeout=60).status_code == 400
    record = the_record(capture)
    assert record.error_type == "context_exceeded"
    assert "exceeds the available context size" in str(record.error_message)
    assert "{" not in str(record.error_message)


def test_a_stream_left_early_is_abandoned(colour: Colour, capture: Capture) -> None:
    async def leave_async(client: Any) -> None:
        stream = await client.chat("tiny-agent", stream=True, **chat("Tell me a story."))
        async for _ in stream:
            break
        await stream.aclose()

    def leave(client: Any) -> None:
        for _ in client.chat("tiny-agent", stream=True, **chat("Tell me a story.")):
            break

    colour.run(leave_async if colour.is_async else leave)
    record = the_record(capture)
    assert (record.outcome, record.error_type) == ("abandoned", None)
    assert record.response.output_tokens is None
    assert capture.spans[0].status.is_unset
    assert capture.total("ollama.client.request.active") == 0


def test_an_engine_killed_in_mid_stream_is_a_failure(
    real_ollama: RealOllama, client: Client, capture: Capture
) -> None:
    # A long list takes more than a second; a story is told before the engine is dead.
    words = {"type": "array", "items": {"enum": ["sun", "moon", "tide"]}, "minItems": 300}
    options = {"num_ctx": 2048, "temperature": 1.0, "seed": 1}
    # Load the engine and find it first: on a busy machine that takes longer than the answer.
    with ollama.Client(real_ollama.url) as plain:
        plain.generate("tiny-agent", "", options=options)
    engines = real_ollama.engine_pids()
    stream = client.chat(
        "tiny-agent", stream=True, format=words, options=options, **chat("Tell me a story.")
    )
    said = None
    try:
        for number, _ in enumerate(stream):
            if number == 0:
                for pid in engines:
                    os.kill(pid, signal.SIGKILL)
    except ollama.ResponseError as error:
        said = error.error
    record = the_record(capture)
    assert record.http_status == 200
    # Now and then the server just ends the stream, which the official client takes for a good end.
    assert (record.outcome, record.error_type, record.error_message) == (
        ("failed", "runner_crashed", said)
        if said
        else ("failed", "incomplete", "the answer ended without its final message")
    )


def test_a_cold_start_is_seen_on_the_first_call_only(
    cold_ollama: RealOllama, client: Client, capture: Capture
) -> None:
    for _ in range(3):
        client.chat("tiny-agent", **chat("Hello"))
    assert [bool((span.attributes or {}).get("ollama.cold_start")) for span in capture.spans] == [
        True,
        False,
        False,
    ]
    assert capture.total("ollama.client.load.duration") == 1


def test_the_queue_estimate_agrees_with_the_servers_serial_order(
    client: Client, capture: Capture
) -> None:
    client.chat("tiny-agent", **chat("Tell me a story."))
    capture.clear()
    with ThreadPoolExecutor(16) as pool:
        asked = [
            pool.submit(client.chat, "tiny-agent", **chat("Tell me a story.")) for _ in range(16)
        ]
    # The server's wall clock is a second source: it stamps each answer at its end, and with
    # one slot a call can run only once the one before it has ended.
    answers = sorted((call.result() for call in asked), key=lambda answer: answer.created_at)
    estimates = {r.response.total_duration: r.queue_estimate for r in capture.records}
    waits = [estimates[answer.total_duration / 1e9] for answer in answers]
    ends = [datetime.fromisoformat(answer.created_at[:26] + "+00:00") for answer in answers]
    for end, before, answer, wait in zip(ends[1:], ends, answers[1:], waits[1:], strict=False):
        runner_ready = end.timestamp() - (answer.total_duration - answer.load_duration) / 1e9
        assert wait == pytest.approx(max(0.0, before.timestamp() - runner_ready), rel=0.1, abs=0.05)
    shortest = min(answer.prompt_eval_duration + answer.eval_duration for answer in answers) / 1e9
    assert max(wait for wait in waits if wait is not None) > 4 * shortest
    assert capture.metrics()["ollama.client.queue.estimated_duration"]
