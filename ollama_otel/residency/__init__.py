"""The models in the memory of Ollama servers: their size, GPU share, loads and unloads.

`configure(residency=True)` watches the servers that calls go to, and reports them in metrics,
log events and span attributes; `Residency` offers the same to other code.
"""

from ollama_otel._wire.load_options import OptionValue
from ollama_otel._wire.ps import LoadedModel
from ollama_otel.residency._events import (
    Event,
    ModelLoad,
    ModelReload,
    ModelUnload,
    ReloadThrash,
    ServerDown,
    ServerUp,
    UnloadReason,
)
from ollama_otel.residency._residency import Listener, Residency
from ollama_otel.residency._watcher import ServerState

__all__ = [
    "Event",
    "Listener",
    "LoadedModel",
    "ModelLoad",
    "ModelReload",
    "ModelUnload",
    "OptionValue",
    "ReloadThrash",
    "Residency",
    "ServerDown",
    "ServerState",
    "ServerUp",
    "UnloadReason",
]
