"""Finds what must not be stored of an answer's body, and writes anew the lines that hold it.

A model writes a secret as fragments in many lines of a stream, so each text is joined before it
is redacted, and what is left of it is given back to its fragments.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from pydantic_core import from_json

from ollama_otel._log.edits import Edit, as_line, distributed
from ollama_otel._log.json_redaction import (
    NO_JSON,
    ImageCopier,
    JsonRedaction,
    SpecialFields,
    parsed,
)
from ollama_otel.redaction import is_secret_key

__all__ = ["AnswerBody"]

_FRAGMENTS = frozenset(("content", "response", "thinking"))
"""Keys under which a stream carries a text bit by bit, itself or in its `message`."""
_REPEATS = ("logprobs", "context")
"""Keys under which an answer says its text again, token by token."""
_DURATIONS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
"""Keys that hold nanoseconds, of which an hour has as many digits as a payment card."""

_is_timestamp = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
    r"(?:Z|[+-][0-9]{2}:[0-9]{2})"
).fullmatch

_LONGEST_NAME = 200
"""Characters; a longer text is looked at alone, for it may be an image."""
_LARGEST_COUNT = 10**12 - 1
"""Whole numbers beyond it may be those of payment cards."""

_Name = tuple[bool, str]
"""Whether a text stands in a line's `message`, and its key."""


class _Unit(NamedTuple):
    """A line of a body, or a body that is one document; or all text between two lines of JSON."""

    start: int
    end: int
    value: Any
    """An object or an array, or `NO_JSON`."""
    is_torn: bool = False
    """Whether its end is missing."""


class AnswerBody:
    """One answer's body, on its way to what of it must not be stored."""

    def __init__(
        self,
        body: bytes,
        redact: Callable[[str], str],
        *,
        echoes_secret: bool = False,
        image: ImageCopier | None = None,
    ) -> None:
        """`echoes_secret` says that a `context` repeats a secret of the request."""
        self.has_secret = False
        """Whether one was found by `edits`."""
        self._body = body
        self._echoes_secret = echoes_secret and b'"context"' in body
        self._redact_text = redact
        self._known: dict[str, str] = {}
        self._json = JsonRedaction(self._text, on_hidden=self._found, image=image)
        self._fragments: dict[_Name, list[str]] = defaultdict(list)
        self._others: set[str] = set()
        self._shapes: set[tuple[str, ...]] = set()
        self._is_clean = True

    def _found(self) -> None:
        self.has_secret = True

    def _redact(self, text: str) -> str:
        redacted = self._redact_text(text)
        if redacted != text:
            self._found()
        return redacted

    def _text(self, text: str) -> str:
        redacted = self._known.get(text)
        if redacted is None:
            redacted = self._known[text] = self._redact(text)
        return redacted

    def edits(self) -> list[Edit[bytes]]:
        """Return what must be replaced, in the order of the body; usually nothing."""
        lines = _objects(self._body)
        units = list(_units(self._body)) if lines is None else []
        for line in lines or ():
            self._collect_line(line)
        for unit in units:
            self._collect(unit)
        redacted = self._redacted_texts()
        if not redacted and not self._echoes_secret and self._are_others_clean():
            return []
        texts = {
            name: iter(distributed(fragments, redacted[name]) if name in redacted else fragments)
            for name, fragments in self._fragments.items()
        }
        has_secret = bool(redacted) or self._echoes_secret
        return [
            Edit(unit.start, unit.end, new)
            for unit in units or _units(self._body)
            if (new := self._rewritten(unit, texts, has_secret=has_secret)) is not None
        ]

    def _collect(self, unit: _Unit) -> None:
        if isinstance(unit.value, dict):
            self._collect_line(unit.value)
        else:
            self._is_clean = self._is_clean and self._rewritten(unit, {}) is None
        if unit.is_torn:
            self._is_clean = self._is_clean and self._rewritten_text(unit) is None

    def _collect_line(self, line: Mapping[str, Any]) -> None:
        self._collect_fields(line, is_message=False)
        message = line.get("message")
        if type(message) is dict:
            self._collect_fields(message, is_message=True)

    def _collect_fields(self, holder: Mapping[str, Any], *, is_message: bool) -> None:
        self._shapes.add(tuple(holder))
        for key, value in holder.items():
            kind = type(value)
            if kind is str:
                if key in _FRAGMENTS:
                    self._fragments[is_message, key].append(value)
                elif len(value) > _LONGEST_NAME:
                    self._collect_other(key, value, is_message=is_message)
                elif key != "created_at" or not _is_timestamp(value):
                    self._others.add(value)
            elif (
                kind is list
                or (kind is dict and (is_message or key != "message"))
                or (kind is int and value > _LARGEST_COUNT and key not in _DURATIONS)
            ):
                self._collect_other(key, value, is_message=is_message)

    def _collect_other(self, key: str, value: Any, *, is_message: bool) -> None:
        if key == "logprobs" and isinstance(value, list):
            self._fragments[is_message, key].append(_tokens(value))
        self._is_clean = self._is_clean and self._json(value, key=key) == value

    def _redacted_texts(self) -> dict[_Name, str]:
        texts = {name: "".join(fragments) for name, fragments in self._fragments.items()}
        redacted = {name: self._redact(text) for name, text in texts.items()}
        return {name: text for name, text in redacted.items() if text != texts[name]}

    def _are_others_clean(self) -> bool:
        keys = {key for shape in self._shapes for key in shape}
        return (
            self._is_clean
            and not any(map(is_secret_key, keys))
            and all(self._text(other) == other for other in self._others | keys)
        )

    def _rewritten(
        self, unit: _Unit, texts: Mapping[_Name, Iterator[str]], *, has_secret: bool = False
    ) -> bytes | None:
        """Return what a unit becomes; None where it stays as it is."""
        if unit.value is NO_JSON:
            return self._rewritten_text(unit)
        value = self._json(unit.value, self._special(texts, has_secret=has_secret))
        if value == unit.value:
            return self._rewritten_text(unit) if unit.is_torn else None
        line = as_line(value)
        # What was torn stays torn: a reader must find no end where none came.
        return line.rstrip(b"}]").removesuffix(b'"') if unit.is_torn else line

    def _rewritten_text(self, unit: _Unit) -> bytes | None:
        old = self._body[unit.start : unit.end].decode("utf-8", "surrogateescape")
        new = self._redact(old)
        if new == old:
            return None
        try:
            return new.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return new.encode("utf-8", "replace")

    def _special(
        self,
        texts: Mapping[_Name, Iterator[str]],
        *,
        has_secret: bool,
        is_message: bool = False,
    ) -> SpecialFields:
        """Return what copies the fields of a line, or of its message, that are no plain JSON."""

        def fragment(key: str) -> Callable[[Any], Any]:
            def next_or_plain(value: Any) -> Any:
                is_text = isinstance(value, str)
                return next(texts[is_message, key]) if is_text else self._json(value)

            return next_or_plain

        def repeat(value: Any) -> Any:
            if not has_secret or not isinstance(value, list):
                return self._json(value)
            self.has_secret = self.has_secret or bool(value)
            return []

        def created_at(value: Any) -> Any:
            is_time = isinstance(value, str) and _is_timestamp(value)
            return value if is_time else self._json(value)

        def duration(value: Any) -> Any:
            return value if type(value) is int else self._json(value)

        def message(value: Any) -> Any:
            inner = self._special(texts, has_secret=has_secret, is_message=True)
            return self._json(value, inner)

        special: dict[str, Callable[[Any], Any]] = dict.fromkeys(_REPEATS, repeat)
        special |= {key: fragment(key) for key in _FRAGMENTS}
        special |= dict.fromkeys(_DURATIONS, duration)
        special["created_at"] = created_at
        return special if is_message else special | {"message": message}


def _tokens(logprobs: Sequence[Any]) -> str:
    tokens = (entry.get("token") for entry in logprobs if isinstance(entry, dict))
    return "".join(token for token in tokens if isinstance(token, str))


def _objects(body: bytes) -> list[dict[str, Any]] | None:
    """Read a body whose every line is an object, which nearly all are; None of any other."""
    try:
        lines = [from_json(line) for line in body.split(b"\n") if line]
    except ValueError:
        return None
    return lines if all(type(line) is dict for line in lines) else None


def _units(body: bytes) -> Iterator[_Unit]:
    """Cut a body into lines of JSON and the text between them, or find that it is one document."""
    lines = list(_lines(body))
    if lines and lines[0].value is NO_JSON and (whole := _structure(body)) is not NO_JSON:
        yield _Unit(lines[0].start, lines[-1].end, whole)
        return
    if lines and lines[-1].value is NO_JSON:
        lines[-1] = _perhaps_torn(body, lines[-1])
    for is_text, run in groupby(lines, lambda line: line.value is NO_JSON):
        units = list(run)
        yield from [_Unit(units[0].start, units[-1].end, NO_JSON)] if is_text else units


def _lines(body: bytes) -> Iterator[_Unit]:
    """Cut a body at line ends, which belong to no unit; blank lines are none."""
    end = -1
    for line in body.split(b"\n"):
        start, end = end + 1, end + 1 + len(line)
        if bare := line.strip():
            margin = 0 if line[:1] == bare[:1] else len(line) - len(line.lstrip())
            yield _Unit(start + margin, start + margin + len(bare), _structure(bare))


def _structure(document: bytes) -> Any:
    value = parsed(document)
    return value if isinstance(value, dict | list) else NO_JSON


def _perhaps_torn(body: bytes, line: _Unit) -> _Unit:
    # The cut may go through a character.
    text = body[line.start : line.end].decode("utf-8", "ignore")
    try:
        value = from_json(text, allow_partial="trailing-strings")
    except ValueError:
        return line
    is_line = isinstance(value, dict) and line.end == len(body)
    return line._replace(value=value, is_torn=True) if is_line else line
