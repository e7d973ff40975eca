"""How JSON values differ."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel._frozen import frozen
from ollama_otel.replay._diff.json import differing_fields, plain

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


def told(before: Any, after: Any) -> list[str]:
    return [str(difference) for difference in differing_fields(before, after)]


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
    assert plain({"a": [1, {"b": 2}]}, 2) == {"a": [1, "[nested too deeply]"]}


@pytest.mark.slow
@given(JSON)
def test_what_is_not_deep_stays_as_it_is_frozen_or_not(value: Any) -> None:
    assert told(plain(value), value) == told(plain(frozen(value)), value) == []
    assert plain(frozen(value)) == value
