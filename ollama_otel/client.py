"""`Client` and `AsyncClient`: the official client's subclasses that record every call.

They take a type as `format` too, see `structured.py`.

They override `_request`, through which all its methods go, with a faster version: it cuts the
bytes at newlines and passes each line to pydantic's JSON parser. Unusual requests and lines go
through the official code, so that values and exceptions are the official ones.

The logic is outside the two classes, without I/O; they differ by `await` only.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import httpx
import ollama
from opentelemetry._logs import LoggerProvider
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider
from pydantic import BaseModel, ValidationError

from ollama_otel._client_defaults import add_to_calls, defaults_of, filled, httpx_options
from ollama_otel._client_instrumentation import instrument_client, instrument_replacement
from ollama_otel._counting import CountSteps, MessageLike, ToolLike, begin_count
from ollama_otel._display import logger
from ollama_otel._exchange.observers import Enricher, Instrumentation, Observer
from ollama_otel._streams.connection import opened
from ollama_otel._structured.calls import _AsyncStructuredCalls, _StructuredCalls
from ollama_otel._tokens.counts import TokenCount
from ollama_otel._wire.lines import LineCutter
from ollama_otel.errors import InstrumentationError
from ollama_otel.settings import ClientDefaults, Settings
from ollama_otel.transport import (
    REQUEST_BODY,
    watched_body,
)

if TYPE_CHECKING:
    from ollama_otel._resilience.policy import Resilience

__all__ = ["AsyncClient", "Client"]

_log = logger()

CONNECTION_ERROR_MESSAGE: Final = (
    "Failed to connect to Ollama. Please check that Ollama is downloaded, running and "
    "accessible. https://ollama.com/download"
)
"""The official client's message; a test compares the two."""

_ERROR = b'"error"'
_MAX_KEPT = 64
"""Paths whose URL and headers are kept; the official client uses fewer."""

_NO_STREAM: Final = httpx.ByteStream(b"")

_HttpxClient = httpx.Client | httpx.AsyncClient
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _encode(body: Any) -> bytes:
    return _JSON.encode(body).encode()


def _is_usual(cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a request has only what the official methods send: method, path and JSON."""
    return (
        (*map(type, args),) == (str, str)
        and kwargs.keys() <= {"json"}
        and isinstance(cls, type)
        and issubclass(cls, BaseModel)
    )


class _Requests:
    """Builds the requests of `client.build_request`, with the body for our transport.

    httpx computes URL and headers for each request. Here those of the first request to a path
    are reused as long as the client's base URL and headers do not change.
    """

    __slots__ = ("_encode", "_encodes_as_httpx", "_known")

    def __init__(self, encode: Callable[[Any], bytes] = _encode) -> None:
        self._encode = encode
        sample: dict[str, Any] = {"é": [1, 0.5, None]}
        request = httpx.Request("POST", "http://localhost", json=sample)
        # Versions of httpx encode JSON differently; if ours differs, httpx does it.
        self._encodes_as_httpx = request.content == encode(sample)
        # One tuple, so that threads replace it atomically.
        self._known: tuple[Any, Any, dict[Any, tuple[httpx.URL, httpx.Headers]]] = (None, None, {})

    def build(
        self, client: _HttpxClient, method: str, path: str, json: Any = None
    ) -> httpx.Request:
        headers = client.headers.raw
        base_url, known_headers, by_path = self._known
        if base_url is not client.base_url or known_headers != headers:
            by_path = {}
            self._known = client.base_url, headers, by_path
        key = method, path, json is None
        url, like = by_path.get(key, (path, None))
        extensions: dict[str, Any] = {} if json is None else {REQUEST_BODY: json}
        if like is None or client.params or client.cookies:
            request = client.build_request(method, url, json=json, extensions=extensions)
            if self._encodes_as_httpx and _is_plain(request, headers) and len(by_path) < _MAX_KEPT:
                by_path[key] = request.url, httpx.Headers(request.headers)
            return request
        content = b"" if json is None else self._encode(json)
        extensions["timeout"] = client.timeout.as_dict()
        request = httpx.Request(
            method, url, headers=like, stream=httpx.ByteStream(content), extensions=extensions
        )
        if json is not None:
            request.headers["Content-Length"] = str(len(content))
        # As httpx does, so that `content` is available.
        request.read()
        return request


def _is_plain(request: httpx.Request, headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a request has no headers but these and those that follow from its URL and body."""
    length = len(request.content)
    lengths = [(b"Content-Length", b"%d" % length)] if length else []
    expected = [(b"Host", request.url.netloc), *headers, *lengths]
    return not request.url.query and request.headers.raw == expected


def _raw_body(client: _HttpxClient, response: httpx.Response) -> Any:
    """Return the body that our transport made, or None if httpx has to read it.

    httpx reads it if the status is an error, if the body is encoded or has been read already,
    or if a hook may have kept the response for later.
    """
    if (
        not response.is_success
        or "content-encoding" in response.headers
        or response.is_stream_consumed
        or client.event_hooks["response"]
    ):
        return None
    return watched_body(response)


def _untie(client: _HttpxClient, response: httpx.Response) -> None:
    """Take the stream from a closed response: they refer to each other.

    Then both are freed immediately, without the garbage collector. A response that a hook may have
    kept is not changed.
    """
    if not client.event_hooks["response"]:
        response.stream = _NO_STREAM


def _read_document(cls: Any, body: bytes) -> Any:
    """Parse a whole body as `cls`."""
    try:
        return cls.__pydantic_validator__.validate_json(body)
    except ValidationError:
        pass
    return cls(**json.loads(body))


class _Parts:
    """Parses the pieces of a stream as objects of one class."""

    __slots__ = ("_cls", "_cutter", "_encoding", "_validate")

    def __init__(self, cls: Any, response: httpx.Response) -> None:
        self._cls = cls
        self._cutter = LineCutter()
        self._encoding = response.encoding or "utf-8"
        is_utf8 = self._encoding.lower() in {"utf-8", "utf8"}
        self._validate: Any = (
            cls.__pydantic_validator__.validate_json if is_utf8 else self._read_officially
        )

    def feed(self, data: bytes) -> Iterable[Any]:
        """Return the parts whose lines `data` completes, each parsed when it is requested."""
        # Nearly always a piece is exactly one line.
        if (
            self._cutter.is_empty
            and 0 <= data.find(b"\n") == len(data) - 1
            and data.find(_ERROR) < 0
        ):
            try:
                return (self._validate(data),)
            except ValidationError:
                pass
        return map(self._read, self._cutter.lines(data))

    def finish(self) -> Iterable[Any]:
        """Return the part in a last line without a line end, if there is one."""
        rest = self._cutter.flush()
        return (self._read(rest),) if rest else ()

    def _read(self, line: bytes) -> Any:
        # Most classes would parse a line with an error as an empty object.
        if line.find(_ERROR) < 0:
            try:
                return self._validate(line)
            except ValidationError:
                pass
        # Outside of the handler, so that the exception has the same context as the official one.
        return self._read_officially(line)

    def _read_officially(self, line: bytes) -> Any:
        part = json.loads(line.decode(self._encoding, errors="replace").rstrip("\r\n"))
        if error := part.get("error"):
            raise ollama.ResponseError(error)
        return self._cls(**part)


def _refusal(response: httpx.Response) -> ollama.ResponseError:
    """Return the error that the official client raises for a response that has been read."""
    return ollama.ResponseError(response.text, response.status_code)


class _OfficialErrors:
    """Turns httpx's errors into the official client's, for calls that do not stream."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        if isinstance(error, httpx.HTTPStatusError):
            raise _refusal(error.response) from None
        if isinstance(error, httpx.ConnectError):
            raise ConnectionError(CONNECTION_ERROR_MESSAGE) from None


_official_errors: Final = _OfficialErrors()


class _NamingRequest:
    """Sets `request` on errors while a body is read, as httpx does when it reads the body."""

    __slots__ = ("_response",)

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, httpx.RequestError):
            error.request = self._response.request


def _make_resilient(client: Any, resilience: Resilience) -> None:
    # Imported on use: most clients have none.
    from ollama_otel._resilient_transport import make_resilient  # noqa: PLC0415

    make_resilient(client, resilience)


def _counted(count: CountSteps) -> TokenCount:
    assert count.result is not None  # noqa: S101 - there is no question left
    return count.result


def _within(resilience: Resilience | None, defaults: ClientDefaults) -> Resilience:
    from ollama_otel._resilience.policy import Resilience as Made  # noqa: PLC0415 - as above

    known = Made() if resilience is None else resilience
    return known if known.deadline is not None else replace(known, deadline=defaults.deadline)


class _Instrumented:
    """The constructor of both clients."""

    _client: Any

    def __init__(  # noqa: PLR0913 - each is a keyword of its own
        self,
        host: str | None = None,
        *,
        instrumentation: Instrumentation | None = None,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
        settings: Settings | None = None,
        observers: Sequence[Observer] = (),
        enrichers: Sequence[Enricher] = (),
        resilience: Resilience | None = None,
        defaults: ClientDefaults | None = None,
        **kwargs: Any,
    ) -> None:
        """Create a client; `host` and `kwargs` are those of the official client.

        `resilience` has the retries, the limiter, the breaker and the fallbacks of its calls,
        `defaults` has values for arguments that a call does not give; see `ClientDefaults` for its
        variables.
        """
        known = ClientDefaults.from_environ(lenient=True)
        known = known if defaults is None else defaults.over(known)
        options = httpx_options(known, kwargs)
        super().__init__(host or known.base_url, **options)  # type: ignore[call-arg]  # the official client's
        add_to_calls(self, known)
        self._requests = _Requests()
        instrument_client(
            self,
            instrumentation=instrumentation,
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
            logger_provider=logger_provider,
            settings=settings,
            observers=observers,
            enrichers=enrichers,
        )
        self._resilience = resilience if known.deadline is None else _within(resilience, known)
        if self._resilience is not None:
            _make_resilient(self, self._resilience)
        self._recorded: Any = self._client
        self._settings = settings

    def _record_replacement(self) -> None:
        """Record the calls of an httpx client that replaced the original one."""
        client = self._client
        try:
            if self._resilience is not None:
                _make_resilient(client, self._resilience)
            instrument_replacement(self._recorded, client)
        except InstrumentationError as error:
            _log.warning("the calls of an Ollama client are no longer recorded: %s", error)
        self._recorded = client


class Client(_Instrumented, _StructuredCalls):
    """The official client; every call becomes a span and metrics."""

    def _request(self, cls: Any, *args: Any, stream: bool = False, **kwargs: Any) -> Any:
        if self._client is not self._recorded:
            self._record_replacement()
        if not _is_usual(cls, args, kwargs):
            return super()._request(cls, *args, stream=stream, **kwargs)
        if stream:
            return self._parts(cls, *args, **kwargs)
        with _official_errors:
            request = self._requests.build(self._client, *args, **kwargs)
            response = self._client.send(request, stream=True)
            try:
                with _NamingRequest(response):
                    body = _raw_body(self._client, response)
                    document = response.read() if body is None else b"".join(body)
            finally:
                response.close()
                _untie(self._client, response)
            response.raise_for_status()
        return _read_document(cls, document)

    def count_tokens(
        self,
        model: str,
        messages: Sequence[MessageLike] | str,
        *,
        tools: Sequence[ToolLike] = (),
        think: bool | str | None = None,
        options: Mapping[str, Any] | None = None,
        render: bool = False,
    ) -> TokenCount:
        """Return the number of tokens of a prompt, and how exact it is; see `TokenCount`.

        A text instead of messages is counted without a template. The first count of a model reads
        its vocabulary from the server; later ones need no request. With `render` the server
        renders each prompt, which makes the count exact for every template and for tools; it loads
        the model with these `options`. Images are not counted: the number is then None.

        Raises what the other methods raise if the server cannot be reached.
        """
        model, options, keep_alive = filled(defaults_of(self), model, options, None)
        count = begin_count(
            *(self._client, self._settings, model, messages, tools),
            think=think,
            options=options,
            keep_alive=keep_alive,
            render=render,
        )
        count.advance()
        with _official_errors:
            while count.question is not None:
                with count.asking():
                    response = self._client.request(**count.question)
                count.advance(response)
        return _counted(count)

    def _parts(self, cls: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        request = self._requests.build(self._client, *args, **kwargs)
        response = self._client.send(request, stream=True)
        try:
            opened(response)
            with _NamingRequest(response):
                try:
                    response.raise_for_status()
                except httpx.HTTPStatusError:
                    response.read()
                    raise _refusal(response) from None
                parts = _Parts(cls, response)
                for data in _raw_body(self._client, response) or response.iter_bytes():
                    for part in parts.feed(data):
                        yield part
                for part in parts.finish():
                    yield part
        finally:
            response.close()
            _untie(self._client, response)


class AsyncClient(_Instrumented, _AsyncStructuredCalls):
    """The official async client; every call becomes a span and metrics."""

    async def _request(self, cls: Any, *args: Any, stream: bool = False, **kwargs: Any) -> Any:
        if self._client is not self._recorded:
            self._record_replacement()
        if not _is_usual(cls, args, kwargs):
            return await super()._request(cls, *args, stream=stream, **kwargs)
        if stream:
            return self._parts(cls, *args, **kwargs)
        with _official_errors:
            request = self._requests.build(self._client, *args, **kwargs)
            response = await self._client.send(request, stream=True)
            try:
                with _NamingRequest(response):
                    body = _raw_body(self._client, response)
                    document = (
                        await response.aread()
                        if body is None
                        else b"".join([data async for data in body])
                    )
            finally:
                await response.aclose()
                _untie(self._client, response)
            response.raise_for_status()
        return _read_document(cls, document)

    async def count_tokens(
        self,
        model: str,
        messages: Sequence[MessageLike] | str,
        *,
        tools: Sequence[ToolLike] = (),
        think: bool | str | None = None,
        options: Mapping[str, Any] | None = None,
        render: bool = False,
    ) -> TokenCount:
        """Return the number of tokens of a prompt; see `Client.count_tokens`."""
        from anyio.to_thread import run_sync  # noqa: PLC0415 - few apps count

        model, options, keep_alive = filled(defaults_of(self), model, options, None)
        count = begin_count(
            *(self._client, self._settings, model, messages, tools),
            think=think,
            options=options,
            keep_alive=keep_alive,
            render=render,
        )
        await run_sync(count.advance)
        with _official_errors:
            while count.question is not None:
                with count.asking():
                    response = await self._client.request(**count.question)
                await run_sync(count.advance, response)
        return _counted(count)

    async def _parts(self, cls: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        request = self._requests.build(self._client, *args, **kwargs)
        response = await self._client.send(request, stream=True)
        try:
            opened(response)
            with _NamingRequest(response):
                try:
                    response.raise_for_status()
                except httpx.HTTPStatusError:
                    await response.aread()
                    raise _refusal(response) from None
                parts = _Parts(cls, response)
                async for data in _raw_body(self._client, response) or response.aiter_bytes():
                    for part in parts.feed(data):
                        yield part
                for part in parts.finish():
                    yield part
        finally:
            await response.aclose()
            _untie(self._client, response)
