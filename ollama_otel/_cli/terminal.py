"""Consoles, and text that is safe to print: logged text is untrusted and may have controls."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Final, TextIO

from rich.console import Console

from ollama_otel.records import Outcome

__all__ = [
    "OUTCOME_STYLES",
    "console_for_tables",
    "console_for_text",
    "first_words",
    "local_time",
    "plural",
    "printable",
]

OUTCOME_STYLES: Final[dict[Outcome, str]] = {
    "completed": "green",
    "abandoned": "yellow",
    "cancelled": "yellow",
    "failed": "red",
}

_PIPED_WIDTH: Final = 160
_READABLE_WIDTH: Final = 100
_BIDI: Final = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Characters that change the direction of the following text."""
_CONTROLS: Final = {
    code: "\N{REPLACEMENT CHARACTER}"
    for code in (*range(0x20), *range(0x7F, 0xA0), *_BIDI)
    if chr(code) not in "\n\t"
}


def printable(text: str) -> str:
    """Replace the control characters of a text, which could control the terminal."""
    return text.replace("\r\n", "\n").translate(_CONTROLS)


def first_words(text: str) -> str:
    """Return a text as one printable line."""
    return printable(" ".join(text.split()))


def local_time(nanoseconds: int) -> datetime:
    """Convert nanoseconds since the epoch to local time."""
    return datetime.fromtimestamp(nanoseconds / 1e9).astimezone()


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
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _PIPED_WIDTH
    return made


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # rich would exit with status 1, which has another meaning here.
        raise BrokenPipeError


def _console(file: TextIO, *, no_color: bool) -> Console:
    # A character that the terminal cannot show becomes a question mark instead of an error.
    if callable(reconfigure := getattr(file, "reconfigure", None)):
        reconfigure(errors="replace")
    return _Console(file=file, no_color=no_color or None, highlight=False, markup=False)
