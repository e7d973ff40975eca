"""The log's format: converts records to the JSON objects of its lines, and back; see FORMAT.md.

Each line has its version. A reader accepts all older versions, and ignores unknown keys and
events of its own version: adding those needs no new version. The table of facts defines keys and
types of the facts.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from ollama_otel._facts import FACTS, FactTable
from ollama_otel._log import old_versions
from ollama_otel._log.call import Chunk, RecordedCall
from ollama_otel._wire.endpoints import dialect_of, find_endpoint
from ollama_otel.context import CallContext
from ollama_otel.records import (
    CallCost,
    CallRecord,
    CallResilience,
    CallStart,
    Endpoint,
    ModelResidency,
    Outcome,
    Progress,
    RequestFacts,
    ResponseFacts,
    SpanIds,
    Truncation,
)

__all__ = [
    "LONGEST_LINE",
    "MOST_VALUES",
    "VERSION",
    "LoggedEnd",
    "LoggedStart",
    "call_from",
    "chunks_as_lists",
    "end_line",
    "event_from",
    "request_line",
    "timestamp",
]

VERSION: Final = 2
LONGEST_LINE: Final = 256 << 20
"""Most bytes of a line that a reader accepts; a small gzip may hold a line of any length."""
MOST_VALUES: Final = 10_000_000
"""Most JSON values in a line that a reader accepts; lines of this library have a tenth of that."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST_YEAR, _LAST_YEAR = 1970, 9998
"""Times of these years have a date in every time zone, and on every platform."""
_LONGEST_PAUSE: Final = 1e9
"""Seconds between two pieces; a player can wait that long."""
_ID_DIGITS: Final = 32
_SHOWN: Final = 100
"""Characters of an error message."""
_ABSENT: Final[Mapping[str, Any]] = {}


class _Request(Struct):
    """Keys of a request line that are not facts."""

    id: str
    at: str
    operation: str
    method: str
    path: str
    tags: dict[str, str] = {}
    changes: list[str] = []
    missing: str | None = None


class _End(Struct):
    """Keys of an end line that are not facts."""

    id: str
    outcome: Outcome
    ending: str
    duration: Annotated[float, Meta(ge=0, le=1e300)]
    at: str = ""
    """Not needed to read a call: cassettes that were edited may lack it."""
    chunks: list[Any] | None = None
    changes: list[str] = []
    missing: str | None = None


class LoggedStart(Struct, frozen=True, kw_only=True):
    """The request line of a call, read alone."""

    id: str
    at: str
    """RFC 3339."""
    start: CallStart
    prompt_digest: str | None = None
    """A hash that is equal for equal prompts; None if the log does not have the whole prompt."""


class LoggedEnd(Struct, frozen=True, kw_only=True):
    """The end line of a call, read alone; its start has operation and model only."""

    id: str
    at: str
    """RFC 3339."""
    record: CallRecord


def timestamp(nanoseconds: int) -> str:
    """Return a time since the epoch in RFC 3339, in UTC, to the microsecond."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1000:06}Z"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    """Return a whole second in RFC 3339; cached, as many lines share one."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


def _nanoseconds(time: str) -> int:
    at = datetime.fromisoformat(time)
    if not _FIRST_YEAR <= at.year <= _LAST_YEAR:
        raise ValueError(f"expected a year from {_FIRST_YEAR} to {_LAST_YEAR}, found {at.year}")
    return (at - _EPOCH) // _MICROSECOND * 1000


# --- writing ------------------------------------------------------------------------------


def request_line(
    call_id: str,
    start: CallStart,
    *,
    body: Any = None,
    changes: Iterable[str] = (),
    missing: str | None = None,
    facts: FactTable = FACTS,
) -> dict[str, Any]:
    """Return the line that is written before the request is sent.

    `body` is the request's redacted JSON; None if bodies are not logged.
    """
    line = {
        "v": VERSION,
        "event": "request",
        "id": call_id,
        "at": timestamp(start.started_at),
        **facts.request_values(start),
    }
    line["path"] = start.path or start.endpoint.path
    return line | _known(body=body, changes=sorted(changes), missing=missing)


def end_line(
    call_id: str,
    record: CallRecord,
    *,
    chunks: list[Any] | None = None,
    changes: Iterable[str] = (),
    missing: str | None = None,
    facts: FactTable = FACTS,
) -> dict[str, Any]:
    """Return the line that is written at the end; `chunks` comes from `chunks_as_lists`."""
    start = record.start
    line = {
        "v": VERSION,
        "event": "end",
        "id": call_id,
        "at": timestamp(start.started_at + round(record.duration * 1e9)),
        # So that an end line can be read alone.
        "operation": start.endpoint.name,
        **_known(model=start.request.model),
        **facts.end_values(record),
    }
    if chunks is not None:
        line["chunks"] = chunks
    return line | _known(changes=sorted(changes), missing=missing)


def _known(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value != []}


def chunks_as_lists(
    pieces: Sequence[bytes], arrivals: Sequence[float], sent_at: float
) -> list[list[Any]]:
    """Return pieces as `[seconds since the previous piece, text or {"base64": ...}]`.

    Times are rounded before they are subtracted, so that errors do not add up.
    """
    texts: list[str | dict[str, str]]
    try:
        # A call for each piece would take as long as the rest.
        texts = [piece.decode() for piece in pieces]
    except UnicodeDecodeError:
        texts = [_as_text(piece) for piece in pieces]
    chunks: list[list[Any]] = []
    before = 0
    for text, arrival in zip(texts, arrivals, strict=True):
        if not text:
            continue
        now = round((arrival - sent_at) * 1e6)
        chunks.append([(now - before) / 1e6, text])
        before = now
    return chunks


def _as_text(piece: bytes) -> str | dict[str, str]:
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(piece).decode()}


# --- reading ------------------------------------------------------------------------------


def call_from(
    request: Mapping[str, Any], end: Mapping[str, Any] | None, *, file: Path, line: int
) -> RecordedCall:
    """Build a call from its lines.

    Raises KeyError, TypeError or ValueError if they differ from those of `request_line` and
    `end_line`: a log may have been edited.
    """
    head, start = _start(request)
    tail, record = (None, None) if end is None else _record(start, end)
    return RecordedCall(
        id=head.id,
        start=start,
        record=record,
        request_body=request.get("body"),
        chunks=None if tail is None or tail.chunks is None else tuple(_chunks(tail.chunks)),
        request_changes=frozenset(head.changes),
        answer_changes=frozenset(() if tail is None else tail.changes),
        missing=(None if tail is None else tail.missing) or head.missing,
        file=file,
        line=line,
    )


def event_from(line: Mapping[str, Any]) -> LoggedStart | LoggedEnd | None:
    """Read one line alone; None if it is not an event of a call. Raises as `call_from`."""
    match line.get("event"):
        case "request":
            head, start = _start(line)
            digest = _prompt_digest(head, start, line.get("body"))
            return LoggedStart(id=head.id, at=head.at, start=start, prompt_digest=digest)
        case "end":
            operation, model = line.get("operation"), line.get("model")
            start = CallStart(
                endpoint=Endpoint(method="", path="", name=str(operation or "")),
                request=RequestFacts(model=model if isinstance(model, str) else None),
            )
            tail, record = _record(start, line)
            return LoggedEnd(id=tail.id, at=tail.at, record=record)
    return None


def _start(line: Mapping[str, Any]) -> tuple[_Request, CallStart]:
    head = _converted(line, _Request)
    fields = FACTS.fields(line, "request")
    start = CallStart(
        endpoint=_endpoint(head),
        request=RequestFacts(**fields.get("start.request", _ABSENT)),
        context=CallContext(**fields["start.context"]),
        started_at=_nanoseconds(head.at),
        span=_span(line),
        **fields["start"],
    )
    return head, start


def _prompt_digest(head: _Request, start: CallStart, body: Any) -> str | None:
    # Prompts that differ may be equal after redaction.
    if not isinstance(body, dict) or head.changes or start.request.purpose != "call":
        return None
    prompt = dialect_of(start.endpoint).prompt(start.endpoint, body)
    if prompt is None or not prompt.is_known or prompt.has_media:
        return None
    return hashlib.sha256(repr(prompt).encode("utf-8", "replace")).hexdigest()


def _endpoint(head: _Request) -> Endpoint:
    found = find_endpoint(head.method, head.path)
    return found or Endpoint(method=head.method, path=head.path, name=head.operation)


def _span(line: Mapping[str, Any]) -> SpanIds | None:
    if "trace_id" not in line or "span_id" not in line:
        return None
    return SpanIds(
        trace=_id(line["trace_id"]),
        span=_id(line["span_id"]),
        is_sampled=line.get("sampled", False),
    )


def _id(digits: str) -> int:
    if len(digits) > _ID_DIGITS or not digits.isalnum():
        raise ValueError(f"expected at most {_ID_DIGITS} hexadecimal digits, found {digits[:99]!r}")
    return int(digits, 16)


def _record(start: CallStart, line: Mapping[str, Any]) -> tuple[_End, CallRecord]:
    if line.get("v", VERSION) < VERSION:
        line = old_versions.upgraded_end(line)
    tail = _converted(line, _End)
    fields = FACTS.fields(line, "end")
    return tail, CallRecord(
        start=start,
        response=ResponseFacts(**fields.get("response", _ABSENT)),
        progress=Progress(**fields.get("progress", _ABSENT)),
        residency=ModelResidency(**fields.get("residency", _ABSENT)),
        resilience=CallResilience(**fields.get("resilience", _ABSENT)),
        truncation=Truncation(**fields.get("truncation", _ABSENT)),
        cost=CallCost(**fields.get("cost", _ABSENT)),
        **fields[""],
    )


def _converted(line: Mapping[str, Any], kind: Any) -> Any:
    try:
        return msgspec.convert(line, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


def _chunks(lists: Iterable[Sequence[Any]]) -> Iterator[Chunk]:
    microseconds = 0
    for delta, content in lists:
        if not abs(delta) <= _LONGEST_PAUSE:
            raise ValueError(f"expected the seconds between two pieces, found {delta!r}"[:_SHOWN])
        microseconds += round(delta * 1e6)
        data = content.encode() if isinstance(content, str) else base64.b64decode(content["base64"])
        yield Chunk(microseconds / 1e6, data)
