"""Searches for the knee: the highest rate that a server holds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from ollama_otel._load.arrivals import FASTEST_RATE

__all__ = ["Knee", "KneeSearch"]

_RESOLUTION: Final = 1.1
"""The search ends when the lowest failed rate is at most this multiple of the highest held rate."""
_LOWEST: Final = 1 / 256
"""Lowest tried rate, as a fraction of the first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knee:
    """The bounds of the knee. Rates are requests per second."""

    holds: float | None
    """The highest rate that the server held; None if it held none."""
    breaks: float | None
    """The lowest rate that it did not hold; None if it held all."""

    @property
    def is_found(self) -> bool:
        """Whether the knee lies between two rates that were tried, at most 10 % apart."""
        return (
            self.holds is not None
            and self.breaks is not None
            and self.breaks <= self.holds * _RESOLUTION
        )


class KneeSearch:
    """Chooses the next rate: twice the last one until a rate fails, then rates in between."""

    def __init__(self, first: float) -> None:
        """`first` is the rate to begin with."""
        self._first = first
        self._holds: float | None = None
        self._breaks: float | None = None

    @property
    def knee(self) -> Knee:
        """The bounds so far."""
        return Knee(holds=self._holds, breaks=self._breaks)

    def next(self) -> float | None:
        """Return the rate to try next; None if the search has ended."""
        if self.knee.is_found:
            return None
        holds, breaks = self._holds, self._breaks
        if holds is None:
            lower = self._first if breaks is None else breaks / 2
            return lower if lower >= self._first * _LOWEST else None
        if breaks is None:
            return min(holds * 2, FASTEST_RATE) if holds < FASTEST_RATE else None
        return math.sqrt(holds * breaks)

    def add(self, rate: float, *, holds: bool) -> None:
        """Take the result of a rate. A rate below a held rate is assumed to hold as well."""
        if holds:
            self._holds = max(rate, self._holds or 0.0)
        elif self._holds is None or rate > self._holds:
            self._breaks = rate if self._breaks is None else min(rate, self._breaks)
