"""What a row of the table says of a fact."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from msgspec import Struct

__all__ = ["Attributes", "Column", "Fact", "FactType", "Line", "Source"]

FactType = Literal["text", "integer", "number", "boolean", "texts", "object"]
Source = Literal["caller", "request", "server", "client", "estimate", "residency"]
"""Where a fact comes from.

`caller`: `call_context`. `request`: what was sent. `server`: what the server said. `client`: the
client's own clock and counts. `estimate`: computed from other facts, and not exact. `residency`:
what the server held, polled beside the call.
"""
Line = Literal["request", "end"]
Attributes = Iterable[tuple[str, Any]]
"""Names and values of span attributes."""


class Fact(Struct, frozen=True, kw_only=True):
    """One thing that is known of a call."""

    path: str
    """Where it stands, from `CallRecord` on: `response.input_tokens`."""
    type: FactType
    source: Source
    sentence: str
    unit: str = ""
    """UCUM: `s`, `By`, `{token}`; empty for what has no unit."""
    attribute: str | None = None
    """The span attribute; None: it is not on spans, or `spread` names several."""
    spread: Callable[[Any], Attributes] | None = None
    """Gives the span attributes of a value that is not one attribute as it is."""
    spreads_to: str | None = None
    """The names that `spread` gives, for the reference page."""
    key: str | None = None
    """Where it stands in a line of the replay log, dotted; None: it is not in the log."""
    line: Line = "end"
    column: str | None = None
    """Its name in `--json` and in analysis."""
    absent: Any = None
    """The value that means that there is nothing to say; never written."""
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
    """Where the value stands in the log line."""
    line: Line
    unit: str
    sentence: str
