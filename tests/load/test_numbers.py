"""Percentiles, confidence, and the verdict on the generator."""

from __future__ import annotations

import random
from statistics import quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel._load.confidence import estimate_of, slope_of, student_t
from ollama_otel._load.quantiles import quantiles_of
from ollama_otel._load.verdict import pace_of

SECONDS = st.floats(min_value=0, max_value=1e4)

# --- percentiles --------------------------------------------------------------------------


@given(st.lists(SECONDS, min_size=2, max_size=200))
def test_percentiles_are_those_of_the_standard_library(values: list[float]) -> None:
    found = quantiles_of(values)
    assert found is not None
    expected = quantiles(values, n=100, method="inclusive")
    assert (found.p50, found.p95, found.p99) == pytest.approx(
        (expected[49], expected[94], expected[98])
    )
    assert (found.count, found.max) == (len(values), max(values))


def test_nothing_has_no_percentiles() -> None:
    assert quantiles_of([]) is None


# --- confidence ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (10, 2.228), (100, 1.984)],
)
def test_student_t_is_that_of_the_tables(freedom: int, expected: float) -> None:
    assert student_t(freedom) == pytest.approx(expected, abs=5e-4)


def test_one_run_has_a_mean_without_an_interval() -> None:
    estimate = estimate_of([2.0])
    assert estimate is not None
    assert (estimate.mean, estimate.low, estimate.high, estimate.count) == (2.0, None, None, 1)
    assert estimate_of([]) is None


def test_the_interval_of_three_runs() -> None:
    estimate = estimate_of([1.0, 2.0, 3.0])
    assert estimate is not None
    assert estimate.low is not None and estimate.high is not None
    assert (estimate.low, estimate.high) == pytest.approx((2 - 2.484, 2 + 2.484), abs=1e-3)


@pytest.mark.slow
def test_the_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    chance = random.Random(3)
    hits = 0
    for _ in range(2000):
        estimate = estimate_of([chance.gauss(10, 2) for _ in range(4)])
        assert estimate is not None and estimate.low is not None and estimate.high is not None
        hits += estimate.low <= 10 <= estimate.high
    assert hits / 2000 == pytest.approx(0.95, abs=0.015)


def test_a_straight_line_is_found_without_doubt() -> None:
    line = slope_of([(x, 3 + 2 * x) for x in range(5)])
    assert line is not None
    assert (line.slope, line.start, line.end) == pytest.approx((2, 3, 11))
    assert line.margin == pytest.approx(0, abs=1e-9)
    assert line.is_positive


def test_noise_has_no_slope() -> None:
    line = slope_of([(0, 1), (1, 3), (2, 1), (3, 3), (4, 1)])
    assert line is not None and not line.is_positive


@pytest.mark.parametrize("points", [[], [(0.0, 1.0), (1.0, 2.0)], [(1.0, 1.0)] * 5])
def test_too_few_points_have_no_line(points: list[tuple[float, float]]) -> None:
    assert slope_of(points) is None


# --- the verdict --------------------------------------------------------------------------


def every(gap: float, count: int, late: float = 0.0) -> list[float]:
    return [number * gap + late for number in range(1, count + 1)]


def test_requests_on_time_are_valid() -> None:
    pace = pace_of(every(0.1, 100), every(0.1, 100, late=0.002))
    assert pace.verdict == "valid"
    assert pace.schedule_delay is not None
    assert pace.schedule_delay.p99 == pytest.approx(0.002)
    assert pace.intended_rate == pytest.approx(10)
    assert pace.achieved_rate == pytest.approx(100 / 10.002)


def test_late_requests_are_the_fault_of_the_generator() -> None:
    intended = every(0.1, 100)
    sent = [at + (0.02 if number % 20 == 0 else 0.0) for number, at in enumerate(intended)]
    pace = pace_of(intended, sent)
    assert pace.verdict == "generator_bound"
    assert pace.reason == (
        "99 % of the requests were sent within 20.0 ms of their time, and at most 5 ms are allowed"
    )


def test_one_late_request_of_many_is_not() -> None:
    intended = every(0.1, 1000)
    assert pace_of(intended, [intended[0] + 1, *intended[1:]]).verdict == "valid"


def test_a_rate_that_was_not_reached_is_the_fault_of_the_generator() -> None:
    # Only the last request is late: its delay alone is within the 99th percentile.
    intended = every(0.001, 1000)
    pace = pace_of(intended, [*intended[:-1], intended[-1] + 0.02])
    assert pace.verdict == "generator_bound"
    assert pace.reason.startswith("980.4 requests/s were sent where 1000 were intended")


def test_without_requests_nothing_is_known() -> None:
    pace = pace_of([], [])
    assert (pace.verdict, pace.schedule_delay, pace.intended_rate) == ("unknown", None, None)
