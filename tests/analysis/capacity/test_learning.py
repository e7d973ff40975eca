"""What is learnt from calls of a simulated server is what that server was."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from ollama_otel.analysis import Workload
from ollama_otel.analysis._capacity.backtest import backtest
from ollama_otel.analysis._capacity.demand import Demand
from ollama_otel.analysis._capacity.server import ModelSpeed, ServerSetup, StepTimes
from ollama_otel.analysis._capacity.simulation import simulate
from ollama_otel.errors import AnalysisError

from .simulated_log import START, poisson, rows_of

SPEED = ModelSpeed(
    step=StepTimes(((1, 0.0015), (2, 0.0025), (4, 0.0042))),
    step_per_context_token=3.5e-6,
    prefill=0.002,
    prefill_per_token=0.00075,
    load=0.3,
)


def log(demands: list[Demand], **changed: Any) -> list[dict[str, Any]]:
    models = {demand.model: SPEED for demand in demands}
    setup = ServerSetup(**({"models": models, "num_parallel": 4} | changed))
    return rows_of(simulate(demands, setup).ends)


def test_the_speed_of_a_model_is_learnt_from_its_calls() -> None:
    learnt = Workload.from_rows(log(poisson(6, 400))).models["m"]
    step, speed = learnt.speed.step, learnt.speed
    for calls in (1, 2, 3, 4):
        assert step.at(calls) == pytest.approx(SPEED.step.at(calls), rel=0.05)
    assert speed.step_per_context_token == pytest.approx(3.5e-6, rel=0.15)
    assert speed.prompt_time(100) == pytest.approx(SPEED.prompt_time(100), rel=0.05)
    assert speed.load == pytest.approx(0.3, rel=0.01)
    assert learnt.overhead == pytest.approx(0.002)
    assert (learnt.before_first, learnt.after_last) == (
        pytest.approx(0.003, abs=1e-4),
        pytest.approx(0.001, abs=1e-4),
    )


@pytest.mark.parametrize("interference", [0.0, 0.3, 1.0])
def test_how_models_slow_each_other_is_learnt(interference: float) -> None:
    rows = log(poisson(3, 600, ("a", "b")), interference=interference)
    workload = Workload.from_rows(rows)
    assert workload.interference == pytest.approx(interference, abs=0.05)
    for model in workload.models.values():
        assert model.speed.step.at(1) == pytest.approx(0.0015, rel=0.05)
        assert model.speed.prompt_time(100) == pytest.approx(SPEED.prompt_time(100), rel=0.08)


def test_prompts_in_the_cache_are_told_from_others() -> None:
    demands = [
        replace(demand, new_tokens=5.0 if number % 2 else None)
        for number, demand in enumerate(poisson(2, 300, prompt=(100, 300)))
    ]
    workload = Workload.from_rows(log(demands))
    assert workload.models["m"].speed.prefill_per_token == pytest.approx(0.00075, rel=0.05)
    prompts = workload._evidence["m"].prompts
    for number, demand in enumerate(workload.demands[10:], start=10):
        new = 5.0 if number % 2 else demand.prompt_tokens
        if prompts[number].is_alone:
            assert demand.new_tokens == pytest.approx(new, rel=0.1, abs=4)
    shares = [demand.new_tokens / demand.prompt_tokens for demand in workload.demands]
    assert sum(shares) / len(shares) == pytest.approx(0.52, abs=0.05)


def test_embeddings_have_one_slot_and_no_generation() -> None:
    demands = [replace(demand, output_tokens=1) for demand in poisson(2, 100, prompt=(10, 100))]
    rows = [row | {"operation": "embed", "eval_duration": None} for row in log(demands)]
    for row in rows:
        row["prompt_eval_duration"] = row["output_tokens"] = None
    learnt = Workload.from_rows(rows).models["m"]
    assert (learnt.most_calls, learnt.speed.is_serial) == (0, True)
    assert learnt.speed.prompt_time(50) == pytest.approx(SPEED.prompt_time(50) + 0.002, rel=0.1)


# --- settings of the server ---------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_slots_are_those_that_were_used_while_calls_waited(slots: int) -> None:
    workload = Workload.from_rows(log(poisson(7, 300), num_parallel=slots))
    assert (workload.num_parallel, workload.is_num_parallel_known) == (slots, True)


def test_without_waits_there_may_be_more_slots() -> None:
    workload = Workload.from_rows(log(poisson(0.5, 100), num_parallel=8))
    assert workload.num_parallel <= 2
    assert not workload.is_num_parallel_known
    told = Workload.from_rows(log(poisson(0.5, 100), num_parallel=8), num_parallel=8)
    assert (told.num_parallel, told.is_num_parallel_known) == (8, True)


def test_models_in_memory_at_once_are_counted_if_some_were_evicted() -> None:
    rows = log(poisson(1, 200, ("a", "b", "c")), max_loaded=2)
    assert Workload.from_rows(rows).max_loaded == 3  # the default, as nothing says more
    seen: set[str] = set()
    for row in rows:
        if row["cold_start"] and row["model"] in seen:
            row["reload_cause"] = "evicted"
        seen.add(row["model"])
    assert Workload.from_rows(rows).max_loaded == 2
    assert Workload.from_rows(rows, max_loaded=1).max_loaded == 1


def test_loads_one_after_the_other_are_told_apart() -> None:
    demands = [
        Demand(arrives_at=0.01 * number, model=model) for number, model in enumerate("abcaa")
    ]
    workload = Workload.from_rows(log(demands))
    assert [model.speed.load for model in workload.models.values()] == pytest.approx([0.3] * 3)


def test_a_model_that_was_never_loaded_was_in_memory_at_the_start() -> None:
    rows = log(poisson(1, 60))[5:]
    workload = Workload.from_rows(rows)
    assert workload.warm == {"m": ""}
    assert not workload.models["m"].has_load
    assert "m was never loaded in these calls; its load time is taken as 0." in workload.notes


def test_think_time_is_the_pause_within_a_conversation() -> None:
    rows = log(poisson(0.05, 30))
    for number, row in enumerate(rows):
        row["conversation_id"] = str(number // 10)
        row["started_at"] = START + timedelta(seconds=10 * number)
        row["duration"] = 4.0
    assert Workload.from_rows(rows).think_time == pytest.approx(6.0)


def test_the_size_in_memory_is_the_recorded_one() -> None:
    rows = [row | {"model_size": 77_000_000} for row in log(poisson(1, 20))]
    assert Workload.from_rows(rows).models["m"].speed.size == 77_000_000
    assert Workload.from_rows(log(poisson(1, 20))).models["m"].speed.size is None


# --- what is not known --------------------------------------------------------------------


def test_too_little_is_said() -> None:
    notes = Workload.from_rows(log(poisson(1, 20), num_parallel=1)).notes
    assert "There are 20 calls; forecasts from fewer than 50 are rough." in notes
    assert any("how calls slow each other is unknown" in note for note in notes)


def test_calls_that_cannot_be_used_are_said() -> None:
    rows = log(poisson(2, 60))
    rows[3] |= {"outcome": "abandoned", "total_duration": None}
    rows[4] |= {"total_duration": None}
    rows[5] |= {"outcome": "failed", "error_type": "server_busy", "total_duration": None}
    rows[6] |= {"served_by": "other"}
    workload = Workload.from_rows(rows)
    skips = workload.skips
    assert len(workload.demands) == 56
    assert (skips.not_completed, skips.no_timings, skips.busy) == (1, 1, 1)
    assert sum("load is missing" in note for note in workload.notes) == 2


def test_no_call_that_can_be_used_is_an_error() -> None:
    rows = [row | {"total_duration": None} for row in log(poisson(2, 3))]
    with pytest.raises(AnalysisError, match="0 were not completed, 3 have no timings"):
        Workload.from_rows(rows)


def test_changing_options_are_said_and_simulated() -> None:
    demands = [
        replace(demand, options=f'{{"num_ctx": {512 * (1 + number % 2)}}}')
        for number, demand in enumerate(poisson(0.5, 60))
    ]
    workload = Workload.from_rows(log(demands))
    assert any("each change reloads the model" in note for note in workload.notes)
    assert simulate(workload.demands, workload.setup()).loads == 60


# --- the recorded calls, simulated again --------------------------------------------------


@pytest.mark.parametrize("slots", [1, 4])
def test_recorded_calls_are_reproduced(slots: int) -> None:
    workload = Workload.from_rows(log(poisson(3, 500, ("a", "b")), num_parallel=slots))
    found = backtest(workload)
    pairs = (found.duration_p50, found.duration_p95, found.first_token_p50, found.first_token_p95)
    for pair in pairs:
        assert pair is not None
        assert pair.error == pytest.approx(0.0, abs=0.06)
