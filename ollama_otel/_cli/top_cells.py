"""Quantities as short texts, and lines of cells, for a screen of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from ollama_otel._display import visible_line

__all__ = [
    "UNKNOWN",
    "Cell",
    "Column",
    "line_of",
    "short_bytes",
    "short_count",
    "short_rate",
    "short_seconds",
    "widths_of",
]

UNKNOWN: Final = "-"
_ELLIPSIS: Final = "\N{HORIZONTAL ELLIPSIS}"
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_WIDEST: Final = 40
"""Most columns of the screen for a text."""
_STEP: Final = 1000.0


class Column(NamedTuple):
    """A column of a table."""

    title: str
    width: int
    """Columns of the screen; 0 takes the remaining width."""
    is_right: bool = True


class Cell(NamedTuple):
    """A text, and how it looks."""

    text: str
    style: str = ""


def short_seconds(value: float | None) -> str:
    """Write a duration in at most 6 characters, up to a hundred days."""
    if value is None:
        return UNKNOWN
    if value < 0.00005:  # noqa: PLR2004 - what rounds to 0
        return "0ms"
    if value < 0.00995:  # noqa: PLR2004 - what rounds to less than 10 ms
        return f"{value * 1000:.1f}ms"
    if value < 0.9995:  # noqa: PLR2004 - what rounds to less than 1 s
        return f"{value * 1000:.0f}ms"
    if value < 99.95:  # noqa: PLR2004
        return f"{value:.{2 if value < 9.995 else 1}f}s"  # noqa: PLR2004
    for unit, lower, name, lower_name in (
        (_MINUTE, 1, "m", "s"),
        (_HOUR, _MINUTE, "h", "m"),
        (_DAY, _HOUR, "d", "h"),
    ):
        if value < 100 * unit:
            whole, rest = divmod(int(value), unit)
            return f"{whole}{name}{rest // lower:02d}{lower_name}"
    return f"{value / _DAY:.0f}d"


def short_count(value: float | None) -> str:
    """Write a number in at most 5 characters."""
    return UNKNOWN if value is None else _scaled(value, ("", "k", "M", "G", "T"))


def short_bytes(value: float | None) -> str:
    """Write a size in decimal units, in at most 6 characters."""
    return UNKNOWN if value is None else _scaled(value, ("B", "kB", "MB", "GB", "TB"))


def short_rate(value: float | None) -> str:
    """Write a number per second in at most 7 characters."""
    return UNKNOWN if value is None else f"{_scaled(value, ('', 'k', 'M', 'G', 'T'))}/s"


def _scaled(value: float, units: Sequence[str]) -> str:
    for unit in units[:-1]:
        if value < 999.5:  # noqa: PLR2004 - what rounds to less than 1000
            is_whole = value == int(value) and unit == units[0]
            digits = 0 if is_whole or value >= 99.95 else 1  # noqa: PLR2004
            return f"{value:.{digits}f}{unit}"
        value /= _STEP
    return f"{value:.0f}{units[-1]}"


def widths_of(columns: Iterable[Column], width: int) -> list[int]:
    """Return the widths of columns, with one blank between them."""
    columns = list(columns)
    rest = width - sum(column.width for column in columns) - len(columns) + 1
    return [column.width or min(max(4, rest), _WIDEST) for column in columns]


def line_of(columns: Iterable[Column], widths: Sequence[int], cells: Iterable[Cell]) -> Text:
    """Return one line of a table; what does not fit into its column ends in an ellipsis."""
    line = Text(no_wrap=True)
    for column, width, cell in zip(columns, widths, cells, strict=True):
        line.append(f"{_sized(visible_line(cell.text), width, column.is_right)} ", cell.style)
    line.right_crop(1)
    return line


def _sized(text: str, width: int, is_right: bool) -> str:  # noqa: FBT001 - a column's field
    over = cell_len(text) - width
    if over > 0:
        return set_cell_size(text, width - 1) + _ELLIPSIS
    return " " * -over + text if is_right else text + " " * -over
