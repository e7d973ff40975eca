"""One limit for threads and event loops: never exceeded, nothing lost by cancels, dead loops and forks."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import trio

from ollama_otel import call_context
from ollama_otel._resilience.registry import limiter_states, open_circuits
from ollama_otel._resilience.signals import AsyncSignal, ThreadSignal
from ollama_otel.errors import SettingsError
from ollama_otel.resilience import (
    Breaker,
    Limiter,
    LimiterState,
    QueueTimeoutError,
    Resilience,
    make_resilient,
)
from tests.scripts import run_script

SERVER = "http://server:80"
URL = f"{SERVER}/api/chat"
IDLE = LimiterState(0, 0)
PATIENCE = 60.0
"""Seconds after which a test counts as hanging."""


class Server(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Answers after a time, and notes how many calls it had at once; a call lasts until its body is closed."""

    def __init__(self, takes: float = 0.0) -> None:
        self.takes = takes
        self.at_once = self.most = self.served = 0
        self.order: list[str] = []
        self.lock = threading.Lock()

    def begin(self, request: httpx.Request) -> None:
        with self.lock:
            self.order.append(request.headers.get("x-user", ""))
            self.at_once += 1
            self.most = max(self.most, self.at_once)

    def end(self) -> None:
        with self.lock:
            self.at_once -= 1
            self.served += 1

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.begin(request)
        time.sleep(self.takes)
        return httpx.Response(200, stream=_Body(self))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.begin(request)
        try:
            await _sleep(self.takes)
        except BaseException:
            self.end()
            raise
        return httpx.Response(200, stream=_Body(self))


class _Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, server: Server) -> None:
        self.server = server
        self.is_open = True

    def __iter__(self) -> Iterator[bytes]:
        yield b'{"done":true}'

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b'{"done":true}'

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self.server.end()

    async def aclose(self) -> None:
        self.close()


async def _sleep(seconds: float) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        await trio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)


def sync_client(limiter: Limiter, server: Server) -> httpx.Client:
    return make_resilient(httpx.Client(transport=server), Resilience(limiter=limiter))


def async_client(limiter: Limiter, server: Server) -> httpx.AsyncClient:
    return make_resilient(httpx.AsyncClient(transport=server), Resilience(limiter=limiter))


def joined(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "it hangs"


# --- threads and loops ------------------------------------------------------------------------


@pytest.mark.slow
def test_threads_and_event_loops_share_one_limit() -> None:
    limiter, server = Limiter(concurrency=2), Server(takes=0.002)

    def in_thread() -> None:
        with sync_client(limiter, server) as client:
            for _ in range(10):
                client.post(URL, json={})

    async def post_often() -> None:
        async with async_client(limiter, server) as client:
            for _ in range(10):
                await client.post(URL, json={})

    async def many() -> None:
        await asyncio.gather(*(post_often() for _ in range(4)))

    async def many_on_trio() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(post_often)

    threads = [threading.Thread(target=in_thread) for _ in range(4)]
    threads += [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(2)]
    threads += [threading.Thread(target=trio.run, args=(many_on_trio,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    joined(*threads)
    assert server.most == 2
    assert server.served == 4 * 10 + 4 * 4 * 10
    assert limiter.states() == {SERVER: IDLE}


@pytest.mark.slow
@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_cancelled_calls_give_their_places_back(library: str) -> None:
    """Calls are cancelled at any moment: while they wait, when they get a slot, while they are served."""
    limiter, server = Limiter(concurrency=2), Server(takes=0.004)
    chance = random.Random(4)

    async def asyncio_calls() -> None:
        async with async_client(limiter, server) as client:
            tasks = [asyncio.ensure_future(client.post(URL, json={})) for _ in range(60)]
            for task in chance.sample(tasks, 40):
                await asyncio.sleep(chance.random() * 0.003)
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def trio_calls() -> None:
        async def post(scope: trio.CancelScope) -> None:
            with scope:
                await client.post(URL, json={})

        async with async_client(limiter, server) as client, trio.open_nursery() as nursery:
            scopes = [trio.CancelScope() for _ in range(60)]
            for scope in scopes:
                nursery.start_soon(post, scope)
            for scope in chance.sample(scopes, 40):
                await trio.sleep(chance.random() * 0.003)
                scope.cancel()

    if library == "asyncio":
        asyncio.run(asyncio_calls())
    else:
        trio.run(trio_calls)
    assert server.most <= 2
    assert server.at_once == 0
    assert limiter.states() == {SERVER: IDLE}
    assert not limiter._servers[SERVER].signals


def test_a_call_of_an_event_loop_that_has_ended_does_not_keep_the_slot() -> None:
    """Its task was never told: nobody else would give the slot on."""
    limiter = Limiter(concurrency=1)
    first, places = limiter._enter(SERVER, None), []

    async def wait() -> None:
        place = limiter._enter(SERVER, None)
        place.listen(AsyncSignal())
        places.append(place)

    for _ in range(3):
        asyncio.run(wait())
    trio.run(wait)
    assert limiter.states() == {SERVER: LimiterState(1, 4)}
    last = limiter._enter(SERVER, None)
    first.leave()
    assert [place.state for place in places] == ["released"] * 4
    assert last.state == "granted"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("is_granted", [True, False])
def test_a_task_whose_event_loop_was_closed_gives_its_place_back(*, is_granted: bool) -> None:
    """It was told of its slot or not, and never runs again."""
    limiter, server = Limiter(concurrency=1), Server()
    first = limiter._enter(SERVER, None)
    loop = asyncio.new_event_loop()
    task = loop.create_task(async_client(limiter, server).post(URL, json={}))
    loop.run_until_complete(asyncio.sleep(0.05))
    assert limiter.states() == {SERVER: LimiterState(1, 1)}
    if is_granted:
        first.leave()
    loop.close()
    first.leave()
    del task, loop
    last = limiter._enter(SERVER, None)
    last.listen(ThreadSignal())
    for _ in range(2):
        last.next_look()
    assert last.state == "granted"
    last.leave()
    assert limiter.states() == {SERVER: IDLE}
    assert not limiter._servers[SERVER].signals


@pytest.mark.processes
def test_the_collector_may_run_while_the_limiter_is_locked() -> None:
    """In a process that records nothing, too."""
    printed = run_script(
        """
        import faulthandler, gc, httpx
        from ollama_otel.resilience import Limiter, Resilience, make_resilient
        faulthandler.dump_traceback_later(20, exit=True)

        class Body(httpx.SyncByteStream):
            def __iter__(self):
                yield b"x"

        gc.disable()
        limiter = Limiter(concurrency=1)
        answer = lambda request: httpx.Response(200, stream=Body())
        client = httpx.Client(transport=httpx.MockTransport(answer))
        make_resilient(client, Resilience(limiter=limiter))
        request = client.build_request("POST", "http://server/api/chat", json={})
        response = client.send(request, stream=True)
        response.itself = response
        del response
        [server] = limiter._servers.values()
        server.change(lambda now: gc.collect())
        print(limiter.states())
        """
    )
    assert "LimiterState(active=0, waiting=0)" in printed


@pytest.mark.slow
def test_a_signal_of_another_kind_is_not_swallowed() -> None:
    limiter = Limiter(concurrency=1, max_wait=0.05)
    limiter._enter(SERVER, None)
    with sync_client(limiter, Server()) as client, pytest.raises(QueueTimeoutError):
        client.post(URL, json={})
    assert limiter.states() == {SERVER: LimiterState(1, 0)}


@pytest.mark.slow
def test_a_rate_lets_the_next_one_go_without_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing ends meanwhile: who is next looks when the time has come."""
    from ollama_otel._resilience import slots

    class Short(slots.Window):
        def __init__(self, limit: int) -> None:
            super().__init__(limit, seconds=0.2)

    monkeypatch.setattr(slots, "Window", Short)
    limiter, server = Limiter(requests_per_minute=1), Server()

    async def many() -> None:
        async with async_client(limiter, server) as client:
            await asyncio.gather(*(client.post(URL, json={}) for _ in range(4)))

    began = time.monotonic()
    asyncio.run(asyncio.wait_for(many(), PATIENCE))
    assert time.monotonic() - began >= 0.6


@pytest.mark.parametrize("rate", ["requests_per_minute", "tokens_per_minute"])
def test_a_call_that_cannot_look_does_not_hold_up_the_others(rate: str) -> None:
    """It is the next one, and has been told when to look, but its event loop has ended."""
    now = 1000.0
    limiter = Limiter(**{rate: 1}, max_wait=600, clock=lambda: now)
    limiter._enter(SERVER, None).leave()
    limiter._settle(SERVER, 1)

    async def wait() -> None:
        place = limiter._enter(SERVER, None)
        place.listen(AsyncSignal())
        assert place.next_look() is not None

    asyncio.run(wait())
    last = limiter._enter(SERVER, None)
    for _ in range(100):
        last.listen(ThreadSignal())
        seconds = last.next_look()
        if seconds is None:
            break
        now += seconds
    assert last.state == "granted"
    # The call that never ran has used a request of the rate.
    assert now < 1000 + 2 * 60 + 10
    assert limiter.states() == {SERVER: LimiterState(1, 0)}


# --- what is seen -----------------------------------------------------------------------------


def test_depth_and_positions_can_be_seen() -> None:
    limiter = Limiter(concurrency=1, key="conversation")
    for conversation in ("a", "a", "a", "b"):
        with call_context(conversation_id=conversation):
            limiter._enter("http://seen:1", None)
    assert limiter.states() == {"http://seen:1": LimiterState(1, 3)}
    assert [(call.position, call.key) for call in limiter.waiting()] == [
        (0, "b"),
        (1, "a"),
        (2, "a"),
    ]
    assert limiter_states()["http://seen:1"] == LimiterState(1, 3)
    assert all(0 <= call.waited < PATIENCE for call in limiter.waiting())


def test_states_of_several_limiters_add_up() -> None:
    limiters = [Limiter(concurrency=1) for _ in range(2)]
    for limiter in limiters:
        limiter._enter("http://added:1", None)
    assert limiter_states()["http://added:1"] == LimiterState(2, 0)
    breaker = Breaker(minimum_calls=1)
    trip = breaker._enter("http://added:1")
    assert trip is not None
    assert open_circuits()["http://added:1"] == 0
    trip.end(has_failed=True)
    assert open_circuits()["http://added:1"] == 1


def test_idle_servers_are_forgotten() -> None:
    limiter = Limiter(concurrency=1)
    for number in range(1000):
        limiter._enter(f"http://server:{number}", None).leave()
    assert len(limiter.states()) <= 256


@pytest.mark.parametrize(
    "bad",
    [
        {"concurrency": 0},
        {"requests_per_minute": 0},
        {"tokens_per_minute": -1},
        {"max_waiting": -1},
        {"max_wait": -0.1},
        {"ageing": 0},
        {"memory": 0},
        {"key": "nobody"},
    ],
)
def test_values_that_make_no_sense_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"{next(iter(bad))} must be"):
        Limiter(**bad)


# --- forks ------------------------------------------------------------------------------------


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_all_slots_and_the_parent_loses_none() -> None:
    limiter, breaker = Limiter(concurrency=1), Breaker(minimum_calls=1)
    held = limiter._enter(SERVER, None)
    waiting = limiter._enter(SERVER, None)
    limiter._servers[SERVER]._lock.acquire()  # as by another thread at the moment of the fork
    breaker._lock.acquire()
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)  # a child that hangs ends with a status of its own
        try:
            held.leave()
            waiting.leave()
            is_free = limiter._enter(SERVER, None).state == "granted"
            is_full = limiter._enter(SERVER, None).state == "waiting"
            os._exit(0 if is_free and is_full and breaker._admits(SERVER) else 1)
        finally:
            os._exit(2)
    limiter._servers[SERVER]._lock.release()
    breaker._lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert limiter.states() == {SERVER: LimiterState(1, 1)}
    held.leave()
    assert waiting.state == "granted"


# --- many calls -------------------------------------------------------------------------------


@pytest.mark.slow
def test_ten_thousand_calls_wait_in_a_fair_order() -> None:
    """One user has queued 9,900 calls when a hundred others send one each."""
    limiter, server = Limiter(concurrency=4, max_waiting=10_000, max_wait=600), Server()

    async def call(client: httpx.AsyncClient, user: str) -> None:
        with call_context(user_id=user):
            await client.post(URL, json={}, headers={"x-user": user})

    async def open_when_all_wait(places: list[Any]) -> None:
        while limiter.states()[SERVER].waiting < 10_000:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for place in places:
            place.leave()

    async def many() -> None:
        places = [limiter._enter(SERVER, None) for _ in range(4)]
        async with async_client(limiter, server) as client:
            await asyncio.gather(
                *(call(client, "batch") for _ in range(9_900)),
                *(call(client, f"user {number}") for number in range(100)),
                open_when_all_wait(places),
            )

    asyncio.run(many())
    assert server.served == 10_000
    assert server.most <= 4
    others = [index for index, user in enumerate(server.order) if user != "batch"]
    assert len(others) == 100
    assert max(others) < 300, "nobody waits for the batch of another user"
    assert limiter.states() == {SERVER: IDLE}


@pytest.mark.slow
def test_a_waiting_call_takes_little_memory() -> None:
    limiter = Limiter(concurrency=1, max_waiting=10_000)
    limiter._enter(SERVER, None)
    tracemalloc.start()
    places = [limiter._enter(SERVER, None) for _ in range(10_001)]
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert [place.state for place in places[-2:]] == ["waiting", "queue_full"]
    assert used / 10_000 < 2_000
