"""Reads the responses of `/api/ps`, `/api/tags` and `/api/version`.

Values of an unexpected type are unknown; no defaults are filled in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ollama_otel._wire.model_names import full_name, key_of

__all__ = ["LOADED_PATH", "LoadedModel", "read_count", "read_models", "read_version"]

LOADED_PATH = "/api/ps"
_FAR_AHEAD = 100 * 365.25 * 86_400.0
"""Seconds; the server writes "never" as a date about 292 years ahead."""
_TOO_LARGE = 2**63
_MAX_MODELS = 10_000
_MAX_NAME = 512
_VERSION = re.compile(r"v?\d[\w.+-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """One model in a server's memory; None: the server did not report it."""

    name: str
    """The name as the server lists it, with its tag."""
    size: int | None = None
    """Bytes in memory, in total."""
    gpu_size: int | None = None
    """Bytes in GPU memory; never more than `size`."""
    context_length: int | None = None
    """Tokens of context for each request; servers before 0.10 do not report it."""
    digest: str | None = None
    """Digest of the model, as the server lists it."""
    expires_in: float | None = None
    """Seconds until the server unloads it; 0 if that time has passed, which a model in use may
    show; None if it stays loaded or the date cannot be read.
    """
    stays: bool = False
    """Whether it stays loaded until a request unloads it."""

    @property
    def cpu_size(self) -> int | None:
        """Bytes in CPU memory."""
        if self.size is None or self.gpu_size is None:
            return None
        return self.size - self.gpu_size

    @property
    def gpu_share(self) -> float | None:
        """Fraction in GPU memory, 0 to 1; a few percent for a model that runs on the CPU."""
        if not self.size or self.gpu_size is None:
            return None
        return self.gpu_size / self.size


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < _TOO_LARGE else None


def _text(value: object) -> str | None:
    if not isinstance(value, str) or not value or len(value) > _MAX_NAME:
        return None
    # Exporters cannot encode half a surrogate pair.
    return value.encode("utf-8", "replace").decode()


def _seconds_until(value: object, now: datetime) -> float | None:
    """Return the seconds until a date; Go writes up to nine digits of a second, and any offset."""
    if not isinstance(value, str):
        return None
    try:
        date = datetime.fromisoformat(value)
        # The server always writes an offset; without one the time zone is unknown.
        return (date - now).total_seconds() if date.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _read_model(row: object, now: datetime) -> LoadedModel | None:
    if not isinstance(row, Mapping):
        return None
    name = _text(row.get("name")) or _text(row.get("model"))
    if name is None:
        return None
    size, gpu_size = _count(row.get("size")), _count(row.get("size_vram"))
    if size is not None and gpu_size is not None:
        gpu_size = min(gpu_size, size)
    until = _seconds_until(row.get("expires_at"), now)
    stays = until is not None and until > _FAR_AHEAD
    return LoadedModel(
        name=full_name(name),
        size=size,
        gpu_size=gpu_size,
        context_length=_count(row.get("context_length")) or None,
        digest=_text(row.get("digest")),
        expires_in=None if until is None or stays else max(0.0, until),
        stays=stays,
    )


def read_models(answer: Any, *, now: float) -> tuple[LoadedModel, ...] | None:
    """Read a response of `/api/ps`; None if it has no list of models.

    `now` is the server's time in seconds since the epoch. The first row of a model counts.
    """
    rows = answer.get("models") if isinstance(answer, Mapping) else None
    # Go writes an unallocated list as null.
    if rows is None and isinstance(answer, Mapping) and "models" in answer:
        return ()
    if not isinstance(rows, list):
        return None
    date = datetime.fromtimestamp(now, UTC)
    found: dict[str, LoadedModel] = {}
    for row in rows[:_MAX_MODELS]:
        model = _read_model(row, date)
        if model is not None:
            found.setdefault(key_of(model.name), model)
    return tuple(found.values())


def read_count(answer: Any) -> int | None:
    """Return the number of models in a response of `/api/tags`; None if it has no list."""
    if not isinstance(answer, Mapping) or "models" not in answer:
        return None
    rows = answer["models"]
    if rows is None:
        return 0
    return len(rows) if isinstance(rows, list) else None


def read_version(answer: Any) -> str | None:
    """Read a response of `/api/version`; None if it is not a version."""
    version = answer.get("version") if isinstance(answer, Mapping) else None
    return version if isinstance(version, str) and _VERSION.fullmatch(version) else None
