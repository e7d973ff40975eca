"""Virtual time, and what happens in it."""

from __future__ import annotations

import bisect
import heapq
import itertools
import time
from collections.abc import Generator

Happening = Generator[float, None, None]
"""Yields seconds to wait."""


class VirtualClock:
    """Seconds since the epoch, in virtual time; steps through what happens, in its order."""

    def __init__(self, begins: float) -> None:
        self.now = begins
        self._due: list[tuple[float, int, Happening]] = []
        self._order = itertools.count()
        self._marks = [0]
        self._times = [begins]

    def __call__(self) -> float:
        return self.now

    def at(self, when: float, happening: Happening) -> None:
        """Let something begin at a time."""
        heapq.heappush(self._due, (when, next(self._order), happening))

    def run_until(self, end: float) -> None:
        """Let everything happen that is due until a time."""
        while self._due and self._due[0][0] <= end:
            when, _, happening = heapq.heappop(self._due)
            self._go_to(when)
            wait = next(happening, None)
            if wait is not None:
                self.at(self.now + wait, happening)
        self._go_to(end)

    def _go_to(self, when: float) -> None:
        if when > self.now:
            self.now = when
            self._marks.append(time.time_ns())
            self._times.append(when)

    def virtual(self, real_ns: int) -> int:
        """Return the virtual time, in nanoseconds, at a real time in nanoseconds."""
        index = bisect.bisect_right(self._marks, real_ns) - 1
        return int(self._times[max(0, index)] * 1e9)
