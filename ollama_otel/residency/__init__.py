"""What Ollama servers hold in memory: which models, how much of them on the GPU, and why they go.

`configure(residency=True)` watches the servers that calls go to, and puts it into metrics,
log events and span attributes; `Residency` is for those who want to know it themselves.
"""

from ollama_otel.residency._events import (
    Event,
    ModelLoad,
    ModelReload,
    ModelUnload,
    ReloadThrash,
    ServerDown,
    ServerUp,
)
from ollama_otel.residency._facts import LoadedModel
from ollama_otel.residency._residency import Listener, Residency
from ollama_otel.residency._watcher import ServerState

__all__ = [
    "Event",
    "Listener",
    "LoadedModel",
    "ModelLoad",
    "ModelReload",
    "ModelUnload",
    "ReloadThrash",
    "Residency",
    "ServerDown",
    "ServerState",
    "ServerUp",
]
