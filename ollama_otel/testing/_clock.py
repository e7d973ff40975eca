"""A clock that moves only when it is read, or by `advance`."""

from __future__ import annotations

__all__ = ["TickingClock"]


class TickingClock:
    """Gives `start`, `start + step`, ... at each reading, in seconds."""

    def __init__(self, start: float = 0.0, step: float = 1.0) -> None:
        self.now: float = start
        self.step: float = step

    def __call__(self) -> float:
        """Read the clock, which moves on by one step."""
        reading = self.now
        self.now += self.step
        return reading

    def advance(self, seconds: float) -> None:
        """Let time go by."""
        self.now += seconds
