"""Polls one server over HTTP, with a short time limit, on one persistent connection.

It uses a transport of httpx, not a client: a client logs each request.
"""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.request import getproxies, proxy_bypass

import httpx

from ollama_otel._hidden import send_hidden
from ollama_otel._wire.known_texts import known_text

__all__ = [
    "BusyError",
    "CannotPollError",
    "Connection",
    "PollResponse",
    "RefusedError",
    "UnreachableError",
]

_MAX_BODY: Final = 8 * 1024 * 1024
_HEADERS: Final = {
    "accept": "application/json",
    "accept-encoding": "identity",
    "user-agent": "ollama-otel",
}
_BROKEN: Final = (httpx.ReadError, httpx.WriteError, httpx.ProtocolError)
"""Errors of a connection that the server has closed while it was idle."""
_TLS_ENDED: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""Errors of a TLS connection that was closed, as a proxy does whose server is down."""
_ONE_CONNECTION: Final = httpx.Limits(max_connections=1, keepalive_expiry=None)


class UnreachableError(Exception):
    """The connection failed or broke."""


class RefusedError(UnreachableError):
    """Nothing listens at the address."""


class BusyError(Exception):
    """The server accepted the request, and did not respond in time."""


class CannotPollError(Exception):
    """This process cannot poll the server, which may be up: TLS, a proxy, or the URL fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PollResponse:
    """A response of a server."""

    status: int
    body: bytes
    date: float | None
    """The server's clock, in seconds since the epoch; None if it sent no date."""

    def json(self) -> Any:
        """Return the value in the body; None if it is not JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


class Connection:
    """A connection to one server; used by one thread, closed by any thread."""

    def __init__(self, url: str, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self._transport: httpx.HTTPTransport | None = None
        self._tls: ssl.SSLContext | None = None
        self._has_proxy = False
        self._socket: socket.socket | None = None
        self._is_closed = False

    def get(self, path: str) -> PollResponse:
        """Send a GET request; raises as `send`."""
        return self.send("GET", path)

    def send(
        self, method: str, path: str, content: bytes = b"", *, max_body: int = _MAX_BODY
    ) -> PollResponse:
        """Send a request; at most `max_body` bytes of the response's body are read.

        Raises `BusyError`, `RefusedError`, `UnreachableError` or `CannotPollError`; the next
        request then uses a new connection.
        """
        # The server may have closed an idle connection: try a new one.
        attempts = 1 if self._transport is None else 2
        while True:
            attempts -= 1
            try:
                return self._send(method, path, content, max_body)
            except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
                self.drop()
                if not attempts or not isinstance(error, _BROKEN):
                    raise self._translated(error) from error
            except BaseException:
                self.drop()
                raise

    def close(self) -> None:
        """Close the connection, and interrupt a running request."""
        self._is_closed = True
        self._shut_down()

    def drop(self) -> None:
        """Close the connection; the next request uses a new one."""
        transport, self._transport, self._socket = self._transport, None, None
        if transport is not None:
            transport.close()

    def _send(self, method: str, path: str, content: bytes, max_body: int) -> PollResponse:
        if self._is_closed:
            raise UnreachableError("closed")
        if self._transport is None:
            self._transport = self._new_transport()
        until = time.perf_counter() + self._timeout
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), self._timeout)
        request = httpx.Request(
            method,
            self._url + path,
            headers=_HEADERS,
            content=content or None,
            extensions={"timeout": timeouts, "trace": self._follow},
        )
        response = send_hidden(self._transport, request)
        try:
            body = bytearray()
            for part in response.iter_raw():
                body += part
                if len(body) >= max_body:
                    break
                if time.perf_counter() > until:
                    raise httpx.ReadTimeout("the response does not end")
        finally:
            response.close()
        return PollResponse(
            status=response.status_code,
            body=bytes(body[:max_body]),
            date=_date(response.headers.get("date")),
        )

    def _new_transport(self) -> httpx.HTTPTransport:
        """Return a transport that uses the environment's proxy."""
        try:
            proxy = _proxy_for(httpx.URL(self._url))
            self._has_proxy = proxy is not None
            return httpx.HTTPTransport(
                verify=self._tls_context(),  # type: ignore[arg-type]  # None makes no context
                proxy=proxy,
                limits=_ONE_CONNECTION,
            )
        except (httpx.InvalidURL, ImportError, OSError, ValueError) as error:
            raise CannotPollError(_text(error)) from error

    def _tls_context(self) -> ssl.SSLContext | None:
        """Return the context of all connections to the server; None if it needs none.

        A process that forks while a thread creates a context may copy a lock of OpenSSL that is
        held, and the child then waits for it forever. So this thread creates one at most.
        """
        if self._tls is None and self._url.startswith("https:"):
            self._tls = httpx.create_ssl_context()
        return self._tls

    def _follow(self, event: str, info: Mapping[str, Any]) -> None:
        """Keep the socket, as closing a transport does not interrupt it; httpx's `trace`."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")
            if self._is_closed:
                self._shut_down()

    def _shut_down(self) -> None:
        open_socket = self._socket
        if open_socket is not None:
            with suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)

    def _translated(self, error: Exception) -> Exception:
        cause = _first_cause(error)
        if isinstance(error, httpx.TimeoutException) and not isinstance(
            error, httpx.ConnectTimeout
        ):
            return BusyError(f"no response within {self._timeout:g} s")
        if isinstance(cause, (ssl.SSLError, httpx.InvalidURL, UnicodeError)) and not isinstance(
            cause, _TLS_ENDED
        ):
            # A server responded: it may require a client certificate, or its own is not trusted.
            return CannotPollError(_text(cause))
        # If a proxy refuses the connection, the state of the server behind it is unknown.
        if isinstance(cause, ConnectionRefusedError) and not self._has_proxy:
            return RefusedError(_text(cause))
        return UnreachableError(_text(cause))


def _proxy_for(url: httpx.URL) -> httpx.Proxy | None:
    """Return the environment's proxy for a URL; raises ValueError if it is invalid."""
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(url.netloc.decode("ascii")):
        return None
    return httpx.Proxy(proxy if "://" in proxy else f"http://{proxy}")


def _first_cause(error: BaseException) -> BaseException:
    # httpcore interrupts the chain of causes, but not that of contexts.
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return error


def _date(text: str | None) -> float | None:
    try:
        return None if text is None else parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


def _text(error: BaseException) -> str:
    """Return the class and the known text; the rest may quote a proxy's URL or the server."""
    known = known_text(str(error))
    return f"{type(error).__name__}: {known}" if known else type(error).__name__
