"""What is open when the telemetry ends ends once, alike for all, and the caller reads on."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from ollama_otel import AsyncClient, CallFollower, Client, Settings, instrument_client
from ollama_otel._exchange import open_calls
from ollama_otel._exchange.body import PIECES_AT_ONCE
from ollama_otel._exchange.exchange import Exchange
from ollama_otel._exchange.observers import Instrumentation
from ollama_otel._exchange.streams import CompletionStream
from ollama_otel._guard import guard
from ollama_otel._wire.endpoints import dialect_of, find_endpoint
from ollama_otel.records import CallRecord, CallStart
from ollama_otel.replay import ReplayLog, read
from ollama_otel.testing import Capture, FakeOllama
from tests.exchange.shell import as_shell
from tests.scripts import run_script

HELLO = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
LINES = [
    b'{"message":{"role":"assistant","content":"t%d"},"done":false}\n' % number
    for number in range(150)
] + [b'{"message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}\n']
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")


def served(request: httpx.Request) -> httpx.Response:
    headers = {"content-type": "application/x-ndjson"}
    return httpx.Response(200, headers=headers, content=iter(LINES))


def recorded(capture: Capture, handler: Any = served, **options: Any) -> httpx.Client:
    client = httpx.Client(base_url="http://h:1", transport=httpx.MockTransport(handler))
    return instrument_client(client, **{**capture.options, **options})


def outcomes(capture: Capture) -> tuple[list[Any], dict[str, float]]:
    """By span, and by metric."""
    spans = [(span.attributes or {})["ollama.outcome"] for span in capture.spans]
    counts = {
        str(point.attributes["ollama.outcome"]): float(point.count or 0)
        for point in capture.metrics()["gen_ai.client.operation.duration"]
    }
    return spans, counts


class Pieces(CallFollower):
    """An own observer, which counts what it gets."""

    def __init__(self) -> None:
        self.seen = 0
        self.ends: list[CallRecord] = []

    def begin(self, start: CallStart) -> CallFollower:
        return self

    def pieces(self, pieces: Sequence[bytes], arrivals: Sequence[float]) -> None:
        assert not self.ends
        assert len(pieces) == len(arrivals)
        self.seen += len(pieces)

    def end(self, record: CallRecord) -> None:
        self.ends.append(record)


@pytest.mark.parametrize("read_before", [0, 1, 64, 70, 150])
def test_an_open_stream_ends_once_and_alike_for_all_and_is_read_on(
    capture: Capture, tmp_path: Path, read_before: int
) -> None:
    own, log = Pieces(), ReplayLog(tmp_path / "calls.jsonl", bodies=True)
    client = recorded(capture, observers=(own, log, capture.observer))
    with client.stream("POST", "/api/chat", json=HELLO) as response:
        body = response.iter_raw()
        got = [next(body) for _ in range(read_before)]
        open_calls.end_all()
        assert outcomes(capture) == (["cancelled"], {"cancelled": 1})
        got += list(body)
    assert got == LINES
    open_calls.end_all()
    assert outcomes(capture) == (["cancelled"], {"cancelled": 1})
    [record] = own.ends
    assert own.seen == read_before
    assert (record.outcome, record.ending) == ("cancelled", "cancelled")
    assert record.chunk_count == read_before
    assert capture.records == [record]
    log.close()
    [call] = read(tmp_path / "calls.jsonl")
    assert call.record is not None
    assert (call.record.outcome, call.record.chunk_count) == ("cancelled", read_before)


def test_a_call_whose_last_message_was_read_has_completed(capture: Capture) -> None:
    with recorded(capture).stream("POST", "/api/chat", json=HELLO) as response:
        lines = response.iter_lines()
        assert any('"done":true' in line for line in lines)
        assert len(open_calls._open) == 1
        open_calls.end_all()
    assert outcomes(capture) == (["completed"], {"completed": 1})


def test_a_call_that_the_server_refused_has_failed(capture: Capture) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        return httpx.Response(404, content=iter([b'{"error":"model not found"}']))

    client = recorded(capture, refuse)
    with client.stream("POST", "/api/chat", json=HELLO) as response:
        open_calls.end_all()
        assert response.read() == b'{"error":"model not found"}'
    assert outcomes(capture) == (["failed"], {"failed": 1})


def test_a_call_that_waits_for_its_answer_is_cancelled_and_gets_it(capture: Capture) -> None:
    def ended_meanwhile(request: httpx.Request) -> httpx.Response:
        open_calls.end_all()
        return served(request)

    own = Pieces()
    client = recorded(capture, ended_meanwhile, observers=(own,))
    answer = client.post("/api/chat", json=HELLO)
    assert answer.content == b"".join(LINES)
    assert outcomes(capture) == (["cancelled"], {"cancelled": 1})
    assert own.seen == 0
    assert own.ends[0].http_status is None


def test_an_end_from_another_thread_leaves_the_caller_s_context_as_it_was(
    capture: Capture,
) -> None:
    from opentelemetry import trace

    inside, outside = [], []

    def ended_meanwhile(request: httpx.Request) -> httpx.Response:
        inside.append(trace.get_current_span().get_span_context().span_id)
        thread = threading.Thread(target=open_calls.end_all)
        thread.start()
        thread.join()
        inside.append(trace.get_current_span().get_span_context().span_id)
        return served(request)

    outside.append(trace.get_current_span())
    recorded(capture, ended_meanwhile).post("/api/chat", json=HELLO)
    outside.append(trace.get_current_span())
    assert inside[0] == inside[1] != 0
    assert outside[0] is outside[1]


def test_threads_that_are_inside_at_once_leave_their_own_contexts(capture: Capture) -> None:
    from opentelemetry import trace

    is_inside, may_leave = threading.Event(), threading.Event()

    class Slow(CallFollower):
        def begin(self, start: CallStart) -> CallFollower:
            return self

        def end(self, record: CallRecord) -> None:
            is_inside.set()
            assert may_leave.wait(60)

    ending = threading.Thread(target=open_calls.end_all)

    def ended_meanwhile(request: httpx.Request) -> httpx.Response:
        ending.start()
        assert is_inside.wait(60)
        return served(request)

    before = trace.get_current_span()
    recorded(capture, ended_meanwhile, observers=(Slow(),)).post("/api/chat", json=HELLO)
    assert trace.get_current_span() is before
    may_leave.set()
    ending.join()
    assert outcomes(capture) == (["cancelled"], {"cancelled": 1})


def test_a_head_that_comes_at_the_same_time_gives_nobody_pieces() -> None:
    own = Pieces()
    is_head_read = False

    def clock() -> float:
        if is_head_read:
            open_calls.end_all()
        return 0.0

    class Handler(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            nonlocal is_head_read
            is_head_read = True
            return served(request)

    instrumentation = Instrumentation(observers=(own,), clock=clock)
    client = httpx.Client(base_url="http://h:1", transport=Handler())
    instrument_client(client, instrumentation=instrumentation)
    assert client.post("/api/chat", json=HELLO).content == b"".join(LINES)
    assert [record.outcome for record in own.ends] == ["cancelled"]
    assert own.seen == 0


def test_what_comes_after_the_reading_was_taken_over_is_dropped() -> None:
    endpoint = find_endpoint("POST", "/api/chat")
    assert endpoint is not None
    reader = CompletionStream(dialect_of(endpoint), lambda: 0.0, watches_tools=False)
    take, pull = as_shell(reader.inlets())
    pull()
    take(LINES[0])
    assert reader.seize(0.0)
    for line in LINES[1:]:
        pull()
        take(line)
    assert not reader.facts().done
    assert reader.size == len(LINES[0])
    assert reader.timings(0.0, 0.0)["chunk_count"] == 1
    assert max(map(len, reader._unread)) < PIECES_AT_ONCE


def test_an_async_call_that_waits_ends_in_its_own_loop(capture: Capture) -> None:
    async def main() -> None:
        waiting = asyncio.Event()

        async def hang(request: httpx.Request) -> httpx.Response:
            waiting.set()
            await asyncio.sleep(3600)
            raise AssertionError

        client = AsyncClient(transport=httpx.MockTransport(hang), **capture.options)
        call = asyncio.ensure_future(client.list())
        await waiting.wait()
        open_calls.end_all()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(main())
    assert [(span.attributes or {})["ollama.outcome"] for span in capture.spans] == ["cancelled"]


@pytest.mark.slow
def test_each_call_ends_once_whichever_thread_ends_it(capture: Capture) -> None:
    bodies = [
        recorded(capture).send(
            httpx.Client(base_url="http://h:1").build_request("POST", "/api/chat", json=HELLO),
            stream=True,
        )
        for _ in range(40)
    ]
    begin = threading.Barrier(9)
    read: list[bytes] = []

    def read_all(mine: Sequence[httpx.Response]) -> None:
        begin.wait()
        read.extend(response.read() for response in mine)

    def end() -> None:
        begin.wait()
        for _ in range(20):
            open_calls.end_all()

    threads = [threading.Thread(target=read_all, args=(bodies[n::5],)) for n in range(5)]
    threads += [threading.Thread(target=end) for _ in range(3)]
    for thread in threads:
        thread.start()
    begin.wait()
    for thread in threads:
        thread.join()
    spans, counts = outcomes(capture)
    assert len(spans) == sum(counts.values()) == len(capture.records) == 40
    assert {name: float(spans.count(name)) for name in set(spans)} == counts
    assert set(spans) <= {"completed", "cancelled"}
    assert read == [b"".join(LINES)] * 40
    assert not open_calls._open


@pytest.mark.slow
def test_a_thread_that_is_held_while_it_reads_pieces_loses_the_facts_and_not_the_call(
    capture: Capture,
) -> None:
    class Held(CallFollower):
        """As a signal handler that waits for another thread."""

        def begin(self, start: CallStart) -> CallFollower:
            return self

        def pieces(self, pieces: Sequence[bytes], arrivals: Sequence[float]) -> None:
            thread = threading.Thread(target=open_calls.end_all)
            thread.start()
            thread.join()

    client = recorded(capture, observers=(Held(), capture.observer))
    assert client.post("/api/chat", json=HELLO).content == b"".join(LINES)
    [record] = capture.records
    assert (record.outcome, record.chunk_count, record.response_size) == ("cancelled", 0, 0)
    assert "ollama.response.chunk_count" not in (capture.spans[0].attributes or {})
    assert outcomes(capture) == (["cancelled"], {"cancelled": 1})


@pytest.mark.slow
def test_an_abandoned_stream_is_not_kept_alive(capture: Capture) -> None:
    client = Client(transport=FakeOllama().transport(), **capture.options)
    stream = client.chat("llama3.2", messages=[{"role": "user", "content": "Hi"}], stream=True)
    next(stream)
    assert len(open_calls._open) == 1
    del stream
    gc.collect()
    assert [record.outcome for record in capture.records] == ["abandoned"]
    assert not open_calls._open


def test_an_observer_that_fails_does_not_keep_others_open(
    capture: Capture, quiet_guard: None
) -> None:
    class Broken(CallFollower):
        def begin(self, start: CallStart) -> CallFollower:
            return self

        def end(self, record: CallRecord) -> None:
            raise ValueError

    client = recorded(capture, observers=(Broken(), capture.observer))
    opened: list[Iterator[bytes]] = []
    for _ in range(3):
        request = client.build_request("POST", "/api/chat", json=HELLO)
        opened.append(client.send(request, stream=True).iter_raw())
    open_calls.end_all()
    assert [record.outcome for record in capture.records] == ["cancelled"] * 3
    assert guard.faults


@pytest.mark.slow
def test_slow_observers_do_not_take_longer_than_the_limit(
    capture: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    ends: list[CallRecord] = []

    class Slow(CallFollower):
        def begin(self, start: CallStart) -> CallFollower:
            return self

        def end(self, record: CallRecord) -> None:
            ends.append(record)
            time.sleep(0.3)

    client = recorded(capture, observers=(Slow(),))
    request = client.build_request("POST", "/api/chat", json=HELLO)
    opened = [client.send(request, stream=True) for _ in range(5)]
    assert not open_calls.end_all(0.2)
    assert len(ends) == 1
    assert "4 open calls were not ended within 0.2 s" in caplog.text
    assert open_calls.end_all(60)
    assert len(ends) == len(opened)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["closed", "exhausted", "shut_down"])
def test_an_end_waits_for_the_calls_that_other_threads_are_ending(
    capture: Capture, end: str
) -> None:
    """What ends the observers next would lose these: a log had no line of a call that has a span."""
    is_inside, may_leave = threading.Event(), threading.Event()
    ends: list[CallRecord] = []

    class Slow(CallFollower):
        def begin(self, start: CallStart) -> CallFollower:
            return self

        def end(self, record: CallRecord) -> None:
            is_inside.set()
            assert may_leave.wait(60)
            ends.append(record)

    client = recorded(capture, observers=(Slow(),))
    response = client.send(client.build_request("POST", "/api/chat", json=HELLO), stream=True)
    ways = {
        "closed": response.close,
        "exhausted": response.read,
        "shut_down": open_calls.end_all,
    }
    first = threading.Thread(target=ways[end])
    first.start()
    assert is_inside.wait(60)
    assert not open_calls.end_all(0.01)
    second = threading.Thread(target=open_calls.end_all, args=(60,))
    second.start()
    second.join(0.1)
    assert second.is_alive()
    assert not ends
    may_leave.set()
    second.join(60)
    assert len(ends) == 1
    first.join(60)
    assert open_calls.end_all(0.0)


def test_a_thread_that_shuts_down_while_it_ends_a_call_does_not_wait_for_itself(
    capture: Capture,
) -> None:
    ended: list[bool] = []

    class Last(CallFollower):
        def begin(self, start: CallStart) -> CallFollower:
            return self

        def end(self, record: CallRecord) -> None:
            ended.append(open_calls.end_all(0.01))

    recorded(capture, observers=(Last(),)).post("/api/chat", json=HELLO)
    assert ended == [True]


def test_an_exchange_is_known_from_its_begin_to_its_end(capture: Capture) -> None:
    with recorded(capture).stream("POST", "/api/chat", json=HELLO):
        [call] = open_calls._open
        assert isinstance(call, Exchange)
        assert not call.is_finished
    assert call.is_finished


# --- the process ------------------------------------------------------------------------------


OPEN_A_STREAM = """
import json, os, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from ollama_otel import Client, Settings
from ollama_otel.testing import FakeOllama

class Printer(SpanExporter):
    def export(self, spans):
        for span in spans:
            print(WHO, span.name, span.attributes.get("ollama.outcome"), flush=True)
        return SpanExportResult.SUCCESS

WHO = "parent"

def make_provider():
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Printer()))
    return provider

def open_stream(client):
    stream = client.chat("llama3.2", messages=[{"role": "user", "content": "Hi"}], stream=True)
    next(stream)
    return stream
"""


def outcomes_in(folder: Path) -> list[str | None]:
    """Of all calls in a log; None for one without an end."""
    return [call.record and call.record.outcome for call in read(folder)]


@pytest.mark.processes
@pytest.mark.parametrize(
    "program",
    [
        "stream = open_stream(Client(transport=FakeOllama().transport(), tracer_provider=make_provider()))",
        # The hook of the SDK is registered after that of this library.
        """
client = Client(transport=FakeOllama().transport())
client.list()
trace.set_tracer_provider(make_provider())
stream = open_stream(client)
""",
    ],
)
def test_what_is_open_at_exit_reaches_the_providers_of_an_app(program: str) -> None:
    assert run_script(OPEN_A_STREAM + program) == "parent chat llama3.2 cancelled\n"


@pytest.mark.processes
def test_what_is_open_at_exit_reaches_a_log_that_was_made_later(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    script = f"""
from ollama_otel.replay import ReplayLog
Client(transport=FakeOllama().transport()).list()
client = Client(transport=FakeOllama().transport(), observers=[ReplayLog({str(path)!r})])
stream = open_stream(client)
"""
    run_script(OPEN_A_STREAM + script)
    assert outcomes_in(tmp_path) == ["cancelled"]


@pytest.mark.processes
@needs_fork
def test_a_child_does_not_end_the_calls_of_its_parent(tmp_path: Path) -> None:
    script = f"""
client = Client(
    transport=FakeOllama().transport(), tracer_provider=make_provider(),
    settings=Settings(replay_log={str(tmp_path / "calls.jsonl")!r}),
)
stream = open_stream(client)
child = os.fork()
if child == 0:
    WHO = "child"
    list(stream)  # it reads the memory of the parent
    own = open_stream(client)
    sys.exit()
os.waitpid(child, 0)
"""
    said = run_script(OPEN_A_STREAM + script).splitlines()
    assert said == ["child chat llama3.2 cancelled", "parent chat llama3.2 cancelled"]
    assert outcomes_in(tmp_path) == ["cancelled"] * 2


@pytest.mark.processes
@needs_fork
def test_what_is_open_at_the_end_of_a_child_of_multiprocessing_is_logged(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    script = f"""
import multiprocessing
settings = Settings(replay_log={str(path)!r})
client = Client(transport=FakeOllama().transport(), settings=settings)
parent_s = open_stream(client)

def work():
    global stream
    stream = open_stream(client)

process = multiprocessing.get_context("fork").Process(target=work)
process.start()
process.join()
"""
    run_script(OPEN_A_STREAM + script)
    assert outcomes_in(tmp_path) == ["cancelled"] * 2


def test_settings_are_not_needed_to_end_a_call() -> None:
    capture = Capture()
    client = recorded(capture, settings=Settings())
    with client.stream("POST", "/api/chat", json=HELLO):
        open_calls.end_all()
    assert outcomes(capture) == (["cancelled"], {"cancelled": 1})
