"""The scrapes of one app, and the differences between two of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from ollama_otel._top.rates import rates_between
from ollama_otel._top.readings import ModelKey, Scrape
from ollama_otel._top.view import Rates

__all__ = ["ScrapeHistory"]


class ScrapeHistory:
    """The scrapes of the last `kept` seconds, two at least."""

    def __init__(self, kept: float) -> None:
        self._kept = kept
        self._scrapes: deque[tuple[float, Scrape]] = deque()

    @property
    def latest(self) -> Scrape | None:
        """The last scrape."""
        return self._scrapes[-1][1] if self._scrapes else None

    def add(self, scrape: Scrape, now: float) -> None:
        """Add a scrape; if the app counts from 0 again, the earlier ones are forgotten."""
        if self.latest is not None and _total(scrape) < _total(self.latest):
            self._scrapes.clear()
        self._scrapes.append((now, scrape))
        while len(self._scrapes) > 2 and self._scrapes[0][0] < now - self._kept:  # noqa: PLR2004
            self._scrapes.popleft()

    def clear(self) -> None:
        """Forget all scrapes."""
        self._scrapes.clear()

    def rates(self, window: float) -> Rates | None:
        """Return the rates of a window of this length, or a little more; None before two."""
        pair = self._pair(window)
        if pair is None:
            return None
        (before, earlier), (after, later) = pair
        return rates_between(earlier, later, window=after - before)

    def ended(self, window: float) -> Mapping[ModelKey, float]:
        """Return the calls of each model that ended within a window; empty before two."""
        pair = self._pair(window)
        return {} if pair is None else _difference(pair[0][1].ended, pair[1][1].ended)

    def loads(self, window: float) -> Mapping[ModelKey, float]:
        """Return the loads of each model within a window; empty before two."""
        pair = self._pair(window)
        return {} if pair is None else _difference(pair[0][1].loads, pair[1][1].loads)

    def _pair(self, window: float) -> tuple[tuple[float, Scrape], tuple[float, Scrape]] | None:
        """Return the oldest scrape of a window, or the one before the last, and the last."""
        if len(self._scrapes) < 2:  # noqa: PLR2004 - a count is of the time between two
            return None
        *earlier, last = self._scrapes
        first = next((each for each in earlier if each[0] >= last[0] - window), earlier[-1])
        return first, last


def _difference(
    earlier: Mapping[ModelKey, float], later: Mapping[ModelKey, float]
) -> Mapping[ModelKey, float]:
    return {key: count - earlier.get(key, 0.0) for key, count in later.items()}


def _total(scrape: Scrape) -> float:
    return sum(scrape.ended.values())
