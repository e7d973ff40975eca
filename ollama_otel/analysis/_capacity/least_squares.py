"""Linear least squares for a handful of unknowns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = ["least_squares"]

_RIDGE: Final = 1e-9
"""Of the largest sum of squares: keeps unknowns without data at 0."""


def least_squares(
    rows: Sequence[Sequence[float]], targets: Sequence[float], weights: Sequence[float]
) -> list[float]:
    """Return the factors of the columns that fit the targets best."""
    width = len(rows[0])
    matrix = [[0.0] * (width + 1) for _ in range(width)]
    for row, target, weight in zip(rows, targets, weights, strict=True):
        extended = (*row, target)
        for place, value in enumerate(row):
            if value:
                line = matrix[place]
                for column, other in enumerate(extended):
                    line[column] += weight * value * other
    for place in range(width):
        matrix[place][place] *= 1.0 + _RIDGE
        matrix[place][place] += 1e-300
    return _solved(matrix)


def _solved(matrix: list[list[float]]) -> list[float]:
    """Solve by elimination; the matrix is positive definite, so that no rows are exchanged."""
    width = len(matrix)
    for place in range(width):
        pivot = matrix[place]
        for line in matrix[place + 1 :]:
            factor = line[place] / pivot[place]
            if factor:
                for column in range(place, width + 1):
                    line[column] -= factor * pivot[column]
    found = [0.0] * width
    for place in reversed(range(width)):
        line = matrix[place]
        known = sum(line[column] * found[column] for column in range(place + 1, width))
        found[place] = (line[width] - known) / line[place]
    return found
