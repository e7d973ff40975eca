"""The shells for httpx, sync and async.

A shell moves bytes and reports them to an exchange; it makes no decisions. The async shell equals
the sync one but for `await`. `shells_for` makes shells for a module with httpx's interface.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from functools import cache
from socket import SHUT_RDWR
from types import MethodType, ModuleType, new_class
from typing import Any, Final, NamedTuple, TypeAlias, Unpack

import httpx

from ollama_otel._auth_rounds import AuthRounds
from ollama_otel._exchange.body import PIECES_AT_ONCE
from ollama_otel._exchange.exchange import ENDED, EndedExchange, Exchange, Url
from ollama_otel._exchange.observers import Instrumentation
from ollama_otel._guard import guard
from ollama_otel._relay import _AsyncRelay, _Relay, _SyncRelay
from ollama_otel._telemetry.instrumentation import InstrumentationOptions, instrumentation_for
from ollama_otel._wire.endpoints import find_endpoint

__all__ = [
    "AsyncTransport",
    "Transport",
]

REQUEST_BODY: Final = "ollama_otel.request_body"
"""Key in a request's extensions under which a client passes its body before encoding."""

RECORDED_BY: Final = "ollama_otel.is_recorded"
"""Key in a request's extensions for its exchange while a shell sends it: others in the chain pass
it on.
"""

_FIRST_ERROR: Final = 400

# --- requests and responses ---------------------------------------------------------------


def _content_of(http: Any, request: Any) -> bytes | None:
    """Return a request's body if it is in memory.

    A streamed body is left alone: reading it would consume it.
    """
    try:
        content: bytes = request.content
    except http.RequestNotRead:
        # After a redirect httpx does not read a body in memory again.
        is_in_memory = isinstance(request.stream, http.ByteStream)
        return b"".join(request.stream) if is_in_memory else None
    return content


def _size_of(request: Any) -> int | None:
    """Return the size of a body that is not in memory."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else None


def _content_headers(headers: Any) -> tuple[str, str]:
    """Return type and encoding of a body, in one pass: each look-up in httpx is a pass."""
    content_type = content_encoding = b""
    for name, value in headers.raw:
        match name.lower():
            case b"content-type":
                content_type = value
            case b"content-encoding":
                content_encoding = value
    return content_type.decode("latin-1"), content_encoding.decode("latin-1")


# --- bodies -------------------------------------------------------------------------------


class _Body:
    """A body on its way to the caller."""

    def __init__(self, exchange: Exchange, inner: Any) -> None:
        self._exchange: Exchange | EndedExchange = exchange
        self._inner = inner

    def _end(self) -> None:
        self._exchange.close()
        # A response of httpx refers to itself, so the garbage collector has to free the body; the
        # recorded data is freed before.
        self._exchange = ENDED

    __del__ = _end


class _SyncBody(_Body):
    def __iter__(self) -> Iterator[bytes]:
        with self._exchange.receiving() as (clock, pulled, arrived, took, pieces, settle):
            pulled(clock())
            for data in self._inner:
                arrived(clock())
                took(data)
                if len(pieces) >= PIECES_AT_ONCE:
                    settle()
                yield data
                pulled(clock())

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            self._end()


class _AsyncBody(_Body):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        with self._exchange.receiving() as (clock, pulled, arrived, took, pieces, settle):
            pulled(clock())
            async for data in self._inner:
                arrived(clock())
                took(data)
                if len(pieces) >= PIECES_AT_ONCE:
                    settle()
                yield data
                pulled(clock())

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            self._end()


def watched_body(response: httpx.Response) -> Any:
    """Return the body that our transport made; None if another one wraps it."""
    # httpx wraps it in a stream of its own.
    stream = getattr(response.stream, "_stream", None)
    return stream if isinstance(stream, _Body) else None


def abandon(response: httpx.Response) -> None:
    """End a streamed call as closed early by its caller, who is about to close it; any thread."""
    body = watched_body(response)
    if body is not None:
        body._exchange.close()  # noqa: SLF001 - the same module's


def disconnect(response: httpx.Response) -> None:
    """Shut down the connection, so that the thread that reads the response gets an error.

    That thread has to close the response.
    """
    network = response.extensions.get("network_stream")
    connection = None if network is None else network.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):  # it has been closed meanwhile
            connection.shutdown(SHUT_RDWR)


# --- transports ---------------------------------------------------------------------------


class _Shell(_Relay):
    """The common part of the transports: which requests are recorded, and how."""

    http: Any
    """The module of the requests and responses: `httpx`, or one with its interface."""
    body_type: Any
    _auth_rounds: AuthRounds
    network_code: Any = None
    """The code that sends a request in the module's own network transport."""
    _sends: str
    _mark: str = RECORDED_BY

    def __init__(self, inner: Any, **options: Unpack[InstrumentationOptions]) -> None:
        """Wrap a transport; the keywords are those of `instrument_client`."""
        self.inner = inner
        self._instrumentation = instrumentation_for(options)

    def _begin(self, request: Any) -> Exchange | None:
        """Begin an exchange; None if the request is not for Ollama or not to be recorded."""
        url = request.url
        path = url.path
        endpoint = find_endpoint(request.method, path)
        if endpoint is None:
            return None
        try:
            instrumentation = self._instrumentation()
            if instrumentation.is_suppressed() or self._mark in request.extensions:
                return None
            self._auth_rounds.go_on()
            known = request.extensions.pop(REQUEST_BODY, None)
            content = _content_of(self.http, request)
            exchange = Exchange.begin(
                instrumentation,
                endpoint,
                Url(url.scheme, url.host, url.port, path),
                content=content,
                size=_size_of(request) if content is None else len(content),
                body=known if isinstance(known, Mapping) else None,
                is_for_network=bool(instrumentation.enrichers) and self._reaches_network(),
            )
        except Exception as fault:  # noqa: BLE001 - the call is made, recorded or not
            guard.caught("starting to record a call", fault)
            return None
        # In a block of its own: the exchange has begun, so it has to be ended.
        try:
            request.extensions[self._mark] = exchange
            for name, value in exchange.headers().items():
                request.headers[name] = value
        except Exception as fault:  # noqa: BLE001 - the call is made, with these headers or without
            guard.caught("sending headers along", fault)
        return exchange

    def _sent(self, request: Any) -> None:
        # Clients send the same request again, and copy its extensions for redirects.
        try:
            request.extensions.pop(self._mark, None)
        except Exception as fault:  # noqa: BLE001 - an inner transport may have replaced them
            guard.caught("looking at a request that was sent", fault)

    def _reaches_network(self) -> bool:
        """Whether the inner transport is the module's own: neither a mock nor a replay.

        It compares the code and not the method, as instrumentors wrap methods.
        """
        inner = self.inner
        while isinstance(inner, _Relay):
            inner = inner.inner
        method = getattr(type(inner), self._sends, None)
        return self.network_code is not None and (
            getattr(method, "__code__", None) is self.network_code
        )

    def _watched(self, exchange: Exchange, response: Any) -> Any:
        """Return the response with a body that reports its pieces to the exchange.

        A body in memory (of a mock or a cache) is read immediately and the response returned
        unchanged, as httpx will not read its stream.
        """
        try:
            headers, is_in_memory = response.headers, response.is_stream_consumed
            content_type, content_encoding = _content_headers(headers)
            reader = exchange.head(
                response.status_code,
                content_type=content_type,
                content_encoding="" if is_in_memory else content_encoding,
                # Only httpx's own transports add this extension.
                is_from_network="network_stream" in response.extensions,
            )
            if response.status_code >= _FIRST_ERROR:
                self._auth_rounds.hold(exchange)
            if is_in_memory:
                reader.take_whole(response.content)
                exchange.exhausted()
                return response
            return self.http.Response(
                response.status_code,
                headers=headers,
                stream=self.body_type(exchange, response.stream),
                extensions=response.extensions,
            )
        except Exception as fault:  # noqa: BLE001 - the caller gets the response, watched or not
            guard.caught("starting to watch a response", fault)
            exchange.close()
            return response


class _SyncShell(_Shell, _SyncRelay):
    """The sync transport, for any HTTP library with httpx's interface."""

    _sends = "handle_request"

    def handle_request(self, request: Any) -> Any:
        """Send a request through the inner transport; raises what that raises."""
        exchange = self._begin(request)
        if exchange is None:
            return self.inner.handle_request(request)
        try:
            with exchange.sending():
                response = self.inner.handle_request(request)
        finally:
            self._sent(request)
        return self._watched(exchange, response)


class _AsyncShell(_Shell, _AsyncRelay):
    """The async transport, for any HTTP library with httpx's interface."""

    _sends = "handle_async_request"

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request through the inner transport; raises what that raises."""
        exchange = self._begin(request)
        if exchange is None:
            return await self.inner.handle_async_request(request)
        try:
            with exchange.sending():
                response = await self.inner.handle_async_request(request)
        finally:
            self._sent(request)
        return self._watched(exchange, response)


_HTTPX_AUTH_ROUNDS: Final = AuthRounds(httpx)


class _HttpxSyncBody(_SyncBody, httpx.SyncByteStream):
    pass


class _HttpxAsyncBody(_AsyncBody, httpx.AsyncByteStream):
    pass


class Transport(_SyncShell, httpx.BaseTransport):
    """Wraps an httpx transport, and records the Ollama calls that go through it."""

    http = httpx
    body_type = _HttpxSyncBody
    _auth_rounds = _HTTPX_AUTH_ROUNDS
    network_code = httpx.HTTPTransport.handle_request.__code__


class AsyncTransport(_AsyncShell, httpx.AsyncBaseTransport):
    """Wraps an async httpx transport, and records the Ollama calls that go through it."""

    http = httpx
    body_type = _HttpxAsyncBody
    _auth_rounds = _HTTPX_AUTH_ROUNDS
    network_code = httpx.AsyncHTTPTransport.handle_async_request.__code__


class Shells(NamedTuple):
    """The transports for one HTTP library."""

    transport: Any
    async_transport: Any


@cache
def shells_for(http: ModuleType) -> Shells:
    """Return the transports for a module with httpx's interface."""
    if http is httpx:
        return Shells(Transport, AsyncTransport)

    auth_rounds = AuthRounds(http)

    def shell(name: str, base: type, http_base: Any, body: type, stream: Any) -> Any:
        namespace = {
            "http": http,
            "body_type": new_class(body.__name__, (body, stream)),
            "_auth_rounds": auth_rounds,
            "__module__": __name__,
        }
        return new_class(name, (base, http_base), exec_body=lambda ns: ns.update(namespace))

    return Shells(
        shell("Transport", _SyncShell, http.BaseTransport, _SyncBody, http.SyncByteStream),
        shell(
            "AsyncTransport", _AsyncShell, http.AsyncBaseTransport, _AsyncBody, http.AsyncByteStream
        ),
    )


# --- turning a shell on and off ------------------------------------------------------------


Shell: TypeAlias = _Shell
"""Any shell: sync or async, for any HTTP library."""


def _off() -> Instrumentation:
    return NOTHING_RECORDED


NOTHING_RECORDED: Final = Instrumentation(is_suppressed=lambda: True)


def is_on(shell: Shell) -> bool:
    """Whether a shell records calls."""
    return shell._instrumentation is not _off  # noqa: SLF001 - the same module's


def recorded_by(shell: Shell) -> Instrumentation:
    """Return the instrumentation that would record a call of this shell now."""
    return shell._instrumentation()  # noqa: SLF001


def turn_off(shell: Shell) -> None:
    """Stop a shell from recording; it passes all requests on."""
    shell._instrumentation = _off  # noqa: SLF001


def record_as(shell: Shell, other: Shell) -> None:
    """Make a shell record calls with the instrumentation of another shell."""
    shell._instrumentation = other._instrumentation  # noqa: SLF001


def is_patched(shell: Shell) -> bool:
    """Whether another instrumentation has wrapped this object's method."""
    method = vars(shell).get(shell._sends)  # noqa: SLF001
    # If that was undone, the object's attribute is our own method again; a wrapper only resembles a
    # method.
    return method is not None and type(method) is not MethodType
