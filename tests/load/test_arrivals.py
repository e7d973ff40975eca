"""When requests arrive."""

from __future__ import annotations

from itertools import pairwise
from statistics import fmean, pvariance

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_otel._load.arrivals import arrival_times
from ollama_otel.errors import SettingsError

RATES = st.floats(min_value=0.01, max_value=1000)
DURATIONS = st.floats(min_value=0.01, max_value=20)
KINDS = st.sampled_from(["poisson", "constant"])


@given(rate=RATES, duration=DURATIONS, kind=KINDS, seed=st.integers())
def test_arrivals_are_in_order_and_as_many_as_asked_for(
    rate: float, duration: float, kind: str, seed: int
) -> None:
    times = arrival_times(rate, duration, arrivals=kind, seed=seed)  # type: ignore[arg-type]
    assert times == sorted(times)
    assert len(times) == max(1, round(rate * duration))
    assert times[0] >= 0
    # Half a request more than fits, as the count is rounded.
    assert times[-1] <= duration + 0.5 / rate


@given(rate=RATES, duration=DURATIONS, seed=st.integers())
def test_the_same_seed_gives_the_same_times(rate: float, duration: float, seed: int) -> None:
    assert arrival_times(rate, duration, seed=seed) == arrival_times(rate, duration, seed=seed)


def test_intervals_of_a_poisson_process_have_the_mean_and_the_variance_of_one() -> None:
    times = arrival_times(50, 400, seed=7)
    gaps = [after - before for before, after in pairwise(times)]
    assert fmean(gaps) == pytest.approx(1 / 50, rel=0.01)
    assert pvariance(gaps) == pytest.approx(1 / 50**2, rel=0.05)
    # Intervals are exponential: as many exceed their mean as 1/e.
    assert sum(gap > 1 / 50 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.01)


def test_other_seeds_give_other_times() -> None:
    assert arrival_times(5, 10, seed=1) != arrival_times(5, 10, seed=2)


def test_constant_arrivals_have_equal_intervals() -> None:
    assert arrival_times(4, 1, arrivals="constant") == [0.0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize(
    ("rate", "duration", "kind", "told"),
    [
        (0.0, 1.0, "poisson", "expected a rate above 0"),
        (2000.0, 1.0, "poisson", "at most 1000 requests/s, found 2000"),
        (float("nan"), 1.0, "poisson", "expected a rate above 0"),
        (1.0, 0.0, "poisson", "expected a duration above 0 seconds"),
        (1.0, 1.0, "bursts", "expected arrivals to be one of poisson, constant, found 'bursts'"),
    ],
)
def test_what_cannot_be_used_is_an_error(
    rate: float, duration: float, kind: str, told: str
) -> None:
    with pytest.raises(SettingsError, match=told):
        arrival_times(rate, duration, arrivals=kind)  # type: ignore[arg-type]
