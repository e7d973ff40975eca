"""What a person reads is the value, to its last digit that is shown."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel.analysis._report.quantities import quantity

SIZES = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "": 1.0, "ms": 1e-3, "s": 1.0}


def read(text: str) -> float:
    """The value that a text stands for."""
    if match := re.fullmatch(r"(\d+) h (\d\d) min", text):
        return int(match[1]) * 3600.0 + int(match[2]) * 60
    if match := re.fullmatch(r"(\d+) min (\d\d) s", text):
        return int(match[1]) * 60.0 + int(match[2])
    if text.endswith(" %"):
        return float(text.removesuffix(" %")) / 100
    number, _, unit = text.removesuffix("/s").partition(" ")
    return float(number.replace(",", "")) * SIZES[unit]


@given(st.integers(0, 10**14) | st.floats(1e-3, 1e14))
def test_a_number_is_that_number(value: float) -> None:
    assert read(quantity(value, "number")) == pytest.approx(value, rel=0.0051)
    assert read(quantity(value, "per_second")) == pytest.approx(value, rel=0.0051)


@given(st.floats(0.01, 1e13))
def test_an_amount_is_that_amount(value: float) -> None:
    assert read(quantity(value, "money")) == pytest.approx(value, rel=0.0051)


@given(st.floats(1e-4, 359_000))
def test_a_time_is_that_time(value: float) -> None:
    # Hours are shown to the minute, milliseconds to a tenth.
    allowed = max(value * 0.0051, 0.00005)
    shown = read(quantity(value, "seconds"))
    assert abs(shown - value) <= (
        60 if value >= 3599 else max(allowed, 0.005 if value > 0.0995 else 0.00051)
    )


@given(st.floats(0.0005, 100))
def test_a_share_is_that_share(value: float) -> None:
    assert abs(read(quantity(value, "share")) - value) <= (0.00051 if value < 0.09 else 0.0051)


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (305_950, "number", "306 k"),
        (9_999, "number", "9,999"),
        (999_600, "number", "1 M"),
        (0, "number", "0"),
        (None, "number", "–"),  # noqa: RUF001
        (0, "seconds", "0 ms"),
        (0.00001, "seconds", "<0.1 ms"),
        (0, "share", "0.0 %"),
        (0.0004, "share", "<0.1 %"),
        (1_234_567, "count", "1,234,567"),
    ],
)
def test_values_at_the_bounds(value: Any, unit: Any, shown: str) -> None:
    assert quantity(value, unit) == shown
