"""The simulated clock and the planned actions."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any

__all__ = ["Timeline"]


class Timeline:
    """Runs planned actions in the order of their times; those of one time as they were planned."""

    def __init__(self) -> None:
        self.now = 0.0
        """Seconds."""
        self._plans: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._order = count()

    def at(self, time: float, action: Callable[..., object], *arguments: Any) -> None:
        """Plan an action; a time in the past is now."""
        heappush(self._plans, (max(time, self.now), next(self._order), action, arguments))

    def run(self, until: float) -> None:
        """Run all actions until a time, those that they plan included."""
        plans = self._plans
        while plans and plans[0][0] <= until:
            self.now, _, action, arguments = heappop(plans)
            action(*arguments)
