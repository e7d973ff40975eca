"""Streams to consumers: a background thread or task delivers the parts."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from queue import Queue
from typing import TYPE_CHECKING, Any, overload

from ollama_otel._streams.handler import Part, StreamEnd, StreamEnding, StreamHandler
from ollama_otel._streams.task_run import AsyncStreamRun
from ollama_otel._streams.thread_run import StreamRun
from ollama_otel.errors import ConsumerTimeoutError

if TYPE_CHECKING:
    import asyncio

    from anyio.abc import ObjectSendStream

__all__ = [
    "AsyncStreamRun",
    "ConsumerTimeoutError",
    "Part",
    "StreamEnd",
    "StreamEnding",
    "StreamHandler",
    "StreamRun",
    "stream_to",
]


@overload
def stream_to(
    stream: AsyncIterable[Part] | Awaitable[AsyncIterable[Part]],
    target: StreamHandler | asyncio.Queue[Any] | ObjectSendStream[Any] | Callable[[Any], Any],
    *,
    patience: float = 60.0,
) -> AsyncStreamRun: ...


@overload
def stream_to(
    stream: Iterable[Part],
    target: StreamHandler | Queue[Any] | Callable[[Any], Any],
    *,
    patience: float = 60.0,
) -> StreamRun: ...


def stream_to(stream: Any, target: Any, *, patience: float = 60.0) -> Any:
    """Deliver the parts of a stream to a consumer, in the background.

    `stream` is what `chat` or `generate` return with `stream=True`, from a sync client or an async
    one, awaited or not. A sync stream is delivered by a thread, which begins at once; an async
    one by the task that runs `AsyncStreamRun`. `target` is a `StreamHandler`, a queue, an anyio
    object stream, or a function that takes a part. Queues and object streams get the parts, and at
    the end a `StreamEnd`.

    A consumer that raises, is closed, or leaves its queue full for `patience` seconds ends the
    stream: its request is closed, so that the server stops. Raises TypeError if this kind of stream
    cannot be delivered to the target.
    """
    is_async = hasattr(stream, "__aiter__") or hasattr(stream, "__await__")
    return (AsyncStreamRun if is_async else StreamRun)(stream, target, patience)
