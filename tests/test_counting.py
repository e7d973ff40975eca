"""`count_tokens` of both clients: what it asks, what it returns, and what it raises."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import ollama
import pytest
from ollama import Message

from ollama_otel import AsyncClient, Client, Settings
from ollama_otel._telemetry import truncation
from ollama_otel.testing import Capture
from ollama_otel.tokens import TokenCount
from tests.tokens.tables import show

URL = "http://ollama.example:11434"
Count = Callable[..., Any]


class Server:
    """Answers what a count asks for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.tags = 200
        self.rendered: str | None = "<|im_start|>hello<|im_end|>"

    def handle(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        self.asked.append((request.url.path, body))
        match request.url.path:
            case "/api/tags":
                rows = [{"name": "m:latest", "digest": "a" * 64}]
                return httpx.Response(self.tags, json={"models": rows})
            case "/api/show" if body["model"] == "m":
                return httpx.Response(200, json=show())
            case "/api/show":
                return httpx.Response(404, json={"error": f"model '{body['model']}' not found"})
        if self.rendered is None:
            return httpx.Response(200, json={"message": {"content": "Hi"}, "done": True})
        return httpx.Response(200, json={"_debug_info": {"rendered_template": self.rendered}})

    async def handle_async(self, request: httpx.Request) -> httpx.Response:
        return self.handle(request)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    truncation._directories.clear()
    yield
    truncation._directories.clear()


@pytest.fixture(params=["sync", "async"])
def count(request: pytest.FixtureRequest, server: Server, capture: Capture) -> Count:
    """`count_tokens` of either client."""
    options: Any = {"settings": Settings(vocabulary_cache=None), **capture.options}
    if request.param == "sync":
        client = Client(URL, transport=httpx.MockTransport(server.handle), **options)
        return lambda *args, **fields: _at_once(client.count_tokens(*args, **fields))
    transport = httpx.MockTransport(server.handle_async)
    return AsyncClient(URL, transport=transport, **options).count_tokens


async def _at_once(value: TokenCount) -> TokenCount:
    return value


async def counted(count: Count, *args: Any, **fields: Any) -> TokenCount:
    """Call it inside the coroutine, so that both colours raise here."""
    found: TokenCount = await count(*args, **fields)
    return found


pytestmark = pytest.mark.anyio


async def test_a_text_is_counted_by_the_servers_vocabulary(count: Count, server: Server) -> None:
    found = await counted(count, "m", "hello hello")
    assert (found.tokens, found.tier) == (3, "exact")
    assert [path for path, _ in server.asked] == ["/api/tags", "/api/show"]
    await counted(count, "m", "hello")
    assert len(server.asked) == 2


async def test_its_requests_are_not_recorded(count: Count, capture: Capture) -> None:
    await counted(count, "m", "hello", render=True)
    await counted(count, "m", [{"role": "user", "content": "hello"}], render=True)
    assert (capture.spans, capture.records) == ([], [])


@pytest.mark.parametrize(
    "message", [{"role": "user", "content": "hello"}, Message(role="user", content="hello")]
)
async def test_messages_are_taken_as_the_official_client_takes_them(
    count: Count, message: Any
) -> None:
    assert (await counted(count, "m", [message])).tokens == 8


async def test_the_server_renders_if_it_is_asked_to(count: Count, server: Server) -> None:
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    tools = [add, {"type": "function", "function": {"name": "f"}}]
    messages = [{"role": "user", "content": "hello"}]
    found = await counted(count, "m", messages, tools=tools, options={"num_ctx": 8}, render=True)
    assert (found.tokens, found.tier) == (3, "exact")
    path, body = server.asked[-1]
    assert path == "/api/chat"
    assert body["options"] == {"num_ctx": 8, "num_predict": 1}
    assert [tool["function"]["name"] for tool in body["tools"]] == ["add", "f"]
    assert body["truncate"] is False


async def test_a_server_that_renders_nothing_is_no_error(count: Count, server: Server) -> None:
    server.rendered = None
    found = await counted(count, "m", [{"role": "user", "content": "hello"}], render=True)
    assert found.tier == "calibrated"


async def test_images_are_not_counted(count: Count) -> None:
    message = {"role": "user", "content": "hello", "images": [b"x"]}
    assert (await counted(count, "m", [message])).tokens is None


async def test_a_list_of_models_that_is_refused_is_done_without(
    count: Count, server: Server
) -> None:
    server.tags = 403
    assert (await counted(count, "m", "hello")).tier == "exact"


async def test_a_model_that_does_not_exist_is_the_official_error(count: Count) -> None:
    with pytest.raises(ollama.ResponseError, match="model 'other' not found"):
        await counted(count, "other", "hello")


@pytest.mark.sockets
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_server_that_cannot_be_reached_is_the_official_error(is_async: bool) -> None:
    settings = Settings(vocabulary_cache=None)
    url = "http://127.0.0.1:9"
    with pytest.raises(ConnectionError, match="Failed to connect to Ollama"):
        if is_async:
            await AsyncClient(url, settings=settings).count_tokens("m", "hello")
        else:
            Client(url, settings=settings).count_tokens("m", "hello")
