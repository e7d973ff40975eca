"""Escapes text, commands and URLs for display in a terminal and in log lines.

Texts come from servers, callers and files, so they are untrusted. Characters that are invisible,
control a terminal or change the order of other text are shown as escapes.
"""

from __future__ import annotations

import io
import logging
import re
import shlex
from collections.abc import Iterable
from typing import Any, Final, TextIO
from urllib.parse import quote

__all__ = [
    "EscapingStream",
    "escapes_in",
    "log_value",
    "logger",
    "masked_url",
    "shell_command",
    "url_path",
    "visible",
    "visible_line",
]

_MASK: Final = "***"
_PARTS: Final = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.\-]*:)?//|)([^/?#]*)([^?#]*)(.*)", re.DOTALL)
"""Scheme, authority, path, and the query and fragment of any text."""

_CONTROLS: Final = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029"
"""C0 and C1, without tab and line feed, and the separators that some programs break lines at."""
_SURROGATES: Final = "\ud800-\udfff"
"""Halves of a pair, which have no encoding."""
_SELECTORS: Final = "\ufe00-\ufe0f\U000e0100-\U000e01ef"
_IGNORABLE: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
)
"""Unicode's Default_Ignorable_Code_Point, which includes bidirectional controls and tags, and the
interlinear annotations; without joiners and variation selectors.
"""
_VISIBLE: Final = rf"[^\x00-\xa0{_CONTROLS}{_SURROGATES}{_SELECTORS}{_IGNORABLE}\u200c\u200d]"
"""A visible character that is not ASCII: emoji and the scripts that need joiners have no ASCII."""
_SUSPECT: Final = re.compile(rf"[{_CONTROLS}{_SURROGATES}{_IGNORABLE}{_SELECTORS}\u200c\u200d]")
_IN_PLACE: Final = re.compile(
    # A joiner belongs between two visible characters; before it may be a selector, as in a
    # heart on fire. A selector belongs to the visible character before it, or to a keycap.
    rf"(?:(?<={_VISIBLE})|(?<={_VISIBLE}\ufe0f))[\u200c\u200d](?={_VISIBLE})"
    rf"|(?<={_VISIBLE})[{_SELECTORS}]|(?<=[0-9#*])\ufe0f"
)


def visible(text: str) -> str:
    r"""Return a text with each control, bidirectional control and invisible character escaped.

    The escapes are those of Python: `\x1b`, `\u202e`. Tabs and line ends stay, and so do joiners
    in emoji and in words, and text of any direction.
    """
    if text.isascii() and text.isprintable():
        return text
    text = text.replace("\r\n", "\n")
    return _SUSPECT.sub(lambda match: _shown_character(text, match.start()), text)


def visible_line(text: str) -> str:
    """Return a text as one line, escaped as by `visible`; any whitespace becomes one space."""
    # Escaped first, as `str.split` also splits at some controls.
    return " ".join(visible(text).split())


def escapes_in(text: str) -> list[tuple[int, str]]:
    """Return the position of each character that `visible` escapes, and its escape."""
    return [
        (at, escape)
        for at in map(re.Match.start, _SUSPECT.finditer(text))
        if (escape := _shown_character(text, at)) != text[at]
    ]


def _shown_character(text: str, at: int) -> str:
    return text[at] if _IN_PLACE.match(text, at) else _escape(text[at])


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:  # noqa: PLR2004 - as in Python's `repr`
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004


# --- commands and URLs --------------------------------------------------------------------


def shell_command(words: Iterable[str]) -> str:
    """Return words as a command to copy: quoted for a POSIX shell, and safe to show.

    A word with a character that `visible` escapes is quoted as `$'...'`, so the copy is exact.
    """
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    if visible(word) == word and "\n" not in word and "\t" not in word:
        return shlex.quote(word)
    # Bytes instead of characters: shells differ in `\u`.
    content = "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b"'\\" else f"\\{byte:03o}"  # noqa: PLR2004
        for byte in word.encode("utf-8", "surrogateescape")
    )
    return f"$'{content}'"


def url_path(path: str) -> str:
    """Return the path of a URL, with invalid characters percent-encoded."""
    return quote(path, safe="/%:@!$&'()*+,;=?#[]~", errors="surrogatepass")


def masked_url(url: str) -> str:
    """Return a URL without its secrets: user and password, query and fragment are masked.

    Where a password may end is not clear in a malformed URL, of which the scheme only is shown.
    """
    scheme, authority, path, hidden = _PARTS.match(url).groups()  # type: ignore[union-attr]
    if "@" in path + hidden:
        return visible_line(f"{scheme}{_MASK}")
    _, at, host = authority.rpartition("@")
    place = f"{_MASK}@{host}" if at else host
    return visible_line(f"{scheme}{place}{path}{hidden[:1]}{_MASK if hidden else ''}")


# --- streams and log lines ----------------------------------------------------------------


class EscapingStream(io.TextIOBase):
    """Writes text to a stream, escaped as by `visible`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text and return its length."""
        self._stream.write(visible(text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Return the descriptor of the stream."""
        return self._stream.fileno()


# --- log lines ----------------------------------------------------------------------------


def logger(name: str = "ollama_otel") -> logging.Logger:
    """Return a logger that escapes the texts and errors among its arguments.

    Nothing that a server or a caller sent can control a terminal through it, or look like a log
    line of its own: line ends in arguments are followed by an indentation.
    """
    found = logging.getLogger(name)
    found.addFilter(_FILTER)
    return found


def log_value(text: str) -> str:
    """Return a text as a value of a log line: escaped as by `visible`, line ends too."""
    return visible(text).replace("\n", "\\n")


class _EscapingFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(map(_argument, record.args))
        return True


_FILTER: Final = _EscapingFilter()
"""One object, which a logger adds once only."""


def _argument(value: Any) -> Any:
    if isinstance(value, int | float):
        return value
    return re.sub(r"\n(?! )", "\n  ", visible(str(value)))
