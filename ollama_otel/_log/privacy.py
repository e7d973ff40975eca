"""Redacts the bodies of a call; also removes images and vectors unless they are kept.

It does not raise, whatever the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ollama_otel._log.edits import Edit, recut, within_replacement
from ollama_otel._log.json_redaction import JsonRedaction
from ollama_otel._log.response_body import ResponseBody
from ollama_otel._wire.dialect import Dialect, Fields, as_json
from ollama_otel._wire.lenient_json import NOT_JSON, parse
from ollama_otel._wire.media import decoded_media, omitted
from ollama_otel.redaction import BUILT_IN, Redactor, is_innocent

__all__ = ["BodyPolicy"]

_UNCHANGED: frozenset[str] = frozenset()
_HARMLESS: Final = frozenset((bool, float))
_NO_FIELDS: Final = Fields()
_REDACTION_FAILED = "[redaction failed]"

_LONGEST_NAME = 200
"""Characters; a longer text that begins with as much base64 is an image, not its file name."""
_is_base64 = re.compile(rf"[A-Za-z0-9+/=_\r\n-]{{{_LONGEST_NAME}}}").match
_DATA_URL = "data:image/"


class BodyPolicy:
    """Redacts bodies and facts; the built-in redactors run first, then the given ones.

    If a redactor raises or does not return a string, the text becomes `[redaction failed]`.
    """

    __slots__ = ("_given", "_keeps_media", "_redactors")

    def __init__(self, redactors: Sequence[Redactor] = (), *, keeps_media: bool = False) -> None:
        self._given = tuple(redactors)
        self._redactors = (*BUILT_IN, *redactors)
        self._keeps_media = keeps_media

    def text(self, value: str) -> str:
        """Return a text without secrets."""
        redacted = value
        for redactor in self._given if is_innocent(value) else self._redactors:
            try:
                result: object = redactor(redacted)
            except Exception:  # noqa: BLE001  a redactor is foreign code; its error may quote the text
                return _REDACTION_FAILED
            if not isinstance(result, str):
                return _REDACTION_FAILED
            redacted = result
        return redacted

    def values(self, value: Any) -> Any:
        """Return a copy of a JSON value without secrets; tuples become lists."""
        return JsonRedaction(self.text, on_hidden=lambda: None)(value)

    @staticmethod
    def covers(dialect: Dialect) -> bool:
        """Whether bodies may be stored: only if the dialect declares its text fields.

        Otherwise a secret that is split over messages of a stream could not be found.
        """
        return dialect.response_fields != _NO_FIELDS

    def facts(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of facts without secrets."""
        copied = JsonRedaction(self.text, on_hidden=lambda: None)
        return {
            name: fact if type(fact) in _HARMLESS else copied(fact) for name, fact in facts.items()
        }

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

        images = _Images(dialect, keeps_them=self._keeps_media)
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
        if holds_vectors and not self._keeps_media and (edit := _vectors_edit(body, dialect)):
            kept = recut(kept, [edit], within_replacement)
            body = b"".join(kept)
            changes.add("vectors")
        images = _Images(dialect, keeps_them=self._keeps_media)
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

    def __init__(self, dialect: Dialect, *, keeps_them: bool) -> None:
        self.were_omitted = False
        self._dialect = dialect
        self._keeps_them = keeps_them

    def copied_of_request(self, key: str, text: str) -> Any:
        """Return the replacement of a request's string if it is an image, else None."""
        is_image = key in self._dialect.request_media or text.startswith(_DATA_URL)
        return self._copied(text) if is_image else None

    def copied_of_data(self, key: str, text: str) -> Any:
        """Return the replacement of a string in a request's own data, such as tool arguments."""
        is_image = text.startswith(_DATA_URL) or (
            key in self._dialect.request_media and len(text) > _LONGEST_NAME and _is_base64(text)
        )
        return self._copied(text) if is_image else None

    def copied_of_response(self, key: str, text: str) -> Any:
        """Return the replacement of a response's string if it is an image, else None."""
        if len(text) <= _LONGEST_NAME:
            return None
        is_image = text.startswith(_DATA_URL) or (
            key in self._dialect.response_media and _is_base64(text)
        )
        return self._copied(text) if is_image else None

    def _copied(self, text: str) -> Any:
        if self._keeps_them:
            return text
        self.were_omitted = True
        header, _, content = text.partition(",")
        is_encoded = header.startswith(_DATA_URL) and header.endswith(";base64")
        return omitted(decoded_media(content if is_encoded else text))
