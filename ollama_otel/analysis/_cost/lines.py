"""Lines of a report: sums over groups of calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from ollama_otel.analysis._cost.calls import CostedCalls
from ollama_otel.analysis._cost.columns import Codes
from ollama_otel.analysis._cost.grouping import sums
from ollama_otel.analysis._cost.results import CostLine
from ollama_otel.analysis._cost.sharing import Array

__all__ = ["Lines", "known"]

_MILLION: Final = 1e6


class Lines:
    """The sums of all groups of calls; the last one is of calls without a value."""

    def __init__(self, calls: CostedCalls, codes: Codes, cloud: Array) -> None:
        """`cloud` has the cloud price of each call: NaN is unknown, infinity is not mapped."""
        self._names: tuple[str | None, ...] = (*codes.texts, None)
        is_mapped = ~np.isinf(cloud)
        to_output = 1 - calls.to_input
        has_input, has_output = (
            ~np.isnan(part) & ~np.isnan(tokens)
            for part, tokens in (
                (calls.to_input, calls.input_tokens),
                (to_output, calls.output_tokens),
            )
        )
        columns: dict[str, Array | None] = {
            "calls": None,
            **{
                name: getattr(calls, name)
                for name in ("gpu_seconds", "machine", "energy", "idle", "joules")
            },
            "input_tokens": _zeroed(calls.input_tokens),
            "output_tokens": _zeroed(calls.output_tokens),
            "money_of_input": np.where(has_input, calls.cost * calls.to_input, 0.0),
            "money_of_output": np.where(has_output, calls.cost * to_output, 0.0),
            "tokens_of_input": np.where(has_input, calls.input_tokens, 0.0),
            "tokens_of_output": np.where(has_output, calls.output_tokens, 0.0),
            "cloud": np.where(is_mapped, _zeroed(cloud), 0.0),
            "not_mapped": ~is_mapped,
        }
        self._sums = sums(codes, columns)

    def total(self) -> CostLine:
        """Return the line of all calls."""
        return _line("all calls", {name: each.sum() for name, each in self._sums.items()})

    def each(self, *, is_in_order: bool) -> Iterator[CostLine]:
        """Yield a line for each group, in the order of their names or the most expensive first."""
        cost = self._sums["machine"] + self._sums["energy"] + self._sums["idle"]
        for place in range(len(cost)) if is_in_order else np.argsort(-cost, kind="stable"):
            if self._sums["calls"][place]:
                found = {name: each[place] for name, each in self._sums.items()}
                yield _line(self._names[place], found)


def _line(name: str | None, found: dict[str, Any]) -> CostLine:
    return CostLine(
        name=name,
        calls=int(found["calls"]),
        input_tokens=int(found["input_tokens"]),
        output_tokens=int(found["output_tokens"]),
        **{each: float(found[each]) for each in ("gpu_seconds", "machine", "energy", "idle")},
        joules=known(found["joules"]),
        per_million_input=_per_million(found["money_of_input"], found["tokens_of_input"]),
        per_million_output=_per_million(found["money_of_output"], found["tokens_of_output"]),
        cloud=None if found["not_mapped"] else float(found["cloud"]),
    )


def _per_million(money: float, tokens: float) -> float | None:
    return float(money / tokens * _MILLION) if tokens else None


def _zeroed(numbers: Array) -> Array:
    return np.where(np.isnan(numbers), 0.0, numbers)


def known(value: float) -> float | None:
    """Return a number; None if it is unknown."""
    return float(value) if np.isfinite(value) else None
