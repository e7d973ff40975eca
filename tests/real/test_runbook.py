"""The searches of the runbook find their calls in a real Jaeger, after calls on a real Ollama."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from .conftest import StartOllama
from .servers import DASHBOARDS, RealJaeger, free_ports
from .servers.processes import ask

RUNBOOK = (DASHBOARDS / "RUNBOOK.md").read_text(encoding="utf-8")
RECIPES = re.findall(r"^- Jaeger: (.*)$", RUNBOOK, flags=re.MULTILINE)
SEARCHES = sorted({each for recipe in RECIPES for each in re.findall(r"`([\w.]+=[^`]+)`", recipe)})
READ_ONLY = sorted(
    {each for recipe in RECIPES for each in re.findall(r"`((?:ollama|gen_ai)\.[\w.]+)`", recipe)}
)
"""Tags that are read in a span that was found."""
PRICES = """
currency = "EUR"
[[machine]]
name = "box"
servers = ["{server}"]
slots = 1
[[machine.price]]
from = 2020-01-01
idle_watts = 60
busy_watts = 350
price_per_kwh = 0.3
rent_per_hour = 1
"""
# `configure` sets what is global to a process, so the app is one of its own.
APP = """
import contextlib, sys, time
from concurrent.futures import ThreadPoolExecutor
from ollama_otel import Client, call_context, configure

server, dead, service, endpoint, prices = sys.argv[1:]
telemetry = configure(service_name=service, endpoint=endpoint, residency=True, prices=prices)
client = Client(server)
STORY = [{"role": "user", "content": "Tell me a story."}]
def chat(length, client=client):
    options = {"num_predict": length, "num_ctx": 512}
    return client.chat("tiny-agent", STORY, options=options)

with call_context(user_id="alice", tags={"team": "search"}):
    chat(2)
with ThreadPoolExecutor(4) as pool:
    list(pool.map(chat, [100] * 4))
client.generate("tiny-agent", keep_alive=0)
chat(2)
# A call knows what the server holds once a poll has seen it.
while not any(state.models for state in telemetry.residency.servers()):
    time.sleep(0.1)
chat(2)
with contextlib.suppress(Exception):
    chat(2, Client(dead))
with contextlib.suppress(Exception):
    chat(100, Client(server, timeout=0.01))
"""


@pytest.fixture(scope="module")
def service() -> str:
    return f"runbook-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def filled(
    start_ollama: StartOllama, jaeger: RealJaeger, service: str, tmp_path: Path
) -> Iterator[RealJaeger]:
    """A Jaeger with calls of each kind that the runbook searches."""
    app = tmp_path / "app.py"
    app.write_text(APP)
    if service not in jaeger.services():
        with start_ollama() as server:
            prices = tmp_path / "prices.toml"
            prices.write_text(PRICES.format(server=server.url.removeprefix("http://")))
            dead = f"http://127.0.0.1:{free_ports(1)[0]}"
            command = [sys.executable, app, server.url, dead, service, jaeger.otlp_http, prices]
            done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr
    jaeger.traces(service, spans=9, seconds=30)
    yield jaeger


def found(jaeger: RealJaeger, service: str, **more: str) -> list[dict[str, str]]:
    """The tags of the spans of the traces that a search finds."""
    asked = urlencode({"service": service, "limit": 100, **more})
    traces = ask("GET", f"{jaeger.query}/api/traces?{asked}")["data"] or []
    return [
        {tag["key"]: str(tag["value"]) for tag in span["tags"]}
        for trace in traces
        for span in trace["spans"]
    ]


def test_every_search_of_the_runbook_finds_calls(filled: RealJaeger, service: str) -> None:
    assert len(SEARCHES) >= 7
    everything = found(filled, service)
    missing = []
    for search in SEARCHES:
        name, _, value = search.partition("=")
        tags = json.dumps({name: value})
        if not found(filled, service, tags=tags):
            missing.append((search, [each.get(name) for each in everything]))
    assert missing == []
    waited = found(filled, service, tags=json.dumps({"ollama.queue.estimated_wait": "true"}))
    assert 0 < len(waited) < len(everything)
    assert all(float(each["ollama.queue.estimated_duration"]) >= 0.05 for each in waited)


def test_every_tag_that_the_runbook_reads_is_on_a_span(filled: RealJaeger, service: str) -> None:
    assert len(READ_ONLY) >= 6
    there = {name for each in found(filled, service) for name in each}
    assert [name for name in READ_ONLY if name not in there] == []


def test_a_minimum_duration_finds_the_long_calls(filled: RealJaeger, service: str) -> None:
    """It is given as in the runbook: a number and a unit."""
    durations = re.findall(r"\*Min Duration\* `(\w+)`", " ".join(RECIPES))
    assert durations
    for duration in durations:
        # Another unit or spelling is an error.
        found(filled, service, minDuration=duration)
    assert found(filled, service, minDuration="1ms")
