"""Learns load times from calls that waited for a load."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from ollama_otel.analysis._capacity.observation import Observation

__all__ = ["load_times", "most_loaded"]

_AT_ONCE: Final = 0.01
"""Seconds; calls that become ready within this time count as ready at the same time."""


def load_times(calls: Sequence[Observation]) -> dict[str, list[float]]:
    """Return the seconds of the loads that did not wait for running calls, by model.

    Loads are sequential: each begins when the previous one has ended.
    """
    found: dict[str, list[float]] = {}
    disturbed: dict[str, list[float]] = {}
    before = -math.inf
    for call in _loaders(calls):
        start = max(call.at, before)
        kind = disturbed if _is_disturbed(call, start, calls) else found
        kind.setdefault(call.model, []).append(call.ready_at - start)
        before = call.ready_at
    return disturbed | found


def _loaders(calls: Sequence[Observation]) -> Iterator[Observation]:
    """Yield the calls that caused loads, in the order of the loads.

    Calls that become ready at the same time waited for one load, caused by the first of them, as
    the scheduler's queue is in order.
    """
    last = -math.inf
    together: list[Observation] = []
    for call in sorted((call for call in calls if call.is_cold), key=lambda call: call.ready_at):
        if together and call.ready_at > last + _AT_ONCE:
            yield min(together, key=lambda each: each.at)
            together = []
        together.append(call)
        last = call.ready_at
    if together:
        yield min(together, key=lambda each: each.at)


def _is_disturbed(call: Observation, start: float, calls: Sequence[Observation]) -> bool:
    """Whether a call was running when the load began: the load may have waited for it."""
    return any(other.at < start < other.done_at for other in calls if other.model != call.model)


def most_loaded(calls: Sequence[Observation]) -> int:
    """Return the largest number of models in memory at once, from calls.

    A model was in memory during its calls, and between two calls if the second one was not cold.
    """
    spans: dict[str, list[tuple[float, float]]] = {}
    for call in calls:
        own = spans.setdefault(call.model, [])
        # Several calls can have waited for one load.
        if own and (not call.is_cold or call.ready_at <= own[-1][1]):
            own[-1] = own[-1][0], max(own[-1][1], call.done_at)
        else:
            own.append((call.ready_at, call.done_at))
    edges = sorted(
        (time, change)
        for own in spans.values()
        for begin, end in own
        for time, change in ((begin, 1), (end, -1))
    )
    most = now = 0
    for _, change in edges:
        now += change
        most = max(most, now)
    return most
