"""One event of a log as one line of text."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from rich.text import Text

from ollama_otel._cli.model_memory import reload_reason
from ollama_otel._cli.terminal import OUTCOME_STYLES
from ollama_otel._cli.units import seconds
from ollama_otel._display import visible_line
from ollama_otel._log.format import LoggedEnd, LoggedStart
from ollama_otel._log.tail import LoggedEvent
from ollama_otel._wire.model_names import short_name
from ollama_otel.records import CallRecord, CallStart

__all__ = ["event_line"]

_ID_WIDTH: Final = 12
_OUTCOME_WIDTH: Final = 9


def event_line(event: LoggedEvent, *, ascii_only: bool) -> Text:
    """Return the line of a call that begins or ends."""
    match event:
        case LoggedStart(start=start):
            arrow = ">" if ascii_only else "→"
            return _line(event, start, arrow, Text("begins".ljust(_OUTCOME_WIDTH), style="dim"))
        case LoggedEnd(record=record):
            arrow, style = "<" if ascii_only else "←", OUTCOME_STYLES[record.outcome]
            outcome = Text(record.outcome.ljust(_OUTCOME_WIDTH), style=style)
            line = _line(event, record.start, arrow, outcome)
            line.append("".join(f"  {fact}" for fact in _facts(record)))
            return line.append(_error(record), style="red")


def _line(event: LoggedEvent, start: CallStart, arrow: str, outcome: Text) -> Text:
    call = f"{start.endpoint.name} {short_name(start.request.model or '')}".strip()
    return Text.assemble(
        (_time(event.at), "dim"),
        f"  {visible_line(event.id):<{_ID_WIDTH}} {arrow} ",
        outcome,
        f"  {visible_line(call)}",
    )


def _time(at: str) -> str:
    try:
        time = datetime.fromisoformat(at).astimezone()
    except (ValueError, OverflowError):
        return "--:--:--.---"
    return f"{time:%H:%M:%S}.{time.microsecond // 1000:03d}"


def _facts(record: CallRecord) -> Iterator[str]:
    yield seconds(record.duration)
    for count, word in (
        (record.response.input_tokens, "in"),
        (record.response.output_tokens, "out"),
    ):
        if count is not None:
            yield f"{count} {word}"
    if (reason := reload_reason(record.residency)) is not None:
        yield f"cold: {visible_line(reason)}"


def _error(record: CallRecord) -> str:
    error = ": ".join(filter(None, (record.error_type, record.error_message)))
    return f"  {visible_line(error)}" if error else ""
