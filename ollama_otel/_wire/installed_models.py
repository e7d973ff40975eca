"""Reads the models of a server and their capabilities, from `/api/tags` and `/api/show`.

Values of an unexpected type are unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from ollama_otel._wire.model_names import key_of, short_name

__all__ = [
    "DESCRIPTION_PATH",
    "LIST_PATH",
    "Capability",
    "can_answer",
    "description_request",
    "read_capabilities",
    "read_digest",
    "read_names",
]

LIST_PATH: Final = "/api/tags"
DESCRIPTION_PATH: Final = "/api/show"

Capability = Literal["completion", "tools", "insert", "vision", "embedding", "thinking"]
"""Capabilities of a model, as `/api/show` names them."""

_DIGEST: Final = re.compile(r"(?:sha256:)?([0-9a-f]{64})\Z")


def description_request(model: str, *, with_vocabulary: bool = False) -> dict[str, Any]:
    """Return the body with which a client asks `/api/show` for a model."""
    return {"model": model, "verbose": True} if with_vocabulary else {"model": model}


def read_names(answer: Any) -> tuple[str, ...]:
    """Return the names of the models in a response of `/api/tags`, without the default tag."""
    return tuple(short_name(name) for name, _ in _rows(answer))


def read_digest(answer: Any, model: str) -> str | None:
    """Return the digest of a model in a response of `/api/tags`, in hexadecimal; None if absent."""
    wanted = key_of(model)
    for name, row in _rows(answer):
        if key_of(name) == wanted and isinstance(digest := row.get("digest"), str):
            found = _DIGEST.match(digest)
            return found[1] if found else None
    return None


def _rows(answer: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the models of a response of `/api/tags` with their names."""
    rows = answer.get("models") if isinstance(answer, Mapping) else None
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, Mapping) and isinstance(name := row.get("name"), str):
            yield name, row


def read_capabilities(answer: Any) -> frozenset[str] | None:
    """Return the capabilities of a model from a response of `/api/show`; None if not reported."""
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
