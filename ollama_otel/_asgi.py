"""Generic parts of an ASGI application: its lifespan, reading a body, sending a document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = [
    "Event",
    "Receive",
    "Send",
    "break_connection",
    "read_body",
    "run_lifespan",
    "send_document",
    "send_head",
    "send_piece",
    "wait_for_disconnect",
]

Event = MutableMapping[str, Any]
"""A scope, or an event that is received or sent."""
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]


async def run_lifespan(receive: Receive, send: Send) -> None:
    """Confirm start-up and shutdown, and return after the shutdown."""
    while True:
        step = (await receive())["type"].removeprefix("lifespan.")
        await send({"type": f"lifespan.{step}.complete"})
        if step == "shutdown":
            return


async def read_body(receive: Receive) -> bytes | None:
    """Return a request's whole body; None if the client disconnected before its end."""
    pieces: list[bytes] = []
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return None
        pieces.append(event.get("body", b""))
        if not event.get("more_body", False):
            return b"".join(pieces)


async def wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


async def send_head(
    send: Send, status: int, content_type: str | None, *, length: int | None = None
) -> None:
    """Begin a response; `length` is the body's, in bytes, if it is known."""
    headers = [(b"content-type", content_type.encode("latin-1"))] if content_type else []
    headers += [] if length is None else [(b"content-length", b"%d" % length)]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def send_piece(send: Send, piece: bytes, *, is_last: bool = False) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": not is_last})


async def send_document(send: Send, status: int, body: bytes, content_type: str) -> None:
    await send_head(send, status, content_type, length=len(body))
    await send_piece(send, body, is_last=True)


async def break_connection(receive: Receive, send: Send) -> bool:
    """Close the connection without ending the response; False if the server does not support it.

    ASGI has no event for it, so this uses uvicorn's transport. Bytes sent before still arrive.
    """
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is None:
        return False
    transport.close()
    await wait_for_disconnect(receive)
    return True
