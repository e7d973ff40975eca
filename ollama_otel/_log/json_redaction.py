"""Reads JSON and copies it without secrets; knows nothing of what its fields mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic_core import from_json

from ollama_otel.redaction import is_secret_key

__all__ = ["NO_JSON", "ImageCopier", "JsonRedaction", "SpecialFields", "parsed"]

NO_JSON: Final = object()
"""What `parsed` returns of anything else."""

SpecialFields = Mapping[str, Callable[[Any], Any]]
"""What copies the values under these keys."""

ImageCopier = Callable[[str, str], Any]
"""Returns what stands for the string under a key where it is an image; None of any other."""

_NESTED_TOO_DEEPLY = "[nested too deeply]"
_MAX_DEPTH = 200
"""Levels of nesting, which is what the JSON reader takes too."""

_CARD_NUMBERS = range(10**12, 10**19)
_SCHEMA_WORDS = frozenset(("type", "$ref", "anyOf", "oneOf", "allOf"))
_SCHEMA_VALUES = frozenset(("default", "const", "enum", "example", "examples"))


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
    """Copies JSON with every string and key redacted, and whatever a secret key holds.

    A whole number as long as that of a payment card is redacted as the text it would be.
    """

    def __init__(
        self,
        text: Callable[[str], str],
        *,
        on_hidden: Callable[[], object],
        image: ImageCopier | None = None,
    ) -> None:
        self._text = text
        self._on_hidden = on_hidden
        self._image = image or _no_image

    def __call__(
        self,
        value: Any,
        special: SpecialFields | None = None,
        depth: int = 0,
        *,
        key: str = "",
    ) -> Any:
        """Copy `value`, which stands under `key`.

        `special` copies what its own keys hold, not those further in.
        """
        if isinstance(value, str):
            image = self._image(key, value)
            return self._text(value) if image is None else image
        if depth >= _MAX_DEPTH:
            return _NESTED_TOO_DEEPLY
        if isinstance(value, list | tuple):
            return [self(item, None, depth + 1, key=key) for item in value]
        if not isinstance(value, dict):
            return self._scalar(value)
        special = special or {}
        is_schema = key == "properties"
        return {
            self._text(name): special[name](item)
            if name in special
            else self._field(name, item, depth + 1, is_schema=is_schema)
            for name, item in value.items()
        }

    def _scalar(self, value: Any) -> Any:
        if type(value) is not int or abs(value) not in _CARD_NUMBERS:
            return value
        text = str(value)
        redacted = self._text(text)
        return value if redacted == text else redacted

    def _field(self, key: str, value: Any, depth: int, *, is_schema: bool) -> Any:
        if not is_secret_key(key):
            return self(value, None, depth, key=key)
        if is_schema and isinstance(value, dict) and not _SCHEMA_WORDS.isdisjoint(value):
            return self._schema(key, value, depth)
        return self._hidden(key, value, depth)

    def _schema(self, key: str, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        """Copy what a tool says about a secret argument, without the values it proposes."""
        return {
            self._text(name): self._hidden(key, item, depth + 1)
            if name in _SCHEMA_VALUES
            else self(item, None, depth + 1, key=name)
            for name, item in schema.items()
        }

    def _hidden(self, key: str, value: Any, depth: int) -> Any:
        if isinstance(value, list | tuple | dict) and depth >= _MAX_DEPTH:
            return _NESTED_TOO_DEEPLY
        if isinstance(value, list | tuple):
            return [self._hidden(key, item, depth + 1) for item in value]
        if isinstance(value, dict):
            return {
                self._text(name): self._hidden(key, item, depth + 1) for name, item in value.items()
            }
        if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
            return value
        mark = f"[redacted: {key.lower()}]"
        if value != mark:
            self._on_hidden()
        return mark


def _no_image(key: str, text: str) -> Any:  # noqa: ARG001 - an ImageCopier's signature
    return None
