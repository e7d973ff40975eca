"""What may be stored of the bodies of a call: secrets go, and images and vectors unless kept.

Nothing here raises, whatever bytes come.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ollama_otel._log.answer_body import AnswerBody
from ollama_otel._log.edits import Edit, recut, within_replacement
from ollama_otel._log.json_redaction import JsonRedaction
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
"""Characters; what is longer, and base64 up to there, is the image and not its name."""
_is_base64 = re.compile(rf"[A-Za-z0-9+/=_\r\n-]{{{_LONGEST_NAME}}}").match
_DATA_URL = "data:image/"


class BodyPolicy:
    """Says what may be stored; the built-in redactors run first, then those given.

    When a redactor raises or returns no string, the text becomes `[redaction failed]`.
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
        """Whether bodies may be stored: not if the dialect does not say where texts stand.

        A secret that is split over messages of a stream could not be found.
        """
        return dialect.response_fields != _NO_FIELDS

    def facts(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of facts without secrets; their names are this library's own."""
        copied = JsonRedaction(self.text, on_hidden=lambda: None)
        return {
            name: fact if type(fact) in _HARMLESS else copied(fact) for name, fact in facts.items()
        }

    def request(self, content: bytes, dialect: Dialect) -> tuple[Any, frozenset[str]]:
        """Return the JSON to store of a request, and what was changed.

        Changes are `redacted`, `images` and `binary`: the last for a body that is not JSON.
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
            redact, on_hidden=lambda: changes.add("redacted"), media=images.copied_of_request
        )
        stored = copied(value)
        return stored, frozenset(changes | {"images"} if images.were_omitted else changes)

    def answer(
        self,
        pieces: Sequence[bytes],
        dialect: Dialect,
        *,
        holds_vectors: bool,
        echoes_secret: bool = False,
    ) -> tuple[list[bytes], frozenset[str]]:
        """Return as many pieces to store of an answer, and what was changed.

        `echoes_secret` says that the request had one: a response may repeat it as token ids, which
        no redactor can read. Changes are `redacted`, `images` and `vectors`. Pieces with
        nothing to take out are returned themselves; of the others only the lines that hold a
        secret or an image are written anew.
        """
        kept = list(pieces)
        changes: set[str] = set()
        body = b"".join(kept)
        if holds_vectors and not self._keeps_media and (edit := _vectors_edit(body, dialect)):
            kept = recut(kept, [edit], within_replacement)
            body = b"".join(kept)
            changes.add("vectors")
        images = _Images(dialect, keeps_them=self._keeps_media)
        answer = AnswerBody(
            body,
            dialect,
            self.text,
            echoes_secret=echoes_secret,
            media=images.copied_of_answer,
        )
        if edits := answer.edits():
            kept = recut(kept, edits, within_replacement)
            changes |= {"redacted"} if answer.has_secret else set()
            changes |= {"images"} if images.were_omitted else set()
        return kept, frozenset(changes)


def _vectors_edit(body: bytes, dialect: Dialect) -> Edit[bytes] | None:
    """Return what takes the vectors out of an embedding response; None if there are none."""
    span = dialect.vectors(body)
    if span is None or span.is_omitted:
        return None
    mark = {**omitted(body[span.start : span.end]), "count": span.count}
    return Edit(span.start, span.end, as_json(mark))


class _Images:
    """Copies the images of one body, or says that they are omitted."""

    def __init__(self, dialect: Dialect, *, keeps_them: bool) -> None:
        self.were_omitted = False
        self._dialect = dialect
        self._keeps_them = keeps_them

    def copied_of_request(self, key: str, text: str) -> Any:
        """Return what stands for a string of a request that is an image, else None."""
        is_image = key in self._dialect.request_media or text.startswith(_DATA_URL)
        return self._copied(text) if is_image else None

    def copied_of_answer(self, key: str, text: str) -> Any:
        """Return what stands for a string of an answer that is an image, else None."""
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
