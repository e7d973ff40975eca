"""Calls as lines of the program's own log: through structlog where it is set up, else logging."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import ollama
import pytest
import structlog
from structlog.testing import LogCapture

from ollama_otel import Client, Settings, call_context
from ollama_otel.testing import Capture, FakeModel, FakeOllama, Fault

HELLO = [{"role": "user", "content": "a private question"}]


@pytest.fixture
def structured() -> Iterator[LogCapture]:
    """A program that has configured structlog."""
    log = LogCapture()
    structlog.configure(processors=[log])
    yield log
    structlog.reset_defaults()


def play(capture: Capture) -> None:
    """One call of each outcome that a program logs."""
    fake = FakeOllama([FakeModel("m", reply="one two three four")])
    client = Client(
        transport=fake.transport(), **capture.options | {"settings": Settings(log_calls=True)}
    )
    with call_context(conversation_id="c-1"):
        client.chat("m", messages=HELLO)
    stream = client.chat("m", messages=HELLO, stream=True)
    next(stream)
    stream.close()
    with pytest.raises(ollama.ResponseError):
        client.chat("none", messages=HELLO)


def test_calls_are_logged_by_their_outcome_with_their_trace(
    structured: LogCapture, capture: Capture
) -> None:
    play(capture)
    completed, abandoned, failed = structured.entries
    span = capture.spans[0].context
    assert span is not None
    record = capture.records[0]
    assert completed == {
        "event": "ollama call completed",
        "log_level": "info",
        "operation": "chat",
        "model": "m",
        "duration": round(record.duration, 6),
        "load_duration": record.response.load_duration,
        "input_tokens": record.response.input_tokens,
        "output_tokens": record.response.output_tokens,
        "finish_reason": "stop",
        "http_status": 200,
        "server_address": "127.0.0.1",
        "server_port": 11434,
        "conversation_id": "c-1",
        "trace_id": f"{span.trace_id:032x}",
        "span_id": f"{span.span_id:016x}",
    }
    assert (abandoned["event"], abandoned["log_level"]) == ("ollama call abandoned", "info")
    assert abandoned["time_to_first_chunk"] > 0
    assert (failed["event"], failed["log_level"]) == ("ollama call failed", "warning")
    assert failed["error_type"] == "model_not_found"
    assert failed["error_message"] == "model 'none' not found"
    assert len({entry["trace_id"] for entry in structured.entries}) == 3


def test_without_structlog_they_go_through_logging(
    capture: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ollama_otel.calls")
    play(capture)
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "WARNING"]
    assert {record.name for record in caplog.records} == {"ollama_otel.calls"}
    first = caplog.records[0].getMessage()
    assert first.startswith('event="ollama call completed" operation=chat model=m duration=')
    assert f"trace_id={capture.spans[0].context.trace_id:032x}" in first  # type: ignore[union-attr]


_PROGRAM = """
import logging
from ollama_otel import Client, Settings
from ollama_otel.testing import FakeModel, FakeOllama

fake = FakeOllama([FakeModel("m")])
client = Client(transport=fake.transport(), settings=Settings(log_calls=True))
{setup}
for _ in range(2):
    client.chat("m", messages=[{{"role": "user", "content": "Hello"}}])
"""


@pytest.mark.processes
@pytest.mark.parametrize(
    ("setup", "hints", "lines"),
    [
        ("", 1, 0),
        ("logging.basicConfig()", 1, 0),
        # It shows nothing without a handler, but somebody has chosen a level.
        ("logging.getLogger('ollama_otel.calls').setLevel('WARNING')", 0, 0),
        ("logging.basicConfig(level=logging.INFO)", 0, 2),
        ("import structlog; structlog.configure()", 0, 2),
    ],
)
def test_one_hint_says_that_logging_does_not_show_them(setup: str, hints: int, lines: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(setup=setup)],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        env={name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
    )
    said = done.stdout + done.stderr
    assert said.count("log_calls writes calls at level INFO") == hints
    assert said.count("ollama call completed") == lines


def test_nothing_said_is_in_them(structured: LogCapture, capture: Capture) -> None:
    play(capture)
    assert "private" not in repr(structured.entries)
    assert "three" not in repr(structured.entries)


def test_they_are_off_by_default(structured: LogCapture, capture: Capture) -> None:
    client = Client(transport=FakeOllama().transport(), **capture.options)
    client.list()
    assert structured.entries == []


def test_a_log_that_breaks_does_not_break_the_call(capture: Capture, quiet_guard: None) -> None:
    def broken(*arguments: Any) -> Any:
        raise RuntimeError("the disk of the log is full")

    structlog.configure(processors=[broken])
    try:
        fake = FakeOllama()
        fake.fault("/api/tags", Fault(slow=0.0))
        client = Client(
            transport=fake.transport(), **capture.options | {"settings": Settings(log_calls=True)}
        )
        assert client.list().models
    finally:
        structlog.reset_defaults()
