"""Calls in values, followed by the very observers that a client has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from ollama_otel._exchange.exchange import Exchange
from ollama_otel._telemetry.instrumentation import build_instrumentation
from ollama_otel._wire.endpoints import find_endpoint
from ollama_otel._wire.native import NATIVE
from ollama_otel.context import CallContext
from ollama_otel.records import CallStart
from ollama_otel.settings import Settings
from ollama_otel.testing import Capture, TickingClock
from tests.exchange.shell import as_shell

NDJSON = "application/x-ndjson"
JSON = "application/json; charset=utf-8"
STARTED_AT = 1_700_000_000_000_000_000
"""By the wall clock, nanoseconds."""

Step = bytes | float | BaseException

HELLO: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
METRICS = {
    "total_duration": 2_000_000_000,
    "load_duration": 500_000_000,
    "prompt_eval_count": 10,
    "prompt_eval_duration": 250_000_000,
    "eval_count": 30,
    "eval_duration": 750_000_000,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def tool_call(city: str) -> dict[str, Any]:
    function = {"index": 0, "name": "get_weather", "arguments": {"city": city}}
    return {"id": f"call_{city.lower()}", "function": function}


def part(**fields: Any) -> bytes:
    return (
        json.dumps({"model": "m", "done": False} | fields, separators=(",", ":")).encode() + b"\n"
    )


def chat(content: str = "", *, done: bool = False, **fields: Any) -> bytes:
    """One line of a chat; `thinking` and `tool_calls` belong into its message."""
    message: dict[str, Any] = {"role": "assistant", "content": content}
    for key in ("thinking", "tool_calls"):
        if key in fields:
            message[key] = fields.pop(key)
    return part(message=message, done=done, **fields)


def final(content: str = "", **fields: Any) -> bytes:
    return chat(content, done=True, **{"done_reason": "stop", **METRICS, **fields})


class Scene:
    """Makes calls as the shells do. Time goes by only where a test says so."""

    def __init__(self, capture: Capture, settings: Settings | None = None) -> None:
        self.capture = capture
        self.clock = TickingClock(start=100.0, step=0.0)
        self.instrumentation = replace(
            build_instrumentation(settings=settings or Settings(), **capture.options),
            clock=self.clock,
            wall_clock=lambda: STARTED_AT,
        )

    def begin(
        self,
        path: str = "/api/chat",
        body: Any = None,
        *,
        method: str = "POST",
        context: CallContext | None = None,
        port: int | None = 11434,
    ) -> Exchange:
        """Start a call; without a body it is a chat."""
        endpoint = find_endpoint(method, path)
        assert endpoint is not None
        body = HELLO if body is None else body
        keeps_content = self.instrumentation.keeps_content
        return Exchange(
            self.instrumentation,
            CallStart(
                endpoint=endpoint,
                request=NATIVE.read_request(endpoint, body, size=64),
                conversation=NATIVE.conversation(endpoint, body) if keeps_content else None,
                server_address="127.0.0.1" if port else None,
                server_port=port,
                started_at=self.instrumentation.wall_clock(),
                context=context or CallContext(),
                content=json.dumps(body).encode() if self.instrumentation.keeps_request else None,
            ),
        )

    def body(
        self,
        call: Exchange,
        *steps: Step,
        status: int = 200,
        content_type: str = NDJSON,
    ) -> Iterator[bytes]:
        """Iterate a body as the shells do; a number is a wait, an exception breaks it off."""
        call.head(status, content_type=content_type, content_encoding="")
        with call.receiving() as inlets:
            feed, pulled = as_shell(inlets)
            pulled()
            for step in steps:
                if isinstance(step, float):
                    self.clock.advance(step)
                elif isinstance(step, BaseException):
                    raise step
                else:
                    feed(step)
                    yield step
                    pulled()

    def play(
        self,
        *steps: Step,
        path: str = "/api/chat",
        body: Any = None,
        method: str = "POST",
        context: CallContext | None = None,
        port: int | None = 11434,
        status: int = 200,
        content_type: str = NDJSON,
        stops_after: int | None = None,
    ) -> None:
        """Make a call from its beginning to its end, or to an early one."""
        call = self.begin(path, body, method=method, context=context, port=port)
        with suppress(BaseException):
            with call.sending():
                if steps and isinstance(steps[0], BaseException):
                    raise steps[0]
            pieces = self.body(call, *steps, status=status, content_type=content_type)
            for count, _ in enumerate(pieces, 1):
                if count == stops_after:
                    break
            pieces.close()  # type: ignore[attr-defined]
        call.close()


def as_dict(span: ReadableSpan) -> dict[str, Any]:
    """All that a span says, times in seconds since the call began."""
    assert span.start_time is not None
    assert span.end_time is not None
    return {
        "name": span.name,
        "kind": span.kind.name,
        "start": (span.start_time - STARTED_AT) / 1e9,
        "end": (span.end_time - STARTED_AT) / 1e9,
        "status": (span.status.status_code.name, span.status.description),
        "events": [event.name for event in span.events],
        "attributes": dict(sorted((span.attributes or {}).items())),
    }
