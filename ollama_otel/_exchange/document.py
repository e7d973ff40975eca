"""Bodies that are one JSON document, read at their end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from ollama_otel._exchange.body import BodyReader
from ollama_otel._wire.dialect import Dialect
from ollama_otel._wire.lenient_json import (
    LARGE,
    NOT_JSON,
    VALUES,
    VALUES_BESIDE_VECTORS,
    is_costly,
    parse,
    parse_message,
    parse_object,
)
from ollama_otel.records import Endpoint, Message, ResponseFacts

__all__ = ["Document"]

_MAX_DOCUMENT = 8 * 1024 * 1024
"""Bytes of a body that are kept until its end."""
_MAX_ERROR = 1024 * 1024
"""Bytes of an error that are kept: its text is at the beginning."""
_MAX_CHECKED = 64 * 1024
"""Bytes of a body without facts that are kept, to see whether it is JSON."""
_MAX_TAIL = 4096
"""Bytes kept of the end of longer vectors: the counts come after them."""


class Document(BodyReader):
    """A body that is one JSON document, or not JSON at all."""

    __slots__ = (
        "_endpoint",
        "_first",
        "_has_facts",
        "_is_stream",
        "_kept",
        "_kept_size",
        "_last",
        "_latest_length",
        "_most",
        "_tail",
        "_whole",
    )

    def __init__(
        self,
        dialect: Dialect,
        clock: Callable[[], float],
        endpoint: Endpoint,
        *,
        is_success: bool,
        is_stream: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(dialect, clock, **options)
        self._endpoint = endpoint
        self._has_facts = endpoint.response != "opaque" or not is_success
        self._is_stream = is_stream
        """Whether the caller asked for a stream, and so reads line by line."""
        self._kept: list[bytes] = []
        self._kept_size = 0
        self._most = _MAX_DOCUMENT if is_success else _MAX_ERROR
        if not self._has_facts:
            self._most = _MAX_CHECKED
        self._whole: bytes | None = None
        self._latest_length = 0
        self._first = b""
        self._last = b""
        self._tail = b""

    def _look(self) -> None:
        pieces = self._pieces
        for data in pieces if len(pieces) == 1 else self._joined(pieces):
            for part in self._parts(data):
                if part:
                    self._take(part)

    def _take(self, data: bytes) -> None:
        size = self._latest_length = len(data)
        self._first = self._first or data[:64].lstrip()
        self._last = data[-64:].rstrip() or self._last
        self._whole = None
        room = self._most - self._kept_size
        if size <= room:
            # A reference, not a copy: the caller holds the same bytes.
            self._kept.append(data)
            self._kept_size += size
            return
        self._kept.append(data[:room])
        self._kept_size += room
        self._pass_over(data[room:])

    def _pass_over(self, data: bytes) -> None:
        """Count a piece that exceeds the kept size."""
        if not self._has_facts:
            self._kept.clear()
        elif self._endpoint.response == "embedding":
            self._tail = (self._tail + data[-_MAX_TAIL:])[-_MAX_TAIL:]
        else:
            self.is_unreadable = True

    @property
    def start(self) -> bytes:
        if self._whole is None:
            self._whole = b"".join((*self._kept, self._tail))
        return self._whole

    @property
    def is_malformed(self) -> bool:
        """Whether it is certainly not a complete JSON document."""
        if self.is_unreadable or not self._first:
            return False
        if self._first[:1] not in b"{[" or self._last[-1:] not in b"}]":
            return True
        if not self._has_facts:
            return bool(self._kept) and parse(self.start) is NOT_JSON
        if self._endpoint.response == "embedding":
            return self._contradicts_facts()
        # A stream may call itself a document.
        line = self.start.rstrip().rpartition(b"\n")[2]
        return (parse_message(line) if self._is_stream else parse_object(self.start)) is None

    @property
    def is_refused(self) -> bool:
        if super().is_refused or not self._is_stream or self.is_unreadable:
            return super().is_refused
        body = self.start
        begin = body.rfind(b"\n", 0, max(0, len(body) - self._latest_length)) + 1
        return self.dialect.is_foreign(body[begin : body.rfind(b"\n") + 1])

    def _read(self) -> ResponseFacts:
        if self._kept_size > LARGE and self._is_costly():
            self.is_unreadable = True
        if self._endpoint.response == "opaque":
            return ResponseFacts(done=not self.is_malformed)
        if self.is_unreadable:
            return ResponseFacts()
        facts = self.dialect.read_document(self._endpoint, self.start)
        if facts.done and self._contradicts_facts():
            return replace(facts, done=False)
        return facts

    def _is_costly(self) -> bool:
        # Everything is parsed except the vectors.
        is_vectors = self._endpoint.response == "embedding"
        return is_costly(self.start, VALUES_BESIDE_VECTORS if is_vectors else VALUES)

    def _contradicts_facts(self) -> bool:
        """Whether the caller cannot read the document, although facts are found in it.

        Its vectors are not parsed, or it is several lines for a request that does not stream.
        """
        body = self.start
        if self._endpoint.response == "embedding" and not _is_text(body):
            return True
        if self._is_stream or self._tail or b"\n" not in body.strip():
            return False
        return parse_object(body) is None

    def answer(self) -> Message | None:
        if not self._keeps_content or self._endpoint.response != "completion":
            return None
        if self.is_unreadable:
            return None
        messages = self.dialect.document_messages(self.start)
        return self.dialect.joined(messages, is_cut=False) if messages else None


def _is_text(body: bytes) -> bool:
    """Whether a body may be JSON: it is UTF-8, without a NUL character."""
    if b"\0" in body:
        return False
    if body.isascii():
        return True
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
