"""The period of a report, its comparison period, and the division of its time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from ollama_otel.analysis._report.values import Period

__all__ = ["INTERVALS", "period_of", "width_of"]

INTERVALS: Final = 24
"""Intervals of each compared period, about; between them the scatter is measured."""
_PLACES: Final = 120
"""Most places on an axis of time."""
_DAY: Final = 86400
_WIDTHS: Final = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 10800, 21600, 43200, _DAY),
)


def width_of(seconds: float, places: int) -> int:
    """Return a round width that divides a number of seconds into at most this many places."""
    for width in _WIDTHS:
        if seconds <= width * places:
            return width
    return _DAY * -int(-seconds // (_DAY * places))


def period_of(
    first: datetime, last: datetime, since: datetime | None, until: datetime | None
) -> Period:
    """Return the period of a report on calls that began from `first` to `last`.

    It is compared to the same length before it, if the log has all of that; otherwise its second
    half is compared to its first.
    """
    start, end = since or first, until or last
    # One microsecond at least, so that a log of one call has a middle.
    length = max(end - start, timedelta(microseconds=2))
    has_before = first <= start - length
    before = start - length if has_before else start
    now = start if has_before else start + length / 2
    return Period(
        start=start,
        end=start + length,
        bucket=width_of(length.total_seconds(), _PLACES),
        before=before,
        now=now,
        compares="period_before" if has_before else "halves",
        coarse=width_of((start + length - now).total_seconds(), INTERVALS),
    )
