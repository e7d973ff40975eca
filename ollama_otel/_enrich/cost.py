"""Estimates the cost of calls, from a price file and the calls of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from ollama_otel import _process
from ollama_otel._display import logger
from ollama_otel._prices.computation import REFUSED
from ollama_otel._prices.values import Machine, MachinePrice, Prices, start_of
from ollama_otel.records import CallCost, CallRecord, CallStart

__all__ = ["CostEnricher"]

_log = logger()

_MOST_UNKNOWN: Final = 100
"""Most servers without a price that are reported."""

Enrichment = Callable[[CallRecord], CallCost | None]


class CostEnricher:
    """Adds `CallRecord.cost` to the calls of machines that have a price."""

    def __init__(self, prices: Prices, clock: Callable[[], float] = time.perf_counter) -> None:
        self._currency = prices.currency
        self._clock = clock
        machines = tuple(map(_Machine, prices.machine))
        self._machines = {server: each for each in machines for server in each.servers}
        self._unknown: set[str] = set()
        _process.at_fork(after_in_child=self._reset_after_fork)

    def begin(self, start: CallStart) -> Enrichment | None:
        """Count the call among those that share its machine, until the returned function runs."""
        if not start.endpoint.moves_model:
            return None
        server = f"{start.server_address}:{start.server_port}"
        found = self._machines.get(server)
        if found is None:
            self._report(server)
            return None
        return partial(self._end, found, found.time.begin(self._clock()))

    def _end(self, machine: _Machine, at_begin: float, record: CallRecord) -> CallCost | None:
        seconds = machine.time.end(self._clock()) - at_begin
        price = machine.price_at(record.start.started_at / 1e9)
        if price is None or not _is_computed(record):
            return None
        joules = None if price.busy_watts is None else seconds * price.busy_watts
        return CallCost(
            estimate=seconds * price.per_second + (joules or 0.0) * price.per_joule,
            currency=self._currency,
            energy_estimate=joules,
            gpu_seconds_estimate=seconds,
        )

    def _report(self, server: str) -> None:
        """Log once that a server has no price."""
        if server in self._unknown or len(self._unknown) >= _MOST_UNKNOWN:
            return
        self._unknown.add(server)
        _log.warning(
            "the cost of calls to %s is unknown: the price file has no machine with that server",
            server,
        )

    def _reset_after_fork(self) -> None:
        """Forget the parent's calls, and locks that it may have held."""
        for machine in self._machines.values():
            machine.time.reset()


class _Machine:
    """A machine, its prices by start time, and the clock that its calls share."""

    def __init__(self, machine: Machine) -> None:
        self.servers = machine.servers
        self.time = _SharedTime()
        self._prices = tuple((start_of(price.from_), price) for price in machine.price)

    def price_at(self, time: float) -> MachinePrice | None:
        """Return the price at a time, in seconds since the epoch; None before the first one."""
        return next((price for start, price in reversed(self._prices) if start <= time), None)


class _SharedTime:
    """The clock of one machine, which runs n times slower while n calls share it.

    The differences of all calls add up to the time with at least one call.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        # Reentrant: the garbage collector may end a call while this thread holds the lock.
        self._lock = threading.RLock()
        self._running = 0
        self._shared = 0.0
        self._last = 0.0

    def begin(self, now: float) -> float:
        """Count one more call, and return the reading."""
        with self._lock:
            self._advance(now)
            self._running += 1
            return self._shared

    def end(self, now: float) -> float:
        """Count one call less, and return the reading."""
        with self._lock:
            self._advance(now)
            # A call of the parent may end in a forked process.
            self._running = max(0, self._running - 1)
            return self._shared

    def _advance(self, now: float) -> None:
        if self._running and now > self._last:
            self._shared += (now - self._last) / self._running
        self._last = max(now, self._last)


def _is_computed(record: CallRecord) -> bool:
    """Whether the machine of the call's server computed the call."""
    served = record.resilience
    is_elsewhere = served.server_address is not None or record.response.remote_model is not None
    is_replayed = record.outcome == "completed" and not record.is_from_network
    return not (is_elsewhere or is_replayed or record.is_hop or record.error_type in REFUSED)
