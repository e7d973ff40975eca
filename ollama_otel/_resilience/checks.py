"""Validates the arguments of the public classes."""

from __future__ import annotations

from ollama_otel.errors import SettingsError

__all__ = ["expect"]


def expect(name: str, value: object, holds: bool, expected: str) -> None:  # noqa: FBT001
    """Raise `SettingsError` unless the condition holds."""
    if not holds:
        raise SettingsError(f"{name} must be {expected}, not {value!r}")
