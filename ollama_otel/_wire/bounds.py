"""Bounds what users, models and servers choose: an attacker makes it long, or many."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ollama_otel.records import ResponseFacts

__all__ = ["LONGEST_NAME", "bounded_name", "bounded_names", "cut", "cut_mark"]

LONGEST_NAME: Final = 512
"""Characters; a model's name of the server's own grammar has at most 593, a usual one 50."""
_MOST_NAMES: Final = 128
_MARK: Final = re.compile(r"\.\.\. \[cut (\d+) characters\]\Z")


def cut_mark(count: int) -> str:
    """Return the mark at the end of a text of which so many characters are left out."""
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


def bounded_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the first names, each bounded; `MORE_NAMES` stands for those left out."""
    kept = tuple(map(bounded_name, names[:_MOST_NAMES]))
    return (*kept, ResponseFacts.MORE_NAMES) if len(names) > _MOST_NAMES else kept
