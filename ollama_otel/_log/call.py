"""A logged call: the values that an observer gets, and every piece of the response."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct

from ollama_otel._exchange.exchange import body_reader
from ollama_otel._wire.endpoints import dialect_of
from ollama_otel.records import CallRecord, CallStart, Conversation, Message

__all__ = ["Chunk", "RecordedCall"]


class Chunk(NamedTuple):
    """One piece of a response's body."""

    offset: float
    """Seconds from the request to the piece's arrival, to the microsecond."""
    data: bytes
    """The bytes, as received."""


def _no_clock() -> float:
    return 0.0


class RecordedCall(Struct, frozen=True, kw_only=True, dict=True):
    """One call of a log."""

    id: str
    """Unique within the log."""
    start: CallStart
    record: CallRecord | None
    """The finished call; None if it has no end: its process was killed, or still runs."""
    request_body: Any
    """The request's JSON as logged; None if bodies were not logged."""
    chunks: tuple[Chunk, ...] | None
    """The pieces of the response's body; None if it was not logged."""
    request_changes: frozenset[str]
    """Changes to the request's body: `redacted`, `images`, `token_ids`, `binary`."""
    answer_changes: frozenset[str]
    """Changes to the response's body: `redacted`, `images`, `token_ids`,
    `vectors`, `decoded`.
    """
    missing: str | None
    """Why there is no body although bodies were logged; FORMAT.md has the list."""
    file: Path
    line: int
    """Line of the request in `file`, counted from 1."""

    @property
    def trace_id(self) -> str | None:
        """32 hexadecimal digits; None if there was no span."""
        return self.start.trace_id

    @property
    def span_id(self) -> str | None:
        """16 hexadecimal digits; None if there was no span."""
        return self.start.span_id

    @property
    def is_sampled(self) -> bool:
        """Whether the span was recorded."""
        return self.start.is_sampled

    @property
    def changes(self) -> frozenset[str]:
        """Changes to either body."""
        return self.request_changes | self.answer_changes

    @property
    def path(self) -> str:
        """The URL's path, as sent."""
        return self.start.path or self.start.endpoint.path

    @property
    def body(self) -> bytes | None:
        """The response's whole body; None if it was not logged."""
        return None if self.chunks is None else b"".join(chunk.data for chunk in self.chunks)

    @cached_property
    def conversation(self) -> Conversation | None:
        """The request's content; None if its body was not logged, or is not a JSON object."""
        if not isinstance(self.request_body, dict):
            return None
        endpoint = self.start.endpoint
        return dialect_of(endpoint).conversation(endpoint, self.request_body)

    def answer(self) -> Message | None:
        """Return the answer of a completion; None if it is empty or was not logged."""
        return self._answer

    @cached_property
    def _answer(self) -> Message | None:
        record = self.record
        if record is None or record.http_status is None or not self.chunks:
            return None
        reader = body_reader(
            self.start,
            record.http_status,
            record.content_type or "",
            clock=_no_clock,
            keeps_content=True,
        )
        for chunk in self.chunks:
            reader.take_whole(chunk.data)
        reader.facts()
        return reader.answer()
