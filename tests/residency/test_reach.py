"""Whether a server is up: by polls and by calls, over every route that a client may use."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest

from ollama_otel import Client, Settings, instrument_client
from ollama_otel._telemetry import instruments as rows
from ollama_otel._telemetry.instruments import Instrument
from ollama_otel._telemetry.residency import residency_of
from ollama_otel.residency import Event, Residency, ServerDown, ServerUp
from ollama_otel.residency._http import Connection
from ollama_otel.residency._reach import PollResult, Reach
from ollama_otel.testing import Capture, FakeModel, FakeOllama

INTERVAL = 0.1
SETTINGS = Settings(residency=True, residency_interval=INTERVAL)
HELLO = [{"role": "user", "content": "Hi"}]
FROM_POLLS = (
    rows.SERVER_BUSY,
    rows.SERVER_INFO,
    rows.MODELS_LOADED,
    rows.MODELS_INSTALLED,
    rows.GPU_SHARE,
    rows.MEMORY_USAGE,
)

# --- the evidence --------------------------------------------------------------------------------


def is_up(reach: Reach, now: float, *, is_awaited: bool = False) -> bool | None:
    return reach.is_up(now, lasts=10, is_awaited=is_awaited)


@pytest.mark.parametrize(
    ("poll", "expected"),
    [
        (None, None),
        ("reached", True),
        ("refused", False),
        ("lost", False),
        ("impossible", None),
    ],
)
def test_without_calls_the_latest_poll_decides(poll: PollResult | None, expected: bool) -> None:
    reach = Reach()
    if poll is not None:
        reach.polled(poll, 1)
    assert is_up(reach, 2) is expected


@pytest.mark.parametrize("poll", [None, "lost", "impossible"])
def test_an_answer_proves_it_until_it_is_too_old(poll: PollResult | None) -> None:
    reach = Reach()
    if poll is not None:
        reach.polled(poll, 1)
    reach.answered(2)
    assert is_up(reach, 3) is True
    assert is_up(reach, 12) is True
    assert is_up(reach, 12.1) is None
    for at in (20, 30, 40):
        reach.polled(poll or "lost", at)
        assert is_up(reach, at + 1) is None, "never down: polls have never reached it"


def test_a_call_that_finds_nobody_ends_the_proof_of_one_before() -> None:
    reach = Reach()
    reach.polled("lost", 1)
    reach.answered(2)
    reach.missed(3)
    assert is_up(reach, 4) is None
    reach.answered(5)
    assert is_up(reach, 6) is True


def test_a_call_that_found_nobody_proves_nothing_good() -> None:
    reach = Reach()
    reach.missed(1)
    assert is_up(reach, 2) is None
    reach.polled("lost", 3)
    assert is_up(reach, 4) is False


def test_a_server_that_polls_did_reach_is_down_when_polls_and_calls_fail() -> None:
    reach = Reach()
    reach.polled("reached", 1)
    reach.answered(2)
    reach.polled("lost", 6)
    assert is_up(reach, 7) is True, "a call had an answer since the poll before"
    reach.polled("lost", 11)
    assert is_up(reach, 12) is False
    reach.answered(13)
    assert is_up(reach, 14) is True
    reach.missed(15)
    assert is_up(reach, 16) is False


def test_a_refused_poll_is_a_later_proof_than_the_answer_before_it() -> None:
    reach = Reach()
    reach.polled("reached", 1)
    reach.answered(2)
    reach.polled("refused", 3)
    assert is_up(reach, 4) is False
    reach.answered(5)
    assert is_up(reach, 6) is True
    reach.polled("refused", 7)
    assert is_up(reach, 8) is False
    unpolled = Reach()
    unpolled.polled("refused", 1)
    unpolled.answered(2)
    unpolled.polled("refused", 3)
    assert is_up(unpolled, 4) is True, "the call has another route"
    assert is_up(unpolled, 20) is None


def test_a_first_call_that_still_waits_leaves_it_open() -> None:
    reach = Reach()
    reach.polled("lost", 1)
    assert is_up(reach, 2, is_awaited=True) is None
    assert is_up(reach, 2) is False
    reach.polled("reached", 3)
    reach.polled("lost", 4)
    assert is_up(reach, 5, is_awaited=True) is False, "polls have the route of the call"


# --- every route ---------------------------------------------------------------------------------


def until(is_so: Callable[[], Any], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def fake() -> FakeOllama:
    return FakeOllama([FakeModel("m", size=1000)])


@pytest.fixture(autouse=True)
def residency() -> Iterator[Residency]:
    # Without one of its own, each client would end the watching of the one before.
    with residency_of(SETTINGS) as residency:
        yield residency


@contextmanager
def relay(listener: socket.socket, url: str, tls: ssl.SSLContext | None = None) -> Iterator[None]:
    """Pass bytes from each connection of a listener to the server."""
    target = httpx.URL(url)

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65_536):
                sink.sendall(piece)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def accept() -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            try:
                near = tls.wrap_socket(connection, server_side=True) if tls else connection
            except OSError:
                connection.close()
                continue
            far = socket.create_connection((target.host, target.port or 80))
            for ends in ((near, far), (far, near)):
                threading.Thread(target=pump, args=ends, daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    with closing(listener):
        yield
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    thread.join()


@contextmanager
def by_socket(url: str, folder: Path) -> Iterator[httpx.Client]:
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(folder / "s"))
        listener.listen()
        with relay(listener, url):
            transport = httpx.HTTPTransport(uds=str(folder / "s"))
            yield httpx.Client(base_url="http://ollama.invalid:11434", transport=transport)


@contextmanager
def by_proxy(url: str, folder: Path) -> Iterator[httpx.Client]:
    listener = socket.create_server(("127.0.0.1", 0))
    with relay(listener, url):
        # The fake server takes absolute URLs, so it is the proxy.
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
        yield httpx.Client(base_url="http://ollama.invalid:11434", proxy=proxy)


@contextmanager
def by_certificate(url: str, folder: Path) -> Iterator[httpx.Client]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the command openssl")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificate)
    server_side.load_cert_chain(certificate, key)
    server_side.verify_mode = ssl.CERT_REQUIRED
    client_side = ssl.create_default_context(cafile=certificate)
    client_side.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))
    with relay(listener, url, server_side):
        place = f"https://localhost:{listener.getsockname()[1]}"
        yield httpx.Client(base_url=place, verify=client_side, trust_env=False)


ROUTES = (by_socket, by_proxy, by_certificate)
Route = Callable[[str, Path], Any]


def points(capture: Capture, row: Instrument) -> list[float]:
    return [point.value for point in capture.metrics().get(row.name, ())]


def chat(client: httpx.Client) -> httpx.Response:
    return client.post("/api/chat", json={"model": "m", "messages": HELLO, "stream": False})


# httpcore does not close the Unix socket that it could not connect.
@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("route", ROUTES)
def test_a_server_that_only_calls_reach_is_up_while_they_do_and_unknown_afterwards(
    route: Route,
    fake: FakeOllama,
    capture: Capture,
    residency: Residency,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    events: list[Event] = []
    residency.listen(lambda address, port, event: events.append(event))
    with fake.serve() as url, route(url, tmp_path) as http:
        client = instrument_client(http, settings=SETTINGS, **capture.options)
        for _ in range(4):
            assert chat(client).json()["message"]["content"]
            assert points(capture, rows.SERVER_UP) == [1]
            time.sleep(INTERVAL)
        until(lambda: caplog.messages)
        assert points(capture, rows.SERVER_UP) == [1]
        for row in FROM_POLLS:
            assert points(capture, row) == [], row.name
        until(lambda: points(capture, rows.SERVER_UP) == [])
        chat(client)
        assert points(capture, rows.SERVER_UP) == [1]
        (watcher,) = residency._watched.watchers.values()
        assert watcher._pause() == 60
    with pytest.raises(httpx.TransportError):
        chat(client)
    http.close()
    assert points(capture, rows.SERVER_UP) == [], "unknown, and not down"
    (message,) = caplog.messages
    assert "cannot be polled" in message
    assert not [each for each in events if isinstance(each, ServerDown)]
    assert len([each for each in events if isinstance(each, ServerUp)]) <= 1


@pytest.mark.slow
@pytest.mark.sockets
def test_many_calls_to_a_server_that_polls_cannot_reach_are_not_as_many_polls(
    fake: FakeOllama,
    capture: Capture,
    residency: Residency,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    residency.set_interval(30.0)
    sent: list[str] = []

    def unreachable(connection: Connection, method: str, path: str, *more: Any) -> NoReturn:
        sent.append(path)
        raise httpx.ConnectError("no")

    monkeypatch.setattr(
        "ollama_otel.residency._http.Connection._send",
        unreachable,
    )
    with fake.serve() as url, by_socket(url, tmp_path) as http:
        client = instrument_client(http, settings=SETTINGS, **capture.options)
        until_then = time.monotonic() + 2
        while time.monotonic() < until_then:
            chat(client)
        http.close()
    # The first one, those soon after the first call, and the one after its answer.
    assert 1 <= len(sent) <= 4


@pytest.mark.slow
@pytest.mark.sockets
def test_calls_to_a_server_that_is_down_are_not_as_many_polls(
    capture: Capture, residency: Residency
) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with Client(url, settings=SETTINGS, **capture.options) as client:
            for _ in range(200):
                with pytest.raises(ConnectionError):
                    client.chat("m", HELLO)
        until(lambda: points(capture, rows.SERVER_UP) == [0])
        (watcher,) = residency._watched.watchers.values()
        failures = watcher._failures
    # One for each pause, which doubles.
    assert failures < 12


@pytest.mark.slow
@pytest.mark.sockets
def test_a_call_that_waits_for_its_first_answer_is_no_proof_that_the_server_is_down(
    fake: FakeOllama, capture: Capture, residency: Residency, tmp_path: Path
) -> None:
    events: list[Event] = []
    residency.listen(lambda address, port, event: events.append(event))
    slow = FakeOllama([FakeModel("m", load=1.0)], realtime=True)
    with slow.serve() as url, by_socket(url, tmp_path) as http:
        client = instrument_client(http, settings=SETTINGS, **capture.options)
        call = threading.Thread(target=chat, args=(client,))
        call.start()
        while call.is_alive():
            assert points(capture, rows.SERVER_UP) in ([], [1])
            time.sleep(0.02)
        call.join()
        http.close()
        assert points(capture, rows.SERVER_UP) == [1]
    assert not [each for each in events if isinstance(each, ServerDown)]


@pytest.mark.parametrize("error", ["connect", "html", "gateway"])
def test_what_a_proxy_says_for_a_server_is_no_answer_of_it(
    error: str, capture: Capture, residency: Residency
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if error == "connect":
            raise httpx.ConnectError("refused")
        status, kind = (200, "text/html") if error == "html" else (503, "application/json")
        # As httpx's own transports do.
        extensions: dict[str, Any] = {"network_stream": None}
        body = b"<p>Sign in</p>" if error == "html" else b'{"error": "no healthy upstream"}'
        return httpx.Response(
            status,
            headers={"content-type": kind},
            stream=httpx.ByteStream(body),
            extensions=extensions,
        )

    http = httpx.Client(
        base_url="http://ollama.invalid:11434", transport=httpx.MockTransport(answer)
    )
    residency.watch("http://ollama.invalid:11434")
    client = instrument_client(http, settings=SETTINGS, **capture.options)
    until(lambda: points(capture, rows.SERVER_UP) == [0])
    with suppress(httpx.ConnectError):
        chat(client)
    assert points(capture, rows.SERVER_UP) == [0]


@pytest.mark.slow
@pytest.mark.sockets
def test_a_server_that_polls_did_reach_is_down_with_its_last_answer_in_mind(
    fake: FakeOllama, capture: Capture, residency: Residency
) -> None:
    events: list[Event] = []
    residency.listen(lambda address, port, event: events.append(event))
    with fake.serve() as url, Client(url, settings=SETTINGS, **capture.options) as client:
        client.chat("m", HELLO)
        until(lambda: points(capture, rows.MODELS_LOADED) == [1])
    until(lambda: points(capture, rows.SERVER_UP) == [0])
    assert points(capture, rows.MODELS_LOADED) == []
    port = httpx.URL(url).port
    assert port is not None
    with fake.serve(port=port), Client(url, settings=SETTINGS, **capture.options) as client:
        client.chat("m", HELLO)
        assert points(capture, rows.SERVER_UP) == [1]
        until(lambda: points(capture, rows.MODELS_LOADED) == [1])
    kinds = [type(each).__name__ for each in events]
    assert [each for each in kinds if each.startswith("Server")][:3] == [
        *("ServerUp", "ServerDown", "ServerUp")
    ]
