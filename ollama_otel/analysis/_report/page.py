"""The report as one HTML page. Every text is escaped; a policy allows only the page's own code."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import cache
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any, Final, NamedTuple

from ollama_otel._display import shell_command, visible_line
from ollama_otel.analysis._report.attention import TEST
from ollama_otel.analysis._report.call_table import LIMIT, VIEWS
from ollama_otel.analysis._report.definitions import DEFINITIONS
from ollama_otel.analysis._report.plots import legend, svg
from ollama_otel.analysis._report.quantities import change, quantity, time_text
from ollama_otel.analysis._report.values import (
    CallRow,
    CallTable,
    Figure,
    Finding,
    Report,
    Section,
    Table,
    Total,
    Unit,
)

__all__ = ["GENERATOR", "page"]

GENERATOR: Final = "ollama-otel report"
"""The generator tag in the head of the page; a file with it may be overwritten."""
_HERE: Final = Path(__file__).parent
_OPEN_ROWS: Final = 20
"""Longer tables are folded."""
_NARROW: Final = 7
"""Columns of a table that takes half of the width."""
_PRINTED: Final = 5
"""Calls of each view that are printed on paper."""
_TEXTS: Final = frozenset({"text", "sentence", "id", "time"})
_SIGNS: Final = {"worse": "▲ Worse", "high": "● High", "better": "▼ Better", "changed": "◆ Changed"}
_VIEW_STYLE: Final = "".join(
    f"#view-{name}:target~.scroll .call:not(.v-{name}){{display:none}}"
    f'#view-{name}:target~.views a[href="#view-{name}"]'
    "{background:var(--strong);color:var(--page)}"
    for name in VIEWS
)


def page(report: Report) -> str:
    """Return the page."""
    style, script = _style(), _file("page.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta name="generator" content="{GENERATOR}">'
        f"<title>{_text(f'Report on {report.source}')}</title><style>{style}</style></head>\n"
        f"<body>{''.join(_body(report))}<script>{script}</script></body></html>\n"
    )


def _style() -> str:
    return _file("page.css") + _VIEW_STYLE


@cache
def _file(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _hash(code: str) -> str:
    return "sha256-" + b64encode(sha256(code.encode()).digest()).decode()


def _text(value: Any, unit: Unit = "text") -> str:
    return escape(quantity(value, unit))


def _words(text: str) -> str:
    """Return a sentence as HTML; it may quote names of the log."""
    return escape(visible_line(text))


def _body(report: Report) -> Iterator[str]:
    yield '<a class="skip" href="#attention">Skip to findings</a>'
    yield _patterns()
    yield f"<header><h1>Ollama calls</h1>{_about(report)}{_totals(report.totals)}</header>"
    yield _contents(report)
    yield "<main>"
    yield _attention(report)
    yield _calls(report.calls, report.source)
    yield from map(_section, report.sections)
    yield _definitions(report)
    yield "</main>"


def _patterns() -> str:
    """Return the fills that tell series apart without colour."""
    shapes = {
        1: '<path class="hatch" d="M-1 1l2-2M0 6l6-6M5 7l2-2"/>',
        3: '<circle class="dot" cx="3" cy="3" r="1.3"/>',
        5: '<path class="hatch" d="M0 3h6"/>',
    }
    patterns = "".join(
        f'<pattern id="p{number}" width="6" height="6" patternUnits="userSpaceOnUse">'
        f'<rect class="b{number}" width="6" height="6"/>{shape}</pattern>'
        for number, shape in shapes.items()
    )
    return f'<svg class="hidden" aria-hidden="true"><defs>{patterns}</defs></svg>'


# --- the head of the page -----------------------------------------------------------------


def _about(report: Report) -> str:
    period = report.period
    skipped = f" {report.skipped} parts of the log could not be read." if report.skipped else ""
    return (
        f"<p>{_text(report.source)}: {_time(period.start)} to {_time(period.end)} UTC.{skipped}</p>"
    )


def _time(time: datetime) -> str:
    return f'<time datetime="{time.isoformat()}">{time_text(time)}</time>'


def _totals(totals: Iterable[Total]) -> str:
    items = []
    for total in totals:
        before = ""
        if total.before is not None and total.value is not None:
            grown = f" ({change(total.before, total.value)})" if total.before else ""
            before = f"<small>before {_text(total.before, total.unit)}{escape(grown)}</small>"
        items.append(
            f'<div><dt><a href="#def-{total.name}">{escape(DEFINITIONS[total.name].title)}</a></dt>'
            f"<dd>{_text(total.value, total.unit)}{before}</dd></div>"
        )
    return f'<dl class="totals">{"".join(items)}</dl>'


def _contents(report: Report) -> str:
    links = [("attention", "Needs attention"), ("calls", "Calls")]
    links += [(section.name, section.title) for section in report.sections]
    links.append(("definitions", "Definitions"))
    items = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, title in links)
    return f'<nav class="contents" aria-label="Sections"><ul>{items}</ul></nav>'


# --- what needs attention -----------------------------------------------------------------


def _attention(report: Report) -> str:
    urgent = [finding for finding in report.findings if finding.kind in {"worse", "high"}]
    others = [finding for finding in report.findings if finding not in urgent]
    titles = {section.name: section.title for section in report.sections}
    found = (
        f'<ol class="findings">{"".join(_finding(each, titles) for each in urgent)}</ol>'
        if urgent
        else f'<p class="fine">{_calm(report)}</p>'
    )
    if others:
        found += (
            f'<h3>Also changed</h3><ul class="findings">'
            f"{''.join(_finding(each, titles) for each in others)}</ul>"
        )
    return (
        f'<section id="attention"><h2>Needs attention</h2><p>{_compared(report)}</p>{found}'
        f"<details><summary>How changes are tested</summary><p>{escape(TEST)}</p>"
        "</details></section>"
    )


def _calm(report: Report) -> str:
    if report.period.is_comparable:
        return "Nothing: no number is high, and none became worse."
    return "No number is high."


def _compared(report: Report) -> str:
    period = report.period
    if not period.is_comparable:
        return "There are too few calls to tell a change from chance, so changes are not shown."
    if period.compares == "period_before":
        return (
            "Compared to the period of the same length before: "
            f"{_time(period.before)} to {_time(period.now)} UTC."
        )
    return (
        f"The second half of the period, from {_time(period.now)} UTC, is compared to the first: "
        "the log has no other period of this length before."
    )


def _finding(finding: Finding, titles: dict[str, str]) -> str:
    subject, _, rest = finding.text.partition(": ")
    links = [f'<a href="#def-{finding.measure}">definition</a>']
    if finding.section in titles:
        links.insert(0, f'<a href="#{finding.section}">{escape(titles[finding.section])}</a>')
    if finding.measure in VIEWS:
        links.insert(1, f'<a href="#view-{finding.measure}">the calls</a>')
    return (
        f'<li class="{finding.kind}"><b class="badge">{_SIGNS[finding.kind]}</b>'
        f"<div><p><strong>{_words(subject)}</strong>: {_words(rest)}</p>"
        f"<small>{_words(finding.evidence)} · {' · '.join(links)}</small></div></li>"
    )


# --- calls --------------------------------------------------------------------------------


class _CallColumn(NamedTuple):
    title: str
    unit: Unit
    value: Callable[[CallRow], Any]


def _fact(name: str) -> Callable[[CallRow], Any]:
    return lambda row: row.values[name]


def _outcome(row: CallRow) -> str:
    values = row.values
    notes = [values["outcome"] or "no end"]
    if values["error_type"]:
        status = f" {values['http_status']}" if values["http_status"] else ""
        notes.append(f"{values['error_type']}{status}")
    if values["cold_start"]:
        notes.append("cold")
    if values["truncation_kind"]:
        notes.append(values["truncation_kind"])
    if (values["attempts"] or 1) > 1:
        notes.append(f"{values['attempts']} attempts")
    return ", ".join(notes)


_CALL_COLUMNS: Final = (
    _CallColumn("Began (UTC)", "time", _fact("started_at")),
    _CallColumn("Call", "id", _fact("call_id")),
    _CallColumn("Model", "text", _fact("model")),
    _CallColumn("Outcome", "text", _outcome),
    _CallColumn("Duration", "seconds", _fact("duration")),
    _CallColumn("First token", "seconds", _fact("time_to_first_answer")),
    _CallColumn("Load", "seconds", _fact("load_duration")),
    _CallColumn("Slot", "seconds", _fact("queue_estimate")),
    _CallColumn("Prefill", "seconds", _fact("prompt_eval_duration")),
    _CallColumn("Decode", "seconds", _fact("eval_duration")),
    _CallColumn("In", "count", _fact("input_tokens")),
    _CallColumn("Out", "count", _fact("output_tokens")),
    _CallColumn("In flight", "number", _fact("concurrency")),
    _CallColumn("User", "text", _fact("user_id")),
    _CallColumn("Trace", "id", _fact("trace_id")),
)


def _calls(calls: CallTable, source: str) -> str:
    anchors = "".join(f'<span class="anchor" id="view-{view.name}"></span>' for view in calls.views)
    links = "".join(
        f'<li><a href="#view-{view.name}" title="{escape(view.text)}">{escape(view.title)}</a></li>'
        for view in calls.views
    )
    heads = "".join(
        f'<th scope="col"{_class_of(column.unit)}>{escape(column.title)}</th>'
        for column in _CALL_COLUMNS
    )
    shown = f"{len(calls.rows):,} of {calls.total:,} calls"
    command = shell_command(["ollama-otel", "show", source])
    return (
        '<section id="calls"><h2>Calls</h2>'
        f"<p>{shown}: the first {LIMIT} of each view, each call once. "
        f"<code>{escape(command)} CALL</code> shows one in full.</p>"
        f"{_definition('calls_table')}{anchors}"
        f'<nav class="views" aria-label="Views of the calls"><ul><li><a href="#calls">All</a></li>'
        f"{links}</ul></nav>"
        '<div class="scroll" role="region" aria-label="Table of calls" tabindex="0">'
        f'<table id="call-table"><caption>Calls worth a look; times in UTC</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(map(_call, calls.rows))}</tbody></table>"
        f'</div><p class="paper">On paper: the first {_PRINTED} calls of each view.</p></section>'
    )


def _call(row: CallRow) -> str:
    classes = " ".join(["call", *(f"v-{view}" for view in row.ranks)])
    if min(row.ranks.values()) >= _PRINTED:
        classes += " screen"
    ranks = " ".join(f"{view}:{rank}" for view, rank in row.ranks.items())
    cells = []
    for column in _CALL_COLUMNS:
        value = column.value(row)
        cells.append(f"<td{_sort_key(value, column.unit)}>{_cell(value, column.unit)}</td>")
    return f'<tr class="{classes}" data-ranks="{ranks}">{"".join(cells)}</tr>'


def _sort_key(value: Any, unit: Unit) -> str:
    if unit in _TEXTS:
        return ""
    return ' class="n"' if value is None else f' class="n" data-v="{float(value):g}"'


def _cell(value: Any, unit: Unit) -> str:
    text = _text(value, unit)
    return f"<code>{text}</code>" if unit == "id" and value is not None else text


# --- sections -----------------------------------------------------------------------------


def _section(section: Section) -> str:
    lead = f"<p>{_with_code(visible_line(section.lead))}</p>" if section.lead else ""
    notes = ""
    if section.notes:
        items = "".join(f"<li>{_words(note)}</li>" for note in section.notes)
        count = len(section.notes)
        notes = (
            f'<details class="notes"><summary>Limitations: {count} '
            f"note{'' if count == 1 else 's'}</summary><ul>{items}</ul></details>"
        )
    figures = "".join(map(_figure, section.figures))
    return (
        f'<section id="{section.name}"><h2>{escape(section.title)}</h2>{lead}{notes}'
        f'<div class="figures">{figures}</div></section>'
    )


def _figure(figure: Figure) -> str:
    definition, plot = DEFINITIONS[figure.name], ""
    if figure.plot is not None and figure.plot.places:
        drawn = svg(
            figure.plot, name=f"plot-{figure.name}", title=definition.title, text=definition.text
        )
        label = escape(f"Plot: {definition.title}")
        plot = (
            f'<div>{legend(figure.plot)}<div class="scroll" role="region" aria-label="{label}" '
            f'tabindex="0">{drawn}</div></div>'
        )
    return (
        f'<figure id="{figure.name}" class="{_width(figure)}"><h3>{escape(definition.title)}</h3>'
        f'<div class="pair">{plot}<div>{_folded(figure)}</div></div>'
        f"{_definition(figure.name, tag='figcaption')}</figure>"
    )


def _width(figure: Figure) -> str:
    """Plots over time and narrow tables stand side by side; others take the whole width."""
    if figure.plot is None:
        return "half" if len(figure.table.columns) <= _NARROW else "whole"
    if figure.plot.kind != "bars":
        return "half"
    return "whole" if len(figure.table.columns) <= _NARROW else "whole stacked"


def _definition(name: str, tag: str = "p") -> str:
    return f'<{tag} class="definition">{_with_code(DEFINITIONS[name].text)}</{tag}>'


def _with_code(text: str) -> str:
    """Return a text of our own as HTML; what is between backticks is code."""
    parts = escape(text).split("`")
    return "".join(
        f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts)
    )


def _folded(figure: Figure) -> str:
    title = DEFINITIONS[figure.name].title
    made = _table(figure.table, title)
    is_over_axis = figure.plot is not None and figure.plot.kind != "bars"
    if len(figure.table.rows) <= _OPEN_ROWS and not is_over_axis:
        return made
    count = len(figure.table.rows)
    return f"<details><summary>Table: {escape(title)}, {count} rows</summary>{made}</details>"


def _table(table: Table, title: str) -> str:
    heads = "".join(
        f'<th scope="col"{_class_of(column.unit)}>{_text(column.name)}</th>'
        for column in table.columns
    )
    rows = []
    for first, *rest in table.rows:
        cells = "".join(
            f"<td{_class_of(column.unit)}>{_cell(value, column.unit)}</td>"
            for value, column in zip(rest, table.columns[1:], strict=True)
        )
        rows.append(f'<tr><th scope="row">{_cell(first, table.columns[0].unit)}</th>{cells}</tr>')
    note = f'<p class="note">{_words(table.note)}</p>' if table.note else ""
    return (
        f'<div class="scroll" role="region" aria-label="{escape(f"Table: {title}")}" tabindex="0">'
        f"<table><caption>{escape(title)}</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>{note}"
    )


def _class_of(unit: Unit) -> str:
    if unit in _TEXTS:
        return ' class="s"' if unit == "sentence" else ""
    return ' class="n"'


def _definitions(report: Report) -> str:
    names = [total.name for total in report.totals]
    names += [finding.measure for finding in report.findings]
    items = "".join(
        f'<dt id="def-{name}">{escape(DEFINITIONS[name].title)}</dt>'
        f"<dd>{_with_code(DEFINITIONS[name].text)}</dd>"
        for name in dict.fromkeys(names)
    )
    return f'<section id="definitions"><h2>Definitions</h2><dl>{items}</dl></section>'
