"""The defaults of clients."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ollama_otel.settings._kinds import (
    ADDRESS,
    JSON_OBJECT,
    KEEP_ALIVE,
    MODEL,
    SECONDS_ABOVE_0,
    WHOLE_NUMBER,
    optional,
)
from ollama_otel.settings._rows import _Group, read_variables, rows_of, setting

__all__ = ["ClientDefaults"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientDefaults(_Group):
    """What a `Client` or `AsyncClient` does if a call does not say otherwise.

    A keyword overrides its variable. Without both, the client sends what the official one sends.
    Raises `SettingsError` for a wrong value.
    """

    base_url: str | None = setting(None, optional(ADDRESS), "OLLAMA_OTEL_BASE_URL")
    """Address of the server, for clients that are given no host; it comes before `OLLAMA_HOST`."""

    model: str | None = setting(None, optional(MODEL), "OLLAMA_OTEL_MODEL")
    """Model of calls that name none."""

    keep_alive: str | float | None = setting(None, optional(KEEP_ALIVE), "OLLAMA_OTEL_KEEP_ALIVE")
    """How long the model stays in memory, for calls that do not say: seconds or a duration."""

    options: Mapping[str, Any] | None = setting(None, optional(JSON_OBJECT), "OLLAMA_OTEL_OPTIONS")
    """Options of the model, for each one that a call does not give."""

    deadline: float | None = setting(None, optional(SECONDS_ABOVE_0), "OLLAMA_OTEL_DEADLINE")
    """Time for a whole call, seconds; see `Resilience.deadline`."""

    pool_size: int | None = setting(None, optional(WHOLE_NUMBER), "OLLAMA_OTEL_POOL_SIZE")
    """Connections of the client; further calls wait for one. None: httpx's default."""

    @classmethod
    def from_environ(
        cls, environ: Mapping[str, str] | None = None, *, lenient: bool = False
    ) -> ClientDefaults:
        """Read the variables, as `Settings.from_environ` does."""
        environ = os.environ if environ is None else environ
        return cls(**read_variables(rows_of(cls), environ, lenient=lenient))

    def over(self, other: ClientDefaults) -> ClientDefaults:
        """Return these defaults, and those of `other` where these have none."""
        names = [row.name for row in rows_of(type(self))]
        own = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(other, **own)
