"""A small HTTP server for scrapes that uses one thread, however its clients behave.

It is independent of metrics: a WSGI application renders them.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from selectors import EVENT_READ, EVENT_WRITE
from threading import Thread
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from ollama_otel._admission import Admission
from ollama_otel._display import logger
from ollama_otel._guard import guard

__all__ = ["ScrapeServer"]

_PATHS: Final = frozenset(("/metrics", "/"))
_BACKLOG: Final = 128
_LONGEST_HEAD: Final = 16_384
"""Bytes; Prometheus sends some hundreds."""
_PIECE: Final = 65_536
_HEAD_SECONDS: Final = 10.0
"""Time limit from the connection to the end of a request's head."""
_SEND_SECONDS: Final = 30.0
_CLOSE_SECONDS: Final = 2.0
"""Time limit for a client to close the connection after it has the response."""
_MOST_CONNECTIONS: Final = 64
_PAUSE: Final = 0.1
"""Seconds without new connections if the process has no file descriptors left."""
_TEXT: Final = (("Content-Type", "text/plain; charset=utf-8"),)

_REFUSED: Final = (
    "this host name or origin is not allowed: scrape by IP address, or allow the name with "
    "configure(scrape_hosts=...) or OLLAMA_OTEL_SCRAPE_HOSTS"
)

_log = logger()

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""A WSGI application; it gets the method, the path, the query and the `Accept` headers only."""


class _Request(NamedTuple):
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    """By lower-case names."""


class _Response(NamedTuple):
    status: str
    headers: Iterable[tuple[str, str]]
    body: bytes


class _RequestError(Exception):
    """A request that is not HTTP as this server expects it."""


class _Connection:
    """A connection with at most one request."""

    __slots__ = ("deadline", "is_answered", "pending", "received", "socket")

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self.received = bytearray()
        self.pending = memoryview(b"")
        """Bytes of the response that are still to be sent."""
        self.is_answered = False
        self.deadline = time.monotonic() + _HEAD_SECONDS


class ScrapeServer:
    """Serves an application at `/metrics` until `close`; raises OSError if it cannot listen.

    Connections, the length of a request and the time to send it are limited; of too many
    connections the one that has waited longest is closed.
    """

    def __init__(
        self, host: str, port: int, application: Application, admission: Admission
    ) -> None:
        self._application = application
        self._admission = admission
        self._has_refused = False
        self._listener = _listening(host, port)
        self.port: int = self._listener.getsockname()[1]
        self._waker, self._sleeper = socket.socketpair()
        self._connections: dict[socket.socket, _Connection] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, EVENT_READ)
        self._selector.register(self._sleeper, EVENT_READ)
        self._is_closing = False
        self._thread = Thread(target=self._run, name="ollama_otel-scrape", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close all connections and free the port."""
        self._is_closing = True
        self._waker.send(b"x")
        self._thread.join()
        self.close_inherited()

    def close_inherited(self) -> None:
        """Close a forked child's copies of the sockets; the parent's stay as they are."""
        # Not unregistered: the parent's selector is the same one in the kernel.
        for each in (self._listener, self._waker, self._sleeper, *self._connections):
            each.close()
        self._connections.clear()
        self._selector.close()

    # --- the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        while not self._is_closing:
            deadlines = [each.deadline for each in self._connections.values()]
            patience = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
            events = self._selector.select(patience)
            # Before the events, as handling one may exceed the time limit of others.
            now = time.monotonic()
            for key, _ in events:
                self._proceed(key.fileobj)
            for late in [each for each in self._connections.values() if each.deadline <= now]:
                self._drop(late)

    def _proceed(self, ready: Any) -> None:
        connection = self._connections.get(ready)
        try:
            if ready is self._listener:
                self._accept()
            elif connection is not None and connection.pending:
                self._send(connection)
            elif connection is not None:
                self._receive(connection)
        except BlockingIOError:
            # Not ready any more; the selector reports when it is ready again.
            return
        except OSError:
            if connection is not None:
                self._drop(connection)

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:
            time.sleep(_PAUSE)
            raise
        accepted.setblocking(False)
        self._connections[accepted] = _Connection(accepted)
        self._selector.register(accepted, EVENT_READ)
        if len(self._connections) > _MOST_CONNECTIONS:
            self._drop(self._slowest())

    def _slowest(self) -> _Connection:
        """Return the oldest connection, if possible one without a request."""
        known = self._connections.values()
        return next((each for each in known if not each.is_answered), next(iter(known)))

    def _drop(self, connection: _Connection) -> None:
        if self._connections.pop(connection.socket, None) is not None:
            self._selector.unregister(connection.socket)
            connection.socket.close()

    def _receive(self, connection: _Connection) -> None:
        piece = connection.socket.recv(_PIECE)
        if not piece:
            self._drop(connection)
            return
        if connection.is_answered:
            # Closed with unread bytes, the connection would be reset, and the response lost.
            return
        connection.received += piece
        head, end, _ = bytes(connection.received).partition(b"\r\n\r\n")
        if end or len(head) > _LONGEST_HEAD:
            place = connection.socket.getsockname()[0]
            self._answer(connection, self._response(head, place))

    def _answer(self, connection: _Connection, response: _Response) -> None:
        connection.is_answered = True
        connection.received.clear()
        connection.pending = memoryview(_as_bytes(response))
        connection.deadline = time.monotonic() + _SEND_SECONDS
        self._selector.modify(connection.socket, EVENT_WRITE)
        self._send(connection)

    def _send(self, connection: _Connection) -> None:
        sent = connection.socket.send(connection.pending)
        connection.pending = connection.pending[sent:]
        if not connection.pending:
            connection.deadline = time.monotonic() + _CLOSE_SECONDS
            self._selector.modify(connection.socket, EVENT_READ)
            connection.socket.shutdown(socket.SHUT_WR)

    # --- responses ------------------------------------------------------------------------

    def _response(self, head: bytes, place: str) -> _Response:
        try:
            request = _parsed(head)
        except (_RequestError, ValueError):
            return _Response("400 Bad Request", _TEXT, b"the request is not valid HTTP\n")
        headers = request.headers
        if not self._admission.admits(headers.get("host"), headers.get("origin"), place):
            self._report_refusal()
            return _Response("403 Forbidden", _TEXT, f"{_REFUSED}\n".encode())
        if request.path not in _PATHS:
            return _Response("404 Not Found", _TEXT, b"the metrics are at /metrics\n")
        try:
            return self._rendered(request)
        except Exception as fault:  # noqa: BLE001 - the next scrape has to be answered
            guard.caught("rendering metrics for a scrape", fault)
            return _Response("500 Internal Server Error", _TEXT, b"see the app's log\n")

    def _report_refusal(self) -> None:
        if not self._has_refused:
            self._has_refused = True
            _log.warning("a scrape was refused with status 403: %s", _REFUSED)

    def _rendered(self, request: _Request) -> _Response:
        started: list[Any] = []
        environ = {
            "REQUEST_METHOD": request.method,
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query,
        }
        for variable, name in (
            ("HTTP_ACCEPT", "accept"),
            ("HTTP_ACCEPT_ENCODING", "accept-encoding"),
        ):
            if name in request.headers:
                environ[variable] = request.headers[name]
        pieces = self._application(environ, lambda *start: started.extend(start))
        status, headers, *_ = started
        return _Response(status, headers, b"".join(pieces))


def _listening(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, *_, address = found[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # On Windows the option would let two processes have the same port.
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _parsed(head: bytes) -> _Request:
    """Parse the head of a request; raises `_RequestError`, or ValueError for a broken URL."""
    if len(head) > _LONGEST_HEAD:
        raise _RequestError
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):  # noqa: PLR2004 - method, URL, version
        raise _RequestError
    url = urlsplit(words[1])
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or name != name.strip() or (name == "host" and name in headers):
            raise _RequestError
        headers[name] = value.strip()
    if url.netloc:
        # A request through a proxy has an absolute URL, which counts.
        headers["host"] = url.netloc
    return _Request(words[0], url.path, url.query, headers)


def _as_bytes(response: _Response) -> bytes:
    headers = [
        *response.headers,
        ("Content-Length", str(len(response.body))),
        ("Connection", "close"),
    ]
    lines = [f"HTTP/1.1 {response.status}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + response.body
