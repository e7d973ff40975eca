"""Detects reload thrash: too many avoidable reloads within a time window."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from ollama_otel._wire.load_options import LOAD_OPTIONS
from ollama_otel.residency._events import ModelReload, ReloadThrash

__all__ = ["Thrash", "advice"]

_WINDOW: Final = 300.0
_RELOADS: Final = 3
_MAX_TIMES: Final = 10_000
_MAX_REPORTED: Final = 20
"""Distinct models or pairs reported within one window."""


class Thrash(NamedTuple):
    """The recent reloads of one server that options or a lack of memory caused."""

    times: tuple[float, ...] = ()
    """Times of the reloads within the window, seconds."""
    reported: Mapping[tuple[str, ...], float] = MappingProxyType({})
    """When a cause and its models were last reported, seconds."""

    def reloaded(self, reload: ModelReload, at: float) -> tuple[Thrash, ReloadThrash | None]:
        """Return the value after a reload at `at` seconds, and the event to emit, if any."""
        if reload.cause != "evicted" and reload.cause not in LOAD_OPTIONS:
            return self, None
        start = at - _WINDOW
        times = (*(time for time in self.times if time >= start), at)[-_MAX_TIMES:]
        if len(times) < _RELOADS:
            return self._replace(times=times), None
        # Two models that evict each other are one case.
        models = sorted({reload.model, reload.evicted_by or reload.model})
        case = (reload.cause, *models)
        reported = {known: last for known, last in self.reported.items() if last > start}
        if case in reported or len(reported) >= _MAX_REPORTED:
            return Thrash(times, reported), None
        return Thrash(times, {**reported, case: at}), ReloadThrash(reload=reload, count=len(times))


def advice(thrash: ReloadThrash, url: str) -> str:
    """Return a log message: the cause of a thrash and what to do about it."""
    reload = thrash.reload
    often = f"{thrash.count} reloads within {_WINDOW / 60:g} minutes on {url}"
    if reload.cause == "evicted":
        other = reload.evicted_by or "other models"
        return (
            f"{reload.model} and {other} evict each other from memory: {often}; raise "
            "OLLAMA_MAX_LOADED_MODELS, use a smaller model or context, call one model at a "
            "time, or, if both have the same weights, use one name and the same options"
        )
    before = "its own value" if reload.before is None else reload.before
    after = "its own value" if reload.after is None else reload.after
    return (
        f"{reload.model} is loaded again and again, as {reload.cause} changes between calls "
        f"({before} \u2194 {after}): {often}; send the same {reload.cause} with every call"
    )
