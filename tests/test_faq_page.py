"""What `docs/faq.md` says of versions, routes and sizes is so, and its code runs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import httpx
import pytest

from ollama_otel import Client, call_context, instrument_client
from ollama_otel.replay import ReplayLog
from ollama_otel.testing import Capture, FakeOllama
from tests.documents import blocks_of, run_block, text_of

ROOT = Path(__file__).parents[1]
PAGE = text_of("faq.md")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.sockets
@pytest.mark.processes
def test_the_code_prints_a_line_and_exports_nothing() -> None:
    [code] = blocks_of("faq.md")
    with FakeOllama().serve() as url:
        done = run_block(code, OLLAMA_HOST=url)
    assert done.returncode == 0
    lines = [line for line in done.stderr.splitlines() if "ollama call completed" in line]
    assert len(lines) == 1
    assert "export" not in done.stderr


def test_the_versions_are_those_of_the_project() -> None:
    [python] = re.findall(r"^Python (3\.\d+) or later\.$", PAGE, re.MULTILINE)
    assert PROJECT["requires-python"] == f">={python}"
    [client] = re.findall(r"official client (\d+\.\d+\.\d+)", PAGE)
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'"ollama=={client}"' in text
    for extra in re.findall(r"ollama_otel\[([\w-]+)\]", PAGE):
        assert extra in PROJECT["optional-dependencies"]


def test_routes_of_openai_pass_through_unseen() -> None:
    capture = Capture()
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={"choices": []}))
    client = httpx.Client(base_url="http://h:1", transport=transport)
    instrument_client(client, **capture.options)
    client.post("/v1/chat/completions", json={"model": "m", "messages": []})
    assert capture.spans == []
    client.post("/api/chat", json={"model": "m", "messages": []})
    assert len(capture.spans) == 1


def test_a_call_without_bodies_takes_about_a_kilobyte(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    with ReplayLog(path) as log:
        client = Client(transport=FakeOllama().transport(), observers=(log,))
        with call_context(user_id="ada", conversation_id="c-1"):
            for _ in range(20):
                client.chat("llama3.2", messages=[{"role": "user", "content": "Hello"}])
    assert 500 < path.stat().st_size / 20 < 1_500
