"""Checks the names of ignored fields."""

from __future__ import annotations

from collections.abc import Collection

from ollama_otel.errors import SettingsError

__all__ = ["ignored_fields"]


def ignored_fields(ignore: Collection[str]) -> tuple[str, ...]:
    """Return the names; raises `SettingsError` for a string, which is also a collection."""
    if isinstance(ignore, str):
        raise SettingsError(f"ignore takes a list of fields, not one text: ignore=[{ignore!r}]")
    return tuple(ignore)
