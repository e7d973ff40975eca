"""A run sends requests at their times, and its result is what the server did."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest

from ollama_otel.errors import LoadError, SettingsError
from ollama_otel.load import (
    LoadProgress,
    LoadResult,
    StopSwitch,
    TimedRequest,
    arrival_times,
    arun_load,
    run_load,
)
from ollama_otel.testing import FakeModel, FakeOllama, Fault, Reply

from .virtual_time import OneSlot, clock, run

HOST = "http://ollama.test:1"
PATIENCE = 30.0
"""Seconds after which something hangs."""


def ask(number: int = 0, **fields: Any) -> TimedRequest:
    text = fields.pop("text", f"Question {number}")
    model = fields.pop("model", "llama3.2")
    return TimedRequest(
        body={"model": model, "messages": [{"role": "user", "content": text}]}, **fields
    )


def at(offsets: Sequence[float], **fields: Any) -> list[TimedRequest]:
    return [ask(number, offset=offset, **fields) for number, offset in enumerate(offsets)]


def in_process(plan: Sequence[TimedRequest], service: float = 0.1, **options: Any) -> LoadResult:
    """Run a plan against a server with one slot, in virtual time."""
    fake = options.pop("fake", None)

    async def load() -> LoadResult:
        return await arun_load(
            plan, host=HOST, transport=OneSlot(service, fake), clock=clock, **options
        )

    return run(load())


# --- a server on a socket -----------------------------------------------------------------


@pytest.fixture
def fake() -> FakeOllama:
    return FakeOllama()


@pytest.fixture
def url(fake: FakeOllama) -> Iterator[str]:
    with fake.serve() as url:
        yield url


@pytest.mark.sockets
def test_every_request_is_recorded_as_a_call(fake: FakeOllama, url: str) -> None:
    result = run_load(at(arrival_times(50, 0.5)), host=url)
    assert (result.stop, result.planned, len(result.completed)) == ("finished", 25, 25)
    assert len(fake.requests) == 26
    assert [record.outcome for record in result.warm_up] == ["completed"]
    for each in result.requests:
        assert each.record.is_from_network
        assert each.record.response.output_tokens == 12
        assert each.time_to_first_token is not None
        assert 0 < each.schedule_delay < each.time_to_first_token <= each.latency
    assert result.error_rate == 0.0
    assert result.phases.keys() >= {"load", "prompt_eval", "eval", "client"}


@pytest.mark.sockets
def test_requests_are_sent_whatever_is_in_flight() -> None:
    arrived = threading.Event()

    def wait_for_all(_: float) -> None:
        arrived.wait(PATIENCE)

    slow = FakeModel("llama3.2", prompt=1.0)
    fake = FakeOllama([slow], realtime=True, sleep=wait_for_all)
    plan = at([0.0, 0.01, 0.02, 0.03, 0.04])

    def let_go() -> None:
        # A generator that waits for answers would send the second request never.
        while len(fake.requests) < len(plan):
            time.sleep(0.005)
        arrived.set()

    threading.Thread(target=let_go, daemon=True).start()
    with fake.serve() as url:
        result = run_load(plan, host=url, warms_up=False)
    assert arrived.is_set()
    assert (len(result.completed), result.most_in_flight) == (5, 5)


@pytest.mark.sockets
def test_a_server_that_is_not_there_is_told(url: str) -> None:
    with pytest.raises(
        LoadError, match=r"expected an Ollama server at http://127\.0\.0\.1:1, found"
    ):
        run_load(at([0.0]), host="127.0.0.1:1")


@pytest.mark.sockets
def test_redirects_are_not_followed(fake: FakeOllama, url: str) -> None:
    elsewhere = Reply(
        status=307, headers={"location": "http://127.0.0.1:1/api/chat"}, is_sized=True
    )
    fake.script("/api/chat", elsewhere)
    with pytest.raises(LoadError, match="redirects to another address: name that one"):
        run_load(at([0.0]), host=url)
    fake.script("/api/chat", elsewhere)
    result = run_load(at([0.0]), host=url, warms_up=False)
    assert (result.failed, result.errors) == (1, {"_OTHER": 1})
    assert len(fake.requests) == 2


@pytest.mark.sockets
def test_a_run_that_is_stopped_closes_its_requests(fake: FakeOllama, url: str) -> None:
    fake.fault("/api/chat", Fault(stall_at=10, stall=PATIENCE), times=3)
    switch = StopSwitch()

    def watch(progress: LoadProgress) -> None:
        if progress.in_flight == 3:
            switch.stop()

    result = run_load(
        at([0.0, 0.01, 0.02, 100.0]),
        host=url,
        warms_up=False,
        switch=switch,
        on_progress=watch,
    )
    assert (result.stop, result.planned, len(result.requests)) == ("interrupted", 4, 3)
    assert (result.unfinished, result.error_rate) == (3, None)
    assert {each.record.outcome for each in result.requests} == {"cancelled"}


@pytest.mark.sockets
def test_a_run_can_be_stopped_while_the_model_is_loaded(fake: FakeOllama, url: str) -> None:
    fake.fault("/api/chat", Fault(stall_at=0, stall=PATIENCE))
    switch = StopSwitch()

    def stop() -> None:
        while not fake.requests:
            time.sleep(0.005)
        switch.stop()

    threading.Thread(target=stop, daemon=True).start()
    began = time.monotonic()
    result = run_load(at([0.0]), host=url, switch=switch)
    assert (result.stop, result.requests, result.warm_up) == ("interrupted", (), ())
    assert result.pace.verdict == "unknown"
    assert time.monotonic() - began < PATIENCE
    assert len(fake.requests) == 1


# --- in virtual time ----------------------------------------------------------------------


def test_requests_are_sent_at_their_times() -> None:
    offsets = arrival_times(20, 10)
    result = in_process(at(offsets), service=0.01)
    assert [each.intended_at for each in result.requests] == pytest.approx(offsets)
    assert result.pace.verdict == "valid"
    assert result.pace.schedule_delay is not None
    assert result.pace.schedule_delay.max < 0.001
    assert result.pace.achieved_rate == pytest.approx(result.pace.intended_rate, rel=0.001)


def test_latency_counts_from_the_intended_time() -> None:
    # All at once, at a server with one slot.
    result = in_process(at([0.0] * 5), service=1.0)
    assert [each.latency for each in result.requests] == pytest.approx([1, 2, 3, 4, 5], abs=0.05)
    assert result.throughput == pytest.approx(1.0, rel=0.05)


def test_an_event_loop_that_is_held_up_is_generator_bound() -> None:
    class Blocking(OneSlot):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            loop: Any = asyncio.get_running_loop()
            loop.selector.now += 0.05
            return await super().handle_async_request(request)

    async def load() -> LoadResult:
        plan = at(arrival_times(40, 5))
        return await arun_load(plan, host=HOST, transport=Blocking(0.0), clock=clock)

    result = run(load())
    assert result.pace.verdict == "generator_bound"
    last = result.requests[-1]
    # The time that the generator lost is a part of the latency, not hidden.
    assert last.schedule_delay > 1
    assert last.latency > last.schedule_delay
    assert last.record.duration < 0.2


def test_a_session_waits_for_the_request_before_and_its_think_time() -> None:
    plan = [ask(0), ask(1, after=0, offset=2.0), ask(2, after=1, offset=0.5), ask(3, offset=0.2)]
    result = in_process(plan, service=1.0)
    by_position = {each.position: each for each in result.requests}
    for position, before, think in ((1, 0, 2.0), (2, 1, 0.5)):
        expected = by_position[before].ended_at + think
        assert by_position[position].intended_at == pytest.approx(expected)
        assert by_position[position].sent_at == pytest.approx(expected, abs=0.001)
    # The other one does not wait for any of them.
    assert by_position[3].sent_at == pytest.approx(0.2, abs=0.001)
    assert result.stop == "finished"


def test_a_session_goes_on_after_a_failure() -> None:
    fake = FakeOllama()
    fake.script("/api/chat", Reply.error(500, "crashed"))
    plan = [ask(0), ask(1, after=0)]
    result = in_process(plan, fake=fake, warms_up=False, max_error_rate=1.0)
    assert [each.outcome for each in result.requests] == ["failed", "completed"]


def test_a_server_that_does_not_keep_up_stops_the_run() -> None:
    result = in_process(at(arrival_times(10, 60)), service=0.2)
    assert result.stop == "saturated"
    assert result.stop_detail is not None
    assert result.stop_detail.startswith("requests in flight rose from ")
    assert len(result.requests) < result.planned
    assert result.unfinished > 10


def test_a_saturated_server_can_be_measured_to_the_end() -> None:
    result = in_process(
        at(arrival_times(10, 20)), service=0.2, stops_at_saturation=False, drain=100
    )
    assert (result.stop, len(result.completed)) == ("finished", 200)
    assert result.throughput == pytest.approx(5, rel=0.05)


def test_a_server_that_keeps_up_is_not_stopped() -> None:
    result = in_process(at(arrival_times(3, 60)), service=0.2)
    assert (result.stop, len(result.completed)) == ("finished", 180)


def test_what_has_not_ended_after_the_drain_is_cancelled_and_counted() -> None:
    result = in_process(at([0.0] * 5), service=3.0, drain=7.0, warms_up=False)
    assert (result.stop, len(result.completed), result.unfinished) == ("drained", 2, 3)
    assert result.stop_detail == "3 requests had not ended 7 s after the last one was sent"


def test_a_think_time_longer_than_the_drain_is_waited_for() -> None:
    plan = [ask(0), ask(1, after=0, offset=30.0)]
    result = in_process(plan, service=1.0, drain=5.0)
    assert (result.stop, len(result.completed)) == ("finished", 2)


def test_nothing_follows_a_request_that_was_cancelled() -> None:
    fake = FakeOllama()
    plan = [ask(0), ask(1, after=0)]
    result = in_process(plan, service=9.0, drain=5.0, fake=fake, warms_up=False)
    assert (result.stop, len(result.requests), result.unfinished) == ("drained", 1, 1)


def test_too_many_failures_stop_the_run() -> None:
    fake = FakeOllama()
    fake.fault("/api/chat", Fault(error_at=0), times=1000)
    result = in_process(at(arrival_times(10, 30)), fake=fake, warms_up=False)
    assert result.stop == "errors"
    assert result.stop_detail == "100% of the latest requests failed, and at most 10% are allowed"
    assert 20 <= result.failed < 40
    assert result.error_rate == 1.0
    assert sum(result.errors.values()) == result.failed


def test_failures_below_the_limit_are_counted_only() -> None:
    fake = FakeOllama()
    plan = at(arrival_times(10, 30))
    fake.fault("/api/chat", Fault(error_at=0), times=15)
    result = in_process(plan, fake=fake, warms_up=False, max_error_rate=1.0)
    assert (result.stop, result.failed, len(result.completed)) == ("finished", 15, 285)
    assert result.latency is not None and result.latency.count == 285


def test_every_model_is_warmed_up_once() -> None:
    fake = FakeOllama()
    models = ["llama3.2", "qwen3", "llama3.2"]
    plan = [ask(number, model=model) for number, model in enumerate(models)]
    result = in_process(plan, fake=fake)
    assert [record.start.request.model for record in result.warm_up] == ["llama3.2", "qwen3"]
    assert len(result.requests) == 3
    assert not any(each.record.cold_start for each in result.requests)


def test_a_model_that_is_not_there_is_told_before_the_run() -> None:
    fake = FakeOllama()
    with pytest.raises(LoadError, match=r"did not complete: model 'nope' not found"):
        in_process(at(arrival_times(10, 30), model="nope"), fake=fake)
    assert len(fake.requests) == 1


def test_progress_is_told_while_the_run_goes_on() -> None:
    told: list[LoadProgress] = []
    in_process(at(arrival_times(10, 10)), service=0.05, on_progress=told.append)
    assert len(told) >= 39
    assert [each.sent for each in told] == sorted(each.sent for each in told)
    last = told[-1]
    assert (last.planned, last.sent, last.ended, last.failed, last.in_flight) == (
        100,
        100,
        100,
        0,
        0,
    )
    assert last.intended_rate == pytest.approx(10, rel=0.05)
    assert last.achieved_rate == pytest.approx(last.intended_rate, rel=0.01)
    assert last.time_to_first_token is not None
    assert last.time_to_first_token.p50 >= 0.05


def test_an_answer_in_one_piece_has_no_first_token() -> None:
    told: list[LoadProgress] = []
    body = {**ask().body, "stream": False}
    plan = [TimedRequest(body=body, offset=number / 2) for number in range(4)]
    result = in_process(plan, on_progress=told.append)
    assert (len(result.completed), result.time_to_first_token) == (4, None)
    assert result.latency is not None
    assert told[-1].time_to_first_token is None


def test_a_queue_of_answers_in_one_piece_is_saturation_too() -> None:
    body = {**ask().body, "stream": False}
    plan = [TimedRequest(body=body, offset=at) for at in arrival_times(10, 60)]
    assert in_process(plan, service=0.3).stop == "saturated"


def test_the_first_part_of_an_error_is_no_first_token() -> None:
    fake, told = FakeOllama(), list[LoadProgress]()
    fake.fault("/api/chat", Fault(error_at=0), times=5)
    plan = at([number / 2 for number in range(5)])
    in_process(plan, fake=fake, warms_up=False, max_error_rate=1.0, on_progress=told.append)
    assert (told[-1].failed, told[-1].time_to_first_token) == (5, None)


def test_a_fault_of_an_observer_does_not_change_the_run(quiet_guard: None) -> None:
    class Faulty:
        def begin(self, start: object) -> None:
            raise ValueError("boom")

    assert len(in_process(at([0.0, 0.1]), observers=[Faulty()]).completed) == 2


def test_the_garbage_collector_is_as_it_was() -> None:
    frozen: list[int] = []
    in_process(at([0.0, 1.0]), on_progress=lambda _: frozen.append(gc.get_freeze_count()))
    assert min(frozen) > 0
    assert gc.get_freeze_count() == 0


# --- values -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "options", "told"),
    [
        ([], {}, "expected a plan with at least one request"),
        ([ask(path="/api/pull")], {}, "request 0: expected a route of inference"),
        ([ask(path="/api/tags")], {}, "request 0: expected a route of inference"),
        ([ask(offset=-1.0)], {}, "request 0: expected an offset of at least 0 seconds"),
        ([ask(), ask(after=1)], {}, "request 1: expected `after` to be the position of an earlier"),
        ([ask()], {"drain": -1.0}, "expected drain to be at least 0 seconds"),
        ([ask()], {"max_error_rate": 2.0}, "expected max_error_rate to be from 0 to 1"),
        ([ask()], {"host": "h:port"}, "expected the address of an Ollama server"),
    ],
)
def test_what_cannot_be_used_is_an_error(
    plan: list[TimedRequest], options: dict[str, Any], told: str
) -> None:
    with pytest.raises(SettingsError, match=told):
        run_load(plan, **{"host": "127.0.0.1:1", **options})
