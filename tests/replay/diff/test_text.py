"""How texts and JSON values differ."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel.replay._diff.text import (
    Segment,
    differing_fields,
    differing_text,
    without_depths,
)

TEXTS = st.text(st.sampled_from(list("ab \n\t,漢字é")), max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


def told(before: Any, after: Any) -> list[str]:
    return [str(difference) for difference in differing_fields(before, after)]


# --- texts ----------------------------------------------------------------------------------------


def test_equal_texts_are_identical() -> None:
    difference = differing_text("The sky is blue.", "The sky is blue.")
    assert (difference.is_identical, difference.similarity, difference.segments) == (True, 1.0, ())


def test_a_changed_word_stands_among_its_neighbours() -> None:
    difference = differing_text("The sky is blue today.", "The sky is green today.")
    assert difference.segments == (
        Segment("same", "The sky is"),
        Segment("removed", " blue"),
        Segment("added", " green"),
        Segment("same", " today."),
    )
    assert difference.similarity == 0.8
    assert not difference.is_identical


def test_long_runs_of_equal_words_are_skipped() -> None:
    words = " ".join(str(number) for number in range(30))
    difference = differing_text(f"{words} a {words} b {words}", f"{words} x {words} y {words}")
    assert difference.segments == (
        Segment("skipped", "25 words"),
        Segment("same", " 25 26 27 28 29"),
        Segment("removed", " a"),
        Segment("added", " x"),
        Segment("same", " 0 1 2 3 4"),
        Segment("skipped", "20 words"),
        Segment("same", " 25 26 27 28 29"),
        Segment("removed", " b"),
        Segment("added", " y"),
        Segment("same", " 0 1 2 3 4"),
        Segment("skipped", "25 words"),
    )


def test_texts_with_nothing_in_common_have_no_similarity() -> None:
    difference = differing_text("one two", "three")
    assert difference.similarity == 0.0
    assert difference.segments == (Segment("removed", "one two"), Segment("added", "three"))


def test_an_empty_text_is_compared_too() -> None:
    difference = differing_text("", "Hi.")
    assert (difference.similarity, difference.segments) == (0.0, (Segment("added", "Hi."),))


def test_blanks_alone_are_a_change() -> None:
    assert not differing_text("a b", "a  b").is_identical


def test_a_text_without_blanks_is_compared_by_its_ideographs() -> None:
    difference = differing_text("今日は晴れ", "今日は雨")
    assert difference.segments == (
        Segment("same", "今日は"),
        Segment("removed", "晴れ"),
        Segment("added", "雨"),
    )


def test_long_and_repetitive_texts_are_compared_in_good_time() -> None:
    began = time.perf_counter()
    differing_text("one " * 20_000 + "a", "two one " * 10_000 + "b")
    assert time.perf_counter() - began < 20


@given(TEXTS, TEXTS)
def test_the_segments_hold_all_that_changed(before: str, after: str) -> None:
    difference = differing_text(before, after)
    assert difference.is_identical is (before == after)
    assert 0 <= difference.similarity <= 1
    if before != after and all(segment.kind != "skipped" for segment in difference.segments):
        for text, other in ((before, "added"), (after, "removed")):
            kept = [segment.text for segment in difference.segments if segment.kind != other]
            assert "".join(kept) == text


@given(TEXTS, TEXTS)
def test_only_identical_texts_are_wholly_similar(before: str, after: str) -> None:
    assert (differing_text(before, after).similarity == 1.0) is (before == after)


# --- JSON -----------------------------------------------------------------------------------------


def test_fields_are_named_by_their_path() -> None:
    before = {"items": [{"price": 1}, {"price": 2}, {"price": 3}], "a key": True, "gone": None}
    after = {"items": [{"price": 1}, {"price": 2}, {"price": 4}], "a key": False, "new": "x"}
    assert told(before, after) == [
        "$.items[2].price: 3 -> 4",
        '$["a key"]: true -> false',
        "$.gone: null is missing",
        '$.new: "x" was added',
    ]


def test_a_changed_type_says_both() -> None:
    assert told({"n": 1}, {"n": "1"}) == ['$.n: 1 -> "1" (number -> string)']
    assert told(None, "x") == ['$: null -> "x"']
    assert told([1], {"0": 1}) == ['$: [1] -> {"0": 1} (array -> object)']


def test_true_is_no_number_and_a_whole_float_is_one() -> None:
    assert told(True, 1) == ["$: true -> 1 (boolean -> number)"]
    assert told(1, 1.0) == []


def test_lists_are_compared_item_by_item() -> None:
    assert told([1, 2], [1, 3, 4]) == ["$[1]: 2 -> 3", "$[2]: 4 was added"]
    assert told([1, 2], [1]) == ["$[1]: 2 is missing"]


@given(JSON)
def test_a_value_does_not_differ_from_itself(value: Any) -> None:
    assert told(value, value) == []


@given(JSON, JSON)
def test_what_differs_is_told_and_both_ways(before: Any, after: Any) -> None:
    forth, back = list(differing_fields(before, after)), list(differing_fields(after, before))
    assert len(forth) == len(back)
    assert {difference.path for difference in forth} == {difference.path for difference in back}
    if before != after:
        assert forth


@pytest.mark.parametrize("key", ["a.b", "1a", "", 'qu"ote', "ü"])
def test_odd_keys_are_quoted(key: str) -> None:
    (difference,) = differing_fields({key: 1}, {key: 2})
    assert difference.path.startswith('$["')


def test_what_is_nested_deeper_than_anybody_means_to_is_marked() -> None:
    assert without_depths({"a": [1, {"b": 2}]}, 2) == {"a": [1, "[nested too deeply]"]}


@given(JSON)
def test_what_is_not_deep_stays_as_it_is(value: Any) -> None:
    assert without_depths(value) == value
