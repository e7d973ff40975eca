"""Redacts and cuts captured text before it leaves the process.

It does not raise, whatever a redactor does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ollama_otel._bounds import cut_mark
from ollama_otel.redaction import Redactor

__all__ = ["ContentPolicy", "as_json", "plain"]

_REDACTION_FAILED = "[redaction failed]"
_NESTED_TOO_DEEPLY = "[nested too deeply]"
_UNPRINTABLE = "[unprintable]"

_MAX_DEPTH = 32
"""Levels of nesting kept in tool arguments and schemas."""

_JSON_LIMIT = 10**300
"""Most JSON parsers accept no larger integer, and Python may refuse to print one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentPolicy:
    """Redacts each string before it leaves the process, and then cuts it."""

    redactors: tuple[Redactor, ...] = ()
    """Functions that run in this order over every string of the user or the model, keys of tool
    arguments included; keys that become equal are merged. Ids, known roles and names
    of offered tools are not content. If one raises or does not return a string, the text becomes
    `[redaction failed]`."""
    max_length: int = 32_768
    """Characters kept per string; a cut string ends with a mark that counts the rest."""

    def __post_init__(self) -> None:
        if self.max_length < 0:
            message = f"expected a max_length of 0 or more characters, found {self.max_length}"
            raise ValueError(message)

    def apply(self, text: str) -> str:
        """Redact, then cut: cutting first could hide half of a secret from a redactor."""
        return self.cut(self._redacted(text))

    def cut(self, text: str) -> str:
        """Cut only: for names and ids."""
        text = _encodable(text)
        excess = len(text) - self.max_length
        if excess <= 0:
            return text
        return text[: self.max_length] + cut_mark(excess)

    def _redacted(self, text: str) -> str:
        for redactor in self.redactors:
            try:
                redacted: object = redactor(text)
            except Exception:  # noqa: BLE001  a redactor is foreign code; its error may quote the text
                return _REDACTION_FAILED
            if not isinstance(redacted, str):
                return _REDACTION_FAILED
            text = redacted
        return text


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
