"""The values of a report: sections of figures, each a plot, a table, or both. No HTML, no SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct
from msgspec.json import encode

__all__ = [
    "CallRow",
    "CallTable",
    "CallView",
    "Column",
    "Figure",
    "Finding",
    "Mark",
    "Period",
    "Plot",
    "Report",
    "Rows",
    "Section",
    "Series",
    "Table",
    "Total",
    "Unit",
]

Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""The rows of each query of a section."""

Unit = Literal[
    "text",
    "sentence",
    "id",
    "time",
    "count",
    "number",
    "seconds",
    "share",
    "per_second",
    "money",
]
"""Of a value.

`sentence` may be long, `share` is a fraction, `time` a datetime in UTC, `money` in the currency of
the price file.
"""


class Series(Struct, frozen=True, kw_only=True):
    """One series of a plot: a value for each place on its axis; None is unknown."""

    name: str
    values: tuple[float | None, ...]


class Mark(Struct, frozen=True, kw_only=True):
    """A labelled place on the axis of a plot."""

    at: Any
    label: str


class Plot(Struct, frozen=True, kw_only=True):
    """A plot: `lines` and stacked `columns` over time or a number, stacked `bars` by name."""

    kind: Literal["lines", "columns", "bars"]
    unit: Unit
    places: tuple[Any, ...]
    """Times in UTC, numbers, or names."""
    series: tuple[Series, ...]
    marks: tuple[Mark, ...] = ()
    axis: str = ""
    """Unit of the numbers on the axis."""


class Column(Struct, frozen=True, kw_only=True):
    """A column of a table."""

    name: str
    unit: Unit = "text"
    """Unit of its values."""


class Table(Struct, frozen=True, kw_only=True):
    """Rows of values; None is unknown. The first column names the row."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    note: str | None = None
    """A note on the rows that are left out."""


class Figure(Struct, frozen=True, kw_only=True):
    """A table, with a plot of it where one helps; `DEFINITIONS[name]` says what it shows."""

    name: str
    table: Table
    plot: Plot | None = None


class Section(Struct, frozen=True, kw_only=True):
    """Figures on one subject, or a sentence that explains why there are none."""

    name: str
    title: str
    lead: str = ""
    notes: tuple[str, ...] = ()
    """Limitations of the figures, as sentences."""
    figures: tuple[Figure, ...] = ()


class Total(Struct, frozen=True, kw_only=True):
    """One number about all calls of the period, and its value in the comparison period."""

    name: str
    value: float | None
    unit: Unit
    before: float | None = None


class Finding(Struct, frozen=True, kw_only=True):
    """A finding: something that needs attention, or has changed."""

    kind: Literal["worse", "high", "better", "changed"]
    measure: str
    """A name in `DEFINITIONS`."""
    subject: str | None
    """The model; None: all calls."""
    value: float
    unit: Unit
    text: str
    section: str
    """The section with more about it."""
    before: float | None = None
    evidence: str = ""
    """The numbers of calls, and the result of the test."""


class Period(Struct, frozen=True, kw_only=True):
    """The period of the report and its comparison period. Times are in UTC."""

    start: datetime
    end: datetime
    bucket: int
    """Seconds of one place on the axis of time."""
    before: datetime
    """Start of the calls that others are compared to; they end at `now`."""
    now: datetime
    """Start of the calls that are compared; they end at `end`."""
    compares: Literal["period_before", "halves"]
    """`period_before`: as many seconds before the report; `halves`: both in the report."""
    coarse: int
    """Seconds of one interval of the test for changes."""
    is_comparable: bool = True
    """Whether there are enough calls for the test of changes."""


class CallView(Struct, frozen=True, kw_only=True):
    """A saved view of the table of calls: some calls, in an order."""

    name: str
    title: str
    text: str
    """Description of its first calls."""
    condition: str
    """In SQL."""
    order: str


class CallRow(Struct, frozen=True, kw_only=True):
    """A call in the table."""

    values: Mapping[str, Any]
    """By the columns of `calls`."""
    ranks: Mapping[str, int]
    """The views that have it, and its place in each, from 0 on."""


class CallTable(Struct, frozen=True, kw_only=True):
    """The first calls of each view."""

    views: tuple[CallView, ...]
    """Those that have calls."""
    rows: tuple[CallRow, ...]
    """Each call once, in the order of the views."""
    total: int
    """All calls of the period."""


class Report(Struct, frozen=True, kw_only=True):
    """The report on the calls of a period."""

    source: str
    """The log, or the database."""
    period: Period
    totals: tuple[Total, ...]
    findings: tuple[Finding, ...]
    """Findings that need attention come first."""
    calls: CallTable
    sections: tuple[Section, ...]
    skipped: int = 0
    """Parts of the log that could not be read."""

    def json(self) -> str:
        """Return the values as one JSON object; times are in UTC, seconds are numbers."""
        return encode(self).decode()

    def html(self) -> str:
        """Return the report as one page that needs no network and no JavaScript."""
        from ollama_otel.analysis._report.page import page  # noqa: PLC0415 - it needs this module

        return page(self)
