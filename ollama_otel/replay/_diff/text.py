"""Compares two texts, word by word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final, Literal, NamedTuple

from ollama_otel.replay._diff.alignment import MOST_CELLS, aligned

__all__ = ["Segment", "SegmentKind", "TextDifference", "differing_text"]

Change = tuple[Literal["equal", "changed"], list[str], list[str]]
SegmentKind = Literal["same", "removed", "added", "skipped"]
"""Which text has a segment.

`same`: both. `removed`: the first. `added`: the second. `skipped`: both; it is left out, as it is
far from any change.
"""


class Segment(NamedTuple):
    """A segment of two texts, and which of them has it."""

    kind: SegmentKind
    text: str
    """The text; of a `skipped` segment its length, such as `12 words`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDifference:
    """The difference between two texts."""

    is_identical: bool
    similarity: float
    """0 to 1: the share of the words that both texts have in the same order."""
    is_aligned: bool = True
    """False if the texts were too long to be compared word by word: `similarity` may be higher."""
    segments: tuple[Segment, ...] = ()
    """The changed words and a few around them; empty if nothing changed."""


# Chinese and Japanese have no spaces between words; each character counts as one.
_IDEOGRAPHS: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"\s*(?:[{_IDEOGRAPHS}]|[^\s{_IDEOGRAPHS}]+)|\s+")
_CONTEXT = 5
"""Words shown on each side of a change."""


def differing_text(before: str, after: str) -> TextDifference:
    """Compare two texts by their words; the whitespace before a word belongs to it."""
    if before == after:
        return TextDifference(is_identical=True, similarity=1.0)
    old, new = _WORD.findall(before), _WORD.findall(after)
    start = _shared_start(old, new)
    end = _shared_start(old[start:][::-1], new[start:][::-1])
    # The shared start and end, which are mostly long, need no search.
    a, b = old[start : len(old) - end], new[start : len(new) - end]
    is_aligned = len(a) * len(b) <= MOST_CELLS
    pairs = list(aligned(a, b)) if is_aligned else []
    changes: list[Change] = [
        ("equal", old[:start], new[:start]),
        *_changes(a, b, pairs),
        ("equal", old[len(old) - end :], new[len(new) - end :]),
    ]
    return TextDifference(
        is_identical=False,
        is_aligned=is_aligned,
        similarity=2 * (start + end + len(pairs)) / (len(old) + len(new)),
        segments=tuple(_segments(changes)),
    )


def _changes(
    old: Sequence[str], new: Sequence[str], pairs: Sequence[tuple[int, int]]
) -> Iterator[Change]:
    """Yield equal and changed words in turn."""
    at = to = 0
    equal: list[str] = []
    for old_at, new_at in (*pairs, (len(old), len(new))):
        if (old_at, new_at) != (at, to):
            if equal:
                yield "equal", equal, equal
                equal = []
            yield "changed", list(old[at:old_at]), list(new[to:new_at])
        if old_at < len(old):
            equal.append(old[old_at])
        at, to = old_at + 1, new_at + 1
    if equal:
        yield "equal", equal, equal


def _shared_start(old: Sequence[str], new: Sequence[str]) -> int:
    pairs = zip(old, new, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _segments(changes: Sequence[Change]) -> Iterator[Segment]:
    for index, (tag, old, new) in enumerate(changes):
        if tag == "equal":
            yield from _same(old, is_first=not index, is_last=index == len(changes) - 1)
            continue
        if old:
            yield Segment("removed", "".join(old))
        if new:
            yield Segment("added", "".join(new))


def _same(words: list[str], *, is_first: bool, is_last: bool) -> Iterator[Segment]:
    """Yield the words next to a change, and the number of skipped ones."""
    head = 0 if is_first else _CONTEXT
    tail = 0 if is_last else _CONTEXT
    skipped = len(words) - head - tail
    if skipped <= 1:
        if words:
            yield Segment("same", "".join(words))
        return
    if head:
        yield Segment("same", "".join(words[:head]))
    yield Segment("skipped", f"{skipped} words")
    if tail:
        yield Segment("same", "".join(words[-tail:]))
