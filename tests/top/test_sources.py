"""Sources against real files and real sockets: what they read, and how they fail and recover."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ollama_otel import Client
from ollama_otel._top.readings import LogReading, Scrape
from ollama_otel._top.sources import (
    Feed,
    LogSource,
    PsSource,
    ScrapeSource,
    Source,
    SourceError,
    read_once,
)
from ollama_otel._top.state import State
from ollama_otel._wire.address import parse_host
from ollama_otel.errors import MissingExtraError
from ollama_otel.replay import ReplayLog
from ollama_otel.testing import FakeOllama
from tests.log.event_lines import append, end, line

HELLO = [{"role": "user", "content": "Hello"}]
PATIENCE = 60.0
"""Seconds until something that never happens counts as a fault."""


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextlib.contextmanager
def serving(body: bytes, status: int = 200) -> Iterator[str]:
    """A server that answers everything the same."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def problem_of(source: Source) -> str:
    with pytest.raises(SourceError) as caught:
        source.read()
    source.close()
    return str(caught.value)


# --- logs -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.sockets
def test_a_log_that_the_writer_writes_and_rotates_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    source, state = LogSource(path), State()
    with (
        ReplayLog(path, bodies=True, max_size=1500) as log,
        FakeOllama().serve() as url,
        Client(url, observers=[log]) as client,
    ):
        for number in range(1, 9):
            client.chat("llama3.2", HELLO)
            log.flush()
            state.take(source.name, source.read(), time.time())
            assert len(state.view(time.time()).calls) == number
    assert list(tmp_path.glob("*.gz")), "it has been rotated"
    source.close()
    view = state.view(time.time())
    assert [call.state for call in view.calls] == ["completed"] * 8
    assert {call.server for call in view.calls} == {url.replace("http://127.0.0.1", "localhost")}
    (verdict,) = view.verdicts
    assert (verdict.kind, len(verdict.calls)) == ("same_prompt", 8)


@pytest.mark.slow
@pytest.mark.sockets
def test_a_log_without_bodies_gives_no_verdict_on_prompts(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    with (
        ReplayLog(path) as log,
        FakeOllama().serve() as url,
        Client(url, observers=[log]) as client,
    ):
        for _ in range(4):
            client.chat("llama3.2", HELLO)
    source, state = LogSource(path), State()
    state.take(source.name, source.read(), time.time())
    source.close()
    view = state.view(time.time())
    assert (len(view.calls), view.verdicts) == (4, ())


def test_a_log_that_is_not_there_yet_is_read_when_it_is(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    source = LogSource(path)
    with pytest.raises(SourceError, match="no log yet"):
        source.read()
    append(path, line(1), end(1))
    assert [event.id for event in source.read().events] == ["4f3a2b1c-1"] * 2
    append(path, line(2))
    assert [event.id for event in source.read().events] == ["4f3a2b1c-2"]
    assert source.read() == LogReading(events=())
    source.close()


def test_a_folder_of_logs_is_read_too(tmp_path: Path) -> None:
    append(tmp_path / "a.jsonl", line(1))
    append(tmp_path / "b.jsonl", line(2))
    source = LogSource(tmp_path)
    assert [event.id for event in source.read().events] == ["4f3a2b1c-1", "4f3a2b1c-2"]
    source.close()


# --- servers --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.sockets
def test_ps_of_a_server_is_read() -> None:
    with FakeOllama().serve() as url, Client(url) as client:
        source = PsSource(parse_host(url))
        read = source.read()
        assert (read.server, read.models) == (url.replace("http://127.0.0.1", "localhost"), ())
        client.chat("llama3.2", HELLO)
        (model,) = source.read().models
        source.close()
    assert model.name == "llama3.2:latest"
    assert model.expires_in is not None


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize(
    ("body", "status", "problem"),
    [
        (b"{}", 200, "the response is not that of an Ollama server"),
        (b"<html>", 200, "the response is not that of an Ollama server"),
        (b"", 503, "HTTP status 503"),
    ],
)
def test_what_is_not_ps_is_told(body: bytes, status: int, problem: str) -> None:
    with serving(body, status) as url:
        assert problem_of(PsSource(parse_host(url))) == problem


@pytest.mark.sockets
def test_a_server_that_is_down_is_told_and_asked_again() -> None:
    with FakeOllama().serve() as url:
        pass
    address, state = parse_host(url), State()
    source = PsSource(address)
    read_once(state, [source])
    assert "cannot be reached: ConnectionRefusedError" in str(state.view(0.0).sources[0].problem)
    with FakeOllama().serve(port=address.port):
        read_once(state, [source])
        source.close()
    view = state.view(0.0)
    assert (view.sources[0].problem, view.loaded) == (None, 0)


@pytest.mark.slow
@pytest.mark.sockets
def test_a_server_that_does_not_answer_is_busy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert problem_of(PsSource(parse_host(url), timeout=0.05)) == (
            "busy: no response within 0.05 s"
        )


# --- scrape endpoints -----------------------------------------------------------------------

SERVER_LABELS = 'server_address="127.0.0.1",server_port="11434"'
SCRAPE = f"""\
# TYPE gen_ai_client_operation_duration_seconds histogram
gen_ai_client_operation_duration_seconds_bucket{{le="+Inf",gen_ai_request_model="m",ollama_outcome="completed",{SERVER_LABELS}}} 3.0
gen_ai_client_operation_duration_seconds_count{{gen_ai_request_model="m",ollama_outcome="completed",{SERVER_LABELS}}} 3.0
gen_ai_client_operation_duration_seconds_sum{{gen_ai_request_model="m",ollama_outcome="completed",{SERVER_LABELS}}} 6.0
# TYPE ollama_client_request_active gauge
ollama_client_request_active{{gen_ai_request_model="m",{SERVER_LABELS}}} 2.0
"""


@pytest.mark.slow
@pytest.mark.sockets
def test_a_scrape_is_read() -> None:
    with serving(SCRAPE.encode()) as url:
        source = ScrapeSource(f"{url}/metrics")
        scrape = source.read()
        source.close()
    key = ("localhost:11434", "m:latest")
    assert isinstance(scrape, Scrape)
    assert (scrape.ended, scrape.in_flight, scrape.duration) == ({key: 3.0}, {key: 2}, 6.0)
    assert scrape.outcomes == {"completed": 3.0}
    assert (scrape.limiter_waiting, scrape.watches, scrape.models) == (None, False, {})


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"up 1\n", "the response has no metric of ollama_otel"),
        (b"", "the response has no metric of ollama_otel"),
        (b"<html><body>Hello", "the response is not in Prometheus' text format"),
        (b"\xff\xfe", "the response is not in Prometheus' text format"),
    ],
)
def test_what_is_not_our_scrape_is_told(body: bytes, problem: str) -> None:
    with serving(body) as url:
        assert problem_of(ScrapeSource(url)) == problem


def test_a_password_in_the_url_is_not_shown() -> None:
    assert "secret" not in ScrapeSource("http://me:secret@localhost:1/metrics").name


def test_without_the_extra_a_scrape_endpoint_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client.parser", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ollama_otel\[prometheus\]'"):
        ScrapeSource("http://localhost:1/metrics")


# --- feeding --------------------------------------------------------------------------------


@pytest.mark.sockets
def test_a_server_that_hangs_delays_neither_the_log_nor_the_end(tmp_path: Path) -> None:
    path, state = tmp_path / "calls.jsonl", State()
    append(path, line(1))
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        ps = PsSource(parse_host(f"127.0.0.1:{hanging.getsockname()[1]}"), timeout=PATIENCE)
        with Feed([ps, LogSource(path)], 0.01) as feed:
            feed.into(state)
            connection, _ = hanging.accept()
            view = state.view(0.0)
            assert [source.name for source in view.sources] == [ps.name, str(path)]
            assert view.in_flight == 1
        names = {thread.name for thread in threading.enumerate()}
        assert "ollama-otel-top" not in names, "the request was interrupted"
        connection.close()


@pytest.mark.slow
def test_a_source_that_fails_in_an_unexpected_way_is_told_and_read_again() -> None:
    class Odd:
        name, waits = "odd", True
        readings = 0

        def read(self) -> LogReading:
            self.readings += 1
            if self.readings == 1:
                raise ZeroDivisionError("by zero")
            return LogReading(events=())

        def stop(self) -> None: ...

        def close(self) -> None: ...

    state, problems = State(), []

    def is_read_again() -> bool:
        feed.into(state)
        problems.append(state.view(0.0).sources[0].problem)
        return odd.readings > 1 and problems[-1] is None

    odd = Odd()
    with Feed([odd], 0.2) as feed:
        until(lambda: is_read_again() and len(problems) > 1)
    assert "ZeroDivisionError: by zero" in problems


@pytest.mark.sockets
def test_threads_end_with_the_feed() -> None:
    with FakeOllama().serve() as url:
        before = threading.active_count()
        state = State()
        with Feed([PsSource(parse_host(url))], 0.01) as feed:

            def has_models() -> bool:
                feed.into(state)
                return state.view(0.0).loaded == 0

            until(has_models)
    until(lambda: threading.active_count() <= before)
