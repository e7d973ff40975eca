"""A process that was killed in the middle of calls is not counted beside its successor."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from ollama_otel._monitoring.board_file import Timing, read_board_file
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.metric_names import metric_name

from .servers import DASHBOARDS, RealPrometheus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import StartPrometheus

APP = """
import time
from ollama_otel import Client, configure
from ollama_otel.testing import FakeOllama

configure(service_name="app")
stream = Client(transport=FakeOllama().transport()).chat(
    "llama3.2", messages=[{"role": "user", "content": "Hello"}], stream=True
)
next(stream)
print("open", flush=True)
time.sleep(600)
"""
ACTIVE = f'sum({metric_name(rows.ACTIVE_REQUESTS)}{{job="app"}})'
INTERVAL = 1


@contextlib.contextmanager
def app(prometheus: RealPrometheus) -> Iterator[None]:
    """Run an app that holds one stream open and exports every second; at the end, kill it."""
    environment = {
        **os.environ,
        "OTEL_METRIC_EXPORT_INTERVAL": str(INTERVAL * 1000),
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": prometheus.otlp_metrics,
        "OTEL_TRACES_EXPORTER": "none",
    }
    with subprocess.Popen(
        [sys.executable, "-c", APP], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            yield
        finally:
            process.kill()


def in_flight() -> str:
    """The query of the panel, as Grafana sends it for an app that exports every second."""
    board = read_board_file(DASHBOARDS / "grafana" / "boards" / "ollama-otel-overview.json")
    [panel] = [each for each in board.panels if each.title == "In flight now"]
    timing = Timing(range=60, step=2, interval=INTERVAL)
    return board.fill(panel.queries[0].expression, timing, {"job": "app"})


def until(prometheus: RealPrometheus, query: str, value: float) -> float:
    """Wait until a query gives a value, and return when it did."""
    for _ in range(600):
        now = time.time()
        if prometheus.value(query, now) == value:
            return now
        time.sleep(0.2)
    pytest.fail(f"{query} is {prometheus.value(query)}, not {value}")


def test_calls_of_a_killed_process_are_not_in_flight(start_prometheus: StartPrometheus) -> None:
    with start_prometheus() as prometheus:
        with app(prometheus):
            until(prometheus, in_flight(), 1)
        with app(prometheus):
            until(prometheus, ACTIVE, 2)
            now = until(prometheus, in_flight(), 1)
            assert prometheus.value(ACTIVE, now) == 2, "Prometheus has forgotten the first itself"
