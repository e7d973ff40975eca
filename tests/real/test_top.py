"""What `top` shows of a real Ollama while calls run: by the log, by /api/ps, by the scrape endpoint."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ollama_otel import Client
from ollama_otel._top.sources import LogSource, PsSource, read_once
from ollama_otel._top.state import State
from ollama_otel._top.view import ModelRow, View
from ollama_otel._wire.address import parse_host
from ollama_otel.replay import ReplayLog

from .servers import RealOllama

STORY = [{"role": "user", "content": "Tell me a story."}]
HELLO = [{"role": "user", "content": "Hello"}]
PATIENCE = 60.0


class Watched:
    """A client with a log, and what `top` shows of it."""

    def __init__(self, server: RealOllama, path: Path) -> None:
        self.log = ReplayLog(path, bodies=True)
        self.client = Client(server.url, observers=[self.log])
        self.sources = [LogSource(path), PsSource(parse_host(server.url))]
        self.state = State()

    def view(self) -> View:
        self.log.flush()
        read_once(self.state, self.sources)
        return self.state.view(time.time())

    def model(self, name: str = "tiny-agent") -> ModelRow:
        (row,) = [row for row in self.view().models if row.model == name]
        return row

    def until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not is_so():
            assert time.monotonic() < deadline, self.view()
            time.sleep(0.05)

    def close(self) -> None:
        self.client.close()
        self.log.close()
        for source in self.sources:
            source.close()


@pytest.fixture
def watched(cold_ollama: RealOllama, tmp_path: Path) -> Iterator[Watched]:
    found = Watched(cold_ollama, tmp_path / "calls.jsonl")
    yield found
    found.close()


def test_a_call_is_seen_in_flight_and_then_with_its_phases(
    watched: Watched, real_ollama: RealOllama
) -> None:
    assert watched.view().loaded == 0
    stream = watched.client.chat("tiny-agent", STORY, stream=True)
    next(iter(stream))
    view = watched.view()
    (running,) = view.calls
    assert (view.in_flight, running.state, running.model) == (1, "running", "tiny-agent")
    assert running.server == f"localhost:{real_ollama.port}"
    for _ in stream:
        pass
    view = watched.view()
    (ended,) = view.calls
    assert (view.in_flight, ended.state, ended.output_tokens) == (0, "completed", 267)
    assert ended.record is not None
    assert ended.record.cold_start
    assert sum(ended.record.phases.values()) == pytest.approx(ended.elapsed, abs=0.01)
    row = watched.model()
    (listed,) = watched.client.ps().models
    assert (row.is_loaded, row.memory, row.context_length) == (
        True,
        listed.size,
        listed.context_length,
    )
    assert (row.gpu_share, row.loads, row.slots) == (0.0, 1, 1)
    watched.client.generate("tiny-agent", keep_alive=0)
    watched.until(lambda: watched.model().is_loaded is False)


def test_ps_shows_when_a_model_expires_and_that_it_was_used(watched: Watched) -> None:
    (_, ps), state = watched.sources, State()

    def row() -> ModelRow:
        read_once(state, [ps])
        (found,) = state.view(time.time()).models
        return found

    watched.client.chat("tiny-agent", HELLO)
    assert row().used_ago is None, "nobody saw it being used"
    expires_in = row().expires_in
    assert expires_in is not None
    assert 200 < expires_in <= 300
    assert row().used_ago is None
    time.sleep(0.1)
    watched.client.chat("tiny-agent", HELLO)
    watched.until(lambda: row().used_ago is not None)


def test_calls_that_wait_for_the_only_slot_are_told(watched: Watched) -> None:
    watched.client.chat("tiny-agent", HELLO)
    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(watched.client.chat, "tiny-agent", STORY) for _ in range(16)]
        for each in done:
            each.result()
    row = watched.model()
    assert (row.slots, row.slots_are_all) == (1, True)
    kinds = {verdict.kind: verdict for verdict in watched.view().verdicts}
    assert "queueing" in kinds
    assert len(kinds["same_prompt"].calls) == 16
    rates = watched.view().rates
    assert rates is not None
    assert rates.waited
    assert rates.ended == 17


def test_options_that_change_with_each_call_are_told(watched: Watched) -> None:
    for num_ctx in (512, 1024, 512, 1024):
        watched.client.chat("tiny-agent", HELLO, options={"num_ctx": num_ctx})
    assert watched.model().loads == 4
    (verdict,) = [each for each in watched.view().verdicts if each.kind == "cold_load_thrash"]
    assert verdict.sentence.startswith("tiny-agent: loaded 4 times in ")
    assert len(verdict.calls) == 4


def test_errors_in_a_row_are_told(watched: Watched) -> None:
    for _ in range(3):
        with pytest.raises(Exception, match="not found"):
            watched.client.chat("no-such-model", HELLO)
    (verdict,) = [each for each in watched.view().verdicts if each.kind == "errors_in_a_row"]
    assert verdict.sentence == "no-such-model: the last 3 calls failed (model_not_found)"


def test_the_time_of_a_prompt_is_learnt(watched: Watched) -> None:
    options = {"num_ctx": 4096, "num_predict": 1}
    for number in range(6):
        # Each begins in another way, so that nothing is cached.
        prompt = f"{number} is the number of " + "words and more words " * 100
        watched.client.generate("tiny-agent", prompt, options=options)
    assert watched.model().prefill_rate is not None
    stream = watched.client.generate(
        "tiny-agent", "7 is the number of " + "words and more words " * 100,
        options=options, stream=True,
    )  # fmt: skip
    # The request is sent by the first read.
    next(iter(stream))
    running = watched.view().calls[0]
    assert running.state == "running"
    estimate = running.prefill_estimate
    for _ in stream:
        pass
    ended = watched.view().calls[0]
    assert estimate is not None
    model = watched.model()
    assert model.prefill_rate is not None
    assert ended.input_tokens is not None
    # By the rate that was learnt before: the tokens were estimated well.
    assert estimate == pytest.approx(ended.input_tokens / model.prefill_rate, rel=0.5)


APP = """
import sys
from ollama_otel import Client, configure
telemetry = configure(prometheus="127.0.0.1:0", residency=True, residency_interval=0.2)
client = Client(sys.argv[1])
client.chat("tiny-agent", [{"role": "user", "content": "Hello"}])
print(telemetry.scrape_endpoint.url, flush=True)
while True:
    client.chat("tiny-agent", [{"role": "user", "content": "Hello"}])
"""


def test_the_scrape_endpoint_and_ps_alone_are_enough(cold_ollama: RealOllama) -> None:
    app = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(APP), cold_ollama.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert app.stdout is not None
        url = app.stdout.readline().strip()
        deadline = time.monotonic() + PATIENCE
        view = shown("--scrape", url)
        while not (view["rates"]["ended"] and view["loaded"]):
            assert time.monotonic() < deadline, view
            view = shown("--scrape", url)
    finally:
        app.kill()
        app.communicate()
    rates = view["rates"]
    assert rates["output_tokens"] > 0
    assert rates["duration"] > 0
    (model,) = view["models"]
    assert (model["model"], model["is_loaded"], model["server"]) == (
        "tiny-agent",
        True,
        f"localhost:{cold_ollama.port}",
    )
    by_ps = shown("--host", cold_ollama.url)
    assert (by_ps["in_flight"], by_ps["rates"], by_ps["loaded"]) == (None, None, 1)
    assert by_ps["models"][0]["memory"] == model["memory"]


def shown(*arguments: str) -> dict:
    ran = subprocess.run(
        [sys.executable, "-m", "ollama_otel._cli", "top", *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return json.loads(ran.stdout)
