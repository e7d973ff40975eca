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
"""The distribution of a call's tokens over other activity depends on the unknown times, so these
are refined until they change by less than this fraction, or for this many rounds.
"""
_SHARE_OF_LEVEL: Final = 0.02
_STEPS_OF_LEVEL: Final = 100.0
"""A number of calls in flight counts as seen with at least this many steps and this share of
all.
"""
_SHARE_BESIDE_OTHERS: Final = 0.02
_ENOUGH: Final = 40
"""Calls from which the effects of contexts and of other models are learnt."""
_LEAST: Final = 0.2
"""Fraction of the mean time of a step; shorter steps are noise."""
_MOST: Final = 2.0
_SHARED: Final = 1.0
"""The interference that is assumed first, and bounds of it."""


class Sample(Struct, frozen=True, gc=False):
    """The generation of one call."""

    steps: float
    """Tokens after the first one."""
    company: Mapping[Company, tuple[float, float]]
    """As in `Activity.generation`."""


class GenerationFit(Struct, frozen=True, kw_only=True):
    """The learned times."""

    step: StepTimes
    per_context_token: float
    interference: float | None
    """None if no other model was active at the same time."""


def fit_generation(
    samples: Sequence[Sample], interference: float | None = None
) -> GenerationFit | None:
    """Estimate the times of steps; None if no call generated a second token.

    The time of a call is the sum over its steps of: the time for the calls in flight, plus the
    time for their contexts; both longer if other models work at the same time. `interference` is
    used if the samples do not show it.
    """
    used = [each for each in samples if each.steps > 0 and each.company]
    if not used:
        return None
    steps = sum(each.steps for each in used)
    mean = sum(time for each in used for time, _ in each.company.values()) / steps
    unknowns = _Unknowns(_levels(used, steps), mean, interference)
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
    """The estimates, refined in rounds."""

    def __init__(self, levels: tuple[int, ...], mean: float, interference: float | None) -> None:
        self._levels = levels
        self._mean = mean
        self._step = StepTimes(tuple((calls, mean) for calls in levels))
        self._context = 0.0
        self._interference = _SHARED if interference is None else interference
        self._has_others = False

    def improve(self, samples: Sequence[Sample]) -> float:
        """Distribute each call's steps by the current times, and fit the times again.

        Return the largest relative change of a time.
        """
        rows = [self._row(sample) for sample in samples]
        targets = [sum(time for time, _ in sample.company.values()) for sample in samples]
        weights = [1.0 / sample.steps for sample in samples]
        is_enough = len(samples) >= _ENOUGH
        beside = sum(row[-1] for row in rows)
        self._has_others = is_enough and beside > _SHARE_BESIDE_OTHERS * sum(targets)
        if not self._has_others:
            targets = [
                max(0.0, target - self._interference * row[-1])
                for target, row in zip(targets, rows, strict=True)
            ]
        width = len(self._levels)
        found = self._solved(rows, targets, weights, has_context=is_enough)
        if found[width] < 0.0 or min(found[:width]) < _LEAST * self._mean:
            # The effects of contexts and of calls in flight cannot be separated here.
            found = self._solved(rows, targets, weights, has_context=False)
        self._context = found[width]
        if self._has_others:
            self._interference = min(max(0.0, found[-1]), _MOST)
        before = self._step
        self._step = StepTimes(_ascending(self._levels, found, _LEAST * self._mean))
        return max(
            abs(new - old) / old
            for (_, old), (_, new) in zip(before.points, self._step.points, strict=True)
        )

    def _solved(
        self,
        rows: Sequence[tuple[float, ...]],
        targets: Sequence[float],
        weights: Sequence[float],
        *,
        has_context: bool,
    ) -> list[float]:
        width = len(self._levels)
        kept = [
            (
                *row[:width],
                row[width] if has_context else 0.0,
                row[-1] if self._has_others else 0.0,
            )
            for row in rows
        ]
        return least_squares(kept, targets, weights)

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
            interference=self._interference if self._has_others else None,
        )


def _places(levels: tuple[int, ...], calls: int) -> list[tuple[int, float]]:
    """Return the weights of the levels for the time with a number of calls."""
    if calls <= levels[0]:
        return [(0, 1.0)]
    for place in range(1, len(levels)):
        low, high = levels[place - 1], levels[place]
        if calls <= high:
            share = (calls - low) / (high - low)
            return [(place - 1, 1.0 - share), (place, share)]
    return [(len(levels) - 1, 1.0)]


def _ascending(
    levels: tuple[int, ...], found: Sequence[float], least: float
) -> tuple[tuple[int, float], ...]:
    """Make times non-decreasing with the number of calls, as decreases are noise."""
    points = []
    for calls, seconds in zip(levels, found, strict=False):
        least = max(least, seconds)
        points.append((calls, least))
    return tuple(points)
