"""The command `dashboards check`: reports which panels have data, and why others have none."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import wrap
from typing import Final, get_args

from rich.console import Console
from rich.text import Text

from ollama_otel._cli.terminal import console_for_tables, plural
from ollama_otel._display import visible_line
from ollama_otel._monitoring import MonitoringError
from ollama_otel._monitoring.board_file import BoardFile, read_board_file
from ollama_otel._monitoring.check import CheckReport, PanelReport, RulesReport, check
from ollama_otel._monitoring.diagnosis import NO_FAULT, State
from ollama_otel._monitoring.files import board_files, shipped_folder
from ollama_otel._monitoring.prometheus_api import PrometheusServer

__all__ = ["lines", "run"]

_STYLES: Final[Mapping[State, str]] = {
    "data": "green",
    "nothing": "dim",
    "off": "dim",
    "waiting": "yellow",
    "filtered": "yellow",
    "stale": "yellow",
    "missing": "red",
    "error": "bold red",
}
_WIDEST_TITLE: Final = 44
_WIDEST_STATE: Final = max(map(len, get_args(State)))
_NARROWEST: Final = 40
"""Least width of the reasons beside the panels, and not below."""
_BETWEEN: Final = "  "
_RENAMED: Final = (
    "It stores metrics of ollama_otel under names that the boards do not use: {names}\n"
    "Set `translation_strategy: UnderscoreEscapingWithSuffixes`, in prometheus.yml under `otlp`, "
    "or in the Collector's exporter for Prometheus. New samples then have the other names."
)
_EMPTY: Final = (
    "It has no metrics of ollama_otel in that time, so no panel can have data. Apps send theirs "
    "through a Collector, by a scrape endpoint, or, if it runs with --web.enable-otlp-receiver, "
    "with"
)
_OTLP: Final = "  OTEL_EXPORTER_OTLP_METRICS_ENDPOINT={url}/api/v1/otlp/v1/metrics"
_FIRST_EXPORT: Final = (
    "The first export comes after 60 s (OTEL_METRIC_EXPORT_INTERVAL), or when the app ends."
)
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"))


def run(arguments: argparse.Namespace) -> int:
    """Check and print; returns 1 if a panel is empty that should have data."""
    console = console_for_tables(sys.stdout, no_color=arguments.no_color)
    folder = arguments.boards or shipped_folder()
    boards = _chosen(
        [read_board_file(path) for path in board_files(folder)], arguments.board, folder
    )
    _check_choices(boards, dict(arguments.set))
    with PrometheusServer(arguments.prometheus) as prometheus:
        report = _check(boards, prometheus, folder, arguments, console)
    if arguments.json:
        print(json.dumps({**asdict(report), "is_whole": report.is_whole}))
    else:
        titles = {board.uid: board.title for board in boards}
        for line in lines(report, titles, width=console.width):
            console.print(line, soft_wrap=bool(line.no_wrap))
    return 0 if report.is_whole else 1


def _check(
    boards: Sequence[BoardFile],
    prometheus: PrometheusServer,
    folder: Path,
    arguments: argparse.Namespace,
    console: Console,
) -> CheckReport:
    total = sum(len(board.panels) for board in boards)
    checked = 0
    with console.status("Running queries ...", spinner="line") as status:

        def show(panel: PanelReport) -> None:
            nonlocal checked
            checked += 1
            status.update(f"{checked} of {total}: {visible_line(panel.panel)}")

        return check(
            boards,
            prometheus,
            folder=folder,
            range_=arguments.range,
            interval=arguments.interval,
            chosen=dict(arguments.set),
            on_panel=show,
        )


def _chosen(boards: list[BoardFile], wanted: list[str] | None, folder: Path) -> list[BoardFile]:
    if not boards:
        raise MonitoringError(f"no boards in {folder}")
    if wanted is None:
        return boards
    chosen = []
    for name in wanted:
        found = [board for board in boards if name == board.uid or board.uid.endswith(f"-{name}")]
        if not found:
            there = ", ".join(board.uid for board in boards)
            raise MonitoringError(f"no board {name!r}; there are {there}")
        chosen.extend(found)
    return chosen


def _check_choices(boards: Sequence[BoardFile], chosen: Mapping[str, str]) -> None:
    known = {name for board in boards for name in board.variables}
    for name in chosen:
        if name not in known:
            there = ", ".join(sorted(known))
            raise MonitoringError(f"no board has a variable {name!r}; there are {there}")


def lines(report: CheckReport, titles: Mapping[str, str], *, width: int) -> Iterator[Text]:
    version = f" {report.version}" if report.version else ""
    yield Text(f"Prometheus{version} at {report.prometheus}, the last {_time(report.range)}")
    if report.renamed:
        yield Text(_RENAMED.format(names=_some(report.renamed, most=2)), style="bold red")
    if not report.has_metrics:
        # Each panel would say the same.
        if not report.renamed:
            yield from _how_to_send(report.prometheus)
        yield from _rules(report.rules)
        return
    for board, title in titles.items():
        yield Text(f"\n{visible_line(title)}", style="bold")
        yield from _rows([panel for panel in report.panels if panel.board == board], width)
    yield Text("")
    yield from _summary(report)


def _how_to_send(url: str) -> Iterator[Text]:
    yield Text(_EMPTY, style="bold red")
    # Not wrapped, so that it can be copied.
    yield Text(_OTLP.format(url=url), no_wrap=True)
    yield Text(_FIRST_EXPORT)


def _rows(panels: Sequence[PanelReport], width: int) -> Iterator[Text]:
    titles = [visible_line(panel.panel) for panel in panels]
    longest = min(_WIDEST_TITLE, max(map(len, titles), default=0))
    before = longest + _WIDEST_STATE + 2 * len(_BETWEEN)
    is_beside = width - before >= _NARROWEST
    if not is_beside:
        longest = min(longest, width - _WIDEST_STATE - len(_BETWEEN))
        before = 2 * len(_BETWEEN)
    for panel, title in zip(panels, titles, strict=True):
        name = Text(title)
        name.truncate(longest, overflow="ellipsis", pad=True)
        state = Text(panel.state.ljust(_WIDEST_STATE), style=_STYLES[panel.state])
        rest = wrap(_data_text(panel), width - before)
        first = rest.pop(0) if is_beside and rest else ""
        yield Text.assemble(name, _BETWEEN, state, _BETWEEN if first else "", first)
        for line in rest:
            yield Text(" " * before + line)


def _data_text(panel: PanelReport) -> str:
    if panel.reason is not None:
        return visible_line(panel.reason)
    last = "" if panel.last is None else f", last value {panel.last:.4g}"
    notes = "".join(f"; {note}" for note in panel.notes)
    return visible_line(f"{panel.series} series{last}{notes}")


def _summary(report: CheckReport) -> Iterator[Text]:
    counts = Counter(panel.state for panel in report.panels)
    lacking = sum(panel.state not in NO_FAULT for panel in report.panels)
    optional = len(report.panels) - counts["data"] - lacking
    yield Text(
        f"{counts['data']} of {plural(len(report.panels), 'panel')} have data; "
        f"{lacking} should have data and have none; "
        f"{optional} need calls or settings that are not there.",
        style="bold green" if report.is_whole else "bold red",
    )
    yield Text(f"Our metrics make {report.series:,} series. {_histograms(report)}")
    yield from _rules(report.rules)


def _histograms(report: CheckReport) -> str:
    if not report.classic_histograms and not report.native_histograms:
        return "No histograms."
    text = f"Histograms: {report.native_histograms} native, {report.classic_histograms} classic."
    if report.classic_histograms:
        text += (
            " A classic one takes one series per bucket; "
            "otlp.convert_histograms_to_nhcb makes it one series."
        )
    return text


def _rules(rules: RulesReport) -> Iterator[Text]:
    loaded = rules.expected - len(rules.missing)
    if not rules.expected:
        yield Text("There are no rules with these boards.")
    elif not rules.missing:
        yield Text(f"All {rules.expected} rules are loaded.")
    else:
        yield Text(
            f"{loaded} of {rules.expected} rules are loaded, {_some(rules.missing, most=4)} "
            "are missing: add the files of rules/ to rule_files.",
            style="yellow",
        )
    for name, error in rules.failing.items():
        yield Text(visible_line(f"Rule {name} fails: {error}"), style="red")


def _some(names: Sequence[str], *, most: int) -> str:
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")


def _time(seconds: int) -> str:
    for size, unit in _UNITS:
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
