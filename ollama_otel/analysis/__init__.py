"""Analyses of recorded calls: a table of all calls of a log, and results derived from it.

Needs the extra `analysis`. Names are imported at first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ollama_otel.analysis._advice.advice import Advice, AdviceKind, Advisory, Unchecked
    from ollama_otel.analysis._advice.advisor import advise
    from ollama_otel.analysis._capacity.answer import CapacityAnswer, capacity
    from ollama_otel.analysis._capacity.backtest import Backtest, Pair, backtest
    from ollama_otel.analysis._capacity.demand import Demand
    from ollama_otel.analysis._capacity.forecasting import forecast, load_curve, users_within
    from ollama_otel.analysis._capacity.learning import LearntModel
    from ollama_otel.analysis._capacity.observation import Skips
    from ollama_otel.analysis._capacity.scenario import (
        Estimate,
        Forecast,
        Limit,
        LoadCurve,
        Scenario,
        Spread,
        UserLimit,
    )
    from ollama_otel.analysis._capacity.server import ModelSpeed, ServerSetup, StepTimes
    from ollama_otel.analysis._capacity.workload import Workload
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
    from ollama_otel.analysis._report.values import (
        CallRow,
        CallTable,
        CallView,
        Column,
        Figure,
        Finding,
        Mark,
        Period,
        Plot,
        Report,
        Section,
        Series,
        Table,
        Total,
        Unit,
    )
    from ollama_otel.analysis._store.calls import Calls, open_log
    from ollama_otel.analysis._store.clickhouse import RunClickHouse, open_clickhouse
    from ollama_otel.analysis._store.engine import Engine, Parameters
    from ollama_otel.analysis._store.progress import Progress

__all__ = [
    "Advice",
    "AdviceKind",
    "Advisory",
    "Backtest",
    "BreakEven",
    "BudgetState",
    "BudgetUse",
    "CallRow",
    "CallTable",
    "CallView",
    "Calls",
    "CapacityAnswer",
    "CloudUse",
    "Column",
    "CostLine",
    "CostReport",
    "Demand",
    "Engine",
    "Estimate",
    "Figure",
    "Finding",
    "Forecast",
    "LearntModel",
    "Limit",
    "LoadCurve",
    "MachineCost",
    "Mark",
    "Measured",
    "ModelSpeed",
    "Pair",
    "Parameters",
    "Period",
    "Plot",
    "Progress",
    "Report",
    "RunClickHouse",
    "Scenario",
    "Section",
    "Series",
    "ServerSetup",
    "Skips",
    "Spread",
    "StepTimes",
    "Table",
    "Total",
    "Unchecked",
    "Unit",
    "UserLimit",
    "Workload",
    "advise",
    "backtest",
    "capacity",
    "cost",
    "forecast",
    "gpu_seconds_sql",
    "load_curve",
    "open_clickhouse",
    "open_log",
    "read_measured",
    "report",
    "users_within",
]

_ROOMS = {
    "Advice": "_advice.advice",
    "AdviceKind": "_advice.advice",
    "Advisory": "_advice.advice",
    "Backtest": "_capacity.backtest",
    "BreakEven": "_cost.results",
    "BudgetState": "_cost.results",
    "BudgetUse": "_cost.results",
    "CallRow": "_report.values",
    "CallTable": "_report.values",
    "CallView": "_report.values",
    "Calls": "_store.calls",
    "CapacityAnswer": "_capacity.answer",
    "CloudUse": "_cost.results",
    "Column": "_report.values",
    "CostLine": "_cost.results",
    "CostReport": "_cost.results",
    "Demand": "_capacity.demand",
    "Engine": "_store.engine",
    "Estimate": "_capacity.scenario",
    "Figure": "_report.values",
    "Finding": "_report.values",
    "Forecast": "_capacity.scenario",
    "LearntModel": "_capacity.learning",
    "Limit": "_capacity.scenario",
    "LoadCurve": "_capacity.scenario",
    "MachineCost": "_cost.results",
    "Mark": "_report.values",
    "Measured": "_cost.power",
    "ModelSpeed": "_capacity.server",
    "Pair": "_capacity.backtest",
    "Parameters": "_store.engine",
    "Period": "_report.values",
    "Plot": "_report.values",
    "Progress": "_store.progress",
    "Report": "_report.values",
    "RunClickHouse": "_store.clickhouse",
    "Scenario": "_capacity.scenario",
    "Section": "_report.values",
    "Series": "_report.values",
    "ServerSetup": "_capacity.server",
    "Skips": "_capacity.observation",
    "Spread": "_capacity.scenario",
    "StepTimes": "_capacity.server",
    "Table": "_report.values",
    "Total": "_report.values",
    "Unchecked": "_advice.advice",
    "Unit": "_report.values",
    "UserLimit": "_capacity.scenario",
    "Workload": "_capacity.workload",
    "advise": "_advice.advisor",
    "backtest": "_capacity.backtest",
    "capacity": "_capacity.answer",
    "cost": "_cost.report",
    "forecast": "_capacity.forecasting",
    "gpu_seconds_sql": "_cost.gpu_seconds",
    "load_curve": "_capacity.forecasting",
    "open_clickhouse": "_store.clickhouse",
    "open_log": "_store.calls",
    "read_measured": "_cost.power",
    "report": "_report.report",
    "users_within": "_capacity.forecasting",
}


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
