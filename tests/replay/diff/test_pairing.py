"""Which call of one log is which of another."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel._log.call import RecordedCall
from ollama_otel.replay._diff.pairing import REPLAY_OF, is_settled, pair_calls
from tests.replay.call_lines import ask, call


def repeat(call_id: str, of: str, **options: Any) -> RecordedCall:
    return call(call_id, **{"tags": {REPLAY_OF: of}, **options})


def ids(
    before: list[RecordedCall], after: list[RecordedCall], *ignore: str
) -> tuple[list[str], list[str], list[str]]:
    pairs, only_before, only_after = pair_calls(before, after, ignore=ignore)
    return (
        [f"{old.id}{new.id}" for old, new in pairs],
        [each.id for each in only_before],
        [each.id for each in only_after],
    )


def test_the_tag_comes_before_the_request() -> None:
    before = [call("1", ask("a")), call("2", ask("b"), at=1)]
    after = [repeat("x", "2", asked=ask("a")), repeat("y", "1", asked=ask("b"), at=1)]
    assert ids(before, after) == (["1y", "2x"], [], [])


def test_equal_requests_are_paired_in_the_order_in_which_they_began() -> None:
    # A log has its calls in the order of their ends.
    before = [call("2", at=2), call("1", at=1), call("3", at=3)]
    after = [call("b", at=2), call("a", at=1)]
    assert ids(before, after) == (["1a", "2b"], ["3"], [])


def test_the_model_makes_no_difference() -> None:
    assert ids([call("1")], [call("a", ask(model="another"))]) == (["1a"], [], [])


def test_the_order_of_fields_makes_no_difference() -> None:
    asked = dict(reversed(ask(options={"seed": 1, "top_k": 2}).items()))
    assert ids([call("1", ask(options={"top_k": 2, "seed": 1}))], [call("a", asked)])[0] == ["1a"]


def test_another_request_is_another_call() -> None:
    assert ids([call("1", ask("a"))], [call("x", ask("b"))]) == ([], ["1"], ["x"])
    assert ids([call("1", {"model": "m", "prompt": "a"}, path="/api/generate")], [call("x")]) == (
        [],
        ["1"],
        ["x"],
    )


def test_ignored_fields_make_no_difference() -> None:
    before, after = [call("1", ask(options={"seed": 1}))], [call("x", ask(options={"seed": 2}))]
    assert ids(before, after)[0] == []
    assert ids(before, after, "options.seed")[0] == ["1x"]


def test_a_prefix_in_the_path_makes_no_difference() -> None:
    assert ids([call("1")], [call("x", path="/ollama/api/chat")])[0] == ["1x"]


def test_a_log_is_paired_with_itself() -> None:
    log = [call("1"), call("2", ask("b"), bodies=False), call("3", ends=False)]
    assert ids(log, log)[0] == ["11", "22", "33"]


def test_two_runs_of_one_log_are_paired() -> None:
    before = [repeat("x", "1"), repeat("y", "2", at=1)]
    after = [repeat("a", "2", at=1), repeat("b", "1", at=2)]
    assert ids(before, after)[0] == ["xb", "ya"]


def test_a_run_is_paired_with_the_log_that_it_repeats() -> None:
    assert ids([repeat("x", "2", asked=ask("b"))], [call("1"), call("2")]) == (["x2"], [], ["1"])


def test_a_run_of_a_run_is_paired_with_that_run() -> None:
    assert ids([repeat("x", "1")], [repeat("a", "x")])[0] == ["xa"]


@pytest.mark.parametrize(
    "unsettled",
    [
        {"ends": False},
        {"outcome": "cancelled", "http_status": None},
        {"outcome": "failed", "error_type": "connect", "http_status": None},
    ],
    ids=["never ended", "cancelled", "not connected"],
)
def test_the_settled_attempt_counts(unsettled: dict[str, Any]) -> None:
    attempt = repeat("x", "1", **unsettled)
    assert not is_settled(attempt)
    assert ids([call("1")], [attempt, repeat("y", "1", at=1)]) == (["1y"], [], [])
    assert ids([call("1")], [repeat("y", "1"), attempt]) == (["1y"], [], [])
    assert ids([call("1")], [repeat("w", "1", **unsettled), attempt]) == (["1x"], [], [])


def test_a_failed_call_is_settled() -> None:
    assert is_settled(call(outcome="failed", error_type="server_error", http_status=500))


def test_a_second_settled_attempt_is_a_call_of_its_own() -> None:
    after = [repeat("x", "1", asked=ask("b")), repeat("y", "1", asked=ask("c"), at=1)]
    assert ids([call("1")], after) == (["1x"], [], ["y"])


def test_calls_without_bodies_are_paired_by_what_is_known() -> None:
    chats = [call("1", bodies=False), call("2", ask(stream=True), bodies=False, at=1)]
    after = [call("x", ask("b", stream=True)), call("y", ask("c"), at=1), call("z", at=2)]
    assert ids(chats, after) == (["1y", "2x"], [], ["z"])
    assert ids(after, chats) == (["x2", "y1"], ["z"], [])


def test_requests_that_are_known_are_not_paired_by_facts() -> None:
    assert ids([call("1", ask("a"))], [call("x", ask("b"))])[0] == []


QUESTIONS = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=8)


def log_of(questions: list[tuple[str, bool]], name: str) -> list[RecordedCall]:
    return [
        call(f"{name}{number}", ask(text), at=number, bodies=has_body)
        for number, (text, has_body) in enumerate(questions)
    ]


@pytest.mark.slow
@given(QUESTIONS, QUESTIONS)
def test_every_call_stands_in_one_place(
    first: list[tuple[str, bool]], second: list[tuple[str, bool]]
) -> None:
    before, after = log_of(first, "1"), log_of(second, "2")
    pairs, only_before, only_after = pair_calls(before, after)
    assert sorted([*(old.id for old, _ in pairs), *(each.id for each in only_before)]) == [
        each.id for each in before
    ]
    assert sorted([*(new.id for _, new in pairs), *(each.id for each in only_after)]) == [
        each.id for each in after
    ]
    assert [old.start.started_at for old, _ in pairs] == sorted(
        old.start.started_at for old, _ in pairs
    )
