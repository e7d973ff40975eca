"""How a comparison of two logs looks: as things that rich can print, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from ollama_otel._cli.render import seconds
from ollama_otel._cli.terminal import first_words, plural, printable
from ollama_otel._log.call import RecordedCall
from ollama_otel.replay._diff.text import FieldDifference, TextDifference
from ollama_otel.replay._diff.values import (
    BeforeAfter,
    ComparedPair,
    Comparison,
    Measure,
    MeasureSummary,
    StructureDifference,
)

__all__ = ["as_json", "pair", "summary", "unmatched"]

_SHOWN: Final = 400
"""Characters shown of one changed piece."""
_MARKS: Final = {"removed": ("[-", "-]", "red"), "added": ("{+", "+}", "green")}
_SIDES: Final = {"before": "the first log", "after": "the second log"}
_REASONS: Final = {
    "no_body": "no body in {}",
    "redacted": "redacted in {}",
    "not_ended": "never ended in {}",
    "left_early": "its caller left early in {}, so compared as far as that went",
}
_LABELS: Final[dict[Measure, str]] = {
    "duration": "duration",
    "time_to_first_chunk": "time to first chunk",
    "decode_rate": "decode rate",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
}
_FOOTNOTE: Final = (
    "Of calls that completed in both logs. Change: the median of the pairs' own.\n"
    "p95: linear interpolation. p: two-sided exact sign test."
)


# --- one call -----------------------------------------------------------------------------


def pair(pair: ComparedPair) -> RenderableType:
    """Show what changed in one pair."""
    tree = Tree(_title(pair), guide_style="dim")
    for note in pair.notes:
        tree.add(Text(_REASONS[note.why].format(_SIDES[note.side]), style="yellow"))
    for title, lines in _changes(pair):
        branch = tree.add(Text(title))
        for line in lines:
            branch.add(line)
    tree.add(_measures(pair))
    return tree


def unmatched(calls: Sequence[RecordedCall], log: str) -> RenderableType:
    """List the calls that only one log has."""
    tree = Tree(Text(f"Only in {printable(log)}", style="bold"), guide_style="dim")
    for call in calls:
        tree.add(Text(f"{_name(call)}  {_place(call)}"))
    return tree


def _title(pair: ComparedPair) -> Text:
    before, after = pair.before.start.request.model, pair.after.start.request.model
    line = Text(_name(pair.before), style="bold")
    if before != after:
        line.append(f" -> {first_words(after or '')}")
    line.append(f"  {_place(pair.before)} -> {_place(pair.after)}  ", style="dim")
    changed = ", ".join(sorted(pair.changed))
    unchanged = "the same by its facts" if pair.is_by_facts_only else "identical"
    line.append(changed or unchanged, style="yellow" if changed else "green")
    return line


def _name(call: RecordedCall) -> str:
    return first_words(f"{call.start.endpoint.name} {call.start.request.model or ''}")


def _place(call: RecordedCall) -> str:
    return printable(f"{call.file.name}:{call.line}")


def _changes(pair: ComparedPair) -> Iterator[tuple[str, Iterable[Text]]]:
    """Each aspect that changed, with the places."""
    changed = pair.changed
    if "outcome" in changed:
        yield "outcome", [*map(_field, pair.outcome), *_errors(pair)]
    for name, text in (("text", pair.text), ("thinking", pair.thinking)):
        if text is not None and name in changed:
            yield f"{name}, {text.similarity:.0%} the same", [_changed_words(text)]
    if pair.structure is not None and "structure" in changed:
        yield "structure", _structure(pair.structure)
    if "tools" in changed:
        yield "tools", map(_field, pair.tools)


def _errors(pair: ComparedPair) -> Iterator[Text]:
    for side, call in (("first", pair.before), ("second", pair.after)):
        if call.record is not None and call.record.error_message is not None:
            yield Text(_cut(f"in the {side} log: {call.record.error_message}"), style="red")


def _changed_words(difference: TextDifference) -> Text:
    line = Text()
    for kind, text in difference.segments:
        # The marks are those of wdiff: colours do not come through a pipe.
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
            yield Text(f"the {side} answer is no JSON", style="red")
    yield from map(_field, difference.fields)


def _field(difference: FieldDifference) -> Text:
    return Text(_cut(str(difference)))


def _measures(pair: ComparedPair) -> Text:
    known = [
        f"{_LABELS[name]} {_change_of(name, values)}"
        for name, values in pair.measures.items()
        if values.is_known
    ]
    return Text(", ".join(known) or "nothing was measured in both", style="dim")


def _change_of(name: Measure, values: BeforeAfter) -> str:
    before, after = _amount(name, values.before), _amount(name, values.after)
    return before if before == after else f"{before} -> {after}"


def _cut(text: str) -> str:
    more = len(text) - _SHOWN
    return printable(text if more <= 0 else f"{text[:_SHOWN]}... [{more} more characters]")


# --- all of them --------------------------------------------------------------------------


def summary(comparison: Comparison) -> RenderableType:
    """Show the counts, and each measure over all pairs."""
    return Group(Text(""), *_counts(comparison), Text(""), _table(comparison), _footnote())


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


def _table(comparison: Comparison) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for heading in ("pairs", "median", "after", "change", "p95", "after", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, figures in comparison.summary().items():
        table.add_row(_LABELS[name], str(figures.count), *_cells(name, figures))
    return table


def _cells(name: Measure, figures: MeasureSummary) -> list[str | Text]:
    change, p_value = figures.median_change, figures.p_value
    style = "bold yellow" if figures.is_significant else ""
    return [
        _amount(name, figures.median_before),
        _amount(name, figures.median_after),
        Text("" if change is None else f"{change:+.1%}", style=style),
        _amount(name, figures.p95_before),
        _amount(name, figures.p95_after),
        "" if p_value is None else f"{p_value:.3g}",
    ]


def _footnote() -> Text:
    return Text(_FOOTNOTE, style="dim")


def _amount(name: Measure, value: float | None) -> str:
    if value is None:
        return ""
    if name in {"duration", "time_to_first_chunk"}:
        return seconds(value)
    return f"{value:,.1f}/s" if name == "decode_rate" else f"{value:,.10g}"


# --- JSON ---------------------------------------------------------------------------------


def as_json(comparison: Comparison, pairs: Sequence[ComparedPair]) -> dict[str, Any]:
    """Return the comparison as JSON's values, of its pairs those given."""
    return {
        "counts": comparison.counts,
        "summary": {name: asdict(each) for name, each in comparison.summary().items()},
        "pairs": [_pair_as_json(each) for each in pairs],
        "only_before": [_call_as_json(call) for call in comparison.only_before],
        "only_after": [_call_as_json(call) for call in comparison.only_after],
    }


def _pair_as_json(pair: ComparedPair) -> dict[str, Any]:
    differences = {"text": pair.text, "thinking": pair.thinking, "structure": pair.structure}
    return {
        "before": _call_as_json(pair.before),
        "after": _call_as_json(pair.after),
        "changed": sorted(pair.changed),
        "notes": [note._asdict() for note in pair.notes],
        "outcome": [asdict(each) for each in pair.outcome],
        **{name: None if each is None else asdict(each) for name, each in differences.items()},
        "tools": [asdict(each) for each in pair.tools],
        "measures": {name: values._asdict() for name, values in pair.measures.items()},
    }


def _call_as_json(call: RecordedCall) -> dict[str, Any]:
    return {
        "id": call.id,
        "file": str(call.file),
        "line": call.line,
        "operation": call.start.endpoint.name,
        "model": call.start.request.model,
        "error_message": None if call.record is None else call.record.error_message,
    }
