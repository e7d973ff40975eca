"""The options of a request that determine how the server loads a model.

Source: `needsReload` in server/sched.go of Ollama 0.33.0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["LOAD_OPTIONS", "Change", "OptionValue", "change_between", "load_options"]

OptionValue = bool | int | float
"""The value of an option whose change makes the server load the model again."""

LOAD_OPTIONS: Final = (
    "num_ctx",
    "num_batch",
    "num_gpu",
    "main_gpu",
    "use_mmap",
    "num_thread",
    "draft_num_predict",
)
"""The server reloads a model if one of these changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An option whose value changed."""

    option: str
    before: OptionValue | None
    """None: the unknown default of the server or the model."""
    after: OptionValue | None


def load_options(options: Mapping[str, Any]) -> dict[str, OptionValue]:
    """Return the load-time options among those of a request."""
    found: dict[str, OptionValue] = {}
    for name in LOAD_OPTIONS:
        if name not in options:
            continue
        value = options[name]
        if not isinstance(value, (bool, int, float)) or not math.isfinite(value):
            continue
        # Both leave the choice to the server, and never cause a reload.
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
    """Return the option that caused a reload, or None if none did.

    `before` is None if the options of the previous load are unknown. `context_before` is the
    model's context length before, `own_context` the one that it has without `num_ctx`.
    """
    if before == after:
        return None
    changes: list[Change] = []
    for name in LOAD_OPTIONS:
        old = None if before is None else before.get(name)
        new = after.get(name)
        if before is not None and old == new:
            continue
        if name == "num_ctx":
            # The value sent, as the server may have lowered it; else the server's value.
            old = old if old is not None else context_before
            new = new if new is not None else own_context
            if before is None and (old is None or new is None):
                continue
        elif before is None or (name == "num_gpu" and new is None):
            continue
        if old != new:
            changes.append(Change(option=name, before=old, after=new))
    # A change between two known values is better evidence.
    changes.sort(key=lambda change: change.before is None or change.after is None)
    return changes[0] if changes else None
