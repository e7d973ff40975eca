"""The scrape endpoint: metrics that Prometheus fetches from the process."""

from __future__ import annotations

import os
import re
import socket
from typing import Any

import pytest

from ollama_otel._telemetry.scrape import ScrapeEndpoint, place_from_environ, read_place
from ollama_otel.errors import MissingExtraError, SettingsError

from .collector import Collector, collecting
from .test_setup import run

FETCH = """
import os, re
from urllib.request import urlopen

def fetched(telemetry):
    with urlopen(telemetry.scrape_endpoint.url) as answer:
        return answer.read().decode()

def value(text, start):
    return [float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(start)]
"""
QUIET = {"OTEL_TRACES_EXPORTER": "none"}


def test_what_was_recorded_is_served_until_shutdown() -> None:
    ran = run(
        FETCH
        + """
telemetry = configure(service_name="app", prometheus="127.0.0.1:0")
chat(); chat()
text = fetched(telemetry)
tell(value(text, "gen_ai_client_operation_duration_seconds_count"))
tell(value(text, 'gen_ai_client_token_usage_sum{gen_ai_operation_name="chat"'))
tell(["otel_scope" in text, 'service_name="app"' in text, "python_info" in text])
telemetry.shutdown()
try:
    fetched(telemetry)
except OSError as error:
    tell("gone")
""",
        **QUIET,
    )
    assert ran.told == [[2.0], [2.0, 4.0], [False, True, False], "gone"]


def test_after_a_flush_each_series_is_served_once_and_as_it_is_now() -> None:
    ran = run(
        FETCH
        + """
telemetry = configure(prometheus="127.0.0.1:0")
chat(); telemetry.flush(); chat(); telemetry.flush(); chat()
tell(value(fetched(telemetry), "gen_ai_client_operation_duration_seconds_count"))
""",
        **QUIET,
    )
    assert ran.told == [[3.0]]


def test_scrapes_at_the_same_time_are_all_whole() -> None:
    ran = run(
        FETCH
        + """
from concurrent.futures import ThreadPoolExecutor
telemetry = configure(prometheus="127.0.0.1:0")
chat()
with ThreadPoolExecutor(8) as pool:
    texts = list(pool.map(fetched, [telemetry] * 80))
tell([value(text, "gen_ai_client_operation_duration_seconds_count") for text in texts])
""",
        **QUIET,
    )
    assert ran.told == [[[1.0]] * 80]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_neither_serves_nor_keeps_the_port() -> None:
    ran = run(
        FETCH
        + """
import socket
telemetry = configure(prometheus="127.0.0.1:0")
chat()
port = int(telemetry.scrape_endpoint.url.split(":")[2].split("/")[0])
read, write = os.pipe()
go, gone = os.pipe()
child = os.fork()
if child == 0:
    os.read(go, 1)
    telemetry.shutdown()
    os.write(write, b"x")
    os._exit(0)
tell(value(fetched(telemetry), "gen_ai_client_operation_duration_seconds_count"))
telemetry.shutdown()
socket.create_server(("127.0.0.1", port)).close()
os.write(gone, b"x")
tell(os.read(read, 1).decode())
tell(os.waitpid(child, 0)[1])
""",
        **QUIET,
    )
    assert ran.told == [[1.0], "x", 0]


def test_the_standard_variables_choose_it_too() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ran = run(
        FETCH + "telemetry = configure(); chat(); tell([telemetry.scrape_endpoint.url, "
        "len(value(fetched(telemetry), 'gen_ai_client_operation_duration_seconds_count'))])",
        **QUIET,
        OTEL_METRICS_EXPORTER="prometheus",
        OTEL_EXPORTER_PROMETHEUS_HOST="127.0.0.1",
        OTEL_EXPORTER_PROMETHEUS_PORT=str(port),
    )
    assert ran.told == [[f"http://127.0.0.1:{port}/metrics", 1]]


@pytest.mark.parametrize(
    ("environ", "paths"),
    [
        ({}, set()),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, {"/v1/metrics"}),
        ({"OTEL_METRICS_EXPORTER": "prometheus, otlp"}, {"/v1/metrics"}),
        ({"OTEL_METRICS_EXPORTER": "none"}, set()),
    ],
)
def test_metrics_are_sent_as_well_only_where_the_variable_says_so(
    environ: dict[str, str], paths: set[str]
) -> None:
    with collecting() as collector:
        ran = run(
            FETCH
            + f"""
telemetry = configure(prometheus="127.0.0.1:0", endpoint={collector.url!r})
chat()
tell(len(value(fetched(telemetry), "gen_ai_client_operation_duration_seconds_count")))
telemetry.flush()
""",
            **QUIET,
            **environ,
        )
    assert ran.told == [1]
    assert {path for path, *_ in collector.requests} == paths


def test_a_port_that_is_taken_is_said_and_nothing_is_set() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = run(
            f"""
            try:
                configure(prometheus="127.0.0.1:{port}")
            except SettingsError as error:
                tell([str(error), global_kinds()])
            """,
            **QUIET,
        )
    message, kinds = ran.told[0]
    assert message.startswith(f"the scrape endpoint cannot listen on 127.0.0.1:{port} (")
    assert kinds == ["ProxyTracerProvider", "_ProxyMeterProvider", "ProxyLoggerProvider"]


def test_a_meter_provider_of_the_app_stays_and_a_warning_says_what_to_do() -> None:
    ran = run(
        """
        from opentelemetry.sdk.metrics import MeterProvider
        metrics.set_meter_provider(MeterProvider())
        tell(configure(prometheus="127.0.0.1:0").scrape_endpoint is None)
        """,
        **QUIET,
    )
    assert ran.told == [True]
    assert "add a PrometheusMetricReader to that provider" in ran.stderr


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("[::1]:9464", ("::1", 9464)),
        ("metrics.local:0", ("metrics.local", 0)),
        (":9464", ("localhost", 9464)),
    ],
)
def test_a_place_is_read(text: str, place: tuple[str, int]) -> None:
    assert read_place(text) == place


@pytest.mark.parametrize(
    "text", ["", "9464", "host", "http://host:1", "host:1/metrics", "host:x", "h:99999", "***@h:1"]
)
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(
        SettingsError,
        match=re.escape(f"such as 127.0.0.1:9464, not {text!r}"),
    ):
        read_place(text)


def test_a_password_in_a_place_is_not_shown() -> None:
    with pytest.raises(SettingsError, match=r"not '\*\*\*@h:1'"):
        read_place("user:password@h:1")


def test_without_variables_it_is_the_specifications_place(monkeypatch: Any) -> None:
    for variable in ("HOST", "PORT"):
        monkeypatch.delenv(f"OTEL_EXPORTER_PROMETHEUS_{variable}", raising=False)
    assert place_from_environ() == ("localhost", 9464)


def test_without_its_packages_the_extra_is_named(monkeypatch: Any) -> None:
    monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ollama_otel\[prometheus\]'"):
        ScrapeEndpoint("127.0.0.1", 0)


# --- what the SDK loses -----------------------------------------------------------------------


def test_spans_that_no_collector_takes_are_counted() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    ran = run(
        FETCH
        + f"""
telemetry = configure(prometheus="127.0.0.1:0", endpoint={nobody!r})
chat(); chat(); chat()
telemetry.tracer_provider.force_flush()
lost = [line for line in fetched(telemetry).splitlines()
        if line.startswith("otel_sdk_exporter_span_exported_total") and 'error_type=""' not in line
        and "error_type=" in line]
tell([float(line.rpartition(" ")[2]) for line in lost])
tell("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED" in os.environ)
""",
        OTEL_EXPORTER_OTLP_TIMEOUT="1",
    )
    assert ran.told == [[3.0], False]


def test_spans_that_arrive_are_counted_without_an_error(collector: Collector) -> None:
    ran = run(
        FETCH
        + f"""
telemetry = configure(prometheus="127.0.0.1:0", endpoint={collector.url!r})
chat()
telemetry.tracer_provider.force_flush()
text = fetched(telemetry)
tell(value(text, "otel_sdk_exporter_span_exported_total"))
tell("otel_sdk_span_started" in text)
"""
    )
    assert ran.told == [[1.0], False]


@pytest.fixture
def collector() -> Any:
    with collecting() as made:
        yield made
