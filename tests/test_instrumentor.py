"""`OllamaInstrumentor`: every official client is recorded, and afterwards nothing is left of it."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

import httpx
import ollama
import pytest
from ollama import chat as imported_earlier
from ollama._client import BaseClient

import ollama_otel
from ollama_otel import OllamaInstrumentor
from ollama_otel._client_instrumentation import is_instrumented
from ollama_otel.testing import Capture, FakeOllama

from .colours import COLOURS, Colour, closed, done, each
from .scripts import run_script

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "Hello"}]}
# The name `ollama._client` stands for the default client, and hides the module.
DEFAULT_CLIENT: Any = ollama.chat.__self__  # type: ignore[attr-defined]
ORIGINAL_INIT = BaseClient.__init__


@pytest.fixture(params=COLOURS[:2])
def colour(request: pytest.FixtureRequest) -> Colour:
    return Colour(request.param)


@pytest.fixture
def instrumentor() -> Iterator[OllamaInstrumentor]:
    instrumentor = OllamaInstrumentor()
    yield instrumentor
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()


def test_what_we_rest_on_is_where_we_look_for_it() -> None:
    assert ollama.Client.__mro__[1] is ollama.AsyncClient.__mro__[1] is BaseClient
    assert "__init__" in vars(BaseClient)
    assert OllamaInstrumentor().instrumentation_dependencies() == ("ollama >= 0.6.3",)


@pytest.mark.slow
def test_clients_of_the_past_and_of_the_future_are_recorded(
    colour: Colour, instrumentor: OllamaInstrumentor, capture: Capture
) -> None:
    server = FakeOllama()

    async def scenario() -> None:
        old = colour.official("http://h", transport=server.transport())
        instrumentor.instrument(**capture.options)
        new = colour.official("http://h", transport=server.transport())
        for client in (old, new):
            assert (await done(client.chat(**CHAT))).done
            assert [part async for part in each(await done(client.chat(**CHAT, stream=True)))]
        instrumentor.uninstrument()
        after = colour.official("http://h", transport=server.transport())
        for client in (old, new, after):
            assert (await done(client.chat(**CHAT))).done
            await closed(client)

    colour.run(scenario)
    assert [record.outcome for record in capture.records] == ["completed"] * 4
    assert len(capture.spans) == 4
    assert ["traceparent" in request.headers for request in server.requests] == [True] * 4 + [
        False
    ] * 3


@pytest.mark.slow
def test_functions_of_the_package_are_recorded_even_when_imported_earlier(
    instrumentor: OllamaInstrumentor, capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DEFAULT_CLIENT._client, "_transport", FakeOllama().transport())
    instrumentor.instrument(**capture.options)
    assert ollama.chat(**CHAT).done
    assert imported_earlier(**CHAT).done
    assert ollama.list().models
    instrumentor.uninstrument()
    assert ollama.chat(**CHAT).done
    assert [span.name for span in capture.spans] == ["chat llama3.2"] * 2 + ["list_models"]


@pytest.mark.slow
def test_uninstrumenting_leaves_no_trace(
    colour: Colour, instrumentor: OllamaInstrumentor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy.example:3128")
    client = colour.official(verify=False)
    target = client._client
    before, attributes = dict(vars(target)), dict(vars(client))
    mounts = dict(target._mounts)
    for _ in range(2):
        instrumentor.instrument()
        assert BaseClient.__init__ is not ORIGINAL_INIT
        assert inspect.signature(BaseClient.__init__) == inspect.signature(ORIGINAL_INIT)
        assert is_instrumented(client)
        made_meanwhile = colour.official(verify=False)
        assert is_instrumented(made_meanwhile)
        instrumentor.uninstrument()
        assert BaseClient.__init__ is ORIGINAL_INIT
        assert not is_instrumented(made_meanwhile)
        assert vars(target) == before
        assert target._transport is before["_transport"]
        assert all(target._mounts[pattern] is mount for pattern, mount in mounts.items())
        assert vars(client) == attributes
        assert not hasattr(type(made_meanwhile._client._transport), "inner")


@pytest.mark.slow
def test_a_client_that_went_away_is_not_kept_alive(
    colour: Colour, instrumentor: OllamaInstrumentor
) -> None:
    instrumentor.instrument()
    client = colour.official(verify=False)
    assert len(instrumentor._touched) >= 1
    count = len(instrumentor._touched)
    del client
    gc.collect()
    assert len(instrumentor._touched) == count - 1


@pytest.mark.slow
@pytest.mark.parametrize("is_subclass", [False, True])
def test_clients_of_ours_are_recorded_once_and_by_their_own_options(
    colour: Colour, instrumentor: OllamaInstrumentor, capture: Capture, is_subclass: bool
) -> None:
    own, kind = Capture(), colour.ours
    if is_subclass:
        kind = type("Mine", (colour.ours,), {})

    async def scenario() -> None:
        before = kind("http://h", transport=FakeOllama().transport(), **own.options)
        instrumentor.instrument(**capture.options)
        after = kind("http://h", transport=FakeOllama().transport(), **own.options)
        for client in (before, after):
            assert (await done(client.chat(**CHAT))).done
        instrumentor.uninstrument()
        for client in (before, after):
            assert (await done(client.chat(**CHAT))).done
            await closed(client)

    colour.run(scenario)
    assert (len(own.spans), len(capture.spans)) == (4, 0)


@pytest.mark.slow
def test_a_client_that_was_instrumented_by_hand_is_left_to_its_owner(
    colour: Colour, instrumentor: OllamaInstrumentor, capture: Capture
) -> None:
    own = Capture()

    async def scenario() -> None:
        client = colour.official("http://h", transport=FakeOllama().transport())
        ollama_otel.instrument_client(client, **own.options)
        instrumentor.instrument(**capture.options)
        await done(client.chat(**CHAT))
        instrumentor.uninstrument()
        await done(client.chat(**CHAT))
        await closed(client)

    colour.run(scenario)
    assert (len(own.spans), len(capture.spans)) == (2, 0)


@pytest.mark.slow
def test_instrumenting_twice_records_once(
    colour: Colour, instrumentor: OllamaInstrumentor, capture: Capture
) -> None:
    async def scenario() -> None:
        instrumentor.instrument(**capture.options)
        OllamaInstrumentor().instrument(**Capture().options)
        client = colour.official("http://h", transport=FakeOllama().transport())
        await done(client.chat(**CHAT))
        await closed(client)

    colour.run(scenario)
    assert len(capture.spans) == 1


def test_uninstrumenting_before_instrumenting_does_nothing(
    instrumentor: OllamaInstrumentor,
) -> None:
    instrumentor.uninstrument()
    assert BaseClient.__init__ is ORIGINAL_INIT


class NotHttpx:
    """What somebody may give a client of theirs in place of httpx."""

    def __init__(self, **options: Any) -> None:
        self.options = options


class Odd(BaseClient):
    def __init__(self) -> None:
        super().__init__(NotHttpx)

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.slow
def test_clients_that_cannot_be_instrumented_are_left_alone(
    instrumentor: OllamaInstrumentor, capture: Capture
) -> None:
    """Neither the program's start nor theirs may fail because of us."""
    odd, unborn = Odd(), ollama.Client.__new__(ollama.Client)
    instrumentor.instrument(**capture.options)
    assert Odd()._client.options["follow_redirects"] is True
    client = ollama.Client("http://h", transport=FakeOllama().transport())
    assert client.chat(**CHAT).done
    client.close()
    assert len(capture.spans) == 1
    assert isinstance(odd._client, NotHttpx)
    assert not hasattr(unborn, "_client")


@pytest.mark.slow
def test_what_a_constructor_raises_is_raised_still(instrumentor: OllamaInstrumentor) -> None:
    def error(**options: Any) -> BaseException:
        with pytest.raises(Exception) as caught:
            ollama.Client(**options)
        return caught.value

    wrong: list[dict[str, Any]] = [{"no_such_option": 1}, {"timeout": object(), "auth": 7}]
    expected = [(type(error(**options)), str(error(**options))) for options in wrong]
    instrumentor.instrument()
    assert [(type(error(**options)), str(error(**options))) for options in wrong] == expected


@pytest.mark.slow
def test_httpx_clients_of_others_are_left_alone(
    instrumentor: OllamaInstrumentor, capture: Capture
) -> None:
    client = httpx.Client(base_url="http://h", transport=FakeOllama().transport())
    instrumentor.instrument(**capture.options)
    assert client.post("/api/chat", json=CHAT | {"stream": False}).json()["done"]
    client.close()
    assert capture.spans == []


def test_the_entry_point_is_found_and_is_the_instrumentor() -> None:
    (entry_point,) = entry_points(group="opentelemetry_instrumentor", name="ollama_otel")
    assert entry_point.load() is OllamaInstrumentor


ZERO_CODE = """
    import sys
    from opentelemetry import metrics, trace
    from ollama_otel.testing import Capture

    capture = Capture()
    trace.set_tracer_provider(capture.tracer_provider)
    metrics.set_meter_provider(capture.meter_provider)

    from ollama import Client, chat
    import ollama

    before = Client()
    if sys.argv[1] == "entry point":
        from importlib.metadata import entry_points
        (entry_point,) = entry_points(group="opentelemetry_instrumentor", name="ollama_otel")
        entry_point.load()().instrument()
    else:
        from opentelemetry.instrumentation.auto_instrumentation import initialize
        initialize()

    hello = {"model": "llama3.2", "messages": [{"role": "user", "content": "Hello"}]}
    assert chat(**hello).done
    assert ollama.chat(**hello).done
    assert before.chat(**hello).done
    with Client() as client:
        assert list(client.chat(**hello, stream=True))[-1].done
    import ollama_otel
    assert ollama_otel.ollama.chat(**hello).done
    before.close()
    for function in (chat, ollama_otel.ollama.chat):
        function.__self__.close()

    spans = [span for span in capture.spans if span.instrumentation_scope.name == "ollama_otel"]
    print(*[span.name for span in spans], sep=",")
    print(*sorted({span.attributes["ollama.outcome"] for span in spans}))
    print(sorted(name for name in capture.metrics() if name.startswith("gen_ai")) != [])
"""


@pytest.mark.sockets
@pytest.mark.processes
@pytest.mark.parametrize("way", ["entry point", "auto-instrumentation"])
def test_a_program_is_recorded_without_a_change_to_it(way: str) -> None:
    # The distribution that the extra zero-code brings would set up an SDK of its own.
    none = {"OTEL_PYTHON_DISTRO": "none", "OTEL_PYTHON_CONFIGURATOR": "none"}
    with FakeOllama().serve() as url:
        lines = run_script(ZERO_CODE, way, OLLAMA_HOST=url, **none).splitlines()
    # What follows is stderr, where a distribution says that it is not loaded.
    assert lines[:3] == [",".join(["chat llama3.2"] * 5), "completed", "True"]
