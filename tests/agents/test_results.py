"""What the model is told of a result."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from ollama_otel._agent.results import UnwritableResultError, result_text


@dataclass
class Weather:
    city: str
    degrees: int


class Model(BaseModel):
    city: str


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("rain", "rain"),
        ("", ""),
        (84, "84"),
        (None, "null"),
        (True, "true"),
        ({"a": [1, 2.5, "é"]}, '{"a":[1,2.5,"é"]}'),
        ((1, 2), "[1,2]"),
        ({3}, "[3]"),
        (Weather("Rome", 20), '{"city":"Rome","degrees":20}'),
        (Model(city="Rome"), '{"city":"Rome"}'),
        (dt.date(2026, 1, 2), '"2026-01-02"'),
        (b"text", '"text"'),
        (math.nan, '"NaN"'),
        ([math.inf], '["Infinity"]'),
        ("half \ud800 a pair", "half ? a pair"),
    ],
)
def test_a_result_is_told_as_text_or_json(value: Any, text: str) -> None:
    assert result_text(value, 100) == (text, False)


def circular() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def nested() -> Any:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (object(), "object"),
        (lambda: "secret", "function"),
        (circular(), "list"),
        (b"\xff secret", "bytes"),
        ({"a": object()}, "dict"),
    ],
)
def test_what_json_cannot_hold_is_named_by_its_type(value: Any, kind: str) -> None:
    with pytest.raises(UnwritableResultError, match=f"returned a {kind} that JSON") as caught:
        result_text(value, 100)
    assert "secret" not in str(caught.value)


@pytest.mark.slow
def test_what_is_nested_too_deeply_is_refused() -> None:
    value = nested()
    with pytest.raises(UnwritableResultError):
        result_text(value, 100)
    while isinstance(value, list):  # a deep list is taken apart without recursion
        value = value.pop()


def test_a_long_result_is_cut_and_says_so() -> None:
    text, is_cut = result_text("x" * 150, 100)
    assert is_cut
    assert text == "x" * 100 + "\n[The result is cut: 50 of 150 characters are left out.]"
