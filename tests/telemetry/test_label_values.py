"""Which names become label values: those that have answered, a bounded number of them."""

from __future__ import annotations

import pytest

from ollama_otel._telemetry.label_values import LONGEST_LABEL, LabelValues
from ollama_otel._wire.model_names import key_of

OTHER = "_OTHER"


def test_names_that_never_answer_do_not_take_the_places_of_those_that_do() -> None:
    values = LabelValues()
    invented = [values.label(f"invented-{number}", 200) for number in range(1000)]
    assert len(set(invented)) == 21
    for number in range(200):
        values.answered(f"real-{number}", 200)
        assert values.label(f"real-{number}", 200) == f"real-{number}"
    values.answered("one more", 200)
    assert values.label("one more", 200) == OTHER


def test_a_name_has_the_same_label_before_and_after_it_has_answered() -> None:
    values = LabelValues()
    assert values.label("m", 1) == "m"
    values.answered("m", 1)
    assert values.label("m", 1) == "m"


def test_a_name_that_waited_keeps_its_label_when_all_places_are_taken() -> None:
    values = LabelValues()
    assert values.label("waits", 1) == "waits"
    values.answered("m", 1)
    values.answered("waits", 1)
    assert values.label("waits", 1) == "waits"
    assert not values.is_settled("waits")
    assert values.label("new", 1) == OTHER


def test_a_place_is_never_given_to_another_name() -> None:
    values = LabelValues()
    values.answered("deleted", 1)
    for number in range(100):
        values.answered(f"m{number}", 1)
    assert values.label("deleted", 1) == "deleted"


@pytest.mark.parametrize(("length", "has_label"), [(LONGEST_LABEL, True), (256, False)])
def test_a_name_that_is_too_long_has_no_label_of_its_own(length: int, *, has_label: bool) -> None:
    values = LabelValues()
    values.answered("x" * length, 10)
    assert (values.label("x" * length, 10) != OTHER) is has_label


def test_spellings_of_one_model_do_not_take_all_places() -> None:
    values = LabelValues(key_of)
    spellings = [f"{letters}:latest" for letters in ("llama", "Llama", "LLama", "LLAma", "LLAMa")]
    for spelling in spellings:
        values.answered(spelling, 200)
    assert [values.label(each, 200) for each in spellings] == [*spellings[:4], OTHER]
