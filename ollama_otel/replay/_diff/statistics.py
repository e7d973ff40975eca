"""The statistics of a comparison, with the standard library only."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence

__all__ = ["percentile", "sign_test"]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of the values are.

    It interpolates linearly between two values, as numpy does by default and
    `statistics.quantiles` with `method="inclusive"`. Raises ValueError without values.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError(
            f"expected one value or more and a share from 0 to 1, found {len(values)} and {share}"
        )
    ordered = sorted(values)
    below = math.floor(position := share * (len(ordered) - 1))
    rest = position - below
    if not rest:
        return ordered[below]
    return ordered[below] * (1 - rest) + ordered[below + 1] * rest


def sign_test(differences: Iterable[float]) -> float:
    """Return the two-sided p-value of the exact sign test.

    Differences of zero are left out. The result is 1.0 if there are no others, and at least the
    smallest float.
    """
    signs = [difference > 0 for difference in differences if difference]
    count, more = len(signs), sum(signs)
    # Each binomial coefficient is computed from the previous one, which is faster than math.comb.
    coefficient = tail = 1
    for chosen in range(min(more, count - more)):
        coefficient = coefficient * (count - chosen) // (chosen + 1)
        tail += coefficient
    return min(1.0, max(2 * tail / (1 << count), sys.float_info.min))
