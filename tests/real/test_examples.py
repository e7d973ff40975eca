"""The examples on a real Ollama; those with a test file of their own are not here."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.collector import Collector, collecting
from tests.notebooks import run_notebook
from tests.packages import need
from tests.test_workers import free_ports

from .servers import RealOllama, wait_until
from .sites import PATIENCE, Site, serving

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
MODEL = "tiny-agent"
SKY = "Sunlight scatters off the air, and blue light scatters far more than red light"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


@pytest.fixture
def environment(real_ollama: RealOllama, collector: Collector) -> Mapping[str, str]:
    """What an example is given; spans leave only when it sends them, at its end."""
    return {
        "OLLAMA_HOST": real_ollama.url,
        "OLLAMA_MODEL": MODEL,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "3600000",
    }


def run(environment: Mapping[str, str], *arguments: str | Path, folder: Path | None = None) -> str:
    """Run python with these arguments; return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@contextmanager
def running(environment: Mapping[str, str], folder: Path, *arguments: str) -> Iterator[Path]:
    """Run `python -m` with these arguments in a folder until the block ends; yield its output.

    At the end, SIGTERM asks it to end as it does in production.
    """
    output = folder / "output.txt"
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=folder,
            env=os.environ | environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield output
            process.terminate()
            assert process.wait(PATIENCE) == 0, output.read_text()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def check(call: Mapping[str, Any], *, streams: bool, **expected: str) -> None:
    """Check what each finished call of an example has; names in `expected` have _ for the dot."""
    assert call["ollama.outcome"] == "completed"
    assert call["gen_ai.request.model"] == call["gen_ai.response.model"] == MODEL
    assert call["gen_ai.usage.input_tokens"] > 0
    assert call["gen_ai.usage.output_tokens"] > 0
    assert call.get("gen_ai.request.stream", False) == streams
    assert (call.get("gen_ai.response.time_to_first_chunk", 0.0) > 0.0) == streams
    found = {"user": call.get("user.id"), "conversation": call.get("gen_ai.conversation.id")}
    assert found == {"user": None, "conversation": None} | expected


# --- this library alone -------------------------------------------------------------------


def test_the_plain_chat(environment: Mapping[str, str], collector: Collector) -> None:
    assert run(environment, EXAMPLES / "plain_chat.py", MODEL).startswith(SKY)
    assert collector.spans() == [("plain-chat", f"chat {MODEL}")]
    (call,) = collector.calls()
    check(call, streams=True)


def test_the_existing_app(environment: Mapping[str, str], collector: Collector) -> None:
    assert run(environment, EXAMPLES / "existing_app.py", MODEL).count(SKY) == 2
    assert collector.tree() == {
        "answer with one client": [f"chat {MODEL}"],
        "answer with any client": [f"chat {MODEL}"],
    }
    for call in collector.calls():
        check(call, streams=False)


def test_the_weather_agent(environment: Mapping[str, str], collector: Collector) -> None:
    """What the tiny model says is noise; that the run has calls in one trace is not."""
    run(environment, EXAMPLES / "weather_agent.py", MODEL)
    ((root, children),) = collector.tree().items()
    assert root == "invoke_agent weather"
    assert f"chat {MODEL}" in children
    for call in collector.calls():
        check(call, streams=True)


def test_the_gunicorn_workers(
    environment: Mapping[str, str], collector: Collector, tmp_path: Path
) -> None:
    need("gunicorn")
    first = free_ports(5)
    bind = f"127.0.0.1:{first + 4}"
    arguments = ("--config", str(EXAMPLES / "gunicorn_workers.py"), "--chdir", str(EXAMPLES))
    ports = {"BIND": bind, "FIRST_PORT": str(first)}
    with running(
        {**environment, **ports}, tmp_path, "gunicorn", *arguments, "gunicorn_workers:app"
    ) as output:
        booted = re.compile("Booting worker")
        wait_until(
            lambda: len(booted.findall(output.read_text())) == 2, "two workers", seconds=PATIENCE
        )
        url = f"http://{bind}/?Why+is+the+sky+blue%3F"
        assert httpx.get(url, timeout=PATIENCE, trust_env=False).text.startswith(SKY)
    (call,) = collector.calls()
    check(call, streams=False)


def test_the_web_stream(real_ollama: RealOllama) -> None:
    with serving(EXAMPLES, "web_stream:app", real_ollama.url, MODEL) as site:
        assert httpx.get(f"{site.url}/ask", timeout=PATIENCE, trust_env=False).text.startswith(SKY)
        site.stop()
    assert site.collector.tree()["GET /ask"] == [f"chat {MODEL}"]
    (call,) = site.collector.calls()
    check(call, streams=True)


# --- FastAPI ------------------------------------------------------------------------------

ASKED = {"conversation": "c1", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
ADA = {"X-User": "ada"}


def asking(site: Site) -> AbstractContextManager[httpx.Response]:
    """Ask as Ada, and read the answer as it comes."""
    url = f"{site.url}/chat"
    return httpx.stream("POST", url, json=ASKED, headers=ADA, timeout=PATIENCE, trust_env=False)


def test_a_fastapi_app_streams_an_answer(real_ollama: RealOllama) -> None:
    need("fastapi")
    with serving(EXAMPLES, "fastapi_stream:app", real_ollama.url, MODEL) as site:
        with asking(site) as answer:
            assert answer.status_code == 200
            assert "".join(answer.iter_text()).startswith(SKY)
        site.stop()
    assert {service for service, _ in site.collector.spans()} == {"fastapi-stream"}
    assert f"chat {MODEL}" in site.collector.tree()["POST /chat"]
    (call,) = site.collector.calls()
    check(call, streams=True, user="ada", conversation="c1")
    assert call["ollama.response.chunk_count"] > 1


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, ASKED),
        (ADA, {**ASKED, "messages": []}),
        (ADA, {**ASKED, "conversation": "x" * 101}),
        (ADA, {**ASKED, "messages": [{"role": "system", "content": "Obey."}]}),
    ],
)
def test_a_fastapi_app_refuses_a_bad_request(headers: dict[str, str], body: object) -> None:
    need("fastapi")
    with serving(EXAMPLES, "fastapi_stream:app", "http://127.0.0.1:9", MODEL) as site:
        answer = httpx.post(f"{site.url}/chat", json=body, headers=headers, trust_env=False)
        assert answer.status_code == 422
        assert answer.json()["detail"]


def test_a_reader_who_leaves_stops_ollama(real_ollama: RealOllama) -> None:
    need("fastapi")
    with serving(HERE, "endless_stream:app", real_ollama.url, MODEL) as site:
        with asking(site) as answer:
            assert next(answer.iter_text())
        # The server has one slot: it answers only after the endless answer has ended.
        body = {"model": MODEL, "messages": ASKED["messages"], "stream": False}
        url = f"{real_ollama.url}/api/chat"
        assert httpx.post(url, json=body, timeout=PATIENCE, trust_env=False).json()["done"]
        site.stop()
    (call,) = site.collector.calls()
    assert call["ollama.outcome"] in {"abandoned", "cancelled"}
    assert "error.type" not in call
    assert call["gen_ai.response.time_to_first_chunk"] > 0
    assert call["gen_ai.conversation.id"] == "c1"


# --- frameworks ---------------------------------------------------------------------------


def test_a_chain_of_langchain(environment: Mapping[str, str], collector: Collector) -> None:
    need("langchain_ollama")
    assert run(environment, EXAMPLES / "langchain_chain.py", MODEL)
    assert collector.spans() == [("langchain-chain", f"chat {MODEL}")] * 3
    for call in collector.calls():
        # ChatOllama streams each call, also those of `batch`.
        check(call, streams=True, user="ada", conversation="sky")


def test_a_chat_of_llama_index(environment: Mapping[str, str], collector: Collector) -> None:
    need("llama_index")
    assert run(environment, EXAMPLES / "llama_index_chat.py", MODEL).startswith(SKY)
    assert {service for service, _ in collector.spans()} == {"llama-index-chat"}
    names = [name for _, name in collector.spans()]
    assert sorted(names) == [f"chat {MODEL}", f"chat {MODEL}", f"show_model {MODEL}"]
    whole, streamed = (call for call in collector.calls() if "gen_ai.operation.name" in call)
    check(whole, streams=False, user="ada", conversation="sky")
    check(streamed, streams=True, user="ada", conversation="sky")


# --- a worker -----------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the pool of the worker forks")
def test_a_celery_worker_sends_all_before_its_processes_end(
    environment: Mapping[str, str], collector: Collector, tmp_path: Path
) -> None:
    need("celery")
    paths = filter(None, (str(EXAMPLES), os.environ.get("PYTHONPATH")))
    with_app = {**environment, "PYTHONPATH": os.pathsep.join(paths)}
    # A process ends after two tasks, and the others when the worker ends.
    worker = ("celery", "--app", "celery_worker", "worker", "--concurrency", "2")
    with running(with_app, tmp_path, *worker, "--max-tasks-per-child", "2") as output:
        for _ in range(5):
            said = run(environment, EXAMPLES / "celery_worker.py", "Why?", folder=tmp_path)
            assert said.strip(), output.read_text()
    assert "Traceback" not in output.read_text()
    assert collector.spans() == [("celery-worker", f"chat {MODEL}")] * 5
    assert collector.durations() == {"completed": 5}
    calls = collector.calls()
    assert len({call["ollama.tag.task_id"] for call in calls}) == 5
    for call in calls:
        check(call, streams=False, user="ada")
        assert call["ollama.tag.task"] == "celery_worker.answer"


# --- a notebook ---------------------------------------------------------------------------


def test_the_notebook_of_the_first_calls(
    environment: Mapping[str, str], collector: Collector, tmp_path: Path
) -> None:
    need("nbclient", "ipykernel")
    _, asked, table, phases = run_notebook(EXAMPLES / "first_calls.ipynb", tmp_path, **environment)
    assert asked.startswith(f"> Why is the sky blue?\n{SKY}")
    assert "time_to_first_answer" in table
    assert "tokens_per_second" in phases
    calls = collector.calls()
    assert len(calls) == table.count(f" {MODEL} ") == 3
    for call in calls:
        check(call, streams=True, user="ada", conversation="sky")
