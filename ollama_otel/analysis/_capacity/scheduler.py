"""Ollama's scheduler: loads and evicts models, and queues the calls that wait for a load.

It follows `server/sched.go` of Ollama 0.33: calls for a loaded model pass directly; all others go
through one queue, which handles one call at a time, including its load.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final

from ollama_otel.analysis._capacity.device import Device
from ollama_otel.analysis._capacity.engine import Engine, Running
from ollama_otel.analysis._capacity.server import ServerSetup
from ollama_otel.analysis._capacity.timeline import Timeline

__all__ = ["Runner", "Scheduler"]

_USED_OF_FREE: Final = 0.8
"""A model is loaded beside others if it needs at most this share of the free memory."""


class Runner:
    """A model in memory."""

    __slots__ = ("calls", "engine", "idle", "is_leaving", "keep_alive", "model", "options")

    def __init__(self, model: str, options: str, keep_alive: float, engine: Engine) -> None:
        self.model = model
        self.options = options
        self.keep_alive = keep_alive
        """Seconds that it stays when idle; 0: it is unloaded immediately."""
        self.engine = engine
        self.calls = 0
        """Calls that use it, including those that wait for a slot."""
        self.idle = 0
        """Counts its idle periods, so that the timer of an earlier one is void."""
        self.is_leaving = False


class Scheduler:
    """Assigns calls to engines; `refused` gets the calls that find the queue full."""

    def __init__(
        self,
        timeline: Timeline,
        setup: ServerSetup,
        device: Device,
        refused: Callable[[Running], None],
    ) -> None:
        self._timeline = timeline
        self._setup = setup
        self._device = device
        self._refused = refused
        self._runners: dict[str, Runner] = {}
        self._pending: deque[Running] = deque()
        self._handled: Running | None = None
        """The call that the queue is handling."""
        self._is_loading = False
        self.load_time = 0.0
        """Seconds spent on loads."""
        self.loads = 0
        self.longest_queue = 0
        for model, options in setup.warm.items():
            self._rest(self._add(model, options, has_cache=True))

    def arrive(self, call: Running) -> None:
        """Take a call."""
        runner = self._runners.get(call.demand.model)
        if runner is not None and self._suits(runner, call):
            self._use(runner, call)
        elif len(self._pending) >= self._setup.max_queue:
            self._refused(call)
        else:
            self._pending.append(call)
            self.longest_queue = max(self.longest_queue, len(self._pending))
            self._handle_next()

    def ended(self, engine: Engine, call: Running) -> None:
        """Note that a call has ended."""
        self._device.free(engine)
        runner = self._runners[call.demand.model]
        runner.calls -= 1
        if not runner.calls:
            self._rest(runner)

    def _rest(self, runner: Runner) -> None:
        runner.idle += 1
        if runner.keep_alive <= 0.0:
            self._unload(runner)
        elif runner.keep_alive < math.inf:
            time = self._timeline.now + runner.keep_alive
            self._timeline.at(time, self._expire, runner, runner.idle)

    # --- the queue ------------------------------------------------------------------------

    def _handle_next(self) -> None:
        while self._handled is None and self._pending:
            self._handled = self._pending.popleft()
            self._handle(self._handled)

    def _handle(self, call: Running) -> None:
        """Do the next step towards an engine for the call."""
        runner = self._runners.get(call.demand.model)
        if runner is not None and self._suits(runner, call):
            self._handled = None
            self._use(runner, call)
        elif runner is not None:
            self._evict(runner)
        elif self._has_place(call.demand.model):
            self._is_loading = True
            speed = self._setup.models[call.demand.model]
            self.load_time += speed.load
            self.loads += 1
            self._timeline.at(self._timeline.now + speed.load, self._loaded, call)
        else:
            self._evict(self._least_useful())

    def _loaded(self, call: Running) -> None:
        self._is_loading = False
        self._handled = None
        self._use(self._add(call.demand.model, call.demand.options), call)
        self._handle_next()

    def _add(self, model: str, options: str, *, has_cache: bool = False) -> Runner:
        setup, now = self._setup, self._timeline.now
        engine = Engine(setup.models[model], setup.num_parallel, now, has_cache=has_cache)
        self._device.add(engine)
        runner = self._runners[model] = Runner(model, options, setup.keep_alive, engine)
        return runner

    def _suits(self, runner: Runner, call: Running) -> bool:
        return runner.options == call.demand.options and not runner.is_leaving

    def _use(self, runner: Runner, call: Running) -> None:
        runner.calls += 1
        runner.idle += 1
        if call.demand.keep_alive is not None:
            runner.keep_alive = call.demand.keep_alive
        self._device.serve(runner.engine, call)

    # --- memory ---------------------------------------------------------------------------

    def _has_place(self, model: str) -> bool:
        setup = self._setup
        if not self._runners:
            return True
        if setup.max_loaded and len(self._runners) >= setup.max_loaded:
            return False
        size = setup.models[model].size
        if setup.memory is None or size is None:
            return True
        used = sum(setup.models[each].size or 0 for each in self._runners)
        return size <= _USED_OF_FREE * (setup.memory - used)

    def _least_useful(self) -> Runner:
        runners = sorted(self._runners.values(), key=lambda each: (each.keep_alive, each.model))
        return next((each for each in runners if not each.calls), runners[0])

    def _evict(self, runner: Runner) -> None:
        """Unload a model as soon as no call uses it; new calls may still come meanwhile."""
        runner.keep_alive = 0.0
        runner.idle += 1
        if not runner.calls:
            self._unload(runner)

    def _expire(self, runner: Runner, idle: int) -> None:
        if runner.idle == idle:
            self._unload(runner)

    def _unload(self, runner: Runner) -> None:
        if not runner.is_leaving:
            runner.is_leaving = True
            unload = self._setup.models[runner.model].unload
            self._timeline.at(self._timeline.now + unload, self._unloaded, runner)

    def _unloaded(self, runner: Runner) -> None:
        del self._runners[runner.model]
        self._device.remove(runner.engine)
        if self._handled is not None and not self._is_loading:
            self._handle(self._handled)
        self._handle_next()
