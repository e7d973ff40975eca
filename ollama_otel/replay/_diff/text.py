"""Compares two texts, word by word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import takewhile
from typing import Final, Literal, NamedTuple

__all__ = ["Segment", "SegmentKind", "TextDifference", "differing_text"]

SegmentKind = Literal["same", "removed", "added", "skipped"]


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
    segments: tuple[Segment, ...] = ()
    """The changed words and a few around them; empty if nothing changed."""


# Chinese and Japanese have no spaces between words; each character counts as one.
_IDEOGRAPHS: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"\s*(?:[{_IDEOGRAPHS}]|[^\s{_IDEOGRAPHS}]+)|\s+")
_CONTEXT = 5
"""Words shown on each side of a change."""
_LONG_TEXT = 2_000
"""Number of words above which frequent words are not used for alignment: it would take minutes."""


def differing_text(before: str, after: str) -> TextDifference:
    """Compare two texts by their words; the whitespace before a word belongs to it."""
    if before == after:
        return TextDifference(is_identical=True, similarity=1.0)
    old, new = _WORD.findall(before), _WORD.findall(after)
    start = _shared_start(old, new)
    end = _shared_start(old[start:][::-1], new[start:][::-1])
    # The shared start and end, which are mostly long, need no search.
    matcher = SequenceMatcher(
        None,
        old[start : len(old) - end],
        new[start : len(new) - end],
        autojunk=max(len(old), len(new)) > _LONG_TEXT,
    )
    same = start + end + sum(block.size for block in matcher.get_matching_blocks())
    changes: list[tuple[str, list[str], list[str]]] = [
        ("equal", old[:start], new[:start]),
        *(
            (tag, old[start + a : start + b], new[start + c : start + d])
            for tag, a, b, c, d in matcher.get_opcodes()
        ),
        ("equal", old[len(old) - end :], new[len(new) - end :]),
    ]
    return TextDifference(
        is_identical=False,
        similarity=2 * same / (len(old) + len(new)),
        segments=tuple(_segments(changes)),
    )


def _shared_start(old: Sequence[str], new: Sequence[str]) -> int:
    pairs = zip(old, new, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _segments(changes: Sequence[tuple[str, list[str], list[str]]]) -> Iterator[Segment]:
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
