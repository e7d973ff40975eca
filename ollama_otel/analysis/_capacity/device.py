"""The engines of a server, which may share one device."""

from __future__ import annotations

from collections.abc import Callable

from ollama_otel.analysis._capacity.engine import Engine, Running
from ollama_otel.analysis._capacity.timeline import Timeline

__all__ = ["Device"]


class Device:
    """Runs engines; those that work at the same time slow each other down."""

    def __init__(
        self, timeline: Timeline, interference: float, ended: Callable[[Engine, Running], None]
    ) -> None:
        self._timeline = timeline
        self._interference = interference
        self._ended = ended
        self._engines: list[Engine] = []
        self.prefill_time = 0.0
        self.decode_time = 0.0
        """Seconds of engines that were removed."""

    def add(self, engine: Engine) -> None:
        """Add the engine of a model that was loaded."""
        self._engines.append(engine)

    def remove(self, engine: Engine) -> None:
        """Remove an idle engine."""
        self._engines.remove(engine)
        self.prefill_time += engine.prefill_time
        self.decode_time += engine.decode_time

    def close(self) -> None:
        """Remove all engines, after advancing them to the present."""
        for engine in self._engines[:]:
            engine.advance(self._timeline.now)
            self.remove(engine)

    def serve(self, engine: Engine, call: Running) -> None:
        """Let an engine serve a call, now or when it has a slot."""
        engine.advance(self._timeline.now)
        self._start(engine, engine.enter(call))

    def free(self, engine: Engine) -> None:
        """Free the slot of a call that has ended."""
        self._start(engine, engine.leave())

    def _start(self, engine: Engine, call: Running | None) -> None:
        if call is not None:
            overhead = call.demand.overhead
            self._timeline.at(self._timeline.now + overhead, self._begin_prompt, engine, call)

    def _begin_prompt(self, engine: Engine, call: Running) -> None:
        engine.advance(self._timeline.now)
        engine.begin_prompt(call)
        self._plan(engine)

    def _proceed(self, engine: Engine, version: int) -> None:
        if engine.version != version:
            return
        engine.advance(self._timeline.now)
        for call in engine.finished():
            self._ended(engine, call)
        self._plan(engine)

    def _plan(self, changed: Engine) -> None:
        working = [engine for engine in self._engines if engine.is_working]
        factor = 1.0 + self._interference * max(0, len(working) - 1)
        for engine in working:
            if engine is not changed:
                before = engine.version
                engine.advance(self._timeline.now)
                engine.slow_down(factor)
                if engine.version != before:
                    self._plan_one(engine)
        changed.slow_down(factor)
        self._plan_one(changed)

    def _plan_one(self, engine: Engine) -> None:
        time = engine.next_change()
        if time is not None:
            self._timeline.at(time, self._proceed, engine, engine.version)
