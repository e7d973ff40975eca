"""The input and output of a forecast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

__all__ = ["Estimate", "Forecast", "Limit", "LoadCurve", "Scenario", "Spread", "UserLimit"]

Limit = Literal["prefill", "decode", "loads"]
"""What the slowest 10 % of the calls (by first token) mostly waited for.

`prefill`: evaluation of prompts, their own or those of other calls. `decode`: generation of other
calls, as they had no slot. `loads`: their model was not in memory.
"""

_THINK_TIME: Final = 30.0


class Scenario(Struct, frozen=True, kw_only=True):
    """Changes compared to the recorded calls; None: as recorded. Times are seconds.

    Raises `ValueError` for invalid values.
    """

    load: float = 1.0
    """Calls per second, as a multiple of the recorded rate."""
    users: int | None = None
    """Number of users instead of the recorded arrivals: each sends a call, waits for the answer,
    thinks, and sends the next one.
    """
    think_time: float = _THINK_TIME
    """Mean of the users' pauses, which are exponentially distributed."""
    num_parallel: int | None = None
    """`OLLAMA_NUM_PARALLEL`: slots of each model."""
    max_loaded: int | None = None
    """`OLLAMA_MAX_LOADED_MODELS`."""
    max_queue: int | None = None
    """`OLLAMA_MAX_QUEUE`: calls that wait for a load."""
    keep_alive: float | None = None
    """`OLLAMA_KEEP_ALIVE`."""
    mix: Mapping[str, float] | None = None
    """Share of the calls by model, in any unit."""
    prefill_speed: float = 1.0
    """How many times faster prompts are evaluated, on another GPU."""
    decode_speed: float = 1.0
    """How many times faster tokens are generated."""
    load_speed: float = 1.0
    """How many times faster models are loaded."""
    memory: int | None = None
    """Bytes for models."""

    def __post_init__(self) -> None:
        positive = ("load", "prefill_speed", "decode_speed", "load_speed")
        for name in positive:
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name}: expected a number above 0, found {getattr(self, name)}")
        for name in ("users", "num_parallel"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, found {value}")
        if self.think_time < 0.0:
            raise ValueError(f"think_time: expected at least 0, found {self.think_time}")
        if self.mix is not None and (
            not self.mix or min(self.mix.values()) < 0.0 or not sum(self.mix.values()) > 0.0
        ):
            raise ValueError("mix: expected shares of at least 0 that are not all 0")


class Estimate(Struct, frozen=True, kw_only=True, gc=False):
    """A value, and its range in 9 of 10 simulated runs."""

    value: float
    """The median of the runs."""
    low: float
    high: float


class Spread(Struct, frozen=True, kw_only=True, gc=False):
    """Quantiles over the calls."""

    p50: Estimate
    p95: Estimate
    p99: Estimate


class Forecast(Struct, frozen=True, kw_only=True):
    """The forecast for a server. Times are seconds, rates are per second."""

    scenario: Scenario
    calls: int
    """Calls in each simulated run."""
    runs: int
    """Number of simulated runs."""
    time_to_first_token: Spread
    """From the arrival of a call to its first token."""
    duration: Spread
    """From the arrival of a call to its end."""
    queue: Spread
    """Wait for a slot of the engine."""
    load_wait: Spread
    """Wait until the model is in memory: queue of the scheduler, eviction, load."""
    arrivals: Estimate
    """Rate of arriving calls."""
    throughput: Estimate
    """Rate of completed calls."""
    tokens: Estimate
    """Rate of generated tokens."""
    refused: Estimate
    """Share of the calls that get status 503, as the queue of the scheduler is full."""
    prefill: Estimate
    """Share of the time in which an engine evaluates prompts; above 1 if several do at once."""
    decode: Estimate
    """Share of the time in which an engine generates."""
    loading: Estimate
    """Share of the time in which a model is loaded."""
    limit: Limit
    """What the latest calls wait for."""
    is_saturated: bool
    """Whether calls come faster than they are completed, so that the queue grows without limit and
    the times depend on the length of the run.
    """


class LoadCurve(Struct, frozen=True, kw_only=True):
    """Forecasts over the load."""

    points: tuple[Forecast, ...]
    """With growing load."""
    knee: Estimate | None
    """The highest load, as a multiple of the recorded rate, at which the p95 of the duration is at
    most twice that of a light load and the server keeps up; `low` holds it and `high` does not.
    None: all loads that were tried do.
    """


class UserLimit(Struct, frozen=True, kw_only=True):
    """How many users a server can take."""

    scenario: Scenario
    users: Estimate
    """The most users for whom the quantile of the time to the first token is below the limit; 0:
    not even one.
    """
    quantile: float
    """Which one, 0 to 1: 0.95 is the p95."""
    time_to_first_token: float
    """The limit, seconds."""
    is_more: bool
    """Whether the real number is higher, as the search ended at its maximum."""
    limit: Limit
    """What the calls wait for with this number of users."""
