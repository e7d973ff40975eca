"""One consumer class for each kind of target; the async ones differ by `await` only.

A consumer that is gone raises, which ends the stream.
"""

from __future__ import annotations

import asyncio
import inspect
import queue
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from typing import Any, Final, Protocol

import anyio
from anyio.abc import ObjectSendStream
from ollama import GenerateResponse, Message

from ollama_otel._streams.handler import Part, StreamEnd, StreamHandler
from ollama_otel._structured.answers import text_of
from ollama_otel.errors import ConsumerTimeoutError

__all__ = ["AsyncConsumer", "Consumer", "async_consumer", "consumer"]

_LOOK_AGAIN: Final = 0.1
"""Interval, in seconds, at which a thread that waits for its queue checks whether it was
stopped.
"""


class Consumer(Protocol):
    """Takes the parts of a stream in a thread."""

    def start(self) -> None: ...

    def take(self, part: Part) -> None: ...

    def end(self, end: StreamEnd) -> None: ...


class AsyncConsumer(Protocol):
    """Takes the parts of a stream in a task."""

    async def start(self) -> None: ...

    async def take(self, part: Part) -> None: ...

    def end(self, end: StreamEnd) -> Coroutine[Any, Any, None]: ...


def consumer(target: Any, patience: float, is_over: Callable[[], bool]) -> Consumer:
    """Return the consumer for a target of a sync stream; raises TypeError otherwise.

    `is_over` says whether a consumer that waits should stop waiting.
    """
    if isinstance(target, StreamHandler):
        return _Handler(target)
    if hasattr(target, "put") and not inspect.iscoroutinefunction(target.put):
        return _Queue(target, patience, is_over)
    if callable(target) and not _is_async(target):
        return _Callback(target)
    raise TypeError(
        "a sync stream goes to a StreamHandler, a queue.Queue or a plain function, "
        f"not to {_kind_of(target)}"
    )


def async_consumer(target: Any, patience: float) -> AsyncConsumer:
    """Return the consumer for a target of an async stream; raises TypeError otherwise."""
    if isinstance(target, StreamHandler):
        return _AsyncHandler(target)
    if isinstance(target, ObjectSendStream):
        return _AsyncSendStream(target, patience)
    if hasattr(target, "put") and inspect.iscoroutinefunction(target.put):
        return _AsyncQueue(target, patience)
    if callable(target):
        return _AsyncCallback(target)
    raise TypeError(
        "an async stream goes to a StreamHandler, an asyncio.Queue, an anyio object stream or a "
        f"function, not to {_kind_of(target)}"
    )


def _is_async(target: Any) -> bool:
    return any(map(inspect.iscoroutinefunction, (target, type(target).__call__)))


def _kind_of(target: object) -> str:
    kind = type(target)
    return (
        f"{'an async function' if callable(target) else f'{kind.__module__}.{kind.__qualname__}'}"
    )


def _steps(handler: StreamHandler, part: Part) -> Iterator[Awaitable[None] | None]:
    """Call the handler's methods for a part, each after the result of the previous one."""
    thinking, text, calls = _contents(part)
    if thinking:
        yield handler.on_thinking(thinking)
    if text:
        yield handler.on_text(text)
    for call in calls:
        yield handler.on_tool_call(call)


def _contents(part: Part) -> tuple[str | None, str, Iterable[Message.ToolCall]]:
    if isinstance(part, GenerateResponse):
        return part.thinking, text_of(part), ()
    return part.message.thinking, text_of(part), part.message.tool_calls or ()


# --- handlers -----------------------------------------------------------------------------


def _plain(result: object) -> None:
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError("the consumer of a sync stream has an async method")


class _Handler:
    def __init__(self, handler: StreamHandler) -> None:
        self._handler = handler

    def start(self) -> None:
        _plain(self._handler.on_start())

    def take(self, part: Part) -> None:
        for result in _steps(self._handler, part):
            _plain(result)

    def end(self, end: StreamEnd) -> None:
        _plain(self._handler.on_end(end))


async def _settled(result: Any) -> None:
    if inspect.isawaitable(result):
        await result


class _AsyncHandler:
    def __init__(self, handler: StreamHandler) -> None:
        self._handler = handler

    async def start(self) -> None:
        await _settled(self._handler.on_start())

    async def take(self, part: Part) -> None:
        for result in _steps(self._handler, part):
            await _settled(result)

    async def end(self, end: StreamEnd) -> None:
        await _settled(self._handler.on_end(end))


# --- functions ----------------------------------------------------------------------------


class _Callback:
    def __init__(self, callback: Callable[[Part], Any]) -> None:
        self._callback = callback

    def start(self) -> None:
        pass

    def take(self, part: Part) -> None:
        _plain(self._callback(part))

    def end(self, end: StreamEnd) -> None:
        pass


class _AsyncCallback:
    def __init__(self, callback: Callable[[Part], Any]) -> None:
        self._callback = callback

    async def start(self) -> None:
        pass

    async def take(self, part: Part) -> None:
        await _settled(self._callback(part))

    async def end(self, end: StreamEnd) -> None:
        pass


# --- queues -------------------------------------------------------------------------------


def _gone(patience: float) -> ConsumerTimeoutError:
    return ConsumerTimeoutError(f"the consumer took nothing from its full queue for {patience:g} s")


def _count_as_done(target: Any) -> None:
    """Mark a dropped item as done for `join` of the queue; not every queue counts."""
    if hasattr(target, "task_done"):
        target.task_done()


class _Queue:
    """A `queue.Queue`, or one with its methods."""

    def __init__(self, target: Any, patience: float, is_over: Callable[[], bool]) -> None:
        self._queue, self._patience, self._is_over = target, patience, is_over

    def start(self) -> None:
        pass

    def take(self, part: Part) -> None:
        until = time.monotonic() + self._patience
        while not self._is_over():
            rest = until - time.monotonic()
            try:
                self._queue.put(part, timeout=max(0.0, min(rest, _LOOK_AGAIN)))
            except queue.Full:
                if rest <= 0:
                    raise _gone(self._patience) from None
            else:
                return

    def end(self, end: StreamEnd) -> None:
        if end.ending == "completed":
            with suppress(queue.Full):
                self._queue.put(end, timeout=self._patience)
                return
            raise _gone(self._patience)
        # The reader may be gone; if not, it has to get the end, so parts are dropped for it.
        while True:
            try:
                self._queue.put(end, block=False)
            except queue.Full:
                with suppress(queue.Empty):
                    self._queue.get(block=False)
                    _count_as_done(self._queue)
            else:
                return


class _AsyncQueue:
    """An `asyncio.Queue`, or one with its methods."""

    def __init__(self, target: Any, patience: float) -> None:
        self._queue, self._patience = target, patience

    async def start(self) -> None:
        pass

    async def take(self, part: Part | StreamEnd) -> None:
        try:
            with anyio.fail_after(self._patience):
                await self._queue.put(part)
        except TimeoutError:
            raise _gone(self._patience) from None

    async def end(self, end: StreamEnd) -> None:
        if end.ending == "completed":
            await self.take(end)
            return
        while True:
            try:
                self._queue.put_nowait(end)
            except asyncio.QueueFull:
                with suppress(asyncio.QueueEmpty):
                    self._queue.get_nowait()
                    _count_as_done(self._queue)
            else:
                return


class _AsyncSendStream:
    """An anyio object stream; it is closed at the end, so that its receivers end too."""

    def __init__(self, target: ObjectSendStream[Any], patience: float) -> None:
        self._stream, self._patience = target, patience

    async def start(self) -> None:
        pass

    async def take(self, part: Part | StreamEnd) -> None:
        try:
            with anyio.fail_after(self._patience):
                await self._stream.send(part)
        except TimeoutError:
            raise _gone(self._patience) from None

    async def end(self, end: StreamEnd) -> None:
        try:
            if end.ending == "completed":
                await self.take(end)
                return
            # Receivers may be gone; the others notice the end when the stream is closed.
            gone = anyio.BrokenResourceError, anyio.ClosedResourceError
            with anyio.move_on_after(_LOOK_AGAIN), suppress(*gone):
                await self._stream.send(end)
        finally:
            await self._stream.aclose()
