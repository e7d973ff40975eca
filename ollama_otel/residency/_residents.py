"""The models of one server, and what is known of each; how they come and go.

Says what follows from one thing that happened; in which order things happened, and what
calls and answers say of that, is the ledger's.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Final

from ollama_otel.residency._events import (
    Event,
    ModelLoad,
    ModelReload,
    ModelUnload,
    UnloadReason,
)
from ollama_otel.residency._facts import LoadedModel, full_name, key_of
from ollama_otel.residency._model import MAX_REMEMBERED, Gone, Load, ModelState, StartedCall
from ollama_otel.residency._options import Change, OptionValue, change_between
from ollama_otel.residency._thrash import ThrashDetector

__all__ = ["Residents"]

_MAX_MODELS: Final = 1000
_MAX_LOADS: Final = 256
_OWN_CAUSES: Final[Mapping[str, UnloadReason]] = {
    reason: reason for reason in ("expired", "evicted", "requested", "server_down", "unknown")
}


class Residents:
    """The models that are, or were, in a server's memory, or were asked for."""

    def __init__(self) -> None:
        self.models: dict[str, ModelState] = {}
        self.events: list[Event] = []
        self.unreachable_at = -math.inf
        """When the server could not be reached for the last time."""
        self._loads: deque[tuple[str, str, Load]] = deque(maxlen=_MAX_LOADS)
        self._thrash = ThrashDetector()

    def model(self, name: str) -> ModelState:
        """Return what is known of a model, by any spelling of its name."""
        key = key_of(name)
        state = self.models.get(key)
        if state is None:
            if len(self.models) >= _MAX_MODELS:
                self._forget_one()
            state = self.models[key] = ModelState(key=key, name=full_name(name))
        return state

    def _forget_one(self) -> None:
        """Make room; one that is neither loaded nor asked first."""
        idle = (key for key, state in self.models.items() if not state.in_flight)
        gone = (key for key, s in self.models.items() if s.load is None and not s.in_flight)
        key = next(gone, None) or next(idle, None) or next(iter(self.models))
        del self.models[key]

    def is_loading(self, before: float = math.inf, but: ModelState | None = None) -> bool:
        """Whether a call sent before then is under way that needs a load, as far as known."""
        return any(
            call.sent_at < before and self._needs_load(state, call)
            for state in self.models.values()
            if state is not but
            for call in state.in_flight
        )

    def may_be_loading(self, before: float, but: ModelState) -> bool:
        """Whether a call sent before then is under way whose model was not seen since."""
        return any(
            call.sent_at < before
            and (
                self._needs_load(state, call)
                or not any(sight.row and sight.asked >= call.sent_at for sight in state.sights)
            )
            for state in self.models.values()
            if state is not but
            for call in state.in_flight
        )

    def _needs_load(self, state: ModelState, call: StartedCall) -> bool:
        return state.load is None or self.change(state, state.load, call.options) is not None

    def is_awaited(self, state: ModelState) -> bool:
        """Whether a call is under way that needs another load than the one that is known."""
        load = state.load
        return load is not None and any(
            self.change(state, load, other.options) for other in state.in_flight
        )

    def change(
        self, state: ModelState, load: Load, options: Mapping[str, OptionValue]
    ) -> Change | None:
        """Return the option for which the server would load a model again."""
        return change_between(
            load.options,
            options,
            context_before=load.context_length,
            own_context=state.own_context,
        )

    def _idle_time(self, state: ModelState) -> float | None:
        """Seconds for which it stays at least, as far as seen of it or else of others."""
        if state.idle_time is not None:
            return state.idle_time
        known = [s.idle_time for s in self.models.values() if s.idle_time is not None]
        return min(known, default=None)

    def note_expiry(self, state: ModelState, at: float, row: LoadedModel) -> None:
        """Take in until when the server says that it keeps a model."""
        if row.stays:
            state.expires = math.inf
        elif row.expires_in:
            state.expires = at + row.expires_in
            if state.keep_alive is None:
                state.idle_time = max(state.idle_time or 0.0, row.expires_in)
        elif row.expires_in == 0:
            # At work: its time begins when it is done.
            rest = state.keep_alive if state.keep_alive is not None else self._idle_time(state)
            state.expires = None if rest is None else at + rest

    def used(self, state: ModelState, call: StartedCall, at: float) -> None:
        """A call has ended: the time until the model is unloaded begins again."""
        if call.keep_alive is not None and call.sent_at >= state.kept_since:
            # What the last one says goes on for those that say nothing.
            state.keep_alive, state.kept_since = call.keep_alive, call.sent_at
            state.unload_requested = call.keep_alive == 0
        if state.keep_alive is not None:
            state.expires = at + state.keep_alive
        elif (idle_time := self._idle_time(state)) is not None:
            state.expires = max(state.expires or at, at + idle_time)

    def reason(self, state: ModelState, at: float) -> UnloadReason | None:
        """Say why a model was in memory no more at a time, where that is known without looking."""
        if state.unload_requested:
            return "requested"
        if state.expires is not None and state.expires <= at:
            # Another one that was to be loaded before may have been faster.
            evictors = self.evictors(state, state.resident_at, state.expires)
            is_contested = evictors or self.may_be_loading(state.expires, but=state)
            return "unknown" if is_contested else "expired"
        return "server_down" if self.unreachable_at > state.resident_at else None

    def evictors(self, state: ModelState, after: float, before: float) -> list[str]:
        """Return the models loaded within a time in which this one may have left."""
        found = {
            key: name
            for key, name, load in self._loads
            if key != state.key and load.latest > after and load.began <= before
        }
        return list(found.values())

    def evictor(self, state: ModelState, evictors: list[str], before: float) -> str | None:
        """Return the one that pushed a model out; None where it may be another one as well."""
        is_alone = len(evictors) == 1 and not self.may_be_loading(before, but=state)
        return evictors[0] if is_alone else None

    def enter(
        self,
        state: ModelState,
        load: Load,
        reload: ModelReload | None = None,
        load_duration: float | None = None,
    ) -> None:
        """A model is in memory, and was not before, or not so."""
        if reload is not None:
            self._end_last_stay(state, load.earliest, reload)
        state.load, state.gone, load.reload = load, None, reload
        state.unload_requested = False
        if state.crashed_at is not None and load.earliest > state.crashed_at:
            state.crashed_at = None
        state.keep_alive = state.expires = state.untold = None
        state.resident_at = max(state.resident_at, load.earliest)
        uses, state.later_uses = list(state.later_uses), deque(maxlen=MAX_REMEMBERED)
        for call, at in uses:
            if at > load.earliest:
                self.used(state, call, at)
        row = load.row
        self.events.append(
            ModelLoad(
                model=state.name,
                context_length=None if row is None else row.context_length,
                gpu_share=None if row is None else row.gpu_share,
                load_duration=load_duration,
            )
        )
        self._loads.append((state.key, state.name, load))
        self._explain_others(state, load)
        if reload is not None:
            self.events.append(reload)
            thrash = self._thrash.reloaded(reload, load.latest)
            if thrash is not None:
                self.events.append(thrash)

    def _end_last_stay(self, state: ModelState, before: float, reload: ModelReload) -> None:
        reason = _OWN_CAUSES.get(reload.cause, "reloaded")
        if state.load is not None:
            self.leave(state, before, reason, reload.evicted_by)
        elif state.is_undecided:
            self.decide(state, reason, reload.evicted_by)

    def _explain_others(self, state: ModelState, load: Load) -> None:
        """Those that left before their time, and nobody knew why, left for this one."""
        for other in self.models.values():
            gone = other.gone
            if gone is None or not other.is_undecided or not gone.is_evictable:
                continue
            if other is not state and load.latest > gone.after:
                evictors = self.evictors(other, gone.after, load.latest)
                self.decide(other, "evicted", self.evictor(other, evictors, gone.before))

    def leave(
        self,
        state: ModelState,
        before: float,
        reason: UnloadReason | None,
        evicted_by: str | None = None,
    ) -> Gone:
        """A model is in memory no more."""
        is_evictable = state.expires is not None and state.expires > before
        state.past, state.load = state.load, None
        state.gone = Gone(after=state.resident_at, before=before, is_evictable=is_evictable)
        state.unload_requested = False
        if reason is not None:
            self.decide(state, reason, evicted_by)
        return state.gone

    def decide(
        self, state: ModelState, reason: UnloadReason, evicted_by: str | None = None
    ) -> None:
        """Say why a model has left memory."""
        if state.gone is not None:
            state.gone.reason, state.gone.evicted_by = reason, evicted_by
        self.events.append(ModelUnload(model=state.name, reason=reason, evicted_by=evicted_by))

    def loads_after(self, state: ModelState, at: float) -> list[Load]:
        """Return the latest loads of other models, those before a time left out."""
        return [load for key, _, load in self._loads if key != state.key and load.latest > at]
