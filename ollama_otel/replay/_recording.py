"""A block in which the Ollama calls of every httpx client of the process are recorded."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import NoOpTracerProvider

from ollama_otel._exchange.exchange import Observer
from ollama_otel.replay._network import put_in_front
from ollama_otel.settings import Settings
from ollama_otel.transport import AsyncTransport, Transport

__all__ = ["recording_everywhere"]


@contextmanager
def recording_everywhere(observer: Observer) -> Iterator[None]:
    """Tell an observer of the calls of all clients, sync and async, while the block lasts.

    What else records them (a drop-in client, the instrumentor) goes on doing so. Clients
    with a transport of their own making are left out, as `replay` leaves them out.
    """
    options: dict[str, Any] = {
        "tracer_provider": NoOpTracerProvider(),
        "meter_provider": NoOpMeterProvider(),
        "settings": Settings(),
        "observers": [observer],
    }

    def in_front(network: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(network)
        def handle_request(transport: Any, request: httpx.Request) -> httpx.Response:
            inner = _Network(network, transport)
            return Transport(inner, **options).handle_request(request)

        return handle_request

    def async_in_front(network: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(network)
        async def handle_async_request(transport: Any, request: httpx.Request) -> httpx.Response:
            inner = _AsyncNetwork(network, transport)
            return await AsyncTransport(inner, **options).handle_async_request(request)

        return handle_async_request

    put_back = put_in_front(in_front, async_in_front)
    try:
        yield
    finally:
        put_back()


class _Network(httpx.BaseTransport):
    """A client's own transport, by the method that was there before."""

    def __init__(self, handle: Callable[..., httpx.Response], transport: Any) -> None:
        self._handle = handle
        self._transport = transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._handle(self._transport, request)


class _AsyncNetwork(httpx.AsyncBaseTransport):
    """As `_Network`."""

    def __init__(self, handle: Callable[..., Any], transport: Any) -> None:
        self._handle = handle
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response: httpx.Response = await self._handle(self._transport, request)
        return response
