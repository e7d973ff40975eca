"""The ASGI application that answers from a log, with the recorded timing and troubles at will."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import anyio
import httpx

from ollama_otel._content import Redactor
from ollama_otel._log.call import RecordedCall
from ollama_otel.errors import ReplayEndedError, ReplayMissError
from ollama_otel.replay._canonical import CanonicalRequest
from ollama_otel.replay._chaos import Chaos, Trouble
from ollama_otel.replay._matching import CallIndex, Log
from ollama_otel.replay._playback import Playback, check_speed

__all__ = ["ReplayApp", "Served"]

_log = logging.getLogger("ollama_otel")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

ServedOutcome = Literal["played", "broken off", "left", "missed", "refused", "made up"]
"""What became of a request.

`played`: to its recorded end; `broken off`: the connection was closed, as it was recorded or
for chaos; `left`: the client went away; `missed`: not in the log; `refused`: for chaos;
`made up`: no part of the log, but clients ask for it (`/`, the version, the models).
"""

_JSON = b"application/json; charset=utf-8"
_VERSION = "0.0.0-replay"
_NO_DIGEST = "not-in-the-log"
"""In the place of a model's hash, of which `ollama list` cuts off twelve characters."""
_FIRST_ERROR = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One request that was served."""

    asked: CanonicalRequest
    call: RecordedCall | None
    """The call that answered it; None where none did."""
    status: int | None
    """The HTTP status that was sent; None where none was."""
    outcome: ServedOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    """An answer that is no part of the log."""

    status: int
    body: bytes
    outcome: ServedOutcome
    content_type: bytes = _JSON


class _BreakOffError(Exception):
    """The connection is to end without an end of the answer."""


class ReplayApp:
    """Answers from a log, for every client that speaks HTTP; run it with uvicorn.

    `log`, `speed`, `ignore`, `repeat` and `redactors` are those of `Player`. `chaos` adds
    troubles. `report` is told of each request when it is over.

    What is not in the log is answered with status 501, and why is logged as a warning. Where a
    recorded call broke off, or its caller had left, the connection is closed; a server that
    does not let its application do so answers 502 instead, or ends the body as it sees fit.
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
        self.index = CallIndex.load(log, ignore=ignore, repeat=repeat, redactors=redactors)
        self._speed = check_speed(speed)
        self._chaos = chaos or Chaos()
        self._troubles = self._chaos.troubles()
        self._report = report

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models that answered in the log, each with its tag."""
        names = sorted(
            {
                call.start.request.model
                for call in self.index.calls
                if call.start.request.model
                and call.start.endpoint.answer in {"completion", "embedding"}
                and call.record is not None
                and (call.record.http_status or _FIRST_ERROR) < _FIRST_ERROR
            }
        )
        tagged = (name if ":" in name.rpartition("/")[2] else f"{name}:latest" for name in names)
        return tuple(dict.fromkeys(tagged))

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request, or the application's lifespan."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http" and (content := await _content(receive)) is not None:
            asked = self.index.asked(scope["method"], scope["path"], content)
            served = await self._serve(asked, receive, send)
            if self._report is not None:
                self._report(served)

    async def _serve(self, asked: CanonicalRequest, receive: Receive, send: Send) -> Served:
        trouble = self._troubles.next()
        found = self._find(asked, trouble)
        if isinstance(found, _Document):
            await _send_document(found, send)
            return Served(asked=asked, call=None, status=found.status, outcome=found.outcome)
        playback = Playback(
            found, speed=self._speed, clock=time.perf_counter, slow=self._chaos.slow
        )
        outcome = await _play_while_connected(playback, trouble, receive, send)
        return Served(asked=asked, call=found, status=playback.status, outcome=outcome)

    def _find(self, asked: CanonicalRequest, trouble: Trouble) -> RecordedCall | _Document:
        if (made_up := self._made_up(asked)) is not None:
            return _Document(status=200, outcome="made up", **made_up)
        if trouble.status is not None:
            text = trouble.refusal(asked.model)
            return _error(trouble.status, text, outcome="refused")
        try:
            return self.index.take(asked)
        except ReplayMissError as miss:
            _log.warning("%s", _without_controls(str(miss)))
            return _error(501, str(miss), outcome="missed")

    def _made_up(self, asked: CanonicalRequest) -> dict[str, Any] | None:
        """Return what clients ask for on the side, where the log does not have it."""
        if asked.method not in {"GET", "HEAD"} or self.index.knows(asked.method, asked.path):
            return None
        match asked.path:
            case "/":
                return {"body": b"Ollama is running", "content_type": b"text/plain; charset=utf-8"}
            case "/api/version":
                return {"body": _as_json({"version": _VERSION})}
            case "/api/tags":
                # Of each no more than its name is known.
                models = [
                    {"name": name, "model": name, "digest": _NO_DIGEST} for name in self.models
                ]
                return {"body": _as_json({"models": models})}
        return None


# --- playing ------------------------------------------------------------------------------


async def _play_while_connected(
    playback: Playback, trouble: Trouble, receive: Receive, send: Send
) -> ServedOutcome:
    """Play until the end, or until the client goes away."""
    outcome: ServedOutcome = "left"

    async def watch() -> None:
        await _until_left(receive)
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        outcome = await _play(playback, trouble, send)
        group.cancel_scope.cancel()
    if outcome == "broken off":
        await _break_off(receive, send, has_begun=playback.status is not None)
    return outcome


async def _play(playback: Playback, trouble: Trouble, send: Send) -> ServedOutcome:
    try:
        for pause in playback.head():
            await anyio.sleep(pause)
        await _send_head(playback.status or 0, playback.content_type, send)
        await _send_pieces(playback, trouble, send)
    except (httpx.RequestError, ReplayEndedError, _BreakOffError) as end:
        _log.info("the connection is closed: %s", end)
        return "broken off"
    await send({"type": "http.response.body", "body": b"", "more_body": False})
    return "played"


async def _send_pieces(playback: Playback, trouble: Trouble, send: Send) -> None:
    is_stream = (playback.content_type or "").startswith("application/x-ndjson")
    left = trouble.kept_of(len(playback.call.chunks or ())) if is_stream else None
    for step in playback.body():
        if isinstance(step, float):
            await anyio.sleep(step)
            continue
        await send({"type": "http.response.body", "body": step, "more_body": True})
        if left is not None and (left := left - 1) == 0:
            if not trouble.is_told:
                raise _BreakOffError("for chaos")
            line = _as_json({"error": trouble.error}) + b"\n"
            await send({"type": "http.response.body", "body": line, "more_body": True})
            return


async def _break_off(receive: Receive, send: Send, *, has_begun: bool) -> None:
    """Close the connection without an end of the answer; ASGI has no word for that."""
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is not None:
        # uvicorn's: what was sent before still arrives.
        transport.close()
        await _until_left(receive)
    elif not has_begun:
        document = _error(502, "the recorded call had no answer", outcome="broken off")
        await _send_document(document, send)


# --- ASGI ---------------------------------------------------------------------------------


async def _live(receive: Receive, send: Send) -> None:
    while True:
        step = (await receive())["type"].removeprefix("lifespan.")
        await send({"type": f"lifespan.{step}.complete"})
        if step == "shutdown":
            return


async def _content(receive: Receive) -> bytes | None:
    """Return a request's whole body; None where its client went away."""
    pieces: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces)


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


async def _send_head(status: int, content_type: str | None, send: Send) -> None:
    headers = [(b"content-type", content_type.encode("latin-1"))] if content_type else []
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _send_document(document: _Document, send: Send) -> None:
    headers = [
        (b"content-type", document.content_type),
        (b"content-length", b"%d" % len(document.body)),
    ]
    await send({"type": "http.response.start", "status": document.status, "headers": headers})
    await send({"type": "http.response.body", "body": document.body, "more_body": False})


def _error(status: int, text: str, *, outcome: ServedOutcome) -> _Document:
    return _Document(status=status, body=_as_json({"error": text}), outcome=outcome)


def _without_controls(text: str) -> str:
    """Return a text without what a terminal would obey instead of show: a client chose it."""
    return "".join(
        each if each.isprintable() or each == "\n" else "\N{REPLACEMENT CHARACTER}" for each in text
    )


def _as_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
