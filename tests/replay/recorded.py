"""Recorded calls as values, each made through the lines that a log has of it; and a clock."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ollama_otel._log.call import RecordedCall
from ollama_otel._log.format import call_from, chunks_as_lists, end_line, request_line
from ollama_otel._wire.endpoints import dialect_of, find_endpoint
from ollama_otel.records import CallRecord, CallStart, Ending, Endpoint

STARTED_AT = 1_700_000_000_000_000_000
NDJSON = "application/x-ndjson"

Piece = tuple[float, bytes]


def chat(text: str = "Hello", **fields: Any) -> dict[str, Any]:
    """The body of a streamed chat."""
    return {"model": "m", "messages": [{"role": "user", "content": text}]} | fields


def ending_of(outcome: str, error_type: str | None, status: int | None) -> Ending:
    """Why such a call ends, if the transport raised whatever the server did not say."""
    match outcome:
        case "abandoned":
            return "closed_early"
        case "cancelled":
            return "cancelled"
        case "completed":
            return "final_message"
    if status is not None and status >= 400:
        return "error_status"
    is_raised = error_type in {"connect", "timeout", "network", "incomplete", "protocol", "_OTHER"}
    return "exception" if status is None or is_raised else "error_message"


def lines(
    body: Any = None,
    pieces: Sequence[Piece] | None = ((0.5, b'{"done":true}\n'),),
    *,
    method: str = "POST",
    path: str = "/api/chat",
    at: float = 0.0,
    is_ended: bool = True,
    has_bodies: bool = True,
    changes: Iterable[str] = (),
    missing: str | None = None,
    **record: Any,
) -> list[dict[str, Any]]:
    """The lines of a call that began `at` seconds; `record` are fields of its `CallRecord`."""
    endpoint = find_endpoint(method, path) or Endpoint(method=method, path=path, name="unknown")
    asked = chat() if body is None and method == "POST" else body
    start = CallStart(
        endpoint=endpoint,
        request=dialect_of(endpoint).read_request(
            endpoint, asked, size=0 if asked is None else len(json.dumps(asked))
        ),
        server_address="127.0.0.1",
        server_port=11434,
        started_at=STARTED_AT + round(at * 1e9),
        path=path,
    )
    name = f"call-{at}"
    request = request_line(name, start, body=asked if has_bodies else None, changes=changes)
    if not is_ended:
        return [request]
    facts: dict[str, Any] = {
        "outcome": "completed",
        "error_type": None,
        "error_message": None,
        "http_status": 200,
        "duration": (pieces[-1][0] if pieces else 0.0) + 0.25,
        "content_type": NDJSON,
    } | record
    ending = ending_of(facts["outcome"], facts["error_type"], facts["http_status"])
    whole = CallRecord(start=start, **{"ending": ending} | facts)
    chunks = None
    if has_bodies and pieces is not None:
        chunks = chunks_as_lists([data for _, data in pieces], [time for time, _ in pieces], 0.0)
    return [request, end_line(name, whole, chunks=chunks, changes=changes, missing=missing)]


def call(*args: Any, line: int = 1, **options: Any) -> RecordedCall:
    """A call as it is read from a log; the arguments are those of `lines`."""
    request, *end = json.loads(json.dumps(lines(*args, **options)))
    return call_from(request, end[0] if end else None, file=Path("calls.jsonl"), line=line)


def old_call(*args: Any, **options: Any) -> RecordedCall:
    """As `call`, out of a log of version 1, which had no `ending`."""
    request, end = ({**line, "v": 1} for line in lines(*args, **options))
    del end["ending"]
    return call_from(request, end, file=Path("calls.jsonl"), line=1)


def write(path: Path, *calls: list[dict[str, Any]]) -> Path:
    """A log of these calls, each given by its lines."""
    path.write_text("".join(json.dumps(line) + "\n" for each in calls for line in each))
    return path


class Time:
    """A clock that only sleeping moves."""

    def __init__(self, start: float = 1000.0) -> None:
        self.start = self.now = start
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    @property
    def passed(self) -> float:
        return round(self.now - self.start, 6)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)
