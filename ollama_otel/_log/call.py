"""A call as it was logged: the same values that an observer gets, and every piece that came."""

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
    """Seconds from the request to its arrival, to the microsecond."""
    data: bytes


def _no_clock() -> float:
    return 0.0


class RecordedCall(Struct, frozen=True, kw_only=True, dict=True):
    """One call out of a log."""

    id: str
    start: CallStart
    record: CallRecord | None
    """How it ended; None if it never did: its process was killed, or still runs."""
    request_body: Any
    """The request's JSON as logged; None if bodies were not logged."""
    chunks: tuple[Chunk, ...] | None
    """The response's body as it came; None if it was not logged."""
    request_changes: frozenset[str]
    """What was done to the request's body: `redacted`, `images`, `binary`."""
    answer_changes: frozenset[str]
    """What was done to the response's body: `redacted`, `images`, `vectors`, `decoded`."""
    missing: str | None
    """Why there is no body although bodies were logged; FORMAT.md has the list."""
    file: Path
    line: int
    """Where the request stands, counted from 1."""

    @property
    def trace_id(self) -> str | None:
        """32 hexadecimal digits: where to find the call in a trace back-end."""
        return self.start.trace_id

    @property
    def span_id(self) -> str | None:
        """16 hexadecimal digits."""
        return self.start.span_id

    @property
    def is_sampled(self) -> bool:
        """Whether the span was recorded at all."""
        return self.start.is_sampled

    @property
    def changes(self) -> frozenset[str]:
        """What was done to either body."""
        return self.request_changes | self.answer_changes

    @property
    def path(self) -> str:
        """The URL's path, as it was asked."""
        return self.start.path or self.start.endpoint.path

    @property
    def body(self) -> bytes | None:
        """The response's whole body; None if it was not logged."""
        return None if self.chunks is None else b"".join(chunk.data for chunk in self.chunks)

    @cached_property
    def conversation(self) -> Conversation | None:
        """What was asked; None if bodies were not logged, or the body is not a JSON object."""
        if not isinstance(self.request_body, dict):
            return None
        endpoint = self.start.endpoint
        return dialect_of(endpoint).conversation(endpoint, self.request_body)

    def answer(self) -> Message | None:
        """Return what a completion said; None if nothing was said, or nothing logged."""
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
