"""What is learnt from calls that ended: rates of prompts, slots."""

from __future__ import annotations

from typing import Any

import pytest

from ollama_otel._top.prefill import LEAST_SAMPLES, learn, new_bytes
from ollama_otel._top.slots import seen_slots
from ollama_otel._top.view import CallRow

from .events import NOW, begins, call, state_of


def rows(*facts: dict[str, Any]) -> list[CallRow]:
    """Ended calls, the oldest first."""
    events = [
        event
        for n, each in enumerate(facts)
        for event in call(
            f"c{n}",
            each.pop("at", n - 500.0),
            each.pop("duration", 1.0),
            **each,
        )
    ]
    return [*reversed(state_of(*events).view(NOW).calls)]


def prompt(seconds: float, tokens: int = 1000, **facts: Any) -> dict[str, Any]:
    return {"tokens": tokens, "prompt": seconds, "size": 4 * tokens, **facts}


def test_the_rate_is_that_of_uncached_prompts() -> None:
    cached = [prompt(0.01) for _ in range(5)]
    learnt = learn(rows(*(prompt(1.0) for _ in range(5)), *cached))
    assert learnt.rate == pytest.approx(1000.0)
    assert learnt.tokens_per_byte == 0.25


def test_calls_that_continue_a_conversation_teach_no_rate() -> None:
    talk = [prompt(0.01, conversation="talk") for _ in range(20)]
    assert learn(rows(*talk)).rate is None
    assert learn(rows(*talk)).tokens_per_byte == 0.25


@pytest.mark.parametrize(
    "facts",
    [
        prompt(1.0, tokens=10),
        prompt(1.0, image_count=1),
        prompt(1.0, image_count=None),
        {"tokens": 1000, "size": 4000},
    ],
    ids=["too short", "with an image", "perhaps with an image", "not timed"],
)
def test_no_rate_is_learnt_from(facts: dict[str, Any]) -> None:
    assert learn(rows(*(dict(facts) for _ in range(9)))).rate is None


def test_too_few_calls_teach_nothing() -> None:
    learnt = learn(rows(*(prompt(1.0) for _ in range(LEAST_SAMPLES - 1))))
    assert (learnt.rate, learnt.tokens_per_byte) == (None, None)
    assert learnt.seconds_for(100, context_length=None) is None


def test_the_bytes_of_a_conversation_that_the_server_has_seen_are_not_new() -> None:
    start = begins("a", 0.0, size=1000, conversation="talk").start
    assert new_bytes(start, {}) == 1000
    assert new_bytes(start, {"talk": 900, "other": 10}) == 100
    assert new_bytes(start, {"talk": 2000}) == 1000, "another prompt"
    assert new_bytes(begins("a", 0.0, size=None).start, {}) is None
    assert new_bytes(begins("a", 0.0, size=10, image_count=1).start, {}) is None
    assert new_bytes(begins("a", 0.0, size=10, purpose="load").start, {}) is None


# --- slots ----------------------------------------------------------------------------------


def ran(at: float, duration: float, *, client: float = 0.0, queue: float = 0.0) -> dict[str, Any]:
    return {
        "at": at - 500.0,
        "duration": duration,
        "queue": queue,
        "prompt": 0.25,
        "generation": duration - client - queue - 0.25,
    }


def slots(*facts: dict[str, Any]) -> tuple[int, bool] | None:
    seen = seen_slots(rows(*facts))
    return None if seen is None else (seen.count, seen.are_all)


def test_calls_one_after_another_need_one_slot() -> None:
    assert slots(ran(0, 5), ran(5, 5), ran(10, 5)) == (1, False)


def test_calls_at_the_same_time_need_more() -> None:
    assert slots(ran(0, 5), ran(1, 5), ran(2, 5), ran(6.5, 5)) == (3, False)


def test_time_of_the_client_may_lie_before_or_after() -> None:
    # The server may have worked from 0 to 3 or from 2 to 5, and from 2.5 to 5.5 or 4.5 to 7.5.
    assert slots(ran(0, 5, client=2), ran(2.5, 5, client=2)) == (1, False)
    assert slots(ran(0, 5, client=2), ran(0, 5, client=2)) == (2, False)


def test_a_call_that_may_have_run_at_no_common_time_takes_no_slot_away() -> None:
    assert slots(ran(0, 3), ran(2, 5), ran(0, 5, client=4)) == (2, False)


def test_a_wait_shows_that_there_are_no_more() -> None:
    assert slots(ran(0, 5), ran(0, 10, queue=5)) == (1, True)
    assert slots(ran(0, 5), ran(0, 5, queue=0.01)) == (2, False), "too short to be a wait"


def test_calls_without_timings_show_no_slots() -> None:
    assert slots({"at": -9.0}, {"at": -8.0}) is None
