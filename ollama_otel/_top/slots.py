"""Finds how many calls of a model ran at the same time, from the phases of ended calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ollama_otel._top.view import CallRow

__all__ = ["WAITED", "Slots", "seen_slots"]

WAITED: Final = 0.05
"""Least `queue_estimate` of a waiting call, seconds; smaller values are noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """The slots of a model that were seen in use."""

    count: int
    """Calls that certainly ran at the same time."""
    are_all: bool
    """Whether a call waited for a slot, so that there are probably no more: an estimate."""


def seen_slots(calls: Iterable[CallRow]) -> Slots | None:
    """Return the slots that the ended calls of one model used; None if none of them ran.

    A call certainly ran from the latest possible start of its prompt to its earliest possible end;
    the client's share of the duration may be before or after.
    """
    ran: list[tuple[float, float]] = []
    has_waited = False
    for call in calls:
        ran += _ran(call)
        has_waited |= (call.phase("queue_estimate") or 0.0) >= WAITED
    if not ran:
        return None
    return Slots(count=max(1, _most_at_once(ran)), are_all=has_waited)


def _ran(call: CallRow) -> Iterator[tuple[float, float]]:
    prompt, generation = call.phase("prompt_eval"), call.phase("eval")
    if prompt is None or generation is None:
        return
    ended = call.started_at + call.elapsed
    # A log that was edited may have phases that are longer than the call.
    began = max(call.started_at, ended - prompt - generation)
    yield began, ended - (call.phase("client") or 0.0)


def _most_at_once(intervals: Iterable[tuple[float, float]]) -> int:
    # At equal times an end comes before a beginning.
    edges = sorted(
        edge for begin, end in intervals if begin < end for edge in ((begin, 1), (end, -1))
    )
    most = now = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most
