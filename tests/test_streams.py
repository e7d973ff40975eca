"""Streams to consumers: what they get, and that every end is told once and frees the server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import queue
import re
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import anyio
import ollama
import pytest
from pydantic import BaseModel

from ollama_otel import Client
from ollama_otel.streams import (
    AsyncStreamRun,
    ConsumerTimeoutError,
    StreamEnd,
    StreamEnding,
    StreamHandler,
    StreamRun,
    stream_to,
)
from ollama_otel.structured import OutputMismatchError
from ollama_otel.testing import Capture, FakeModel, FakeOllama, Fault, Reply
from ollama_otel.tools import Agent, TextEvent
from tests.documents import blocks_of

from .colours import COLOURS, Colour, closed, done
from .scripts import run_script

HOST = "http://127.0.0.1:11434"
ASK = [{"role": "user", "content": "Hello"}]
AT = "2026-01-01T00:00:00Z"
HANG = 60.0
"""Seconds after which a test that waits has failed; nothing takes as long."""

pytestmark = pytest.mark.filterwarnings(
    "ignore:Async generator .* was garbage collected:ResourceWarning"
)


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> Colour:
    return Colour(request.param)


class OopsError(Exception):
    """What a consumer raises."""


def chat_part(text: str = "", **rest: Any) -> ollama.ChatResponse:
    message = {"role": "assistant", "content": text, **rest.pop("message", {})}
    return ollama.ChatResponse(**{"message": message, "done": False, **rest})


LAST = chat_part(done=True, done_reason="stop", eval_count=3)
CALL = {"function": {"name": "weather", "arguments": {"city": "Rome"}}}
PARTS = [
    chat_part(message={"thinking": "Hm"}),
    chat_part("Hi"),
    chat_part(" there"),
    chat_part(message={"tool_calls": [CALL]}),
    LAST,
]


class Recorder(StreamHandler):
    """Keeps what it is told; raises in the method that is named."""

    def __init__(self, raises_in: str = "", error: BaseException | None = None) -> None:
        self.told: list[Any] = []
        self.ends: list[StreamEnd] = []
        self.raises_in = raises_in
        self.error = error or OopsError("in the consumer")

    def note(self, method: str, what: Any = None) -> None:
        self.told.append((method, what))
        if method == self.raises_in:
            raise self.error

    def on_start(self) -> None:
        self.note("on_start")

    def on_thinking(self, text: str) -> None:
        self.note("on_thinking", text)

    def on_text(self, text: str) -> None:
        self.note("on_text", text)

    def on_tool_call(self, call: ollama.Message.ToolCall) -> None:
        self.note("on_tool_call", call.function.name)

    def on_end(self, end: StreamEnd) -> None:
        self.ends.append(end)
        self.note("on_end", end.ending)


class AsyncRecorder(Recorder):
    """The same with async methods."""

    async def note_later(self, method: str, what: Any = None) -> None:
        await anyio.lowlevel.checkpoint()
        Recorder.note(self, method, what)

    def note(self, method: str, what: Any = None) -> Any:
        return self.note_later(method, what)

    def on_start(self) -> Any:
        return self.note("on_start")

    def on_thinking(self, text: str) -> Any:
        return self.note("on_thinking", text)

    def on_text(self, text: str) -> Any:
        return self.note("on_text", text)

    def on_tool_call(self, call: ollama.Message.ToolCall) -> Any:
        return self.note("on_tool_call", call.function.name)

    async def on_end(self, end: StreamEnd) -> None:
        self.ends.append(end)
        await self.note("on_end", end.ending)


class Source:
    """A stream of either colour that knows how far it was read, and whether it was closed."""

    def __init__(self, parts: Any = PARTS, error: BaseException | None = None) -> None:
        self.parts, self.error = parts, error
        self.read = 0
        self.closings = 0

    def sync(self) -> Iterator[Any]:
        try:
            for part in self.parts:
                self.read += 1
                yield part
            if self.error is not None:
                raise self.error
        finally:
            self.closings += 1

    async def asynchronous(self) -> AsyncIterator[Any]:
        try:
            for part in self.parts:
                await anyio.lowlevel.checkpoint()
                self.read += 1
                yield part
            if self.error is not None:
                raise self.error
        finally:
            self.closings += 1

    def of(self, colour: Colour) -> Any:
        return self.asynchronous() if colour.is_async else self.sync()


def deliver(colour: Colour, stream: Any, target: Any, **options: Any) -> StreamEnd:
    """Deliver a stream to its end; raise what that raises."""

    async def scenario() -> StreamEnd:
        run = stream_to(stream() if callable(stream) else stream, target, **options)
        if colour.is_async:
            assert isinstance(run, AsyncStreamRun)
            try:
                end = await run.run()
            finally:
                assert not run.is_running
            assert await run.wait() == end
            return end
        assert isinstance(run, StreamRun)
        try:
            return run.wait(HANG)
        finally:
            assert not run.is_running

    return colour.run(scenario)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# --- what consumers get -------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Recorder, AsyncRecorder])
def test_a_handler_gets_what_the_parts_have_in_order(colour: Colour, kind: type[Recorder]) -> None:
    if kind is AsyncRecorder and not colour.is_async:
        pytest.skip("a sync stream has no event loop")
    source, handler = Source(), kind()
    end = deliver(colour, source.of(colour), handler)
    assert handler.told == [
        ("on_start", None),
        ("on_thinking", "Hm"),
        ("on_text", "Hi"),
        ("on_text", " there"),
        ("on_tool_call", "weather"),
        ("on_end", "completed"),
    ]
    assert handler.ends == [end] == [StreamEnd(ending="completed", part_count=5, last=LAST)]
    assert source.closings == 1


def test_a_handler_that_overrides_nothing_takes_everything(colour: Colour) -> None:
    assert deliver(colour, Source().of(colour), StreamHandler()).ending == "completed"


def test_parts_of_generate_are_taken_apart_too(colour: Colour) -> None:
    handler = Recorder()
    parts = [
        ollama.GenerateResponse(thinking="Hm", response="", done=False),
        ollama.GenerateResponse(response="Hi", done=False),
        ollama.GenerateResponse(done=True, done_reason="stop"),
    ]
    deliver(colour, Source(parts).of(colour), handler)
    assert handler.told[1:] == [
        *(("on_thinking", "Hm"), ("on_text", "Hi")),
        ("on_end", "completed"),
    ]


def test_a_function_gets_the_parts(colour: Colour) -> None:
    parts: list[Any] = []
    assert deliver(colour, Source().of(colour), parts.append).last is LAST
    assert parts == PARTS


async def collect(parts: list[Any], part: Any) -> None:
    await anyio.lowlevel.checkpoint()
    parts.append(part)


@pytest.mark.parametrize("name", COLOURS[1:])
def test_an_async_function_gets_the_parts(name: str) -> None:
    parts: list[Any] = []
    deliver(Colour(name), Source().asynchronous(), lambda part: collect(parts, part))
    assert parts == PARTS


def test_a_queue_gets_the_parts_and_the_end() -> None:
    items: queue.Queue[Any] = queue.Queue()
    end = deliver(Colour("sync"), Source().sync(), items)
    assert list(items.queue) == [*PARTS, end]
    simple: queue.SimpleQueue[Any] = queue.SimpleQueue()
    deliver(Colour("sync"), Source().sync(), simple)
    assert [simple.get() for _ in range(6)] == [*PARTS, end]


def test_an_asyncio_queue_gets_the_parts_and_the_end() -> None:
    async def scenario() -> None:
        items: asyncio.Queue[Any] = asyncio.Queue(1)
        async with stream_to(Source().asynchronous(), items) as run:
            found = [await items.get() for _ in range(6)]
        assert found == [*PARTS, await run.wait()]

    asyncio.run(scenario())


@pytest.mark.parametrize("name", COLOURS[1:])
def test_an_object_stream_gets_the_parts_and_the_end_and_is_closed(name: str) -> None:
    async def scenario() -> None:
        send, receive = anyio.create_memory_object_stream[Any](0)
        async with stream_to(Source().asynchronous(), send) as run:
            found = [item async for item in receive]
        assert found == [*PARTS, await run.wait()]
        receive.close()

    Colour(name).run(scenario)


@pytest.mark.parametrize("target", [asyncio.Queue(), collect, 5, "text"], ids=str)
def test_a_sync_stream_does_not_go_everywhere(target: Any) -> None:
    source = Source()
    with pytest.raises(TypeError, match="a sync stream goes to"):
        stream_to(source.sync(), target)
    assert source.read == 0


@pytest.mark.parametrize("target", [queue.Queue(), 5, "text"], ids=str)
def test_an_async_stream_does_not_go_everywhere(target: Any) -> None:
    with pytest.raises(TypeError, match="an async stream goes to"):
        stream_to(Source().asynchronous(), target)


@pytest.mark.parametrize("method", ["on_start", "on_text", "on_end"])
def test_a_sync_stream_has_no_async_handler(method: str) -> None:
    async def told(*args: Any) -> None: ...

    handler = type("H", (StreamHandler,), {method: told})()
    with pytest.raises(TypeError, match="async method"):
        deliver(Colour("sync"), Source().sync(), handler)


class Later:
    """An awaitable that is no coroutine."""

    def __await__(self) -> Iterator[None]:
        yield


@pytest.mark.parametrize("result", [Later(), None], ids=["awaitable", "None"])
def test_a_function_for_a_sync_stream_returns_nothing_to_await(result: Any) -> None:
    expected = pytest.raises(TypeError) if result else contextlib.nullcontext()
    with expected:
        deliver(Colour("sync"), Source().sync(), lambda part: result)


class Plain:
    """An async iterator that cannot be closed."""

    def __init__(self) -> None:
        self.parts = iter(PARTS)

    def __aiter__(self) -> Plain:
        return self

    async def __anext__(self) -> Any:
        for each_part in self.parts:
            return each_part
        raise StopAsyncIteration


def test_a_stream_may_have_nothing_to_close(colour: Colour) -> None:
    stream = Plain() if colour.is_async else iter(PARTS)
    assert deliver(colour, stream, StreamHandler()).ending == "completed"


# --- how streams end ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Recorder, AsyncRecorder])
@pytest.mark.parametrize("method", ["on_start", "on_thinking", "on_text", "on_tool_call"])
@pytest.mark.parametrize("error", [OopsError("in the consumer"), KeyError("missing")], ids=repr)
def test_what_a_handler_raises_reaches_who_waits(
    colour: Colour, kind: type[Recorder], method: str, error: Exception
) -> None:
    if kind is AsyncRecorder and not colour.is_async:
        pytest.skip("a sync stream has no event loop")
    source, handler = Source(), kind(raises_in=method, error=error)
    with pytest.raises(type(error)) as caught:
        deliver(colour, source.of(colour), handler)
    assert caught.value is error
    [end] = handler.ends
    assert (end.ending, end.error) == ("consumer_failed", error)
    assert [name for name, _ in handler.told][-2:] == [method, "on_end"]
    assert source.closings == (0 if method == "on_start" else 1)
    assert source.read <= 4


def test_the_stream_is_closed_before_its_consumer_is_told(colour: Colour) -> None:
    class Looking(Recorder):
        def on_end(self, end: StreamEnd) -> None:
            closings.append(source.closings)

    for raises_in in ("on_text", ""):
        source, closings = endless() if raises_in else Source(), list[int]()
        with pytest.raises(OopsError) if raises_in else contextlib.nullcontext():
            deliver(colour, source.of(colour), Looking(raises_in=raises_in))
        assert closings == [1]


def test_what_is_raised_at_the_end_reaches_who_waits(colour: Colour) -> None:
    handler = Recorder(raises_in="on_end")
    with pytest.raises(OopsError):
        deliver(colour, Source().of(colour), handler)
    assert [end.ending for end in handler.ends] == ["completed"]


def test_of_two_errors_the_second_has_the_first_as_its_context(colour: Colour) -> None:
    broken = RuntimeError("the stream")
    handler = Recorder(raises_in="on_end")
    with pytest.raises(OopsError) as caught:
        deliver(colour, Source(error=broken).of(colour), handler)
    assert caught.value.__context__ is broken
    assert len(handler.ends) == 1


def test_an_error_at_the_end_keeps_its_own_context(colour: Colour) -> None:
    class Chained(Recorder):
        def on_end(self, end: StreamEnd) -> None:
            try:
                raise KeyError("first")
            except KeyError:
                raise OopsError from None

    with pytest.raises(OopsError) as caught:
        deliver(colour, Source(error=RuntimeError()).of(colour), Chained())
    assert isinstance(caught.value.__context__, KeyError)


def test_what_a_stream_raises_reaches_who_waits(colour: Colour) -> None:
    broken, handler = ollama.ResponseError("runner crashed"), Recorder()
    source = Source(PARTS[:2], error=broken)
    with pytest.raises(ollama.ResponseError) as caught:
        deliver(colour, source.of(colour), handler)
    assert caught.value is broken
    assert handler.ends == [
        StreamEnd(ending="stream_failed", part_count=2, last=PARTS[1], error=broken)
    ]
    assert source.closings == 1


@pytest.mark.parametrize("target", ["handler", "function"])
@pytest.mark.parametrize("stranger", [TextEvent("Hi"), ("model", "llama3.2"), {"done": True}, None])
def test_a_stream_of_something_else_ends_and_says_so(
    colour: Colour, stranger: Any, target: str
) -> None:
    """An agent's events, the fields of a whole response, the lines of an SDK, ..."""
    source, handler, got = Source([*PARTS[:1], stranger, *PARTS]), Recorder(), []
    with pytest.raises(TypeError, match=rf"has a {type(stranger).__name__}: iterate it yourself"):
        deliver(colour, source.of(colour), handler if target == "handler" else got.append)
    assert got == ([] if target == "handler" else PARTS[:1])
    assert [end.ending for end in handler.ends] == ["stream_failed"] * (target == "handler")
    assert source.closings == 1


def test_the_stream_of_an_agent_is_refused_and_its_run_is_over(colour: Colour) -> None:
    fake, capture, handler = FakeOllama(), Capture(), Recorder()
    fake.script("/api/chat", Reply.stream([part.model_dump() for part in (*PARTS[1:3], LAST)]))
    client = colour.ours("http://fake", transport=fake.transport(), **capture.options)
    agent = Agent(client, "llama3.2")
    with pytest.raises(TypeError, match="has a TextEvent"):
        deliver(colour, agent.astream("Hi") if colour.is_async else agent.stream("Hi"), handler)
    assert [end.ending for end in handler.ends] == ["stream_failed"]
    [run] = [span for span in capture.spans if span.name == "invoke_agent"]
    assert (run.attributes or {})["ollama.agent.ending"] == "abandoned"


@pytest.mark.parametrize("parts", [PARTS[:2], []], ids=len)
def test_a_stream_without_its_last_part_is_incomplete(colour: Colour, parts: Any) -> None:
    handler = Recorder()
    end = deliver(colour, Source(parts).of(colour), handler)
    assert end.ending == "incomplete"
    assert handler.ends == [end]


def test_a_queue_is_told_of_a_failure() -> None:
    items: queue.Queue[Any] = queue.Queue()
    with pytest.raises(OopsError):
        deliver(Colour("sync"), Source(PARTS[:1], error=OopsError()).sync(), items)
    assert [getattr(item, "ending", None) for item in items.queue] == [None, "stream_failed"]


# --- a slow or dead consumer --------------------------------------------------------------

ENDLESS = 10_000_000
"""Parts; no test gets there."""


def endless() -> Source:
    part = chat_part("x")
    return Source(part for _ in range(ENDLESS))


@pytest.mark.slow
def test_a_full_queue_holds_the_stream_back() -> None:
    source, items = endless(), queue.Queue[Any](maxsize=3)
    run = stream_to(source.sync(), items)
    for taken in range(50):
        until(items.full)
        assert source.read <= taken + 3 + 1
        items.get()
    run.stop()
    assert run.wait(HANG).ending == "stopped"


def test_a_full_asyncio_queue_holds_the_stream_back() -> None:
    async def scenario() -> None:
        source, items = endless(), asyncio.Queue[Any](3)
        async with stream_to(source.asynchronous(), items) as run:
            for taken in range(50):
                await asyncio.sleep(0)
                assert source.read <= taken + 3 + 1
                await items.get()
            run.stop()
        assert source.closings == 1
        ends = [items.get_nowait() for _ in range(items.qsize())]
        assert ends[-1] == await run.wait()
        assert [item for item in ends if isinstance(item, StreamEnd)] == ends[-1:]

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_consumer_that_takes_nothing_ends_the_stream() -> None:
    source, items = endless(), queue.Queue[Any](maxsize=2)
    with pytest.raises(ConsumerTimeoutError, match=r"full queue for 0\.05 s"):
        deliver(Colour("sync"), source.sync(), items, patience=0.05)
    assert source.closings == 1
    # Who comes late learns of the end.
    assert [getattr(item, "ending", None) for item in items.queue] == [None, "consumer_failed"]


@pytest.mark.slow
@pytest.mark.parametrize("name", COLOURS[1:])
@pytest.mark.parametrize("kind", ["queue", "object stream"])
def test_an_async_consumer_that_takes_nothing_ends_the_stream(name: str, kind: str) -> None:
    if (name, kind) == ("trio", "queue"):
        pytest.skip("asyncio's queue")
    source = endless()

    async def scenario() -> None:
        send, receive = anyio.create_memory_object_stream[Any](2)
        items = asyncio.Queue[Any](2) if kind == "queue" else send
        with pytest.raises(ConsumerTimeoutError):
            await stream_to(source.asynchronous(), items, patience=0.05).run()
        send.close()
        receive.close()

    Colour(name).run(scenario)
    assert source.closings == 1


@pytest.mark.slow
def test_an_end_that_no_one_takes_is_an_error_too() -> None:
    items = queue.Queue[Any](maxsize=len(PARTS))
    with pytest.raises(ConsumerTimeoutError):
        deliver(Colour("sync"), Source().sync(), items, patience=0.05)


@pytest.mark.parametrize("name", COLOURS[1:])
def test_a_closed_receiver_ends_the_stream(name: str) -> None:
    source = endless()

    async def scenario() -> None:
        send, receive = anyio.create_memory_object_stream[Any](0)

        async def read_a_few() -> None:
            async with receive:
                for _ in range(3):
                    await receive.receive()

        async with anyio.create_task_group() as group:
            group.start_soon(read_a_few)
            with pytest.raises(anyio.BrokenResourceError):
                await stream_to(source.asynchronous(), send).run()

    Colour(name).run(scenario)
    assert source.closings == 1


@pytest.mark.slow
def test_a_queue_that_is_joined_does_not_wait_for_what_was_dropped() -> None:
    items = queue.Queue[Any](maxsize=2)
    run = stream_to(endless().sync(), items)
    until(items.full)
    run.stop()
    run.wait(HANG)
    while not isinstance(items.get(), StreamEnd):
        items.task_done()
    items.task_done()
    items.join()


@pytest.mark.slow
def test_a_queue_need_not_count_what_is_done() -> None:
    class Bare:
        def __init__(self) -> None:
            self.inner = queue.Queue[Any](maxsize=1)
            self.put, self.get = self.inner.put, self.inner.get

    bare = Bare()
    run = stream_to(endless().sync(), bare)
    until(bare.inner.full)
    run.stop()
    end = run.wait(HANG)
    assert bare.get() == end


@pytest.mark.slow
@pytest.mark.parametrize("name", COLOURS[1:])
def test_an_end_takes_the_time_that_it_needs(name: str) -> None:
    """More than a cancelled task would wait for it."""
    from ollama_otel._streams import task_run

    class Slow(Recorder):
        async def on_end(self, end: StreamEnd) -> None:
            await anyio.sleep(0.2)
            self.ends.append(end)

    handler = Slow()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task_run, "_CLEAN_UP", 0.05)
        deliver(Colour(name), Source().asynchronous(), handler)
        assert [end.ending for end in handler.ends] == ["completed"]

        async def cancelled() -> None:
            with anyio.move_on_after(0.05):
                await stream_to(endless().asynchronous(), handler).run()

        Colour(name).run(cancelled)
    assert [end.ending for end in handler.ends] == ["completed"]


# --- stopped from outside -----------------------------------------------------------------


def test_a_thread_is_stopped_from_another_one() -> None:
    source, handler = endless(), Recorder()
    run = stream_to(source.sync(), handler)
    until(lambda: source.read > 10)
    run.stop()
    run.stop()
    end = run.wait(HANG)
    assert (end.ending, end.error) == ("stopped", None)
    assert handler.ends == [end]
    assert source.closings == 1


@pytest.mark.parametrize("name", COLOURS[1:])
def test_a_task_is_stopped_from_another_one(name: str) -> None:
    source, handler = endless(), AsyncRecorder()

    async def scenario() -> None:
        async with stream_to(source.asynchronous(), handler) as run:
            while source.read < 10:
                await anyio.lowlevel.checkpoint()
            run.stop()
            run.stop()
            assert (await run.wait()).ending == "stopped"

    Colour(name).run(scenario)
    assert [end.ending for end in handler.ends] == ["stopped"]
    assert source.closings == 1


def test_a_run_that_is_stopped_before_it_begins_sends_nothing() -> None:
    async def scenario() -> None:
        source, handler = Source(), Recorder()
        run = stream_to(source.asynchronous(), handler)
        run.stop()
        assert (await run.run()).ending == "stopped"
        assert source.read == 0
        assert handler.told == [("on_end", "stopped")]
        with pytest.raises(RuntimeError, match="delivered already"):
            await run.run()

    asyncio.run(scenario())


def test_a_run_can_stop_itself_in_its_handler(colour: Colour) -> None:
    runs: list[Any] = []

    class Few(Recorder):
        def on_text(self, text: str) -> None:
            super().on_text(text)
            runs[0].stop()

    source, handler = endless(), Few()

    async def scenario() -> None:
        runs.append(stream_to(source.of(colour), handler))
        if colour.is_async:
            assert (await runs[0].run()).ending == "stopped"

    if colour.is_async:
        colour.run(scenario)
        assert [name for name, _ in handler.told] == ["on_start", "on_text", "on_end"]
    assert source.closings == (1 if colour.is_async else 0)


def test_the_wait_has_a_limit() -> None:
    run = stream_to(endless().sync(), StreamHandler())
    with pytest.raises(TimeoutError, match=r"not ended within 0\.01 s"):
        run.wait(0.01)
    assert run.is_running
    run.stop()
    run.wait(HANG)


def test_a_block_that_raises_stops_the_stream(colour: Colour) -> None:
    source, handler = endless(), Recorder()

    async def scenario() -> None:
        with pytest.raises(OopsError):
            if colour.is_async:
                async with stream_to(source.of(colour), handler):
                    await anyio.lowlevel.checkpoint()
                    raise OopsError
            else:
                with stream_to(source.of(colour), handler):
                    raise OopsError

    colour.run(scenario)
    assert [end.ending for end in handler.ends] == ["stopped"]


def test_a_block_ends_with_the_stream_and_its_error(colour: Colour) -> None:
    handler = Recorder()

    async def scenario() -> None:
        stream = Source(error=OopsError()).of(colour)
        with pytest.raises(OopsError):
            if colour.is_async:
                async with stream_to(stream, handler):
                    pass
            else:
                with stream_to(stream, handler):
                    pass

    colour.run(scenario)
    assert [end.ending for end in handler.ends] == ["stream_failed"]


def test_nothing_is_delivered_after_a_stop(colour: Colour) -> None:
    """Also a part that the stream has ready: here it stops its own run before it gives one."""
    runs: list[Any] = []
    handler = Recorder()

    def sync() -> Iterator[Any]:
        until(lambda: bool(runs))
        runs[0].stop()
        yield chat_part("late")

    async def asynchronous() -> AsyncIterator[Any]:
        runs[0].stop()
        yield chat_part("late")

    async def scenario() -> None:
        runs.append(stream_to(asynchronous() if colour.is_async else sync(), handler))
        end = await runs[0].run() if colour.is_async else runs[0].wait(HANG)
        assert end == StreamEnd(ending="stopped", part_count=0)

    colour.run(scenario)
    assert handler.told == [("on_start", None), ("on_end", "stopped")]


@pytest.mark.parametrize("name", COLOURS[1:])
@pytest.mark.parametrize("waits_in", ["stream", "consumer"])
def test_a_cancelled_task_cleans_up_and_is_cancelled(name: str, waits_in: str) -> None:
    source = endless()

    class Slow(AsyncRecorder):
        async def on_text(self, text: str) -> None:
            if waits_in == "consumer":
                await anyio.sleep_forever()

    handler = Slow()

    async def scenario() -> None:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(stream_to(source.asynchronous(), handler).run)
                while not source.read:
                    await anyio.lowlevel.checkpoint()
                scope.cancel()
        assert scope.cancelled_caught

    Colour(name).run(scenario)
    assert [end.ending for end in handler.ends] == ["cancelled"]
    assert handler.told[-1] == ("on_end", "cancelled")
    assert source.closings == 1


def test_an_asyncio_task_of_it_can_be_cancelled() -> None:
    source, handler = endless(), AsyncRecorder()

    async def scenario() -> None:
        task = asyncio.create_task(stream_to(source.asynchronous(), handler).run())
        while not source.read:  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert [end.ending for end in handler.ends] == ["cancelled"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_an_exit_in_a_handlers_thread_reaches_who_waits(error: BaseException) -> None:
    handler = Recorder(raises_in="on_text", error=error)
    with pytest.raises(type(error)):
        deliver(Colour("sync"), Source().sync(), handler)
    assert [end.ending for end in handler.ends] == ["consumer_failed"]


def test_a_keyboard_interrupt_in_a_task_cleans_up() -> None:
    handler = Recorder(raises_in="on_text", error=KeyboardInterrupt())
    source = Source()
    with pytest.raises(KeyboardInterrupt):
        deliver(Colour("asyncio"), source.asynchronous(), handler)
    assert [end.ending for end in handler.ends] == ["cancelled"]
    assert source.closings == 1


INTERRUPTED = """
    import signal, sys, time
    import ollama
    from ollama_otel.streams import StreamHandler, stream_to

    class Told(StreamHandler):
        texts = 0
        def on_text(self, text):
            self.texts += 1
        def on_end(self, end):
            print(end.ending, flush=True)

    def parts():
        message = ollama.Message(role="assistant", content="x")
        while True:
            yield ollama.ChatResponse(message=message, done=False)
            time.sleep(0.001)

    handler = Told()
"""


@pytest.mark.processes
def test_an_interrupt_of_the_program_stops_the_stream() -> None:
    said = run_script(
        INTERRUPTED
        + """
    try:
        with stream_to(parts(), handler):
            while not handler.texts:
                time.sleep(0.001)
            signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        print("interrupted")
    """
    )
    assert said.split() == ["stopped", "interrupted"]


@pytest.mark.processes
def test_a_program_that_exits_tells_its_consumers() -> None:
    said = run_script(
        INTERRUPTED
        + """
    run = stream_to(parts(), handler)
    while not handler.texts:
        time.sleep(0.001)
    """
    )
    assert said.split() == ["cancelled"]


@pytest.mark.processes
@pytest.mark.parametrize("waits_in", ["stream", "consumer"])
def test_an_event_loop_that_is_closed_in_the_middle(waits_in: str) -> None:
    said = run_script(
        """
    import asyncio, gc, logging, sys
    import ollama
    from ollama_otel.streams import StreamHandler, stream_to
    waits_in = sys.argv[1]
    # Of asyncio itself: a pending task was destroyed.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)

    class Told(StreamHandler):
        async def on_text(self, text):
            if waits_in == "consumer":
                await asyncio.sleep(60)
        def on_end(self, end):
            print(end.ending)

    async def parts():
        message = ollama.Message(role="assistant", content="x")
        while True:
            yield ollama.ChatResponse(message=message, done=False)
            await asyncio.sleep(60)

    async def main():
        global task
        task = asyncio.create_task(stream_to(parts(), Told()).run())
        await asyncio.sleep(0.05)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    del task
    gc.collect()
    print("collected")
    """,
        waits_in,
    )
    # Not before the exit, as anyio keeps such a task.
    assert said.split() == ["collected", "cancelled"]


def test_a_coroutine_that_is_dropped_tells_its_consumer() -> None:
    handler = Recorder()

    async def scenario() -> None:
        coroutine = stream_to(endless().asynchronous(), handler).run()
        coroutine.send(None)
        coroutine.close()

    asyncio.run(scenario())
    assert [end.ending for end in handler.ends] == ["cancelled"]


class Failing(AsyncRecorder):
    def on_end(self, end: StreamEnd) -> Any:
        self.ends.append(end)
        raise OopsError


class Waiting(AsyncRecorder):
    async def on_end(self, end: StreamEnd) -> None:
        self.ends.append(end)
        await anyio.sleep_forever()


@pytest.mark.parametrize("kind", [Failing, Waiting])
def test_a_dropped_coroutine_ends_whatever_its_consumer_does(kind: type[Recorder]) -> None:
    handler = kind()

    async def scenario() -> None:
        run = stream_to(endless().asynchronous(), handler)
        coroutine = run.run()
        coroutine.send(None)
        coroutine.close()
        run._at_exit()

    asyncio.run(scenario())
    assert [end.ending for end in handler.ends] == ["cancelled"]


def test_at_exit_a_run_is_cancelled_once() -> None:
    source, handler = endless(), Recorder()
    run = stream_to(source.sync(), handler)
    run._at_exit()
    run._at_exit()
    assert run.wait(HANG).ending == "cancelled"
    assert len(handler.ends) == 1


def test_an_exit_while_a_loop_runs_tells_the_consumer_once() -> None:
    runs: list[AsyncStreamRun] = []

    class Exiting(Recorder):
        def on_text(self, text: str) -> None:
            runs[0]._at_exit()

    handler = Exiting()

    async def scenario() -> None:
        runs.append(stream_to(endless().asynchronous(), handler))
        assert (await runs[0].run()).ending == "cancelled"
        runs[0]._at_exit()

    asyncio.run(scenario())
    assert [end.ending for end in handler.ends] == ["cancelled"]


# --- with clients -------------------------------------------------------------------------


def part(text: str = "", **rest: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"model": "m", "created_at": AT, "message": message, "done": False, **rest}


def script(text: str) -> Reply:
    return Reply.stream([*map(part, text), part(done=True, done_reason="stop")])


def test_the_stream_of_a_client_is_delivered_awaited_or_not(colour: Colour) -> None:
    server, capture = FakeOllama(), Capture()
    server.script("/api/chat", script("Hi"), script("Hi"))

    async def scenario() -> None:
        client = colour.ours(HOST, transport=server.transport(), **capture.options)
        for stream in (
            client.chat("m", ASK, stream=True),
            await done(client.chat("m", ASK, stream=True)),
        ):
            handler = Recorder()
            run = stream_to(stream, handler)
            end = await run.run() if colour.is_async else run.wait(HANG)
            assert handler.told[1:-1] == [("on_text", "H"), ("on_text", "i")]
            assert end.last.done_reason == "stop"
        await closed(client)

    colour.run(scenario)
    assert [record.outcome for record in capture.records] == ["completed"] * 2


def test_a_call_belongs_to_the_span_and_context_of_who_started_it(colour: Colour) -> None:
    from ollama_otel import call_context

    server, capture = FakeOllama(), Capture()
    server.script("/api/chat", script("Hi"))
    tracer = capture.tracer_provider.get_tracer("app")

    async def scenario() -> None:
        client = colour.ours(HOST, transport=server.transport(), **capture.options)
        with tracer.start_as_current_span("app"), call_context(user_id="ada"):
            run = stream_to(client.chat("m", ASK, stream=True), StreamHandler())
            await run.run() if colour.is_async else run.wait(HANG)
        await closed(client)

    colour.run(scenario)
    call, app = capture.spans
    assert call.parent == app.context
    assert call.attributes["user.id"] == "ada"


def test_a_consumer_that_fails_abandons_the_call(colour: Colour) -> None:
    server, capture = FakeOllama(), Capture()
    server.script("/api/chat", script("Hi there"))

    async def scenario() -> None:
        client = colour.ours(HOST, transport=server.transport(), **capture.options)
        run = stream_to(client.chat("m", ASK, stream=True), Recorder(raises_in="on_text"))
        with pytest.raises(OopsError):
            await run.run() if colour.is_async else run.wait(HANG)
        await closed(client)

    colour.run(scenario)
    assert [record.outcome for record in capture.records] == ["abandoned"]


def test_an_awaited_stream_that_is_never_delivered_sends_nothing() -> None:
    server = FakeOllama()

    async def scenario() -> None:
        client = Colour("asyncio").ours(HOST, transport=server.transport())
        run = stream_to(client.chat("m", ASK, stream=True), Recorder(raises_in="on_start"))
        with pytest.raises(OopsError):
            await run.run()
        await client.close()

    asyncio.run(scenario())
    assert server.requests == []


@pytest.mark.sockets
def test_a_stall_of_the_server_does_not_hold_up_the_stop(colour: Colour) -> None:
    """On a socket: the server says nothing for an hour after its first part."""
    server, capture = FakeOllama(), Capture()
    reply = script("Hi there")
    server.script("/api/chat", reply)
    server.fault("/api/chat", Fault(stall_at=len(reply.chunks[0])))
    handler = Recorder()

    async def scenario(url: str) -> None:
        client = colour.ours(url, trust_env=False, **capture.options)
        stream = client.chat("m", ASK, stream=True)
        if colour.is_async:
            async with stream_to(stream, handler) as run:
                while len(handler.told) < 2:  # noqa: ASYNC110
                    await anyio.sleep(0.005)
                run.stop()
        else:
            run = stream_to(stream, handler)
            until(lambda: len(handler.told) == 2)
            run.stop()
            run.wait(HANG)
        await closed(client)

    with server.serve() as url:
        colour.run(lambda: scenario(url))
    assert [end.ending for end in handler.ends] == ["stopped"]
    assert [record.outcome for record in capture.records] == ["abandoned"]


@pytest.mark.slow
@pytest.mark.sockets
def test_a_stop_before_the_first_part_closes_the_request_when_that_comes() -> None:
    server, capture = FakeOllama(), Capture()
    reply = script("Hi there")
    server.script("/api/chat", Reply(chunks=reply.chunks, delays=[0.3]))
    handler = Recorder()
    with server.serve() as url, Client(url, trust_env=False, **capture.options) as client:
        run = stream_to(client.chat("m", ASK, stream=True), handler)
        until(lambda: bool(server.requests))
        run.stop()
        assert run.wait(HANG) == StreamEnd(ending="stopped", part_count=0)
    assert handler.told == [("on_start", None), ("on_end", "stopped")]
    assert [record.outcome for record in capture.records] == ["abandoned"]


def test_a_consumer_may_have_a_stream_of_its_own(colour: Colour) -> None:
    """To stop the run must not close that."""
    server, capture = FakeOllama(), Capture()
    server.script("/api/chat", script("Hi there"), script("Inner"))
    runs: list[Any] = []
    inner: list[Any] = []

    async def scenario() -> None:
        client = colour.ours(HOST, transport=server.transport(), **capture.options)

        class Asking(StreamHandler):
            def on_text(self, text: str) -> Any:
                stream = client.chat("m", ASK, stream=True)
                if colour.is_async:
                    return self.begin(stream)
                until(lambda: bool(runs))
                inner.extend([stream, next(stream)])
                return runs[0].stop()

            async def begin(self, stream: Any) -> None:
                stream = await stream
                inner.extend([stream, await anext(stream)])
                runs[0].stop()

        runs.append(stream_to(client.chat("m", ASK, stream=True), Asking()))
        await runs[0].run() if colour.is_async else runs[0].wait(HANG)
        stream, first = inner
        rest = [p async for p in stream] if colour.is_async else list(stream)
        assert "".join(p.message.content for p in [first, *rest]) == "Inner"
        await closed(client)

    colour.run(scenario)
    assert [record.outcome for record in capture.records] == ["abandoned", "completed"]


class Answer(BaseModel):
    name: str


def test_typed_streams_are_delivered_too(colour: Colour) -> None:
    server = FakeOllama()
    server.script("/api/chat", script('{"name": "Ada"}'), script("Hello"))

    async def scenario() -> None:
        client = colour.ours(HOST, transport=server.transport())
        parts: list[Any] = []
        run = stream_to(client.chat("m", ASK, format=Answer, stream=True), parts.append)
        await run.run() if colour.is_async else run.wait(HANG)
        run = stream_to(client.chat("m", ASK, format=Answer, stream=True), StreamHandler())
        with pytest.raises(OutputMismatchError):
            await run.run() if colour.is_async else run.wait(HANG)
        assert parts[-1].parsed == Answer(name="Ada")
        await closed(client)

    colour.run(scenario)


@pytest.mark.slow
def test_runs_leave_nothing_behind() -> None:
    before = threading.active_count()
    runs: list[weakref.ref[StreamRun]] = []
    for _ in range(20):
        with stream_to(Source().sync(), StreamHandler()) as run:
            runs.append(weakref.ref(run))
    del run
    until(lambda: threading.active_count() <= before)
    gc.collect()
    assert [run() for run in runs] == [None] * 20


# --- the page -----------------------------------------------------------------------------

PAGE = Path(__file__).parents[1] / "docs" / "streams.md"


@pytest.mark.slow
@pytest.mark.sockets
def test_the_blocks_of_the_page_run(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = blocks_of("streams.md")
    assert len(blocks) >= 3
    with FakeOllama([FakeModel("llama3.2")]).serve() as url:
        monkeypatch.setenv("OLLAMA_HOST", url)
        names: dict[str, Any] = {"__name__": "page"}
        exec("\n".join(blocks), names)
        names["client"].close()
    assert names["shown"].text == FakeModel("llama3.2").reply


def test_the_page_has_every_ending() -> None:
    named = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(named) == sorted(get_args(StreamEnding))
