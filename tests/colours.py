"""One test body for every colour: the same scenario runs sync, on asyncio and on trio."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import httpx
import ollama
import trio

import ollama_otel

T = TypeVar("T")

COLOURS = ("sync", "asyncio", "trio")


class Colour:
    """Which clients a scenario gets, and what runs it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_async = name != "sync"
        self.official: Any = ollama.AsyncClient if self.is_async else ollama.Client
        self.ours: Any = ollama_otel.AsyncClient if self.is_async else ollama_otel.Client
        self.httpx: Any = httpx.AsyncClient if self.is_async else httpx.Client
        self.transport: Any = ollama_otel.AsyncTransport if self.is_async else ollama_otel.Transport

    def run(self, scenario: Callable[[], Awaitable[T]]) -> T:
        """Run an async function to its end."""
        runner: Any = trio.run if self.name == "trio" else _run_on_asyncio
        result: T = runner(scenario)
        return result

    async def close(self, thing: Any) -> None:
        """Close what has a way to be closed for each colour."""
        await done(thing.aclose() if self.is_async else thing.close())


def _run_on_asyncio(scenario: Callable[[], Any]) -> Any:
    return asyncio.run(scenario())


async def done(value: Any) -> Any:
    """Wait for what a method of either colour gave."""
    return await value if inspect.isawaitable(value) else value


def each(stream: Any) -> Any:
    """Give a stream of either colour as an async iterator with `aclose`."""
    return stream if hasattr(stream, "__aiter__") else _Each(stream)


class _Each:
    """A sync iterator with the words of an async one; it is dropped when this is dropped."""

    def __init__(self, stream: Any) -> None:
        self._stream = iter(stream)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self._stream)
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        self._stream.close()


async def closed(thing: Any) -> None:
    """Close a client or a stream of either colour."""
    close = getattr(thing, "aclose", None) or thing.close
    await done(close())


async def read(response: Any, *, is_async: bool) -> bytes:
    """Read a response of either colour to its end."""
    body: bytes = await done(response.aread() if is_async else response.read())
    return body


def raw_pieces(response: Any, *, is_async: bool) -> Any:
    """Give the pieces of a response's body as they came."""
    return each(response.aiter_raw() if is_async else response.iter_raw())
