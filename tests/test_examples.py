"""Every example runs against the fake Ollama, and its spans arrive at a collector."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ollama import ResponseError

from ollama_otel import Client
from ollama_otel.replay import ReplayLog
from ollama_otel.testing import FakeModel, FakeOllama

from .collector import Collector, collecting
from .packages import need

pytestmark = [pytest.mark.processes, pytest.mark.sockets]

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


def run(collector: Collector, *arguments: str | Path, realtime: bool = False) -> str:
    """Run python with these arguments against a fake Ollama; gives what it printed."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OLLAMA_", "OTEL_")) and not name.lower().endswith("_proxy")
    }
    with FakeOllama(realtime=realtime).serve() as url:
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            env={**inherited, "OLLAMA_HOST": url, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url},
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_plain_chat(collector: Collector) -> None:
    assert "Hello! I am a fake model." in run(collector, EXAMPLES / "plain_chat.py")
    assert {service for service, _ in collector.spans()} == {"plain-chat"}
    assert collector.tree() == {"chat llama3.2": []}
    assert collector.outcomes() == ["completed"]


def test_the_plain_chat_with_another_model(collector: Collector) -> None:
    run(collector, EXAMPLES / "plain_chat.py", "qwen3")
    assert collector.tree() == {"chat qwen3": []}


def test_the_existing_app(collector: Collector) -> None:
    assert run(collector, EXAMPLES / "existing_app.py").count("Hello! I am a fake model.") == 2
    assert {service for service, _ in collector.spans()} == {"existing-app"}
    assert collector.tree() == {
        "answer with one client": ["chat llama3.2"],
        "answer with any client": ["chat llama3.2"],
    }


def test_the_weather_agent(collector: Collector) -> None:
    said = run(collector, EXAMPLES / "weather_agent.py")
    assert "-> multiply {'a': 1, 'b': 1}\n" in said
    assert "<- succeeded: 1\n" in said
    assert "2 rounds, " in said
    assert {service for service, _ in collector.spans()} == {"weather-agent"}
    [(root, children)] = collector.tree().items()
    assert root == "invoke_agent weather"
    assert sorted(children) == [
        *("chat llama3.2", "chat llama3.2"),
        *("execute_tool multiply", "execute_tool weather"),
    ]


# A server of ASGI in 30 lines: it asks once, and its reader goes away after so many pieces.
ASGI = """
import asyncio, importlib, sys
folder, name, method, path, body, manner, pieces = sys.argv[1:]
sys.path.insert(0, folder)
app = importlib.import_module(name).app

async def serve():
    # Something else may hold a generator, as a traceback does: the app has to close its answer.
    kept, hooks = [], sys.get_asyncgen_hooks()

    def keep(generator):
        kept.append(generator)
        hooks.firstiter(generator)

    sys.set_asyncgen_hooks(firstiter=keep)
    received, gone = [], asyncio.Event()
    requests = [{"type": "http.request", "body": body.encode(), "more_body": False}]

    async def receive():
        if requests:
            return requests.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if gone.is_set() and manner == "refuses what is sent":
            raise OSError
        received.append(message.get("body", b""))
        if len(received) > int(pieces):
            gone.set()
            if manner == "is slow and gone":
                await asyncio.sleep(60)

    scope = {
        "type": "http", "method": method, "path": path, "query_string": b"question=Hello",
        "headers": [(b"content-type", b"application/json"), (b"x-user", b"ada")],
        "scheme": "http", "server": ("127.0.0.1", 8000), "http_version": "1.1",
        "asgi": {"spec_version": "2.4" if manner == "refuses what is sent" else "2.3"},
    }
    try:
        await app(scope, receive, send)
    except Exception as error:
        assert type(error).__name__ == "ClientDisconnect", error
    (answer,) = (each for each in kept if each.ag_code.co_name == "answer")
    assert answer.ag_frame is None, "the answer is still open"
    print(b"".join(received).decode())

asyncio.run(serve())
"""


ASKED = {"conversation": "c1", "messages": [{"role": "user", "content": "Hello"}]}
STREAMS = {
    "web_stream": ("GET", "/ask", ""),
    "fastapi_stream": ("POST", "/chat", json.dumps(ASKED)),
}
"""Method, path and body of a question to each app that streams."""


def ask(collector: Collector, app: str, manner: str, pieces: int, *, realtime: bool) -> str:
    if app == "fastapi_stream":
        need("fastapi")
    request = (app, *STREAMS[app])
    return run(collector, "-c", ASGI, EXAMPLES, *request, manner, str(pieces), realtime=realtime)


@pytest.mark.parametrize("app", STREAMS)
@pytest.mark.parametrize(
    ("manner", "outcome"),
    [
        ("is gone", "cancelled"),
        ("is slow and gone", "abandoned"),
        ("refuses what is sent", "abandoned"),
    ],
)
def test_a_stream_whose_reader(collector: Collector, app: str, manner: str, outcome: str) -> None:
    said = ask(collector, app, manner, 3, realtime=True)
    assert said.startswith("Hello!")
    assert "help you today" not in said
    assert {service for service, _ in collector.spans()} == {app.replace("_", "-")}
    ((root, children),) = collector.tree().items()
    assert root == " ".join(STREAMS[app][:2])
    # FastAPI also makes spans of what it does before it calls the route.
    assert [each for each in children if not each.startswith("fastapi.")] == ["chat llama3.2"]
    assert collector.outcomes() == [outcome]


@pytest.mark.parametrize("app", STREAMS)
def test_a_stream_that_is_read_to_its_end(collector: Collector, app: str) -> None:
    said = ask(collector, app, "stays", 1000, realtime=False)
    assert said == "Hello! I am a fake model. How can I help you today?\n"
    assert collector.outcomes() == ["completed"]


def test_a_day_is_debugged_from_its_log(collector: Collector, tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    fake = FakeOllama(realtime=True, models=[FakeModel("llama3.2", load=2.5)])
    with (
        fake.serve() as url,
        ReplayLog(log, bodies=True) as observer,
        Client(url, observers=[observer]) as client,
    ):
        client.chat("llama3.2", messages=[{"role": "user", "content": "Hello"}])
        with pytest.raises(ResponseError):
            client.chat("nope", messages=[{"role": "user", "content": "Hello"}])
    with log.open("ab") as file:
        request = json.loads(log.read_bytes().splitlines()[1])
        file.write(json.dumps({**request, "id": "killed-1"}).encode() + b"\n")
    said = run(collector, EXAMPLES / "debug_yesterday.py", log)
    assert "3 calls: 1 took 2 s or more, 1 failed,\n1 never ended" in said
    assert "killed-1 chat llama3.2: began and never ended" in said
    assert re.search(r"the model was cold and had to be loaded \(2\.\d s\)", said)
    assert "chat nope: model_not_found, model 'nope' not found" in said
    assert said.endswith("""once more:\nHTTP 404\n{"error":"model 'nope' not found"}\n""")
    said = run(collector, EXAMPLES / "debug_yesterday.py", log, "1000")
    assert "3 calls: 0 took 1000 s or more, 1 failed,\n" in said


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGPIPE")
def test_yesterday_read_by_head_ends_quietly(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    log.write_text("")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(
            [sys.executable, EXAMPLES / "debug_yesterday.py", log],
            check=False,
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.stderr == ""


def test_a_day_without_a_log_is_told(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "debug_yesterday.py"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "found none: configure(replay_log=...)" in done.stderr
    assert "replay_bodies=True" in done.stderr


def test_the_test_with_replay_passes_and_asks_nobody(collector: Collector) -> None:
    example = EXAMPLES / "test_with_replay.py"
    options = ("-p", "no:cacheprovider", "--ollama-record=none", "--ollama-strict")
    assert "1 passed" in run(collector, "-m", "pytest", *options, example)
    assert collector.outcomes() == []


def test_the_code_reviewer_s_tests_pass_and_ask_nobody(collector: Collector) -> None:
    options = ("-p", "no:cacheprovider", "--import-mode=prepend")
    replay = ("--ollama-record=none", "--ollama-strict")
    said = run(collector, "-m", "pytest", *options, *replay, EXAMPLES / "code_reviewer")
    assert " passed" in said
    assert collector.outcomes() == []


def test_the_code_reviewer_says_what_it_expected() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "code_reviewer" / "reviewer.py"],
        env={**os.environ, "OTEL_SDK_DISABLED": "true"},
        input="no diff",
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "expected a diff as `git diff` prints it, found none" in done.stderr


def test_every_example_has_a_test_and_a_line_in_the_readme() -> None:
    names = {path.name for path in EXAMPLES.iterdir() if path.suffix in {".py", ".ipynb"}}
    assert names == {
        *("plain_chat.py", "web_stream.py", "existing_app.py"),
        *("debug_yesterday.py", "test_with_replay.py", "weather_agent.py"),
        "gunicorn_workers.py",  # in test_workers.py
        "analysis.ipynb",  # in analysis/test_page.py
        # In real/test_examples.py:
        *("fastapi_stream.py", "langchain_chain.py", "llama_index_chat.py"),
        *("celery_worker.py", "first_calls.ipynb"),
    }
    folders = {path.parent.name for path in EXAMPLES.glob("*/*.py")}
    assert folders == {"code_reviewer", "live_chat"}  # the second one in real/test_live_chat.py
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"]({name})" in readme for name in names)
    assert all(f"]({name}/" in readme for name in folders)
