"""Copies JSON without secrets; it does not know the meaning of fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ollama_otel.redaction._names import secrecy
from ollama_otel.redaction._values import is_secret_value

__all__ = ["JsonRedaction", "MediaCopier", "SpecialFields"]

SpecialFields = Mapping[str, Callable[[Any], Any]]
"""Functions that copy the values of these keys."""

MediaCopier = Callable[[str, str], Any]
"""Returns the replacement of the string under a key if it is media; None otherwise."""

_NESTED_TOO_DEEPLY = "[nested too deeply]"
_LONGEST_KIND = 64
_MAX_DEPTH = 200
"""Levels of nesting, the same limit as the JSON parser's."""

_CARD_NUMBERS = range(10**12, 10**19)
_SCHEMA_WORDS = frozenset(("type", "$ref", "anyOf", "oneOf", "allOf"))
_SCHEMA_VALUES = frozenset(("default", "const", "enum", "example", "examples"))


class JsonRedaction:
    """Copies JSON with every string, every key, and all values of secret keys redacted.

    A whole number as long as a payment card number is redacted like text.
    """

    def __init__(
        self,
        text: Callable[[str], str],
        *,
        on_hidden: Callable[[], object],
        media: MediaCopier | None = None,
        nested: Mapping[str, MediaCopier] = MappingProxyType({}),
        guesses: bool = True,
    ) -> None:
        """`nested` copies media below its keys instead of `media`.

        With `guesses`, values under keys such as `token` are secrets if they look random.
        """
        self._text = text
        self._on_hidden = on_hidden
        self._media = media or _no_media
        self._guesses = guesses
        self._nested = {
            key: JsonRedaction(text, on_hidden=on_hidden, media=copier, guesses=guesses)
            for key, copier in nested.items()
        }

    def __call__(
        self,
        value: Any,
        special: SpecialFields | None = None,
        depth: int = 0,
        *,
        key: str = "",
    ) -> Any:
        """Copy the value of `key`; `special` applies to its own keys, not to nested ones."""
        if isinstance(value, str):
            media = self._media(key, value)
            return self._text(value) if media is None else media
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
        if not self._is_secret(key, value):
            return self._nested.get(key, self)(value, None, depth, key=key)
        if is_schema and isinstance(value, dict) and not _SCHEMA_WORDS.isdisjoint(value):
            return self._schema(key, value, depth)
        return self._hidden(key, value, depth)

    def _is_secret(self, key: str, value: Any) -> bool:
        kind = secrecy(key)
        if kind is None or kind == "certain":
            return kind is not None
        return self._guesses and not isinstance(value, bool) and is_secret_value(value, kind)

    def _schema(self, key: str, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        """Copy the schema of a secret argument of a tool, without the values in it."""
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
        kind = key.lower() if self._text(key) == key and len(key) <= _LONGEST_KIND else "secret"
        mark = f"[redacted: {kind}]"
        if value != mark:
            self._on_hidden()
        return mark


def _no_media(key: str, text: str) -> Any:  # noqa: ARG001 - the signature of MediaCopier
    return None
