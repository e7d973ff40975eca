"""The scrape endpoint: metrics that Prometheus fetches from the process."""

from __future__ import annotations

import errno
import os
import re
import socket
import textwrap
from typing import Any

import pytest

from ollama_otel._telemetry.scrape import (
    ScrapeEndpoint,
    open_endpoint,
    place_from_environ,
    read_place,
)
from ollama_otel.errors import MissingExtraError, SettingsError

from .collector import Collector, collecting
from .test_setup import run

pytestmark = pytest.mark.processes

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


@pytest.mark.sockets
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


@pytest.mark.sockets
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


TAKEN = "another process has the port, perhaps another worker of this app"
THIS_MACHINE = "the host must resolve to an address of this machine"


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("place", "reason", "hint"),
    [
        ("127.0.0.1:{port}", "Address already in use", TAKEN),
        ("192.0.2.1:9464", "", "the host must be an address of this machine"),
        ("nowhere.invalid:9464", "", THIS_MACHINE),
    ],
)
def test_where_it_cannot_listen_a_warning_says_so_and_the_rest_is_set_up(
    place: str, reason: str, hint: str, collector: Collector
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = place.format(port=taken.getsockname()[1])
        ran = run(
            f"""
            telemetry = configure(prometheus={place!r}, endpoint={collector.url!r}, max_models=9)
            chat()
            tell([telemetry.flush(), telemetry.scrape_endpoint, global_kinds()])
            telemetry.shutdown()
            """,
            OTEL_METRICS_EXPORTER="otlp,prometheus",
            OTEL_SERVICE_NAME="app",
        )
    assert ran.told == [[True, None, ["TracerProvider", "MeterProvider", "ProxyLoggerProvider"]]]
    assert collector.spans() == [("app", "chat m")]
    assert "gen_ai.client.operation.duration" in collector.metrics()
    (line,) = ran.stderr.splitlines()
    assert line.startswith(
        f"metrics are not served to Prometheus, as nothing can listen on {place} ("
    )
    assert reason in line
    assert hint in line


def test_a_user_without_the_right_to_a_port_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ollama_otel._telemetry.scrape.ScrapeServer", refuse)
        assert open_endpoint("127.0.0.1", 80) is None
    (message,) = caplog.messages
    assert message.endswith(
        "127.0.0.1:80 (Permission denied): this user may not use the port; choose one from 1024 on"
    )


def test_what_is_no_host_name_is_refused_and_nothing_is_set() -> None:
    ran = run(
        """
        try:
            configure(prometheus="a..b:9464")
        except SettingsError as error:
            tell([str(error), global_kinds()])
        """,
        **QUIET,
    )
    message, kinds = ran.told[0]
    assert message.startswith("'a..b' is not a host name: ")
    assert kinds == ["ProxyTracerProvider", "_ProxyMeterProvider", "ProxyLoggerProvider"]


FORK = """
import socket
telemetry = configure(prometheus="127.0.0.1:0")
own = client()
{before}
read, write = os.pipe()
child = os.fork()
if child == 0:
    try:
{in_child}
    finally:
        os.write(write, b"x")
        os._exit(0)
os.read(read, 1)
tell([os.waitpid(child, 0)[1], value(fetched(telemetry), COUNT)])
"""
COUNT = 'COUNT = "gen_ai_client_operation_duration_seconds_count"\n'
HELLO = 'own.chat("m", [{"role": "user", "content": "Hello"}])'


def forking(in_child: str, *, before: str = "") -> Any:
    script = FORK.format(
        in_child=textwrap.indent(textwrap.dedent(in_child), " " * 8), before=before
    )
    return run(FETCH + COUNT + script, **QUIET)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")


@needs_fork
@pytest.mark.parametrize("before", ["", HELLO])
def test_a_forked_child_whose_calls_nobody_can_fetch_says_so_once(before: str) -> None:
    ran = forking(f"{HELLO}; chat(); {HELLO}; chat()", before=before)
    assert ran.told == [[0, [1.0] if before else []]]
    (line,) = ran.stderr.splitlines()
    assert line.startswith("the metrics of this forked process are not served to Prometheus: ")
    assert "gunicorn's post_fork" in line


@needs_fork
def test_a_client_with_options_says_it_too() -> None:
    ran = forking(
        HELLO, before="own = Client(transport=own._client._transport.inner, settings=Settings())"
    )
    assert ran.stderr.count("are not served to Prometheus") == 1


@needs_fork
def test_a_forked_child_without_calls_says_nothing() -> None:
    assert forking("client()").stderr == ""


@needs_fork
def test_what_configure_returned_may_be_dropped() -> None:
    ran = run(
        """
        import gc, os, socket
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        configure(prometheus=f"127.0.0.1:{port}"); gc.collect()
        child = os.fork()
        if child == 0:
            with os.scandir("/proc/self/fd") as found:
                links = [os.readlink(each.path) for each in found if os.path.exists(each.path)]
            os._exit(sum(link.startswith("socket:") for link in links))
        tell(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        **QUIET,
    )
    assert ran.told == [0]


@needs_fork
def test_configure_in_a_forked_child_serves_its_metrics_on_a_port_of_its_own() -> None:
    ran = forking(
        """
        import threading
        again = configure(prometheus="127.0.0.1:0")
        own.chat("m", [{"role": "user", "content": "Hello"}])
        chat()
        tell([again.scrape_endpoint.url != url, value(fetched(again), COUNT)])
        again.shutdown()
        socket.create_server(("127.0.0.1", int(again.scrape_endpoint.url.split(":")[2][:-8])))
        """,
        before="url = telemetry.scrape_endpoint.url",
    )
    assert ran.told == [[True, [2.0]], [0, []]]
    assert ran.stderr == ""


@needs_fork
def test_configure_in_a_forked_child_with_a_port_that_is_taken_goes_on_without() -> None:
    ran = forking(
        f"tell(configure(prometheus=place).scrape_endpoint); {HELLO}",
        before='place = telemetry.scrape_endpoint.url.split("/")[2]',
    )
    assert ran.told == [None, [0, []]]
    taken, forked = ran.stderr.splitlines()
    assert TAKEN in taken
    assert "of this forked process are not served" in forked


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
    ("options", "expected"),
    [({}, 403), ({"scrape_hosts": ("app.example.com",)}, 200), ({"scrape_hosts": ("*",)}, 200)],
)
def test_foreign_names_are_refused_unless_they_are_set(
    options: dict[str, Any], expected: int
) -> None:
    ran = run(
        f"""
from urllib.error import HTTPError
from urllib.request import Request, urlopen
telemetry = configure(prometheus="127.0.0.1:0", **{options!r})
request = Request(telemetry.scrape_endpoint.url, headers={{"Host": "app.example.com"}})
try:
    tell(urlopen(request).status)
except HTTPError as error:
    tell(error.code)
""",
        **QUIET,
    )
    assert ran.told == [expected]


def test_the_names_can_be_set_from_outside() -> None:
    ran = run(
        "tell(configure(prometheus='127.0.0.1:0').settings.scrape_hosts)",
        **QUIET,
        OLLAMA_OTEL_SCRAPE_HOSTS="a.example, b.example",
    )
    assert ran.told == [["a.example", "b.example"]]


@needs_fork
def test_a_forked_child_leaves_the_parent_serving_slow_clients() -> None:
    ran = run(
        FETCH
        + """
import socket
telemetry = configure(prometheus="127.0.0.1:0")
chat()
port = int(telemetry.scrape_endpoint.url.split(":")[2].split("/")[0])
slow = socket.create_connection(("127.0.0.1", port))
slow.sendall(b"GET /metrics HTTP/1.1\\r\\n")
fetched(telemetry)
child = os.fork()
if child == 0:
    telemetry.shutdown()
    os._exit(0)
tell(os.waitpid(child, 0)[1])
slow.sendall(b"Host: x\\r\\n\\r\\n")
text = b""
while piece := slow.recv(65536):
    text += piece
tell([text[:15].decode(), len(value(fetched(telemetry), "target_info"))])
""",
        **QUIET,
    )
    assert ran.told == [0, ["HTTP/1.1 200 OK", 1]]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("[::1]:9464", ("::1", 9464)),
        ("metrics.local:0", ("metrics.local", 0)),
        (":9464", ("localhost", 9464)),
        ("9464", ("localhost", 9464)),
        ("0", ("localhost", 0)),
    ],
)
def test_a_place_is_read(text: str, place: tuple[str, int]) -> None:
    assert read_place(text) == place


@pytest.mark.parametrize(
    "text", ["", "99999", "host", "http://host:1", "host:1/metrics", "host:x", "h:99999", "***@h:1"]
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


@pytest.mark.sockets
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


@pytest.mark.sockets
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
