"""Finds secrets and media in a response's body, and rewrites the messages that hold them.

A stream may split a secret over many messages, so the fragments of each text are joined,
redacted, and divided into fragments again. The dialect declares which fields hold texts.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

from msgspec.json import Decoder, Encoder
from msgspec.structs import replace
from pydantic_core import from_json

from ollama_otel._log.edits import Edit, distributed
from ollama_otel._wire.dialect import Dialect, Fields, as_json
from ollama_otel._wire.lenient_json import NOT_JSON, parse
from ollama_otel.redaction._json import JsonRedaction, MediaCopier
from ollama_otel.redaction._names import secrecy

__all__ = ["ResponseBody"]

_TIMESTAMP: Final = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
    r"(?:Z|[+-][0-9]{2}:[0-9]{2})"
)
_is_timestamp = re.compile(_TIMESTAMP).fullmatch
_are_timestamps = re.compile(rf"(?:{_TIMESTAMP}(?:\n|\Z))*+").fullmatch

_decoder: Final = Decoder()
_decode = _decoder.decode
_encoder: Final = Encoder()
_encode = _encoder.encode
_ESCAPED: Final = ((b"\\u003c", b"<"), (b"\\u003e", b">"), (b"\\u0026", b"&"))
"""Characters that Go's encoder escapes in addition to those required by JSON."""
_LONGEST_NAME = 200
"""Characters; a longer text is checked alone, as it may be an image."""
_SAID: Final = frozenset(("text", "repeat"))
"""Kinds of fields that hold text."""
_LARGEST_COUNT = 10**12 - 1
"""Larger whole numbers may be those of payment cards."""

_Name = tuple[Any, ...]
"""Identifies a text of a stream: its keys, and the identity of its choice."""
_Texts = Mapping[_Name, Iterator[str]]


class _Unit(NamedTuple):
    """A message of a body, a body that is one document, or all text between two messages."""

    start: int
    end: int
    value: Any
    """An object or an array, or `NOT_JSON`."""
    is_torn: bool = False
    """Whether its end is missing."""
    is_ambiguous: bool = False
    """Whether an object has a key twice; all values but the last are lost in `value`."""


class _Place:
    """A place of objects in a response, with the fragments of their fields so far."""

    __slots__ = ("_fields", "_fragments", "_path", "_within", "identity", "inner", "kinds", "texts")

    def __init__(
        self, fields: Fields, path: _Name, fragments: defaultdict[_Name, list[str]]
    ) -> None:
        self._fields = fields
        self._path = path
        self._fragments = fragments
        self._within: dict[_Name, _Place] = {}
        self.identity = fields.identity
        self.kinds = fields.kinds
        self.inner = {
            key: _Place(inner, (*path, key), fragments) for key, inner in fields.inner.items()
        }
        self.texts = {
            key: fragments[*path, key] for key, kind in fields.kinds.items() if kind in _SAID
        }

    def within(self, *names: Any) -> _Place:
        """Return the place of one of several objects: a choice by its identity, or an item."""
        place = self._within.get(names)
        if place is None:
            fields = replace(self._fields, identity=())
            place = self._within[names] = _Place(fields, (*self._path, *names), self._fragments)
        return place


class ResponseBody:
    """One response's body, to be redacted."""

    def __init__(
        self,
        body: bytes,
        dialect: Dialect,
        redact: Callable[[str], str],
        *,
        echoes_secret: bool = False,
        media: MediaCopier | None = None,
    ) -> None:
        """`echoes_secret`: the request had a secret, or is unknown: the response may repeat it."""
        self.has_secret = False
        """Whether `edits` found a secret."""
        self.had_ids = False
        """Whether `edits` left out token ids."""
        self._body = body
        self._dialect = dialect
        repeats = [f'"{name}"'.encode() for name in _repeats_in(dialect.response_fields)]
        self._echoes_secret = echoes_secret and any(name in body for name in repeats)
        self._redact_text = redact
        self._known: dict[str, str] = {}
        self._json = JsonRedaction(self._text, on_hidden=self._found, media=media)
        self._repeats = JsonRedaction(self._text, on_hidden=self._found, media=media, guesses=False)
        self._fragments: dict[_Name, list[str]] = defaultdict(list)
        self._root = _Place(dialect.response_fields, (), self._fragments)
        self._others: set[str] = set()
        self._times: list[str] = []
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
        """Return the replacements, in the order of the body; usually none."""
        messages = self._objects()
        units = list(self._units()) if messages is None else []
        for message in messages or ():
            self._collect_object(message, self._root)
        for unit in units:
            self._collect(unit)
        redacted = self._redacted_texts()
        is_clean = not redacted and self._are_others_clean()
        if is_clean and not self._echoes_secret and not self.had_ids:
            return []
        texts = {
            name: iter(distributed(fragments, redacted[name]) if name in redacted else fragments)
            for name, fragments in self._fragments.items()
        }
        has_secret = self._echoes_secret or not is_clean
        return [
            Edit(unit.start, unit.end, new)
            for unit in units or self._units()
            if (new := self._rewritten(unit, texts, has_secret=has_secret)) is not None
        ]

    # --- collecting texts -----------------------------------------------------------------

    def _collect(self, unit: _Unit) -> None:
        if isinstance(unit.value, dict):
            self._collect_object(unit.value, self._root)
        else:
            self._is_clean = self._is_clean and self._rewritten(unit, {}) is None
        self._is_clean = self._is_clean and not unit.is_ambiguous
        if unit.is_torn:
            self._is_clean = self._is_clean and self._rewritten_text(unit) is None

    def _collect_object(  # noqa: C901 - the hot loop
        self, holder: Mapping[str, Any], place: _Place
    ) -> None:
        if place.identity:
            place = place.within(*(str(holder.get(key)) for key in place.identity))
        self._shapes.add(tuple(holder))
        kinds, inner, texts = place.kinds, place.inner, place.texts
        for key, value in holder.items():
            kind = type(value)
            if kind is str:
                field = kinds.get(key)
                if field == "text":
                    texts[key].append(value)
                elif len(value) > _LONGEST_NAME:
                    self._collect_other(key, value)
                elif field == "time":
                    self._times.append(value)
                else:
                    self._others.add(value)
            elif kind is dict and key in inner:
                self._collect_object(value, inner[key])
            elif kind is dict or kind is list:
                self._collect_array_or_object(key, value, place)
            elif kind is int and value > _LARGEST_COUNT and kinds.get(key) != "number":
                self._collect_other(key, value)

    def _collect_array_or_object(self, key: str, value: Any, place: _Place) -> None:
        if (inner := place.inner.get(key)) is not None:
            for number, item in enumerate(value):
                if isinstance(item, dict):
                    within = inner if inner.identity else inner.within(number)
                    self._collect_object(item, within)
                else:
                    self._collect_other(key, item)
            return
        kind = place.kinds.get(key)
        if kind == "ids":
            self.had_ids = self.had_ids or bool(value)
        elif kind == "repeat":
            place.texts[key].append(_tokens(value))
            self._is_clean = self._is_clean and self._repeats(value, key=key) == value
        else:
            self._collect_other(key, value)

    def _collect_other(self, key: str, value: Any) -> None:
        self._is_clean = self._is_clean and self._json(value, key=key) == value

    def _redacted_texts(self) -> dict[_Name, str]:
        texts = {name: "".join(bits) for name, bits in self._fragments.items() if bits}
        redacted = {name: self._redact(text) for name, text in texts.items()}
        return {name: text for name, text in redacted.items() if text != texts[name]}

    def _are_others_clean(self) -> bool:
        keys = {key for shape in self._shapes for key in shape}
        # One search over all is faster than one for each.
        if not _are_timestamps("\n".join(self._times)):
            self._others.update(time for time in self._times if not _is_timestamp(time))
        return (
            self._is_clean
            and not any(map(secrecy, keys))
            and all(self._text(other) == other for other in self._others | keys)
        )

    # --- rewriting ------------------------------------------------------------------------

    def _rewritten(self, unit: _Unit, texts: _Texts, *, has_secret: bool = False) -> bytes | None:
        """Return the new bytes of a unit; None if it does not change."""
        if unit.value is NOT_JSON:
            return self._rewritten_text(unit)
        value = self._copied(unit.value, self._dialect.response_fields, (), texts, has_secret)
        if value == unit.value and not unit.is_ambiguous:
            return self._rewritten_text(unit) if unit.is_torn else None
        self.has_secret = self.has_secret or unit.is_ambiguous
        line = as_json(value)
        # A truncated unit stays truncated: a reader must not find an end that never arrived.
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

    def _copied(
        self,
        value: Any,
        fields: Fields,
        path: _Name,
        texts: _Texts,
        has_secret: bool,  # noqa: FBT001
    ) -> Any:
        """Copy a message or an object in one; each kind of field is copied in its own way."""
        if not isinstance(value, dict):
            return self._json(value)
        path = _identified(path, fields, value)
        special: dict[str, Callable[[Any], Any]] = {
            key: self._copier(kind, (*path, key), texts, has_secret)
            for key, kind in fields.kinds.items()
        }
        for key, inner in fields.inner.items():
            special[key] = self._inner_copier(inner, (*path, key), texts, has_secret)
        return self._json(value, special)

    def _copier(
        self,
        kind: str,
        name: _Name,
        texts: _Texts,
        has_secret: bool,  # noqa: FBT001
    ) -> Callable[[Any], Any]:
        def fragment(value: Any) -> Any:
            return (
                next(texts[name]) if isinstance(value, str) and name in texts else self._json(value)
            )

        def repeat(value: Any) -> Any:
            if not has_secret or not isinstance(value, list):
                return self._repeats(value)
            self.has_secret = self.has_secret or bool(value)
            return []

        def ids(value: Any) -> Any:
            if not isinstance(value, list | dict):
                return self._json(value)
            self.had_ids = self.had_ids or bool(value)
            return []

        def time(value: Any) -> Any:
            is_time = isinstance(value, str) and _is_timestamp(value)
            return value if is_time else self._json(value)

        def number(value: Any) -> Any:
            return value if type(value) is int else self._json(value)

        copiers = {"text": fragment, "repeat": repeat, "ids": ids, "time": time, "number": number}
        return copiers[kind]

    def _inner_copier(
        self,
        fields: Fields,
        path: _Name,
        texts: _Texts,
        has_secret: bool,  # noqa: FBT001
    ) -> Callable[[Any], Any]:
        def inner(value: Any) -> Any:
            copies = [
                self._copied(item, fields, name, texts, has_secret)
                for name, item in _items(value, fields, path)
            ]
            return copies if isinstance(value, list) else copies[0]

        return inner

    # --- dividing the body ----------------------------------------------------------------

    def _objects(self) -> list[dict[str, Any]] | None:
        """Parse a body in which every message is an object; None for any other."""
        framing = self._dialect.framing
        if framing.has_other_lines:
            return None
        try:
            values = _decoder.decode_lines(self._body)
            if set(map(type, values)) != {dict}:
                return None
            if _are_as_written(values, self._body):
                return values
            payloads = [payload for payload in framing.payloads(self._body) if payload]
            values = [_decode(payload) for payload in payloads]
            return None if any(map(_is_ambiguous, payloads, values)) else values
        except (ValueError, TypeError, RecursionError):
            return None

    def _units(self) -> Iterator[_Unit]:
        """Divide a body into messages and the text between them, or into one document."""
        spans = self._dialect.framing.spans(self._body)
        lines = [self._structure(start, end) for start, end in spans]
        if lines and lines[0].value is NOT_JSON:
            whole = self._structure(lines[0].start, lines[-1].end)
            if whole.value is not NOT_JSON:
                yield whole
                return
        if lines and lines[-1].value is NOT_JSON:
            lines[-1] = self._parsed_partially(lines[-1])
        for is_text, run in groupby(lines, lambda line: line.value is NOT_JSON):
            units = list(run)
            yield from [_Unit(units[0].start, units[-1].end, NOT_JSON)] if is_text else units

    def _structure(self, start: int, end: int) -> _Unit:
        document = self._body[start:end]
        value = parse(document)
        if not isinstance(value, dict | list):
            return _Unit(start, end, NOT_JSON)
        return _Unit(start, end, value, is_ambiguous=_is_ambiguous(document, value))

    def _parsed_partially(self, line: _Unit) -> _Unit:
        # The body may end within a character.
        text = self._body[line.start : line.end].decode("utf-8", "ignore")
        try:
            value = from_json(text, allow_partial="trailing-strings")
        except ValueError:
            return line
        is_message = isinstance(value, dict) and line.end == len(self._body)
        return line._replace(value=value, is_torn=True) if is_message else line


def _as_encoded(document: bytes) -> bytes:
    """Return JSON of Go's encoder as ours would write it, if only escapes differ."""
    if b"\\u00" in document:
        for escaped, plain in _ESCAPED:
            document = document.replace(escaped, plain)
    return document


def _are_as_written(values: list[Any], body: bytes) -> bool:
    """Whether a body equals these values, one per line; then no key occurs twice."""
    lines = _encoder.encode_lines(values)
    body = _as_encoded(body)
    return lines == body or lines[:-1] == body


def _is_ambiguous(document: bytes, value: Any) -> bool:
    """Whether an object in a JSON document has a key twice; `value` has the last of each."""
    try:
        if _encode(value) == _as_encoded(document):
            return False
    except (ValueError, TypeError, RecursionError):
        # Half a surrogate pair; the document is looked at below.
        pass
    is_ambiguous = False

    def keys(pairs: list[tuple[str, Any]]) -> None:
        nonlocal is_ambiguous
        is_ambiguous = is_ambiguous or len({key for key, _ in pairs}) < len(pairs)

    try:
        json.loads(document, object_pairs_hook=keys)
    except (ValueError, RecursionError):
        return True
    return is_ambiguous


def _identified(path: _Name, fields: Fields, holder: Mapping[str, Any]) -> _Name:
    if not fields.identity:
        return path
    return (*path, *(str(holder.get(key)) for key in fields.identity))


def _items(value: Any, fields: Fields, path: _Name) -> list[tuple[_Name, Any]]:
    """Return the objects under a key with their paths; list items without identity by index."""
    if not isinstance(value, list):
        return [(path, value)]
    if fields.identity:
        return [(path, item) for item in value]
    return [((*path, number), item) for number, item in enumerate(value)]


def _repeats_in(fields: Fields) -> set[str]:
    own = {key for key, kind in fields.kinds.items() if kind == "repeat"}
    return own.union(*map(_repeats_in, fields.inner.values()))


def _tokens(repeats: Sequence[Any] | Mapping[str, Any]) -> str:
    """Join the tokens of log probabilities, over which a secret may be split."""
    if isinstance(repeats, dict):
        return "".join(_tokens(value) for value in repeats.values() if isinstance(value, list))
    tokens = (entry.get("token") for entry in repeats if isinstance(entry, dict))
    return "".join(token for token in tokens if isinstance(token, str))
