"""The thread against a fake server on a real socket, and against sockets that misbehave."""

from __future__ import annotations

import gc
import http.server
import json
import logging
import multiprocessing
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

from ollama_otel._exchange.observers import LoggingObserver
from ollama_otel._guard import guard
from ollama_otel.errors import ReplayMissError
from ollama_otel.records import CallStart
from ollama_otel.replay import replay
from ollama_otel.replay._recording import recording_everywhere
from ollama_otel.residency import (
    Event,
    ModelLoad,
    ModelReload,
    Residency,
    ServerDown,
    ServerState,
    ServerUp,
)
from ollama_otel.residency._http import Connection, UnreachableError
from ollama_otel.residency._residency import MAX_SERVERS
from ollama_otel.testing import Capture, FakeModel, FakeOllama, Fault

pytestmark = pytest.mark.sockets

SOON = 0.05
MODEL = FakeModel("m", load=0.3, context_length=2048)


def until(is_so: Callable[[], Any], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def fake() -> FakeOllama:
    return FakeOllama([MODEL])


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def residency(events: list[Event]) -> Iterator[Residency]:
    with Residency(interval=SOON, timeout=0.3) as residency:
        residency.listen(lambda address, port, event: events.append(event))
        yield residency


def chat(url: str, **options: Any) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": False}
    httpx.post(f"{url}/api/chat", json={**body, "options": options}, trust_env=False)


@contextmanager
def answering(status: int, answer: bytes = b"{}", *, slow: float = 0.0) -> Iterator[str]:
    """A server that answers everything in the same way."""
    stop = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.endswith("/api/ps"):
                stop.wait(slow)
            self.send_response(status)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                self.close_connection = True

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        stop.set()
        server.shutdown()
        thread.join()
        server.server_close()


def state_of(residency: Residency, url: str) -> ServerState:
    state = residency.state(url)
    assert state is not None
    return state


@pytest.mark.slow
def test_what_a_server_holds_is_known(
    residency: Residency, fake: FakeOllama, events: list[Event]
) -> None:
    with fake.serve() as url:
        residency.watch(url)
        until(lambda: state_of(residency, url).models == ())
        chat(url)
        until(lambda: state_of(residency, url).models)
        state = state_of(residency, url)
        assert state.models is not None
        (model,) = state.models
        assert (model.name, model.context_length, model.gpu_share) == ("m:latest", 2048, 1.0)
        assert (state.is_up, state.is_busy, state.version) == (True, False, "0.33.0")
        assert state.installed == 1
        assert (state.address, f"http://127.0.0.1:{state.port}") == ("127.0.0.1", url)
        assert residency.servers() == (state_of(residency, url),)
        chat(url, num_ctx=512)
        until(lambda: any(isinstance(each, ModelReload) for each in events))
        kinds = [type(each).__name__ for each in events]
        assert kinds == ["ServerUp", "ModelLoad", "ModelUnload", "ModelLoad", "ModelReload"]
        residency.close()


@pytest.mark.slow
def test_a_prefix_of_the_path_is_part_of_the_server(residency: Residency) -> None:
    with answering(200, b'{"models": []}') as url:
        residency.watch(f"{url}/some/where/")
        until(lambda: state_of(residency, f"{url}/some/where").models == ())
        residency.close()


@pytest.mark.slow
def test_a_server_that_does_not_answer_in_time_is_busy_and_not_down(
    residency: Residency, events: list[Event]
) -> None:
    with answering(200, b'{"models": []}', slow=30) as url:
        residency.watch(url)
        until(lambda: state_of(residency, url).is_busy)
        state = state_of(residency, url)
        assert (state.is_up, state.models) == (True, None)
        began = time.monotonic()
        residency.close()
        # Also in the midst of a question.
        assert time.monotonic() - began < 0.25
        assert not any(isinstance(each, ServerDown) for each in events)


@pytest.mark.slow
def test_what_was_known_of_a_busy_server_is_not_told_for_ever(
    residency: Residency, fake: FakeOllama
) -> None:
    with fake.serve() as url:
        chat(url)
        residency.watch(url)
        until(lambda: state_of(residency, url).models)
        fake.fault("/api/ps", Fault(stall_at=0, stall=9), times=50)
        until(lambda: state_of(residency, url).is_busy)
        until(lambda: state_of(residency, url).models is None)
        assert state_of(residency, url).is_up is True
        residency.close()


@pytest.mark.slow
def test_a_server_that_goes_is_down_and_comes_back(
    residency: Residency,
    fake: FakeOllama,
    events: list[Event],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with fake.serve() as url:
        chat(url)
        residency.watch(url)
        until(lambda: state_of(residency, url).models)
    until(lambda: state_of(residency, url).is_up is False)
    state = state_of(residency, url)
    assert (state.models, state.version, state.installed) == (None, None, None)
    time.sleep(6 * SOON)
    with FakeOllama([MODEL], version="0.34.0").serve(port=state.port):
        until(lambda: state_of(residency, url).version == "0.34.0")
        until(lambda: state_of(residency, url).models == ())
        residency.close()
    assert [type(each).__name__ for each in events] == [
        *("ServerUp", "ServerDown", "ModelUnload", "ServerUp")
    ]
    assert [each.version for each in events if isinstance(each, ServerUp)] == ["0.33.0", "0.34.0"]
    assert [each.levelname for each in caplog.records] == ["WARNING", "WARNING"]
    gone, back = caplog.messages
    assert gone.startswith(f"the Ollama server {url} cannot be reached: ")
    assert back == f"the Ollama server {url} can be reached again"


@pytest.mark.slow
def test_a_server_that_was_never_there_is_asked_less_and_less(residency: Residency) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        residency.watch(url)
        until(lambda: state_of(residency, url).is_up is False)
        watcher = residency._watched.watcher(url)
        assert watcher is not None
        until(lambda: watcher._failures > 4)
        assert watcher._pause() == pytest.approx(6 * SOON)
        residency.close()


@pytest.mark.slow
@pytest.mark.parametrize("status", [401, 403, 404, 200])
def test_an_answer_that_is_not_for_us_is_said_once_and_then_hardly_asked_for(
    residency: Residency, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with answering(status, b"no JSON") as url:
        residency.watch(url)
        until(lambda: caplog.records)
        time.sleep(4 * SOON)
        (record,) = caplog.records
        assert f"HTTP status {status}" in record.getMessage()
        state = state_of(residency, url)
        assert (state.is_up, state.models) == (True, None)
        watcher = residency._watched.watcher(url)
        assert watcher is not None
        assert watcher._pause() == 60
        residency.close()


def test_a_proxy_without_its_server_is_a_server_that_is_away(residency: Residency) -> None:
    with answering(502) as url:
        residency.watch(url)
        until(lambda: state_of(residency, url).is_up is False)
        residency.close()


def test_a_connection_that_breaks_off_is_away(residency: Residency) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def hang_up() -> None:
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:
                    return

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        residency.watch(url)
        until(lambda: state_of(residency, url).is_up is False)
        residency.close()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.slow
def test_no_more_servers_are_watched_than_is_sane(caplog: pytest.LogCaptureFixture) -> None:
    with Residency(interval=60, timeout=0.1) as residency:
        with caplog.at_level(logging.CRITICAL, "ollama_otel.residency"):
            for port in range(1, MAX_SERVERS + 1):
                residency.watch(f"http://127.0.0.1:{port}")
            time.sleep(0.3)
        caplog.clear()
        for port in (20_001, 20_002):
            residency.watch(f"http://127.0.0.1:{port}")
        assert len(residency.servers()) == MAX_SERVERS
        assert [r for r in caplog.messages if "not watching" in r] == [
            f"not watching http://127.0.0.1:20001: {MAX_SERVERS} servers are watched"
        ]


def test_what_is_no_address_is_refused(residency: Residency) -> None:
    with pytest.raises(ValueError, match="expected the address of an Ollama server"):
        residency.watch("ftp://somewhere")


def test_closed_it_watches_nothing(residency: Residency, fake: FakeOllama) -> None:
    residency.close()
    residency.watch("http://127.0.0.1:1")
    assert residency.is_closed
    assert residency.servers() == ()
    assert residency.state("http://127.0.0.1:1") is None


@pytest.mark.slow
def test_let_go_of_it_ends_its_threads(fake: FakeOllama) -> None:
    def threads() -> int:
        return sum(each.name == "ollama-otel-residency" for each in threading.enumerate())

    with fake.serve() as url:
        residency = Residency(interval=SOON)
        residency.watch(url)
        until(lambda: fake.requests)
        assert threads() == 1
        del residency
        gc.collect()
        until(lambda: threads() == 0)


def test_a_listener_that_fails_stops_nothing(fake: FakeOllama, quiet_guard: None) -> None:
    with fake.serve() as url, Residency(interval=SOON) as residency:

        def fail(address: str, port: int, event: Event) -> None:
            raise ZeroDivisionError

        residency.listen(fail)
        residency.watch(url)
        until(lambda: state_of(residency, url).models == ())
        assert guard.faults["passing an event of a server to a listener: ZeroDivisionError"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("is_watched_first", [False, True])
def test_its_questions_are_in_no_span_no_replay_and_no_log(
    fake: FakeOllama,
    residency: Residency,
    capture: Capture,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    is_watched_first: bool,
) -> None:
    caplog.set_level(logging.INFO)
    log = tmp_path / "calls.jsonl"
    log.write_text("")

    def questions() -> int:
        return len([each for each in fake.requests if each.path == "/api/ps"])

    with fake.serve() as url, ExitStack() as undo:
        if is_watched_first:
            residency.watch(url)
            until(questions)
        instrumentor = HTTPXClientInstrumentor()
        instrumentor.instrument(tracer_provider=capture.tracer_provider)
        undo.callback(instrumentor.uninstrument)
        player = undo.enter_context(replay(log))
        residency.watch(url)
        asked = questions()
        until(lambda: questions() > asked + 3)
        assert state_of(residency, url).models == ()
        with pytest.raises(ReplayMissError):
            httpx.get(f"{url}/api/ps", trust_env=False)
        assert player.unused == ()
        residency.close()
    # The one that was refused, and none of the watcher's.
    assert len(capture.spans) <= 1
    assert caplog.messages == []


@pytest.mark.slow
def test_its_questions_are_not_recorded(fake: FakeOllama, residency: Residency) -> None:
    recorded: list[str] = []

    class Recorder(LoggingObserver):
        def begin(self, start: CallStart) -> None:
            recorded.append(start.endpoint.path)

    with fake.serve() as url, recording_everywhere(Recorder()):
        residency.watch(url)
        until(lambda: state_of(residency, url).models == ())
        httpx.get(f"{url}/api/tags", trust_env=False)
        residency.close()
    assert recorded == ["/api/tags"]


@pytest.mark.slow
def test_an_answer_that_does_not_end_is_one_of_a_busy_server(residency: Residency) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
                while True:
                    time.sleep(SOON)
                    connection.sendall(b" ")

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        residency.watch(url)
        until(lambda: state_of(residency, url).is_busy)
        residency.close()
        thread.join(5)
        assert not thread.is_alive()


@pytest.mark.slow
def test_a_connection_that_the_server_closed_while_it_was_idle_is_opened_again(
    residency: Residency, events: list[Event]
) -> None:
    connections = 0

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            nonlocal connections
            connections += 1
            super().setup()

        def do_GET(self) -> None:
            if self.path == "/api/ps":
                # Without a word in the answer's head.
                self.close_connection = True
            answer = b'{"models": []}'
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    residency.watch(url)
    until(lambda: connections > 3)
    residency.close()
    server.shutdown()
    thread.join()
    server.server_close()
    assert [type(each).__name__ for each in events] == ["ServerUp"]


@pytest.mark.slow
def test_through_the_proxy_that_the_environment_names(
    residency: Residency, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(200, b'{"models": [], "version": "0.0.0-by-proxy"}') as proxy:
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", proxy.replace("http://", "http://user:word@"))
        residency.watch("http://ollama.invalid:11434")
        until(
            lambda: state_of(residency, "http://ollama.invalid:11434").version == "0.0.0-by-proxy"
        )
        residency.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "proxy", "reason"),
    [
        ("http://ollama.invalid:11434", "socks5://127.0.0.1:1", "the 'socksio' package"),
        ("http://ollama.invalid:11434", "ftp://127.0.0.1:1", "scheme for proxy URL"),
        ("http://ollama.invalid:11434", "http://127.0.0.1:port", "Invalid port"),
        ("http://a..b:11434", "", "UnicodeError"),
        (f"http://{'a' * 64}.invalid:11434", "", "UnicodeError"),
    ],
)
def test_of_a_server_that_cannot_be_asked_nothing_is_known_and_one_warning_says_why(
    residency: Residency,
    events: list[Event],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    url: str,
    proxy: str,
    reason: str,
) -> None:
    monkeypatch.setenv("all_proxy", proxy)
    residency.watch(url)
    until(lambda: caplog.messages)
    time.sleep(4 * residency.interval)
    state = state_of(residency, url)
    assert (state.is_up, state.is_busy, state.models) == (None, None, None)
    [message] = caplog.messages
    assert reason in message
    assert events == []


@pytest.mark.parametrize(
    "error",
    [
        ssl.SSLCertVerificationError("self-signed certificate"),
        ssl.SSLError("tlsv13 alert certificate required"),
    ],
)
def test_a_certificate_that_fails_says_nothing_of_the_server(
    residency: Residency,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    error: ssl.SSLError,
) -> None:
    def shake_hands(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("ssl.SSLContext.wrap_socket", shake_hands)
    with answering(200) as address:
        url = address.replace("http:", "https:")
        residency.watch(url)
        until(lambda: caplog.messages)
        assert str(error.args[0]) in caplog.messages[0]
        assert state_of(residency, url).is_up is None
        residency.close()


def test_a_tls_connection_that_is_closed_is_a_server_that_is_away(
    residency: Residency, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shake_hands(*arguments: object, **options: object) -> None:
        raise ssl.SSLEOFError("EOF occurred in violation of protocol")

    monkeypatch.setattr("ssl.SSLContext.wrap_socket", shake_hands)
    with answering(200) as address:
        url = address.replace("http:", "https:")
        residency.watch(url)
        until(lambda: state_of(residency, url).is_up is False)
        residency.close()


@pytest.mark.slow
def test_threads_that_are_stuck_hold_up_the_end_together_and_not_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_on = threading.Event()

    def connect(*arguments: object, **options: object) -> None:
        go_on.wait(30)
        raise OSError("stuck")

    monkeypatch.setattr("socket.create_connection", connect)

    def watching(servers: int) -> Residency:
        stuck = Residency(interval=SOON)
        for number in range(servers):
            stuck.watch(f"http://stuck{number}.invalid")
        return stuck

    def time_to_close(servers: int) -> float:
        stuck = watching(servers)
        started = time.monotonic()
        stuck.close()
        return time.monotonic() - started

    one = time_to_close(1)
    assert time_to_close(8) < 4 * one
    stuck = watching(8)
    started = time.monotonic()
    del stuck
    gc.collect()
    # Collected, nobody waits for them at all.
    assert time.monotonic() - started < one
    go_on.set()


def test_a_server_with_tls_is_asked_by_way_of_a_tunnel(
    residency: Residency, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as proxy:
        address = f"127.0.0.1:{proxy.getsockname()[1]}"
        monkeypatch.setenv("https_proxy", f"http://user:word@{address}")
        residency.watch("https://ollama.invalid:8443/prefix")
        proxy.settimeout(5)
        with proxy.accept()[0] as connection:
            question = connection.recv(65_536).decode()
        residency.close()
    first, *headers = question.lower().split("\r\n")
    assert first == "connect ollama.invalid:8443 http/1.1"
    assert "proxy-authorization: basic dxnlcjp3b3jk" in headers


@pytest.mark.slow
def test_a_body_is_read_up_to_a_limit() -> None:
    with answering(200, b" " * (9 * 1024 * 1024)) as url:
        connection = Connection(url, 5.0)
        assert len(connection.get("/").body) == 8 * 1024 * 1024
        # The rest of it does not come with the next answer.
        assert connection.get("/").status == 200
        connection.drop()


@pytest.mark.parametrize("date", ["soon", "Mon, 01 Jan 99999 00:00:00 GMT"])
def test_a_date_that_is_none_is_not_known(date: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def answer() -> None:
            with listener.accept()[0] as accepted:
                accepted.recv(65_536)
                head = f"HTTP/1.1 200 OK\r\ndate: {date}\r\ncontent-length: 0\r\n\r\n"
                accepted.sendall(head.encode())

        thread = threading.Thread(target=answer)
        thread.start()
        connection = Connection(f"http://127.0.0.1:{listener.getsockname()[1]}", 5.0)
        found = connection.get("/")
        assert (found.status, found.date, found.json()) == (200, None, None)
        connection.drop()
        thread.join()


def test_a_connection_that_is_closed_while_it_opens_ends_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect = socket.create_connection
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        connection = Connection(f"http://127.0.0.1:{listener.getsockname()[1]}", 30.0)

        def connect_late(*arguments: Any, **options: Any) -> socket.socket:
            connection.close()
            return connect(*arguments, **options)

        monkeypatch.setattr("socket.create_connection", connect_late)
        began = time.monotonic()
        with pytest.raises(UnreachableError):
            connection.get("/")
        assert time.monotonic() - began < 10


def test_the_servers_clock_is_the_one_its_dates_are_of(residency: Residency) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            row = {"name": "m", "expires_at": "2001-01-01T00:00:30Z"}
            answer = json.dumps({"models": [row]}).encode()
            self.send_response_only(200)
            self.send_header("date", "Mon, 01 Jan 2001 00:00:00 GMT")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    residency.watch(url)
    until(lambda: state_of(residency, url).models)
    (model,) = state_of(residency, url).models or ()
    assert model.expires_in == 30.0
    residency.close()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_after_a_fork_the_child_watches_for_itself(fake: FakeOllama, residency: Residency) -> None:
    with fake.serve() as url:
        residency.watch(url)
        until(lambda: state_of(residency, url).models == ())
        # A lock that another thread holds at that time is not the child's.
        is_held, is_forked = threading.Event(), threading.Event()

        def hold() -> None:
            with residency._watched.lock:
                is_held.set()
                is_forked.wait(10)

        holder = threading.Thread(target=hold)
        holder.start()
        is_held.wait(10)
        child = multiprocessing.get_context("fork").Process(target=_in_child, args=(residency, url))
        child.start()
        is_forked.set()
        holder.join()
        child.join(10)
        assert child.exitcode == 0
        assert state_of(residency, url).models == ()
        residency.close()


def _in_child(residency: Residency, url: str) -> None:
    ok = residency.servers() == ()
    residency.watch(url)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and state_of(residency, url).models is None:
        time.sleep(0.01)
    ok &= state_of(residency, url).models == ()
    residency.close()
    os._exit(0 if ok else 1)


@pytest.mark.slow
def test_it_is_a_load_that_the_listener_is_told_of(
    residency: Residency, fake: FakeOllama, events: list[Event]
) -> None:
    with fake.serve() as url:
        residency.watch(url)
        until(lambda: state_of(residency, url).models == ())
        chat(url)
        until(lambda: ModelLoad(model="m:latest", context_length=2048, gpu_share=1.0) in events)
        residency.close()
