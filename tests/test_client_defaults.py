"""Defaults of a client: by argument and environment; without any it sends the official bytes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import ollama
import pytest

from ollama_otel import ClientDefaults
from ollama_otel.errors import SettingsError
from ollama_otel.settings._rows import rows_of
from ollama_otel.testing import FakeOllama, Reply
from ollama_otel.tools import Agent

from .colours import COLOURS, Colour, done, each

HELLO = [{"role": "user", "content": "Hello"}]
DONE = {"done": True, "done_reason": "stop"}
VARIABLES = {
    "OLLAMA_OTEL_BASE_URL": ("base_url", "http://h:1", "http://h:1"),
    "OLLAMA_OTEL_MODEL": ("model", "llama3.2", "llama3.2"),
    "OLLAMA_OTEL_KEEP_ALIVE": ("keep_alive", "5m", "5m"),
    "OLLAMA_OTEL_OPTIONS": ("options", '{"seed": 1}', {"seed": 1}),
    "OLLAMA_OTEL_DEADLINE": ("deadline", "2.5", 2.5),
    "OLLAMA_OTEL_POOL_SIZE": ("pool_size", "3", 3),
}
CALLS: list[Callable[[Any], Any]] = [
    lambda client: client.chat("llama3.2", HELLO),
    lambda client: client.generate("llama3.2", "Hello"),
    lambda client: client.embed("nomic-embed-text", "Hello"),
    lambda client: client.embeddings("nomic-embed-text", "Hello"),
    lambda client: client.list(),
]


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> Colour:
    return Colour(request.param)


@pytest.fixture
def fake() -> FakeOllama:
    return FakeOllama()


@pytest.fixture
def url(fake: FakeOllama) -> Iterator[str]:
    with fake.serve() as url:
        yield url


def run(colour: Colour, client: Any, *calls: Callable[[Any], Any]) -> None:
    async def scenario() -> None:
        try:
            for call in calls:
                await done(call(client))
        finally:
            await colour.close(client._client)

    colour.run(scenario)


@pytest.mark.slow
@pytest.mark.sockets
def test_without_defaults_the_bytes_are_the_official_ones(
    colour: Colour, fake: FakeOllama, url: str
) -> None:
    run(colour, colour.ours(url, trust_env=False), *CALLS)
    run(colour, colour.official(url, trust_env=False), *CALLS)
    ours, official = fake.requests[: len(CALLS)], fake.requests[len(CALLS) :]
    assert [request.body for request in ours] == [request.body for request in official]
    client = colour.ours(url, trust_env=False)
    assert "chat" not in vars(client)
    run(colour, client)


@pytest.mark.sockets
def test_calls_use_the_defaults_and_what_they_say_wins(
    colour: Colour, fake: FakeOllama, url: str
) -> None:
    defaults = ClientDefaults(model="llama3.2", keep_alive="9m", options={"seed": 1, "top_k": 2})
    run(
        colour,
        colour.ours(url, trust_env=False, defaults=defaults),
        lambda client: client.chat(messages=HELLO),
        lambda client: client.chat("m", HELLO, options={"seed": 7}, keep_alive=0),
        lambda client: client.generate(prompt="Hello", options=ollama.Options(top_k=5)),
    )
    said = [request.json() for request in fake.requests]
    assert [each["model"] for each in said] == ["llama3.2", "m", "llama3.2"]
    assert [each["keep_alive"] for each in said] == ["9m", 0, "9m"]
    assert [each["options"] for each in said] == [
        {"seed": 1, "top_k": 2},
        {"seed": 7, "top_k": 2},
        {"seed": 1, "top_k": 5},
    ]


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.embed("m", "Hello", True, {"seed": 7}, 0),
        lambda client: client.embed("m", "Hello", True, {"seed": 7}, keep_alive=0),
        lambda client: client.embeddings("m", "Hello", {"seed": 7}, 0),
        lambda client: client.generate("m", "Hello", "end", options={"seed": 7}, keep_alive=0),
    ],
)
def test_arguments_by_position_stay_what_they_are(
    colour: Colour, fake: FakeOllama, url: str, call: Callable[[Any], Any]
) -> None:
    for path in ("/api/embed", "/api/embeddings", "/api/generate"):
        fake.script(path, *[Reply.json({"embeddings": [[1.0]], "embedding": [1.0]})] * 2)
    defaults = ClientDefaults(model="llama3.2", keep_alive="9m", options={"top_k": 2})
    run(colour, colour.official(url, trust_env=False), call)
    run(colour, colour.ours(url, trust_env=False, defaults=defaults), call)
    official, ours = (request.json() for request in fake.requests)
    assert ours == {**official, "options": {"top_k": 2, "seed": 7}}


@pytest.fixture(autouse=True)
def _missing_models_are_answers(fake: FakeOllama) -> None:
    """A model named `m` is not installed; only its request matters."""
    fake.script("/api/chat", *[Reply.json({"message": {"role": "assistant"}, "done": True})] * 2)


@pytest.mark.parametrize("streams", [False, True])
def test_agents_use_the_defaults_and_what_they_say_wins(colour: Colour, streams: bool) -> None:
    fake = FakeOllama()
    defaults = ClientDefaults(model="llama3.2", keep_alive="9m", options={"seed": 1, "top_k": 2})
    settings: list[dict[str, Any]] = [
        {},
        {"model": "m", "options": {"seed": 7}, "keep_alive": 0},
        {"options": ollama.Options(top_k=5)},
    ]

    async def answered(agent: Agent) -> None:
        if not streams:
            await done(agent.arun("Hi") if colour.is_async else agent.run("Hi"))
            return
        stream: Any = agent.astream("Hi") if colour.is_async else agent.stream("Hi")
        async for _ in each(stream):
            pass

    said = {"message": {"role": "assistant", "content": "Hi."}, **DONE}
    fake.script("/api/chat", *[Reply.stream([said]) if streams else Reply.json(said)] * 3)
    run(
        colour,
        colour.ours("http://fake", transport=fake.transport(), defaults=defaults),
        *(lambda client, given=given: answered(Agent(client, **given)) for given in settings),
    )
    sent = [request.json() for request in fake.requests]
    assert [one["model"] for one in sent] == ["llama3.2", "m", "llama3.2"]
    assert [one["keep_alive"] for one in sent] == ["9m", 0, "9m"]
    assert [one["options"] for one in sent] == [
        {"seed": 1, "top_k": 2},
        {"seed": 7, "top_k": 2},
        {"seed": 1, "top_k": 5},
    ]


def test_extract_and_counts_use_the_defaults(colour: Colour) -> None:
    fake = FakeOllama()
    fake.script("/api/chat", Reply.json({"message": {"role": "assistant", "content": "7"}, **DONE}))
    run(
        colour,
        colour.ours(
            "http://fake",
            transport=fake.transport(),
            defaults=ClientDefaults(model="llama3.2", options={"num_ctx": 512}, keep_alive=-1),
        ),
        lambda client: client.extract(int, "Seven"),
        lambda client: client.count_tokens("", HELLO, render=True),
    )
    extracted, counted = [one.json() for one in fake.requests if one.path == "/api/chat"]
    assert (extracted["model"], counted["model"]) == ("llama3.2", "llama3.2")
    assert extracted["options"] == {"num_ctx": 512}
    # Other options would load the model again, and no time would be the server's own.
    assert (counted["options"]["num_ctx"], counted["keep_alive"]) == (512, -1)


@pytest.mark.sockets
def test_streams_and_functions_stay_what_they_were(
    colour: Colour, fake: FakeOllama, url: str
) -> None:
    client = colour.ours(url, trust_env=False, defaults=ClientDefaults(model="llama3.2"))
    assert inspect.iscoroutinefunction(client.chat) == colour.is_async
    assert client.chat.__name__ == "chat"

    async def parts(client: Any) -> None:
        stream = await done(client.chat(messages=HELLO, stream=True))
        got = [p async for p in stream] if colour.is_async else list(stream)
        assert got[-1].done

    run(colour, client, parts)


@pytest.mark.sockets
def test_a_keyword_wins_over_its_variable(
    colour: Colour, fake: FakeOllama, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:1")
    monkeypatch.setenv("OLLAMA_OTEL_BASE_URL", url)
    monkeypatch.setenv("OLLAMA_OTEL_MODEL", "from-env")
    monkeypatch.setenv("OLLAMA_OTEL_KEEP_ALIVE", "1m")
    client = colour.ours(trust_env=False, defaults=ClientDefaults(model="llama3.2"))
    run(colour, client, lambda each: each.chat(messages=HELLO))
    (request,) = fake.requests
    assert (request.json()["model"], request.json()["keep_alive"]) == ("llama3.2", "1m")


@pytest.mark.sockets
def test_a_host_wins_over_the_default_address(colour: Colour, fake: FakeOllama, url: str) -> None:
    defaults = ClientDefaults(base_url="http://127.0.0.1:1")
    run(colour, colour.ours(url, trust_env=False, defaults=defaults), lambda each: each.list())
    assert fake.requests


def test_the_pool_has_its_size_and_given_limits_win(colour: Colour) -> None:
    defaults = ClientDefaults(pool_size=3)
    client = colour.ours("http://h:1", trust_env=False, defaults=defaults)
    assert client._client._transport._pool._max_connections == 3
    given = colour.ours(
        "http://h:1", trust_env=False, defaults=defaults, limits=httpx.Limits(max_connections=9)
    )
    assert given._client._transport._pool._max_connections == 9
    for one in (client, given):
        run(colour, one)


@pytest.mark.slow
def test_the_deadline_is_that_of_resilience(colour: Colour) -> None:
    from ollama_otel.resilience import Resilience, Retries

    defaults = ClientDefaults(deadline=5)
    retries = Retries()
    for resilience, expected in (
        (None, Resilience(deadline=5)),
        (Resilience(retries=retries), Resilience(retries=retries, deadline=5)),
        (Resilience(deadline=9), Resilience(deadline=9)),
    ):
        client = colour.ours(
            "http://h:1", trust_env=False, defaults=defaults, resilience=resilience
        )
        assert client._resilience == expected
        run(colour, client)


# --- values -----------------------------------------------------------------------------------


def test_every_default_has_a_variable_and_it_is_read() -> None:
    known = {row.variable: row.name for row in rows_of(ClientDefaults)}
    assert known == {variable: name for variable, (name, *_) in VARIABLES.items()}
    for variable, (name, text, value) in VARIABLES.items():
        assert getattr(ClientDefaults.from_environ({variable: text}), name) == value
    assert ClientDefaults.from_environ({}) == ClientDefaults()


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("OLLAMA_OTEL_OPTIONS", "seed=1", "a JSON object"),
        ("OLLAMA_OTEL_OPTIONS", "[1]", "a JSON object"),
        ("OLLAMA_OTEL_OPTIONS", "null", "a JSON object"),
        ("OLLAMA_OTEL_DEADLINE", "0", "a number of seconds above 0"),
        ("OLLAMA_OTEL_POOL_SIZE", "0", "a whole number of at least 1"),
    ],
)
def test_a_wrong_variable_is_refused_and_logged_where_a_client_is_made(
    variable: str,
    text: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(SettingsError, match=f"{variable}: expected {expected}, found "):
        ClientDefaults.from_environ({variable: text})
    assert ClientDefaults.from_environ({variable: text}, lenient=True) == ClientDefaults()
    assert f"{variable}: expected {expected}, found {text!r}; using the default" in caplog.messages


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("base_url", ""),
        ("model", 7),
        ("keep_alive", ""),
        ("keep_alive", True),
        ("keep_alive", float("nan")),
        ("options", "seed"),
        ("deadline", 0),
        ("deadline", float("inf")),
        ("pool_size", 0),
        ("pool_size", True),
    ],
)
def test_a_value_given_in_code_is_checked(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"{name}: expected .*, found "):
        ClientDefaults(**{name: value})


@pytest.mark.parametrize("seconds", [0, 1, -1, 0.5])
def test_keep_alive_is_any_number_of_seconds(seconds: float) -> None:
    assert ClientDefaults(keep_alive=seconds).keep_alive == seconds
    assert (
        ClientDefaults.from_environ({"OLLAMA_OTEL_KEEP_ALIVE": str(seconds)}).keep_alive == seconds
    )


def test_a_long_wrong_value_is_cut_and_deep_json_is_a_wrong_value() -> None:
    with pytest.raises(SettingsError) as caught:
        ClientDefaults.from_environ({"OLLAMA_OTEL_OPTIONS": 100_000 * "["})
    assert str(caught.value).startswith("OLLAMA_OTEL_OPTIONS: expected a JSON object, found '[[[")
    assert str(caught.value).endswith("... [cut 99829 characters]")


def test_a_wrong_address_is_not_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        ClientDefaults(base_url=b"http://user:secret@host")  # type: ignore[arg-type]
    assert str(caught.value) == (
        "base_url: expected an address such as 'http://localhost:11434' or None, "
        "found a value of type bytes"
    )


def test_defaults_do_not_change_with_the_callers_mapping() -> None:
    options = {"seed": 1}
    defaults = ClientDefaults(options=options)
    options["seed"] = 2
    assert defaults.options == {"seed": 1}
