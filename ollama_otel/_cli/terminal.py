"""What may be shown on a terminal, and how wide: recorded text is anybody's, escapes included."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Final, TextIO

from rich.console import Console

from ollama_otel._record import Outcome

__all__ = ["OUTCOME_STYLES", "first_words", "local_time", "printable", "wide_console"]

OUTCOME_STYLES: Final[dict[Outcome, str]] = {
    "completed": "green",
    "abandoned": "yellow",
    "cancelled": "yellow",
    "failed": "red",
}

_PIPED_WIDTH: Final = 160
_CONTROLS: Final = {
    code: "\N{REPLACEMENT CHARACTER}"
    for code in (*range(0x20), *range(0x7F, 0xA0))
    if chr(code) not in "\n\t"
}


def printable(text: str) -> str:
    """Return a text without what a terminal would obey instead of show."""
    return text.replace("\r\n", "\n").translate(_CONTROLS)


def first_words(text: str) -> str:
    """Return a text as one line."""
    return printable(" ".join(text.split()))


def local_time(nanoseconds: int) -> datetime:
    """Return a time since the epoch in the zone of this machine."""
    return datetime.fromtimestamp(nanoseconds / 1e9).astimezone()


def wide_console(file: TextIO, *, no_color: bool) -> Console:
    """Return a console for tables: as wide as the terminal, wider into a pipe."""
    # Whatever the terminal cannot show becomes a question mark and not a stack trace.
    if callable(reconfigure := getattr(file, "reconfigure", None)):
        reconfigure(errors="replace")
    made = Console(file=file, no_color=no_color or None, highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _PIPED_WIDTH
    return made
