"""One step from a history to the next: models are loaded, used and unloaded.

The reducer finds out what an entry of the timeline shows; this module applies it.
"""

from __future__ import annotations

from typing import Any, Final

from ollama_otel._wire.model_names import full_name, key_of
from ollama_otel.residency import _causes as causes
from ollama_otel.residency._events import (
    Event,
    ModelLoad,
    ModelReload,
    ModelUnload,
    UnloadReason,
)
from ollama_otel.residency._history import (
    Arrival,
    History,
    Lifetime,
    ModelHistory,
    Stay,
    Unload,
    Use,
)
from ollama_otel.residency._timeline import CallStarted

__all__ = ["Step", "decide", "enter", "leave", "used"]

_MAX_MODELS: Final = 1000
_MAX_ARRIVALS: Final = 256
_OWN_REASONS: Final[dict[str, UnloadReason]] = {
    reason: reason for reason in ("expired", "evicted", "requested", "server_down", "unknown")
}


class Step:
    """A mutable history while one entry is applied; it implements `Known`."""

    def __init__(self, history: History) -> None:
        self._before = history
        self.models = dict(history.models)
        self.calls = history.calls
        self.arrivals = history.arrivals
        self.unreachable_at = history.unreachable_at
        self.has_polled = history.has_polled
        self.thrash = history.thrash
        self.events: list[Event] = []

    @property
    def history(self) -> History:
        return History(
            self.models,
            self.calls,
            self.arrivals,
            self.unreachable_at,
            self.has_polled,
            self.thrash,
        )

    def key_of(self, name: str, key: str | None = None) -> str:
        """Return the key of a model, and add the model if it is new."""
        key = key_of(name) if key is None else key
        if key not in self.models:
            if len(self.models) >= _MAX_MODELS:
                self._forget_one()
            self.models[key] = ModelHistory(full_name(name))
        return key

    def _forget_one(self) -> None:
        """Remove a model: the first that is neither loaded nor used, if there is one."""
        idle = [key for key in self.models if key not in self.calls]
        away = (key for key in idle if self.models[key].stay is None)
        key = next(away, next(iter(idle or self.models)))
        del self.models[key]
        self.set_calls(key, ())

    def set_calls(self, key: str, calls: tuple[CallStarted, ...]) -> None:
        changed = {**self.calls, key: calls}
        if not calls:
            del changed[key]
        self.calls = changed

    def change(self, key: str, **changes: Any) -> ModelHistory:
        """Change the state of one model, and return it."""
        model = self.models[key] = self.models[key]._replace(**changes)
        return model


def used(step: Step, key: str, use: Use) -> None:
    """Apply the end of a call: the idle time of the model begins again."""
    model, at, wanted = step.models[key], use.ended_at, use.call.keep_alive
    expires, keep_alive, sent_at = model.lifetime
    unload_requested = model.unload_requested
    if wanted is not None and (sent_at is None or use.call.sent_at >= sent_at):
        # It applies to later requests without one, too.
        keep_alive, sent_at = wanted, use.call.sent_at
        unload_requested = wanted == 0
    if keep_alive is not None:
        expires = at + keep_alive
    elif (idle_time := causes.idle_time(step, model)) is not None:
        expires = max(at if expires is None else expires, at + idle_time)
    lifetime = Lifetime(expires, keep_alive, sent_at)
    step.change(key, lifetime=lifetime, unload_requested=unload_requested)


def enter(
    step: Step, key: str, stay: Stay, reload: ModelReload | None, load_duration: float | None
) -> None:
    """Apply that a model was loaded, or loaded with other options."""
    if reload is not None:
        _end_last_stay(step, key, stay.earliest, reload)
    model = step.models[key]
    crashed_at, uses = model.crashed_at, model.later_uses
    if crashed_at is not None and stay.earliest > crashed_at:
        crashed_at = None
    step.change(
        key,
        place=stay._replace(reload=reload),
        unload_before=None,
        seen_at=max(model.seen_at, stay.earliest),
        lifetime=Lifetime(keep_alive_sent_at=model.lifetime.keep_alive_sent_at),
        later_uses=(),
        unreported=None,
        crashed_at=crashed_at,
        unload_requested=False,
    )
    for use in uses:
        if use.ended_at > stay.earliest:
            used(step, key, use)
    row = stay.row
    step.events.append(
        ModelLoad(
            model=model.name,
            context_length=None if row is None else row.context_length,
            gpu_share=None if row is None else row.gpu_share,
            load_duration=load_duration,
        )
    )
    began = stay.earliest if stay.sent_at is None else stay.sent_at
    arrival = Arrival(key, model.name, began, stay.latest)
    step.arrivals = (*step.arrivals, arrival)[-_MAX_ARRIVALS:]
    _explain_others(step, arrival)
    if reload is not None:
        step.events.append(reload)
        step.thrash, thrash = step.thrash.reloaded(reload, stay.latest)
        if thrash is not None:
            step.events.append(thrash)


def _end_last_stay(step: Step, key: str, before: float, reload: ModelReload) -> None:
    reason = _OWN_REASONS.get(reload.cause, "reloaded")
    model = step.models[key]
    if model.stay is not None:
        leave(step, key, before, reason, reload.evicted_by)
    elif model.is_undecided:
        decide(step, key, reason, reload.evicted_by)


def _explain_others(step: Step, arrival: Arrival) -> None:
    """Attribute undecided unloads before their expiry to this load."""
    for key, model in step.models.items():
        unload = model.unload
        if unload is None or unload.reason is not None or not unload.is_evictable:
            continue
        if key != arrival.key and arrival.latest > unload.after:
            evictors = causes.evictors(step, key, unload.after, arrival.latest)
            decide(step, key, "evicted", causes.evictor(step, key, evictors, unload.before))


def leave(
    step: Step,
    key: str,
    before: float,
    reason: UnloadReason | None,
    evicted_by: str | None = None,
) -> Unload:
    """Apply that a model left memory."""
    model = step.models[key]
    stay, expires = model.stay, model.lifetime.expires
    assert stay is not None  # noqa: S101 - only a loaded model can leave
    is_evictable = expires is not None and expires > before
    unload = Unload(stay, after=model.seen_at, before=before, is_evictable=is_evictable)
    step.change(key, place=unload, unload_requested=False)
    if reason is not None:
        decide(step, key, reason, evicted_by)
    return unload


def decide(step: Step, key: str, reason: UnloadReason, evicted_by: str | None = None) -> None:
    """Set the reason of an unload, and emit the event."""
    model = step.models[key]
    unload = model.unload
    assert unload is not None  # noqa: S101 - called after an unload only
    step.change(key, place=unload._replace(reason=reason, evicted_by=evicted_by))
    step.events.append(ModelUnload(model=model.name, reason=reason, evicted_by=evicted_by))
