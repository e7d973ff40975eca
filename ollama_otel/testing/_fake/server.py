"""Serves the fake server on a real socket: HTTP/1.1, one write for each chunk."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

from ollama_otel.testing._fake.reply import Delivery, Received

Sleep = Callable[[float], object]

_POLL = 0.02
"""Seconds until the accepting thread notices that it should stop."""
_CLOSE_TIMEOUT = 2.0
"""Seconds to wait for all connections to end."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@contextmanager
def serve(
    answer: Callable[[Received], Delivery], sleep: Sleep | None, host: str, port: int
) -> Iterator[str]:
    """Serve from a separate thread inside the block; yields the URL."""
    server = _Server((host, port), answer, sleep)
    thread = threading.Thread(
        target=server.serve_forever, args=(_POLL,), name="fake-ollama", daemon=True
    )
    thread.start()
    try:
        yield f"http://{host}:{server.server_address[1]}"
    finally:
        server.stop()
        thread.join()


class _Server(TCPServer):
    """One thread per connection. Unlike `ThreadingMixIn` it can close connections in use."""

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], answer: Callable[[Received], Delivery], sleep: Sleep | None
    ) -> None:
        self.answer = answer
        self.stopping = threading.Event()
        self.sleep: Sleep = sleep or self.stopping.wait
        self._connections: dict[socket.socket, threading.Thread] = {}
        super().__init__(address, _Connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve the client in a separate thread."""
        thread = threading.Thread(
            target=self._converse, args=(request, client_address), daemon=True
        )
        thread.start()
        # Only the accepting thread writes this, and stop() reads it after that thread has ended.
        alive = {known: its for known, its in self._connections.items() if its.is_alive()}
        self._connections = alive | {request: thread}

    def stop(self) -> None:
        """Stop accepting, and close all connections."""
        self.shutdown()
        self.server_close()
        self.stopping.set()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + _CLOSE_TIMEOUT
        for thread in self._connections.values():
            thread.join(max(0.0, deadline - time.monotonic()))

    def _converse(self, request: socket.socket, client_address: Any) -> None:
        # Clients may disconnect at any time. Unlike the base class, it does not shut the socket
        # down: that would turn a reset into a clean end.
        with closing(request), suppress(ConnectionError):
            self.finish_request(request, client_address)


class _Connection(BaseHTTPRequestHandler):
    """One connection, request after request."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Log nothing; `FakeOllama.requests` has the requests."""

    def respond(self) -> None:
        """Answer the request whose head was read."""
        delivery = self.server.answer(self._received())
        if delivery.is_refused:
            self._reset()
            return
        self._pause(sum(piece.delay for piece in delivery.pieces[:1]))
        self._send_head(delivery)
        for index, piece in enumerate(delivery.pieces):
            if index:
                self._pause(piece.delay)
            if self.server.stopping.is_set():
                self.close_connection = True
                return
            if piece.body:
                self.wfile.write(self._framed(piece.body, delivery))
        if delivery.is_cut:
            self.close_connection = True
        elif not delivery.is_sized and self.command != "HEAD":
            self.wfile.write(self._framed(b"", delivery))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = respond  # noqa: N815

    def _received(self) -> Received:
        headers = {name.lower(): value for name, value in self.headers.items()}
        is_chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        size = int(headers.get("content-length", 0))
        body = self._chunked_body() if is_chunked else self._read(size)
        return Received(self.command, unquote(urlsplit(self.path).path), headers, body)

    def _chunked_body(self) -> bytes:
        chunks = []
        while size := int(self._line().partition(b";")[0], 16):
            chunks.append(self._read(size))
            self._line()
        while self._line().strip():
            continue  # ignore trailers
        return b"".join(chunks)

    def _line(self) -> bytes:
        return self.rfile.readline() or _break_off()

    def _read(self, size: int) -> bytes:
        body = self.rfile.read(size)
        return body if len(body) == size else _break_off()

    def _send_head(self, delivery: Delivery) -> None:
        self.send_response_only(delivery.status)
        for name, value in delivery.headers.items():
            self.send_header(name, value)
        self.send_header("date", self.date_time_string())
        self.end_headers()

    def _framed(self, body: bytes, delivery: Delivery) -> bytes:
        return body if delivery.is_sized else b"%x\r\n%b\r\n" % (len(body), body)

    def _pause(self, seconds: float) -> None:
        if seconds:
            self.server.sleep(seconds)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def _break_off() -> NoReturn:
    raise ConnectionAbortedError("the client went away in mid-request")
