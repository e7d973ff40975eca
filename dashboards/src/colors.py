"""The fixed colours of values that mean the same on every panel.

Names of models and servers are not known here; Grafana gives each series of a panel the next colour
of its palette.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

__all__ = [
    "FINISH_REASONS",
    "GPU_SHARE",
    "GPU_SHARE_BOUNDS",
    "GPU_SHARE_LEVELS",
    "OUTCOMES",
    "PHASES",
    "QUANTILES",
    "RUN_ENDINGS",
    "SERVER_STATES",
    "SHARE_OF_FAILURES",
    "TOKEN_TYPES",
    "TOOL_OUTCOMES",
    "USED_SHARE",
    "Color",
    "Steps",
]

Color = Literal[
    "green",
    "dark-green",
    "yellow",
    "orange",
    "red",
    "dark-red",
    "blue",
    "light-blue",
    "purple",
    "text",
]
"""Colours of Grafana that are legible in both themes; `text` is neutral."""

Steps = tuple[tuple[float | None, Color], ...]
"""Colours by lower bound; the first bound is None."""

OUTCOMES: Final[Mapping[str, Color]] = {
    "completed": "green",
    "failed": "red",
    "abandoned": "orange",
    "cancelled": "purple",
}

FINISH_REASONS: Final[Mapping[str, Color]] = {
    "stop": "green",
    "length": "orange",
    "tool_call": "blue",
}

PHASES: Final[Mapping[str, Color]] = {
    "resilience": "purple",
    "queue_estimate": "red",
    "load": "orange",
    "prompt_eval": "yellow",
    "eval": "green",
    "client": "blue",
    "unaccounted": "text",
}
"""In the order in which a call passes through them."""

RUN_ENDINGS: Final[Mapping[str, Color]] = {
    "answered": "green",
    "deferred": "blue",
    "at a limit": "yellow",
    "tool call failed": "orange",
    "unusable answer": "purple",
    "call or hook failed": "red",
    "stopped by the caller": "text",
}
"""By groups of endings."""

TOOL_OUTCOMES: Final[Mapping[str, Color]] = {
    "succeeded": "green",
    "failed": "red",
    "timed_out": "orange",
    "unknown_tool": "yellow",
    "invalid_arguments": "purple",
    "over_limit": "dark-red",
    "denied": "blue",
    "deferred": "light-blue",
    "cancelled": "text",
}

QUANTILES: Final[Mapping[str, Color]] = {"p50": "green", "p90": "orange", "p99": "red"}

TOKEN_TYPES: Final[Mapping[str, Color]] = {"input": "blue", "output": "green"}

GPU_SHARE: Final[Steps] = ((None, "text"), (0.001, "red"), (0.5, "orange"), (0.95, "green"))
"""A model that is entirely on the CPU is neutral: the machine may have no GPU."""

GPU_SHARE_BOUNDS: Final = tuple(bound for bound, _ in GPU_SHARE if bound is not None)
GPU_SHARE_LEVELS: Final[Mapping[str, tuple[str, Color]]] = {
    "0": ("CPU", "text"),
    "1": ("under 50 %", "red"),
    "2": ("50 to 95 %", "orange"),
    "3": ("GPU", "green"),
}
"""Word and colour by the number of `GPU_SHARE_BOUNDS` that a share reaches."""

SERVER_STATES: Final[Mapping[str, tuple[str, Color]]] = {
    "0": ("up", "green"),
    "1": ("busy", "orange"),
    "2": ("down", "red"),
}
"""Word and colour by value; the worst is the highest, so that a table can sort by it."""

SHARE_OF_FAILURES: Final[Steps] = ((None, "green"), (0.01, "yellow"), (0.05, "red"))

USED_SHARE: Final[Steps] = ((None, "green"), (0.8, "orange"), (1, "red"))
"""Of something that should not be used up: slots, a budget."""
