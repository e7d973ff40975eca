"""The simulated server keeps the rules of Ollama's scheduler and of queueing theory."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_otel.analysis._capacity.demand import CallEnd, Demand
from ollama_otel.analysis._capacity.server import ModelSpeed, ServerSetup, StepTimes
from ollama_otel.analysis._capacity.simulation import SimulatedRun, simulate
from tests.examples import examples

STEP = StepTimes(((1, 0.01), (4, 0.02)))
FLAT = StepTimes(((1, 0.001),))


def speed(**changed: object) -> ModelSpeed:
    chosen = {"step": STEP, "prefill": 0.01, "prefill_per_token": 0.001, "load": 2.0, "unload": 0.1}
    return ModelSpeed(**(chosen | changed))


def setup(*models: str, **changed: object) -> ServerSetup:
    return ServerSetup(**({"models": {model: speed() for model in models or ("m",)}} | changed))


def call(at: float, model: str = "m", **more: object) -> Demand:
    return Demand(arrives_at=at, model=model, **({"output_tokens": 11.0} | more))


def in_order(run: SimulatedRun) -> list[CallEnd]:
    return sorted(run.ends, key=lambda end: end.demand.arrives_at)


# --- queueing theory ----------------------------------------------------------------------


def erlang_c(servers: int, load: float) -> float:
    """The share of calls that wait, with so many servers and `load` of them busy on average."""
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = load * blocked / (number + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def exponentials(chance: random.Random, count: int, mean: float) -> list[float]:
    """Random numbers with exactly this mean: with any other one the waits vary by a tenth."""
    drawn = [chance.expovariate(1.0) for _ in range(count)]
    factor = mean * count / sum(drawn)
    return [each * factor for each in drawn]


def waits_of_queue(calls: list[Demand], slots: int) -> Iterator[float]:
    """The waits by the recursion of Kiefer and Wolfowitz: each call takes the first free slot."""
    free = [0.0] * slots
    for each in calls:
        start = max(heappop(free), each.arrives_at)
        heappush(free, start + (each.output_tokens - 1) / 1000)
        yield start - each.arrives_at


@pytest.mark.slow
@pytest.mark.parametrize(("slots", "load"), [(1, 0.5), (1, 0.8), (2, 0.7), (4, 0.8), (8, 0.8)])
def test_waits_are_those_of_queueing_theory_within_five_percent(slots: int, load: float) -> None:
    chance = random.Random(14)
    rate, count = load * slots, 120_000
    times = accumulate(exponentials(chance, count, 1 / rate))
    services = exponentials(chance, count, 1.0)
    calls = [
        call(at, output_tokens=1 + 1000 * each) for at, each in zip(times, services, strict=True)
    ]
    run = simulate(calls, ServerSetup(models={"m": ModelSpeed(step=FLAT)}, num_parallel=slots))
    waits = [end.queue for end in in_order(run)]
    expected = waits_of_queue(calls, slots)
    assert max(abs(wait - each) for wait, each in zip(waits, expected, strict=True)) < 1e-3
    share = erlang_c(slots, rate)
    assert sum(waits) / count == pytest.approx(share / (slots - rate), rel=0.05)
    assert sum(wait > 1e-6 for wait in waits) / count == pytest.approx(share, rel=0.05)
    durations = sum(end.duration for end in run.ends) / count
    assert durations == pytest.approx(1 + share / (slots - rate), rel=0.05)


# --- one model ----------------------------------------------------------------------------


def test_a_call_alone_has_the_time_of_its_phases() -> None:
    demand = call(
        1.0, prompt_tokens=100, new_tokens=10, overhead=0.1, before_first=0.02, after_last=0.03
    )
    (end,) = simulate([demand], setup()).ends
    # A slot's first prompt after a load has nothing in the cache.
    assert (end.load, end.queue) == (2.0, 0.0)
    assert end.prefill == pytest.approx(0.01 + 100 * 0.001)
    assert end.decode == pytest.approx(10 * 0.01)
    assert end.time_to_first_token == pytest.approx(0.02 + 2.0 + 0.1 + 0.11)
    assert end.duration == pytest.approx(end.time_to_first_token + 0.1 + 0.03)
    assert end.ended_at == pytest.approx(1.0 + 2.0 + 0.1 + 0.11 + 0.1)


def test_cached_tokens_of_a_prompt_are_not_evaluated_again() -> None:
    first, second = in_order(
        simulate([call(0, prompt_tokens=100), call(9, prompt_tokens=100, new_tokens=1)], setup())
    )
    assert first.prefill == pytest.approx(0.11)
    assert second.prefill == pytest.approx(0.011)


def test_calls_in_flight_together_take_the_step_of_their_number() -> None:
    calls = [call(5, output_tokens=101), call(5, output_tokens=101), call(0, output_tokens=1)]
    run = simulate(calls, setup(num_parallel=4, models={"m": speed(prefill=0.0)}))
    _, *pair = in_order(run)
    assert [end.decode for end in pair] == pytest.approx([100 * (0.01 + 0.01 / 3)] * 2)


def test_generation_pauses_for_the_prompt_of_another_call() -> None:
    calls = [call(0, output_tokens=101), call(2.5, prompt_tokens=490, output_tokens=1)]
    first, second = in_order(simulate(calls, setup(num_parallel=2)))
    assert second.prefill == pytest.approx(0.5)
    # One step takes place beside the prompt, for each 512 tokens of it.
    assert first.decode == pytest.approx(100 * 0.01 + 0.5, abs=0.02)


def test_a_full_server_queues_calls_without_a_limit() -> None:
    calls = [call(0), *(call(5, output_tokens=1001) for _ in range(2000))]
    run = simulate(calls, setup(max_queue=1, models={"m": speed(prefill=0.0)}))
    assert {end.outcome for end in run.ends} == {"completed"}
    assert max(end.queue for end in run.ends) == pytest.approx(1999 * 10, rel=0.01)


# --- loads --------------------------------------------------------------------------------


def test_a_full_queue_of_the_scheduler_refuses_calls_for_models_that_are_not_loaded() -> None:
    run = simulate([call(0), call(0.1), call(0.2), call(0.3)], setup(max_queue=2))
    assert [end.outcome for end in in_order(run)] == ["completed"] * 3 + ["busy"]
    assert run.longest_queue == 2


def test_one_load_at_a_time_and_loaded_models_pass() -> None:
    server = setup("a", "b", "c")
    calls = [call(0, "a"), call(10, "b"), call(10.1, "c"), call(10.2, "a")]
    _, b, c, a = in_order(simulate(calls, server))
    assert (b.load, c.load) == (pytest.approx(2.0), pytest.approx(3.9))
    assert a.load == 0.0


def test_the_queue_of_the_scheduler_is_in_order_whoever_could_go_first() -> None:
    server = setup("a", "b", max_loaded=1)
    calls = [call(0, "a", output_tokens=1001), call(3, "b"), call(14, "a")]
    first, b, again = in_order(simulate(calls, server))
    assert first.duration == pytest.approx(12.01)
    assert b.load == pytest.approx(first.ended_at + 0.1 + 2.0 - 3)
    assert again.load == pytest.approx(b.ended_at + 0.1 + 2.0 - 14)


def test_calls_pass_a_model_that_will_be_evicted_while_others_use_it() -> None:
    server = setup("a", "b", max_loaded=1, num_parallel=2)
    calls = [call(0, "a", output_tokens=1001), call(3, "b"), call(4, "a", output_tokens=1001)]
    _, b, passing = in_order(simulate(calls, server))
    assert passing.load == 0.0
    assert b.load > passing.ended_at - 3


def test_a_keep_alive_of_a_call_keeps_a_model_that_was_to_be_evicted() -> None:
    server = setup("a", "b", max_loaded=1)
    calls = [
        call(0, "a", output_tokens=1001),
        call(3, "b"),
        call(4, "a", keep_alive=60.0),
    ]
    _, b, passing = in_order(simulate(calls, server))
    assert b.load == pytest.approx(passing.ended_at + 60.0 + 0.1 + 2.0 - 3)


def test_the_idle_model_with_the_shortest_keep_alive_is_evicted() -> None:
    server = setup("a", "b", "c", max_loaded=2)
    calls = [
        call(0, "a", keep_alive=100.0),
        call(5, "b", keep_alive=50.0),
        call(10, "c"),
        call(15, "a"),
        call(20, "b"),
    ]
    run = simulate(calls, server)
    assert [end.load > 0 for end in in_order(run)] == [True, True, True, False, True]
    assert run.loads == 4


def test_a_model_is_evicted_if_another_one_does_not_fit_in_the_memory() -> None:
    models = {"a": speed(size=50), "b": speed(size=41), "c": speed(size=40)}
    calls = [call(0, "a"), call(5, "c"), call(10, "a")]
    assert simulate(calls, setup(models=models, memory=100)).loads == 2
    calls = [call(0, "a"), call(5, "b"), call(10, "a")]
    assert simulate(calls, setup(models=models, memory=100)).loads == 3


def test_other_options_reload_a_model() -> None:
    calls = [call(0, options="512"), call(5, options="1024"), call(10, options="1024")]
    assert [end.load for end in in_order(simulate(calls, setup()))] == [
        2.0,
        pytest.approx(2.1),
        0.0,
    ]


def test_a_model_leaves_when_its_keep_alive_is_over() -> None:
    calls = [call(0, keep_alive=5.0), call(6), call(20), call(400)]
    loads = [end.load > 0 for end in in_order(simulate(calls, setup()))]
    assert loads == [True, False, True, True]


def test_engines_that_work_at_once_slow_each_other() -> None:
    calls = [
        call(0, "a", output_tokens=1),
        call(3, "b", output_tokens=1),
        *(call(10, model, output_tokens=101) for model in "ab"),
    ]
    for interference in (0.0, 0.5, 1.0):
        run = simulate(calls, setup("a", "b", interference=interference))
        for end in in_order(run)[2:]:
            assert end.duration == pytest.approx((0.01 + 1.0) * (1 + interference))


def test_a_model_that_only_embeds_has_one_slot() -> None:
    calls = [call(0, output_tokens=1), *(call(5, output_tokens=1, overhead=1.0) for _ in range(3))]
    run = simulate(calls, setup(num_parallel=4, models={"m": speed(is_serial=True)}))
    assert [round(end.queue, 2) for end in in_order(run)[1:]] == [0.0, 1.01, 2.02]


# --- closed loops and limits --------------------------------------------------------------


def test_a_user_asks_again_when_the_answer_is_there() -> None:
    def then(end: CallEnd) -> Demand | None:
        return call(end.ended_at + 1.0) if len(times) < 5 else None

    times: list[float] = []

    def counted(end: CallEnd) -> Demand | None:
        times.append(end.ended_at)
        return then(end)

    run = simulate([call(0)], setup(), then=counted)
    assert len(run.ends) == 5
    assert [later - earlier for earlier, later in pairwise(times)] == pytest.approx([1.11] * 4)


def test_a_run_is_cut_at_its_limit() -> None:
    run = simulate([call(0), call(50)], setup(), until=10.0)
    assert (len(run.ends), run.seconds) == (1, 10.0)


# --- what always holds --------------------------------------------------------------------

MODELS = ("a", "b", "c")
DEMANDS = st.lists(
    st.builds(
        Demand,
        arrives_at=st.floats(0, 30),
        model=st.sampled_from(MODELS),
        prompt_tokens=st.floats(0, 1000),
        new_tokens=st.none() | st.floats(0, 100),
        output_tokens=st.floats(0, 200),
        overhead=st.sampled_from([0.0, 0.05]),
        options=st.sampled_from(["", "num_ctx 1024"]),
        keep_alive=st.none() | st.sampled_from([0.0, 1.0, 60.0]),
    ),
    max_size=40,
)
SETUPS = st.builds(
    ServerSetup,
    models=st.just({model: speed(size=30) for model in MODELS}),
    num_parallel=st.integers(1, 4),
    max_loaded=st.integers(0, 3),
    max_queue=st.integers(0, 6),
    keep_alive=st.sampled_from([0.0, 2.0, 300.0]),
    memory=st.none() | st.just(80),
    interference=st.sampled_from([0.0, 1.0]),
)


def overlaps(spans: Iterable[tuple[float, float]]) -> int:
    edges = sorted(
        (time, change) for begin, end in spans for time, change in ((begin, 1), (end, -1))
    )
    most = now = 0
    for _, change in edges:
        now += change
        most = max(most, now)
    return most


def slot_time(end: CallEnd) -> tuple[float, float]:
    # The ends of two calls may be one rounding error apart.
    return end.demand.arrives_at + end.load + end.queue + 1e-9, end.ended_at


@pytest.mark.slow
@settings(max_examples=examples(300))
@given(DEMANDS, SETUPS)
def test_whatever_comes(demands: list[Demand], server: ServerSetup) -> None:
    run = simulate(demands, server)
    # Each call ends once, and its phases fill its time.
    assert sorted(map(id, demands)) == sorted(id(end.demand) for end in run.ends)
    for end in run.ends:
        demand = end.demand
        phases = (end.load, end.queue, end.prefill, end.decode)
        assert min(phases) >= -1e-9
        if end.outcome == "completed":
            assert end.ended_at - demand.arrives_at == pytest.approx(sum(phases) + demand.overhead)
    served = [end for end in run.ends if end.outcome == "completed"]
    if not run.longest_queue or run.longest_queue < server.max_queue:
        assert server.max_queue == 0 or len(served) == len(demands)
    for model in MODELS:
        own = [end for end in served if end.demand.model == model]
        # No more than the slots are used, and slots are given in the order in which calls asked.
        assert overlaps(map(slot_time, own)) <= server.num_parallel
        asked = sorted(own, key=lambda end: (round(end.demand.arrives_at + end.load, 6), end.queue))
        got = [slot_time(end)[0] for end in asked]
        assert all(later >= earlier - 1e-6 for earlier, later in pairwise(got))
        # No call waits for a slot while one is free.
        for end in own:
            if end.queue > 1e-6:
                ready = end.demand.arrives_at + end.load
                spans = [slot_time(other) for other in own if other is not end]
                busy = [(max(b, ready), e) for b, e in spans if b <= ready + 1e-6 < e]
                assert len(busy) == server.num_parallel
    assert run == simulate(demands, server)


@settings(max_examples=examples(50))
@given(DEMANDS)
def test_a_server_with_one_slot_and_one_model_does_all_its_work_without_a_pause(
    demands: list[Demand],
) -> None:
    calls = [
        Demand(arrives_at=0.0, model="a", output_tokens=each.output_tokens) for each in demands
    ]
    run = simulate(calls, setup("a"))
    work = sum(0.01 + 0.01 * max(0.0, each.output_tokens - 1) for each in calls)
    if calls:
        assert run.seconds == pytest.approx(2.0 + work)
        assert run.prefill_time + run.decode_time == pytest.approx(work)
