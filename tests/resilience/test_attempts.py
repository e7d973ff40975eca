"""Attempts over a real socket with faults, sync, on asyncio and on trio: what the caller and the record get."""

from __future__ import annotations

import gc
import gzip
import json
import math
import socket
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import ollama
import pytest
import tenacity

from ollama_otel import instrument_client
from ollama_otel._guard import guard
from ollama_otel._wire.rewritten import for_model
from ollama_otel.context import call_context
from ollama_otel.errors import SettingsError
from ollama_otel.records import CallRecord
from ollama_otel.resilience import (
    AsyncResilientTransport,
    Breaker,
    CallRejectedError,
    CircuitOpenError,
    DeadlineError,
    Fallback,
    Limiter,
    LimiterState,
    QueueFullError,
    QueueTimeoutError,
    Resilience,
    ResilientTransport,
    Retries,
    disabled,
    make_resilient,
)
from ollama_otel.testing import Capture, FakeOllama, Fault, Reply
from tests.colours import COLOURS, Colour, closed, done, each, raw_pieces, read

# trio says so if an async generator is left early, as httpx leaves its own.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Async generator .* was garbage collected:ResourceWarning"),
    pytest.mark.sockets,
]

CHAT = "/api/chat"
HELLO = [{"role": "user", "content": "Hello"}]
BODY: dict[str, Any] = {"model": "llama3.2", "messages": HELLO, "stream": False}
BUSY = "server busy, please try again.  maximum pending requests exceeded"
AT_ONCE = tenacity.wait_fixed(0)


def retries(attempts: int = 3, **options: Any) -> Retries:
    return Retries(attempts, **{"wait": AT_ONCE} | options)


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


class Clients:
    """Makes clients of one colour, with resilience inside of what records their calls."""

    def __init__(self, colour: Colour, capture: Capture, url: str) -> None:
        self.colour = colour
        self.capture = capture
        self.url = url
        self.made: list[Any] = []

    def ours(self, **parts: Any) -> Any:
        return self._made(
            self.colour.ours(
                self.url, trust_env=False, resilience=Resilience(**parts), **self.capture.options
            )
        )

    def httpx(self, **parts: Any) -> Any:
        client = make_resilient(self.plain(), Resilience(**parts))
        return instrument_client(client, **self.capture.options)

    def plain(self) -> Any:
        return self._made(self.colour.httpx(base_url=self.url, trust_env=False, timeout=30))

    def official(self) -> Any:
        return self._made(self.colour.official(self.url, trust_env=False))

    def _made(self, client: Any) -> Any:
        self.made.append(getattr(client, "_client", client))
        return client

    def run(self, scenario: Any) -> Any:
        """Run an async function, and close all clients."""

        async def closing() -> Any:
            try:
                return await scenario()
            finally:
                for client in self.made:
                    await self.colour.close(client)

        return self.colour.run(closing)

    async def post(self, client: Any, path: str = CHAT, **options: Any) -> Any:
        """Send a request, and return status, headers without the date, and pieces."""
        options = options or {"json": BODY}
        request = client.build_request("POST", path, **options)
        response = await done(client.send(request, stream=True))
        try:
            pieces = [bytes(p) async for p in raw_pieces(response, is_async=self.colour.is_async)]
        finally:
            await self.colour.close(response)
        headers = [item for item in response.headers.raw if item[0] != b"date"]
        return response.status_code, headers, b"".join(pieces)


@pytest.fixture
def clients(colour: Colour, capture: Capture, url: str) -> Clients:
    return Clients(colour, capture, url)


def only(capture: Capture) -> CallRecord:
    (record,) = capture.records
    return record


# --- retries ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "retried"),
    [
        (Fault(refuse=True), "network"),
        (Reply.error(503, BUSY), "server_busy"),
        (Reply.error(500, "model runner has unexpectedly stopped"), "runner_crashed"),
        (Reply.error(502, "dial tcp: no such host"), "upstream"),
        (Reply.whole(b"<html>bad gateway</html>", "text/html", status=502), "upstream"),
        (Reply.error(429, "slow down"), "rate_limited"),
    ],
    ids=["reset", "busy", "crashed", "upstream", "proxy", "rate"],
)
def test_two_failures_and_a_success_are_one_record(
    clients: Clients, capture: Capture, fake: FakeOllama, fault: Any, retried: str
) -> None:
    for _ in range(2):
        if isinstance(fault, Fault):
            fake.fault(CHAT, fault)
        else:
            fake.script(CHAT, fault)

    async def scenario() -> Any:
        return await done(clients.ours(retries=retries()).chat("llama3.2", HELLO))

    answer = clients.run(scenario)
    assert answer.done
    record = only(capture)
    assert (record.outcome, record.error_type) == ("completed", None)
    assert record.resilience.attempts == 3
    assert record.resilience.retried in {(retried,) * 2, ("incomplete",) * 2}
    assert len(fake.requests) == 3
    assert len({request.body for request in fake.requests}) == 1
    assert len({request.headers["traceparent"] for request in fake.requests}) == 1
    (span,) = capture.spans
    assert [event.name for event in span.events] == ["ollama.call.retry"] * 2
    assert span.attributes is not None
    assert span.attributes["ollama.attempts"] == 3


REFUSED = [
    Reply.error(404, "model 'nope' not found"),
    Reply.error(400, '"llama3.2" does not support thinking'),
    Reply.error(400, "unexpected EOF"),
    Reply.error(500, 'option "stop" must be of type array'),
    Reply.error(401, "unauthorized"),
    Reply.error(501, "This server does not support embeddings"),
]


@pytest.mark.slow
@pytest.mark.parametrize("reply", REFUSED, ids=lambda reply: str(reply.chunks[0][:30]))
def test_what_another_attempt_would_not_change_is_sent_once(
    clients: Clients, fake: FakeOllama, capture: Capture, reply: Reply
) -> None:
    fake.script(CHAT, reply, reply)

    async def scenario() -> Any:
        with_retries = await clients.post(clients.httpx(retries=retries(), breaker=Breaker()))
        return with_retries, await clients.post(clients.plain())

    with_retries, plain = clients.run(scenario)
    assert with_retries == plain
    assert len(fake.requests) == 2
    assert only(capture).resilience.attempts == 1


@pytest.mark.slow
def test_the_last_answer_is_the_callers_byte_for_byte(clients: Clients, fake: FakeOllama) -> None:
    replies = [Reply.error(503, f"server busy {number}") for number in range(3)]
    fake.script(CHAT, *replies, replies[-1])

    async def scenario() -> Any:
        with_retries = await clients.post(clients.httpx(retries=retries()))
        return with_retries, await clients.post(clients.plain())

    with_retries, plain = clients.run(scenario)
    assert with_retries == plain
    assert b"server busy 2" in plain[2]


@pytest.mark.slow
def test_the_last_exception_is_the_callers(clients: Clients, fake: FakeOllama) -> None:
    fake.fault(CHAT, Fault(refuse=True), times=4)

    async def failure(client: Any) -> Exception:
        with pytest.raises(httpx.TransportError) as raised:
            await clients.post(client)
        return raised.value

    async def scenario() -> tuple[Exception, Exception]:
        return await failure(clients.httpx(retries=retries())), await failure(clients.plain())

    with_retries, plain = clients.run(scenario)
    assert (type(with_retries), str(with_retries)) == (type(plain), str(plain))
    assert type(with_retries.__context__) is type(plain.__context__)
    assert type(with_retries.__cause__) is type(plain.__cause__)
    assert with_retries.request.url.path == CHAT  # type: ignore[attr-defined]


def test_the_official_clients_errors_stay(clients: Clients, capture: Capture) -> None:
    """A server that does not run: sync the builtin error, async that of httpx."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        clients.url = f"http://127.0.0.1:{free.getsockname()[1]}"

    async def scenario() -> None:
        with pytest.raises((ConnectionError, httpx.ConnectError)):
            await done(clients.ours(retries=retries(2)).chat("llama3.2", HELLO))

    clients.run(scenario)
    record = only(capture)
    assert (record.error_type, record.resilience.attempts) == ("connect", 2)


@pytest.mark.slow
def test_nothing_is_repeated_after_the_first_byte(
    clients: Clients, fake: FakeOllama, capture: Capture
) -> None:
    fake.fault(CHAT, Fault(cut_at=200))

    async def scenario() -> list[Any]:
        stream = each(
            await done(clients.ours(retries=retries()).chat("llama3.2", HELLO, stream=True))
        )
        with pytest.raises(httpx.RemoteProtocolError):
            async for _ in stream:
                pass

    clients.run(scenario)
    assert len(fake.requests) == 1
    assert only(capture).resilience.attempts == 1


@pytest.mark.slow
def test_a_slow_head_is_a_timeout_before_the_first_byte(
    clients: Clients, fake: FakeOllama, capture: Capture
) -> None:
    fake.fault(CHAT, Fault(stall_at=0))

    async def scenario() -> Any:
        client = clients.httpx(retries=retries())
        client.timeout = httpx.Timeout(30, read=0.3)
        return await clients.post(client)

    assert clients.run(scenario)[0] == 200
    assert only(capture).resilience.retried == ("timeout",)


def test_a_streamed_request_is_sent_once(clients: Clients, fake: FakeOllama) -> None:
    fake.script(CHAT, Reply.error(503, BUSY))

    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"model":"llama3.2"}'

    content = pieces() if clients.colour.is_async else iter([b'{"model":"llama3.2"}'])

    async def scenario() -> Any:
        return await clients.post(clients.httpx(retries=retries()), content=content)

    assert clients.run(scenario)[0] == 503
    assert len(fake.requests) == 1


@pytest.mark.slow
def test_a_long_error_body_comes_whole(clients: Clients, fake: FakeOllama) -> None:
    body = bytes(range(256)) * 4096 * 5
    reply = Reply.whole(body, "text/plain", status=503)
    fake.script(CHAT, reply)
    limiter = Limiter(concurrency=1)

    async def scenario() -> Any:
        return await clients.post(clients.httpx(retries=retries(), limiter=limiter))

    status, _, received = clients.run(scenario)
    assert (status, received) == (503, body)
    assert len(fake.requests) == 1
    assert set(limiter.states().values()) == {LimiterState(0, 0)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoding", "encoded"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("gzip", lambda body: gzip.compress(body + b" " * 50_000_000)),
    ],
)
@pytest.mark.parametrize(
    ("error", "sent"), [("model 'm' not found", 1), ('"m" does not support tools', 1), (BUSY, 3)]
)
def test_an_encoded_error_is_judged_as_any_other(
    colour: Colour, encoding: str, encoded: Any, error: str, sent: int
) -> None:
    seen = list[httpx.Request]()
    body = encoded(json.dumps({"error": error}).encode())

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(503, headers={"content-encoding": encoding}, stream=_Raw(body))

    async def scenario() -> None:
        client = colour.httpx(transport=httpx.MockTransport(handle), base_url="http://h:1")
        make_resilient(client, Resilience(retries=retries()))
        response = await done(client.post(CHAT, json=BODY))
        assert response.json() == {"error": error}
        await closed(client)

    colour.run(scenario)
    assert len(seen) == sent


class _Raw(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, body: bytes) -> None:
        self.body = body

    def __iter__(self) -> Iterator[bytes]:
        yield self.body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.body


@pytest.mark.slow
def test_a_cut_error_body_ends_for_the_caller_as_it_did(clients: Clients, fake: FakeOllama) -> None:
    fake.script(CHAT, Reply.error(400, "x" * 500), Reply.error(400, "x" * 500))
    fake.fault(CHAT, Fault(cut_at=100), times=2)

    async def outcome(client: Any) -> Any:
        response = await done(
            client.send(client.build_request("POST", CHAT, json=BODY), stream=True)
        )
        received = b""
        with pytest.raises(httpx.RemoteProtocolError) as raised:
            async for piece in raw_pieces(response, is_async=clients.colour.is_async):
                received += piece
        return response.status_code, received, str(raised.value)

    async def scenario() -> Any:
        return await outcome(clients.httpx(retries=retries())), await outcome(clients.plain())

    with_retries, plain = clients.run(scenario)
    assert with_retries == plain


def test_a_pull_that_broke_is_not_repeated(clients: Clients, fake: FakeOllama) -> None:
    fake.fault("/api/pull", Fault(refuse=True))

    async def scenario() -> None:
        with pytest.raises(httpx.TransportError):
            await clients.post(
                clients.httpx(retries=retries()), "/api/pull", json={"model": "llama3.2"}
            )

    clients.run(scenario)
    assert len(fake.requests) == 1


def test_other_requests_pass_untouched(clients: Clients, fake: FakeOllama) -> None:
    fake.script("/other", Reply.error(503, BUSY), Reply.error(503, BUSY))

    async def scenario() -> Any:
        return await clients.post(clients.httpx(retries=retries()), "/other", json={})

    assert clients.run(scenario)[0] == 503
    assert len(fake.requests) == 1


@pytest.mark.slow
def test_it_can_be_turned_off_for_tests(
    clients: Clients, fake: FakeOllama, capture: Capture
) -> None:
    fake.script(CHAT, Reply.error(503, BUSY))
    with disabled(), disabled():
        result = clients.run(lambda: clients.post(clients.httpx(retries=retries())))
    assert result[0] == 503
    assert len(fake.requests) == 1
    assert only(capture).resilience.attempts is None
    assert clients.run(lambda: clients.post(clients.httpx(retries=retries())))[0] == 200


@pytest.mark.parametrize(
    "wait", [lambda state: 1 / 0, lambda state: math.inf, lambda state: math.nan]
)
def test_a_wait_strategy_that_fails_does_not_break_the_call(
    clients: Clients, fake: FakeOllama, quiet_guard: None, wait: Any
) -> None:
    fake.script(CHAT, Reply.error(503, BUSY))
    client = clients.httpx(retries=retries(wait=wait))
    assert clients.run(lambda: clients.post(client))[0] == 503
    assert guard.faults


# --- the deadline -----------------------------------------------------------------------------


def test_the_deadline_holds_for_waits_between_attempts(
    clients: Clients, fake: FakeOllama, capture: Capture
) -> None:
    fake.script(CHAT, *[Reply.error(503, BUSY)] * 3)

    async def scenario() -> Any:
        client = clients.httpx(retries=retries(wait=tenacity.wait_fixed(60)), deadline=5.0)
        return await clients.post(client)

    assert clients.run(scenario)[0] == 503
    assert only(capture).resilience.attempts == 1


@pytest.mark.slow
def test_the_deadline_limits_an_attempt(clients: Clients, fake: FakeOllama) -> None:
    fake.fault(CHAT, Fault(stall_at=0))
    client = clients.httpx(deadline=0.3)

    async def scenario() -> None:
        request = client.build_request("POST", CHAT, json=BODY)
        extensions = dict(request.extensions)
        with pytest.raises(httpx.ReadTimeout):
            await done(client.send(request))
        assert request.extensions == extensions, "the caller may send the request again"

    began = time.monotonic()
    clients.run(scenario)
    assert time.monotonic() - began < 25


@pytest.mark.slow
def test_the_deadline_ends_a_body_that_goes_on(
    clients: Clients, fake: FakeOllama, capture: Capture
) -> None:
    part = {"model": "m", "message": {"role": "assistant", "content": "x"}, "done": False}
    fake.script(CHAT, Reply.stream([part] * 2000, delays=[0.05] * 2000))

    async def scenario() -> None:
        with pytest.raises(httpx.ReadTimeout):
            await clients.post(clients.httpx(deadline=0.5))

    clients.run(scenario)
    assert (only(capture).outcome, only(capture).error_type) == ("failed", "timeout")


@pytest.mark.slow
def test_the_deadline_holds_in_the_queue(clients: Clients, capture: Capture) -> None:
    limiter = Limiter(concurrency=1)
    place = limiter._enter(clients.url, None)

    async def scenario() -> None:
        with pytest.raises(DeadlineError):
            await clients.post(clients.httpx(limiter=limiter, deadline=0.2))

    clients.run(scenario)
    place.leave()
    record = only(capture)
    assert (record.error_type, record.resilience.rejection) == ("rejected", "deadline")
    assert record.resilience.attempts == 0


# --- the limiter ------------------------------------------------------------------------------


def test_a_slot_is_held_until_the_body_is_closed(clients: Clients, capture: Capture) -> None:
    limiter = Limiter(concurrency=1, key="user")

    async def scenario() -> None:
        client = clients.httpx(limiter=limiter)
        response = await done(
            client.send(client.build_request("POST", CHAT, json=BODY), stream=True)
        )
        assert limiter.states() == {clients.url: LimiterState(1, 0)}
        await read(response, is_async=clients.colour.is_async)
        await clients.colour.close(response)
        assert limiter.states() == {clients.url: LimiterState(0, 0)}

    with call_context(user_id="ada"):
        clients.run(scenario)
    record = only(capture)
    assert record.resilience.limiter_wait == 0.0


@pytest.mark.slow
def test_a_body_that_nobody_closes_gives_its_slot_back(clients: Clients) -> None:
    limiter = Limiter(concurrency=1)

    async def scenario() -> None:
        client = clients.httpx(limiter=limiter)
        response = await done(
            client.send(client.build_request("POST", CHAT, json=BODY), stream=True)
        )
        await done(response.stream._stream._inner.aclose() if clients.colour.is_async else None)
        del response

    clients.run(scenario)
    gc.collect()
    assert limiter.states() == {clients.url: LimiterState(0, 0)}


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Fault(refuse=True), Fault(cut_at=10), Fault(no_done=True), None])
def test_no_fault_keeps_a_slot(clients: Clients, fake: FakeOllama, fault: Fault | None) -> None:
    limiter = Limiter(concurrency=1, max_wait=20)
    if fault is not None:
        fake.fault(CHAT, fault, times=3)

    async def scenario() -> None:
        client = clients.httpx(limiter=limiter, breaker=Breaker(), retries=retries(2))
        for _ in range(2):
            try:
                await clients.post(client)
            except httpx.TransportError:
                continue

    clients.run(scenario)
    assert limiter.states() == {clients.url: LimiterState(0, 0)}


@pytest.mark.slow
def test_rejections_are_typed_and_counted(clients: Clients, capture: Capture) -> None:
    full, slow = Limiter(concurrency=1, max_waiting=0), Limiter(concurrency=1, max_wait=0.1)
    for limiter in (full, slow):
        limiter._enter(clients.url, None)

    async def scenario() -> None:
        with pytest.raises(QueueFullError, match="queue is full"):
            await clients.post(clients.httpx(limiter=full, retries=retries()))
        with pytest.raises(QueueTimeoutError) as raised:
            await done(clients.ours(limiter=slow).chat("llama3.2", HELLO))
        assert isinstance(raised.value, CallRejectedError)
        assert isinstance(raised.value, httpx.TimeoutException)
        assert raised.value.request.url.path == CHAT

    clients.run(scenario)
    assert [record.resilience.rejection for record in capture.records] == [
        "queue_full",
        "queue_timeout",
    ]
    assert {(r.error_type, r.resilience.attempts) for r in capture.records} == {("rejected", 0)}
    waited = capture.records[1]
    assert waited.phases["resilience"] >= 0.1
    assert sum(waited.phases.values()) == pytest.approx(waited.duration)
    reason = {"ollama_rejection": "queue_timeout"}
    assert capture.total("ollama.client.rejections", **reason) == 1
    assert capture.total("ollama.client.limiter.wait") == 1, "only one has waited"
    for limiter in (full, slow):
        assert limiter.states() == {clients.url: LimiterState(1, 0)}


@pytest.mark.slow
def test_model_management_needs_no_slot(clients: Clients) -> None:
    limiter = Limiter(concurrency=1, max_wait=0)
    limiter._enter(clients.url, None)

    async def scenario() -> Any:
        return await done(clients.ours(limiter=limiter).list())

    assert clients.run(scenario).models


@pytest.mark.slow
def test_the_tokens_of_recorded_calls_count(clients: Clients) -> None:
    limiter = Limiter(tokens_per_minute=1, max_wait=0.1)

    async def scenario() -> None:
        client = clients.ours(limiter=limiter)
        await done(client.chat("llama3.2", HELLO))
        with pytest.raises(QueueTimeoutError):
            await done(client.chat("llama3.2", HELLO))

    clients.run(scenario)


@pytest.mark.slow
def test_a_key_function_that_fails_does_not_break_the_call(
    clients: Clients, quiet_guard: None
) -> None:
    def key(request: httpx.Request) -> str:
        raise KeyError(request.url)

    client = clients.httpx(limiter=Limiter(concurrency=1, key=key))
    assert clients.run(lambda: clients.post(client))[0] == 200
    assert guard.faults


# --- the breaker ------------------------------------------------------------------------------


def test_an_open_circuit_rejects_at_once(
    clients: Clients, fake: FakeOllama, capture: Capture
) -> None:
    fake.script(CHAT, *[Reply.error(503, BUSY)] * 9)
    breaker = Breaker(minimum_calls=3, open_for=1000)

    async def scenario() -> None:
        client = clients.httpx(breaker=breaker, retries=retries(9))
        assert (await clients.post(client))[0] == 503
        with pytest.raises(CircuitOpenError):
            await clients.post(client)

    clients.run(scenario)
    assert len(fake.requests) == 3, "no attempt after it opened"
    assert breaker.states() == {clients.url: "open"}
    assert capture.total("ollama.client.breaker.open", server_port=int(clients.url[-5:])) == 1
    assert capture.records[1].resilience.rejection == "circuit_open"


def test_requests_that_the_server_refuses_do_not_open_it(
    clients: Clients, fake: FakeOllama
) -> None:
    breaker = Breaker(minimum_calls=1)
    fake.script(CHAT, *REFUSED)

    async def scenario() -> None:
        client = clients.httpx(breaker=breaker)
        for _ in REFUSED:
            await clients.post(client)

    clients.run(scenario)
    assert breaker.states() == {clients.url: "closed"}


@pytest.mark.slow
def test_a_body_that_breaks_is_a_failure_and_one_that_is_left_is_none(
    clients: Clients, fake: FakeOllama
) -> None:
    broken, left = Breaker(minimum_calls=1), Breaker(minimum_calls=1)
    fake.fault(CHAT, Fault(cut_at=50))

    async def scenario() -> None:
        with pytest.raises(httpx.RemoteProtocolError):
            await clients.post(clients.httpx(breaker=broken))
        stream = each(await done(clients.ours(breaker=left).chat("llama3.2", HELLO, stream=True)))
        async for _ in stream:
            break
        await closed(stream)

    clients.run(scenario)
    assert broken.states() == {clients.url: "open"}
    assert left.states() == {clients.url: "closed"}


# --- fallbacks --------------------------------------------------------------------------------


@pytest.mark.slow
def test_another_server_serves_the_call_and_the_record_says_so(
    clients: Clients, fake: FakeOllama, capture: Capture
) -> None:
    fake.script(CHAT, *[Reply.error(503, BUSY)] * 2)
    other = FakeOllama()

    async def scenario(url: str) -> Any:
        client = clients.ours(
            retries=retries(2),
            limiter=Limiter(concurrency=1),
            breaker=Breaker(),
            fallback=[Fallback(host=url, headers={"x-of": "other"})],
        )
        client._client.headers["authorization"] = "Bearer secret"
        return await done(client.chat("llama3.2", HELLO))

    with other.serve() as url:
        answer = clients.run(lambda: scenario(url))
        port = int(url.rpartition(":")[2])
    assert answer.done
    (received,) = other.requests
    assert received.body == fake.requests[0].body
    assert "authorization" in fake.requests[0].headers
    assert "authorization" not in received.headers
    assert received.headers["x-of"] == "other"
    assert received.headers["host"] == f"127.0.0.1:{port}"
    record = only(capture)
    assert record.resilience.attempts == 3
    assert (record.resilience.server_address, record.resilience.server_port) == ("127.0.0.1", port)
    (span,) = capture.spans
    assert span.attributes is not None
    assert span.attributes["server.port"] == port
    assert [event.name for event in span.events] == ["ollama.call.retry", "ollama.call.fallback"]
    assert capture.total("ollama.client.fallbacks", server_port=port) == 1
    points = capture.metrics()["gen_ai.client.operation.duration"]
    assert [point.attributes["server.port"] for point in points] == [port]
    assert capture.total("ollama.client.request.active") == 0


def test_another_model_serves_the_call_and_both_are_named(
    clients: Clients, fake: FakeOllama, capture: Capture
) -> None:
    async def scenario() -> Any:
        client = clients.ours(fallback=[Fallback(model="nope2"), Fallback(model="llama3.2")])
        return await done(client.chat("nope", HELLO))

    assert clients.run(scenario).model == "llama3.2"
    record = only(capture)
    assert record.start.request.model == "nope"
    assert record.response.model == "llama3.2"
    assert record.resilience.model == "llama3.2"
    assert record.resilience.retried == ("model_not_found",) * 2
    assert [request.json()["model"] for request in fake.requests] == ["nope", "nope2", "llama3.2"]
    assert fake.requests[0].json()["messages"] == fake.requests[2].json()["messages"]


def test_if_all_fail_the_caller_gets_the_last_answer(clients: Clients, capture: Capture) -> None:
    async def scenario() -> Any:
        client = clients.ours(fallback=[Fallback(model="nope2")])
        with pytest.raises(ollama.ResponseError) as raised:
            await done(client.chat("nope", HELLO))
        return raised.value

    assert "nope2" in clients.run(scenario).error
    assert only(capture).error_type == "model_not_found"


def test_an_answer_is_worth_more_than_a_fallback_that_was_not_asked(
    clients: Clients, fake: FakeOllama, capture: Capture
) -> None:
    fake.script(CHAT, Reply.error(503, BUSY))
    breaker = Breaker(minimum_calls=1, open_for=1000)
    trip = breaker._enter("http://127.0.0.1:1")
    assert trip is not None
    trip.end(has_failed=True)

    async def scenario() -> Any:
        return await clients.post(
            clients.httpx(breaker=breaker, fallback=[Fallback(host="127.0.0.1:1")])
        )

    assert clients.run(scenario)[0] == 503
    record = only(capture)
    assert record.resilience.rejection is None
    assert record.resilience.server_port is None
    assert record.error_type == "server_busy"


def test_a_fallback_that_cannot_be_made_does_not_break_the_call(
    clients: Clients, fake: FakeOllama, quiet_guard: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.script(CHAT, Reply.error(503, BUSY))
    monkeypatch.setattr("ollama_otel._resilience.course.fallback_target", lambda *_: 1 / 0)
    client = clients.httpx(fallback=[Fallback(model="m")])
    assert clients.run(lambda: clients.post(client))[0] == 503
    assert guard.faults


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"model":"a","keep":[1.5,"\xc3\xa9"]}', '{"model":"m","keep":[1.5,"é"]}'.encode()),
        (b'{"messages":[]}', None),
        (b"not json", None),
        (b'["model"]', None),
    ],
)
def test_a_request_is_rewritten_for_another_model(content: bytes, expected: bytes | None) -> None:
    assert for_model(content, "m") == expected


@pytest.mark.parametrize("bad", [{}, {"host": ""}, {"host": "http://"}, {"host": "::1"}])
def test_a_fallback_to_nowhere_is_refused(bad: Any) -> None:
    with pytest.raises(SettingsError, match="fallback"):
        Fallback(**bad)


def test_a_path_prefix_of_either_server_is_kept(clients: Clients, fake: FakeOllama) -> None:
    fake.script("/first/api/chat", Reply.error(503, BUSY))
    fake.script("/second/api/chat", Reply.json({"done": True}))

    async def scenario() -> Any:
        client = clients.httpx(fallback=[Fallback(host=f"{clients.url}/second")])
        return await clients.post(client, "/first/api/chat?x=1")

    assert clients.run(scenario)[0] == 200
    assert [request.path for request in fake.requests] == ["/first/api/chat", "/second/api/chat"]


def test_model_management_does_not_fall_back(clients: Clients, fake: FakeOllama) -> None:
    fake.script("/api/pull", Reply.error(503, BUSY))

    async def scenario() -> Any:
        client = clients.httpx(fallback=[Fallback(host=clients.url)])
        return await clients.post(client, "/api/pull", json={"model": "llama3.2"})

    assert clients.run(scenario)[0] == 503
    assert len(fake.requests) == 1


# --- ways in ----------------------------------------------------------------------------------


def test_it_stays_inside_of_what_records_whichever_comes_first(clients: Clients) -> None:
    colour = clients.colour
    inner = AsyncResilientTransport if colour.is_async else ResilientTransport
    policy = Resilience(retries=retries())
    client = colour.httpx(trust_env=False)
    before = client._transport
    instrument_client(client, **clients.capture.options)
    assert make_resilient(client, policy) is client
    assert isinstance(client._transport, colour.transport)
    assert isinstance(client._transport.inner, inner)
    assert client._transport._reaches_network()
    make_resilient(client, policy)
    assert client._transport.inner.inner is before, "the new one is in the place of the old one"


def test_a_client_that_does_not_record_has_it_as_well(clients: Clients, fake: FakeOllama) -> None:
    fake.script(CHAT, Reply.error(503, BUSY))
    client = make_resilient(clients.official(), Resilience(retries=retries()))

    async def scenario() -> Any:
        return await done(client.chat("llama3.2", HELLO))

    assert clients.run(scenario).done
    assert len(fake.requests) == 2


@pytest.mark.slow
def test_a_client_put_in_later_has_it_as_well(
    clients: Clients, fake: FakeOllama, capture: Capture
) -> None:
    fake.script(CHAT, Reply.error(503, BUSY))

    async def scenario() -> Any:
        client = clients.ours(retries=retries())
        client._client = clients.plain()
        return await done(client.chat("llama3.2", HELLO))

    assert clients.run(scenario).done
    assert only(capture).resilience.attempts == 2


def test_a_response_in_memory_gives_its_slot_back(colour: Colour, capture: Capture) -> None:
    limiter = Limiter(concurrency=1)

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"done": True})

    client = colour.httpx(transport=httpx.MockTransport(answer))
    make_resilient(client, Resilience(limiter=limiter, breaker=Breaker(), deadline=60))
    colour.run(
        lambda: (
            done(client.post(f"http://mock{CHAT}", json=BODY)) if colour.is_async else _now(client)
        )
    )
    assert limiter.states() == {"http://mock:80": LimiterState(0, 0)}


async def _now(client: Any) -> Any:
    return client.post(f"http://mock{CHAT}", json=BODY)


def test_a_response_in_memory_is_returned_as_it_is() -> None:
    limiter, known = Limiter(concurrency=1), httpx.Response(200, json={"done": True})
    inner = httpx.MockTransport(lambda request: known)
    transport = ResilientTransport(inner, Resilience(limiter=limiter))
    assert transport.handle_request(httpx.Request("POST", f"http://mock{CHAT}")) is known
    assert limiter.states() == {"http://mock:80": LimiterState(0, 0)}, "nobody will close it"
