"""Aligns two sequences: the longest common subsequence.

One integer holds a row of the usual table, one bit for each item (Hyyro 2004), so that any 20,000
words are aligned in a fraction of a second. `difflib` takes cubic time for some texts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from itertools import accumulate
from operator import add
from typing import Final

__all__ = ["MOST_CELLS", "aligned"]

MOST_CELLS: Final = 10_000_000_000
"""Product of two lengths up to which an alignment takes seconds: 100,000 items in each."""
_KEPT_CELLS: Final = 400_000_000
"""Cells whose rows are kept, in 50 MB. More are divided, which takes twice as long."""

Items = Sequence[Hashable]


def aligned(old: Items, new: Items) -> Iterator[tuple[int, int]]:
    """Yield the positions of the items of a longest common subsequence, in order."""
    parts = [(0, len(old), 0, len(new))]
    while parts:
        begin, end, start, stop = parts.pop()
        if begin == end or start == stop:
            continue
        if stop - start == 1 or (end - begin) * (stop - start) <= _KEPT_CELLS:
            pairs = _traced_back(old[begin:end], new[start:stop])
            yield from ((begin + at, start + to) for at, to in reversed(pairs))
            continue
        middle = (start + stop) // 2
        cut = begin + _cut(old[begin:end], new[start:middle], new[middle:stop])
        parts += [(cut, end, middle, stop), (begin, cut, start, middle)]


def _rows(old: Items, new: Items) -> Iterator[int]:
    """Yield a row for each item of `new`: bit i is 0 where `old[i]` makes the result longer."""
    places: defaultdict[Hashable, int] = defaultdict(int)
    for at, item in enumerate(old):
        places[item] |= 1 << at
    everywhere = (1 << len(old)) - 1
    row = everywhere
    for item in new:
        found = row & places.get(item, 0)
        row = ((row + found) | (row - found)) & everywhere
        yield row


def _traced_back(old: Items, new: Items) -> list[tuple[int, int]]:
    """Return the aligned positions, the last ones first."""
    rows = list(_rows(old, new))
    pairs: list[tuple[int, int]] = []
    at, to = len(old), len(new)
    while at and to:
        if rows[to - 1] >> (at - 1) & 1:
            at -= 1
            continue
        to -= 1
        if not to or rows[to - 1] >> (at - 1) & 1:
            at -= 1
            pairs.append((at, to))
    return pairs


def _cut(old: Items, first: Items, second: Items) -> int:
    """Return where to cut `old`: one part is aligned with `first`, the other with `second`."""
    before = _lengths(old, first)
    after = _lengths(old[::-1], second[::-1])[::-1]
    together = list(map(add, before, after))
    return together.index(max(together))


def _lengths(old: Items, new: Items) -> list[int]:
    """Return the length of the longest common subsequence of `new` and each beginning of `old`."""
    last = (1 << len(old)) - 1
    for row in _rows(old, new):
        last = row
    bits = f"{last:0{len(old)}b}"[::-1]
    return list(accumulate((bit == "0" for bit in bits), initial=0))
