"""The replay log of real calls of every kind holds, to the byte, what the caller got."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest

from ollama_otel import instrument_client
from ollama_otel.replay import RecordedCall, ReplayLog, read

from .servers import RealOllama
from .test_calls import TOOLS

HELLO = [{"role": "user", "content": "Hello"}]
STORY = [{"role": "user", "content": "Tell me a story."}]
WEATHER = [{"role": "user", "content": "What is the weather in Paris?"}]
SKY = [{"role": "user", "content": "Why is the sky blue?"}]
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


class Tee(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """What the caller gets, noted between our transport and httpx's own client."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.bodies: list[list[bytes]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._tee(self.inner.handle_request(request))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self._tee(await self.inner.handle_async_request(request))

    def close(self) -> None:
        self.inner.close()

    async def aclose(self) -> None:
        await self.inner.aclose()

    def _tee(self, response: httpx.Response) -> httpx.Response:
        self.bodies.append([])
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_Noted(response.stream, self.bodies[-1]),
            extensions=response.extensions,
        )


class _Noted(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, inner: Any, pieces: list[bytes]) -> None:
        self.inner = inner
        self.pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.inner:
            self.pieces.append(piece)
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self.inner:
            self.pieces.append(piece)
            yield piece

    def close(self) -> None:
        self.inner.close()

    async def aclose(self) -> None:
        await self.inner.aclose()


def leave_early(client: Any) -> None:
    stream = client.chat("tiny-agent", messages=STORY, stream=True)
    for _ in zip(range(5), stream, strict=False):
        pass
    stream.close()


KINDS: dict[str, Callable[[Any], Any]] = {
    "chat": lambda c: c.chat("tiny-agent", messages=HELLO),
    "chat, streamed": lambda c: list(c.chat("tiny-agent", messages=STORY, stream=True)),
    "thinking": lambda c: list(c.chat("tiny-thinker", messages=SKY, think=True, stream=True)),
    "tools": lambda c: list(c.chat("tiny-agent", messages=WEATHER, tools=TOOLS, stream=True)),
    "structured": lambda c: c.chat("tiny-agent", messages=HELLO, format=SCHEMA),
    "generate": lambda c: list(c.generate("tiny-agent", prompt="Hello", stream=True)),
    "logprobs": lambda c: list(c.chat("tiny-agent", messages=HELLO, logprobs=True, stream=True)),
    "embed": lambda c: c.embed("tiny-embed", input=["one", "two"]),
    "load": lambda c: c.generate("tiny-agent", prompt=""),
    "show": lambda c: c.show("tiny-agent"),
    "list": lambda c: c.list(),
    "ps": lambda c: c.ps(),
    "error": lambda c: c.chat("none", messages=HELLO),
    "error of a stream": lambda c: list(c.chat("tiny-embed", messages=HELLO, stream=True)),
    "pull": lambda c: list(c.pull("none", stream=True)),
    "abandoned": leave_early,
}


def only(path: Path) -> RecordedCall:
    [call] = read(path)
    return call


@pytest.mark.parametrize("kind", KINDS)
def test_a_real_call_comes_back_to_the_byte(
    kind: str, real_ollama: RealOllama, tmp_path: Path
) -> None:
    with (
        ReplayLog(tmp_path / "calls.jsonl", bodies=True, media=True) as log,
        ollama.Client(real_ollama.url) as plain,
    ):
        client = instrument_client(plain, observers=[log])
        tee = client._client._transport = Tee(client._client._transport)
        with suppress(ollama.ResponseError):
            KINDS[kind](client)
    call = only(tmp_path / "calls.jsonl")
    # The conversation as token ids is never written.
    assert [chunk.data for chunk in call.chunks or ()] == [
        re.sub(rb'"context":\[[0-9,]+\]', b'"context":[]', piece)
        for piece in tee.bodies[0]
        if piece
    ]
    assert call.changes == ({"token_ids"} if kind == "generate" else frozenset())
    assert call.record is not None
    assert call.record.outcome == {"abandoned": "abandoned", "pull": "failed"}.get(
        kind, "failed" if "error" in kind else "completed"
    )
    offsets = [chunk.offset for chunk in call.chunks or ()]
    assert offsets == sorted(offsets)
    assert offsets[-1] <= call.record.duration


def test_a_cancelled_real_call_comes_back_as_far_as_it_came(
    real_ollama: RealOllama, tmp_path: Path
) -> None:
    async def scenario() -> Tee:
        with ReplayLog(tmp_path / "calls.jsonl", bodies=True) as log:
            client = instrument_client(ollama.AsyncClient(real_ollama.url), observers=[log])
            tee = client._client._transport = Tee(client._client._transport)

            async def follow() -> None:
                stream = await client.chat("tiny-agent", messages=STORY, stream=True)
                async for _ in stream:
                    # By itself, as the model may be done before another task has its turn.
                    task.cancel()

            task = asyncio.create_task(follow())
            with suppress(asyncio.CancelledError):
                await task
            await client._client.aclose()
        return tee

    tee = asyncio.run(scenario())
    call = only(tmp_path / "calls.jsonl")
    assert call.record is not None
    assert call.record.outcome == "cancelled"
    assert [chunk.data for chunk in call.chunks or ()] == [
        piece for piece in tee.bodies[0] if piece
    ]


def test_a_server_that_is_not_there_is_logged_too(tmp_path: Path) -> None:
    with ReplayLog(tmp_path / "calls.jsonl", bodies=True) as log:
        client = instrument_client(ollama.Client("http://127.0.0.1:1"), observers=[log])
        with pytest.raises(ConnectionError):
            client.chat("tiny-agent", messages=HELLO)
    call = only(tmp_path / "calls.jsonl")
    assert call.record is not None
    assert (call.record.error_type, call.chunks) == ("connect", ())
