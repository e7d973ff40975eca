"""Rates of calls that ended within a window: from the calls of a log, or from two scrapes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from ollama_otel._top.readings import Scrape
from ollama_otel._top.slots import WAITED
from ollama_otel._top.view import CallRow, Rates

__all__ = ["rates_between", "rates_of"]


def rates_of(calls: Sequence[CallRow], *, window: float) -> Rates:
    """Return the rates of the calls that ended in a window of this many seconds."""
    waits = [wait for call in calls if (wait := call.phase("queue_estimate") or 0.0) >= WAITED]
    return Rates(
        window=window,
        ended=len(calls),
        failed=sum(call.state == "failed" for call in calls),
        cancelled=sum(call.state in {"cancelled", "abandoned"} for call in calls),
        input_tokens=_per_second((call.input_tokens for call in calls), window),
        output_tokens=_per_second((call.output_tokens for call in calls), window),
        duration=_median(call.elapsed for call in calls),
        first=_median(call.first for call in calls),
        waited=len(waits),
        wait=_median(waits),
    )


def rates_between(earlier: Scrape, later: Scrape, *, window: float) -> Rates:
    """Return the rates between two scrapes of an app, this many seconds apart."""
    ended = _ended(later) - _ended(earlier)
    waited = later.wait_count - earlier.wait_count
    outcomes = {
        outcome: count - earlier.outcomes.get(outcome, 0.0)
        for outcome, count in later.outcomes.items()
    }
    return Rates(
        window=window,
        ended=round(ended),
        failed=round(outcomes.get("failed", 0.0)),
        cancelled=round(outcomes.get("cancelled", 0.0) + outcomes.get("abandoned", 0.0)),
        input_tokens=_share(later.input_tokens - earlier.input_tokens, window),
        output_tokens=_share(later.output_tokens - earlier.output_tokens, window),
        duration=_share(later.duration - earlier.duration, ended),
        first=_share(later.first - earlier.first, later.first_count - earlier.first_count),
        waited=round(waited),
        wait=_share(later.wait - earlier.wait, waited),
    )


def _ended(scrape: Scrape) -> float:
    return sum(scrape.ended.values())


def _share(amount: float, of: float) -> float | None:
    return amount / of if of > 0 else None


def _per_second(counts: Iterable[int | None], window: float) -> float | None:
    known = [count for count in counts if count is not None]
    return sum(known) / window if window > 0 else None


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
