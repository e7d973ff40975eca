"""The log's format: between values and the JSON objects of its lines. README describes each field.

Each line says its version. A reader takes all older ones, and of its own one it passes
over keys and events that it does not know: adding those makes no new version.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from ollama_otel._log import shapes
from ollama_otel._log.call import Chunk, RecordedCall
from ollama_otel._wire.endpoints import Endpoint, find_endpoint
from ollama_otel._wire.native import Progress, RequestFacts, ResponseFacts
from ollama_otel.context import CallContext
from ollama_otel.records import CallRecord, CallStart

__all__ = ["VERSION", "call_from", "chunks_as_lists", "end_line", "request_line", "timestamp"]

VERSION: Final = 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _default(row: Field[Any]) -> Any:
    return row.default if row.default_factory is MISSING else row.default_factory()


def _defaults(cls: type, *without: str) -> tuple[tuple[str, Any], ...]:
    return tuple((row.name, _default(row)) for row in fields(cls) if row.name not in without)


_REQUEST = _defaults(RequestFacts, "body")
_RESPONSE = _defaults(ResponseFacts)
_TIMES = ("duration", "time_to_first_chunk", "time_to_first_answer", "longest_gap")
_TUPLES = ("tools", "tool_calls")


def timestamp(nanoseconds: int) -> str:
    """Return a time since the epoch in RFC 3339, in UTC, to the microsecond."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    time = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    return f"{time.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _nanoseconds(time: str) -> int:
    return (datetime.fromisoformat(time) - _EPOCH) // _MICROSECOND * 1000


def _known(facts: object, rows: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return what differs from not known."""
    known = {
        name: value
        for name, default in rows
        if (value := getattr(facts, name)) != default or type(value) is not type(default)
    }
    for name in _TUPLES:
        if name in known:
            known[name] = list(known[name])
    return known


def _facts(
    cls: Callable[..., Any], known: frozenset[str], values: Mapping[str, Any], body: Any = None
) -> Any:
    shapes.check_facts(values)
    given = {
        name: tuple(value) if name in _TUPLES else value
        for name, value in values.items()
        if name in known
    }
    return cls(**given) if body is None else cls(**given, body=body)


_REQUEST_NAMES = frozenset(name for name, _ in _REQUEST)
_RESPONSE_NAMES = frozenset(name for name, _ in _RESPONSE)
_PROGRESS_NAMES = frozenset(row.name for row in fields(Progress))


# --- writing ------------------------------------------------------------------------------


def request_line(
    call_id: str,
    start: CallStart,
    *,
    trace_id: int = 0,
    span_id: int = 0,
    is_sampled: bool = False,
    body: Any = None,
    changes: Iterable[str] = (),
    missing: str | None = None,
) -> dict[str, Any]:
    """Return the line that is written before the request is sent.

    `body` is what may be stored of the request's JSON; None where bodies are not logged.
    """
    context = start.context
    line: dict[str, Any] = {
        "v": VERSION,
        "event": "request",
        "id": call_id,
        "at": timestamp(start.started_at),
        "operation": start.endpoint.name,
        "method": start.endpoint.method,
        "path": start.path or start.endpoint.path,
        "server": start.server_address,
        "port": start.server_port,
        "trace_id": f"{trace_id:032x}" if trace_id else None,
        "span_id": f"{span_id:016x}" if span_id else None,
        "sampled": True if is_sampled else None,
        "conversation_id": context.conversation_id,
        "user_id": context.user_id,
        "tags": dict(context.tags) or None,
        "request": _known(start.request, _REQUEST),
        "body": body,
        "changes": sorted(changes) or None,
        "missing": missing,
    }
    return {name: value for name, value in line.items() if value is not None}


def end_line(
    call_id: str,
    record: CallRecord,
    *,
    chunks: list[Any] | None = None,
    changes: Iterable[str] = (),
    missing: str | None = None,
) -> dict[str, Any]:
    """Return the line that is written when the call has ended; `chunks` as `chunks_as_lists`."""
    start, progress = record.start, record.progress
    held = record.held_by_caller
    line: dict[str, Any] = {
        "v": VERSION,
        "event": "end",
        "id": call_id,
        "at": timestamp(start.started_at + int(record.duration * 1e9)),
        "operation": start.endpoint.name,
        "model": start.request.model,
        "outcome": record.outcome,
        "error_type": record.error_type,
        "error_message": record.error_message,
        "status": record.http_status,
        **{name: _rounded(getattr(record, name)) for name in _TIMES},
        "held_by_caller": _rounded(held),
        "chunk_count": record.chunk_count or None,
        "size": record.response_size or None,
        "response": _known(record.response, _RESPONSE) or None,
        "progress": None if progress is None else _progress(progress, record.sent_at),
        "content_type": record.content_type or None,
        "content_encoding": record.content_encoding or None,
        "chunks": chunks,
        "changes": sorted(changes) or None,
        "missing": missing,
    }
    return {name: value for name, value in line.items() if value is not None}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def _progress(progress: Progress, sent_at: float) -> dict[str, Any]:
    def since(reading: float | None) -> float | None:
        return None if reading is None else round(reading - sent_at, 6)

    return {
        "first": progress.first,
        "completed": progress.completed,
        "total": progress.total,
        "started_at": since(progress.started_at),
        "updated_at": since(progress.updated_at),
    }


def chunks_as_lists(
    pieces: Sequence[bytes], arrivals: Sequence[float], sent_at: float
) -> list[list[Any]]:
    """Return pieces as `[seconds since the one before, text or {"base64": ...}]`.

    Times are rounded before they are subtracted, so that no error adds up.
    """
    chunks: list[list[Any]] = []
    before = 0
    for piece, arrival in zip(pieces, arrivals, strict=True):
        if not piece:
            continue
        now = round((arrival - sent_at) * 1e6)
        chunks.append([(now - before) / 1e6, _as_text(piece)])
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
    """Put a call together from its lines.

    Raises KeyError, TypeError or ValueError where they are not what `request_line` and
    `end_line` write: somebody may have edited them.
    """
    shapes.check_request(request)
    if end is not None:
        shapes.check_end(end)
    get = request.get
    start = CallStart(
        endpoint=_endpoint(request["method"], request["path"], request["operation"]),
        request=_request_facts(request),
        server_address=get("server"),
        server_port=get("port"),
        started_at=_nanoseconds(request["at"]),
        context=CallContext(
            conversation_id=get("conversation_id"),
            user_id=get("user_id"),
            tags=get("tags") or {},
        ),
        path=request["path"],
    )
    raw_chunks = None if end is None else end.get("chunks")
    return RecordedCall(
        id=request["id"],
        start=start,
        record=None if end is None else _record(start, end),
        trace_id=get("trace_id"),
        span_id=get("span_id"),
        is_sampled=get("sampled", False),
        chunks=None if raw_chunks is None else tuple(_chunks(raw_chunks)),
        request_changes=frozenset(get("changes", _UNCHANGED)),
        answer_changes=frozenset((end or _NOTHING).get("changes", _UNCHANGED)),
        missing=(end or _NOTHING).get("missing") or get("missing"),
        file=file,
        line=line,
    )


_UNCHANGED: frozenset[str] = frozenset()
_NOTHING: Mapping[str, Any] = {}


def _endpoint(method: str, path: str, operation: str) -> Endpoint:
    found = find_endpoint(method, path)
    return found or Endpoint(method=method, path=path, name=operation)


def _request_facts(line: Mapping[str, Any]) -> RequestFacts:
    body = line.get("body")
    # What is no object has no fields to read.
    body = body if isinstance(body, dict) else None
    facts: RequestFacts = _facts(RequestFacts, _REQUEST_NAMES, line["request"], body)
    return facts


def _record(start: CallStart, end: Mapping[str, Any]) -> CallRecord:
    get = end.get
    progress = get("progress")
    return CallRecord(
        start=start,
        outcome=end["outcome"],
        error_type=get("error_type"),
        error_message=get("error_message"),
        http_status=get("status"),
        response=_facts(ResponseFacts, _RESPONSE_NAMES, get("response") or {}),
        duration=end["duration"],
        time_to_first_chunk=get("time_to_first_chunk"),
        time_to_first_answer=get("time_to_first_answer"),
        chunk_count=get("chunk_count", 0),
        longest_gap=get("longest_gap"),
        held_by_caller=get("held_by_caller"),
        response_size=get("size", 0),
        progress=None if progress is None else Progress(**_known_progress(progress)),
        answer=None,
        content_type=get("content_type"),
        content_encoding=get("content_encoding"),
    )


def _known_progress(progress: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in progress.items() if name in _PROGRESS_NAMES}


def _chunks(lists: Iterable[Sequence[Any]]) -> Iterable[Chunk]:
    microseconds = 0
    for delta, content in lists:
        microseconds += round(delta * 1e6)
        data = content.encode() if isinstance(content, str) else base64.b64decode(content["base64"])
        yield Chunk(microseconds / 1e6, data)
