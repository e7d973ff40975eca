"""A server in imagined time: one scheduler, some places, and the truth about what came and went.

Simpler than the real one where that does not matter: a model that has to go takes no more calls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ollama_otel.residency import LoadedModel
from ollama_otel.residency._timeline import CallEnded, CallStarted

OWN_CONTEXT = {"a:latest": 256, "b:latest": 4096, "c:latest": 256, "d:latest": 4096}
KEEP_ALIVE = 4.0
LOAD = 0.3
UNLOAD = 0.02


@dataclass
class Asked:
    """One request, and what became of it."""

    sent: float
    model: str
    context: int | None = None
    keep_alive: float | None = None
    run: float = 0.1
    ready: float = 0.0
    end: float = 0.0

    def started(self) -> CallStarted:
        return CallStarted(
            model=self.model.removesuffix(":latest"),
            options={} if self.context is None else {"num_ctx": self.context},
            sent_at=self.sent,
            keep_alive=self.keep_alive,
        )

    def ended(self, call: CallStarted) -> CallEnded:
        load = self.ready - self.sent
        return CallEnded(
            call=call,
            ended_at=self.end,
            was_served=True,
            is_cold=load >= 0.1,
            load_duration=load,
            total_duration=self.end - self.sent,
        )


@dataclass
class Stay:
    """One time in memory."""

    model: str
    context: int
    ready: float
    keep: float = KEEP_ALIVE
    busy_until: float = 0.0
    gone: float = math.inf
    reason: str | None = None
    by: str | None = None
    by_keep_alive: bool = False

    @property
    def expires(self) -> float:
        return self.busy_until + self.keep


@dataclass
class Server:
    places: int
    stays: list[Stay] = field(default_factory=list)
    is_free: float = 0.0

    def run(self, requests: Sequence[Asked]) -> None:
        for asked in sorted(requests, key=lambda asked: asked.sent):
            self._serve(asked)
        self._expire(math.inf)

    def listed(self, at: float) -> tuple[LoadedModel, ...]:
        return tuple(
            LoadedModel(
                name=stay.model,
                size=100,
                gpu_size=50,
                context_length=stay.context,
                expires_in=max(0.0, self._shown_expiry(stay, at) - at),
            )
            for stay in self.stays
            if stay.ready <= at < stay.gone
        )

    def _shown_expiry(self, stay: Stay, at: float) -> float:
        """Set when the model becomes idle: while it works the old time shows."""
        ends = [end for start, end, keep in self._uses[id(stay)] if end <= at]
        working = any(start <= at < end for start, end, keep in self._uses[id(stay)])
        if working or not ends:
            return at - 1 if working else at
        keeps = [keep for start, end, keep in self._uses[id(stay)] if start <= at]
        return max(ends) + keeps[-1]

    def __post_init__(self) -> None:
        self._uses: dict[int, list[tuple[float, float, float]]] = {}

    def _present(self) -> list[Stay]:
        return [stay for stay in self.stays if stay.gone == math.inf]

    def _expire(self, at: float) -> None:
        for stay in self._present():
            if stay.expires <= at:
                stay.gone = stay.expires
                stay.reason = "requested" if stay.keep == 0 else "expired"

    def _find(self, model: str) -> Stay | None:
        return next((stay for stay in self._present() if stay.model == model), None)

    def _serve(self, asked: Asked) -> None:
        context = asked.context or OWN_CONTEXT[asked.model]
        self._expire(asked.sent)
        stay = self._find(asked.model)
        if stay is not None and stay.context == context and stay.ready <= asked.sent:
            self._use(stay, asked, asked.sent + 0.001)
            return
        at = max(asked.sent, self.is_free)
        self._expire(at)
        stay = self._find(asked.model)
        if stay is not None and stay.context == context:
            self._use(stay, asked, max(at, stay.ready) + 0.001)
            return
        if stay is not None:
            at = self._end(stay, at, "num_ctx", asked.model)
        elif len(self._present()) >= self.places:
            idle = [each for each in self._present() if each.busy_until <= at]
            victim = min(idle or self._present(), key=lambda each: (each.keep, each.model))
            at = self._end(victim, at, "evicted", asked.model)
            self._expire(at)
        new = Stay(model=asked.model, context=context, ready=at + LOAD)
        self.stays.append(new)
        self._uses[id(new)] = []
        self.is_free = new.ready
        self._use(new, asked, new.ready)

    def _end(self, stay: Stay, at: float, reason: str, by: str) -> float:
        stay.gone = max(at, stay.busy_until) + UNLOAD
        stay.reason, stay.by = reason, by
        return stay.gone

    def _use(self, stay: Stay, asked: Asked, ready: float) -> None:
        asked.ready, asked.end = ready, ready + asked.run
        if asked.keep_alive is not None:
            stay.keep = asked.keep_alive
        stay.busy_until = max(stay.busy_until, asked.end)
        self._uses[id(stay)].append((asked.ready, asked.end, stay.keep))
