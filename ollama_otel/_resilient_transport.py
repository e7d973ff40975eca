"""httpx transports that make attempts: they execute the steps of a `Course`, and decide nothing.

They belong inside the shells that record, so that one call of the caller is one record. The async
one equals the sync one but for `await`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, TypeVar

import anyio
import httpx

from ollama_otel._client_instrumentation import httpx_client_of, replace_transports
from ollama_otel._exchange.exchange import Exchange
from ollama_otel._guard import guard
from ollama_otel._relay import _AsyncRelay, _Relay, _SyncRelay
from ollama_otel._resilience.course import (
    Close,
    Course,
    Kept,
    Pause,
    Queue,
    Read,
    Result,
    Send,
    Step,
)
from ollama_otel._resilience.ending import Ending
from ollama_otel._resilience.limiter import Place
from ollama_otel._resilience.policy import Resilience, is_disabled
from ollama_otel._resilience.signals import AsyncSignal, ThreadSignal
from ollama_otel._wire.endpoints import find_endpoint
from ollama_otel.transport import RECORDED_BY, Shell

__all__ = ["AsyncResilientTransport", "ResilientTransport", "make_resilient"]

ClientT = TypeVar("ClientT")

_NO_PIECES: Final[list[bytes]] = []


class _Body:
    """A body whose end ends the attempt."""

    def __init__(self, response: Any, kept: Kept | None, ending: Ending) -> None:
        self._inner = response.stream
        self._first = _NO_PIECES if kept is None else kept.pieces
        self._rest = None if kept is None else kept.rest
        self._ending = ending

    def __del__(self) -> None:
        # The body was not closed, so its end is unknown.
        self._ending.end(has_failed=None)

    def _broke(self, error: BaseException) -> None:
        # A caller that leaves early, or is cancelled, closes the body: its slot is in use until
        # then.
        if isinstance(error, Exception):
            self._ending.end(has_failed=isinstance(error, httpx.TransportError))


class _SyncBody(_Body, httpx.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        yield from self._first
        try:
            for data in self._inner if self._rest is None else self._rest:
                self._ending.check_deadline()
                yield data
        except BaseException as error:
            self._broke(error)
            raise

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            self._ending.end(has_failed=self._ending.has_failed)


class _AsyncBody(_Body, httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        for data in self._first:
            yield data
        try:
            async for data in self._inner if self._rest is None else self._rest:
                self._ending.check_deadline()
                yield data
        except BaseException as error:
            self._broke(error)
            raise

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            self._ending.end(has_failed=self._ending.has_failed)


class _KeptBody(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that was read: the same pieces, and the same exception at its end."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    def __iter__(self) -> Iterator[bytes]:
        yield from self._kept.pieces
        if self._kept.error is not None:
            raise self._kept.error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._kept.pieces:
            yield piece
        if self._kept.error is not None:
            raise self._kept.error


class _Resilient(_Relay):
    """The common part: for which requests there is a course."""

    _body: type[_SyncBody | _AsyncBody]

    def __init__(self, inner: Any, resilience: Resilience) -> None:
        """Wrap a transport of httpx."""
        self.inner = inner
        self._resilience = resilience

    def _course(self, request: httpx.Request) -> Course | None:
        """Return the course of a call; None if it is not for Ollama, or resilience is disabled."""
        endpoint = find_endpoint(request.method, request.url.path)
        if endpoint is None or is_disabled():
            return None
        try:
            recorder = request.extensions.get(RECORDED_BY)
            reporter = recorder if isinstance(recorder, Exchange) else None
            return Course(self._resilience, httpx, request, endpoint, reporter)
        except Exception as fault:  # noqa: BLE001 - the call is made, with resilience or without
            guard.caught("starting the attempts of a call", fault)
            return None

    def _response(self, result: Result) -> httpx.Response:
        """Return the response for the caller, with a body that ends the attempt."""
        response, kept, ending = result.response, result.kept, result.ending
        stream: Any
        if kept is not None and kept.rest is None:
            stream = _KeptBody(kept)
        elif ending is None or (kept is None and not ending.is_needed):
            return response  # type: ignore[no-any-return]
        elif response.is_stream_consumed:
            # httpx will neither read nor close a body in memory.
            ending.end(has_failed=ending.has_failed)
            return response  # type: ignore[no-any-return]
        else:
            stream = self._body(response, kept, ending)
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=stream,
            extensions=response.extensions,
        )


class ResilientTransport(_Resilient, _SyncRelay, httpx.BaseTransport):
    """Wraps an httpx transport, and makes the attempts of each Ollama call that goes through it."""

    _body = _SyncBody

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; raises what the last attempt raised, or a `CallRejectedError`."""
        course = self._course(request)
        if course is None:
            return self.inner.handle_request(request)  # type: ignore[no-any-return]
        steps = course.run()
        try:
            step = next(steps)
            while True:
                try:
                    done = self._do(step)
                except BaseException as error:  # noqa: BLE001 - the course decides, and raises it
                    step = steps.throw(error)
                else:
                    step = steps.send(done)
        except StopIteration as end:
            return self._response(end.value)

    def _do(self, step: Step) -> Any:
        match step:
            case Send():
                return self.inner.handle_request(step.request)
            case Read():
                return self._read(step.response)
            case Close():
                return step.response.stream.close()
            case Pause():
                return time.sleep(step.seconds)
            case Queue():
                return self._wait(step.place)

    def _wait(self, place: Place) -> None:
        signal = ThreadSignal()
        place.listen(signal)
        while (seconds := place.next_look()) is not None:
            signal.wait(seconds)

    def _read(self, response: httpx.Response) -> Kept:
        kept = Kept()
        pieces = iter(response.stream)  # type: ignore[arg-type]
        try:
            for piece in pieces:
                if not kept.take(piece):
                    kept.rest = pieces
                    break
        except Exception as error:  # noqa: BLE001 - it is the end of the body that the caller gets
            kept.error = error
        return kept


class AsyncResilientTransport(_Resilient, _AsyncRelay, httpx.AsyncBaseTransport):
    """The same for async transports."""

    _body = _AsyncBody

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; raises what the last attempt raised, or a `CallRejectedError`."""
        course = self._course(request)
        if course is None:
            return await self.inner.handle_async_request(request)  # type: ignore[no-any-return]
        steps = course.run()
        try:
            step = next(steps)
            while True:
                try:
                    done = await self._do(step)
                except BaseException as error:  # noqa: BLE001 - the course decides, and raises it
                    step = steps.throw(error)
                else:
                    step = steps.send(done)
        except StopIteration as end:
            return self._response(end.value)

    async def _do(self, step: Step) -> Any:
        match step:
            case Send():
                return await self.inner.handle_async_request(step.request)
            case Read():
                return await self._read(step.response)
            case Close():
                return await step.response.stream.aclose()
            case Pause():
                return await anyio.sleep(step.seconds)
            case Queue():
                return await self._wait(step.place)

    async def _wait(self, place: Place) -> None:
        signal = AsyncSignal()
        place.listen(signal)
        while (seconds := place.next_look()) is not None:
            await signal.wait(seconds)

    async def _read(self, response: httpx.Response) -> Kept:
        kept = Kept()
        pieces = aiter(response.stream)  # type: ignore[arg-type]
        try:
            async for piece in pieces:
                if not kept.take(piece):
                    kept.rest = pieces
                    break
        except Exception as error:  # noqa: BLE001 - it is the end of the body that the caller gets
            kept.error = error
        return kept


def make_resilient(client: ClientT, resilience: Resilience) -> ClientT:
    """Give a client resilience, and return that client.

    `client` is an official `ollama.Client` or `ollama.AsyncClient`, ours, or any `httpx.Client` or
    `httpx.AsyncClient`, such as the `http_client` of an SDK. It works inside what records the
    client's calls, whichever comes first. A client that has resilience gets this one in its place.
    Raises `InstrumentationError` for any other client.
    """
    target = httpx_client_of(client)
    is_async = isinstance(target, httpx.AsyncClient)
    kind = AsyncResilientTransport if is_async else ResilientTransport

    def wrap(transport: Any) -> Any:
        if transport is None:
            return None
        if isinstance(transport, Shell):
            transport.inner = wrap(transport.inner)
            return transport
        inner = transport.inner if isinstance(transport, _Resilient) else transport
        return kind(inner, resilience)

    replace_transports(target, wrap)
    return client
