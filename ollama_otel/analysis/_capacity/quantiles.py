"""Quantiles of values, with linear interpolation."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["median", "quantile"]


def quantile(values: Iterable[float], share: float) -> float:
    """Return the value below which a share of the values is. Raises `ValueError` without values."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("expected at least one value")
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def median(values: Iterable[float]) -> float:
    """Return the value in the middle. Raises `ValueError` without values."""
    return quantile(values, 0.5)
