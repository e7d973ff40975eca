"""Converts the return value of a tool to text for the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic_core import PydanticSerializationError, to_json

__all__ = ["ResultText", "UnwritableResultError", "clean", "cleaned", "result_text"]


class UnwritableResultError(TypeError):
    """A tool returned a value that JSON cannot represent; the message has only its type."""


class ResultText(NamedTuple):
    """The text of a result."""

    text: str
    is_cut: bool


def result_text(value: Any, most: int) -> ResultText:
    """Return at most `most` characters of the result as text, and a mark if there were more.

    A string stays unchanged, and everything else becomes JSON, with pydantic models, dataclasses,
    dates and sets as pydantic writes them. Raises `UnwritableResultError`.
    """
    text = clean(value) if isinstance(value, str) else _as_json(value)
    if len(text) <= most:
        return ResultText(text, is_cut=False)
    mark = f"\n[The result is cut: {len(text) - most} of {len(text)} characters are left out.]"
    return ResultText(text[:most] + mark, is_cut=True)


def _as_json(value: Any) -> str:
    try:
        # Not a number in JSON, so it becomes text.
        return to_json(value, inf_nan_mode="strings").decode()
    except (PydanticSerializationError, ValueError, RecursionError):
        kind = type(value).__qualname__
    raise UnwritableResultError(
        f"the tool returned a {kind} that JSON cannot hold: return text, or values of JSON"
    )


def clean(text: str) -> str:
    """Replace halves of surrogate pairs, which a request cannot contain."""
    return text.encode("utf-8", "replace").decode("utf-8")


def cleaned(value: Any) -> Any:
    """Return a value of JSON with all texts in it `clean`."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(key): cleaned(item) for key, item in value.items()}
    return [cleaned(item) for item in value] if isinstance(value, list) else value
