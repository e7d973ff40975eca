"""Bounds names that users, models and servers choose: an attacker makes them long, or many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ollama_otel.records import ResponseFacts

__all__ = ["LONGEST_NAME", "bounded_name", "bounded_names"]

LONGEST_NAME: Final = 512
"""Characters; a model's name of the server's own grammar has at most 593, a usual one 50."""
_MOST_NAMES: Final = 128


def bounded_name(name: str) -> str:
    """Return a name of at most `LONGEST_NAME` characters; a longer one is cut and marked."""
    if len(name) <= LONGEST_NAME:
        return name
    # The mark is at most this long: it does not count the characters that are kept.
    kept = LONGEST_NAME - len(f"... [cut {len(name)} characters]")
    return f"{name[:kept]}... [cut {len(name) - kept} characters]"


def bounded_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the first names, each bounded; `MORE_NAMES` stands for those left out."""
    kept = tuple(map(bounded_name, names[:_MOST_NAMES]))
    return (*kept, ResponseFacts.MORE_NAMES) if len(names) > _MOST_NAMES else kept
