"""Events are sent when asked for: the details of an inference, and what failed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from opentelemetry._logs import SeverityNumber

from ollama_otel.settings import Settings
from ollama_otel.testing import Capture

from .call_script import HELLO, JSON, WEATHER, Scene, chat, final, part, tool_call

DETAILS = Settings(emit_events=True)
WITH_CONTENT = Settings(capture_content="event_only")


def sent(capture: Capture) -> list[dict[str, Any]]:
    return [
        {
            "name": event.log_record.event_name,
            "severity": event.log_record.severity_number,
            "text": event.log_record.severity_text,
            "body": event.log_record.body,
            "attributes": dict(sorted((event.log_record.attributes or {}).items())),
        }
        for event in capture.events
    ]


def names_of(capture: Capture) -> list[str | None]:
    return [event.log_record.event_name for event in capture.events]


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        (Settings(), 0),
        (Settings(capture_content="span_only"), 0),
        (Settings(emit_events=False, capture_content="span_and_event"), 0),
        (Settings(emit_events=True), 1),
        (Settings(capture_content="event_only"), 1),
        (Settings(capture_content="span_and_event"), 1),
        (Settings(emit_events=True, capture_content="span_only"), 1),
    ],
)
def test_events_are_sent_only_when_asked_for(
    capture: Capture, settings: Settings, count: int
) -> None:
    Scene(capture, settings).play(chat("Hello"), final())
    assert len(capture.events) == count


def test_an_inference_without_content(capture: Capture) -> None:
    Scene(capture, DETAILS).play(1.0, chat("Hel"), 0.5, chat("lo"), final())
    assert sent(capture) == [
        {
            "name": "gen_ai.client.inference.operation.details",
            "severity": SeverityNumber.DEBUG,
            "text": "DEBUG",
            "body": None,
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
    ]


def test_an_inference_with_content(capture: Capture) -> None:
    Scene(capture, WITH_CONTENT).play(
        *(1.0, chat(thinking="Hm")),
        *(1.0, chat("I will look.", tool_calls=[tool_call("Rome")])),
        *(1.0, final()),
        body={**HELLO, "tools": [WEATHER]},
    )
    assert sent(capture) == [
        {
            "name": "gen_ai.client.inference.operation.details",
            "severity": SeverityNumber.DEBUG,
            "text": "DEBUG",
            "body": None,
            "attributes": {
                "gen_ai.input.messages": (
                    {"role": "user", "parts": ({"type": "text", "content": "Hello"},)},
                ),
                "gen_ai.operation.name": "chat",
                "gen_ai.output.messages": (
                    {
                        "role": "assistant",
                        "parts": (
                            {"type": "reasoning", "content": "Hm"},
                            {"type": "text", "content": "I will look."},
                            {
                                "type": "tool_call",
                                "id": "call_rome",
                                "name": "get_weather",
                                "arguments": {"city": "Rome"},
                            },
                        ),
                        "finish_reason": "tool_call",
                    },
                ),
                "gen_ai.provider.name": "ollama",
                "gen_ai.request.model": "m",
                "gen_ai.request.stream": True,
                "gen_ai.response.finish_reasons": ("tool_call",),
                "gen_ai.response.model": "m",
                "gen_ai.response.time_to_first_chunk": 1.0,
                "gen_ai.tool.definitions": (
                    {
                        "type": "function",
                        "name": "get_weather",
                        "description": "The weather in a city.",
                        "parameters": {
                            "type": "object",
                            "properties": {"city": {"type": "string"}},
                        },
                    },
                ),
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
                "ollama.request.tool_count": 1,
                "ollama.request.tool_names": ("get_weather",),
                "ollama.response.chunk_count": 3,
                "ollama.response.done_reason": "stop",
                "ollama.response.eval_duration": 0.75,
                "ollama.response.held_by_caller": 0.0,
                "ollama.response.load_duration": 0.5,
                "ollama.response.longest_gap": 1.0,
                "ollama.response.prompt_eval_duration": 0.25,
                "ollama.response.size": 519,
                "ollama.response.time_to_first_answer": 2.0,
                "ollama.response.tool_call_count": 1,
                "ollama.response.tool_call_names": ("get_weather",),
                "ollama.response.total_duration": 2.0,
                "server.address": "127.0.0.1",
                "server.port": 11434,
            },
        }
    ]


def test_a_failure(capture: Capture) -> None:
    Scene(capture, DETAILS).play(0.5, b'{"error":"server busy"}', status=503, content_type=JSON)
    assert sent(capture) == [
        {
            "name": "gen_ai.client.operation.exception",
            "severity": SeverityNumber.WARN,
            "text": "WARN",
            "body": None,
            "attributes": {
                "exception.message": "server busy",
                "error.type": "server_busy",
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "ollama",
                "gen_ai.request.model": "m",
                "server.address": "127.0.0.1",
                "server.port": 11434,
            },
        },
        {
            "name": "gen_ai.client.inference.operation.details",
            "severity": SeverityNumber.DEBUG,
            "text": "DEBUG",
            "body": None,
            "attributes": {
                "error.type": "server_busy",
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "ollama",
                "gen_ai.request.model": "m",
                "gen_ai.request.stream": True,
                "http.response.status_code": 503,
                "ollama.outcome": "failed",
                "ollama.request.message_count": 1,
                "ollama.request.size": 64,
                "ollama.response.size": 23,
                "server.address": "127.0.0.1",
                "server.port": 11434,
            },
        },
    ]


def test_content_on_events_is_structured_and_on_spans_is_json(capture: Capture) -> None:
    Scene(capture, Settings(capture_content="span_and_event")).play(chat("Hello"), final())
    (event,) = sent(capture)
    (span,) = capture.spans
    for name in ("gen_ai.input.messages", "gen_ai.output.messages"):
        on_event, on_span = event["attributes"][name], (span.attributes or {})[name]
        assert isinstance(on_span, str)
        # The SDK makes tuples of lists.
        assert json.loads(json.dumps(on_event)) == json.loads(on_span)


@pytest.mark.parametrize(
    ("mode", "on_span", "on_event"),
    [
        ("no_content", False, False),
        ("span_only", True, False),
        ("event_only", False, True),
        ("span_and_event", True, True),
    ],
)
def test_content_goes_where_it_may(
    capture: Capture, mode: Any, on_span: bool, on_event: bool
) -> None:
    said = "a secret word"
    Scene(capture, Settings(capture_content=mode, emit_events=True)).play(chat(said), final())
    assert (said in str(capture.spans[0].attributes)) is on_span
    assert (said in str(sent(capture))) is on_event


@pytest.mark.parametrize(
    "call",
    [
        {"path": "/api/embed", "body": {"model": "m", "input": "a"}, "content_type": JSON},
        {"path": "/api/pull", "body": {"model": "m"}},
        {"path": "/api/tags", "method": "GET", "body": {}, "content_type": JSON},
        {"body": {"model": "m", "messages": []}, "content_type": JSON},
        {"path": "/api/generate", "body": {"keep_alive": 0}, "content_type": JSON},
    ],
)
@pytest.mark.parametrize("line", [final(), b'{"error":"boom"}\n'])
def test_what_is_no_inference_sends_no_event(
    capture: Capture, call: dict[str, Any], line: bytes
) -> None:
    Scene(capture, DETAILS).play(line, **call)
    assert capture.events == []


def test_a_generation_is_an_inference(capture: Capture) -> None:
    Scene(capture, DETAILS).play(
        part(response="Hi", done=True), path="/api/generate", body={"prompt": "Hello"}
    )
    assert names_of(capture) == ["gen_ai.client.inference.operation.details"]


@pytest.mark.parametrize(
    ("steps", "call", "failed"),
    [
        ((final(),), {}, False),
        ((chat("x"), final()), {"stops_after": 1}, False),
        ((asyncio.CancelledError(),), {}, False),
        ((OSError("gone"),), {}, True),
        ((chat("x"),), {}, True),
        ((b"{}",), {"status": 500}, True),
    ],
)
def test_only_a_failure_sends_an_exception(
    capture: Capture, steps: Any, call: dict[str, Any], failed: bool
) -> None:
    Scene(capture, DETAILS).play(*steps, **call)
    assert names_of(capture) == [
        *(["gen_ai.client.operation.exception"] if failed else []),
        "gen_ai.client.inference.operation.details",
    ]


def test_an_event_links_to_its_span(capture: Capture) -> None:
    Scene(capture, DETAILS).play(b'{"error":"boom"}\n')
    (span,) = capture.spans
    assert span.context is not None
    for event in capture.events:
        assert event.log_record.trace_id == span.context.trace_id
        assert event.log_record.span_id == span.context.span_id


def test_an_exception_is_a_warning_and_details_are_for_debugging(capture: Capture) -> None:
    Scene(capture, DETAILS).play(b'{"error":"boom"}\n')
    assert [event.log_record.severity_number for event in capture.events] == [
        SeverityNumber.WARN,
        SeverityNumber.DEBUG,
    ]


def test_an_event_is_complete_without_its_span(capture: Capture) -> None:
    Scene(capture, DETAILS).play(1.0, chat("Hello"), final())
    (event,) = sent(capture)
    assert event["attributes"] == dict(capture.spans[0].attributes or {})
