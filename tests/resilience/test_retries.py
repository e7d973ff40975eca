"""Which attempts are repeated, and when, by values."""

from __future__ import annotations

import time
from typing import Any, get_args

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel._resilience.retries import is_repeatable, seconds_of
from ollama_otel._wire.endpoints import ENDPOINTS, find_endpoint
from ollama_otel.errors import SettingsError
from ollama_otel.records import ErrorType
from ollama_otel.resilience import Retries

REPEATED = {
    *("connect", "timeout", "network", "incomplete", "rate_limited"),
    *("server_busy", "runner_crashed", "load_failed", "upstream", "server_error"),
}


@pytest.mark.parametrize("error_type", get_args(ErrorType))
def test_only_errors_that_may_pass_are_repeated(error_type: ErrorType) -> None:
    wait = Retries().wait_after(1, error_type, None)
    assert (wait is not None) == (error_type in REPEATED)


def test_there_are_so_many_attempts_and_no_more() -> None:
    retries = Retries(3)
    assert retries.wait_after(2, "connect", None) is not None
    assert retries.wait_after(3, "connect", None) is None
    assert Retries(1).wait_after(1, "connect", None) is None


@given(st.integers(1, 60))
def test_the_wait_is_random_below_a_doubling_limit(attempt: int) -> None:
    wait = Retries(100, first_wait=0.5, longest_wait=30.0).wait_after(attempt, "connect", None)
    assert wait is not None
    assert 0 <= wait <= min(30.0, 0.5 * 2 ** (attempt - 1))


def test_the_wait_is_spread_over_the_whole_range() -> None:
    waits = [Retries(9).wait_after(4, "connect", None) or 0.0 for _ in range(300)]
    assert min(waits) < 0.8
    assert 3.2 < max(waits) <= 4.0


def test_a_strategy_of_tenacity_can_be_given() -> None:
    assert Retries(wait=tenacity.wait_fixed(7)).wait_after(1, "connect", None) == 7.0


def test_retry_after_is_obeyed_and_too_long_a_one_ends_the_attempts() -> None:
    retries = Retries(wait=tenacity.wait_fixed(2), longest_retry_after=60)
    assert retries.wait_after(1, "server_busy", 10.0) == 10.0
    assert retries.wait_after(1, "server_busy", 1.0) == 2.0
    assert retries.wait_after(1, "server_busy", 61.0) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("", None),
        ("120", 120.0),
        (" 5 ", 5.0),
        ("-5", None),
        ("soon", None),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 10.0),
        ("Fri, 31 Dec 1999 23:00:00 GMT", 0.0),
        ("9" * 400, float("inf")),
        ("Fri, 99 Dec 1999 23:00:00 GMT", None),
    ],
)
def test_a_retry_after_is_a_number_or_a_date(text: str | None, seconds: float | None) -> None:
    assert seconds_of(text, 946684789.0) == seconds


@given(st.text())
def test_any_retry_after_is_read_without_an_error(text: str) -> None:
    found = seconds_of(text, time.time())
    assert found is None or found >= 0


def test_what_changes_the_server_is_repeated_only_if_it_was_not_begun() -> None:
    for method, path in (("POST", "/api/pull"), ("DELETE", "/api/delete"), ("POST", "/api/create")):
        endpoint: Any = find_endpoint(method, path)
        assert not is_repeatable(endpoint, "network")
        assert is_repeatable(endpoint, "connect")
        assert is_repeatable(endpoint, "server_busy")
    for row in ENDPOINTS:
        if row.moves_model or row.method == "GET" or row.name == "show_model":
            assert is_repeatable(row, "network"), row


@pytest.mark.parametrize(
    "bad",
    [{"attempts": 0}, {"first_wait": -1}, {"longest_wait": -1}, {"longest_retry_after": -1}],
)
def test_values_that_make_no_sense_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"{next(iter(bad))} must be"):
        Retries(**bad)
