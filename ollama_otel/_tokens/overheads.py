"""Tokens that a template adds to the texts of messages, learned from counts of servers.

The tokens around the texts are `a + sum(b[role] * messages of that role)` for most templates.
A prediction is exact only if it follows from earlier calls, and these agree.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from fractions import Fraction
from statistics import linear_regression, mean
from typing import Final, NamedTuple

__all__ = ["Overhead", "Overheads", "Roles"]

Roles = Mapping[str, int]
"""Number of messages of each role."""

_MOST: Final = 64
"""Calls that are remembered for each kind of prompt."""
_MOST_KINDS: Final = 32
_MOST_ROLES: Final = 8
_AGREEING: Final = 2
"""Calls that must agree with the prediction from the others."""


class Overhead(NamedTuple):
    """Tokens that a template adds."""

    tokens: int
    is_exact: bool


class Overheads:
    """Tokens that one model's template adds, for each kind of prompt."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, deque[tuple[Roles, int]]] = {}

    def learn(self, kind: Hashable, roles: Roles, tokens: int) -> None:
        """Remember the tokens that the template added to one prompt."""
        if len(roles) > _MOST_ROLES:
            return
        if kind not in self._seen and len(self._seen) >= _MOST_KINDS:
            return
        self._seen.setdefault(kind, deque(maxlen=_MOST)).append((roles, tokens))

    def predict(self, kind: Hashable, roles: Roles) -> Overhead | None:
        """Return the tokens that the template will add; None if unknown."""
        seen = list(self._seen.get(kind, ()))
        if not seen:
            return None
        followed = _follows(seen, roles)
        if followed is not None:
            return Overhead(followed, is_exact=True)
        return Overhead(_estimated(seen, sum(roles.values())), is_exact=False)


def _estimated(seen: list[tuple[Roles, int]], count: int) -> int:
    """Return `a + b * count` for a number of messages, regardless of their roles."""
    counts = [sum(each.values()) for each, _ in seen]
    found = [tokens for _, tokens in seen]
    if len(set(counts)) > 1:
        slope, begin = linear_regression(counts, found)
        return max(0, round(begin + slope * count))
    # Each message counts, and the beginning and end of the prompt as one more.
    return round(mean(found) * (1 + count) / (1 + counts[0]))


def _follows(seen: list[tuple[Roles, int]], roles: Roles) -> int | None:
    """Return the tokens that follow from earlier prompts; None without agreement."""
    names = sorted({name for each, _ in seen for name in each} | roles.keys())

    def row(each: Roles, tokens: int) -> list[Fraction]:
        return [Fraction(1), *(Fraction(each.get(name, 0)) for name in names), Fraction(tokens)]

    basis: list[list[Fraction]] = []
    for each, tokens in seen:
        rest = _reduced(row(each, tokens), basis)
        if any(rest[:-1]):
            basis.append(rest)
        elif rest[-1]:
            return None
    if len(seen) < len(basis) + _AGREEING:
        return None
    rest = _reduced(row(roles, 0), basis)
    return None if any(rest[:-1]) or rest[-1].denominator != 1 else int(-rest[-1])


def _reduced(row: list[Fraction], basis: list[list[Fraction]]) -> list[Fraction]:
    """Return a row minus its projection onto others."""
    for each in basis:
        pivot = next(place for place, value in enumerate(each) if value)
        if row[pivot]:
            factor = row[pivot] / each[pivot]
            row = [value - factor * other for value, other in zip(row, each, strict=True)]
    return row
