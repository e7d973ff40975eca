"""Asks a server by HTTP, with a short time limit, on one connection that is kept.

By the standard library's client and not by httpx: these questions are then none that our
own transport, OpenTelemetry's instrumentation of httpx, a replay or a mock ever sees, and
whoever stops the watcher can cut them short.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
from contextlib import suppress
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, InvalidURL
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

__all__ = ["Answer", "BusyError", "Connection", "RefusedError", "UnreachableError"]

_MAX_ANSWER: Final = 8 * 1024 * 1024
_HEADERS: Final = {"accept": "application/json", "user-agent": "ollama-otel"}


class UnreachableError(Exception):
    """No connection came about, or it broke."""


class RefusedError(UnreachableError):
    """Nobody listens at the address."""


class BusyError(Exception):
    """The server took the question, and did not answer in time."""


class Answer:
    """What a server answered."""

    __slots__ = ("body", "date", "status")

    def __init__(self, response: HTTPResponse) -> None:
        self.status = response.status
        self.body = response.read(_MAX_ANSWER)
        self.date = _date(response.getheader("date"))
        """The server's own time, in seconds since the epoch."""

    def json(self) -> Any:
        """Return what the body says; None if that is no JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


class UnaskableError(Exception):
    """It cannot be asked from here, which says nothing of the server: TLS, a proxy, its URL."""


class Connection:
    """A connection to one server; used by one thread, closed by any."""

    def __init__(self, url: str, timeout: float) -> None:
        self._url = urlsplit(url)
        self._timeout = timeout
        self._http: HTTPConnection | None = None
        self._prefix = self._url.path
        self._headers = dict(_HEADERS)
        self._lock = threading.Lock()
        self._is_closed = False

    def get(self, path: str) -> Answer:
        """Ask for a path.

        Raises `BusyError`, `RefusedError`, `UnreachableError` or `UnaskableError`, after
        which the next question is asked on a connection of its own.
        """
        # The server may close a connection that was idle; only a new one can tell.
        attempts = 1 if self._http is None else 2
        while True:
            attempts -= 1
            try:
                return self._get(path)
            except TimeoutError as error:
                self.drop()
                raise BusyError(f"no answer within {self._timeout:g} s") from error
            except (ssl.SSLCertVerificationError, InvalidURL, UnicodeError) as error:
                self.drop()
                raise UnaskableError(_text(error)) from error
            except (OSError, HTTPException) as error:
                self.drop()
                if not attempts:
                    raise UnreachableError(_text(error)) from error

    def close(self) -> None:
        """Close, and end a question that is under way."""
        with self._lock:
            self._is_closed = True
            http = self._http
            if http is not None and http.sock is not None:
                with suppress(OSError):
                    http.sock.shutdown(socket.SHUT_RDWR)

    def _get(self, path: str) -> Answer:
        http = self._http or self._connect()
        http.request("GET", self._prefix + path, headers=self._headers)
        answer = Answer(http.getresponse())
        if http.sock is None:
            # The server does not keep connections.
            self.drop()
        return answer

    def drop(self) -> None:
        """Let the connection go; the next question is asked on another one."""
        with self._lock:
            http, self._http = self._http, None
        if http is not None:
            http.close()

    def _connect(self) -> HTTPConnection:
        if self._is_closed:
            raise UnreachableError("closed")
        http = self._made()
        try:
            http.connect()
        except ConnectionRefusedError as error:
            raise RefusedError(_text(error)) from error
        except ssl.SSLCertVerificationError:
            raise
        except (OSError, HTTPException) as error:
            raise UnreachableError(_text(error)) from error
        with self._lock:
            is_closed, self._http = self._is_closed, http
        if is_closed:
            raise UnreachableError("closed")
        return http

    def _made(self) -> HTTPConnection:
        """Return a connection, not open yet, by way of the environment's proxy."""
        url, timeout = self._url, self._timeout
        host, port = url.hostname or "", url.port
        proxy = _proxy_for(url)
        if url.scheme == "https":
            # The same certificates as those of the calls, which go by httpx.
            context: ssl.SSLContext = httpx.create_ssl_context()
            if proxy is None:
                return HTTPSConnection(host, port, timeout=timeout, context=context)
            tunnel = HTTPSConnection(
                proxy.hostname or "", proxy.port, timeout=timeout, context=context
            )
            tunnel.set_tunnel(host, port, headers=_authorization(proxy))
            return tunnel
        if proxy is None:
            return HTTPConnection(host, port, timeout=timeout)
        self._prefix = url.geturl()
        self._headers = _HEADERS | _authorization(proxy)
        return HTTPConnection(proxy.hostname or "", proxy.port, timeout=timeout)


def _proxy_for(url: SplitResult) -> SplitResult | None:
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(url.netloc.rpartition("@")[2]):
        return None
    split = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if split.scheme != "http":
        raise UnaskableError(f"the watcher cannot use a proxy of the kind {split.scheme}")
    return split


def _authorization(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    user = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"proxy-authorization": "Basic " + base64.b64encode(user.encode()).decode()}


def _date(text: str | None) -> float | None:
    try:
        return None if text is None else parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
