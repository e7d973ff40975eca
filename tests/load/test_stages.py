"""Equal runs of one rate, and the knee of a server, in virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from ollama_otel._load.knee import Knee
from ollama_otel._load.stages import StageResult, Targets, find_knee, run_stage
from ollama_otel._load.verdict import Pace
from ollama_otel.load import TimedRequest, at_rate, prompt_requests
from ollama_otel.testing import FakeOllama, Fault

from .virtual_time import OneSlot, clock, run

pytestmark = pytest.mark.slow

REQUESTS = prompt_requests(["{n}"], 500, model="llama3.2")


def plans(duration: float) -> Any:
    def plan(rate: float | None, number: int) -> Sequence[TimedRequest]:
        assert rate is not None
        return at_rate(REQUESTS, rate, duration, seed=number)

    return plan


def stage(
    rate: float, *, repeat: int = 1, duration: float = 20.0, service: float = 0.1, **options: Any
) -> StageResult:
    async def load() -> StageResult:
        return await run_stage(
            plans(duration),
            rate,
            repeat=repeat,
            host="http://ollama.test:1",
            transport=OneSlot(service),
            clock=clock,
            **options,
        )

    return run(load())


def search(
    first: float, targets: Targets, *, service: float = 0.1, duration: float = 20.0
) -> tuple[list[StageResult], Knee]:
    async def load() -> tuple[list[StageResult], Knee]:
        async def one(rate: float) -> StageResult:
            return await run_stage(
                plans(duration),
                rate,
                host="http://ollama.test:1",
                transport=OneSlot(service),
                clock=clock,
            )

        found = [each async for each in find_knee(one, first, targets)]
        return [result for result, _ in found], found[-1][1]

    return run(load())


def test_equal_runs_give_a_mean_with_its_confidence() -> None:
    result = stage(5.0, repeat=3)
    assert len(result.runs) == 3
    # Each has other arrivals.
    assert len({run.requests[0].intended_at for run in result.runs}) == 3
    estimate = result.latency_p95
    assert estimate is not None and estimate.low is not None and estimate.high is not None
    assert estimate.count == 3
    assert estimate.low < estimate.mean < estimate.high
    assert result.throughput is not None
    assert result.throughput.mean == pytest.approx(5, rel=0.05)
    assert result.verdict == "valid"
    assert result.broken_by(Targets()) is None


def test_a_run_that_did_not_finish_is_not_repeated() -> None:
    result = stage(30.0, repeat=3, duration=60.0)
    assert [run.stop for run in result.runs] == ["saturated"]
    assert result.broken_by(Targets()) == result.runs[0].stop_detail


def test_a_stage_breaks_a_target_that_its_mean_exceeds() -> None:
    result = stage(5.0)
    assert result.broken_by(Targets(latency=10.0, time_to_first_token=10.0)) is None
    broken = result.broken_by(Targets(time_to_first_token=0.05))
    assert broken is not None
    assert broken.startswith("p95 time to first token was ")
    assert broken.endswith(", and the target is 0.05 s")


def test_a_target_that_no_request_has_a_value_for_is_broken() -> None:
    fake = FakeOllama()
    fake.fault("/api/chat", Fault(error_at=0), times=100)

    async def load() -> StageResult:
        return await run_stage(
            plans(1.0),
            5.0,
            host="http://ollama.test:1",
            transport=OneSlot(0.1, fake),
            clock=clock,
            warms_up=False,
            max_error_rate=1.0,
        )

    result = run(load())
    assert result.broken_by(Targets(latency=1.0)) == "no request has a latency"


@pytest.mark.parametrize("first", [0.5, 3.0, 40.0])
def test_the_knee_of_a_server_is_found(first: float) -> None:
    """Ten requests per second are all that it can do, and at nine the queue is long."""
    stages, knee = search(first, Targets(time_to_first_token=0.5), duration=40.0)
    assert knee.is_found
    assert knee.holds is not None
    assert 6.5 < knee.holds < 9.7
    assert len(stages) <= 11


def test_without_a_target_the_knee_is_where_the_server_no_longer_keeps_up() -> None:
    _, knee = search(2.0, Targets(), duration=50.0)
    assert knee.is_found
    assert knee.holds is not None
    assert 9 < knee.holds < 14


def with_verdict(result: StageResult, verdict: Any) -> StageResult:
    """The same stage as if the generator had been late."""
    [only] = result.runs
    made = replace(only)
    pace = only.pace
    made.__dict__["pace"] = Pace(
        verdict=verdict,
        reason=pace.reason,
        schedule_delay=pace.schedule_delay,
        intended_rate=pace.intended_rate,
        achieved_rate=pace.achieved_rate,
    )
    return StageResult(rate=result.rate, runs=(made,))


def test_a_rate_that_was_not_sent_on_time_is_tried_again_and_proves_nothing() -> None:
    good = stage(1.0, duration=5.0)
    late = with_verdict(good, "generator_bound")
    tried: list[float] = []

    async def one(rate: float) -> StageResult:
        tried.append(rate)
        # Late at 2.0, once at first and always at 4.0.
        is_late = rate == 4.0 or (rate == 2.0 and tried.count(2.0) == 1)
        return late if is_late else good

    async def load() -> Knee:
        return [each async for each in find_knee(one, 1.0, Targets())][-1][1]

    assert run(load()) == Knee(holds=2.0, breaks=None)
    assert tried == [1.0, 2.0, 2.0, 4.0, 4.0, 4.0]


def test_an_interrupted_stage_ends_the_search() -> None:
    interrupted = stage(1.0, duration=5.0)
    [only] = interrupted.runs
    interrupted = StageResult(rate=1.0, runs=(replace(only, stop="interrupted"),))

    async def one(_: float) -> StageResult:
        return interrupted

    async def load() -> list[Knee]:
        return [knee async for _, knee in find_knee(one, 1.0, Targets())]

    assert run(load()) == [Knee(holds=None, breaks=None)]
