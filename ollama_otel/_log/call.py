"""A call as it was logged: the same values that an observer gets, and every piece that came."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ollama_otel._exchange.bodies import AnswerText, answer_for
from ollama_otel._wire.frozen import frozen
from ollama_otel.records import CallRecord, CallStart

__all__ = ["Chunk", "RecordedCall"]


class Chunk(NamedTuple):
    """One piece of an answer's body."""

    offset: float
    """Seconds from the request to its arrival, to the microsecond."""
    data: bytes


@frozen
class RecordedCall:
    """One call out of a log."""

    id: str
    start: CallStart
    """What was asked; `start.request.body` is the body, where bodies were logged."""
    record: CallRecord | None
    """How it ended; None of a call that never did: its process was killed, or still runs."""
    trace_id: str | None
    """32 hexadecimal digits; where to find the call in Jaeger."""
    span_id: str | None
    """16 hexadecimal digits."""
    is_sampled: bool
    """Whether the span was recorded at all."""
    chunks: tuple[Chunk, ...] | None
    """The answer's body as it came; None where it was not logged."""
    request_changes: frozenset[str]
    """What was done to the request's body: `redacted`, `images`, `binary`."""
    answer_changes: frozenset[str]
    """What was done to the answer's body: `redacted`, `images`, `vectors`, `decoded`."""
    missing: str | None
    """Why there is no body although bodies were logged: `queue_full`, `too_long`, `encoding`."""
    file: Path
    line: int
    """Where the request stands, counted from 1."""

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
        """The answer's whole body; None where it was not logged."""
        return None if self.chunks is None else b"".join(chunk.data for chunk in self.chunks)

    def answer(self) -> AnswerText | None:
        """Return what a completion said; None where nothing was said, or nothing logged."""
        if self.record is None or self.record.http_status is None or not self.chunks:
            return None
        record, request = self.record, self.start.request
        times = iter([chunk.offset for chunk in self.chunks])
        answer = answer_for(
            self.start.endpoint,
            # One reading when it begins, and one for each piece.
            clock=lambda: next(times, 0.0),
            status=self.record.http_status,
            is_stream=request.stream
            and not (record.content_type or "").startswith("application/json"),
            watches_tools=False,
            keeps_text=True,
        )
        for chunk in self.chunks:
            answer.feed(chunk.data)
        answer.facts()
        return answer.text()
