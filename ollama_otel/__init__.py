"""OpenTelemetry for Ollama: spans and metrics for every call, in a drop-in client.

Names are imported at first use: the official package reads `OLLAMA_HOST` at import and raises
if it is invalid, and the command line has to report that as an error of its own.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ollama_otel import ollama
    from ollama_otel._client_instrumentation import instrument_client, uninstrument_client
    from ollama_otel._exchange.observers import CallFollower, Enricher, Instrumentation, Observer
    from ollama_otel._telemetry.instrumentation import InstrumentationOptions, build_instrumentation
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
    from ollama_otel.records import CallRecord, CallStart
    from ollama_otel.settings import ClientDefaults, Settings
    from ollama_otel.transport import AsyncTransport, Transport

    __version__: str
    """The installed version of this package, such as `0.1.0`."""

__all__ = [
    "AsyncClient",
    "AsyncTransport",
    "CallFollower",
    "CallRecord",
    "CallStart",
    "Client",
    "ClientDefaults",
    "Enricher",
    "Instrumentation",
    "InstrumentationError",
    "InstrumentationOptions",
    "MissingExtraError",
    "Observer",
    "OllamaInstrumentor",
    "OllamaOtelError",
    "Settings",
    "SettingsError",
    "Telemetry",
    "Transport",
    "__version__",
    "build_instrumentation",
    "call_context",
    "configure",
    "instrument_client",
    "ollama",
    "uninstrument_client",
]

_ROOMS = {
    "_client_instrumentation": ("instrument_client", "uninstrument_client"),
    "_exchange.observers": ("CallFollower", "Enricher", "Instrumentation", "Observer"),
    "_telemetry.instrumentation": ("InstrumentationOptions", "build_instrumentation"),
    "records": ("CallRecord", "CallStart"),
    "_telemetry.setup": ("Telemetry", "configure"),
    "client": ("AsyncClient", "Client"),
    "context": ("call_context",),
    "errors": ("InstrumentationError", "MissingExtraError", "OllamaOtelError", "SettingsError"),
    "instrumentor": ("OllamaInstrumentor",),
    "settings": ("ClientDefaults", "Settings"),
    "transport": ("AsyncTransport", "Transport"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

# Hidden from type checkers: with it they would accept any name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name == "__version__":
            value = version("ollama_otel")
        elif name == "ollama":
            value = import_module("ollama_otel.ollama")
        elif name in _ROOM_OF:
            value = getattr(import_module(f"ollama_otel.{_ROOM_OF[name]}"), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
