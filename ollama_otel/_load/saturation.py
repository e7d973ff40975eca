"""Detects, during a run, that a server does not keep up with the requests.

The test of GuideLLM, made strict: requests in flight and time to first token both rise, at 95 %
confidence. Neighbouring requests wait in the same queue and are not independent samples, so the
line is fitted to the means of a few time slices. In addition, the backlog has to exceed chance, as
the queue of a server that keeps up also grows for a while.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from ollama_otel._load.confidence import Slope, slope_of

__all__ = ["Saturation", "SaturationDetector"]

_SLOT: Final = 0.5
"""Seconds of the finest slices of time."""
_SLICES: Final = 10
"""Number of time slices that a line is fitted to."""
_LONGEST_WINDOW: Final = 120.0
"""Length of the window of the latest seconds."""
_SHARE: Final = 0.75
"""Fraction of the run in the window: at its beginning, requests in flight always rise."""
_FEWEST: Final = 20
"""Least requests within the window."""
_BACKLOG_SHARE: Final = 0.1
"""Least backlog, as a fraction of the requests of the window."""
_DEVIATIONS: Final = 2.0
"""Least backlog in standard deviations, which are sqrt(2 n) for n arrivals minus n ends."""
_SLOWDOWN: Final = 1.5
"""Times by which the time to first token has to rise within the window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saturation:
    """The evidence that the server does not keep up."""

    in_flight: Slope
    """Requests in flight over the seconds of the run."""
    time_to_first_token: Slope
    """Seconds to the first token over the seconds of the run."""

    def __str__(self) -> str:
        """Return it as a sentence without a full stop."""
        flight, first = self.in_flight, self.time_to_first_token
        return (
            f"requests in flight rose from {max(0.0, flight.start):.0f} to {flight.end:.0f} and "
            f"time to first token from {max(0.0, first.start):.2g} s to {first.end:.2g} s, and "
            "both kept rising"
        )


@dataclass(slots=True)
class _Slot:
    """Sums of one time slot."""

    sent: int = 0
    in_flight: float = 0.0
    answered: int = 0
    waited: float = 0.0


class SaturationDetector:
    """Collects the events of a run; times are seconds since its start."""

    def __init__(self, *, minimum: float = 10.0) -> None:
        """`minimum` is the number of seconds before which nothing is detected."""
        self._minimum = minimum
        self._slots: dict[int, _Slot] = {}
        self._first_end = math.inf

    def sent(self, at: float, in_flight: int) -> None:
        """Note a sent request, and the number of requests in flight."""
        slot = self._slot(at)
        slot.sent += 1
        slot.in_flight += in_flight

    def answered(self, at: float, waited: float) -> None:
        """Note a first token, `waited` seconds after the request's intended time."""
        slot = self._slot(at)
        slot.answered += 1
        slot.waited += waited

    def ended(self, at: float) -> None:
        """Note the end of a request; before the first end, requests in flight can only rise."""
        self._first_end = min(self._first_end, at)

    def find(self, now: float) -> Saturation | None:
        """Return the evidence that the server does not keep up; None if there is none."""
        window = min(_SHARE * now, now - self._first_end, _LONGEST_WINDOW)
        if now < self._minimum or window < _SLICES * _SLOT:
            return None
        slices = [
            self._sum(now - window + window * number / _SLICES, window / _SLICES)
            for number in range(_SLICES)
        ]
        count = sum(each.sent for _, each in slices)
        if count < _FEWEST:
            return None
        flight = slope_of([(at, of.in_flight / of.sent) for at, of in slices if of.sent])
        first = slope_of([(at, of.waited / of.answered) for at, of in slices if of.answered])
        if flight is None or first is None or not (flight.is_positive and first.is_positive):
            return None
        by_chance = _DEVIATIONS * math.sqrt(2 * count)
        if flight.end - flight.start < max(by_chance, _BACKLOG_SHARE * count):
            return None
        if first.end < _SLOWDOWN * max(first.start, 0.0):
            return None
        return Saturation(in_flight=flight, time_to_first_token=first)

    def _slot(self, at: float) -> _Slot:
        return self._slots.setdefault(int(at / _SLOT), _Slot())

    def _sum(self, begin: float, length: float) -> tuple[float, _Slot]:
        total = _Slot()
        for number in range(int(begin / _SLOT), int((begin + length) / _SLOT)):
            if slot := self._slots.get(number):
                total.sent += slot.sent
                total.in_flight += slot.in_flight
                total.answered += slot.answered
                total.waited += slot.waited
        return begin + length / 2, total
