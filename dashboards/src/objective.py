"""The objective for the time to first token, its error budget, and how fast that burns.

The error budget is the share of streams that may start late. A burn rate of 1 uses it up exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from dashboards.src.queries import BOARD, not_nan
from dashboards.src.recording import record
from dashboards.src.vocabulary import BY_MODEL, BY_SERVER, GENAI, RANGE, SLOW_START
from ollama_otel._telemetry.metric_names import label_name

__all__ = [
    "BURN_LIMITS",
    "ERROR_BUDGET",
    "OBJECTIVE",
    "Window",
    "budget_left",
    "burn_rate",
    "in_time",
]

OBJECTIVE: Final = 0.95
"""Share of streams that should start within `SLOW_START`."""
ERROR_BUDGET: Final = round(1 - OBJECTIVE, 4)
"""Share of streams that may start later."""

Window = Literal["1h", "6h", "3d"]
BURN_LIMITS: Final[Mapping[Window, float]] = {"1h": 14.4, "6h": 6, "3d": 1}
"""Burn rates by window, from which on an alert fires."""

_START: Final = GENAI.time_to_first_chunk


def in_time(*, by: Sequence[str] = ()) -> str:
    """Return the share of streams that started in time, over the range of the board."""
    return not_nan(f"1 - {_late(by)}")


def budget_left(*, by: Sequence[str] = ()) -> str:
    """Return the share of the error budget left over the range of the board; below 0 if overdrawn.

    Nothing if no stream began.
    """
    return f"1 - {not_nan(_late(by))} / {ERROR_BUDGET}"


def burn_rate(window: Window, *, by: Sequence[str] = ()) -> str:
    """Return how many times faster than allowed the error budget burned in a window.

    Models and servers count by their streams. It reads recording rules, which have no labels of the
    app: the board's variable `job` does not filter it. `by` are labels of server and model.
    """
    late = _recorded(record("slow_starts", f"ratio_rate{window}"))
    streams = _recorded(record("starts", f"increase{window}"))
    grouped = f" by ({', '.join(map(label_name, by))}) " if by else ""
    # A model without streams in the window has the share NaN, and would hide the others.
    every_late = f"sum{grouped}({not_nan(late)} * {streams})"
    return f"{every_late} / (sum{grouped}({streams}) > 0) / {ERROR_BUDGET}"


def _late(by: Sequence[str]) -> str:
    return RANGE.share_above_total(SLOW_START, _START, by=by)


def _recorded(name: str) -> str:
    """Return the selector of a recording rule by server and model, filtered as the board is."""
    matchers = (f"{label_name(label)}{BOARD.filters[label]}" for label in (*BY_SERVER, *BY_MODEL))
    return f"{name}{{{','.join(matchers)}}}"
