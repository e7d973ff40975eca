"""Values as text, by their unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from ollama_otel._display import visible_line
from ollama_otel.analysis._report.values import Unit

__all__ = ["UNKNOWN", "change", "quantity", "time_text"]

UNKNOWN: Final = "–"  # noqa: RUF001 - what people write for a missing number
_LONGEST: Final = 200
_LARGE: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_WRITTEN_OUT: Final = 1e4
"""Smaller numbers are written with all their digits."""


def quantity(value: Any, unit: Unit) -> str:
    """Format a value for display; unknown is a dash. Texts are cut and escaped."""
    return UNKNOWN if value is None else _FORMS[unit](value)


def _text(value: Any) -> str:
    text = visible_line(str(value))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _share(value: float) -> str:
    if 0 < abs(value) < 0.0005:  # noqa: PLR2004 - it would be 0.0 %
        return "<0.1 %"
    return f"{value * 100:.{1 if abs(value) < 0.0995 else 0}f} %"  # noqa: PLR2004


def time_text(time: datetime) -> str:
    """Return a time in UTC to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S")


def change(before: float, now: float) -> str:
    """Return a change as per cent of the earlier value, or as a multiple of it."""
    ratio = now / before
    if ratio >= 3:  # noqa: PLR2004
        return f"{ratio:.1f} times as much" if ratio < 10 else f"{ratio:.0f} times as much"  # noqa: PLR2004
    return f"{ratio - 1:+.0%}".replace("%", " %").replace("-", "−")  # noqa: RUF001


def _seconds(value: float) -> str:
    if 0 < abs(value) < 0.00005:  # noqa: PLR2004 - it would be 0.0 ms
        return "<0.1 ms"
    if abs(value) < 0.0995:  # noqa: PLR2004 - what rounds to less than 0.10 s
        digits = 0 if abs(value) >= 0.00995 or not value else 1  # noqa: PLR2004
        return f"{value * 1000:.{digits}f} ms"
    if abs(value) < 99.95:  # noqa: PLR2004
        return f"{value:.2f} s" if abs(value) < 9.995 else f"{value:.1f} s"  # noqa: PLR2004
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _number(value: float) -> str:
    for size, sign in _LARGE:
        # `.3g` rounds 999.6 to `1e+03`: that is 1 of the next larger unit.
        if abs(value) >= max(0.9995 * size, _WRITTEN_OUT):
            return f"{value / size:.3g} {sign}"
    if abs(value) >= 100 or not value:  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _money(value: float) -> str:
    return f"{value:,.2f}" if 1 <= abs(value) < 10_000 else _number(value)  # noqa: PLR2004


_FORMS: Final[Mapping[Unit, Callable[[Any], str]]] = {
    "text": _text,
    "sentence": visible_line,
    "id": _text,
    "count": lambda value: f"{value:,.0f}",
    "number": _number,
    "seconds": _seconds,
    "share": _share,
    "per_second": lambda value: f"{_number(value)}/s",
    "time": time_text,
    "money": _money,
}
