"""The one place that knows the forms of queries.

Metrics and labels come from the table of instruments, so a query for a label that a
metric does not carry is an error when it is made. A histogram may be stored as classic
buckets or as one native series (custom buckets); every form here reads both. It adds up
what is stored in the same way: where some sources of one metric are classic and others
native, the classic ones are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from ollama_otel._telemetry import instruments as rows
from ollama_otel import _names as names
from ollama_otel._telemetry.instruments import Instrument
from ollama_otel._telemetry.prometheus import label_name, metric_name

__all__ = [
    "BOARD",
    "INSTANCE",
    "JOB",
    "MODEL",
    "RULES",
    "Queries",
    "QueryError",
    "by_plain_model",
    "highest",
    "share",
]

JOB: Final = "job"
INSTANCE: Final = "instance"
"""Of every series: the app, and the process. By OTLP they are resource attributes."""
MODEL: Final = "model"
"""The label that `by_plain_model` makes."""

_TARGET_LABELS: Final = (JOB, INSTANCE)
_MANAGEMENT: Final = (rows.MANAGEMENT_DURATION, rows.TRANSFER_SIZE)
_LATEST: Final = "(:latest)?"


class QueryError(Exception):
    """A query asks a metric for what it does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """Makes queries over the same time and with the same filters."""

    window: str
    """Of rates and increases: a duration, or what Grafana replaces by one."""
    filters: Mapping[str, str]
    """Label matchers, such as `="ollama"`, by attribute; those a metric lacks are left out."""

    def over(self, window: str) -> Queries:
        """Return the same over another time."""
        return replace(self, window=window)

    # --- counters ---------------------------------------------------------------------------

    def rate(
        self, row: Instrument, *, by: Sequence[str] = (), where: Mapping[str, str] | None = None
    ) -> str:
        """Per second, of a counter."""
        _expect(row, "counter")
        return _sum(row, by, f"rate({self._series(row, where)}[{self.window}])")

    def increase(
        self, row: Instrument, *, by: Sequence[str] = (), where: Mapping[str, str] | None = None
    ) -> str:
        """What a counter gained, as far as its samples show.

        A series' first sample is no gain, so the first event of a kind is not seen.
        """
        _expect(row, "counter")
        return _sum(row, by, f"increase({self._series(row, where)}[{self.window}])")

    def total(
        self, row: Instrument, *, by: Sequence[str] = (), where: Mapping[str, str] | None = None
    ) -> str:
        """What a counter gained, first samples included; for boards, not for alerts.

        A source that Prometheus has first seen within the window counts whole; where it began
        anew within it, or what it has is older, it is near: `increase` guesses at the ends.
        """
        _expect(row, "counter")
        return _sum(row, by, self._gained(self._series(row, where)))

    def watched_total(
        self, row: Instrument, *, by: Sequence[str], where: Mapping[str, str] | None = None
    ) -> str:
        """Return `total` of what each process saw, by the process that saw most.

        Several processes watch the same server, so their counts are not added up.
        """
        _expect(row, "counter")
        each = _sum(row, (*by, *_TARGET_LABELS), self._gained(self._series(row, where)))
        return _aggregate("max", row, by, each)

    def appeared(
        self, row: Instrument, *, by: Sequence[str] = (), where: Mapping[str, str] | None = None
    ) -> str:
        """Return what a counter gained, or all of it where it was not there a window ago.

        For what should not happen at all: what happened while nothing could be sent comes
        as the first sample of a series and is no `increase`. Above 0 for one window at least.
        """
        _expect(row, "counter")
        series = self._series(row, where)
        return _sum(row, by, self._appeared(series, "increase({})", "{}"))

    def count_appeared(
        self, row: Instrument, *, by: Sequence[str] = (), where: Mapping[str, str] | None = None
    ) -> str:
        """Return the same of the records of a histogram."""
        _expect(row, "histogram")
        classic = self._appeared(self._series(row, where, suffix="_count"), "increase({})", "{}")
        native = self._appeared(
            self._series(row, where), "histogram_count(increase({}))", "histogram_count({})"
        )
        return f"({_sum(row, by, classic)} or {_sum(row, by, native)})"

    def _appeared(self, series: str, gained: str, whole: str) -> str:
        before = f"present_over_time({series}[{self.window}] offset {self.window})"
        recent = gained.format(f"{series}[{self.window}]")
        return f"{recent} > 0 or {whole.format(series)} unless {before}"

    def watched_increase(
        self, row: Instrument, *, by: Sequence[str], where: Mapping[str, str] | None = None
    ) -> str:
        """Return `increase` of what each process saw, by the process that saw most."""
        return _aggregate(
            "max", row, by, self.increase(row, by=(*by, *_TARGET_LABELS), where=where)
        )

    def _gained(self, series: str) -> str:
        """Known before: the increase. Not known: all of it, or the increase after a restart.

        `increase` guesses beyond the first and the last sample, of series that came in
        between too, and a series with one sample has none at all. Known is what had a
        sample in the day before the window: there may be a gap where it begins.
        """
        window = self.window
        increase = f"increase({series}[{window}])"
        known = f"last_over_time({series}[1d] offset {window})"
        whole = f"(last_over_time({series}[{window}]) unless {known})"
        return (
            f"{increase} and {known} or {whole} and resets({series}[{window}]) == 0 or {increase}"
        )

    # --- gauges -----------------------------------------------------------------------------

    def gauge(
        self,
        row: Instrument,
        *,
        by: Sequence[str] = (),
        where: Mapping[str, str] | None = None,
        how: Literal["sum", "max", "min"] = "sum",
    ) -> str:
        """Return the value now; `max` of what several processes say of the same server."""
        _expect(row, "gauge", "updowncounter")
        return _aggregate(how, row, by, self._told(row, where))

    def _told(self, row: Instrument, where: Mapping[str, str] | None) -> str:
        """Return what is told now of what may have gone, such as a model in memory.

        Of what came by OTLP Prometheus goes on to give the last value for five minutes. A
        watcher tells of its server every time, so what is older than that has gone.
        """
        series = self._series(row, where)
        if row == rows.SERVER_UP or not set(rows.SERVER_LABELS) <= set(row.labels):
            return series
        if row.kind != "gauge":
            return series
        shared = ", ".join(map(label_name, (*_TARGET_LABELS, *rows.SERVER_LABELS)))
        # A process may have told of its server as two versions of the app (a label of OTLP).
        newest = f"max by ({shared}) (timestamp({self._series(rows.SERVER_UP, None)}))"
        return f"{series} and (timestamp({series}) >= on ({shared}) group_left () {newest})"

    def gauge_over_time(
        self,
        row: Instrument,
        *,
        function: Literal["avg", "max", "min"],
        by: Sequence[str] = (),
        how: Literal["sum", "max", "min"] = "sum",
        offset: str | None = None,
    ) -> str:
        """Return the mean or an extreme within the window, which may lie in the past."""
        _expect(row, "gauge", "updowncounter")
        moved = "" if offset is None else f" offset {offset}"
        ranged = f"{function}_over_time({self._series(row, None)}[{self.window}]{moved})"
        return _aggregate(how, row, by, ranged)

    # --- histograms -------------------------------------------------------------------------

    def count(
        self, row: Instrument, *, by: Sequence[str] = (), where: Mapping[str, str] | None = None
    ) -> str:
        """Records per second."""
        return self._both(row, by, where, suffix="_count", of="histogram_count", function="rate")

    def count_increase(
        self, row: Instrument, *, by: Sequence[str] = (), where: Mapping[str, str] | None = None
    ) -> str:
        """Return the records gained, as far as samples show; see `increase`."""
        return self._both(
            row, by, where, suffix="_count", of="histogram_count", function="increase"
        )

    def count_total(
        self, row: Instrument, *, by: Sequence[str] = (), where: Mapping[str, str] | None = None
    ) -> str:
        """Return the records gained, first samples included; see `total`."""
        return self._both(row, by, where, suffix="_count", of="histogram_count")

    def sum(
        self, row: Instrument, *, by: Sequence[str] = (), where: Mapping[str, str] | None = None
    ) -> str:
        """Return the sum of what is recorded per second."""
        return self._both(row, by, where, suffix="_sum", of="histogram_sum", function="rate")

    def sum_total(
        self, row: Instrument, *, by: Sequence[str] = (), where: Mapping[str, str] | None = None
    ) -> str:
        """Return the sum of what was recorded, first samples included; see `total`."""
        return self._both(row, by, where, suffix="_sum", of="histogram_sum")

    def quantile(
        self,
        quantile: float,
        row: Instrument,
        *,
        by: Sequence[str] = (),
        where: Mapping[str, str] | None = None,
    ) -> str:
        """Return the quantile, exact to the bucket that it lies in."""
        return f"histogram_quantile({quantile:g}, {self._buckets(row, by, where, 'rate')})"

    def quantile_total(
        self,
        quantile: float,
        row: Instrument,
        *,
        by: Sequence[str] = (),
        where: Mapping[str, str] | None = None,
    ) -> str:
        """Return the quantile of all that was recorded, first samples included; see `total`."""
        return f"histogram_quantile({quantile:g}, {self._buckets(row, by, where)})"

    def heat_map(self, row: Instrument, *, where: Mapping[str, str] | None = None) -> str:
        """Return the records per second in each bucket."""
        return self._buckets(row, (), where, "rate")

    def share_above(
        self,
        bound: float,
        row: Instrument,
        *,
        by: Sequence[str] = (),
        where: Mapping[str, str] | None = None,
    ) -> str:
        """Return the part of the records that is above one of the bounds of the buckets."""
        if bound not in (row.buckets or ()):
            raise QueryError(f"{row.name} has no bucket that ends at {bound}; it has {row.buckets}")
        within = {**(where or {}), "le": f'="{bound}"'}
        below = _sum(row, by, self._moving("rate", row, within, suffix="_bucket"))
        every = _sum(row, by, self._moving("rate", row, where, suffix="_count"))
        native = _sum(row, by, self._moving("rate", row, where))
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
        """Return the classic series, or that part of the native one; no function: all gained."""
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
        return self._gained(series) if function is None else f"{function}({series}[{self.window}])"

    # --- series -----------------------------------------------------------------------------

    def _series(self, row: Instrument, where: Mapping[str, str] | None, *, suffix: str = "") -> str:
        matchers = {**self._filters_for(row), **(where or {})}
        for attribute in where or ():
            _check_label(row, attribute)
        inside = ",".join(f"{label_name(label)}{match}" for label, match in matchers.items())
        name = f"{metric_name(row)}{suffix}"
        return f"{name}{{{inside}}}" if inside else name

    def _filters_for(self, row: Instrument) -> dict[str, str]:
        known = {*_TARGET_LABELS, *row.labels}
        if names.COMPONENT_TYPE in row.labels:
            # The server of the SDK's own metrics is the one that takes its exports.
            known -= {names.SERVER_ADDRESS, names.SERVER_PORT}
        if row in _MANAGEMENT:
            # Their operations are named elsewhere, and would vanish when one is chosen.
            known -= {names.OPERATION_NAME}
        return {attribute: match for attribute, match in self.filters.items() if attribute in known}


def share(part: str, whole: str) -> str:
    """Return one query's part of another: 0 of a whole without the part, nothing of no whole."""
    return f"({part} or {whole} * 0) / ({whole} > 0)"


def by_plain_model(query: str, attribute: str) -> str:
    """Add the label `model`: the name of a model as people write it.

    Calls say `llama3.2`, and the server says `llama3.2:latest` of the same model.
    """
    label = label_name(attribute)
    return f'label_replace({query}, "{MODEL}", "$1", "{label}", "(.+?){_LATEST}")'


def highest(query: str) -> str:
    """Return the highest for each value of the label that `by_plain_model` adds."""
    return f"max by ({MODEL}) ({query})"


def _sum(row: Instrument, by: Sequence[str], series: str) -> str:
    return _aggregate("sum", row, by, series)


def _aggregate(how: str, row: Instrument, by: Sequence[str], series: str) -> str:
    for attribute in by:
        _check_label(row, attribute)
    grouped = f" by ({', '.join(map(label_name, by))}) " if by else ""
    return f"{how}{grouped}({series})"


def _check_label(row: Instrument, attribute: str) -> None:
    bucket = ("le",) if row.kind == "histogram" else ()
    known: Iterable[str] = (*row.labels, *_TARGET_LABELS, *bucket)
    if attribute not in known:
        raise QueryError(
            f"{row.name} has no label {attribute!r}; it has {', '.join(known)}: "
            "leave the label out, or take another metric"
        )


def _expect(row: Instrument, *kinds: str) -> None:
    if row.kind not in kinds:
        raise QueryError(f"{row.name} is a {row.kind}; this query needs a {' or '.join(kinds)}")


_OURS: Final = f'="{names.PROVIDER}"'

RULES: Final = Queries(window="5m", filters={names.PROVIDER_NAME: _OURS})
"""Of rules: every app, model and server."""

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
)
"""Of boards: what the board's variables choose."""
