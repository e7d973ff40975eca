"""Predicts the number of tokens of a text, learned from counts of servers.

The number is a sum of shares: of the tokens of another vocabulary, of bytes, digits, signs and
capital letters, and of messages. The shares are those with the smallest relative errors over the
last calls.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from statistics import median, quantiles
from typing import Final, Literal

__all__ = ["ContentKind", "Ratio", "features_of", "kind_of"]

ContentKind = Literal["text", "code", "script"]
"""`text`: words in Latin letters. `code`: many signs. `script`: mostly other letters."""

_DIGIT: Final = re.compile(r"[0-9]")
_SIGN: Final = re.compile(r"[^\w\s]")
_CAPITAL: Final = re.compile(r"[A-Z]")
_SAMPLE: Final = 4096
_SIGNS: Final = re.compile(r"[{}()\[\];=<>_\\/|&#]")
_MOST_SIGNS: Final = 0.06
_MOST_OTHERS: Final = 0.2

_MOST: Final = 64
"""Calls that are remembered."""
ENOUGH: Final = 5
"""Calls after which the shares are used."""
_PRIOR_WEIGHT: Final = 0.001


def kind_of(text: str) -> ContentKind:
    """Return the kind of a text, by its first characters."""
    sample = text[:_SAMPLE]
    others = sum(letter > "\u024f" for letter in sample)
    if others > _MOST_OTHERS * len(sample):
        return "script"
    signs = len(_SIGNS.findall(sample))
    return "code" if signs > _MOST_SIGNS * len(sample) else "text"


def features_of(text: str) -> tuple[int, int, int, int]:
    """Return the numbers of bytes, digits, signs and capital letters."""
    digits, signs, capitals = (len(each.findall(text)) for each in (_DIGIT, _SIGN, _CAPITAL))
    return len(text.encode("utf-8", "replace")), digits, signs, capitals


class Ratio:
    """The shares of one model and one kind of content."""

    def __init__(self, prior: Sequence[float]) -> None:
        self._prior = tuple(prior)
        self._shares = self._prior
        self._seen: deque[tuple[float, ...]] = deque(maxlen=_MOST)
        """The features of each call, for one token that was reported."""
        self._matrix = [[0.0] * len(prior) for _ in prior]
        self._vector = [0.0] * len(prior)
        self._errors: deque[float] = deque(maxlen=_MOST)

    @property
    def is_learnt(self) -> bool:
        """Whether the shares come from calls."""
        return len(self._seen) >= ENOUGH

    @property
    def error(self) -> float | None:
        """Median of its relative errors; None after too few predictions."""
        return median(self._errors) if len(self._errors) >= ENOUGH else None

    @property
    def error_p95(self) -> float | None:
        """Their 95th percentile."""
        if len(self._errors) < ENOUGH:
            return None
        return quantiles(self._errors, n=20, method="inclusive")[-1]

    def predict(self, features: Sequence[float]) -> int:
        """Return the number of tokens of a prompt."""
        shares = zip(self._shares, features, strict=True)
        return max(0, round(sum(share * feature for share, feature in shares)))

    def learn(self, features: Sequence[float], tokens: int) -> None:
        """Learn from a number of tokens that a server reported; more than 0."""
        if self.is_learnt:
            # Before learning from this call, so that the error is that of a prediction.
            self._errors.append(abs(self.predict(features) - tokens) / tokens)
        if len(self._seen) == _MOST:
            self._add(self._seen[0], -1.0)
        row = tuple(value / tokens for value in features)
        self._seen.append(row)
        self._add(row, 1.0)
        self._shares = self._fitted()

    def _add(self, row: tuple[float, ...], sign: float) -> None:
        """Add a call to the sums that determine the shares, or remove it."""
        for i, value in enumerate(row):
            self._vector[i] += sign * value
            sums = self._matrix[i]
            for j, other in enumerate(row):
                sums[j] += sign * value * other

    def _fitted(self) -> tuple[float, ...]:
        matrix, vector = [[*sums] for sums in self._matrix], [*self._vector]
        for place, prior in enumerate(self._prior):
            weight = _PRIOR_WEIGHT * abs(matrix[place][place]) + 1e-9
            matrix[place][place] += weight
            vector[place] += weight * prior
        return tuple(_solved(matrix, vector))


def _solved(matrix: list[list[float]], vector: list[float]) -> list[float]:
    """Solve a small system of equations whose matrix is symmetric and positive."""
    rows = [[*row, value] for row, value in zip(matrix, vector, strict=True)]
    for place, row in enumerate(rows):
        for other in rows[place + 1 :]:
            factor = other[place] / row[place]
            other[place:] = [
                value - factor * above
                for value, above in zip(other[place:], row[place:], strict=True)
            ]
    found = [0.0] * len(rows)
    for place in reversed(range(len(rows))):
        row = rows[place]
        known = sum(row[other] * found[other] for other in range(place + 1, len(rows)))
        found[place] = (row[-1] - known) / row[place]
    return found
