"""Forecasts, against what the simulated server of the log would really do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ollama_otel.analysis import (
    Backtest,
    Pair,
    Scenario,
    Workload,
    capacity,
    forecast,
    load_curve,
    open_log,
    users_within,
)
from ollama_otel.analysis._capacity.quantiles import quantile
from ollama_otel.analysis._capacity.server import ServerSetup
from ollama_otel.analysis._capacity.simulation import simulate

from .simulated_log import poisson, write_log
from .test_learning import SPEED, log

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def light() -> Workload:
    return Workload.from_rows(log(poisson(2.5, 1000)))


@pytest.mark.parametrize(("rate", "slots"), [(2.5, 4), (4.5, 4), (3.5, 1), (4.0, 2)])
def test_a_heavier_run_is_forecast_from_a_light_one(
    light: Workload, rate: float, slots: int
) -> None:
    setup = ServerSetup(models={"m": SPEED}, num_parallel=slots)
    ends = simulate(poisson(rate, 1000), setup).ends
    found = forecast(light, Scenario(load=rate / 2.5, num_parallel=slots))
    for share, estimate in ((0.5, found.duration.p50), (0.95, found.duration.p95)):
        real = quantile([end.duration for end in ends], share)
        assert estimate.value == pytest.approx(real, rel=0.15)
    real = quantile([end.time_to_first_token for end in ends], 0.95)
    assert found.time_to_first_token.p95.value == pytest.approx(real, rel=0.25)
    assert found.throughput.value == pytest.approx(rate, rel=0.1)
    assert not found.is_saturated


def test_equal_arguments_give_equal_forecasts(light: Workload) -> None:
    assert forecast(light, runs=2) == forecast(light, runs=2)
    assert forecast(light, runs=2, seed=1) != forecast(light, runs=2, seed=2)


def test_a_server_that_does_not_keep_up_is_saturated(light: Workload) -> None:
    found = forecast(light, Scenario(load=10.0), runs=3)
    assert found.is_saturated
    assert found.throughput.value < 0.6 * found.arrivals.value
    assert found.limit == "decode"


def test_faster_hardware_is_faster(light: Workload) -> None:
    now = forecast(light, Scenario(load=2.0), runs=3)
    decode = forecast(light, Scenario(load=2.0, decode_speed=2.0), runs=3)
    prefill = forecast(light, Scenario(load=2.0, prefill_speed=4.0), runs=3)
    assert decode.duration.p50.value < 0.8 * now.duration.p50.value
    assert prefill.time_to_first_token.p50.value < 0.7 * now.time_to_first_token.p50.value


def test_the_mix_of_models_changes_what_is_loaded() -> None:
    workload = Workload.from_rows(log(poisson(1, 200, ("a", "b"))))
    both = forecast(workload, Scenario(max_loaded=1), runs=3)
    one = forecast(workload, Scenario(max_loaded=1, mix={"a": 1.0}), runs=3)
    assert both.load_wait.p95.value > 0.2
    assert both.limit == "loads"
    assert one.load_wait.p95.value == 0.0
    with pytest.raises(ValueError, match="mix: expected models with recorded calls \\(a, b\\)"):
        forecast(workload, Scenario(mix={"c": 1.0}), runs=1)


def test_a_full_queue_refuses_calls() -> None:
    workload = Workload.from_rows(log(poisson(4, 200, ("a", "b"))))
    assert forecast(workload, Scenario(max_loaded=1, max_queue=1), runs=3).refused.value > 0.1
    assert forecast(workload, Scenario(max_loaded=2), runs=3).refused.value == 0.0


def test_an_unknown_slow_down_of_calls_in_flight_is_a_range() -> None:
    alone = Workload.from_rows(log(poisson(2.5, 300), num_parallel=1))
    found = forecast(alone, Scenario(load=2.0, num_parallel=4))
    setup = ServerSetup(models={"m": SPEED}, num_parallel=4)
    ends = simulate(poisson(5, 1000), setup).ends
    real = quantile([end.duration for end in ends], 0.95)
    assert found.duration.p95.low < real < found.duration.p95.high


def test_the_knee_is_where_the_waits_begin(light: Workload) -> None:
    curve = load_curve(light, runs=3)
    loads = [point.scenario.load for point in curve.points]
    assert loads == sorted(loads)
    assert curve.points[-1].is_saturated
    assert curve.knee is not None
    slow = 2 * curve.points[0].duration.p95.value
    for point in curve.points:
        if point.scenario.load <= curve.knee.low:
            assert point.duration.p95.value <= slow
        elif point.scenario.load == curve.knee.high:
            assert point.is_saturated or point.duration.p95.value > slow


def test_more_users_than_the_limit_wait_longer(light: Workload) -> None:
    scenario = Scenario(think_time=2.0)
    most = users_within(light, 0.3, scenario)
    users = int(most.users.value)
    assert users > 1
    fewer = forecast(light, Scenario(users=max(1, users // 2), think_time=2.0))
    more = forecast(light, Scenario(users=users * 2, think_time=2.0))
    assert fewer.time_to_first_token.p95.value < 0.3 < more.time_to_first_token.p95.value
    assert users_within(light, 1e-4, scenario).users.value == 0


def test_users_in_a_closed_loop_wait_for_their_answers(light: Workload) -> None:
    one = forecast(light, Scenario(users=1, think_time=0.0), runs=3)
    assert one.queue.p99.value == 0.0
    ten = forecast(light, Scenario(users=10, think_time=0.0), runs=3)
    # Little's law: users are either served or wait.
    mean = 10 / ten.throughput.value
    assert ten.duration.p50.value < mean * 1.3
    assert not ten.is_saturated


def test_the_answer_is_said_in_words(light: Workload) -> None:
    answer = capacity(light, Scenario(think_time=5.0, num_parallel=1), time_to_first_token=0.5)
    first, second, third, *_ = answer.sentences
    assert first.startswith("With NUM_PARALLEL 1 it serves ")
    assert "at p95 first token under 0.5 s, who think 5 s between calls; " in first
    assert second.startswith("NUM_PARALLEL ")
    assert third.startswith("The knee is at ")
    assert [limit.scenario.num_parallel for limit in answer.users] == [1, 2, 4, 8]


@pytest.mark.parametrize(
    ("error", "first"),
    [
        (0.05, "With NUM_PARALLEL"),
        (0.2, "These numbers are rough: .* p95 first token is +20% off."),
        (1.02, "Do not rely on these numbers: .* p95 first token is +102% off."),
        (-0.5, "Do not rely on these numbers: .* p95 first token is -50% off."),
    ],
)
def test_a_forecast_that_does_not_fit_the_recorded_calls_says_so_first(
    light: Workload, error: float, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Pair(recorded=1.0, simulated=1.0)
    wrong = Pair(recorded=1.0, simulated=1.0 + error)
    check = Backtest(
        duration_p50=right, duration_p95=right, first_token_p50=right, first_token_p95=wrong
    )
    monkeypatch.setattr("ollama_otel.analysis._capacity.answer.backtest", lambda _workload: check)
    answer = capacity(light, Scenario(think_time=5.0), time_to_first_token=0.5)
    assert re.match(first.replace("+", r"\+"), answer.sentences[0])


def test_only_calls_that_are_left_out_are_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = ServerSetup(models={"m": SPEED})
    path = write_log(tmp_path / "calls.jsonl", simulate(poisson(1.0, 60), setup).ends)
    for most, notes in ((60, []), (59, ["Only the latest 59 calls are used."])):
        monkeypatch.setattr("ollama_otel.analysis._capacity.workload._MOST_CALLS", most)
        with open_log(path) as calls:
            learnt = Workload.from_calls(calls)
        assert [note for note in learnt.notes if "latest" in note] == notes


def test_a_limit_that_nobody_meets_is_said(light: Workload) -> None:
    answer = capacity(light, time_to_first_token=0.001)
    assert answer.sentences[0].startswith("With NUM_PARALLEL 4 it serves no user at p95")


@pytest.mark.parametrize(
    "wrong",
    [
        {"load": 0.0},
        {"decode_speed": -1.0},
        {"users": 0},
        {"num_parallel": 0},
        {"think_time": -1.0},
        {"mix": {}},
        {"mix": {"a": 0.0}},
    ],
)
def test_scenarios_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}: expected"):
        Scenario(**wrong)
