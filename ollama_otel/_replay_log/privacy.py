"""What may be stored of the bodies of a call: secrets go, and images and vectors unless kept.

Nothing here raises, whatever bytes come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ollama_otel._content import decoded_image
from ollama_otel._replay_log.answer_body import AnswerBody
from ollama_otel._replay_log.edits import omitted, recut, vectors_edit, within_replacement
from ollama_otel._replay_log.json_redaction import NO_JSON, JsonRedaction, parsed
from ollama_otel.redaction import BUILT_IN, is_innocent

__all__ = ["BodyPolicy"]

_Redactor = Callable[[str], str]

_UNCHANGED: frozenset[str] = frozenset()
_REDACTION_FAILED = "[redaction failed]"


class BodyPolicy:
    """Says what may be stored; the built-in redactors run first, then those given.

    When a redactor raises or returns no string, the text becomes `[redaction failed]`.
    """

    __slots__ = ("_given", "_keeps_media", "_redactors")

    def __init__(self, redactors: Sequence[_Redactor] = (), *, keeps_media: bool = False) -> None:
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

    def request(self, content: bytes) -> tuple[Any, frozenset[str]]:
        """Return the JSON to store of a request, and what was changed.

        Changes are `redacted`, `images` and `binary`: the last for a body that is no JSON.
        """
        if not content:
            return None, _UNCHANGED
        value = parsed(content)
        if value is NO_JSON:
            return omitted(content), frozenset({"binary"})
        body = _RequestBody(self.text, keeps_media=self._keeps_media)
        return body.copied(value), frozenset(body.changes)

    def answer(
        self, pieces: Sequence[bytes], *, holds_vectors: bool, echoes_secret: bool = False
    ) -> tuple[list[bytes], frozenset[str]]:
        """Return as many pieces to store of an answer, and what was changed.

        `echoes_secret` says that the request had one: a `context` repeats it as token ids,
        which no redactor can read. Changes are `redacted` and `vectors`. Pieces with nothing
        to take out are returned themselves; of the others only the lines that hold a secret
        are written anew.
        """
        kept = list(pieces)
        changes: set[str] = set()
        body = b"".join(kept)
        if holds_vectors and not self._keeps_media and (vectors := vectors_edit(body)):
            kept = recut(kept, [vectors], within_replacement)
            body = b"".join(kept)
            changes.add("vectors")
        if edits := AnswerBody(body, self.text, echoes_secret=echoes_secret).edits():
            kept = recut(kept, edits, within_replacement)
            changes.add("redacted")
        return kept, frozenset(changes)


class _RequestBody:
    """One request's body, and what was changed of it so far."""

    def __init__(self, redact: _Redactor, *, keeps_media: bool) -> None:
        self.changes: set[str] = set()
        self._redact = redact
        self._keeps_media = keeps_media
        self._json = JsonRedaction(self._text, on_hidden=lambda: self.changes.add("redacted"))

    def copied(self, value: Any) -> Any:
        """Return what may be stored of a request."""
        return self._json(value, {"images": self._images, "messages": self._messages})

    def _text(self, text: str) -> str:
        redacted = self._redact(text)
        if redacted != text:
            self.changes.add("redacted")
        return redacted

    def _messages(self, value: Any) -> Any:
        if not isinstance(value, list):
            return self._json(value)
        return [self._json(message, {"images": self._images}) for message in value]

    def _images(self, value: Any) -> Any:
        if not isinstance(value, list):
            return self._json(value)
        return [self._image(image) for image in value]

    def _image(self, value: Any) -> Any:
        if not isinstance(value, str):
            return self._json(value)
        if self._keeps_media:
            return value
        self.changes.add("images")
        return omitted(decoded_image(value))
