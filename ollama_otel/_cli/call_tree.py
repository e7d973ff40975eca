"""A call as a tree: its span, and below it its phases with bars, and facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text
from rich.tree import Tree

from ollama_otel import records
from ollama_otel._cli.terminal import OUTCOME_STYLES
from ollama_otel._cli.units import seconds
from ollama_otel._display import visible, visible_line
from ollama_otel.records import CallRecord, CallResilience, Truncation

__all__ = ["Phase", "call_tree", "phases_of"]

Phase = records.Phase | Literal["to_first_chunk", "stream"]
"""A phase of a record, or one of two phases that only the client measures."""

_BAR_WIDTH: Final = 30
"""Blocks of the longest bar, if the line has room."""
_BETWEEN: Final = "  "
_LOOKS: Final[Mapping[Phase, tuple[str, str]]] = {
    "resilience": ("limiter, retries", "magenta"),
    "load": ("load", "yellow"),
    "queue_estimate": ("queue, estimated", "magenta"),
    "prompt_eval": ("prompt", "cyan"),
    "eval": ("decode", "green"),
    "unaccounted": ("rest in server", "cyan"),
    "client": ("client", "blue"),
    "to_first_chunk": ("to first chunk", "cyan"),
    "stream": ("stream", "green"),
}
"""Label and style of each phase."""


def phases_of(record: CallRecord) -> dict[Phase, float]:
    """Return the seconds of each phase of a call; empty if only its duration is known."""
    if record.response.total_duration is not None:
        return {name: spent for name, spent in record.phases.items() if spent or name == "client"}
    # A stream without its final message has no timings of the server.
    first = record.time_to_first_chunk
    if first is None:
        return {}
    return {"to_first_chunk": first, "stream": record.duration - first}


def call_tree(
    record: CallRecord, span_name: str, *, ascii_only: bool, usual_rate: float | None = None
) -> Tree:
    """Return a tree of a call, its phases and its facts; `usual_rate` is that of its model."""
    tree = Tree(_span_line(record, span_name), guide_style="dim")
    phases = phases_of(record)
    whole = sum(phases.values())
    for phase, spent in phases.items():
        tree.add(_PhaseLine(phase, spent, whole, "#" if ascii_only else "\N{FULL BLOCK}"))
    for fact in _facts(record, usual_rate):
        tree.add(fact)
    return tree


def _span_line(record: CallRecord, span_name: str) -> Text:
    style = f"bold {OUTCOME_STYLES[record.outcome]}"
    line = Text.assemble(
        (span_name, "bold"), f"  {seconds(record.duration)}  ", (record.outcome, style)
    )
    if record.error_type is not None:
        line.append(f": {visible_line(record.error_type)}", style=style)
    if record.cold_start:
        line.append("  cold start", style="yellow")
    return line


class _PhaseLine:
    """A phase with a bar that is as long as the line has room, so that it never wraps."""

    def __init__(self, phase: Phase, spent: float, whole: float, block: str) -> None:
        label, self._style = _LOOKS[phase]
        # A malicious log may have negative times, whose sum is nearly 0.
        self._share = min(max(spent / whole, 0.0), 1.0) if whole else 0.0
        self._figures = f"{label:<19}{seconds(spent):>9} {self._share:>5.0%}"
        self._block = block

    def _line(self, width: int) -> Text:
        line = Text(self._figures, no_wrap=True, overflow="ellipsis")
        most = min(_BAR_WIDTH, width - len(self._figures) - len(_BETWEEN))
        if (blocks := round(self._share * most)) > 0:
            line.append(_BETWEEN + self._block * blocks, style=self._style)
        return line

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        yield self._line(options.max_width)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self._line(options.max_width))


def _facts(record: CallRecord, usual_rate: float | None) -> Iterator[Text]:
    if record.error_message is not None:
        status = f"HTTP {record.http_status}: " if record.http_status is not None else ""
        yield Text(visible(f"{status}{record.error_message}"))
    for facts in (_waits(record), _tokens(record, usual_rate)):
        if facts:
            yield Text(", ".join(facts))
    if facts := _detours(record.resilience):
        yield Text(visible_line(", ".join(facts)), style="magenta")
    if (cut := _cut(record.truncation)) is not None:
        yield Text(visible_line(cut), style="yellow")


def _detours(resilience: CallResilience) -> list[str]:
    """Return the retries, waits and fallbacks of a call; empty if it was sent once."""
    facts = []
    if resilience.rejection is not None:
        facts.append(f"not sent: {resilience.rejection}")
    if resilience.retried:
        facts.append(f"{resilience.attempts} attempts, before: {', '.join(resilience.retried)}")
    if resilience.limiter_wait:
        facts.append(f"{seconds(resilience.limiter_wait)} in the limiter's queue")
    if resilience.server_address is not None or resilience.model is not None:
        place = (
            resilience.server_address and f"{resilience.server_address}:{resilience.server_port}"
        )
        facts.append(f"served by the fallback {' '.join(filter(None, (place, resilience.model)))}")
    return facts


def _cut(truncation: Truncation) -> str | None:
    """Return what the server left out; None if unknown."""
    if truncation.kind is None:
        return None
    what = {
        "prompt_cut": "prompt cut",
        "history_dropped": f"{truncation.dropped_messages or 'oldest'} messages dropped",
        "context_shift": "beginning of the context dropped while generating",
    }.get(truncation.kind, truncation.kind)
    how_sure = ", suspected" if truncation.certainty == "suspected" else ""
    lost = "some" if truncation.lost_tokens is None else f"about {truncation.lost_tokens}"
    of = f" of {truncation.prompt_tokens}" if truncation.prompt_tokens is not None else ""
    return f"{what}{how_sure}: {lost}{of} tokens lost, context {truncation.context_length or '?'}"


def _waits(record: CallRecord) -> list[str]:
    first, answer = record.time_to_first_chunk, record.time_to_first_answer
    if first is None:
        return []
    if record.response.total_duration is None:
        return [f"{record.chunk_count} chunks, no final one with the server's timings"]
    waits = [f"first chunk after {seconds(first)}"]
    if record.response.has_thinking or record.start.request.think:
        waits.append(f"first answer after {seconds(answer)}" if answer else "no answer yet")
    return [*waits, f"{record.chunk_count} chunks"]


def _tokens(record: CallRecord, usual_rate: float | None) -> list[str]:
    response, rate = record.response, record.decode_rate
    usual = "" if usual_rate is None else f" (usually {usual_rate:.0f})"
    return [
        text
        for text, is_known in (
            (f"{response.input_tokens} tokens in", response.input_tokens is not None),
            (f"{response.output_tokens} out", response.output_tokens is not None),
            (f"{rate or 0:.0f} tokens/s{usual}", rate is not None),
        )
        if is_known
    ]
