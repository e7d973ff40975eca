"""Redacts the bodies of a call; also removes images and vectors unless they are kept.

It never raises, for any bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from ollama_otel._log.edits import Edit, recut, within_replacement
from ollama_otel._log.response_body import ResponseBody
from ollama_otel._wire.dialect import Dialect, Fields, as_json
from ollama_otel._wire.lenient_json import NOT_JSON, parse
from ollama_otel._wire.media import data_urls, encoded_bytes, is_data_url, is_media, omitted
from ollama_otel.redaction import Redactor, is_innocent, redact
from ollama_otel.redaction._given import run_given
from ollama_otel.redaction._json import JsonRedaction

__all__ = ["BodyPolicy", "KeptMedia"]

KeptMedia = bool | Literal["answers"]
"""Which images and vectors are kept: all, those of answers only, or none."""

_UNCHANGED: frozenset[str] = frozenset()
_HARMLESS: Final = frozenset((bool, float))
_LONGEST_REMEMBERED: Final = 64
"""Characters."""
_MOST_REMEMBERED: Final = 2048
_NO_FIELDS: Final = Fields()

_LONGEST_NAME = 200
"""Characters; a text that begins with this much base64 is an image, not a file name."""
_is_base64 = re.compile(rf"[A-Za-z0-9+/=_\r\n-]{{{_LONGEST_NAME}}}").match


class BodyPolicy:
    """Redacts bodies and facts; the built-in redactors run first, then the given ones.

    If a redactor raises or does not return a string, the text becomes `[redaction failed]`.
    """

    __slots__ = ("_clean", "_facts", "_given", "_keeps_answered", "_keeps_asked")

    def __init__(
        self, redactors: Sequence[Redactor] = (), *, keeps_media: KeptMedia = False
    ) -> None:
        self._given = tuple(redactors)
        self._clean: set[str] = set()
        """Cache of short texts that the built-in redactors do not change, as names and options
        recur.
        """
        self._facts = JsonRedaction(self.text, on_hidden=lambda: None)
        self._keeps_asked = keeps_media is True
        self._keeps_answered = bool(keeps_media)

    def text(self, value: str) -> str:
        """Return a text without secrets."""
        if value in self._clean:
            return run_given(self._given, value) if self._given else value
        found = value if is_innocent(value) else redact(value)
        if found == value and len(value) <= _LONGEST_REMEMBERED:
            if len(self._clean) >= _MOST_REMEMBERED:
                self._clean.clear()
            self._clean.add(value)
        return run_given(self._given, found)

    def values(self, value: Any) -> Any:
        """Return a copy of a JSON value without secrets; tuples become lists."""
        return self._facts(value)

    @staticmethod
    def covers(dialect: Dialect) -> bool:
        """Whether bodies may be stored: only if the dialect declares its text fields.

        Otherwise a secret that is split over messages of a stream could not be found.
        """
        return dialect.response_fields != _NO_FIELDS

    def facts(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of facts without secrets; a count that looks like a secret is left out.

        A text in its place would have the wrong type.
        """
        copies = {
            name: fact if type(fact) in _HARMLESS else self._fact(fact)
            for name, fact in facts.items()
        }
        return {name: copy for name, copy in copies.items() if copy is not None}

    def _fact(self, fact: Any) -> Any:
        copied = self._facts(fact)
        return None if type(fact) is int and type(copied) is not int else copied

    def request(self, content: bytes, dialect: Dialect) -> tuple[Any, frozenset[str]]:
        """Return the JSON of a request to store, and the changes to it.

        Changes are `redacted`, `images`, `token_ids` (left out) and `binary` (the body
        is not JSON).
        """
        if not content:
            return None, _UNCHANGED
        value = parse(content)
        if value is NOT_JSON:
            return omitted(content), frozenset({"binary"})
        changes: set[str] = set()

        def redact(text: str) -> str:
            redacted = self.text(text)
            if redacted != text:
                changes.add("redacted")
            return redacted

        images = _Images(dialect, redact, keeps_them=self._keeps_asked)
        copied = JsonRedaction(
            redact,
            on_hidden=lambda: changes.add("redacted"),
            media=images.copied_of_request,
            nested=dict.fromkeys(dialect.request_data, images.copied_of_data),
        )

        def without_ids(ids: Any) -> Any:
            if not isinstance(ids, list) or not ids:
                return copied(ids)
            changes.add("token_ids")
            return []

        stored = copied(value, dict.fromkeys(dialect.request_ids, without_ids))
        return stored, frozenset(changes | {"images"} if images.were_omitted else changes)

    def without_media(self, stored: Any, dialect: Dialect) -> Any:
        """Return a copy of a request's JSON as it would be stored now, with marks for images."""
        images = _Images(dialect, self.text, keeps_them=False)
        copied = JsonRedaction(
            str,
            on_hidden=lambda: None,
            media=images.copied_of_request,
            nested=dict.fromkeys(dialect.request_data, images.copied_of_data),
        )
        return copied(stored)

    def response(
        self,
        pieces: Sequence[bytes],
        dialect: Dialect,
        *,
        holds_vectors: bool,
        echoes_secret: bool = False,
    ) -> tuple[list[bytes], frozenset[str]]:
        """Return the pieces of a response to store, the same number, and the changes to them.

        `echoes_secret`: the request had a secret or is unknown, and the response may repeat it
        in log probabilities, where no redactor finds it. Changes are `redacted`, `images`,
        `token_ids` and `vectors`. Only the lines that hold one of these are rewritten.
        """
        kept = list(pieces)
        changes: set[str] = set()
        body = b"".join(kept)
        if holds_vectors and not self._keeps_answered and (edit := _vectors_edit(body, dialect)):
            kept = recut(kept, [edit], within_replacement)
            body = b"".join(kept)
            changes.add("vectors")
        images = _Images(dialect, self.text, keeps_them=self._keeps_answered)
        response = ResponseBody(
            body,
            dialect,
            self.text,
            echoes_secret=echoes_secret,
            media=images.copied_of_response,
        )
        if edits := response.edits():
            kept = recut(kept, edits, within_replacement)
            changes |= {"redacted"} if response.has_secret else set()
            changes |= {"token_ids"} if response.had_ids else set()
            changes |= {"images"} if images.were_omitted else set()
        return kept, frozenset(changes)


def _vectors_edit(body: bytes, dialect: Dialect) -> Edit[bytes] | None:
    """Return the edit that removes the vectors of a response; None if there are none."""
    span = dialect.vectors(body)
    if span is None or span.is_omitted:
        return None
    mark = {**omitted(body[span.start : span.end]), "count": span.count}
    return Edit(span.start, span.end, as_json(mark))


class _Images:
    """Copies the images of one body, or replaces them by marks."""

    def __init__(self, dialect: Dialect, redact: Redactor, *, keeps_them: bool) -> None:
        self.were_omitted = False
        self._dialect = dialect
        self._redact = redact
        self._keeps_them = keeps_them

    def copied_of_request(self, key: str, text: str) -> Any:
        """Return the replacement of a request's string if it has an image, else None."""
        if key in self._dialect.request_media or is_data_url(text):
            return self._copied(text)
        return None if self._keeps_them else self._without_images_within(text)

    def copied_of_data(self, key: str, text: str) -> Any:
        """Return the replacement of a string in a request's own data, such as tool arguments."""
        is_image = key in self._dialect.request_media and (
            len(text) > _LONGEST_NAME and _is_base64(text)
        )
        if is_image or is_data_url(text):
            return self._copied(text)
        return None if self._keeps_them else self._without_images_within(text)

    def copied_of_response(self, key: str, text: str) -> Any:
        """Return the replacement of a response's string if it is an image, else None."""
        if len(text) <= _LONGEST_NAME:
            return None
        is_image = is_data_url(text) or (key in self._dialect.response_media and _is_base64(text))
        return self._copied(text) if is_image else None

    def _copied(self, text: str) -> Any:
        if self._keeps_them:
            # A text that contains more than an image is redacted like any text.
            return text if is_media(text) else None
        self.were_omitted = True
        content = encoded_bytes(text)
        if content is None:
            # A hash of a short secret could be reversed.
            content = self._redact(text).encode("utf-8", "replace")
        return omitted(content)

    def _without_images_within(self, text: str) -> str | None:
        """Return a text with marks in place of images in `data:` URLs; None if it has none."""
        kept: list[str] = []
        position = 0
        for start, end, content in data_urls(text):
            kept += [self._redact(text[position:start]), as_json(omitted(content)).decode()]
            position = end
        if not kept:
            return None
        self.were_omitted = True
        return "".join([*kept, self._redact(text[position:])])
