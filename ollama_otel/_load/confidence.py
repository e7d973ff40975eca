"""Confidence intervals of a mean and a slope: Student's t, at 95 %."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, stdev
from typing import Final

__all__ = ["CONFIDENCE", "Estimate", "Slope", "estimate_of", "slope_of", "student_t"]

CONFIDENCE: Final = 0.95

_PRECISION: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The mean of the results of several equal runs, with its confidence interval."""

    mean: float
    low: float | None
    """Lower end of the 95 % confidence interval; None for one run."""
    high: float | None
    """Upper end of the interval."""
    count: int
    """Number of runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """A straight line through points, by least squares."""

    slope: float
    margin: float
    """Half the width of the slope's 95 % confidence interval."""
    start: float
    """Value of the line at the first point."""
    end: float
    """Value of the line at the last point."""

    @property
    def is_positive(self) -> bool:
        """Whether the line rises, at 95 % confidence."""
        return self.slope - self.margin > 0


def estimate_of(values: Sequence[float]) -> Estimate | None:
    """Return the mean and its interval; None without values."""
    if not values:
        return None
    mean = fmean(values)
    if len(values) == 1:
        return Estimate(mean=mean, low=None, high=None, count=1)
    margin = student_t(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Estimate(mean=mean, low=mean - margin, high=mean + margin, count=len(values))


def slope_of(points: Sequence[tuple[float, float]]) -> Slope | None:
    """Return the line through points (x, y); None for fewer than three, or if all have one x."""
    if len(points) < 3:  # noqa: PLR2004 - two points leave no degree of freedom
        return None
    mean_x, mean_y = fmean(x for x, _ in points), fmean(y for _, y in points)
    spread = math.fsum((x - mean_x) ** 2 for x, _ in points)
    if spread == 0:
        return None
    slope = math.fsum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    first, last = points[0][0], points[-1][0]
    start, end = mean_y + slope * (first - mean_x), mean_y + slope * (last - mean_x)
    rest = math.fsum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in points)
    error = math.sqrt(rest / (len(points) - 2) / spread)
    return Slope(slope=slope, margin=student_t(len(points) - 2) * error, start=start, end=end)


@cache
def student_t(freedom: int) -> float:
    """Return the t that encloses 95 % of Student's distribution, from -t to t.

    `freedom` is the number of degrees of freedom, at least 1.
    """
    low, high = 1.0, 13.0  # 12.7 at one degree of freedom, 1.96 at infinity
    while high - low > _PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if _enclosed(middle, freedom) < CONFIDENCE else (low, middle)
    return (low + high) / 2


def _enclosed(t: float, freedom: int) -> float:
    """Return the probability between -t and t: Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, square = math.sin(angle), math.cos(angle) ** 2
    is_odd = freedom % 2
    term = total = math.cos(angle) if is_odd else 1.0
    for number in range(2 if is_odd else 1, freedom - 2, 2):
        term *= square * number / (number + 1)
        total += term
    if not is_odd:
        return sine * total
    return (angle + (sine * total if freedom > 1 else 0.0)) * 2 / math.pi
