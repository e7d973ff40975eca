"""Queries of histograms against their records, by OTLP and scraping, in native and classic histograms."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

from dashboards.src.queries import RULES
from dashboards.src.vocabulary import GENAI, TOKENS
from ollama_otel import _names as names
from ollama_otel._telemetry.metric_names import metric_name
from ollama_otel._telemetry.scrape import ScrapeEndpoint

from .servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ollama_otel._telemetry.instruments import Instrument

    from .conftest import StartPrometheus
    from .servers import RealPrometheus

HOUR = RULES.over("1h")
LABELS = {names.PROVIDER_NAME: names.PROVIDER}


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Values of a histogram: below, on and between its bounds, and above the last one."""

    row: Instrument
    values: tuple[float, ...]
    some: Sequence[float]
    """Bounds for a heat map with fewer rows."""

    def shares(self, bounds: Sequence[float]) -> dict[float, float]:
        """The share of each bucket in all values, by its upper bound."""
        counted = Counter(bisect_left(bounds, value) for value in self.values)
        return {
            bound: counted[index] / len(self.values)
            for index, bound in enumerate((*bounds, math.inf))
        }


DURATIONS = Records(
    row=GENAI.inference_duration,
    values=(0.001, 0.01, 0.011, 0.02, 0.3, 0.3, 2.56, 2.57, 40.0, 40.0, 40.0, 5000.0),
    some=(0.02, 0.64, 2.56, 1200.0),
)
LENGTHS = Records(
    row=TOKENS,
    values=(1, 1, 2, 4, 5, 900, 1024, 1025, 1025, 2_000_000, 10**9),
    some=(1.0, 16.0, 1024.0, 1048576.0),
)


@contextlib.contextmanager
def stored(
    start: StartPrometheus, records: Records, *, is_scraped: bool, is_classic: bool
) -> Iterator[RealPrometheus]:
    """Run a Prometheus that has the values as the increase of a histogram."""
    with contextlib.ExitStack() as stack:
        if is_scraped:
            endpoint = stack.enter_context(contextlib.closing(ScrapeEndpoint("127.0.0.1", 0)))
            place = endpoint.url.removeprefix("http://").removesuffix("/metrics")
            prometheus = stack.enter_context(start(scrape={"app": place}, classic=is_classic))
            provider = MeterProvider([endpoint.reader])
        else:
            prometheus = stack.enter_context(start(classic=is_classic))
            exporter = OTLPMetricExporter(prometheus.otlp_metrics)
            provider = MeterProvider([PeriodicExportingMetricReader(exporter)])
        stack.callback(provider.shutdown)
        row = records.row
        histogram = provider.get_meter("tests").create_histogram(
            row.name, row.unit, explicit_bucket_boundaries_advisory=row.buckets
        )
        # The first sample is no increase. It has many records in each bucket, as Prometheus
        # extrapolates a counter less that was near zero.
        recorded = 0
        for times in (100, 1):
            for value in records.values * times:
                histogram.record(value, LABELS)
            provider.force_flush()
            recorded += len(records.values) * times
            wait_until(partial(has, prometheus, row, recorded), "all records", seconds=60)
        yield prometheus


def has(prometheus: RealPrometheus, row: Instrument, count: int) -> bool:
    name = metric_name(row)
    return prometheus.value(f"sum({name}_count) or sum(histogram_count({name}))") == count


def drawn(prometheus: RealPrometheus, query: str) -> dict[float, float]:
    """The share of each bucket as Grafana draws them: each series less the one below it."""
    found = {float(le): value for le, value in prometheus.values(query, "le").items()}
    bounds = sorted(found)
    below = (0.0, *(found[bound] for bound in bounds))
    return {bound: (found[bound] - below[i]) / below[-1] for i, bound in enumerate(bounds)}


@pytest.mark.parametrize("is_classic", [False, True], ids=["native", "classic"])
@pytest.mark.parametrize("is_scraped", [False, True], ids=["otlp", "scraped"])
@pytest.mark.parametrize("records", [DURATIONS, LENGTHS], ids=["durations", "lengths"])
def test_each_bucket_has_its_records(
    start_prometheus: StartPrometheus, records: Records, *, is_scraped: bool, is_classic: bool
) -> None:
    row, some = records.row, records.some
    assert row.buckets is not None
    with stored(
        start_prometheus, records, is_scraped=is_scraped, is_classic=is_classic
    ) as prometheus:
        every = drawn(prometheus, HOUR.heat_map(row))
        assert every == pytest.approx(records.shares(row.buckets))
        assert drawn(prometheus, HOUR.heat_map(row, bounds=some)) == pytest.approx(
            records.shares(some)
        )


def test_a_bound_has_a_point_whenever_another_has_one(start_prometheus: StartPrometheus) -> None:
    """Grafana subtracts the points of two bounds by their position, also if no call ended."""
    soon = RULES.over("5s")
    with stored(start_prometheus, LENGTHS, is_scraped=True, is_classic=False) as prometheus:
        wait_until(lambda: prometheus.value(soon.count(TOKENS)) == 0, "no record", seconds=60)
        now = time.time()
        found = prometheus.ask(
            "query_range", query=soon.heat_map(TOKENS), start=now - 8, end=now, step=1
        )
    points = {series["metric"]["le"]: series["values"] for series in found["result"]}
    assert len({tuple(moment for moment, _ in values) for values in points.values()}) == 1
    every = [float(value) for _, value in points["+Inf"]]
    assert every[-1] == 0
    assert max(every) > 0
    assert {values[-1][1] for values in points.values()} == {"0"}


@pytest.mark.parametrize("is_classic", [False, True], ids=["native", "classic"])
def test_a_mean_is_that_of_the_records(
    start_prometheus: StartPrometheus, *, is_classic: bool
) -> None:
    row, mean = LENGTHS.row, statistics.mean(LENGTHS.values)
    with stored(start_prometheus, LENGTHS, is_scraped=False, is_classic=is_classic) as prometheus:
        assert prometheus.value(HOUR.mean(row)) == pytest.approx(mean)
        assert prometheus.value(HOUR.mean_total(row)) == pytest.approx(mean)
        never = {names.TOKEN_TYPE: '="none"'}
        assert prometheus.value(HOUR.mean(row, where=never)) is None
