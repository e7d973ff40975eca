"""The httpx shells: what goes through them goes through unchanged, and leaves a span behind."""

from __future__ import annotations

import base64
import gc
import gzip
import hashlib
import json
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import httpx2
import ollama
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.utils import (
    suppress_http_instrumentation,
    suppress_instrumentation,
)
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

import ollama_otel
from ollama_otel import (
    InstrumentationError,
    Settings,
    SettingsError,
    build_instrumentation,
    instrument_client,
    uninstrument_client,
)
from ollama_otel._client_instrumentation import is_instrumented
from ollama_otel._exchange.exchange import Exchange
from ollama_otel._telemetry.instrumentation import instrumentation_for
from ollama_otel._wire.native.images import parse_without_images, without_images
from ollama_otel.records import Media
from ollama_otel.testing import Capture, FakeOllama, Fault, Reply
from ollama_otel.transport import AsyncTransport, Transport, shells_for
from tests.examples import examples

from .colours import COLOURS, Colour, closed, done, each, raw_pieces, read

HOST = "http://127.0.0.1:11434"
HELLO = [{"role": "user", "content": "Hello"}]
CHAT = {"model": "llama3.2", "messages": HELLO}
RECORDED = Path(__file__).parent / "data" / "ollama-0.33.0"
STREAM = "".join(json.loads((RECORDED / "chat-stream.json").read_text())["chunks"]).encode()
DOCUMENT = "".join(json.loads((RECORDED / "chat-warm.json").read_text())["chunks"]).encode()
FINAL = json.loads(STREAM.splitlines()[-1])

# Trio warns of generators left behind; httpx's own are, with and without us.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Async generator .* was garbage collected:ResourceWarning"
)

unhurried = settings(suppress_health_check=list(HealthCheck))


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> Colour:
    return Colour(request.param)


class Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that comes piece by piece, once."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = list(pieces)
        self.given: list[bytes] = []
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        while self.pieces:
            self.given.append(self.pieces.pop(0))
            yield self.given[-1]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece

    def close(self) -> None:
        self.is_closed = True

    async def aclose(self) -> None:
        self.is_closed = True


class Canned(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Answers with one response, and notes what was done to it."""

    tenant = "blue"

    def __init__(self, response: httpx.Response | None = None) -> None:
        self.response = response or httpx.Response(200, stream=Pieces([DOCUMENT]))
        self.requests: list[httpx.Request] = []
        self.log: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.response

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)

    def close(self) -> None:
        self.log.append("close")

    async def aclose(self) -> None:
        self.log.append("aclose")

    def __enter__(self) -> Any:
        self.log.append("enter")
        return self

    def __exit__(self, *error: object) -> None:
        self.log.append(f"exit {error[0]}")

    async def __aenter__(self) -> Any:
        self.log.append("aenter")
        return self

    async def __aexit__(self, *error: object) -> None:
        self.log.append(f"aexit {error[0]}")


def canned(
    pieces: Sequence[bytes], content_type: str = "application/x-ndjson", **headers: str
) -> Canned:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Canned(
        httpx.Response(200, headers={"content-type": content_type, **named}, stream=Pieces(pieces))
    )


async def send(colour: Colour, transport: Any, request: httpx.Request) -> httpx.Response:
    method = transport.handle_async_request if colour.is_async else transport.handle_request
    response: httpx.Response = await done(method(request))
    return response


def chat_request(**body: Any) -> httpx.Request:
    return httpx.Request("POST", f"{HOST}/api/chat", json=CHAT | body)


def exchanges() -> int:
    return sum(type(each) is Exchange for each in gc.get_objects())


@pytest.mark.slow
@pytest.mark.parametrize("reads", [True, False])
def test_a_response_that_is_kept_keeps_nothing_of_its_call(
    colour: Colour, capture: Capture, reads: bool
) -> None:
    async def scenario() -> None:
        transport = colour.transport(Canned(), **capture.options)
        gc.collect()
        gc.disable()
        try:
            before = exchanges()
            response = await send(colour, transport, chat_request())
            assert exchanges() == before + 1
            if reads:
                await read(response, is_async=colour.is_async)
            await colour.close(response)
            assert exchanges() == before
            # Once more, as some clients do.
            await colour.close(response)
        finally:
            gc.enable()

    colour.run(scenario)
    assert [record.outcome for record in capture.records] == ["completed" if reads else "abandoned"]


def test_a_body_can_be_read_and_closed_after_its_call_has_ended(capture: Capture) -> None:
    inner = Canned()
    stream = Transport(inner, **capture.options).handle_request(chat_request()).stream
    stream.close()
    assert list(stream) == [DOCUMENT]
    stream.close()
    assert [record.outcome for record in capture.records] == ["abandoned"]


# --- in and out of clients ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["official", "httpx"])
def test_a_client_is_recorded_from_then_on(colour: Colour, kind: str, capture: Capture) -> None:
    server = FakeOllama()

    async def scenario() -> None:
        client = (
            colour.official(HOST, transport=server.transport())
            if kind == "official"
            else colour.httpx(base_url=HOST, transport=server.transport())
        )
        assert not is_instrumented(client)
        assert instrument_client(client, **capture.options) is client
        assert is_instrumented(client)
        if kind == "official":
            await done(client.chat(**CHAT))
        else:
            await done(client.post("/api/chat", json=CHAT | {"stream": False}))
        assert uninstrument_client(client) is client
        assert not is_instrumented(client)
        if kind == "official":
            await done(client.chat(**CHAT))
        await closed(client)

    colour.run(scenario)
    (record,) = capture.records
    assert record.outcome == "completed"
    (span,) = capture.spans
    assert span.name == "chat llama3.2"
    assert "traceparent" in server.requests[0].headers
    assert all("traceparent" not in request.headers for request in server.requests[1:])


def test_a_client_is_instrumented_once_however_often_asked(
    colour: Colour, capture: Capture
) -> None:
    server, other = FakeOllama(), Capture()

    async def scenario() -> None:
        client = colour.official(HOST, transport=server.transport(), mounts={"all://x.y": Canned()})
        instrument_client(client, **capture.options)
        wrappers = client._client._transport, *client._client._mounts.values()
        instrument_client(client, **other.options)
        assert (client._client._transport, *client._client._mounts.values()) == wrappers
        await done(client.chat(**CHAT))
        uninstrument_client(client)
        assert not is_instrumented(client)
        uninstrument_client(client)
        await closed(client)

    colour.run(scenario)
    assert (len(capture.spans), len(other.spans)) == (1, 0)


@pytest.mark.parametrize("kind", ["official", "httpx"])
def test_uninstrumenting_leaves_no_trace(
    colour: Colour, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "localhost")

    async def scenario() -> None:
        client = (
            colour.official(HOST, verify=False)
            if kind == "official"
            else colour.httpx(verify=False)
        )
        target = client._client if kind == "official" else client
        before, outer_before = dict(vars(target)), dict(vars(client))
        transports = [target._transport, *target._mounts.values()]
        assert None in transports  # what NO_PROXY names
        assert len(transports) > 2
        instrument_client(client)
        wrapped = [target._transport, *target._mounts.values()]
        assert [is_wrapped is None for is_wrapped in wrapped] == [t is None for t in transports]
        assert [getattr(w, "inner", None) for w in wrapped] == transports
        uninstrument_client(client)
        after, outer_after = dict(vars(target)), dict(vars(client))
        mounts = before.pop("_mounts"), after.pop("_mounts")
        assert list(mounts[0].items()) == list(mounts[1].items())
        for old, new in ((before, after), (outer_before, outer_after)):
            assert old.keys() == new.keys()
            assert all(old[name] is new[name] for name in old if name != "_mounts")
        await closed(client)

    colour.run(scenario)


def test_calls_through_a_mount_are_recorded(colour: Colour, capture: Capture) -> None:
    async def scenario() -> None:
        client = colour.httpx(
            transport=Canned(httpx.Response(500)),
            mounts={"http://127.0.0.1": FakeOllama().transport()},
        )
        instrument_client(client, **capture.options)
        response = await done(client.post(f"{HOST}/api/chat", json=CHAT | {"stream": False}))
        assert response.status_code == 200
        await closed(client)

    colour.run(scenario)
    assert [record.outcome for record in capture.records] == ["completed"]


@pytest.mark.parametrize("thing", [None, 7, object(), httpx.Client, "client"])
def test_what_is_no_client_is_refused_in_a_sentence(thing: Any) -> None:
    for function in (instrument_client, uninstrument_client, is_instrumented):
        with pytest.raises(
            InstrumentationError, match=r"^expected an ollama\.Client, .* found \w+"
        ):
            function(thing)


# --- the transports themselves ------------------------------------------------------------


def test_opening_and_closing_reach_the_inner_transport(colour: Colour) -> None:
    inner = Canned()

    async def scenario() -> None:
        transport = colour.transport(inner)
        if colour.is_async:
            async with transport as entered:
                assert entered is transport
            with pytest.raises(KeyError):
                async with transport:
                    raise KeyError
        else:
            with transport as entered:
                assert entered is transport
            with pytest.raises(KeyError), transport:
                raise KeyError
        await colour.close(transport)

    colour.run(scenario)
    a = "a" if colour.is_async else ""
    assert inner.log == [
        f"{a}enter",
        f"{a}exit None",
        f"{a}enter",
        f"{a}exit {KeyError}",
        f"{a}close",
    ]


def test_what_else_a_transport_has_stays_in_reach(colour: Colour) -> None:
    inner = Canned()
    transport = colour.transport(inner)
    assert transport.inner is inner
    assert transport.tenant == "blue"
    assert transport.log is inner.log
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = transport.no_such_name
    # Before its constructor has run, as `copy.copy` and `pickle` ask.
    with pytest.raises(AttributeError, match="inner"):
        _ = colour.transport.__new__(colour.transport).inner


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/api/chat"),
        ("POST", "/api/chats"),
        ("POST", "/v1/images/generations"),
        ("POST", "/api/blobs/a/b"),
        ("POST", "/login"),
    ],
)
def test_what_is_not_ollamas_passes_as_the_same_objects(
    colour: Colour, capture: Capture, method: str, path: str
) -> None:
    inner = Canned()
    request = httpx.Request(method, HOST + path, headers={"x-a": "b"})
    headers = list(request.headers.raw)

    async def scenario() -> None:
        transport = colour.transport(inner, **capture.options)
        assert await send(colour, transport, request) is inner.response

    colour.run(scenario)
    assert inner.requests[0] is request
    assert request.headers.raw == headers
    assert capture.spans == []
    assert capture.records == []


def test_while_suppressed_calls_pass_as_the_same_objects(colour: Colour, capture: Capture) -> None:
    inner = Canned()

    async def scenario() -> None:
        transport = colour.transport(inner, **capture.options)
        with suppress_instrumentation():
            assert await send(colour, transport, chat_request()) is inner.response

    colour.run(scenario)
    assert "traceparent" not in inner.requests[0].headers
    assert capture.records == []


def test_suppressing_http_spans_alone_leaves_our_spans(colour: Colour, capture: Capture) -> None:
    async def scenario() -> None:
        transport = colour.transport(Canned(), **capture.options)
        with suppress_http_instrumentation():
            await read(await send(colour, transport, chat_request()), is_async=colour.is_async)

    colour.run(scenario)
    assert len(capture.spans) == 1


@pytest.mark.sockets
def test_the_answer_is_the_inner_transports_in_all_that_can_be_seen(
    colour: Colour, capture: Capture
) -> None:
    """Over a socket, where httpx fills in all it knows."""
    server = FakeOllama(clock=lambda: 1_750_000_000.0)
    reply = Reply.stream([FINAL])

    async def look(client: Any) -> Any:
        async def look_at(response: httpx.Response) -> Any:
            return {
                "pieces": [piece async for piece in raw_pieces(response, is_async=colour.is_async)],
                "status": (response.status_code, response.reason_phrase, response.http_version),
                "headers": [pair for pair in response.headers.raw if pair[0].lower() != b"date"],
                "encoding": response.encoding,
                "extensions": sorted(response.extensions),
                "flags": (response.is_stream_consumed, response.is_closed),
                "downloaded": response.num_bytes_downloaded,
                "elapsed": response.elapsed.total_seconds() > 0,
                "history": response.history,
                "next": response.next_request,
            }

        if colour.is_async:
            async with client.stream("POST", "/api/chat", json=CHAT) as response:
                return await look_at(response)
        with client.stream("POST", "/api/chat", json=CHAT) as response:
            return await look_at(response)

    async def scenario(url: str) -> tuple[Any, Any]:
        server.script("/api/chat", reply, reply)
        plain = colour.httpx(base_url=url, verify=False, trust_env=False)
        ours = colour.httpx(base_url=url, verify=False, trust_env=False)
        instrument_client(ours, **capture.options)
        try:
            return await look(plain), await look(ours)
        finally:
            await closed(plain)
            await closed(ours)

    with server.serve() as url:
        expected, found = colour.run(lambda: scenario(url))
    assert found == expected


# --- trace context ------------------------------------------------------------------------


def sent_context(server: FakeOllama) -> list[tuple[str, str, int]]:
    """Trace id, span id and flags of each request, as the server got them."""
    headers = [request.headers["traceparent"].split("-") for request in server.requests]
    return [(trace_id, span_id, int(flags, 16)) for _, trace_id, span_id, flags in headers]


def test_the_server_is_told_of_the_span(colour: Colour, capture: Capture) -> None:
    server = FakeOllama()

    async def scenario() -> None:
        client = colour.ours(HOST, transport=server.transport(), **capture.options)
        await done(client.chat(**CHAT))
        async for _ in each(await done(client.chat(**CHAT, stream=True))):
            pass
        await closed(client)

    colour.run(scenario)
    assert sent_context(server) == [
        (f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}", span.context.trace_flags)
        for span in capture.spans
        if span.context
    ]
    assert all(flags & TraceFlags.SAMPLED for *_, flags in sent_context(server))
    assert len({span.context.trace_id for span in capture.spans if span.context}) == 2


def test_the_span_belongs_to_the_callers(colour: Colour, capture: Capture) -> None:
    server = FakeOllama()
    tracer = capture.tracer_provider.get_tracer("app")

    async def scenario() -> None:
        client = colour.ours(HOST, transport=server.transport(), **capture.options)
        with tracer.start_as_current_span("app"):
            await done(client.chat(**CHAT))
            async for _ in each(await done(client.chat(**CHAT, stream=True))):
                with tracer.start_as_current_span("inside"):
                    pass
        await closed(client)

    colour.run(scenario)
    spans = {span.name: span for span in capture.spans}
    app = spans["app"].context
    assert app
    assert spans["chat llama3.2"].parent == app
    # The caller's own work inside the loop is not part of the call.
    assert spans["inside"].parent == app
    assert {span.context.trace_id for span in capture.spans if span.context} == {app.trace_id}


def test_the_callers_context_is_the_same_before_during_and_after(
    colour: Colour, capture: Capture
) -> None:
    server = FakeOllama()
    tracer = capture.tracer_provider.get_tracer("app")

    async def scenario() -> None:
        client = colour.ours(HOST, transport=server.transport(), **capture.options)
        with tracer.start_as_current_span("app") as app:
            mine = otel_context.get_current()
            stream = await done(client.chat(**CHAT, stream=True))
            assert otel_context.get_current() is mine
            async for _ in each(stream):
                assert trace.get_current_span() is app
                assert otel_context.get_current() is mine
            assert otel_context.get_current() is mine
            left = each(await done(client.chat(**CHAT, stream=True)))
            await anext(left)
            await left.aclose()
            assert otel_context.get_current() is mine
            with pytest.raises(ollama.ResponseError):
                await done(client.chat("no-such-model"))
            assert otel_context.get_current() is mine
        await closed(client)

    colour.run(scenario)
    assert len(capture.records) == 3


def test_a_stream_read_under_another_span_keeps_the_one_it_was_begun_under(
    colour: Colour, capture: Capture
) -> None:
    tracer = capture.tracer_provider.get_tracer("app")

    async def scenario() -> None:
        client = colour.ours(HOST, transport=FakeOllama().transport(), **capture.options)
        with tracer.start_as_current_span("first"):
            stream = each(await done(client.chat(**CHAT, stream=True)))
            await anext(stream)
        with tracer.start_as_current_span("second") as second:
            async for _ in stream:
                assert trace.get_current_span() is second
        await closed(client)

    colour.run(scenario)
    spans = {span.name: span for span in capture.spans}
    assert spans["chat llama3.2"].parent == spans["first"].context


def test_below_an_unsampled_parent_no_span_is_made_and_the_server_is_told(colour: Colour) -> None:
    capture, server = Capture(sampler=ParentBased(ALWAYS_OFF)), FakeOllama()
    parent = SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(0))

    async def scenario() -> None:
        client = colour.ours(HOST, transport=server.transport(), **capture.options)
        token = otel_context.attach(trace.set_span_in_context(NonRecordingSpan(parent)))
        try:
            assert (await done(client.chat(**CHAT))).done
            async for _ in each(await done(client.chat(**CHAT, stream=True))):
                pass
        finally:
            otel_context.detach(token)
        await closed(client)

    colour.run(scenario)
    assert capture.spans == []
    assert [record.outcome for record in capture.records] == ["completed"] * 2
    assert {(trace_id, flags) for trace_id, _, flags in sent_context(server)} == {(f"{7:032x}", 0)}


@pytest.fixture(params=["class", "client before", "client after"])
def http_spans(request: pytest.FixtureRequest, capture: Capture) -> Iterator[Any]:
    """The httpx instrumentation of OpenTelemetry itself, in its ways in."""
    instrumentor = HTTPXClientInstrumentor()
    options = {"tracer_provider": capture.tracer_provider, "meter_provider": capture.meter_provider}
    if request.param == "class":
        instrumentor.instrument(**options)

    def client(kind: Any, url: str) -> Any:
        client = kind(url, verify=False, trust_env=False)
        if request.param == "client before":
            instrumentor.instrument_client(client._client, **options)
        instrument_client(client, **capture.options)
        if request.param == "client after":
            instrumentor.instrument_client(client._client, **options)
        return client

    client.is_outside = request.param == "client after"  # type: ignore[attr-defined]
    yield client
    if request.param == "class":
        instrumentor.uninstrument()


@pytest.mark.sockets
@pytest.mark.parametrize("name", COLOURS[:2])
def test_http_spans_and_ours_nest(name: str, http_spans: Any, capture: Capture) -> None:
    """Theirs stands around ours only where it was put around ours."""
    colour, server = Colour(name), FakeOllama()

    async def scenario(url: str) -> None:
        client = http_spans(colour.official, url)
        assert len([_ async for _ in each(await done(client.chat(**CHAT, stream=True)))]) > 2
        assert (await done(client.chat(**CHAT))).done
        await closed(client)

    with server.serve() as url:
        colour.run(lambda: scenario(url))
    ours = [span for span in capture.spans if span.name == "chat llama3.2"]
    theirs = [span for span in capture.spans if span.name == "POST"]
    assert (len(ours), len(theirs)) == (2, 2)
    outer, inner = (theirs, ours) if http_spans.is_outside else (ours, theirs)
    outer_ids = {span.context.span_id for span in outer if span.context}
    assert outer_ids == {span.parent.span_id for span in inner if span.parent}
    assert len(outer_ids) == 2
    assert [span.parent for span in outer] == [None, None]
    # The server is told of the innermost.
    assert {span_id for _, span_id, _ in sent_context(server)} == {
        f"{span.context.span_id:016x}" for span in inner if span.context
    }
    assert [record.outcome for record in capture.records] == ["completed"] * 2


# --- answers ------------------------------------------------------------------------------


def pieces_of(body: bytes) -> st.SearchStrategy[list[bytes]]:
    return st.lists(st.integers(0, len(body)), max_size=12).map(
        lambda ends: [
            body[a:b] for a, b in zip([0, *sorted(ends)], [*sorted(ends), len(body)], strict=True)
        ]
    )


async def pieces_through(colour: Colour, inner: Canned, **options: Any) -> list[bytes]:
    client = colour.httpx(base_url=HOST, transport=inner)
    instrument_client(client, **options)
    try:
        request = client.build_request("POST", "/api/chat", json=CHAT)
        response = await done(client.send(request, stream=True))
        return [piece async for piece in raw_pieces(response, is_async=colour.is_async)]
    finally:
        await closed(client)


class Kept:
    """Keeps records, and nothing of OpenTelemetry."""

    def __init__(self) -> None:
        self.capture = Capture()
        self.options: Mapping[str, Any] = {"observers": (self.capture.observer,)}

    @property
    def record(self) -> Any:
        (record,) = self.capture.records
        return record


@pytest.mark.parametrize("name", COLOURS[:2])
@given(pieces=pieces_of(STREAM))
@settings(parent=unhurried, max_examples=examples(60))
def test_a_body_comes_in_the_pieces_in_which_it_was_sent(name: str, pieces: list[bytes]) -> None:
    colour, kept = Colour(name), Kept()
    found = colour.run(lambda: pieces_through(colour, canned(pieces), **kept.options))
    # httpx itself hands on no empty pieces.
    assert found == [piece for piece in pieces if piece]
    assert kept.record.outcome == "completed"
    assert kept.record.response.output_tokens == FINAL["eval_count"]
    assert kept.record.chunk_count == STREAM.count(b"\n")
    assert kept.record.response_size == len(STREAM)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@given(data=st.data())
@settings(parent=unhurried, max_examples=examples(30))
def test_a_body_packed_by_a_proxy_passes_packed_and_is_read_all_the_same(
    encoding: str, data: st.DataObject
) -> None:
    body = data.draw(st.sampled_from([STREAM, DOCUMENT]))
    kind = "application/x-ndjson" if body is STREAM else "application/json; charset=utf-8"
    packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    pieces, kept, colour = data.draw(pieces_of(packed)), Kept(), Colour("sync")
    inner = canned(pieces, kind, content_encoding=encoding)
    found = colour.run(lambda: pieces_through(colour, inner, **kept.options))
    assert found == [piece for piece in pieces if piece]
    assert kept.record.outcome == "completed"
    assert kept.record.response.output_tokens == json.loads(body.splitlines()[-1])["eval_count"]
    assert kept.record.response_size == len(packed)


def test_a_packed_body_reads_as_officially_in_our_client(colour: Colour, capture: Capture) -> None:
    server = FakeOllama()
    server.fault("/api/chat", Fault(gzip=True, rechunk=11), times=2)

    async def scenario() -> None:
        client = colour.ours(HOST, transport=server.transport(), **capture.options)
        answer = await done(client.chat(**CHAT))
        stream = await done(client.chat(**CHAT, stream=True))
        text = "".join([part.message.content async for part in each(stream)])
        assert text == answer.message.content != ""
        await closed(client)

    colour.run(scenario)
    assert [record.outcome for record in capture.records] == ["completed"] * 2
    assert [record.response.output_tokens for record in capture.records] != [None, None]


def test_a_body_in_an_encoding_we_cannot_undo_passes_and_counts_as_completed(
    colour: Colour, capture: Capture
) -> None:
    inner = canned([b"\x0b\x02\x80", b"ab\x03"], content_encoding="br")
    assert colour.run(lambda: pieces_through(colour, inner, **capture.options)) == [
        b"\x0b\x02\x80",
        b"ab\x03",
    ]
    assert [record.outcome for record in capture.records] == ["completed"]


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("content_encoding", [None, "gzip"])
def test_an_answer_that_is_in_memory_keeps_its_body(
    colour: Colour, capture: Capture, streams: bool, content_encoding: str | None
) -> None:
    """As `httpx.MockTransport`, caches and cassettes give them."""
    body = STREAM if streams else DOCUMENT
    headers = {} if content_encoding is None else {"content-encoding": content_encoding}

    def answer(request: httpx.Request) -> httpx.Response:
        content = body if content_encoding is None else gzip.compress(body)
        return httpx.Response(200, headers=headers, content=content)

    async def scenario() -> None:
        client = colour.httpx(base_url=HOST, transport=httpx.MockTransport(answer))
        instrument_client(client, **capture.options)
        request = client.build_request("POST", "/api/chat", json=CHAT | {"stream": streams})
        response = await done(client.send(request, stream=True))
        # Without instrumentation nobody needs to read it first.
        assert response.content == body
        assert await read(response, is_async=colour.is_async) == body
        await colour.close(response)
        again = await done(client.post("/api/chat", json=CHAT | {"stream": streams}))
        assert again.content == body
        await closed(client)
        client = colour.ours(HOST, transport=httpx.MockTransport(answer), **capture.options)
        chat = await done(client.chat(**CHAT, stream=streams))
        parts = [part async for part in each(chat)] if streams else [chat]
        assert parts[-1].eval_count == json.loads(body.splitlines()[-1])["eval_count"]
        await closed(client)

    colour.run(scenario)
    tokens = json.loads(body.splitlines()[-1])["eval_count"]
    assert [(r.outcome, r.response.output_tokens) for r in capture.records] == [
        ("completed", tokens)
    ] * 3


def test_an_answer_that_an_inner_transport_has_read_keeps_its_body(
    colour: Colour, capture: Capture
) -> None:
    """Transports that retry or log do so."""

    class Reader(Canned):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            self.response.read()
            return self.response

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await self.response.aread()
            return self.response

    async def scenario() -> None:
        reader = Reader(httpx.Response(200, stream=Pieces([DOCUMENT[:9], DOCUMENT[9:]])))
        client = colour.ours(HOST, transport=reader, **capture.options)
        assert (await done(client.chat(**CHAT))).done
        await closed(client)

    colour.run(scenario)
    assert [record.outcome for record in capture.records] == ["completed"]


def test_closing_the_answer_closes_the_inner_one(colour: Colour, capture: Capture) -> None:
    inner = canned([STREAM])

    async def scenario() -> None:
        response = await send(colour, colour.transport(inner, **capture.options), chat_request())
        await colour.close(response)

    colour.run(scenario)
    assert isinstance(inner.response.stream, Pieces)
    assert inner.response.stream.is_closed
    assert inner.response.stream.given == []
    assert [record.outcome for record in capture.records] == ["abandoned"]


def test_a_close_that_fails_fails_for_the_caller_and_the_call_is_recorded(
    colour: Colour, capture: Capture
) -> None:
    class Unclosable(Pieces):
        def close(self) -> None:
            raise OSError("cannot close")

        async def aclose(self) -> None:
            self.close()

    async def scenario() -> None:
        inner = Canned(httpx.Response(200, stream=Unclosable([STREAM])))
        response = await send(colour, colour.transport(inner, **capture.options), chat_request())
        with pytest.raises(OSError, match="cannot close"):
            await colour.close(response)

    colour.run(scenario)
    assert [record.outcome for record in capture.records] == ["abandoned"]


def test_each_piece_is_handed_on_before_the_next_is_asked_for(
    colour: Colour, capture: Capture
) -> None:
    inner = canned([b"a", b"b", b"c"])

    async def scenario() -> None:
        response = await send(colour, colour.transport(inner, **capture.options), chat_request())
        assert isinstance(inner.response.stream, Pieces)
        async for piece in raw_pieces(response, is_async=colour.is_async):
            assert inner.response.stream.given[-1] == piece

    colour.run(scenario)


# --- requests -----------------------------------------------------------------------------


def test_a_request_body_that_is_a_stream_is_sent_once_and_whole(
    colour: Colour, capture: Capture, tmp_path: Path
) -> None:
    server = FakeOllama()
    blob = tmp_path / "blob"
    blob.write_bytes(b"0123456789" * 100_000)

    async def scenario() -> None:
        client = colour.ours(HOST, transport=server.transport(), **capture.options)
        digest = await done(client.create_blob(blob))
        assert server.requests[0].path == f"/api/blobs/{digest}"
        await closed(client)

    colour.run(scenario)
    assert server.requests[0].body == blob.read_bytes()
    (record,) = capture.records
    assert record.outcome == "completed"
    assert record.start.endpoint.name == "create_blob"
    # httpx knows the length of a file, and not that of a generator.
    assert record.start.request.size == (None if colour.is_async else 1_000_000)


def test_a_generator_as_a_chats_body_is_left_alone(colour: Colour, capture: Capture) -> None:
    server = FakeOllama()
    pulled: list[int] = []

    def body() -> Iterator[bytes]:
        for at in range(0, len(content), 7):
            pulled.append(at)
            yield content[at : at + 7]

    async def async_body() -> AsyncIterator[bytes]:
        for piece in body():
            yield piece

    content = json.dumps(CHAT | {"stream": False}).encode()

    async def scenario() -> None:
        client = colour.httpx(base_url=HOST, transport=server.transport())
        instrument_client(client, **capture.options)
        response = await done(
            client.post("/api/chat", content=async_body() if colour.is_async else body())
        )
        assert response.json()["done"] is True
        await closed(client)

    colour.run(scenario)
    assert pulled == [*range(0, len(content), 7)]
    assert server.requests[0].body == content
    (record,) = capture.records
    assert record.outcome == "completed"
    assert record.start.request.model is None
    assert record.response.model == "llama3.2"


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"[1]", b"\xff", b'{"model":', b'{"model":7,"messages":"x"}']
)
def test_a_request_body_we_cannot_read_is_sent_as_it_is(
    colour: Colour, capture: Capture, content: bytes
) -> None:
    server = FakeOllama()

    async def scenario() -> int:
        client = colour.httpx(base_url=HOST, transport=server.transport())
        instrument_client(client, **capture.options)
        response = await done(client.post("/api/chat", content=content))
        await closed(client)
        status: int = response.status_code
        return status

    assert colour.run(scenario) == 400
    assert server.requests[0].body == content
    (record,) = capture.records
    assert (record.outcome, record.start.request.model) == ("failed", None)
    assert record.start.request.size == len(content)


def test_a_large_body_with_images_is_known_by_all_but_its_images(
    colour: Colour, capture: Capture
) -> None:
    server = FakeOllama()
    image = "QUJD" * 100_000

    async def scenario() -> None:
        client = colour.httpx(base_url=HOST, transport=server.transport())
        instrument_client(client, **capture.options)
        message = {"role": "user", "content": 'What is "images":[] here?', "images": [image, image]}
        body = {"model": "llama3.2", "messages": [message], "stream": False, "options": {"seed": 7}}
        await done(client.post("/api/chat", json=body))
        await closed(client)

    colour.run(scenario)
    assert server.requests[0].body.count(image.encode()) == 2
    request = capture.records[0].start.request
    assert (request.model, request.image_count, request.options) == ("llama3.2", 2, {"seed": 7})
    assert request.size == len(server.requests[0].body)


BASE64 = st.text("ABCabc019+/=", max_size=12)
TEXTS = st.text(max_size=8) | st.sampled_from(
    ['"images":[', '"images": ["x"]', 'images":["', "images", '\\"images\\":[', "]", "[", "\\"]
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.just("user"), "content": TEXTS},
    optional={"images": st.lists(BASE64, max_size=3) | st.none(), "tool_name": TEXTS},
)
BODIES = st.fixed_dictionaries(
    {"model": TEXTS, "messages": st.lists(MESSAGES, max_size=3)},
    optional={
        "images": st.lists(BASE64, max_size=3),
        "options": st.fixed_dictionaries({"stop": st.lists(TEXTS, max_size=2)}),
        "prompt": TEXTS,
    },
)


def emptied(value: Any) -> Any:
    """The same value with the text of its images taken out."""
    if isinstance(value, dict):
        return {
            key: [""] * len(item) if key == "images" and isinstance(item, list) else emptied(item)
            for key, item in value.items()
        }
    return [emptied(item) for item in value] if isinstance(value, list) else value


@pytest.mark.slow
@given(
    body=BODIES, ascii_only=st.booleans(), separators=st.sampled_from([(",", ":"), (", ", " : ")])
)
@settings(parent=unhurried, max_examples=examples(300))
def test_a_request_without_images_reads_as_with_empty_ones(
    body: Any, ascii_only: bool, separators: tuple[str, str]
) -> None:
    sent = json.dumps(body, ensure_ascii=ascii_only, separators=separators)
    if separators == (", ", " : "):
        sent = sent.replace('" : ', '" :')
    for text in (
        json.dumps(body, ensure_ascii=ascii_only, separators=(",", ":")),
        json.dumps(body),
    ):
        assert parse_without_images(text.encode()) == emptied(body)
    # JSON may be spaced otherwise.
    assert parse_without_images(sent.encode()) in (json.loads(sent), emptied(json.loads(sent)))


@given(st.binary(max_size=60) | st.text('"images:[],x ', max_size=60).map(str.encode))
@settings(parent=unhurried, max_examples=examples(200))
def test_without_images_takes_any_bytes(body: bytes) -> None:
    parse_without_images(body)
    smaller, count = without_images(body)
    assert len(smaller) <= len(body) or count


@pytest.mark.parametrize("padding", [10, 70_000])
@pytest.mark.parametrize(
    "images",
    [
        ["a.png", "b.png"],
        ["cat", "dog"],
        [],
        [{"url": "a.png", "tags": ["x"]}],
        ["a ] b.png"],
        ['a", "b'],
        [["QUJD"]],
        ["QUJD", 3, None],
        {"images": ["QUJD"]},
        "QUJD",
    ],
)
def test_arguments_named_images_are_no_images(images: Any, padding: int) -> None:
    call = {"function": {"name": "gallery", "arguments": {"images": images}}}
    body = {
        "model": "m",
        "messages": [
            {"role": "user", "content": "x" * padding, "images": ["QUJD" * 9, "QUJD"]},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "content": '"images":["QUJD"]'},
        ],
        "options": {"seed": 7},
    }
    capture = Capture()
    with httpx.Client(base_url=HOST, transport=FakeOllama().transport()) as client:
        instrument_client(client, **capture.options)
        client.post("/api/chat", json=body)
    request = capture.records[0].start.request
    assert (request.model, request.options, request.input_count) == ("m", {"seed": 7}, 3)
    assert request.image_count == 2
    parsed = parse_without_images(json.dumps(body).encode())
    assert parsed is not None
    assert parsed["messages"][1] == body["messages"][1]  # type: ignore[index]


def test_headers_of_the_request_are_kept_and_ours_come_once(
    colour: Colour, capture: Capture
) -> None:
    """A header of the caller's that says the same is replaced, as a redirect or a retry needs it."""
    inner = Canned()

    async def scenario() -> None:
        request = chat_request()
        request.headers["traceparent"] = f"00-{1:032x}-{2:016x}-01"
        request.headers["X-Mine"] = "yes"
        await send(colour, colour.transport(inner, **capture.options), request)

    colour.run(scenario)
    (sent,) = inner.requests
    assert sent.headers.get_list("traceparent")[0].split("-")[2] != f"{2:016x}"
    assert len(sent.headers.get_list("traceparent")) == 1
    assert sent.headers["x-mine"] == "yes"


def test_one_transport_serves_both_ways_in() -> None:
    """`Transport` and `AsyncTransport` are httpx transports of one colour each."""
    assert issubclass(Transport, httpx.BaseTransport)
    assert issubclass(AsyncTransport, httpx.AsyncBaseTransport)
    assert not issubclass(Transport, httpx.AsyncBaseTransport)
    assert not issubclass(AsyncTransport, httpx.BaseTransport)
    assert ollama_otel.Transport is Transport


def test_the_image_of_a_large_request_is_captured_by_its_hash(
    colour: Colour, capture: Capture
) -> None:
    image = b"\x89PNG\r\n\x1a\n" + bytes(100_000)
    messages = [{"role": "user", "content": "?", "images": [base64.b64encode(image).decode()]}]

    async def scenario() -> None:
        options = {**capture.options, "settings": Settings(capture_content="span_only")}
        client = instrument_client(colour.httpx(transport=FakeOllama().transport()), **options)
        await done(client.post(f"{HOST}/api/chat", json=CHAT | {"messages": messages}))
        await closed(client)

    colour.run(scenario)
    conversation = capture.records[0].start.conversation
    assert conversation is not None
    (media,) = [part for part in conversation.messages[0].parts if isinstance(part, Media)]
    assert (media.sha256, media.size) == (hashlib.sha256(image).hexdigest(), len(image))


# --- one instrumentation for many clients -----------------------------------------------------


def test_clients_share_an_instrumentation(colour: Colour, capture: Capture) -> None:
    shared = build_instrumentation(**capture.options)

    async def scenario() -> None:
        ours = colour.ours(HOST, transport=FakeOllama().transport(), instrumentation=shared)
        theirs = colour.official(HOST, transport=FakeOllama().transport())
        for client in (ours, instrument_client(theirs, instrumentation=shared)):
            await done(client.chat(**CHAT))
            await closed(client)

    colour.run(scenario)
    assert [record.outcome for record in capture.records] == ["completed", "completed"]
    assert len(capture.spans) == 2


@pytest.mark.parametrize(
    "other", [{"settings": Settings()}, {"observers": [Capture().observer]}, Capture().options]
)
def test_an_instrumentation_is_given_alone(colour: Colour, other: dict[str, Any]) -> None:
    shared = build_instrumentation()
    with pytest.raises(SettingsError, match=f"give either instrumentation or .*{min(other)}"):
        colour.ours(HOST, instrumentation=shared, **other)
    with pytest.raises(SettingsError):
        instrument_client(colour.official(HOST), instrumentation=shared, **other)


@pytest.mark.parametrize("nothing", [{"observers": []}, {"observers": ()}, {"settings": None}])
def test_a_client_that_is_given_nothing_follows_configure(nothing: Any) -> None:
    assert instrumentation_for(nothing) is instrumentation_for({})


@pytest.mark.parametrize("value", [None, (), 1])
def test_an_unknown_keyword_is_refused(colour: Colour, value: object) -> None:
    misspelt: Any = {"observer": value}
    with pytest.raises(TypeError, match="observer"):
        instrument_client(colour.official(HOST), **misspelt)


# --- another library like httpx ---------------------------------------------------------------


def httpx2_client(colour: Colour, handler: Any, capture: Capture) -> Any:
    shells = shells_for(httpx2)
    shell = shells.async_transport if colour.is_async else shells.transport
    client = httpx2.AsyncClient if colour.is_async else httpx2.Client
    return client(transport=shell(httpx2.MockTransport(handler), **capture.options))


def httpx2_pieces(colour: Colour, pieces: Sequence[bytes]) -> Any:
    async def in_async() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return in_async() if colour.is_async else iter(pieces)


def test_httpx_has_the_public_shells() -> None:
    assert shells_for(httpx) == (Transport, AsyncTransport)


def test_another_library_has_shells_of_its_own_classes() -> None:
    shells = shells_for(httpx2)
    assert shells is shells_for(httpx2)
    assert issubclass(shells.transport, httpx2.BaseTransport)
    assert issubclass(shells.async_transport, httpx2.AsyncBaseTransport)
    assert not issubclass(shells.transport, httpx.BaseTransport)


@pytest.mark.parametrize("is_in_memory", [True, False])
def test_a_call_of_another_library_is_recorded(
    colour: Colour, capture: Capture, is_in_memory: bool
) -> None:
    asked: list[httpx2.Request] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        body = STREAM if is_in_memory else httpx2_pieces(colour, STREAM.splitlines(keepends=True))
        return httpx2.Response(200, headers={"content-type": "application/x-ndjson"}, content=body)

    async def scenario() -> None:
        client = httpx2_client(colour, handler, capture)
        response = await done(client.post(f"{HOST}/api/chat", json=CHAT))
        assert isinstance(response, httpx2.Response)
        assert response.content == STREAM
        await closed(client)

    colour.run(scenario)
    (record,), (span,) = capture.records, capture.spans
    assert (record.outcome, record.ending) == ("completed", "final_message")
    assert record.start.request.model == "llama3.2"
    assert record.response.output_tokens == FINAL["eval_count"]
    assert record.response_size == len(STREAM)
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" in asked[0].headers["traceparent"]


def test_a_stream_of_another_library_that_is_left_is_abandoned(
    colour: Colour, capture: Capture
) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        body = httpx2_pieces(colour, STREAM.splitlines(keepends=True))
        return httpx2.Response(200, headers={"content-type": "application/x-ndjson"}, content=body)

    async def scenario() -> None:
        client = httpx2_client(colour, handler, capture)
        request = client.build_request("POST", f"{HOST}/api/chat", json=CHAT)
        response = await done(client.send(request, stream=True))
        await anext(raw_pieces(response, is_async=colour.is_async))
        await colour.close(response)
        await closed(client)

    colour.run(scenario)
    (record,) = capture.records
    assert (record.outcome, record.ending, record.chunk_count) == ("abandoned", "closed_early", 1)


def test_a_failure_in_another_library_is_named(colour: Colour, capture: Capture) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    async def scenario() -> None:
        client = httpx2_client(colour, handler, capture)
        with pytest.raises(httpx2.ConnectError):
            await done(client.post(f"{HOST}/api/chat", json=CHAT))
        await closed(client)

    colour.run(scenario)
    (record,) = capture.records
    assert (record.error_type, record.exception_type) == ("connect", "ConnectError")
