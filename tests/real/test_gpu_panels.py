"""The panels on GPUs show in a real Prometheus what the GPUs of a simulated driver report."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pynvml
import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from ollama_otel._monitoring.board_file import Timing
from ollama_otel._telemetry.residency_metrics import ResidencyMetrics
from ollama_otel._telemetry.scrape import ScrapeEndpoint
from ollama_otel.residency import Residency
from tests.residency.nvml_library import MEBIBYTE, FakeGpu, install

from .conftest import StartPrometheus
from .servers import RealPrometheus, wait_until
from .test_boards import EMPTY, NO_GPU, queries

SENT, SCRAPED = "gpu-sent", "gpu-scraped"
USED = {"GPU-1": 1_855 * MEBIBYTE, "GPU-2": 0}
TOTAL = 81_559 * MEBIBYTE
EXPECTED = {
    ("GPU memory", "A"): USED,
    ("GPU memory", "B"): dict.fromkeys(USED, TOTAL),
    ("GPU memory in use", "A"): {gpu: used / TOTAL for gpu, used in USED.items()},
    ("GPU utilization", "A"): {"GPU-1": 0.93},
    ("GPU temperature", "A"): {"GPU-1": 41, "GPU-2": 33},
    ("GPU power", "A"): {"GPU-1": 107.25, "GPU-2": 70},
    ("GPU energy", "A"): {"GPU-1": 550, "GPU-2": 0},
    # No server is watched here, so nobody knows that no model is loaded.
    ("GPU power without a model", "A"): {},
    # There were no calls.
    ("Tokens per joule of the GPUs", "A"): {},
}
"""Values by GPU, of each panel and letter."""
POWER = ("Power of calls (estimate) and of GPUs", "B")
"""A rate, of all GPUs together."""
PANELS = {(query.panel, query.ref): query for query in queries() if EMPTY.get(query.key) == NO_GPU}


@pytest.fixture
def endpoint() -> Iterator[ScrapeEndpoint]:
    endpoint = ScrapeEndpoint("127.0.0.1", 0)
    yield endpoint
    endpoint.close()


def test_every_panel_on_gpus_has_the_values_sent_and_scraped(
    start_prometheus: StartPrometheus, endpoint: ScrapeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = FakeGpu()
    second = FakeGpu(uuid="GPU-2", used=0, temperature=33, power=70_000)
    second.fails = {"nvmlDeviceGetUtilizationRates": pynvml.NVML_ERROR_NOT_SUPPORTED}
    install(monkeypatch, first, second)
    place = endpoint.url.removeprefix("http://").removesuffix("/metrics")
    with start_prometheus(scrape={SCRAPED: place}) as prometheus, Residency(interval=60) as watched:
        exporter = OTLPMetricExporter(prometheus.otlp_metrics)
        readers = [PeriodicExportingMetricReader(exporter), endpoint.reader]
        provider = MeterProvider(readers, Resource.create({"service.name": SENT}))
        metrics = ResidencyMetrics(provider.get_meter("gpu"), 10)
        metrics.follow(watched)
        try:
            provider.force_flush()
            until_energy_is(0, prometheus, provider)
            first.energy += 550_000
            until_energy_is(550, prometheus, provider)
            found = {job: shown(prometheus, job) for job in (SENT, SCRAPED)}
        finally:
            provider.shutdown()
    for values in found.values():
        assert 0 < values.pop(POWER)[None] <= 550, "the 550 joules of this test, over some seconds"
    assert found == {SENT: EXPECTED, SCRAPED: EXPECTED}


def until_energy_is(joules: float, prometheus: RealPrometheus, provider: MeterProvider) -> None:
    query = 'hw_energy_joules_total{hw_id="GPU-1"}'

    def is_stored() -> bool:
        provider.force_flush()
        time.sleep(0.5)
        return prometheus.values(query, "job") == dict.fromkeys((SENT, SCRAPED), joules)

    wait_until(is_stored, f"{joules} joules", seconds=60)


def shown(prometheus: RealPrometheus, job: str) -> dict[tuple[str, str], dict[str, float]]:
    timing = Timing(range=300, step=2, interval=1)
    return {
        key: prometheus.values(query.board.fill(query.expression, timing, {"job": job}), "hw_id")
        for key, query in PANELS.items()
    }
