"""Percentiles and the sign test."""

from __future__ import annotations

import math
import statistics
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel.replay._diff.statistics import percentile, sign_test

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=60)


def test_a_percentile_lies_on_the_line_between_two_values() -> None:
    assert percentile([4.0, 1.0, 2.0, 3.0], 0.5) == 2.5
    assert percentile([10.0, 20.0], 0.95) == pytest.approx(19.5)


def test_the_ends_are_the_smallest_and_the_largest_value() -> None:
    assert percentile([3.0, 1.0, 2.0], 0) == 1.0
    assert percentile([3.0, 1.0, 2.0], 1) == 3.0


def test_one_value_is_every_percentile() -> None:
    assert percentile([7.0], 0.95) == 7.0


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.1), ([1.0], -0.1)])
def test_no_values_and_no_share_are_errors(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="expected one value or more and a share from 0 to 1"):
        percentile(values, share)


@given(NUMBERS)
def test_percentiles_are_those_of_the_standard_library(values: list[float]) -> None:
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    for number, cut in enumerate(cuts, 1):
        assert percentile(values, number / 100) == pytest.approx(cut, abs=1e-6)


@given(NUMBERS)
def test_the_middle_percentile_is_the_median(values: list[float]) -> None:
    assert percentile(values, 0.5) == pytest.approx(statistics.median(values))


@pytest.mark.parametrize(
    ("more", "less", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (3, 3, 1.0),
        # 2 * (1/2) ** 6
        (6, 0, 2 / 64),
        # 2 * (1 + 8) / 2 ** 8
        (7, 1, 18 / 256),
        # 2 * (1 + 10 + 45) / 2 ** 10
        (2, 8, 112 / 1024),
    ],
)
def test_the_sign_test_is_as_worked_out_by_hand(more: int, less: int, p: float) -> None:
    assert sign_test([1.0] * more + [-2.0] * less) == p


def test_ties_are_left_out_of_the_sign_test() -> None:
    assert sign_test([1.0] * 6 + [0.0] * 100) == 2 / 64


def test_a_probability_too_small_for_a_float_is_the_smallest() -> None:
    assert sign_test([1.0] * 5000) == sys.float_info.min


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_sign_test_is_the_sum_of_the_binomial_tails(more: int, less: int) -> None:
    count = more + less
    tail = sum(math.comb(count, k) for k in range(min(more, less) + 1))
    assert sign_test([1.0] * more + [-1.0] * less) == min(1.0, 2 * tail / 2**count)


@given(st.lists(st.floats(-10, 10)))
def test_the_sign_test_is_symmetric_and_a_probability(differences: list[float]) -> None:
    p = sign_test(differences)
    assert 0 < p <= 1
    assert p == sign_test([-difference for difference in differences])


@given(st.integers(0, 100), st.integers(1, 100))
def test_more_uneven_signs_are_less_probable(less: int, difference: int) -> None:
    even = [1.0] * (less + difference) + [-1.0] * less
    assert sign_test([*even, 1.0, 1.0]) <= sign_test([*even, 1.0, -1.0])
