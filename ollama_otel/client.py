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

from ollama_otel._call import Observer
from ollama_otel._wire.lines import LineCutter
from ollama_otel.settings import Settings
from ollama_otel.transport import REQUEST_BODY, RESPONSE_BODY, instrument_client

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

    __slots__ = ("_cls", "_encoding", "read")

    def __init__(self, cls: Any, response: httpx.Response) -> None:
        self._cls = cls
        self._encoding = response.encoding or "utf-8"
        is_utf8 = self._encoding.lower() in {"utf-8", "utf8", "ascii"}
        self.read = self._read_bytes if is_utf8 else self._the_official_way

    def _read_bytes(self, line: bytes) -> Any:
        # Most classes would take a line with an error for one with nothing in it.
        if line.find(_ERROR) >= 0:
            return self._the_official_way(line)
        try:
            return self._cls.__pydantic_validator__.validate_json(line)
        except ValidationError:
            return self._the_official_way(line)

    def _the_official_way(self, line: bytes) -> Any:
        part = json.loads(line.decode(self._encoding, errors="replace").rstrip("\r\n"))
        if error := part.get("error"):
            raise ollama.ResponseError(error)
        return self._cls(**part)


def _read_document(cls: Any, response: httpx.Response, body: bytes) -> Any:
    """Turn a whole body into `cls`."""
    try:
        return cls.__pydantic_validator__.validate_json(body)
    except ValidationError:
        encoding = response.encoding
        text = body if encoding is None else body.decode(encoding, errors="replace")
        return cls(**json.loads(text))


def _is_fast(cls: Any) -> bool:
    """Whether `cls` is what the official client has always asked for: a pydantic model."""
    return isinstance(cls, type) and issubclass(cls, BaseModel)


def _raw_body(response: httpx.Response) -> Any:
    """Return the body as our transport gives it, or None where httpx has to decode it."""
    if "content-encoding" in response.headers:
        return None
    return response.extensions.get(RESPONSE_BODY)


class _Urls:
    """The absolute URL of each path: httpx would put it together anew for every request."""

    __slots__ = ("_base_url", "_by_path")

    def __init__(self) -> None:
        self._base_url: httpx.URL | None = None
        self._by_path: dict[str, httpx.URL] = {}

    def absolute(self, client: httpx.Client | httpx.AsyncClient, path: Any) -> Any:
        base_url = client.base_url
        if base_url is not self._base_url:
            self._base_url, self._by_path = base_url, {}
        url = self._by_path.get(path)
        if url is None:
            url = client.build_request("GET", path).url.copy_with(query=None)
            self._by_path[path] = url
        return url


def _described(body: Any) -> dict[str, Any]:
    """Hand a request's body over to the transport too, which need not parse it again."""
    return {} if body is None else {"json": body, "extensions": {REQUEST_BODY: body}}


def _with_request(error: httpx.RequestError, response: httpx.Response) -> httpx.RequestError:
    """Let an error name its request, as httpx does where it reads the body itself."""
    error.request = response.request
    return error


class Client(ollama.Client):
    """The official client; every call becomes a span and metrics."""

    def __init__(
        self,
        host: str | None = None,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
        settings: Settings | None = None,
        observers: Sequence[Observer] = (),
        **kwargs: Any,
    ) -> None:
        """Create a client; `host` and `kwargs` are the official ones."""
        super().__init__(host, **kwargs)
        self._urls = _Urls()
        instrument_client(
            self,
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
            logger_provider=logger_provider,
            settings=settings,
            observers=observers,
        )

    def _request(
        self, cls: Any, method: str, url: str, *, stream: bool = False, **kwargs: Any
    ) -> Any:
        if not _is_fast(cls) or kwargs.keys() - {"json"}:
            return super()._request(cls, method, url, stream=stream, **kwargs)
        body = kwargs.get("json")
        if stream:
            return self._parts(cls, method, url, body)
        try:
            response = self._send(method, url, body)
        except httpx.ConnectError:
            raise ConnectionError(CONNECTION_ERROR_MESSAGE) from None
        try:
            self._raise_for_status(response)
            raw = _raw_body(response)
            document = response.read() if raw is None else b"".join(raw)
        except httpx.RequestError as error:
            raise _with_request(error, response)
        finally:
            response.close()
        return _read_document(cls, response, document)

    def _send(self, method: str, path: str, body: Any) -> httpx.Response:
        client = self._client
        url = self._urls.absolute(client, path)
        return client.send(client.build_request(method, url, **_described(body)), stream=True)

    def _raise_for_status(self, response: httpx.Response) -> None:
        try:
            response.raise_for_status()
        except httpx.HTTPStatusError:
            response.read()
            raise ollama.ResponseError(response.text, response.status_code) from None

    def _parts(self, cls: Any, method: str, url: str, body: Any) -> Iterator[Any]:
        response = self._send(method, url, body)
        try:
            self._raise_for_status(response)
            read, cutter = _Parts(cls, response).read, LineCutter()
            for data in _raw_body(response) or response.iter_bytes():
                # Nearly always a piece is just a line.
                if cutter.is_empty and data and data[-1] == _NEWLINE and _NEWLINE not in data[:-1]:
                    yield read(data)
                    continue
                for line in cutter.lines(data):
                    yield read(line)
            if rest := cutter.flush():
                yield read(rest)
        except httpx.RequestError as error:
            raise _with_request(error, response)
        finally:
            response.close()


class AsyncClient(ollama.AsyncClient):
    """The official async client; every call becomes a span and metrics."""

    def __init__(
        self,
        host: str | None = None,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
        settings: Settings | None = None,
        observers: Sequence[Observer] = (),
        **kwargs: Any,
    ) -> None:
        """Create a client; `host` and `kwargs` are the official ones."""
        super().__init__(host, **kwargs)
        self._urls = _Urls()
        instrument_client(
            self,
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
            logger_provider=logger_provider,
            settings=settings,
            observers=observers,
        )

    async def _request(
        self, cls: Any, method: str, url: str, *, stream: bool = False, **kwargs: Any
    ) -> Any:
        if not _is_fast(cls) or kwargs.keys() - {"json"}:
            return await super()._request(cls, method, url, stream=stream, **kwargs)
        body = kwargs.get("json")
        if stream:
            return self._parts(cls, method, url, body)
        try:
            response = await self._send(method, url, body)
        except httpx.ConnectError:
            raise ConnectionError(CONNECTION_ERROR_MESSAGE) from None
        try:
            await self._raise_for_status(response)
            raw = _raw_body(response)
            if raw is None:
                document = await response.aread()
            else:
                document = b"".join([data async for data in raw])
        except httpx.RequestError as error:
            raise _with_request(error, response)
        finally:
            await response.aclose()
        return _read_document(cls, response, document)

    async def _send(self, method: str, path: str, body: Any) -> httpx.Response:
        client = self._client
        url = self._urls.absolute(client, path)
        return await client.send(client.build_request(method, url, **_described(body)), stream=True)

    async def _raise_for_status(self, response: httpx.Response) -> None:
        try:
            response.raise_for_status()
        except httpx.HTTPStatusError:
            await response.aread()
            raise ollama.ResponseError(response.text, response.status_code) from None

    async def _parts(self, cls: Any, method: str, url: str, body: Any) -> AsyncIterator[Any]:
        response = await self._send(method, url, body)
        try:
            await self._raise_for_status(response)
            read, cutter = _Parts(cls, response).read, LineCutter()
            async for data in _raw_body(response) or response.aiter_bytes():
                # Nearly always a piece is just a line.
                if cutter.is_empty and data and data[-1] == _NEWLINE and _NEWLINE not in data[:-1]:
                    yield read(data)
                    continue
                for line in cutter.lines(data):
                    yield read(line)
            if rest := cutter.flush():
                yield read(rest)
        except httpx.RequestError as error:
            raise _with_request(error, response)
        finally:
            await response.aclose()
