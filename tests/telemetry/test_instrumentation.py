"""A provider that is not given is the global one at the time of the call, also after a reset."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ollama_otel._telemetry.instrumentation import instrumentation_for
from ollama_otel.settings import Settings

PRELUDE = """
import json
import httpx
from opentelemetry import metrics, trace
from opentelemetry._logs import _internal as logs_api
from opentelemetry.metrics import _internal as metrics_api
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.util._once import Once
from ollama_otel import Client, Settings, configure

DONE = {"model": "m", "message": {"role": "assistant", "content": "hi"}, "done": True}

def client(**options):
    answer = httpx.MockTransport(lambda request: httpx.Response(200, json=DONE))
    return Client(transport=answer, **options)

def reset(replaces_stand_ins):
    trace._TRACER_PROVIDER, trace._TRACER_PROVIDER_SET_ONCE = None, Once()
    metrics_api._METER_PROVIDER, metrics_api._METER_PROVIDER_SET_ONCE = None, Once()
    logs_api._LOGGER_PROVIDER, logs_api._LOGGER_PROVIDER_SET_ONCE = None, Once()
    if replaces_stand_ins:
        trace._PROXY_TRACER_PROVIDER = trace.ProxyTracerProvider()
        metrics_api._PROXY_METER_PROVIDER = metrics_api._ProxyMeterProvider()
        logs_api._PROXY_LOGGER_PROVIDER = logs_api.ProxyLoggerProvider()

def fresh(replaces_stand_ins):
    reset(replaces_stand_ins)
    spans, events, reader = InMemorySpanExporter(), InMemoryLogRecordExporter(), InMemoryMetricReader()
    tracers, loggers = TracerProvider(), LoggerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    loggers.add_log_record_processor(SimpleLogRecordProcessor(events))
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(MeterProvider([reader]))
    logs_api.set_logger_provider(loggers)
    return spans, events, reader

def durations(reader):
    data = reader.get_metrics_data()
    return sum(
        point.count
        for resource in (data.resource_metrics if data else [])
        for scope in resource.scope_metrics
        for metric in scope.metrics if metric.name == "gen_ai.client.operation.duration"
        for point in metric.data.data_points
    )

def three_tests(made, replaces_stand_ins):
    for _ in range(3):
        spans, events, reader = fresh(replaces_stand_ins)
        made().chat("m", [{"role": "user", "content": "x"}])
        found = [len(spans.get_finished_spans()), len(events.get_finished_logs()), durations(reader)]
        print(json.dumps(found))
"""


@pytest.mark.processes
@pytest.mark.parametrize("replaces_stand_ins", [False, True])
@pytest.mark.parametrize(
    "script",
    [
        "made = client",
        "early = client(); made = lambda: early",
        "idle = client(settings=Settings(emit_events=True)); made = client",
        "early = client(settings=Settings(emit_events=True)); made = lambda: early",
        "configure(); early = client(); made = lambda: early",
    ],
)
def test_each_test_with_global_providers_of_its_own_gets_its_calls(
    script: str, replaces_stand_ins: bool
) -> None:
    environ = {
        "OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT": "true",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{textwrap.dedent(PRELUDE)}\n{script}\nthree_tests(made, {replaces_stand_ins})",
        ],
        cwd=Path(__file__).parents[2],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [[1, 1, 1]] * 3


def test_nothing_is_built_again_while_the_providers_stay() -> None:
    of_client = instrumentation_for({"settings": Settings()})
    assert of_client() is of_client()
    of_process = instrumentation_for({})
    assert of_process() is of_process()
