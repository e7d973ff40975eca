"""Delivers a sync stream in a background thread."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import suppress
from contextvars import copy_context
from types import TracebackType
from typing import Any, Final, Self

from ollama_otel import _process
from ollama_otel._streams.connection import noting
from ollama_otel._streams.consumers import consumer
from ollama_otel._streams.delivery import Delivery
from ollama_otel._streams.handler import Part, StreamEnd, expect_part
from ollama_otel.transport import abandon, disconnect

__all__ = ["StreamRun"]

_AT_EXIT: Final = 3.0
"""Seconds that the exit of the process waits for a run that it stops."""


class StreamRun:
    """The delivery of a stream by a background thread, which has started.

    Also a context manager: the end of its block waits for the end of the stream, or stops the
    stream if the block raises.
    """

    def __init__(self, stream: Iterable[Part], target: Any, patience: float) -> None:
        self._delivery = Delivery()
        self._stream: Any = iter(stream)
        self._consumer = consumer(target, patience, self._delivery.is_over)
        self._response: Any = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        context = copy_context()
        # A daemon thread, as the interpreter's exit would wait for other threads while the model
        # generates.
        thread = threading.Thread(
            target=context.run, args=(self._run,), name="ollama_otel-stream", daemon=True
        )
        _process.at_exit(self._at_exit)
        thread.start()

    @property
    def is_running(self) -> bool:
        """Whether the stream is running, or the consumer is not yet notified of its end."""
        return not self._ended.is_set()

    def stop(self) -> None:
        """End the stream: close its request and notify the consumer; from any thread.

        It does not wait. A thread that waits for the first part of the answer continues to wait,
        and then closes the request; streams of `AsyncClient` stop immediately.
        """
        self._delivery.over("stopped")
        with self._lock:
            response, self._response = self._response, None
        if response is not None:
            # In this order, so that the thread's error is not recorded as a failure of the call.
            abandon(response)
            disconnect(response)

    def wait(self, timeout: float | None = None) -> StreamEnd:
        """Wait until the stream has ended and the consumer is notified; return how it ended.

        `timeout` is in seconds. Raises the exception of the consumer or the stream, and
        TimeoutError if the stream has not ended in time; it then continues.
        """
        if not self._ended.wait(timeout):
            raise TimeoutError(f"the stream has not ended within {timeout:g} s")
        return self._delivery.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        cause: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if cause is None:
            self.wait()
            return
        self.stop()
        self._ended.wait()

    def _at_exit(self) -> None:
        if self.is_running:
            self._delivery.over("cancelled")
            self.stop()
            self._ended.wait(_AT_EXIT)

    # --- in the thread --------------------------------------------------------------------

    def _run(self) -> None:
        delivery = self._delivery
        try:
            self._deliver()
            self._close()
            try:
                self._consumer.end(delivery.end)
            except BaseException as error:  # noqa: BLE001 - who waits gets it
                delivery.raised_at_end(error)
        finally:
            self._ended.set()

    def _deliver(self) -> None:
        delivery = self._delivery
        try:
            self._consumer.start()
        except BaseException as error:  # noqa: BLE001 - who waits gets it
            delivery.over("consumer_failed", error)
        while not delivery.is_over():
            try:
                # Not around the consumer, which may open streams of its own.
                with noting(self._opened):
                    part = expect_part(next(self._stream))
            except StopIteration:
                delivery.exhausted()
                return
            except BaseException as error:  # noqa: BLE001
                delivery.over("stream_failed", error)
                return
            if delivery.is_over():
                return
            delivery.came(part)
            try:
                self._consumer.take(part)
            except BaseException as error:  # noqa: BLE001
                delivery.over("consumer_failed", error)

    def _opened(self, response: Any) -> None:
        with self._lock:
            self._response = response
        if self._delivery.is_over():
            self.stop()

    def _close(self) -> None:
        """Close the request; the stream has none if it was not begun."""
        with self._lock:
            self._response = None
        close = getattr(self._stream, "close", None)
        if close is not None:
            # Its end is known already.
            with suppress(Exception):
                close()
