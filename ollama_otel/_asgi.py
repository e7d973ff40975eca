"""Generic parts of an ASGI application: its lifespan, reading a body, sending a document."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

__all__ = [
    "BodyTooLargeError",
    "Event",
    "Header",
    "Receive",
    "Send",
    "abort_connection",
    "break_connection",
    "header",
    "read_body",
    "run_lifespan",
    "send_document",
    "send_head",
    "send_piece",
    "skip_body",
    "wait_for_disconnect",
]

Event = MutableMapping[str, Any]
"""A scope, or an event that is received or sent."""
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Header = tuple[bytes, bytes]


class BodyTooLargeError(Exception):
    """A request's body is larger than the limit."""


async def run_lifespan(receive: Receive, send: Send) -> None:
    """Confirm start-up and shutdown, and return after the shutdown."""
    while True:
        step = (await receive())["type"].removeprefix("lifespan.")
        await send({"type": f"lifespan.{step}.complete"})
        if step == "shutdown":
            return


def header(scope: Event, name: bytes) -> str | None:
    """Return the first value of a request's header; None if it was not sent."""
    values = (value for key, value in scope.get("headers", ()) if key.lower() == name)
    value: bytes | None = next(values, None)
    return None if value is None else value.decode("latin-1")


async def read_body(receive: Receive, *, limit: float = math.inf) -> bytes | None:
    """Return a request's whole body; None if the client disconnected before its end.

    Raises `BodyTooLargeError` as soon as it has more than `limit` bytes.
    """
    pieces: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return None
        pieces.append(event.get("body", b""))
        size += len(pieces[-1])
        if size > limit:
            raise BodyTooLargeError
        if not event.get("more_body", False):
            return b"".join(pieces)


async def skip_body(receive: Receive) -> bytes | None:
    """Read a request's body of any size, and return b""; None if the client disconnected."""
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return None
        if not event.get("more_body", False):
            return b""


async def wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


async def send_head(
    send: Send,
    status: int,
    content_type: str | None,
    *,
    length: int | None = None,
    more: Sequence[Header] = (),
) -> None:
    """Begin a response; `length` is the body's, in bytes, if it is known."""
    headers = [(b"content-type", content_type.encode("latin-1"))] if content_type else []
    headers += [] if length is None else [(b"content-length", b"%d" % length)]
    start = {"type": "http.response.start", "status": status, "headers": [*headers, *more]}
    await send(start)


async def send_piece(send: Send, piece: bytes, *, is_last: bool = False) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": not is_last})


async def send_document(
    send: Send, status: int, body: bytes, content_type: str, *, more: Sequence[Header] = ()
) -> None:
    """Send a whole response; `more` are further headers."""
    await send_head(send, status, content_type, length=len(body), more=more)
    await send_piece(send, body, is_last=True)


async def break_connection(receive: Receive, send: Send) -> bool:
    """Close the connection without ending the response; False if the server does not support it.

    ASGI has no event for it, so this uses uvicorn's transport. Bytes sent before still arrive.
    """
    transport = _transport(send)
    if transport is None:
        return False
    transport.close()
    await wait_for_disconnect(receive)
    return True


def abort_connection(send: Send) -> None:
    """Close the connection immediately; bytes that the client has not read are lost."""
    if (transport := _transport(send)) is not None:
        transport.abort()


def _transport(send: Send) -> Any:
    return getattr(getattr(send, "__self__", None), "transport", None)
