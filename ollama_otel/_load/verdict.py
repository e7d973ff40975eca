"""Decides whether a run measured the server, or the load generator itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ollama_otel._load.quantiles import Quantiles, quantiles_of

__all__ = ["Pace", "Verdict", "pace_of"]

Verdict = Literal["valid", "generator_bound", "unknown"]
"""Whether requests were sent when they should have been.

`valid`: they were. `generator_bound`: this machine could not send them on time, so the results do
not describe the server at that rate. `unknown`: nothing was sent.
"""

_LONGEST_DELAY: Final = 0.005
"""Limit of the 99th percentile of the schedule delay, seconds."""
_RATE_ERROR: Final = 0.01
"""Largest relative difference between the achieved and the intended rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How precisely the requests of a run were sent."""

    verdict: Verdict
    reason: str
    """The verdict as a sentence."""
    schedule_delay: Quantiles | None
    """Seconds from the intended time of a request until it was sent; None if none was sent."""
    intended_rate: float | None
    """Requests divided by the seconds from the start of the run to the last intended time."""
    achieved_rate: float | None
    """Requests divided by the seconds from the start of the run to the time at which the last one
    was sent.
    """


def pace_of(intended: Sequence[float], sent: Sequence[float]) -> Pace:
    """Compare the intended times of requests with those at which they were sent.

    Times are seconds from the start of the run.
    """
    delays = quantiles_of(
        [at - planned for planned, at in zip(intended, sent, strict=True)],
    )
    wanted, achieved = _rate(intended), _rate(sent)
    verdict, reason = _judged(delays, wanted, achieved)
    return Pace(
        verdict=verdict,
        reason=reason,
        schedule_delay=delays,
        intended_rate=wanted,
        achieved_rate=achieved,
    )


def _rate(times: Sequence[float]) -> float | None:
    last = max(times, default=0.0)
    return len(times) / last if last > 0 else None


def _judged(
    delays: Quantiles | None, wanted: float | None, achieved: float | None
) -> tuple[Verdict, str]:
    if delays is None:
        return "unknown", "no request was sent"
    late = f"99 % of the requests were sent within {delays.p99 * 1000:.1f} ms of their time"
    if delays.p99 > _LONGEST_DELAY:
        return "generator_bound", (
            f"{late}, and at most {_LONGEST_DELAY * 1000:.0f} ms are allowed"
        )
    if wanted and achieved and abs(achieved - wanted) > _RATE_ERROR * wanted:
        return "generator_bound", (
            f"{achieved:.4g} requests/s were sent where {wanted:.4g} were intended, and they may "
            f"differ by {_RATE_ERROR:.0%}"
        )
    return "valid", late
