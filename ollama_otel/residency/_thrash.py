"""Tells when reloads are no accident any more. No clock: it is told the time."""

from __future__ import annotations

from collections import deque
from typing import Final

from ollama_otel.residency._events import ModelReload, ReloadThrash
from ollama_otel.residency._options import LOAD_OPTIONS

__all__ = ["ThrashDetector", "advice"]

_WINDOW: Final = 300.0
_RELOADS: Final = 3
_MAX_TOLD: Final = 20
"""Different models or pairs told of in one window."""


class ThrashDetector:
    """Watches the reloads of one server."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=10_000)
        self._told: dict[tuple[str, ...], float] = {}

    def reloaded(self, reload: ModelReload, at: float) -> ReloadThrash | None:
        """Take in a reload at `at` seconds; None unless there is something new to tell."""
        if reload.cause != "evicted" and reload.cause not in LOAD_OPTIONS:
            return None
        self._times.append(at)
        while self._times and self._times[0] < at - _WINDOW:
            self._times.popleft()
        if len(self._times) < _RELOADS:
            return None
        # Two models that push each other out are one story.
        who = sorted({reload.model, reload.evicted_by or reload.model})
        key = (reload.cause, *who)
        self._told = {known: told for known, told in self._told.items() if told > at - _WINDOW}
        if key in self._told or len(self._told) >= _MAX_TOLD:
            return None
        self._told[key] = at
        return ReloadThrash(reload=reload, count=len(self._times))


def advice(thrash: ReloadThrash, url: str) -> str:
    """Return what happens and what to do about it, for a person."""
    reload = thrash.reload
    often = f"{thrash.count} reloads within {_WINDOW / 60:g} minutes on {url}"
    if reload.cause == "evicted":
        other = reload.evicted_by or "other models"
        return (
            f"{reload.model} and {other} push each other out of memory: {often}; raise "
            "OLLAMA_MAX_LOADED_MODELS, use a smaller model or context, ask for one model at a "
            "time, or, where both are made of the same weights, use one name and the same options"
        )
    before = "its own value" if reload.before is None else reload.before
    after = "its own value" if reload.after is None else reload.after
    return (
        f"{reload.model} is loaded again and again, as {reload.cause} changes between calls "
        f"({before} \u2194 {after}): {often}; send the same {reload.cause} with every call"
    )
