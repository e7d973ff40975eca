"""One call of `top` in full, and its verdicts, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from ollama_otel._cli.call_tree import call_tree
from ollama_otel._cli.model_memory import memory_facts
from ollama_otel._cli.units import seconds
from ollama_otel._display import visible_line
from ollama_otel._facts import FACTS
from ollama_otel._top.view import CallRow, View

__all__ = ["call_in_full", "verdicts_in_full"]

_SHOWN_ABOVE: Final = frozenset({"phases", "tags"})
"""Columns that are not listed again."""


def call_in_full(call: CallRow) -> RenderableType:
    """Return a call: its phases as bars, and every fact that is known."""
    return Group(*_parts(call))


def verdicts_in_full(view: View) -> RenderableType:
    """Return each verdict with its kind, and the calls that show it."""
    return Group(*_verdict_parts(view)) if view.verdicts else Text("Nothing looks wrong.")


def _verdict_parts(view: View) -> Iterator[Text]:
    for verdict in view.verdicts:
        server = f", {verdict.server}" if verdict.server else ""
        yield Text(visible_line(f"{verdict.kind}{server}"), style="bold")
        yield Text(visible_line(verdict.sentence), style="yellow")
        if verdict.calls:
            yield Text(visible_line(f"calls: {' '.join(verdict.calls)}"))
        yield Text()


def _parts(call: CallRow) -> Iterator[RenderableType]:
    start, record = call.start, call.record
    name = visible_line(f"{start.endpoint.name} {start.request.model or ''}")
    at = datetime.fromtimestamp(call.started_at, UTC).astimezone()
    yield Text(name, style="bold")
    yield Text(visible_line(f"{call.id}, {at:%Y-%m-%d %H:%M:%S %z}, {call.server or ''}"))
    context = start.context
    known = {"conversation": context.conversation_id, "user": context.user_id, **context.tags}
    if any(known.values()):
        yield Text(visible_line("  ".join(f"{key}={each}" for key, each in known.items() if each)))
    if start.trace_id is not None:
        yield Text(visible_line(f"trace {start.trace_id}"))
    yield Text()
    if record is None:
        yield from _running(call)
    else:
        yield call_tree(record, name, ascii_only=False)
        yield from (Text(visible_line(fact)) for fact in memory_facts(record.residency))
    yield Text("\nEvery known fact", style="bold")
    for column, value in FACTS.flat(start, record).items():
        if value not in (None, [], {}) and column not in _SHOWN_ABOVE:
            yield Text(f"{column:<27} {visible_line(str(value))}")


def _running(call: CallRow) -> Iterator[Text]:
    yield Text(f"in flight for {seconds(call.elapsed)}", style="cyan")
    if call.prefill_estimate is None:
        return
    estimate = seconds(call.prefill_estimate)
    if call.prefill_eta is None:
        yield Text(f"its prompt takes about {estimate} to process, by estimate")
    else:
        rest = seconds(call.prefill_eta)
        yield Text(f"its prompt is processed in about {rest} (of {estimate}), by estimate")
