"""The options of a request that decide how a model is loaded, and what a change of them means.

Source: `needsReload` in server/sched.go of Ollama 0.33.0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["LOAD_OPTIONS", "Change", "OptionValue", "change_between", "load_options", "seconds_of"]

OptionValue = bool | int | float

LOAD_OPTIONS: Final = (
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "use_mmap",
    "num_thread",
    "draft_num_predict",
)
"""A loaded model is loaded again when one of these is another one than before."""

_UNITS: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An option that is another one than before."""

    option: str
    before: OptionValue | None
    """None: the server's or the model's own, which is not known."""
    after: OptionValue | None


def load_options(options: Mapping[str, Any]) -> dict[str, OptionValue]:
    """Return the load-time options among those of a request."""
    found: dict[str, OptionValue] = {}
    for name in LOAD_OPTIONS:
        value = options.get(name)
        if not isinstance(value, (bool, int, float)) or not math.isfinite(value):
            continue
        # Both mean that the server chooses, and never that it loads again.
        if (name == "num_gpu" and value < 0) or (name == "num_thread" and value == 0):
            continue
        found[name] = int(value) if isinstance(value, float) and value.is_integer() else value
    return found


def change_between(
    before: Mapping[str, OptionValue] | None,
    after: Mapping[str, OptionValue],
    *,
    context_before: int | None = None,
    own_context: int | None = None,
) -> Change | None:
    """Return the option that made the server load a model again, or None if none did.

    `before` is None where nobody knows with which options it was loaded; `context_before` is
    the context that it had, and `own_context` what it has when no `num_ctx` is sent.
    """
    changes: list[Change] = []
    for name in LOAD_OPTIONS:
        old = None if before is None else before.get(name)
        new = after.get(name)
        if before is not None and old == new:
            continue
        if name == "num_ctx":
            # What was sent, as the server may have lowered it; else what the server says.
            old = old if old is not None else context_before
            new = new if new is not None else own_context
            if before is None and (old is None or new is None):
                continue
        elif before is None or (name == "num_gpu" and new is None):
            continue
        if old != new:
            changes.append(Change(option=name, before=old, after=new))
    # One of which both sides are known is the better evidence.
    changes.sort(key=lambda change: change.before is None or change.after is None)
    return changes[0] if changes else None


def seconds_of(keep_alive: str | None) -> float | None:
    """Read a request's `keep_alive`: seconds, or one of Go's durations; negative is for ever."""
    if keep_alive is None:
        return None
    text = keep_alive.strip()
    sign = -1 if text.startswith("-") else 1
    text = text.lstrip("+-")
    if _DURATION.fullmatch(text):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    else:
        try:
            seconds = float(text)
        except ValueError:
            return None
    if math.isnan(seconds):
        return None
    return math.inf if sign < 0 and seconds > 0 else seconds
