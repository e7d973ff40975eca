"""Reduces an entry of a server's timeline to the next history and its events; no I/O, no clock.

It is not a function of the whole timeline: emitted events cannot be taken back, so each is
decided once; and the cost of a call must not grow with the number of earlier ones.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple, assert_never

from ollama_otel._wire.load_options import Change
from ollama_otel._wire.ps import LoadedModel
from ollama_otel.residency import _causes as causes
from ollama_otel.residency._events import Event, ModelReload
from ollama_otel.residency._history import (
    History,
    Lifetime,
    ModelHistory,
    ModelInfo,
    PollRow,
    Stay,
    Traits,
    Use,
)
from ollama_otel.residency._step import Step, decide, enter, leave, used
from ollama_otel.residency._timeline import (
    CallEnded,
    CallStarted,
    Entry,
    Poll,
    Refused,
    UnloadRequested,
    Unreachable,
)

__all__ = ["Advance", "advance", "expects_load"]

_NOTHING_KNOWN: Final = ModelInfo()
_EXPIRY_SLACK: Final = 0.1
"""Tolerance between a timer, a clock and a response, seconds."""
_AT_ONCE: Final = 0.05
"""Seconds within which two calls are ready by the same load; a second load takes longer."""
_LOAD_FOLLOWS: Final = 30.0
"""Seconds after an eviction within which the other model is listed, if another process loads it."""
_MAX_MISSES: Final = 3
_MAX_REMEMBERED: Final = 32
"""Poll rows, and uses of a later load, that are kept for each model."""


class Advance(NamedTuple):
    """The result of one entry."""

    history: History
    events: tuple[Event, ...]
    """The events that the entry shows, in order."""
    info: ModelInfo
    """Facts of the model, if the entry is the end of a call."""


def advance(history: History, entry: Entry) -> Advance:
    """Return the history after an entry; the old one is not changed."""
    info = _NOTHING_KNOWN
    if isinstance(entry, CallStarted) and (key := entry.key) in history.models:
        # The usual case, at the start of each call: only the calls change.
        calls = {**history.calls, key: (*history.calls.get(key, ()), entry)}
        return Advance(History(history.models, calls, *history[2:]), (), info)
    step = Step(history)
    match entry:
        case CallEnded():
            info = _call_ended(step, entry)
        case CallStarted():
            step.set_calls(step.key_of(entry.model, entry.key), (entry,))
        case Poll():
            _poll(step, entry)
        case UnloadRequested():
            step.change(step.key_of(entry.model), unload_requested=True)
        case Unreachable():
            step.unreachable_at = entry.at
        case Refused():
            _refused(step, entry.at)
        case _:
            assert_never(entry)
    return Advance(step.history, tuple(step.events), info)


def expects_load(history: History, call: CallStarted) -> bool:
    """Whether the server has to load the model for a call that has started, as far as known."""
    model = history.models[call.key]
    traits = model.traits
    if traits.is_unlisted or traits.misses >= _MAX_MISSES:
        return False
    return model.needs_load(call)


# --- calls ---------------------------------------------------------------------------------


def _call_ended(step: Step, end: CallEnded) -> ModelInfo:
    call = end.call
    key = step.key_of(call.model, call.key)
    calls = step.calls.get(key, ())
    if call in calls:
        at = calls.index(call)
        calls = calls[:at] + calls[at + 1 :]
        step.set_calls(key, calls)
    info = _NOTHING_KNOWN
    if end.was_served and end.load_duration is not None:
        info = _served(step, key, end, end.load_duration)
    elif end.was_served:
        step.change(key, unreported=Use(call, end.ended_at))
        _note_unseen(step, key, call, end.ended_at)
    if end.has_crashed:
        step.change(key, crashed_at=end.ended_at)
    if not calls:
        _catch_up(step, key, math.inf)
    if end.has_crashed and end.has_begun and step.models[key].place is None:
        # The first call to this server: the model was loaded at an unknown time before.
        step.change(key, place=Stay(-math.inf, end.ended_at, options=call.options))
    if end.was_served:
        _note_use(step, key, Use(call, end.ended_at), calls)
    return info


def _note_use(step: Step, key: str, use: Use, others: tuple[CallStarted, ...]) -> None:
    model = step.models[key]
    if _is_of_a_later_load(model, use.call, others):
        step.change(key, later_uses=(*model.later_uses, use)[-_MAX_REMEMBERED:])
    else:
        used(step, key, use)


def _served(step: Step, key: str, end: CallEnded, load_duration: float) -> ModelInfo:
    """Apply what a served call shows about its model's load."""
    call, calls = end.call, step.calls.get(key, ())
    # The server's clock starts when the request arrives: slightly after it was sent.
    ready = call.sent_at + load_duration
    latest = ready + end.delay
    done_at = max(ready, call.sent_at + (end.total_duration or load_duration))
    if end.is_cold:
        _catch_up(step, key, ready, call)
        stay = step.models[key].stay
        if stay is None or not _is_same_load(step, key, stay, call, ready):
            _loaded_for(step, key, call, load_duration, latest)
        elif stay.options is None:
            step.change(key, place=stay._replace(options=call.options))
    row = _listed_during(step, key, latest, done_at) if step.models[key].rows else None
    model = step.models[key]
    stay = model.stay
    if stay is None and not end.is_cold:
        _note_unseen(step, key, call, done_at)
    if stay is None or stay.earliest > done_at:
        return _NOTHING_KNOWN
    if done_at > model.seen_at and not _is_of_a_later_load(model, call, calls):
        step.change(key, seen_at=done_at)
    if not end.is_cold and not calls:
        stay = _warm(step, key, stay, call)
    return _info(stay, row or stay.row, end)


def _note_unseen(step: Step, key: str, call: CallStarted, at: float) -> None:
    """Apply that a model served a call, if no poll and no load has shown its stay.

    Without it, the load after a `keep_alive` of 0 would look like the first one.
    """
    model = step.models[key]
    unload = model.unload
    if model.stay is not None or (unload is not None and unload.before > call.sent_at):
        return
    if step.calls.get(key):
        # It may have used the load of a call that has not ended yet.
        return
    if model.is_undecided:
        decide(step, key, "unknown")
    step.change(
        key,
        place=None,
        unload_before=step.models[key].unload or model.unload_before,
        seen_at=max(model.seen_at, at),
    )


def _info(stay: Stay, row: LoadedModel | None, end: CallEnded) -> ModelInfo:
    """Return the facts of a model that served a call."""
    reload = stay.reload if end.is_cold else None
    if row is None or not causes.fits(end.call.options, stay.context_length):
        return ModelInfo(reload=reload)
    return ModelInfo(row.gpu_share, row.size, row.gpu_size, row.context_length, reload)


def _is_same_load(step: Step, key: str, stay: Stay, call: CallStarted, ready: float) -> bool:
    """Whether a call waited for the known load."""
    if ready <= stay.latest + _AT_ONCE:
        # A second load would have taken longer.
        return True
    model = step.models[key]
    if stay.latest < call.sent_at or model.unload_requested:
        return False
    if stay.options is None:
        return causes.fits(call.options, stay.context_length)
    if model.change(stay, call.options) is not None:
        return False
    # It may have waited for the load of another model, or for a second load of its own.
    others = causes.arrivals_after(step, key, stay.latest)
    is_in_line = any(other.latest > ready - _AT_ONCE for other in others)
    return is_in_line or not others or causes.is_loading(step, before=call.sent_at)


def _loaded_for(
    step: Step, key: str, call: CallStarted, load_duration: float, latest: float
) -> None:
    ready = call.sent_at + load_duration
    was_loaded = step.models[key].was_loaded
    reload = causes.reload_for_call(step, key, call, ready) if was_loaded else None
    stay = Stay(ready, latest, sent_at=call.sent_at, options=call.options)
    enter(step, key, stay, reload, load_duration)


def _warm(step: Step, key: str, stay: Stay, call: CallStarted) -> Stay:
    """Update a stay after a call without a load: the model has the options of that call."""
    known, options, context = stay.options, call.options, stay.context_length
    if known == options:
        return stay
    if known is not None and context is None:
        number = known.get("num_ctx")
        context = number if type(number) is int else None
    if causes.fits(options, context):
        known = options
    stay = stay._replace(options=known, context_length=context)
    step.change(key, place=stay)
    return stay


def _is_of_a_later_load(
    model: ModelHistory, call: CallStarted, others: tuple[CallStarted, ...]
) -> bool:
    """Whether a call was served by a load that a running call has not reported yet."""
    stay = model.stay
    if stay is None or model.change(stay, call.options) is None:
        return False
    return model.is_awaited(others)


# --- polls ---------------------------------------------------------------------------------


def _poll(step: Step, poll: Poll) -> None:
    is_first, step.has_polled = not step.has_polled, True
    rows: dict[str, LoadedModel] = {}
    for row in poll.models:
        key = step.key_of(row.name)
        rows[key] = row
        if step.models[key].name != row.name:
            step.change(key, name=row.name)
    # Unloads first: the loads may be their cause.
    for key in sorted(step.models, key=lambda key: key in rows):
        seen = PollRow(poll.sent_at, poll.answered_at, rows.get(key), is_first)
        model = step.models[key]
        if key in step.calls:
            step.change(key, rows=(*model.rows, seen)[-_MAX_REMEMBERED:])
        else:
            _see(step, key, seen)


def _refused(step: Step, at: float) -> None:
    step.unreachable_at = at
    for key in step.models:
        model = step.change(key, rows=())
        if model.stay is not None:
            expires = model.lifetime.expires
            is_over = expires is not None and expires <= at
            leave(step, key, at, "expired" if is_over else "server_down")
        elif model.is_undecided:
            decide(step, key, "unknown")


def _catch_up(step: Step, key: str, until: float, waiting: CallStarted | None = None) -> None:
    """Process the rows up to `until`; `waiting` is a call that may have waited for its load."""
    while (rows := step.models[key].rows) and rows[0].answered_at <= until:
        step.change(key, rows=rows[1:])
        _see(step, key, rows[0], waiting)


def _listed_during(step: Step, key: str, ready: float, done_at: float) -> LoadedModel | None:
    """Return the row of a model while it served a call: it was in memory then."""
    model = step.models[key]
    seen = [each for each in model.rows if each.sent_at >= ready and each.answered_at <= done_at]
    if any(each.row is None for each in seen):
        model = step.change(key, traits=model.traits._replace(is_unlisted=True))
    if not model.is_awaited(step.calls.get(key, ())):
        # No other call waits for a load, so the rows belong to this one.
        _catch_up(step, key, done_at)
    return next((each.row for each in reversed(seen) if each.row is not None), None)


def _see(step: Step, key: str, seen: PollRow, waiting: CallStarted | None = None) -> None:
    model = step.models[key]
    stay = model.stay
    if stay is not None and seen.sent_at < stay.latest:
        return
    waiting_since = math.inf if waiting is None else waiting.sent_at
    if seen.row is not None:
        known = None if stay is None else stay.context_length
        is_new = seen.answered_at > waiting_since and known is None
        if (
            waiting is None
            or not is_new
            or not causes.fits(waiting.options, seen.row.context_length)
        ):
            _see_present(step, key, seen, seen.row)
        # Otherwise the call may wait for it: some engines list a model while they load it.
    elif not model.traits.is_unlisted:
        _see_absent(step, key, seen, waiting_since)


def _see_present(step: Step, key: str, seen: PollRow, row: LoadedModel) -> None:
    model = step.models[key]
    stay = model.stay
    if stay is None:
        _appeared(step, key, seen, row)
    elif causes.differ(stay.context_length, row.context_length):
        change = Change(option="num_ctx", before=stay.context_length, after=row.context_length)
        reload = causes.changed(ModelReload(model=model.name, cause="unknown"), change)
        new = Stay(model.seen_at, seen.answered_at, row=row)
        enter(step, key, new, reload, None)
    model = step.models[key]
    stay = model.stay
    assert stay is not None  # noqa: S101 - it has just appeared, or was there
    stay = stay._replace(row=row, context_length=row.context_length or stay.context_length)
    own_context, idle_time, _, _ = model.traits
    if stay.options is not None and "num_ctx" not in stay.options:
        own_context = row.context_length or own_context
    expires, keep_alive, sent_at = model.lifetime
    if row.stays:
        expires = math.inf
    elif row.expires_in:
        expires = seen.answered_at + row.expires_in
        if keep_alive is None:
            idle_time = max(idle_time or 0.0, row.expires_in)
    elif row.expires_in is not None:
        # In use: its idle time begins at the end of the call.
        rest = keep_alive if keep_alive is not None else causes.idle_time(step, model)
        expires = None if rest is None else seen.answered_at + rest
    step.change(
        key,
        place=stay,
        seen_at=max(model.seen_at, seen.sent_at),
        traits=Traits(own_context, idle_time),
        lifetime=Lifetime(expires, keep_alive, sent_at),
    )


def _appeared(step: Step, key: str, seen: PollRow, row: LoadedModel) -> None:
    """Apply that a model is listed that was not in memory, as far as known."""
    model = step.models[key]
    stay = Stay(model.absent_at, seen.answered_at, context_length=row.context_length, row=row)
    if seen.is_first:
        # It was loaded at an unknown earlier time, so no load is reported.
        step.change(key, place=stay._replace(earliest=-math.inf))
        return
    use = model.unreported
    if (
        use is not None
        and use.ended_at >= stay.earliest
        and causes.fits(use.call.options, row.context_length)
    ):
        stay = stay._replace(options=use.call.options)
    if model.place is None and model.seen_at >= model.absent_at:
        # The stay that a served call has shown, and no poll.
        model = model._replace(place=model.unload_before)
        is_again = model.place is not None
    else:
        is_again = model.was_loaded and not model.traits.is_unlisted
    reload = causes.reload_in_poll(model, row.context_length) if is_again else None
    enter(step, key, stay, reload, None)


def _see_absent(step: Step, key: str, seen: PollRow, waiting_since: float) -> None:
    model = step.models[key]
    model = step.change(key, absent_at=max(model.absent_at, seen.sent_at))
    unload = model.unload
    if model.stay is not None:
        _left(step, key, seen.answered_at, waiting_since)
    elif model.unreported is not None:
        # It served a call but is not listed: it runs elsewhere, or was unloaded immediately.
        misses = model.traits.misses + 1
        step.change(key, traits=model.traits._replace(misses=misses), unreported=None)
    if unload is not None and unload.reason is None:
        # While a call waits for a load, that load may be the cause.
        is_late = seen.sent_at > unload.before + _LOAD_FOLLOWS
        if is_late and not causes.is_loading(step):
            decide(step, key, "unknown")


def _left(step: Step, key: str, at: float, waiting_since: float) -> None:
    # A model that was loaded when the call came was unloaded for that call or another one.
    reason = causes.unload_reason(step, key, min(at + _EXPIRY_SLACK, waiting_since))
    unload = leave(step, key, at, reason)
    if reason is None and unload.is_evictable and at < waiting_since:
        evictors = causes.evictors(step, key, unload.after, at)
        if evictors:
            decide(step, key, "evicted", causes.evictor(step, key, evictors, at))
