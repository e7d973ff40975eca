"""The types of the table: a row is a `Fact`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from msgspec import Struct

__all__ = ["Attributes", "Column", "Fact", "FactType", "Line", "Source"]

FactType = Literal["text", "integer", "number", "boolean", "texts", "object"]
Source = Literal["caller", "request", "server", "client", "estimate", "residency", "counting"]
"""Where a fact comes from.

`caller`: `call_context`. `request`: the request as sent. `server`: the response. `client`: the
client's clock and counts. `estimate`: computed from other facts, not exact. `residency`: polls
of `/api/ps`. `counting`: the request's tokens, counted by this library.
"""
Line = Literal["request", "end"]
Attributes = Iterable[tuple[str, Any]]
"""Names and values of span attributes."""


class Fact(Struct, frozen=True, kw_only=True):
    """One fact: where it is in the records, and where it goes."""

    path: str
    """Dotted path from `CallRecord`: `response.input_tokens`."""
    type: FactType
    source: Source
    sentence: str
    unit: str = ""
    """UCUM: `s`, `By`, `{token}`; empty if it has no unit."""
    attribute: str | None = None
    """The span attribute; None: it is not on spans, or `spread` names several."""
    spread: Callable[[Any], Attributes] | None = None
    """Returns the span attributes of a value that is not written as one attribute."""
    spreads_to: str | None = None
    """The names that `spread` returns, for the reference page."""
    key: str | None = None
    """Dotted key in a line of the replay log; None: it is not in the log."""
    line: Line = "end"
    column: str | None = None
    """Its name in `--json` and in analysis."""
    absent: Any = None
    """A value that is never written: it means the same as no value."""
    is_exact: bool = False
    """Whether a number is logged unrounded; others are rounded to six decimals (microseconds)."""
    is_at_start: bool = False
    """Whether the attribute is set when the span starts, for samplers."""
    is_of_completions: bool = False
    """Whether the attribute is set only for completions."""
    also: Any = None
    """A further Python type that its log value may have."""


class Column(Struct, frozen=True, kw_only=True):
    """One column for analysis."""

    name: str
    sql_type: str
    key: str
    """Dotted key in the log line."""
    line: Line
    unit: str
    sentence: str
    absent: Any
    """The value of a call whose line lacks the key; None: it is unknown."""
