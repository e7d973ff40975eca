"""Builds PromQL queries; the only place that knows their forms.

Metrics and labels come from the table of instruments: a label that the metric does not have
raises an error when the query is built. A histogram may be stored as classic buckets or as one
native series (custom buckets); every query reads both. If a metric has classic series from some
sources and native ones from others, queries read the classic ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.instruments import Instrument
from ollama_otel._telemetry.metric_names import label_name, metric_name, scraped_name

__all__ = [
    "BOARD",
    "GPU",
    "INSTANCE",
    "JOB",
    "MODEL",
    "RULES",
    "SERVER",
    "InvalidQueryError",
    "Queries",
    "at_server",
    "by_gpu",
    "by_plain_model",
    "highest",
    "last_time",
    "level",
    "not_nan",
    "or_zero",
    "per_minute",
    "share",
    "sum_of_others",
    "top",
    "top_by",
]

JOB: Final = "job"
INSTANCE: Final = "instance"
"""Labels of every series: the app and the process. With OTLP, resource attributes."""
MODEL: Final = "model"
"""The label that `by_plain_model` makes."""
SERVER: Final = "server"
"""The label that `at_server` makes."""
GPU: Final = "gpu"
"""The label that `by_gpu` makes."""

_TARGET_LABELS: Final = (JOB, INSTANCE)
_MANAGEMENT: Final = (rows.MANAGEMENT_DURATION, rows.TRANSFER_SIZE)
_LATEST: Final = "(:latest)?"
_FIRST_WITH_EXPONENT: Final = 1e6
"""From here on Prometheus writes scraped bounds with an exponent: 1.048576e+06."""


class InvalidQueryError(Exception):
    """A query needs a label, bucket or kind that its metric does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """Builds queries with the same window and filters."""

    window: str
    """Window of rates and increases: a duration, or a variable of Grafana."""
    filters: Mapping[str, str]
    """Matchers such as `="ollama"` by attribute; applied if the metric has the label."""
    silence: str
    """Seconds without a sample after which a process is gone."""
    is_at_end: bool = False
    """Whether they are evaluated at the end of the board's range, at every point of a graph."""

    def over(self, window: str) -> Queries:
        """Return these queries with another window."""
        return replace(self, window=window)

    def at_end(self) -> Queries:
        """Return these queries for ranks: a rank at the end is the same at every point."""
        return replace(self, is_at_end=True)

    # --- counters ---------------------------------------------------------------------------

    def rate(
        self, row: Instrument, *, by: Sequence[str] = (), where: Mapping[str, str] | None = None
    ) -> str:
        """Return the per-second rate of a counter."""
        _expect(row, "counter")
        return _sum(row, by, f"rate({self._range(self._series(row, where))})")

    def before(
        self, row: Instrument, *, by: Sequence[str] = (), where: Mapping[str, str] | None = None
    ) -> str:
        """Return the value of a counter at the start of the window; nothing for what is newer."""
        _expect(row, "counter")
        return _sum(row, by, f"{self._series(row, where)} offset {self.window}")

    def increase(
        self, row: Instrument, *, by: Sequence[str] = (), where: Mapping[str, str] | None = None
    ) -> str:
        """Return the increase of a counter, by Prometheus' `increase`.

        The first sample of a series does not count, so the first event of a kind is missed.
        """
        _expect(row, "counter")
        return _sum(row, by, f"increase({self._range(self._series(row, where))})")

    def total(
        self, row: Instrument, *, by: Sequence[str] = (), where: Mapping[str, str] | None = None
    ) -> str:
        """Return the increase of a counter including first samples; for boards, not for alerts.

        Exact for a series that first appeared within the window; otherwise, or after a restart
        within the window, approximate, as `increase` extrapolates.
        """
        _expect(row, "counter")
        return _sum(row, by, self._gained(self._series(row, where)))

    def watched_total(
        self, row: Instrument, *, by: Sequence[str], where: Mapping[str, str] | None = None
    ) -> str:
        """Return the highest `total` of any process.

        Several processes may watch the same server, so their counts must not be summed.
        """
        _expect(row, "counter")
        each = _sum(row, (*by, *_TARGET_LABELS), self._gained(self._series(row, where)))
        return _aggregate("max", row, by, each)

    def appeared(
        self, row: Instrument, *, by: Sequence[str] = (), where: Mapping[str, str] | None = None
    ) -> str:
        """Return the increase of a counter, or its whole value if it is new in this window.

        For failures: those that happen while exports fail arrive as the first sample of a
        series, which `increase` ignores. Stays above 0 for at least one window.
        """
        _expect(row, "counter")
        series = self._series(row, where)
        return _sum(row, by, self._appeared(series, "increase({})", "{}"))

    def count_appeared(
        self, row: Instrument, *, by: Sequence[str] = (), where: Mapping[str, str] | None = None
    ) -> str:
        """Return `appeared` for the number of records of a histogram."""
        _expect(row, "histogram")
        classic = self._appeared(self._series(row, where, suffix="_count"), "increase({})", "{}")
        native = self._appeared(
            self._series(row, where), "histogram_count(increase({}))", "histogram_count({})"
        )
        return f"({_sum(row, by, classic)} or {_sum(row, by, native)})"

    def _appeared(self, series: str, gained: str, whole: str) -> str:
        before = f"present_over_time({self._range(series, offset=self.window)})"
        recent = gained.format(self._range(series))
        return f"{recent} > 0 or {whole.format(self._instant(series))} unless {before}"

    def watched_increase(
        self, row: Instrument, *, by: Sequence[str], where: Mapping[str, str] | None = None
    ) -> str:
        """Return the highest `increase` of any process."""
        return _aggregate(
            "max", row, by, self.increase(row, by=(*by, *_TARGET_LABELS), where=where)
        )

    def _gained(self, series: str) -> str:
        """Return the increase of known series, and the whole value of new ones.

        `increase` extrapolates beyond the first and last sample, also for new series, and
        returns nothing for a series with one sample. A series is known if it had a sample in
        the day before the window, as there may be a gap at its start. A new series that was
        reset within the window falls back to `increase`.
        """
        ranged = self._range(series)
        increase = f"increase({ranged})"
        known = f"last_over_time({series}[1d]{self._at} offset {self.window})"
        whole = f"(last_over_time({ranged}) unless {known})"
        return f"{increase} and {known} or {whole} and resets({ranged}) == 0 or {increase}"

    # --- gauges -----------------------------------------------------------------------------

    def gauge(
        self,
        row: Instrument,
        *,
        by: Sequence[str] = (),
        where: Mapping[str, str] | None = None,
        how: Literal["sum", "max", "min"] = "sum",
    ) -> str:
        """Return the current value; use `max` if several processes report the same server."""
        _expect(row, "gauge", "updowncounter")
        return _aggregate(how, row, by, self._current(row, where))

    def _current(self, row: Instrument, where: Mapping[str, str] | None) -> str:
        """Return the series without those that ended, such as a model that was unloaded.

        With OTLP, Prometheus returns the last value of an ended series for five minutes. Of a
        process that was killed, those values would be summed with the ones of its successor.
        With residency `SERVER_UP` is part of every export, so older samples belong to ended series.
        """
        series = self._either_way(row, where, self._instant("{}"))
        if row.kind == "updowncounter":
            return f"{series} and {self._is_reported(series)}"
        if row == rows.SERVER_UP or row.requires != "residency":
            return series
        shared = ", ".join(map(label_name, (*_TARGET_LABELS, *rows.SERVER_LABELS)))
        # One process may have reported its server under two versions of the app (a label).
        up = self._instant(self._series(rows.SERVER_UP, None))
        newest = f"max by ({shared}) (timestamp({up}))"
        return f"{series} and (timestamp({series}) >= on ({shared}) group_left () {newest})"

    def _is_reported(self, series: str) -> str:
        """Return a condition: the process of a series has sent a sample lately."""
        return f"time() - timestamp({series}) < {self.silence}"

    def gauge_over_time(
        self,
        row: Instrument,
        *,
        function: Literal["avg", "max", "min"],
        by: Sequence[str] = (),
        how: Literal["sum", "max", "min"] = "sum",
        offset: str | None = None,
    ) -> str:
        """Return the mean or an extreme over the window, which `offset` moves back."""
        _expect(row, "gauge", "updowncounter")
        form = f"{function}_over_time({self._range('{}', offset=offset)})"
        ranged = self._either_way(row, None, form)
        if row.kind == "updowncounter" and offset is None:
            series = self._instant(self._series(row, None))
            ranged = f"{ranged} and {self._is_reported(series)}"
        return _aggregate(how, row, by, ranged)

    def samples(self, row: Instrument, *, by: Sequence[str]) -> str:
        """Return the number of samples in the window, of the process with most."""
        _expect(row, "gauge")
        counted = self._either_way(row, None, f"count_over_time({self._range('{}')})")
        return _aggregate("max", row, by, counted)

    # --- histograms -------------------------------------------------------------------------

    def count(
        self, row: Instrument, *, by: Sequence[str] = (), where: Mapping[str, str] | None = None
    ) -> str:
        """Return the records per second."""
        return self._both(row, by, where, suffix="_count", of="histogram_count", function="rate")

    def count_increase(
        self, row: Instrument, *, by: Sequence[str] = (), where: Mapping[str, str] | None = None
    ) -> str:
        """Return the increase of the number of records; see `increase`."""
        return self._both(
            row, by, where, suffix="_count", of="histogram_count", function="increase"
        )

    def count_total(
        self, row: Instrument, *, by: Sequence[str] = (), where: Mapping[str, str] | None = None
    ) -> str:
        """Return the increase of the number of records; see `total`."""
        return self._both(row, by, where, suffix="_count", of="histogram_count")

    def sum(
        self, row: Instrument, *, by: Sequence[str] = (), where: Mapping[str, str] | None = None
    ) -> str:
        """Return the recorded sum per second."""
        return self._both(row, by, where, suffix="_sum", of="histogram_sum", function="rate")

    def sum_total(
        self, row: Instrument, *, by: Sequence[str] = (), where: Mapping[str, str] | None = None
    ) -> str:
        """Return the increase of the recorded sum; see `total`."""
        return self._both(row, by, where, suffix="_sum", of="histogram_sum")

    def mean(
        self, row: Instrument, *, by: Sequence[str] = (), where: Mapping[str, str] | None = None
    ) -> str:
        """Return the mean of the records; NaN if there are none."""
        return f"({self.sum(row, by=by, where=where)} / {self.count(row, by=by, where=where)})"

    def mean_total(
        self, row: Instrument, *, by: Sequence[str] = (), where: Mapping[str, str] | None = None
    ) -> str:
        """Return the mean over the whole window; see `total`."""
        count = self.count_total(row, by=by, where=where)
        return f"({self.sum_total(row, by=by, where=where)} / {count})"

    def quantile(
        self,
        quantile: float,
        row: Instrument,
        *,
        by: Sequence[str] = (),
        where: Mapping[str, str] | None = None,
    ) -> str:
        """Return the quantile, interpolated within its bucket."""
        return f"histogram_quantile({quantile:g}, {self._buckets(row, by, where, 'rate')})"

    def quantile_total(
        self,
        quantile: float,
        row: Instrument,
        *,
        by: Sequence[str] = (),
        where: Mapping[str, str] | None = None,
    ) -> str:
        """Return the quantile over the whole window; see `total`."""
        return f"histogram_quantile({quantile:g}, {self._buckets(row, by, where)})"

    def heat_map(
        self,
        row: Instrument,
        *,
        where: Mapping[str, str] | None = None,
        bounds: Sequence[float] | None = None,
    ) -> str:
        """Return the records per second up to each bound, by `le`; for Grafana's format `heatmap`.

        `bounds` are the bucket bounds to show, without those that nobody reaches; None shows all.
        Grafana cannot draw native histograms with custom buckets, so their buckets become series
        as classic ones have.
        """
        _expect(row, "histogram")
        shown = row.buckets or () if bounds is None else bounds
        for bound in shown:
            _check_bound(row, bound)
        of_shown = where
        if bounds is not None:
            of_shown = {**(where or {}), "le": _le_match(*bounds, math.inf)}
        classic = _sum(row, ("le",), self._moving("rate", row, of_shown, suffix="_bucket"))
        count = _sum(row, (), self._moving("rate", row, where, suffix="_count"))
        native = _sum(row, (), self._moving("rate", row, where))
        # Without records the fraction is NaN. A bound without a sample would move the points that
        # Grafana subtracts from the next bound.
        shares = {
            _le(bound): f"histogram_fraction(-inf, {_le(bound)}, {native}) >= 0 or vector(0)"
            for bound in shown
        } | {"+Inf": "vector(1)"}
        every = " or ".join(
            f'label_replace({part}, "le", "{le}", "", "")' for le, part in shares.items()
        )
        total = f"(histogram_count({native}) unless {count})"
        return f"{classic} or ({every}) * on () group_left () {total}"

    def share_above(
        self,
        bound: float,
        row: Instrument,
        *,
        by: Sequence[str] = (),
        where: Mapping[str, str] | None = None,
    ) -> str:
        """Return the share of records above a bucket bound; NaN without records."""
        return self._share_above(bound, row, by, where, "rate")

    def share_above_total(
        self,
        bound: float,
        row: Instrument,
        *,
        by: Sequence[str] = (),
        where: Mapping[str, str] | None = None,
    ) -> str:
        """Return the share over the whole window; see `total`."""
        return self._share_above(bound, row, by, where)

    def _share_above(
        self,
        bound: float,
        row: Instrument,
        by: Sequence[str],
        where: Mapping[str, str] | None,
        function: str | None = None,
    ) -> str:
        _check_bound(row, bound)
        within = {**(where or {}), "le": _le_match(bound)}
        below = _sum(row, by, self._moving(function, row, within, suffix="_bucket"))
        every = _sum(row, by, self._moving(function, row, where, suffix="_count"))
        native = _sum(row, by, self._moving(function, row, where))
        return f"(1 - {below} / {every} or 1 - histogram_fraction(-inf, {bound}, {native}))"

    def _buckets(
        self,
        row: Instrument,
        by: Sequence[str],
        where: Mapping[str, str] | None,
        function: str | None = None,
    ) -> str:
        _expect(row, "histogram")
        classic = self._moving(function, row, where, suffix="_bucket")
        native = self._moving(function, row, where)
        return f"{_sum(row, ('le', *by), classic)} or {_sum(row, by, native)}"

    def _both(
        self,
        row: Instrument,
        by: Sequence[str],
        where: Mapping[str, str] | None,
        *,
        suffix: str,
        of: str,
        function: str | None = None,
    ) -> str:
        """Return the classic series or that part of the native one; no function means `total`."""
        _expect(row, "histogram")
        classic = self._moving(function, row, where, suffix=suffix)
        native = self._moving(function, row, where)
        return f"({_sum(row, by, classic)} or {of}({_sum(row, by, native)}))"

    def _moving(
        self,
        function: str | None,
        row: Instrument,
        where: Mapping[str, str] | None,
        *,
        suffix: str = "",
    ) -> str:
        series = self._series(row, where, suffix=suffix)
        return self._gained(series) if function is None else f"{function}({self._range(series)})"

    # --- series -----------------------------------------------------------------------------

    def _instant(self, series: str) -> str:
        """Return a selector of current values."""
        return f"{series}{self._at}"

    def _range(self, series: str, *, offset: str | None = None) -> str:
        """Return a selector of the values in the window, which `offset` moves back."""
        moved = "" if offset is None else f" offset {offset}"
        return f"{series}[{self.window}]{self._at}{moved}"

    @property
    def _at(self) -> str:
        return " @ end()" if self.is_at_end else ""

    def _either_way(
        self, row: Instrument, where: Mapping[str, str] | None, form: str = "{}"
    ) -> str:
        """Return the series of a gauge in a form, by OTLP and by scraping if the names differ."""
        by_otlp = self._series(row, where)
        scraped = by_otlp.replace(metric_name(row), scraped_name(row), 1)
        return " or ".join(form.format(series) for series in dict.fromkeys((by_otlp, scraped)))

    def _series(self, row: Instrument, where: Mapping[str, str] | None, *, suffix: str = "") -> str:
        for attribute in where or ():
            _check_label(row, attribute)
        matchers = [*self._filters_for(row).items(), *(where or {}).items()]
        inside = ",".join(f"{label_name(label)}{match}" for label, match in matchers)
        name = f"{metric_name(row)}{suffix}"
        return f"{name}{{{inside}}}" if inside else name

    def _filters_for(self, row: Instrument) -> dict[str, str]:
        known = {*_TARGET_LABELS, *row.labels}
        if names.COMPONENT_TYPE in row.labels:
            # In self-metrics of the SDK the server is the receiver of exports.
            known -= {names.SERVER_ADDRESS, names.SERVER_PORT}
        if row in _MANAGEMENT:
            # They use another label for the operation; selecting one would hide them.
            known -= {names.OPERATION_NAME}
        return {attribute: match for attribute, match in self.filters.items() if attribute in known}


def share(part: str, whole: str) -> str:
    """Return the ratio of two queries: 0 if `part` is absent, nothing if `whole` is 0 or absent."""
    return f"({part} or {whole} * 0) / ({whole} > 0)"


def or_zero(part: str, whole: str) -> str:
    """Return the parts above 0, and 0 for the other series of `whole`."""
    return f"(({part}) > 0 or 0 * ({whole}))"


def per_minute(query: str) -> str:
    """Return a rate in events per minute: Ollama's usual traffic is below one call per second."""
    return f"60 * {query}"


def at_server(query: str) -> str:
    """Add the label `server`, such as `localhost:11434`, to a query by server."""
    labels = ", ".join(f'"{label_name(each)}"' for each in rows.SERVER_LABELS)
    return f'label_join({query}, "{SERVER}", ":", {labels})'


def by_gpu(query: str) -> str:
    """Add the label `gpu`, the end of the GPU's UUID, to a query by GPU."""
    of_gpu = tuple(map(label_name, (names.HARDWARE_ID, names.HARDWARE_NAME)))
    made = f'label_replace({query}, "{GPU}", "$1", "{of_gpu[0]}", ".*?(.{{1,4}})")'
    return f"max by ({GPU}, {', '.join(of_gpu)}) ({made})"


def level(query: str, bounds: Sequence[float]) -> str:
    """Return how many of the bounds each value reaches."""
    return f"({' + '.join(f'(({query}) >= bool {bound:g})' for bound in bounds)})"


def last_time(condition: str, *, within: str, every: str) -> str:
    """Return when a condition held last, in milliseconds since the epoch; for an instant query.

    It is evaluated once in each period `every`, so the time may be too early by as much.
    """
    return f"1000 * max_over_time(timestamp({condition})[{within}:{every}])"


def by_plain_model(query: str, attribute: str) -> str:
    """Add the label `model`: the name of the model without `:latest`.

    Calls say `llama3.2` where the server says `llama3.2:latest`.
    """
    label = label_name(attribute)
    return f'label_replace({query}, "{MODEL}", "$1", "{label}", "(.+?){_LATEST}")'


def highest(query: str) -> str:
    """Return the highest value per `model`, the label that `by_plain_model` adds."""
    return f"max by ({MODEL}) ({query})"


def not_nan(query: str) -> str:
    """Return a query without NaN, such as the mean of an idle model; for tables.

    In a graph NaN is a gap, and without it Grafana may join the points.
    """
    return f"(({query}) >= -inf)"


def top(n: int, query: str) -> str:
    """Return the `n` highest series; for tables and bars, as a graph chooses at every point."""
    return f"topk({n}, {query})"


def top_by(n: int, query: str, *, rank: str, by: Sequence[str]) -> str:
    """Return the series of a query that are among the `n` highest of `rank`; for graphs.

    Both are grouped by `by`. If the queries of `rank` are `at_end`, a graph has the same series at
    every point.
    """
    return f"({query}) and {_on(by)} {top(n, rank)}"


def sum_of_others(
    n: int, query: str, *, rank: str, by: Sequence[str], kept: Sequence[str] = ()
) -> str:
    """Return the sum of the series that `top_by` leaves out; nothing if there are none.

    It has the `kept` labels, such as a currency: sums over their values would mean nothing.
    """
    grouped = f" by ({', '.join(map(label_name, kept))}) " if kept else ""
    return f"sum{grouped}(({query}) unless {_on(by)} {top(n, rank)})"


def _on(by: Sequence[str]) -> str:
    return f"on ({', '.join(map(label_name, by))})"


def _sum(row: Instrument, by: Sequence[str], series: str) -> str:
    return _aggregate("sum", row, by, series)


def _aggregate(how: str, row: Instrument, by: Sequence[str], series: str) -> str:
    for attribute in by:
        _check_label(row, attribute)
    grouped = f" by ({', '.join(map(label_name, by))}) " if by else ""
    return f"{how}{grouped}({series})"


def _le(bound: float) -> str:
    """Return a bound without an exponent, as OTLP writes it into `le`."""
    return f"{bound:.0f}" if bound.is_integer() else f"{bound}"


def _le_forms(bound: float) -> tuple[str, ...]:
    """Return the forms of a bound in `le`: by scraping 4 is 4.0, and 2000000 is 2e+06."""
    if bound == math.inf:
        return ("+Inf",)
    if not bound.is_integer():
        return (_le(bound),)
    if bound < _FIRST_WITH_EXPONENT:
        return (_le(bound), f"{_le(bound)}.0")
    mantissa, exponent = f"{bound:.15e}".split("e")
    return (_le(bound), f"{mantissa.rstrip('0').rstrip('.')}e{exponent}")


def _le_match(*bounds: float) -> str:
    """Return the matcher of `le` for bounds, whatever their form."""
    forms = [form for bound in bounds for form in _le_forms(bound)]
    if len(forms) == 1:
        return f'="{forms[0]}"'
    escaped = "|".join(form.replace(".", "[.]").replace("+", "[+]") for form in forms)
    return f'=~"{escaped}"'


def _check_bound(row: Instrument, bound: float) -> None:
    if bound not in (row.buckets or ()):
        raise InvalidQueryError(f"{row.name} has no bucket bound {bound}; it has {row.buckets}")


def _check_label(row: Instrument, attribute: str) -> None:
    bucket = ("le",) if row.kind == "histogram" else ()
    known: Iterable[str] = (*row.labels, *_TARGET_LABELS, *bucket)
    if attribute not in known:
        raise InvalidQueryError(
            f"{row.name} has no label {attribute!r}; it has {', '.join(known)}: "
            "omit the label, or use another metric"
        )


def _expect(row: Instrument, *kinds: str) -> None:
    if row.kind not in kinds:
        raise InvalidQueryError(
            f"{row.name} is a {row.kind}; this query needs a {' or '.join(kinds)}"
        )


_OURS: Final = f'="{names.PROVIDER}"'

RULES: Final = Queries(window="5m", filters={names.PROVIDER_NAME: _OURS}, silence="150")
"""Queries of rules: all apps, models and servers, exported at least every minute."""

BOARD: Final = Queries(
    window="$__rate_interval",
    filters={
        JOB: '=~"$job"',
        names.REQUEST_MODEL: '=~"$model"',
        names.MODEL_NAME: f'=~"($model){_LATEST}"',
        names.SERVER_ADDRESS: '=~"$server"',
        names.SERVER_PORT: '=~"$port"',
        names.OPERATION_NAME: '=~"$operation"',
        names.PROVIDER_NAME: _OURS,
    },
    # At least two and a half export intervals; more on a graph whose points are further apart.
    silence="2.5 * $__interval_ms / 1000",
)
"""Queries of boards: filtered by the variables of the board."""
