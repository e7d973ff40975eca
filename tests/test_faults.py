"""Our failure is never theirs: broken observers, exporters, meters, clocks, forks and floods."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
import os
import random
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.metrics import NoOpMeter, NoOpMeterProvider
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import NoOpTracerProvider

from ollama_otel import CallFollower, CallRecord, CallStart, Settings, build_instrumentation
from ollama_otel import _names as names
from ollama_otel._exchange.observers import CallTrace, Tracing
from ollama_otel._guard import guard
from ollama_otel._telemetry import instruments as rows
from ollama_otel.testing import Capture, FakeOllama, Fault
from tests.examples import examples

from .colours import COLOURS, Colour, closed, done, each
from .scripts import run_script

pytestmark = pytest.mark.filterwarnings(
    "ignore:Async generator .* was garbage collected:ResourceWarning"
)

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "Hello"}]}
SAID = "Hello! I am a fake model. How can I help you today?"


@pytest.fixture(params=COLOURS[:2])
def colour(request: pytest.FixtureRequest) -> Colour:
    return Colour(request.param)


def talk(colour: Colour, **options: Any) -> FakeOllama:
    """A document, a whole stream, a stream left early and an error, all as they should be."""
    server = FakeOllama()

    async def scenario() -> None:
        client = colour.ours("http://h", transport=server.transport(), **options)
        assert (await done(client.chat(**CHAT))).message.content == SAID
        parts = [part async for part in each(await done(client.chat(**CHAT, stream=True)))]
        assert "".join(part.message.content for part in parts) == SAID
        stream = each(await done(client.chat(**CHAT, stream=True)))
        await anext(stream)
        await stream.aclose()
        with pytest.raises(Exception, match="not found"):
            await done(client.chat("no-such-model"))
        await closed(client)

    colour.run(scenario)
    assert len(server.requests) == 4
    return server


TALKED = ["completed", "completed", "abandoned", "failed"]


# --- observers ----------------------------------------------------------------------------


class OursError(Exception):
    """What goes wrong in an observer."""


class Broken(CallFollower):
    """Raises in the methods named."""

    def __init__(self, broken: Sequence[str]) -> None:
        self._broken = broken

    def _do(self, what: str) -> None:
        if what in self._broken:
            raise OursError(what)

    def pieces(self, pieces: Sequence[bytes], arrivals: Sequence[float]) -> None:
        self._do("pieces")

    def end(self, record: CallRecord) -> None:
        self._do("end")


class BrokenObserver:
    def __init__(self, *broken: str) -> None:
        self._broken = broken

    def begin(self, start: CallStart) -> Any:
        if "begin" in self._broken:
            raise OursError("begin")
        return object() if "nonsense" in self._broken else Broken(self._broken)


class BrokenTracing(Tracing):
    """Traces as `inner` does, and then raises in the methods named."""

    def __init__(self, inner: Tracing, *broken: str) -> None:
        self._inner = inner
        self._broken = broken

    def begin(self, start: CallStart) -> CallTrace:
        return BrokenTrace(self._inner.begin(start), self._broken)


class BrokenTrace(CallTrace):
    def __init__(self, inner: CallTrace, broken: Sequence[str]) -> None:
        self._inner = inner
        self._broken = broken
        self.ids = inner.ids

    def _do(self, what: str) -> None:
        if what in self._broken:
            raise OursError(what)

    def headers(self) -> Mapping[str, str]:
        self._do("headers")
        bad: dict[str, Any] = {"x-bad": 7} if "bad header" in self._broken else {}
        return {**self._inner.headers(), **bad}

    def enter(self) -> None:
        self._inner.enter()
        self._do("enter")

    def exit(self) -> None:
        self._inner.exit()
        self._do("exit")

    def end(self, record: CallRecord) -> None:
        self._inner.end(record)
        self._do("end")


def assert_each_fault_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """One for each kind of fault, however many there were."""
    assert sum(guard.faults.values()) >= 4
    warnings = [
        r for r in caplog.records if r.name == "ollama_otel" and r.levelno >= logging.WARNING
    ]
    assert len(warnings) == len(guard.faults)
    assert len({r.getMessage() for r in warnings}) == len(warnings)
    # Where, without content: see test_guard.py.
    assert all('File "' in r.getMessage() for r in warnings)


METHODS = ["begin", "pieces", "end"]
TRACE_METHODS = ["headers", "bad header", "enter", "exit", "end"]


@pytest.mark.slow
@pytest.mark.usefixtures("quiet_guard")
@pytest.mark.parametrize("broken", [*METHODS, "everything"])
def test_a_broken_observer_costs_a_warning_and_nothing_else(
    colour: Colour, broken: str, capture: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    observer = BrokenObserver(*(METHODS[1:] if broken == "everything" else [broken]))
    options = capture.options | {"observers": (observer, capture.observer)}
    server = talk(colour, **options)
    assert [record.outcome for record in capture.records] == TALKED
    assert len(capture.spans) == 4
    assert {point.value for point in capture.metrics()[rows.ACTIVE_REQUESTS.name]} == {0}
    assert all("traceparent" in request.headers for request in server.requests)
    assert_each_fault_is_a_warning(caplog)


@pytest.mark.usefixtures("quiet_guard")
@pytest.mark.parametrize("broken", [*TRACE_METHODS, "everything"])
def test_a_broken_tracing_costs_a_warning_and_nothing_else(
    colour: Colour, broken: str, capture: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    whole = build_instrumentation(**capture.options)
    methods = TRACE_METHODS if broken == "everything" else [broken]
    tracing = BrokenTracing(whole.tracing, *methods)
    server = talk(colour, instrumentation=dataclasses.replace(whole, tracing=tracing))
    assert [record.outcome for record in capture.records] == TALKED
    assert len(capture.spans) == 4
    assert {point.value for point in capture.metrics()[rows.ACTIVE_REQUESTS.name]} == {0}
    has_headers = broken not in {"headers", "everything"}
    assert all(("traceparent" in asked.headers) == has_headers for asked in server.requests)
    assert_each_fault_is_a_warning(caplog)


@pytest.mark.usefixtures("quiet_guard")
def test_an_observer_that_begins_with_nonsense_does_not_take_the_others_along(
    colour: Colour, capture: Capture
) -> None:
    options = capture.options | {"observers": (BrokenObserver("nonsense"), capture.observer)}
    talk(colour, **options)
    assert [record.outcome for record in capture.records] == TALKED
    assert len(capture.spans) == 4
    assert {point.value for point in capture.metrics()[rows.ACTIVE_REQUESTS.name]} == {0}


class InterruptedFollower(CallFollower):
    def end(self, record: CallRecord) -> None:
        raise KeyboardInterrupt


class InterruptedObserver:
    """Ctrl-C comes while it takes a record."""

    def begin(self, start: CallStart) -> CallFollower:
        return InterruptedFollower()


class InterruptedEnricher:
    """Ctrl-C comes while it adds its facts."""

    def begin(self, start: CallStart) -> Callable[[CallRecord], None]:
        return InterruptedFollower().end


@pytest.mark.parametrize(
    "broken", [{"observers": [InterruptedObserver()]}, {"enrichers": [InterruptedEnricher()]}]
)
def test_an_interrupt_while_a_record_is_handed_over_ends_the_span(
    colour: Colour, broken: dict[str, Any], capture: Capture
) -> None:
    async def scenario() -> None:
        options = capture.options | broken
        client = colour.ours("http://h", transport=FakeOllama().transport(), **options)
        with pytest.raises(KeyboardInterrupt):
            await done(client.chat(**CHAT))

    colour.run(scenario)
    (span,) = capture.spans
    assert (span.attributes or {})[names.OUTCOME] == "completed"


# --- OpenTelemetry itself -----------------------------------------------------------------


class Exporter(SpanExporter):
    def __init__(self, export: Callable[[], Any]) -> None:
        self._export = export
        self.count = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.count += len(spans)
        self._export()
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


def fail() -> None:
    raise OursError("exporter")


@pytest.mark.parametrize("processor", [SimpleSpanProcessor, BatchSpanProcessor])
@pytest.mark.parametrize("behaviour", ["fails", "raises", "slow"])
def test_a_bad_exporter_does_not_change_the_call(
    colour: Colour, processor: Any, behaviour: str
) -> None:
    behaviours: dict[str, Callable[[], Any]] = {
        "fails": lambda: None,
        "raises": fail,
        "slow": lambda: time.sleep(0.01),
    }
    exporter = Exporter(behaviours[behaviour])
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor(exporter))
    talk(colour, tracer_provider=provider)
    provider.shutdown()
    assert exporter.count == 4


def test_an_exporter_that_hangs_behind_a_batch_holds_up_no_call(colour: Colour) -> None:
    is_over = threading.Event()
    exporter = Exporter(is_over.wait)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(
        BatchSpanProcessor(exporter, max_export_batch_size=1, schedule_delay_millis=1)
    )
    began = time.monotonic()
    for _ in range(5):
        talk(colour, tracer_provider=provider)
    assert time.monotonic() - began < 5
    is_over.set()
    provider.shutdown()
    assert exporter.count == 20


class BrokenProcessor(SpanProcessor):
    def __init__(self, broken: str) -> None:
        self._broken = broken

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        if self._broken == "on_start":
            fail()

    def on_end(self, span: ReadableSpan) -> None:
        if self._broken == "on_end":
            fail()


class BrokenSampler(Sampler):
    def should_sample(self, *args: Any, **kwargs: Any) -> Any:
        fail()

    def get_description(self) -> str:
        return "broken"


@pytest.mark.usefixtures("quiet_guard")
@pytest.mark.parametrize("broken", ["on_start", "on_end", "sampler"])
def test_a_broken_processor_or_sampler_does_not_change_the_call(
    colour: Colour, broken: str, capture: Capture
) -> None:
    sampler = BrokenSampler() if broken == "sampler" else None
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(BrokenProcessor(broken))
    talk(colour, **capture.options | {"tracer_provider": provider})
    assert [record.outcome for record in capture.records] == TALKED
    assert {point.value for point in capture.metrics()[rows.ACTIVE_REQUESTS.name]} == {0}


class BrokenInstrument:
    def record(self, *args: Any, **kwargs: Any) -> None:
        fail()

    add = record


class BrokenMeter(NoOpMeter):
    def create_histogram(self, *args: Any, **kwargs: Any) -> Any:
        return BrokenInstrument()


class BrokenMeterProvider(NoOpMeterProvider):
    def get_meter(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return BrokenMeter(name)


@pytest.mark.usefixtures("quiet_guard")
@pytest.mark.parametrize("times_chunks", [False, True])
def test_a_broken_meter_does_not_change_the_call(
    colour: Colour, capture: Capture, times_chunks: bool
) -> None:
    settings = Settings(time_per_output_chunk=times_chunks)
    talk(
        colour, **capture.options | {"meter_provider": BrokenMeterProvider(), "settings": settings}
    )
    assert [record.outcome for record in capture.records] == TALKED
    assert len(capture.spans) == 4


class BrokenTracerProvider(NoOpTracerProvider):
    def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
        fail()


@pytest.mark.usefixtures("quiet_guard")
def test_a_set_up_that_fails_at_the_first_call_does_not_change_the_call(
    colour: Colour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a client follows by default is looked up only when it is used."""
    from ollama_otel._telemetry import instrumentation

    monkeypatch.setattr(instrumentation, "_default", None)
    monkeypatch.setattr(instrumentation, "get_tracer", BrokenTracerProvider().get_tracer)
    talk(colour)
    assert sum(guard.faults.values()) == 4


# --- clocks -------------------------------------------------------------------------------


def with_clocks(client: Any, **clocks: Any) -> None:
    transport = client._client._transport
    instrumentation = dataclasses.replace(transport._instrumentation(), **clocks)
    transport._instrumentation = lambda: instrumentation


@given(seed=st.integers(0, 2**32), size=st.sampled_from([1e-3, 1.0, 1e9]))
@settings(
    max_examples=examples(30),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_clocks_that_jump_do_not_change_the_call_or_its_outcome(seed: int, size: float) -> None:
    capture, chance = Capture(), random.Random(seed)
    client = Colour("sync").ours("http://h", transport=FakeOllama().transport(), **capture.options)
    with_clocks(
        client,
        clock=lambda: chance.uniform(-size, size),
        wall_clock=lambda: chance.randint(0, 2**62),
    )
    assert client.chat(**CHAT).message.content == SAID
    assert "".join(part.message.content for part in client.chat(**CHAT, stream=True)) == SAID
    client.close()
    assert [record.outcome for record in capture.records] == ["completed"] * 2
    assert len(capture.spans) == 2


def test_a_wall_clock_that_is_set_back_makes_no_span_that_ends_before_it_starts(
    capture: Capture,
) -> None:
    client = Colour("sync").ours("http://h", transport=FakeOllama().transport(), **capture.options)
    hours = iter([5, 4, 3, 2, 1])
    with_clocks(client, wall_clock=lambda: next(hours) * 3_600_000_000_000)
    client.chat(**CHAT)
    client.chat(**CHAT)
    client.close()
    assert all(0 <= (span.end_time or 0) - (span.start_time or 0) < 1e9 for span in capture.spans)


@pytest.mark.usefixtures("quiet_guard")
def test_a_clock_that_fails_does_not_change_the_call() -> None:
    readings = iter(range(10**6))

    def clock(fails_at: int) -> Callable[[], float]:
        def read() -> float:
            reading = next(readings)
            if reading % 7 == fails_at:
                raise OursError("clock")
            return float(reading)

        return read

    capture = Capture()
    for fails_at in range(7):
        client = Colour("sync").ours(
            "http://h", transport=FakeOllama().transport(), **capture.options
        )
        with_clocks(client, wall_clock=clock(fails_at))
        for _ in range(7):
            assert client.chat(**CHAT).message.content == SAID
        client.close()
    assert len(capture.records) == 42


# --- processes ----------------------------------------------------------------------------


FORKING = """
    import os, sys
    from ollama_otel import Client
    from ollama_otel._telemetry import instruments as rows
    from ollama_otel.testing import Capture, FakeOllama

    capture, chat = Capture(), ("llama3.2", [{"role": "user", "content": "Hello"}])
    client = Client("http://h", transport=FakeOllama().transport(), **capture.options)
    for _ in range(3):
        client.chat(*chat)
    left_open = client.chat(*chat, stream=True)
    next(left_open)
    capture.clear()

    def calls(count):
        for _ in range(count):
            client.chat(*chat)
            assert list(client.chat(*chat, stream=True))[-1].done

    def report(name):
        active = {point.value for point in capture.metrics()[rows.ACTIVE_REQUESTS.name]}
        outcomes = sorted({record.outcome for record in capture.records})
        print(name, len(capture.spans), len(capture.records), outcomes, active, flush=True)

    child = os.fork()
    if child == 0:
        calls(5)
        report("child")
        os._exit(0)
    calls(4)
    _, status = os.waitpid(child, 0)
    assert status == 0
    report("parent")
    left_open.close()
    report("closed")
"""


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_after_a_fork_both_sides_count_their_own_calls() -> None:
    lines = run_script(FORKING).splitlines()
    assert lines == [
        # The stream that the parent had open is none of the child's.
        "child 10 10 ['completed'] {0}",
        "parent 8 8 ['completed'] {1}",
        "closed 9 9 ['abandoned', 'completed'] {0}",
    ]


GARBAGE = """
    import faulthandler, gc, sys
    from ollama_otel import Client
    from ollama_otel.testing import Capture, FakeOllama

    faulthandler.dump_traceback_later(6, exit=True)
    capture, chat = Capture(), ("llama3.2", [{"role": "user", "content": "Hello"}])
    client = Client("http://h", transport=FakeOllama().transport(), **capture.options)

    def leave():
        cycle = [client.chat(*chat, stream=True)]
        cycle.append(cycle)
        next(cycle[0])

    gc.collect()
    gc.freeze()
    gc.set_threshold(int(sys.argv[1]), 1, 1)
    for index in range(150):
        leave()
        if index % 3 == 0:
            capture.metrics()
    gc.set_threshold(700, 10, 10)
    gc.collect()
    client.chat(*chat)
    print(len(capture.records), len(capture.spans))
"""


@pytest.mark.processes
@pytest.mark.parametrize("threshold", [7, 101])
def test_a_stream_that_is_collected_while_metrics_are_does_not_lock_up_the_process(
    threshold: int,
) -> None:
    """The collector runs anywhere, also where the SDK holds a lock that a record needs."""
    assert run_script(GARBAGE, str(threshold), timeout=30).split() == ["151", "151"]


BAD_SETTINGS = {
    "OLLAMA_OTEL_PROFILE": "v9",
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "everywhere",
    "OLLAMA_OTEL_COLD_START_THRESHOLD": "soon",
    "OLLAMA_OTEL_MAX_MODELS": "-1",
}


@pytest.mark.processes
@pytest.mark.parametrize("variable", BAD_SETTINGS)
def test_a_broken_variable_costs_one_warning(variable: str) -> None:
    script = """
        from ollama_otel import Client
        from ollama_otel.testing import FakeOllama

        for _ in range(3):
            client = Client("http://h", transport=FakeOllama().transport())
            for _ in range(3):
                print(client.chat("llama3.2", [{"role": "user", "content": "Hello"}]).done)
    """
    lines = run_script(script, **{variable: BAD_SETTINGS[variable]}).splitlines()
    assert lines.count("True") == 9
    (warning,) = [line for line in lines if line != "True"]
    assert warning.startswith(f"{variable}: expected ")
    assert warning.endswith("; using the default")


# --- floods -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("streams", [False, True])
def test_many_threads_on_one_client_are_counted_exactly(capture: Capture, streams: bool) -> None:
    server = FakeOllama()
    client = Colour("sync").ours("http://h", transport=server.transport(), **capture.options)

    def calls(_: int) -> None:
        for index in range(50):
            if index % 10 == 9:
                server.fault("/api/chat-is-well", Fault(cut_at=1))
            answer = client.chat(**CHAT, stream=streams)
            text = (
                "".join(part.message.content for part in answer)
                if streams
                else answer.message.content
            )
            assert text == SAID

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(calls, range(20))) == [None] * 20
    client.close()
    assert len(capture.records) == len(capture.spans) == 1000
    assert {record.outcome for record in capture.records} == {"completed"}
    assert capture.total(rows.ACTIVE_REQUESTS.name) == 0
    assert duration_count(capture) == 1000
    contexts = {span.context.span_id for span in capture.spans if span.context}
    assert len(contexts) == 1000
    # Each request carried its own.
    sent = {int(request.headers["traceparent"].split("-")[2], 16) for request in server.requests}
    assert sent == contexts


def duration_count(capture: Capture) -> int:
    return sum(
        point.count or 0
        for name, points in capture.metrics().items()
        if name.endswith("duration")
        for point in points
        if names.OUTCOME in point.attributes
    )


@pytest.mark.slow
def test_a_hundred_streams_at_once_keep_their_contexts_apart(capture: Capture) -> None:
    server = FakeOllama()
    tracer = capture.tracer_provider.get_tracer("app")

    async def stream(client: Any) -> None:
        with tracer.start_as_current_span("app") as app:
            mine = f"{app.get_span_context().trace_id:032x}"
            messages = [{"role": "user", "content": mine}]
            parts = []
            async for part in await client.chat("llama3.2", messages, stream=True):
                parts.append(part.message.content)
                with tracer.start_as_current_span("part") as inside:
                    assert f"{inside.get_span_context().trace_id:032x}" == mine
                await asyncio.sleep(0)
            assert "".join(parts) == SAID

    async def flood() -> None:
        client = Colour("asyncio").ours("http://h", transport=server.transport(), **capture.options)
        await asyncio.gather(*(stream(client) for _ in range(100)))
        await client.close()

    asyncio.run(flood())
    assert len(server.requests) == 100
    chats = {
        span.context.span_id: span
        for span in capture.spans
        if span.name == "chat llama3.2" and span.context
    }
    apps = {
        span.context.span_id: span for span in capture.spans if span.name == "app" and span.context
    }
    assert len(chats) == len(apps) == 100
    for request in server.requests:
        _, trace_id, span_id, _ = request.headers["traceparent"].split("-")
        assert request.json()["messages"][0]["content"] == trace_id
        span = chats.pop(int(span_id, 16))
        assert span.parent
        assert f"{apps.pop(span.parent.span_id).context.trace_id:032x}" == trace_id
    assert capture.total(rows.ACTIVE_REQUESTS.name) == 0
    assert duration_count(capture) == 100


class Counter:
    """Counts what began and ended, and keeps nothing."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended: dict[str, int] = {}

    def begin(self, start: CallStart) -> CallFollower:
        self.begun += 1
        return _Counted(self)


class _Counted(CallFollower):
    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def end(self, record: CallRecord) -> None:
        ended = self._counter.ended
        ended[record.outcome] = ended.get(record.outcome, 0) + 1


class Endless(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A server that says two words, as cheaply as can be."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(
            200, headers={"content-type": "application/x-ndjson"}, stream=_Words()
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)


class _Words(httpx.SyncByteStream, httpx.AsyncByteStream):
    line = b'{"model":"m","message":{"role":"assistant","content":"word"},"done":false}\n'

    def __iter__(self) -> Iterator[bytes]:
        yield self.line
        yield self.line

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.line
        yield self.line


async def leave(client: Any, count: int) -> None:
    for _ in range(count):
        stream = each(await done(client.chat(**CHAT, stream=True)))
        await anext(stream)
        del stream


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("sync", 10_000), ("asyncio", 5_000)])
def test_thousands_of_streams_left_behind_all_end_and_nothing_grows(name: str, count: int) -> None:
    colour, counter, meters = Colour(name), Counter(), Capture()
    # Spans and metrics as in production, without an exporter that keeps them.
    tracer_provider = TracerProvider(shutdown_on_exit=False)
    options = {
        "tracer_provider": tracer_provider,
        "meter_provider": meters.meter_provider,
        "observers": (counter,),
    }

    async def scenario() -> tuple[int, int]:
        client = colour.ours("http://h", transport=Endless(), **options)

        async def blocks_after(count: int) -> int:
            await leave(client, count)
            for _ in range(3):
                if colour.is_async:
                    await asyncio.sleep(0.01)
                gc.collect()
            return sys.getallocatedblocks()

        await blocks_after(1000)
        before, after = await blocks_after(1000), await blocks_after(count - 2000)
        await closed(client)
        return before, after

    before, after = colour.run(scenario)
    assert counter.begun == count
    assert counter.ended == {"abandoned": count}
    assert meters.total(rows.ACTIVE_REQUESTS.name) == 0
    # A single block kept for each stream would be thousands.
    assert after - before < 800


@pytest.fixture(autouse=True, scope="module")
def quick_collection() -> Iterator[None]:
    """No test leaves its garbage to be counted in another."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
