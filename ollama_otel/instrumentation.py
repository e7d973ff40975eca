"""The instrumentation of calls, and the interfaces of tracing, enrichers and observers."""

from __future__ import annotations

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
    "Backlog",
    "CallFollower",
    "CallTrace",
    "Enricher",
    "Instrumentation",
    "InstrumentationOptions",
    "LoggingObserver",
    "Observer",
    "Section",
    "Tracing",
    "build_instrumentation",
]
