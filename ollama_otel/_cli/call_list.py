"""Logged calls as a table and as JSON: one line each, the newest last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from rich.text import Text

from ollama_otel._cli.slowness import SLOW, why
from ollama_otel._cli.table import shortened
from ollama_otel._cli.terminal import OUTCOME_STYLES, local_time
from ollama_otel._cli.units import seconds
from ollama_otel._display import visible_line
from ollama_otel._facts import FACTS, FactTable
from ollama_otel._log.call import RecordedCall
from ollama_otel._log.format import timestamp
from ollama_otel._wire.model_names import short_name

__all__ = ["as_values", "rows"]

_HEADINGS = ("time", "id", "call", "outcome", "duration", "first", "in/out")
_NARROW_HEADINGS = tuple(name for name in _HEADINGS if name != "first")
_TITLES = {name: name for name in _HEADINGS}
_WIDEST = 24
"""Maximum width of a cell, in columns."""
_RIGHT = frozenset({"duration", "first", "in/out"})
_SHRINKING = ("call", "id", "outcome")
"""The columns that shrink on a narrow terminal, in this order."""
_LEAST = 4
_BETWEEN = "  "
_ONE_LINE = 110
"""Least width, in columns, at which the question is beside its call and not below."""


def _question(call: RecordedCall) -> str:
    return "" if call.conversation is None else call.conversation.question


def as_values(call: RecordedCall, *, facts: FactTable = FACTS) -> dict[str, Any]:
    """Return a call as one JSON object: the columns of the table of facts, its file and line."""
    return {
        "id": call.id,
        "at": timestamp(call.start.started_at),
        **facts.flat(call.start, call.record),
        "question": _question(call) or None,
        "file": str(call.file),
        "line": call.line,
    }


def rows(calls: Sequence[RecordedCall], *, width: int, slow: float = SLOW) -> Iterator[Text]:
    """Yield the lines of the table, each at most `width` columns, with one for each new day.

    A call that took `slow` seconds or more has the reason.
    """
    cells = [_cells(call) for call in calls]
    reasons = [why(call.record, limit=slow) if call.record else "" for call in calls]
    beside = width >= _ONE_LINE
    names = _HEADINGS if beside else _NARROW_HEADINGS
    widths = {
        name: min(_WIDEST, max(len(row[name]) for row in (_TITLES, *cells))) for name in names
    }
    _narrow(widths, width)
    beside_it = "  why, asked" if any(reasons) else "  asked"
    heading = _columns(_TITLES, widths) + (beside_it if beside else "")
    yield _fitting(Text(heading), width, style="bold")
    today: date | None = None
    for call, row, reason in zip(calls, cells, reasons, strict=True):
        day = local_time(call.start.started_at).date()
        if day != today:
            today = day
            yield Text(f"{day:%A, %d %B %Y}", style="dim")
        line = _outcome_line(call, _columns(row, widths))
        details = _details(call, reason)
        if beside:
            yield _fitting(Text.assemble(line, "  ", details), width)
            continue
        yield _fitting(line, width)
        if details:
            yield _fitting(Text.assemble(" " * 10, details), width)


def _narrow(widths: dict[str, int], width: int) -> None:
    """Shrink columns until they fit into one line."""
    over = sum(widths.values()) + len(_BETWEEN) * (len(widths) - 1) - width
    for name in _SHRINKING:
        less = max(0, min(over, widths[name] - _LEAST))
        widths[name] -= less
        over -= less


def _outcome_line(call: RecordedCall, columns: str) -> Text:
    outcome = call.record.outcome if call.record else None
    line = Text(columns)
    # "never ended" is not highlighted, as the call may still run.
    if outcome is not None:
        line.highlight_words([f" {outcome} "], OUTCOME_STYLES[outcome])
    return line


def _details(call: RecordedCall, reason: str) -> Text:
    line, record = Text(), call.record
    if record and record.error_type:
        line.append(f"{visible_line(record.error_type)}  ", style="red")
    if reason:
        line.append(f"{visible_line(reason)}  ", style="yellow")
    return line.append(visible_line(_question(call)), style="dim")


def _cells(call: RecordedCall) -> Mapping[str, str]:
    record, request = call.record, call.start.request
    model = short_name(request.model or "")
    first = record.time_to_first_chunk if record else None
    return {
        "time": f"{local_time(call.start.started_at):%H:%M:%S}",
        "id": visible_line(call.id),
        "call": visible_line(f"{call.start.endpoint.name} {model}"),
        "outcome": record.outcome if record else "never ended",
        "duration": seconds(record.duration) if record else "",
        "first": "" if first is None else seconds(first),
        "in/out": _tokens(call),
    }


def _tokens(call: RecordedCall) -> str:
    if call.record is None:
        return ""
    counts = (call.record.response.input_tokens, call.record.response.output_tokens)
    if counts == (None, None):
        return ""
    return "/".join("-" if count is None else str(count) for count in counts)


def _columns(row: Mapping[str, str], widths: Mapping[str, int]) -> str:
    return _BETWEEN.join(
        row[name].rjust(width) if name in _RIGHT else shortened(row[name], width).ljust(width)
        for name, width in widths.items()
    )


def _fitting(line: Text, width: int, *, style: str = "") -> Text:
    line.stylize(style)
    line.rstrip()
    line.truncate(width, overflow="ellipsis")
    return line
