"""The readings of sources, with which the state is fed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ollama_otel._log.tail import LoggedEvent
from ollama_otel._wire.ps import LoadedModel

__all__ = ["LogReading", "ModelKey", "PsReading", "Reading", "Scrape", "ScrapedModel"]

ModelKey = tuple[str | None, str]
"""A server as `server_name` writes it, and the key of a model's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogReading:
    """The events of a log since the last reading."""

    events: tuple[LoggedEvent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PsReading:
    """The models in the memory of a server."""

    server: str
    at: float
    """When it was read, by the clock to which `expires_in` of the models refers; since the
    epoch.
    """
    models: tuple[LoadedModel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrapedModel:
    """The facts about one model in a scrape; None: not reported."""

    name: str
    memory: int | None = None
    """Bytes, GPU and CPU memory together."""
    gpu_share: float | None = None
    context_length: int | None = None
    expires_in: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """One scrape of an app. Sums and counts are those since the app began; times are in seconds."""

    in_flight: Mapping[ModelKey, int] = field(default_factory=dict)
    """Calls in progress; the model is "" for calls without one."""
    ended: Mapping[ModelKey, float] = field(default_factory=dict)
    outcomes: Mapping[str, float] = field(default_factory=dict)
    """Calls that ended, by outcome."""
    duration: float = 0.0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    first: float = 0.0
    """Sum of the times to first chunk."""
    first_count: float = 0.0
    wait: float = 0.0
    """Sum of the estimated waits for a slot, of calls that waited."""
    wait_count: float = 0.0
    limiter_waiting: int | None = None
    loads: Mapping[ModelKey, float] = field(default_factory=dict)
    models: Mapping[ModelKey, ScrapedModel] = field(default_factory=dict)
    """Models in memory, if the app watches residency."""
    watches: bool = False
    """Whether the app watches residency, so that `models` is complete."""


Reading = LogReading | PsReading | Scrape
