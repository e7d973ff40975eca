"""Forecasts of capacity beside what a real Ollama does: `python -m tests.real.capacity_check`.

A light run is learnt from. Heavier runs are forecast from it: the same arrivals and lengths go
through the simulated server and, open loop, to the real one. Each heavier run takes place twice:
the difference of the two is the floor, below which no forecast can be told from a perfect one.

All servers run from the start, and the runs take turns every few seconds: when the machine is busy
with something else for a minute, all of them see it.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollama_otel import AsyncClient, Settings
from ollama_otel.analysis import Workload, open_log
from ollama_otel.analysis._capacity.demand import CallEnd, Demand
from ollama_otel.analysis._capacity.observation import COLUMNS
from ollama_otel.analysis._capacity.quantiles import median, quantile
from ollama_otel.analysis._capacity.simulation import simulate

from .random_model import Size, random_model
from .servers import MODELS, RealOllama, ask, run_ollama

SIZE = Size(layers=8, width=512, inner=1536)
"""1.5 ms for a token on one core, so that client and server hardly disturb the engine."""
A, B = "random-a", "random-b"

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What is asked, and the settings of the server."""

    name: str
    rate: float
    """Calls per second."""
    num_parallel: int = 4
    max_loaded: int = 2
    mix: Mapping[str, float] = field(default_factory=lambda: {A: 1.0})
    keep_alive: Mapping[str, str] = field(default_factory=dict)
    is_changed: bool = True
    """Whether the settings are not those of the light run."""
    is_in_ci: bool = True

    def plan(self, seconds: float, seed: int) -> list[Planned]:
        """Poisson arrivals of calls with unique prompts."""
        chance = random.Random(f"{self.rate} {seed}")
        at, found = 0.0, []
        while (at := at + chance.expovariate(self.rate)) < seconds:
            (model,) = chance.choices(list(self.mix), list(self.mix.values()))
            found.append(
                Planned(
                    at=at,
                    model=model,
                    prompt=" ".join(chance.choices("abcdefghijklmnop", k=chance.randint(5, 80))),
                    tokens=2 + min(150, int(chance.expovariate(1 / 45))),
                    keep_alive=self.keep_alive.get(model),
                )
            )
        return found


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A call to be made."""

    at: float
    model: str
    prompt: str
    tokens: int
    keep_alive: str | None


MIXED: dict[str, Any] = {"mix": {A: 0.8, B: 0.2}, "keep_alive": {B: "1s"}}
"""The second model is loaded again and again, so that the light run shows loads."""
LIGHT = Stage(name="light", rate=2.5, **MIXED, is_changed=False)
STAGES = (
    Stage(name="the light run again", rate=2.5, **MIXED, is_changed=False, is_in_ci=False),
    Stage(name="twice the rate", rate=5.0, **MIXED, is_changed=False),
    Stage(name="NUM_PARALLEL 1", rate=3.5, num_parallel=1),
    Stage(name="NUM_PARALLEL 2", rate=4.5, num_parallel=2),
    Stage(name="NUM_PARALLEL 4", rate=5.5, is_in_ci=False),
    Stage(name="two models, one place", rate=1.2, max_loaded=1, mix={A: 0.5, B: 0.5}),
)


# --- real runs ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Run:
    """A server and the log of the calls to it."""

    stage: Stage
    server: RealOllama
    log: Path

    def make(self, seconds: float, seed: int) -> None:
        """Make the calls of one turn, and wait for their ends."""
        asyncio.run(_make_calls(self.server.url, self.log, self.stage.plan(seconds, seed)))

    def rows(self) -> list[Row]:
        """The calls of all turns, as the analysis has them."""
        with open_log(self.log, cache=False) as calls:
            rows = calls.rows(f"SELECT {', '.join(COLUMNS)} FROM calls ORDER BY started_at")
        assert {row["outcome"] for row in rows} == {"completed"}
        return rows


@contextmanager
def servers(folder: Path, stages: Sequence[Stage]) -> Iterator[list[Run]]:
    """Run a server with two random models for each stage."""
    with ExitStack() as stack:
        runs: list[Run] = []
        models = folder / "models"
        for number, stage in enumerate(stages):
            environment = {
                "OLLAMA_NUM_PARALLEL": str(stage.num_parallel),
                "OLLAMA_MAX_LOADED_MODELS": str(stage.max_loaded),
            }
            home = folder / str(number)
            server = stack.enter_context(run_ollama(home, models=models, environment=environment))
            if not runs:
                _create_models(server.url)
            runs.append(Run(stage=stage, server=server, log=home / "calls.jsonl"))
        yield runs


def _create_models(url: str) -> None:
    for seed, name in enumerate((A, B), start=1):
        weights = random_model(MODELS / "tiny-agent.gguf", SIZE, seed)
        digest = f"sha256:{hashlib.sha256(weights).hexdigest()}"
        ask("POST", f"{url}/api/blobs/{digest}", weights)
        body = {
            "model": name,
            "files": {f"{name}.gguf": digest},
            "template": "{{ .Prompt }}",
            # Two threads would wait for each other whenever the machine does other work.
            "parameters": {"num_ctx": 512, "num_thread": 1},
            "stream": False,
        }
        ask("POST", f"{url}/api/create", body)


async def _make_calls(url: str, log: Path, plan: Sequence[Planned]) -> None:
    client = AsyncClient(url, settings=Settings(replay_log=str(log), residency=True), timeout=None)
    begin = time.perf_counter()

    async def make(call: Planned) -> None:
        await asyncio.sleep(begin + call.at - time.perf_counter())
        parts = await client.generate(
            call.model,
            call.prompt,
            stream=True,
            options={"num_predict": call.tokens},
            keep_alive=call.keep_alive,
        )
        async for _ in parts:
            pass

    await asyncio.gather(*map(make, plan))
    await client.close()


# --- comparison ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of one run, real or simulated; one entry per call, seconds."""

    starts: list[float]
    durations: list[float]
    first_tokens: list[float]

    @classmethod
    def of_rows(cls, rows: Sequence[Row]) -> Figures:
        return cls(
            starts=[row["started_at"].timestamp() for row in rows],
            durations=[row["duration"] for row in rows],
            first_tokens=[row["time_to_first_chunk"] for row in rows],
        )

    @classmethod
    def of_ends(cls, ends: Sequence[CallEnd]) -> Figures:
        return cls(
            starts=[end.demand.arrives_at for end in ends],
            durations=[end.duration for end in ends],
            first_tokens=[end.time_to_first_token for end in ends],
        )

    def values(self) -> dict[str, float]:
        return {
            "duration p50": median(self.durations),
            "duration p95": quantile(self.durations, 0.95),
            "first token p50": median(self.first_tokens),
            "first token p95": quantile(self.first_tokens, 0.95),
            "throughput": len(self.durations) / self._busy(),
        }

    def _busy(self) -> float:
        """Seconds from the first call of each turn to its last end, in all."""
        busy, end = 0.0, 0.0
        for start, duration in zip(self.starts, self.durations, strict=True):
            gap = start - end
            busy += max(
                0.0, start + duration - max(end, start if gap > _TURN_GAP else end or start)
            )
            end = max(end, start + duration)
        return busy


_TURN_GAP = 4.0
"""Seconds without a call in flight that lie between two turns of a run, and not within one."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A forecast beside two equal real runs."""

    stage: Stage
    first: Figures
    second: Figures
    forecast: Figures

    def errors(self) -> dict[str, float]:
        """Relative errors of the forecast, against the mean of the real runs."""
        real = self.real()
        return {name: value / real[name] - 1 for name, value in self.forecast.values().items()}

    def floor(self) -> dict[str, float]:
        """Relative differences between the two real runs."""
        real, second = self.real(), self.second.values()
        return {
            name: (value - second[name]) / real[name] for name, value in self.first.values().items()
        }

    def real(self) -> dict[str, float]:
        """The means of the real runs."""
        second = self.second.values()
        return {name: (value + second[name]) / 2 for name, value in self.first.values().items()}

    def per_call(self, other: Figures) -> list[float]:
        """Relative errors of the durations, call by call, against the first real run."""
        return [
            found / real - 1
            for found, real in zip(other.durations, self.first.durations, strict=True)
        ]


def forecast(light: Workload, stage: Stage, rows: Sequence[Row]) -> Figures:
    """Simulate the calls of a real run with what was learnt from the light one."""
    start = rows[0]["started_at"]
    demands = [_demand(light, stage, row, start) for row in rows]
    setup = light.setup(num_parallel=stage.num_parallel, max_loaded=stage.max_loaded, warm={})
    ends = {id(end.demand): end for end in simulate(demands, setup).ends}
    return Figures.of_ends([ends[id(demand)] for demand in demands])


def _demand(light: Workload, stage: Stage, row: Row, start: Any) -> Demand:
    model = light.models[row["model"]]
    keep_alive = stage.keep_alive.get(row["model"])
    return Demand(
        arrives_at=(row["started_at"] - start).total_seconds(),
        model=row["model"],
        prompt_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        overhead=model.overhead,
        before_first=model.before_first,
        after_last=model.after_last,
        keep_alive=None if keep_alive is None else float(keep_alive.removesuffix("s")),
    )


@dataclass(frozen=True, kw_only=True)
class Check:
    """The whole check."""

    light: Workload
    comparisons: list[Comparison]


def take_turn(runs: Sequence[Run], turn: int, seconds: float) -> None:
    """Make the calls of one turn: those of each run, and of the light one between them."""
    light, *others = runs
    for number, run in enumerate(others):
        if number % 3 == 0:
            light.make(seconds, 100 * turn + number)
        run.make(seconds, turn)


def check(
    folder: Path,
    stages: Sequence[Stage],
    *,
    turns: int,
    seconds: float,
    say: Callable[[str], object] = lambda text: None,
) -> Check:
    """Let the runs take turns of so many seconds, learn from the light one, and compare."""
    with servers(folder, (LIGHT, *stages, *stages)) as runs:
        for turn in range(turns):
            take_turn(runs, turn, seconds)
            say(f"turn {turn + 1} of {turns}, load average {os.getloadavg()[0]:.1f}")
        light, *others = [run.rows() for run in runs]
    learnt = Workload.from_rows(light, num_parallel=LIGHT.num_parallel, max_loaded=LIGHT.max_loaded)
    pairs = zip(stages, others[: len(stages)], others[len(stages) :], strict=True)
    return Check(
        light=learnt,
        comparisons=[
            Comparison(
                stage=stage,
                first=Figures.of_rows(first),
                second=Figures.of_rows(second),
                forecast=forecast(learnt, stage, first),
            )
            for stage, first, second in pairs
        ],
    )


# --- the table ----------------------------------------------------------------------------


def table(found: Check) -> Iterator[str]:
    """Yield the lines of the table for the docs."""
    yield "| Run | Figure | Real | Forecast | Error | Floor |"
    yield "|---|---|---|---|---|---|"
    for each in found.comparisons:
        real, errors, floor = each.real(), each.errors(), each.floor()
        name = f"{each.stage.name} ({len(each.first.durations)} calls)"
        for figure, value in each.forecast.values().items():
            yield (
                f"| {name} | {figure} | {_text(figure, real[figure])} | {_text(figure, value)} "
                f"| {errors[figure]:+.0%} | {abs(floor[figure]):.0%} |"
            )
            name = ""
        off, again = each.per_call(each.forecast), each.per_call(each.second)
        yield (
            f"| | each call's duration | | | {median(map(abs, off)):.0%}, bias {median(off):+.0%} "
            f"| {median(map(abs, again)):.0%} |"
        )


def _text(figure: str, value: float) -> str:
    return f"{value:.2f}/s" if figure == "throughput" else f"{value * 1000:.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each turn")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = check(
            Path(folder), STAGES, turns=arguments.turns, seconds=arguments.seconds, say=print
        )
    for name, model in found.light.models.items():
        print(name, model.speed)
    print("interference", found.light.interference)
    print(*table(found), sep="\n")


if __name__ == "__main__":
    main()
