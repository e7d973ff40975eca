"""A played call is the recorded one: its bytes, its times, and the way it ended."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import httpx
import ollama
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ollama_otel
from ollama_otel import replay
from ollama_otel._log.call import RecordedCall
from ollama_otel._wire import failures
from ollama_otel.errors import ReplayEndedError, ReplayMissError, SettingsError
from ollama_otel.replay import AsyncPlayer, Player, ReplayLog
from ollama_otel.replay._matching import CallIndex
from ollama_otel.replay._playback import _BY_TYPE
from ollama_otel.testing import Capture, FakeOllama, Fault
from ollama_otel.transport import AsyncTransport, Transport
from tests.colours import COLOURS, Colour, closed, done, each, raw_pieces
from tests.examples import examples

from .recorded import NDJSON, Time, call, chat, lines, old_call, write

URL = "http://ollama.test/api/chat"
LINE = b'{"message":{"role":"assistant","content":"x"},"done":false}\n'
FINAL = b'{"model":"m","message":{"role":"assistant","content":""},"done":true}\n'

# Trio warns of generators left behind; httpx's own are, with and without us.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Async generator .* was garbage collected:ResourceWarning"
)


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> Colour:
    return Colour(request.param)


def client(colour: Colour, *calls: RecordedCall, time: Time | None = None, **options: Any) -> Any:
    """An httpx client whose calls are played."""
    times: Any = {}
    if time is not None:
        times = {
            "clock": time.clock,
            "sleep": time.sleep_async if colour.is_async else time.sleep,
        }
    player = AsyncPlayer if colour.is_async else Player
    return colour.httpx(transport=player(calls, **times, **options))


async def pieces_of(colour: Colour, response: Any, time: Time | None = None) -> list[Any]:
    return [
        piece if time is None else (time.passed, piece)
        async for piece in raw_pieces(response, is_async=colour.is_async)
    ]


async def sent(colour: Colour, its_client: Any, body: Any = None, **options: Any) -> httpx.Response:
    request = its_client.build_request("POST", URL, json=body or chat(), **options)
    response: httpx.Response = await done(its_client.send(request, stream=True))
    return response


# --- bytes ----------------------------------------------------------------------------------


@settings(max_examples=examples(60))
@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=12),
    st.sampled_from([200, 404, 500]),
    st.sampled_from([NDJSON, "application/json; charset=utf-8"]),
)
@pytest.mark.parametrize("name", COLOURS)
def test_any_bytes_in_any_pieces_come_back_as_they_were(
    name: str, pieces: Sequence[bytes], status: int, content_type: str
) -> None:
    colour = Colour(name)
    kept = call(
        pieces=[(0.1 * number, data) for number, data in enumerate(pieces)],
        http_status=status,
        content_type=content_type,
    )

    async def scenario() -> None:
        its_client = client(colour, kept, speed=0)
        response = await sent(colour, its_client)
        assert response.status_code == status
        assert dict(response.headers) == {"content-type": content_type}
        assert await pieces_of(colour, response) == list(pieces)
        await closed(its_client)

    colour.run(scenario)


def test_an_answer_without_a_body_or_a_type_is_one_again(colour: Colour) -> None:
    async def scenario() -> None:
        time = Time()
        its_client = client(colour, call(pieces=[], duration=0.5, content_type=None), time=time)
        response = await done(its_client.post(URL, json=chat()))
        assert (response.status_code, response.content, dict(response.headers)) == (200, b"", {})
        assert time.passed == 0.5
        await closed(its_client)

    colour.run(scenario)


# --- times ----------------------------------------------------------------------------------


def test_every_piece_comes_at_its_time_and_the_head_with_the_first(colour: Colour) -> None:
    async def scenario() -> None:
        time = Time()
        pieces = [(1.5, b"a"), (1.75, b"b"), (1.75, b"c"), (4.0, b"d")]
        its_client = client(colour, call(pieces=pieces), time=time)
        response = await sent(colour, its_client)
        assert time.passed == 1.5
        assert await pieces_of(colour, response, time) == pieces
        # The end of a whole answer is not waited for.
        assert time.passed == 4.0
        await closed(its_client)

    colour.run(scenario)


@pytest.mark.parametrize(("speed", "times"), [(2.0, [0.5, 1.0]), (0.5, [2.0, 4.0]), (0, [0, 0])])
def test_speed_divides_all_times(colour: Colour, speed: float, times: list[float]) -> None:
    async def scenario() -> None:
        time = Time()
        its_client = client(colour, call(pieces=[(1.0, b"a"), (2.0, b"b")]), time=time, speed=speed)
        response = await sent(colour, its_client)
        assert [passed for passed, _ in await pieces_of(colour, response, time)] == times
        await closed(its_client)

    colour.run(scenario)


@pytest.mark.parametrize("speed", [-1.0, float("inf"), float("nan")])
def test_a_speed_that_time_cannot_have_is_refused(speed: float) -> None:
    with pytest.raises(SettingsError, match="speed must be 0"):
        Player([], speed=speed)


def test_lateness_does_not_add_up(colour: Colour) -> None:
    class Oversleeping(Time):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds + 0.01 if seconds else 0.0)

    async def scenario() -> None:
        time = Oversleeping()
        pieces = [(0.1 * number, b"x") for number in range(1, 101)]
        response = await sent(colour, client(colour, call(pieces=pieces), time=time))
        late = [
            passed - 0.1 * n
            for n, (passed, _) in enumerate(await pieces_of(colour, response, time), 1)
        ]
        assert max(late) < 0.011

    colour.run(scenario)


def test_a_reader_that_is_late_gets_at_once_what_was_due(colour: Colour) -> None:
    async def scenario() -> None:
        time = Time()
        pieces = [(float(number), b"x") for number in range(1, 6)]
        response = await sent(colour, client(colour, call(pieces=pieces), time=time))
        stream = raw_pieces(response, is_async=colour.is_async)
        seen = []
        async for _ in stream:
            seen.append(time.passed)
            if len(seen) == 1:
                time.now += 2.5
        assert seen == [1.0, 3.5, 3.5, 4.0, 5.0]

    colour.run(scenario)


@pytest.mark.slow
def test_real_time_is_kept_to_within_milliseconds(colour: Colour) -> None:
    offsets = [0.02 * number for number in range(1, 51)]

    async def scenario() -> list[float]:
        its_client = client(colour, call(pieces=[(offset, b"x") for offset in offsets]))
        began = time.perf_counter()
        response = await sent(colour, its_client)
        arrivals = [
            time.perf_counter() - began
            async for _ in raw_pieces(response, is_async=colour.is_async)
        ]
        await closed(its_client)
        return arrivals

    arrivals = colour.run(scenario)
    late = [arrival - offset for arrival, offset in zip(arrivals, offsets, strict=True)]
    # Never early, by more than a clock's tick; how late depends on the machine.
    assert min(late) > -0.002
    assert statistics.median(late) < 0.1


# --- silence --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pieces", "passed"),
    [([(5.0, b"a")], 2.0), ([(1.0, b"a"), (9.0, b"b")], 3.0), ([], 2.0)],
)
def test_a_silence_longer_than_the_read_timeout_times_out_after_it(
    colour: Colour, pieces: list[tuple[float, bytes]], passed: float
) -> None:
    async def scenario() -> None:
        time = Time()
        its_client = client(colour, call(pieces=pieces, duration=10.0), time=time)
        with pytest.raises(httpx.ReadTimeout) as raised:
            await done(its_client.post(URL, json=chat(), timeout=2.0))
        assert raised.value.request.url == URL
        assert time.passed == passed
        await closed(its_client)

    colour.run(scenario)


def test_many_short_silences_do_not_time_out(colour: Colour) -> None:
    async def scenario() -> None:
        time = Time()
        pieces = [(float(number), b"x") for number in range(1, 10)]
        its_client = client(colour, call(pieces=pieces), time=time)
        assert (await done(its_client.post(URL, json=chat(), timeout=1.5))).content == b"x" * 9

    colour.run(scenario)


# --- ends -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", _BY_TYPE)
@pytest.mark.parametrize("pieces", [None, [], [(0.5, LINE), (0.75, LINE)]])
def test_a_broken_call_breaks_again_at_the_same_time(
    colour: Colour, kind: Any, pieces: list[tuple[float, bytes]] | None
) -> None:
    message = "peer closed connection" if kind == "incomplete" else "it broke"
    kept = call(
        pieces=pieces,
        outcome="failed",
        ending="exception",
        error_type=kind,
        error_message=message,
        http_status=200 if pieces else None,
        duration=3.0,
    )

    async def scenario() -> None:
        time = Time()
        its_client = client(colour, kept, time=time)
        with pytest.raises(httpx.RequestError, match=message) as raised:
            response = await sent(colour, its_client)
            assert time.passed == 0.5
            await pieces_of(colour, response)
        assert failures.from_exception(raised.value) == kind
        assert time.passed == 3.0
        await closed(its_client)

    colour.run(scenario)


@pytest.mark.parametrize("name", ["ConnectTimeout", "ReadTimeout", "PoolTimeout", "ReadError"])
@pytest.mark.parametrize("message", ["", "it broke"])
def test_an_exception_comes_back_by_its_name(name: str, message: str) -> None:
    kept = call(
        pieces=None,
        outcome="failed",
        error_type="timeout",
        exception_type=name,
        error_message=message or name,
        http_status=None,
    )
    with pytest.raises(getattr(httpx, name)) as raised:
        httpx.Client(transport=Player([kept], speed=0)).post(URL, json=chat())
    assert (type(raised.value), str(raised.value)) == (getattr(httpx, name), message)


def test_an_exception_that_said_nothing_comes_back_by_its_name_from_an_old_log() -> None:
    for name in ("ConnectTimeout", "ReadTimeout", "PoolTimeout", "ReadError"):
        kept = old_call(
            pieces=None,
            outcome="failed",
            error_type="timeout",
            error_message=name,
            http_status=None,
        )
        with pytest.raises(getattr(httpx, name)):
            httpx.Client(transport=Player([kept], speed=0)).post(URL, json=chat())


def test_an_exception_of_another_library_comes_back_by_its_type() -> None:
    kept = call(
        pieces=None,
        outcome="failed",
        error_type="connect",
        exception_type="ClientConnectorError",
        error_message="no route",
        http_status=None,
    )
    with pytest.raises(httpx.ConnectError, match="no route"):
        httpx.Client(transport=Player([kept], speed=0)).post(URL, json=chat())


def test_a_request_that_could_not_be_sent_cannot_be_sent_again() -> None:
    kept = call(
        pieces=None,
        outcome="failed",
        error_type="invalid_request",
        error_message="Request URL is missing",
        http_status=None,
    )
    with pytest.raises(httpx.UnsupportedProtocol, match="Request URL is missing"):
        httpx.Client(transport=Player([kept], speed=0)).post(URL, json=chat())


@pytest.mark.parametrize("kind", [call, old_call])
@pytest.mark.parametrize(
    "ending",
    [
        {
            "ending": "no_final_message",
            "error_type": "incomplete",
            "error_message": "the answer ended without its final message",
        },
        {
            "ending": "not_protocol",
            "error_type": "protocol",
            "error_message": "the answer is not what an Ollama server sends",
        },
        {"error_type": "runner_crashed", "error_message": "an error was encountered"},
        {"error_type": "server_error", "error_message": "boom", "http_status": 500},
        {"error_type": "timeout", "error_message": "gateway", "http_status": 504},
    ],
)
def test_what_the_server_ended_cleanly_ends_cleanly(colour: Colour, ending: Any, kind: Any) -> None:
    kept = kind(pieces=[(0.5, LINE)], outcome="failed", **ending)

    async def scenario() -> None:
        its_client = client(colour, kept, speed=0)
        assert (await done(its_client.post(URL, json=chat()))).content == LINE
        await closed(its_client)

    colour.run(scenario)


def test_who_reads_on_where_the_caller_had_left_is_told(colour: Colour) -> None:
    kept = call(pieces=[(0.5, LINE), (0.75, LINE)], outcome="abandoned", duration=9.0, line=7)

    async def scenario() -> None:
        time = Time()
        its_client = client(colour, kept, time=time)
        response = await sent(colour, its_client)
        seen = []
        with pytest.raises(ReplayEndedError) as raised:
            async for piece in raw_pieces(response, is_async=colour.is_async):
                seen.append(piece)  # noqa: PERF401 - what came before the error counts
        assert seen == [LINE, LINE]
        assert str(raised.value) == (
            "the recording of POST /api/chat (calls.jsonl, line 7) stops here, after 2 pieces: "
            "the call was abandoned, as its caller had left; read no further, or record it to "
            "its end"
        )
        assert time.passed == 0.75
        await closed(its_client)

    colour.run(scenario)


def test_who_leaves_where_the_caller_had_left_notices_nothing(colour: Colour) -> None:
    kept = call(pieces=[(0.5, LINE), (0.75, LINE)], outcome="abandoned")

    async def scenario() -> None:
        its_client = client(colour, kept, speed=0)
        response = await sent(colour, its_client)
        stream = raw_pieces(response, is_async=colour.is_async)
        assert [await anext(stream), await anext(stream)] == [LINE, LINE]
        await closed(stream)
        await colour.close(response)
        await closed(its_client)

    colour.run(scenario)


@pytest.mark.parametrize("pieces", [None, [], [(0.5, LINE)]])
def test_a_cancelled_call_leaves_time_to_be_cancelled_again(
    colour: Colour, pieces: list[tuple[float, bytes]] | None
) -> None:
    kept = call(
        pieces=pieces, outcome="cancelled", http_status=200 if pieces else None, duration=3.0
    )

    async def scenario() -> None:
        time = Time()
        its_client = client(colour, kept, time=time)
        with pytest.raises(ReplayEndedError, match="was cancelled"):
            await done(its_client.post(URL, json=chat()))
        assert time.passed == 4.0
        await closed(its_client)

    colour.run(scenario)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["asyncio", "trio"])
@pytest.mark.parametrize("first", [30.0, 0.01])
def test_a_cancellation_is_obeyed_while_waiting(name: str, first: float) -> None:
    colour = Colour(name)
    kept = call(pieces=[(first, LINE), (60.0, LINE)])

    async def scenario() -> float:
        its_client = client(colour, kept)
        began = time.perf_counter()
        with anyio.move_on_after(0.1):
            await its_client.post(URL, json=chat(), timeout=None)
        await closed(its_client)
        return time.perf_counter() - began

    assert colour.run(scenario) < 5.0


def test_other_tasks_run_while_a_log_is_played_at_once() -> None:
    kept = call(pieces=[(0.1 * number, LINE) for number in range(100)])

    async def scenario() -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(count())
        async with httpx.AsyncClient(transport=AsyncPlayer([kept], speed=0)) as its_client:
            await its_client.post(URL, json=chat())
        task.cancel()
        return turns

    assert asyncio.run(scenario()) >= 100


# --- with clients ---------------------------------------------------------------------------


def test_a_miss_reaches_the_caller_as_it_is(colour: Colour) -> None:
    async def scenario() -> None:
        its_client = client(colour, call())
        with pytest.raises(ReplayMissError, match="asked 'Hallo'"):
            await done(its_client.post(URL, json=chat("Hallo")))
        await closed(its_client)

    colour.run(scenario)


@pytest.mark.parametrize("kind", ["ours", "official"])
def test_clients_of_ollama_take_a_player_for_their_transport(colour: Colour, kind: str) -> None:
    player = AsyncPlayer if colour.is_async else Player
    pieces = [(0.1, LINE), (0.2, FINAL)]
    index = CallIndex([call(pieces=pieces), call(chat(stream=False), [(0.1, FINAL)], at=1.0)])

    async def scenario() -> None:
        its_client = getattr(colour, kind)(transport=player(index, speed=0))
        parts = await done(its_client.chat("m", chat()["messages"], stream=True))
        assert [part.message.content async for part in each(parts)] == ["x", ""]
        answer = await done(its_client.chat("m", chat()["messages"]))
        assert (answer.done, index.unused) == (True, ())
        await closed(its_client._client)

    colour.run(scenario)


def test_a_player_takes_a_path_and_tells_what_nobody_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "calls.jsonl", lines(), lines(chat("x"), at=1.0))
    player = Player(path, speed=0)
    assert [each.request_body for each in player.unused] == [chat(), chat("x")]
    httpx.Client(transport=player).post(URL, json=chat())
    assert [each.request_body for each in player.unused] == [chat("x")]


def test_players_of_both_colours_can_share_a_log() -> None:
    index = CallIndex([call(), call(at=1.0)])
    httpx.Client(transport=Player(index, speed=0)).post(URL, json=chat())

    async def scenario() -> None:
        async with httpx.AsyncClient(transport=AsyncPlayer(index, speed=0)) as its_client:
            await its_client.post(URL, json=chat())

    asyncio.run(scenario())
    assert index.unused == ()


# --- there and back -------------------------------------------------------------------------


def record_and_play(path: Path, colour: Colour, scenario: Any, inner: Any) -> tuple[Any, Any]:
    """Run a scenario against a server while it is logged, and again against the log."""
    wrapper = AsyncTransport if colour.is_async else Transport
    log = ReplayLog(path, bodies=True, media=True)

    async def run(transport: Any) -> Any:
        its_client = colour.official(transport=transport, timeout=5.0)
        try:
            return await scenario(its_client)
        finally:
            await closed(its_client._client)

    capture = Capture()
    first = colour.run(
        lambda: run(
            wrapper(
                inner,
                tracer_provider=capture.tracer_provider,
                meter_provider=capture.meter_provider,
                observers=[log],
            )
        )
    )
    assert log.close()
    player = AsyncPlayer if colour.is_async else Player
    return first, colour.run(lambda: run(player(path, speed=0)))


async def outcome(make: Any) -> Any:
    """What came of a call: its answer, its parts, or its error."""
    seen: list[Any] = []
    try:
        result = await done(make())
        if hasattr(result, "model_dump"):
            return result.model_dump()
        async for part in each(result):
            seen.append(part.model_dump())  # noqa: PERF401 - as above
    except (ollama.ResponseError, httpx.RequestError, ConnectionError, ValueError) as error:
        seen.append((type(error), str(error)))
    return seen


FAULTS = {
    "none": Fault(),
    "refused": Fault(refuse=True),
    "cut before its first byte": Fault(cut_at=0),
    "cut in mid-stream": Fault(cut_at=150),
    "silent from the start": Fault(stall_at=0),
    "silent in mid-stream": Fault(stall_at=150),
    "an error instead": Fault(error_at=0),
    "an error line": Fault(error_at=2),
    "no final message": Fault(no_done=True),
    "no JSON": Fault(garbage_at=150),
    "compressed": Fault(gzip=True),
    "in pieces of seven bytes": Fault(rechunk=7),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("stream", [True, False])
def test_what_was_recorded_of_a_server_is_what_the_player_gives(
    tmp_path: Path, colour: Colour, fault: Fault, stream: bool
) -> None:
    # Every silence is over at once, and longer than the time limit all the same.
    server = FakeOllama(sleep=lambda seconds: None)
    server.fault("/api/chat", fault)

    async def scenario(its_client: Any) -> Any:
        return await outcome(lambda: its_client.chat("llama3.2", chat()["messages"], stream=stream))

    recorded, played = record_and_play(
        tmp_path / "calls.jsonl", colour, scenario, server.transport()
    )
    assert recorded
    assert played == recorded


def test_other_routes_are_played_as_well(tmp_path: Path, colour: Colour) -> None:
    async def scenario(its_client: Any) -> Any:
        async def without_token_ids() -> Any:
            # A log does not hold the token ids of a conversation.
            answer = await done(its_client.generate("llama3.2", "Why?"))
            answer.context = []
            return answer

        return [
            await outcome(its_client.list),
            await outcome(lambda: its_client.show("llama3.2")),
            await outcome(lambda: its_client.embed("nomic-embed-text", ["a", "b"])),
            await outcome(without_token_ids),
            await outcome(lambda: its_client.chat("nope", [])),
            await outcome(its_client.ps),
        ]

    recorded, played = record_and_play(
        tmp_path / "calls.jsonl", colour, scenario, FakeOllama().transport()
    )
    assert played == recorded


def test_an_upload_is_known_by_its_digest(tmp_path: Path, colour: Colour) -> None:
    weights = tmp_path / "weights.gguf"
    weights.write_bytes(b"\x00\xff" * 1000)

    async def scenario(its_client: Any) -> Any:
        return await done(its_client.create_blob(weights))

    recorded, played = record_and_play(
        tmp_path / "calls.jsonl", colour, scenario, FakeOllama().transport()
    )
    assert recorded.startswith("sha256:")
    assert played == recorded


def test_what_is_played_can_be_recorded_again(tmp_path: Path) -> None:
    pieces = [(0.1, LINE), (0.2, FINAL)]
    path = tmp_path / "again.jsonl"
    with ReplayLog(path, bodies=True) as log:
        its_client = ollama_otel.Client(
            transport=Player([call(pieces=pieces)], speed=0), observers=[log]
        )
        assert len(list(its_client.chat("m", chat()["messages"], stream=True))) == 2
    (again,) = replay.read(path)
    assert [chunk.data for chunk in again.chunks or ()] == [LINE, FINAL]
