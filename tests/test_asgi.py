"""The generic half of an ASGI application, driven without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ollama_otel._asgi import (
    BodyTooLargeError,
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

DISCONNECT = {"type": "http.disconnect"}


def request(body: bytes | None, *, more: bool | None = None) -> dict[str, Any]:
    """An event of a request's body; None leaves a key out, as a server may."""
    optional = {"body": body, "more_body": more}
    return {"type": "http.request"} | {k: v for k, v in optional.items() if v is not None}


class Peer:
    """A server: what it hands over, and what it was sent."""

    def __init__(self, *events: dict[str, Any]) -> None:
        self.events = list(events)
        self.sent: list[Any] = []

    async def receive(self) -> Any:
        return self.events.pop(0)

    async def send(self, event: Any) -> None:
        self.sent.append(event)


class Transport:
    """Stands for the transport of uvicorn."""

    is_closed = False
    is_aborted = False

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_aborted = True


def received(run: Callable[[Receive], Awaitable[Any]], *events: dict[str, Any]) -> tuple[Any, int]:
    """What a function makes of these events, and how many of them it leaves."""
    peer = Peer(*events)

    async def scenario() -> Any:
        return await run(peer.receive)

    return asyncio.run(scenario()), len(peer.events)


def sent(run: Callable[[Send], Awaitable[Any]]) -> list[Any]:
    peer = Peer()

    async def scenario() -> None:
        await run(peer.send)

    asyncio.run(scenario())
    return peer.sent


def test_start_up_and_shutdown_are_confirmed() -> None:
    peer = Peer(
        {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}, {"type": "lifespan.startup"}
    )
    asyncio.run(run_lifespan(peer.receive, peer.send))
    assert [event["type"] for event in peer.sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert len(peer.events) == 1


def test_a_body_is_put_together_from_its_events() -> None:
    assert received(read_body, request(b"a", more=True), request(b"b"), DISCONNECT) == (b"ab", 1)
    assert received(read_body, request(None)) == (b"", 0)


def test_a_body_that_is_not_finished_is_none() -> None:
    assert received(read_body, request(b"a", more=True), DISCONNECT) == (None, 0)


def test_a_body_is_read_up_to_its_limit() -> None:
    def run(receive: Receive) -> Awaitable[Any]:
        return read_body(receive, limit=3)

    assert received(run, request(b"ab", more=True), request(b"c")) == (b"abc", 0)
    with pytest.raises(BodyTooLargeError):
        received(run, request(b"ab", more=True), request(b"cd", more=True))


def test_a_body_can_be_skipped() -> None:
    assert received(skip_body, request(b"a", more=True), request(b"b"), DISCONNECT) == (b"", 1)
    assert received(skip_body, request(b"a", more=True), DISCONNECT) == (None, 0)


def test_a_header_is_found_by_its_name() -> None:
    scope = {"headers": [(b"a", b"1"), (b"Host", b"x\xe9"), (b"host", b"y")]}
    assert header(scope, b"host") == "x\xe9"
    assert header(scope, b"origin") is None
    assert header({}, b"host") is None


def test_only_a_disconnect_is_one() -> None:
    assert received(wait_for_disconnect, request(b""), DISCONNECT, DISCONNECT) == (None, 1)


def test_a_document_has_its_type_and_length() -> None:
    assert sent(lambda send: send_document(send, 404, b"{}", "application/json")) == [
        {
            "type": "http.response.start",
            "status": 404,
            "headers": [(b"content-type", b"application/json"), (b"content-length", b"2")],
        },
        {"type": "http.response.body", "body": b"{}", "more_body": False},
    ]


def test_a_document_may_have_more_headers() -> None:
    start, _ = sent(lambda send: send_document(send, 400, b"", "a/b", more=[(b"x", b"y")]))
    assert start["headers"] == [(b"content-type", b"a/b"), (b"content-length", b"0"), (b"x", b"y")]


def test_a_head_has_the_headers_that_are_known() -> None:
    (event,) = sent(lambda send: send_head(send, 200, None))
    assert event == {"type": "http.response.start", "status": 200, "headers": []}


def test_a_piece_is_followed_by_others() -> None:
    assert sent(lambda send: send_piece(send, b"x")) == [
        {"type": "http.response.body", "body": b"x", "more_body": True}
    ]


def test_a_connection_is_broken_where_the_server_has_a_transport() -> None:
    peer = Peer(request(b""), DISCONNECT)
    peer.transport = transport = Transport()  # type: ignore[attr-defined]
    assert asyncio.run(break_connection(peer.receive, peer.send))
    assert transport.is_closed
    assert (peer.sent, peer.events) == ([], [])


def test_a_connection_is_aborted_where_the_server_has_a_transport() -> None:
    peer = Peer()
    abort_connection(peer.send)
    peer.transport = transport = Transport()  # type: ignore[attr-defined]
    abort_connection(peer.send)
    assert transport.is_aborted


def test_a_connection_of_another_server_stays() -> None:
    peer = Peer(DISCONNECT)
    assert not asyncio.run(break_connection(peer.receive, peer.send))
    assert (peer.sent, peer.events) == ([], [DISCONNECT])
