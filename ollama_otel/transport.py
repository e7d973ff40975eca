"""The httpx shells around the recorder, sync and async, and the one way into a client.

The shells contain no decision: they move bytes and tell the recorder. Method by method
the async one is the sync one with `await`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx
from opentelemetry._logs import LoggerProvider
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from ollama_otel._exchange.bodies import Answer
from ollama_otel._exchange.exchange import Exchange, Instrumentation, Observer
from ollama_otel._guard import guard
from ollama_otel._network import reaches_network
from ollama_otel._telemetry.instrumentation import recording_for
from ollama_otel._wire.endpoints import Endpoint, find_endpoint
from ollama_otel._wire.images import without_images
from ollama_otel._wire.native import parse_object, read_request
from ollama_otel.context import current_call_context
from ollama_otel.errors import InstrumentationError
from ollama_otel.records import CallStart
from ollama_otel.settings import Settings

__all__ = [
    "AsyncTransport",
    "Transport",
    "instrument_client",
    "uninstrument_client",
]

REQUEST_BODY: Final = "ollama_otel.request_body"
"""Key in a request's extensions under which a client that knows its body hands it over."""

ClientT = TypeVar("ClientT")

_LARGE_BODY = 64 * 1024


def _content_of(request: httpx.Request) -> bytes | None:
    """Return a request's body where it is in memory."""
    try:
        return request.content
    except httpx.RequestNotRead:
        # After a redirect: a body in memory that httpx has not read again.
        return b"".join(request.stream) if isinstance(request.stream, httpx.ByteStream) else None


def _body_of(request: httpx.Request) -> tuple[Mapping[str, Any] | None, int | None]:
    """Return a request's JSON object and size in bytes; None for what cannot be known.

    A body that is still a stream is left alone: reading it would take it away.
    """
    known = request.extensions.pop(REQUEST_BODY, None)
    known = known if isinstance(known, dict) else None
    content = _content_of(request)
    if content is None:
        length = request.headers.get("content-length", "")
        return known, int(length) if length.isdecimal() else None
    if known is None and content:
        known = parse_object(without_images(content) if len(content) > _LARGE_BODY else content)
    return known, len(content)


def _start_call(
    recording: Instrumentation, endpoint: Endpoint, request: httpx.Request, inner: object
) -> Exchange | None:
    try:
        body, size = _body_of(request)
        call = Exchange(
            recording,
            CallStart(
                endpoint=endpoint,
                request=read_request(endpoint, body, size=size, keep_body=recording.keeps_content),
                server_address=request.url.host or None,
                server_port=request.url.port or {"http": 80, "https": 443}.get(request.url.scheme),
                started_at=recording.wall_clock(),
                context=current_call_context(),
                path=request.url.path,
                content=_content_of(request) if recording.keeps_request else None,
                server_scheme=request.url.scheme,
                is_for_network=reaches_network(inner),
            ),
        )
    except Exception as fault:  # noqa: BLE001 - the call is made, recorded or not
        guard.caught("starting to record a call", fault)
        return None
    # Apart, as from here on the call is one that has to be ended.
    try:
        for name, value in call.outgoing_headers().items():
            request.headers[name] = value
    except Exception as fault:  # noqa: BLE001 - the call is made, with these headers or without
        guard.caught("sending headers along", fault)
    return call


def _content_headers(headers: httpx.Headers) -> tuple[str, str]:
    """Return type and encoding of a body: in one pass, as each look-up in httpx is one."""
    content_type = content_encoding = b""
    for name, value in headers.raw:
        match name.lower():
            case b"content-type":
                content_type = value
            case b"content-encoding":
                content_encoding = value
    return content_type.decode("latin-1"), content_encoding.decode("latin-1")


def _recorded(
    call: Exchange, response: httpx.Response, stream_type: type[_Stream | _AsyncStream]
) -> httpx.Response:
    """Return the response with a body that is watched on its way.

    One that is in memory already (a mock's, a cache's) is looked at and left as it is:
    nobody will read its stream.
    """
    try:
        headers, is_in_memory = response.headers, response.is_stream_consumed
        content_type, content_encoding = _content_headers(headers)
        answer = call.head(
            response.status_code,
            content_type=content_type,
            content_encoding="" if is_in_memory else content_encoding,
            # What httpx's own transports add, and others have no reason to.
            is_from_network="network_stream" in response.extensions,
        )
        if is_in_memory:
            answer.feed(response.content)
            call.exhausted()
            return response
        stream = stream_type(call, response.stream, answer)
        return httpx.Response(
            response.status_code,
            headers=headers,
            stream=stream,
            extensions=response.extensions,
        )
    except Exception as fault:  # noqa: BLE001 - the caller gets the answer, watched or not
        guard.caught("starting to watch an answer", fault)
        call.close()
        return response


class _Stream(httpx.SyncByteStream):
    """A body on its way to the caller."""

    def __init__(self, call: Exchange, inner: Any, answer: Answer) -> None:
        self._call = call
        self._inner: httpx.SyncByteStream = inner
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        answer = self._answer
        clock, pieces, batch = answer.clock, answer.pieces, answer.batch
        arrived, took, pulled = answer.arrivals.append, pieces.append, answer.pulls.append
        with self._call.receiving():
            pulled(clock())
            for data in self._inner:
                # What `answer.feed` does; a call for each piece would cost as much again.
                arrived(clock())
                took(data)
                if len(pieces) >= batch:
                    answer.settle()
                yield data
                pulled(clock())

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            self._call.close()

    def __del__(self) -> None:
        self._call.close()


class _AsyncStream(httpx.AsyncByteStream):
    """A body on its way to the caller."""

    def __init__(self, call: Exchange, inner: Any, answer: Answer) -> None:
        self._call = call
        self._inner: httpx.AsyncByteStream = inner
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        answer = self._answer
        clock, pieces, batch = answer.clock, answer.pieces, answer.batch
        arrived, took, pulled = answer.arrivals.append, pieces.append, answer.pulls.append
        with self._call.receiving():
            pulled(clock())
            async for data in self._inner:
                # What `answer.feed` does; a call for each piece would cost as much again.
                arrived(clock())
                took(data)
                if len(pieces) >= batch:
                    answer.settle()
                yield data
                pulled(clock())

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            self._call.close()

    def __del__(self) -> None:
        self._call.close()


def watched_body(response: httpx.Response) -> _Stream | _AsyncStream | None:
    """Return the body as our transport gave it; None if somebody put another one around it."""
    # httpx itself keeps it in a stream of its own; where that hides it, httpx reads the body.
    stream = getattr(response.stream, "_stream", None)
    return stream if isinstance(stream, (_Stream, _AsyncStream)) else None


class _Recorded:
    """What the two transports share: who records, and which requests."""

    def __init__(
        self,
        inner: Any,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
        settings: Settings | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.inner = inner
        """The transport that does the work."""
        self._recording = recording_for(
            tracer_provider, meter_provider, logger_provider, settings, observers
        )

    def _begin(self, request: httpx.Request) -> Exchange | None:
        """Start to record a request, unless it is not Ollama's or not to be recorded."""
        endpoint = find_endpoint(request.method, request.url.path)
        if endpoint is None:
            return None
        try:
            recording = self._recording()
            if recording.is_suppressed():
                return None
        except Exception as fault:  # noqa: BLE001 - the call is made, recorded or not
            guard.caught("looking up who records", fault)
            return None
        return _start_call(recording, endpoint, request, self.inner)

    def __getattr__(self, name: str) -> Any:
        # What else the inner transport offers stays in reach of those who look for it.
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)


class Transport(_Recorded, httpx.BaseTransport):
    """Wraps a transport, and records the Ollama calls that go through it."""

    inner: httpx.BaseTransport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request through the inner transport; raises what that raises."""
        call = self._begin(request)
        if call is None:
            return self.inner.handle_request(request)
        with call.sending():
            response = self.inner.handle_request(request)
        return _recorded(call, response, _Stream)

    def close(self) -> None:
        """Close the inner transport."""
        self.inner.close()

    def __enter__(self) -> Self:
        self.inner.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.inner.__exit__(exc_type, exc_value, traceback)


class AsyncTransport(_Recorded, httpx.AsyncBaseTransport):
    """Wraps an async transport, and records the Ollama calls that go through it."""

    inner: httpx.AsyncBaseTransport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request through the inner transport; raises what that raises."""
        call = self._begin(request)
        if call is None:
            return await self.inner.handle_async_request(request)
        with call.sending():
            response = await self.inner.handle_async_request(request)
        return _recorded(call, response, _AsyncStream)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self.inner.aclose()

    async def __aenter__(self) -> Self:
        await self.inner.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.inner.__aexit__(exc_type, exc_value, traceback)


# --- the one way in -----------------------------------------------------------------------
# `_transport` and `_mounts` are httpx's own; they are touched here and nowhere else. Giving
# `transport=` to the constructor instead would drop the proxies taken from the environment.


def _httpx_client_of(client: object) -> httpx.Client | httpx.AsyncClient:
    """Return the httpx client itself, or the one inside an official client."""
    if isinstance(client, (httpx.Client, httpx.AsyncClient)):
        return client
    inner = getattr(client, "_client", None)
    if isinstance(inner, (httpx.Client, httpx.AsyncClient)):
        return inner
    raise InstrumentationError(
        "expected an ollama.Client, ollama.AsyncClient, httpx.Client or httpx.AsyncClient, "
        f"found {type(client).__module__}.{type(client).__qualname__}"
    )


def is_instrumented(client: object) -> bool:
    """Whether calls of this client are recorded; raises `InstrumentationError` as below."""
    return isinstance(_httpx_client_of(client)._transport, _Recorded)  # noqa: SLF001


def instrument_client(
    client: ClientT,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    settings: Settings | None = None,
    observers: Sequence[Observer] = (),
) -> ClientT:
    """Record the Ollama calls of a client from now on, and return that client.

    `client` is an official `ollama.Client` or `ollama.AsyncClient`, or any `httpx.Client`
    or `httpx.AsyncClient`. One that is instrumented already is left as it is. Raises
    `InstrumentationError` for anything else.
    """
    target: Any = _httpx_client_of(client)
    wrapper: Any = Transport if isinstance(target, httpx.Client) else AsyncTransport

    def wrap(transport: Any) -> Any:
        if transport is None or isinstance(transport, _Recorded):
            return transport
        return wrapper(
            transport,
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
            logger_provider=logger_provider,
            settings=settings,
            observers=observers,
        )

    target._transport = wrap(target._transport)  # noqa: SLF001
    target._mounts = {  # noqa: SLF001
        pattern: wrap(mount)
        for pattern, mount in target._mounts.items()  # noqa: SLF001
    }
    return client


def uninstrument_client(client: ClientT) -> ClientT:
    """Leave a client as it was before `instrument_client`, and return it.

    One that is not instrumented is left as it is. Raises `InstrumentationError` as
    `instrument_client` does.
    """
    target: Any = _httpx_client_of(client)

    def unwrap(transport: Any) -> Any:
        return transport.inner if isinstance(transport, _Recorded) else transport

    target._transport = unwrap(target._transport)  # noqa: SLF001
    target._mounts = {  # noqa: SLF001
        pattern: unwrap(mount)
        for pattern, mount in target._mounts.items()  # noqa: SLF001
    }
    return client
