"""The instrumentation of calls, and the interfaces of tracing, enrichers and observers."""

from __future__ import annotations

from ollama_otel._exchange.agent_runs import (
    AgentTracing,
    RunRecord,
    RunStart,
    RunTrace,
    ToolCallRecord,
    ToolCallStart,
    ToolTrace,
)
from ollama_otel._exchange.observers import (
    Backlog,
    CallFollower,
    CallTrace,
    Enricher,
    Instrumentation,
    LoggingObserver,
    Observer,
    Section,
    Tracing,
)
from ollama_otel._telemetry.instrumentation import InstrumentationOptions, build_instrumentation

__all__ = [
    "AgentTracing",
    "Backlog",
    "CallFollower",
    "CallTrace",
    "Enricher",
    "Instrumentation",
    "InstrumentationOptions",
    "LoggingObserver",
    "Observer",
    "RunRecord",
    "RunStart",
    "RunTrace",
    "Section",
    "ToolCallRecord",
    "ToolCallStart",
    "ToolTrace",
    "Tracing",
    "build_instrumentation",
]
