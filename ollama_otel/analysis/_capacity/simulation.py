"""A simulated Ollama server: a deterministic function of its input."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from msgspec import Struct

from ollama_otel.analysis._capacity.demand import CallEnd, Demand
from ollama_otel.analysis._capacity.device import Device
from ollama_otel.analysis._capacity.engine import Engine, Running
from ollama_otel.analysis._capacity.scheduler import Scheduler
from ollama_otel.analysis._capacity.server import ServerSetup
from ollama_otel.analysis._capacity.timeline import Timeline

__all__ = ["Next", "SimulatedRun", "simulate"]

Next = Callable[[CallEnd], Demand | None]
"""Returns the call that follows an end: the next one of a user in a closed loop."""


class SimulatedRun(Struct, frozen=True, kw_only=True):
    """The result of a simulated run. All times are seconds."""

    ends: tuple[CallEnd, ...]
    """Every call that has ended, in the order of the ends."""
    seconds: float
    """From the start to the last end, or to the limit."""
    prefill_time: float
    """Sum over the engines: time with prompts."""
    decode_time: float
    """Sum over the engines: time of generation."""
    load_time: float
    loads: int
    longest_queue: int
    """Most calls at once in the queue of the scheduler."""


def simulate(
    demands: Iterable[Demand],
    setup: ServerSetup,
    *,
    then: Next | None = None,
    until: float = math.inf,
) -> SimulatedRun:
    """Simulate a server that starts with no model in memory.

    `then` is called at each end, and may return a further call. With `until`, the run is cut at
    that time, in seconds; calls that are open then are left out. Raises `KeyError` for a call to a
    model that the server does not have.
    """
    return _Simulation(setup, then).run(demands, until)


class _Simulation:
    def __init__(self, setup: ServerSetup, then: Next | None) -> None:
        self._then = then
        self._timeline = Timeline()
        self._device = Device(self._timeline, setup.interference, self._served)
        self._scheduler = Scheduler(self._timeline, setup, self._device, self._refused)
        self._ends: list[CallEnd] = []

    def run(self, demands: Iterable[Demand], until: float) -> SimulatedRun:
        for demand in demands:
            self._expect(demand)
        self._timeline.run(until)
        last = max((end.ended_at for end in self._ends), default=0.0)
        self._device.close()
        return SimulatedRun(
            ends=tuple(self._ends),
            seconds=last if until == math.inf else until,
            prefill_time=self._device.prefill_time,
            decode_time=self._device.decode_time,
            load_time=self._scheduler.load_time,
            loads=self._scheduler.loads,
            longest_queue=self._scheduler.longest_queue,
        )

    def _expect(self, demand: Demand) -> None:
        self._timeline.at(demand.arrives_at, self._scheduler.arrive, Running(demand))

    def _refused(self, call: Running) -> None:
        self._end(CallEnd(demand=call.demand, outcome="busy", ended_at=self._timeline.now))

    def _served(self, engine: Engine, call: Running) -> None:
        now, demand = self._timeline.now, call.demand
        self._scheduler.ended(engine, call)
        began = call.has_slot_at + demand.overhead
        self._end(
            CallEnd(
                demand=demand,
                outcome="completed",
                ended_at=now,
                load=call.ready_at - demand.arrives_at,
                queue=call.has_slot_at - call.ready_at,
                prefill=call.decoding_at - began,
                decode=now - call.decoding_at,
            )
        )

    def _end(self, end: CallEnd) -> None:
        self._ends.append(end)
        following = None if self._then is None else self._then(end)
        if following is not None:
            self._expect(following)
