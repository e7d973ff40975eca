"""OpenTelemetry for Ollama: spans and metrics for every call, in a drop-in client."""

from __future__ import annotations

from ollama_otel import ollama
from ollama_otel._call import CallRecord, CallStart, Observation, Observer
from ollama_otel._telemetry.setup import Telemetry, configure
from ollama_otel.client import AsyncClient, Client
from ollama_otel.context import call_context
from ollama_otel.errors import (
    InstrumentationError,
    MissingExtraError,
    OllamaOtelError,
    SettingsError,
)
from ollama_otel.instrumentor import OllamaInstrumentor
from ollama_otel.settings import Settings
from ollama_otel.transport import (
    AsyncTransport,
    Transport,
    instrument_client,
    uninstrument_client,
)

__all__ = [
    "AsyncClient",
    "AsyncTransport",
    "CallRecord",
    "CallStart",
    "Client",
    "InstrumentationError",
    "MissingExtraError",
    "Observation",
    "Observer",
    "OllamaInstrumentor",
    "OllamaOtelError",
    "Settings",
    "SettingsError",
    "Telemetry",
    "Transport",
    "__version__",
    "call_context",
    "configure",
    "instrument_client",
    "ollama",
    "uninstrument_client",
]


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("ollama_otel")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
