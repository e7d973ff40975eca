"""Checks the settings of an agent when it is created, so that mistakes show before a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_args

from ollama_otel.errors import SettingsError

__all__ = [
    "expect_choice",
    "expect_format",
    "expect_seconds",
    "expect_text",
    "expect_whole_number",
    "unexpected",
]


def unexpected(setting: str, expected: str, found: Any) -> SettingsError:
    return SettingsError(f"expected {setting} to be {expected}, found {found!r}")


def expect_text(setting: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise unexpected(setting, "a text that is not empty", value)


def expect_whole_number(setting: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise unexpected(setting, "a whole number", value)
    if value < least:
        why = ": the last round is without tools" if least > 1 else ""
        raise SettingsError(f"expected {setting} of {least} or more, found {value}{why}")


def expect_seconds(setting: str, value: Any) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
        raise unexpected(setting, "a number of seconds", value)
    if value <= 0:
        raise SettingsError(f"expected a {setting} above 0 s, found {value}")


def expect_choice(setting: str, value: Any, choices: Any) -> None:
    """`choices` is a Literal."""
    known = get_args(choices)
    if value not in known:
        raise unexpected(setting, " or ".join(map(repr, known)), value)


def expect_format(value: Any) -> None:
    if value is None or isinstance(value, Mapping) or value in ("", "json"):
        return
    raise unexpected(
        "format",
        "a JSON schema or 'json' (of a pydantic model, its model_json_schema())",
        value,
    )
