"""What each part of resilience costs, as a ratio to the same client without it; how fair the limiter is.

`python -m tests.benchmarks.resilience [--rounds N] [--json]`

Every round runs each arm once, in turn, on an in-process transport; a ratio is taken within its
round and the median over rounds is shown. The fairness table comes from a simulation on the
limiter's own state machine: it has no clock and no noise.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from ollama_otel import Client
from ollama_otel._resilience.slots import Call, Limits, Slots
from ollama_otel.resilience import Breaker, Limiter, Resilience, Retries

from .overhead import DOCUMENT, MESSAGES, InProcess, Telemetry

WITHOUT = "without"
CALLS = 40


def arms() -> dict[str, Resilience | None]:
    """The clients to compare."""
    limiter, breaker = Limiter(concurrency=4), Breaker()
    rates = Limiter(concurrency=4, requests_per_minute=10**9, tokens_per_minute=10**9)
    return {
        WITHOUT: None,
        "retries": Resilience(retries=Retries()),
        "limiter": Resilience(limiter=limiter),
        "limiter with rates": Resilience(limiter=rates),
        "breaker": Resilience(breaker=breaker),
        "deadline": Resilience(deadline=600),
        "all": Resilience(retries=Retries(), limiter=rates, breaker=breaker, deadline=600),
    }


def measure(rounds: int) -> dict[str, list[float]]:
    """Return the CPU seconds of one call in each round, by arm."""
    telemetry = Telemetry.create()
    clients = {
        name: Client(
            transport=InProcess([DOCUMENT], "application/json; charset=utf-8"),
            resilience=resilience,
            **telemetry.options,
        )
        for name, resilience in arms().items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in clients}
    names = list(clients)
    for number in range(rounds + 1):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            gc.collect()
            began = time.process_time()
            for _ in range(CALLS):
                clients[name].chat("llama3.2", messages=MESSAGES)
            spent = (time.process_time() - began) / CALLS
            telemetry.reader.get_metrics_data()
            if number:  # the first round warms up
                seconds[name].append(spent)
    return seconds


def ratios(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Return the median ratio of each arm to the client without resilience."""
    return {
        name: statistics.median(a / b for a, b in zip(mine, seconds[WITHOUT], strict=True))
        for name, mine in seconds.items()
    }


# --- fairness ---------------------------------------------------------------------------------


class Simulation:
    """One slot, calls of one second, and users who send them."""

    def __init__(self, *, is_fair: bool) -> None:
        self._slots = Slots(
            Limits(
                concurrency=1,
                requests_per_minute=None,
                tokens_per_minute=None,
                max_waiting=10**6,
                max_wait=1e9,
                ageing=0.005,
                memory=60.0,
            )
        )
        self._is_fair = is_fair
        self.now = 0.0
        self.waits: dict[str, list[float]] = {}
        self._users: dict[Call, str] = {}

    def enter(self, user: str) -> None:
        call = self._slots.enter(user if self._is_fair else "", self.now, 1e9)
        self._users[call] = user
        self._granted([call])

    def _granted(self, calls: list[Call]) -> None:
        for call in calls:
            if call.state == "granted":
                self._active = call
                waited = self.now - call.entered_at
                self.waits.setdefault(self._users[call], []).append(waited)

    def step(self) -> None:
        self.now += 1.0
        self._slots.release(self._active, self.now)
        changed, self._slots.changed = self._slots.changed, []
        self._granted(changed)


def batch_and_user(simulation: Simulation) -> None:
    """A batch of 1,000 calls at once; another user sends a call every 20 s."""
    for _ in range(1000):
        simulation.enter("batch")
    for second in range(500):
        if second % 20 == 10:
            simulation.enter("user")
        simulation.step()


def ten_users(simulation: Simulation) -> None:
    """One user keeps 50 calls waiting, nine others one each."""
    for _ in range(50):
        simulation.enter("heavy")
    for number in range(9):
        simulation.enter(f"user {number}")
    served = {user: len(waits) for user, waits in simulation.waits.items()}
    for _ in range(500):
        simulation.step()
        for user, waits in list(simulation.waits.items()):
            for _ in range(len(waits) - served.get(user, 0)):
                simulation.enter(user)
            served[user] = len(waits)


def fairness() -> list[dict[str, Any]]:
    """Return the waits of the heavy user and of all others, fair and in order of arrival."""
    rows = []
    scenarios: list[Callable[[Simulation], None]] = [batch_and_user, ten_users]
    for scenario in scenarios:
        for is_fair in (False, True):
            simulation = Simulation(is_fair=is_fair)
            scenario(simulation)
            waits = simulation.waits
            heavy = next(iter(waits))
            others = [wait for user, all_of in waits.items() if user != heavy for wait in all_of]
            rows.append(
                {
                    "scenario": scenario.__name__,
                    "order": "fair" if is_fair else "first in, first out",
                    "heavy calls": len(waits[heavy]),
                    "other calls": len(others),
                    "heavy median wait": statistics.median(waits[heavy]),
                    "others median wait": statistics.median(others) if others else None,
                    "others longest wait": max(others, default=None),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    seconds = measure(arguments.rounds)
    found, rows = ratios(seconds), fairness()
    if arguments.json:
        print(json.dumps({"ratios": found, "fairness": rows}, indent=1))
        return
    base = statistics.median(seconds[WITHOUT]) * 1e6
    print(f"single chat, drop-in client with telemetry ({WITHOUT}: {base:,.0f} us)")
    for name, value in found.items():
        print(f"    {name:20} {value:5.2f}x   {(value - 1) * base:6.1f} us more")
    print("\n" + "  ".join(rows[0]))
    for row in rows:
        print("  ".join(str(value) for value in row.values()))


if __name__ == "__main__":
    main()
