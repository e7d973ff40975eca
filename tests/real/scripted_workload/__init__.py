"""Runs scripted calls on real Ollama servers, with their metrics in Prometheus and spans in Jaeger."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.real.servers import (
    RealJaeger,
    RealOllama,
    RealPrometheus,
    free_ports,
    run_ollama,
    run_prometheus,
    wait_until,
)

from .app import Fact, Plan
from .registry import serving_models
from .relay import relaying

__all__ = ["SCRAPED", "SENT", "Fact", "Workload", "run_workload"]

APP = Path(__file__).with_name("app.py")
SENT, SCRAPED = "sent-by-otlp", "scraped"
"""The label `job` of the same app's metrics, by OTLP and by scraping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Results of the workload; all servers are still running."""

    facts: tuple[Fact, ...]
    """Calls as recorded by the observer of the app, in the order of their ends."""
    prometheus: tuple[RealPrometheus, RealPrometheus]
    """With native histograms, as shipped, and with classic ones."""
    jaeger: RealJaeger
    wide: RealOllama
    """The server with one slot and room for all models."""
    narrow: RealOllama
    """The server with room for one model."""
    held: frozenset[tuple[str, str]]
    """Port and model of the models in memory at the end."""
    rounds: int
    began: float
    ended: float
    """Seconds since the epoch; at `ended` all metrics have their last values and the app still runs."""


@contextlib.contextmanager
def run_workload(folder: Path, models: RealOllama, jaeger: RealJaeger) -> Iterator[Workload]:
    """Run the app with its own servers, which use the models of another."""
    scrape_port, dead_port = free_ports(2)
    scrape = f"127.0.0.1:{scrape_port}"
    with contextlib.ExitStack() as stack:
        prometheus = (
            stack.enter_context(run_prometheus(folder / "native", scrape={SCRAPED: scrape})),
            stack.enter_context(
                run_prometheus(folder / "classic", scrape={SCRAPED: scrape}, classic=True)
            ),
        )
        collector = stack.enter_context(
            relaying(
                {
                    "/v1/metrics": [each.otlp_metrics for each in prometheus],
                    "/v1/traces": [f"{jaeger.otlp_http}/v1/traces"],
                }
            )
        )
        registry = stack.enter_context(serving_models())
        wide = stack.enter_context(run_ollama(folder / "wide", models=models.models))
        narrow = stack.enter_context(
            run_ollama(
                folder / "narrow",
                models=models.models,
                environment={"OLLAMA_MAX_LOADED_MODELS": "1"},
            )
        )
        plan = Plan(
            service=SENT,
            collector=collector,
            scrape=scrape,
            registry=registry,
            server=wide.url,
            server_pid=wide.pid,
            narrow_server=narrow.url,
            dead_server=f"http://127.0.0.1:{dead_port}",
            log=str(folder / "calls.jsonl"),
            prices=str(_prices(folder, wide.url, narrow.url)),
            records=str(folder / "facts.jsonl"),
        )
        began = time.time()
        with _app_at_its_end(plan, folder):
            ended = _wait_for_last_values(prometheus)
            held = {
                (str(server.port), model) for server in (wide, narrow) for model in server.loaded()
            }
        facts = [Fact(**json.loads(line)) for line in Path(plan.records).read_text().splitlines()]
        yield Workload(
            facts=tuple(facts),
            prometheus=prometheus,
            jaeger=jaeger,
            wide=wide,
            narrow=narrow,
            held=frozenset(held),
            rounds=plan.rounds,
            began=began,
            ended=ended,
        )


@contextlib.contextmanager
def _app_at_its_end(plan: Plan, folder: Path) -> Iterator[None]:
    """The app after all of its calls; its metrics can still be scraped."""
    chosen = folder / "plan.json"
    chosen.write_text(json.dumps(asdict(plan)))
    log = folder / "app.log"
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith(("OLLAMA_", "OTEL_"))
    }
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, str(APP), str(chosen)],
            env={**inherited, "OTEL_METRICS_EXPORTER": "otlp,prometheus"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
        ) as app,
    ):
        try:
            assert app.stdout is not None
            assert app.stdout.readline() == b"ended\n", log.read_text()
            yield
            app.communicate(timeout=30)
        finally:
            app.kill()
    assert app.returncode == 0, log.read_text()


def _wait_for_last_values(prometheus: Iterable[RealPrometheus]) -> float:
    """The time at which both ways have delivered the metrics collected after the last call."""
    after = time.time()
    # Present from the first call on; metrics that are collected together have one time.
    asked = "min by (job) (timestamp(ollama_client_phase_time_seconds_total))"

    def has_arrived() -> bool:
        times = [each.values(asked, "job") for each in prometheus]
        return all(
            found.keys() == {SENT, SCRAPED} and min(found.values()) > after for found in times
        )

    wait_until(has_arrived, "the last metrics in Prometheus", seconds=60)
    return time.time()


def _prices(folder: Path, *urls: str) -> Path:
    """Write a price file with a budget that is used up, and one that is not."""
    servers = [url.removeprefix("http://") for url in urls]
    file = folder / "prices.toml"
    file.write_text(
        f"""
        currency = "EUR"
        [[machine]]
        name = "box"
        servers = {json.dumps(servers)}
        slots = 1000
        [[machine.price]]
        from = 2020-01-01
        idle_watts = 60
        busy_watts = 350
        price_per_kwh = 0.3
        rent_per_hour = 1
        [[budget]]
        name = "tokens of each kind"
        limit = 1
        unit = "tokens"
        period = "day"
        each = "tag:kind"
        [[budget]]
        name = "money of each model"
        limit = 1_000_000
        unit = "money"
        period = "month"
        each = "model"
        """
    )
    return file
