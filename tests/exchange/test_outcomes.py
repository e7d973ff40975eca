"""Every way out of a call, through the real shells: one span, the right outcome, nothing in flight."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx
import ollama
import pytest
from opentelemetry.trace import StatusCode

from ollama_otel import _names as names
from ollama_otel import instrument_client
from ollama_otel._telemetry import instruments as rows
from ollama_otel.testing import Capture, FakeOllama, Fault, Reply
from tests.colours import COLOURS, Colour, closed, done, each, raw_pieces, read

# Trio warns of generators left behind, which is what some of these scenarios do.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Async generator .* was garbage collected:ResourceWarning"
)

CHAT: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "Hello"}]}
LINE = b'{"model":"m","message":{"role":"assistant","content":"hi"},"done":false}\n'


@dataclass
class Stage:
    """What a scenario plays with."""

    colour: Colour
    client: Any
    server: FakeOllama
    capture: Capture
    url: str
    is_on_socket: bool

    async def stream(self, **options: Any) -> Any:
        return each(await done(self.client.chat(**CHAT | options, stream=True)))

    async def document(self, **options: Any) -> Any:
        return await done(self.client.chat(**CHAT | options))

    async def settle(self) -> None:
        """Let the garbage be collected, and the event loop close what was found."""
        for _ in range(3):
            gc.collect()
            if self.colour.is_async:
                await anyio.sleep(0.001)


Scenario = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True)
class Exit:
    """One way out, and what is to be known of it afterwards."""

    scenario: Scenario
    outcome: str | None
    """None: nothing was ever asked."""
    error_type: str | None = None
    colours: tuple[str, ...] = COLOURS
    fault: Fault | None = None
    reply: Reply | None = None
    options: dict[str, Any] = field(default_factory=dict)
    on_socket: tuple[str | None, str | None] | None = None
    """Outcome and error type where a socket tells more or less than the transport in process."""
    is_in_process_only: bool = False
    """httpcore's own connections cannot be thrown away like this."""


# --- scenarios ----------------------------------------------------------------------------


async def exhausted(stage: Stage) -> None:
    assert [part async for part in await stage.stream()]


async def whole(stage: Stage) -> None:
    assert await stage.document()


async def left_by_break(stage: Stage) -> None:
    async for _ in await stage.stream():
        break
    await stage.settle()


async def closed_early(stage: Stage) -> None:
    stream = await stage.stream()
    await anext(stream)
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def closed_after_the_final_part(stage: Stage) -> None:
    stream = await stage.stream()
    while not (await anext(stream)).done:
        pass
    await stream.aclose()


async def dropped(stage: Stage) -> None:
    stream = await stage.stream()
    await anext(stream)
    del stream
    await stage.settle()


async def dropped_in_a_cycle(stage: Stage) -> None:
    cycle: list[Any] = [await stage.stream()]
    cycle.append(cycle)
    await anext(cycle[0])
    del cycle
    await stage.settle()


async def never_started(stage: Stage) -> None:
    stream = await stage.stream()
    del stream
    await stage.settle()


async def never_started_but_closed(stage: Stage) -> None:
    await (await stage.stream()).aclose()


class OutOfPatienceError(Exception):
    pass


async def left_by_an_exception_of_the_caller(stage: Stage) -> None:
    async def loop() -> None:
        async for _ in await stage.stream():
            raise OutOfPatienceError

    with pytest.raises(OutOfPatienceError):
        await loop()
    await stage.settle()


async def cancelled_in_a_scope(stage: Stage) -> None:
    with anyio.move_on_after(0.05) as scope:
        async for _ in await stage.stream():
            pass
    assert scope.cancelled_caught


async def document_cancelled_in_a_scope(stage: Stage) -> None:
    with anyio.move_on_after(0.05) as scope:
        await stage.document()
    assert scope.cancelled_caught


async def task_cancelled(stage: Stage) -> None:
    started = asyncio.Event()

    async def work() -> None:
        async for _ in await stage.stream():
            started.set()

    task = asyncio.create_task(work())
    await started.wait()
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def task_cancelled_inside_the_loop(stage: Stage) -> None:
    """The caller was busy with a part, not waiting for one."""

    async def work() -> None:
        async for _ in await stage.stream():
            await asyncio.sleep(3600)

    task = asyncio.create_task(work())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    await stage.settle()


async def asyncio_timeout(stage: Stage) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await stage.document()


async def coroutine_thrown_away(stage: Stage) -> None:
    """As asyncio does with tasks that are left when their loop is gone."""
    coroutine = stage.client.chat(**CHAT)
    while coroutine.send(None) is None:
        pass  # a checkpoint; what comes then is what it waits for
    coroutine.close()


async def interrupted_by_the_keyboard(stage: Stage) -> None:
    def interrupt(request: httpx.Request) -> None:
        raise KeyboardInterrupt

    stage.client._client._transport.inner.handle_request = interrupt
    with pytest.raises(KeyboardInterrupt):
        await stage.document()


def raises(error: Any, *, stream: bool = True, match: str | None = None) -> Scenario:
    async def fails(stage: Stage) -> None:
        with pytest.raises(error, match=match):
            if stream:
                async for _ in await stage.stream():
                    pass
            else:
                await stage.document()

    return fails


async def nobody_listens(stage: Stage) -> None:
    stage.client._client.base_url = "http://127.0.0.1:1"
    with pytest.raises(ConnectionError, match="Failed to connect to Ollama"):
        await stage.document()


async def no_such_model(stage: Stage) -> None:
    with pytest.raises(ollama.ResponseError, match="not found"):
        await stage.document(model="no-such-model")


async def no_such_model_to_stream(stage: Stage) -> None:
    with pytest.raises(ollama.ResponseError, match="not found"):
        await anext(await stage.stream(model="no-such-model"))


async def no_such_model_to_pull(stage: Stage) -> None:
    with pytest.raises(ollama.ResponseError, match="file does not exist"):
        async for _ in each(await done(stage.client.pull("no-such-model", stream=True))):
            pass


async def pulled(stage: Stage) -> None:
    parts = [part async for part in each(await done(stage.client.pull("all-minilm", stream=True)))]
    assert parts[-1].status == "success"


async def pull_left(stage: Stage) -> None:
    stream = each(await done(stage.client.pull("all-minilm", stream=True)))
    await anext(stream)
    await stream.aclose()


def request_of(stage: Stage) -> httpx.Request:
    request: httpx.Request = stage.client._client.build_request("POST", "/api/chat", json=CHAT)
    return request


async def raw_answer_closed_unread(stage: Stage) -> None:
    response = await done(stage.client._client.send(request_of(stage), stream=True))
    await stage.colour.close(response)
    await stage.colour.close(response)


async def raw_answer_dropped_unread(stage: Stage) -> None:
    response = await done(stage.client._client.send(request_of(stage), stream=True))
    del response
    await stage.settle()


async def raw_answer_read_twice(stage: Stage) -> None:
    response = await done(stage.client._client.send(request_of(stage), stream=True))
    body = await read(response, is_async=stage.colour.is_async)
    assert body == await read(response, is_async=stage.colour.is_async)
    with pytest.raises(httpx.StreamConsumed):
        await anext(raw_pieces(response, is_async=stage.colour.is_async))
    await stage.colour.close(response)


ASYNC = ("asyncio", "trio")
STALLED = Fault(stall_at=150)
SILENT = Fault(stall_at=0)
SHORT: dict[str, Any] = {"timeout": httpx.Timeout(60.0, read=0.05)}

EXITS: dict[str, Exit] = {
    "exhausted": Exit(exhausted, "completed"),
    "whole": Exit(whole, "completed"),
    "gzip": Exit(exhausted, "completed", fault=Fault(gzip=True, rechunk=9)),
    "gzip document": Exit(whole, "completed", fault=Fault(gzip=True, rechunk=9)),
    "closed after the final part": Exit(closed_after_the_final_part, "completed"),
    "pulled": Exit(pulled, "completed"),
    "raw, read twice": Exit(raw_answer_read_twice, "completed"),
    "break": Exit(left_by_break, "abandoned"),
    "closed early": Exit(closed_early, "abandoned"),
    "dropped": Exit(dropped, "abandoned"),
    "dropped in a cycle": Exit(dropped_in_a_cycle, "abandoned"),
    "never started": Exit(never_started, None),
    "never started but closed": Exit(never_started_but_closed, None),
    "caller raises": Exit(left_by_an_exception_of_the_caller, "abandoned"),
    "pull left": Exit(pull_left, "abandoned"),
    "raw, closed unread": Exit(raw_answer_closed_unread, "abandoned"),
    "raw, dropped unread": Exit(raw_answer_dropped_unread, "abandoned"),
    "coroutine thrown away": Exit(
        coroutine_thrown_away,
        "abandoned",
        colours=("asyncio",),
        fault=SILENT,
        is_in_process_only=True,
    ),
    "cancelled while waiting for a part": Exit(
        cancelled_in_a_scope, "cancelled", colours=ASYNC, fault=STALLED
    ),
    "cancelled while waiting for the head": Exit(
        cancelled_in_a_scope, "cancelled", colours=ASYNC, fault=SILENT
    ),
    "document cancelled": Exit(
        document_cancelled_in_a_scope, "cancelled", colours=ASYNC, fault=SILENT
    ),
    "document cancelled half-way": Exit(
        document_cancelled_in_a_scope, "cancelled", colours=ASYNC, fault=STALLED
    ),
    "task cancelled": Exit(task_cancelled, "cancelled", colours=("asyncio",), fault=STALLED),
    "task cancelled in the caller's code": Exit(
        task_cancelled_inside_the_loop, "abandoned", colours=("asyncio",)
    ),
    "asyncio timeout": Exit(asyncio_timeout, "cancelled", colours=("asyncio",), fault=SILENT),
    "keyboard": Exit(interrupted_by_the_keyboard, "cancelled", colours=("sync",)),
    "timeout before the head": Exit(
        raises(httpx.ReadTimeout), "failed", "timeout", fault=SILENT, options=SHORT
    ),
    "timeout half-way": Exit(
        raises(httpx.ReadTimeout), "failed", "timeout", fault=STALLED, options=SHORT
    ),
    "document timeout": Exit(
        raises(httpx.ReadTimeout, stream=False), "failed", "timeout", fault=SILENT, options=SHORT
    ),
    "refused": Exit(
        raises(httpx.TransportError),
        "failed",
        "connect",
        fault=Fault(refuse=True),
        on_socket=("failed", "network"),
    ),
    "nobody listens": Exit(nobody_listens, "failed", "connect", fault=Fault(refuse=True)),
    "404": Exit(no_such_model, "failed", "model_not_found"),
    "404 of a stream": Exit(no_such_model_to_stream, "failed", "model_not_found"),
    "error line of a pull": Exit(no_such_model_to_pull, "failed", "model_not_found"),
    "500": Exit(
        raises(ollama.ResponseError, stream=False, match="unexpected EOF"),
        "failed",
        "runner_crashed",
        fault=Fault(error_at=0),
    ),
    "503": Exit(
        raises(ollama.ResponseError, match="server busy"),
        "failed",
        "server_busy",
        reply=Reply.error(503, "server busy, please try again.  maximum pending requests exceeded"),
    ),
    "error line": Exit(
        raises(ollama.ResponseError, match="an error was encountered"),
        "failed",
        "runner_crashed",
        fault=Fault(error_at=3),
    ),
    "cut between lines": Exit(
        raises(httpx.RemoteProtocolError),
        "failed",
        "incomplete",
        reply=Reply(chunks=[LINE]),
        fault=Fault(cut_at=len(LINE)),
    ),
    "cut inside a line": Exit(
        raises(httpx.RemoteProtocolError), "failed", "incomplete", fault=Fault(cut_at=170)
    ),
    "cut before the first byte": Exit(
        raises(httpx.RemoteProtocolError), "failed", "incomplete", fault=Fault(cut_at=0)
    ),
    "document cut": Exit(
        raises(httpx.RemoteProtocolError, stream=False),
        "failed",
        "incomplete",
        fault=Fault(cut_at=99),
    ),
    "no final part": Exit(exhausted, "failed", "incomplete", fault=Fault(no_done=True)),
    "document without its end": Exit(whole, "failed", "incomplete", fault=Fault(no_done=True)),
    "half a line, then a clean end": Exit(
        raises(ValueError), "failed", "protocol", reply=Reply(chunks=[LINE, LINE[:20]])
    ),
    "no JSON": Exit(
        raises(ValueError), "failed", "protocol", reply=Reply.whole(b"<html>hi</html>", "text/html")
    ),
    "no JSON for a document": Exit(
        raises(ValueError, stream=False),
        "failed",
        "protocol",
        reply=Reply.whole(b"<html>hi</html>", "text/html"),
    ),
}


@pytest.fixture(params=["ours in process", "ours on a socket", "official in process"])
def shell(request: pytest.FixtureRequest) -> str:
    """Whose client, and its way to the server."""
    shell: str = request.param
    return shell


@pytest.fixture
def is_on_socket(shell: str) -> bool:
    return shell.endswith("socket")


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[FakeOllama, str]]:
    server = FakeOllama()
    with server.serve() as url:
        yield server, url


@pytest.fixture(scope="module", autouse=True)
def quick_collection() -> Iterator[None]:
    """What is alive before these tests is not looked through at each of their collections."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def stage_for(shell: str, is_on_socket: bool, capture: Capture) -> Callable[[Colour, Exit], Any]:
    """Make a stage, and the server it needs while it lasts."""

    def build(colour: Colour, exit_: Exit, server: FakeOllama, url: str) -> Stage:
        if exit_.reply is not None:
            server.script("/api/chat", exit_.reply)
        if exit_.fault is not None:
            server.fault("/api/chat", exit_.fault)
        options: dict[str, Any] = (
            {"verify": False, "trust_env": False}
            if is_on_socket
            else {"transport": server.transport()}
        ) | exit_.options
        if shell.startswith("ours"):
            client = colour.ours(url, **options, **capture.options)
        else:
            client = instrument_client(colour.official(url, **options), **capture.options)
        return Stage(colour, client, server, capture, url, is_on_socket)

    return build


@pytest.mark.slow
@pytest.mark.sockets
@pytest.mark.parametrize(
    ("name", "colour_name"),
    [(name, colour) for name, exit_ in EXITS.items() for colour in exit_.colours],
)
def test_a_call_ends_once_in_the_right_way(
    name: str,
    colour_name: str,
    stage_for: Any,
    capture: Capture,
    is_on_socket: bool,
    served: tuple[FakeOllama, str],
) -> None:
    exit_, colour = EXITS[name], Colour(colour_name)
    if is_on_socket and exit_.is_in_process_only:
        return
    server, url = served if is_on_socket else (FakeOllama(), "http://127.0.0.1:11434")
    # The served one is shared: a fault that a scenario never met is not for the next.
    for left in (server.requests, server._faults, server._scripts):
        left.clear()  # type: ignore[attr-defined]

    async def play() -> None:
        stage = stage_for(colour, exit_, server, url)
        await exit_.scenario(stage)
        await closed(stage.client)
        # Nothing that comes later ends it again.
        del stage

    colour.run(play)
    if exit_.outcome is None:
        assert (capture.spans, capture.records, server.requests) == ([], [], [])
        return
    outcome, error_type = exit_.outcome, exit_.error_type
    if is_on_socket and exit_.on_socket is not None:
        outcome, error_type = exit_.on_socket  # type: ignore[assignment]
    assert_ended(capture, outcome, error_type)


def assert_ended(capture: Capture, outcome: str, error_type: str | None) -> None:
    """One span, one record, one duration, all of them agreeing, and nothing in flight."""
    metrics = capture.metrics()
    (record,) = capture.records
    assert (record.outcome, record.error_type) == (outcome, error_type)
    (span,) = capture.spans
    attributes = dict(span.attributes or {})
    assert attributes[names.OUTCOME] == outcome
    assert attributes.get(names.ERROR_TYPE) == error_type
    assert span.status.status_code is (
        StatusCode.ERROR if outcome == "failed" else StatusCode.UNSET
    )
    assert bool(span.status.description) is (outcome == "failed")
    assert {point.value for point in metrics[rows.ACTIVE_REQUESTS.name]} == {0}
    durations = [
        point
        for name, points in metrics.items()
        if name.endswith("duration") and "time_to" not in name
        for point in points
        if names.OUTCOME in point.attributes
    ]
    (duration,) = durations
    assert duration.count == 1
    assert duration.attributes[names.OUTCOME] == outcome
    assert duration.attributes.get(names.ERROR_TYPE) == error_type


@pytest.mark.parametrize("colour_name", COLOURS)
def test_a_stream_left_open_when_the_loop_or_program_ends_is_recorded(
    colour_name: str, capture: Capture
) -> None:
    colour = Colour(colour_name)

    async def leave() -> None:
        client = colour.ours("http://h", transport=FakeOllama().transport(), **capture.options)
        stream = each(await done(client.chat(**CHAT, stream=True)))
        await anext(stream)

    colour.run(leave)
    gc.collect()
    assert_ended(capture, "abandoned", None)


@pytest.mark.parametrize("colour_name", COLOURS)
def test_each_of_many_calls_has_its_own_end(colour_name: str, capture: Capture) -> None:
    colour, server = Colour(colour_name), FakeOllama()

    async def mixed() -> None:
        client = colour.ours("http://h", transport=server.transport(), **capture.options)
        for fault in (None, Fault(no_done=True), Fault(cut_at=100), None):
            if fault is not None:
                server.fault("/api/chat", fault)
            try:
                async for _ in each(await done(client.chat(**CHAT, stream=True))):
                    pass
            except httpx.RemoteProtocolError:
                pass
        stream = each(await done(client.chat(**CHAT, stream=True)))
        await anext(stream)
        await stream.aclose()
        await closed(client)

    colour.run(mixed)
    assert [record.outcome for record in capture.records] == [
        "completed",
        "failed",
        "failed",
        "completed",
        "abandoned",
    ]
    assert len({span.context.span_id for span in capture.spans if span.context}) == 5


def test_two_streams_at_once_in_one_thread_end_apart(capture: Capture) -> None:
    server = FakeOllama()
    client = Colour("sync").ours("http://h", transport=server.transport(), **capture.options)
    first, second = client.chat(**CHAT, stream=True), client.chat(**CHAT, stream=True)
    next(first)
    assert list(second)
    first.close()
    client.close()
    assert [record.outcome for record in capture.records] == ["completed", "abandoned"]


@pytest.mark.parametrize(
    "error", [RuntimeError("odd"), OSError("bare"), SystemExit(3), MemoryError()]
)
@pytest.mark.parametrize("colour_name", COLOURS[:2])
@pytest.mark.parametrize("where", ["request", "body"])
def test_any_exception_of_the_transport_comes_out_as_it_went_in(
    error: BaseException, colour_name: str, where: str, capture: Capture
) -> None:
    class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield LINE
            raise error

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield LINE
            raise error

    class Broken(httpx.BaseTransport, httpx.AsyncBaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if where == "request":
                raise error
            return httpx.Response(200, stream=Body())

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return self.handle_request(request)

    colour = Colour(colour_name)
    caught: list[BaseException] = []

    async def scenario() -> None:
        client = colour.ours("http://h", transport=Broken(), **capture.options)
        try:
            async for _ in each(await done(client.chat(**CHAT, stream=True))):
                pass
        except BaseException as found:
            caught.append(found)
        await closed(client)

    colour.run(scenario)
    assert caught == [error]
    assert caught[0] is error
    assert (error.__cause__, error.__context__) == (None, None)
    if isinstance(error, SystemExit):
        assert_ended(capture, "cancelled", None)
    else:
        assert_ended(capture, "failed", "_OTHER")
