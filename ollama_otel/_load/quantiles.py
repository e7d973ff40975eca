"""The distribution of values: mean, percentiles and maximum."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

__all__ = ["Quantiles", "quantile", "quantiles_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """The distribution of some seconds."""

    count: int
    """Number of values."""
    mean: float
    p50: float
    p95: float
    p99: float
    max: float


def quantiles_of(values: Iterable[float]) -> Quantiles | None:
    """Return the distribution of values; None without any."""
    ordered = sorted(values)
    if not ordered:
        return None
    return Quantiles(
        count=len(ordered),
        mean=fmean(ordered),
        p50=quantile(ordered, 0.5),
        p95=quantile(ordered, 0.95),
        p99=quantile(ordered, 0.99),
        max=ordered[-1],
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which a share of sorted values lies, by linear interpolation."""
    position = share * (len(ordered) - 1)
    low, high = ordered[math.floor(position)], ordered[math.ceil(position)]
    return low + (high - low) * (position - math.floor(position))
