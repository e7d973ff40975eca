"""Answers from recorded calls: a table of all calls of a log, and what follows from it.

Needs the extra `analysis`. Names are imported at first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    from ollama_otel.analysis._store.calls import Calls, open_log
    from ollama_otel.analysis._store.clickhouse import RunClickHouse, open_clickhouse
    from ollama_otel.analysis._store.engine import Engine, Parameters
    from ollama_otel.analysis._store.progress import Progress

__all__ = [
    "Backtest",
    "Calls",
    "CapacityAnswer",
    "Demand",
    "Engine",
    "Estimate",
    "Forecast",
    "LearntModel",
    "Limit",
    "LoadCurve",
    "ModelSpeed",
    "Pair",
    "Parameters",
    "Progress",
    "RunClickHouse",
    "Scenario",
    "ServerSetup",
    "Skips",
    "Spread",
    "StepTimes",
    "UserLimit",
    "Workload",
    "backtest",
    "capacity",
    "forecast",
    "load_curve",
    "open_clickhouse",
    "open_log",
    "users_within",
]

_ROOMS = {
    "Backtest": "_capacity.backtest",
    "Calls": "_store.calls",
    "CapacityAnswer": "_capacity.answer",
    "Demand": "_capacity.demand",
    "Engine": "_store.engine",
    "Estimate": "_capacity.scenario",
    "Forecast": "_capacity.scenario",
    "LearntModel": "_capacity.learning",
    "Limit": "_capacity.scenario",
    "LoadCurve": "_capacity.scenario",
    "ModelSpeed": "_capacity.server",
    "Pair": "_capacity.backtest",
    "Parameters": "_store.engine",
    "Progress": "_store.progress",
    "RunClickHouse": "_store.clickhouse",
    "Scenario": "_capacity.scenario",
    "ServerSetup": "_capacity.server",
    "Skips": "_capacity.observation",
    "Spread": "_capacity.scenario",
    "StepTimes": "_capacity.server",
    "UserLimit": "_capacity.scenario",
    "Workload": "_capacity.workload",
    "backtest": "_capacity.backtest",
    "capacity": "_capacity.answer",
    "forecast": "_capacity.forecasting",
    "load_curve": "_capacity.forecasting",
    "open_clickhouse": "_store.clickhouse",
    "open_log": "_store.calls",
    "users_within": "_capacity.forecasting",
}


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
