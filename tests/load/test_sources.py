"""Plans from prompts and from the calls of a log."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel._load.request import check_plan
from ollama_otel._log.call import RecordedCall
from ollama_otel.errors import LoadError
from ollama_otel.load import TimedRequest, at_rate, prompt_requests, recorded_requests
from tests.replay.call_lines import ask, call


def questions(requests: Any) -> list[str]:
    return [request.body["messages"][0]["content"] for request in requests]


def recorded(number: int, at: float, duration: float = 1.0, **options: Any) -> RecordedCall:
    return call(str(number), ask(f"Question {number}"), at=at, duration=duration, **options)


def places(plan: Any) -> list[tuple[int | None, float]]:
    return [(request.after, pytest.approx(request.offset)) for request in plan]


# --- prompts ------------------------------------------------------------------------------


def test_prompts_are_asked_in_turn_with_their_number() -> None:
    made = prompt_requests(["{n}. Hello", "Bye"], 4, model="m", most_tokens=8)
    assert questions(made) == ["1. Hello", "Bye", "3. Hello", "Bye"]
    assert made[0].path == "/api/chat"
    assert made[0].body == {
        "model": "m",
        "messages": [{"role": "user", "content": "1. Hello"}],
        "stream": True,
        "options": {"num_predict": 8},
    }


def test_without_a_limit_there_are_no_options() -> None:
    assert "options" not in prompt_requests(["Hello"], 1, model="m")[0].body


def test_a_plan_at_a_rate_takes_the_requests_in_turn() -> None:
    requests = [TimedRequest(body={"number": number}, after=None) for number in range(3)]
    plan = at_rate(requests, 2.0, 2.0, arrivals="constant")
    assert [request.offset for request in plan] == [0.0, 0.5, 1.0, 1.5]
    assert [request.body["number"] for request in plan] == [0, 1, 2, 0]


# --- recorded calls -----------------------------------------------------------------------


def test_independent_calls_keep_their_times() -> None:
    made = recorded_requests([recorded(2, 7.5), recorded(1, 5.0), recorded(3, 7.6)])
    assert places(made.plan) == [(None, 0.0), (None, 2.5), (None, 2.6)]
    assert questions(made.plan) == ["Question 1", "Question 2", "Question 3"]
    assert made.sessions == 0


def test_a_conversation_waits_for_its_answers_and_its_think_times() -> None:
    calls = [
        recorded(1, 0.0, 2.0, conversation="a"),
        recorded(2, 1.0, 1.0, conversation="b"),
        recorded(3, 5.0, 1.0, conversation="a"),
        recorded(4, 6.5, 1.0, conversation="a"),
    ]
    made = recorded_requests(calls)
    assert places(made.plan) == [(None, 0.0), (None, 1.0), (0, 3.0), (2, 0.5)]
    assert [request.conversation_id for request in made.plan] == ["a", "b", "a", "a"]
    assert made.sessions == 1


def test_calls_of_one_trace_are_a_session() -> None:
    def of_trace(number: int, at: float) -> RecordedCall:
        from msgspec.structs import replace

        from ollama_otel.records import SpanIds

        made = recorded(number, at)
        ids = SpanIds(trace=77, span=number, is_sampled=True)
        return replace(made, start=replace(made.start, span=ids))

    made = recorded_requests([of_trace(1, 0.0), of_trace(2, 1.25)])
    assert places(made.plan) == [(None, 0.0), (0, 0.25)]


def test_calls_of_a_session_that_overlapped_stay_side_by_side() -> None:
    calls = [
        recorded(1, 0.0, 1.0, conversation="a"),
        recorded(2, 2.0, 4.0, conversation="a"),
        recorded(3, 3.0, 1.0, conversation="a"),
        recorded(4, 7.0, 1.0, conversation="a"),
    ]
    # Both follow the first; the last one follows the one that had ended last.
    assert places(recorded_requests(calls).plan) == [(None, 0.0), (0, 1.0), (0, 2.0), (1, 1.0)]


def test_a_call_without_an_end_is_sent_and_nothing_waits_for_it() -> None:
    calls = [
        recorded(1, 0.0, conversation="a", ends=False),
        recorded(2, 2.0, conversation="a"),
    ]
    assert places(recorded_requests(calls).plan) == [(None, 0.0), (None, 2.0)]


def test_speed_divides_times_and_think_times() -> None:
    calls = [
        recorded(1, 0.0, 1.0, conversation="a"),
        recorded(2, 4.0, 1.0, conversation="a"),
        recorded(3, 8.0),
    ]
    assert places(recorded_requests(calls, speed=2).plan) == [(None, 0.0), (0, 1.5), (None, 4.0)]


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            st.floats(min_value=0, max_value=100),
            st.floats(min_value=0, max_value=10),
            st.sampled_from(["a", "b", None]),
        ),
        min_size=1,
        max_size=12,
    ),
    st.floats(min_value=0.1, max_value=10),
)
def test_a_plan_played_by_a_server_as_fast_as_recorded_has_the_recorded_times(
    calls: list[tuple[float, float, str | None]], speed: float
) -> None:
    made = [
        recorded(number, at, duration, conversation=name)
        for number, (at, duration, name) in enumerate(calls)
    ]
    plan = recorded_requests(made, speed=speed).plan
    check_plan(plan)
    by_start = sorted(made, key=lambda each: each.start.started_at)
    begin, ends = by_start[0].start.started_at, list[float]()
    for request, original in zip(plan, by_start, strict=True):
        assert original.record is not None
        sent = request.offset + (0.0 if request.after is None else ends[request.after])
        assert sent == pytest.approx((original.start.started_at - begin) / 1e9 / speed, abs=1e-6)
        ends.append(sent + original.record.duration / speed)


def test_another_model_replaces_the_recorded_one() -> None:
    plan = recorded_requests([recorded(1, 0.0)], model="other").plan
    assert plan[0].body["model"] == "other"


def test_what_is_left_out_is_counted() -> None:
    calls = [
        recorded(1, 0.0),
        call("2", {"model": "m"}, path="/api/pull"),
        recorded(3, 1.0, changes=["redacted"]),
        recorded(4, 1.0, changes=["images"]),
    ]
    made = recorded_requests(calls)
    assert made.left_out == {"not_inference": 1, "redacted": 1, "images": 1}
    assert len(made.plan) == 1
    assert len(recorded_requests(calls, redacted=True).plan) == 2


def test_a_log_without_bodies_says_what_to_switch_on() -> None:
    calls = [recorded(1, 0.0, bodies=False), recorded(2, 1.0, bodies=False)]
    told = r"\(2 without a body\): record with replay_bodies=True, or give prompts"
    with pytest.raises(LoadError, match=told):
        recorded_requests(calls)
    with pytest.raises(LoadError, match="found no call"):
        recorded_requests([])


def test_a_log_without_bodies_has_the_times_of_other_requests() -> None:
    calls = [
        recorded(1, 0.0, bodies=False, conversation="a"),
        recorded(2, 3.0, bodies=False, conversation="a"),
        recorded(3, 4.0, changes=["images"]),
        call("4", {"model": "m"}, path="/api/pull", at=5.0),
    ]
    others = prompt_requests(["{n}"], 2, model="m")
    made = recorded_requests(calls, others=others)
    assert questions(made.plan) == ["1", "2", "1"]
    assert places(made.plan) == [(None, 0.0), (0, 2.0), (None, 4.0)]
    assert made.left_out == {"not_inference": 1}
