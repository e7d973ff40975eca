"""A span says all that is known of a call, and nothing that is not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry import baggage, propagate, trace
from opentelemetry import context as otel_context
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import Setter, TextMapPropagator, default_setter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes

from ollama_otel import _names as names
from ollama_otel.context import CallContext
from ollama_otel.settings import Settings
from ollama_otel.testing import Capture

from .call_script import (
    HELLO,
    JSON,
    METRICS,
    STARTED_AT,
    WEATHER,
    Scene,
    Step,
    as_dict,
    chat,
    final,
    part,
    tool_call,
)

DEV = Settings(profile="gen-ai-dev")


def span_of(*steps: Step, settings: Settings | None = None, **call: Any) -> dict[str, Any]:
    capture = Capture()
    Scene(capture, settings).play(*steps, **call)
    (span,) = capture.spans
    return as_dict(span)


def attributes_of(*steps: Step, **call: Any) -> dict[str, Any]:
    attributes: dict[str, Any] = span_of(*steps, **call)["attributes"]
    return attributes


# --- whole spans ------------------------------------------------------------------------------


def test_a_streamed_chat() -> None:
    assert span_of(1.0, chat("Hel"), 0.5, chat("lo"), 0.25, final()) == {
        "name": "chat m",
        "kind": "CLIENT",
        "start": 0.0,
        "end": 1.75,
        "status": ("UNSET", None),
        "events": [],
        "attributes": {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "ollama",
            "gen_ai.request.model": "m",
            "gen_ai.request.stream": True,
            "gen_ai.response.finish_reasons": ("stop",),
            "gen_ai.response.model": "m",
            "gen_ai.response.time_to_first_chunk": 1.0,
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 30,
            "http.response.status_code": 200,
            "ollama.cold_start": True,
            "ollama.decode.rate": 40.0,
            "ollama.outcome": "completed",
            "ollama.prefill.estimated_rate": 40.0,
            "ollama.queue.estimated_duration": 0.5,
            "ollama.queue.estimated_wait": True,
            "ollama.request.message_count": 1,
            "ollama.request.size": 64,
            "ollama.response.chunk_count": 3,
            "ollama.response.done_reason": "stop",
            "ollama.response.eval_duration": 0.75,
            "ollama.response.held_by_caller": 0.0,
            "ollama.response.load_duration": 0.5,
            "ollama.response.longest_gap": 0.5,
            "ollama.response.prompt_eval_duration": 0.25,
            "ollama.response.size": 390,
            "ollama.response.time_to_first_answer": 1.0,
            "ollama.response.total_duration": 2.0,
            "server.address": "127.0.0.1",
            "server.port": 11434,
        },
    }


def test_a_streamed_chat_with_thinking_and_tools() -> None:
    span = span_of(
        *(1.0, chat(thinking="Hm")),
        *(1.0, chat(tool_calls=[tool_call("Rome")])),
        *(1.0, chat(tool_calls=[tool_call("Oslo")])),
        *(0.5, final()),
        body={**HELLO, "model": "qwen3:8b", "tools": [WEATHER], "think": True},
        context=CallContext(conversation_id="c-1", user_id="u-1", tags={"team": "blue"}),
    )
    assert span == {
        "name": "chat qwen3:8b",
        "kind": "CLIENT",
        "start": 0.0,
        "end": 3.5,
        "status": ("UNSET", None),
        "events": [],
        "attributes": {
            "gen_ai.conversation.id": "c-1",
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "ollama",
            "gen_ai.request.model": "qwen3:8b",
            "gen_ai.request.stream": True,
            "gen_ai.response.finish_reasons": ("tool_call",),
            "gen_ai.response.model": "m",
            "gen_ai.response.time_to_first_chunk": 1.0,
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 30,
            "http.response.status_code": 200,
            "ollama.cold_start": True,
            "ollama.decode.rate": 40.0,
            "ollama.outcome": "completed",
            "ollama.prefill.estimated_rate": 40.0,
            "ollama.queue.estimated_duration": 0.5,
            "ollama.queue.estimated_wait": True,
            "ollama.request.message_count": 1,
            "ollama.request.size": 64,
            "ollama.request.think": True,
            "ollama.request.tool_count": 1,
            "ollama.request.tool_names": ("get_weather",),
            "ollama.response.chunk_count": 4,
            "ollama.response.done_reason": "stop",
            "ollama.response.eval_duration": 0.75,
            "ollama.response.held_by_caller": 0.0,
            "ollama.response.load_duration": 0.5,
            "ollama.response.longest_gap": 1.0,
            "ollama.response.prompt_eval_duration": 0.25,
            "ollama.response.size": 684,
            "ollama.response.time_to_first_answer": 2.0,
            "ollama.response.tool_call_count": 2,
            "ollama.response.tool_call_names": ("get_weather", "get_weather"),
            "ollama.response.total_duration": 2.0,
            "ollama.tag.team": "blue",
            "server.address": "127.0.0.1",
            "server.port": 11434,
            "user.id": "u-1",
        },
    }


def test_a_generation_with_every_option() -> None:
    span = span_of(
        3.0,
        part(response="Hello", done=True, done_reason="length", **METRICS).rstrip(),
        path="/api/generate",
        content_type=JSON,
        body={
            "model": "m",
            "prompt": "Hi",
            "stream": False,
            "raw": True,
            "truncate": False,
            "format": "json",
            "think": "low",
            "keep_alive": "10m",
            "images": ["aGk="],
            "options": {
                "temperature": 0,
                "top_p": 0.9,
                "top_k": 40,
                "seed": 7,
                "num_predict": 128,
                "num_ctx": 8192,
                "num_keep": 4,
                "num_batch": 512,
                "num_gpu": -1,
                "main_gpu": 0,
                "num_thread": 8,
                "draft_num_predict": 4,
                "repeat_last_n": 64,
                "repeat_penalty": 1.1,
                "min_p": 0.05,
                "typical_p": 1,
                "presence_penalty": 0.5,
                "frequency_penalty": 0.5,
                "stop": ["\n", "END"],
                "use_mmap": True,
            },
        },
    )
    assert span == {
        "name": "text_completion m",
        "kind": "CLIENT",
        "start": 0.0,
        "end": 3.0,
        "status": ("UNSET", None),
        "events": [],
        "attributes": {
            "gen_ai.operation.name": "text_completion",
            "gen_ai.output.type": "json",
            "gen_ai.provider.name": "ollama",
            "gen_ai.request.frequency_penalty": 0.5,
            "gen_ai.request.max_tokens": 128,
            "gen_ai.request.model": "m",
            "gen_ai.request.presence_penalty": 0.5,
            "gen_ai.request.reasoning.level": "low",
            "gen_ai.request.seed": 7,
            "gen_ai.request.temperature": 0.0,
            "gen_ai.request.top_k": 40,
            "gen_ai.request.top_p": 0.9,
            "gen_ai.response.finish_reasons": ("length",),
            "gen_ai.response.model": "m",
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 30,
            "http.response.status_code": 200,
            "ollama.cold_start": True,
            "ollama.decode.rate": 40.0,
            "ollama.outcome": "completed",
            "ollama.prefill.estimated_rate": 40.0,
            "ollama.request.draft_num_predict": 4,
            "ollama.request.image_count": 1,
            "ollama.request.keep_alive": "10m",
            "ollama.request.main_gpu": 0,
            "ollama.request.min_p": 0.05,
            "ollama.request.num_batch": 512,
            "ollama.request.num_ctx": 8192,
            "ollama.request.num_gpu": -1,
            "ollama.request.num_keep": 4,
            "ollama.request.num_thread": 8,
            "ollama.request.raw": True,
            "ollama.request.repeat_last_n": 64,
            "ollama.request.repeat_penalty": 1.1,
            "ollama.request.size": 64,
            "ollama.request.truncate": False,
            "ollama.request.typical_p": 1.0,
            "ollama.response.done_reason": "length",
            "ollama.response.eval_duration": 0.75,
            "ollama.response.load_duration": 0.5,
            "ollama.response.prompt_eval_duration": 0.25,
            "ollama.response.size": 219,
            "ollama.response.total_duration": 2.0,
            "server.address": "127.0.0.1",
            "server.port": 11434,
        },
    }


def test_an_embedding() -> None:
    span = span_of(
        0.5,
        b'{"model":"e","embeddings":[[0.1],[0.2]],"total_duration":400000000,"load_duration":100000000,'
        b'"prompt_eval_count":6}',
        path="/api/embed",
        content_type=JSON,
        body={"model": "e", "input": ["a", "b"], "dimensions": 256, "truncate": True},
    )
    assert span == {
        "name": "embeddings e",
        "kind": "CLIENT",
        "start": 0.0,
        "end": 0.5,
        "status": ("UNSET", None),
        "events": [],
        "attributes": {
            "gen_ai.embeddings.dimension.count": 256,
            "gen_ai.operation.name": "embeddings",
            "gen_ai.provider.name": "ollama",
            "gen_ai.request.model": "e",
            "gen_ai.response.model": "e",
            "gen_ai.usage.input_tokens": 6,
            "http.response.status_code": 200,
            "ollama.cold_start": True,
            "ollama.embeddings.input.count": 2,
            "ollama.outcome": "completed",
            "ollama.request.size": 64,
            "ollama.request.truncate": True,
            "ollama.response.load_duration": 0.1,
            "ollama.response.size": 115,
            "ollama.response.total_duration": 0.4,
            "server.address": "127.0.0.1",
            "server.port": 11434,
        },
    }


def test_a_pull() -> None:
    span = span_of(
        *(1.0, b'{"status":"pulling manifest"}\n'),
        *(1.0, b'{"status":"pulling ab","digest":"sha256:ab","total":1000,"completed":200}\n'),
        *(2.0, b'{"status":"pulling ab","digest":"sha256:ab","total":1000,"completed":1000}\n'),
        *(1.0, b'{"status":"success"}\n'),
        path="/api/pull",
        body={"model": "llama3.2"},
    )
    assert span == {
        "name": "pull_model llama3.2",
        "kind": "CLIENT",
        "start": 0.0,
        "end": 5.0,
        "status": ("UNSET", None),
        "events": [],
        "attributes": {
            "gen_ai.provider.name": "ollama",
            "gen_ai.request.model": "llama3.2",
            "gen_ai.request.stream": True,
            "http.response.status_code": 200,
            "ollama.operation.name": "pull_model",
            "ollama.outcome": "completed",
            "ollama.progress.moved_size": 800,
            "ollama.progress.rate": 400.0,
            "ollama.progress.total_size": 1000,
            "ollama.request.size": 64,
            "ollama.response.chunk_count": 4,
            "ollama.response.held_by_caller": 0.0,
            "ollama.response.longest_gap": 2.0,
            "ollama.response.size": 200,
            "server.address": "127.0.0.1",
            "server.port": 11434,
        },
    }


def test_a_failure() -> None:
    span = span_of(
        0.125,
        b'{"error":"model \'m\' not found"}',
        status=404,
        content_type=JSON,
    )
    assert span == {
        "name": "chat m",
        "kind": "CLIENT",
        "start": 0.0,
        "end": 0.125,
        "status": ("ERROR", "model 'm' not found"),
        "events": [],
        "attributes": {
            "error.type": "model_not_found",
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "ollama",
            "gen_ai.request.model": "m",
            "gen_ai.request.stream": True,
            "http.response.status_code": 404,
            "ollama.outcome": "failed",
            "ollama.request.message_count": 1,
            "ollama.request.size": 64,
            "ollama.response.size": 31,
            "server.address": "127.0.0.1",
            "server.port": 11434,
        },
    }


def test_a_failure_in_the_middle_of_a_stream() -> None:
    span = span_of(1.0, chat("Once"), 1.0, b'{"error":"model runner has unexpectedly stopped"}\n')
    assert span == {
        "name": "chat m",
        "kind": "CLIENT",
        "start": 0.0,
        "end": 2.0,
        "status": ("ERROR", "model runner has unexpectedly stopped"),
        "events": [],
        "attributes": {
            "error.type": "runner_crashed",
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "ollama",
            "gen_ai.request.model": "m",
            "gen_ai.request.stream": True,
            "gen_ai.response.time_to_first_chunk": 1.0,
            "http.response.status_code": 200,
            "ollama.outcome": "failed",
            "ollama.request.message_count": 1,
            "ollama.request.size": 64,
            "ollama.response.chunk_count": 2,
            "ollama.response.held_by_caller": 0.0,
            "ollama.response.longest_gap": 1.0,
            "ollama.response.size": 125,
            "ollama.response.time_to_first_answer": 1.0,
            "server.address": "127.0.0.1",
            "server.port": 11434,
        },
    }


def test_a_server_that_is_not_there() -> None:
    assert span_of(ConnectionRefusedError("[Errno 111] Connection refused")) == {
        "name": "chat m",
        "kind": "CLIENT",
        "start": 0.0,
        "end": 0.0,
        "status": ("ERROR", "[Errno 111] Connection refused"),
        "events": [],
        "attributes": {
            "error.type": "connect",
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "ollama",
            "gen_ai.request.model": "m",
            "gen_ai.request.stream": True,
            "ollama.outcome": "failed",
            "ollama.request.message_count": 1,
            "ollama.request.size": 64,
            "ollama.response.size": 0,
            "server.address": "127.0.0.1",
            "server.port": 11434,
        },
    }


def test_an_abandoned_stream() -> None:
    assert span_of(1.0, chat("Hel"), 0.5, chat("lo"), 0.25, final(), stops_after=2) == {
        "name": "chat m",
        "kind": "CLIENT",
        "start": 0.0,
        "end": 1.5,
        "status": ("UNSET", None),
        "events": [],
        "attributes": {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "ollama",
            "gen_ai.request.model": "m",
            "gen_ai.request.stream": True,
            "gen_ai.response.model": "m",
            "gen_ai.response.time_to_first_chunk": 1.0,
            "http.response.status_code": 200,
            "ollama.outcome": "abandoned",
            "ollama.request.message_count": 1,
            "ollama.request.size": 64,
            "ollama.response.chunk_count": 2,
            "ollama.response.held_by_caller": 0.0,
            "ollama.response.longest_gap": 0.5,
            "ollama.response.size": 147,
            "ollama.response.time_to_first_answer": 1.0,
            "server.address": "127.0.0.1",
            "server.port": 11434,
        },
    }


def test_an_abandoned_stream_in_the_newer_words() -> None:
    span = span_of(1.0, chat("Hel"), final(), stops_after=1, settings=DEV)
    assert span["attributes"]["gen_ai.response.finish_reasons"] == ("error",)
    assert span["status"] == ("UNSET", None)


def test_a_cancelled_call() -> None:
    assert span_of(1.0, chat("Hel"), 0.5, asyncio.CancelledError()) == {
        "name": "chat m",
        "kind": "CLIENT",
        "start": 0.0,
        "end": 1.5,
        "status": ("UNSET", None),
        "events": [],
        "attributes": {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "ollama",
            "gen_ai.request.model": "m",
            "gen_ai.request.stream": True,
            "gen_ai.response.model": "m",
            "gen_ai.response.time_to_first_chunk": 1.0,
            "http.response.status_code": 200,
            "ollama.outcome": "cancelled",
            "ollama.request.message_count": 1,
            "ollama.request.size": 64,
            "ollama.response.chunk_count": 1,
            "ollama.response.held_by_caller": 0.0,
            "ollama.response.size": 74,
            "ollama.response.time_to_first_answer": 1.0,
            "server.address": "127.0.0.1",
            "server.port": 11434,
        },
    }


def test_a_load_is_no_inference() -> None:
    span = span_of(
        4.0,
        part(message={"role": "assistant", "content": ""}, done=True, done_reason="load").rstrip(),
        content_type=JSON,
        body={"model": "m", "messages": []},
    )
    assert span == {
        "name": "load_model m",
        "kind": "CLIENT",
        "start": 0.0,
        "end": 4.0,
        "status": ("UNSET", None),
        "events": [],
        "attributes": {
            "gen_ai.provider.name": "ollama",
            "gen_ai.request.model": "m",
            "gen_ai.request.stream": True,
            "gen_ai.response.model": "m",
            "http.response.status_code": 200,
            "ollama.operation.name": "load_model",
            "ollama.outcome": "completed",
            "ollama.request.message_count": 0,
            "ollama.request.size": 64,
            "ollama.response.done_reason": "load",
            "ollama.response.size": 90,
            "server.address": "127.0.0.1",
            "server.port": 11434,
        },
    }


def test_a_question_without_a_model() -> None:
    span = span_of(b'{"models":[]}', path="/api/tags", method="GET", body={}, content_type=JSON)
    assert span == {
        "name": "list_models",
        "kind": "CLIENT",
        "start": 0.0,
        "end": 0.0,
        "status": ("UNSET", None),
        "events": [],
        "attributes": {
            "gen_ai.provider.name": "ollama",
            "http.response.status_code": 200,
            "ollama.operation.name": "list_models",
            "ollama.outcome": "completed",
            "ollama.request.size": 64,
            "ollama.response.size": 13,
            "server.address": "127.0.0.1",
            "server.port": 11434,
        },
    }


def test_a_completed_chat_is_the_same_in_the_newer_words() -> None:
    steps = (1.0, chat("Hel"), 0.5, chat("lo"), 0.25, final())
    assert span_of(*steps, settings=DEV) == span_of(*steps)


@pytest.mark.parametrize(
    ("profile", "schema_url"),
    [
        ("v1.41", "https://opentelemetry.io/schemas/1.41.0"),
        ("gen-ai-dev", "https://opentelemetry.io/schemas/gen-ai-dev/1.42.0-dev"),
    ],
)
def test_the_scope_names_the_library_and_the_conventions(
    capture: Capture, profile: Any, schema_url: str
) -> None:
    Scene(capture, Settings(profile=profile)).play(final())
    scope = capture.spans[0].instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.version, scope.schema_url) == ("ollama_otel", "0.1.0", schema_url)


# --- status -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "call", "status"),
    [
        ([final()], {}, ("UNSET", None)),
        ([chat("x"), final()], {"stops_after": 1}, ("UNSET", None)),
        ([asyncio.CancelledError()], {}, ("UNSET", None)),
        ([chat("x"), KeyboardInterrupt()], {}, ("UNSET", None)),
        ([b"moved"], {"status": 307, "content_type": "text/html"}, ("UNSET", None)),
        ([b'{"error":"server busy"}'], {"status": 503}, ("ERROR", "server busy")),
        ([], {"status": 500}, ("ERROR", "HTTP status 500")),
        ([chat("x")], {}, ("ERROR", "the answer ended without its final message")),
        ([TimeoutError("timed out")], {}, ("ERROR", "timed out")),
    ],
)
def test_only_a_failure_sets_the_status(
    steps: Sequence[Step], call: dict[str, Any], status: tuple[str, str | None]
) -> None:
    assert span_of(*steps, **call)["status"] == status


# --- time -------------------------------------------------------------------------------------


def test_a_span_ends_by_the_monotonic_clock(capture: Capture) -> None:
    scene = Scene(capture)
    scene.clock.now = 5_000_000.0
    scene.play(1.25, final())
    (span,) = capture.spans
    assert span.start_time == STARTED_AT
    assert span.end_time == STARTED_AT + 1_250_000_000


def test_a_span_is_not_ended_before_its_call(capture: Capture) -> None:
    scene = Scene(capture)
    call = scene.begin()
    body = scene.body(call, chat("x"), final())
    next(body)
    assert capture.spans == []
    next(body)
    assert capture.spans == []
    body.close()  # type: ignore[attr-defined]
    assert len(capture.spans) == 1


# --- sampling ---------------------------------------------------------------------------------


class Watcher(Sampler):
    """Decides as told, and keeps what it was shown."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.shown: list[tuple[str, SpanKind | None, dict[str, Any]]] = []

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: trace.TraceState | None = None,
    ) -> SamplingResult:
        self.shown.append((name, kind, dict(attributes or {})))
        return SamplingResult(self.decision, attributes)

    def get_description(self) -> str:
        return "Watcher"


@pytest.mark.parametrize(
    ("call", "name", "shown"),
    [
        (
            {},
            "chat m",
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "ollama",
                "gen_ai.request.model": "m",
                "server.address": "127.0.0.1",
                "server.port": 11434,
            },
        ),
        (
            {"path": "/api/pull", "body": {"model": "m"}},
            "pull_model m",
            {
                "ollama.operation.name": "pull_model",
                "gen_ai.provider.name": "ollama",
                "gen_ai.request.model": "m",
                "server.address": "127.0.0.1",
                "server.port": 11434,
            },
        ),
        (
            {"path": "/api/generate", "body": {"keep_alive": 0}, "port": None},
            "unload_model",
            {"ollama.operation.name": "unload_model", "gen_ai.provider.name": "ollama"},
        ),
    ],
)
def test_a_sampler_sees_what_a_span_begins_with(
    call: dict[str, Any], name: str, shown: dict[str, Any]
) -> None:
    sampler = Watcher(Decision.RECORD_AND_SAMPLE)
    Scene(Capture(sampler=sampler)).play(final(), **call)
    assert sampler.shown == [(name, SpanKind.CLIENT, shown)]


def test_nothing_is_computed_for_a_span_that_is_not_recorded() -> None:
    capture = Capture(sampler=ALWAYS_OFF)
    redacted: list[str] = []

    def redact(text: str) -> str:
        redacted.append(text)
        return text

    settings = Settings(capture_content="span_only", redactors=(redact,))
    Scene(capture, settings).play(chat("Hello"), final())
    assert capture.spans == []
    assert redacted == []
    # What is no span goes on.
    assert capture.records[0].outcome == "completed"
    assert capture.total("gen_ai.client.operation.duration") == 1


def test_a_span_that_is_recorded_but_not_exported_is_filled() -> None:
    capture = Capture(sampler=Watcher(Decision.RECORD_ONLY))
    redacted: list[str] = []
    settings = Settings(capture_content="span_only", redactors=(lambda t: redacted.append(t) or t,))  # type: ignore[func-returns-value]
    Scene(capture, settings).play(chat("Hello"), final())
    assert "Hello" in redacted


# --- context ----------------------------------------------------------------------------------


def test_the_span_is_current_only_while_the_request_is_sent(capture: Capture) -> None:
    scene = Scene(capture)
    before = otel_context.get_current()
    call = scene.begin()
    assert otel_context.get_current() is before
    with call.sending():
        inside = trace.get_current_span().get_span_context()
        assert call.headers()["traceparent"].split("-")[1] == f"{inside.trace_id:032x}"
    assert otel_context.get_current() is before
    body = scene.body(call, chat("x"), final())
    next(body)
    assert otel_context.get_current() is before
    body.close()  # type: ignore[attr-defined]
    assert otel_context.get_current() is before
    (span,) = capture.spans
    assert span.context is not None
    assert span.context.span_id == inside.span_id


class _Jaeger(TextMapPropagator):
    """A format in which each entry of the baggage is a header of its own."""

    def inject(
        self,
        carrier: Any,
        context: Context | None = None,
        setter: Setter[Any] = default_setter,
    ) -> None:
        span = trace.get_current_span(context).get_span_context()
        setter.set(carrier, "uber-trace-id", f"{span.trace_id:x}:{span.span_id:x}:0:1")
        for name, value in baggage.get_all(context).items():
            setter.set(carrier, f"uberctx-{name}", str(value))

    def extract(self, *_: Any, **__: Any) -> Context:
        raise NotImplementedError

    @property
    def fields(self) -> set[str]:
        return {"uber-trace-id"}


@pytest.fixture
def every_format() -> Iterator[None]:
    before = propagate.get_global_textmap()
    formats = [TraceContextTextMapPropagator(), W3CBaggagePropagator(), _Jaeger()]
    propagate.set_global_textmap(CompositePropagator(formats))
    yield
    propagate.set_global_textmap(before)


def _headers_with_baggage(capture: Capture, settings: Settings) -> dict[str, str]:
    """The headers of a call in a trace with a state, in an app with baggage."""
    state = trace.TraceState([("vendor", "1")])
    outer = trace.SpanContext(
        1, 2, is_remote=True, trace_flags=trace.TraceFlags(1), trace_state=state
    )
    context = trace.set_span_in_context(trace.NonRecordingSpan(outer))
    token = otel_context.attach(baggage.set_baggage("user.email", "ada@example.org", context))
    try:
        call = Scene(capture, settings).begin()
        with call.sending():
            # The app's own code under us still has it.
            assert baggage.get_baggage("user.email") == "ada@example.org"
            return dict(call.headers())
    finally:
        otel_context.detach(token)


@pytest.mark.usefixtures("every_format")
def test_baggage_of_the_app_is_not_sent_and_trace_context_is(capture: Capture) -> None:
    headers = _headers_with_baggage(capture, Settings())
    assert headers.keys() == {"traceparent", "tracestate", "uber-trace-id"}
    assert headers["tracestate"] == "vendor=1"


@pytest.mark.usefixtures("every_format")
def test_baggage_is_sent_if_the_setting_says_so(capture: Capture) -> None:
    headers = _headers_with_baggage(capture, Settings(propagate_baggage=True))
    assert headers["baggage"] == "user.email=ada%40example.org"
    assert headers["uberctx-user.email"] == "ada@example.org"
    assert {"traceparent", "tracestate", "uber-trace-id"} <= headers.keys()


def test_the_span_is_a_child_of_what_is_current_at_the_start(capture: Capture) -> None:
    tracer = capture.tracer_provider.get_tracer("app")
    scene = Scene(capture)
    with tracer.start_as_current_span("outer"):
        call = scene.begin()
    # Read elsewhere, when the outer span has long ended.
    for _ in scene.body(call, final()):
        pass
    outer, span = capture.spans
    assert outer.context is not None
    assert span.parent is not None
    assert span.parent.span_id == outer.context.span_id


def test_an_exception_while_sending_leaves_the_context_as_it_was(capture: Capture) -> None:
    before = otel_context.get_current()
    call = Scene(capture).begin()
    with pytest.raises(OSError, match="gone"), call.sending():
        raise OSError("gone")
    assert otel_context.get_current() is before


# --- single attributes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"temperature": 1}, {"gen_ai.request.temperature": 1.0}),
        ({"top_k": 40.0}, {"gen_ai.request.top_k": 40}),
        ({"top_k": 40.5}, {}),
        ({"top_k": "40"}, {}),
        ({"seed": True}, {}),
        ({"temperature": None}, {}),
        ({"num_predict": 5}, {"gen_ai.request.max_tokens": 5}),
        ({"num_predict": -1}, {"ollama.request.num_predict": -1}),
        ({"num_predict": 0}, {"ollama.request.num_predict": 0}),
        ({"stop": "."}, {}),
        ({"unknown": 1, "use_mmap": True}, {}),
        # What JSON can say and no exporter can encode.
        ({"seed": float("inf")}, {}),
        ({"seed": float("nan")}, {}),
        ({"num_predict": float("-inf")}, {}),
        ({"temperature": 10**400}, {}),
        ({"seed": 2**63}, {}),
    ],
)
def test_an_option_is_told_if_it_is_of_its_type(
    options: dict[str, Any], expected: dict[str, Any]
) -> None:
    plain = attributes_of(final())
    found = attributes_of(final(), body={**HELLO, "options": options})
    added = {name: value for name, value in found.items() if name not in plain}
    assert added == expected
    assert [type(value) for value in added.values()] == [type(value) for value in expected.values()]


@pytest.mark.parametrize(
    ("stop", "expected"),
    [(".", (".",)), ([".", "Ada:"], (".", "***:")), ([1], None), (None, None)],
)
def test_stop_sequences_are_content(stop: object, expected: object) -> None:
    body = {**HELLO, "options": {"stop": stop}}
    assert "gen_ai.request.stop_sequences" not in attributes_of(final(), body=body)
    captured = Settings(
        capture_content="span_only", redactors=(lambda text: text.replace("Ada", "***"),)
    )
    attributes = attributes_of(final(), body=body, settings=captured)
    assert attributes.get("gen_ai.request.stop_sequences") == expected


@pytest.mark.parametrize(
    ("think", "expected"),
    [
        (True, {names.REQUEST_THINK: True}),
        (False, {names.REQUEST_THINK: False}),
        ("high", {names.REQUEST_REASONING_LEVEL: "high"}),
        (None, {}),
    ],
)
def test_thinking_is_switched_or_graded(think: Any, expected: dict[str, Any]) -> None:
    found = attributes_of(final(), body={**HELLO, "think": think})
    told = {
        name: value
        for name, value in found.items()
        if name in {names.REQUEST_THINK, names.REQUEST_REASONING_LEVEL}
    }
    assert told == expected


@pytest.mark.parametrize(
    ("load", "is_cold"), [(99_999_999, None), (100_000_000, True), (None, None)]
)
def test_a_load_that_took_its_time_is_a_cold_start(load: int | None, is_cold: bool | None) -> None:
    assert attributes_of(final(load_duration=load)).get("ollama.cold_start") is is_cold


def test_the_threshold_of_a_cold_start_can_be_moved() -> None:
    settings = Settings(cold_start_threshold=1.0)
    assert "ollama.cold_start" not in attributes_of(final(), settings=settings)


@pytest.mark.parametrize(("threshold", "has_waited"), [(0.5, True), (0.51, None), (0.0, True)])
def test_a_wait_for_a_slot_is_a_tag_that_can_be_searched(
    threshold: float, has_waited: bool | None
) -> None:
    attributes = attributes_of(final(), settings=Settings(queue_threshold=threshold))
    assert attributes.get("ollama.queue.estimated_wait") is has_waited


def test_no_known_wait_is_no_tag() -> None:
    assert "ollama.queue.estimated_wait" not in attributes_of(final(total_duration=None))


def test_a_remote_model_is_named() -> None:
    attributes = attributes_of(final(remote_model="big", remote_host="https://ollama.com:443"))
    assert attributes["ollama.response.remote_model"] == "big"
    assert attributes["ollama.response.remote_host"] == "https://ollama.com:443"


def test_no_content_is_told_without_leave() -> None:
    said = "a secret that nobody is to see"
    span = span_of(
        chat(said, thinking=said, tool_calls=[tool_call(said)]),
        final(),
        body={**HELLO, "messages": [{"role": "user", "content": said}]},
    )
    assert said not in str(span)


def test_unknown_is_not_there_and_zero_is_zero() -> None:
    attributes = attributes_of(part(message={}, done=True, eval_count=0, load_duration=0))
    assert attributes["gen_ai.usage.output_tokens"] == 0
    assert attributes["ollama.response.load_duration"] == 0.0
    assert "gen_ai.usage.input_tokens" not in attributes
    assert "ollama.response.total_duration" not in attributes
    assert None not in attributes.values()
