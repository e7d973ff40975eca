"""Inside the block a log answers every client of the process, and afterwards nothing is left of it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

import ollama_otel
from ollama_otel import instrument_client
from ollama_otel.errors import ReplayLogError, ReplayMissError, SettingsError
from ollama_otel.replay import replay
from ollama_otel.testing import Capture, FakeOllama, Reply
from tests.colours import COLOURS, Colour, closed, done, each

from .recorded import call, chat, lines, write

HELLO = chat()["messages"]
LINE = b'{"model":"m","message":{"role":"assistant","content":"from the log"},"done":false}\n'
FINAL = b'{"model":"m","message":{"role":"assistant","content":""},"done":true,"eval_count":3}\n'
PIECES = [(0.01, LINE), (0.02, FINAL)]
WHOLE = [(0.01, LINE.replace(b"false", b"true"))]
NOWHERE = "http://127.0.0.1:9"

pytestmark = pytest.mark.filterwarnings(
    "ignore:Async generator .* was garbage collected:ResourceWarning"
)


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> Colour:
    return Colour(request.param)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write(
        tmp_path / "calls.jsonl",
        lines(chat(), PIECES),
        lines(chat(stream=False), WHOLE, at=1.0),
    )


def methods() -> tuple[Any, Any]:
    return (
        vars(httpx.HTTPTransport)["handle_request"],
        vars(httpx.AsyncHTTPTransport)["handle_async_request"],
    )


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Any:
    before = methods()
    yield
    assert methods() == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["official", "ours", "httpx"])
@pytest.mark.parametrize("is_new", [True, False])
def test_clients_of_every_kind_and_age_are_answered_from_the_log(
    log: Path, colour: Colour, kind: str, is_new: bool
) -> None:
    def create() -> Any:
        if kind == "httpx":
            return colour.httpx(base_url=NOWHERE)
        return getattr(colour, kind)(NOWHERE)

    async def ask(client: Any) -> list[str]:
        if kind == "httpx":
            response = await done(client.post("/api/chat", json=chat(stream=False)))
            return [response.json()["message"]["content"]]
        stream = await done(client.chat("m", HELLO, stream=True))
        return [part.message.content async for part in each(stream)]

    async def scenario() -> None:
        old = None if is_new else create()
        with replay(log, speed=0) as player:
            client = old or create()
            assert "from the log" in await ask(client)
            await closed(client if kind == "httpx" else client._client)
        assert len(player.unused) == 1

    colour.run(scenario)


def test_the_module_s_own_client_is_answered_too(log: Path) -> None:
    with replay(log, speed=0):
        assert ollama.chat("m", HELLO).message.content == "from the log"


def test_played_calls_are_recorded_like_others(log: Path, colour: Colour, capture: Capture) -> None:
    async def scenario() -> None:
        client = instrument_client(
            colour.official(NOWHERE),
            tracer_provider=capture.tracer_provider,
            meter_provider=capture.meter_provider,
        )
        with replay(log, speed=0):
            assert (await done(client.chat("m", HELLO))).message.content == "from the log"
            with pytest.raises(ReplayMissError):
                await done(client.chat("m", HELLO))
        await closed(client._client)

    colour.run(scenario)
    played, missed = capture.spans
    assert (played.name, played.attributes["server.port"]) == ("chat m", 9)
    assert missed.attributes["error.type"] == "_OTHER"


@pytest.mark.slow
@pytest.mark.sockets
def test_what_is_not_ollama_s_goes_its_usual_way(log: Path, colour: Colour) -> None:
    server = FakeOllama()
    server.script("/metrics", Reply.json({"from": "the network"}))

    async def scenario(url: str) -> None:
        client = colour.httpx(base_url=url)
        with replay(log, speed=0):
            assert (await done(client.get("/metrics"))).json() == {"from": "the network"}
            with pytest.raises(ReplayMissError):
                await done(client.get("/api/tags"))
        assert "models" in (await done(client.get("/api/tags"))).json()
        await closed(client)

    with server.serve() as url:
        colour.run(lambda: scenario(url))
    assert [each.path for each in server.requests] == ["/metrics", "/api/tags"]


def test_a_path_that_the_log_has_is_answered_though_nobody_knows_it() -> None:
    kept = call(path="/api/unheard_of", pieces=[(0.1, b"x")])
    with replay([kept], speed=0):
        assert httpx.post(f"{NOWHERE}/x/api/unheard_of", json=chat()).content == b"x"


def test_of_nested_blocks_the_inner_one_answers(log: Path) -> None:
    inner = call(chat(stream=False), [(0.1, WHOLE[0][1].replace(b"the log", b"inside"))])
    with replay(log, speed=0) as outer:
        with replay([inner], speed=0) as player:
            assert ollama.chat("m", HELLO).message.content == "from inside"
            with pytest.raises(ReplayMissError):
                ollama.chat("m", HELLO)
            assert player.unused == ()
        assert len(outer.unused) == 2
        assert ollama.chat("m", HELLO).message.content == "from the log"


def test_blocks_may_end_in_any_order(log: Path) -> None:
    first, second = replay(log, speed=0), replay(log, speed=0)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert ollama.chat("m", HELLO).message.content == "from the log"
    second.__exit__(None, None, None)


def test_the_block_ends_with_an_exception_too(log: Path) -> None:
    before = methods()
    with pytest.raises(ZeroDivisionError), replay(log):
        _ = 1 / 0
    assert methods() == before


def test_a_log_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    before = methods()
    with pytest.raises(ReplayLogError), replay(tmp_path / "nothing.jsonl"):
        pytest.fail("the block has begun")
    assert methods() == before


@pytest.mark.slow
def test_all_threads_are_answered(log: Path) -> None:
    answers: list[Any] = []

    def ask() -> None:
        answers.append(ollama.Client(NOWHERE).chat("m", HELLO).message.content)

    with replay(log, speed=0, repeat=True):
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == ["from the log"] * 8


@pytest.mark.slow
def test_a_function_of_either_colour_can_be_decorated(log: Path) -> None:
    before = methods()

    @replay(log, speed=0)
    def ask(name: str) -> str | None:
        return ollama.chat(name, HELLO).message.content

    @replay(log, speed=0)
    async def ask_async(name: str) -> str | None:
        return (await ollama.AsyncClient(NOWHERE).chat(name, HELLO)).message.content

    # Each call has the whole log to itself.
    assert [ask("m"), ask("m")] == ["from the log"] * 2
    assert [asyncio.run(ask_async("m")) for _ in range(2)] == ["from the log"] * 2
    assert (ask.__name__, ask_async.__name__) == ("ask", "ask_async")
    assert methods() == before


@pytest.mark.slow
def test_mounts_and_proxies_are_answered_as_well(log: Path) -> None:
    with replay(log, speed=0, repeat=True):
        for client in (
            httpx.Client(proxy="http://127.0.0.1:9"),
            httpx.Client(mounts={"http://": httpx.HTTPTransport()}),
        ):
            with client:
                assert client.post(f"{NOWHERE}/api/chat", json=chat()).status_code == 200


def test_redactors_and_fields_to_ignore_are_passed_on() -> None:
    kept = call(chat("my [redacted: WORD]", options={"seed": 1}), WHOLE)

    def redactor(text: str) -> str:
        return text.replace("secret", "[redacted: WORD]")

    with replay([kept], speed=0, ignore=["options.seed"], redactors=[redactor]) as player:
        httpx.post(f"{NOWHERE}/api/chat", json=chat("my secret", options={"seed": 2}))
    assert player.unused == ()


@pytest.mark.slow
@pytest.mark.sockets
def test_who_has_wrapped_the_transports_since_keeps_what_is_theirs(log: Path) -> None:
    plain = methods()
    try:
        with replay(log, speed=0):
            HTTPXClientInstrumentor().instrument()
            assert ollama.chat("m", HELLO).message.content == "from the log"
        with FakeOllama().serve() as url, ollama.Client(url) as client:
            assert client.list().models
            with replay(log, speed=0):
                assert client.chat("m", HELLO).message.content == "from the log"
            assert client.list().models
    finally:
        HTTPXClientInstrumentor().uninstrument()
        # Theirs gave back what they had found, which was ours.
        httpx.HTTPTransport.handle_request, httpx.AsyncHTTPTransport.handle_async_request = plain  # type: ignore[method-assign]


def test_the_drop_in_module_plays_as_well(log: Path) -> None:
    with replay(log, speed=0):
        stream = ollama_otel.ollama.chat("m", HELLO, stream=True)
        assert [part.message.content for part in stream] == ["from the log", ""]


def test_a_generator_cannot_be_decorated(log: Path) -> None:
    def ask() -> Any:
        yield

    async def ask_async() -> Any:
        yield

    for function in (ask, ask_async):
        with pytest.raises(SettingsError, match="use `with replay"):
            replay(log)(function)
