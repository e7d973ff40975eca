"""The circuit breaker by values."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel._bounds import MOST_SERVERS
from ollama_otel._resilience.circuit import Circuit, Pass, Threshold
from ollama_otel.errors import SettingsError
from ollama_otel.resilience import Breaker, Resilience


def circuit(**changes: Any) -> Circuit:
    values = {
        "failure_rate": 0.5,
        "window": 60.0,
        "minimum_calls": 4,
        "open_for": 30.0,
        "probes": 1,
    }
    return Circuit(Threshold(**values | changes))


def let_in(tried: Circuit, now: float) -> Pass:
    given = tried.enter(now)
    assert given is not None
    return given


def failing(tried: Circuit, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        tried.failed(let_in(tried, now), now)


def test_it_opens_at_the_failure_rate_and_not_before_enough_calls() -> None:
    tried = circuit()
    failing(tried, 2)
    tried.succeeded(let_in(tried, 0.0), 0.0)
    assert tried.state(0.0) == "closed"
    failing(tried, 1)
    assert tried.state(0.0) == "open"
    assert tried.enter(29.9) is None


def test_failures_outside_of_the_window_do_not_count() -> None:
    tried = circuit()
    failing(tried, 3, now=0.0)
    failing(tried, 1, now=61.0)
    assert tried.state(61.0) == "closed"


def test_half_open_lets_probes_through_and_closes_after_their_success() -> None:
    tried = circuit(probes=2)
    failing(tried, 4)
    assert tried.state(30.0) == "half_open"
    first, second = let_in(tried, 30.0), let_in(tried, 30.0)
    assert tried.enter(30.0) is None
    tried.succeeded(first, 31.0)
    assert tried.state(31.0) == "half_open"
    tried.succeeded(second, 31.0)
    assert tried.state(31.0) == "closed"
    failing(tried, 3, now=31.0)
    assert tried.state(31.0) == "closed", "it counts anew"


def test_a_probe_that_fails_opens_it_again() -> None:
    tried = circuit()
    failing(tried, 4)
    tried.failed(let_in(tried, 30.0), 32.0)
    assert tried.state(61.9) == "open"
    assert tried.state(62.0) == "half_open"


def test_a_cancelled_probe_makes_room_for_another() -> None:
    tried = circuit()
    failing(tried, 4)
    tried.forgotten(let_in(tried, 30.0))
    assert tried.enter(30.0) is not None


def test_results_of_calls_from_before_it_opened_do_not_count() -> None:
    tried = circuit()
    early = [let_in(tried, 0.0) for _ in range(3)]
    failing(tried, 4)
    tried.succeeded(early[0], 30.0)
    tried.failed(early[1], 30.0)
    tried.forgotten(early[2])
    assert tried.state(30.0) == "half_open"
    assert tried.enter(30.0) is not None
    assert tried.enter(30.0) is None


@given(st.lists(st.tuples(st.floats(0, 40), st.sampled_from(["ok", "bad", "cancelled"]))))
def test_there_are_never_more_probes_than_allowed(events: list[tuple[float, str]]) -> None:
    tried, now = circuit(probes=2), 0.0
    for gap, result in events:
        now += gap
        before = tried.state(now)
        given = [each for _ in range(5) if (each := tried.enter(now)) is not None]
        assert len(given) == {"closed": 5, "open": 0, "half_open": 2}[before]
        for each in given:
            if result == "ok":
                tried.succeeded(each, now)
            elif result == "bad":
                tried.failed(each, now)
            else:
                tried.forgotten(each)


@pytest.mark.parametrize(
    "bad",
    [
        {"failure_rate": 0},
        {"failure_rate": 1.5},
        {"window": 0},
        {"minimum_calls": 0},
        {"open_for": -1},
        {"probes": 0},
    ],
)
def test_values_that_make_no_sense_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"{next(iter(bad))} must be"):
        Breaker(**bad)


def test_each_server_has_its_own_circuit() -> None:
    breaker = Breaker(minimum_calls=1, clock=lambda: 0.0)
    trip = breaker._enter("http://a:1")
    assert trip is not None
    trip.end(has_failed=True)
    trip.end(has_failed=False)  # only the first end counts
    assert not breaker._admits("http://a:1")
    assert breaker._admits("http://b:1")
    assert breaker.states() == {"http://a:1": "open", "http://b:1": "closed"}


def test_the_circuits_of_many_servers_are_bounded_and_open_ones_are_kept() -> None:
    breaker = Breaker(minimum_calls=1, clock=lambda: 0.0)
    trip = breaker._enter("http://down:1")
    assert trip is not None
    trip.end(has_failed=True)
    for number in range(1_000):
        assert breaker._enter(f"http://host-{number}:1") is not None
    assert len(breaker.states()) <= MOST_SERVERS + 1
    assert breaker.states()["http://down:1"] == "open"


@pytest.mark.parametrize("deadline", [0, -1.0, math.inf, math.nan, 1e300])
def test_a_deadline_that_no_socket_takes_is_refused(deadline: float) -> None:
    with pytest.raises(SettingsError, match="deadline must be"):
        Resilience(deadline=deadline)
