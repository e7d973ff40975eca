"""Calls of a log written by hand, as values and as lines."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from ollama_otel._log.call import RecordedCall
from ollama_otel._log.format import call_from, end_line, request_line
from ollama_otel._wire.endpoints import dialect_of, find_endpoint
from ollama_otel.records import CallContext, CallRecord, CallStart
from tests.replay.recorded import ending_of

NDJSON = "application/x-ndjson"
JSON = "application/json; charset=utf-8"
SECOND = 1_000_000_000
STARTED_AT = 1_700_000_000 * SECOND


def ask(text: str = "Hello", **fields: Any) -> dict[str, Any]:
    """The body of a chat."""
    return {"model": "m", "messages": [{"role": "user", "content": text}], "stream": False} | fields


def answer(text: str = "Hi there.", **fields: Any) -> dict[str, Any]:
    """The answer to it; `thinking` and `tool_calls` belong into its message."""
    message = {"role": "assistant", "content": text}
    for key in ("thinking", "tool_calls"):
        if key in fields:
            message[key] = fields.pop(key)
    return {
        "model": "m",
        "message": message,
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 10,
        "eval_count": 30,
        "eval_duration": SECOND,
    } | fields


def tool(name: str, **arguments: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}}


def lines(
    call_id: str = "1",
    asked: Any = None,
    said: Any = None,
    *,
    at: float = 0.0,
    path: str = "/api/chat",
    tags: dict[str, str] | None = None,
    bodies: bool = True,
    ends: bool = True,
    changes: Iterable[str] = (),
    conversation: str | None = None,
    **record: Any,
) -> list[dict[str, Any]]:
    """The lines of a call that began `at` seconds; `record` are fields of its `CallRecord`.

    A list in `said` is a stream.
    """
    endpoint = find_endpoint("POST", path)
    assert endpoint is not None
    body = ask() if asked is None else asked
    start = CallStart(
        endpoint=endpoint,
        request=dialect_of(endpoint).read_request(endpoint, body, size=64),
        server_address="127.0.0.1",
        server_port=11434,
        started_at=STARTED_AT + round(at * SECOND),
        context=CallContext(tags=tags or {}, conversation_id=conversation),
        path=path,
    )
    request = request_line(call_id, start, body=body if bodies else None, changes=changes)
    if not ends:
        return [request]
    parts = said if isinstance(said, list) else [answer() if said is None else said]
    pieces = [json.dumps(part) + "\n" * (part is not said) for part in parts]
    size = sum(map(len, pieces))
    whole = CallRecord(
        start=start,
        outcome="completed",
        ending="final_message",
        http_status=200,
        response=dialect_of(endpoint).read_document(endpoint, pieces[-1].encode()),
        duration=2.0,
        response_size=size,
        content_type=NDJSON if isinstance(said, list) else JSON,
    )
    whole = replace(whole, **record)
    ending = ending_of(whole.outcome, whole.error_type, whole.http_status)
    whole = replace(whole, **{"ending": ending} | record)
    chunks = [[0.5, piece] for piece in pieces] if bodies else None
    return [request, end_line(call_id, whole, chunks=chunks)]


def call(call_id: str = "1", asked: Any = None, said: Any = None, **options: Any) -> RecordedCall:
    """A call as it is read from a log."""
    request, *end = lines(call_id, asked, said, **options)
    # Through JSON, as from a file.
    request, *end = json.loads(json.dumps([request, *end]))
    return call_from(request, end[0] if end else None, file=Path("calls.jsonl"), line=1)


def write(path: Path, *calls: list[dict[str, Any]]) -> Path:
    """A log of these calls."""
    path.write_text("".join(json.dumps(line) + "\n" for each in calls for line in each))
    return path
