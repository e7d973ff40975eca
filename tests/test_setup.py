"""`configure` sets up what the app has not, refuses what cannot be used, and breaks nothing.

Each in a process of its own, as OpenTelemetry's providers are the process's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ollama_otel.replay import read

from .collector import Collector, collecting

pytestmark = pytest.mark.processes

PRELUDE = """
import json
import httpx
from opentelemetry import metrics, trace
from opentelemetry._logs import get_logger_provider
from ollama_otel import Client, Settings, SettingsError, configure

ANSWER = {"model": "m", "message": {"role": "assistant", "content": "Hi"}, "done": True,
          "done_reason": "stop", "prompt_eval_count": 1, "eval_count": 2}

def client():
    return Client(transport=httpx.MockTransport(lambda request: httpx.Response(200, json=ANSWER)))

def chat():
    client().chat("m", [{"role": "user", "content": "Hello"}])

def kinds(*providers):
    return [type(provider).__name__ for provider in providers]

def global_kinds():
    return kinds(trace.get_tracer_provider(), metrics.get_meter_provider(), get_logger_provider())

def tell(value):
    print(json.dumps(value), flush=True)
"""
UNSET = ["ProxyTracerProvider", "_ProxyMeterProvider", "ProxyLoggerProvider"]
SILENT = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}


class Ran:
    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        assert done.returncode == 0, done.stderr
        self.stdout, self.stderr = done.stdout, done.stderr

    @property
    def told(self) -> list[Any]:
        return [json.loads(line) for line in self.stdout.splitlines()]


def run(script: str, **environ: str) -> Ran:
    # No proxy of the developer's machine between the two.
    clean = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    return Ran(
        subprocess.run(
            [sys.executable, "-c", PRELUDE + textwrap.dedent(script)],
            env=clean | environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    )


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


# --- what is sent -----------------------------------------------------------------------------


@pytest.mark.sockets
def test_all_signals_reach_a_collector_given_in_code(collector: Collector) -> None:
    ran = run(f"""
        telemetry = configure(
            service_name="app", endpoint={collector.url + "/"!r}, headers={{"x-key": "k"}},
            resource_attributes={{"deployment.environment.name": "test"}},
            export_interval=60, emit_events=True, max_models=7,
        )
        chat()
        tell([telemetry.flush(), global_kinds(), telemetry.settings.max_models])
        tell([
            telemetry.tracer_provider is trace.get_tracer_provider(),
            telemetry.meter_provider is metrics.get_meter_provider(),
            telemetry.logger_provider is get_logger_provider(),
        ])
    """)
    assert ran.told == [
        [True, ["TracerProvider", "MeterProvider", "LoggerProvider"], 7],
        [True, True, True],
    ]
    assert collector.spans() == [("app", "chat m")]
    assert "gen_ai.client.operation.duration" in collector.metrics()
    assert collector.events() == ["gen_ai.client.inference.operation.details"]
    assert {path for path, *_ in collector.requests} == {"/v1/traces", "/v1/metrics", "/v1/logs"}
    assert {headers["x-key"] for _, headers, _ in collector.requests} == {"k"}
    assert b"deployment.environment.name" in collector.bodies("/v1/traces")[0]


@pytest.mark.sockets
def test_the_standard_variables_are_followed_and_the_rest_is_sent_at_exit(
    collector: Collector,
) -> None:
    ran = run(
        """
        early = client()
        telemetry = configure()
        early.chat("m", [{"role": "user", "content": "Hello"}])
        tell(telemetry.logger_provider)
        """,
        OTEL_SERVICE_NAME="from-the-environment",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
    )
    assert ran.told == [None]
    assert collector.spans() == [("from-the-environment", "chat m")]
    assert "gen_ai.client.operation.duration" in collector.metrics()
    assert collector.events() == []


@pytest.mark.parametrize(
    ("variables", "arguments", "expected"),
    [
        ({"OTEL_TRACES_EXPORTER": "otlp_proto_http"}, "", ["http"]),
        ({"OTEL_TRACES_EXPORTER": "otlp_proto_grpc"}, "", ["grpc"]),
        ({"OTEL_TRACES_EXPORTER": "otlp_proto_grpc,otlp,otlp_proto_http"}, "", ["grpc", "http"]),
        (
            {"OTEL_TRACES_EXPORTER": "otlp_proto_grpc", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "",
            ["grpc"],
        ),
        ({"OTEL_TRACES_EXPORTER": "otlp_proto_grpc"}, "protocol='http/protobuf'", ["http"]),
    ],
)
def test_the_sdk_s_own_names_of_its_exporters_choose_the_protocol(
    variables: dict[str, str], arguments: str, expected: list[str]
) -> None:
    pytest.importorskip("grpc")
    ran = run(
        f"""
        import os
        telemetry = configure({arguments})
        processors = telemetry.tracer_provider._active_span_processor._span_processors
        tell([type(each.span_exporter).__module__.split(".")[4] for each in processors])
        os._exit(0)
        """,
        **variables,
        OTEL_METRICS_EXPORTER="none",
    )
    assert ran.told == [expected]


@pytest.mark.sockets
def test_metrics_and_logs_take_the_sdk_s_own_names_too(collector: Collector) -> None:
    ran = run(
        f"""
        telemetry = configure(endpoint={collector.url!r}, emit_events=True)
        chat()
        tell(telemetry.flush())
        """,
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        OTEL_TRACES_EXPORTER="none",
        OTEL_METRICS_EXPORTER="otlp_proto_http",
        OTEL_LOGS_EXPORTER="OTLP_PROTO_HTTP",
    )
    assert ran.told == [True]
    assert {path for path, *_ in collector.requests} == {"/v1/metrics", "/v1/logs"}


@pytest.mark.sockets
@pytest.mark.parametrize("path", ["/v1/traces", "/v1/traces/", "/v1/metrics", "/v1/logs"])
def test_the_url_of_one_signal_serves_as_the_endpoint_of_all(
    path: str, collector: Collector
) -> None:
    run(f"""
        telemetry = configure(endpoint={collector.url + path!r}, emit_events=True)
        chat()
        telemetry.flush()
    """)
    assert {path for path, *_ in collector.requests} == {"/v1/traces", "/v1/metrics", "/v1/logs"}


@pytest.mark.sockets
def test_metrics_are_sent_at_the_interval(collector: Collector) -> None:
    run(f"""
        import time
        configure(endpoint={collector.url!r}, export_interval=0.05)
        chat()
        time.sleep(0.4)
    """)
    assert len(collector.bodies("/v1/metrics")) >= 3


def test_observers_and_settings_given_to_configure_hold_for_every_client() -> None:
    ran = run(
        """
        from ollama_otel import CallFollower
        seen = []
        class Seen(CallFollower):
            def end(self, record):
                seen.append([record.outcome, record.answer and record.answer.text])
        class Watcher:
            def begin(self, start):
                return Seen()
        before = client()
        before.chat("m", [{"role": "user", "content": "Hello"}])
        configure(observers=[Watcher()], capture_content="span_only")
        before.chat("m", [{"role": "user", "content": "Hello"}])
        chat()
        configure(settings=Settings())
        chat()
        tell(seen)
        """,
        **SILENT,
    )
    assert ran.told == [[["completed", "Hi"], ["completed", "Hi"]]]


def test_enrichers_given_to_configure_hold_for_every_client() -> None:
    ran = run(
        """
        from ollama_otel import CallFollower
        from ollama_otel.records import ModelResidency
        class Knowing:
            def begin(self, start):
                return lambda record: ModelResidency(gpu_share=0.5)
        class Seen(CallFollower):
            def begin(self, start):
                return self
            def end(self, record):
                tell(record.residency.gpu_share)
        before = client()
        configure(enrichers=[Knowing()], observers=[Seen()])
        before.chat("m", [{"role": "user", "content": "Hello"}])
        """,
        **SILENT,
    )
    assert ran.told == [0.5]


# --- what is left alone -----------------------------------------------------------------------


@pytest.mark.sockets
def test_providers_of_the_app_are_left_alone(collector: Collector) -> None:
    ran = run(f"""
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        spans = InMemorySpanExporter()
        own = TracerProvider()
        own.add_span_processor(SimpleSpanProcessor(spans))
        trace.set_tracer_provider(own)
        telemetry = configure(endpoint={collector.url!r}, service_name="ours")
        chat()
        telemetry.flush()
        tell(trace.get_tracer_provider() is own)
        tell(telemetry.tracer_provider)
        tell([span.name for span in spans.get_finished_spans()])
        tell(spans.get_finished_spans()[0].resource.attributes["service.name"] == "ours")
    """)
    assert ran.told == [True, None, ["chat m"], False]
    assert collector.spans() == []
    assert collector.metrics()


def test_a_second_configure_leaves_the_providers_of_the_first() -> None:
    ran = run(
        """
        first = configure(emit_events=True)
        second = configure(profile="gen-ai-dev")
        tell(kinds(first.tracer_provider, first.meter_provider, first.logger_provider))
        tell(kinds(second.tracer_provider, second.meter_provider, second.logger_provider))
        tell([second.flush(), second.settings.profile])
        second.shutdown()
        """,
        OTEL_TRACES_EXPORTER="console",
        OTEL_METRICS_EXPORTER="console",
        OTEL_LOGS_EXPORTER="console",
    )
    # What follows are the SDK's own metrics, sent at exit.
    assert [json.loads(line) for line in ran.stdout.splitlines()[:3]] == [
        ["TracerProvider", "MeterProvider", "LoggerProvider"],
        ["NoneType", "NoneType", "NoneType"],
        [True, "gen-ai-dev"],
    ]


OWN_METRICS = """
from opentelemetry.sdk.metrics import MeterProvider
metrics.set_meter_provider(MeterProvider())
"""
OWN_TRACES = """
from opentelemetry.sdk.trace import TracerProvider
trace.set_tracer_provider(TracerProvider())
"""
WITHOUT_EFFECT = (
    "{} given to configure() cannot change the providers that are already set for {}; "
    "call configure() once, before anything else sets a provider\n"
)


@pytest.mark.parametrize(
    ("before", "keywords", "warned"),
    [
        ("configure(service_name='a')", "service_name='b'", ("service_name", "traces, metrics")),
        (
            "configure(service_name='a', emit_events=True)",
            "service_name='a', endpoint='http://h:1', headers={}, emit_events=True",
            ("endpoint, headers", "traces, metrics, logs"),
        ),
        (
            "configure()",
            "export_interval=5, emit_events=True",
            ("export_interval", "traces, metrics"),
        ),
        (OWN_TRACES + OWN_METRICS, "protocol='grpc'", ("protocol", "traces, metrics")),
        # What changes nothing, and what has an effect on some of the signals.
        ("configure(service_name='a')", "service_name='a'", None),
        ("configure(service_name='a')", "max_models=7", None),
        (OWN_TRACES, "service_name='a'", None),
        ("", "service_name='a'", None),
    ],
)
def test_what_cannot_change_the_providers_is_reported(
    before: str, keywords: str, warned: tuple[str, str] | None
) -> None:
    names = [f"OTEL_{name}_EXPORTER" for name in ("TRACES", "METRICS", "LOGS")]
    ran = run(
        "\n".join([before, f"configure({keywords})"]),
        **dict.fromkeys(names, "console"),
    )
    assert ran.stderr == ("" if warned is None else WITHOUT_EFFECT.format(*warned))


def test_a_signal_that_is_off_stays_unset() -> None:
    ran = run(
        """
        telemetry = configure(emit_events=True)
        chat()
        tell([telemetry.flush(), global_kinds()])
        """,
        **SILENT,
        OTEL_LOGS_EXPORTER=" None ",
    )
    assert ran.told == [[True, UNSET]]


def test_the_console_can_take_it_all() -> None:
    ran = run(
        """
        telemetry = configure(emit_events=True)
        chat()
        telemetry.flush()
        """,
        OTEL_TRACES_EXPORTER="console",
        OTEL_METRICS_EXPORTER="console",
        OTEL_LOGS_EXPORTER="console",
    )
    assert '"name": "chat m"' in ran.stdout
    assert "gen_ai.client.operation.duration" in ran.stdout
    assert "gen_ai.client.inference.operation.details" in ran.stdout


@pytest.mark.parametrize("given", [{"service.instance.id": "pod-7"}, {}])
def test_each_process_is_an_instance_of_its_own(given: dict[str, str]) -> None:
    script = f"""
        telemetry = configure(resource_attributes={given!r})
        tell(dict(telemetry.tracer_provider.resource.attributes)["service.instance.id"])
        """
    console = {"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "none"}
    first, second = run(script, **console).told, run(script, **console).told
    assert (first == second) == bool(given)
    assert not given or first == ["pod-7"]


def test_an_older_sdk_gets_an_instance_too() -> None:
    ran = run(
        """
        from opentelemetry.sdk.resources import Resource
        import ollama_otel._telemetry.setup as setup

        class OldResource(Resource):
            @staticmethod
            def create(attributes=None, schema_url=None):
                return Resource({"service.name": "app", **(attributes or {})})

        setup.Resource = OldResource
        """
        """
        ids = {setup._resource("a", None).attributes["service.instance.id"] for _ in range(3)}
        tell(len(ids))
        tell(setup._resource("a", {"service.instance.id": "x"}).attributes["service.instance.id"])
        """
    )
    assert ran.told == [3, "x"]


def test_what_watches_servers_goes_on_until_nobody_holds_it() -> None:
    ran = run(
        """
        first, second = configure(residency=True), configure(residency=True)
        residency = second.residency
        tell(first.residency is residency)
        first.shutdown(); first.shutdown()
        tell(residency.is_closed)
        second.shutdown()
        tell(residency.is_closed)
        """,
        **SILENT,
    )
    assert ran.told == [True, False, True]


# --- what is refused --------------------------------------------------------------------------


REFUSALS: list[tuple[dict[str, str], str, str]] = [
    (
        {"OTEL_TRACES_EXPORTER": "jaeger"},
        "",
        "OTEL_TRACES_EXPORTER must be otlp, console or none, not 'jaeger'",
    ),
    (
        {"OTEL_TRACES_EXPORTER": "prometheus"},
        "",
        "OTEL_TRACES_EXPORTER must be otlp, console or none, not 'prometheus'",
    ),
    (
        {"OTEL_METRICS_EXPORTER": "otlp,statsd"},
        "",
        "OTEL_METRICS_EXPORTER must be otlp, console, prometheus or none, not 'statsd'",
    ),
    (
        {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": "http"},
        "",
        "OTEL_EXPORTER_PROMETHEUS_PORT must be a port from 0 to 65535, not 'http'",
    ),
    (
        {"OTEL_LOGS_EXPORTER": "none,otlp"},
        "emit_events=True",
        "OTEL_LOGS_EXPORTER must be otlp, console or none, not 'none'",
    ),
    (
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
        "",
        "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf or grpc, not 'http/json'",
    ),
    (
        {"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "udp"},
        "",
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL must be http/protobuf or grpc, not 'udp'",
    ),
    ({}, "protocol='udp'", "the argument protocol must be http/protobuf or grpc, not 'udp'"),
    (
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"},
        "",
        "OTEL_EXPORTER_OTLP_ENDPOINT must be a URL such as http://localhost:4318, not 'localhost:4318'",
    ),
    (
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "collector"},
        "",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT must be a URL such as http://localhost:4318, not 'collector'",
    ),
    (
        {},
        "endpoint='collector'",
        "the argument endpoint must be a URL such as http://localhost:4318, not 'collector'",
    ),
    (
        {"OTEL_METRIC_EXPORT_INTERVAL": "-1"},
        "",
        "OpenTelemetry rejects an OTEL_* variable: interval value -1.0 is invalid and needs to be larger than zero.",
    ),
    (
        {"OTEL_METRICS_EXEMPLAR_FILTER": "some"},
        "",
        "OpenTelemetry rejects an OTEL_* variable: Unknown exemplar filter 'some'.",
    ),
    (
        {},
        "headers={'x key': 'k'}",
        "a header's name must be of letters, digits, '-', '_' and '.', not 'x key'",
    ),
    (
        {},
        "headers={'x-key': 'one\\ntwo'}",
        "the value of the header x-key must be one line of ASCII text",
    ),
    ({}, "headers={'x-key': 7}", "the value of the header x-key must be one line of ASCII text"),
    ({}, "export_interval=0", "export_interval must be seconds above 0, not 0"),
    ({}, "export_interval=float('nan')", "export_interval must be seconds above 0, not nan"),
    ({}, "export_interval=float('inf')", "export_interval must be seconds above 0, not inf"),
    (
        {"OLLAMA_OTEL_MAX_MODELS": "many"},
        "",
        "OLLAMA_OTEL_MAX_MODELS must be a whole number of at least 1, not 'many'",
    ),
    (
        {},
        "max_models='many'",
        "the setting max_models must be a whole number of at least 1, not 'many'",
    ),
    ({}, "settings=Settings(), max_models=3", "give either settings or max_models, not both"),
]


def test_what_cannot_be_used_is_refused_before_anything_is_set() -> None:
    cases = [(environ, arguments) for environ, arguments, _ in REFUSALS]
    ran = run(
        f"""
        import os
        for environ, arguments in {cases!r}:
            os.environ.update(environ)
            try:
                eval(f"configure({{arguments}})")
            except SettingsError as error:
                tell([str(error), global_kinds()])
            else:
                tell(["not refused", arguments])
            for name in environ:
                del os.environ[name]
        """
    )
    assert ran.told == [[message, UNSET] for *_, message in REFUSALS]


def test_an_unknown_keyword_is_refused_with_those_there_are() -> None:
    ran = run(
        """
        for keywords in ({"colour": "red"}, {"service_nam": "a", "settings": Settings()},
                         {"max_model": 3, "zzz": 1}):
            try:
                configure(**keywords)
            except SettingsError as error:
                tell(str(error))
        """
    )
    heads, lists = zip(*(told.split("; the keywords are ") for told in ran.told), strict=True)
    assert heads == (
        "unknown keyword colour",
        "unknown keyword service_nam (did you mean service_name?)",
        "unknown keyword max_model (did you mean max_models?), zzz",
    )
    [listed] = set(lists)
    names = {"service_name", "prometheus", "endpoint", "settings", "observers", "max_models"}
    assert names <= set(listed.split(", "))
    assert "setting_values" not in listed


def test_a_mistyped_variable_is_reported_once() -> None:
    ran = run("client(); configure(); configure()", **SILENT, OLLAMA_OTEL_RESIDENCE="true")
    assert ran.stderr == (
        "the variable OLLAMA_OTEL_RESIDENCE is unknown and has no effect "
        "(did you mean OLLAMA_OTEL_RESIDENCY?)\n"
    )


def test_grpc_without_its_package_names_the_extra() -> None:
    ran = run(
        """
        import sys
        from ollama_otel import MissingExtraError
        sys.modules["opentelemetry.exporter.otlp.proto.grpc"] = None
        sys.modules["grpc"] = None
        try:
            configure(protocol="grpc")
        except MissingExtraError as error:
            tell([str(error), isinstance(error, ImportError), global_kinds()])
        """
    )
    message = (
        "OTLP over gRPC needs a package that is not installed: "
        "pip install 'ollama_otel[grpc]', or use protocol='http/protobuf'"
    )
    assert ran.told == [[message, True, UNSET]]


def test_http_needs_no_grpc() -> None:
    ran = run(
        """
        import sys
        configure(endpoint="http://127.0.0.1:1")
        tell([name for name in sys.modules if name.split(".")[0] == "grpc"])
        import os
        os._exit(0)
        """
    )
    assert ran.told == [[]]


@pytest.mark.parametrize(
    ("endpoint", "insecure"),
    [("http://127.0.0.1:1", True), ("127.0.0.1:1", True), ("https://127.0.0.1:1", False)],
)
def test_grpc_is_encrypted_only_where_the_endpoint_says_so(endpoint: str, insecure: bool) -> None:
    pytest.importorskip("grpc")
    ran = run(f"""
        import grpc, os
        opened = []
        for name in ("insecure_channel", "secure_channel"):
            def channel(target, *args, _real=getattr(grpc, name), _name=name, **kwargs):
                opened.append(_name)
                return _real(target, *args, **kwargs)
            setattr(grpc, name, channel)
        import opentelemetry.exporter.otlp.proto.grpc.exporter as exporter
        for name in ("insecure_channel", "secure_channel"):
            setattr(exporter, name, getattr(grpc, name))
        configure(protocol="grpc", endpoint={endpoint!r})
        tell(sorted(set(opened)))
        os._exit(0)
    """)
    assert ran.told == [["insecure_channel" if insecure else "secure_channel"]]


def test_grpc_sends_a_header_whatever_the_case_of_its_name() -> None:
    pytest.importorskip("grpc")
    ran = run("""
        from concurrent import futures
        import grpc
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as services
        seen = []
        class Traces(services.TraceServiceServicer):
            def Export(self, request, context):
                seen.append(dict(context.invocation_metadata()).get("authorization"))
                return messages.ExportTraceServiceResponse()
        server = grpc.server(futures.ThreadPoolExecutor(2))
        services.add_TraceServiceServicer_to_server(Traces(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        telemetry = configure(
            protocol="grpc", endpoint=f"http://127.0.0.1:{port}",
            headers={"Authorization": "Bearer t\\n"},
        )
        chat()
        tell([telemetry.flush(), seen])
        telemetry.shutdown()
        server.stop(0)
    """, OTEL_METRICS_EXPORTER="none")  # fmt: skip
    assert ran.told == [[True, ["Bearer t"]]]


# --- what fails later -------------------------------------------------------------------------


def test_a_collector_that_is_not_there_raises_nothing() -> None:
    ran = run(
        """
        telemetry = configure(endpoint="http://127.0.0.1:1", emit_events=True)
        chat()
        telemetry.flush(1.0)
        telemetry.shutdown()
        chat()
        tell("done")
        """,
        OTEL_EXPORTER_OTLP_TIMEOUT="1",
    )
    assert ran.told == ["done"]
    assert "traces cannot be exported to http://127.0.0.1:1" in ran.stderr
    assert "Failed to export" not in ran.stderr


@pytest.mark.sockets
@pytest.mark.parametrize("signal", ["TRACES", "METRICS", "LOGS"])
def test_a_flush_says_that_an_export_failed_and_then_that_one_did_not(
    signal: str, collector: Collector
) -> None:
    collector.statuses = [200, 400]
    names = [f"OTEL_{name}_EXPORTER" for name in ("TRACES", "METRICS", "LOGS")]
    ran = run(
        f"""
        telemetry = configure(endpoint={collector.url!r}, export_interval=3600, emit_events=True)
        for _ in range(3):
            chat()
            tell(telemetry.flush())
        """,
        **dict.fromkeys(names, "none") | {f"OTEL_{signal}_EXPORTER": "otlp"},
        OTEL_BSP_SCHEDULE_DELAY="3600000",
        OTEL_BLRP_SCHEDULE_DELAY="3600000",
    )
    assert ran.told == [True, False, True]


def test_a_reader_that_is_late_makes_a_flush_false_and_does_not_raise(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    ran = run(
        f"""
        telemetry = configure(replay_log={str(path)!r})
        chat()
        tell(telemetry.flush(-1.0))
        """,
        OTEL_TRACES_EXPORTER="none",
        OTEL_METRICS_EXPORTER="console",
    )
    assert ran.stdout.splitlines()[0] == "false"
    assert "Timed out while flushing metric readers" in ran.stderr


@pytest.mark.sockets
def test_what_a_caller_may_put_into_a_call_does_not_cost_a_batch(collector: Collector) -> None:
    ran = run(f"""
        telemetry = configure(endpoint={collector.url!r}, capture_content="span_and_event")
        chat()
        answer = b'{{"model":"\\\\ud83d","message":{{"content":"\\\\ud83d"}},"done":true,"eval_count":1e400}}'
        odd = Client(transport=httpx.MockTransport(lambda request: httpx.Response(200, content=answer)))
        odd._client.post("/api/chat", content=b'{{"model":"\\\\ud83d","stream":false,'
            b'"messages":[{{"role":"user","content":"\\\\ud83d"}}],'
            b'"options":{{"seed":99999999999999999999,"top_k":NaN,"temperature":1e999}}}}')
        tell(telemetry.flush())
    """)
    assert ran.told == [True]
    assert [name for _, name in collector.spans()] == ["chat m", "chat ?"]
    assert "Traceback" not in ran.stderr


# --- the replay log -------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["keywords", "variables"])
def test_a_replay_log_is_a_keyword_or_a_variable(way: str, tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    keywords = f"replay_log={str(path)!r}, replay_bodies=True" if way == "keywords" else ""
    environ = {"OLLAMA_OTEL_REPLAY_LOG": str(path), "OLLAMA_OTEL_REPLAY_BODIES": "true"}
    run(
        f"""
        telemetry = configure({keywords})
        assert telemetry.replay_log is not None
        chat()
        assert telemetry.flush()
        """,
        **SILENT,
        **(environ if way == "variables" else {}),
    )
    [call] = read(path)
    answer = call.answer()
    assert answer is not None
    assert answer.text == "Hi"


def test_the_variable_is_enough_without_configure(tmp_path: Path) -> None:
    run("chat()", **SILENT, OLLAMA_OTEL_REPLAY_LOG=str(tmp_path / "calls.jsonl"))
    [call] = read(tmp_path / "calls.jsonl")
    assert call.start.conversation is None


def test_clients_with_settings_of_their_own_share_one_log(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    run(
        f"""
        telemetry = configure(replay_log={str(path)!r})
        chat()
        for _ in range(3):
            own = Client(
                transport=client()._client._transport.inner,
                settings=Settings(replay_log={str(path)!r}),
            )
            own.chat("m", [{{"role": "user", "content": "Hello"}}])
        telemetry.shutdown()
        configure(replay_log={str(path)!r})
        chat()
        """,
        **SILENT,
    )
    assert len(list(read(path))) == 5
    assert [file.name for file in tmp_path.iterdir()] == ["calls.jsonl"]


def test_the_instrumentor_logs_too(tmp_path: Path) -> None:
    run(
        """
        import ollama
        from ollama_otel import OllamaInstrumentor
        OllamaInstrumentor().instrument()
        answer = httpx.MockTransport(lambda request: httpx.Response(200, json=ANSWER))
        ollama.Client(transport=answer).chat("m", [{"role": "user", "content": "Hello"}])
        """,
        **SILENT,
        OLLAMA_OTEL_REPLAY_LOG=str(tmp_path / "calls.jsonl"),
    )
    [call] = read(tmp_path / "calls.jsonl")
    assert call.record is not None
    assert call.record.outcome == "completed"


def test_a_log_is_not_opened_before_the_first_call(tmp_path: Path) -> None:
    run(f"configure(replay_log={str(tmp_path / 'calls.jsonl')!r}); client()", **SILENT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.sockets
def test_configured_again_after_a_shutdown_it_says_that_nothing_is_exported(
    collector: Collector,
) -> None:
    ran = run(
        f"""
        configure(endpoint={collector.url!r}).shutdown()
        configure(endpoint={collector.url!r})
        chat()
        """
    )
    assert collector.spans() == []
    assert ran.stderr == (
        "traces, metrics are no longer exported: Telemetry.shutdown() has ended the providers, "
        "and a process cannot set others; call it once, at the end, and flush() before that\n"
    )
