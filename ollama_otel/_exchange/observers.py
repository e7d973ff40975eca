"""The interfaces around a recorded call: who traces it, who adds facts to it, who is handed it.

Data flows one way: a start, then pieces of the body, then one finished record. Nothing here
depends on the order of observers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from ollama_otel.records import CallRecord, CallStart, SpanIds

__all__ = [
    "CallFollower",
    "CallTrace",
    "Enricher",
    "Instrumentation",
    "LoggingObserver",
    "Observer",
    "Section",
    "Tracing",
]


class CallFollower:
    """One call as one observer follows it; a subclass overrides what it needs."""

    __slots__ = ()

    def pieces(self, pieces: Sequence[bytes], arrivals: Sequence[float]) -> None:
        """Take pieces of the body as they came, and the clock's reading at each.

        Several are handed over at a time, which costs next to nothing; the lists are reused, so
        copy what you keep. The last ones come before `end`; the record's `sent_at` is by the same
        clock. A class that does not override this method is not called.
        """

    def end(self, record: CallRecord) -> None:
        """Take the finished record; called once, while the call's span is the current one."""


class Observer(Protocol):
    """What follows every call: a back-end, or your own code."""

    def begin(self, start: CallStart) -> CallFollower | None:
        """Return what follows this call, or None to leave it alone."""
        ...


class LoggingObserver:
    """An observer that writes calls down."""

    keeps_request = False
    """Whether it needs the request's bytes, in `CallStart.content`."""

    def begin(self, start: CallStart) -> CallFollower | None:
        """Return what follows this call; see `Observer`."""
        raise NotImplementedError

    def losses(self) -> Callable[[], Mapping[str, int]]:
        """Return what counts the lost items by kind; it must not hold the observer alive."""
        return dict


class CallTrace:
    """One call as tracing follows it; without a tracer, nothing happens."""

    __slots__ = ()

    ids: SpanIds | None = None
    """The call's span."""

    def headers(self) -> Mapping[str, str]:
        """Return what goes out with the request: the trace context."""
        return {}

    def enter(self) -> None:
        """Make the call's span the current one."""

    def exit(self) -> None:
        """Undo `enter`; called on the same thread and in the same context."""

    def end(self, record: CallRecord) -> None:
        """End the span; called once, after all observers."""


class Tracing:
    """Makes a span for each call, and owns the current context; this one makes none."""

    def begin(self, start: CallStart) -> CallTrace:  # noqa: ARG002 - for those that trace
        """Start to trace a call that is about to be sent."""
        return _NO_TRACE


_NO_TRACE = CallTrace()


class Section(Protocol):
    """A group of facts about a call; `section` names the record's field for it."""

    section: ClassVar[str]


class Enricher(Protocol):
    """Adds what the wire does not say."""

    def begin(self, start: CallStart) -> Callable[[CallRecord], Section | None] | None:
        """Return what gives a section for the finished call; None to add nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrumentation:
    """Everything that happens to recorded calls: who traces, enriches and observes them."""

    tracing: Tracing = Tracing()  # noqa: RUF009 - it has no state
    enrichers: tuple[Enricher, ...] = ()
    observers: tuple[Observer, ...] = ()
    is_suppressed: Callable[[], bool] = lambda: False
    """Whether calls made right now are to be left alone."""
    keeps_content: bool = False
    """Whether what was asked and answered is kept in the record."""
    keeps_request: bool = False
    """Whether the request's bytes are kept in `CallStart.content`."""
    cold_start_threshold: float = 0.1
    """Seconds of loading from which a call counts as a cold start."""
    clock: Callable[[], float] = time.perf_counter
    """Seconds, monotonic."""
    wall_clock: Callable[[], int] = time.time_ns
    """Nanoseconds since the epoch."""
