"""The command `serve-replay` as a process: what it prints, serves and refuses."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from ollama_otel import Client
from ollama_otel._cli import main
from ollama_otel._cli.arguments import place_to_listen
from ollama_otel._cli.http_server import serve
from ollama_otel.replay import ReplayApp, ReplayLog
from ollama_otel.testing import FakeOllama
from tests.replay.recorded import chat, lines, write

COMMAND = (sys.executable, "-c", "import sys; from ollama_otel._cli import main; sys.exit(main())")
LINE = b'{"message":{"role":"assistant","content":"x"},"done":false}\n'
FINAL = b'{"model":"m","message":{"role":"assistant","content":""},"done":true}\n'


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write(
        tmp_path / "calls.jsonl",
        lines(chat(), [(0.01, LINE), (0.02, FINAL)]),
        lines(chat("Bye", model="other:1b"), [(0.01, FINAL)], at=1.0),
        lines(chat("unfinished", model="unfinished"), at=2.0, is_ended=False),
    )


class Command:
    """The running command."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.opening = [self.line()]
        while self.opening[-1] and not self.opening[-1].startswith("Stop it"):
            self.opening.append(self.line())
        self.url = self.opening[0].rpartition(" at ")[2]

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def interrupt(self) -> tuple[int, str, str]:
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@contextmanager
def serving(log: Path, *arguments: str) -> Iterator[Command]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OLLAMA_", "OTEL_")) and not name.lower().endswith("_proxy")
    }
    process = subprocess.Popen(
        [*COMMAND, "serve-replay", str(log), "--listen", "127.0.0.1:0", *arguments],
        env=inherited,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        yield Command(process)
    finally:
        process.kill()
        process.communicate()


def ask(url: str, text: str = "Hello", **fields: object) -> httpx.Response:
    return httpx.post(f"{url}/api/chat", json=chat(text, **fields), verify=False)


unix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")


@pytest.mark.sockets
@pytest.mark.processes
@unix
def test_it_says_what_it_serves_answers_and_ends_well(log: Path) -> None:
    with serving(log) as command:
        port = command.url.rpartition(":")[2]
        # That of Ollama, which port 0 means to a client.
        assert port != "11434"
        assert command.opening == [
            f"Serving 2 calls (1 more cannot be played) of {log} at http://127.0.0.1:{port}",
            "Left out 1 call: it has no end in the log: its process was killed, or still runs",
            "Models: m:latest, other:1b",
            f"Use it:  OLLAMA_HOST=127.0.0.1:{port} with any client",
            "Stop it: Ctrl-C",
        ]
        assert [ask(command.url).content for _ in range(2)] == [LINE + FINAL] * 2
        assert command.line() == ("POST /api/chat m -> line 1 of calls.jsonl, status 200, played")
        command.line()
        assert ask(command.url, "Hallo").status_code == 501
        assert command.line() == "POST /api/chat m -> status 501, missed"
        code, out, err = command.interrupt()
    assert (code, out) == (0, "")
    assert "logged 'Hello', asked 'Hallo'" in err
    assert "Traceback" not in err


@pytest.mark.sockets
@pytest.mark.processes
@unix
def test_an_interrupt_ends_answers_under_way(log: Path) -> None:
    write(log, lines(chat(), [(0.01, LINE), (600.0, FINAL)]))
    with (
        serving(log) as command,
        httpx.Client() as client,
        client.stream("POST", f"{command.url}/api/chat", json=chat()) as response,
    ):
        assert next(response.iter_raw()) == LINE
        code, _, err = command.interrupt()
    assert (code, err) == (0, "")


@pytest.mark.sockets
@pytest.mark.processes
def test_its_arguments_reach_the_server(log: Path) -> None:
    arguments = (
        "--once",
        "--quiet",
        "--speed",
        "0",
        "--ignore",
        "options.seed",
        "--ignore",
        "keep_alive",
    )
    with serving(log, *arguments) as command:
        assert ask(command.url, options={"seed": 9}, keep_alive="1m").status_code == 200
        assert ask(command.url).status_code == 501
    with serving(log, "--fail", "503=0.5", "--fail", "500=0.5", "--seed", "1") as command:
        assert {ask(command.url).status_code for _ in range(20)} == {500, 503}
    with serving(log, "--error", "1", "--slow", "0.01") as command:
        assert "error" in json.loads(ask(command.url).content.splitlines()[-1])
    with serving(log, "--cut", "1") as command, pytest.raises(httpx.RemoteProtocolError):
        ask(command.url)


@pytest.mark.slow
@pytest.mark.sockets
@unix
def test_in_the_main_thread_it_ends_on_an_interrupt_too(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        place = f"127.0.0.1:{found.getsockname()[1]}"
    statuses: list[int] = []

    def use() -> None:
        # Ended in any case: nothing else would end the server.
        try:
            wait_until_served(place)
            statuses.append(ask(f"http://{place}").status_code)
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    user = threading.Thread(target=use)
    user.start()
    assert main(["serve-replay", str(log), "--listen", place, "--fail", "503=0"]) == 0
    user.join()
    assert statuses == [200]
    assert (
        "POST /api/chat m -> line 1 of calls.jsonl, status 200, played" in capsys.readouterr().out
    )


@pytest.mark.sockets
@pytest.mark.processes
@unix
def test_what_is_asked_is_no_command_to_the_terminal(log: Path) -> None:
    with serving(log) as command:
        assert httpx.get(f"{command.url}/api/%1b]0;pwn%07", verify=False).status_code == 501
        assert ask(command.url, **{"\x1b[2Jfield": 1, "\u202efield": 1}).status_code == 501
        assert r"\x1b]0;pwn" in command.line()
        _, out, err = command.interrupt()
    assert r"GET '/api/\x1b]0;pwn\x07' has no answer" in err
    assert r'["\u202efield"]: logged nothing' in err
    assert not {"\x1b", "\x07", "\u202e"} & {*out, *err}


@contextmanager
def limited(log: Path, **limits: float) -> Iterator[tuple[str, int]]:
    """Serve in a thread with these limits; the thread ends with the tests."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arguments = (ReplayApp(log, speed=0), listener)
        threading.Thread(target=serve, args=arguments, kwargs=limits, daemon=True).start()
        place: tuple[str, int] = listener.getsockname()
        wait_until_served(f"{place[0]}:{place[1]}")
        yield place


def is_closed(connection: socket.socket) -> bool:
    """Whether the server has closed a connection; waits for it."""
    connection.settimeout(20)
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def is_greeted(connection: socket.socket) -> bool:
    """Whether the server answers on an open connection."""
    connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"running"):
        if not (piece := connection.recv(1000)):
            return False
        answer += piece
    return True


HEAD = b"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize("sent", [b"", HEAD])
def test_a_head_that_does_not_come_to_its_end_is_given_up(log: Path, sent: bytes) -> None:
    with limited(log, head_seconds=0.2) as place, socket.create_connection(place) as client:
        client.sendall(sent)
        assert is_closed(client)


@pytest.mark.slow
@pytest.mark.sockets
def test_a_head_that_trickles_is_given_up(log: Path) -> None:
    with limited(log, head_seconds=1) as place, socket.create_connection(place) as client:
        deadline = time.monotonic() + 60
        with suppress(ConnectionError):
            client.sendall(HEAD)
            while time.monotonic() < deadline:
                client.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() < deadline


@pytest.mark.slow
@pytest.mark.sockets
def test_a_connection_can_be_used_again_and_is_given_up_after_that(log: Path) -> None:
    with limited(log, head_seconds=1) as place, socket.create_connection(place) as client:
        assert is_greeted(client)
        assert is_greeted(client)
        client.sendall(b"GET / HTTP/1.1\r\n")
        assert is_closed(client)


@pytest.mark.slow
@pytest.mark.sockets
def test_a_body_has_more_time_than_a_head(log: Path) -> None:
    with limited(log, head_seconds=0.5) as place, socket.create_connection(place) as client:
        body = json.dumps(chat()).encode()
        client.sendall(HEAD.replace(b"100", b"%d" % len(body)) + b"\r\n" + body[:5])
        time.sleep(1.5)
        client.sendall(body[5:])
        assert client.recv(15) == b"HTTP/1.1 200 OK"


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize("sent", [b"", HEAD, HEAD + b"\r\n{"])
def test_of_too_many_connections_the_slowest_is_closed_and_others_are_served(
    log: Path, sent: bytes
) -> None:
    with limited(log, most_connections=5, head_seconds=60) as place, ExitStack() as stack:
        url = f"http://{place[0]}:{place[1]}"
        user = stack.enter_context(socket.create_connection(place))
        assert is_greeted(user)
        slow = [stack.enter_context(socket.create_connection(place)) for _ in range(20)]
        for connection in slow:
            with suppress(ConnectionError):
                connection.sendall(sent)
        assert ask(url).status_code == 200
        # Idle ones are kept as long as there are others.
        assert is_greeted(user)
        assert all(map(is_closed, slow[:15]))


@pytest.mark.sockets
@pytest.mark.processes
def test_names_are_refused_unless_an_option_allows_them(log: Path) -> None:
    foreign = {"host": "replay.example.com"}
    with serving(log) as command:
        assert httpx.get(command.url, headers=foreign, verify=False).status_code == 403
        assert command.line() == "GET / -> status 403, rejected"
    with serving(log, "--allow-host", "replay.example.com") as command:
        assert httpx.get(command.url, headers=foreign, verify=False).status_code == 200


def wait_until_served(place: str) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            httpx.get(f"http://{place}", verify=False)
        except httpx.ConnectError:
            time.sleep(0.02)
        else:
            return
    pytest.fail("nothing was served")


@pytest.mark.sockets
@pytest.mark.parametrize("form", ["{}", ":{}", "127.0.0.1:{}"])
def test_a_port_alone_is_one_of_this_machine(
    log: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve-replay", str(log), "--listen", form.format(port)]) == 2
    assert f"cannot listen at 127.0.0.1:{port}: " in capsys.readouterr().err


@pytest.mark.parametrize("free", ["0", ":0", "localhost:0"])
def test_port_0_is_a_free_one_in_every_form(free: str) -> None:
    assert place_to_listen(free).port == 0


# --- what cannot be -------------------------------------------------------------------------


@pytest.mark.sockets
def test_a_port_that_is_taken_is_told_in_one_sentence(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        assert main(["serve-replay", str(log), "--listen", place]) == 2
    assert capsys.readouterr().err == (
        f"ollama-otel: cannot listen at {place}: Address already in use; choose another address "
        "with --listen\n"
    )


def test_a_file_that_is_no_log_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve-replay", str(tmp_path / "nothing.jsonl")]) == 2
    assert "nothing.jsonl" in capsys.readouterr().err


def test_a_log_without_bodies_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "calls.jsonl", lines(has_bodies=False))
    assert main(["serve-replay", str(path)]) == 2
    assert capsys.readouterr().err == (
        f"ollama-otel: no call of {path} can be played (1 in all)\n"
        "  Left out 1 call: it was recorded without bodies; record with replay_bodies=True\n"
    )


@pytest.mark.sockets
@pytest.mark.processes
def test_embeddings_without_vectors_say_how_to_record_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "calls.jsonl"
    fake = FakeOllama()
    with (
        ReplayLog(log, bodies=True) as kept,
        Client(transport=fake.transport(), observers=[kept]) as client,
    ):
        for text in ("one", "two"):
            client.embed("nomic-embed-text", text)
    advice = (
        "Left out 2 calls: each cannot be played, as its vectors were not kept; record with "
        "replay_media=True"
    )
    assert main(["serve-replay", str(log)]) == 2
    assert capsys.readouterr().err.splitlines()[1] == f"  {advice}"
    with (
        ReplayLog(log, bodies=True) as kept,
        Client(transport=fake.transport(), observers=[kept]) as client,
    ):
        client.chat("llama3.2", [{"role": "user", "content": "Hello"}])
    with serving(log) as command:
        assert command.opening[1] == advice
        miss = httpx.post(
            f"{command.url}/api/embed", json={"model": "nomic-embed-text", "input": "one"}
        )
        assert miss.status_code == 501
        _, _, err = command.interrupt()
    assert "record with replay_media=True" in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--speed", "-1"], "speed must be 0 (no waiting) or more, not -1.0"),
        (["--allow-host", "a:1"], "expected a host name without a port, or *, found 'a:1'"),
        (["--cut", "2"], "cut must be a share between 0 and 1, not 2.0"),
    ],
)
def test_values_that_cannot_be_are_told_in_one_sentence(
    log: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert main(["serve-replay", str(log), *arguments]) == 2
    assert capsys.readouterr().err == f"ollama-otel: {sentence}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--listen", "127.0.0.1:port"], "expected HOST:PORT such as 127.0.0.1:11500, or a port"),
        (["--listen", "99999"], "expected HOST:PORT such as 127.0.0.1:11500, or a port"),
        (["--fail", "503"], "expected STATUS=SHARE such as 503=0.1, found '503'"),
        (["--fail", "x=0.1"], "expected STATUS=SHARE such as 503=0.1, found 'x=0.1'"),
    ],
)
def test_arguments_that_cannot_be_read_are_told_by_argparse(
    log: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve-replay", str(log), *arguments])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_a_missing_extra_is_named(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve-replay", str(log)]) == 2
    assert capsys.readouterr().err == (
        "ollama-otel: serve-replay needs a package that is not installed: pip install "
        "'ollama_otel[server]'\n"
    )


@pytest.mark.sockets
def test_an_interrupt_from_the_announcement_on_is_the_normal_end(log: Path) -> None:
    loaded: set[str] = set()

    def announced() -> None:
        loaded.update(sys.modules)
        raise KeyboardInterrupt

    with socket.create_server(("127.0.0.1", 0)) as listener:
        serve(ReplayApp(log), listener, announce=announced)
        # An interrupt while these are imported would end the process by the signal.
        assert {"uvicorn.server", "uvicorn.protocols.http.h11_impl"} <= loaded
