"""Events of a log, made of values."""

from __future__ import annotations

from typing import Any

from ollama_otel._log.format import LoggedEnd, LoggedStart, timestamp
from ollama_otel._top.readings import LogReading
from ollama_otel._top.state import State
from ollama_otel._wire.endpoints import find_endpoint
from ollama_otel.context import CallContext
from ollama_otel.records import (
    CallRecord,
    CallStart,
    ModelResidency,
    Outcome,
    RequestFacts,
    ResponseFacts,
)

NOW = 1_700_000_000.0
"""Seconds since the epoch; times of events are relative to it."""
SERVER = "localhost:11434"


def begins(
    call_id: str,
    at: float,
    *,
    model: str | None = "m",
    path: str = "/api/chat",
    size: int | None = 100,
    conversation: str | None = None,
    port: int = 11434,
    digest: str | None = None,
    **request: Any,
) -> LoggedStart:
    """A call that begins `at` seconds after `NOW`."""
    endpoint = find_endpoint("POST", path)
    assert endpoint is not None
    started_at = round((NOW + at) * 1e9)
    start = CallStart(
        endpoint=endpoint,
        request=RequestFacts(model=model, size=size, **request),
        server_address="127.0.0.1",
        server_port=port,
        server_scheme="http",
        path=path,
        started_at=started_at,
        context=CallContext(conversation_id=conversation),
    )
    return LoggedStart(id=call_id, at=timestamp(started_at), start=start, prompt_digest=digest)


def ends(
    begun: LoggedStart,
    duration: float,
    *,
    outcome: Outcome = "completed",
    load: float = 0.0,
    queue: float = 0.0,
    prompt: float | None = None,
    generation: float = 0.0,
    tokens: int | None = None,
    reload_cause: str | None = None,
    **record: Any,
) -> LoggedEnd:
    """The end of a call, as its line alone has it: without the beginning.

    With `prompt`, the server gave its timings; the rest of the duration is the client's.
    """
    response = ResponseFacts(input_tokens=tokens)
    if prompt is not None:
        response = ResponseFacts(
            input_tokens=tokens,
            output_tokens=10,
            total_duration=load + queue + prompt + generation,
            load_duration=load,
            prompt_eval_duration=prompt,
            eval_duration=generation,
            done=True,
        )
    start = begun.start
    alone = CallStart(endpoint=start.endpoint, request=RequestFacts(model=start.request.model))
    ended = CallRecord(
        start=alone,
        outcome=outcome,
        ending="final_message" if outcome == "completed" else "exception",
        duration=duration,
        response=response,
        residency=ModelResidency(reload_cause=reload_cause),
        **record,
    )
    return LoggedEnd(
        id=begun.id, at=timestamp(start.started_at + round(duration * 1e9)), record=ended
    )


def state_of(*events: LoggedStart | LoggedEnd, now: float = 0.0) -> State:
    """A state that has read these events, `now` seconds after `NOW`."""
    state = State()
    state.take("log", LogReading(events=events), NOW + now)
    return state


def call(call_id: str, at: float, duration: float, **facts: Any) -> tuple[LoggedStart, LoggedEnd]:
    """A call that has ended; `facts` are those of `begins` and `ends`."""
    names = {"model", "path", "size", "conversation", "port", "digest", "image_count"}
    begun = begins(call_id, at, **{name: facts.pop(name) for name in names & facts.keys()})
    return begun, ends(begun, duration, **facts)
