"""The screen of `top` as lines of text: a pure function of a view and the user's choices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from rich.text import Text

from ollama_otel._cli.terminal import OUTCOME_STYLES, plural
from ollama_otel._cli.top_cells import (
    UNKNOWN,
    Cell,
    Column,
    line_of,
    short_bytes,
    short_count,
    short_rate,
    short_seconds,
    widths_of,
)
from ollama_otel._display import visible_line
from ollama_otel._top.selection import selected
from ollama_otel._top.view import CallRow, CallState, ModelRow, Rates, VerdictKind, View

__all__ = ["Choice", "call_at", "calls_of", "lines_of"]

_WIDE: Final = 110
"""Columns from which a line of a call has its time of day, operation and conversation."""
_LEAST_CALLS: Final = 4
"""Lines for calls, its heading included."""
_KEYS: Final = "q quit  s sort  r reverse  / filter  Enter open  v verdicts  p pause  ? help"
_STATES: Final[Mapping[CallState, str]] = {
    "running": "run",
    "completed": "done",
    "abandoned": "left",
    "cancelled": "cancel",
    "failed": "failed",
}
_URGENT: Final[frozenset[VerdictKind]] = frozenset({"errors_in_a_row"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The user's choices."""

    sort: str = "TIME"
    descending: bool = True
    words: str = ""
    """The filter: a call is shown if it has all of them."""
    call: str | None = None
    """The call under the cursor; None: the first line."""
    is_paused: bool = False


def calls_of(view: View, choice: Choice) -> list[CallRow]:
    """Return the calls that are shown, in their order."""
    return selected(
        view.calls or (), sort=choice.sort, descending=choice.descending, words=choice.words
    )


def call_at(calls: Sequence[CallRow], choice: Choice, *, by: int = 0) -> CallRow | None:
    """Return the call under the cursor, or the one that many lines below; None without calls."""
    if not calls:
        return None
    return calls[min(max(_cursor(calls, choice) + by, 0), len(calls) - 1)]


def _cursor(calls: Sequence[CallRow], choice: Choice) -> int:
    if choice.call is None:
        return 0
    return next((at for at, call in enumerate(calls) if call.id == choice.call), 0)


def lines_of(view: View, choice: Choice, *, width: int, height: int) -> list[Text]:
    """Return the lines of the screen: `height` of them, each at most `width` columns."""
    top = [*_head(view, choice, width)]
    rest = height - len(top) - 1 - _LEAST_CALLS
    models = _models(view, width, most=max(1, rest // 2))
    verdicts = _verdicts(view, width, most=max(0, min(rest - len(models), height // 6)))
    top += [*models, *verdicts]
    calls = _calls(view, choice, width, lines=max(0, height - len(top) - 1))
    body = [*top, *calls][: height - 1]
    body += [Text()] * (height - 1 - len(body))
    return [_fitted(line, width) for line in (*body, Text(_KEYS, style="dim"))]


def _fitted(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    return line


# --- head -----------------------------------------------------------------------------------


def _head(view: View, choice: Choice, width: int) -> Iterator[Text]:
    yield _title(view, choice)
    yield from _flowing(_now(view), width)
    if view.rates is not None:
        yield from _flowing(_ended(view.rates), width)
    for source in view.sources:
        if source.problem is not None:
            yield Text(visible_line(f"! {source.name}: {source.problem}"), style="red")


def _title(view: View, choice: Choice) -> Text:
    time = datetime.fromtimestamp(view.at, UTC).astimezone()
    title = Text.assemble(("ollama-otel top", "bold"), f"  {time:%H:%M:%S}")
    if choice.is_paused:
        title.append("  PAUSED", "bold reverse")
    arrow = "down" if choice.descending else "up"
    title.append(f"  by {choice.sort} {arrow}", "dim")
    if choice.words:
        title.append(f"  filter: {visible_line(choice.words)}", "bold cyan")
    return title


def _flowing(facts: Iterator[str], width: int) -> Iterator[Text]:
    """Yield facts side by side, in as many lines as they need."""
    line = ""
    for fact in facts:
        if line and len(line) + 3 + len(fact) > width:
            yield Text(line)
            line = ""
        line += f"{' | ' if line else ''}{fact}"
    if line:
        yield Text(line)


def _now(view: View) -> Iterator[str]:
    if view.in_flight is not None:
        oldest = "" if view.oldest is None else f", oldest {short_seconds(view.oldest)}"
        yield f"in flight {view.in_flight}{oldest}"
        waiting = UNKNOWN if view.waiting is None else f"~{view.waiting}"
        yield f"waiting for a slot {waiting}"
    if view.limiter_waiting is not None:
        yield f"in limiter queue {view.limiter_waiting}"
    if view.unended:
        yield f"{plural(view.unended, 'call')} without an end for over an hour"
    if view.loaded is not None:
        size = "" if view.memory is None else f", {short_bytes(view.memory)}"
        yield f"{plural(view.loaded, 'model')} in memory{size}"


def _ended(rates: Rates) -> Iterator[str]:
    yield f"last {rates.window:.0f} s: {short_rate(rates.calls_per_second)} calls ended"
    if rates.failed:
        yield f"{rates.failed} failed"
    if rates.cancelled:
        yield f"{rates.cancelled} cancelled or left"
    yield f"tokens in {short_rate(rates.input_tokens)} out {short_rate(rates.output_tokens)}"
    yield f"took {short_seconds(rates.duration)}"
    yield f"first chunk {short_seconds(rates.first)}"
    if rates.waited:
        yield f"{rates.waited} waited {short_seconds(rates.wait)}"


# --- models ---------------------------------------------------------------------------------

_MODEL_COLUMNS: Final = (
    Column("MODEL", 0, is_right=False),
    Column("USED", 4),
    Column("MEMORY", 6),
    Column("GPU", 4),
    Column("CTX", 6),
    Column("UNTIL", 6),
    Column("FLIGHT", 6),
    Column("ENDED", 5),
    Column("PREFILL", 8),
    Column("DECODE", 7),
)
_LOADS: Final = Column("LOADS", 5)
"""On a wide screen only, as repeated loads are shown by a verdict too."""


def _models(view: View, width: int, *, most: int) -> list[Text]:
    """Return the table of models, in at most this many lines and its heading."""
    if not view.models:
        return []
    columns = (*_MODEL_COLUMNS, _LOADS) if width >= _WIDE else _MODEL_COLUMNS
    widths = widths_of(columns, width)
    lines = [_heading(columns, widths)]
    several = _has_several_servers(view)
    for number, model in enumerate(view.models):
        is_first = number == 0 or model.server != view.models[number - 1].server
        needed = 1 + (several and is_first)
        left = len(view.models) - number
        if len(lines) - 1 + needed + (left > 1) > most:
            lines.append(Text(f"and {plural(left, 'more model')}", style="dim"))
            break
        if several and is_first:
            lines.append(Text(visible_line(model.server or "server unknown"), style="bold"))
        cells = [*_model_cells(model)][: len(columns)]
        lines.append(line_of(columns, widths, cells))
    return lines


def _has_several_servers(view: View) -> bool:
    return len({model.server for model in view.models}) > 1


def _heading(columns: Sequence[Column], widths: Sequence[int]) -> Text:
    line = line_of(columns, widths, [Cell(column.title) for column in columns])
    line.stylize("bold underline")
    return line


def _model_cells(model: ModelRow) -> Iterator[Cell]:
    yield Cell(model.model, "" if model.is_loaded is not False else "dim")
    yield Cell(UNKNOWN if model.used_ago is None else _age(model.used_ago))
    yield Cell(short_bytes(model.memory))
    yield Cell(UNKNOWN if model.gpu_share is None else f"{model.gpu_share:.0%}")
    yield Cell(UNKNOWN if model.context_length is None else str(model.context_length))
    yield _until(model)
    yield Cell(_flight(model), "cyan" if model.in_flight else "")
    yield Cell(UNKNOWN if model.ended is None else short_count(model.ended))
    yield Cell(UNKNOWN if model.prefill_rate is None else f"~{short_rate(model.prefill_rate)}")
    yield Cell(short_rate(model.decode_rate))
    yield Cell(UNKNOWN if model.loads is None else str(model.loads))


def _until(model: ModelRow) -> Cell:
    if model.is_loaded is False:
        return Cell("out", "dim")
    if model.stays:
        return Cell("stays")
    if model.is_due:
        return Cell("due", "cyan")
    return Cell(short_seconds(model.expires_in))


def _flight(model: ModelRow) -> str:
    if model.in_flight is None:
        return UNKNOWN
    if model.slots is None:
        return str(model.in_flight)
    return f"{model.in_flight}/{model.slots}{'' if model.slots_are_all else '+'}"


# --- verdicts -------------------------------------------------------------------------------


def _verdicts(view: View, width: int, *, most: int) -> list[Text]:
    """Return the verdicts, wrapped, in at most this many lines."""
    lines: list[Text] = []
    verdicts = view.verdicts
    several = _has_several_servers(view)
    for number, verdict in enumerate(verdicts):
        at = f" ({verdict.server})" if several and verdict.server else ""
        wrapped = [*_wrapped(visible_line(f"! {verdict.sentence}{at}"), width)]
        left = len(verdicts) - number
        if len(lines) + len(wrapped) + (left > 1) > most:
            if most > len(lines):
                lines.append(Text(f"! {plural(left, 'more verdict')}: press v", style="yellow"))
            break
        style = "bold red" if verdict.kind in _URGENT else "yellow"
        lines += [Text(line, style=style) for line in wrapped]
    return lines


def _wrapped(sentence: str, width: int) -> Iterator[str]:
    line = ""
    for word in sentence.split():
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = "  " + word
        else:
            line = f"{line} {word}" if line else word
    yield line


# --- calls ----------------------------------------------------------------------------------

_PHASES: Final = (
    Column("QUEUE", 6),
    Column("LOAD", 6),
    Column("PROMPT", 6),
    Column("EVAL", 6),
)
_ENDING: Final = (
    Column("TOOK", 6),
    Column("FIRST", 6),
    *_PHASES,
    Column("IN", 5),
    Column("OUT", 5),
)
_NARROW: Final = (
    Column("", 1, is_right=False),
    Column("AGO", 4),
    Column("MODEL", 0, is_right=False),
    Column("STATE", 6, is_right=False),
    *_ENDING,
)
_WIDE_COLUMNS: Final = (
    Column("", 1, is_right=False),
    Column("TIME", 8),
    Column("ID", 14, is_right=False),
    Column("CALL", 0, is_right=False),
    Column("STATE", 6, is_right=False),
    *_ENDING,
    Column("NOTE", 20, is_right=False),
)


def _calls(view: View, choice: Choice, width: int, *, lines: int) -> Iterator[Text]:
    if lines < 2 or (view.calls is None):  # noqa: PLR2004
        return
    columns = _WIDE_COLUMNS if width >= _WIDE else _NARROW
    widths = widths_of(columns, width)
    yield _heading(columns, widths)
    calls = calls_of(view, choice)
    if not calls:
        yield Text("no call has these words" if choice.words else "no calls yet", style="dim")
        return
    cursor = _cursor(calls, choice)
    first = max(0, cursor - (lines - 2))
    for at, call in enumerate(calls[first : first + lines - 1], first):
        cells = [*_call_cells(call, view.at, is_wide=width >= _WIDE, is_under=at == cursor)]
        line = line_of(columns, widths, cells)
        if call.error_type is not None and not call.is_timed and width < _WIDE:
            line = _with_error(line, call.error_type, widths)
        if at == cursor:
            line.stylize("reverse")
        yield line


def _with_error(line: Text, error: str, widths: Sequence[int]) -> Text:
    """Return the line of a failed call with its error in place of the phases, which it lacks."""
    begin = sum(widths[:6]) + 6
    length = sum(widths[6:10]) + 3
    before, _, after = line.divide([begin, begin + length])
    shown = visible_line(error)[:length].ljust(length)
    return Text.assemble(before, (shown, "red"), after, no_wrap=True)


def _call_cells(call: CallRow, now: float, *, is_wide: bool, is_under: bool) -> Iterator[Cell]:
    yield Cell(">" if is_under else "")
    if is_wide:
        time = datetime.fromtimestamp(call.started_at, UTC).astimezone()
        yield Cell(f"{time:%H:%M:%S}")
        yield Cell(call.id)
        yield Cell(f"{call.start.endpoint.name} {call.model or ''}")
    else:
        yield Cell(_age(now - call.started_at))
        yield Cell(call.model or call.start.endpoint.name)
    style = "cyan" if call.record is None else OUTCOME_STYLES[call.record.outcome]
    yield Cell(_STATES[call.state], style)
    yield Cell(short_seconds(call.elapsed))
    yield Cell(short_seconds(call.first))
    yield from _phase_cells(call)
    yield Cell(short_count(call.input_tokens))
    yield Cell(short_count(call.output_tokens))
    if is_wide:
        yield _note(call)


def _age(seconds: float) -> str:
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= unit:
            return f"{seconds // unit:.0f}{name}"
    return f"{max(0.0, seconds):.0f}s"


def _phase_cells(call: CallRow) -> Iterator[Cell]:
    is_cold = call.record is not None and call.record.cold_start
    yield Cell(short_seconds(call.phase("queue_estimate")))
    yield Cell(short_seconds(call.phase("load")), "yellow" if is_cold else "")
    if call.prefill_eta is None:
        yield Cell(short_seconds(call.phase("prompt_eval")))
    else:
        yield Cell(f"~{short_seconds(call.prefill_eta)}", "cyan")
    yield Cell(short_seconds(call.phase("eval")))


def _note(call: CallRow) -> Cell:
    record = call.record
    if record is None:
        return Cell("")
    if record.error_type is not None:
        return Cell(record.error_type, "red")
    if record.truncation.kind is not None:
        return Cell(record.truncation.kind, "yellow")
    if record.residency.reload_cause is not None:
        return Cell(f"cold: {record.residency.reload_cause}", "yellow")
    return Cell("cold" if record.cold_start else "", "yellow")
