"""Several runs: the rates of a sweep, equal runs of one rate, and the search for the knee."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Unpack

from ollama_otel._load.confidence import Estimate, estimate_of
from ollama_otel._load.knee import Knee, KneeSearch
from ollama_otel._load.quantiles import Quantiles
from ollama_otel._load.request import TimedRequest
from ollama_otel._load.result import LoadResult
from ollama_otel._load.run import LoadOptions, arun_load
from ollama_otel._load.verdict import Verdict

__all__ = ["Plans", "StageResult", "Targets", "find_knee", "run_stage"]

_TRIES: Final = 3
"""Number of tries for a rate that this machine does not send on time."""

Plans = Callable[[float | None, int], Sequence[TimedRequest]]
"""Makes the plan for a rate and the number of the equal run; the rate is None for recorded ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The targets that a held rate meets; None: no such target."""

    time_to_first_token: float | None = None
    """Limit of the 95th percentile, seconds."""
    latency: float | None = None
    """The same for the time to the end."""


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """Equal runs of one rate."""

    rate: float | None
    """Intended requests per second; None for recorded arrivals."""
    runs: tuple[LoadResult, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the runs."""
        verdicts = {run.pace.verdict for run in self.runs}
        order: tuple[Verdict, ...] = ("generator_bound", "unknown", "valid")
        return next(each for each in order if each in verdicts)

    @cached_property
    def time_to_first_token_p95(self) -> Estimate | None:
        """The 95th percentile in seconds: its mean over the runs."""
        return _of_quantiles(run.time_to_first_token for run in self.runs)

    @cached_property
    def latency_p95(self) -> Estimate | None:
        """The same for the time to the end."""
        return _of_quantiles(run.latency for run in self.runs)

    @cached_property
    def throughput(self) -> Estimate | None:
        """Completed requests per second: the mean over the runs."""
        return estimate_of([run.throughput for run in self.runs if run.throughput is not None])

    @cached_property
    def output_token_rate(self) -> Estimate | None:
        """Generated tokens per second: the mean over the runs."""
        rates = [run.output_token_rate for run in self.runs]
        return estimate_of([rate for rate in rates if rate is not None])

    def broken_by(self, targets: Targets) -> str | None:
        """Return the reason why the server did not hold the rate, as a sentence; None if it did."""
        for run in self.runs:
            if run.stop != "finished":
                return run.stop_detail or run.stop
        for name, estimate, target in (
            ("time to first token", self.time_to_first_token_p95, targets.time_to_first_token),
            ("latency", self.latency_p95, targets.latency),
        ):
            if target is None:
                continue
            if estimate is None:
                return f"no request has a {name}"
            if estimate.mean > target:
                return f"p95 {name} was {estimate.mean:.3g} s, and the target is {target:g} s"
        return None


def _of_quantiles(values: Iterable[Quantiles | None]) -> Estimate | None:
    return estimate_of([each.p95 for each in values if each is not None])


async def run_stage(
    plans: Plans,
    rate: float | None,
    *,
    repeat: int = 1,
    host: str,
    **options: Unpack[LoadOptions],
) -> StageResult:
    """Run a rate `repeat` times, each time with other random arrivals.

    It stops repeating after a run that did not finish. Raises the exceptions of `arun_load`.
    """
    runs: list[LoadResult] = []
    while len(runs) < repeat and all(run.stop == "finished" for run in runs):
        runs.append(await arun_load(plans(rate, len(runs)), host=host, **options))
    return StageResult(rate=rate, runs=tuple(runs))


async def find_knee(
    stage: Callable[[float], Awaitable[StageResult]], first: float, targets: Targets
) -> AsyncIterator[tuple[StageResult, Knee]]:
    """Run stages until the knee is found; yield each with the bounds so far.

    A stage that this machine could not send on time says nothing about the server. It is run
    again, and the search ends when that fails three times. It also ends when a stage is
    interrupted.
    """
    search, tries = KneeSearch(first), 0
    while (rate := search.next()) is not None and tries < _TRIES:
        result = await stage(rate)
        is_interrupted = result.runs[-1].stop == "interrupted"
        tries += 1
        if result.verdict == "valid" and not is_interrupted:
            search.add(rate, holds=result.broken_by(targets) is None)
            tries = 0
        yield result, search.knee
        if is_interrupted:
            return
