"""The search for the highest rate that a server holds."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from ollama_otel._load.knee import Knee, KneeSearch


def searched(first: float, knee: float) -> tuple[Knee, int]:
    """Search in a server that holds exactly the rates up to `knee`; also count the stages."""
    search, stages = KneeSearch(first), 0
    while (rate := search.next()) is not None:
        search.add(rate, holds=rate <= knee)
        stages += 1
        assert stages < 50
    return search.knee, stages


@given(
    first=st.floats(min_value=0.1, max_value=20),
    service=st.floats(min_value=0.01, max_value=2),
    factor=st.floats(min_value=3.5, max_value=50),
)
def test_the_knee_of_a_queue_is_found(first: float, service: float, factor: float) -> None:
    """Of M/M/1 the 95th percentile of the time in the system is ln(20) / (1/service - rate)."""
    target = service * factor
    true = 1 / service - math.log(20) / target
    found, stages = searched(first, true)
    if true < first / 256:
        assert found.holds is None
        return
    assert found.is_found
    assert found.holds is not None and found.breaks is not None
    assert found.holds <= true < found.breaks <= found.holds * 1.1
    assert stages <= 2 + abs(math.log2(true / first)) + 4


def test_a_server_that_holds_all_has_no_knee() -> None:
    found, _ = searched(1.0, math.inf)
    assert (found.holds, found.breaks, found.is_found) == (1000.0, None, False)


def test_a_server_that_holds_nothing_has_no_knee() -> None:
    found, stages = searched(1.0, 0.0)
    assert (found.holds, found.breaks, found.is_found) == (None, 1 / 256, False)
    assert stages == 9


def test_a_rate_that_broke_below_one_that_held_was_chance() -> None:
    search = KneeSearch(1.0)
    search.add(4.0, holds=True)
    search.add(2.0, holds=False)
    assert search.knee == Knee(holds=4.0, breaks=None)
