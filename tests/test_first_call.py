"""What the first call of a process does: it says that no SDK is set up, or sets one up.

Each in a process of its own, as OpenTelemetry's providers are the process's.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ollama_otel import Client, Transport
from ollama_otel.replay import ReplayLog
from ollama_otel.testing import FakeModel, FakeOllama

from .collector import Collector, collecting
from .test_setup import Ran
from .test_setup import run as run_alone

pytestmark = pytest.mark.processes

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
NOBODY = "http://127.0.0.1:9"
WARNING = "but no OpenTelemetry SDK was set up before the first call to Ollama"


def run(script: str, **environ: str) -> Ran:
    return run_alone(
        'HELLO = [{"role": "user", "content": "Hello"}]\n' + textwrap.dedent(script), **environ
    )


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


# --- nothing is set up ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (ENDPOINT, NOBODY),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", NOBODY),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", NOBODY),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", NOBODY),
        ("OTEL_TRACES_EXPORTER", "console"),
        ("OTEL_METRICS_EXPORTER", "prometheus"),
        ("OTEL_LOGS_EXPORTER", "otlp"),
    ],
)
def test_one_warning_at_the_first_call_names_the_variable(variable: str, value: str) -> None:
    ran = run(
        """
        own = client()
        Client(settings=Settings())
        print("no call yet", flush=True)
        chat(); chat()
        Client(transport=own._client._transport.inner, settings=Settings()).chat("m")
        """,
        **{variable: value},
    )
    (line,) = ran.stderr.splitlines()
    assert line.startswith(f"{variable} is set, {WARNING}")
    assert "Call ollama_otel.configure() once" in line
    assert "OLLAMA_OTEL_AUTO_CONFIGURE=true" in line


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {ENDPOINT: ""},
        {ENDPOINT: NOBODY, "OTEL_SDK_DISABLED": "True"},
        {ENDPOINT: NOBODY, "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": NOBODY, "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_SERVICE_NAME": "app"},
    ],
)
def test_where_nothing_is_to_be_exported_nothing_is_said(environ: dict[str, str]) -> None:
    assert run("chat()", **environ).stderr == ""


@pytest.mark.sockets
@pytest.mark.parametrize(
    "set_up",
    [
        "configure()",
        "trace.set_tracer_provider(trace.NoOpTracerProvider())",
        "metrics.set_meter_provider(metrics.NoOpMeterProvider())",
        "client = lambda f=client: Client(transport=f()._client._transport.inner,"
        " tracer_provider=trace.NoOpTracerProvider())",
    ],
)
def test_an_app_that_has_providers_is_not_warned(set_up: str, collector: Collector) -> None:
    ran = run(f"{set_up}\nchat()", **{ENDPOINT: collector.url})
    assert ran.stderr == ""


@pytest.mark.sockets
def test_an_sdk_that_is_set_up_after_the_first_call_records_the_next_ones(
    collector: Collector,
) -> None:
    ran = run(
        "own = client(); own.chat('m', HELLO); configure(service_name='app'); own.chat('m', HELLO); own.chat('m', HELLO)",
        **{ENDPOINT: collector.url},
    )
    assert ran.stderr.count(WARNING) == 1
    assert "that call is not exported" in ran.stderr
    assert collector.spans() == [("app", "chat m")] * 2


@pytest.mark.parametrize(
    "way",
    [
        "instrument_client(httpx.Client(transport=mock, base_url='http://h')).post('/api/chat', json={})",
        "httpx.Client(transport=Transport(mock), base_url='http://h').post('/api/chat', json={})",
        "OllamaInstrumentor().instrument(); ollama.Client(transport=mock).chat('m')",
    ],
)
def test_every_way_in_says_it(way: str) -> None:
    ran = run(
        f"""
        import ollama
        from ollama_otel import OllamaInstrumentor, Transport, instrument_client
        mock = client()._client._transport.inner
        {way}
        """,
        **{ENDPOINT: NOBODY},
    )
    assert ran.stderr.count(WARNING) == 1


@pytest.mark.sockets
def test_the_command_line_exports_nothing_and_does_not_speak_of_it(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    with FakeOllama([FakeModel("m")]).serve() as url:
        with ReplayLog(log, bodies=True) as observer, Client(url, observers=[observer]) as client:
            client.chat("m", [{"role": "user", "content": "Hello"}])
            observer.flush()
        done = subprocess.run(
            [sys.executable, "-m", "ollama_otel._cli", "replay", str(log), "--host", url],
            env=os.environ | {ENDPOINT: NOBODY},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert "1 call ended, 0 failed" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


def test_later_calls_test_nothing_more() -> None:
    ran = run("""
        from ollama_otel._telemetry import instrumentation
        own = client()
        own.chat("m", HELLO)
        tell(len(instrumentation._default._built[0]))
        """)
    # One look-up for each of the two global providers.
    assert ran.told == [2]


# --- set up by the first call --------------------------------------------------------------------

AUTO = {"OLLAMA_OTEL_AUTO_CONFIGURE": "true", "OTEL_SERVICE_NAME": "app"}


@pytest.mark.sockets
def test_the_first_call_sets_up_what_configure_would(collector: Collector) -> None:
    ran = run(
        "tell(global_kinds()); chat(); tell(global_kinds()); chat()",
        **AUTO,
        **{ENDPOINT: collector.url},
    )
    assert ran.told == [
        ["ProxyTracerProvider", "_ProxyMeterProvider", "ProxyLoggerProvider"],
        ["TracerProvider", "MeterProvider", "ProxyLoggerProvider"],
    ]
    assert ran.stderr == ""
    assert collector.spans() == [("app", "chat m")] * 2
    assert "gen_ai.client.operation.duration" in collector.metrics()


@pytest.mark.sockets
@pytest.mark.parametrize("options", ["", "settings=Settings(auto_configure=True)"])
def test_of_many_threads_one_sets_up_and_the_first_call_of_each_is_recorded(
    options: str, collector: Collector
) -> None:
    ran = run(
        f"""
        import threading
        from ollama_otel._telemetry import setup
        mock, made, original = client()._client._transport.inner, [], setup.configure
        setup.configure = lambda **options: (made.append(1), original(**options))
        start = threading.Barrier(8)
        def first():
            own = Client(transport=mock, {options})
            start.wait()
            own.chat("m", HELLO)
        threads = [threading.Thread(target=first) for _ in range(8)]
        for each in threads: each.start()
        for each in threads: each.join()
        tell(len(made))
        """,
        **AUTO | ({"OLLAMA_OTEL_AUTO_CONFIGURE": "false"} if options else {}),
        **{ENDPOINT: collector.url},
    )
    assert ran.told == [1]
    assert collector.spans() == [("app", "chat m")] * 8


@pytest.mark.sockets
def test_a_client_with_options_is_recorded_from_its_first_call_on(collector: Collector) -> None:
    run(
        """
        own = Client(transport=client()._client._transport.inner, settings=Settings(
            auto_configure=True, max_models=7))
        own.chat("m", HELLO)
        """,
        **{ENDPOINT: collector.url, "OTEL_SERVICE_NAME": "app"},
    )
    assert collector.spans() == [("app", "chat m")]


@pytest.mark.sockets
def test_what_the_app_has_set_up_stays(collector: Collector) -> None:
    ran = run(
        """
        from opentelemetry.sdk.trace import TracerProvider
        own = TracerProvider()
        trace.set_tracer_provider(own)
        chat()
        tell([trace.get_tracer_provider() is own, global_kinds()[1]])
        """,
        **AUTO,
        **{ENDPOINT: collector.url},
    )
    assert ran.told == [[True, "MeterProvider"]]
    assert collector.spans() == []


@pytest.mark.sockets
def test_after_configure_nothing_is_set_up_again(collector: Collector) -> None:
    ran = run(
        """
        from ollama_otel._telemetry import setup
        telemetry = configure(service_name="given", max_models=5)
        setup.configure = None
        chat()
        tell(trace.get_tracer_provider() is telemetry.tracer_provider)
        """,
        **AUTO,
        **{ENDPOINT: collector.url},
    )
    assert ran.told == [True]
    assert ran.stderr == ""
    assert collector.spans() == [("given", "chat m")]


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkim"}, "OTEL_TRACES_EXPORTER must be"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "smoke"}, "OTEL_EXPORTER_OTLP_PROTOCOL must be"),
    ],
)
def test_a_set_up_that_fails_is_one_warning_and_the_calls_go_on(
    environ: dict[str, str], reason: str
) -> None:
    ran = run("chat(); chat(); tell(client().chat('m').message.content)", **AUTO, **environ)
    assert ran.told == ["Hi"]
    (line,) = ran.stderr.splitlines()
    assert line.startswith(
        f"OLLAMA_OTEL_AUTO_CONFIGURE has no effect, as configure() fails: {reason}"
    )


@pytest.mark.sockets
@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.parametrize("before", ["", "chat()"])
def test_a_forked_child_sets_up_by_itself_or_goes_on_with_what_there_is(
    before: str, collector: Collector
) -> None:
    run(
        f"""
        import multiprocessing
        def in_child():
            chat(); chat()
            trace.get_tracer_provider().force_flush()
        {before or "pass"}
        child = multiprocessing.get_context("fork").Process(target=in_child)
        child.start(); child.join()
        """,
        **AUTO,
        **{ENDPOINT: collector.url},
    )
    assert collector.spans() == [("app", "chat m")] * (3 if before else 2)


@pytest.mark.sockets
def test_in_an_event_loop_as_well(collector: Collector) -> None:
    run(
        """
        import asyncio
        from ollama_otel import AsyncClient
        async def main():
            mock = httpx.MockTransport(lambda request: httpx.Response(200, json=ANSWER))
            own = AsyncClient(transport=mock)
            await asyncio.gather(*(own.chat("m", HELLO) for _ in range(5)))
        asyncio.run(main())
        """,
        **AUTO,
        **{ENDPOINT: collector.url},
    )
    assert collector.spans() == [("app", "chat m")] * 5


# --- no change to the code -----------------------------------------------------------------------


def instrumented(tmp_path: Path, collector: Collector, **environ: str) -> str:
    """Run an app of the official client under `opentelemetry-instrument`; return its stderr."""
    app = tmp_path / "app.py"
    app.write_text(
        "import ollama\nprint(ollama.chat('m', [{'role': 'user', 'content': 'Hi'}]).message.content)\n"
    )
    clean = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    with FakeOllama([FakeModel("m")]).serve() as url:
        done = subprocess.run(
            [Path(sys.executable).with_name("opentelemetry-instrument"), sys.executable, app],
            env=clean
            | {"OLLAMA_HOST": url, ENDPOINT: collector.url, "OTEL_SERVICE_NAME": "app"}
            | {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "httpx"}
            | environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    return done.stderr


@pytest.mark.sockets
def test_opentelemetry_instrument_records_what_the_extra_makes_possible(
    tmp_path: Path, collector: Collector
) -> None:
    pytest.importorskip("opentelemetry.distro", reason="the extra zero-code is not installed")
    stderr = instrumented(tmp_path, collector, OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf")
    assert "Ollama" not in stderr
    assert collector.spans() == [("app", "chat m")]


@pytest.mark.sockets
def test_without_a_distribution_it_is_said_and_the_variable_helps(
    tmp_path: Path, collector: Collector
) -> None:
    nothing = {"OTEL_PYTHON_DISTRO": "none", "OTEL_PYTHON_CONFIGURATOR": "none"}
    assert WARNING in instrumented(tmp_path, collector, **nothing)
    assert collector.spans() == []
    auto = instrumented(tmp_path, collector, **nothing, OLLAMA_OTEL_AUTO_CONFIGURE="true")
    assert WARNING not in auto
    assert collector.spans() == [("app", "chat m")]


def test_the_extra_brings_a_distribution_and_the_exporters_of_its_protocol() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"]["zero-code"]
    names = {re.split(r"[>=<!~]", each)[0] for each in extra}
    # gRPC is the protocol that the distribution chooses.
    assert names == {"ollama_otel[grpc]", "opentelemetry-distro"}


# --- keywords ------------------------------------------------------------------------------------


def test_an_unknown_keyword_of_a_transport_is_named_with_the_one_it_resembles() -> None:
    with pytest.raises(TypeError, match=r"settngs \(did you mean settings\?\); the keywords are"):
        Transport(httpx.HTTPTransport(), settngs=None)  # type: ignore[call-arg]
