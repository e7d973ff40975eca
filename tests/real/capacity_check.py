"""Forecasts of capacity beside what a real Ollama does: `python -m tests.real.capacity_check`.

A light run is learnt from. Heavier runs are forecast from it: the same arrivals and lengths go
through the simulated server and to the real one, open loop. Two equal real runs show by how much
the machine differs from itself.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from ollama_otel import AsyncClient, Settings
from ollama_otel.analysis import open_log
from ollama_otel.analysis._capacity.demand import CallEnd, Demand
from ollama_otel.analysis._capacity.observation import COLUMNS
from ollama_otel.analysis._capacity.quantiles import median, quantile
from ollama_otel.analysis._capacity.simulation import simulate
from ollama_otel.analysis._capacity.workload import Workload

from .random_model import Size, random_model
from .servers import MODELS, ask, run_ollama

SIZE = Size(layers=8, width=512, inner=1536)
"""1.5 ms for a token on one core, so that client and server hardly disturb the engine."""
A, B = "random-a", "random-b"


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A call to be made."""

    at: float
    model: str
    words: int
    tokens: int
    keep_alive: str | None = None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One run: what is asked, and the settings of the server."""

    name: str
    rate: float
    num_parallel: int
    mix: dict[str, float] = field(default_factory=lambda: {A: 1.0})
    max_loaded: int = 2
    keep_alive: dict[str, str] = field(default_factory=dict)
    is_same: bool = False
    """Whether the settings are those of the light run."""

    def plan(self, seconds: float, seed: int) -> list[Planned]:
        """Poisson arrivals of calls with unique prompts."""
        chance = random.Random(f"{self.name} {seed}")
        at, found = 0.0, []
        while (at := at + chance.expovariate(self.rate)) < seconds:
            (model,) = chance.choices(list(self.mix), list(self.mix.values()))
            tokens = 2 + min(150, int(chance.expovariate(1 / 45)))
            found.append(
                Planned(
                    at=at,
                    model=model,
                    words=chance.randint(5, 80),
                    tokens=tokens,
                    keep_alive=self.keep_alive.get(model),
                )
            )
        return found


LIGHT = Stage(
    name="light", rate=2.5, num_parallel=4, mix={A: 0.8, B: 0.2}, keep_alive={B: "1s"}, is_same=True
)
STAGES = (
    Stage(name="the same calls again", rate=2.5, num_parallel=4, mix=LIGHT.mix, keep_alive=LIGHT.keep_alive, is_same=True),
    Stage(name="twice the rate", rate=5.0, num_parallel=4, mix=LIGHT.mix, keep_alive=LIGHT.keep_alive, is_same=True),
    Stage(name="NUM_PARALLEL 1", rate=4.0, num_parallel=1),
    Stage(name="NUM_PARALLEL 2", rate=5.0, num_parallel=2),
    Stage(name="NUM_PARALLEL 4", rate=6.0, num_parallel=4),
    Stage(name="two models, one place", rate=1.5, num_parallel=4, mix={A: 0.5, B: 0.5}, max_loaded=1),
)


# --- real runs ----------------------------------------------------------------------------


class Machine:
    """Real servers, one after the other, with the same models."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs = 0
        self._models = folder / "models"
        with run_ollama(folder / "first", models=self._models) as server:
            for seed, name in enumerate((A, B), start=1):
                weights = random_model(MODELS / "tiny-agent.gguf", SIZE, seed)
                digest = f"sha256:{hashlib.sha256(weights).hexdigest()}"
                ask("POST", f"{server.url}/api/blobs/{digest}", weights)
                body = {
                    "model": name,
                    "files": {f"{name}.gguf": digest},
                    "template": "{{ .Prompt }}",
                    # One thread: two would wait for each other whenever the machine does other work.
                    "parameters": {"num_ctx": 512, "num_thread": 1},
                    "stream": False,
                }
                ask("POST", f"{server.url}/api/create", body)

    def run(self, stage: Stage, plan: Sequence[Planned]) -> list[dict[str, Any]]:
        """Make the calls on a new server; return the rows of the analysis."""
        self._runs += 1
        folder = self._folder / f"run{self._runs}"
        environment = {
            "OLLAMA_NUM_PARALLEL": str(stage.num_parallel),
            "OLLAMA_MAX_LOADED_MODELS": str(stage.max_loaded),
        }
        log = folder / "calls.jsonl"
        with run_ollama(folder, models=self._models, environment=environment) as server:
            asyncio.run(_make_calls(server.url, log, plan))
        with open_log(log, cache=False) as calls:
            return calls.rows(f"SELECT {', '.join(COLUMNS)} FROM calls ORDER BY started_at")


async def _make_calls(url: str, log: Path, plan: Sequence[Planned]) -> None:
    settings = Settings(replay_log=str(log), residency=True)
    client = AsyncClient(url, settings=settings, timeout=None)
    chance = random.Random(7)
    begin = time.perf_counter()

    async def one(call: Planned) -> None:
        await asyncio.sleep(begin + call.at - time.perf_counter())
        prompt = " ".join(chance.choice("abcdefghijklmnop") for _ in range(call.words))
        parts = await client.generate(
            call.model,
            prompt,
            stream=True,
            options={"num_predict": call.tokens},
            keep_alive=call.keep_alive,
        )
        async for _ in parts:
            pass

    await asyncio.gather(*map(one, plan))
    await client.close()


# --- comparison ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of one run: seconds and calls per second."""

    durations: list[float]
    first_tokens: list[float]
    seconds: float

    @classmethod
    def of_rows(cls, rows: Sequence[dict[str, Any]]) -> Figures:
        done = [row for row in rows if row["outcome"] == "completed"]
        start = min(row["started_at"] for row in rows)
        ends = [(row["started_at"] - start).total_seconds() + row["duration"] for row in done]
        return cls(
            durations=[row["duration"] for row in done],
            first_tokens=[row["time_to_first_chunk"] for row in done],
            seconds=max(ends),
        )

    @classmethod
    def of_ends(cls, ends: Sequence[CallEnd]) -> Figures:
        return cls(
            durations=[end.duration for end in ends],
            first_tokens=[end.time_to_first_token for end in ends],
            seconds=max(end.demand.arrives_at + end.duration for end in ends),
        )

    def values(self) -> dict[str, float]:
        return {
            "p50 duration": median(self.durations),
            "p95 duration": quantile(self.durations, 0.95),
            "p50 first token": median(self.first_tokens),
            "p95 first token": quantile(self.first_tokens, 0.95),
            "throughput": len(self.durations) / self.seconds,
        }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A forecast beside two equal real runs."""

    stage: Stage
    calls: int
    first: Figures
    second: Figures
    forecast: Figures

    def errors(self) -> dict[str, float]:
        """Relative errors of the forecast against the first real run."""
        return _relative(self.forecast, self.first)

    def floor(self) -> dict[str, float]:
        """Relative differences of the second real run from the first."""
        return _relative(self.second, self.first)

    def per_call(self, other: Figures) -> list[float]:
        """Relative errors of the durations, call by call."""
        return [
            found / real - 1
            for found, real in zip(other.durations, self.first.durations, strict=True)
        ]


def _relative(found: Figures, real: Figures) -> dict[str, float]:
    expected = real.values()
    return {name: value / expected[name] - 1 for name, value in found.values().items()}


def forecast(light: Workload, stage: Stage, rows: Sequence[dict[str, Any]]) -> Figures:
    """Simulate the calls of a real run with what was learnt from the light one."""
    start = min(row["started_at"] for row in rows)
    demands = [_demand(light, stage, row, start) for row in rows if row["outcome"] == "completed"]
    setup = light.setup(num_parallel=stage.num_parallel, max_loaded=stage.max_loaded, warm={})
    ends = {id(end.demand): end for end in simulate(demands, setup).ends}
    return Figures.of_ends([ends[id(demand)] for demand in demands])


def _demand(light: Workload, stage: Stage, row: dict[str, Any], start: Any) -> Demand:
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
        options="",
    )


def check(folder: Path, stages: Sequence[Stage], seconds: float, say: Any = lambda text: None) -> tuple[Workload, list[Comparison]]:
    """Learn from the light run, and compare the stages."""
    machine = Machine(folder)
    rows = machine.run(LIGHT, LIGHT.plan(seconds, seed=1))
    light = Workload.from_rows(rows, num_parallel=LIGHT.num_parallel, max_loaded=LIGHT.max_loaded)
    say(f"light: {len(rows)} calls, load average {os.getloadavg()[0]:.2f}")
    found = []
    for stage in stages:
        plan = stage.plan(seconds, seed=1)
        first, second = (machine.run(stage, plan) for _ in range(2))
        found.append(
            Comparison(
                stage=stage,
                calls=len(plan),
                first=Figures.of_rows(first),
                second=Figures.of_rows(second),
                forecast=forecast(light, stage, first),
            )
        )
        say(f"{stage.name}: {len(plan)} calls, load average {os.getloadavg()[0]:.2f}")
        say(text_of(found[-1]))
    return light, found


def text_of(found: Comparison) -> str:
    real, floor, errors, forecast = found.first.values(), found.floor(), found.errors(), found.forecast.values()
    lines = []
    for name, value in real.items():
        unit = f"{value:.3f} /s -> {forecast[name]:.3f}" if name == "throughput" else f"{value * 1000:.0f} ms -> {forecast[name] * 1000:.0f} ms"
        lines.append(f"  {name}: {unit}, error {errors[name]:+.1%}, floor {floor[name]:+.1%}")
    per = found.per_call(found.forecast)
    base = found.per_call(found.second)
    lines.append(f"  per call: |error| median {median(map(abs, per)):.1%}, bias {median(per):+.1%}; floor {median(map(abs, base)):.1%}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        light, _ = check(Path(folder), STAGES, arguments.seconds, print)
        print(light.models)
        print(light.notes, light.num_parallel, light.is_num_parallel_known)


if __name__ == "__main__":
    main()
