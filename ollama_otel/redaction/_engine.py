"""Runs finders over a text and replaces their findings by marks.

A finder says where secrets are, in plain text. The engine also shows it the text without
escapes (JSON, URLs, HTML), and maps what it finds there back to the text as it is written.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from functools import wraps
from html import unescape
from typing import NamedTuple

__all__ = ["MARK", "MARK_BEGIN", "Finder", "Redactor", "Span", "matches", "next_match", "redactor"]

Redactor = Callable[[str], str]
"""Returns a string without its secrets. It gets single strings, never a JSON document."""


class Span(NamedTuple):
    """A secret, from `start` to `end`, and the kind that its mark names."""

    start: int
    end: int
    kind: str


Finder = Callable[[str], list[Span]]
"""Returns the secrets in a text, in any order; they may overlap. Takes linear time."""

MARK_BEGIN = "[redacted: "
MARK = re.compile(r"(\[redacted: [^\[\]]{1,64}\])")
_MOST_ROUNDS = 6
"""A mark may reveal another secret beside it. Without a limit, malicious text would take quadratic
time.
"""
_BLOCK = 4096
"""Characters after which the next line starts a new block."""
_WINDOW, _REACH = 4096, 2048
"""Characters in which a match may begin in one search, and characters after them that it sees."""
_SIGHT = 128
"""Characters behind a match that may forbid it."""
# Any number of levels: JSON in JSON, a URL in a URL.
_ESCAPE = re.compile(
    r"(?<!\\)\\++(?:u00([2-7][0-9A-Fa-f])|(u000[9AaDd]|[nrt])|([\"'/]))"
    r"|%(?:25){0,7}([2-7][0-9A-Fa-f])"
    r"|&(?:amp;){0,7}(#0{0,4}(?:3[2-9]|[4-9][0-9]|1[01][0-9]|12[0-6])|#[Xx]0{0,4}[2-7][0-9A-Fa-f]|amp|quot|apos|lt|gt|equals|colon|commat|lowbar);"
)


def redactor(
    find: Finder,
    name: str,
    doc: str,
    *,
    by_lines: bool = True,
    has_view: bool = True,
    rounds: int = _MOST_ROUNDS,
) -> Redactor:
    """Return a redactor that replaces the findings of `find`.

    With `by_lines`, a long text is searched a few lines at a time, so that other threads can run
    in between; the finder's secrets must not span lines. With `has_view`, the finder also sees
    the text without escapes. While marks uncover secrets, it searches again, at most `rounds` times.
    """

    def redact(text: str) -> str:
        for _ in range(rounds):
            spans = find(text)
            view = _View.of(text) if has_view else None
            if view is not None:
                spans = [*spans, *map(view.in_source, find(view.text))]
            redacted = _replaced(text, spans) if spans else text
            if redacted == text:
                break
            text = redacted
        return text

    redact.__name__ = redact.__qualname__ = name
    redact.__module__ = "ollama_otel.redaction"
    redact.__doc__ = doc
    return _by_blocks(redact) if by_lines else redact


def next_match(
    pattern: re.Pattern[str], text: str, start: int = 0, end: int | None = None
) -> re.Match[str] | None:
    """Return the result of `pattern.search`, for matches that are decided within 2,048 characters.

    A regular expression holds Python's global lock for as long as one search takes. Here each
    search is of a short part of the text, so that other threads can run in between.
    """
    end = len(text) if end is None else end
    while start < end:
        limit = min(start + _WINDOW + _REACH, end)
        found = pattern.search(text, start, limit)
        if found is None or found.start() >= start + _WINDOW:
            start += _WINDOW
            continue
        if limit < end and found.end() > limit - _SIGHT:
            # Text after the window may lengthen the match, or forbid it.
            start = found.start() + 1
            found = pattern.match(text, found.start(), end)
            if found is None:
                continue
        return found
    return None


def matches(
    pattern: re.Pattern[str], text: str, start: int = 0, end: int | None = None
) -> Iterator[re.Match[str]]:
    """Yield the results of `pattern.finditer`, using `next_match`."""
    while (found := next_match(pattern, text, start, end)) is not None:
        yield found
        start = max(found.end(), found.start() + 1)


def _by_blocks(redact_block: Redactor) -> Redactor:
    @wraps(redact_block)
    def redact(text: str) -> str:
        if len(text) <= _BLOCK:
            return redact_block(text)
        return "".join(map(redact_block, _blocks(text)))

    return redact


def _blocks(text: str) -> Iterator[str]:
    start = 0
    while end := text.find("\n", start + _BLOCK) + 1:
        yield text[start:end]
        start = end
    yield text[start:]


def _replaced(text: str, spans: list[Span]) -> str:
    """Replace spans by marks; overlapping ones become one, and marks stay whole."""
    marks = [found.span() for found in MARK.finditer(text)] if MARK_BEGIN in text else []
    pieces: list[str] = []
    position = 0
    for span in _joined(spans):
        start, end = _around_marks(span, marks)
        start = max(start, position)
        if start >= end or (start, end) in marks:
            continue
        pieces += [text[position:start], f"{MARK_BEGIN}{span.kind}]"]
        position = end
    return "".join((*pieces, text[position:])) if pieces else text


def _joined(spans: list[Span]) -> Iterator[Span]:
    ordered = sorted(spans, key=lambda span: (span.start, -span.end))
    last = ordered[0]
    for span in ordered[1:]:
        if span.start < last.end:
            last = last._replace(end=max(last.end, span.end))
        else:
            yield last
            last = span
    yield last


def _around_marks(span: Span, marks: list[tuple[int, int]]) -> tuple[int, int]:
    """Return a span's borders moved out of the marks that hold them."""
    start, end = span.start, span.end
    if not marks:
        return start, end
    index = bisect_right(marks, (start, marks[-1][1])) - 1
    if index >= 0 and marks[index][0] < start < marks[index][1]:
        start = marks[index][1]
    index = bisect_right(marks, (end - 1, marks[-1][1])) - 1
    if index >= 0 and marks[index][0] < end < marks[index][1]:
        end = marks[index][1]
    return start, end


class _View:
    """A text without escapes, and the places of its characters in the original text."""

    def __init__(self, text: str, escapes: list[int], ends: list[int]) -> None:
        self.text = text
        self._escapes = escapes
        """Offsets in the view of characters that are escapes in the source."""
        self._ends = ends
        """Offsets in the source after these escapes."""

    @classmethod
    def of(cls, text: str) -> _View | None:
        """Return the view of a text; None if it has no escapes."""
        if "\\" not in text and "%" not in text and "&" not in text:
            return None
        pieces: list[str] = []
        escapes: list[int] = []
        ends: list[int] = []
        position = length = 0
        for found in matches(_ESCAPE, text):
            pieces += [text[position : found.start()], _plain(found)]
            length += found.start() - position
            escapes.append(length)
            length += 1
            position = found.end()
            ends.append(position)
        return cls("".join((*pieces, text[position:])), escapes, ends) if ends else None

    def in_source(self, span: Span) -> Span:
        """Convert a span of the view to a span of the original text."""
        return Span(self._place(span.start), self._place(span.end), span.kind)

    def _place(self, offset: int) -> int:
        before = bisect_left(self._escapes, offset) - 1
        if before < 0:
            return offset
        return self._ends[before] + offset - self._escapes[before] - 1


def _plain(found: re.Match[str]) -> str:
    """Return the character that an escape stands for."""
    code, space, sign, percent, entity = found.groups()
    if code or percent:
        return chr(int(code or percent, 16))
    if sign:
        return str(sign)
    if space:
        return "\t" if space in ("t", "u0009") else "\n"
    return unescape(f"&{entity};")
