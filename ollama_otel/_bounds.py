"""Limits on texts from users, models and servers: an attacker could make them long or numerous."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final

from ollama_otel._frozen import FrozenDict, frozen

__all__ = [
    "LONGEST_NAME",
    "LONGEST_TEXT",
    "MORE_NAMES",
    "MOST_NAMES",
    "MOST_OPTIONS",
    "MOST_SERVERS",
    "MOST_TAGS",
    "MOST_TOOLS",
    "MOST_VALUES",
    "bounded_name",
    "bounded_names",
    "bounded_options",
    "cut",
    "cut_mark",
]

LONGEST_NAME: Final = 512
"""Characters; a model's name of the server's own grammar has at most 593, a usual one 50."""
LONGEST_TEXT: Final = 2048
"""Characters of a tag's value."""
MOST_NAMES: Final = 128
"""Tool calls of an answer."""
MOST_TOOLS: Final = 1024
"""Tools that a request offers."""
MOST_TAGS: Final = 32
"""Tags of a call; by default a span of the SDK has room for 128 attributes."""
MOST_OPTIONS: Final = 64
"""Options of a request; the server knows 30."""
MOST_SERVERS: Final = 256
"""Servers of a limiter or a breaker; beyond it idle ones are forgotten."""
MOST_VALUES: Final = 256
"""Values in all lists and objects among the options, such as stop sequences."""
MORE_NAMES: Final = "... [more]"
"""Placeholder for the names that were left out."""
_MARK: Final = re.compile(r"\.\.\. \[cut (\d+) characters\]\Z")


def cut_mark(count: int) -> str:
    """Return the end mark of a text from which this many characters were cut."""
    return f"... [cut {count} characters]"


def cut(text: str, most: int) -> str:
    """Return a text of at most `most` characters; a longer one ends with its mark."""
    if len(text) <= most:
        return text
    before = _MARK.search(text)
    missing = int(before[1]) if before else 0
    if before:
        text = text[: before.start()]
    # The mark is at most this long: it does not count the characters that are kept.
    kept = most - len(cut_mark(missing + len(text)))
    if kept < 0:
        return text[:most]
    return text[:kept] + cut_mark(missing + len(text) - kept)


def bounded_name(name: str) -> str:
    """Return a name of at most `LONGEST_NAME` characters; a longer one is cut and marked."""
    return name if len(name) <= LONGEST_NAME else cut(name, LONGEST_NAME)


def bounded_names(names: Sequence[str], most: int = MOST_NAMES) -> tuple[str, ...]:
    """Return the first names, each bounded; `MORE_NAMES` stands for those left out."""
    kept = tuple(map(bounded_name, names[:most]))
    return (*kept, MORE_NAMES) if len(names) > most else kept


def bounded_options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a read-only copy of a request's options; texts have `LONGEST_NAME` characters.

    An option with a longer name is left out, and so are all after the first `MOST_OPTIONS`. All
    lists and objects together have `MOST_VALUES` values; one that has too many is left out.
    """
    kept: dict[str, Any] = {}
    room = MOST_VALUES
    for name, value in islice(options.items(), MOST_OPTIONS):
        if not isinstance(name, str) or len(name) > LONGEST_NAME:
            continue
        if isinstance(value, str):
            kept[name] = bounded_name(value)
        elif not isinstance(value, (dict, list, tuple)):
            kept[name] = value
        elif (count := _count(value, room)) <= room:
            kept[name] = _with_texts_cut(frozen(value))
            room -= count
    return FrozenDict(kept)


def _count(value: Any, most: int) -> int:
    """Return the number of values in a JSON value; counting stops above `most`."""
    held, count = [value], 0
    while held and count <= most:
        item = held.pop()
        if isinstance(item, (dict, list, tuple)):
            count += len(item)
            if count <= most:
                held.extend(item.values() if isinstance(item, dict) else item)
    return count


def _with_texts_cut(value: Any) -> Any:
    """Cut the texts of a read-only JSON value, which is not nested deeply."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST_NAME else bounded_name(value)
    if isinstance(value, dict):
        return FrozenDict(
            {
                bounded_name(name) if isinstance(name, str) else name: _with_texts_cut(item)
                for name, item in value.items()
            }
        )
    return tuple([_with_texts_cut(item) for item in value]) if isinstance(value, tuple) else value
