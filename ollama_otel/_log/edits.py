"""Edits to a body of several pieces that keep the number of pieces and their borders."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher
from itertools import accumulate, pairwise
from typing import AnyStr, Generic, NamedTuple

__all__ = ["Edit", "distributed", "recut", "within_replacement"]

_WORDS = re.compile(r"\s*\S+|\s+")
_MAX_WORDS = 2000
"""Words of changed text that are compared word by word, which takes up to quadratic time."""


class Edit(NamedTuple, Generic[AnyStr]):
    """A replacement from `start` to `end` of the joined pieces."""

    start: int
    end: int
    replacement: AnyStr


def recut(
    pieces: Sequence[AnyStr],
    edits: Sequence[Edit[AnyStr]],
    place: Callable[[AnyStr, int], int],
) -> list[AnyStr]:
    """Apply edits, which are in order and do not overlap, and cut at the old borders.

    `place(replacement, offset)` returns the new offset of a border that was `offset` into the
    replaced text.
    """
    whole = pieces[0][:0].join(pieces)
    parts: list[AnyStr] = []
    new_starts: list[int] = []
    position = length = 0
    for edit in edits:
        length += edit.start - position
        new_starts.append(length)
        parts += [whole[position : edit.start], edit.replacement]
        length += len(edit.replacement)
        position = edit.end
    starts = [edit.start for edit in edits]

    def moved(border: int) -> int:
        index = bisect_left(starts, border) - 1
        if index < 0:
            return border
        edit, new_start = edits[index], new_starts[index]
        if border >= edit.end:
            return new_start + len(edit.replacement) + border - edit.end
        return new_start + place(edit.replacement, border - edit.start)

    parts.append(whole[position:])
    new = whole[:0].join(parts)
    ends: Iterable[int] = accumulate(len(piece) for piece in pieces[:-1])
    borders = [0, *map(moved, ends), len(new)]
    return [new[start:end] for start, end in pairwise(borders)]


def within_replacement(replacement: bytes, offset: int) -> int:
    """Place a border at the same offset in a replacement, but not within a character."""
    place = min(offset, len(replacement))
    while place < len(replacement) and replacement[place] & 0xC0 == 0x80:  # noqa: PLR2004  UTF-8
        place += 1
    return place


def distributed(fragments: Sequence[str], redacted: str) -> list[str]:
    """Return the same number of fragments that are `redacted` when joined.

    Unchanged text stays in its fragment; a replacement goes where the secret began.
    """
    if not fragments:
        return []
    edits = _differences("".join(fragments), redacted)
    return recut(fragments, edits, lambda replacement, _: len(replacement))


def _differences(old: str, new: str) -> list[Edit[str]]:
    start = _common_length(old, new)
    tail = _common_length(old[: start - len(old) - 1 : -1], new[: start - len(new) - 1 : -1])
    end, new_end = len(old) - tail, len(new) - tail
    old_words, new_words = _WORDS.findall(old[start:end]), _WORDS.findall(new[start:new_end])
    if max(len(old_words), len(new_words)) > _MAX_WORDS:
        return [Edit(start, end, new[start:new_end])]
    offsets = list(accumulate(map(len, old_words), initial=start))
    matcher = SequenceMatcher(None, old_words, new_words)
    return [
        Edit(offsets[i1], offsets[i2], "".join(new_words[j1:j2]))
        for tag, i1, i2, j1, j2 in matcher.get_opcodes()
        if tag != "equal"
    ]


def _common_length(first: str, second: str) -> int:
    """Return the length of the common prefix."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
