"""The shares of all calls add up to the machine's time and cost: exactly, with exact numbers."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel.analysis._cost.machines import Segments, share_cost
from ollama_otel.analysis._cost.sharing import Timeline

TIMES = st.fractions(min_value=-5, max_value=30, max_denominator=6)
CALLS = st.lists(st.tuples(TIMES, TIMES), max_size=12)
"""In any order: nested, at the same time, of length zero, and with an end before the start."""
BOUNDS = st.lists(st.integers(0, 20), min_size=2, max_size=6, unique=True).map(sorted)
AMOUNTS = st.fractions(min_value=0, max_value=100, max_denominator=12)


def exact(values) -> np.ndarray:
    made = np.empty(len(values), dtype=object)
    made[:] = [Fraction(each) for each in values]
    return made


@st.composite
def cases(draw) -> tuple[np.ndarray, np.ndarray, Segments]:
    calls, bounds = draw(CALLS), draw(BOUNDS)
    per_segment = st.lists(AMOUNTS, min_size=len(bounds) - 1, max_size=len(bounds) - 1)
    weights = [exact(draw(per_segment)) for _ in range(4)]
    starts, ends = exact([a for a, _ in calls]), exact([b for _, b in calls])
    return starts, ends, Segments(exact(bounds), *weights)


def by_hand(starts, ends, segments: Segments):
    """Each call's seconds and money, and the money for idle time: instant by instant, slowly."""
    seconds, cost, idle = [Fraction(0)] * len(starts), [Fraction(0)] * len(starts), Fraction(0)
    edges = sorted({*starts, *ends, *segments.bounds})
    for a, b in pairwise(edges):
        if a < segments.bounds[0] or b > segments.bounds[-1]:
            continue
        part = max(n for n, bound in enumerate(segments.bounds) if bound <= a)
        running = [n for n in range(len(starts)) if starts[n] <= a and b <= ends[n]]
        watts = (segments.busy_watts if running else segments.idle_watts)[part]
        money = (b - a) * (segments.per_second[part] + watts * segments.per_joule[part])
        if not running:
            idle += money
        for n in running:
            seconds[n] += (b - a) / len(running)
            cost[n] += money / len(running)
    return seconds, cost, idle


@pytest.mark.slow
@given(cases())
def test_the_shares_are_those_of_each_instant(case) -> None:
    starts, ends, segments = case
    shared = share_cost(starts, ends, segments)
    seconds, cost, idle = by_hand(starts, ends, segments)
    assert list(shared.seconds) == seconds
    assert list(shared.machine + shared.energy) == cost
    assert sum(shared.idle) + shared.unallocated == idle


@pytest.mark.slow
@given(cases())
def test_the_costs_of_all_calls_add_up_to_what_the_machine_costs(case) -> None:
    starts, ends, segments = case
    shared = share_cost(starts, ends, segments)
    assert sum(shared.cost) + shared.unallocated == shared.total
    assert sum(shared.seconds) == shared.busy
    lengths = np.diff(segments.bounds)
    fixed = sum(lengths * segments.per_second)
    least = sum(lengths * np.minimum(segments.idle_watts, segments.busy_watts) * segments.per_joule)
    most = sum(lengths * np.maximum(segments.idle_watts, segments.busy_watts) * segments.per_joule)
    assert fixed + least <= shared.total <= fixed + most


@pytest.mark.slow
@given(cases())
def test_floats_are_as_exact_as_floats_are(case) -> None:
    starts, ends, segments = case
    floats = share_cost(
        starts.astype(float),
        ends.astype(float),
        Segments(*(each.astype(float) for each in segments)),
    )
    exactly = share_cost(starts, ends, segments)
    assert np.allclose(floats.cost, exactly.cost.astype(float), rtol=1e-9, atol=1e-9)
    assert np.isclose(floats.cost.sum() + floats.unallocated, float(exactly.total), rtol=1e-12)


def test_a_large_log_adds_up() -> None:
    random = np.random.default_rng(14)
    starts = np.cumsum(random.exponential(2.0, 100_000))
    ends = starts + random.exponential(5.0, 100_000)
    bounds = np.array([0.0, 70_000.0, 150_000.0, ends.max()])
    shared = share_cost(
        starts,
        ends,
        Segments(
            bounds,
            np.array([1e-4, 2e-4, 3e-4]),
            np.array([8e-8, 9e-8, 1e-7]),
            np.array([60.0, 50.0, 70.0]),
            np.array([350.0, 300.0, 400.0]),
        ),
    )
    assert abs(shared.cost.sum() - shared.total) < 1e-9 * shared.total
    assert shared.unallocated == 0


def test_two_calls_at_once_share_the_time_equally() -> None:
    timeline = Timeline(np.array([0.0, 2.0]), np.array([4.0, 4.0]), np.array([0.0, 10.0]))
    assert list(timeline.seconds) == [3.0, 1.0]
    assert list(timeline.busy) == [4.0]
    assert list(timeline.idle) == [6.0]


def test_a_machine_without_calls_is_idle() -> None:
    one = np.array([1.0])
    shared = share_cost(
        np.array([]), np.array([]), Segments(np.array([0.0, 10.0]), one, one, one * 5, one * 9)
    )
    assert (shared.total, shared.unallocated, shared.busy) == (60.0, 60.0, 0.0)
    assert shared.idle_joules == 50.0


def test_a_change_of_price_in_the_middle_of_a_call_divides_it() -> None:
    shared = share_cost(
        np.array([5.0]),
        np.array([15.0]),
        Segments(
            np.array([0.0, 10.0, 20.0]),
            np.array([1.0, 3.0]),
            np.zeros(2),
            np.zeros(2),
            np.zeros(2),
        ),
    )
    assert list(shared.machine) == [5 * 1 + 5 * 3]
    assert list(shared.idle) == [5 * 1 + 5 * 3]
    assert shared.total == 40
