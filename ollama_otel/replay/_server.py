"""The ASGI application that answers from a log, with the logged timing and injected faults."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import anyio
import httpx

from ollama_otel._asgi import (
    Event,
    Receive,
    Send,
    break_connection,
    read_body,
    run_lifespan,
    send_document,
    send_head,
    send_piece,
    wait_for_disconnect,
)
from ollama_otel._display import logger
from ollama_otel._log.call import RecordedCall
from ollama_otel._wire.dialect import Dialect, MadeUp
from ollama_otel._wire.endpoints import DIALECTS, dialect_of, find_endpoint
from ollama_otel._wire.model_names import full_name
from ollama_otel.errors import ReplayEndedError, ReplayMissError
from ollama_otel.redaction import Redactor
from ollama_otel.replay._canonical import CanonicalRequest
from ollama_otel.replay._chaos import Chaos, FaultSequence, InjectedFault
from ollama_otel.replay._matching import CallIndex, Log
from ollama_otel.replay._playback import Playback, check_speed

__all__ = ["ReplayApp", "Served", "ServedOutcome"]

_log = logger()

ServedOutcome = Literal["played", "broken off", "left", "missed", "refused", "made up"]
"""The outcome of a request.

`played`: to its logged end; `broken off`: the connection was closed, as logged or as an injected
fault; `left`: the client disconnected; `missed`: not in the log; `refused`: an injected fault;
`made up`: not in the log, but clients need it (`/`, the version, the models).
"""

_FIRST_ERROR: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One request that was served."""

    asked: CanonicalRequest
    call: RecordedCall | None
    """The logged call that answered it; None if there was none."""
    status: int | None
    """The HTTP status that was sent; None if none was sent."""
    outcome: ServedOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """A response that is not part of the log."""

    status: int
    content: MadeUp
    outcome: ServedOutcome


class _BreakOffError(Exception):
    """The connection has to be closed without an end of the response."""


class ReplayApp:
    """Answers HTTP requests from a log; run it with uvicorn.

    `log`, `speed`, `ignore`, `repeat` and `redactors` are those of `Player`. `chaos` injects
    faults. `report` is called at the end of each request.

    A request that is not in the log gets status 501, and the reason is logged as a warning. If a
    logged call broke off, or its caller had closed it, the connection is closed; a server that
    does not support this sends status 502 instead, or ends the body.
    """

    def __init__(
        self,
        log: Log | CallIndex,
        *,
        speed: float = 1.0,
        ignore: Collection[str] = (),
        repeat: bool = True,
        redactors: Sequence[Redactor] = (),
        chaos: Chaos | None = None,
        report: Callable[[Served], object] | None = None,
    ) -> None:
        self.index: CallIndex = CallIndex.load(
            log, ignore=ignore, repeat=repeat, redactors=redactors
        )
        self._speed = check_speed(speed)
        self._chaos = chaos or Chaos()
        self._faults = FaultSequence(self._chaos)
        self._report = report

    @cached_property
    def models(self) -> tuple[str, ...]:
        """The names of the models that responded in the log, each with its tag."""
        names = sorted(
            {
                call.start.request.model
                for call in self.index.calls
                if call.start.request.model
                and call.start.endpoint.moves_model
                and call.record is not None
                and (call.record.http_status or _FIRST_ERROR) < _FIRST_ERROR
            }
        )
        return tuple(dict.fromkeys(map(full_name, names)))

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        """Serve one request, or the application's lifespan."""
        if scope["type"] == "lifespan":
            await run_lifespan(receive, send)
        elif scope["type"] == "http" and (content := await read_body(receive)) is not None:
            asked = self.index.asked(scope["method"], scope["path"], content)
            served = await self._serve(asked, receive, send)
            if self._report is not None:
                self._report(served)

    async def _serve(self, asked: CanonicalRequest, receive: Receive, send: Send) -> Served:
        fault = self._faults.next()
        found = self._find(asked, fault)
        if isinstance(found, _Document):
            content = found.content
            await send_document(send, found.status, content.body, content.content_type)
            return Served(asked=asked, call=None, status=found.status, outcome=found.outcome)
        playback = Playback(
            found, speed=self._speed, clock=time.perf_counter, slow=self._chaos.slow
        )
        outcome = await _play_while_connected(playback, fault, receive, send)
        return Served(asked=asked, call=found, status=playback.status, outcome=outcome)

    def _find(self, asked: CanonicalRequest, fault: InjectedFault) -> RecordedCall | _Document:
        if (made_up := self._made_up(asked)) is not None:
            return _Document(status=200, content=made_up, outcome="made up")
        dialect = dialect_of(find_endpoint(asked.method, asked.path))
        if fault.status is not None:
            text = fault.refusal(dialect, asked.model)
            return _Document(status=fault.status, content=_error(dialect, text), outcome="refused")
        try:
            return self.index.take(asked)
        except ReplayMissError as miss:
            _log.warning("%s", miss)
            return _Document(status=501, content=_error(dialect, str(miss)), outcome="missed")

    def _made_up(self, asked: CanonicalRequest) -> MadeUp | None:
        """Return a made-up response for a client's side request that is not in the log."""
        method, path = asked.method, asked.path
        for dialect in DIALECTS.values():
            document = dialect.made_up(method, path, self.models)
            if document is not None and not self.index.knows(method, path):
                return document
        return None


def _error(dialect: Dialect, text: str) -> MadeUp:
    return MadeUp(body=dialect.error_body(text))


# --- playing ------------------------------------------------------------------------------


async def _play_while_connected(
    playback: Playback, fault: InjectedFault, receive: Receive, send: Send
) -> ServedOutcome:
    """Play until the end, or until the client disconnects."""
    outcome: ServedOutcome = "left"

    async def watch() -> None:
        await wait_for_disconnect(receive)
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        outcome = await _play(playback, fault, send)
        group.cancel_scope.cancel()
    if outcome == "broken off":
        await _break_off(playback, receive, send)
    return outcome


async def _play(playback: Playback, fault: InjectedFault, send: Send) -> ServedOutcome:
    try:
        for pause in playback.head():
            await anyio.sleep(pause)
        await send_head(send, playback.status or 0, playback.content_type)
        await _send_pieces(playback, fault, send)
    except (httpx.RequestError, ReplayEndedError, _BreakOffError) as end:
        _log.info("the connection is closed: %s", end)
        return "broken off"
    await send_piece(send, b"", is_last=True)
    return "played"


async def _send_pieces(playback: Playback, fault: InjectedFault, send: Send) -> None:
    start = playback.call.start
    dialect = dialect_of(start.endpoint)
    is_stream = (playback.content_type or "").startswith(dialect.framing.content_type)
    left = fault.kept_of(len(playback.call.chunks or ())) if is_stream else None
    for step in playback.body():
        if isinstance(step, float):
            await anyio.sleep(step)
            continue
        await send_piece(send, step)
        if left is not None and (left := left - 1) == 0:
            if not fault.has_error:
                raise _BreakOffError("an injected fault")
            await send_piece(send, fault.error_message(dialect, start.request.model))
            return


async def _break_off(playback: Playback, receive: Receive, send: Send) -> None:
    """Close the connection; if the server cannot do that, send 502 unless a head was sent."""
    if not await break_connection(receive, send) and playback.status is None:
        error = _error(dialect_of(playback.call.start.endpoint), "the logged call has no response")
        await send_document(send, 502, error.body, error.content_type)
