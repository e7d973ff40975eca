"""A server that does not keep up is told from one that does, by simulated queues."""

from __future__ import annotations

import heapq
import random

import pytest

from ollama_otel._load.arrivals import arrival_times
from ollama_otel._load.saturation import Saturation, SaturationDetector

SEEDS = range(20)


def first_found(
    load: float, *, slots: int = 1, service: float = 0.2, duration: float = 60.0, seed: int = 0
) -> tuple[float, Saturation] | None:
    """Simulate a queue with a load of `load`; return when the detector, asked each second, speaks."""
    chance = random.Random(seed + 1000)
    free = [0.0] * slots
    events: list[tuple[float, str, float]] = []
    for at in arrival_times(load * slots / service, duration, seed=seed):
        begin = max(at, heapq.heappop(free))
        end = begin + chance.expovariate(1 / service)
        heapq.heappush(free, end)
        first = begin + (end - begin) / 10
        events += [(at, "sent", 0.0), (first, "first", first - at), (end, "end", 0.0)]
    events += [(second, "look", 0.0) for second in range(1, int(duration) + 1)]
    detector, in_flight = SaturationDetector(), 0
    for at, kind, waited in sorted(events):
        match kind:
            case "sent":
                in_flight += 1
                detector.sent(at, in_flight)
            case "first":
                detector.answered(at, waited)
            case "end":
                in_flight -= 1
                detector.ended(at)
            case _ if found := detector.find(at):
                return at, found
    return None


@pytest.mark.slow
@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("load", [0.3, 0.5, 0.7])
def test_a_server_that_keeps_up_is_not_saturated(load: float, slots: int) -> None:
    assert [first_found(load, slots=slots, seed=seed) for seed in SEEDS] == [None] * len(SEEDS)


@pytest.mark.slow
@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("load", [2.0, 4.0])
def test_a_server_with_twice_its_load_is(load: float, slots: int) -> None:
    found = [first_found(load, slots=slots, seed=seed) for seed in SEEDS]
    assert all(found)
    assert max(at for at, _ in filter(None, found)) <= 20


@pytest.mark.slow
def test_a_load_slightly_too_high_is_found_in_a_longer_run() -> None:
    short = [first_found(1.25, duration=30, seed=seed) for seed in SEEDS]
    long = [first_found(1.25, duration=240, seed=seed) for seed in SEEDS]
    assert sum(map(bool, long)) == len(SEEDS) > sum(map(bool, short))


def test_the_reason_names_what_rose() -> None:
    found = first_found(3.0)
    assert found is not None
    told = str(found[1])
    assert told.startswith("requests in flight rose from ")
    assert told.endswith(" s, and both kept rising")
    assert found[1].in_flight.end > 2 * found[1].in_flight.start


def test_requests_that_take_long_are_not_taken_for_a_queue() -> None:
    """Until the first request ends, requests in flight can only rise."""
    detector = SaturationDetector()
    for number in range(1, 60):
        detector.sent(number / 2, number)
        detector.answered(number / 2 + 0.1, 0.1 + number / 50)
    assert detector.find(30.0) is None


def test_nothing_is_found_in_the_first_seconds() -> None:
    detector = SaturationDetector()
    detector.ended(0.0)
    for number in range(1, 100):
        detector.sent(number / 11, number)
        detector.answered(number / 11, number / 10)
    assert detector.find(9.0) is None
    assert detector.find(10.0) is not None
