"""Calls recorded on a real Ollama are made again on it, and compared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ollama_otel import Client, call_context
from ollama_otel._cli import main
from ollama_otel.replay import ReplayLog, read
from ollama_otel.replay._diff.pairing import REPLAY_OF, is_settled

from .servers import RealOllama
from .test_calls import TOOLS

Print = pytest.CaptureFixture[str]
COMMAND = (sys.executable, "-c", "import sys; from ollama_otel._cli import main; sys.exit(main())")
MODEL = "tiny-agent"


def record(log: Path, server: RealOllama, calls: Callable[[Client], Any]) -> Path:
    """Make calls through the drop-in client, and log them with their bodies."""
    with (
        ReplayLog(log, bodies=True) as observer,
        Client(server.url, observers=[observer]) as client,
    ):
        calls(client)
    return log


def ask(text: str, **options: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **options}


def a_handful(client: Client) -> None:
    with call_context(conversation_id="c-1"):
        client.chat(**ask("Hello"))
        list(client.chat(**ask("Tell me a story"), stream=True))
    client.chat(**ask("What is the weather in Paris?", tools=TOOLS))
    client.chat(**ask("Answer as JSON", format="json", options={"num_predict": 40}))
    client.generate(MODEL, "Once upon a time", options={"num_predict": 20})
    client.embed("tiny-embed", ["one", "two"])
    client.list()


@pytest.fixture
def log(tmp_path: Path, real_ollama: RealOllama) -> Path:
    return record(tmp_path / "calls.jsonl", real_ollama, a_handful)


def difference(log: Path, out: Path, capsys: Print, *options: str) -> tuple[int, dict[str, Any]]:
    """The exit status of a comparison, and its JSON."""
    capsys.readouterr()
    status = main(["diff", str(log), str(out), "--json", *options])
    return status, json.loads(capsys.readouterr().out)


def test_greedy_decoding_says_the_same_again(
    log: Path, real_ollama: RealOllama, capsys: Print
) -> None:
    out = log.with_name("calls.replayed.jsonl")
    assert main(["replay", str(log), "--host", real_ollama.url, "--speed", "4"]) == 0
    assert "Left out 1 call: only inference is sent." in capsys.readouterr().out
    status, told = difference(log, out, capsys)
    assert status == 0
    counts = told["counts"]
    assert (counts["pairs"], counts["text_changed"], counts["tools_changed"]) == (6, 0, 0)
    # The list of models, and the embedding, which says no text.
    assert (counts["only_before"], counts["by_facts_only"], counts["only_after"]) == (1, 1, 0)
    assert told["summary"]["duration"]["count"] == 6
    assert told["summary"]["decode_rate"]["count"] >= 4
    conversations = Counter(call.start.context.conversation_id for call in read(out))
    assert conversations == {"c-1": 2, None: 4}


def test_another_model_says_something_else(
    tmp_path: Path, real_ollama: RealOllama, capsys: Print
) -> None:
    def chats(client: Client) -> None:
        for text in ("Hello", "Tell me a story"):
            client.chat(**ask(text, options={"num_predict": 60}))

    log, out = record(tmp_path / "a.jsonl", real_ollama, chats), tmp_path / "b.jsonl"
    options = ["--host", real_ollama.url, "--model", "tiny-thinker", "--out", str(out)]
    assert main(["replay", str(log), *options, "--concurrency", "2"]) == 0
    status, told = difference(log, out, capsys)
    assert (status, told["failed"], told["counts"]["text_changed"]) == (1, ["text"], 2)
    assert {pair["after"]["model"] for pair in told["pairs"]} == {"tiny-thinker"}
    assert main(["diff", str(log), str(out), "--no-color"]) == 1
    assert "chat tiny-agent -> tiny-thinker" in capsys.readouterr().out


def test_an_interrupted_run_is_gone_on_with_and_every_call_is_there_once(
    tmp_path: Path, real_ollama: RealOllama, capsys: Print
) -> None:
    def chats(client: Client) -> None:
        for number in range(40):
            client.chat(**ask(f"Count from {number}", options={"num_predict": 100}))

    log, out = record(tmp_path / "a.jsonl", real_ollama, chats), tmp_path / "b.jsonl"
    command = ["replay", str(log), "--host", real_ollama.url, "--out", str(out)]
    process = subprocess.Popen(
        [*COMMAND, *command, "--concurrency", "3"],
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    while not out.exists() or out.read_bytes().count(b'"event":"end"') < 5:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    said, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints) == (130, "")
    assert "Interrupted: " in said
    before = sum(is_settled(call) for call in read(out))
    assert 5 <= before < 40

    assert main([*command, "--concurrency", "3"]) == 0
    text = capsys.readouterr().out
    assert f"Already answered: {before} calls." in text
    assert f"Sending {40 - before} calls" in text
    times = Counter(call.start.context.tags[REPLAY_OF] for call in read(out) if is_settled(call))
    assert times == {call.id: 1 for call in read(log)}
    status, told = difference(log, out, capsys)
    assert (status, told["counts"]["identical"], told["counts"]["only_after"]) == (0, 40, 0)
