"""A circuit breaker for one server as a state machine; times are arguments.

Closed: calls pass, and if enough of them failed within the window, it opens. Open: no call passes
for a time. Half-open: some calls pass as probes; the first that fails opens it again, and if all
of them succeed, it is closed.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from msgspec import Struct

from ollama_otel._resilience.registry import CircuitState

__all__ = ["Circuit", "Pass", "Threshold"]

_PARTS: Final = 10
"""Parts of the window that are counted together."""


class Threshold(Struct, frozen=True, kw_only=True):
    """When a circuit opens, and for how long."""

    failure_rate: float
    """Share of failed calls, above 0 to 1."""
    window: float
    """Seconds."""
    minimum_calls: int
    """Calls within the window that are needed to judge the rate."""
    open_for: float
    """Seconds."""
    probes: int
    """Calls that pass while it is half-open."""


class Pass(Struct, frozen=True, kw_only=True):
    """Permits one call; its result counts only in the period in which it was given."""

    period: int


class Circuit:
    """The circuit of one server."""

    def __init__(self, threshold: Threshold) -> None:
        self._threshold = threshold
        self._period = 0
        self._opened_at: float | None = None
        self._probes = 0
        self._passed_probes = 0
        self._parts: deque[tuple[int, list[int]]] = deque()
        """Calls and failures of each part of the window, by its number."""

    def state(self, now: float) -> CircuitState:
        """Return its state now."""
        if self._opened_at is None:
            return "closed"
        return "open" if now < self._opened_at + self._threshold.open_for else "half_open"

    def admits(self, now: float) -> bool:
        """Whether `enter` would return a pass."""
        state = self.state(now)
        return state == "closed" or (state == "half_open" and self._probes < self._threshold.probes)

    def enter(self, now: float) -> Pass | None:
        """Return a pass for a call; None if it may not be sent."""
        if not self.admits(now):
            return None
        if self._opened_at is not None:
            self._probes += 1
        return Pass(period=self._period)

    def succeeded(self, given: Pass, now: float) -> None:
        """Note that the server works: it answered a call, or rejected an invalid request."""
        if given.period != self._period:
            return
        if self._opened_at is None:
            self._count(now, is_failure=False)
            return
        self._passed_probes += 1
        if self._passed_probes >= self._threshold.probes:
            self._begin(None)

    def failed(self, given: Pass, now: float) -> None:
        """Note a failure that is caused by the server."""
        if given.period != self._period:
            return
        if self._opened_at is None:
            self._count(now, is_failure=True)
            calls, failures = map(sum, zip(*(part for _, part in self._parts), strict=True))
            too_many = failures >= self._threshold.failure_rate * calls
            if calls < self._threshold.minimum_calls or not too_many:
                return
        self._begin(now)

    def forgotten(self, given: Pass) -> None:
        """Note a cancelled call, which says nothing about the server."""
        if given.period == self._period and self._opened_at is not None:
            self._probes -= 1

    def _begin(self, opened_at: float | None) -> None:
        self._opened_at = opened_at
        self._period += 1
        self._probes = self._passed_probes = 0
        self._parts.clear()

    def _count(self, now: float, *, is_failure: bool) -> None:
        number = int(now * _PARTS / self._threshold.window)
        while self._parts and self._parts[0][0] <= number - _PARTS:
            self._parts.popleft()
        if not self._parts or self._parts[-1][0] != number:
            self._parts.append((number, [0, 0]))
        counts = self._parts[-1][1]
        counts[0] += 1
        counts[1] += is_failure
