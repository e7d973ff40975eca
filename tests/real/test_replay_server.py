"""What was recorded of a real Ollama, served by the real command: clients cannot tell them apart."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest

from ollama_otel import Client, instrument_client
from ollama_otel.replay import RecordedCall, ReplayLog, read, replay

from .install import find_server
from .servers import RealOllama
from .test_calls import TOOLS

COMMAND = (sys.executable, "-c", "import sys; from ollama_otel._cli import main; sys.exit(main())")
QUESTION = "Why is the sky blue?"
WHY = [{"role": "user", "content": QUESTION}]
FAST = {"seed": 1, "num_predict": 40}
ABANDONED = "Count to a hundred."
_LEFT_AFTER = 3
"""Parts that the caller of the abandoned stream read."""

Ask = Callable[[Any], Any]

SCENARIOS: dict[str, Ask] = {
    "a chat": lambda client: client.chat("tiny-agent", WHY, options=FAST),
    "a streamed chat": lambda client: client.chat("tiny-agent", WHY, stream=True, options=FAST),
    "thinking": lambda client: client.chat("tiny-thinker", WHY, stream=True),
    "tools": lambda client: client.chat(
        "tiny-agent",
        [{"role": "user", "content": "What is the weather in Paris?"}],
        tools=TOOLS,
        stream=True,
    ),
    "embeddings": lambda client: client.embed("tiny-embed", ["one", "two"]),
    "a completion": lambda client: client.generate("tiny-agent", QUESTION, options=FAST),
    "a model's description": lambda client: client.show("tiny-agent"),
    "the list of models": lambda client: client.list(),
    "the running models": lambda client: client.ps(),
    "an unknown model": lambda client: client.chat("no-such-model", WHY),
    "an unknown model, streamed": lambda client: client.chat("no-such-model", WHY, stream=True),
}


def outcome(ask: Ask, client: Any) -> list[Any]:
    """What a client gets: its parts, or its error; a log does not hold token ids."""
    try:
        result = ask(client)
        parts = [result] if hasattr(result, "model_dump") else list(result)
        values = [part.model_dump() for part in parts]
        return [{**each, "context": []} if each.get("context") else each for each in values]
    except ollama.ResponseError as error:
        return [(error.status_code, str(error))]


@dataclass
class Recorded:
    """The log of a real server, and what its clients got."""

    path: Path
    outcomes: dict[str, list[Any]] = field(default_factory=dict)
    abandoned: list[Any] = field(default_factory=list)
    printed: str = ""
    """By `ollama run`."""

    def call(self, chooses: Callable[[RecordedCall], bool]) -> RecordedCall:
        return next(each for each in read(self.path) if chooses(each))


class _Proxy(ThreadingHTTPServer):
    """Hands requests on through an httpx client, so that those of any program are recorded."""

    daemon_threads = True

    def __init__(self, client: httpx.Client) -> None:
        super().__init__(("127.0.0.1", 0), _Hop)
        self.client = client


class _Hop(BaseHTTPRequestHandler):
    server: _Proxy

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        with self.server.client.stream(self.command, self.path, content=body) as response:
            self.send_response(response.status_code)
            self.send_header("content-type", response.headers.get("content-type", ""))
            self.end_headers()
            for piece in response.iter_raw():
                self.wfile.write(piece)

    do_GET = do_HEAD = do_POST  # noqa: N815


@contextmanager
def proxying(client: httpx.Client) -> Iterator[str]:
    proxy = _Proxy(client)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"127.0.0.1:{proxy.server_address[1]}"
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()


def environment(**settings: str) -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OLLAMA_", "OTEL_")) and not name.lower().endswith("_proxy")
    } | settings


def ollama_run(host: str, home: Path) -> str:
    """Return what the command line of Ollama prints."""
    done = subprocess.run(
        [str(find_server("ollama")), "run", "tiny-agent", QUESTION],
        env=environment(OLLAMA_HOST=host, HOME=str(home)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def recorded(real_ollama: RealOllama, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp("replay")
    it = Recorded(folder / "calls.jsonl")
    with ReplayLog(it.path, bodies=True, media=True) as log:
        with Client(real_ollama.url, observers=[log]) as client:
            for name, ask in SCENARIOS.items():
                it.outcomes[name] = outcome(ask, client)
            stream = client.chat(
                "tiny-agent", [{"role": "user", "content": ABANDONED}], stream=True
            )
            it.abandoned = [next(stream).model_dump() for _ in range(_LEFT_AFTER)]
            stream.close()
        # The server may never free the slot of a stream that was left: see `RealOllama.recover`.
        real_ollama.unload_all()
        with httpx.Client(base_url=real_ollama.url, timeout=None) as inner:
            instrument_client(inner, observers=[log])
            with proxying(inner) as host:
                it.printed = ollama_run(host, folder)
    return it


@contextmanager
def serving(log: Path) -> Iterator[str]:
    """Run the command on a log; gives its URL."""
    process = subprocess.Popen(
        [*COMMAND, "serve-replay", str(log), "--listen", "127.0.0.1:0", "--quiet"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip().rpartition(" at ")[2]
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture(scope="module")
def served(recorded: Recorded) -> Iterator[str]:
    """The URL of the command, which serves the log."""
    with serving(recorded.path) as url:
        yield url


def test_the_recording_holds_what_it_should(recorded: Recorded) -> None:
    outcomes = recorded.outcomes
    assert len(outcomes["a streamed chat"]) > 3
    assert any(part["message"].get("thinking") for part in outcomes["thinking"])
    assert any(part["message"].get("tool_calls") for part in outcomes["tools"])
    assert len(outcomes["embeddings"][0]["embeddings"]) == 2
    assert outcomes["an unknown model"][0][0] == 404
    assert recorded.printed.strip()
    calls = list(read(recorded.path))
    assert [each.record.outcome for each in calls if each.record].count("abandoned") == 1
    routes = [(each.start.endpoint.method, each.path) for each in calls[-2:]]
    assert routes == [("POST", "/api/show"), ("POST", "/api/generate")]


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_official_client_gets_what_it_got_from_the_real_server(
    recorded: Recorded, served: str, name: str
) -> None:
    with ollama.Client(served) as client:
        assert outcome(SCENARIOS[name], client) == recorded.outcomes[name]


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_player_gives_what_the_real_server_gave(recorded: Recorded, name: str) -> None:
    with replay(recorded.path, speed=0), ollama.Client("http://127.0.0.1:9") as client:
        assert outcome(SCENARIOS[name], client) == recorded.outcomes[name]


def test_an_abandoned_stream_goes_as_far_as_it_was_read(recorded: Recorded, served: str) -> None:
    parts = []
    with ollama.Client(served) as client, pytest.raises(httpx.RemoteProtocolError):
        for part in client.chat(
            "tiny-agent", [{"role": "user", "content": ABANDONED}], stream=True
        ):
            parts.append(part.model_dump())  # noqa: PERF401 - what came before the error counts
    assert parts[:_LEFT_AFTER] == recorded.abandoned


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_gets_the_same_bytes(recorded: Recorded, served: str) -> None:
    kept = recorded.call(lambda each: each.start.request.stream and each.path == "/api/chat")
    done = subprocess.run(
        ["curl", "-sN", f"{served}/api/chat", "-d", json.dumps(kept.request_body)],
        env=environment(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == kept.body


def test_the_command_line_of_ollama_prints_the_same(
    recorded: Recorded, served: str, tmp_path: Path
) -> None:
    assert ollama_run(served, tmp_path) == recorded.printed


def test_the_command_line_lists_the_models_of_a_log_that_has_no_list(
    recorded: Recorded, tmp_path: Path
) -> None:
    with serving(only(recorded, "chats.jsonl", "chat")) as url:
        done = subprocess.run(
            [str(find_server("ollama")), "list"],
            env=environment(OLLAMA_HOST=url.removeprefix("http://"), HOME=str(tmp_path)),
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "tiny-agent:latest" in done.stdout
    assert "not-in-the-l" in done.stdout


ORIGINS = [
    *("http://localhost", "http://localhost:3000", "https://127.0.0.1:1", "http://0.0.0.0:8080"),
    *(
        "app://x",
        "file://",
        "file://x",
        "tauri://localhost",
        "vscode-webview://1",
        "vscode-file://x",
    ),
    *(
        "http://evil.example",
        "https://localhost.evil.example",
        "http://0.0.0.0.evil.example",
        "null",
    ),
]


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("method", ["OPTIONS", "GET"])
def test_a_browser_gets_the_same_headers(
    real_ollama: RealOllama, served: str, origin: str, method: str
) -> None:
    asked = {"origin": origin, "access-control-request-method": "POST"}

    def seen(url: str) -> tuple[int, list[tuple[str, str]]]:
        response = httpx.request(method, f"{url}/api/tags", headers=asked, verify=False)
        named = response.headers.multi_items()
        headers = [each for each in named if each[0].startswith(("access-control-", "vary"))]
        return response.status_code, sorted(headers)

    assert seen(served) == seen(real_ollama.url)


def only(recorded: Recorded, name: str, *operations: str) -> Path:
    """Write a log of the calls of these operations."""
    path = recorded.path.with_name(name)
    marks = [f'"operation":"{operation}"' for operation in operations]
    with recorded.path.open() as whole, path.open("w") as part:
        part.writelines(line for line in whole if any(mark in line for mark in marks))
    return path


def test_the_command_line_runs_a_model_that_the_log_does_not_describe(
    recorded: Recorded, tmp_path: Path
) -> None:
    with serving(only(recorded, "generated.jsonl", "generate")) as url:
        assert ollama_run(url, tmp_path) == recorded.printed


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_conversation_on_a_terminal_begins_without_a_logged_load(
    recorded: Recorded, tmp_path: Path
) -> None:
    with serving(only(recorded, "chats.jsonl", "chat")) as url:
        said = conversation(url, tmp_path, "Not in the log.")
    # The model was described and loaded; what is said next has to be in the log.
    assert ">>> " in said
    assert "POST /api/chat of model 'tiny-agent' has no answer in the log" in said


def conversation(host: str, home: Path, text: str) -> str:
    """Return what `ollama run` prints on a terminal on which somebody types a text."""
    import pty

    own, theirs = pty.openpty()
    with subprocess.Popen(
        [str(find_server("ollama")), "run", "tiny-agent"],
        env=environment(OLLAMA_HOST=host, HOME=str(home), TERM="dumb"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        timer = threading.Timer(60, process.kill)
        timer.start()
        said = b""
        typed = False
        try:
            while piece := os.read(own, 4096):
                said += piece
                if not typed and b">>> " in said:
                    typed = True
                    os.write(own, text.encode() + b"\r")
        except OSError:
            # Linux reports the end of the other side so.
            pass
        finally:
            timer.cancel()
            os.close(own)
    return said.decode("utf-8", "replace")
