"""Asks a Prometheus every question of the boards, and finds out why one has no answer."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ollama_otel._monitoring.board import Board, Panel, Target, Timing
from ollama_otel._monitoring.diagnosis import Finding, Inquiry, State, worst
from ollama_otel._monitoring.files import rule_files
from ollama_otel._monitoring.prometheus import Prometheus, QueryError
from ollama_otel._monitoring.promql import selectors_of
from ollama_otel._monitoring.sources import histogram_names, our_names
from ollama_otel._telemetry.prometheus import HISTOGRAM_SUFFIXES

__all__ = ["CheckReport", "PanelReport", "RulesReport", "check"]

_RULE_NAME: Final = re.compile(r"^\s*(?:-\s+)?(?:alert|record):\s*[\"']?([\w:]+)", re.MULTILINE)
_STEPS: Final = 240
_SHORTEST_STEP: Final = 15
_BUCKETS: Final = HISTOGRAM_SUFFIXES[0]
_WITHOUT_FLAG: Final = (
    "no exemplars: that Prometheus keeps none; start it with --enable-feature=exemplar-storage"
)
_WITHOUT_EXEMPLARS: Final = (
    "no exemplars: they come by OTLP, with spans that are sampled; a scrape brings none"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelReport:
    """What one panel shows."""

    board: str
    """Its board's uid."""
    panel: str
    state: State
    series: int
    """Of all its queries together."""
    last: float | None
    """The newest number of its first series; None where there is none."""
    reason: str | None
    """Why it has no data."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesReport:
    """Whether the shipped rules run."""

    expected: int
    missing: tuple[str, ...]
    failing: Mapping[str, str] = field(default_factory=dict)
    """By name, what Prometheus says of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What a Prometheus has for the boards."""

    prometheus: str
    version: str
    range: int
    """Seconds that were looked at, up to now."""
    panels: tuple[PanelReport, ...]
    rules: RulesReport
    series: int
    """Series of our metrics in that time."""
    classic_histograms: int
    """Histograms whose buckets are series of their own."""
    native_histograms: int
    """Histograms that are one series."""
    keeps_exemplars: bool | None
    """None where it does not say."""

    @property
    def is_whole(self) -> bool:
        """Whether every panel has data that can have some."""
        return all(panel.state in {"data", "nothing", "off"} for panel in self.panels)


def check(
    boards: Sequence[Board],
    prometheus: Prometheus,
    *,
    folder: Path,
    range_: int = 3600,
    interval: int = 60,
    chosen: Mapping[str, str] | None = None,
    clock: Callable[[], float] = time.time,
    on_panel: Callable[[PanelReport], None] = lambda _: None,
) -> CheckReport:
    """Run every query; `interval` is the seconds between two samples, `chosen` fills variables.

    Raises `DashboardsError` where the Prometheus cannot be asked at all.
    """
    timing = Timing(range=range_, step=max(_SHORTEST_STEP, range_ // _STEPS), interval=interval)
    version = prometheus.version()
    now = clock()
    asked = {
        selector.metric
        for board in boards
        for panel in board.panels
        for target in panel.targets
        for selector in selectors_of(target.query)
    }
    present = prometheus.series_of(asked | our_names(), within=range_, at=now)
    inquiry = Inquiry(
        prometheus=prometheus, timing=timing, now=now, present=present, chosen=chosen or {}
    )
    keeps_exemplars = prometheus.keeps_exemplars()
    reports = []
    for board in boards:
        for panel in board.panels:
            report = _panel(board, panel, inquiry, keeps_exemplars=keeps_exemplars)
            on_panel(report)
            reports.append(report)
    ours = {name: count for name, count in present.items() if name in our_names()}
    return CheckReport(
        prometheus=prometheus.url,
        version=version,
        range=range_,
        panels=tuple(reports),
        rules=_rules(folder, prometheus),
        series=sum(ours.values()),
        classic_histograms=sum(f"{name}{_BUCKETS}" in ours for name in histogram_names()),
        native_histograms=sum(name in ours for name in histogram_names()),
        keeps_exemplars=keeps_exemplars,
    )


def _panel(
    board: Board, panel: Panel, inquiry: Inquiry, *, keeps_exemplars: bool | None
) -> PanelReport:
    series, last = 0, None
    findings: list[Finding] = []
    for target in panel.targets:
        query = board.filled(target.query, inquiry.timing, inquiry.chosen)
        try:
            found = inquiry.ask(query, is_instant=target.is_instant)
        except QueryError as error:
            findings.append(Finding(state="error", reason=f"query {target.ref}: {error}"))
            continue
        series += found.series
        last = found.last if last is None else last
        if not found.series:
            findings.append(inquiry.why_empty(board, target, found))
    finding = worst(findings)
    if series and (finding is None or finding.state != "error"):
        notes = _notes(board, panel.targets, inquiry, keeps_exemplars=keeps_exemplars)
        finding = Finding(state="data", reason=None)
    else:
        notes = ()
    assert finding is not None  # noqa: S101 - a panel has a target, which has data or a finding
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
    board: Board, targets: Sequence[Target], inquiry: Inquiry, *, keeps_exemplars: bool | None
) -> tuple[str, ...]:
    wanting = [target for target in targets if target.wants_exemplars]
    if not wanting:
        return ()
    if keeps_exemplars is False:
        return (_WITHOUT_FLAG,)
    queries = (board.filled(target.query, inquiry.timing, inquiry.chosen) for target in wanting)
    return () if any(map(inquiry.exemplars, queries)) else (_WITHOUT_EXEMPLARS,)


def _rules(folder: Path, prometheus: Prometheus) -> RulesReport:
    expected = [
        name
        for path in rule_files(folder)
        for name in _RULE_NAME.findall(path.read_text(encoding="utf-8"))
    ]
    try:
        loaded = {rule.name: rule for rule in prometheus.rules()}
    except QueryError as error:
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
