"""Redacts and cuts captured text before it leaves the process.

It never raises, even if a redactor does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ollama_otel._bounds import cut_mark
from ollama_otel.redaction import Redactor, card_numbers, redact
from ollama_otel.redaction._given import run_given
from ollama_otel.redaction._json import JsonRedaction

__all__ = ["ContentPolicy", "as_json", "plain"]

_NESTED_TOO_DEEPLY = "[nested too deeply]"
_UNPRINTABLE = "[unprintable]"

_BEYOND_CUT = 8192
"""Characters after the kept part that are searched too, as a secret may begin before the cut."""
_LONGEST_REMEMBERED = 4096
"""Characters."""
_MOST_REMEMBERED = 512
"""Texts."""
_MAX_DEPTH = 32
"""Levels of nesting kept in tool arguments and schemas."""

_JSON_LIMIT = 10**300
"""Most JSON parsers accept no larger integer, and Python may refuse to print one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentPolicy:
    """Redacts each string before it leaves the process, and then cuts it."""

    finds_secrets: bool = False
    """Whether the built-in redactors run before the others."""
    redactors: tuple[Redactor, ...] = ()
    """Functions that run in this order over every string of the user or the model, keys of tool
    arguments included; keys that become equal are merged. Ids, known roles and names
    of offered tools are not content. If one raises or does not return a string, the text becomes
    `[redaction failed]`.
    """
    max_length: int = 32_768
    """Characters kept per string; a cut string ends with a mark that counts the rest."""

    def __post_init__(self) -> None:
        if self.max_length < 0:
            message = f"expected a max_length of 0 or more characters, found {self.max_length}"
            raise ValueError(message)

    def apply(self, text: str) -> str:
        """Redact, then cut: cutting first could hide half of a secret from a redactor."""
        searched = self._searched(text) if self.finds_secrets else text
        return self.cut(run_given(self.redactors, searched))

    def values(self, value: Any) -> Any:
        """Return a copy as plain JSON, without secrets and with each string cut."""
        copied = plain(value, self.apply)
        return _hide_secret_keys(copied) if self.finds_secrets else copied

    def cut(self, text: str) -> str:
        """Cut only: for names and ids."""
        text = _encodable(text)
        excess = len(text) - self.max_length
        if excess <= 0:
            return text
        return text[: self.max_length] + cut_mark(excess)

    def _searched(self, text: str) -> str:
        """Return a text redacted by the built-in redactors."""
        end = self.max_length + _BEYOND_CUT
        if len(text) <= end or self.redactors:
            return _without_secrets(text)
        shown = _without_secrets(text[:end])
        # What is cut off need not be searched; redaction may have made the rest shorter.
        return shown + text[end:] if len(shown) >= self.max_length else _without_secrets(text)


def _without_secrets(text: str) -> str:
    """Redact, with a cache: each call of a conversation repeats the earlier messages."""
    return _remembered(text) if len(text) <= _LONGEST_REMEMBERED else redact(text)


_remembered = lru_cache(maxsize=_MOST_REMEMBERED)(redact)
_hide_secret_keys = JsonRedaction(card_numbers, on_hidden=lambda: None)
"""Strings have been redacted; this is for keys and for whole numbers."""


def as_json(value: Any) -> str:
    """Return compact JSON for a span attribute; values that are not JSON become text."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        text = json.dumps(plain(value, _encodable), ensure_ascii=False, separators=(",", ":"))
    return _encodable(text)


def plain(value: Any, text: Callable[[str], str], depth: int = 0) -> Any:
    """Copy a value as plain JSON; `text` converts every string and key."""
    if isinstance(value, str):
        return text(value)
    if depth >= _MAX_DEPTH:
        return _NESTED_TOO_DEEPLY
    if isinstance(value, Mapping):
        return {text(_printed(key)): plain(item, text, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, text, depth + 1) for item in value]
    return value if _is_json_scalar(value) else text(_printed(value))


def _is_json_scalar(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return abs(value) < _JSON_LIMIT
    return value is None


def _printed(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    try:
        return str(value)
    except Exception:  # noqa: BLE001  a foreign __str__ may raise anything
        return _UNPRINTABLE


def _encodable(text: str) -> str:
    """Replace lone surrogates: OTLP's protobuf accepts UTF-8 only."""
    return text.encode("utf-8", "replace").decode("utf-8")
