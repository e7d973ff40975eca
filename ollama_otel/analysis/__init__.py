"""Answers from recorded calls: a table of all calls of a log, and what follows from it.

Needs the extra `analysis`. Names are imported at first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ollama_otel.analysis._advice.advice import Advice, AdviceKind, Advisory, Unchecked
    from ollama_otel.analysis._advice.advisor import advise
    from ollama_otel.analysis._cost.gpu_seconds import gpu_seconds_sql
    from ollama_otel.analysis._cost.power import Measured, read_measured
    from ollama_otel.analysis._cost.report import cost
    from ollama_otel.analysis._cost.results import (
        BreakEven,
        BudgetState,
        BudgetUse,
        CloudUse,
        CostLine,
        CostReport,
        MachineCost,
    )
    from ollama_otel.analysis._report.report import report
    from ollama_otel.analysis._report.values import Finding, Report
    from ollama_otel.analysis._store.calls import Calls, open_log
    from ollama_otel.analysis._store.clickhouse import RunClickHouse, open_clickhouse
    from ollama_otel.analysis._store.engine import Engine, Parameters
    from ollama_otel.analysis._store.progress import Progress

__all__ = [
    "Advice",
    "AdviceKind",
    "Advisory",
    "BreakEven",
    "BudgetState",
    "BudgetUse",
    "Calls",
    "CloudUse",
    "CostLine",
    "CostReport",
    "Engine",
    "Finding",
    "MachineCost",
    "Measured",
    "Parameters",
    "Progress",
    "Report",
    "RunClickHouse",
    "Unchecked",
    "advise",
    "cost",
    "gpu_seconds_sql",
    "open_clickhouse",
    "open_log",
    "read_measured",
    "report",
]

_ROOMS = {
    "Advice": "_advice.advice",
    "AdviceKind": "_advice.advice",
    "Advisory": "_advice.advice",
    "BreakEven": "_cost.results",
    "BudgetState": "_cost.results",
    "BudgetUse": "_cost.results",
    "Calls": "_store.calls",
    "CloudUse": "_cost.results",
    "CostLine": "_cost.results",
    "CostReport": "_cost.results",
    "Engine": "_store.engine",
    "Finding": "_report.values",
    "MachineCost": "_cost.results",
    "Measured": "_cost.power",
    "Parameters": "_store.engine",
    "Progress": "_store.progress",
    "Report": "_report.values",
    "RunClickHouse": "_store.clickhouse",
    "Unchecked": "_advice.advice",
    "advise": "_advice.advisor",
    "cost": "_cost.report",
    "gpu_seconds_sql": "_cost.gpu_seconds",
    "open_clickhouse": "_store.clickhouse",
    "open_log": "_store.calls",
    "read_measured": "_cost.power",
    "report": "_report.report",
}


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
