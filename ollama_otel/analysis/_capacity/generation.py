"""Learns the seconds of a step of generation: by calls in flight, context, and other models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from ollama_otel.analysis._capacity.activity import Company
from ollama_otel.analysis._capacity.least_squares import least_squares
from ollama_otel.analysis._capacity.server import StepTimes

__all__ = ["GenerationFit", "Sample", "fit_generation"]

_ROUNDS: Final = 30
_SETTLED: Final = 0.003
"""The split of a call's tokens among its company depends on the times that are looked for; they
are improved until they change by less than this share, or for so many rounds.
"""
_SHARE_OF_LEVEL: Final = 0.02
_STEPS_OF_LEVEL: Final = 100.0
"""A number of calls in flight counts as seen with so many steps, and with that share of all."""
_SHARE_BESIDE_OTHERS: Final = 0.02


class Sample(Struct, frozen=True, gc=False):
    """The generation of one call."""

    steps: float
    """Tokens after the first one."""
    company: Mapping[Company, tuple[float, float]]
    """As in `Activity.generation`."""


class GenerationFit(Struct, frozen=True, kw_only=True):
    """What was learnt."""

    step: StepTimes
    per_context_token: float
    interference: float | None
    """None: no other model worked at the same time."""


def fit_generation(samples: Sequence[Sample]) -> GenerationFit | None:
    """Learn the times of steps; None if no call generated a second token.

    The time of a call is the sum over its steps of: the time for the calls in flight, plus the
    time for their contexts; both longer if other models work at the same time.
    """
    used = [each for each in samples if each.steps > 0 and each.company]
    steps = sum(each.steps for each in used)
    if not used:
        return None
    mean = sum(time for each in used for time, _ in each.company.values()) / steps
    levels = _levels(used, steps)
    unknowns = _Unknowns(levels, mean)
    for _ in range(_ROUNDS):
        if unknowns.improve(used) < _SETTLED:
            break
    return unknowns.fit()


def _levels(samples: Sequence[Sample], steps: float) -> tuple[int, ...]:
    """Return the numbers of calls in flight that were seen often enough."""
    seen: dict[int, float] = {}
    for sample in samples:
        whole = sum(time for time, _ in sample.company.values())
        for company, (time, _) in sample.company.items():
            share = sample.steps * time / whole
            seen[company.calls] = seen.get(company.calls, 0.0) + share
    enough = max(_STEPS_OF_LEVEL, _SHARE_OF_LEVEL * steps)
    found = sorted(calls for calls, count in seen.items() if count >= enough)
    return tuple(found) or (max(seen, key=lambda calls: seen[calls]),)


class _Unknowns:
    """The estimates, improved in rounds."""

    def __init__(self, levels: tuple[int, ...], mean: float) -> None:
        self._levels = levels
        self._step = StepTimes(tuple((calls, mean) for calls in levels))
        self._context = 0.0
        self._interference = 1.0
        self._is_beside_others = False

    def improve(self, samples: Sequence[Sample]) -> float:
        """Split each call's steps by the times known so far, and fit these times again.

        Return the largest relative change of a time.
        """
        rows = [self._row(sample) for sample in samples]
        targets = [sum(time for time, _ in sample.company.values()) for sample in samples]
        weights = [1.0 / sample.steps for sample in samples]
        whole = sum(targets)
        beside = sum(row[-1] for row in rows)
        self._is_beside_others = beside > _SHARE_BESIDE_OTHERS * whole
        width = len(self._levels)
        # The last columns are left out one by one if what they stand for was not seen.
        with_others = width + (2 if self._is_beside_others else 1)
        found = least_squares([row[:with_others] for row in rows], targets, weights)
        if found[width] < 0.0:
            kept = [(*row[:width], 0.0, *row[width + 1 : with_others]) for row in rows]
            found = least_squares(kept, targets, weights)
        self._context = max(0.0, found[width])
        if self._is_beside_others:
            self._interference = min(max(0.0, found[-1]), 2.0)
        before, self._step = self._step, StepTimes(_ascending(self._levels, found))
        return max(
            abs(new - old) / old
            for (_, old), (_, new) in zip(before.points, self._step.points, strict=True)
        )

    def _row(self, sample: Sample) -> tuple[float, ...]:
        levels = self._levels
        at_level = [0.0] * len(levels)
        contexts = beside = 0.0
        parts = [
            (company, time, context / time, self._time(company, context / time))
            for company, (time, context) in sample.company.items()
        ]
        whole = sum(time / each for _, time, _, each in parts)
        for company, time, context, each in parts:
            steps = sample.steps * (time / each) / whole
            for place, share in _places(levels, company.calls):
                at_level[place] += steps * share
            contexts += steps * context
            alone = self._step.at(company.calls) + self._context * context
            beside += steps * alone * (company.models - 1)
        return (*at_level, contexts, beside)

    def _time(self, company: Company, context: float) -> float:
        alone = self._step.at(company.calls) + self._context * context
        return alone * (1.0 + self._interference * (company.models - 1))

    def fit(self) -> GenerationFit:
        return GenerationFit(
            step=self._step,
            per_context_token=self._context,
            interference=self._interference if self._is_beside_others else None,
        )


def _places(levels: tuple[int, ...], calls: int) -> list[tuple[int, float]]:
    """Return how the time for so many calls is made of those of the levels."""
    if calls <= levels[0]:
        return [(0, 1.0)]
    for place in range(1, len(levels)):
        low, high = levels[place - 1], levels[place]
        if calls <= high:
            share = (calls - low) / (high - low)
            return [(place - 1, 1.0 - share), (place, share)]
    return [(len(levels) - 1, 1.0)]


def _ascending(levels: tuple[int, ...], found: Sequence[float]) -> tuple[tuple[int, float], ...]:
    """More calls never take less time; noise can say otherwise."""
    points, least = [], 1e-9
    for calls, seconds in zip(levels, found, strict=False):
        least = max(least, seconds)
        points.append((calls, least))
    return tuple(points)
