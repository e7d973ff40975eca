"""Parses JSON with the deviations that servers and Python clients write."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from msgspec import UNSET, Raw, UnsetType, defstruct
from msgspec.json import Decoder
from pydantic_core import from_json

__all__ = [
    "LARGE",
    "LEFT_OUT",
    "NOT_JSON",
    "VALUES",
    "VALUES_BESIDE_VECTORS",
    "FieldReader",
    "is_costly",
    "parse",
    "parse_exactly",
    "parse_message",
    "parse_object",
]

NOT_JSON: Final = object()
"""The value that `parse` returns for a document that is not JSON."""
LEFT_OUT: Final = object()
"""The value that `FieldReader` returns for a field that is too long to be read."""

LARGE: Final = 1024 * 1024
"""Bytes of a document that may be costly to parse."""
VALUES: Final = b"[{,"
VALUES_BESIDE_VECTORS: Final = b"[{:"
"""Characters that occur about once per value of a document."""
_MOST_VALUES: Final = 300_000
_LONGEST_FIELD: Final = 64 * 1024
"""Bytes of a field that is read alone."""


def is_costly(document: bytes, marks: bytes = VALUES, most: int = _MOST_VALUES) -> bool:
    """Whether parsing takes long, and many times the memory: it has more than `most` values.

    Some megabytes of one text or image are cheap; the same size of empty lists is not. `marks` are
    the characters that are counted, `VALUES` or `VALUES_BESIDE_VECTORS`.
    """
    if len(document) <= LARGE:
        return False
    count = 0
    with memoryview(document) as view:
        # In parts, so that no copy of the whole is made. One pass is faster than a count of each.
        for start in range(0, len(document), LARGE):
            part = bytes(view[start : start + LARGE])
            count += len(part) - len(part.translate(None, marks))
            if count > most:
                return True
    return False


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


class FieldReader:
    """Reads single fields of a JSON object that is costly to parse, and skips all others."""

    def __init__(self, names: Iterable[str]) -> None:
        kind = defstruct("Fields", [(name, Raw | UnsetType, UNSET) for name in names])
        self._decode = Decoder(kind).decode
        self._names = kind.__struct_fields__

    def __call__(self, document: bytes) -> dict[str, Any] | None:
        """Return the fields; `LEFT_OUT` stands for a long one. None if it is not a JSON object."""
        try:
            found = self._decode(document)
        except (ValueError, RecursionError):
            return None
        raw = {name: getattr(found, name) for name in self._names}
        return {name: _parsed(value) for name, value in raw.items() if value is not UNSET}


def _parsed(raw: Raw) -> Any:
    document = bytes(raw)
    value = NOT_JSON if len(document) > _LONGEST_FIELD else parse(document)
    return LEFT_OUT if value is NOT_JSON else value
