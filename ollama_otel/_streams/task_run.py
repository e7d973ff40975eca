"""Delivers an async stream in a task."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Awaitable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

import anyio
from anyio.abc import TaskGroup

from ollama_otel import _process
from ollama_otel._streams.connection import noting
from ollama_otel._streams.consumers import async_consumer
from ollama_otel._streams.delivery import Delivery
from ollama_otel._streams.handler import Part, StreamEnd, expect_part
from ollama_otel.transport import abandon

__all__ = ["AsyncStreamRun"]

_CLEAN_UP: Final = 5.0
"""Seconds that a cancelled task waits for closing the request and notifying the consumer."""


class AsyncStreamRun:
    """The delivery of a stream by a task, on asyncio or trio.

    `await run.run()` delivers it in this task; `asyncio.create_task(run.run())` or a task group's
    `start_soon(run.run)` in another one. It is also a context manager, which delivers in a separate
    task: the end of its block waits for the end of the stream, or stops the stream if the block
    raises.
    """

    def __init__(
        self,
        stream: AsyncIterable[Part] | Awaitable[AsyncIterable[Part]],
        target: Any,
        patience: float,
    ) -> None:
        self._delivery = Delivery()
        self._stream: Any = stream
        self._consumer = async_consumer(target, patience)
        self._response: Any = None
        self._scope: anyio.CancelScope | None = None
        self._has_begun = False
        self._has_left = False
        self._ended = anyio.Event()
        self._groups: list[TaskGroup] = []
        """The task group of the block that has been entered."""

    @property
    def is_running(self) -> bool:
        """Whether the stream is running, or the consumer is not yet notified of its end."""
        return not self._ended.is_set()

    def stop(self) -> None:
        """End the stream: close its request and notify the consumer; from the same event loop.

        It does not wait. A pending wait for the server or the consumer is cancelled.
        """
        self._delivery.over("stopped")
        response, self._response = self._response, None
        if response is not None:
            abandon(response)
        if self._scope is not None:
            self._scope.cancel()

    async def wait(self) -> StreamEnd:
        """Wait until the stream has ended and the consumer is notified; return how it ended.

        Raises the exception of the consumer or the stream.
        """
        await self._ended.wait()
        return self._delivery.result()

    async def run(self) -> StreamEnd:
        """Deliver the stream, once; return how it ended.

        Raises what `wait` raises, and RuntimeError if the stream is delivered already.
        """
        if self._has_begun:
            raise RuntimeError("the stream is delivered already")
        self._has_begun = True
        # A loop that is closed early may keep its tasks forever, as anyio refers to them.
        _process.at_exit(self._at_exit)
        delivery = self._delivery
        try:
            with anyio.CancelScope() as self._scope:
                await self._deliver_or_leave()
        except BaseException:
            if self._has_left:
                # The scope cannot be left without its event loop.
                return delivery.end
            delivery.over("cancelled")
            with anyio.CancelScope(shield=True, deadline=anyio.current_time() + _CLEAN_UP):
                await self._finish()
            raise
        await self._finish()
        return delivery.result()

    async def __aenter__(self) -> Self:
        group = anyio.create_task_group()
        await group.__aenter__()
        self._groups.append(group)
        group.start_soon(self._run_quietly)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        cause: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if cause is not None:
            self.stop()
        await self._groups.pop().__aexit__(None, None, None)
        if cause is None:
            await self.wait()

    async def _run_quietly(self) -> None:
        # `wait` raises the exception; the task group would wrap it.
        with suppress(Exception):
            await self.run()

    async def _deliver(self) -> None:
        delivery = self._delivery
        if delivery.is_over():
            return
        try:
            await self._consumer.start()
        except Exception as error:  # noqa: BLE001 - who waits gets it
            delivery.over("consumer_failed", error)
        while not delivery.is_over():
            try:
                part = await self._next()
            except StopAsyncIteration:
                delivery.exhausted()
                return
            except Exception as error:  # noqa: BLE001
                delivery.over("stream_failed", error)
                return
            if delivery.is_over():
                return
            delivery.came(part)
            try:
                await self._consumer.take(part)
            except Exception as error:  # noqa: BLE001
                delivery.over("consumer_failed", error)

    async def _next(self) -> Part:
        if inspect.isawaitable(self._stream):
            self._stream = await self._stream
        # Not around the consumer, which may open streams of its own.
        with noting(self._opened):
            return expect_part(await anext(self._stream))

    def _opened(self, response: Any) -> None:
        self._response = response

    async def _finish(self) -> None:
        """Close the request and notify the consumer."""
        delivery = self._delivery
        self._response = None
        try:
            with anyio.CancelScope(shield=True, deadline=anyio.current_time() + _CLEAN_UP):
                # The end of the stream is known already.
                with suppress(Exception):
                    await self._close()
            try:
                if delivery.claims_end():
                    await self._consumer.end(delivery.end)
            except Exception as error:  # noqa: BLE001 - who waits gets it
                delivery.raised_at_end(error)
        finally:
            self._ended.set()

    async def _close(self) -> None:
        if inspect.iscoroutine(self._stream):
            # It was never awaited, so nothing was sent.
            self._stream.close()
            return
        close = getattr(self._stream, "aclose", None)
        if close is not None:
            await close()

    def _at_exit(self) -> None:
        if self.is_running:
            self._leave()

    async def _deliver_or_leave(self) -> None:
        try:
            await self._deliver()
        except GeneratorExit:
            # The coroutine is dropped: its event loop has gone, and nothing can be awaited.
            self._has_left = True
            self._leave()
            raise

    def _leave(self) -> None:
        """Notify the consumer, as far as that works without an event loop."""
        self._delivery.over("cancelled")
        if not self._delivery.claims_end():
            return
        ending = self._consumer.end(self._delivery.end)
        try:
            ending.send(None)
        except StopIteration:
            pass
        except Exception as error:  # noqa: BLE001
            self._delivery.raised_at_end(error)
        else:
            ending.close()
