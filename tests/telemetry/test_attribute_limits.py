"""The SDK cuts long attributes; captured content stays valid JSON, and says what is missing."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk._logs import LoggerProvider, LogRecordLimits
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import ollama_otel
from ollama_otel import Settings
from ollama_otel._telemetry.attribute_limits import (
    json_within,
    log_limit,
    span_limit,
    values_within,
)
from ollama_otel.testing import FakeOllama

from .test_content import INPUT, OUTPUT, SYSTEM, TOOLS, check

HOST = "http://127.0.0.1:11434"
LONG = 'An "apple", a\npear: \\ \u00e9 \U0001f34e. ' * 200
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "of the town " * 40}},
}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": LONG, "parameters": PARAMETERS},
}
ASKED: list[dict[str, Any]] = [
    {"role": "system", "content": LONG},
    {"role": "user", "content": "short"},
    {"role": "user", "content": LONG},
    {
        "role": "assistant",
        "tool_calls": [{"function": {"name": "weather", "arguments": {"city": LONG}}}],
    },
    {"role": "tool", "tool_name": "weather", "content": json.dumps({"sky": LONG})},
]
SCHEMAS = {
    "gen_ai.input.messages": INPUT,
    "gen_ai.output.messages": OUTPUT,
    "gen_ai.system_instructions": SYSTEM,
    "gen_ai.tool.definitions": TOOLS,
}
CAPTURE: Any = Settings(capture_content="span_and_event")


def exported(limit: int, messages: list[dict[str, Any]] = ASKED) -> tuple[Any, Any]:
    """Attributes of the span and of the event of one call, under a limit."""
    spans, logs = InMemorySpanExporter(), InMemoryLogRecordExporter()
    traces = TracerProvider(
        span_limits=SpanLimits(max_span_attribute_length=limit), shutdown_on_exit=False
    )
    traces.add_span_processor(SimpleSpanProcessor(spans))
    with pytest.MonkeyPatch.context() as environment:
        # Before version 1.44 of the SDK, this is the only limit of log records.
        environment.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", str(limit))
        events = LoggerProvider(shutdown_on_exit=False)
        events.add_log_record_processor(SimpleLogRecordProcessor(logs))
        client = ollama_otel.Client(
            HOST,
            transport=FakeOllama().transport(),
            tracer_provider=traces,
            logger_provider=events,
            settings=CAPTURE,
        )
        client.chat("llama3.2", messages=messages, tools=[TOOL])
    return spans.get_finished_spans()[0].attributes, (
        logs.get_finished_logs()[-1].log_record.attributes
    )


@pytest.mark.parametrize("limit", [600, 1024, 2000, 4096, 8191, 100_000])
def test_captured_content_is_valid_within_the_limit(
    limit: int, caplog: pytest.LogCaptureFixture
) -> None:
    span, event = exported(limit)
    for name, schema in SCHEMAS.items():
        if name in span:
            assert len(span[name]) <= limit
            check(json.loads(span[name]), schema)
        if name in event:
            check(json.loads(json.dumps(event[name])), schema)
    assert "gen_ai.input.messages" in span
    assert "truncating" not in caplog.text


def test_cut_texts_say_how_much_is_missing_and_short_ones_are_whole() -> None:
    span, _ = exported(1500)
    messages = json.loads(span["gen_ai.input.messages"])
    assert messages[1]["parts"] == [{"type": "text", "content": "short"}]
    text = messages[2]["parts"][0]["content"]
    kept, _, mark = text.rpartition("... [cut ")
    assert LONG.startswith(kept)
    assert int(mark.removesuffix(" characters]")) == len(LONG) - len(kept)
    assert "ollama.content.is_cut" not in span
    # The place is used.
    assert len(span["gen_ai.input.messages"]) > 1400


def test_without_place_for_all_the_newest_messages_stay() -> None:
    turns = [{"role": "user", "content": f"number {index} " + "x" * 100} for index in range(100)]
    span, event = exported(1000, turns)
    messages = json.loads(span["gen_ai.input.messages"])
    assert 3 < len(messages) < 20
    assert messages[-1]["parts"][0]["content"].startswith("number 99")
    assert span["ollama.content.is_cut"] is True
    assert len(event["gen_ai.input.messages"]) == 100
    assert "ollama.content.is_cut" not in event


def test_what_does_not_fit_at_all_is_absent() -> None:
    span, event = exported(20)
    assert not SCHEMAS.keys() & span.keys()
    assert span["ollama.content.is_cut"] is True
    texts = [part["content"] for part in event["gen_ai.output.messages"][0]["parts"]]
    assert texts == ["Hello! I am a fake m"]
    # A hash that is cut would be another hash.
    image = values_within([{"parts": [{"type": "file", "file_id": "sha256:" + "0" * 64}]}], 20)
    assert image == (None, False)


@pytest.mark.skipif(
    "log_record_limits" not in inspect.signature(LoggerProvider).parameters,
    reason="this SDK has only the limit of the environment",
)
def test_the_limit_of_the_provider_counts() -> None:
    limits: Any = LogRecordLimits(max_log_record_attribute_length=90)
    provider: Any = LoggerProvider(log_record_limits=limits, shutdown_on_exit=False)
    assert log_limit(provider.get_logger("l")) == 90


def test_the_limit_of_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "700")
    traces = TracerProvider(shutdown_on_exit=False)
    assert span_limit(traces.get_tracer("t").start_span("s")) == 700
    assert log_limit(LoggerProvider(shutdown_on_exit=False).get_logger("l")) == 700
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "300")
    traces = TracerProvider(shutdown_on_exit=False)
    assert span_limit(traces.get_tracer("t").start_span("s")) == 300


def test_without_a_limit_and_with_another_sdk_nothing_is_cut() -> None:
    assert span_limit(object()) is log_limit(object()) is None
    traces = TracerProvider(shutdown_on_exit=False)
    assert span_limit(traces.get_tracer("t").start_span("s")) is None
    assert json.loads(json_within(ASKED, None).value) == ASKED
    assert values_within(ASKED, None) == (ASKED, True)


texts = st.text(max_size=300) | st.builds("{}... [cut {} characters]".format, st.text(), st.just(7))
parts = st.builds(lambda text: {"type": "text", "content": text}, texts) | st.builds(
    lambda arguments: {"type": "tool_call", "name": "n", "arguments": arguments},
    st.dictionaries(texts, texts | st.integers() | st.lists(texts, max_size=3), max_size=3),
)
conversations = st.lists(
    st.builds(lambda some: {"role": "user", "parts": some}, st.lists(parts, max_size=4)), max_size=5
)


@pytest.mark.slow
@given(messages=conversations, limit=st.integers(0, 2000))
def test_any_content_fits_any_limit(messages: list[dict[str, Any]], limit: int) -> None:
    fitted = json_within(messages, limit)
    if fitted.value is not None:
        assert len(fitted.value) <= limit
        read = json.loads(fitted.value)
        assert [each["role"] for each in read] == ["user"] * len(read)
        assert fitted.is_whole == (len(read) == len(messages))
    assert json_within(messages, 10_000_000) == (json_within(messages, None).value, True)
