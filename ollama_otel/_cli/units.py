"""Quantities as text."""

from __future__ import annotations

from typing import Final

__all__ = ["seconds"]


_LONG: Final = 1e10
"""Seconds from which an exponent is shorter."""
_HOUR: Final = 3600
_DAY: Final = 86_400
_MOST_HOURS: Final = 48 * _HOUR


def seconds(value: float) -> str:
    """Write a duration in ms, s, min, h or days, with two or three significant digits."""
    if not -_LONG < value < _LONG:
        return f"{value:.3g} s"
    if value < 0.0995:  # noqa: PLR2004 - what rounds to less than 0.10 s
        return f"{value * 1000:.{0 if value >= 0.00995 else 1}f} ms"  # noqa: PLR2004
    if value < 99.95:  # noqa: PLR2004
        return f"{value:.2f} s"
    if value >= _MOST_HOURS:
        return f"{value / _DAY:.1f} days"
    minutes, rest = divmod(round(value), 60)
    if minutes * 60 >= _HOUR:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s"
