"""Answers from recorded calls: a table of all calls of a log, and what follows from it.

Needs the extra `analysis`. Names are imported at first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ollama_otel._prices.reading import read_prices
    from ollama_otel._prices.values import Prices
    from ollama_otel.analysis._cost.power import Measured, read_measured
    from ollama_otel.analysis._cost.report import cost
    from ollama_otel.analysis._cost.results import (
        BreakEven,
        BudgetUse,
        CloudUse,
        CostLine,
        CostReport,
        MachineCost,
    )
    from ollama_otel.analysis._store.calls import Calls, open_log

__all__ = [
    "BreakEven",
    "BudgetUse",
    "Calls",
    "CloudUse",
    "CostLine",
    "CostReport",
    "MachineCost",
    "Measured",
    "Prices",
    "cost",
    "open_log",
    "read_measured",
    "read_prices",
]

_ROOMS = {
    "BreakEven": "analysis._cost.results",
    "BudgetUse": "analysis._cost.results",
    "Calls": "analysis._store.calls",
    "CloudUse": "analysis._cost.results",
    "CostLine": "analysis._cost.results",
    "CostReport": "analysis._cost.results",
    "MachineCost": "analysis._cost.results",
    "Measured": "analysis._cost.power",
    "Prices": "_prices.values",
    "cost": "analysis._cost.report",
    "open_log": "analysis._store.calls",
    "read_measured": "analysis._cost.power",
    "read_prices": "_prices.reading",
}


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return getattr(import_module(f"ollama_otel.{_ROOMS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
