"""Quantities as text."""

from __future__ import annotations

from typing import Final

__all__ = ["seconds"]


_LONG: Final = 1e7
"""Seconds from which an exponent is shorter."""


def seconds(value: float) -> str:
    """Write a duration in ms, s or min, with two or three significant digits."""
    if not -_LONG < value < _LONG:
        return f"{value:.3g} s"
    if value < 0.0995:  # noqa: PLR2004 - what rounds to less than 0.10 s
        return f"{value * 1000:.{0 if value >= 0.00995 else 1}f} ms"  # noqa: PLR2004
    if value < 99.95:  # noqa: PLR2004
        return f"{value:.2f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s"
