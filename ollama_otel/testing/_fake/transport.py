"""An httpx transport to the fake server without a socket, sync and async."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from inspect import isawaitable

import anyio
import anyio.lowlevel
import httpx

from ollama_otel.testing._fake.reply import Delivery, Piece, Received


class FakeTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Passes requests to `answer` and streams the delivery, chunk by chunk.

    Delays longer than the request's read timeout raise `httpx.ReadTimeout`, as on a socket.
    """

    def __init__(
        self, answer: Callable[[Received], Delivery], sleep: Callable[[float], object] | None
    ) -> None:
        self._answer = answer
        self._sleep = sleep

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request; raises `httpx.ConnectError` or `httpx.ReadTimeout` for a fault."""
        request.read()
        delivery = self._answer(_received(request))
        _check_refused(delivery, request)
        wait = _Wait(request, self._sleep)
        # Ollama sends its headers with the first chunk.
        wait.for_piece(*delivery.pieces[:1])
        return _response(delivery, _Stream(delivery, wait))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As `handle_request`."""
        await request.aread()
        delivery = self._answer(_received(request))
        _check_refused(delivery, request)
        wait = _AsyncWait(request, self._sleep)
        await wait.for_piece(*delivery.pieces[:1])
        return _response(delivery, _AsyncStream(delivery, wait))


class _Stream(httpx.SyncByteStream):
    def __init__(self, delivery: Delivery, wait: _Wait) -> None:
        self._delivery = delivery
        self._wait = wait

    def __iter__(self) -> Iterator[bytes]:
        for index, piece in enumerate(self._delivery.pieces):
            if index:
                self._wait.for_piece(piece)
            if piece.body:
                yield piece.body
        if self._delivery.is_cut:
            raise httpx.RemoteProtocolError(self._delivery.cut_message)


class _AsyncStream(httpx.AsyncByteStream):
    def __init__(self, delivery: Delivery, wait: _AsyncWait) -> None:
        self._delivery = delivery
        self._wait = wait

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for index, piece in enumerate(self._delivery.pieces):
            if index:
                await self._wait.for_piece(piece)
            if piece.body:
                yield piece.body
        if self._delivery.is_cut:
            raise httpx.RemoteProtocolError(self._delivery.cut_message)


class _Wait:
    def __init__(self, request: httpx.Request, sleep: Callable[[float], object] | None) -> None:
        self._read_timeout = _read_timeout(request)
        self._sleep = sleep or time.sleep

    def for_piece(self, *pieces: Piece) -> None:
        delay = sum(piece.delay for piece in pieces)
        if delay:
            self._sleep(min(delay, self._read_timeout))
        if delay > self._read_timeout:
            raise httpx.ReadTimeout("timed out")


class _AsyncWait:
    def __init__(self, request: httpx.Request, sleep: Callable[[float], object] | None) -> None:
        self._read_timeout = _read_timeout(request)
        self._sleep = sleep or anyio.sleep

    async def for_piece(self, *pieces: Piece) -> None:
        delay = sum(piece.delay for piece in pieces)
        # Reading from a socket yields to other tasks; so must this.
        await anyio.lowlevel.checkpoint()
        waiting = self._sleep(min(delay, self._read_timeout)) if delay else None
        if isawaitable(waiting):
            await waiting
        if delay > self._read_timeout:
            raise httpx.ReadTimeout("timed out")


def _received(request: httpx.Request) -> Received:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Received(request.method, request.url.path, headers, request.content)


def _check_refused(delivery: Delivery, request: httpx.Request) -> None:
    if delivery.is_refused:
        raise httpx.ConnectError("[Errno 111] Connection refused", request=request)


def _response(delivery: Delivery, stream: _Stream | _AsyncStream) -> httpx.Response:
    return httpx.Response(delivery.status, headers=dict(delivery.headers), stream=stream)


def _read_timeout(request: httpx.Request) -> float:
    timeout: float | None = request.extensions.get("timeout", {}).get("read")
    return float("inf") if timeout is None else timeout
