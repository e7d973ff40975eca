"""What the boards are drawn of: hours of telemetry, the same in each run."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from ollama_otel._resilience.registry import LimiterState
from ollama_otel.settings import Settings
from tests.drawing.past import app as apps
from tests.drawing.past.app import App, Chances, Limits
from tests.drawing.past.clock import Happening, VirtualClock
from tests.drawing.past.machines import GIB, Model, Server
from tests.drawing.past.rules import evaluate
from tests.real.servers.prometheus import RealPrometheus, run_prometheus

_NOON: Final = 1_773_144_000.0
"""2026-03-10 12:00 UTC: when all scenarios end."""
_HOUR: Final = 3600.0
_MINUTE: Final = 60.0
_BEFORE: Final = 15 * _MINUTE
"""What happens before the hour that the boards show."""
_H200: Final = "NVIDIA H200"

SMALL = Model(name="llama3.2:3b", size=3 * GIB, speed=95, reads=4200, loads=2.2, weight=5)
MIDDLE = Model(
    name="qwen3:8b", size=7 * GIB, speed=48, reads=2100, loads=5.1, context=16384, weight=3
)
LARGE = Model(name="gpt-oss:20b", size=14 * GIB, speed=31, reads=1300, loads=11.5, weight=0.7)
RETIRED = Model(name="mistral:7b", size=5 * GIB, speed=51, loads=3.9)
EMBEDDER = Model(
    name="nomic-embed-text:v1.5",
    size=GIB // 2,
    speed=1,
    reads=9000,
    loads=0.9,
    embeds=True,
    weight=3,
)
CHAT = (SMALL, MIDDLE, LARGE, EMBEDDER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A Prometheus that holds a scenario, and what a person selects to see it."""

    prometheus: RealPrometheus
    began: float
    ended: float
    variables: Mapping[str, str | list[str]] = field(
        default_factory=lambda: {"export_interval": "15s"}
    )


Scenario = Callable[[Path, str], None]


def _chooser(
    random: Random, servers: list[Server], models: tuple[Model, ...]
) -> Callable[[], tuple[Server, Model]]:
    """Return a choice of server and model; each model has a server that it mostly runs on."""
    weights = [model.weight for model in models]
    home = {model: servers[index % len(servers)] for index, model in enumerate(models)}

    def choose() -> tuple[Server, Model]:
        model = random.choices(models, weights)[0]
        return (home[model] if random.random() < 0.9 else random.choice(servers)), model

    return choose


def rich(folder: Path, otlp_metrics: str) -> None:
    """Three chat models and an embedder on two servers with a GPU each; everything happens."""
    random = Random(1)
    began = _NOON - _HOUR
    servers = [
        Server(host="gpu-1.internal", gpu_memory=24 * GIB, memory=26 * GIB, installed=9),
        Server(
            host="gpu-2.internal",
            gpu_memory=12 * GIB,
            memory=17 * GIB,
            slots=2,
            version="0.31.2",
            installed=4,
            down=[(began + 27 * _MINUTE, began + 32 * _MINUTE)],
            busy=[(began + 46 * _MINUTE, began + 49 * _MINUTE)],
        ),
    ]
    clock = VirtualClock(began - _BEFORE)
    prices = _prices(folder, servers)
    settings = Settings(prices=str(prices), time_per_output_chunk=True)
    chances = Chances(other_context=0.006)
    app = App(clock, otlp_metrics, servers, random, settings=settings, chances=chances)
    choose = _chooser(random, servers, CHAT)
    clock.at(clock.now, app.arrivals(lambda now: 14 + 9 * math.sin((now - began) / 500), choose))
    clock.at(clock.now, apps.structured_answers(app, MIDDLE))
    clock.at(clock.now, apps.truncations(app, servers[0], SMALL))
    clock.at(clock.now, apps.resilient_calls(app, choose, servers[0]))
    clock.at(clock.now, apps.sdk_metrics(app, (began + 50 * _MINUTE, began + 56 * _MINUTE)))
    clock.at(clock.now, apps.often(app, 40, lambda: app.list_models(random.choice(servers))))
    clock.at(
        clock.now, apps.often(app, 90, lambda: app.show_model(servers[0], random.choice(CHAT)))
    )
    clock.at(began + 600, app.pull_model(servers[0], LARGE, 140))
    tools = {"search_documents": 0.8, "get_weather": 0.3, "run_query": 2.5}
    clock.at(
        clock.now,
        apps.often(app, 35, lambda: app.agent_run("researcher", servers[0], MIDDLE, tools)),
    )
    clock.at(
        clock.now, apps.often(app, 80, lambda: app.agent_run("support", servers[0], SMALL, tools))
    )
    clock.at(began + 52 * _MINUTE, _worse(app, servers[0], 7 * _MINUTE))
    apps.replay_log(app)
    limits = Limits()
    clock.at(clock.now, _limited(app, limits))
    clock.at(clock.now, apps.some(app, 8, 20.0, lambda: app.call(servers[0], RETIRED)))
    app.run(_BEFORE + _HOUR)


def _worse(app: App, server: Server, seconds: float) -> Happening:
    """A time in which many calls fail, long enough for an alert."""
    usual = app.chances
    app.chances = Chances(failed=0.25, abandoned=0.08)
    yield seconds
    app.chances = usual


def _limited(app: App, limits: Limits) -> Happening:
    while True:
        for server in app.servers:
            waiting = max(0, app.random.randrange(-3, 4))
            active = server.slots if waiting else app.random.randrange(server.slots + 1)
            limits.active[server.url] = LimiterState(active, waiting)
            limits.circuits[server.url] = "open" if server.is_down(app.clock.now) else "closed"
        yield 5.0


def _prices(folder: Path, servers: list[Server]) -> Path:
    machines = "".join(
        f"""
[[machine]]
name = "{server.host.partition(".")[0]}"
servers = ["{server.host}:{server.port}"]
slots = {server.slots}

[[machine.price]]
from = 2025-01-01
idle_watts = 60
busy_watts = {watts}
price_per_kwh = 0.29
purchase_price = {price}
purchase_years = 4
"""
        for server, watts, price in zip(servers, (350, 220), (2600, 1400), strict=True)
    )
    budgets = """
[[budget]]
name = "everything"
limit = 3.0
unit = "money"
period = "day"

[[budget]]
name = "tokens of each user"
limit = 300_000
unit = "tokens"
period = "day"
each = "user"

[[budget]]
name = "computing"
limit = 90_000
unit = "gpu_seconds"
period = "month"
"""
    path = folder / "prices.toml"
    path.write_text(f'currency = "EUR"\n{machines}{budgets}')
    return path


_FAMILIES = (
    *("llama3.2", "llama3.1", "llama3.3", "qwen2.5", "qwen2.5-coder", "qwen3", "mistral"),
    *("mistral-nemo", "gemma3", "phi4", "deepseek-r1", "gpt-oss", "granite3.3"),
)
_SIZES = {"1b": 1, "3b": 3, "7b": 6, "14b": 11, "32b": 21, "70b": 42}
_LONG = (
    "hf.co/bartowski/Meta-Llama-3.1-8B-Instruct-GGUF:Q4_K_M",
    "hf.co/unsloth/Qwen3-30B-A3B-Instruct-2507-GGUF:Q4_K_XL",
    "registry.internal.example.com/team-search/reranker-large:2026-11",
)


def many_models(count: int) -> tuple[Model, ...]:
    """Models of all sizes, a few of which are called often and most seldom."""
    named = [(name, "7b") for name in _LONG] + [
        (f"{family}:{size}", size)
        for offset in range(len(_SIZES))
        for index, family in enumerate(_FAMILIES)
        for size in [list(_SIZES)[(index + offset) % len(_SIZES)]]
    ]
    chats = tuple(
        Model(
            name=name,
            size=_SIZES[size] * GIB,
            speed=160 / (1 + _SIZES[size] ** 0.7),
            reads=6000 / (1 + _SIZES[size] ** 0.7),
            loads=1.5 + _SIZES[size] * 0.6,
            weight=1 / (rank + 1) ** 0.7,
        )
        for rank, (name, size) in enumerate(named[: count - 2])
    )
    embedders = (
        EMBEDDER,
        Model(
            name="mxbai-embed-large:335m",
            size=GIB,
            speed=1,
            reads=6000,
            loads=1.2,
            embeds=True,
            weight=0.3,
        ),
    )
    return chats + embedders


def many(folder: Path, otlp_metrics: str) -> None:
    """Fifty models on three servers, two of which have a large GPU."""
    random = Random(2)
    began = _NOON - _HOUR
    servers = [
        Server(
            host="ollama-a.prod.example.com",
            gpu=_H200,
            gpu_memory=141 * GIB,
            memory=138 * GIB,
            slots=8,
            installed=50,
        ),
        Server(
            host="ollama-b.prod.example.com",
            gpu=_H200,
            gpu_memory=141 * GIB,
            memory=138 * GIB,
            slots=8,
            installed=50,
        ),
        Server(
            host="ollama-c.prod.example.com",
            gpu_memory=0,
            memory=120 * GIB,
            version="0.31.2",
            installed=41,
        ),
    ]
    clock = VirtualClock(began)
    app = App(clock, otlp_metrics, servers, random, name="gateway")
    choose = _chooser(random, servers, many_models(50))
    clock.at(began, app.arrivals(lambda now: 40, choose))
    clock.at(began, apps.sdk_metrics(app))
    app.run(_HOUR, interval=30.0)


def plain(folder: Path, otlp_metrics: str) -> None:
    """A machine without a GPU; calls only, as after the first steps of the README."""
    random = Random(3)
    began = _NOON - _HOUR
    clock = VirtualClock(began)
    servers = [Server(host="localhost", gpu_memory=0, memory=12 * GIB)]
    app = App(clock, otlp_metrics, servers, random, name="my-app", has_residency=False)
    slow = Model(name="llama3.2:3b", size=3 * GIB, speed=11, reads=90, loads=3.5)
    clock.at(began, app.arrivals(lambda now: 5, lambda: (servers[0], slow)))
    clock.at(began, apps.sdk_metrics(app))
    app.run(_HOUR)


def first_minute(folder: Path, otlp_metrics: str) -> None:
    """Six calls in the last forty seconds, as of a newcomer."""
    random = Random(4)
    clock = VirtualClock(_NOON - 40)
    servers = [Server(host="localhost", gpu_memory=8 * GIB, memory=12 * GIB)]
    calm = Chances(failed=0, unknown_model=0, timed_out=0)
    app = App(clock, otlp_metrics, servers, random, name="demo", has_gpus=False, chances=calm)
    clock.at(clock.now, apps.sdk_metrics(app))
    clock.at(clock.now, apps.some(app, 6, 3.0, lambda: app.call(servers[0], SMALL)))
    # Its one export is the one at its end.
    app.run(40, interval=_MINUTE)


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "rich": rich,
    "many": many,
    "plain": plain,
    "first_minute": first_minute,
}
_VARIABLES: Final[Mapping[str, Mapping[str, str | list[str]]]] = {
    "many": {"export_interval": "30s"},
    "first_minute": {},
}


@contextlib.contextmanager
def filled(name: str, folder: Path, *, classic: bool = False) -> Iterator[Filled]:
    """Run a Prometheus that holds a scenario."""
    folder.mkdir(parents=True, exist_ok=True)
    with run_prometheus(folder, classic=classic, is_for_the_past=True) as prometheus:
        SCENARIOS[name](folder, prometheus.otlp_metrics)
        evaluate(prometheus, _NOON - _HOUR, _NOON)
        variables = _VARIABLES.get(name, {"export_interval": "15s"})
        yield Filled(prometheus=prometheus, began=_NOON - _HOUR, ended=_NOON, variables=variables)
