"""Decides which names get their own label values; the others share `_OTHER`.

Every label value is a time series for as long as the process runs, so each kind of name has a
limited number of places. A name that has answered takes a place. A name that was only requested,
such as that of a missing model, cannot take the place of a real one. A place is never reassigned,
not even if the model is deleted: the series of a process must not end or jump.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from ollama_otel import _names as names

__all__ = ["LONGEST_LABEL", "LabelValues"]

LONGEST_LABEL: Final = 255
"""Longest name, in characters, that gets its own label value."""
_SHARE_OF_UNPROVEN: Final = 10
"""A tenth as many extra places are for names that have not answered yet."""
_MOST_SPELLINGS: Final = 4


class LabelValues:
    """The places of one kind of name; guarded by the lock of its owner.

    `most` is always the number of places for names that have answered.
    """

    def __init__(self, key_of: Callable[[str], str] = str) -> None:
        """`key_of` returns the same for all spellings of a name; a few of them have places."""
        self._key_of = key_of
        self._proven: set[str] = set()
        self._unproven: set[str] = set()
        self._spellings: Counter[str] = Counter()

    def label(self, name: str, most: int) -> str:
        """Return the label value of a name: itself, or `_OTHER` if there is no place for it."""
        if name in self._proven or name in self._unproven:
            return name
        is_full = len(self._proven) >= most or (
            len(self._unproven) >= max(1, most // _SHARE_OF_UNPROVEN)
        )
        if is_full or not self._is_acceptable(name):
            return names.OTHER
        self._unproven.add(name)
        return name

    def answered(self, name: str, most: int) -> None:
        """Give a name that has answered a place, if there is one."""
        is_new = name not in self._proven and len(self._proven) < most
        if is_new and self._is_acceptable(name):
            self._proven.add(name)
            self._unproven.discard(name)
            self._spellings[self._key_of(name)] += 1

    def is_settled(self, name: str) -> bool:
        """Whether a name has answered and has its place, which is final."""
        return name in self._proven

    def _is_acceptable(self, name: str) -> bool:
        return len(name) <= LONGEST_LABEL and self._spellings[self._key_of(name)] < _MOST_SPELLINGS
