"""Sums amounts over the last seconds, and computes when the sum falls below a limit."""

from __future__ import annotations

from collections import deque

__all__ = ["Window"]


class Window:
    """A limit on the sum of amounts in any span of `seconds`; times are of one monotonic clock."""

    __slots__ = ("_entries", "_limit", "_seconds", "_total")

    def __init__(self, limit: int, seconds: float = 60.0) -> None:
        self._limit = limit
        self._seconds = seconds
        self._entries: deque[tuple[float, int]] = deque()
        self._total = 0

    def add(self, amount: int, now: float) -> None:
        """Count an amount that was used now."""
        self._forget(now)
        self._entries.append((now, amount))
        self._total += amount

    def free_at(self, now: float) -> float:
        """Return when the sum is below the limit: `now`, or a later time."""
        self._forget(now)
        excess = self._total - self._limit
        if excess < 0:
            return now
        for at, amount in self._entries:
            excess -= amount
            if excess < 0:
                return at + self._seconds
        return now

    def used(self, now: float) -> int:
        """Return the sum of the last `seconds`."""
        self._forget(now)
        return self._total

    def _forget(self, now: float) -> None:
        entries = self._entries
        while entries and entries[0][0] + self._seconds <= now:
            self._total -= entries.popleft()[1]
