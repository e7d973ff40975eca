"""A guard against a slip by a lot, and what the benchmark says of fairness."""

from __future__ import annotations

import pytest

from .resilience import fairness, measure, ratios


@pytest.mark.slow
def test_resilience_costs_no_more_than_it_should_by_far() -> None:
    # A slip shows in every run, what else the machine does in some.
    for _ in range(3):
        found = ratios(measure(7))
        if found["all"] < 2.0 and found["retries"] < 1.6:
            return
    raise AssertionError(found)


def test_others_wait_for_one_call_and_not_for_the_batch() -> None:
    rows = {(row["scenario"], row["order"]): row for row in fairness()}
    fair = rows["batch_and_user", "fair"]
    assert fair["other calls"] == 25
    assert fair["others longest wait"] <= 11
    plain = rows["batch_and_user", "first in, first out"]
    assert plain["other calls"] == 0
    fair = rows["ten_users", "fair"]
    assert fair["others median wait"] < 0.5 * fair["heavy median wait"]
