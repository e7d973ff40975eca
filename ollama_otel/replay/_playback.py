"""One recorded call being played: what comes next, and when; waits for nothing itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import httpx

from ollama_otel._log.call import RecordedCall
from ollama_otel._wire.failures import ErrorType
from ollama_otel.errors import ReplayEndedError, SettingsError

__all__ = ["Playback", "check_speed"]

_FIRST_ERROR = 400
_GRACE = 1.0
"""Seconds beyond the time at which a task was cancelled, for it to be cancelled again."""

# What an answer ends with that came whole and was not what was promised: no exception.
_CLEAN_ENDS = frozenset(
    {
        "the answer ended without its final message",
        "the answer is not what an Ollama server sends",
    }
)
_BY_TYPE: Mapping[ErrorType, type[httpx.RequestError]] = {
    "connect": httpx.ConnectError,
    "timeout": httpx.ReadTimeout,
    "network": httpx.ReadError,
    "incomplete": httpx.RemoteProtocolError,
    "protocol": httpx.RemoteProtocolError,
    "_OTHER": httpx.RequestError,
}
# An exception that says nothing was logged by its name.
_BY_NAME: Mapping[str, type[httpx.RequestError]] = {
    each.__name__: each
    for each in (
        *(httpx.ConnectTimeout, httpx.ReadTimeout, httpx.WriteTimeout, httpx.PoolTimeout),
        *(httpx.ConnectError, httpx.ReadError, httpx.WriteError, httpx.CloseError),
        *(httpx.ProxyError, httpx.RemoteProtocolError, httpx.LocalProtocolError),
    )
}


def check_speed(speed: float) -> float:
    """Return a speed; raises `SettingsError` for one that time cannot have."""
    if not 0 <= speed < math.inf:
        raise SettingsError(f"speed must be 0 (no waiting) or more, not {speed!r}")
    return speed


class Playback:
    """A call from the moment at which it is asked for again.

    Times are absolute, so that lateness does not add up: what came at an offset in
    seconds is due at the start plus offset / speed. Whoever shows it sleeps for each
    float that `head` and `body` give.
    """

    def __init__(
        self,
        call: RecordedCall,
        *,
        speed: float,
        clock: Callable[[], float],
        patience: float = math.inf,
        slow: float = 0.0,
    ) -> None:
        """Start now; `patience` is the read timeout, `slow` a wait before each piece: seconds."""
        self.call = call
        self._speed = speed
        self._clock = clock
        self._patience = patience
        self._slow = slow
        self._began = clock()
        self._fault = _fault(call)

    @property
    def status(self) -> int | None:
        """The HTTP status; None where none came, and `head` raises."""
        return None if self.call.record is None else self.call.record.http_status

    @property
    def content_type(self) -> str | None:
        """As the answer's head had it."""
        return None if self.call.record is None else self.call.record.content_type

    def head(self) -> Iterator[float]:
        """Give the seconds to wait for the head; raises what was raised instead of one.

        As with Ollama, it comes together with the first piece of the body.
        """
        if self.status is None:
            yield from self._broken()
        if self.call.chunks:
            yield from self._until(self.call.chunks[0].offset, late=self._slow)
        else:
            yield from self._until(self._end)

    def body(self) -> Iterator[float | bytes]:
        """Give the body's pieces, and between them the seconds to wait; raises its fault."""
        for number, (offset, piece) in enumerate(self.call.chunks or (), 1):
            yield from self._until(offset, late=number * self._slow)
            yield piece
        if self._fault is not None:
            yield from self._broken()

    @property
    def _end(self) -> float:
        return 0.0 if self.call.record is None else self.call.record.duration

    def _broken(self) -> Iterator[float]:
        record = self.call.record
        is_cancelled = record is not None and record.outcome == "cancelled"
        is_abandoned = record is not None and record.outcome == "abandoned"
        if not is_abandoned:
            slow = self._slow * len(self.call.chunks or ())
            yield from self._until(self._end, late=slow + (_GRACE if is_cancelled else 0.0))
        raise self._fault or _ended(self.call)

    def _until(self, offset: float, *, late: float = 0.0) -> Iterator[float]:
        wait = 0.0
        if self._speed:
            wait = max(0.0, self._began + offset / self._speed + late - self._clock())
        if wait > self._patience:
            yield self._patience
            raise httpx.ReadTimeout("timed out")
        yield wait


def _fault(call: RecordedCall) -> Exception | None:
    """Return what a reader meets after the last piece; None for a plain end."""
    record = call.record
    if record is None or record.outcome == "completed":
        return None
    if record.outcome != "failed":
        return _ended(call)
    status, kind, message = record.http_status, record.error_type, record.error_message or ""
    if status is not None and (status >= _FIRST_ERROR or message in _CLEAN_ENDS):
        return None
    if named := _BY_NAME.get(message):
        return named("")
    if kind is not None and kind in _BY_TYPE:
        return _BY_TYPE[kind](message)
    # With a status every other type is one that the server told in a line of its stream.
    return httpx.UnsupportedProtocol(message) if status is None else None


def _ended(call: RecordedCall) -> ReplayEndedError:
    count = len(call.chunks or ())
    outcome = "ended" if call.record is None else f"was {call.record.outcome}"
    return ReplayEndedError(
        f"the recording of {call.start.endpoint.method} {call.path} ({call.file.name}, "
        f"line {call.line}) stops here, after {count} piece{'' if count == 1 else 's'}: the call "
        f"{outcome}, as its caller had left; read no further, or record it to its end"
    )
