"""Learns how long loads take, from calls that waited for one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ollama_otel.analysis._capacity.observation import Observation

__all__ = ["load_times", "most_loaded"]

_WAITED_ONLY: Final = 0.25
"""A call that had less of its load duration for itself waited for the load of another call."""


def load_times(calls: Sequence[Observation]) -> dict[str, list[float]]:
    """Return by model the seconds of the loads that did not wait for running calls to end.

    Loads are done one at a time, so that each begins when the one before it has ended.
    """
    cold = sorted((call for call in calls if call.is_cold), key=lambda call: call.ready_at)
    found: dict[str, list[float]] = {}
    disturbed: dict[str, list[float]] = {}
    before = None
    for call in cold:
        start = call.at if before is None else max(call.at, min(before.ready_at, call.ready_at))
        seconds = call.ready_at - start
        is_follower = (
            before is not None and before.model == call.model and seconds < _WAITED_ONLY * call.load
        )
        if not is_follower:
            kind = disturbed if _is_disturbed(call, start, calls) else found
            kind.setdefault(call.model, []).append(seconds)
        before = call
    return disturbed | found


def _is_disturbed(call: Observation, start: float, calls: Sequence[Observation]) -> bool:
    """Whether a call was running when the load began: the load may have waited for it."""
    return any(other.at < start < other.done_at for other in calls if other.model != call.model)


def most_loaded(calls: Sequence[Observation]) -> int:
    """Return the most models that were in memory at once, as far as calls show it.

    A model was in memory during its calls, and between two calls if the second one was not cold.
    """
    spans: dict[str, list[tuple[float, float]]] = {}
    for call in calls:
        own = spans.setdefault(call.model, [])
        if own and not call.is_cold:
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
