"""Consoles: what they print is escaped, as logged text is untrusted and may have controls."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from ollama_otel._display import escapes_in, visible
from ollama_otel.records import Outcome

__all__ = [
    "OUTCOME_STYLES",
    "console_for_tables",
    "console_for_text",
    "local_time",
    "plural",
]

OUTCOME_STYLES: Final[dict[Outcome, str]] = {
    "completed": "green",
    "abandoned": "yellow",
    "cancelled": "yellow",
    "failed": "red",
}

_PIPED_WIDTH: Final = 160
_READABLE_WIDTH: Final = 100


def local_time(nanoseconds: int) -> datetime:
    """Convert nanoseconds since the epoch to local time."""
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).astimezone()


def plural(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def console_for_text(file: TextIO, *, no_color: bool) -> Console:
    """Return a console for sentences: at most 100 columns wide."""
    made = _console(file, no_color=no_color)
    made.width = min(made.width, _READABLE_WIDTH)
    return made


def console_for_tables(file: TextIO, *, no_color: bool) -> Console:
    """Return a console for tables: as wide as the terminal, 160 columns into a pipe."""
    made = _console(file, no_color=no_color)
    if not file.isatty() and "COLUMNS" not in os.environ:
        made.width = _PIPED_WIDTH
    return made


class _Console(Console):
    """Escapes every text that it renders, also in the cells of tables and the nodes of trees."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        if isinstance(renderable, Text):
            renderable = _escaped(renderable)
        elif isinstance(renderable, str):
            renderable = visible(renderable)
        return super().render(renderable, options)

    def on_broken_pipe(self) -> None:
        # rich would exit with status 1, which has another meaning here.
        raise BrokenPipeError


def _escaped(text: Text) -> Text:
    found = escapes_in(text.plain)
    if not found:
        return text
    escapes = [escape for _, escape in found]
    first, *rest = text.divide(edge for at, _ in found for edge in (at, at + 1))
    made = text.blank_copy().append_text(first)
    # Each escaped character is a part, and so is the text after it.
    for escape, after in zip(escapes, rest[1::2], strict=True):
        made.append(escape).append_text(after)
    return made


def _console(file: TextIO, *, no_color: bool) -> Console:
    # A character that the terminal cannot show becomes a question mark instead of an error.
    if callable(reconfigure := getattr(file, "reconfigure", None)):
        reconfigure(errors="replace")
    # Without colours rich would keep bold and dim; as no terminal it gets no escape codes at all.
    is_plain = no_color or bool(os.environ.get("NO_COLOR"))
    return _Console(
        file=file, force_terminal=False if is_plain else None, highlight=False, markup=False
    )
