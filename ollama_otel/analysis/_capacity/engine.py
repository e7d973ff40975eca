"""The engine of one loaded model: slots, evaluation of prompts, and steps of generation.

It models how llama-server processes the calls of its slots; the scheduler loads and unloads.
"""

from __future__ import annotations

import math
from collections import deque
from heapq import heappop, heappush
from itertools import count
from typing import Final

from ollama_otel.analysis._capacity.demand import Demand
from ollama_otel.analysis._capacity.server import ModelSpeed

__all__ = ["Engine", "Running"]

_CHUNK: Final = 512.0
"""Tokens of a prompt in one batch; each batch also has one token of every other call."""
_NO_STEPS: Final = 1e-4
_NO_TIME: Final = 1e-7
"""Smallest relevant steps and seconds; smaller values are rounding errors."""


class Running:
    """A call on its way through a server: the times of its phases so far, in seconds."""

    __slots__ = ("cached", "decoding_at", "demand", "has_slot_at", "ready_at", "work")

    def __init__(self, demand: Demand) -> None:
        self.demand = demand
        self.ready_at = math.nan
        """When an engine was ready for it."""
        self.has_slot_at = math.nan
        self.decoding_at = math.nan
        """When it had its first token."""
        self.work = 0.0
        """Remaining seconds of evaluation of its prompt, without other work of the engine."""


class Engine:
    """Serves the calls of one model; `advance` brings it to the present, before every change.

    Prompts are evaluated one after the other. Meanwhile, generation pauses except for one step per
    batch of a prompt. Without prompts, each step generates one token for every call.
    """

    def __init__(
        self, speed: ModelSpeed, slots: int, now: float, *, has_cache: bool = False
    ) -> None:
        self._speed = speed
        self._slots = 1 if speed.is_serial else slots
        self._empty_slots = 0 if has_cache else self._slots
        self._waiting: deque[Running] = deque()
        self._prompts: deque[Running] = deque()
        self._decoding: list[tuple[float, int, Running]] = []
        self._order = count()
        self._step_times: dict[int, float] = {}
        self._steps_done = 0.0
        self._context = 0.0
        self._now = now
        self._slowdown = 1.0
        self.busy_slots = 0
        self.prefill_time = 0.0
        """Seconds spent on prompts."""
        self.decode_time = 0.0
        """Seconds spent on generation."""
        self.version = 0
        """Incremented with each change; events of an earlier version are void."""

    @property
    def is_working(self) -> bool:
        """Whether it evaluates or generates."""
        return bool(self._prompts or self._decoding)

    def advance(self, now: float) -> None:
        """Simulate the work since the last call."""
        elapsed = now - self._now
        self._now = now
        if elapsed <= 0.0:
            return
        if self._prompts:
            first = self._prompts[0]
            first.work -= elapsed / self._slowdown
            self.prefill_time += elapsed
            if self._decoding:
                self._steps_done += elapsed * self._steps_beside_prompts()
        elif self._decoding:
            self._steps_done += elapsed / self._step_time()
            self.decode_time += elapsed

    def slow_down(self, factor: float) -> None:
        """Set the factor by which other engines slow this one down."""
        if factor != self._slowdown:
            self._slowdown = factor
            self.version += 1

    def next_change(self) -> float | None:
        """Return when the next prompt or answer will be done, if nothing else happens before."""
        times = []
        if self._prompts:
            times.append(self._now + max(0.0, self._prompts[0].work) * self._slowdown)
        if self._decoding:
            rate = self._steps_beside_prompts() if self._prompts else 1.0 / self._step_time()
            times.append(self._now + max(0.0, self._steps_left()) / rate)
        return min(times, default=None)

    # --- slots ----------------------------------------------------------------------------

    def enter(self, call: Running) -> Running | None:
        """Give a call a slot, or queue it; return it if it has one."""
        call.ready_at = self._now
        self._waiting.append(call)
        return self._next_in_slot()

    def leave(self) -> Running | None:
        """Free a slot; return the call that has it now."""
        self.busy_slots -= 1
        return self._next_in_slot()

    def _next_in_slot(self) -> Running | None:
        if not self._waiting or self.busy_slots >= self._slots:
            return None
        call = self._waiting.popleft()
        self.busy_slots += 1
        call.has_slot_at = self._now
        demand = call.demand
        tokens = demand.prompt_tokens if demand.new_tokens is None else demand.new_tokens
        if self._empty_slots:
            # The cache of a slot is empty until its first use after the load.
            self._empty_slots -= 1
            tokens = demand.prompt_tokens
        call.work = self._speed.prompt_time(tokens)
        return call

    # --- work -----------------------------------------------------------------------------

    def begin_prompt(self, call: Running) -> None:
        """Queue the prompt of a call that has a slot."""
        self._prompts.append(call)
        self.version += 1

    def finished(self) -> list[Running]:
        """Move calls with a finished prompt on to generation; return those that have ended."""
        while self._prompts and self._prompts[0].work <= _NO_TIME:
            call = self._prompts.popleft()
            call.decoding_at = self._now
            steps = max(0.0, call.demand.output_tokens - 1.0)
            heappush(self._decoding, (self._steps_done + steps, next(self._order), call))
            self._context += call.demand.context
        ended = []
        while self._decoding and self._steps_left() <= _NO_STEPS:
            ended.append(heappop(self._decoding)[2])
            self._context -= ended[-1].demand.context
        if not self._decoding:
            self._steps_done = self._context = 0.0
        self.version += 1
        return ended

    def _steps_left(self) -> float:
        """Return the steps until the next answer is done; none if they take no time."""
        steps = self._decoding[0][0] - self._steps_done
        return 0.0 if steps * self._step_time() <= _NO_TIME else steps

    def _step_time(self) -> float:
        calls = len(self._decoding)
        step = self._step_times.get(calls)
        if step is None:
            step = self._step_times[calls] = self._speed.step.at(calls)
        contexts = self._speed.step_per_context_token * self._context
        return (step + contexts) * self._slowdown

    def _steps_beside_prompts(self) -> float:
        """Return the steps per second while a prompt is evaluated."""
        batch = self._speed.prefill_per_token * _CHUNK
        return 1.0 / (max(batch, self._speed.step.at(1)) * self._slowdown)
