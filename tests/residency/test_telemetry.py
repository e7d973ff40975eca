"""What servers hold, as metrics, log events and attributes of spans."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from ollama_otel import Client, Settings, SettingsError
from ollama_otel import _names as names
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.instruments import Instrument
from ollama_otel._telemetry.residency import residency_of
from ollama_otel._telemetry.residency_events import ResidencyEvents
from ollama_otel._telemetry.residency_metrics import ResidencyMetrics
from ollama_otel._wire.endpoints import find_endpoint
from ollama_otel.context import current_call_context
from ollama_otel.records import CallStart, RequestFacts
from ollama_otel.replay import ReplayLog, replay
from ollama_otel.residency import (
    ModelLoad,
    ModelReload,
    ModelUnload,
    ReloadThrash,
    Residency,
    ServerDown,
    ServerUp,
)
from ollama_otel.residency._gpu import GpuReader
from ollama_otel.resilience import Fallback, Resilience
from ollama_otel.testing import Capture, FakeModel, FakeOllama

INTERVAL = 0.05
SETTINGS = Settings(residency=True, residency_interval=INTERVAL)
HELLO = [{"role": "user", "content": "Hi"}]
HOST = "127.0.0.1"


def until(is_so: Callable[[], Any], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def fake() -> FakeOllama:
    return FakeOllama(
        [
            FakeModel("m", load=0.3, prompt=0.01, token=0.001, context_length=2048, size=1000),
            FakeModel("e", capabilities=("embedding",), load=0.3, size=500),
        ],
        realtime=True,
    )


@pytest.fixture
def url(fake: FakeOllama) -> Iterator[str]:
    with fake.serve() as url:
        yield url
        residency_of(SETTINGS).close()


@pytest.fixture
def client(url: str, capture: Capture) -> Iterator[Client]:
    with Client(url, settings=SETTINGS, **capture.options) as client:
        yield client


def value(capture: Capture, row: Instrument, **labels: Any) -> float | None:
    for point in capture.metrics().get(row.name, ()):
        found = {name.replace(".", "_"): known for name, known in point.attributes.items()}
        if labels.items() <= found.items():
            return point.value
    return None


def last_span(capture: Capture) -> dict[str, Any]:
    return dict(capture.spans[-1].attributes or {})


def sent(capture: Capture) -> list[tuple[str | None, dict[str, Any]]]:
    return [
        (each.log_record.event_name, dict(each.log_record.attributes or {}))
        for each in capture.events
    ]


# --- from a server to metrics, events and spans ------------------------------------------------


@pytest.mark.slow
@pytest.mark.sockets
def test_every_gauge_and_counter_of_a_server_and_its_models(
    client: Client, capture: Capture, url: str
) -> None:
    client.chat("m", HELLO)
    until(lambda: value(capture, rows.MODELS_LOADED) == 1)
    client.chat("m", HELLO, options={"num_ctx": 512})
    until(lambda: value(capture, rows.CONTEXT_LENGTH) == 512)
    client.generate("m", keep_alive=0)
    until(lambda: value(capture, rows.UNLOADS, ollama_unload_reason="requested") == 1)
    client.chat("m", HELLO)
    until(lambda: value(capture, rows.CONTEXT_LENGTH) == 2048)
    port = int(url.rpartition(":")[2])
    server = {names.SERVER_ADDRESS: HOST, names.SERVER_PORT: port}
    model = {names.MODEL_NAME: "m:latest", **server}
    found = {
        name: [(point.attributes, point.value) for point in points]
        for name, points in capture.metrics().items()
        if name.startswith(("ollama.server.", "ollama.model.", "hw."))
    }
    ((_, remaining),) = found.pop(rows.EXPIRY.name)
    assert 290 < remaining <= 300
    assert found == {
        rows.SERVER_UP.name: [(server, 1)],
        rows.SERVER_BUSY.name: [(server, 0)],
        rows.SERVER_INFO.name: [({names.SERVER_VERSION: "0.33.0", **server}, 1)],
        rows.MODELS_LOADED.name: [(server, 1)],
        rows.MODELS_INSTALLED.name: [(server, 2)],
        rows.MEMORY_USAGE.name: [
            ({**model, names.MEMORY_TYPE: "gpu"}, 1000),
            ({**model, names.MEMORY_TYPE: "cpu"}, 0),
        ],
        rows.GPU_SHARE.name: [(model, 1.0)],
        rows.CONTEXT_LENGTH.name: [(model, 2048)],
        rows.LOADS.name: [(model, 3)],
        rows.RELOADS.name: [
            ({**model, names.RELOAD_CAUSE: "num_ctx"}, 1),
            ({**model, names.RELOAD_CAUSE: "requested"}, 1),
        ],
        rows.UNLOADS.name: [
            ({**model, names.UNLOAD_REASON: "reloaded"}, 1),
            ({**model, names.UNLOAD_REASON: "requested"}, 1),
        ],
    }


@pytest.mark.slow
@pytest.mark.sockets
def test_every_label_and_metric_is_in_the_table(client: Client, capture: Capture) -> None:
    client.chat("m", HELLO)
    until(lambda: value(capture, rows.MODELS_LOADED) == 1)
    table = {row.name: row for row in vars(rows).values() if isinstance(row, Instrument)}
    for name, points in capture.metrics().items():
        if name.startswith(("ollama.server.", "ollama.model.")):
            for point in points:
                assert set(point.attributes) <= set(table[name].labels)


@pytest.mark.slow
@pytest.mark.sockets
def test_a_span_tells_what_the_model_ran_on_and_why_it_was_loaded_again(
    client: Client, capture: Capture
) -> None:
    client.chat("m", HELLO)
    assert names.RELOAD_CAUSE not in last_span(capture)
    warm: dict[str, Any] = {}

    def has_told() -> bool:
        # A poll that came while the first call's end was late may belong to an earlier load.
        client.chat("m", HELLO)
        warm.update(last_span(capture))
        return names.MODEL_GPU_SHARE in warm

    until(has_told)
    assert (warm[names.MODEL_GPU_SHARE], warm[names.MODEL_CONTEXT_LENGTH]) == (1.0, 2048)
    assert warm[names.MODEL_SIZE] == warm[names.MODEL_GPU_SIZE] > 0
    assert names.RELOAD_CAUSE not in warm
    client.chat("m", HELLO, options={"num_ctx": 512}, stream=False)
    cold = last_span(capture)
    assert cold[names.RELOAD_CAUSE] == "num_ctx"
    assert (cold[names.RELOAD_BEFORE], cold[names.RELOAD_AFTER]) == ("2048", "512")
    assert cold.get(names.MODEL_CONTEXT_LENGTH, 512) == 512


@pytest.mark.slow
@pytest.mark.sockets
def test_embeddings_are_calls_that_load_too(client: Client, capture: Capture) -> None:
    client.embed("e", "words")
    until(lambda: value(capture, rows.LOADS, ollama_model_name="e:latest") == 1)
    client.embed("e", "words", options={"num_ctx": 64})
    assert last_span(capture)[names.RELOAD_CAUSE] == "num_ctx"


@pytest.mark.slow
@pytest.mark.sockets
def test_a_model_that_is_deleted_was_asked_to_go(client: Client, capture: Capture) -> None:
    client.chat("m", HELLO)
    until(lambda: value(capture, rows.MODELS_LOADED) == 1)
    client.delete("m")
    until(lambda: value(capture, rows.UNLOADS, ollama_unload_reason="requested") == 1)


@pytest.mark.slow
@pytest.mark.sockets
def test_a_stream_that_is_left_early_is_followed_to_its_end(
    client: Client, capture: Capture
) -> None:
    client.ps()
    until(lambda: value(capture, rows.MODELS_LOADED) == 0)
    stream = client.chat("m", HELLO, stream=True)
    next(stream)
    stream.close()
    until(lambda: value(capture, rows.LOADS) == 1)
    client.chat("m", HELLO)
    assert value(capture, rows.LOADS) == 1


@pytest.mark.slow
@pytest.mark.sockets
def test_a_call_that_fails_is_no_load(client: Client, capture: Capture) -> None:
    with pytest.raises(Exception, match="not found"):
        client.chat("nothing", HELLO)
    until(lambda: value(capture, rows.MODELS_LOADED) == 0)
    assert value(capture, rows.LOADS) is None


@pytest.mark.slow
@pytest.mark.sockets
def test_an_answer_of_a_fallback_says_nothing_of_the_server_that_was_asked(
    url: str, capture: Capture
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    policy = Resilience(fallback=[Fallback(host=url)])
    down = f"http://127.0.0.1:{port}"
    with Client(down, settings=SETTINGS, resilience=policy, **capture.options) as client:
        client.chat("m", HELLO)
        client.chat("m", HELLO, options={"num_ctx": 512})
        until(lambda: value(capture, rows.SERVER_UP, server_port=port) is not None)
        assert value(capture, rows.SERVER_UP, server_port=port) == 0
        assert value(capture, rows.LOADS, server_port=port) is None
    assert names.RELOAD_CAUSE not in last_span(capture)


@pytest.mark.slow
@pytest.mark.sockets
def test_all_clients_of_a_process_share_one_watcher(url: str, fake: FakeOllama) -> None:
    captures = [Capture(), Capture()]
    for capture in captures:
        with Client(url, settings=SETTINGS, **capture.options) as client:
            client.chat("m", HELLO)
            until(lambda: value(captures[0], rows.MODELS_LOADED) == 1)
    assert len(residency_of(SETTINGS).servers()) == 1
    assert value(captures[1], rows.MODELS_LOADED) == 1
    assert value(captures[0], rows.LOADS) == 1
    # It came before the second one was there to count.
    assert value(captures[1], rows.LOADS) is None


@pytest.mark.slow
@pytest.mark.sockets
def test_two_clients_of_one_provider_count_everything_once(url: str, capture: Capture) -> None:
    clients = [Client(url, settings=SETTINGS, **capture.options) for _ in range(2)]
    for client in clients:
        client.chat("m", HELLO)
    until(lambda: value(capture, rows.MODELS_LOADED) == 1)
    assert value(capture, rows.LOADS) == 1
    assert [name for name, _ in sent(capture)].count(names.MODEL_LOAD_EVENT) == 1
    for client in clients:
        client.close()


def test_the_shortest_interval_goes_for_all() -> None:
    residency = residency_of(Settings(residency=True, residency_interval=9))
    assert residency_of(Settings(residency=True, residency_interval=20)) is residency
    assert residency.interval == 9
    assert residency_of(SETTINGS) is residency
    assert residency.interval == INTERVAL
    residency.close()
    again = residency_of(SETTINGS)
    assert again is not residency
    again.close()


@pytest.mark.slow
@pytest.mark.sockets
def test_without_the_setting_nobody_asks_anything(
    fake: FakeOllama, url: str, capture: Capture
) -> None:
    with Client(url, **capture.options) as client:
        client.chat("m", HELLO)
        time.sleep(4 * INTERVAL)
    assert [each.path for each in fake.requests] == ["/api/chat"]
    assert not [name for name in capture.metrics() if name.startswith("ollama.server")]


@pytest.mark.slow
def test_the_provider_lets_go_of_what_it_read() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    metrics = ResidencyMetrics(provider.get_meter("test"), 10)
    del metrics
    gc.collect()
    assert reader.get_metrics_data() is None or not [
        metric
        for resource in reader.get_metrics_data().resource_metrics  # type: ignore[union-attr]
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.data.data_points
    ]


# --- events ------------------------------------------------------------------------------------


def test_each_event_with_its_attributes(capture: Capture) -> None:
    send = ResidencyEvents(capture.logger_provider.get_logger("test"))
    reload = ModelReload(model="a:latest", cause="use_mmap", before=True, after=False)
    evicted = ModelReload(model="a:latest", cause="evicted", evicted_by="b:latest")
    for event in (
        ServerUp(version="0.33.0"),
        ModelLoad(model="a:latest", context_length=512, gpu_share=0.5, load_duration=1.5),
        ModelUnload(model="a:latest", reason="evicted", evicted_by="b:latest"),
        reload,
        ReloadThrash(reload=evicted, count=3),
        ServerDown(error="ConnectionRefusedError"),
    ):
        send("h", 1, event)
    server = {names.SERVER_ADDRESS: "h", names.SERVER_PORT: 1}
    model = {names.MODEL_NAME: "a:latest", **server}
    assert sent(capture) == [
        (names.SERVER_UP_EVENT, {names.SERVER_VERSION: "0.33.0", **server}),
        (
            names.MODEL_LOAD_EVENT,
            {
                names.MODEL_CONTEXT_LENGTH: 512,
                names.MODEL_GPU_SHARE: 0.5,
                names.RESPONSE_LOAD_DURATION: 1.5,
                **model,
            },
        ),
        (
            names.MODEL_UNLOAD_EVENT,
            {names.UNLOAD_REASON: "evicted", names.EVICTED_BY: "b:latest", **model},
        ),
        (
            names.MODEL_RELOAD_EVENT,
            {
                names.RELOAD_CAUSE: "use_mmap",
                names.RELOAD_BEFORE: "true",
                names.RELOAD_AFTER: "false",
                **model,
            },
        ),
        (
            names.RELOAD_THRASH_EVENT,
            {
                names.RELOAD_COUNT: 3,
                names.RELOAD_CAUSE: "evicted",
                names.EVICTED_BY: "b:latest",
                **model,
            },
        ),
        (names.SERVER_DOWN_EVENT, {names.EXCEPTION_MESSAGE: "ConnectionRefusedError", **server}),
    ]
    levels = [each.log_record.severity_text for each in capture.events]
    assert levels == ["INFO", "INFO", "INFO", "INFO", "WARN", "WARN"]


@pytest.mark.slow
@pytest.mark.sockets
def test_thrash_is_logged_with_what_to_do(
    client: Client, capture: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(6):
        client.chat("m", HELLO, options={"num_ctx": 512 * (1 + number % 2)})
    until(lambda: names.RELOAD_THRASH_EVENT in dict(sent(capture)))
    (warning,) = [text for text in caplog.messages if "again and again" in text]
    assert warning.startswith(
        "m:latest is loaded again and again, as num_ctx changes between calls (512 \u2194 1024): "
        "3 reloads within 5 minutes on http://127.0.0.1:"
    )
    assert "send the same num_ctx with every call" in warning


# --- limits ------------------------------------------------------------------------------------


@pytest.fixture
def metrics(capture: Capture) -> ResidencyMetrics:
    return ResidencyMetrics(capture.meter_provider.get_meter("test"), 3, GpuReader(None))


def test_models_beyond_the_limit_are_counted_together(
    metrics: ResidencyMetrics, capture: Capture
) -> None:
    for number in range(10):
        metrics.count("h", 1, ModelLoad(model=f"m{number}"))
    points = capture.metrics()[rows.LOADS.name]
    assert {point.attributes[names.MODEL_NAME]: point.value for point in points} == {
        **{f"m{number}": 1 for number in range(3)},
        names.OTHER: 7,
    }


def test_pairs_of_evictions_beyond_the_limit_are_counted_together(capture: Capture) -> None:
    metrics = ResidencyMetrics(capture.meter_provider.get_meter("test"), 1000, GpuReader(None))
    for number in range(300):
        event = ModelUnload(model=f"m{number}", reason="evicted", evicted_by="other")
        metrics.count("h", 1, event)
    metrics.count("h", 1, ModelUnload(model="m0", reason="evicted", evicted_by="other"))
    points = capture.metrics()[rows.EVICTIONS.name]
    assert len(points) == 201
    assert value(capture, rows.EVICTIONS, ollama_model_name="m0") == 2
    other = {"ollama_model_name": names.OTHER, "ollama_model_evicted_by": names.OTHER}
    assert value(capture, rows.EVICTIONS, **other) == 100


def test_counters_go_on_with_the_next_residency_and_leave_the_last_one(
    metrics: ResidencyMetrics, capture: Capture
) -> None:
    with Residency(interval=60) as first, Residency(interval=60) as second:
        for residency in (first, first, second):
            metrics.follow(residency)
        first._watched.notify("h", 1, ModelLoad(model="m"))
        assert value(capture, rows.LOADS) is None
        second._watched.notify("h", 1, ModelLoad(model="m"))
        assert value(capture, rows.LOADS) == 1


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_lock_that_is_held_at_a_fork_is_not_the_childs(
    metrics: ResidencyMetrics, capture: Capture
) -> None:
    is_held, is_forked = threading.Event(), threading.Event()

    def hold() -> None:
        with metrics.lock:
            is_held.set()
            is_forked.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    is_held.wait(10)
    child = multiprocessing.get_context("fork").Process(
        target=metrics.count, args=("h", 1, ModelLoad(model="m"))
    )
    child.start()
    is_forked.set()
    holder.join()
    child.join(5)
    try:
        assert child.exitcode == 0
    finally:
        child.kill()


# --- where the server is -------------------------------------------------------------------------


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("scheme", "host", "port", "path", "url"),
    [
        ("http", "h", 11434, "/api/chat", "http://h:11434"),
        ("https", "h", 443, "/my/proxy/api/chat", "https://h:443/my/proxy"),
        ("http", "::1", 11434, "/api/chat", "http://[::1]:11434"),
        ("http", "h", 11434, "/api/api/chat", "http://h:11434/api"),
        (None, "h", 11434, "/api/chat", None),
        ("http", None, 11434, "/api/chat", None),
        ("http", "h", None, "/api/chat", None),
        ("http", "h", 11434, None, None),
        ("http", "h", 11434, "/elsewhere", None),
    ],
)
def test_the_server_is_the_calls_address_without_the_endpoint(
    scheme: str | None, host: str | None, port: int | None, path: str | None, url: str | None
) -> None:
    endpoint = find_endpoint("POST", "/api/chat")
    assert endpoint is not None
    start = CallStart(
        endpoint=endpoint,
        request=RequestFacts(),
        server_address=host,
        server_port=port,
        started_at=0,
        context=current_call_context(),
        path=path,
        server_scheme=scheme,
    )
    assert start.base_url == url


@pytest.mark.slow
@pytest.mark.sockets
def test_nobody_is_asked_on_account_of_a_call_that_no_server_answered(
    url: str, fake: FakeOllama, capture: Capture
) -> None:
    client = Client(url, transport=fake.transport(), settings=SETTINGS, **capture.options)
    client.chat("m", HELLO)
    assert client.list().models
    client.chat("m", [], keep_alive=0)
    time.sleep(5 * INTERVAL)
    assert rows.SERVER_UP.name not in capture.metrics()
    assert [request.path for request in fake.requests if request.path == "/api/ps"] == []


@pytest.mark.slow
@pytest.mark.sockets
def test_a_replayed_call_says_nothing_of_a_server_that_is_watched(
    client: Client, capture: Capture, tmp_path: Path
) -> None:
    with ReplayLog(tmp_path / "calls.jsonl", bodies=True) as log:
        other = FakeOllama([FakeModel("m", load=0.3)])
        with other.serve() as recorded, Client(recorded, observers=[log]) as recording:
            recording.chat("m", HELLO)
        log.flush()
    client.ps()
    until(lambda: value(capture, rows.MODELS_LOADED) == 0)
    with replay(tmp_path / "calls.jsonl", speed=0):
        # The log's call was a cold one.
        assert client.chat("m", HELLO).load_duration
    time.sleep(3 * INTERVAL)
    assert rows.LOADS.name not in capture.metrics()


# --- settings and `configure` --------------------------------------------------------------------


@pytest.mark.parametrize("interval", [0, -1, float("inf"), float("nan"), "5", True])
def test_an_interval_is_seconds_above_0(interval: Any) -> None:
    with pytest.raises(
        SettingsError, match="residency_interval: expected a number of seconds above 0, found"
    ):
        Settings(residency_interval=interval)


@pytest.mark.parametrize("text", ["0", "-1", "soon", "inf"])
def test_the_variable_of_the_interval_is_checked(text: str) -> None:
    with pytest.raises(SettingsError, match="OLLAMA_OTEL_RESIDENCY_INTERVAL"):
        Settings.from_environ({"OLLAMA_OTEL_RESIDENCY_INTERVAL": text})


def test_the_variables_set_it() -> None:
    settings = Settings.from_environ(
        {"OLLAMA_OTEL_RESIDENCY": "true", "OLLAMA_OTEL_RESIDENCY_INTERVAL": "2.5"}
    )
    assert (settings.residency.enabled, settings.residency.interval) == (True, 2.5)


PROGRAM = """
import json, os, threading, time
from ollama_otel import configure

telemetry = configure(residency=True, residency_interval=0.05)
url = os.environ["OLLAMA_HOST"]
deadline = time.monotonic() + 5
while telemetry.residency.state(url).models is None and time.monotonic() < deadline:
    time.sleep(0.01)
known = telemetry.residency.state(url).models
if os.environ.get("SHUT_DOWN"):
    telemetry.shutdown()
    names = [each.name for each in threading.enumerate()]
    assert "ollama-otel-residency" not in names, names
print(json.dumps([len(known), telemetry.residency.is_closed]))
"""


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.parametrize("shuts_down", [True, False])
def test_configure_watches_the_server_of_the_environment_until_shutdown(
    fake: FakeOllama, shuts_down: bool
) -> None:
    with fake.serve() as url:
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(PROGRAM)],
            env={
                "OLLAMA_HOST": url,
                "OTEL_TRACES_EXPORTER": "none",
                "OTEL_METRICS_EXPORTER": "none",
                "SHUT_DOWN": "1" if shuts_down else "",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert time.monotonic() - began < 15
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [0, shuts_down]
    httpx.Client().close()
