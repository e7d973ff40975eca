"""The course of one call through its attempts, without I/O.

`Course.run` is a generator: it yields steps, gets each result by `send` or the exception by
`throw`, and returns the response or raises the caller's exception. Shells execute the steps; they
differ by `await` only.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Generator
from itertools import islice
from typing import Any, Final, NamedTuple, TypeAlias

from ollama_otel._guard import guard
from ollama_otel._resilience.breaker import Trip
from ollama_otel._resilience.ending import Ending
from ollama_otel._resilience.journal import Journal, Reporter
from ollama_otel._resilience.limiter import Place
from ollama_otel._resilience.policy import Fallback, Resilience
from ollama_otel._resilience.rejections import (
    CircuitOpenError,
    DeadlineError,
    QueueFullError,
    QueueTimeoutError,
    rejection_of,
)
from ollama_otel._resilience.retries import BROKEN, MAY_FALL_BACK, is_repeatable, seconds_of
from ollama_otel._resilience.target import Target, fallback_target, first_target
from ollama_otel._wire import failures
from ollama_otel._wire.encoding import (
    LONGEST_PART,
    InflatedBodyError,
    UnreadableEncodingError,
    decoder_for,
)
from ollama_otel._wire.endpoints import dialect_of
from ollama_otel.errors import CallRejectedError
from ollama_otel.records import CallRecord, Endpoint, ErrorType

__all__ = ["Close", "Course", "Kept", "Pause", "Queue", "Read", "Result", "Send", "Step"]

_FIRST_ERROR: Final = 400
_MAY_PASS: Final = frozenset({429, 500, 502, 503, 504, 529})
"""Statuses that may be temporary, if the type of the error is temporary too."""


class Send(NamedTuple):
    """Send the request, and give its response."""

    request: Any


class Read(NamedTuple):
    """Read the response's body, and give it as `Kept`."""

    response: Any


class Close(NamedTuple):
    """Close the response."""

    response: Any


class Pause(NamedTuple):
    """Wait."""

    seconds: float


class Queue(NamedTuple):
    """Wait in the queue of the limiter."""

    place: Place


Step: TypeAlias = Send | Read | Close | Pause | Queue


class Kept:
    """The body of an error response, as far as it was read."""

    MOST: Final = 1024 * 1024
    """Most bytes that are read; the rest of a longer body stays in the response."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.size = 0
        self.error: Exception | None = None
        """The exception that ended the body."""
        self.rest: Any = None
        """The iterator for the rest of the body, if there may be more."""

    def take(self, piece: bytes) -> bool:
        """Keep a piece; returns whether to read on."""
        self.pieces.append(piece)
        self.size += len(piece)
        return self.size < self.MOST


class Result:
    """The result of one attempt."""

    __slots__ = ("ending", "error", "error_type", "is_sent", "kept", "response", "target")

    def __init__(self, target: Target, *, is_sent: bool = True) -> None:
        self.target = target
        self.is_sent = is_sent
        self.response: Any = None
        self.kept: Kept | None = None
        self.error: Exception | None = None
        self.error_type: ErrorType | None = None
        """None if it succeeded, or if its error cannot be classified."""
        self.ending: Ending | None = None
        """Called when the body of a live response ends."""


class Course:
    """One call of the caller."""

    def __init__(
        self,
        policy: Resilience,
        http: Any,
        request: Any,
        endpoint: Endpoint,
        reporter: Reporter | None,
    ) -> None:
        self._policy = policy
        self._http = http
        self._request = request
        self._endpoint = endpoint
        limiter = policy.limiter if endpoint.moves_model else None
        self._limiter = limiter
        self._journal = Journal(reporter, None if limiter is None else self._settle)
        self._due_at = None if policy.deadline is None else time.monotonic() + policy.deadline
        self._is_in_memory = isinstance(request.stream, http.ByteStream)
        self._judges = bool(policy.retries or policy.breaker or policy.fallback)

    def run(self) -> Generator[Step, Any, Result]:
        """Yield the steps; returns the caller's `Result`, or raises the caller's exception."""
        result = yield from self._attempts(first_target(self._request))
        for target in self._fallbacks():
            if result.error_type not in MAY_FALL_BACK and result.is_sent:
                break
            self._journal.falls_back(result.error_type or "_OTHER", target)
            further = yield from self._attempts(target)
            # An error response of the server is more useful than the rejection of a fallback.
            if further.is_sent or not result.is_sent:
                result = further
        return self._delivered(result)

    def _fallbacks(self) -> list[Target]:
        if not (self._policy.fallback and self._is_in_memory and self._endpoint.moves_model):
            return []
        targets = map(self._fallback_target, self._policy.fallback)
        return [target for target in targets if target is not None]

    def _fallback_target(self, fallback: Fallback) -> Target | None:
        try:
            return fallback_target(self._http, self._request, self._endpoint, fallback)
        except Exception as fault:  # noqa: BLE001 - the caller gets what came so far
            guard.caught("making a request for a fallback", fault)
            return None

    # --- attempts -------------------------------------------------------------------------

    def _attempts(self, target: Target) -> Generator[Step, Any, Result]:
        result = yield from self._attempt(target)
        attempt = 1
        while (wait := self._wait_after(attempt, result)) is not None:
            self._journal.is_retried(result.error_type or "_OTHER", wait)
            yield Pause(wait)
            further = yield from self._attempt(target)
            if not further.is_sent:
                return result
            result = further
            attempt += 1
        return result

    def _wait_after(self, attempt: int, result: Result) -> float | None:
        """Return the seconds until the next attempt; None if there is none."""
        retries, error_type = self._policy.retries, result.error_type
        if retries is None or error_type is None or not (result.is_sent and self._is_in_memory):
            return None
        response = result.response
        if response is not None and response.status_code not in _MAY_PASS:
            return None
        if not is_repeatable(self._endpoint, error_type):
            return None
        header = None if response is None else response.headers.get("retry-after")
        try:
            wait = retries.wait_after(attempt, error_type, seconds_of(header, time.time()))
        except Exception as fault:  # noqa: BLE001 - a foreign strategy; the caller gets what came
            guard.caught("choosing the wait before another attempt", fault)
            return None
        left = self._left()
        if wait is None or (left is not None and wait >= left):
            return None
        breaker = self._policy.breaker
        return wait if breaker is None or breaker._admits(result.target.server) else None  # noqa: SLF001 - of the same package

    def _attempt(self, target: Target) -> Generator[Step, Any, Result]:
        result = Result(target)
        try:
            ending = yield from self._admission(target)
        except CallRejectedError as error:
            self._journal.is_rejected(rejection_of(error) or "deadline")
            result.is_sent, result.error = False, _without_traceback(error)
            return result
        self._journal.is_sent(target)
        restored = self._limit_time(target.request)
        try:
            response = yield Send(target.request)
            result.response = response
            if response.status_code < _FIRST_ERROR or not self._judges:
                result.ending = ending
                return result
            result.kept = yield Read(response)
            if result.kept.rest is None:
                yield Close(response)
        except Exception as error:  # noqa: BLE001 - the caller gets it, or the next attempt's
            result.error, result.error_type = error, failures.from_exception(error)
            ending.end(has_failed=result.error_type in BROKEN)
            return result
        except BaseException:
            ending.end(has_failed=None)
            raise
        finally:
            target.request.extensions = restored
        self._judge(result, ending)
        return result

    def _judge(self, result: Result, ending: Ending) -> None:
        """Find the type of an error that the server reported."""
        kept, response = result.kept, result.response
        if kept is None:
            return
        body = _decoded(b"".join(kept.pieces), response.headers.get("content-encoding", ""))
        text = dialect_of(self._endpoint).error_text(body)
        error_type = failures.from_server(response.status_code, text)
        has_failed = error_type in BROKEN and response.status_code in _MAY_PASS
        if kept.rest is not None:
            # Too long to be kept, so the caller gets it without further attempts.
            ending.has_failed = has_failed
            result.ending = ending
            return
        result.error_type = error_type
        ending.end(has_failed=has_failed)

    # --- before an attempt ----------------------------------------------------------------

    def _admission(self, target: Target) -> Generator[Step, Any, Ending]:
        """Wait until the attempt may be sent; raises `CallRejectedError` if it may not."""
        breaker, server = self._policy.breaker, target.server
        left = self._left()
        if left is not None and left <= 0:
            raise self._too_late()
        # Before the queue, so that calls do not wait for a server with an open circuit.
        if breaker is not None and not breaker._admits(server):  # noqa: SLF001 - of the same package
            raise _circuit_open(server)
        place = None if self._limiter is None else (yield from self._place(target, left))
        trip: Trip | None = None
        if breaker is not None:
            trip = breaker._enter(server)  # noqa: SLF001 - of the same package
            if trip is None:
                if place is not None:
                    place.leave()
                raise _circuit_open(server)
        return Ending(place, trip, self._due_at)

    def _place(self, target: Target, left: float | None) -> Generator[Step, Any, Place]:
        limiter = self._limiter
        assert limiter is not None  # noqa: S101 - for type checkers
        place, waited = limiter._enter(target.server, target.request, at_most=left), 0.0  # noqa: SLF001 - of the same package
        if place.state == "waiting":
            try:
                yield Queue(place)
            except BaseException:
                place.leave()
                raise
            waited = place.waited
        self._journal.has_waited(waited)
        if place.state == "granted":
            return place
        after = f"after {waited:.3g} s in the queue for {target.server}"
        if place.state == "queue_full":
            raise QueueFullError(f"the limiter's queue is full: the call was rejected {after}")
        if left is not None and waited >= left:
            raise self._too_late()
        raise QueueTimeoutError(f"the limiter had no slot for the call {after}")

    def _too_late(self) -> DeadlineError:
        return DeadlineError(f"the call took longer than its deadline of {self._policy.deadline} s")

    def _left(self) -> float | None:
        return None if self._due_at is None else self._due_at - time.monotonic()

    def _limit_time(self, request: Any) -> Any:
        """Give the request the time that is left, and return its extensions as they were."""
        extensions, left = request.extensions, self._left()
        if left is not None:
            known, left = extensions.get("timeout") or {}, max(left, 0.001)
            limits = {
                name: left if known.get(name) is None else min(known[name], left)
                for name in ("connect", "read", "write", "pool")
            }
            request.extensions = {**extensions, "timeout": limits}
        return extensions

    # --- after the last attempt -----------------------------------------------------------

    def _delivered(self, result: Result) -> Result:
        error = result.error
        rejection = None if error is None else rejection_of(error)
        self._journal.ends(result.target, rejection)
        if error is not None:
            result.error = None
            try:
                raise error
            finally:
                del error
        return result

    def _settle(self, server: str, record: CallRecord) -> None:
        facts = record.response
        if self._limiter is not None:
            self._limiter._settle(server, (facts.input_tokens or 0) + (facts.output_tokens or 0))  # noqa: SLF001 - of the same package


def _decoded(body: bytes, encoding: str) -> bytes:
    """Return the decoded beginning of a body; empty if it cannot be decoded."""
    try:
        decoder = decoder_for(encoding)
        if decoder is None:
            return body
        return b"".join(islice(decoder.parts(body), Kept.MOST // LONGEST_PART))
    except (UnreadableEncodingError, InflatedBodyError, zlib.error):
        return b""


def _circuit_open(server: str) -> CircuitOpenError:
    return CircuitOpenError(f"too many calls to {server} have failed: it gets none for a time")


def _without_traceback(error: CallRejectedError) -> Any:
    return error.with_traceback(None)
