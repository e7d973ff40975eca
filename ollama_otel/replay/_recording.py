"""A block that records the Ollama calls of every httpx client in the process."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx

from ollama_otel._exchange.observers import Instrumentation, LoggingObserver
from ollama_otel.replay._network import put_in_front
from ollama_otel.transport import AsyncTransport, Transport

__all__ = ["recording_everywhere"]


@contextmanager
def recording_everywhere(log: LoggingObserver) -> Iterator[None]:
    """Log the calls of all clients, sync and async, inside the block.

    Their other instrumentation (a drop-in client, the instrumentor) works as usual. Clients with
    a custom transport (mocks, ASGI) are not affected, as with `replay`.
    """
    instrumentation = Instrumentation(observers=(log,), keeps_request=log.keeps_request)

    def in_front(network: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(network)
        def handle_request(transport: Any, request: httpx.Request) -> httpx.Response:
            inner = _Network(network, transport)
            shell = _Recorder(inner, instrumentation=instrumentation)
            response: httpx.Response = shell.handle_request(request)
            return response

        return handle_request

    def async_in_front(network: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(network)
        async def handle_async_request(transport: Any, request: httpx.Request) -> httpx.Response:
            inner = _AsyncNetwork(network, transport)
            shell = _AsyncRecorder(inner, instrumentation=instrumentation)
            response: httpx.Response = await shell.handle_async_request(request)
            return response

        return handle_async_request

    put_back = put_in_front(in_front, async_in_front)
    try:
        yield
    finally:
        put_back()


_MARK: Final = "ollama_otel.is_recorded_everywhere"
"""A separate instrumentation, as the client may have telemetry, with its own record of the call."""


class _Recorder(Transport):
    _mark = _MARK


class _AsyncRecorder(AsyncTransport):
    _mark = _MARK


class _Network(httpx.BaseTransport):
    """A client's own transport, called by its original method."""

    def __init__(self, handle: Callable[..., httpx.Response], transport: Any) -> None:
        self._handle = handle
        self._transport = transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._handle(self._transport, request)


class _AsyncNetwork(httpx.AsyncBaseTransport):
    def __init__(self, handle: Callable[..., Any], transport: Any) -> None:
        self._handle = handle
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response: httpx.Response = await self._handle(self._transport, request)
        return response
