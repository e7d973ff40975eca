"""Tables that continue below if the terminal is narrow, instead of wrapping their cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from ollama_otel._display import visible_line

__all__ = ["ContinuedTable", "shortened"]

_ELLIPSIS: Final = "\N{HORIZONTAL ELLIPSIS}"
_LEAST_NAME: Final = 8
"""Columns of the terminal that a name keeps."""


def shortened(text: str, width: int) -> str:
    """Cut a text in its middle: names of models, users and calls differ at their ends."""
    if len(text) <= width:
        return text
    end = width - 1 - (width - 1) // 3
    return f"{text[: width - 1 - end]}{_ELLIPSIS}{text[len(text) - end :]}"


class ContinuedTable:
    """A table without lines, as several below each other if it is too wide.

    Each begins with the first columns, which name the rows. Headings may have several lines.
    """

    def __init__(
        self,
        *headings: str,
        names: int = 1,
        gap: int = 2,
        title: str | None = None,
        heading_style: str = "dim",
    ) -> None:
        self._headings = headings
        self._names = names
        self._gap = gap
        self._title = title
        self._heading_style = heading_style
        self._rows: list[tuple[Sequence[Text], str]] = []

    def add_row(self, *cells: str | Text, style: str = "") -> None:
        """Add a row with a cell for each heading."""
        texts = [each if isinstance(each, Text) else Text(visible_line(each)) for each in cells]
        self._rows.append((texts, style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._title is not None:
            yield Text(self._title, style="italic")
        name_widths, parts = self._layout(options.max_width)
        for number, columns in enumerate(parts):
            if number:
                yield Text()
            yield self._part(name_widths, columns)

    def _layout(self, width: int) -> tuple[Sequence[int], Sequence[Sequence[int]]]:
        """Return the widths of the names, and the other columns of each part."""
        widths = [
            max(cell_len(text) for text in (*heading.split("\n"), *self._column(number)))
            for number, heading in enumerate(self._headings)
        ]
        names = _narrowed(widths[: self._names], width // 2)
        begin = sum(names) + self._gap * len(names)
        parts: list[list[int]] = [[]]
        used = begin
        for column in range(self._names, len(widths)):
            if parts[-1] and used + widths[column] > width:
                parts.append([])
                used = begin
            parts[-1].append(column)
            used += widths[column] + self._gap
        return names, parts

    def _column(self, number: int) -> list[str]:
        return [cells[number].plain for cells, _ in self._rows]

    def _part(self, name_widths: Sequence[int], columns: Sequence[int]) -> Table:
        table = Table(
            box=None,
            pad_edge=False,
            padding=(0, self._gap, 0, 0),
            header_style=self._heading_style,
        )
        for heading in self._headings[: self._names]:
            table.add_column(heading, no_wrap=True)
        for column in columns:
            table.add_column(self._headings[column], justify="right", overflow="fold")
        for cells, style in self._rows:
            names = [_fitting(*each) for each in zip(cells, name_widths, strict=False)]
            table.add_row(*names, *(cells[column] for column in columns), style=style)
        return table


def _fitting(name: Text, width: int) -> Text:
    return name if cell_len(name.plain) <= width else Text(shortened(name.plain, width))


def _narrowed(widths: Sequence[int], most: int) -> list[int]:
    """Return widths that add up to `most` if possible, with less for the widest."""
    made = list(widths)
    while sum(made) > most and max(made) > _LEAST_NAME:
        made[made.index(max(made))] -= 1
    return made
