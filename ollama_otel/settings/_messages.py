"""What is wrong with a value or a name, in the same words everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ollama_otel._bounds import cut
from ollama_otel.errors import SettingsError

__all__ = ["PREFIX", "did_you_mean", "one_of", "wrong_value"]

PREFIX: Final = "OLLAMA_OTEL_"
"""What our own variables begin with."""
_LONGEST: Final = 200
"""Characters of a wrong value in its message."""


def wrong_value(name: str, expected: str, found: str) -> SettingsError:
    """Return the error for the value of a variable or a keyword.

    The caller leaves secrets out of `found`.
    """
    return SettingsError(f"{name}: expected {expected}, found {cut(found, _LONGEST)}")


def one_of(values: Iterable[str]) -> str:
    """Return values as in `a, b or c`."""
    *others, last = values
    return f"{', '.join(others)} or {last}" if others else last


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean NAME?)` with the most similar name, or nothing if none is similar."""
    from difflib import get_close_matches  # noqa: PLC0415 - few programs need it

    # The prefix that names share is left out, or all of them would be similar.
    by_end = {each.removeprefix(PREFIX): each for each in known}
    close = get_close_matches(name.removeprefix(PREFIX), by_end, n=1)
    return "".join(f" (did you mean {by_end[each]}?)" for each in close)
