"""The ASGI application that answers from a log, with the logged timing and injected faults."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import anyio
import anyio.to_thread
import httpx

from ollama_otel._admission import Admission
from ollama_otel._asgi import (
    BodyTooLargeError,
    Event,
    Header,
    Receive,
    Send,
    abort_connection,
    break_connection,
    header,
    read_body,
    run_lifespan,
    send_document,
    send_head,
    send_piece,
    skip_body,
    wait_for_disconnect,
)
from ollama_otel._display import logger
from ollama_otel._log.call import RecordedCall
from ollama_otel._wire.dialect import Dialect, LoggedModel, MadeUp
from ollama_otel._wire.endpoints import DIALECTS, dialect_of, find_endpoint
from ollama_otel._wire.installed_models import Capability
from ollama_otel._wire.model_names import full_name
from ollama_otel.errors import ReplayEndedError, ReplayMissError
from ollama_otel.records import CallStart
from ollama_otel.redaction import Redactor
from ollama_otel.replay._canonical import CanonicalRequest, canonical_request
from ollama_otel.replay._chaos import Chaos, FaultSequence, InjectedFault
from ollama_otel.replay._cors import PREFLIGHT_METHOD, cors_headers, preflight_headers
from ollama_otel.replay._matching import CallIndex, Log
from ollama_otel.replay._playback import Playback, check_speed

__all__ = ["ReplayApp", "Served", "ServedOutcome"]

_log = logger()

ServedOutcome = Literal["played", "broken off", "left", "missed", "refused", "made up", "rejected"]
"""The outcome of a request.

`played`: to its logged end; `broken off`: the connection was closed, as logged or as an injected
fault; `left`: the client disconnected; `missed`: not in the log; `refused`: an injected fault;
`made up`: not in the log, but needed by clients (`/`, the version, the models, the description and
the loading of a logged model, a preflight request of a browser); `rejected`: its host or origin is
not allowed, or its body is too large or too slow.
"""

_FIRST_ERROR: Final = 400
_LEAST_LIMIT: Final = 1024 * 1024
_LENGTHS: Final = 4
"""Largest size of a request, relative to the longest logged one, as its JSON may be longer."""
_READ_SECONDS: Final = 60.0
"""Time limit for the body of a request."""
_UPLOAD_SECONDS: Final = 600.0
"""Time limit for the body of an upload, which can have any size and is not kept."""
_SEND_SECONDS: Final = 300.0
"""Time limit for a client to take a piece of a response."""
_SHORT: Final = 16_384
"""Requests up to this size are redacted faster than a thread starts, bytes."""
_READERS: Final = 2
"""Long requests that are redacted at the same time; each can take seconds of CPU."""
_CLOSE: Final = ((b"connection", b"close"),)

_HOST_REFUSED: Final = (
    "this host or origin is not allowed: use localhost or an IP address, or allow the name "
    "(--allow-host NAME, or ReplayApp(allowed_hosts=...))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One request that was served."""

    asked: CanonicalRequest
    call: RecordedCall | None
    """The logged call that answered it; None if there was none."""
    status: int | None
    """The HTTP status that was sent; None if none was sent."""
    outcome: ServedOutcome


@dataclass(frozen=True, slots=True)
class _Client:
    """The client of one request, and the headers that let its page read the response."""

    receive: Receive
    send: Send
    headers: Sequence[Header]

    async def send_document(
        self, status: int, content: MadeUp, *, more: Sequence[Header] = ()
    ) -> None:
        headers = (*self.headers, *more)
        await send_document(self.send, status, content.body, content.content_type, more=headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """A response that is not part of the log."""

    status: int
    content: MadeUp
    outcome: ServedOutcome


class _RejectedError(Exception):
    """A request that is not read."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _BreakOffError(Exception):
    """The connection has to be closed without an end of the response."""


class ReplayApp:
    """Answers HTTP requests from a log; run it with uvicorn.

    `log`, `speed`, `ignore`, `repeat` and `redactors` are those of `Player`. `chaos` injects
    faults. `report` is called at the end of each request.

    It answers requests to this machine's names and addresses, and to `allowed_hosts`, where `*`
    allows every name. On other than loopback addresses it answers every name, unless
    `allowed_hosts` are given. Web pages of other origins are refused. Both get status 403. As with
    Ollama, pages of this machine and desktop applications may read the responses (CORS).

    A request that is not in the log gets status 501, and the reason is logged as a warning, as it
    quotes the log. A body larger than both 1 MiB and four times the longest logged request gets
    status 413; one that takes more than a minute, status 408. If a logged call broke off, or its
    caller had closed it, the connection is closed; a server that does not support this sends status
    502 instead, or ends the body.
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
        allowed_hosts: Collection[str] = (),
    ) -> None:
        self.index: CallIndex = CallIndex.load(
            log, ignore=ignore, repeat=repeat, redactors=redactors
        )
        """The calls that can be played."""
        self._speed = check_speed(speed)
        self._chaos = chaos or Chaos()
        self._faults = FaultSequence(self._chaos)
        self._report = report
        self._admission = Admission(allowed_hosts)
        self._readers = anyio.CapacityLimiter(_READERS)
        longest = max((call.start.request.size or 0 for call in self.index.calls), default=0)
        self._limit = max(_LEAST_LIMIT, _LENGTHS * longest)

    @cached_property
    def models(self) -> tuple[str, ...]:
        """The names of the models that responded in the log, each with its tag."""
        return tuple(model.name for model in self._models)

    @cached_property
    def _models(self) -> tuple[LoggedModel, ...]:
        used: dict[str, set[Capability]] = {}
        for call in self.index.calls:
            start, record = call.start, call.record
            was_answered = (
                record is not None and (record.http_status or _FIRST_ERROR) < _FIRST_ERROR
            )
            if start.request.model and start.endpoint.moves_model and was_answered:
                used.setdefault(full_name(start.request.model), set()).update(_used(start))
        return tuple(
            LoggedModel(name=name, capabilities=tuple(sorted(used[name]))) for name in sorted(used)
        )

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        """Serve one request, or the application's lifespan."""
        if scope["type"] == "lifespan":
            await run_lifespan(receive, send)
        elif scope["type"] == "http":
            served = await self._answer(scope, receive, send)
            if served is not None and self._report is not None:
                self._report(served)

    async def _answer(self, scope: Event, receive: Receive, send: Send) -> Served | None:
        """Answer a request; None if the client disconnected before it had asked."""
        method, path = scope["method"], scope["path"]
        origin, host = header(scope, b"origin"), header(scope, b"host")
        client = _Client(receive, send, cors_headers(origin, host))
        try:
            content = await self._read(scope, receive)
        except _RejectedError as error:
            asked = canonical_request(method, path, None)
            document = _error(dialect_of(find_endpoint(method, path)), str(error))
            # Its body, if any, has not been read to the end.
            await client.send_document(error.status, document, more=_CLOSE)
            return Served(asked=asked, call=None, status=error.status, outcome="rejected")
        if content is None:
            return None
        asked = await self._asked(method, path, content)
        if method == PREFLIGHT_METHOD and (headers := preflight_headers(origin, host)):
            await send_head(send, 204, None, more=headers)
            await send_piece(send, b"", is_last=True)
            return Served(asked=asked, call=None, status=204, outcome="made up")
        return await self._serve(asked, client)

    async def _asked(self, method: str, path: str, content: bytes) -> CanonicalRequest:
        if len(content) <= _SHORT:
            return self.index.asked(method, path, content)
        # In a thread, as redaction of a long text would block all other clients.
        return await anyio.to_thread.run_sync(
            self.index.asked, method, path, content, limiter=self._readers
        )

    async def _read(self, scope: Event, receive: Receive) -> bytes | None:
        """Return the body of a request; raises `_RejectedError`."""
        place = scope.get("server") or (None,)
        if not self._admission.admits(header(scope, b"host"), header(scope, b"origin"), place[0]):
            raise _RejectedError(403, _HOST_REFUSED)
        endpoint = find_endpoint(scope["method"], scope["path"])
        is_upload = endpoint is not None and endpoint.path_names_body
        seconds = _UPLOAD_SECONDS if is_upload else _READ_SECONDS
        try:
            with anyio.fail_after(seconds):
                return await (skip_body(receive) if is_upload else self._read_body(receive))
        except BodyTooLargeError:
            raise _RejectedError(
                413, f"the request is longer than {self._limit} bytes, and not in the log"
            ) from None
        except TimeoutError:
            raise _RejectedError(408, f"the request took more than {seconds:g} seconds") from None

    async def _read_body(self, receive: Receive) -> bytes | None:
        return await read_body(receive, limit=self._limit)

    async def _serve(self, asked: CanonicalRequest, client: _Client) -> Served:
        fault = self._faults.next()
        found = self._find(asked, fault)
        if isinstance(found, _Document):
            await client.send_document(found.status, found.content)
            return Served(asked=asked, call=None, status=found.status, outcome=found.outcome)
        playback = Playback(
            found, speed=self._speed, clock=time.perf_counter, slow=self._chaos.slow
        )
        outcome = await _play_while_connected(playback, fault, client)
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
            # The message quotes the log, which not every client may read.
            _log.warning("%s", miss)
            text = f"{asked} has no answer in the log; the server has logged the reason"
            return _Document(status=501, content=_error(dialect, text), outcome="missed")

    def _made_up(self, asked: CanonicalRequest) -> MadeUp | None:
        """Return a made-up response for a client's side request that is not in the log."""
        if self.index.holds(asked):
            return None
        method, path = asked.method, asked.path
        body = asked.body if isinstance(asked.body, Mapping) else {}
        endpoint = find_endpoint(method, path)
        documents = (
            dialect.made_up(method, path, endpoint, body, self._models)
            for dialect in DIALECTS.values()
        )
        return next((document for document in documents if document is not None), None)


def _used(start: CallStart) -> Iterator[Capability]:
    """Yield the capabilities of a model that a request uses."""
    request = start.request
    yield "embedding" if start.endpoint.response == "embedding" else "completion"
    if request.think:
        yield "thinking"
    if request.tools:
        yield "tools"
    if request.image_count:
        yield "vision"


def _error(dialect: Dialect, text: str) -> MadeUp:
    return MadeUp(body=dialect.error_body(text))


# --- playing ------------------------------------------------------------------------------


async def _play_while_connected(
    playback: Playback, fault: InjectedFault, client: _Client
) -> ServedOutcome:
    """Play until the end, or until the client disconnects."""
    outcome: ServedOutcome = "left"

    async def watch() -> None:
        await wait_for_disconnect(client.receive)
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        outcome = await _play(playback, fault, client)
        group.cancel_scope.cancel()
    if outcome == "broken off":
        await _break_off(playback, client)
    return outcome


async def _play(playback: Playback, fault: InjectedFault, client: _Client) -> ServedOutcome:
    send = client.send
    try:
        for pause in playback.head():
            await anyio.sleep(pause)
        await send_head(send, playback.status or 0, playback.content_type, more=client.headers)
        await _send_pieces(playback, fault, send)
        await _send_in_time(send, b"", is_last=True)
    except TimeoutError:
        abort_connection(send)
        return "left"
    except (httpx.RequestError, ReplayEndedError, _BreakOffError) as end:
        _log.info("the connection is closed: %s", end)
        return "broken off"
    return "played"


async def _send_in_time(send: Send, piece: bytes, *, is_last: bool = False) -> None:
    """Send a piece; raises TimeoutError if the client does not take it."""
    with anyio.fail_after(_SEND_SECONDS):
        await send_piece(send, piece, is_last=is_last)


async def _send_pieces(playback: Playback, fault: InjectedFault, send: Send) -> None:
    start = playback.call.start
    dialect = dialect_of(start.endpoint)
    is_stream = (playback.content_type or "").startswith(dialect.framing.content_type)
    left = fault.kept_of(len(playback.call.chunks or ())) if is_stream else None
    for step in playback.body():
        if isinstance(step, float):
            await anyio.sleep(step)
            continue
        await _send_in_time(send, step)
        if left is not None and (left := left - 1) == 0:
            if not fault.has_error:
                raise _BreakOffError("an injected fault")
            await _send_in_time(send, fault.error_message(dialect, start.request.model))
            return


async def _break_off(playback: Playback, client: _Client) -> None:
    """Close the connection; if the server cannot do that, send 502 unless a head was sent."""
    if not await break_connection(client.receive, client.send) and playback.status is None:
        error = _error(dialect_of(playback.call.start.endpoint), "the logged call has no response")
        await client.send_document(502, error)
