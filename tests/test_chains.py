"""Our transports among others, and twice in one chain: one call of the caller is one record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import ollama
import pytest
import wrapt
from ollama._client import BaseClient
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

import ollama_otel
from ollama_otel import OllamaInstrumentor, instrument_client, uninstrument_client
from ollama_otel._client_instrumentation import is_instrumented
from ollama_otel.testing import Capture, FakeOllama

from .colours import COLOURS, Colour, closed, done, each

HOST = "http://127.0.0.1:11434"
CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "Hello"}]}
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
    BaseClient.__init__ = ORIGINAL_INIT  # type: ignore[method-assign]


class Foreign(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Another library's wrapper; it counts what passes."""

    def __init__(self, inner: Any) -> None:
        self.wrapped = inner
        self.count = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.count += 1
        response: httpx.Response = self.wrapped.handle_request(request)
        return response

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.count += 1
        response: httpx.Response = await self.wrapped.handle_async_request(request)
        return response


class Plain(httpx.BaseTransport):
    """A sync transport only, as httpx's own: OpenTelemetry looks for the method's name."""

    def __init__(self) -> None:
        self.inner = FakeOllama().transport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self.inner.handle_request(request)


class AsyncPlain(httpx.AsyncBaseTransport):
    def __init__(self) -> None:
        self.inner = FakeOllama().transport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self.inner.handle_async_request(request)


def ours_twice(colour: Colour, client: Any, outer: Capture, inner: Capture) -> None:
    client._client._transport = colour.transport(
        colour.transport(client._client._transport, **inner.options), **outer.options
    )


def ours_around_another(colour: Colour, client: Any, outer: Capture, inner: Capture) -> None:
    instrument_client(client, **inner.options)
    client._client._transport = Foreign(client._client._transport)
    instrument_client(client, **outer.options)


@pytest.mark.parametrize("chain", [ours_twice, ours_around_another])
@pytest.mark.parametrize("stream", [True, False])
def test_two_of_ours_in_one_chain_record_once(colour: Colour, chain: Any, stream: bool) -> None:
    outer, inner, server = Capture(), Capture(), FakeOllama()

    async def scenario() -> None:
        client = colour.official(HOST, transport=server.transport())
        chain(colour, client, outer, inner)
        for _ in range(2):
            answer = await done(client.chat(**CHAT, stream=stream))
            if stream:
                assert [part async for part in each(answer)][-1].done
        with pytest.raises(ollama.ResponseError):
            await done(client.show("missing"))
        await closed(client)

    colour.run(scenario)
    assert [record.outcome for record in outer.records] == ["completed", "completed", "failed"]
    assert inner.records == []
    assert len(outer.spans) == 3
    trace_id, span_id = outer.spans[0].context.trace_id, outer.spans[0].context.span_id
    assert f"{trace_id:032x}-{span_id:016x}" in server.requests[0].headers["traceparent"]


def test_a_transport_that_sends_again_is_one_call(colour: Colour, capture: Capture) -> None:
    inner_capture = Capture()

    class Again(Foreign):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            super().handle_request(request).read()
            return super().handle_request(request)

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await (await super().handle_async_request(request)).aread()
            return await super().handle_async_request(request)

    server = FakeOllama()
    chain = Again(colour.transport(server.transport(), **inner_capture.options))

    async def scenario() -> None:
        client = colour.httpx(transport=colour.transport(chain, **capture.options))
        response = await done(client.post(f"{HOST}/api/chat", json=CHAT | {"stream": False}))
        assert response.json()["done"]
        assert not any("ollama_otel" in key for key in response.request.extensions)
        await closed(client)

    colour.run(scenario)
    assert (len(server.requests), len(capture.records), len(inner_capture.records)) == (2, 1, 0)


def test_another_call_that_an_inner_transport_makes_is_a_record_of_its_own(
    colour: Colour, capture: Capture
) -> None:
    side = colour.ours(HOST, transport=FakeOllama().transport(), **capture.options)

    class Asks(Foreign):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            side.chat(**CHAT)
            return super().handle_request(request)

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await side.chat(**CHAT)
            return await super().handle_async_request(request)

    async def scenario() -> None:
        client = colour.ours(HOST, transport=Asks(FakeOllama().transport()), **capture.options)
        await done(client.chat(**CHAT))
        await closed(client)

    colour.run(scenario)
    assert len(capture.records) == 2


def test_a_request_that_failed_is_recorded_when_it_is_sent_again(
    colour: Colour, capture: Capture
) -> None:
    class Down(Foreign):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("down", request=request)

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("down", request=request)

    async def scenario() -> None:
        client = colour.httpx(transport=colour.transport(Down(None), **capture.options))
        request = client.build_request("POST", f"{HOST}/api/chat", json=CHAT)
        for _ in range(2):
            with pytest.raises(httpx.ConnectError):
                await done(client.send(request))
        await closed(client)

    colour.run(scenario)
    assert [record.error_type for record in capture.records] == ["connect", "connect"]


def test_an_inner_transport_may_replace_the_extensions(colour: Colour, capture: Capture) -> None:
    class Replaces(Foreign):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            request.extensions = ()  # type: ignore[assignment]
            return super().handle_request(request)

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            request.extensions = ()  # type: ignore[assignment]
            return await super().handle_async_request(request)

    async def scenario() -> None:
        inner = httpx.MockTransport(lambda _: httpx.Response(200, json={"version": "1"}))
        client = colour.httpx(transport=colour.transport(Replaces(inner), **capture.options))
        response = await done(client.get(f"{HOST}/api/version"))
        assert response.json() == {"version": "1"}
        await closed(client)

    with pytest.raises(AttributeError, match="pop"):  # our faults are loud in tests
        colour.run(scenario)


# --- uninstrumenting among others -----------------------------------------------------------


def test_what_opentelemetrys_httpx_wraps_stays_wrapped(colour: Colour) -> None:
    ours, theirs, again = Capture(), Capture(), Capture()

    async def scenario() -> None:
        plain = AsyncPlain() if colour.is_async else Plain()
        client = colour.official(HOST, transport=plain)
        instrument_client(client, **ours.options)
        HTTPXClientInstrumentor.instrument_client(
            client._client, tracer_provider=theirs.tracer_provider
        )
        await done(client.chat(**CHAT))
        assert (len(ours.spans), len(theirs.spans)) == (1, 1)
        uninstrument_client(client)
        assert not is_instrumented(client)
        await done(client.chat(**CHAT))
        assert (len(ours.spans), len(theirs.spans)) == (1, 2)
        instrument_client(client, **again.options)
        assert is_instrumented(client)
        await done(client.chat(**CHAT))
        assert (len(ours.spans), len(theirs.spans), len(again.spans)) == (1, 3, 1)
        HTTPXClientInstrumentor.uninstrument_client(client._client)
        uninstrument_client(client)
        await done(client.chat(**CHAT))
        assert (len(ours.spans), len(theirs.spans), len(again.spans)) == (1, 3, 1)
        assert client._client._transport is plain
        await closed(client)

    colour.run(scenario)


def test_what_opentelemetrys_httpx_wrapped_before_stays_wrapped(colour: Colour) -> None:
    ours, theirs = Capture(), Capture()

    async def scenario() -> None:
        plain = AsyncPlain() if colour.is_async else Plain()
        client = colour.official(HOST, transport=plain)
        HTTPXClientInstrumentor.instrument_client(
            client._client, tracer_provider=theirs.tracer_provider
        )
        for count in (1, 2):
            instrument_client(client, **ours.options)
            await done(client.chat(**CHAT))
            uninstrument_client(client)
            await done(client.chat(**CHAT))
            assert (len(ours.spans), len(theirs.spans)) == (count, count * 2)
        HTTPXClientInstrumentor.uninstrument_client(client._client)
        await done(client.chat(**CHAT))
        assert (len(ours.spans), len(theirs.spans)) == (2, 4)
        await closed(client)

    colour.run(scenario)


def test_a_transport_put_around_ours_stays(colour: Colour) -> None:
    ours, again = Capture(), Capture()

    async def scenario() -> None:
        client = colour.official(HOST, transport=FakeOllama().transport())
        instrument_client(client, **ours.options)
        foreign = Foreign(client._client._transport)
        client._client._transport = foreign
        assert is_instrumented(client)
        uninstrument_client(client)
        assert not is_instrumented(client)
        assert client._client._transport is foreign
        await done(client.chat(**CHAT))
        instrument_client(client, **again.options)
        await done(client.chat(**CHAT))
        assert (foreign.count, len(ours.spans), len(again.spans)) == (2, 0, 1)
        uninstrument_client(client)
        assert client._client._transport is foreign
        await closed(client)

    colour.run(scenario)


def test_a_transport_that_two_clients_share_records_the_other_one(colour: Colour) -> None:
    ours = Capture()

    async def scenario() -> None:
        shared = colour.transport(FakeOllama().transport(), **ours.options)
        first, second = (colour.official(HOST, transport=shared) for _ in range(2))
        uninstrument_client(first)
        await done(first.chat(**CHAT))
        await done(second.chat(**CHAT))
        assert len(ours.spans) == 1
        await closed(first)

    colour.run(scenario)


@pytest.mark.slow
def test_a_constructor_that_another_instrumentation_wrapped_stays_wrapped(
    colour: Colour, instrumentor: OllamaInstrumentor
) -> None:
    made: list[Any] = []
    ours, again = Capture(), Capture()

    def note(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> None:
        made.append(instance)
        wrapped(*args, **kwargs)

    def client() -> Any:
        return colour.official(HOST, transport=FakeOllama().transport())

    async def scenario() -> None:
        instrumentor.instrument(**ours.options)
        wrapt.wrap_function_wrapper(BaseClient, "__init__", note)
        theirs = vars(BaseClient)["__init__"]
        await done(client().chat(**CHAT))
        assert (len(made), len(ours.spans)) == (1, 1)
        instrumentor.uninstrument()
        assert vars(BaseClient)["__init__"] is theirs
        await done(client().chat(**CHAT))
        assert (len(made), len(ours.spans)) == (2, 1)
        instrumentor.instrument(**again.options)
        await done(client().chat(**CHAT))
        assert (len(made), len(ours.spans), len(again.spans)) == (3, 1, 1)
        instrumentor.uninstrument()
        await done(client().chat(**CHAT))
        assert (len(made), len(again.spans)) == (4, 1)

    colour.run(scenario)


@pytest.mark.slow
def test_a_constructor_wrapped_before_ours_stays_wrapped(
    colour: Colour, instrumentor: OllamaInstrumentor
) -> None:
    made: list[Any] = []
    ours = Capture()

    def note(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> None:
        made.append(instance)
        wrapped(*args, **kwargs)

    async def scenario() -> None:
        wrapt.wrap_function_wrapper(BaseClient, "__init__", note)
        theirs = vars(BaseClient)["__init__"]
        instrumentor.instrument(**ours.options)
        await done(colour.official(HOST, transport=FakeOllama().transport()).chat(**CHAT))
        instrumentor.uninstrument()
        await done(colour.official(HOST, transport=FakeOllama().transport()).chat(**CHAT))
        assert (len(made), len(ours.spans)) == (2, 1)
        assert vars(BaseClient)["__init__"] is theirs

    colour.run(scenario)


@pytest.mark.slow
def test_methods_that_another_instrumentation_wraps_are_called_as_before(
    colour: Colour, instrumentor: OllamaInstrumentor, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, called = Capture(), []

    def note(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        called.append(args)
        return wrapped(*args, **kwargs)

    async def scenario() -> None:
        instrumentor.instrument(**ours.options)
        original = colour.official.chat
        monkeypatch.setattr(colour.official, "chat", wrapt.FunctionWrapper(original, note))
        client = colour.official(HOST, transport=FakeOllama().transport())
        await done(client.chat(**CHAT))
        instrumentor.uninstrument()
        await done(client.chat(**CHAT))
        assert (len(called), len(ours.spans)) == (2, 1)

    colour.run(scenario)


@pytest.mark.slow
def test_our_client_below_the_instrumentor_and_instrumented_by_hand_records_once(
    colour: Colour, instrumentor: OllamaInstrumentor
) -> None:
    own, others = Capture(), Capture()

    async def scenario() -> None:
        instrumentor.instrument(**others.options)
        client = colour.ours(HOST, transport=FakeOllama().transport(), **own.options)
        instrument_client(client, **others.options)
        await done(client.chat(**CHAT))
        assert (len(own.spans), len(others.spans)) == (1, 0)

    colour.run(scenario)


def test_the_network_below_two_of_ours_is_known() -> None:
    inner = ollama_otel.Transport(httpx.HTTPTransport())
    assert ollama_otel.Transport(inner)._reaches_network()
