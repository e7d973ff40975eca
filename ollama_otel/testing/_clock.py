"""A clock that moves only when it is read, or by `advance`."""

from __future__ import annotations

__all__ = ["TickingClock"]


class TickingClock:
    """Returns `start`, `start + step`, ... at each reading, in seconds."""

    def __init__(self, start: float = 0.0, step: float = 1.0) -> None:
        self.now: float = start
        """The next reading, seconds."""
        self.step: float = step
        """Seconds from one reading to the next."""

    def __call__(self) -> float:
        """Return the time, and advance the clock by one step."""
        reading = self.now
        self.now += self.step
        return reading

    def advance(self, seconds: float) -> None:
        """Advance the clock."""
        self.now += seconds
