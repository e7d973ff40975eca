"""Guards the tracing of runs, so that its faults never reach the caller."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from ollama_otel._exchange.agent_runs import (
    AgentTracing,
    RunRecord,
    RunStart,
    RunTrace,
    ToolCallRecord,
    ToolCallStart,
    ToolTrace,
)
from ollama_otel._guard import guard

__all__ = ["GuardedRunTrace", "GuardedToolTrace"]

_Trace = TypeVar("_Trace")


def _guarded(where: str, make: Callable[[], _Trace], otherwise: Callable[[], _Trace]) -> _Trace:
    try:
        return make()
    except Exception as fault:  # noqa: BLE001 - the run goes on, traced or not
        guard.caught(where, fault)
        return otherwise()


@contextmanager
def _current(trace: RunTrace | ToolTrace) -> Iterator[None]:
    """Make a span current, and ignore faults."""
    where = "making the span of an agent current"
    block: AbstractContextManager[object] | None = None
    try:
        block = trace.current()
        block.__enter__()
    except Exception as fault:  # noqa: BLE001 - as above
        guard.caught(where, fault)
        block = None
    try:
        yield
    finally:
        if block is not None:
            try:
                block.__exit__(None, None, None)
            except Exception as fault:  # noqa: BLE001 - as above
                guard.caught(where, fault)


class GuardedToolTrace:
    """Traces one tool call, and catches faults of the tracing."""

    def __init__(self, trace: ToolTrace) -> None:
        self._trace = trace
        self._lock = threading.Lock()
        self._has_ended = False

    def current(self) -> AbstractContextManager[None]:
        return _current(self._trace)

    def end(self, record: ToolCallRecord) -> None:
        """End the span; only the first end counts."""
        with self._lock:
            if self._has_ended:
                return
            self._has_ended = True
        _guarded("ending to trace a tool call", lambda: self._trace.end(record), lambda: None)


class GuardedRunTrace:
    """Traces one run, and catches faults of the tracing."""

    def __init__(self, tracing: AgentTracing, start: RunStart) -> None:
        self._trace = _guarded("starting to trace a run", lambda: tracing.begin(start), RunTrace)

    def current(self) -> AbstractContextManager[None]:
        return _current(self._trace)

    def tool(self, start: ToolCallStart) -> GuardedToolTrace:
        return GuardedToolTrace(
            _guarded(
                "starting to trace a tool call",
                lambda: self._trace.tool(start),
                ToolTrace,
            )
        )

    def end(self, record: RunRecord) -> None:
        _guarded("ending to trace a run", lambda: self._trace.end(record), lambda: None)
