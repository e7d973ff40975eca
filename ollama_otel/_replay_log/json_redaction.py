"""Reads JSON and copies it without secrets; knows nothing of what its fields mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic_core import from_json

from ollama_otel.redaction import is_secret_key

__all__ = ["NO_JSON", "JsonRedaction", "SpecialFields", "parsed"]

NO_JSON: Final = object()
"""What `parsed` returns of anything else."""

SpecialFields = Mapping[str, Callable[[Any], Any]]
"""What copies the values under these keys."""

_NESTED_TOO_DEEPLY = "[nested too deeply]"
_MAX_DEPTH = 200
"""Levels of nesting, which is what the JSON reader takes too."""


def parsed(document: bytes) -> Any:
    """Return the JSON in `document`, or `NO_JSON`; half a surrogate pair becomes `?`."""
    try:
        return from_json(document)
    except ValueError:
        pass
    # Python's own reader is laxer (lone surrogates, other Unicode encodings), and slower.
    try:
        value = json.loads(document)
        return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return NO_JSON


class JsonRedaction:
    """Copies JSON with every string and key redacted, and whatever a secret key holds."""

    def __init__(self, text: Callable[[str], str], *, on_hidden: Callable[[], object]) -> None:
        self._text = text
        self._on_hidden = on_hidden

    def __call__(
        self,
        value: Any,
        special: SpecialFields | None = None,
        depth: int = 0,
    ) -> Any:
        """Copy `value`; `special` copies what its own keys hold, not those further in."""
        if isinstance(value, str):
            return self._text(value)
        if depth >= _MAX_DEPTH:
            return _NESTED_TOO_DEEPLY
        if isinstance(value, list):
            return [self(item, None, depth + 1) for item in value]
        if not isinstance(value, dict):
            return value
        special = special or {}
        return {
            self._text(key): special[key](item)
            if key in special
            else self._field(key, item, depth + 1)
            for key, item in value.items()
        }

    def _field(self, key: str, value: Any, depth: int) -> Any:
        return self._hidden(key, value, depth) if is_secret_key(key) else self(value, None, depth)

    def _hidden(self, key: str, value: Any, depth: int) -> Any:
        if isinstance(value, list) and depth < _MAX_DEPTH:
            return [self._hidden(key, item, depth + 1) for item in value]
        if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
            return self(value, None, depth)
        mark = f"[redacted: {key.lower()}]"
        if value != mark:
            self._on_hidden()
        return mark
