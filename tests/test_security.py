"""What SECURITY.md promises has tests, and the promises that no other room can test are tested here."""

from __future__ import annotations

import ast
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ollama_otel import Client
from ollama_otel.replay import ReplayLog
from ollama_otel.settings import Settings
from ollama_otel.testing import Capture, FakeOllama, Reply

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
PROMISES = [
    line
    for part in re.findall(r"^Promised:\n\n((?:- .*\n)+)", TEXT, re.MULTILINE)
    for line in part.splitlines()
]
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))


# --- the document ---------------------------------------------------------------------------


def test_there_are_promises_and_each_has_a_test() -> None:
    assert len(PROMISES) >= 15
    assert len(PROMISES) == TEXT.count("\n- ") - sum(
        len(part.splitlines())
        for part in re.findall(
            r"^(?:Not promised:|## Whom it guards against)\n\n((?:- .*\n)+)", TEXT, re.MULTILINE
        )
    )
    for promise in PROMISES:
        assert re.search(r"`tests/[\w/]+\.py::test_\w+`$", promise), promise


@pytest.mark.parametrize(("path", "name"), TESTS)
def test_the_test_of_a_promise_exists(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", re.findall(r"`((?:OLLAMA_OTEL_|--)[\w-]+)`", TEXT))
def test_options_that_it_names_exist(name: str) -> None:
    pages = [ROOT / "dashboards" / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert any(name in path.read_text(encoding="utf-8") for path in pages)


# --- promises -------------------------------------------------------------------------------

SAID = [f"zq{word}zq" for word in ("asked", "system", "answered", "thought", "argument", "schema")]
ASKED, SYSTEM, ANSWERED, THOUGHT, ARGUMENT, SCHEMA = SAID


def test_by_default_nothing_that_was_said_leaves_the_process(
    capture: Capture, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    call: dict[str, Any] = {"function": {"name": "look_up", "arguments": {"name": ARGUMENT}}}
    message = {"role": "assistant", "content": ANSWERED, "thinking": THOUGHT, "tool_calls": [call]}
    fake = FakeOllama()
    fake.script("/api/chat", Reply.json({"model": "m", "message": message, "done": True}))
    parameters = {"type": "object", "properties": {"name": {"type": "string", "enum": [SCHEMA]}}}
    tool = {"type": "function", "function": {"name": "look_up", "parameters": parameters}}
    settings = Settings(emit_events=True, log_calls=True)
    log = ReplayLog(tmp_path / "calls.jsonl")
    with (
        log,
        Client(
            transport=fake.transport(), settings=settings, **{**capture.options, "observers": [log]}
        ) as client,
    ):
        answer = client.chat(
            "m",
            messages=[
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": ASKED, "images": [b"\x89PNG\r\n\x1a\nzqimagezq"]},
            ],
            tools=[tool],
        )
        assert answer.message.content == ANSWERED
    sent = [
        *(span.to_json() for span in capture.spans),
        str(capture.metrics()),
        *(each.to_json() for each in capture.events),
        caplog.text,
        (tmp_path / "calls.jsonl").read_text(),
    ]
    assert len(sent) == 5
    for text in sent:
        assert text
        assert "zq" not in text


@pytest.mark.processes
def test_the_library_opens_no_connection_of_its_own() -> None:
    """With everything switched on that needs no server, and a call on a transport in process."""
    script = """
import socket, sys
sys.addaudithook(lambda event, args: event == "socket.connect" and print("connect", args[1]))
import httpx
from ollama_otel import Client, configure
from ollama_otel.testing import FakeOllama
telemetry = configure(capture_content="span_and_event", log_calls=True)
client = Client(transport=FakeOllama().transport())
client.chat("llama3.2", [{"role": "user", "content": "Hello"}])
telemetry.shutdown()
"""
    variables = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PATH": "", "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == ""
