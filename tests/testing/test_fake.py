"""The fake server, asked by the official client: in process and over a socket, sync and async."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import FrozenInstanceError
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import httpx
import ollama
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel.testing._fake import FakeModel, FakeOllama, Fault, Reply
from ollama_otel.testing._fake.reply import RUNNER_ERROR, deliver

pytestmark = pytest.mark.sockets

HELLO = [{"role": "user", "content": "Hello"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"type": "string", "enum": ["celsius", "kelvin"]},
                "days": {"type": ["integer", "null"]},
                "hours": {"type": "array", "items": {"type": "number"}},
                "verbose": {"type": "boolean"},
            },
            "required": ["city", "unit", "days", "hours"],
        },
    },
}
RECORDED = Path(__file__).parents[1] / "data" / "ollama-0.33.0"
WAYS = ("sync in process", "async in process", "sync on a socket", "async on a socket")
BY_SOCKET = [way for way in WAYS if "socket" in way]


class Caller:
    """Calls methods of the official client by name, whatever its colour and the way in."""

    def __init__(self, fake: FakeOllama, way: str, url: str | None) -> None:
        self.fake = fake
        self.is_async = way.startswith("async")
        self.is_on_socket = url is not None
        self._url = url

    def options(self) -> dict[str, Any]:
        """What an httpx client needs to reach the fake server."""
        if self._url is None:
            return {"transport": self.fake.transport()}
        # Reading the certificates would take most of the time of these tests.
        return {"trust_env": False, "verify": False}

    def __call__(self, name: str, *, timeout: float | None = None, **arguments: Any) -> Any:
        """The method's result; of a stream, the list of its parts."""
        parts: list[Any] = []
        result = self.into(parts, name, timeout=timeout, **arguments)
        return parts if arguments.get("stream") else result

    def into(
        self, parts: list[Any], name: str, *, timeout: float | None = None, **arguments: Any
    ) -> Any:
        """As a call; the parts of a stream are in the list even if an error follows."""
        host = self._url or "http://127.0.0.1:11434"
        if self.is_async:
            return anyio.run(self._async, parts, name, arguments, host, timeout)
        with ollama.Client(host, timeout=timeout, **self.options()) as client:
            result = getattr(client, name)(**arguments)
            parts.extend(result if arguments.get("stream") else ())
            return result

    async def _async(
        self,
        parts: list[Any],
        name: str,
        arguments: Mapping[str, Any],
        host: str,
        timeout: float | None,  # noqa: ASYNC109 - of httpx
    ) -> Any:
        async with ollama.AsyncClient(host, timeout=timeout, **self.options()) as client:
            result = await getattr(client, name)(**arguments)
            if arguments.get("stream"):
                async for part in result:
                    parts.append(part)  # noqa: PERF401 - so that an error leaves the parts
            return result


@pytest.fixture
def fake() -> FakeOllama:
    return FakeOllama()


@pytest.fixture(params=WAYS)
def ask(request: pytest.FixtureRequest, fake: FakeOllama) -> Iterator[Caller]:
    with ExitStack() as stack:
        url = stack.enter_context(fake.serve()) if request.param in BY_SOCKET else None
        yield Caller(fake, request.param, url)


@pytest.fixture
def web(fake: FakeOllama) -> Iterator[httpx.Client]:
    """A bare client, in process."""
    with httpx.Client(transport=fake.transport(), base_url="http://fake") as client:
        yield client


class TestRoutes:
    def test_chat_answers_in_one_piece(self, ask: Caller) -> None:
        answer = ask("chat", model="llama3.2", messages=HELLO)
        assert answer.message.content == "Hello! I am a fake model. How can I help you today?"
        assert (answer.done, answer.done_reason) == (True, "stop")
        assert answer.message.thinking is None

    def test_chat_streams_token_by_token(self, ask: Caller) -> None:
        parts = ask("chat", model="llama3.2", messages=HELLO, stream=True)
        assert [part.message.content for part in parts[:3]] == ["Hello!", " I", " am"]
        assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
        assert parts[-1].message.content == ""
        assert parts[-1].eval_count == len(parts) - 1

    def test_a_model_that_can_think_does_so_unless_told_not_to(self, ask: Caller) -> None:
        thinking = "A greeting. A short and friendly answer will do."
        assert ask("chat", model="qwen3", messages=HELLO).message.thinking == thinking
        assert ask("chat", model="qwen3", messages=HELLO, think=False).message.thinking is None
        streamed = ask("chat", model="qwen3", messages=HELLO, stream=True)
        assert "".join(part.message.thinking or "" for part in streamed) == thinking

    def test_generate(self, ask: Caller) -> None:
        whole = ask("generate", model="qwen3", prompt="Hello")
        parts = ask("generate", model="qwen3", prompt="Hello", stream=True)
        assert "".join(part.response for part in parts) == whole.response
        assert "".join(part.thinking or "" for part in parts) == whole.thinking
        assert whole.context
        assert parts[-1].context == whole.context
        assert ask("generate", model="qwen3", prompt="Hello", raw=True).context is None

    def test_embed_gives_unit_vectors_that_depend_on_the_text_alone(self, ask: Caller) -> None:
        answer = ask("embed", model="nomic-embed-text", input=["a", "b", "a"])
        first, second, third = answer.embeddings
        assert first == third != second
        assert len(first) == 16
        assert sum(value * value for value in first) == pytest.approx(1.0, abs=1e-5)
        assert answer.prompt_eval_count == 9
        assert answer.total_duration >= answer.load_duration > 0
        assert answer.eval_count is None
        short = ask("embed", model="nomic-embed-text", input="a", dimensions=4)
        assert len(short.embeddings[0]) == 4

    def test_the_old_embeddings(self, ask: Caller) -> None:
        new = ask("embed", model="nomic-embed-text", input="a")
        assert (
            ask("embeddings", model="nomic-embed-text", prompt="a").embedding == new.embeddings[0]
        )

    def test_list(self, ask: Caller) -> None:
        names = [model.model for model in ask("list").models]
        assert names == ["llama3.2:latest", "qwen3:latest", "nomic-embed-text:latest"]

    def test_ps_lists_what_is_loaded(self, ask: Caller) -> None:
        assert ask("ps").models == []
        ask("chat", model="llama3.2", messages=HELLO, options={"num_ctx": 2048})
        ask("chat", model="qwen3", messages=HELLO, keep_alive=-1)
        forever, loaded = ask("ps").models
        assert (loaded.name, loaded.context_length) == ("llama3.2:latest", 2048)
        assert forever.expires_at.year - loaded.expires_at.year > 250

    def test_show(self, ask: Caller) -> None:
        shown = ask("show", model="qwen3")
        assert shown.capabilities == ["completion", "tools", "thinking"]
        assert shown.modelinfo["qwen3.context_length"] == 4096

    def test_create_copy_and_delete(self, ask: Caller) -> None:
        parts = ask("create", model="mine", from_="qwen3", stream=True)
        assert parts[-1].status == "success"
        assert ask("create", model="from-file", files={"a": "sha256:1"}).status == "success"
        ask("copy", source="mine", destination="yours")
        assert ask("delete", model="mine").status == "success"
        names = {model.model for model in ask("list").models}
        assert {"yours:latest", "from-file:latest"} <= names
        assert "mine:latest" not in names

    def test_pull_installs_from_the_registry(self, ask: Caller) -> None:
        parts = ask("pull", model="all-minilm", stream=True)
        assert parts[0].status == "pulling manifest"
        assert [part.completed for part in parts if part.digest][-1] == parts[1].total
        assert parts[-1].status == "success"
        assert ask("pull", model="all-minilm").status == "success"
        assert len(ask("embed", model="all-minilm", input="a").embeddings) == 1

    def test_pull_of_an_unknown_model(self, ask: Caller) -> None:
        parts: list[Any] = []
        message = "pull model manifest: file does not exist"
        with pytest.raises(ollama.ResponseError, match=message) as caught:
            ask.into(parts, "pull", model="absent", stream=True)
        assert ([part.status for part in parts], caught.value.status_code) == (
            ["pulling manifest"],
            -1,
        )
        with pytest.raises(ollama.ResponseError, match=message) as caught:
            ask("pull", model="absent")
        assert caught.value.status_code == 500

    def test_push(self, ask: Caller) -> None:
        assert ask("push", model="llama3.2", stream=True)[-1].status == "success"
        with pytest.raises(ollama.ResponseError):
            ask("push", model="absent", stream=True)

    def test_create_from_an_unknown_model_or_from_nothing(self, ask: Caller) -> None:
        with pytest.raises(ollama.ResponseError, match="file does not exist"):
            ask("create", model="mine", from_="absent", stream=True)
        with pytest.raises(ollama.ResponseError, match="neither") as caught:
            ask("create", model="mine", stream=True)
        assert caught.value.status_code == 400

    def test_blobs(self, ask: Caller, tmp_path: Path) -> None:
        (tmp_path / "blob").write_bytes(b"weights" * 100_000)
        digest = ask("create_blob", path=tmp_path / "blob")
        assert digest == ask("create_blob", path=tmp_path / "blob")
        assert ask.fake.requests[-1].body == b"weights" * 100_000

    def test_web_search_and_fetch(self, fake: FakeOllama) -> None:
        headers = {"authorization": "Bearer key"}
        with ollama.Client(transport=fake.transport(), headers=headers) as client:
            assert len(client.web_search("otel", max_results=2).results) == 2
            assert client.web_fetch("https://example.com").content
        paths = [received.path for received in fake.requests]
        assert paths == ["/api/web_search", "/api/web_fetch"]

    def test_experimental_web_search_and_fetch(self, web: httpx.Client) -> None:
        found = web.post("/api/experimental/web_search", json={"query": "otel"}).json()
        assert len(found["results"]) == 5
        page = web.post("/api/experimental/web_fetch", json={"url": "https://example.com"})
        assert page.json()["title"] == "A page"
        assert web.post("/api/web_search", json={}).status_code == 400
        assert web.post("/api/web_fetch", json={}).status_code == 400

    def test_health_version_and_status(self, web: httpx.Client) -> None:
        assert web.get("/").text == "Ollama is running"
        assert web.get("/api/version").json() == {"version": "0.33.0"}
        assert web.get("/api/status").json() == {"cloud": {"disabled": False, "source": "none"}}

    @pytest.mark.parametrize("path", ["/", "/api/version", "/api/tags"])
    def test_head_has_no_body(self, web: httpx.Client, path: str) -> None:
        answer = web.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == str(len(web.get(path).content))


class TestModels:
    def test_the_first_call_loads_and_the_next_is_warm(self, ask: Caller) -> None:
        cold = ask("chat", model="llama3.2", messages=HELLO)
        warm = ask("chat", model="llama3.2", messages=HELLO)
        assert 540_000_000 <= cold.load_duration <= 660_000_000
        assert 900_000 <= warm.load_duration <= 1_100_000

    @pytest.mark.parametrize("stream", [True, False])
    def test_durations_add_up(self, stream: bool) -> None:
        fake = FakeOllama(queue=0.25)
        with httpx.Client(transport=fake.transport()) as client:
            body = {"model": "qwen3", "messages": HELLO, "stream": stream}
            last = client.post("http://fake/api/chat", json=body).text.splitlines()[-1]
        part = json.loads(last)
        known = ("load_duration", "prompt_eval_duration", "eval_duration")
        assert part["total_duration"] - sum(part[name] for name in known) == 250_000_000

    def test_a_model_is_forgotten_after_its_keep_alive(self) -> None:
        now = 1_000_000.0
        fake = FakeOllama(clock=lambda: now)
        with ollama.Client(transport=fake.transport()) as client:
            client.chat("llama3.2", HELLO, keep_alive="1m30s")
            now += 89
            assert _is_warm(client.chat("llama3.2", HELLO))  # and 90 s more: it sticks
            now += 89
            assert _is_warm(client.chat("llama3.2", HELLO))
            now += 91
            assert client.ps().models == []
            assert not _is_warm(client.chat("llama3.2", HELLO))

    def test_a_load_time_option_reloads_and_others_do_not(self, ask: Caller) -> None:
        assert not _is_warm(ask("chat", model="llama3.2", messages=HELLO))
        for options, is_warm in [
            ({"num_ctx": 4096}, True),
            ({"temperature": 0.5}, True),
            ({"num_ctx": 1024}, False),
            ({"num_ctx": 1024, "seed": 1, "mirostat": "unknown", "stop": None}, True),
            ({}, False),
        ]:
            answer = ask("chat", model="llama3.2", messages=HELLO, options=options)
            assert _is_warm(answer) is is_warm, options

    def test_preload_and_unload(self, ask: Caller) -> None:
        loaded = ask("generate", model="llama3.2", prompt="")
        assert (loaded.done_reason, loaded.total_duration) == ("load", None)
        assert len(ask("ps").models) == 1
        assert ask("chat", model="llama3.2", messages=[]).done_reason == "load"
        assert ask("chat", model="llama3.2", messages=[], keep_alive=0).done_reason == "unload"
        assert ask("ps").models == []
        assert ask("generate", model="llama3.2", keep_alive=0).done_reason == "unload"
        assert ask("embed", model="nomic-embed-text", input="").embeddings == []
        assert ask("embeddings", model="nomic-embed-text", prompt="").embedding == []
        ask("embed", model="nomic-embed-text", input="a", keep_alive="0")
        assert ask("ps").models == []

    def test_tools_that_are_mentioned_are_called(self, ask: Caller) -> None:
        question = [{"role": "user", "content": "get_weather and Get Weather and add them"}]
        add = {"type": "function", "function": {"name": "add", "description": "sums"}}
        tools = [WEATHER, add, {"type": "function", "function": {"name": "other"}}]
        message = ask("chat", model="llama3.2", messages=question, tools=tools).message
        assert [(call.function.name, call.function.arguments) for call in message.tool_calls] == [
            ("get_weather", {"city": "text", "unit": "celsius", "days": 1, "hours": [1.5]}),
            ("add", {}),
        ]
        assert message.content == ""
        streamed = ask("chat", model="llama3.2", messages=question, tools=tools, stream=True)
        assert [len(part.message.tool_calls or ()) for part in streamed] == [1, 1, 0]

    def test_tool_calls_have_ids_and_positions(self, web: httpx.Client) -> None:
        question = [{"role": "user", "content": "get_weather"}]
        body = {"model": "qwen3", "messages": question, "tools": [WEATHER], "stream": False}
        [call] = web.post("/api/chat", json=body).json()["message"]["tool_calls"]
        assert re.fullmatch(r"call_[a-z0-9]{8}", call["id"])
        assert call["function"]["index"] == 0

    def test_after_the_tools_result_it_speaks(self, ask: Caller) -> None:
        messages = [
            {"role": "user", "content": "get_weather"},
            {"role": "tool", "tool_name": "get_weather", "content": "get_weather: 20"},
        ]
        message = ask("chat", model="llama3.2", messages=messages, tools=[WEATHER]).message
        assert (message.tool_calls, bool(message.content)) == (None, True)

    @pytest.mark.parametrize("stream", [True, False])
    def test_num_predict_ends_with_length(self, ask: Caller, stream: bool) -> None:
        options = {"num_predict": 3}
        answer = ask("chat", model="llama3.2", messages=HELLO, options=options, stream=stream)
        final = answer[-1] if stream else answer
        assert (final.done_reason, final.eval_count) == ("length", 3)
        none = ask("chat", model="llama3.2", messages=HELLO, options={"num_predict": 0})
        assert (none.message.content, none.eval_count) == ("", None)

    def test_stop_ends_the_text(self, ask: Caller) -> None:
        options = {"stop": [" model", "zebra"]}
        answer = ask("generate", model="llama3.2", prompt="Hello", options=options)
        assert (answer.response, answer.done_reason) == ("Hello! I am a fake", "stop")

    def test_a_prompt_too_long_is_cut_silently(self, ask: Caller) -> None:
        answer = ask("generate", model="llama3.2", prompt="word " * 600, options={"num_ctx": 512})
        assert answer.prompt_eval_count == 258
        embedded = ask("embed", model="nomic-embed-text", input="word " * 5000)
        assert embedded.prompt_eval_count == 4094

    def test_models_are_the_callers(self) -> None:
        model = FakeModel(
            "poet:7b", capabilities=("completion",), reply="Ro<ses> & vio\u2028lets é"
        )
        fake = FakeOllama(models=(model,), version="0.20.0")
        with httpx.Client(transport=fake.transport(), base_url="http://fake") as client:
            raw = client.post("/api/generate", json={"model": "poet:7b", "prompt": "?"}).text
            assert client.get("/api/version").json() == {"version": "0.20.0"}
        assert "Ro\\u003cses\\u003e" in raw
        assert "\\u0026" in raw
        assert "\\u2028" in raw
        assert "é" in raw
        assert '": ' not in raw

    def test_times_have_nanoseconds_and_go_up(self, web: httpx.Client) -> None:
        lines = web.post("/api/chat", json={"model": "qwen3", "messages": HELLO}).text.splitlines()
        stamps = [json.loads(line)["created_at"] for line in lines]
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{9}Z", stamp) for stamp in stamps)
        assert all(one < next_ for one, next_ in pairwise(stamps[:-1]))

    def test_the_same_seed_gives_the_same_answers(self) -> None:
        def run(seed: int) -> list[str]:
            fake = FakeOllama(seed=seed, clock=lambda: 1_789_000_000.0)
            with httpx.Client(transport=fake.transport()) as client:
                body = {"model": "qwen3", "messages": HELLO, "stream": False}
                return [client.post("http://fake/api/chat", json=body).text for _ in range(3)]

        assert run(1) == run(1)
        assert run(1) != run(2)
        assert len(set(run(1))) == 3

    @pytest.mark.parametrize("stream", [True, False])
    def test_in_realtime_it_takes_the_time_it_reports(self, stream: bool) -> None:
        waits: list[float] = []
        fake = FakeOllama(realtime=True, queue=0.1, sleep=waits.append)
        with httpx.Client(transport=fake.transport(), timeout=None) as client:
            body = {"model": "llama3.2", "messages": HELLO, "stream": stream}
            text = client.post("http://fake/api/chat", json=body).text
        total = json.loads(text.splitlines()[-1])["total_duration"] / 1e9
        assert sum(waits) == pytest.approx(total)
        assert waits[0] > 0.6

    def test_without_realtime_nothing_waits(self) -> None:
        waits: list[float] = []
        with ollama.Client(transport=FakeOllama(sleep=waits.append).transport()) as client:
            list(client.chat("qwen3", HELLO, stream=True))
        assert waits == []


def _error(path: str, status: int, text: str, **body: Any) -> Any:
    return pytest.param(path, body, status, text, id=f"{path} {status} {text[:40]}")


ERRORS = [
    _error("/api/chat", 404, "model 'x' not found", model="x", messages=HELLO),
    _error("/api/generate", 404, "model 'x' not found", model="x", prompt="?"),
    _error("/api/generate", 404, "model '' not found", prompt="?"),
    _error("/api/show", 404, "model 'x:latest' not found", model="x"),
    _error("/api/show", 400, "model is required"),
    _error("/api/chat", 400, "model is required", messages=HELLO),
    _error("/api/embeddings", 400, "model is required", prompt="?"),
    _error("/api/embed", 404, 'model "x" not found, try pulling it first', model="x"),
    _error("/api/embeddings", 404, 'model "x" not found, try pulling it first', model="x"),
    _error("/api/embed", 404, "model '' not found", input="a"),
    _error("/api/copy", 404, 'model "x" not found', source="x", destination="y"),
    _error("/api/copy", 400, 'source "" is invalid', destination="y"),
    _error("/api/generate", 400, '"qwen2" does not support thinking', model="qwen2", think="high"),
    _error("/api/chat", 400, '"embed" does not support chat', model="embed", messages=HELLO),
    _error("/api/generate", 400, '"embed" does not support generate', model="embed", prompt="?"),
    _error(
        "/api/chat",
        400,
        "registry.ollama.ai/library/qwen2:latest does not support tools",
        model="qwen2",
        messages=HELLO,
        tools=[WEATHER],
    ),
    _error(
        "/api/generate",
        400,
        "registry.ollama.ai/me/coder:7b does not support insert",
        model="me/coder:7b",
        prompt="?",
        suffix="!",
    ),
    _error(
        "/api/embed",
        501,
        "This server does not support embeddings. Start it with `--embeddings`",
        model="qwen2",
        input="a",
    ),
    _error("/api/embed", 400, "invalid input type", model="embed", input=[1]),
    _error("/api/embed", 400, "invalid input type", model="embed", input={}),
    _error(
        "/api/embed",
        400,
        "the input length exceeds the context length",
        model="embed",
        input="word " * 5000,
        truncate=False,
    ),
    _error(
        "/api/generate",
        400,
        "raw mode does not support template, system, or context",
        model="qwen2",
        prompt="?",
        raw=True,
        system="S",
    ),
    _error(
        "/api/chat",
        400,
        "top_logprobs must be between 0 and 20",
        model="qwen2",
        top_logprobs=21,
    ),
    _error(
        "/api/chat",
        400,
        'invalid think value: "x" (must be "high", "medium", "low", "max", true, or false)',
        model="qwen2",
        think="x",
    ),
    _error(
        "/api/chat",
        400,
        'time: missing unit in duration "300"',
        model="qwen2",
        keep_alive="300",
    ),
    _error("/api/chat", 400, 'time: invalid duration "soon"', model="qwen2", keep_alive="soon"),
    _error("/api/chat", 400, "Unsupported type: 'bool'", model="qwen2", keep_alive=True),
    _error(
        "/api/chat",
        400,
        "json: cannot unmarshal string into Go struct field ChatRequest.messages of type "
        "[]api.Message",
        model="qwen2",
        messages="Hello",
    ),
    _error(
        "/api/chat",
        400,
        "json: cannot unmarshal value into Go struct field ChatRequest.messages of type "
        "api.Message",
        model="qwen2",
        messages=["Hello"],
    ),
    _error(
        "/api/generate",
        400,
        "json: cannot unmarshal number into Go struct field GenerateRequest.stream of type bool",
        model="qwen2",
        stream=1,
    ),
    *(
        _error("/api/chat", 500, text, model="qwen2", messages=HELLO, options=options)
        for options, text in [
            ({"stop": "."}, 'option "stop" must be of type array'),
            ({"stop": [1]}, 'option "stop" must be of an array of strings'),
            ({"temperature": "hot"}, 'option "temperature" must be of type float32'),
            ({"num_ctx": True}, 'option "num_ctx" must be of type integer'),
            ({"use_mmap": 1}, 'option "use_mmap" must be of type boolean'),
        ]
    ),
]


class TestErrors:
    @pytest.mark.parametrize(("path", "body", "status", "text"), ERRORS)
    def test_errors_say_what_ollama_says(
        self, path: str, body: dict[str, Any], status: int, text: str
    ) -> None:
        models = [
            FakeModel("qwen2", capabilities=("completion",)),
            FakeModel("me/coder:7b"),
            FakeModel("embed", capabilities=("embedding",)),
        ]
        with httpx.Client(transport=FakeOllama(models).transport()) as client:
            answer = client.post(f"http://fake{path}", json=body)
        assert (answer.status_code, answer.json()) == (status, {"error": text})
        assert answer.headers["content-type"] == "application/json; charset=utf-8"

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            (b"", "missing request body"),
            (b"  ", "missing request body"),
            (b'{"model":"qwen3"', "unexpected EOF"),
            (b'{"model":"qwe', "unexpected EOF"),
            (b"{model", "invalid character 'm' looking for beginning of value"),
            (b'{"a":NaN}', "invalid character 'N' looking for beginning of value"),
            (b"[]", "json: cannot unmarshal array into Go value of type api.ChatRequest"),
            (b"null", "json: cannot unmarshal null into Go value of type api.ChatRequest"),
        ],
    )
    def test_a_body_that_cannot_be_read(self, web: httpx.Client, body: bytes, text: str) -> None:
        answer = web.post("/api/chat", content=body)
        assert (answer.status_code, answer.json()) == (400, {"error": text})

    def test_what_follows_the_first_value_is_ignored(self, web: httpx.Client) -> None:
        assert web.post("/api/show", content=b'{"model":"qwen3"} and more').status_code == 200

    @pytest.mark.parametrize(
        ("method", "path", "status", "text"),
        [
            ("GET", "/nowhere", 404, "404 page not found"),
            ("POST", "/v1/systemone", 404, "404 page not found"),
            ("GET", "/api/chat", 405, "405 method not allowed"),
            ("POST", "/api/delete", 405, "405 method not allowed"),
        ],
    )
    def test_unknown_paths_and_wrong_methods(
        self, web: httpx.Client, method: str, path: str, status: int, text: str
    ) -> None:
        answer = web.request(method, path)
        assert (answer.status_code, answer.text) == (status, text)
        assert answer.headers["content-type"] == "text/plain"

    def test_a_prompt_too_long_that_must_not_be_cut(self, ask: Caller) -> None:
        with httpx.Client(transport=ask.fake.transport(), base_url="http://fake") as client:
            body = {"model": "llama3.2", "prompt": "word " * 5000}
            no_shift = client.post("/api/generate", json=body | {"shift": False})
            no_cut = client.post("/api/generate", json=body | {"truncate": False})
        assert no_shift.json()["error"].startswith("the prompt is longer than the context length")
        assert no_cut.headers["content-type"] == "application/json"
        inner = json.loads(no_cut.json()["error"])["error"]
        assert (inner["type"], inner["n_ctx"]) == ("exceed_context_size_error", 4096)

    def test_blobs_that_do_not_fit_their_digest(self, web: httpx.Client) -> None:
        digest = "sha256:" + "0" * 64
        assert web.head(f"/api/blobs/{digest}").status_code == 404
        assert "digest mismatch" in web.post(f"/api/blobs/{digest}", content=b"x").text
        assert web.head("/api/blobs/nonsense").status_code == 400

    def test_delete_of_an_unknown_model(self, ask: Caller) -> None:
        with pytest.raises(ollama.ResponseError, match="model 'absent' not found") as caught:
            ask("delete", model="absent")
        assert caught.value.status_code == 404

    def test_delete_without_a_name(self, web: httpx.Client) -> None:
        assert web.request("DELETE", "/api/delete", json={}).status_code == 400


class TestScripts:
    def test_replies_are_used_up_in_order_and_only_for_their_path(self, ask: Caller) -> None:
        first = Reply.error(
            503, "server busy, please try again.  maximum pending requests exceeded"
        )
        done = {"message": {"role": "assistant", "content": "scripted"}, "done": True}
        ask.fake.script("/api/chat", first, Reply.json(done))
        assert ask("show", model="qwen3").modelinfo
        with pytest.raises(ollama.ResponseError, match="maximum pending") as caught:
            ask("chat", model="qwen3", messages=HELLO)
        assert caught.value.status_code == 503
        assert ask("chat", model="qwen3", messages=HELLO).message.content == "scripted"
        assert "fake model" in ask("chat", model="qwen3", messages=HELLO).message.content

    def test_streams_are_sent_as_they_are(self, ask: Caller) -> None:
        final = {"response": "only", "done": True, "done_reason": "stop"}
        parts: list[dict[str, Any]] = [{"response": "One & "}, final]
        ask.fake.script("/api/generate", Reply.stream(parts))
        answer = ask("generate", model="any", prompt="?", stream=True)
        assert [(part.response, part.done) for part in answer] == [("One & ", None), ("only", True)]

    def test_a_path_the_server_does_not_know(self, web: httpx.Client, fake: FakeOllama) -> None:
        sse = Reply(headers={"Content-Type": "text/event-stream"}, chunks=[b"data: [DONE]\n\n"])
        fake.script("/v1/chat/completions", sse)
        answer = web.post("/v1/chat/completions", json={})
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.text == "data: [DONE]\n\n"
        assert web.post("/v1/chat/completions", json={}).status_code == 404

    def test_requests_are_recorded(self, ask: Caller) -> None:
        ask("chat", model="qwen3", messages=HELLO, keep_alive=5)
        [received] = ask.fake.requests
        assert (received.method, received.path) == ("POST", "/api/chat")
        assert received.headers["content-type"] == "application/json"
        assert received.json()["keep_alive"] == 5
        with pytest.raises(FrozenInstanceError):
            received.path = "/"  # type: ignore[misc]

    def test_requests_are_recorded_without_their_query(self, web: httpx.Client) -> None:
        assert web.get("/api/version?verbose=1").status_code == 200


class TestFaults:
    """What the official client raises is that of table 4.4 in the wire reference."""

    @pytest.mark.parametrize("stream", [True, False])
    def test_a_cut_connection(self, ask: Caller, stream: bool) -> None:
        ask.fake.fault("/api/chat", Fault(cut_at=250))
        parts: list[Any] = []
        kind = "incomplete chunked read" if stream else r"received 250 bytes, expected \d+"
        with pytest.raises(httpx.RemoteProtocolError, match=f"peer closed connection.*{kind}"):
            ask.into(parts, "chat", model="llama3.2", messages=HELLO, stream=stream)
        assert len(parts) == (1 if stream else 0)
        assert ask("chat", model="llama3.2", messages=HELLO).done

    def test_a_cut_before_the_first_byte_of_the_body(self, ask: Caller) -> None:
        ask.fake.fault("/api/chat", Fault(cut_at=0))
        with pytest.raises(httpx.RemoteProtocolError, match="peer closed connection"):
            ask("chat", model="llama3.2", messages=HELLO, stream=True)

    def test_a_refused_connection(self, ask: Caller) -> None:
        ask.fake.fault("/api/chat", Fault(refuse=True), times=2)
        # On a socket the request must have been read to be known, so there it is a reset.
        whole = httpx.ReadError if ask.is_on_socket else ConnectionError
        with pytest.raises(whole):
            ask("chat", model="llama3.2", messages=HELLO)
        with pytest.raises(httpx.ReadError if ask.is_on_socket else httpx.ConnectError):
            ask("chat", model="llama3.2", messages=HELLO, stream=True)
        assert ask("chat", model="llama3.2", messages=HELLO).done

    @pytest.mark.parametrize(("at", "parts_before"), [(0, 0), (250, 1), (10**6, 13)])
    def test_a_stall_meets_the_read_timeout(self, ask: Caller, at: int, parts_before: int) -> None:
        ask.fake.fault("/api/chat", Fault(stall_at=at))
        parts: list[Any] = []
        with pytest.raises(httpx.ReadTimeout):
            ask.into(parts, "chat", model="llama3.2", messages=HELLO, stream=True, timeout=0.1)
        assert len(parts) == parts_before

    def test_a_stall_that_ends(self, ask: Caller) -> None:
        ask.fake.fault("/api/chat", Fault(stall_at=250, stall=0.05))
        began = time.monotonic()
        assert ask("chat", model="llama3.2", messages=HELLO, stream=True)[-1].done
        assert time.monotonic() - began >= 0.05

    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize("at", [0, 20, 60])
    def test_garbage(self, ask: Caller, at: int, stream: bool) -> None:
        ask.fake.fault("/api/chat", Fault(garbage_at=at))
        with pytest.raises(json.JSONDecodeError):
            ask("chat", model="llama3.2", messages=HELLO, stream=stream)

    def test_an_error_in_mid_stream(self, ask: Caller) -> None:
        ask.fake.fault("/api/chat", Fault(error_at=2, error="CUDA error: out of memory"))
        parts: list[Any] = []
        with pytest.raises(ollama.ResponseError, match="out of memory") as caught:
            ask.into(parts, "chat", model="llama3.2", messages=HELLO, stream=True)
        assert (len(parts), caught.value.status_code) == (2, -1)

    @pytest.mark.parametrize(("at", "stream"), [(0, True), (2, False)])
    def test_an_error_before_anything_was_sent(
        self,
        ask: Caller,
        at: int,
        stream: bool,
    ) -> None:
        ask.fake.fault("/api/chat", Fault(error_at=at))
        with pytest.raises(ollama.ResponseError) as caught:
            ask("chat", model="llama3.2", messages=HELLO, stream=stream)
        assert (caught.value.error, caught.value.status_code) == (RUNNER_ERROR, 500)

    def test_an_end_without_done_raises_nothing(self, ask: Caller) -> None:
        ask.fake.fault("/api/chat", Fault(no_done=True), times=2)
        parts = ask("chat", model="llama3.2", messages=HELLO, stream=True)
        assert parts
        assert not any(part.done for part in parts)
        whole = ask("chat", model="llama3.2", messages=HELLO)
        assert (whole.done, whole.done_reason, whole.eval_count) == (False, None, None)
        assert whole.message.content

    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize(
        "fault",
        [Fault(gzip=True), Fault(rechunk=7), Fault(gzip=True, rechunk=1), Fault(slow=0.001)],
        ids=["gzip", "rechunk", "gzip and rechunk", "slow"],
    )
    def test_what_changes_no_content(
        self,
        ask: Caller,
        fault: Fault,
        stream: bool,
    ) -> None:
        plain = ask("generate", model="qwen3", prompt="?", stream=stream)
        ask.fake.fault("/api/generate", fault)
        spoilt = ask("generate", model="qwen3", prompt="?", stream=stream)
        texts = [
            [(part.response, part.thinking, part.done) for part in (each if stream else [each])]
            for each in (plain, spoilt)
        ]
        assert texts[0] == texts[1]

    def test_a_gzipped_stream_comes_chunk_by_chunk(
        self, web: httpx.Client, fake: FakeOllama
    ) -> None:
        fake.fault("/api/chat", Fault(gzip=True))
        with web.stream("POST", "/api/chat", json={"model": "qwen3", "messages": HELLO}) as answer:
            assert answer.headers["content-encoding"] == "gzip"
            chunks = list(answer.iter_bytes())
        assert all(chunk.endswith(b"}\n") for chunk in chunks)
        assert len(chunks) > 5

    def test_faults_together_and_one_after_the_other(
        self, web: httpx.Client, fake: FakeOllama
    ) -> None:
        fake.script("/x", Reply.whole(b"0123456789", "text/plain"), Reply(chunks=[b"abc", b"def"]))
        fake.fault("/x", Fault(rechunk=4, cut_at=6))
        fake.fault("/x", Fault(garbage_at=1, gzip=True))
        with web.stream("GET", "/x") as answer:
            chunks = answer.iter_bytes()
            assert [next(chunks), next(chunks)] == [b"0123", b"45"]
            with pytest.raises(httpx.RemoteProtocolError):
                next(chunks)
        assert web.get("/x").content == b"a\x00<garbage>\nbcdef"

    def test_positions_that_make_no_sense_are_refused(self) -> None:
        with pytest.raises(ValueError, match="cut_at counts from 0, found -1"):
            Fault(cut_at=-1)
        with pytest.raises(ValueError, match="rechunk is a size of 1 or more, found 0"):
            Fault(rechunk=0)

    def test_a_text_without_json_has_no_done_to_lose(self, ask: Caller) -> None:
        ask.fake.fault("/", Fault(no_done=True))
        with httpx.Client(transport=ask.fake.transport()) as client:
            assert client.get("http://fake/").text == "Ollama is running"


class TestTransport:
    def test_in_process_chunks_come_one_by_one(self) -> None:
        waits: list[float] = []
        fake = FakeOllama(sleep=waits.append)
        fake.script("/x", Reply(chunks=[b"a", b"b"], delays=[1.0, 2.0]))
        with (
            httpx.Client(transport=fake.transport()) as client,
            client.stream("GET", "http://fake/x") as answer,
        ):
            assert waits == [1.0]
            chunks = answer.iter_raw()
            assert (next(chunks), waits) == (b"a", [1.0])
            assert (next(chunks), waits) == (b"b", [1.0, 2.0])

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_async_streams_give_way_to_other_tasks_though_nothing_waits(self, backend: str) -> None:
        async def scenario() -> list[str]:
            steps: list[str] = []
            fake = FakeOllama()
            fake.script("/x", *(Reply(chunks=[b"a", b"b"]) for _ in range(2)))

            async def read(client: httpx.AsyncClient) -> None:
                async with client.stream("GET", "http://fake/x") as answer:
                    async for chunk in answer.aiter_raw():
                        steps.append(chunk.decode())  # noqa: PERF401

            async with (
                httpx.AsyncClient(transport=fake.transport()) as client,
                anyio.create_task_group() as group,
            ):
                group.start_soon(read, client)
                group.start_soon(read, client)
            return steps

        assert anyio.run(scenario, backend=backend) == ["a", "a", "b", "b"]

    def test_an_injected_sleep_may_be_awaitable(self) -> None:
        waits: list[float] = []

        async def sleep(seconds: float) -> None:
            waits.append(seconds)

        async def scenario() -> str:
            fake = FakeOllama(sleep=sleep)
            fake.script("/x", Reply(chunks=[b"a"], delays=[9.0]))
            async with httpx.AsyncClient(transport=fake.transport(), timeout=None) as client:
                return (await client.get("http://fake/x")).text

        assert (anyio.run(scenario), waits) == ("a", [9.0])


class TestServer:
    def test_the_first_chunk_arrives_before_the_last_is_sent(self) -> None:
        may_go_on = threading.Event()
        fake = FakeOllama(sleep=lambda _: may_go_on.wait(10))
        fake.script("/x", Reply(chunks=[b"first", b"last"], delays=[0.0, 1.0]))
        with (
            fake.serve() as url,
            httpx.Client(trust_env=False) as client,
            client.stream("GET", f"{url}/x") as answer,
        ):
            chunks = answer.iter_raw()
            assert next(chunks) == b"first"
            assert not may_go_on.is_set()
            may_go_on.set()
            assert next(chunks) == b"last"

    def test_each_chunk_is_one_on_the_wire(self, fake: FakeOllama) -> None:
        fake.script("/x", Reply(chunks=[b"one", b"two"]))
        with fake.serve() as url, _connect(url) as connection:
            connection.sendall(b"GET /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            _, _, body = _read_all(connection).partition(b"\r\n\r\n")
        assert body == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"

    def test_it_ends_at_once_though_a_handler_stalls(self, fake: FakeOllama) -> None:
        fake.fault("/api/chat", Fault(stall_at=250))
        threads = threading.active_count()
        with httpx.Client(trust_env=False, timeout=None) as client:
            with fake.serve() as url:
                body = {"model": "qwen3", "messages": HELLO}
                answer = client.send(
                    client.build_request("POST", f"{url}/api/chat", json=body), stream=True
                )
                lines = answer.iter_lines()
                next(lines)
                began = time.monotonic()
            assert time.monotonic() - began < 1.0
            with pytest.raises(httpx.HTTPError):
                list(lines)
            with pytest.raises(httpx.ConnectError):
                client.get(url)
        assert threading.active_count() == threads

    def test_it_ends_at_once_though_connections_are_open(self, fake: FakeOllama) -> None:
        threads = threading.active_count()
        began = time.monotonic()
        with ExitStack() as stack:
            with fake.serve() as url:
                stack.enter_context(_connect(url))
                half = stack.enter_context(_connect(url))
                half.sendall(b"POST /api/chat HTTP/1.1\r\ncontent-length: 10\r\n\r\n{")
                httpx.get(url, trust_env=False, verify=False)
            assert _read_all(half) == b""
        assert time.monotonic() - began < 1.0
        assert threading.active_count() == threads
        assert [received.path for received in fake.requests] == ["/"]

    @pytest.mark.parametrize(
        "half_a_body",
        [b"content-length: 10\r\n\r\n{", b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n"],
    )
    def test_a_request_that_breaks_off_is_none(self, fake: FakeOllama, half_a_body: bytes) -> None:
        with fake.serve() as url, _connect(url) as connection:
            connection.sendall(b"POST /api/chat HTTP/1.1\r\n" + half_a_body)
            connection.shutdown(socket.SHUT_WR)
            assert _read_all(connection) == b""
        assert fake.requests == []

    def test_trailers_are_read_over(self, fake: FakeOllama) -> None:
        head = b"POST /x HTTP/1.1\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        with fake.serve() as url, _connect(url) as connection:
            connection.sendall(head + b"2;ext=1\r\n{}\r\n0\r\nsum: 1\r\n\r\n")
            assert _read_all(connection).startswith(b"HTTP/1.1 404")
        assert [received.body for received in fake.requests] == [b"{}"]

    def test_it_can_be_had_again_on_the_same_port(self, fake: FakeOllama) -> None:
        with fake.serve() as url, httpx.Client(trust_env=False) as client:
            client.get(url)
        with fake.serve(port=int(url.rpartition(":")[2])) as again:
            assert again == url
            assert httpx.get(url, trust_env=False).text == "Ollama is running"

    def test_connections_are_kept_alive(self, fake: FakeOllama) -> None:
        with fake.serve() as url:
            connection = http.client.HTTPConnection(url.removeprefix("http://"))
            for method, path in [("GET", "/"), ("HEAD", "/"), ("POST", "/api/copy"), ("GET", "/x")]:
                connection.request(method, path)
                own = connection.sock.getsockname()
                connection.getresponse().read()
                assert connection.sock.getsockname() == own
            body = json.dumps({"model": "qwen3", "messages": HELLO})
            connection.request("POST", "/api/chat", body)
            assert len(connection.getresponse().read().splitlines()) > 5
            assert connection.sock.getsockname() == own
            connection.close()

    def test_chunked_request_bodies(self, fake: FakeOllama) -> None:
        body = json.dumps({"model": "qwen3"}).encode()
        with fake.serve() as url:
            answer = httpx.post(
                f"{url}/api/show", content=iter([body[:3], body[3:]]), trust_env=False
            )
        assert answer.status_code == 200
        assert fake.requests[0].headers["transfer-encoding"] == "chunked"
        assert fake.requests[0].body == body

    @pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
    def test_clients_that_leave_are_no_news(
        self, fake: FakeOllama, capfd: pytest.CaptureFixture[str]
    ) -> None:
        fake.script("/x", Reply(chunks=[b"x" * 100_000] * 200))
        with fake.serve() as url:
            with (
                httpx.Client(trust_env=False) as client,
                client.stream("GET", f"{url}/x") as answer,
            ):
                next(answer.iter_raw())
            assert httpx.get(url, trust_env=False).status_code == 200
        assert capfd.readouterr() == ("", "")

    def test_twenty_threads_at_once(self) -> None:
        fake = FakeOllama()
        with fake.serve() as url:

            def run(number: int) -> tuple[int, bool, str]:
                with ollama.Client(url, trust_env=False) as client:
                    vector = client.embed("nomic-embed-text", f"text {number}").embeddings[0]
                    parts = list(client.chat("qwen3", HELLO, stream=True))
                    text = "".join(part.message.content or "" for part in parts)
                    again = client.embed("nomic-embed-text", f"text {number}").embeddings[0]
                    return len(parts), vector == again, text

            with ThreadPoolExecutor(20) as pool:
                results = set(pool.map(run, range(20)))
        [(count, is_same, text)] = results
        assert (count > 10, is_same) == (True, True)
        assert text == FakeModel("any").reply
        assert len(fake.requests) == 60


def _outcomes() -> list[str]:
    skipped = {
        # They need an engine that is killed, a model that is trained, or a dead registry.
        "chat-engine-killed",
        "chat-logprobs-stream",
        "chat-tools",
        "error-prompt-too-long",
        "ps",
        "pull-unreachable",
        "pull-unreachable-stream",
        "show",
        "show-embed",
    }
    return sorted({path.stem for path in RECORDED.glob("*.json")} - skipped)


@pytest.mark.parametrize("name", _outcomes())
def test_the_real_server_answers_in_the_same_shape(name: str) -> None:
    recorded = json.loads((RECORDED / f"{name}.json").read_text())
    asked, real = recorded["request"], "".join(recorded["chunks"])
    fake = FakeOllama(
        [
            FakeModel("tiny-agent", context_length=512),
            FakeModel("tiny-thinker", capabilities=("completion", "thinking"), context_length=512),
            FakeModel("tiny-embed", capabilities=("embedding",), context_length=2048),
            FakeModel("copied-agent"),
        ]
    )
    body = asked["body"]
    content = body if isinstance(body, str) else json.dumps(body) if body is not None else ""
    with httpx.Client(transport=fake.transport(), base_url="http://fake") as client:
        if name in {"blob-present", "blob-upload-again"}:
            client.post(asked["path"], content="not the weights of any model")
        answer = client.request(asked["method"], asked["path"], content=content)
    assert answer.status_code == recorded["status"]
    assert answer.headers.get("content-type") == recorded["headers"].get("content-type")
    if answer.is_error or not real.startswith("{"):
        assert answer.text == real
    else:
        expected = json.loads(real.splitlines()[-1])
        assert _shape(json.loads(answer.text.splitlines()[-1])) == _shape(expected)


@given(st.text(), st.integers(1, 200), st.booleans())
def test_any_size_of_chunks_gives_the_same_bytes(
    reply: str,
    size: int,
    packed: bool,
) -> None:
    plain = Reply.stream([{"response": reply}, {"done": True}])
    body = b"".join(plain.chunks)
    pieces = deliver(plain, Fault(rechunk=size, gzip=packed)).pieces
    sent = b"".join(piece.body for piece in pieces)
    assert (gzip.decompress(sent) if packed else sent) == body
    assert {len(piece.body) for piece in pieces[:-1]} <= {size}


@given(st.lists(st.binary()), st.integers(0, 60), st.integers(0, 60))
def test_a_cut_and_a_stall_keep_the_bytes_before_them(
    chunks: list[bytes], cut: int, stall: int
) -> None:
    body = b"".join(chunks)
    delays = [1.0] * len(chunks)
    delivery = deliver(Reply(chunks=chunks, delays=delays), Fault(cut_at=cut, stall_at=stall))
    assert b"".join(piece.body for piece in delivery.pieces) == body[:cut]
    before_stall = b""
    for piece in delivery.pieces:
        if piece.delay == Fault().stall:
            break
        before_stall += piece.body
    assert before_stall == body[: min(cut, stall)]


def _is_warm(answer: ollama.ChatResponse) -> bool:
    assert answer.load_duration is not None
    return answer.load_duration < 10_000_000


def _shape(value: object) -> object:
    if isinstance(value, dict):
        return {name: _shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_shape(value[0])] if value else []
    return type(value).__name__


def _connect(url: str) -> socket.socket:
    host, _, port = url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def _read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))
