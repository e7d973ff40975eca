"""The demo's calls and numbers, which server and models it takes, how it looks, where it is sent."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from rich.console import RenderableType

from ollama_otel._cli import demo_view, main
from ollama_otel._cli.call_tree import phases_of
from ollama_otel._cli.demo_run import DemoRun, Step, demo_run_of, start
from ollama_otel._cli.demo_server import Models, Server, find_server, scripted_server
from ollama_otel._cli.metric_rows import MetricRow
from ollama_otel._cli.terminal import console_for_text
from ollama_otel._cli.units import seconds
from ollama_otel._wire.address import parse_host
from ollama_otel.errors import SettingsError
from ollama_otel.replay import read
from ollama_otel.testing import FakeModel, FakeOllama, Fault, Reply

REASON = "No Ollama answered at http://nowhere:1"


@pytest.fixture(autouse=True)
def folder_for_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo leaves its log for its user to look at; a test has none."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@contextmanager
def answering(
    status: int, body: bytes, *, only: str = ""
) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """A server that answers everything alike, and 404 what is not at `only`; gives URL and requests."""
    received: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            received.append(
                (self.path, self.rfile.read(int(self.headers.get("content-length", 0))))
            )
            is_it = self.path.startswith(only)
            self.send_response(status if is_it else 404)
            self.send_header("content-length", str(len(body) if is_it else 0))
            self.end_headers()
            self.wfile.write(body if is_it else b"")

        do_GET = do_POST = answer  # noqa: N815 - the base class has them so

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", received
        server.shutdown()


@pytest.fixture
def silent_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def scripted() -> Iterator[Server]:
    with scripted_server(REASON, realtime=False) as server:
        yield server


@pytest.fixture
def run(scripted: Server) -> Iterator[DemoRun]:
    with demo_run_of(scripted) as started:
        yield started


def play_all(run: DemoRun) -> list[Step]:
    return [run.play(scenario) for scenario in run.scenarios]


def text_of(*things: RenderableType) -> str:
    file = io.StringIO()
    console = console_for_text(file, no_color=True)
    for thing in things:
        console.print(thing)
    return file.getvalue()


# --- the calls ------------------------------------------------------------------------------------


@pytest.mark.sockets
def test_six_calls_end_as_they_should(run: DemoRun) -> None:
    steps = play_all(run)
    assert [
        (step.span_name, step.record.outcome, step.record.error_type, step.record.cold_start)
        for step in steps
    ] == [
        ("chat scripted-chat", "completed", None, True),
        ("chat scripted-chat", "completed", None, False),
        ("chat scripted-thinker", "completed", None, True),
        ("embeddings scripted-embed", "completed", None, True),
        ("chat no-such-model", "failed", "model_not_found", None),
        ("chat scripted-chat", "abandoned", None, None),
    ]
    assert [step.number for step in steps] == [1, 2, 3, 4, 5, 6]
    assert run.went_as_expected


@pytest.mark.sockets
def test_the_thinking_call_tells_the_first_chunk_from_the_first_answer(run: DemoRun) -> None:
    record = play_all(run)[2].record
    assert record.response.has_thinking
    assert record.time_to_first_chunk is not None
    assert record.time_to_first_answer is not None
    assert record.time_to_first_chunk < record.time_to_first_answer


@pytest.mark.sockets
def test_an_abandoned_stream_is_left_after_five_chunks(run: DemoRun) -> None:
    assert play_all(run)[-1].record.chunk_count == 5


@pytest.mark.sockets
def test_phases_are_those_of_the_server_and_the_client(run: DemoRun) -> None:
    steps = play_all(run)
    assert [list(phases_of(step.record)) for step in steps] == [
        ["load", "queue_estimate", "prompt_eval", "eval", "client"],
        ["load", "queue_estimate", "prompt_eval", "eval", "client"],
        ["load", "queue_estimate", "prompt_eval", "eval", "client"],
        ["load", "unaccounted", "client"],
        [],
        ["to_first_chunk", "stream"],
    ]


@pytest.mark.slow
@pytest.mark.sockets
def test_phases_add_up_to_the_duration() -> None:
    with scripted_server(REASON) as server, demo_run_of(server) as run:
        step = run.play(run.scenarios[0])
    total = sum(phases_of(step.record).values())
    assert total == pytest.approx(step.record.duration)


@pytest.mark.slow
@pytest.mark.sockets
def test_a_call_that_fails_unexpectedly_is_shown_and_remembered() -> None:
    with FakeOllama([FakeModel("m")]).serve() as url:
        server = Server(url=url, models=Models(chats="gone", thinks=None, embeds=None))
        with demo_run_of(server) as run:
            steps = play_all(run)
    assert [step.as_expected for step in steps] == [False, False, True, False]
    assert not run.went_as_expected
    assert "failed: model_not_found  (unexpected)" in text_of(
        demo_view.step(steps[0], ascii_only=True)
    )


@pytest.mark.sockets
def test_what_a_server_lacks_models_for_is_left_out() -> None:
    with FakeOllama([FakeModel("m")]).serve() as url:
        server = Server(url=url, models=Models(chats="m", thinks=None, embeds=None))
        with demo_run_of(server) as run:
            titles = [scenario.title for scenario in run.scenarios]
    assert titles == [
        "A first chat",
        "The same chat again, streamed",
        "A model that does not exist",
        "A stream that is closed after 5 chunks",
    ]


# --- the metrics ----------------------------------------------------------------------------------


@pytest.mark.sockets
def test_metrics_count_every_call_once(run: DemoRun) -> None:
    play_all(run)
    rows = {(row.metric, row.labels): row for row in run.metrics()}
    duration = "gen_ai.client.operation.duration"
    assert {labels: row.count for (metric, labels), row in rows.items() if metric == duration} == {
        ("chat", "completed"): 3,
        ("chat", "abandoned"): 1,
        ("chat", "failed", "model_not_found"): 1,
        ("embeddings", "completed"): 1,
    }
    phases = [labels for metric, labels in rows if metric == "ollama.client.phase.time"]
    assert phases == [
        ("load",),
        ("queue_estimate",),
        ("prompt_eval",),
        ("eval",),
        ("unaccounted",),
        ("client",),
    ]
    assert rows["ollama.client.request.active", ()].value == 0


@pytest.mark.sockets
def test_a_median_lies_within_the_smallest_and_the_largest_value(run: DemoRun) -> None:
    play_all(run)
    tokens = {row.labels: row for row in run.metrics() if row.metric == "gen_ai.client.token.usage"}
    # All three prompts of about the same length, in one bucket.
    assert tokens["embeddings", "input"].median == tokens["embeddings", "input"].mean == 7
    output = tokens["chat", "output"]
    assert output.median is not None
    assert 28 <= output.median <= 45


@pytest.mark.sockets
def test_without_a_call_there_is_no_row_but_what_is_under_way(run: DemoRun) -> None:
    assert [row for row in run.metrics() if row.count] == []


# --- how it looks ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.sockets
def test_the_whole_demo_in_plain_text(run: DemoRun, scripted: Server) -> None:
    shown = [demo_view.opening(scripted)]
    shown += [demo_view.step(step, ascii_only=False) for step in play_all(run)]
    shown += [demo_view.metrics(run.metrics(), width=80), demo_view.closing(run.send(), scripted)]
    text = text_of(*shown)
    one_line = " ".join(text.split())
    assert f"{REASON}; using a scripted server with invented numbers." in one_line
    for part in (
        "cold start",
        "completed",
        "abandoned",
        "failed: model_not_found",
        "HTTP 404: model 'no-such-model' not found",
        "├── load",
        "├── queue, estimated",
        "├── prompt",
        "├── decode",
        "├── client",
        "first answer after",
        "9 tokens in, 28 out",
        "gen_ai.client.operation.duration  seconds",
        "OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 ollama-otel demo",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.sockets
def test_a_bar_is_as_long_as_its_share(run: DemoRun) -> None:
    step = play_all(run)[0]
    response = replace(
        step.record.response,
        total_duration=2.0,
        load_duration=1.0,
        prompt_eval_duration=0.4,
        eval_duration=0.6,
    )
    step = dataclasses.replace(step, record=replace(step.record, response=response, duration=2.0))
    assert text_of(demo_view.step(step, ascii_only=True)).splitlines()[3:6] == [
        f"├── load                  1.00 s   50%  {'#' * 15}",
        f"├── prompt                0.40 s   20%  {'#' * 6}",
        f"├── decode                0.60 s   30%  {'#' * 9}",
    ]


@pytest.mark.sockets
def test_a_terminal_without_unicode_gets_ascii(run: DemoRun, scripted: Server) -> None:
    raw = io.BytesIO()
    console = console_for_text(
        io.TextIOWrapper(raw, encoding="ascii", write_through=True), no_color=True
    )
    assert console.options.ascii_only
    model = "\N{LLAMA}"
    console.print(
        demo_view.opening(
            dataclasses.replace(scripted, models=dataclasses.replace(scripted.models, chats=model))
        )
    )
    console.print(demo_view.step(play_all(run)[0], ascii_only=True))
    text = raw.getvalue().decode("ascii")
    assert "? chats" in text
    assert "+-- load" in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0.0 ms"),
        (0.00204, "2.0 ms"),
        (0.00996, "10 ms"),
        (0.0994, "99 ms"),
        (0.0996, "0.10 s"),
        (12.345, "12.35 s"),
        (99.96, "1 min 40 s"),
        (3599.4, "59 min 59 s"),
        (3599.7, "1 h 00 min"),
        (172_799, "47 h 59 min"),
        (604_800, "7.0 days"),
    ],
)
def test_durations_read_well(value: float, shown: str) -> None:
    assert seconds(value) == shown


@pytest.mark.sockets
def test_a_call_that_only_thought_has_no_answer_yet(run: DemoRun) -> None:
    step = play_all(run)[2]
    step = dataclasses.replace(step, record=replace(step.record, time_to_first_answer=None))
    assert "no answer yet" in text_of(demo_view.step(step, ascii_only=True))


def test_a_metric_of_an_unknown_unit_is_shown_as_it_is() -> None:
    row = MetricRow(metric="m", unit="{thing}", labels=(), value=12345)
    assert "m  {thing}" in text_of(demo_view.metrics([row], width=80))
    assert "12,345" in text_of(demo_view.metrics([row], width=80))


# --- which server, which models -------------------------------------------------------------------


def found(url: str, model: str | None = None) -> Server:
    with find_server(parse_host(url), model=model) as server:
        return server


@pytest.mark.sockets
def test_the_smallest_models_are_chosen() -> None:
    fake = FakeOllama(
        [
            FakeModel("big", size=9_000_000),
            FakeModel("thinker", size=5_000_000, capabilities=("completion", "thinking")),
            FakeModel("embedder", size=1_000_000, capabilities=("embedding",)),
            FakeModel("small", size=2_000_000),
            FakeModel("small-embedder", size=900_000, capabilities=("embedding",)),
        ]
    )
    with fake.serve() as url:
        server = found(url)
    assert server.models == Models(
        chats="small:latest", thinks="thinker:latest", embeds="small-embedder:latest"
    )
    assert server.stands_in_because is None


@pytest.mark.slow
@pytest.mark.sockets
def test_a_loaded_model_is_preferred_so_that_none_has_to_go() -> None:
    with FakeOllama(
        [FakeModel("big", size=9_000_000), FakeModel("small", size=2_000_000)]
    ).serve() as url:
        httpx.post(f"{url}/api/generate", json={"model": "big"}).raise_for_status()
        assert found(url).models.chats == "big:latest"


@pytest.mark.sockets
def test_a_model_of_the_cloud_is_never_chosen() -> None:
    with FakeOllama(
        [FakeModel("gpt-oss:120b-cloud", size=384), FakeModel("small", size=2_000_000)]
    ).serve() as url:
        assert found(url).models.chats == "small:latest"


@pytest.mark.sockets
def test_a_server_that_does_not_say_what_models_can_do_is_trusted() -> None:
    fake = FakeOllama([FakeModel("m")])
    fake.script("/api/show", Reply.json({"model_info": {}}))
    with fake.serve() as url:
        assert found(url).models == Models(chats="m:latest", thinks=None, embeds=None)


@pytest.mark.slow
@pytest.mark.sockets
def test_a_model_that_cannot_be_shown_is_passed_over() -> None:
    fake = FakeOllama([FakeModel("broken", size=1_000_000), FakeModel("fine", size=2_000_000)])
    fake.script("/api/show", Reply.error(500, "broken"))
    with fake.serve() as url:
        assert found(url).models.chats == "fine:latest"


@pytest.mark.sockets
def test_the_model_asked_for_chats() -> None:
    with FakeOllama([FakeModel("small", size=1_000_000), FakeModel("big")]).serve() as url:
        assert found(url, "big").models.chats == "big"


@pytest.mark.sockets
def test_a_model_asked_for_that_is_not_there_is_an_error() -> None:
    with (
        FakeOllama().serve() as url,
        pytest.raises(SettingsError, match=r"has no model 'nope'.*ollama pull nope"),
    ):
        found(url, "nope")


@pytest.mark.sockets
def test_a_model_asked_for_that_cannot_chat_is_an_error() -> None:
    with (
        FakeOllama().serve() as url,
        pytest.raises(SettingsError, match="cannot chat, only embedding"),
    ):
        found(url, "nomic-embed-text")


@pytest.mark.sockets
def test_where_nobody_listens_a_scripted_one_stands_in(silent_port: int) -> None:
    server = found(f"127.0.0.1:{silent_port}", "my-model")
    assert server.stands_in_because == f"No Ollama answered at http://127.0.0.1:{silent_port}"
    assert server.models.chats == "my-model"


@pytest.mark.slow
@pytest.mark.sockets
def test_a_server_that_stays_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ollama_otel._cli.demo_server._PATIENCE", httpx.Timeout(0.1))
    fake = FakeOllama()
    fake.fault("/api/ps", Fault(stall_at=0))
    with fake.serve() as url:
        assert found(url).stands_in_because == f"No Ollama answered at {url}"


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"models": 1}', b"{}"])
def test_what_is_no_ollama_is_called_so(body: bytes) -> None:
    with answering(200, body) as (url, _):
        assert found(url).stands_in_because == f"The server at {url} is not Ollama"


@pytest.mark.slow
@pytest.mark.sockets
def test_a_server_that_refuses_is_told_apart() -> None:
    with answering(401, b"no") as (url, _):
        assert (
            found(url).stands_in_because
            == f"The server at {url} refused a request (HTTP status 401)"
        )


@pytest.mark.slow
@pytest.mark.sockets
def test_an_ollama_without_models_says_what_to_pull() -> None:
    with FakeOllama([]).serve() as url:
        reason = found(url).stands_in_because
    assert reason == f"The Ollama at {url} has no chat model (ollama pull llama3.2 installs one)"


def test_missing_roles_are_told_with_what_to_pull() -> None:
    server = Server(url="http://h:1", models=Models(chats="m", thinks=None, embeds=None))
    assert text_of(demo_view.opening(server)).splitlines()[:4] == [
        "Ollama at http://h:1",
        "m chats.",
        "No installed model thinks: call skipped (ollama pull qwen3:0.6b installs one).",
        "No installed model embeds: call skipped (ollama pull all-minilm installs one).",
    ]


# --- where it is sent -----------------------------------------------------------------------------


def demo(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with FakeOllama().serve() as url:
        status = main(["demo", "--host", url, *arguments])
    return status, capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.sockets
def test_spans_and_metrics_reach_a_collector(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(200, b"") as (endpoint, received):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        status, text = demo(capsys)
    assert status == 0
    assert [path for path, _ in received] == ["/v1/traces", "/v1/metrics"]
    sent = ExportTraceServiceRequest.FromString(received[0][1])
    (resource,) = sent.resource_spans
    names = {
        attribute.key: attribute.value.string_value for attribute in resource.resource.attributes
    }
    assert names["service.name"] == "ollama-otel-demo"
    spans = [span for scope in resource.scope_spans for span in scope.spans]
    (root,) = [span for span in spans if not span.parent_span_id]
    assert root.name == "ollama-otel demo"
    assert sorted(span.name for span in spans if span.parent_span_id == root.span_id) == [
        "chat llama3.2:latest",
        "chat llama3.2:latest",
        "chat llama3.2:latest",
        "chat no-such-model",
        "chat qwen3:latest",
        "embeddings nomic-embed-text:latest",
    ]
    assert f"Sent the traces to {endpoint}" in text
    assert f"Sent the metrics to {endpoint}" in text
    measured = ExportMetricsServiceRequest.FromString(received[1][1])
    (resource,) = measured.resource_metrics
    metrics = {metric.name for scope in resource.scope_metrics for metric in scope.metrics}
    assert "gen_ai.client.operation.duration" in metrics
    # Without them a newcomer's board of servers and memory would be empty.
    assert {"ollama.server.up", "ollama.model.gpu.share", "ollama.model.loads"} <= metrics
    assert "ollama.server.up" not in text
    assert f"http://127.0.0.1:16686/trace/{root.trace_id.hex()}" in text


@pytest.mark.slow
@pytest.mark.sockets
def test_a_service_name_of_ones_own_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(200, b"") as (endpoint, received):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{endpoint}/v1/traces")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
        demo(capsys)
    ((path, body),) = received
    assert path == "/v1/traces"
    assert b"mine" in body
    assert b"ollama-otel-demo" not in body


@pytest.mark.slow
@pytest.mark.sockets
def test_a_collector_of_traces_only_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(200, b"", only="/v1/traces") as (endpoint, _):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        status, text = demo(capsys)
    assert status == 0
    assert f"Sent the traces to {endpoint}" in text
    assert "Jaeger takes traces only" in text


@pytest.mark.slow
@pytest.mark.sockets
def test_a_collector_that_is_not_there_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], silent_port: int
) -> None:
    monkeypatch.setattr("ollama_otel._cli.demo_run._PATIENCE", 0.2)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent_port}")
    status, text = demo(capsys)
    assert status == 0
    assert f"The traces were not delivered to http://127.0.0.1:{silent_port}" in text
    assert f"The metrics were not delivered to http://127.0.0.1:{silent_port}" in text
    assert "16686" not in text


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize("traces", ["otlp", "otlp_proto_http"])
def test_an_exporter_that_is_switched_off_is_not_used(
    traces: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(200, b"") as (endpoint, received):
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", traces)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
        demo(capsys)
    assert [path for path, _ in received] == ["/v1/traces"]


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize("columns", [60, 70, 80])
def test_no_row_of_its_tables_is_wrapped(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    status, text = demo(capsys)
    assert status == 0
    lines = text.splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith("Metrics"))
    table = lines[first : lines.index("Rows are sums over the labels model, provider and server.")]
    assert max(map(len, table)) <= columns
    assert ("mean" in table[0]) == (columns == 80)
    rows = [line for line in table if line.startswith("  ")]
    assert rows
    assert [row for row in rows if not re.match(r"  \S.* \d", row)] == []
    # A bar that is wrapped would stand alone on its line.
    assert [line for line in lines if re.fullmatch(r"[│| ]*[█#]+ *", line)] == []


@pytest.mark.slow
@pytest.mark.sockets
def test_the_demo_shows_the_log_it_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    status, printed = demo(capsys, "--no-color")
    assert status == 0
    section = printed[printed.index("The replay log of these calls") :]
    [command] = re.findall(r"ollama-otel show (\S+) (\S+)", section)
    calls = list(read(command[0]))
    assert len(calls) >= 4
    assert all(call.id in section for call in calls)
    assert main(["show", *command]) == 0
    shown = capsys.readouterr().out
    answer = calls[1].answer()
    assert answer is not None
    assert "Why is the sky blue?" in shown
    assert answer.text in " ".join(shown.split())


@pytest.mark.slow
@pytest.mark.sockets
def test_the_demo_ends_with_its_report(capsys: pytest.CaptureFixture[str]) -> None:
    status, printed = demo(capsys, "--no-color")
    assert status == 0
    path = Path(printed.rstrip().rpartition("\n")[2].strip())
    page = path.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "6 of 6 calls" in page
    assert sorted(each.name for each in path.parent.iterdir()) == ["calls.jsonl", "report.html"]


@pytest.mark.slow
@pytest.mark.sockets
def test_no_poll_of_a_server_outlives_the_demo() -> None:
    """The scripted server ends with it, and a poll would say that it cannot be reached."""

    def polls() -> bool:
        return any(thread.name == "ollama-otel-residency" for thread in threading.enumerate())

    with start(parse_host("127.0.0.1:1")) as run:
        run.play(run.scenarios[0])
        assert polls()
    assert not polls()


@pytest.mark.slow
@pytest.mark.processes
def test_without_the_extra_the_demo_says_what_to_install(tmp_path: Path) -> None:
    """In a process of its own: here the packages of the extra are imported already."""
    without = """
import sys
sys.modules |= dict.fromkeys(["duckdb", "genai_prices", "numpy", "pyarrow", "sqlglot"])
from ollama_otel._cli import main
sys.exit(main(["demo", "--no-color", "--host", "127.0.0.1:1"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", without],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "No report on these calls" in done.stdout
    assert "pip install 'ollama_otel[analysis]'" in done.stdout


@pytest.mark.slow
@pytest.mark.sockets
def test_the_demo_leaves_nothing_behind_on_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    fake = FakeOllama()
    with fake.serve() as url:
        main(["demo", "--host", url])
        loaded = httpx.get(f"{url}/api/ps").json()["models"]
    capsys.readouterr()
    # Nothing is unloaded, pulled or deleted, and no option is sent that makes Ollama load a model anew.
    assert {request.path for request in fake.requests} == {
        "/api/ps",
        "/api/version",
        "/api/tags",
        "/api/show",
        "/api/chat",
        "/api/embed",
    }
    bodies = [json.loads(request.body) for request in fake.requests if request.path == "/api/chat"]
    assert {option for body in bodies for option in body.get("options") or ()} == {"num_predict"}
    assert all("keep_alive" not in body for body in bodies)
    assert len(loaded) == 3


@pytest.mark.slow
@pytest.mark.sockets
def test_a_call_that_should_have_succeeded_and_did_not_gives_status_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake = FakeOllama()
    fake.fault("/api/chat", Fault(cut_at=10))
    with fake.serve() as url:
        assert main(["demo", "--host", url]) == 1
    assert "(unexpected)" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.sockets
def test_a_hostile_server_cannot_control_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b]52;c;eA==\x07\x9b2J\u202e"
    model = FakeModel(f"m{evil}", reply=f"x{evil}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://bob:hunter2@127.0.0.1:9")
    with FakeOllama([model]).serve() as url:
        main(["demo", "--host", url, "--no-color"])
    shown = "".join(capsys.readouterr())
    assert r"\x1b]52;c;eA==" in shown
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(shown)
    assert "were not delivered to http://***@127.0.0.1:9" in shown
    assert "hunter2" not in shown
