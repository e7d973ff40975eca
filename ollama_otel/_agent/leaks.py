"""Finds tool calls in the text of an answer, where the server did not recognize them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any, Final

from ollama_otel.records import ToolCall

__all__ = ["Leak", "find_leak"]

_FUNCTION: Final = re.compile(r"<function=([^>\s]+)>(.*?)(?:</function>|\Z)", re.DOTALL)
_TAG: Final = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)|\[TOOL_CALLS\](.*)", re.DOTALL)
_PARAMETER: Final = re.compile(r"<parameter=([^>\s]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_FENCE: Final = re.compile(r"\A```(?:json)?\s*(.*?)\s*```\Z", re.DOTALL)
_ARGUMENTS: Final = ("arguments", "parameters")


class Leak:
    """Tool calls in a text; `calls` is empty if their arguments cannot be read."""

    def __init__(self, calls: tuple[ToolCall, ...]) -> None:
        self.calls = calls


def find_leak(text: str, known: Collection[str]) -> Leak | None:
    """Return the calls of known tools in a text; None if there are none.

    Only names of known tools count, as an answer may also discuss tool calls.
    """
    if not known or not text:
        return None
    found = list(_calls(text, known))
    if not found:
        return None
    return Leak(tuple(each for each in found if isinstance(each.arguments, dict)))


def _calls(text: str, known: Collection[str]) -> Iterator[ToolCall]:
    # First, as some models write them inside the other tags.
    if functions := _FUNCTION.findall(text):
        for name, inside in functions:
            if name in known:
                yield ToolCall(name=name, arguments=_arguments(inside))
    elif tags := _TAG.findall(text):
        for tagged, listed in tags:
            yield from _of_json(_json(tagged or listed), known)
    else:
        stripped = text.strip()
        fenced = _FENCE.match(stripped)
        yield from _of_json(_json(fenced[1] if fenced else stripped), known)


def _arguments(inside: str) -> Any:
    """Return the arguments in `<function=...>`: JSON, or one tag for each; None if unreadable."""
    parameters = _PARAMETER.findall(inside)
    if parameters:
        return {name: _value(text) for name, text in parameters}
    return _json(inside) if inside.strip() else {}


def _value(text: str) -> Any:
    value = _json(text)
    return text if value is None else value


def _of_json(value: Any, known: Collection[str]) -> Iterator[ToolCall]:
    for each in value if isinstance(value, list) else [value]:
        if not isinstance(each, dict):
            continue
        inner = each.get("function")
        call = inner if isinstance(inner, dict) else each
        name = call.get("name")
        given = [call[key] for key in _ARGUMENTS if key in call]
        if isinstance(name, str) and name in known and given:
            arguments = _json(given[0]) if isinstance(given[0], str) else given[0]
            yield ToolCall(name=name, arguments=arguments)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
