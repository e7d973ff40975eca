"""Logs of calls that were never made: each fact is given, so that a rule can be shown its case."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from ollama_otel._frozen import FrozenDict
from ollama_otel._log.format import end_line, request_line
from ollama_otel._wire.endpoints import find_endpoint
from ollama_otel.context import CallContext
from ollama_otel.records import (
    CallRecord,
    CallResilience,
    CallStart,
    ModelResidency,
    RequestFacts,
    ResponseFacts,
    Truncation,
)

EPOCH = 1_790_000_000 * 10**9

Call = tuple[CallStart, CallRecord]


def call(
    at: float,
    *,
    path: str = "/api/chat",
    model: str = "qwen3:8b",
    duration: float = 1.0,
    load: float | None = 0.01,
    options: dict[str, Any] | None = None,
    request: dict[str, Any] | None = None,
    response: dict[str, Any] | None = None,
    residency: dict[str, Any] | None = None,
    truncation: dict[str, Any] | None = None,
    resilience: dict[str, Any] | None = None,
    conversation: str | None = None,
    user: str | None = None,
    server: str = "127.0.0.1",
    **record: Any,
) -> Call:
    """Return a call that began `at` seconds and was answered; cold if its load took 0.1 s."""
    endpoint = find_endpoint("POST", path)
    assert endpoint is not None
    start = CallStart(
        endpoint=endpoint,
        path=path,
        request=RequestFacts(
            model=model,
            stream=True,
            options=FrozenDict(options or {}),
            **{"size": 500, **(request or {})},
        ),
        started_at=EPOCH + round(at * 1e6) * 1000,
        server_address=server,
        server_port=11434,
        server_scheme="http",
        context=CallContext(conversation_id=conversation, user_id=user),
    )
    facts: dict[str, Any] = {
        "model": model,
        "done": True,
        "done_reason": "stop",
        "input_tokens": 50,
        "output_tokens": 20,
        "total_duration": duration,
        "load_duration": load,
        "prompt_eval_duration": 0.1,
        "eval_duration": 0.5,
        **(response or {}),
    }
    ended = CallRecord(
        start=start,
        duration=duration,
        response=ResponseFacts(**facts),
        residency=ModelResidency(**(residency or {})),
        truncation=Truncation(**(truncation or {})),
        resilience=CallResilience(**(resilience or {})),
        cold_start=None if load is None else load >= 0.1,
        **{"outcome": "completed", "ending": "final_message", "http_status": 200, **record},
    )
    return start, ended


def left(at: float, *, outcome: str = "cancelled", **facts: Any) -> Call:
    """Return a call that the caller gave up; the server's timings never came."""
    silent = dict.fromkeys(
        (
            *("done_reason", "input_tokens", "output_tokens", "total_duration"),
            *("load_duration", "prompt_eval_duration", "eval_duration"),
        )
    )
    ending = "cancelled" if outcome == "cancelled" else "closed_early"
    return call(
        at,
        load=None,
        response={**silent, "done": False},
        outcome=outcome,
        ending=ending,
        **facts,
    )


def write(path: Path, calls: Iterable[Call], *, ids: Iterable[str] | None = None) -> Path:
    """Write a log; the calls' ids are `c0`, `c1` and so on, if they are not given."""
    encode = msgspec.json.Encoder().encode
    names = (f"c{number}" for number in count()) if ids is None else ids
    with path.open("wb") as file:
        for name, (start, record) in zip(names, calls, strict=False):
            file.write(encode(request_line(name, start)) + b"\n")
            file.write(encode(end_line(name, record)) + b"\n")
    return path
