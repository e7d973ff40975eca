"""Causes of loads and unloads: pure functions over the history of a server.

Without evidence a cause is `unknown`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, Protocol

from ollama_otel._wire.load_options import Change, OptionValue
from ollama_otel.residency._events import ModelReload, UnloadReason
from ollama_otel.residency._history import Arrival, ModelHistory, Stay
from ollama_otel.residency._timeline import CallStarted

__all__ = [
    "Known",
    "arrivals_after",
    "changed",
    "differ",
    "evictor",
    "evictors",
    "fits",
    "idle_time",
    "is_loading",
    "reload_for_call",
    "reload_in_poll",
    "unload_reason",
    "with_cause",
]

_SURELY_KEPT: Final = 2.0
"""Seconds that a model stays loaded at least if its lifetime is unknown."""


class Known(Protocol):
    """The known state of one server; see `History`."""

    @property
    def models(self) -> Mapping[str, ModelHistory]: ...
    @property
    def calls(self) -> Mapping[str, tuple[CallStarted, ...]]: ...
    @property
    def arrivals(self) -> tuple[Arrival, ...]: ...
    @property
    def unreachable_at(self) -> float | None: ...


def differ(before: int | None, after: int | None) -> bool:
    """Whether two context lengths are both known, and different."""
    return before is not None and after is not None and before != after


def fits(options: Mapping[str, OptionValue], listed: int | None) -> bool:
    """Whether a model listed with this context may have been loaded for these options."""
    number = options.get("num_ctx")
    return number is None or listed is None or number == listed


def is_loading(known: Known, before: float = math.inf) -> bool:
    """Whether a running call that was sent before a time is known to need a load."""
    return any(
        call.sent_at < before and known.models[key].needs_load(call)
        for key, calls in known.calls.items()
        for call in calls
    )


def _may_be_loading(known: Known, before: float, but: str) -> bool:
    """Whether the model of a running call that was sent before a time was not listed since."""
    return any(
        call.sent_at < before and (model.needs_load(call) or not model.was_listed_since(call))
        for key, calls in known.calls.items()
        if key != but
        for model in (known.models[key],)
        for call in calls
    )


def idle_time(known: Known, model: ModelHistory) -> float | None:
    """Return the seconds that an idle model stays at least, as observed of it or of others."""
    own = model.traits.idle_time
    if own is not None:
        return own
    others = (other.traits.idle_time for other in known.models.values())
    return min((each for each in others if each is not None), default=None)


def evictors(known: Known, key: str, after: float, before: float) -> tuple[str, ...]:
    """Return the names of the models that were loaded while this one may have been unloaded."""
    return tuple(
        {
            arrival.key: arrival.name
            for arrival in known.arrivals
            if arrival.key != key and arrival.latest > after and arrival.began <= before
        }.values()
    )


def evictor(known: Known, key: str, found: tuple[str, ...], before: float) -> str | None:
    """Return the model that evicted another one; None if it may have been one of several."""
    is_alone = len(found) == 1 and not _may_be_loading(known, before, but=key)
    return found[0] if is_alone else None


def arrivals_after(known: Known, key: str, at: float) -> tuple[Arrival, ...]:
    """Return the loads of other models that were ready after a time."""
    return tuple(each for each in known.arrivals if each.key != key and each.latest > at)


def unload_reason(known: Known, key: str, at: float) -> UnloadReason | None:
    """Return why a model was not in memory at a time; None if its own history has no cause."""
    model = known.models[key]
    if model.unload_requested:
        return "requested"
    expires = model.lifetime.expires
    if expires is not None and expires <= at:
        # A load that began before the expiry may have evicted it.
        is_contested = evictors(known, key, model.seen_at, expires) or _may_be_loading(
            known, expires, but=key
        )
        return "unknown" if is_contested else "expired"
    was_away = known.unreachable_at is not None and known.unreachable_at > model.seen_at
    return "server_down" if was_away else None


def with_cause(reload: ModelReload, cause: str, evicted_by: str | None = None) -> ModelReload:
    return ModelReload(model=reload.model, cause=cause, evicted_by=evicted_by)


def changed(reload: ModelReload, change: Change) -> ModelReload:
    return ModelReload(
        model=reload.model, cause=change.option, before=change.before, after=change.after
    )


def reload_for_call(known: Known, key: str, call: CallStarted, ready: float) -> ModelReload:
    """Return the cause of a reload for a call."""
    model = known.models[key]
    reload = ModelReload(model=model.name, cause="unknown")
    if model.crashed_at is not None:
        return with_cause(reload, "runner_crashed")
    stay, unload = model.stay, model.unload
    last: Stay | None
    if unload is not None:
        if unload.reason is not None:
            return with_cause(reload, unload.reason, unload.evicted_by)
        after, is_evictable = unload.after, unload.is_evictable
        # It was absent while the call waited; it may have been loaded again by then.
        last = unload.stay if unload.before >= call.sent_at else None
    else:
        reason = unload_reason(known, key, call.sent_at)
        if reason is not None:
            return with_cause(reload, reason)
        after, is_evictable, last = model.seen_at, model.lifetime.expires is not None, stay
        if not is_evictable and call.sent_at > after + _SURELY_KEPT:
            return reload
    change = None if last is None else model.change(last, call.options)
    found = evictors(known, key, after, ready)
    # With evidence for both causes, the order is unknown.
    if change is not None and not found:
        return changed(reload, change)
    if found and change is None and is_evictable:
        return with_cause(reload, "evicted", evictor(known, key, found, call.sent_at))
    return reload


def reload_in_poll(model: ModelHistory, context_length: int | None) -> ModelReload:
    """Return the cause of a reload that a poll shows, for a call of any process."""
    reload, unload = ModelReload(model=model.name, cause="unknown"), model.unload
    if model.crashed_at is not None:
        return with_cause(reload, "runner_crashed")
    if unload is None or unload.reason == "unknown":
        return reload
    if unload.reason is not None:
        return with_cause(reload, unload.reason, unload.evicted_by)
    before = unload.stay.context_length
    if unload.is_evictable and differ(before, context_length):
        return changed(reload, Change(option="num_ctx", before=before, after=context_length))
    return reload
