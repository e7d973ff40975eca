"""The heart: what happened in one call, told by whoever moves its bytes, becomes one record.

No I/O, no clock of its own, no OpenTelemetry, no httpx.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol

from ollama_otel._answer import Answer, AnswerText, ProgressStream, answer_for
from ollama_otel._guard import guard
from ollama_otel._wire import failures, native
from ollama_otel._wire.endpoints import Endpoint
from ollama_otel._wire.frozen import frozen
from ollama_otel.context import CallContext

__all__ = [
    "CallRecord",
    "CallRecorder",
    "CallStart",
    "Observation",
    "Observer",
    "Outcome",
    "Phase",
    "Recording",
]

Outcome = Literal["completed", "abandoned", "cancelled", "failed"]
"""How a call ended.

`completed`: the final message was seen; `abandoned`: the caller closed the stream
early; `cancelled`: its task was cancelled; `failed`: everything else.
"""

Phase = Literal["load", "queue_estimate", "prompt_eval", "eval", "unaccounted", "client"]
"""Where the time of a call goes, in this order.

`client` is what the client's clock measured beyond the server's total: network, and the
caller's own pace. `unaccounted` is the rest in the server where that is no wait for a
slot, and all the time of a call of which the server said nothing.
"""

# A caller that leaves bytes unread can fill the socket, and the server then waits for it:
# from here on its timings say something about the caller.
_BACKPRESSURE_BYTES = 64 * 1024
_BACKPRESSURE_SHARE = 0.1


@frozen
class CallStart:
    """What is known when a request is about to be sent."""

    endpoint: Endpoint
    request: native.RequestFacts
    server_address: str | None
    """Host, from the request's URL."""
    server_port: int | None
    started_at: int
    """Nanoseconds since the epoch, by the wall clock."""
    context: CallContext


@frozen
class CallRecord:
    """One call, ended. Seconds are floats, sizes bytes; None means not known."""

    start: CallStart
    outcome: Outcome
    error_type: failures.ErrorType | None
    """From a closed list, only of a failed call."""
    error_message: str | None
    http_status: int | None
    response: native.ResponseFacts
    duration: float
    """Seconds from the request to the end, by the client's clock."""
    time_to_first_chunk: float | None
    """Seconds until the first bytes of a stream."""
    time_to_first_answer: float | None
    """Seconds until the first answer text of a stream, thinking apart."""
    chunk_count: int
    """Lines of a stream that came, the final one included; no count of tokens."""
    longest_gap: float | None
    """Longest wait for one further chunk of a stream; the caller's own time is not in it."""
    held_by_caller: float | None
    """Seconds of a stream in which the caller did not ask for more."""
    response_size: int
    """Bytes of the body, as they came over the wire."""
    progress: native.Progress | None
    answer: AnswerText | None
    """What was said, only while content is captured."""

    @property
    def is_redirect(self) -> bool:
        """Whether the server only pointed elsewhere; the call goes on with another request."""
        return self.http_status is not None and 300 <= self.http_status < 400  # noqa: PLR2004

    @property
    def finish_reason(self) -> str | None:
        """Why generation ended; the server says `stop` for tool calls too."""
        reason = self.response.done_reason
        return "tool_call" if reason == "stop" and self.response.tool_calls else reason

    @property
    def queue_estimate(self) -> float | None:
        """Estimated seconds of waiting for a slot: what no phase of the server accounts for.

        None where the rest means something else: two runs in one call (a format and
        thinking), images being encoded, or a caller so slow that the server waited.
        """
        response, request = self.response, self.start.request
        total, load = response.total_duration, response.load_duration
        prompt, generation = response.prompt_eval_duration, response.eval_duration
        if total is None or load is None or prompt is None or generation is None:
            return None
        runs_twice = request.asks_for_json and (response.has_thinking or bool(request.think))
        stalls = (
            self.response_size > _BACKPRESSURE_BYTES
            and (self.held_by_caller or 0.0) > _BACKPRESSURE_SHARE * total
        )
        if runs_twice or request.image_count or stalls:
            return None
        return max(0.0, total - load - prompt - generation)

    @property
    def phases(self) -> dict[Phase, float]:
        """Seconds of each phase that is known; together they make up the duration."""
        response = self.response
        total, queue = response.total_duration, self.queue_estimate
        known: tuple[tuple[Phase, float | None], ...] = (
            ("load", response.load_duration),
            ("queue_estimate", queue),
            ("prompt_eval", response.prompt_eval_duration),
            ("eval", response.eval_duration),
        )
        phases: dict[Phase, float] = {name: spent for name, spent in known if spent is not None}
        rest = (self.duration if total is None else total) - sum(phases.values())
        if queue is None and rest > 0:
            phases["unaccounted"] = rest
        if total is not None:
            phases["client"] = max(0.0, self.duration - total)
        return phases

    @property
    def decode_rate(self) -> float | None:
        """Output tokens per second of generation, by the server's own clock."""
        tokens, seconds = self.response.output_tokens, self.response.eval_duration
        return tokens / seconds if tokens and seconds else None

    @property
    def prefill_rate_estimate(self) -> float | None:
        """Prompt tokens per second of prompt processing: too high when part was cached.

        The server counts all tokens but times only those that were not in its cache.
        """
        tokens, seconds = self.response.input_tokens, self.response.prompt_eval_duration
        return tokens / seconds if tokens and seconds else None


class Observation:
    """One call as one observer follows it; every method may be left as it is."""

    __slots__ = ()

    is_current = False
    """Whether there is something to become current: `enter`, `exit` and headers."""
    chunk: Callable[[bytes, float], None] | None = None
    """Given each piece of the body as it came, with the clock's reading in seconds."""

    def add_headers(self, headers: dict[str, str]) -> None:
        """Add what is to go out with the request (trace context)."""

    def enter(self) -> None:
        """Become current; called before the request is sent, and before `end`."""

    def exit(self) -> None:
        """Undo `enter`; called on the same thread and in the same context."""

    def end(self, record: CallRecord) -> None:
        """Take the finished record; called once."""


class Observer(Protocol):
    """What is told of every call."""

    def begin(self, start: CallStart) -> Observation | None:
        """Return what follows this call, or None to leave it alone."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Who is told of calls, and by which clocks they are timed."""

    observers: tuple[Observer, ...]
    is_suppressed: Callable[[], bool] = lambda: False
    """Whether calls made right now are to be left alone."""
    keeps_content: bool = False
    """Whether requests and answers are kept in the record."""
    clock: Callable[[], float] = time.perf_counter
    """Seconds, monotonic."""
    wall_clock: Callable[[], int] = time.time_ns
    """Nanoseconds since the epoch."""


class CallRecorder:
    """Follows one call; fed facts, it hands one record to the observers, once.

    A shell puts `sending` around the request, tells `head` how the answer begins, puts
    `receiving` around the body, and calls `close` when the body is closed.
    """

    __slots__ = (
        "_answer",
        "_began",
        "_current",
        "_observations",
        "_recording",
        "_status",
        "is_finished",
        "start",
    )

    def __init__(self, recording: Recording, start: CallStart) -> None:
        self.start = start
        self.is_finished = False
        self._recording = recording
        self._status: int | None = None
        self._answer: Answer | None = None
        self._observations: list[Observation] = []
        for observer in recording.observers:
            try:
                observation = observer.begin(start)
            except Exception as fault:  # noqa: BLE001 - an observer may be anybody's
                guard.caught(f"{type(observer).__name__} began to follow a call", fault)
                continue
            if observation is not None:
                self._observations.append(observation)
        self._current = [o for o in self._observations if o.is_current]
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

    def head(self, status: int, *, content_type: str, content_encoding: str) -> Answer:
        """Take in how the answer begins, and return what watches its body."""
        request = self.start.request
        self._status = status
        self._answer = answer_for(
            self.start.endpoint,
            clock=self._recording.clock,
            status=status,
            is_stream=request.stream and not content_type.startswith("application/json"),
            watches_tools=bool(request.tools),
            content_encoding=content_encoding,
            keeps_text=self._recording.keeps_content,
            listeners=[o.chunk for o in self._observations if o.chunk is not None],
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
        record = self._record(cause, is_whole=is_whole)
        self._answer = None
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

    def __init__(self, call: CallRecorder) -> None:
        self._call = call

    def __enter__(self) -> None:
        self._call.enter()

    def __exit__(
        self, kind: type[BaseException] | None, cause: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call.exit()
        if cause is not None:
            self._call.interrupted(cause)


class _Receiving:
    """Around the body's iteration: tells a clean end, an early one and a fault apart."""

    __slots__ = ("_call",)

    def __init__(self, call: CallRecorder) -> None:
        self._call = call

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, cause: BaseException | None, trace: TracebackType | None
    ) -> None:
        if cause is None:
            self._call.exhausted()
        else:
            self._call.interrupted(cause)
