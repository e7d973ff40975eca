"""Plays one logged call: yields pieces and pauses, but does not sleep itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import httpx

from ollama_otel._log.call import RecordedCall
from ollama_otel.errors import ReplayEndedError, SettingsError
from ollama_otel.records import ErrorType

__all__ = ["Playback", "check_speed"]

_GRACE: Final = 1.0
"""Seconds after the logged cancellation in which the task can be cancelled again."""

_BY_NAME: Final[Mapping[str, type[httpx.RequestError]]] = {
    name: each
    for name, each in vars(httpx).items()
    if isinstance(each, type) and issubclass(each, httpx.RequestError)
}
# For exceptions of other libraries, and logs without an exception class.
_BY_TYPE: Final[Mapping[ErrorType, type[httpx.RequestError]]] = {
    "connect": httpx.ConnectError,
    "timeout": httpx.ReadTimeout,
    "network": httpx.ReadError,
    "incomplete": httpx.RemoteProtocolError,
    "protocol": httpx.RemoteProtocolError,
    "invalid_request": httpx.UnsupportedProtocol,
}


def check_speed(speed: float) -> float:
    """Return a speed; raises `SettingsError` if it is negative or infinite."""
    if not 0 <= speed < math.inf:
        raise SettingsError(f"speed must be 0 (no waiting) or more, not {speed!r}")
    return speed


class Playback:
    """The playback of a logged call, which starts with its request.

    Times are absolute, so that delays do not add up: a piece at an offset in seconds is due at
    the start plus offset / speed. The caller sleeps for each float that `head` and `body` yield.
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
        """Start now; `patience` (the read timeout) and `slow` (a wait per piece) are in seconds."""
        self.call = call
        self._speed = speed
        self._clock = clock
        self._patience = patience
        self._slow = slow
        self._began = clock()
        self._fault = _fault(call)

    @property
    def status(self) -> int | None:
        """The HTTP status; None if no response came, and `head` raises."""
        return None if self.call.record is None else self.call.record.http_status

    @property
    def content_type(self) -> str | None:
        """The response's `Content-Type`."""
        return None if self.call.record is None else self.call.record.content_type

    def head(self) -> Iterator[float]:
        """Yield the seconds to wait for the head; raises the logged exception if there was none.

        As with Ollama, the head comes together with the first piece of the body.
        """
        if self.status is None:
            yield from self._broken()
        if self.call.chunks:
            yield from self._until(self.call.chunks[0].offset, late=self._slow)
        else:
            yield from self._until(self._end)

    def body(self) -> Iterator[float | bytes]:
        """Yield the body's pieces, and between them the seconds to wait; raises its exception."""
        for number, (offset, piece) in enumerate(self.call.chunks or (), 1):
            yield from self._until(offset, late=number * self._slow)
            yield piece
        if self._fault is not None:
            yield from self._broken()

    @property
    def _end(self) -> float:
        return 0.0 if self.call.record is None else self.call.record.duration

    def _broken(self) -> Iterator[float]:
        ending = None if self.call.record is None else self.call.record.ending
        if ending != "closed_early":
            slow = self._slow * len(self.call.chunks or ())
            grace = _GRACE if ending == "cancelled" else 0.0
            yield from self._until(self._end, late=slow + grace)
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
    """Return the exception after the last piece; None for a clean end."""
    record = call.record
    if record is None:
        return None
    if record.ending in {"closed_early", "cancelled"}:
        return _ended(call)
    if record.ending != "exception":
        return None
    name, message = record.exception_type or "", record.error_message or ""
    # The message of a record is the exception's class if the exception has no message.
    message = "" if message == name else message
    by_type = _BY_TYPE.get(record.error_type or "_OTHER", httpx.RequestError)
    return _BY_NAME.get(name, by_type)(message)


def _ended(call: RecordedCall) -> ReplayEndedError:
    count = len(call.chunks or ())
    outcome = "ended" if call.record is None else f"was {call.record.outcome}"
    return ReplayEndedError(
        f"the recording of {call.start.endpoint.method} {call.path} ({call.file.name}, "
        f"line {call.line}) stops here, after {count} piece{'' if count == 1 else 's'}: the call "
        f"{outcome}, as its caller had left; read no further, or record it to its end"
    )
