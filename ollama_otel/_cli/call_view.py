"""One logged call in full, as rich objects and as JSON values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from statistics import median
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from ollama_otel._cli import call_list, conversation
from ollama_otel._cli.call_tree import call_tree
from ollama_otel._cli.curl import CurlCommand
from ollama_otel._cli.model_memory import memory_facts
from ollama_otel._cli.terminal import local_time
from ollama_otel._cli.units import seconds
from ollama_otel._display import visible, visible_line
from ollama_otel._facts import FACTS, FactTable
from ollama_otel._log.call import RecordedCall
from ollama_otel._wire.endpoints import dialect_of
from ollama_otel.records import ToolCall

__all__ = ["again", "as_values", "parts"]

_NEVER_ENDED: Final = "never ended: its process was killed, or it is still running"
_BARS: Final = "▁▂▃▄▅▆▇█"
_ASCII_BARS: Final = "_.:-=+*#"
_MOST_BARS: Final = 60
_CHANGES: Final = {
    "redacted": "Redacted: parts of the text were replaced before it was logged.",
    "images": "Images are left out; the log has their hash and size.",
    "token_ids": "Token ids, which repeat the conversation, are left out.",
    "vectors": "Vectors are left out; the log has their hash and size.",
    "decoded": "The response was compressed; it was logged uncompressed.",
}
_MISSING: Final = {
    "queue_full": "A body is missing: the log's queue was full.",
    "too_long": "A body is missing: it was longer than the log's limit.",
    "encoding": "The response's body is missing: the log cannot decode its encoding.",
    "dialect": "A body is missing: its text fields are unknown, so it could not be redacted.",
}


def as_values(call: RecordedCall, *, facts: FactTable = FACTS) -> dict[str, Any]:
    """Return a call as one JSON object, with its conversation and answer; null is unknown."""
    answer = call.answer()
    return {
        **call_list.as_values(call, facts=facts),
        "body": call.request_body,
        "answer": answer.text if answer else None,
        "thinking": (answer.thinking or None) if answer else None,
        "tool_calls": [_tool_call(each) for each in answer.tool_calls] if answer else [],
        "chunk_times": None if call.chunks is None else [chunk.offset for chunk in call.chunks],
        "changes": sorted(call.changes),
        "missing": call.missing,
    }


def _tool_call(call: ToolCall) -> dict[str, Any]:
    return {"name": call.name, "arguments": call.arguments, "id": call.id}


def parts(
    call: RecordedCall, *, ascii_only: bool, usual_rate: float | None = None
) -> Iterator[RenderableType]:
    """Yield the parts of the view of a call; `usual_rate` is the decode rate of its model."""
    yield from _heading(call)
    yield from _request(call)
    yield from _answer(call)
    yield from _timings(call, ascii_only=ascii_only, usual_rate=usual_rate)
    yield from _section("Trace", _trace(call))
    yield from _section("What the log lacks", _gaps_of_log(call))


def again(curl: CurlCommand) -> Iterator[Text]:
    """Yield how to make the call again, in lines that must not be wrapped."""
    yield Text("\nMake it again", style="bold")
    if curl.caveat:
        yield Text(curl.caveat, style="yellow")
    if curl.command:
        yield Text(curl.command)


def _section(title: str, lines: Iterable[RenderableType]) -> Iterator[RenderableType]:
    lines = list(lines)
    if lines:
        yield Group(
            Text(f"\n{title}", style="bold"),
            *(Padding(line, (0, 0, 0, 2), expand=False) for line in lines),
        )


def _heading(call: RecordedCall) -> Iterator[Text]:
    start = call.start
    server = f" at {start.server_address}:{start.server_port}" if start.server_address else ""
    at = local_time(start.started_at)
    yield Text(visible_line(f"{start.endpoint.name} {start.request.model or ''}"), style="bold")
    request = visible_line(f"{start.endpoint.method} {call.path}{server}")
    yield Text(f"{request}, {at:%Y-%m-%d %H:%M:%S %z}")
    yield Text(visible_line(f"{call.id}, {call.file}:{call.line}"), style="dim")
    context = start.context
    known = {"conversation": context.conversation_id, "user": context.user_id, **context.tags}
    if any(known.values()):
        yield Text(
            visible_line("  ".join(f"{name}={value}" for name, value in known.items() if value))
        )


# --- request ------------------------------------------------------------------------------


def _request(call: RecordedCall) -> Iterator[RenderableType]:
    content, facts = call.conversation, call.start.request
    if content is not None:
        yield from _section("Asked", conversation.content(content))
        yield from _section("Tools offered", conversation.tools_offered(content.tools))
    elif call.request_body is not None:
        text = visible(conversation.as_text(call.request_body))
        yield from _section("Asked", [Text(text)])
    elif facts.size:
        count = f"{facts.input_count or 1} input(s), {facts.size} bytes"
        yield from _section("Asked", [Text(f"{count}; the text was not logged.")])
    options = facts.options if content is None else content.settings
    yield from _section(
        "Options",
        (
            Text(visible(f"{name} = {conversation.as_text(value)}"))
            for name, value in options.items()
        ),
    )


# --- answer -------------------------------------------------------------------------------


def _answer(call: RecordedCall) -> Iterator[RenderableType]:
    record, answer = call.record, call.answer()
    if answer is not None and answer.thinking:
        yield from _section("Thinking", [Text(visible(answer.thinking), style="dim")])
    if answer is not None and answer.parts:
        cut = [Text("... and more: see --body", style="yellow")] if answer.is_cut else []
        yield from _section("Answered", [*conversation.part_lines(answer.parts), *cut])
    elif call.body and not (record and record.error_message):
        span = dialect_of(call.start.endpoint).vectors(call.body)
        shown = conversation.vectors(span) if span else conversation.other_body(call.body)
        yield from _section("Answered", [shown])
    elif record is not None and record.http_status is not None and call.chunks is None:
        yield from _section("Answered", [Text(f"{record.response_size} bytes, not logged.")])
    if record is not None and record.outcome == "failed":
        status = f"HTTP {record.http_status}, " if record.http_status is not None else ""
        error = f"{status}{record.error_type}: {record.error_message or 'no message'}"
        yield from _section("Failed", [Text(visible(error), style="red")])


# --- times --------------------------------------------------------------------------------


def _timings(
    call: RecordedCall, *, ascii_only: bool, usual_rate: float | None
) -> Iterator[RenderableType]:
    record = call.record
    if record is None:
        yield from _section("Time", [Text(_NEVER_ENDED, style="bold yellow")])
        return
    name = visible_line(f"{call.start.endpoint.name} {call.start.request.model or ''}")
    tree = call_tree(record, name, ascii_only=ascii_only, usual_rate=usual_rate)
    yield from _section("Where the time went", [tree])
    memory = (Text(visible_line(fact)) for fact in memory_facts(record.residency))
    yield from _section("Model in memory", memory)
    yield from _section("Time between chunks", _gaps(call, ascii_only=ascii_only))


def _gaps(call: RecordedCall, *, ascii_only: bool) -> Iterator[Text]:
    times = [chunk.offset for chunk in call.chunks or ()]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    longest = max(gaps, default=0.0)
    if longest <= 0:
        return
    # A bar for several chunks shows the longest wait among them.
    together = -(-len(gaps) // _MOST_BARS)
    highest = [max(gaps[at : at + together]) for at in range(0, len(gaps), together)]
    bars = _ASCII_BARS if ascii_only else _BARS
    top = len(bars) - 1
    yield Text("".join(bars[max(0, round(gap / longest * top))] for gap in highest), style="green")
    each = f"a bar for {together} chunks, " if together > 1 else ""
    at = gaps.index(longest)
    yield Text(
        f"{each}{len(times)} in all; median {seconds(median(gaps))}, "
        f"longest {seconds(longest)}, after {seconds(times[at])}"
    )


# --- trace and gaps of the log ------------------------------------------------------------


def _trace(call: RecordedCall) -> Iterator[Text]:
    if call.trace_id is None:
        return
    trace_id = visible_line(call.trace_id)
    yield Text(trace_id)
    if call.is_sampled:
        yield Text(f"In a Jaeger on this machine: http://localhost:16686/trace/{trace_id}")
    else:
        yield Text("Not sampled: no collector has it.")


def _gaps_of_log(call: RecordedCall) -> Iterator[Text]:
    for change in sorted(call.changes):
        yield Text(_CHANGES.get(change, visible_line(change)), style="yellow")
    if call.missing is not None:
        yield Text(_MISSING.get(call.missing, visible_line(call.missing)), style="yellow")
    elif call.request_body is None and call.start.request.size:
        yield Text("Bodies were not logged: replay_bodies is off.", style="yellow")
