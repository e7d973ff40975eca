"""The heart: from answers of `/api/ps` and from calls to what is loaded, and why it came and went.

No I/O and no clock: all times are readings of one monotonic clock, in seconds, given by the
caller. What comes in is put in the order in which it happened on the server, which is not
the order in which it is learned: a call tells of its load only when it ends. Causes come
from evidence; where there is none they are `unknown`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from ollama_otel.residency._events import Event, ModelReload
from ollama_otel.residency._facts import LoadedModel, key_of
from ollama_otel.residency._model import (
    EndedCall,
    Insight,
    Load,
    ModelState,
    Sight,
    StartedCall,
)
from ollama_otel.residency._options import Change, OptionValue
from ollama_otel.residency._residents import Residents

__all__ = ["Ledger"]

_EXPIRY_SLACK: Final = 0.1
"""Seconds by which a timer, a clock and an answer may differ."""
_AT_ONCE: Final = 0.05
"""Seconds within which two calls become ready by the same event; a cold one takes longer."""
_SURELY_KEPT: Final = 2.0
"""Seconds for which a model stays of which nobody has said how long it does."""
_LOAD_FOLLOWS: Final = 30.0
"""Seconds within which the model that pushed another one out is seen, if it has no call of ours."""
_MAX_MISSES: Final = 3


class Ledger:
    """What one server holds, and has held."""

    def __init__(self) -> None:
        self._residents = Residents()
        self._has_looked = False

    def take_events(self) -> list[Event]:
        """Return what has happened since the last time, in order."""
        events, self._residents.events = self._residents.events, []
        return events

    def poll(self, models: tuple[LoadedModel, ...], *, asked_at: float, answered_at: float) -> None:
        """Take in an answer of `/api/ps`."""
        is_first, self._has_looked = not self._has_looked, True
        rows = {key_of(model.name): model for model in models}
        for key, row in rows.items():
            self._residents.model(key).name = row.name
        # Those that are gone first: what has come may be why.
        for state in sorted(self._residents.models.values(), key=lambda state: state.key in rows):
            sight = Sight(asked_at, answered_at, rows.get(state.key), is_first)
            if state.in_flight:
                state.sights.append(sight)
            else:
                self._see(state, sight)

    def server_down(self, at: float) -> None:
        """Nobody listens there any more, so nothing is loaded."""
        self.unreachable(at)
        for state in self._residents.models.values():
            state.sights.clear()
            if state.load is not None:
                is_over = state.expires is not None and state.expires <= at
                self._residents.leave(state, at, "expired" if is_over else "server_down")
            elif state.is_undecided:
                self._residents.decide(state, "unknown")

    def unreachable(self, at: float) -> None:
        """Whatever the reason, it cannot be asked; models stay as they are for now."""
        self._residents.unreachable_at = at

    def call_started(self, call: StartedCall) -> bool:
        """Follow a call; returns whether its model will have to be loaded, as far as known."""
        state = self._residents.model(call.model)
        state.in_flight.append(call)
        if state.is_unlisted or state.misses >= _MAX_MISSES:
            return False
        return (
            state.load is None
            or self._residents.change(state, state.load, call.options) is not None
        )

    def call_ended(self, call: StartedCall, end: EndedCall) -> Insight:
        """Take in the end of a call that `call_started` was told of."""
        state = self._residents.model(call.model)
        if call in state.in_flight:
            state.in_flight.remove(call)
        insight = Insight()
        if end.was_served and end.load_duration is not None:
            insight = self._served(state, call, end, end.load_duration)
        elif end.was_served:
            state.untold = (call, end.ended_at)
        if end.has_crashed:
            state.crashed_at = end.ended_at
        if not state.in_flight:
            self._catch_up(state, math.inf)
        if end.was_served:
            if self._is_of_a_later_load(state, call):
                state.later_uses.append((call, end.ended_at))
            else:
                self._residents.used(state, call, end.ended_at)
        return insight

    def unloaded_on_request(self, model: str) -> None:
        """Somebody of ours asked the server to unload a model, or to delete it."""
        self._residents.model(model).unload_requested = True

    def _served(
        self, state: ModelState, call: StartedCall, end: EndedCall, load_duration: float
    ) -> Insight:
        # The server's clock starts when the request is there: a little after it was sent.
        ready = call.sent_at + load_duration
        ready_at_latest = ready + end.delay
        answered = max(ready, call.sent_at + (end.total_duration or load_duration))
        if end.is_cold:
            self._catch_up(state, ready, call)
            if not self._is_same_load(state, call, ready):
                self._loaded_for(state, call, load_duration, ready_at_latest)
            elif state.load is not None and state.load.options is None:
                state.load.options = call.options
        row = self._during(state, ready_at_latest, answered)
        load = state.load
        if load is None or load.earliest > answered:
            return Insight()
        if not self._is_of_a_later_load(state, call):
            state.resident_at = max(state.resident_at, answered)
        if not end.is_cold and not state.in_flight:
            self._is_as_loaded(load, call.options)
        row = row or load.row
        is_known = row is not None and _fits(call.options, load.context_length)
        return Insight(
            gpu_share=row.gpu_share if row is not None and is_known else None,
            context_length=row.context_length if row is not None and is_known else None,
            reload=load.reload if end.is_cold else None,
        )

    def _is_same_load(self, state: ModelState, call: StartedCall, ready: float) -> bool:
        """Whether the load that a call waited for is known already."""
        load = state.load
        if load is None:
            return False
        if ready <= load.latest + _AT_ONCE:
            # No second load could have been over so soon.
            return True
        if load.latest < call.sent_at or state.unload_requested:
            return False
        if load.options is None:
            return _fits(call.options, load.context_length)
        if self._residents.change(state, load, call.options) is not None:
            return False
        # It may have waited in line behind the load of another model, or for its own again.
        others = self._residents.loads_after(state, load.latest)
        is_in_line = any(other.latest > ready - _AT_ONCE for other in others)
        return is_in_line or not others or self._residents.is_loading(before=call.sent_at)

    def _loaded_for(
        self, state: ModelState, call: StartedCall, load_duration: float, latest: float
    ) -> None:
        ready = call.sent_at + load_duration
        load = Load(earliest=ready, latest=latest, asked_at=call.sent_at, options=call.options)
        cause = None
        if state.load is not None or state.past is not None:
            cause = self._cause(state, call, ready)
        self._residents.enter(state, load, cause, load_duration)

    def _cause(self, state: ModelState, call: StartedCall, ready: float) -> ModelReload:
        """Say why a model had to be loaded again for a call."""
        reload = ModelReload(model=state.name, cause="unknown")
        gone = state.gone
        if state.crashed_at is not None:
            return _because(reload, "runner_crashed")
        if state.load is None and gone is not None:
            if gone.reason is not None:
                return _because(reload, gone.reason, gone.evicted_by)
            after, is_evictable = gone.after, gone.is_evictable
            # Seen away while the call was waiting, it may have been loaded anew by then.
            last = state.past if gone.before >= call.sent_at else None
        else:
            reason = self._residents.reason(state, call.sent_at)
            if reason is not None:
                return _because(reload, reason)
            if state.expires is None and call.sent_at > state.resident_at + _SURELY_KEPT:
                return reload
            after, is_evictable, last = state.resident_at, state.expires is not None, state.load
        change = None if last is None else self._residents.change(state, last, call.options)
        evictors = self._residents.evictors(state, after, ready)
        # With both at hand either may have come first.
        if change is not None and not evictors:
            return _changed(reload, change)
        if evictors and change is None and is_evictable:
            return _because(
                reload, "evicted", self._residents.evictor(state, evictors, call.sent_at)
            )
        return reload

    def _is_as_loaded(self, load: Load, options: Mapping[str, OptionValue]) -> None:
        """A call that did not have to wait asked for the same, whatever it said."""
        if load.options is not None and load.options != options and load.context_length is None:
            number = load.options.get("num_ctx")
            load.context_length = number if type(number) is int else None
        if _fits(options, load.context_length):
            load.options = options

    def _is_of_a_later_load(self, state: ModelState, call: StartedCall) -> bool:
        """Whether a call was served by a load that the one it was made for has yet to tell of."""
        load = state.load
        if load is None or self._residents.change(state, load, call.options) is None:
            return False
        return self._residents.is_awaited(state)

    def _catch_up(
        self, state: ModelState, until: float, waiting: StartedCall | None = None
    ) -> None:
        """Understand what was seen before `until`; a call may have waited for its load by then."""
        while state.sights and state.sights[0].answered <= until:
            self._see(state, state.sights.popleft(), waiting)

    def _during(self, state: ModelState, ready: float, answered: float) -> LoadedModel | None:
        """Return how a model was seen while a call was being served: it is in memory then."""
        seen = [each for each in state.sights if each.asked >= ready and each.answered <= answered]
        if any(sight.row is None for sight in seen):
            state.is_unlisted = True
        if not self._residents.is_awaited(state):
            # Nobody else is waiting for another load, of which this could tell.
            self._catch_up(state, answered)
        return next((sight.row for sight in reversed(seen) if sight.row is not None), None)

    def _see(self, state: ModelState, sight: Sight, waiting: StartedCall | None = None) -> None:
        if state.load is not None and sight.asked < state.load.latest:
            return
        waiting_since = math.inf if waiting is None else waiting.sent_at
        if sight.row is not None:
            known = None if state.load is None else state.load.context_length
            is_new = sight.answered > waiting_since and known is None
            if waiting is None or not (is_new and _fits(waiting.options, sight.row.context_length)):
                self._see_present(state, sight, sight.row)
            # Else it may be what the call waits for: some engines list it while it is loaded.
        elif not state.is_unlisted:
            self._see_absent(state, sight, waiting_since)

    def _see_present(self, state: ModelState, sight: Sight, row: LoadedModel) -> None:
        state.is_unlisted, state.misses = False, 0
        load = state.load
        if load is None:
            load = Load(earliest=state.absent_at, latest=sight.answered, row=row)
            self._appeared(state, load, is_first=sight.is_first)
        elif _differ(load.context_length, row.context_length):
            change = Change(option="num_ctx", before=load.context_length, after=row.context_length)
            reload = _changed(ModelReload(model=state.name, cause="unknown"), change)
            load = Load(earliest=state.resident_at, latest=sight.answered, row=row)
            self._residents.enter(state, load, reload, None)
        load.row = row
        load.context_length = row.context_length or load.context_length
        state.resident_at = max(state.resident_at, sight.asked)
        if load.options is not None and "num_ctx" not in load.options:
            state.own_context = row.context_length or state.own_context
        self._residents.note_expiry(state, sight.answered, row)

    def _appeared(self, state: ModelState, load: Load, *, is_first: bool) -> None:
        row, untold = load.row, state.untold
        if row is not None:
            load.context_length = row.context_length
        if is_first:
            # Who knows when that was loaded.
            state.load, load.earliest = load, -math.inf
            return
        if (
            untold is not None
            and untold[1] >= load.earliest
            and _fits(untold[0].options, load.context_length)
        ):
            load.options = untold[0].options
        reload = None
        if state.past is not None:
            reload = self._cause_of_return(state, load, state.past)
        self._residents.enter(state, load, reload, None)

    def _cause_of_return(self, state: ModelState, load: Load, past: Load) -> ModelReload:
        """Say why a model was loaded again that is seen again, whoever asked for it."""
        reload, gone = ModelReload(model=state.name, cause="unknown"), state.gone
        if state.crashed_at is not None:
            return _because(reload, "runner_crashed")
        if gone is None or gone.reason == "unknown":
            return reload
        if gone.reason is not None:
            return _because(reload, gone.reason, gone.evicted_by)
        if gone.is_evictable and _differ(past.context_length, load.context_length):
            change = Change(option="num_ctx", before=past.context_length, after=load.context_length)
            return _changed(reload, change)
        return reload

    def _see_absent(self, state: ModelState, sight: Sight, waiting_since: float) -> None:
        state.absent_at = max(state.absent_at, sight.asked)
        if state.load is None and state.untold is not None:
            # Served, and not there: another machine's model, or one that went at once.
            state.misses, state.untold = state.misses + 1, None
        if state.load is not None:
            self._vanished(state, sight.answered, waiting_since)
        elif state.is_undecided and state.gone is not None:
            # As long as somebody waits for a load, that may be the one that needed the place.
            is_late = sight.asked > state.gone.before + _LOAD_FOLLOWS
            if is_late and not self._residents.is_loading():
                self._residents.decide(state, "unknown")

    def _vanished(self, state: ModelState, at: float, waiting_since: float) -> None:
        # What was there when the call came left on account of that call, or of another one.
        reason = self._residents.reason(state, min(at + _EXPIRY_SLACK, waiting_since))
        gone = self._residents.leave(state, at, reason)
        if reason is None and gone.is_evictable and at < waiting_since:
            evictors = self._residents.evictors(state, gone.after, at)
            if evictors:
                self._residents.decide(
                    state, "evicted", self._residents.evictor(state, evictors, at)
                )


def _differ(before: int | None, after: int | None) -> bool:
    return before is not None and after is not None and before != after


def _fits(options: Mapping[str, OptionValue], listed: int | None) -> bool:
    """Whether what is listed with this context may have been loaded for these options."""
    number = options.get("num_ctx")
    return number is None or listed is None or number == listed


def _because(reload: ModelReload, cause: str, evicted_by: str | None = None) -> ModelReload:
    return ModelReload(model=reload.model, cause=cause, evicted_by=evicted_by)


def _changed(reload: ModelReload, change: Change) -> ModelReload:
    return ModelReload(
        model=reload.model, cause=change.option, before=change.before, after=change.after
    )
