"""The answer to "how many users can this server take?", with its evidence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ollama_otel.analysis._capacity.backtest import Backtest, backtest
from ollama_otel.analysis._capacity.forecasting import forecast, load_curve, users_within
from ollama_otel.analysis._capacity.scenario import (
    Estimate,
    Forecast,
    Limit,
    LoadCurve,
    Scenario,
    UserLimit,
)
from ollama_otel.analysis._capacity.workload import Workload

__all__ = ["CapacityAnswer", "capacity"]

_OTHER_SLOTS: Final = (1, 2, 4, 8)
_BETTER: Final = 1.1
"""A setting that allows this many times more users is mentioned."""
_ROUGH: Final = 0.15
_UNFIT: Final = 0.4
"""Relative errors of a recorded figure from which a forecast is unreliable."""
_LIMITS: Final[dict[Limit, str]] = {
    "prefill": "evaluation of prompts is the limit",
    "decode": "generation is the limit",
    "loads": "loading of models is the limit",
}


class CapacityAnswer(Struct, frozen=True, kw_only=True):
    """The capacity of a server."""

    workload: Workload
    scenario: Scenario
    backtest: Backtest
    """How well the simulated server reproduces the recorded calls."""
    forecast: Forecast
    """The forecast of the scenario."""
    curve: LoadCurve
    users: tuple[UserLimit, ...]
    """With the scenario's own `num_parallel` first, then with others, in their order."""
    sentences: tuple[str, ...]
    """The answer as text."""


def capacity(
    workload: Workload,
    scenario: Scenario | None = None,
    *,
    time_to_first_token: float = 2.0,
    share: float = 0.95,
    seed: int = 0,
) -> CapacityAnswer:
    """Forecast a scenario, the load it holds, and the users it serves.

    `time_to_first_token` is the limit in seconds for the quantile `share`. Raises `ValueError` as
    `forecast` does.
    """
    chosen = Scenario() if scenario is None else scenario
    if chosen.users is None and scenario is None and workload.think_time is not None:
        chosen = replace(chosen, think_time=workload.think_time)
    own = workload.num_parallel if chosen.num_parallel is None else chosen.num_parallel
    users = tuple(
        users_within(
            workload,
            time_to_first_token,
            replace(chosen, num_parallel=slots),
            share=share,
            seed=seed,
        )
        for slots in (own, *(slots for slots in _OTHER_SLOTS if slots != own))
    )
    found = CapacityAnswer(
        workload=workload,
        scenario=chosen,
        backtest=backtest(workload),
        forecast=forecast(workload, chosen, seed=seed),
        curve=load_curve(workload, chosen, seed=seed),
        users=users,
        sentences=(),
    )
    return replace(found, sentences=tuple(_sentences(found)))


def _sentences(found: CapacityAnswer) -> Iterator[str]:
    yield from _doubts(found.backtest)
    own, *others = found.users
    slots = f"NUM_PARALLEL {own.scenario.num_parallel}"
    limit = f"p{own.quantile * 100:g} first token under {own.time_to_first_token:g} s"
    if own.users.value < 1:
        yield f"With {slots} it serves no user at {limit}; {_LIMITS[own.limit]}."
    else:
        yield (
            f"With {slots} it serves {_users(own)} at {limit}, who think "
            f"{own.scenario.think_time:.3g} s between calls; {_LIMITS[own.limit]}."
        )
    best = max(others, key=lambda each: each.users.value)
    if best.users.value >= _BETTER * max(own.users.value, 1.0):
        yield f"NUM_PARALLEL {best.scenario.num_parallel} gives {_users(best)}."
    else:
        more = "many more" if own.users.value >= 1 else "any"
        yield f"No other NUM_PARALLEL among {', '.join(map(str, _OTHER_SLOTS))} gives {more}."
    if own.limit == "loads":
        wait = found.forecast.load_wait
        yield (
            f"Calls wait for a load up to {wait.p95.value:.2g} s (p95) or {wait.p99.value:.2g} s "
            "(p99), with any number of slots: see `ollama-otel advise` on reloads."
        )
    yield from _load_sentences(found)


def _doubts(check: Backtest) -> Iterator[str]:
    """Yield doubts about the forecast, from the simulation of the recorded calls."""
    pairs = {
        "median first token": check.first_token_p50,
        "p95 first token": check.first_token_p95,
        "median duration": check.duration_p50,
        "p95 duration": check.duration_p95,
    }
    errors = {name: pair.error for name, pair in pairs.items() if pair is not None and pair.error}
    if not errors:
        return
    name = max(errors, key=lambda each: abs(errors[each]))
    if abs(errors[name]) >= _UNFIT:
        yield (
            f"Do not rely on these numbers: when the recorded calls are simulated, their {name} is "
            f"{errors[name]:+.0%} off. The server did not behave as it is simulated, or changed "
            "within the log: try a shorter period."
        )
    elif abs(errors[name]) >= _ROUGH:
        yield (
            f"These numbers are rough: when the recorded calls are simulated, their {name} is "
            f"{errors[name]:+.0%} off."
        )


def _load_sentences(found: CapacityAnswer) -> Iterator[str]:
    rate = found.workload.calls_per_second
    knee = found.curve.knee
    if knee is None:
        highest = found.curve.points[-1].scenario.load
        yield f"It holds {highest:.3g} times the recorded rate, the highest that was tried."
    else:
        yield (
            f"The knee is at {knee.value:.1f} times the recorded rate, {knee.value * rate:.3g} "
            "calls per second: above it the p95 of the duration is more than twice that of a light "
            "load."
        )
    forecast = found.forecast
    if forecast.is_saturated:
        yield (
            f"With {found.scenario.load:g} times the recorded rate, calls come faster than the "
            "server completes them: the waits grow without end."
        )
    if forecast.refused.value > 0.0:
        yield f"{forecast.refused.value:.1%} of the calls get status 503."


def _users(limit: UserLimit) -> str:
    users = limit.users
    count = f"{'more than ' if limit.is_more else ''}{users.value:.0f}"
    noun = "user" if count == "1" else "users"
    return f"{count} {noun}{_range(users)}"


def _range(estimate: Estimate) -> str:
    low, high = round(estimate.low), round(estimate.high)
    return "" if low == high else f" ({low} to {high})"
