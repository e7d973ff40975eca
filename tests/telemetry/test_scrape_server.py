"""The server of the scrape endpoint: one thread, whatever its clients send or do not send."""

from __future__ import annotations

import errno
import gzip
import http.client
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any

import pytest

from ollama_otel._admission import Admission
from ollama_otel._telemetry import scrape_server
from ollama_otel._telemetry.scrape_server import ScrapeServer

pytestmark = pytest.mark.sockets

REFUSED = b"this host name or origin is not allowed: "


class App:
    """A WSGI application that notes what it gets."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.body = b"up 1\n"
        self.before: Callable[[], object] = lambda: None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.before()
        self.asked.append(environ)
        start_response("200 OK", [("Content-Type", "text/x; version=1")])
        return [self.body[:2], self.body[2:]]


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app: App) -> Iterator[ScrapeServer]:
    made = ScrapeServer("127.0.0.1", 0, app, Admission())
    with closing(made):
        yield made


def connected(server: ScrapeServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def answer(connection: socket.socket) -> bytes:
    """All that comes until the connection is closed."""
    pieces = []
    with suppress(ConnectionError):
        while piece := connection.recv(65_536):
            pieces.append(piece)
    return b"".join(pieces)


def told(server: ScrapeServer, request: bytes) -> bytes:
    with connected(server) as connection:
        connection.sendall(request)
        return answer(connection)


def get(host: str = "127.0.0.1", target: str = "/metrics", more: str = "") -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode("latin-1")


def test_a_scrape_gets_what_the_application_renders(server: ScrapeServer, app: App) -> None:
    scraper = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    with closing(scraper):
        headers = {"Accept": "text/plain", "Accept-Encoding": "gzip", "X-Other": "1"}
        scraper.request("GET", "/metrics?name[]=up", headers=headers)
        response = scraper.getresponse()
        assert (response.status, response.read()) == (200, b"up 1\n")
    assert response.headers["Content-Type"] == "text/x; version=1"
    assert response.headers["Connection"] == "close"
    assert app.asked == [
        {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/metrics",
            "QUERY_STRING": "name[]=up",
            "HTTP_ACCEPT": "text/plain",
            "HTTP_ACCEPT_ENCODING": "gzip",
        }
    ]


@pytest.mark.slow
def test_a_long_response_arrives_whole(server: ScrapeServer, app: App) -> None:
    app.body = os.urandom(20_000_000)
    assert told(server, get()).partition(b"\r\n\r\n")[2] == app.body


def test_a_head_may_come_byte_by_byte(server: ScrapeServer) -> None:
    with connected(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in get():
            connection.sendall(bytes([byte]))
        assert answer(connection).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("target", ["/etc/passwd", "/metrics/", "/../metrics", "//metrics", "*"])
def test_other_paths_have_nothing(server: ScrapeServer, app: App, target: str) -> None:
    assert told(server, get(target=target)).startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert app.asked == []


def test_the_root_has_the_metrics_too(server: ScrapeServer) -> None:
    assert b"up 1" in told(server, get(target="/"))


@pytest.mark.parametrize(
    "request_",
    [
        b"\r\n\r\n",
        b"GET /metrics\r\n\r\n",
        b"GET /metrics SPDY/1\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"\x16\x03\x01\xff\xfe\x00\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(server: ScrapeServer, app: App, request_: bytes) -> None:
    assert told(server, request_).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert app.asked == []


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
def test_a_head_that_does_not_end_is_refused_before_it_fills_the_memory(
    server: ScrapeServer, end: bytes
) -> None:
    said = told(server, b"GET / HTTP/1.1\r\nX: " + b"x" * 17_000 + end)
    assert said.startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_a_body_is_not_read_and_the_response_arrives(server: ScrapeServer) -> None:
    request = b"GET / HTTP/1.1\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000
    assert told(server, request).endswith(b"up 1\n")


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:9464", "a@b", "[::1"])
def test_foreign_names_are_refused_without_an_echo(
    server: ScrapeServer, app: App, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        head, _, body = told(server, get(host)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert body.startswith(REFUSED)
        assert b"scrape_hosts" in body
        assert b"evil" not in body
    assert app.asked == []
    (message,) = caplog.messages
    assert message.startswith("a scrape was refused with status 403: ")


def test_a_page_of_another_origin_is_refused(server: ScrapeServer) -> None:
    said = told(server, get(more="Origin: http://evil.example\r\n"))
    assert said.startswith(b"HTTP/1.1 403 ")


def test_the_host_of_a_whole_url_counts(server: ScrapeServer) -> None:
    assert told(server, get(target="http://evil.example/metrics")).startswith(b"HTTP/1.1 403 ")
    assert told(server, get("evil.example", target="http://localhost/metrics")).endswith(b"up 1\n")


@pytest.mark.parametrize("host", ["localhost:9464", "10.0.0.7:9464", "host.docker.internal", "app"])
def test_names_of_machines_and_containers_are_answered(server: ScrapeServer, host: str) -> None:
    assert told(server, get(host)).endswith(b"up 1\n")


# --- slow clients ---------------------------------------------------------------------------


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("_HEAD_SECONDS", "_SEND_SECONDS", "_CLOSE_SECONDS"):
        monkeypatch.setattr(scrape_server, limit, 0.3)


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-A: "])
def test_a_client_that_sends_no_whole_head_is_given_up(server: ScrapeServer, sent: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(sent)
        assert answer(connection) == b""


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
def test_a_client_that_trickles_is_given_up(server: ScrapeServer) -> None:
    with connected(server) as connection, suppress(ConnectionError):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            connection.sendall(b"x")
            time.sleep(0.02)
        pytest.fail("it is still connected")


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
def test_a_client_that_does_not_read_is_given_up(server: ScrapeServer, app: App) -> None:
    app.body = b"x" * 50_000_000
    rendered = threading.Event()
    app.before = rendered.set
    with connected(server) as connection:
        connection.sendall(get())
        # Seen before it is given up.
        assert rendered.wait(30)
        _all_are_gone(server)
        assert len(answer(connection)) < len(app.body)


@pytest.mark.slow
def test_a_client_that_does_not_close_is_given_up(
    server: ScrapeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrape_server, "_CLOSE_SECONDS", 0.3)
    monkeypatch.setattr(scrape_server, "_SEND_SECONDS", 600.0)
    with connected(server) as connection:
        connection.sendall(get())
        answer(connection)
        _all_are_gone(server)


def _all_are_gone(server: ScrapeServer) -> None:
    deadline = time.monotonic() + 30
    while server._connections and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not server._connections


@pytest.mark.slow
def test_many_slow_clients_cost_no_threads_and_keep_nobody_waiting(server: ScrapeServer) -> None:
    before = threading.active_count()
    with ExitStack() as stack:
        slow = [stack.enter_context(connected(server)) for _ in range(300)]
        for connection in slow:
            with suppress(ConnectionError):
                connection.sendall(b"GET /metrics HTTP/1.1\r\nX-A: ")
        assert told(server, get()).endswith(b"up 1\n")
        assert threading.active_count() == before
        assert len(server._connections) <= 64
        # The oldest had to go.
        assert answer(slow[0]) == b""


@pytest.mark.slow
@pytest.mark.usefixtures("hasty")
def test_clients_are_not_given_up_for_the_time_of_another_scrape(
    server: ScrapeServer, app: App
) -> None:
    rendering, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        rendering.set()
        go_on.wait(30)

    app.before = wait
    with connected(server) as first, connected(server) as second:
        deadline = time.monotonic() + 30
        while len(server._connections) < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        first.sendall(get())
        assert rendering.wait(30)
        second.sendall(get())
        time.sleep(0.5)
        go_on.set()
        assert answer(first).endswith(b"up 1\n")
        assert answer(second).endswith(b"up 1\n")


def test_a_client_that_leaves_is_forgotten(server: ScrapeServer) -> None:
    with connected(server):
        pass
    with connected(server) as rude:
        rude.sendall(get())
        rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    _all_are_gone(server)
    assert told(server, get()).endswith(b"up 1\n")


@pytest.mark.slow
def test_without_file_descriptors_it_waits_for_some(
    server: ScrapeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, has_some = threading.Event(), threading.Event()
    accept = socket.socket.accept

    def accept_if_there_are_some(listener: socket.socket) -> Any:
        if has_some.is_set():
            return accept(listener)
        refused.set()
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket.socket, "accept", accept_if_there_are_some)
    with connected(server) as waiting:
        waiting.sendall(get())
        assert refused.wait(30)
        has_some.set()
        assert answer(waiting).endswith(b"up 1\n")


# --- the end --------------------------------------------------------------------------------


def test_close_frees_the_port_at_once_and_drops_the_slow(app: App) -> None:
    server = ScrapeServer("127.0.0.1", 0, app, Admission())
    with connected(server) as slow:
        slow.sendall(b"GET ")
        server.close()
        assert answer(slow) == b""
    socket.create_server(("127.0.0.1", server.port)).close()


def test_a_fault_of_the_application_is_ours_and_the_next_scrape_is_answered(
    server: ScrapeServer, app: App, caplog: pytest.LogCaptureFixture, quiet_guard: None
) -> None:
    def fail() -> None:
        raise ValueError("secret")

    app.before = fail
    assert told(server, get()).endswith(b"\r\n\r\nsee the app's log\n")
    assert "rendering metrics for a scrape" in caplog.text
    app.before = lambda: None
    assert told(server, get()).endswith(b"up 1\n")


def test_both_families_are_served() -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        try:
            server = ScrapeServer(host, 0, App(), Admission())
        except OSError:
            assert host == "::1", "this machine has no IPv6"
            continue
        with closing(server), socket.create_connection((host, server.port)) as connection:
            connection.sendall(get())
            assert answer(connection).endswith(b"up 1\n")


def test_compressed_responses_are_the_application_s_own(server: ScrapeServer, app: App) -> None:
    app.body = gzip.compress(b"up 1\n")
    assert gzip.decompress(told(server, get()).partition(b"\r\n\r\n")[2]) == b"up 1\n"
