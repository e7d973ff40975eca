"""An httpx transport for any number of open requests.

The pool of httpx looks at all of its connections for each request that begins or ends, which costs
more than the request itself when hundreds are open. Here each connection has its own pool.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable

import httpx

__all__ = ["Connections"]

_ONE = httpx.Limits(max_connections=1, max_keepalive_connections=1)


class Connections(httpx.AsyncBaseTransport):
    """Sends each request on a connection that no open request uses, the latest used one first."""

    def __init__(self) -> None:
        self._verify: ssl.SSLContext | None = None
        self._all: list[httpx.AsyncHTTPTransport] = []
        self._free: list[httpx.AsyncHTTPTransport] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; its connection is free again when the response is closed."""
        connection = self._free.pop() if self._free else self._added()
        try:
            response = await connection.handle_async_request(request)
        except BaseException:
            self._free.append(connection)
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - an async transport's
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_Body(response.stream, lambda: self._free.append(connection)),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        for connection in self._all:
            await connection.aclose()

    def _added(self) -> httpx.AsyncHTTPTransport:
        # Made once: it reads the certificates of the machine.
        self._verify = self._verify or httpx.create_ssl_context()
        connection = httpx.AsyncHTTPTransport(verify=self._verify, limits=_ONE)
        self._all.append(connection)
        return connection


class _Body(httpx.AsyncByteStream):
    """The body of a response, which releases its connection when it is closed."""

    def __init__(self, inner: httpx.AsyncByteStream, give_back: Callable[[], object]) -> None:
        self._inner = inner
        self._give_back = give_back

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._inner:
            yield data

    async def aclose(self) -> None:
        """Close it; a response does so once."""
        try:
            await self._inner.aclose()
        finally:
            self._give_back()
