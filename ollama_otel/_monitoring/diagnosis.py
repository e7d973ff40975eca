"""Why a query found nothing: what its metrics are like on that Prometheus."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, get_args

from ollama_otel._monitoring.board import Board, Target, Timing
from ollama_otel._monitoring.prometheus import Answer, Prometheus, QueryError
from ollama_otel._monitoring.promql import Selector, selectors_of
from ollama_otel._monitoring.sources import base_name, source_of

__all__ = ["Finding", "Inquiry", "State", "worst"]

State = Literal["data", "nothing", "off", "waiting", "filtered", "stale", "missing", "error"]
"""From the best to the worst: `nothing` and `off` are as they should be.

- nothing: what the panel counts did not happen.
- off: nothing sends it, as a setting is not on.
- waiting: there are too few samples for a rate.
- filtered: there is data, but none of what was chosen.
- stale: the last sample is older than the range.
- missing: nothing ever sent it, though any app does that makes calls.
- error: Prometheus refused the query.
"""

_NAMED: Final = 6
"""Values that are named where another one was chosen."""
_LOOKS_BACK: Final = (("1d", "5m"), ("30d", "1h"))
"""How far the last sample is looked for, and how closely; the lookback of PromQL is 5 minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is the matter with a panel or a query."""

    state: State
    reason: str | None


def worst(findings: Iterable[Finding]) -> Finding | None:
    """Return the first of the worst findings; None of none."""
    order = get_args(State)
    return max(findings, key=lambda finding: order.index(finding.state), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """One look at a Prometheus."""

    prometheus: Prometheus
    timing: Timing
    now: float
    """Seconds since the epoch."""
    present: Mapping[str, int]
    """How many series each metric had in the range."""
    chosen: Mapping[str, str]
    """Variables that were not left at everything."""

    @property
    def start(self) -> float:
        """Where the range begins, in seconds since the epoch."""
        return self.now - self.timing.range

    def ask(self, query: str, *, is_instant: bool) -> Answer:
        """Ask as Grafana does; raises `QueryError`."""
        if is_instant:
            return self.prometheus.answer(query, at=self.now)
        return self.prometheus.answer_range(
            query, start=self.start, end=self.now, step=self.timing.step
        )

    def exemplars(self, query: str) -> int:
        """Return how many exemplars are there; none where it cannot be asked."""
        try:
            return self.prometheus.exemplars(query, start=self.start, end=self.now)
        except QueryError:
            return 0

    def why_empty(self, board: Board, target: Target, found: Answer) -> Finding:
        """Return why a query found no number."""
        if found.empty_series:
            return Finding(
                state="nothing",
                reason="0 divided by 0: nothing happened in that time of which it is a part",
            )
        by_role = defaultdict(list)
        for selector in selectors_of(target.query):
            source = source_of(selector.metric)
            by_role[source.role if source else selector.metric].append(selector)
        # A metric that is there under one of its names lacks none of the others.
        findings = [self._of_metric(board, selectors) for selectors in by_role.values()]
        return worst(finding for finding in findings if finding is not None) or Finding(
            state="nothing", reason="its metrics are there, and nothing in them is as it asks for"
        )

    def _of_metric(self, board: Board, selectors: Sequence[Selector]) -> Finding | None:
        here = [selector for selector in selectors if selector.metric in self.present]
        if not here:
            return self._of_absent(selectors[0].metric, {each.metric for each in selectors})
        if any(self._count(board, selector.text()) for selector in here):
            return self._of_few_samples(board, here)
        first = here[0]
        if not any(self._count(board, selector.text(variables=False)) for selector in here):
            asked = ", ".join(str(m) for m in first.matchers if not m.has_variable)
            return Finding(
                state="nothing", reason=f"{first.metric} is there, none with {asked} in that time"
            )
        return Finding(state="filtered", reason=self._other_values(board, first))

    def _of_absent(self, metric: str, names: set[str]) -> Finding:
        source = source_of(metric)
        # What counts events is silent again after a restart, until one happens.
        happens = source is not None and (
            source.needs == "event" or source.shown_by in self.present
        )
        if known := self.prometheus.known_names(names):
            reason = self._last_sample(min(known))
            return Finding(state="nothing" if happens else "stale", reason=reason)
        if source is None and ":" in metric:
            reason = f"no recording rule makes {metric}: are the rules loaded (rule_files)?"
            return Finding(state="missing", reason=reason)
        if source is None:
            return Finding(state="missing", reason=f"{metric} is not there, and is not of ours")
        return Finding(
            state="missing" if source.needs == "calls" else "nothing" if happens else "off",
            reason=f"nothing sends {base_name(metric)}: it comes with {source.made_by}",
        )

    def _of_few_samples(self, board: Board, selectors: Sequence[Selector]) -> Finding | None:
        """Return a finding where rates are asked for and no series has two samples yet."""
        if not all(selector.window for selector in selectors):
            return None
        for selector in selectors:
            series = self._filled(board, selector.text())
            window = self.timing.variables["__rate_interval"]
            query = f"count(max_over_time((count_over_time({series}[{window}]) > 1)"
            query += f"[{self.timing.range}s:{self.timing.step}s]))"
            if self.prometheus.value(query, at=self.now):
                return None
        return Finding(
            state="waiting",
            reason=f"{selectors[0].metric} has one sample so far, and a rate needs two: wait for "
            "the next export (OTEL_METRIC_EXPORT_INTERVAL, 60 s if not set)",
        )

    def _last_sample(self, metric: str) -> str:
        for window, step in _LOOKS_BACK:
            query = f"max(max_over_time(timestamp({metric})[{window}:{step}]))"
            try:
                seen = self.prometheus.value(query, at=self.now)
            except QueryError:
                # Too many samples for one query: then it is not told when.
                break
            if seen is not None:
                when = datetime.fromtimestamp(seen, UTC)
                return f"the last {metric} came at {when:%Y-%m-%d %H:%M:%S} UTC, before that time"
        return f"{metric} was there once, before that time"

    def _other_values(self, board: Board, selector: Selector) -> str:
        chosen = []
        for matcher in selector.matchers:
            value = self._filled(board, matcher.value)
            if not matcher.has_variable or value == self._everything(board, matcher.value):
                continue
            there = self.prometheus.values_of(
                matcher.label, selector.metric, start=self.start, end=self.now
            )
            named = ", ".join(there[:_NAMED]) + (" ..." if len(there) > _NAMED else "")
            chosen.append(f"{matcher.label} {value!r} (there: {named or 'none'})")
        what = " and ".join(chosen) or "all that its variables leave"
        return f"{selector.metric} is there, but not for {what}"

    def _count(self, board: Board, selector: str) -> float | None:
        query = f"count(last_over_time({self._filled(board, selector)}[{self.timing.range}s]))"
        return self.prometheus.value(query, at=self.now)

    def _filled(self, board: Board, text: str) -> str:
        return board.filled(text, self.timing, self.chosen)

    def _everything(self, board: Board, text: str) -> str:
        return board.filled(text, self.timing, {})
