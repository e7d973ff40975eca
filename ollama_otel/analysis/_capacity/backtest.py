"""Compares the simulated server with the real one, for the recorded calls."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from ollama_otel.analysis._capacity.quantiles import quantile
from ollama_otel.analysis._capacity.simulation import simulate
from ollama_otel.analysis._capacity.workload import Workload

__all__ = ["Backtest", "Pair", "backtest"]


class Pair(Struct, frozen=True, kw_only=True, gc=False):
    """A recorded figure, seconds, and the simulated one."""

    recorded: float
    simulated: float

    @property
    def error(self) -> float | None:
        """The relative error of the simulated one; None if the recorded one is 0."""
        return self.simulated / self.recorded - 1 if self.recorded else None


class Backtest(Struct, frozen=True, kw_only=True, gc=False):
    """Recorded calls, simulated again with their own arrivals and lengths."""

    duration_p50: Pair
    duration_p95: Pair
    first_token_p50: Pair | None
    """None: no call was a stream."""
    first_token_p95: Pair | None


def backtest(workload: Workload) -> Backtest:
    """Simulate the recorded calls as they came."""
    ends = {id(end.demand): end for end in simulate(workload.demands, workload.setup()).ends}
    simulated = [ends[id(demand)] for demand in workload.demands]
    streams = [
        (first, end.time_to_first_token)
        for first, end in zip(workload.first_tokens, simulated, strict=True)
        if first is not None
    ]
    durations = [end.duration for end in simulated]
    return Backtest(
        duration_p50=_pair(workload.durations, durations, 0.5),
        duration_p95=_pair(workload.durations, durations, 0.95),
        first_token_p50=_of_streams(streams, 0.5),
        first_token_p95=_of_streams(streams, 0.95),
    )


def _of_streams(streams: Sequence[tuple[float, float]], share: float) -> Pair | None:
    if not streams:
        return None
    return _pair([first for first, _ in streams], [first for _, first in streams], share)


def _pair(recorded: Sequence[float], simulated: Sequence[float], share: float) -> Pair:
    return Pair(recorded=quantile(recorded, share), simulated=quantile(simulated, share))
