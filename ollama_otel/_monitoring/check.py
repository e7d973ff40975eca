"""Runs every query of the boards on a Prometheus, and explains the empty results."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ollama_otel._monitoring.board_file import BoardFile, BoardPanel, PanelQuery, Timing
from ollama_otel._monitoring.diagnosis import (
    NO_FAULT,
    RULES_LOADED,
    Diagnosis,
    Finding,
    State,
    worst,
)
from ollama_otel._monitoring.files import rule_files
from ollama_otel._monitoring.prometheus_api import PrometheusServer, QueryRefusedError
from ollama_otel._monitoring.promql_selectors import selectors_of
from ollama_otel._telemetry.instruments import Instrument, all_instruments
from ollama_otel._telemetry.metric_names import (
    HISTOGRAM_SUFFIXES,
    metric_name,
    other_names,
    series_names,
)

__all__ = ["CheckReport", "PanelReport", "RulesReport", "check"]

_RULE_NAME: Final = re.compile(r"^\s*(?:-\s+)?(?:alert|record):\s*[\"']?([\w:]+)", re.MULTILINE)
_STEPS: Final = 240
_SHORTEST_STEP: Final = 15
_BUCKETS: Final = HISTOGRAM_SUFFIXES[0]
_WITHOUT_FLAG: Final = "no exemplars: start Prometheus with --enable-feature=exemplar-storage"
_WITHOUT_EXEMPLARS: Final = (
    "no exemplars: they need OTLP and sampled spans; scraping does not deliver them"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelReport:
    """Result for one panel."""

    board: str
    """The uid of its board."""
    panel: str
    state: State
    series: int
    """Number of series, all queries together."""
    last: float | None
    """The newest number of the first series; None if there is none."""
    reason: str | None
    """Why there is no data; None if there is data."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesReport:
    """Which of the shipped rules Prometheus has loaded."""

    expected: int
    missing: tuple[str, ...]
    failing: Mapping[str, str] = field(default_factory=dict)
    """Error of the last evaluation, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What the boards show with one Prometheus."""

    prometheus: str
    version: str
    range: int
    """Length of the range that ends now, in seconds."""
    panels: tuple[PanelReport, ...]
    rules: RulesReport
    series: int
    """Number of series of our metrics in the range."""
    renamed: tuple[str, ...]
    """Names under which our metrics are stored, and which the boards do not ask for."""
    classic_histograms: int
    """Number of histograms stored as one series per bucket."""
    native_histograms: int
    """Number of histograms stored as one series."""
    keeps_exemplars: bool | None
    """Whether exemplars are stored; None if Prometheus does not report its flags."""

    @property
    def has_metrics(self) -> bool:
        """Whether Prometheus has any of our metrics under the names of the boards."""
        return self.series > 0 or any(panel.state == "stale" for panel in self.panels)

    @property
    def is_whole(self) -> bool:
        """Whether every panel that should have data has some."""
        return all(panel.state in NO_FAULT for panel in self.panels)


def check(
    boards: Sequence[BoardFile],
    prometheus: PrometheusServer,
    *,
    folder: Path,
    range_: int = 3600,
    interval: int = 60,
    chosen: Mapping[str, str] | None = None,
    clock: Callable[[], float] = time.time,
    on_panel: Callable[[PanelReport], None] = lambda _: None,
) -> CheckReport:
    """Run every query over the last `range_` seconds.

    `interval` is the time between two samples in seconds, `chosen` holds values of variables.
    Raises `MonitoringError` if Prometheus cannot be reached.
    """
    timing = Timing(range=range_, step=max(_SHORTEST_STEP, range_ // _STEPS), interval=interval)
    version = prometheus.version()
    now = clock()
    asked = {
        selector.metric
        for board in boards
        for panel in board.panels
        for query in panel.queries
        for selector in selectors_of(query.expression)
    }
    ours = {name for row in all_instruments() for name in series_names(row)}
    present = prometheus.series_of(asked | ours | {RULES_LOADED}, within=range_, at=now)
    renamed = _renamed(prometheus, range_, now)
    diagnosis = Diagnosis(
        prometheus=prometheus,
        timing=timing,
        now=now,
        present=present,
        renamed=renamed,
        chosen=chosen or {},
    )
    keeps_exemplars = prometheus.keeps_exemplars()
    reports = []
    for board in boards:
        for panel in board.panels:
            report = _panel(board, panel, diagnosis, keeps_exemplars=keeps_exemplars)
            on_panel(report)
            reports.append(report)
    histograms = [metric_name(row) for row in all_instruments() if row.kind == "histogram"]
    return CheckReport(
        prometheus=prometheus.url,
        version=version,
        range=range_,
        panels=tuple(reports),
        rules=_rules(folder, prometheus),
        series=sum(count for name, count in present.items() if name in ours),
        renamed=tuple(sorted(renamed.values())),
        classic_histograms=sum(f"{name}{_BUCKETS}" in present for name in histograms),
        native_histograms=sum(name in present for name in histograms),
        keeps_exemplars=keeps_exemplars,
    )


def _renamed(prometheus: PrometheusServer, within: int, at: float) -> dict[str, str]:
    """Return a name that the boards do not ask for, by the instrument that is stored under it."""
    instruments = all_instruments()
    of_calls = [row for row in instruments if row.requires == "calls"]
    if not _stored_otherwise(of_calls, prometheus, within, at):
        return {}
    return _stored_otherwise(instruments, prometheus, within, at)


def _stored_otherwise(
    instruments: Sequence[Instrument], prometheus: PrometheusServer, within: int, at: float
) -> dict[str, str]:
    names = {name: row.name for row in instruments for name in other_names(row)}
    stored = prometheus.series_of(names, within=within, at=at)
    return {names[name]: name for name in sorted(stored, reverse=True) if name in names}


def _panel(
    board: BoardFile, panel: BoardPanel, diagnosis: Diagnosis, *, keeps_exemplars: bool | None
) -> PanelReport:
    series, last = 0, None
    findings: list[Finding] = []
    for query in panel.queries:
        expression = board.fill(query.expression, diagnosis.timing, diagnosis.chosen)
        try:
            result = diagnosis.run(expression, is_instant=query.is_instant)
        except QueryRefusedError as error:
            findings.append(Finding(state="error", reason=f"query {query.ref}: {error}"))
            continue
        series += result.series
        last = result.last if last is None else last
        if not result.series:
            findings.append(diagnosis.why_empty(board, query, result))
    finding = worst(findings)
    if series and (finding is None or finding.state != "error"):
        notes = _notes(board, panel.queries, diagnosis, keeps_exemplars=keeps_exemplars)
        finding = Finding(state="data", reason=None)
    else:
        notes = ()
    assert finding is not None  # noqa: S101 - a panel has a query, which has data or a finding
    return PanelReport(
        board=board.uid,
        panel=panel.title,
        state=finding.state,
        series=series,
        last=last,
        reason=finding.reason,
        notes=notes,
    )


def _notes(
    board: BoardFile,
    queries: Sequence[PanelQuery],
    diagnosis: Diagnosis,
    *,
    keeps_exemplars: bool | None,
) -> tuple[str, ...]:
    wanting = [query.expression for query in queries if query.wants_exemplars]
    if not wanting:
        return ()
    if keeps_exemplars is False:
        return (_WITHOUT_FLAG,)
    filled = (board.fill(each, diagnosis.timing, diagnosis.chosen) for each in wanting)
    return () if any(map(diagnosis.exemplars, filled)) else (_WITHOUT_EXEMPLARS,)


def _rules(folder: Path, prometheus: PrometheusServer) -> RulesReport:
    expected = [
        name
        for path in rule_files(folder)
        for name in _RULE_NAME.findall(path.read_text(encoding="utf-8"))
    ]
    try:
        loaded = {rule.name: rule for rule in prometheus.rules()}
    except QueryRefusedError as error:
        return RulesReport(
            expected=len(expected), missing=tuple(expected), failing={"/api/v1/rules": str(error)}
        )
    return RulesReport(
        expected=len(expected),
        missing=tuple(dict.fromkeys(name for name in expected if name not in loaded)),
        failing={
            name: loaded[name].error or ""
            for name in dict.fromkeys(expected)
            if name in loaded and loaded[name].error
        },
    )
