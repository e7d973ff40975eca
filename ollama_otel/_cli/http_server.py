"""Uvicorn with a limit of connections, and a time limit for the head of a request.

Uvicorn itself waits for a head without end, and accepts any number of connections.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, Final

from ollama_otel.errors import MissingExtraError

__all__ = ["check_installed", "serve"]

_HEAD_SECONDS: Final = 10.0
"""Time limit from the connection, or the last response on it, to the end of a request's head."""
_MOST_CONNECTIONS: Final = 256
_SHUTDOWN_SECONDS: Final = 1
"""Time limit for running responses after an interrupt."""


def check_installed() -> None:
    """Raise `MissingExtraError` if uvicorn is not installed."""
    _module("uvicorn")


def serve(
    app: Any,
    listener: socket.socket,
    *,
    head_seconds: float = _HEAD_SECONDS,
    most_connections: int = _MOST_CONNECTIONS,
    announce: Callable[[], object] = lambda: None,
) -> None:
    """Serve an ASGI application until an interrupt; `announce` is called when all is ready."""
    uvicorn = _module("uvicorn")
    config = uvicorn.Config(
        app,
        http=_protocol(head_seconds, most_connections),
        ws="none",
        lifespan="off",
        log_config=None,
        # At lower levels uvicorn logs every response that breaks off, as logged ones may.
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    # Imported before the announcement: an interrupt while `exec` runs code, as in many imports,
    # makes Python end by the signal even if the exception is caught.
    config.load()
    # An interrupt is the normal end of a server, from the moment that it is announced.
    with suppress(KeyboardInterrupt):
        announce()
        uvicorn.Server(config).run(sockets=[listener])


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            "serve-replay needs a package that is not installed: pip install 'ollama_otel[server]'"
        ) from error


class _Connections:
    """The open connections; if there are too many, one that has not sent its request is closed."""

    def __init__(self, head_seconds: float, most: int) -> None:
        self._head_seconds = head_seconds
        self._most = most
        self._open: set[Any] = set()
        self._waiting: dict[Any, asyncio.TimerHandle] = {}
        """Those that have not sent all of a request, the one that has waited longest first."""

    def opened(self, connection: Any) -> None:
        self._open.add(connection)
        self.waits_for_head(connection)
        if len(self._open) > self._most:
            slowest = self._slowest()
            # Uvicorn notices the end of a connection with a delay.
            self.closed(slowest)
            slowest.transport.abort()

    def _slowest(self) -> Any:
        """Return the connection to close: one without any request yet, rather than an idle one."""
        fresh = (each for each in self._waiting if not _is_idle(each))
        return next(fresh, next(iter(self._waiting)))

    def waits_for_head(self, connection: Any) -> None:
        self._waits_no_more(connection)
        if connection not in self._open:
            return
        abort = connection.transport.abort
        self._waiting[connection] = connection.loop.call_later(self._head_seconds, abort)

    def received(self, connection: Any) -> None:
        cycle, timer = connection.cycle, self._waiting.get(connection)
        if timer is None or cycle is None or _is_idle(connection):
            return
        # The application has a time limit for the body.
        timer.cancel()
        if not cycle.more_body:
            self._waits_no_more(connection)

    def closed(self, connection: Any) -> None:
        self._open.discard(connection)
        self._waits_no_more(connection)

    def _waits_no_more(self, connection: Any) -> None:
        if (timer := self._waiting.pop(connection, None)) is not None:
            timer.cancel()


def _is_idle(connection: Any) -> bool:
    return connection.cycle is not None and connection.cycle.response_complete


def _protocol(head_seconds: float, most_connections: int) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with the limits."""
    connections = _Connections(head_seconds, most_connections)

    class Protocol(_module("uvicorn.protocols.http.h11_impl").H11Protocol):  # type: ignore[misc]
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            connections.opened(self)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            connections.received(self)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            connections.waits_for_head(self)

        def connection_lost(self, exc: Exception | None) -> None:
            connections.closed(self)
            super().connection_lost(exc)

    return Protocol
