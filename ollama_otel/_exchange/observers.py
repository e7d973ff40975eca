"""The interfaces around a recorded call: tracing, enrichers and observers.

Data flows one way: a start, then pieces of the body, then one finished record. The order of
observers does not matter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

from ollama_otel._exchange.agent_runs import AgentTracing
from ollama_otel.records import CallRecord, CallStart, SpanIds

__all__ = [
    "Backlog",
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
    """Follows one call for one observer; a subclass overrides what it needs."""

    __slots__ = ()

    def pieces(self, pieces: Sequence[bytes], arrivals: Sequence[float]) -> None:
        """Take pieces of the body as received, and the clock's reading at each, in seconds.

        It gets many pieces per call, to keep the cost low. The lists are reused: copy what you
        keep. The last pieces come before `end`; the record's `sent_at` is of the same clock. It is
        called only if a class overrides it.
        """

    def end(self, record: CallRecord) -> None:
        """Take the finished record; called once, while the call's span is current."""


class Observer(Protocol):
    """Follows all calls: a back-end, or your own code."""

    def begin(self, start: CallStart) -> CallFollower | None:
        """Return a follower for this call, or None to ignore it."""
        ...


class Backlog(NamedTuple):
    """Data that a log has not stored yet."""

    pending_lines: int = 0
    """Lines that wait to be written."""
    failed_writes: int = 0
    """Attempts to write that failed."""


class LoggingObserver:
    """An observer that stores calls."""

    keeps_request = False
    """Whether the observer needs the request's bytes, in `CallStart.content`."""

    def begin(self, start: CallStart) -> CallFollower | None:
        """Return a follower for this call, or None to ignore it; a subclass implements it."""
        raise NotImplementedError

    def losses(self) -> Callable[[], Mapping[str, int]]:
        """Return a function that counts lost items by kind; it must not refer to the observer."""
        return dict

    def backlog(self) -> Callable[[], Backlog]:
        """Return a function that returns the backlog; it must not refer to the observer."""
        return Backlog


class CallTrace:
    """Traces one call; this base class does nothing."""

    __slots__ = ()

    ids: SpanIds | None = None
    """The call's span."""

    def headers(self) -> Mapping[str, str]:
        """Return headers to add to the request: the trace context."""
        return {}

    def enter(self) -> None:
        """Make the call's span current.

        A thread that ends open calls may enter while the thread of the call has entered as well.
        """

    def exit(self) -> None:
        """Undo `enter`; called on the same thread and in the same context."""

    def event(self, name: str, attributes: Mapping[str, str | int | float]) -> None:
        """Add an event to the span, while the call is open."""

    def end(self, record: CallRecord) -> None:
        """End the span; called once, after all observers."""


class Tracing:
    """Creates a span for each call, and owns the current context; this base class creates none."""

    def begin(self, start: CallStart) -> CallTrace:  # noqa: ARG002 - for subclasses
        """Start to trace a call that is about to be sent."""
        return _NO_TRACE


_NO_TRACE = CallTrace()


class Section(Protocol):
    """A group of facts about a call; `section` names the record's field for it."""

    section: ClassVar[str]
    """Name of the field of `CallRecord`."""


class Enricher(Protocol):
    """Adds facts that the protocol does not carry."""

    def begin(self, start: CallStart) -> Callable[[CallRecord], Section | None] | None:
        """Return a function from the finished record to a section; None to add nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrumentation:
    """Everything that is applied to recorded calls: tracing, enrichers, observers and clocks."""

    tracing: Tracing = Tracing()  # noqa: RUF009 - it has no state
    """Makes the spans of calls."""
    enrichers: tuple[Enricher, ...] = ()
    """Add sections to records."""
    observers: tuple[Observer, ...] = ()
    """Get the records."""
    agents: AgentTracing = AgentTracing()  # noqa: RUF009 - it has no state
    """Follows the runs of agents."""
    is_suppressed: Callable[[], bool] = lambda: False
    """Returns whether calls are not recorded at the moment."""
    keeps_content: bool = False
    """Whether records hold the conversation, the answer and the whole text of an error."""
    keeps_request: bool = False
    """Whether the request's bytes are kept in `CallStart.content`; also the text of an error."""
    cold_start_threshold: float = 0.1
    """Seconds of loading at which a call counts as a cold start."""
    queue_threshold: float = 0.05
    """Estimated seconds of waiting for a slot at which a call counts as having waited."""
    clock: Callable[[], float] = time.perf_counter
    """Seconds, monotonic."""
    wall_clock: Callable[[], int] = time.time_ns
    """Nanoseconds since the epoch."""
