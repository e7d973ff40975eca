"""Runs redactors that a user has given: foreign code, which may fail."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ollama_otel.redaction._engine import Redactor

__all__ = ["run_given"]

_FAILED: Final = "[redaction failed]"


def run_given(redactors: Iterable[Redactor], text: str) -> str:
    """Return a text after all redactors; `[redaction failed]` if one fails or returns no string."""
    for redactor in redactors:
        try:
            redacted: object = redactor(text)
        except Exception:  # noqa: BLE001  a redactor is foreign code; its error may quote the text
            return _FAILED
        if not isinstance(redacted, str):
            return _FAILED
        text = redacted
    return text
