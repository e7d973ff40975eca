"""Rows of a query as values along an axis of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from ollama_otel.analysis._report.values import Mark, Period, Plot, Series, Unit

__all__ = ["along", "over_time", "series", "times"]

Row = Mapping[str, Any]


def times(period: Period) -> tuple[datetime, ...]:
    """Return the start of each place on the axis, in UTC."""
    width = timedelta(seconds=period.bucket)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    at = epoch + (period.start - epoch) // width * width
    found = []
    while at < period.end:
        found.append(at)
        at += width
    return tuple(found)


def along(rows: Sequence[Row], places: Sequence[datetime]) -> list[Row]:
    """Return the row of each place, by its column `bucket`; an empty one where there is none."""
    by_time = {row["bucket"].replace(tzinfo=UTC): row for row in rows}
    return [by_time.get(place, {}) for place in places]


def series(rows: Sequence[Row], **names: str) -> tuple[Series, ...]:
    """Return a series of each column: `column="name of the series"`."""
    return tuple(
        Series(name=name, values=tuple(row.get(column) for row in rows))
        for column, name in names.items()
    )


def over_time(
    kind: Literal["lines", "columns"], unit: Unit, period: Period, found: tuple[Series, ...]
) -> Plot:
    """Return a plot over the period; it marks where its second half begins, if that is compared."""
    is_marked = period.compares == "halves" and period.is_comparable
    marks = (Mark(at=period.now, label="second half"),) if is_marked else ()
    return Plot(kind=kind, unit=unit, places=times(period), series=found, marks=marks)
