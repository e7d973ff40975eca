"""Rows of a query as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ollama_otel.analysis._report.values import Column, Series, Table, Unit

__all__ = ["table", "time_table"]


def table(
    rows: Sequence[Mapping[str, Any]],
    note: str | None = None,
    /,
    **columns: str | tuple[str, Unit],
) -> Table:
    """Return columns of rows as a table: `column="Title"` or `column=("Title", unit)`."""
    found = tuple(
        Column(name=column) if isinstance(column, str) else Column(name=column[0], unit=column[1])
        for column in columns.values()
    )
    return Table(
        columns=found,
        rows=tuple(tuple(row.get(name) for name in columns) for row in rows),
        note=note,
    )


def time_table(places: Sequence[datetime], series: Sequence[Series], unit: Unit) -> Table:
    """Return series as a table: a row for each place at which one of them is known."""
    rows = zip(places, *(one.values for one in series), strict=True)
    return Table(
        columns=(
            Column(name="From (UTC)", unit="time"),
            *(Column(name=one.name, unit=unit) for one in series),
        ),
        rows=tuple(row for row in rows if any(value is not None for value in row[1:])),
    )
