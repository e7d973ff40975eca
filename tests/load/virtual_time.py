"""An event loop whose time passes at once, so that a run of a minute takes a moment."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

import httpx

from ollama_otel.testing import FakeOllama

T = TypeVar("T")
STEP = 1e-4
"""Seconds that one turn of the loop takes when nothing is waited for."""


class _Selector(selectors.DefaultSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        self.now += timeout or STEP
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its clock is the sum of what it would have waited."""

    def __init__(self) -> None:
        self.selector = _Selector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now


def clock() -> float:
    """The time of the running loop, in seconds."""
    return asyncio.get_running_loop().time()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)


class OneSlot(httpx.AsyncBaseTransport):
    """A server with one slot and one queue: each answer takes the same time."""

    def __init__(self, service: float, fake: FakeOllama | None = None) -> None:
        self.inner = (fake or FakeOllama()).transport()
        self._service = service
        self._slot = asyncio.Lock()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        async with self._slot:
            await asyncio.sleep(self._service)
        return await self.inner.handle_async_request(request)
