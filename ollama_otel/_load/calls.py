"""Sends prepared requests and returns the record of each call."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from contextvars import ContextVar
from typing import Final

import httpx

from ollama_otel._client_instrumentation import instrument_client
from ollama_otel._exchange.observers import (
    CallFollower,
    Instrumentation,
    LoggingObserver,
    Observer,
)
from ollama_otel._load.request import TimedRequest
from ollama_otel._wire.endpoints import dialect_of, find_endpoint
from ollama_otel.context import ContextBlock, call_context
from ollama_otel.errors import LoadError
from ollama_otel.records import CallRecord, CallStart

__all__ = ["STAGE_TAG", "Call", "instrumented", "prepared", "send", "warm_up"]

STAGE_TAG: Final = "load_stage"
"""The tag that names the stage of a call in a log."""
_WARM_UP: Final = "warm-up"


def _nothing() -> None:
    pass


class Call:
    """One prepared request, which can be sent without further work."""

    __slots__ = ("block", "is_streamed", "record", "request")

    def __init__(self, request: httpx.Request, block: ContextBlock | None) -> None:
        self.request = request
        self.block = block
        self.is_streamed = False
        """Whether a stream is requested; set when the request is sent."""
        self.record: CallRecord | None = None


_current: ContextVar[Call] = ContextVar("ollama_otel_load_call")


class _Recorder:
    """An observer that hands the record to the task that makes the call."""

    def begin(self, start: CallStart) -> CallFollower:
        call = _current.get()
        call.is_streamed = start.request.stream
        return _Follower(call)


class _Follower(CallFollower):
    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        self._call = call

    def end(self, record: CallRecord) -> None:
        self._call.record = record


def instrumented(
    client: httpx.AsyncClient, observers: Sequence[Observer], clock: Callable[[], float]
) -> httpx.AsyncClient:
    """Instrument a client for `send` and for observers, without exporting anything."""
    return instrument_client(
        client,
        instrumentation=Instrumentation(
            observers=(_Recorder(), *observers),
            keeps_request=any(
                isinstance(each, LoggingObserver) and each.keeps_request for each in observers
            ),
            clock=clock,
        ),
    )


def prepared(client: httpx.AsyncClient, request: TimedRequest) -> Call:
    """Build a request: its JSON, its headers, and its call context."""
    has_context = request.tags or request.conversation_id is not None
    return Call(
        client.build_request(
            "POST",
            request.path,
            # Not `json=`, which cannot send half a surrogate pair; a log may hold one.
            content=json.dumps(request.body).encode(),
            headers={"content-type": "application/json"},
        ),
        call_context(conversation_id=request.conversation_id, tags=request.tags)
        if has_context
        else None,
    )


async def send(
    client: httpx.AsyncClient, call: Call, on_first: Callable[[], object] = _nothing
) -> CallRecord:
    """Send a request and read its answer; `on_first` is called at the first part of a good one.

    A failure of the call is in its record.
    """
    _current.set(call)
    with suppress(httpx.HTTPError), call.block or nullcontext():
        response = await client.send(call.request, stream=True)
        on_first = on_first if response.is_success else _nothing
        try:
            async for _ in response.aiter_raw():
                on_first()
                on_first = _nothing
        finally:
            await response.aclose()
    if call.record is None:
        raise LoadError("expected a record of each call, found none: recording has failed")
    return call.record


# --- warming up ---------------------------------------------------------------------------


async def warm_up(
    client: httpx.AsyncClient, plan: Sequence[TimedRequest], url: str
) -> tuple[CallRecord, ...]:
    """Send the first request to each model once, so that the models are loaded.

    Raises `LoadError` if one does not complete.
    """
    firsts: dict[object, TimedRequest] = {}
    for request in plan:
        firsts.setdefault(_model_of(request), request)
    return tuple([await _warmed_up(client, request, url) for request in firsts.values()])


def _model_of(request: TimedRequest) -> object:
    endpoint = find_endpoint("POST", request.path)
    assert endpoint is not None  # noqa: S101 - the plan has been checked
    return request.body.get(dialect_of(endpoint).model_field)


async def _warmed_up(client: httpx.AsyncClient, request: TimedRequest, url: str) -> CallRecord:
    call = prepared(client, request)
    call.block = call_context(tags={STAGE_TAG: _WARM_UP})
    record = await send(client, call)
    if record.error_type == "connect":
        raise LoadError(
            f"expected an Ollama server at {url}, found none that responds "
            f"({record.error_message}): start it, or name another host"
        )
    if record.is_hop:
        raise LoadError(f"{url} redirects to another address: name that one as host")
    if record.outcome != "completed":
        raise LoadError(
            f"the warm-up at {url} did not complete: {record.error_message} ({record.error_type})"
        )
    return record
