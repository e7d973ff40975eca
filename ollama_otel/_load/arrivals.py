"""Arrival times of requests: ordered lists of seconds from the start of a run."""

from __future__ import annotations

import math
import random
from typing import Literal, get_args

from ollama_otel.errors import SettingsError

__all__ = ["FASTEST_RATE", "Arrivals", "arrival_times"]

Arrivals = Literal["poisson", "constant"]
"""`poisson`: at random, as requests of many independent users. `constant`: at equal intervals."""

FASTEST_RATE = 1000.0
"""Highest allowed rate, requests per second; one process cannot send more on time."""


def arrival_times(
    rate: float, duration: float, *, arrivals: Arrivals = "poisson", seed: int = 0
) -> list[float]:
    """Return arrival times at `rate` per second within `duration` seconds: at least one.

    Both kinds have rate times duration arrivals, rounded: given its count, the arrivals of a
    Poisson process are independent and uniformly distributed. So the intended rate is exact, and
    two runs of one rate differ only in their pattern. The same seed gives the same times. Raises
    `SettingsError` for invalid values.
    """
    _check(rate, duration, arrivals)
    count = max(1, round(rate * duration))
    if arrivals == "constant":
        return [number / rate for number in range(count)]
    chance = random.Random(seed)  # noqa: S311 - no secret
    return sorted(chance.uniform(0.0, duration) for _ in range(count))


def _check(rate: float, duration: float, arrivals: str) -> None:
    if not 0 < rate <= FASTEST_RATE:
        raise SettingsError(
            f"expected a rate above 0 and of at most {FASTEST_RATE:g} requests/s, found {rate:g}"
        )
    if not 0 < duration < math.inf:
        raise SettingsError(f"expected a duration above 0 seconds, found {duration:g}")
    if arrivals not in get_args(Arrivals):
        raise SettingsError(
            f"expected arrivals to be one of {', '.join(get_args(Arrivals))}, found {arrivals!r}"
        )
