"""The events of a server: loads, unloads and reloads of models, and the server up and down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ollama_otel._wire.load_options import OptionValue

__all__ = [
    "Event",
    "ModelLoad",
    "ModelReload",
    "ModelUnload",
    "ReloadThrash",
    "ServerDown",
    "ServerUp",
    "UnloadReason",
]

UnloadReason = Literal["expired", "evicted", "requested", "reloaded", "server_down", "unknown"]
"""Why a model left memory.

`expired`: no request used it for its `keep_alive`; `evicted`: another model needed its memory;
`requested`: a request unloaded it; `reloaded`: it was loaded again immediately, with other options
or after its engine had crashed; `server_down`: the server stopped; `unknown`: no evidence.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLoad:
    """A model was loaded into memory."""

    model: str
    """The name, with its tag."""
    context_length: int | None = None
    """Tokens of context for each request."""
    gpu_share: float | None = None
    """The share in GPU memory, 0 to 1."""
    load_duration: float | None = None
    """Seconds, as the server reported; None if no call of this process waited for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUnload:
    """A model left memory."""

    model: str
    reason: UnloadReason
    evicted_by: str | None = None
    """The model that needed the memory; None also if it may be one of several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReload:
    """A model was loaded that had been in memory before."""

    model: str
    cause: str
    """The option that differs (`num_ctx`), or `evicted`, `expired`, `requested`, `server_down`,
    `runner_crashed` or `unknown`.
    """
    before: OptionValue | None = None
    """The option's old value; None if it is unknown, or no option is the cause."""
    after: OptionValue | None = None
    """The option's new value."""
    evicted_by: str | None = None
    """The model that had needed the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadThrash:
    """Models are reloaded repeatedly, because options change or memory is too small."""

    reload: ModelReload
    """The latest reload."""
    count: int
    """Such reloads on this server within the last five minutes, this one included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerUp:
    """The server can be reached, for the first time or again."""

    version: str | None
    """Version of Ollama."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerDown:
    """The server can no longer be reached."""

    error: str


Event = ModelLoad | ModelUnload | ModelReload | ReloadThrash | ServerUp | ServerDown
"""What a listener gets."""
