"""Prometheus gives our metrics the names that boards and rules use, for every translation strategy."""

from __future__ import annotations

import contextlib
import re
import urllib.request
from collections.abc import Callable, Iterator
from typing import get_args

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from ollama_otel._monitoring.check import check
from ollama_otel._monitoring.prometheus_api import PrometheusServer
from ollama_otel._telemetry.instruments import Instrument, all_instruments
from ollama_otel._telemetry.metric_names import (
    HISTOGRAM_SUFFIXES,
    label_name,
    metric_name,
    scraped_name,
    series_names,
)
from ollama_otel._telemetry.scrape import ScrapeEndpoint

from .conftest import StartPrometheus
from .servers import RealPrometheus, Translation, wait_until
from .servers.prometheus import DASHBOARDS

ROWS = all_instruments()
JOB = "names"


def with_dots(row: Instrument) -> str:
    """The unescaped name, with suffixes."""
    return row.name + metric_name(row).removeprefix(label_name(row.name))


def as_it_is(attribute: str) -> str:
    return attribute


NAMES: dict[Translation, tuple[Callable[[Instrument], str], Callable[[str], str]]] = {
    "UnderscoreEscapingWithSuffixes": (metric_name, label_name),
    "UnderscoreEscapingWithoutSuffixes": (lambda row: label_name(row.name), label_name),
    "NoUTF8EscapingWithSuffixes": (with_dots, as_it_is),
    "NoTranslation": (lambda row: row.name, as_it_is),
}
"""How a strategy names a metric and a label."""


@contextlib.contextmanager
def measuring(reader: MetricReader) -> Iterator[MeterProvider]:
    """Records one value of every instrument of the table, with all of its labels."""
    provider = MeterProvider([reader], Resource.create({"service.name": JOB}))
    meter = provider.get_meter("names")
    for row in ROWS:
        value = dict.fromkeys(row.labels, "x")
        about = {"unit": row.unit, "description": row.description}
        if row.kind == "histogram":
            buckets = {"explicit_bucket_boundaries_advisory": row.buckets}
            meter.create_histogram(row.name, **about, **buckets).record(1, value)
        elif row.kind == "counter":
            meter.create_counter(row.name, **about).add(1, value)
        elif row.kind == "updowncounter":
            meter.create_up_down_counter(row.name, **about).add(1, value)
        else:
            meter.create_gauge(row.name, **about).set(1, value)
    try:
        yield provider
    finally:
        provider.shutdown()


def send_to(prometheus: RealPrometheus) -> None:
    exporter = OTLPMetricExporter(prometheus.otlp_metrics)
    with measuring(PeriodicExportingMetricReader(exporter)) as provider:
        assert provider.force_flush()


def stored(prometheus: RealPrometheus) -> dict[str, set[str]]:
    """The labels of each metric without those of the target; omits results of rules."""
    found = prometheus.ask("series", **{"match[]": f'{{job="{JOB}"}}'})
    target = {"__name__", "job", "instance", "le"}
    return {
        series["__name__"]: series.keys() - target
        for series in found
        if ":" not in series["__name__"] and series["__name__"] not in {"target_info", "ALERTS"}
    }


@pytest.mark.parametrize("translation", get_args(Translation))
def test_names_are_those_predicted(
    start_prometheus: StartPrometheus, translation: Translation
) -> None:
    name, label = NAMES[translation]
    with start_prometheus(translation=translation) as prometheus:
        send_to(prometheus)
        found = stored(prometheus)
        with PrometheusServer(prometheus.url) as server:
            report = check([], server, folder=DASHBOARDS)
    expected = {each for row in ROWS for each in series_names(row)}
    assert set(report.renamed) == found.keys() - expected
    assert report.has_metrics == (not found.keys().isdisjoint(expected))
    assert report.has_metrics == translation.startswith("Underscore")
    assert found == {name(row): {label(each) for each in row.labels} for row in ROWS}
    # No two instruments got the same name.
    assert len(found) == len(ROWS)


def test_classic_histograms_have_three_names(start_prometheus: StartPrometheus) -> None:
    with start_prometheus(classic=True) as prometheus:
        send_to(prometheus)
        found = stored(prometheus).keys()
    assert found == {
        f"{metric_name(row)}{suffix}"
        for row in ROWS
        for suffix in (HISTOGRAM_SUFFIXES if row.kind == "histogram" else ("",))
    }


def test_the_scrape_endpoint_has_the_predicted_names_in_its_text() -> None:
    endpoint = ScrapeEndpoint("127.0.0.1", 0)
    try:
        with measuring(endpoint.reader), urllib.request.urlopen(endpoint.url) as answer:
            text = answer.read().decode()
    finally:
        endpoint.close()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    assert kinds.pop("target_info") == "gauge"
    assert kinds == {
        scraped_name(row): "gauge" if row.kind == "updowncounter" else row.kind for row in ROWS
    }
    for row in ROWS:
        suffix = "_sum" if row.kind == "histogram" else ""
        line = re.search(rf"^{scraped_name(row)}{suffix}(?:{{(.*)}})? ", text, re.MULTILINE)
        assert line
        assert set(re.findall(r'(\w+)="', line[1] or "")) == {
            label_name(each) for each in row.labels
        }


def test_a_prometheus_that_scrapes_has_the_predicted_names(
    start_prometheus: StartPrometheus,
) -> None:
    endpoint = ScrapeEndpoint("127.0.0.1", 0)
    place = endpoint.url.removeprefix("http://").removesuffix("/metrics")
    try:
        with measuring(endpoint.reader), start_prometheus(scrape={JOB: place}) as prometheus:
            wait_for_a_scrape(prometheus)
            found = stored(prometheus)
    finally:
        endpoint.close()
    ours = {name: labels for name, labels in found.items() if not name.startswith(("up", "scrape"))}
    assert ours == {scraped_name(row): {label_name(each) for each in row.labels} for row in ROWS}


def wait_for_a_scrape(prometheus: RealPrometheus) -> None:
    wait_until(
        lambda: prometheus.value(f'up{{job="{JOB}"}}') == 1.0, "the first scrape", seconds=60
    )
