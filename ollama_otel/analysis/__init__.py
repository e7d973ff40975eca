"""Answers from recorded calls: a table of all calls of a log, and what follows from it.

Needs the extra `analysis`. Names are imported at first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ollama_otel.analysis._report.report import report
    from ollama_otel.analysis._report.values import Finding, Report
    from ollama_otel.analysis._store.calls import Calls, open_log
    from ollama_otel.analysis._store.clickhouse import RunClickHouse, open_clickhouse
    from ollama_otel.analysis._store.engine import Engine, Parameters
    from ollama_otel.analysis._store.progress import Progress

__all__ = [
    "Calls",
    "Engine",
    "Finding",
    "Parameters",
    "Progress",
    "Report",
    "RunClickHouse",
    "open_clickhouse",
    "open_log",
    "report",
]

_ROOMS = {
    "Calls": "_store.calls",
    "Engine": "_store.engine",
    "Finding": "_report.values",
    "Parameters": "_store.engine",
    "Progress": "_store.progress",
    "Report": "_report.values",
    "RunClickHouse": "_store.clickhouse",
    "open_clickhouse": "_store.clickhouse",
    "open_log": "_store.calls",
    "report": "_report.report",
}


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
