"""Counts the events of a run, for a progress display."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from ollama_otel._load.quantiles import Quantiles, quantiles_of

__all__ = ["LoadProgress", "Tally"]

_RECENT: Final = 200
"""Number of latest requests that rates and percentiles cover."""
_FEWEST_ENDED: Final = 20
"""Ended requests that an error rate needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadProgress:
    """The state of a running run; rates and percentiles cover its latest 200 requests."""

    elapsed: float
    """Seconds since the start."""
    planned: int
    """Requests of the plan."""
    sent: int
    """Requests that were sent."""
    ended: int
    """Requests that have ended."""
    failed: int
    """Requests that failed."""
    in_flight: int
    """Requests that are open."""
    intended_rate: float | None
    """Intended requests per second; None for fewer than two."""
    achieved_rate: float | None
    """Achieved requests per second, of the same requests."""
    time_to_first_token: Quantiles | None
    """Seconds from the intended time to the first part of an answer."""
    schedule_delay: Quantiles | None
    """Seconds from the intended time until a request was sent."""


class Tally:
    """Collects events; times are seconds since the start."""

    def __init__(self, planned: int) -> None:
        self._planned = planned
        self._sent = self._ended = self._failed = 0
        self.in_flight = self.most_in_flight = 0
        self.last_sent = 0.0
        self._sends: deque[tuple[float, float]] = deque(maxlen=_RECENT)
        self._firsts: deque[float] = deque(maxlen=_RECENT)
        self._failures: deque[bool] = deque(maxlen=_RECENT)

    def sent(self, intended: float, at: float) -> None:
        self._sent += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.last_sent = at
        self._sends.append((intended, at))

    def answered(self, waited: float) -> None:
        self._firsts.append(waited)

    def ended(self) -> None:
        self.in_flight -= 1

    def judged(self, *, is_failed: bool) -> None:
        """Count the outcome of a request that was not cancelled."""
        self._ended += 1
        self._failed += is_failed
        self._failures.append(is_failed)

    @property
    def error_rate(self) -> float | None:
        """Fraction of the latest requests that failed; None until enough, or all, have ended."""
        if self._ended < min(_FEWEST_ENDED, self._planned):
            return None
        return sum(self._failures) / len(self._failures)

    def progress(self, now: float) -> LoadProgress:
        intended = [planned for planned, _ in self._sends]
        return LoadProgress(
            elapsed=max(0.0, now),
            planned=self._planned,
            sent=self._sent,
            ended=self._ended,
            failed=self._failed,
            in_flight=self.in_flight,
            intended_rate=_rate(intended),
            achieved_rate=_rate([at for _, at in self._sends]),
            time_to_first_token=quantiles_of(self._firsts),
            schedule_delay=quantiles_of(at - planned for planned, at in self._sends),
        )


def _rate(times: list[float]) -> float | None:
    if not times:
        return None
    is_all = len(times) < _RECENT
    span = max(times) - (0.0 if is_all else min(times))
    return (len(times) - (not is_all)) / span if span > 0 else None
