"""What happens on a server, as values: models come and go, and the server itself."""

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

`expired`: nobody asked it for its `keep_alive`; `evicted`: another one needed its place;
`requested`: somebody said so; `reloaded`: it came back at once with other options, or its
engine had died.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLoad:
    """A model came into memory."""

    model: str
    """With its tag."""
    context_length: int | None = None
    gpu_share: float | None = None
    load_duration: float | None = None
    """Seconds, by the server's word to the call that waited for it; None: nobody of ours did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUnload:
    """A model left memory."""

    model: str
    reason: UnloadReason
    evicted_by: str | None = None
    """The model that needed the place; None also where there are several that may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReload:
    """A model came into memory that had been there before."""

    model: str
    cause: str
    """The option that was another one (`num_ctx`), `evicted`, `expired`, `requested`,
    `server_down`, `runner_crashed` or `unknown`.
    """
    before: OptionValue | None = None
    """The option's value until then; None where it is not known, or no option is the cause."""
    after: OptionValue | None = None
    evicted_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadThrash:
    """Models are loaded again and again, on account of options or for want of memory."""

    reload: ModelReload
    """The latest one."""
    count: int
    """Such reloads on this server within the last five minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerUp:
    """The server can be reached, for the first time or again."""

    version: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerDown:
    """The server can no longer be reached."""

    error: str


Event = ModelLoad | ModelUnload | ModelReload | ReloadThrash | ServerUp | ServerDown
