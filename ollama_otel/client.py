"""`Client` and `AsyncClient`: the official client's subclasses that record every call.

They override its one choke point, `_request`, with the same steps in less work: bytes
are cut at newlines and go straight into pydantic's own JSON reader. Whatever is not
usual goes the official way, so that values and exceptions are the official ones.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final

import httpx
import ollama
from opentelemetry._logs import LoggerProvider
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider
from pydantic import BaseModel, ValidationError

from ollama_otel._exchange.observers import Enricher, Instrumentation, Observer
from ollama_otel._wire.lines import LineCutter
from ollama_otel.settings import Settings
from ollama_otel.transport import REQUEST_BODY, instrument_client, watched_body

__all__ = ["AsyncClient", "Client"]

CONNECTION_ERROR_MESSAGE: Final = (
    "Failed to connect to Ollama. Please check that Ollama is downloaded, running and "
    "accessible. https://ollama.com/download"
)
"""The official client's words; a test holds them against it."""

_NEWLINE = 10
_ERROR = b'"error"'


class _Parts:
    """Turns the lines of a stream into objects of one class."""

    __slots__ = ("_cls", "_encoding", "_validate", "read")

    def __init__(self, cls: Any, response: httpx.Response) -> None:
        self._cls = cls
        self._validate = cls.__pydantic_validator__.validate_json
        self._encoding = response.encoding or "utf-8"
        is_utf8 = self._encoding.lower() in {"utf-8", "utf8"}
        self.read = self._read_bytes if is_utf8 else self._the_official_way

    def _read_bytes(self, line: bytes) -> Any:
        # Most classes would take a line with an error for one with nothing in it.
        if line.find(_ERROR) >= 0:
            return self._the_official_way(line)
        try:
            return self._validate(line)
        except ValidationError:
            pass
        # Outside of the handler, so that what this raises has no other context than officially.
        return self._the_official_way(line)

    def _the_official_way(self, line: bytes) -> Any:
        part = json.loads(line.decode(self._encoding, errors="replace").rstrip("\r\n"))
        if error := part.get("error"):
            raise ollama.ResponseError(error)
        return self._cls(**part)


def _read_document(cls: Any, body: bytes) -> Any:
    """Turn a whole body into `cls`."""
    try:
        return cls.__pydantic_validator__.validate_json(body)
    except ValidationError:
        pass
    return cls(**json.loads(body))


def _is_usual(cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a request is what the official client's methods send: method, path and JSON."""
    return (
        len(args) == 2  # noqa: PLR2004 - method and path
        and kwargs.keys() <= {"json"}
        and isinstance(cls, type)
        and issubclass(cls, BaseModel)
    )


def _raw_body(client: httpx.Client | httpx.AsyncClient, response: httpx.Response) -> Any:
    """Return the body as our transport gives it, or None where httpx has to read it.

    That is where it is encoded, where somebody has read it already, or where a hook may
    have kept the response to look into it later.
    """
    if (
        "content-encoding" in response.headers
        or response.is_stream_consumed
        or client.event_hooks["response"]
    ):
        return None
    return watched_body(response)


class _Urls:
    """The absolute URL of each path: httpx would put it together anew for every request."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        # One value, as threads may change it.
        self._known: tuple[httpx.URL | None, dict[Any, httpx.URL]] = (None, {})

    def absolute(self, client: httpx.Client | httpx.AsyncClient, path: Any) -> Any:
        base_url, by_path = self._known
        if base_url is not client.base_url:
            base_url, by_path = self._known = client.base_url, {}
        if url := by_path.get(path):
            return url
        url = client.build_request("GET", path).url
        if url.query:
            # Its own query, or the client's parameters: httpx has to put it together.
            return path
        by_path[path] = url
        return url


def _described(body: Any) -> dict[str, Any]:
    """Hand a request's body over to the transport too, which need not parse it again."""
    return {} if body is None else {"json": body, "extensions": {REQUEST_BODY: body}}


def _name_request(error: httpx.RequestError, response: httpx.Response) -> None:
    """Let an error name its request, as httpx does where it reads the body itself."""
    error.request = response.request


class Client(ollama.Client):
    """The official client; every call becomes a span and metrics."""

    def __init__(
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
        **kwargs: Any,
    ) -> None:
        """Create a client; `host` and `kwargs` are the official ones."""
        super().__init__(host, **kwargs)
        self._urls = _Urls()
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

    def _request(self, cls: Any, *args: Any, stream: bool = False, **kwargs: Any) -> Any:
        if not _is_usual(cls, args, kwargs):
            return super()._request(cls, *args, stream=stream, **kwargs)
        if stream:
            return self._parts(cls, *args, **kwargs)
        try:
            document = self._document(self._send(*args, **kwargs))
        except httpx.HTTPStatusError as error:
            raise ollama.ResponseError(error.response.text, error.response.status_code) from None
        except httpx.ConnectError:
            raise ConnectionError(CONNECTION_ERROR_MESSAGE) from None
        return _read_document(cls, document)

    def _send(self, method: str, path: str, json: Any = None) -> httpx.Response:
        client: httpx.Client = self._client
        url = self._urls.absolute(client, path)
        return client.send(client.build_request(method, url, **_described(json)), stream=True)

    def _document(self, response: httpx.Response) -> bytes:
        try:
            if response.is_success and (raw := _raw_body(self._client, response)) is not None:
                return b"".join(raw)
            document = response.read()
        except httpx.RequestError as error:
            _name_request(error, response)
            raise
        finally:
            response.close()
        response.raise_for_status()
        return document

    def _raise_for_status(self, response: httpx.Response) -> None:
        try:
            response.raise_for_status()
        except httpx.HTTPStatusError:
            response.read()
            raise ollama.ResponseError(response.text, response.status_code) from None

    def _parts(self, cls: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        response = self._send(*args, **kwargs)
        try:
            self._raise_for_status(response)
            read, cutter = _Parts(cls, response).read, LineCutter()
            for data in _raw_body(self._client, response) or response.iter_bytes():
                # Nearly always a piece is just a line.
                if cutter.is_empty and data and data[-1] == _NEWLINE and _NEWLINE not in data[:-1]:
                    yield read(data)
                    continue
                for line in cutter.lines(data):
                    yield read(line)
            if rest := cutter.flush():
                yield read(rest)
        except httpx.RequestError as error:
            _name_request(error, response)
            raise
        finally:
            response.close()


class AsyncClient(ollama.AsyncClient):
    """The official async client; every call becomes a span and metrics."""

    def __init__(
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
        **kwargs: Any,
    ) -> None:
        """Create a client; `host` and `kwargs` are the official ones."""
        super().__init__(host, **kwargs)
        self._urls = _Urls()
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

    async def _request(self, cls: Any, *args: Any, stream: bool = False, **kwargs: Any) -> Any:
        if not _is_usual(cls, args, kwargs):
            return await super()._request(cls, *args, stream=stream, **kwargs)
        if stream:
            return self._parts(cls, *args, **kwargs)
        try:
            document = await self._document(await self._send(*args, **kwargs))
        except httpx.HTTPStatusError as error:
            raise ollama.ResponseError(error.response.text, error.response.status_code) from None
        except httpx.ConnectError:
            raise ConnectionError(CONNECTION_ERROR_MESSAGE) from None
        return _read_document(cls, document)

    async def _send(self, method: str, path: str, json: Any = None) -> httpx.Response:
        client: httpx.AsyncClient = self._client
        url = self._urls.absolute(client, path)
        return await client.send(client.build_request(method, url, **_described(json)), stream=True)

    async def _document(self, response: httpx.Response) -> bytes:
        try:
            if response.is_success and (raw := _raw_body(self._client, response)) is not None:
                return b"".join([data async for data in raw])
            document = await response.aread()
        except httpx.RequestError as error:
            _name_request(error, response)
            raise
        finally:
            await response.aclose()
        response.raise_for_status()
        return document

    async def _raise_for_status(self, response: httpx.Response) -> None:
        try:
            response.raise_for_status()
        except httpx.HTTPStatusError:
            await response.aread()
            raise ollama.ResponseError(response.text, response.status_code) from None

    async def _parts(self, cls: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        response = await self._send(*args, **kwargs)
        try:
            await self._raise_for_status(response)
            read, cutter = _Parts(cls, response).read, LineCutter()
            async for data in _raw_body(self._client, response) or response.aiter_bytes():
                # Nearly always a piece is just a line.
                if cutter.is_empty and data and data[-1] == _NEWLINE and _NEWLINE not in data[:-1]:
                    yield read(data)
                    continue
                for line in cutter.lines(data):
                    yield read(line)
            if rest := cutter.flush():
                yield read(rest)
        except httpx.RequestError as error:
            _name_request(error, response)
            raise
        finally:
            await response.aclose()
