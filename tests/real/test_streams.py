"""Streams to consumers from a real Ollama: every end frees the slot for the next call."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import ollama
import pytest

from ollama_otel import AsyncClient, Client
from ollama_otel.streams import ConsumerTimeoutError, StreamEnd, StreamHandler, stream_to
from ollama_otel.testing import Capture

from .servers import RealOllama
from .test_calls import TOOLS, chat

STORY = chat("Tell me a story.")
STORY_PARTS = 267
HELLO = chat("Hello")
HANG = 60.0


class Kept(StreamHandler):
    def __init__(self, fails_after: int | None = None) -> None:
        self.thinking: list[str] = []
        self.texts: list[str] = []
        self.calls: list[str] = []
        self.ends: list[StreamEnd] = []
        self.fails_after = fails_after
        self.has_text = threading.Event()

    def on_thinking(self, text: str) -> None:
        self.thinking.append(text)

    def on_text(self, text: str) -> None:
        self.texts.append(text)
        self.has_text.set()
        if len(self.texts) == self.fails_after:
            raise KeyError("the consumer")

    def on_tool_call(self, call: ollama.Message.ToolCall) -> None:
        self.calls.append(call.function.name)

    def on_end(self, end: StreamEnd) -> None:
        self.ends.append(end)


@pytest.fixture
def client(real_ollama: RealOllama, capture: Capture) -> Iterator[Client]:
    with Client(real_ollama.url, **capture.options) as client:
        yield client


def the_next_call_is_served(client: Client) -> None:
    """The server has one slot; a call that still had it would hold this one up."""
    assert client.chat("tiny-agent", **HELLO).message.content == "Hello! How can I help you today?"


def outcomes(capture: Capture) -> list[str]:
    return [record.outcome for record in capture.records]


def test_a_handler_gets_text_thinking_and_tool_calls(client: Client, capture: Capture) -> None:
    handler = Kept()
    end = stream_to(client.chat("tiny-agent", stream=True, **STORY), handler).wait(HANG)
    assert handler.ends == [end]
    assert (end.ending, end.part_count) == ("completed", STORY_PARTS)
    assert end.last is not None
    assert end.last.eval_count
    sky = client.chat("tiny-thinker", stream=True, **chat("Why is the sky blue?"))
    stream_to(sky, handler).wait(HANG)
    assert handler.thinking
    asked = chat("Compare the weather in Paris and Rome.", tools=TOOLS)
    stream_to(client.chat("tiny-agent", stream=True, **asked), handler).wait(HANG)
    assert handler.calls == ["get_current_weather"] * 2
    assert outcomes(capture) == ["completed"] * 3


def test_a_small_queue_gets_all_of_it(client: Client) -> None:
    parts: queue.Queue[Any] = queue.Queue(maxsize=2)
    with stream_to(client.chat("tiny-agent", stream=True, **STORY), parts) as run:
        taken = [parts.get(timeout=HANG) for _ in range(STORY_PARTS + 1)]
    assert taken[-1] == run.wait()
    text = "".join(part.message.content for part in taken[:-1])
    assert text == client.chat("tiny-agent", **STORY).message.content


def test_a_stopped_thread_frees_the_slot(client: Client, capture: Capture) -> None:
    handler = Kept()
    # Without end, so that it does not complete before it is stopped.
    endless = chat("Tell me a story.", options={"num_predict": -1, "stop": [], "temperature": 5})
    run = stream_to(client.chat("tiny-agent", stream=True, **endless), handler)
    assert handler.has_text.wait(HANG)
    run.stop()
    assert run.wait(HANG).ending in {"stopped", "completed"}
    the_next_call_is_served(client)
    assert len(handler.ends) == 1


def test_a_full_queue_that_is_stopped_frees_the_slot(client: Client, capture: Capture) -> None:
    parts: queue.Queue[Any] = queue.Queue(maxsize=2)
    run = stream_to(client.chat("tiny-agent", stream=True, **STORY), parts)
    parts.get(timeout=HANG)
    run.stop()
    assert run.wait(HANG).ending == "stopped"
    the_next_call_is_served(client)
    assert outcomes(capture) == ["abandoned", "completed"]


def test_a_failing_or_absent_consumer_frees_the_slot(client: Client, capture: Capture) -> None:
    handler = Kept(fails_after=3)
    with pytest.raises(KeyError, match="the consumer"):
        stream_to(client.chat("tiny-agent", stream=True, **STORY), handler).wait(HANG)
    assert [end.ending for end in handler.ends] == ["consumer_failed"]
    the_next_call_is_served(client)
    nobody: queue.Queue[Any] = queue.Queue(maxsize=2)
    run = stream_to(client.chat("tiny-agent", stream=True, **STORY), nobody, patience=0.2)
    with pytest.raises(ConsumerTimeoutError):
        run.wait(HANG)
    the_next_call_is_served(client)
    assert outcomes(capture) == ["abandoned", "completed"] * 2


def test_async_consumers_do_the_same(
    client: Client, real_ollama: RealOllama, capture: Capture
) -> None:
    async def scenario() -> None:
        async with AsyncClient(real_ollama.url, **capture.options) as asynchronous:

            def story() -> Any:
                return asynchronous.chat("tiny-agent", stream=True, **STORY)

            handler = Kept()
            assert (await stream_to(story(), handler).run()).part_count == STORY_PARTS
            parts: asyncio.Queue[Any] = asyncio.Queue(maxsize=2)
            async with stream_to(story(), parts) as run:
                await parts.get()
                run.stop()
            assert (await run.wait()).ending == "stopped"
            send, receive = anyio.create_memory_object_stream[Any](2)
            async with anyio.create_task_group() as group:
                group.start_soon(one_of, receive)
                with pytest.raises(anyio.BrokenResourceError):
                    await stream_to(story(), send).run()
            task = asyncio.create_task(stream_to(story(), Slow()).run())
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(scenario())
    the_next_call_is_served(client)
    assert outcomes(capture)[:3] == ["completed", "abandoned", "abandoned"]
    assert outcomes(capture)[3] in {"abandoned", "cancelled"}


async def one_of(receive: Any) -> None:
    async with receive:
        await receive.receive()


class Slow(StreamHandler):
    async def on_text(self, text: str) -> None:
        await anyio.sleep(HANG)
