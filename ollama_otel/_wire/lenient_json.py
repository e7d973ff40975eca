"""Parses JSON with the deviations that servers and Python clients write."""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic_core import from_json

__all__ = [
    "LARGE",
    "NOT_JSON",
    "VALUES",
    "VALUES_BESIDE_VECTORS",
    "is_costly",
    "parse",
    "parse_exactly",
    "parse_message",
    "parse_object",
]

NOT_JSON: Final = object()
"""The value that `parse` returns for a document that is not JSON."""


LARGE: Final = 1024 * 1024
"""Bytes of a document that may be costly to parse."""
VALUES: Final = b"[{,"
VALUES_BESIDE_VECTORS: Final = b"[{:"
"""Characters of which a document has about as many as values."""
_MOST_VALUES: Final = 300_000


def is_costly(document: bytes, marks: bytes = VALUES) -> bool:
    """Whether parsing takes long, and many times the memory: it has very many values.

    Some megabytes of one text or image do not; as many of empty lists do. `marks` are the
    characters that are counted, `VALUES` or `VALUES_BESIDE_VECTORS`.
    """
    if len(document) <= LARGE:
        return False
    return sum(document.count(mark) for mark in marks) > _MOST_VALUES


def parse(document: bytes | str) -> Any:
    """Return the JSON value in `document`, or `NOT_JSON`; half a surrogate pair becomes `?`."""
    try:
        return from_json(document, cache_strings="keys")
    except ValueError:
        pass
    try:
        # Exporters cannot encode half a surrogate pair.
        value = parse_exactly(document)
        return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, TypeError, RecursionError):
        return NOT_JSON


def parse_exactly(document: bytes | str) -> Any:
    """Return the JSON value in `document`, half surrogate pairs included, or `NOT_JSON`."""
    try:
        return from_json(document, cache_strings="keys")
    except ValueError:
        pass
    # Python's own parser accepts more (lone surrogates, other Unicode encodings), and is slower.
    try:
        return json.loads(document)
    except (ValueError, RecursionError):
        return NOT_JSON


def parse_object(document: bytes | str) -> dict[str, Any] | None:
    """Return the JSON object in `document`, or None if it holds anything else."""
    value = parse(document)
    return value if isinstance(value, dict) else None


def parse_message(message: bytes) -> dict[str, Any] | None:
    """As `parse_object`, for a message of a stream: clients replace invalid UTF-8 there."""
    value = parse_object(message)
    if value is not None or message.isascii():
        return value
    return parse_object(message.decode("utf-8", "replace"))
