"""Renders the comparison of two logs, as rich objects and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from ollama_otel._cli import call_list
from ollama_otel._cli.table import ContinuedTable
from ollama_otel._cli.terminal import plural
from ollama_otel._cli.units import seconds
from ollama_otel._display import visible, visible_line
from ollama_otel._log.call import RecordedCall
from ollama_otel.replay._diff.json import FieldDifference
from ollama_otel.replay._diff.text import TextDifference
from ollama_otel.replay._diff.values import (
    BeforeAfter,
    ComparedPair,
    Comparison,
    Measure,
    MeasureSummary,
    StructureDifference,
)

__all__ = ["as_json", "parts"]

_SHOWN: Final = 400
"""Characters shown of one difference."""
_MARKS: Final = {"removed": ("[-", "-]", "red"), "added": ("{+", "+}", "green")}
_SIDES: Final = {"before": "the first log", "after": "the second log"}
_REASONS: Final = {
    "no_body": "no body in {}",
    "redacted": "redacted in {}",
    "not_ended": "never ended in {}",
    "left_early": "its caller stopped reading early in {}: compared up to there",
}
_LABELS: Final[dict[Measure, str]] = {
    "duration": "duration",
    "time_to_first_chunk": "time to first chunk",
    "decode_rate": "decode rate",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
}
_FOOTNOTE: Final = (
    "Calls that completed in both logs. Change is computed pair by pair, then the median.\n"
    "p95: linear interpolation. p: two-sided exact sign test."
)


def parts(
    comparison: Comparison,
    pairs: Sequence[ComparedPair],
    failed: Sequence[str],
    *,
    logs: tuple[str, str],
) -> Iterator[RenderableType]:
    """Yield the given pairs, the calls of one log only, the totals, and the aspects that failed."""
    yield from map(_pair, pairs)
    for calls, log in zip((comparison.only_before, comparison.only_after), logs, strict=True):
        if calls:
            yield _unmatched(calls, log)
    yield Group(Text(""), *_counts(comparison), Text(""), _table(comparison))
    yield Text(_FOOTNOTE, style="dim")
    if failed:
        yield Text(f"Changed: {', '.join(failed)}", style="bold red")


# --- one call -----------------------------------------------------------------------------


def _pair(pair: ComparedPair) -> Tree:
    tree = Tree(_title(pair), guide_style="dim")
    for note in pair.notes:
        tree.add(Text(_REASONS[note.why].format(_SIDES[note.side]), style="yellow"))
    for title, lines in _changes(pair):
        branch = tree.add(Text(title))
        for line in lines:
            branch.add(line)
    for difference in pair.residency:
        tree.add(_held(difference))
    tree.add(_measures(pair))
    return tree


def _unmatched(calls: Sequence[RecordedCall], log: str) -> Tree:
    tree = Tree(Text(f"Only in {visible(log)}", style="bold"), guide_style="dim")
    for call in calls:
        tree.add(Text(f"{_name(call)}  {_place(call)}"))
    return tree


def _title(pair: ComparedPair) -> Text:
    before, after = pair.before.start.request.model, pair.after.start.request.model
    line = Text(_name(pair.before), style="bold")
    if before != after:
        line.append(f" -> {visible_line(after or '')}")
    line.append(f"  {_place(pair.before)} -> {_place(pair.after)}  ", style="dim")
    changed = ", ".join(sorted(pair.changed))
    unchanged = "same facts, text not compared" if pair.is_by_facts_only else "identical"
    line.append(changed or unchanged, style="yellow" if changed else "green")
    return line


def _name(call: RecordedCall) -> str:
    return visible_line(f"{call.start.endpoint.name} {call.start.request.model or ''}")


def _place(call: RecordedCall) -> str:
    return visible(f"{call.file.name}:{call.line}")


def _changes(pair: ComparedPair) -> Iterator[tuple[str, Iterable[Text]]]:
    """Yield each aspect that changed, with its differences."""
    changed = pair.changed
    if "outcome" in changed:
        yield "outcome", [*map(_field, pair.outcome), *_errors(pair)]
    for name, text in (("text", pair.text), ("thinking", pair.thinking)):
        if text is not None and name in changed:
            yield f"{name}, {_how_similar(text)}", [_changed_words(text)]
    if pair.structure is not None and "structure" in changed:
        yield "structure", _structure(pair.structure)
    if "tools" in changed:
        yield "tools", map(_field, pair.tools)


def _how_similar(difference: TextDifference) -> str:
    if not difference.is_aligned:
        return "too long to be compared word by word"
    return f"{difference.similarity:.0%} the same"


def _errors(pair: ComparedPair) -> Iterator[Text]:
    for side, call in (("first", pair.before), ("second", pair.after)):
        if call.record is not None and call.record.error_message is not None:
            yield Text(_cut(f"in the {side} log: {call.record.error_message}"), style="red")


def _changed_words(difference: TextDifference) -> Text:
    line = Text()
    for kind, text in difference.segments:
        # The marks of wdiff, as a pipe has no colours.
        opening, closing, style = _MARKS.get(kind, ("", "", "dim"))
        shown = f" [{text}] " if kind == "skipped" else _cut(text)
        line.append(f"{opening}{shown}{closing}", style=style)
    return line


def _structure(difference: StructureDifference) -> Iterator[Text]:
    for side, is_json in (
        ("first", difference.before_is_json),
        ("second", difference.after_is_json),
    ):
        if not is_json:
            yield Text(f"the {side} answer is not JSON", style="red")
    yield from map(_field, difference.fields)


def _field(difference: FieldDifference) -> Text:
    return Text(_cut(str(difference)))


def _held(difference: FieldDifference) -> Text:
    """Return the change of a fact about the model in memory, such as `gpu_share 1.0 -> 0.4`."""
    name = difference.path.removeprefix("$.")
    before, after = (
        "-" if value is None else str(value) for value in (difference.before, difference.after)
    )
    return Text(_cut(f"{name} {before} -> {after}"), style="dim")


def _measures(pair: ComparedPair) -> Text:
    known = [
        f"{_LABELS[name]} {_change_of(name, values)}"
        for name, values in pair.measures.items()
        if values.is_known
    ]
    return Text(", ".join(known) or "no measure is known in both", style="dim")


def _change_of(name: Measure, values: BeforeAfter) -> str:
    before, after = _amount(name, values.before), _amount(name, values.after)
    return before if before == after else f"{before} -> {after}"


def _cut(text: str) -> str:
    more = len(text) - _SHOWN
    return visible(text if more <= 0 else f"{text[:_SHOWN]}... [{more} more characters]")


# --- totals -------------------------------------------------------------------------------


def _counts(comparison: Comparison) -> Iterator[Text]:
    counts = comparison.counts
    changed = [
        f"{count} {name.replace('_', ' ')}"
        for name, count in counts.items()
        if name.endswith("_changed") and count
    ]
    found = ", ".join([f"{counts['identical']} identical", *changed])
    yield Text(f"{plural(counts['pairs'], 'pair')}: {found}", style="bold")
    if counts["by_facts_only"]:
        yield Text(
            f"{plural(counts['by_facts_only'], 'pair')} compared by facts only", style="yellow"
        )
    yield Text(f"{counts['only_before']} only before, {counts['only_after']} only after")


def _table(comparison: Comparison) -> ContinuedTable:
    headings = ("pairs", "median", "after", "change", "p95", "after", "p")
    table = ContinuedTable("", *headings, heading_style="bold")
    for name, total in comparison.summary().items():
        table.add_row(_LABELS[name], str(total.count), *_cells(name, total))
    return table


def _cells(name: Measure, total: MeasureSummary) -> list[str | Text]:
    change, p_value = total.median_change, total.p_value
    style = "bold yellow" if total.is_significant else ""
    return [
        _amount(name, total.median_before),
        _amount(name, total.median_after),
        Text("" if change is None else f"{change:+.1%}", style=style),
        _amount(name, total.p95_before),
        _amount(name, total.p95_after),
        "" if p_value is None else f"{p_value:.3g}",
    ]


def _amount(name: Measure, value: float | None) -> str:
    if value is None:
        return ""
    if name in {"duration", "time_to_first_chunk"}:
        return seconds(value)
    return f"{value:,.1f}/s" if name == "decode_rate" else f"{value:,.10g}"


# --- JSON ---------------------------------------------------------------------------------


def as_json(comparison: Comparison, pairs: Sequence[ComparedPair]) -> dict[str, Any]:
    """Return the comparison as JSON values, with the given pairs only."""
    return {
        "counts": comparison.counts,
        "summary": {name: asdict(each) for name, each in comparison.summary().items()},
        "pairs": [_pair_as_json(each) for each in pairs],
        "only_before": [call_list.as_values(call) for call in comparison.only_before],
        "only_after": [call_list.as_values(call) for call in comparison.only_after],
    }


def _pair_as_json(pair: ComparedPair) -> dict[str, Any]:
    differences = {"text": pair.text, "thinking": pair.thinking, "structure": pair.structure}
    return {
        "before": call_list.as_values(pair.before),
        "after": call_list.as_values(pair.after),
        "changed": sorted(pair.changed),
        "notes": [note._asdict() for note in pair.notes],
        "outcome": [asdict(each) for each in pair.outcome],
        **{name: None if each is None else asdict(each) for name, each in differences.items()},
        "tools": [asdict(each) for each in pair.tools],
        "residency": [asdict(each) for each in pair.residency],
        "measures": {name: values._asdict() for name, values in pair.measures.items()},
    }
