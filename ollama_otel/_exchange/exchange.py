"""The heart: what happened in one call, told by whoever moves its bytes, becomes one record.

No I/O, no clock of its own, no OpenTelemetry, no httpx.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from ollama_otel import _process
from ollama_otel._exchange.bodies import Answer, ProgressStream, answer_for
from ollama_otel._guard import guard
from ollama_otel._wire import failures, native
from ollama_otel.records import CallRecord, CallStart, Outcome

__all__ = ["CallFollower", "Exchange", "Instrumentation", "Observer"]


class CallFollower:
    """One call as one observer follows it; every method may be left as it is."""

    __slots__ = ()

    is_current = False
    """Whether there is something to become current: `enter`, `exit` and headers."""
    chunk: Callable[[bytes, float], None] | None = None
    """Given each piece of the body as it came, with the clock's reading in seconds."""
    pieces: Callable[[Sequence[bytes], Sequence[float]], None] | None = None
    """Given the same some pieces at a time, which costs next to nothing; copy what you keep.

    The last ones come before `end`; subtract the record's `sent_at` from the readings.
    """

    def add_headers(self, headers: dict[str, str]) -> None:
        """Add what is to go out with the request (trace context)."""

    def enter(self) -> None:
        """Become current; called before the request is sent, and before `end`."""

    def exit(self) -> None:
        """Undo `enter`; called on the same thread and in the same context."""

    def end(self, record: CallRecord) -> None:
        """Take the finished record; called once."""


class Observer(Protocol):
    """What is told of every call.

    One with an attribute `keeps_request` that is true finds the bytes of the request in
    `CallStart.content`.
    """

    def begin(self, start: CallStart) -> CallFollower | None:
        """Return what follows this call, or None to leave it alone."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrumentation:
    """Who is told of calls, and by which clocks they are timed."""

    observers: tuple[Observer, ...]
    is_suppressed: Callable[[], bool] = lambda: False
    """Whether calls made right now are to be left alone."""
    keeps_content: bool = False
    """Whether requests and answers are kept in the record."""
    keeps_request: bool = False
    """Whether the request's bytes are kept in `CallStart.content`."""
    clock: Callable[[], float] = time.perf_counter
    """Seconds, monotonic."""
    wall_clock: Callable[[], int] = time.time_ns
    """Nanoseconds since the epoch."""


class Exchange:
    """Follows one call; fed facts, it hands one record to the observers, once.

    A shell puts `sending` around the request, tells `head` how the answer begins, puts
    `receiving` around the body, and calls `close` when the body is closed.
    """

    __slots__ = (
        "_answer",
        "_began",
        "_content_encoding",
        "_content_type",
        "_current",
        "_is_from_network",
        "_observations",
        "_recording",
        "_status",
        "is_finished",
        "start",
    )

    def __init__(self, recording: Instrumentation, start: CallStart) -> None:
        self.start = start
        self.is_finished = False
        self._recording = recording
        self._status: int | None = None
        self._content_type: str | None = None
        self._content_encoding: str | None = None
        self._is_from_network = False
        self._answer: Answer | None = None
        self._observations: list[CallFollower] = []
        self._current: list[CallFollower] = []
        _process.watch_collector()
        _process.catch_up()
        for observer in recording.observers:
            try:
                observation = observer.begin(start)
                if observation is None:
                    continue
                is_current = observation.is_current
            except Exception as fault:  # noqa: BLE001 - an observer may be anybody's
                guard.caught(f"{type(observer).__name__} began to follow a call", fault)
                continue
            self._observations.append(observation)
            if is_current:
                self._current.append(observation)
        self._began = recording.clock()

    def outgoing_headers(self) -> dict[str, str]:
        """Return the headers that the observers send along."""
        headers: dict[str, str] = {}
        for observation in self._current:
            try:
                observation.add_headers(headers)
            except Exception as fault:  # noqa: BLE001
                guard.caught(f"{type(observation).__name__} wrote headers", fault)
        return headers

    def sending(self) -> _Sending:
        """Return the block to put around asking the inner transport, sync or async."""
        return _Sending(self)

    def head(
        self,
        status: int,
        *,
        content_type: str,
        content_encoding: str,
        is_from_network: bool = False,
    ) -> Answer:
        """Take in how the answer begins, and return what watches its body."""
        request = self.start.request
        self._is_from_network = is_from_network
        self._status = status
        self._content_type, self._content_encoding = content_type, content_encoding or None
        self._answer = answer_for(
            self.start.endpoint,
            clock=self._recording.clock,
            status=status,
            is_stream=request.stream and not content_type.startswith("application/json"),
            watches_tools=bool(request.tools),
            content_encoding=content_encoding,
            keeps_text=self._recording.keeps_content,
            listeners=[o.chunk for o in self._observations if o.chunk is not None],
            batch_listeners=[o.pieces for o in self._observations if o.pieces is not None],
        )
        return self._answer

    def receiving(self) -> _Receiving:
        """Return the block to put around the body's iteration."""
        return _Receiving(self)

    def close(self) -> None:
        """The caller closed the body, whether or not its end had come."""
        self._finish(None, is_whole=False)

    def exhausted(self) -> None:
        """The body came to its clean end."""
        self._finish(None, is_whole=True)

    def interrupted(self, cause: BaseException) -> None:
        """An exception is on its way to the caller; a closed generator or coroutine is none."""
        self._finish(None if isinstance(cause, GeneratorExit) else cause, is_whole=False)

    # --- the end --------------------------------------------------------------------------

    def _finish(self, cause: BaseException | None, *, is_whole: bool) -> None:
        if self.is_finished:
            return
        self.is_finished = True
        try:
            record = self._record(cause, is_whole=is_whole)
        except Exception as fault:  # noqa: BLE001 - whatever we got wrong, the caller goes on
            guard.caught("putting a record together", fault)
            return
        finally:
            self._answer = None
        _process.run_or_defer(self._tell, record)

    def _tell(self, record: CallRecord) -> None:
        self.enter()
        try:
            for observation in self._observations:
                try:
                    observation.end(record)
                except Exception as fault:  # noqa: BLE001
                    guard.caught(f"{type(observation).__name__} took a record", fault)
        finally:
            self.exit()
            self._observations = self._current = []

    def enter(self) -> None:
        """Let the observations become current."""
        for observation in self._current:
            try:
                observation.enter()
            except Exception as fault:  # noqa: BLE001
                guard.caught(f"{type(observation).__name__} became current", fault)

    def exit(self) -> None:
        """Undo `enter`, in the opposite order."""
        for observation in reversed(self._current):
            try:
                observation.exit()
            except Exception as fault:  # noqa: BLE001
                guard.caught(f"{type(observation).__name__} stopped being current", fault)

    def _record(self, cause: BaseException | None, *, is_whole: bool) -> CallRecord:
        now, answer = self._recording.clock(), self._answer
        facts, text = native.ResponseFacts(), None
        if answer is not None:
            try:
                facts, text = answer.facts(), answer.text()
            except Exception as fault:  # noqa: BLE001 - a call must end, with or without its facts
                guard.caught("reading the end of an answer", fault)
        outcome, error_type, message = self._judge(facts, cause, is_whole=is_whole)
        first_chunk_at = first_answer_at = gap = held = None
        if answer is not None and answer.chunk_count:
            first_chunk_at, first_answer_at = answer.first_chunk_at, answer.first_answer_at
            gap = answer.longest_gap if answer.longest_gap >= 0 else None
            # A pull without a piece is a wait that the end cut short, and so no hold.
            until = answer.pulls[-1] if answer.pulls else now
            held = max(0.0, until - answer.started_at - answer.waited)
        return CallRecord(
            start=self.start,
            outcome=outcome,
            error_type=error_type,
            error_message=message,
            http_status=self._status,
            response=facts,
            duration=now - self._began,
            time_to_first_chunk=None if first_chunk_at is None else first_chunk_at - self._began,
            time_to_first_answer=None if first_answer_at is None else first_answer_at - self._began,
            chunk_count=0 if answer is None else answer.chunk_count,
            longest_gap=gap,
            held_by_caller=held,
            response_size=0 if answer is None else answer.size,
            progress=answer.progress if isinstance(answer, ProgressStream) else None,
            answer=text,
            sent_at=self._began,
            content_type=self._content_type,
            content_encoding=self._content_encoding,
            is_from_network=self._is_from_network,
        )

    def _judge(
        self, facts: native.ResponseFacts, cause: BaseException | None, *, is_whole: bool
    ) -> tuple[Outcome, failures.ErrorType | None, str | None]:
        """Say how the call ended; the first that holds decides."""
        status, answer = self._status, self._answer
        if cause is not None and failures.is_cancellation(cause):
            return "cancelled", None, None
        if status == 404 and self.start.endpoint.missing_is_an_answer:  # noqa: PLR2004
            return "completed", None, None
        if status is not None and status >= 400:  # noqa: PLR2004 - HTTP's errors
            text = failures.error_text(getattr(answer, "body", b""))
            return "failed", failures.from_server(status, text), text or f"HTTP status {status}"
        if cause is not None:
            return "failed", failures.from_exception(cause), failures.exception_text(cause)
        if facts.error is not None:
            text = failures.error_text(facts.error.encode())
            return "failed", failures.from_server(None, text), text
        return self._judge_body(facts, is_whole=is_whole)

    def _judge_body(
        self, facts: native.ResponseFacts, *, is_whole: bool
    ) -> tuple[Outcome, failures.ErrorType | None, str | None]:
        """Say how a call ended in which nobody spoke of an error."""
        status, answer = self._status, self._answer
        if facts.done or (status is not None and status >= 300):  # noqa: PLR2004 - a redirect
            return "completed", None, None
        if not is_whole:
            return "abandoned", None, None
        if answer is not None and answer.is_unreadable:
            # All of it came, in an encoding that only the caller can undo.
            return "completed", None, None
        if answer is not None and answer.is_malformed:
            return "failed", "protocol", "the answer is not what an Ollama server sends"
        return "failed", "incomplete", "the answer ended without its final message"


class _Sending:
    """Around the request: the observations are current, and what comes out of it is noted."""

    __slots__ = ("_call",)

    def __init__(self, call: Exchange) -> None:
        self._call = call

    def __enter__(self) -> None:
        self._call.enter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        cause: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._call.exit()
        if cause is not None:
            self._call.interrupted(cause)


class _Receiving:
    """Around the body's iteration: tells a clean end, an early one and a fault apart."""

    __slots__ = ("_call",)

    def __init__(self, call: Exchange) -> None:
        self._call = call

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        cause: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if cause is None:
            self._call.exhausted()
        else:
            self._call.interrupted(cause)
