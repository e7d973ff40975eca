"""The values of the fake server: received requests, replies, faults and deliveries."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from typing import Any, Self

from ollama_otel.testing._fake.go import BARE_JSON, JSON, go_json

NDJSON = "application/x-ndjson"
RUNNER_ERROR = "an error was encountered while running the model: unexpected EOF"
"""Message of Ollama 0.33.0 if its engine crashes: a line in a stream, or a 500 before it."""
GARBAGE = b"\x00<garbage>\n"
"""At any position the control character breaks a JSON string, and the newline the line."""

_METRICS = (
    "done_reason",
    "context",
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
)


@dataclass(frozen=True, slots=True)
class Received:
    """One request that the fake server received."""

    method: str
    path: str
    """The path without the query."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        """Return the parsed body; raises `json.JSONDecodeError` if it is not JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One response of the server, chunk by chunk."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": NDJSON})
    """Framing headers are added: `transfer-encoding: chunked`, or `content-length` if sized."""
    chunks: Sequence[bytes] = ()
    delays: Sequence[float] = ()
    """Seconds to wait before each chunk; missing ones are 0. The headers are sent with the first
    chunk, as by Ollama, so the first delay comes before them."""
    is_sized: bool = False
    """Whether to send a `content-length` instead of chunked framing."""

    @classmethod
    def json(cls, value: object, *, status: int = 200, delay: float = 0.0) -> Self:
        """Return a reply of one JSON object, not streamed; sent after `delay` seconds."""
        return cls.whole(go_json(value), JSON, status=status, delay=delay)

    @classmethod
    def error(cls, status: int, text: str, content_type: str = JSON) -> Self:
        """Return an error as Ollama sends it before a stream begins."""
        return cls.whole(go_json({"error": text}), content_type, status=status)

    @classmethod
    def stream(cls, parts: Sequence[Mapping[str, Any]], *, delays: Sequence[float] = ()) -> Self:
        """Return an NDJSON stream: one line and one chunk for each part."""
        return cls(chunks=tuple(go_json(part) + b"\n" for part in parts), delays=delays)

    @classmethod
    def whole(
        cls, body: bytes, content_type: str, *, status: int = 200, delay: float = 0.0
    ) -> Self:
        """Return a reply with `Content-Length`, and with `Content-Type` unless that is empty."""
        headers = {"content-type": content_type} if content_type else {}
        return cls(status=status, headers=headers, chunks=(body,), delays=(delay,), is_sized=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The faults of one response; all that are set happen together.

    `garbage_at` and `error_at` change the text, before `gzip`.
    `cut_at`, `stall_at` and `rechunk` count bytes as sent, after `gzip`.
    """

    refuse: bool = False
    """Reset the connection before any response; in process, `httpx.ConnectError`."""
    cut_at: int | None = None
    """Close the connection after this many bytes of the body (headers are sent even at 0)."""
    stall_at: int | None = None
    """Stall after this many bytes of the body; at 0, before the headers."""
    stall: float = 3600.0
    """Seconds of the stall."""
    slow: float = 0.0
    """Seconds to wait before every chunk."""
    garbage_at: int | None = None
    """Insert bytes that are not JSON after this many bytes of the body."""
    error_at: int | None = None
    """End a stream after this many chunks with an `{"error": ...}` line; at 0, and for a response
    that is not streamed, send a 500."""
    error: str = RUNNER_ERROR
    """The text of that error."""
    no_done: bool = False
    """End cleanly without the final line; a body that is not streamed has `done: false`."""
    gzip: bool = False
    """Compress the body, still chunk by chunk."""
    rechunk: int | None = None
    """Send the body in chunks of this many bytes."""

    def __post_init__(self) -> None:
        """Raise ValueError for invalid positions."""
        for name in ("cut_at", "stall_at", "garbage_at", "error_at"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"Fault.{name} counts from 0, found {getattr(self, name)}")
        if self.rechunk is not None and self.rechunk < 1:
            raise ValueError(f"Fault.rechunk is a size of 1 or more, found {self.rechunk}")


@dataclass(frozen=True, slots=True)
class Piece:
    """A delay in seconds, then bytes that are sent at once; without bytes, only the delay."""

    delay: float
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A reply with its faults applied, for a transport or a socket to send."""

    status: int
    headers: Mapping[str, str]
    pieces: tuple[Piece, ...]
    is_sized: bool
    is_refused: bool
    """Whether nothing is sent."""
    is_cut: bool
    """Whether the connection is closed after the last piece, with the body incomplete."""

    @property
    def cut_message(self) -> str:
        """The message of h11, and so of `httpx.RemoteProtocolError`, for the missing end."""
        if not self.is_sized:
            return f"{_CUT} (incomplete chunked read)"
        found = sum(len(piece.body) for piece in self.pieces)
        return f"{_CUT} (received {found} bytes, expected {self.headers['content-length']})"


_CUT = "peer closed connection without sending complete message body"


def deliver(reply: Reply, fault: Fault | None, *, has_body: bool = True) -> Delivery:
    """Apply a fault to a reply; `has_body` is False for a response to HEAD."""
    fault = fault or Fault()
    reply = _with_error(reply, fault)
    delays = chain(reply.delays, repeat(0.0))
    pieces = [Piece(*pair) for pair in zip(delays, reply.chunks, strict=False)]
    for change in _TEXT_CHANGES:
        pieces = change(fault, pieces)
    size = sum(len(piece.body) for piece in pieces)
    for change in _WIRE_CHANGES:
        pieces = change(fault, pieces)
    headers = {name.lower(): value for name, value in reply.headers.items()}
    if fault.gzip:
        headers["content-encoding"] = "gzip"
    if reply.is_sized:
        headers["content-length"] = str(size)
    else:
        headers["transfer-encoding"] = "chunked"
    return Delivery(
        status=reply.status,
        headers=headers,
        pieces=tuple(pieces) if has_body else (),
        is_sized=reply.is_sized,
        is_refused=fault.refuse,
        is_cut=has_body and fault.cut_at is not None,
    )


def _with_error(reply: Reply, fault: Fault) -> Reply:
    if fault.error_at is not None and reply.is_sized:
        return Reply.error(500, fault.error)
    if fault.error_at == 0:
        return Reply.error(500, fault.error, BARE_JSON)
    if fault.error_at is not None:
        kept = tuple(reply.chunks)[: fault.error_at]
        return replace(reply, chunks=(*kept, go_json({"error": fault.error}) + b"\n"))
    body = b"".join(reply.chunks)
    if fault.no_done and reply.is_sized and body.startswith(b"{"):
        return replace(reply, chunks=(_undone(body),))
    return reply


def _undone(body: bytes) -> bytes:
    """Return a body of stream=false whose runner ended without a final event: no metrics."""
    part = {name: value for name, value in json.loads(body).items() if name not in _METRICS}
    return go_json(part | {"done": False})


def _drop_done(fault: Fault, pieces: list[Piece]) -> list[Piece]:
    body = b"".join(piece.body for piece in pieces)
    # Bodies that are not NDJSON were changed before.
    if not fault.no_done or not body.endswith(b"\n"):
        return pieces
    start_of_last_line = body.rstrip(b"\n").rfind(b"\n") + 1
    return _split(pieces, start_of_last_line)[0]


def _insert_garbage(fault: Fault, pieces: list[Piece]) -> list[Piece]:
    if fault.garbage_at is None:
        return pieces
    before, after = _split(pieces, fault.garbage_at)
    return [*before, Piece(0.0, GARBAGE), *after]


def _compress(fault: Fault, pieces: list[Piece]) -> list[Piece]:
    if not fault.gzip:
        return pieces
    packer = zlib.compressobj(wbits=31)  # 31: with a gzip header
    packed = [
        Piece(piece.delay, packer.compress(piece.body) + packer.flush(zlib.Z_SYNC_FLUSH))
        for piece in pieces
    ]
    return [*packed, Piece(0.0, packer.flush())]


def _rechunk(fault: Fault, pieces: list[Piece]) -> list[Piece]:
    if fault.rechunk is None:
        return pieces
    cut: list[Piece] = []
    waiting, delay = b"", 0.0
    for piece in pieces:
        delay += piece.delay
        waiting += piece.body
        while len(waiting) >= fault.rechunk:
            cut.append(Piece(delay, waiting[: fault.rechunk]))
            waiting, delay = waiting[fault.rechunk :], 0.0
    return [*cut, Piece(delay, waiting)] if waiting or delay else cut


def _slow_down(fault: Fault, pieces: list[Piece]) -> list[Piece]:
    return [Piece(piece.delay + fault.slow, piece.body) for piece in pieces]


def _cut(fault: Fault, pieces: list[Piece]) -> list[Piece]:
    return pieces if fault.cut_at is None else _split(pieces, fault.cut_at)[0]


def _stall(fault: Fault, pieces: list[Piece]) -> list[Piece]:
    if fault.stall_at is None:
        return pieces
    before, after = _split(pieces, fault.stall_at)
    return [*before, Piece(fault.stall, b""), *after]


def _split(pieces: list[Piece], at: int) -> tuple[list[Piece], list[Piece]]:
    """Return the pieces before byte `at` and those from it on; a piece across it is split."""
    before: list[Piece] = []
    for index, piece in enumerate(pieces):
        if at < len(piece.body):
            head = [Piece(piece.delay, piece.body[:at])] if at else []
            tail = Piece(0.0 if at else piece.delay, piece.body[at:])
            return before + head, [tail, *pieces[index + 1 :]]
        at -= len(piece.body)
        before.append(piece)
    return before, []


_TEXT_CHANGES: tuple[Callable[[Fault, list[Piece]], list[Piece]], ...] = (
    _drop_done,
    _insert_garbage,
    _compress,
)
_WIRE_CHANGES = (_rechunk, _slow_down, _cut, _stall)
"""Cut before stall: with both, the server stalls and then closes."""
