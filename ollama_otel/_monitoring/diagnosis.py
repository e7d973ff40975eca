"""Explains why a query returned nothing, from the data of its metrics in Prometheus."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, get_args

from ollama_otel._monitoring.board_file import BoardFile, PanelQuery, Timing
from ollama_otel._monitoring.prometheus_api import (
    PrometheusServer,
    QueryRefusedError,
    QueryResult,
)
from ollama_otel._monitoring.promql_selectors import Selector, selectors_of
from ollama_otel._telemetry.instruments import EVIDENCE, Instrument
from ollama_otel._telemetry.metric_names import instrument_of, metric_name

__all__ = [
    "NO_FAULT",
    "RULES_LOADED",
    "Diagnosis",
    "Finding",
    "State",
    "state_of_absent",
    "worst",
]

State = Literal["data", "nothing", "off", "waiting", "filtered", "stale", "missing", "error"]
"""From best to worst.

- nothing: the events that the panel counts did not happen.
- off: no app sends the metric, as a feature is off.
- waiting: too few samples for a rate.
- filtered: there is data, but none for the selected values.
- stale: the last sample is older than the range.
- missing: never received, although any app that makes calls sends it.
- error: Prometheus refused the query.
"""
NO_FAULT: Final[frozenset[State]] = frozenset({"data", "nothing", "off"})
"""States that need no action."""

RULES_LOADED: Final = "ollama_otel:rules:loaded"
"""A recording rule that is always 1, so it is present if and only if the rules are loaded."""
_OF_ALERTS: Final = frozenset({"ALERTS", "ALERTS_FOR_STATE"})
"""Metrics that Prometheus makes of pending and firing alerts."""
_MOST_VALUES: Final = 6
"""Label values that a message lists."""
_SEARCHES: Final = (("1d", "5m"), ("30d", "1h"))
"""Window and step of the search for the last sample; PromQL itself looks back 5 minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """State of a panel or query, and the reason for it."""

    state: State
    reason: str | None


def worst(findings: Iterable[Finding]) -> Finding | None:
    """Return the first of the findings with the worst state; None if there are none."""
    order = get_args(State)
    return max(findings, key=lambda finding: order.index(finding.state), default=None)


def state_of_absent(instrument: Instrument, present: Collection[str]) -> State:
    """Return why an instrument has no series; `present` are the names of metrics with series."""
    if instrument.requires == "calls":
        return "missing"
    evidence = EVIDENCE.get(instrument.requires)
    is_on = evidence is not None and metric_name(evidence) in present
    # With the feature on, only the event has not happened yet, or not since a restart.
    return "nothing" if instrument.requires == "event" or is_on else "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Runs queries of boards on one Prometheus, at one time, and explains empty results."""

    prometheus: PrometheusServer
    timing: Timing
    now: float
    """Seconds since the epoch."""
    present: Mapping[str, int]
    """Number of series in the range, by metric."""
    renamed: Mapping[str, str]
    """A name that the boards do not ask for, by the instrument that is stored under it."""
    chosen: Mapping[str, str]
    """Values of variables for which not everything is selected."""

    @property
    def start(self) -> float:
        """Start of the range, in seconds since the epoch."""
        return self.now - self.timing.range

    def run(self, expression: str, *, is_instant: bool) -> QueryResult:
        """Run a query as Grafana does; raises `QueryRefusedError`."""
        if is_instant:
            return self.prometheus.query(expression, at=self.now)
        return self.prometheus.query_range(
            expression, start=self.start, end=self.now, step=self.timing.step
        )

    def exemplars(self, expression: str) -> int:
        """Return the number of exemplars; 0 if Prometheus rejects the query."""
        try:
            return self.prometheus.exemplars(expression, start=self.start, end=self.now)
        except QueryRefusedError:
            return 0

    def why_empty(self, board: BoardFile, query: PanelQuery, result: QueryResult) -> Finding:
        """Return why a query found no data."""
        if result.empty_series:
            return Finding(state="nothing", reason="0 / 0: nothing to divide in that time")
        by_role = defaultdict(list)
        for selector in selectors_of(query.expression):
            instrument = instrument_of(selector.metric)
            role = (instrument.role or instrument.name) if instrument else selector.metric
            by_role[role].append(selector)
        # Present under one of its names, a metric is not absent under the others.
        findings = [self._of_metric(board, selectors) for selectors in by_role.values()]
        return worst(finding for finding in findings if finding is not None) or Finding(
            state="nothing", reason="the metrics have data, but none matches the query"
        )

    def _of_metric(self, board: BoardFile, selectors: Sequence[Selector]) -> Finding | None:
        here = [selector for selector in selectors if selector.metric in self.present]
        if not here:
            return self._of_absent(selectors[0].metric, {each.metric for each in selectors})
        if any(self._count(board, selector.text()) for selector in here):
            return self._of_few_samples(board, here)
        first = here[0]
        if not any(self._count(board, selector.text(variables=False)) for selector in here):
            asked = ", ".join(str(m) for m in first.matchers if not m.has_variable)
            return Finding(
                state="nothing", reason=f"{first.metric} has no series with {asked} in that time"
            )
        return Finding(state="filtered", reason=self._other_values(board, first))

    def _of_absent(self, metric: str, names: set[str]) -> Finding:
        if metric in _OF_ALERTS and RULES_LOADED in self.present:
            return Finding(state="nothing", reason="no alert is pending or fires")
        instrument = instrument_of(metric)
        state = state_of_absent(instrument, self.present) if instrument else "missing"
        if known := self.prometheus.known_names(names):
            # A counter of events is silent after a restart until the next event.
            return Finding(
                state="nothing" if state == "nothing" else "stale",
                reason=self._last_sample(min(known)),
            )
        if stored := self._stored_name(names):
            return Finding(state="missing", reason=f"stored under another name: {stored}")
        return Finding(state=state, reason=_why_absent(metric, instrument))

    def _stored_name(self, names: Iterable[str]) -> str | None:
        found = (instrument_of(name) for name in sorted(names))
        stored = (self.renamed.get(each.name) for each in found if each is not None)
        return next((name for name in stored if name is not None), None)

    def _of_few_samples(self, board: BoardFile, selectors: Sequence[Selector]) -> Finding | None:
        """Return a finding if the query needs rates and no series has two samples yet."""
        if not all(selector.window for selector in selectors):
            return None
        for selector in selectors:
            series = self._fill(board, selector.text())
            window = self.timing.variables["__rate_interval"]
            query = f"count(max_over_time((count_over_time({series}[{window}]) > 1)"
            query += f"[{self.timing.range}s:{self.timing.step}s]))"
            if self.prometheus.value(query, at=self.now):
                return None
        return Finding(
            state="waiting",
            reason=f"{selectors[0].metric} has one sample so far, and a rate needs two: wait for "
            "the next export (OTEL_METRIC_EXPORT_INTERVAL, 60 s by default)",
        )

    def _last_sample(self, metric: str) -> str:
        for window, step in _SEARCHES:
            query = f"max(max_over_time(timestamp({metric})[{window}:{step}]))"
            try:
                seen = self.prometheus.value(query, at=self.now)
            except QueryRefusedError:
                # Too many samples for one query.
                break
            if seen is not None:
                when = datetime.fromtimestamp(seen, UTC)
                return f"last sample of {metric}: {when:%Y-%m-%d %H:%M:%S} UTC, before that time"
        return f"{metric} has samples, but only before that time"

    def _other_values(self, board: BoardFile, selector: Selector) -> str:
        chosen = []
        for matcher in selector.matchers:
            value = self._fill(board, matcher.value)
            if not matcher.has_variable or value == self._everything(board, matcher.value):
                continue
            there = self.prometheus.values_of(
                matcher.label, selector.metric, start=self.start, end=self.now
            )
            listed = ", ".join(there[:_MOST_VALUES]) + (" ..." if len(there) > _MOST_VALUES else "")
            chosen.append(f"{matcher.label} {value!r} (there: {listed or 'none'})")
        what = " and ".join(chosen) or "the selected variables"
        return f"{selector.metric} has data, but not for {what}"

    def _count(self, board: BoardFile, selector: str) -> float | None:
        query = f"count(last_over_time({self._fill(board, selector)}[{self.timing.range}s]))"
        return self.prometheus.value(query, at=self.now)

    def _fill(self, board: BoardFile, text: str) -> str:
        return board.fill(text, self.timing, self.chosen)

    def _everything(self, board: BoardFile, text: str) -> str:
        return board.fill(text, self.timing, {})


def _why_absent(metric: str, instrument: Instrument | None) -> str:
    if instrument is not None:
        return f"no app sends {metric_name(instrument)}: it comes from {instrument.emitted_by}"
    if ":" in metric or metric in _OF_ALERTS:
        return f"no recording rule produces {metric}: load the rules (rule_files)"
    return f"{metric} is absent, and ollama_otel does not send it"
