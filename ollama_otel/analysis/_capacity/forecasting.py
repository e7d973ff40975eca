"""Forecasts: simulated runs of a learned workload under a scenario."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from typing import Any, Final

from msgspec.structs import replace

from ollama_otel.analysis._capacity.demand import CallEnd, Demand
from ollama_otel.analysis._capacity.learning import LearntModel
from ollama_otel.analysis._capacity.quantiles import median, quantile
from ollama_otel.analysis._capacity.scenario import (
    Estimate,
    Forecast,
    Limit,
    LoadCurve,
    Scenario,
    Spread,
    UserLimit,
)
from ollama_otel.analysis._capacity.server import ModelSpeed, ServerSetup, StepTimes
from ollama_otel.analysis._capacity.simulation import SimulatedRun, simulate
from ollama_otel.analysis._capacity.workload import Workload

__all__ = ["forecast", "load_curve", "users_within"]

_RUNS: Final = 10
_FEWEST: Final = 500
_MOST: Final = 4000
"""Least and most calls of a simulated run; within them, the recorded number is used."""
_BLOCK: Final = 25
"""Calls that are drawn together, to preserve bursts and sequences of equal calls."""
_CALLS_PER_USER: Final = 5
_WARM_UP: Final = 0.2
"""Share of the first calls of a closed loop that is left out, as the loop is not yet in
equilibrium.
"""
_KEEPS_UP: Final = 0.95
_AS_KNEE: Final = 2.0
_LIGHT: Final = 0.1
_STEP: Final = 1.5
_CLOSE: Final = 1.05
_HIGHEST: Final = 200.0
_LATE: Final = 0.9
"""Quantile of the time to the first token above which calls show the limit."""
_MOST_USERS: Final = 4096
_Run = tuple[SimulatedRun, tuple[CallEnd, ...]]


def forecast(
    workload: Workload, scenario: Scenario | None = None, *, runs: int = _RUNS, seed: int = 0
) -> Forecast:
    """Forecast the server's behaviour; equal arguments give equal forecasts.

    Each run draws new samples of the calls, and of the evidence for the models' speed, from the
    recorded ones (a bootstrap), which shows the uncertainty of the estimates. Raises `ValueError`
    for a model in the scenario's mix that has no recorded call.
    """
    chosen = Scenario() if scenario is None else scenario
    return _forecast(chosen, [trial.run(chosen) for trial in _trials(workload, runs, seed)])


def load_curve(
    workload: Workload, scenario: Scenario | None = None, *, runs: int = 4, seed: int = 0
) -> LoadCurve:
    """Forecast growing loads until the server does not keep up, and find the knee.

    The scenario's load and its number of users have no effect. Raises `ValueError` as `forecast`
    does.
    """
    base = Scenario() if scenario is None else scenario
    trials = _trials(workload, runs, seed)

    def at(load: float) -> Forecast:
        chosen = replace(base, load=load, users=None)
        return _forecast(chosen, [trial.run(chosen) for trial in trials])

    points = [at(_LIGHT)]
    light = points[0].duration.p95.value

    def holds(point: Forecast) -> bool:
        return not point.is_saturated and point.duration.p95.value <= _AS_KNEE * light

    load = 0.5
    while load < _HIGHEST and not points[-1].is_saturated:
        points.append(at(load))
        load *= _STEP
    broken = next((point for point in points if not holds(point)), None)
    if broken is None:
        return LoadCurve(points=tuple(points), knee=None)
    low = points[max(0, points.index(broken) - 1)].scenario.load
    high = broken.scenario.load
    while high > low * _CLOSE:
        middle = (low * high) ** 0.5
        points.append(at(middle))
        low, high = (middle, high) if holds(points[-1]) else (low, middle)
    points.sort(key=lambda point: point.scenario.load)
    return LoadCurve(points=tuple(points), knee=Estimate(value=low, low=low, high=high))


def users_within(
    workload: Workload,
    time_to_first_token: float,
    scenario: Scenario | None = None,
    *,
    share: float = 0.95,
    runs: int = 3,
    seed: int = 0,
) -> UserLimit:
    """Find the most users for whom a quantile of the time to the first token is below a limit.

    The scenario's think time is used; its load and number of users have no effect.
    `time_to_first_token` is in seconds. Raises `ValueError` as `forecast` does.
    """
    base = Scenario() if scenario is None else scenario
    counts: list[float] = []
    limits: list[Limit] = []
    for trial in _trials(workload, runs, seed):
        most = _most_users(trial, base, lambda times: quantile(times, share) <= time_to_first_token)
        counts.append(most)
        limits.append(_limit([trial.run(replace(base, users=max(1, most)))]))
    return UserLimit(
        scenario=base,
        users=_estimate(counts),
        quantile=share,
        time_to_first_token=time_to_first_token,
        is_more=median(counts) >= _MOST_USERS,
        limit=max(set(limits), key=limits.count),
    )


def _most_users(trial: _Trial, base: Scenario, suits: Callable[[list[float]], bool]) -> int:
    def holds(users: int) -> bool:
        _, ends = trial.run(replace(base, users=users))
        return suits([end.time_to_first_token for end in ends])

    low, high = 0, 1
    while high <= _MOST_USERS and holds(high):
        low, high = high, high * 2
    if low == _MOST_USERS:
        return low
    while high - low > max(1, low // 30):
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


# --- one run ------------------------------------------------------------------------------


def _trials(workload: Workload, runs: int, seed: int) -> list[_Trial]:
    return [_Trial(workload, f"{seed} {run}", is_pessimistic=bool(run % 2)) for run in range(runs)]


class _Trial:
    """One random draw: the speed of the models, and then the calls of each run."""

    def __init__(self, workload: Workload, seed: str, *, is_pessimistic: bool) -> None:
        self._workload = workload
        self._seed = seed
        self._models = workload.resampled(random.Random(seed))
        self._is_pessimistic = is_pessimistic

    def run(self, scenario: Scenario) -> _Run:
        """Simulate once; return the run, and the calls that count."""
        setup = self._setup(scenario)
        calls = _Calls(self._workload, scenario, self._models, random.Random(self._seed))
        if scenario.users is None:
            run = simulate(calls.arrivals(), setup)
            return run, run.ends
        run = simulate(calls.users(scenario.users), setup, then=calls.next)
        return run, run.ends[int(_WARM_UP * len(run.ends)) :]

    def _setup(self, scenario: Scenario) -> ServerSetup:
        workload = self._workload
        speeds = {name: self._speed(model, scenario) for name, model in self._models.items()}
        changed: dict[str, Any] = {
            name: getattr(scenario, name)
            for name in ("num_parallel", "max_loaded", "max_queue", "keep_alive", "memory")
            if getattr(scenario, name) is not None
        }
        max_loaded = changed.get("max_loaded", workload.max_loaded)
        warm = dict(islice(workload.warm.items(), max_loaded or None))
        return workload.setup(**changed, models=speeds, warm=warm)

    def _speed(self, model: LearntModel, scenario: Scenario) -> ModelSpeed:
        speed = model.speed
        step = speed.step
        if model.most_calls == 1 and self._is_pessimistic:
            # The effect of concurrent calls is unknown: half of the trials assume that concurrency
            # brings nothing, the other half that calls do not slow each other.
            first = step.points[0][1]
            step = StepTimes(((1, first), (2, 2 * first)))
        return replace(
            speed,
            step=step.times(1 / scenario.decode_speed),
            step_per_context_token=speed.step_per_context_token / scenario.decode_speed,
            prefill=speed.prefill / scenario.prefill_speed,
            prefill_per_token=speed.prefill_per_token / scenario.prefill_speed,
            load=speed.load / scenario.load_speed,
        )


class _Calls:
    """Draws calls from the recorded ones."""

    def __init__(
        self,
        workload: Workload,
        scenario: Scenario,
        models: Mapping[str, LearntModel],
        chance: random.Random,
    ) -> None:
        self._workload = workload
        self._scenario = scenario
        self._chance = chance
        self._recorded = [
            replace(
                demand,
                overhead=models[demand.model].overhead,
                before_first=models[demand.model].before_first,
                after_last=models[demand.model].after_last,
            )
            for demand in workload.demands
        ]
        self._by_model = _by_model(self._recorded, scenario.mix)
        self._left = 0

    def arrivals(self) -> Iterator[Demand]:
        """Yield calls with recorded gaps between them, in randomly drawn blocks."""
        recorded = self._recorded
        count = min(max(len(recorded), _FEWEST), _MOST)
        gaps = [later.arrives_at - earlier.arrives_at for earlier, later in pairwise(recorded)]
        gaps.insert(0, sum(gaps) / len(gaps) if gaps else 1.0)
        time = 0.0
        for _ in range(0, count, _BLOCK):
            start = self._chance.randrange(len(recorded))
            for place in range(start, start + _BLOCK):
                number = place % len(recorded)
                time += gaps[number] / self._scenario.load
                yield replace(self._mixed(recorded[number]), arrives_at=time)

    def users(self, users: int) -> list[Demand]:
        """Return the first call of each user."""
        self._left = max(_FEWEST, _CALLS_PER_USER * users) - users
        first = []
        for user in range(users):
            at = self._chance.uniform(0.0, self._scenario.think_time)
            first.append(replace(self._drawn(), arrives_at=at, user=user))
        return first

    def next(self, end: CallEnd) -> Demand | None:
        """Return the next call of a user, after some thought."""
        self._left -= 1
        if self._left < 0:
            return None
        think_time = self._scenario.think_time
        pause = self._chance.expovariate(1.0 / think_time) if think_time > 0.0 else 0.0
        at = end.demand.arrives_at + end.duration + pause
        return replace(self._drawn(), arrives_at=at, user=end.demand.user)

    def _drawn(self) -> Demand:
        return self._mixed(self._chance.choice(self._recorded))

    def _mixed(self, demand: Demand) -> Demand:
        if not self._by_model:
            return demand
        names = list(self._by_model)
        weights = [self._by_model[name][0] for name in names]
        (name,) = self._chance.choices(names, weights)
        return self._chance.choice(self._by_model[name][1])


def _by_model(
    recorded: Sequence[Demand], mix: Mapping[str, float] | None
) -> dict[str, tuple[float, list[Demand]]]:
    found: dict[str, tuple[float, list[Demand]]] = {}
    for name, weight in (mix or {}).items():
        own = [demand for demand in recorded if demand.model == name]
        if not own:
            known = ", ".join(sorted({demand.model for demand in recorded}))
            raise ValueError(f"mix: expected models with recorded calls ({known}), found {name!r}")
        found[name] = (weight, own)
    return found


# --- results ------------------------------------------------------------------------------


def _first_token(end: CallEnd) -> float:
    return end.time_to_first_token


def _forecast(scenario: Scenario, found: Sequence[_Run]) -> Forecast:
    completed = [
        [end for end in ends if end.outcome == "completed"] or list(ends) for _, ends in found
    ]
    arrivals = [_arrivals(run) for run, _ in found]
    throughput = [
        sum(end.outcome == "completed" for end in run.ends) / run.seconds for run, _ in found
    ]
    keeps_up = median(throughput) >= _KEEPS_UP * median(arrivals)
    return Forecast(
        scenario=scenario,
        calls=len(found[0][1]),
        runs=len(found),
        time_to_first_token=_spread(completed, _first_token),
        duration=_spread(completed, lambda end: end.duration),
        queue=_spread(completed, lambda end: end.queue),
        load_wait=_spread(completed, lambda end: end.load),
        arrivals=_estimate(arrivals),
        throughput=_estimate(throughput),
        tokens=_estimate(
            [
                sum(end.demand.output_tokens for end in run.ends if end.outcome == "completed")
                / run.seconds
                for run, _ in found
            ]
        ),
        refused=_estimate(
            [sum(end.outcome == "busy" for end in ends) / len(ends) for _, ends in found]
        ),
        prefill=_estimate([run.prefill_time / run.seconds for run, _ in found]),
        decode=_estimate([run.decode_time / run.seconds for run, _ in found]),
        loading=_estimate([run.load_time / run.seconds for run, _ in found]),
        limit=_limit(found),
        is_saturated=scenario.users is None and not keeps_up,
    )


def _arrivals(run: SimulatedRun) -> float:
    last = max(end.demand.arrives_at for end in run.ends)
    return len(run.ends) / last if last > 0.0 else 0.0


def _limit(found: Sequence[_Run]) -> Limit:
    """Return what the calls with the latest first tokens waited for."""
    ends = sorted((end for _, run in found for end in run), key=lambda end: end.time_to_first_token)
    late = ends[int(_LATE * len(ends)) :]
    load, queue = sum(end.load for end in late), sum(end.queue for end in late)
    prefill = sum(end.prefill for end in late)
    if load >= max(queue, prefill):
        return "loads"
    prompts, steps = (
        sum(run.prefill_time for run, _ in found),
        sum(run.decode_time for run, _ in found),
    )
    # Calls wait for a slot while the engine evaluates the prompts of others, or generates.
    return "prefill" if prefill >= queue or prompts >= steps else "decode"


def _spread(runs: Sequence[Sequence[CallEnd]], of: Callable[[CallEnd], float]) -> Spread:
    values = [sorted(map(of, ends)) for ends in runs]
    return Spread(
        p50=_estimate([quantile(each, 0.5) for each in values]),
        p95=_estimate([quantile(each, 0.95) for each in values]),
        p99=_estimate([quantile(each, 0.99) for each in values]),
    )


def _estimate(values: Sequence[float]) -> Estimate:
    return Estimate(value=median(values), low=quantile(values, 0.05), high=quantile(values, 0.95))
