"""Reads which models a server has, and what they can do, from `/api/tags` and `/api/show`.

Values of an unexpected type are unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ollama_otel._wire.model_names import short_name

__all__ = [
    "DESCRIPTION_PATH",
    "NAMES_PATH",
    "can_answer",
    "description_request",
    "read_capabilities",
    "read_names",
]

DESCRIPTION_PATH: Final = "/api/show"
NAMES_PATH: Final = "/api/tags"


def description_request(model: str) -> dict[str, Any]:
    """Return the body with which a client asks `/api/show` for a model."""
    return {"model": model}


def read_names(answer: Any) -> tuple[str, ...]:
    """Return the names of the models in a response of `/api/tags`, without the default tag."""
    rows = answer.get("models") if isinstance(answer, Mapping) else None
    names = (
        row.get("name") if isinstance(row, Mapping) else None
        for row in (rows if isinstance(rows, list) else ())
    )
    return tuple(short_name(name) for name in names if isinstance(name, str))


def read_capabilities(answer: Any) -> frozenset[str] | None:
    """Return what a model can do, from a response of `/api/show`; None if it is not said."""
    named = answer.get("capabilities") if isinstance(answer, Mapping) else None
    if not isinstance(named, list):
        return None
    return frozenset(name for name in named if isinstance(name, str)) or None


def can_answer(capabilities: frozenset[str] | None, *, wants_vectors: bool) -> bool:
    """Whether a model can answer requests of a kind: for vectors, or for a completion.

    True if that is not known.
    """
    needed = "embedding" if wants_vectors else "completion"
    return capabilities is None or needed in capabilities
