"""Renders queued calls as redacted lines, on the writer's thread."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace
from pydantic_core import PydanticSerializationError, to_json

from ollama_otel._log.format import (
    VERSION,
    chunks_as_lists,
    end_line,
    request_line,
    timestamp,
)
from ollama_otel._log.privacy import BodyPolicy
from ollama_otel._wire.encoding import (
    InflatedBodyError,
    UnreadableEncodingError,
    decoder_for,
)
from ollama_otel._wire.endpoints import dialect_of
from ollama_otel._wire.failures import shortened
from ollama_otel._wire.lenient_json import VALUES, VALUES_BESIDE_VECTORS, is_costly
from ollama_otel.records import CallRecord, CallStart

__all__ = ["Begun", "CallIds", "Ended", "Pipeline"]


_UNCLEAN = frozenset({"redacted", "binary", "token_ids"})
"""Changes that indicate that a request may have held a secret."""
_MOST_CALLS = 10_000
"""Calls that are remembered between their request and their end."""
_HEADER_VALUE: Final = re.compile(
    r"(?:[\w.+-]{1,64}/)?[\w.+-]{1,64}(?:[;,] ?[\w.+-]{1,32}(?:=[\w.+\"-]{1,32})?){0,4}", re.ASCII
)
"""A media type or names of encodings."""
_OPTION: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")


class Begun(Struct, frozen=True, kw_only=True):
    """A call that begins."""

    id: str
    start: CallStart
    missing: str | None
    """Why the request's body is missing although bodies are logged."""


class Ended(Struct, frozen=True, kw_only=True):
    """A call that has ended; `pieces` is None if its body is not logged."""

    id: str
    record: CallRecord
    pieces: list[bytes] | None = None
    arrivals: list[float] = []
    missing: str | None = None


class CallIds:
    """Creates the ids of calls: `<run>-<number>`; after a fork the child has a new run."""

    def __init__(self) -> None:
        self._process = 0
        self.run = ""
        self._numbers = count(1)

    def next(self) -> str:
        """Return a unique id."""
        if self._process != os.getpid():
            self._process, self.run, self._numbers = os.getpid(), secrets.token_hex(4), count(1)
        return f"{self.run}-{next(self._numbers)}"


@cache
def _library() -> str:
    try:
        return version("ollama_otel")
    except PackageNotFoundError:
        # Bundled with an application into one file.
        return "unknown"


class Pipeline:
    """Renders entries as lines of JSON, with redacted bodies."""

    def __init__(self, policy: BodyPolicy, ids: CallIds, *, bodies: bool, max_body: int) -> None:
        """A body of more than `max_body` bytes after decoding is left out."""
        self._policy = policy
        self._max_body = max_body
        self._ids = ids
        self._bodies = bodies
        self._clean_requests: OrderedDict[str, None] = OrderedDict()
        """Ids of calls whose request is known to hold no secret, the oldest first."""

    def render(self, entry: Begun | Ended) -> bytes:
        """Return the line of an entry, with its line end."""
        line = self._request(entry) if isinstance(entry, Begun) else self._end(entry)
        return _as_json(self._private(line))

    def header_line(self) -> bytes:
        """Return the line that names the process that writes the following lines."""
        return self._note("opened", run=self._ids.run, pid=os.getpid(), library=_library())

    def dropped_line(self, lines: int, bodies: int) -> bytes:
        """Return the line that counts the lines and bodies missing before it."""
        return self._note("dropped", lines=lines, bodies=bodies)

    @staticmethod
    def _note(event: str, **values: Any) -> bytes:
        now = timestamp(time.time_ns())
        return _as_json({"v": VERSION, "event": event, "at": now, **values})

    def _request(self, entry: Begun) -> dict[str, Any]:
        start = entry.start
        body, changes, missing = None, frozenset[str](), entry.missing
        if self._bodies and missing is None and start.content:
            dialect = dialect_of(start.endpoint)
            if not self._policy.covers(dialect):
                missing = "dialect"
            elif is_costly(start.content):
                missing = "too_long"
            else:
                body, changes = self._policy.request(start.content, dialect)
        if self._bodies and missing is None and changes.isdisjoint(_UNCLEAN):
            self._clean_requests[entry.id] = None
            if len(self._clean_requests) > _MOST_CALLS:
                self._clean_requests.popitem(last=False)
        return request_line(entry.id, start, body=body, changes=changes, missing=missing)

    def _end(self, entry: Ended) -> dict[str, Any]:
        record = entry.record
        is_clean = entry.id in self._clean_requests
        self._clean_requests.pop(entry.id, None)
        if self._bodies and record.error_text is not None:
            record = replace(record, error_message=record.error_text)
        if entry.pieces is None:
            return end_line(entry.id, record, missing=entry.missing)
        stored = self._stored(entry.pieces, record, is_clean=is_clean)
        if isinstance(stored, str):
            return end_line(entry.id, record, missing=stored)
        pieces, changes = stored
        chunks = chunks_as_lists(pieces, entry.arrivals, record.sent_at)
        return end_line(entry.id, record, chunks=chunks, changes=changes)

    def _stored(
        self, pieces: Sequence[bytes], record: CallRecord, *, is_clean: bool
    ) -> tuple[Sequence[bytes], frozenset[str]] | str:
        """Return the pieces to store and their changes, or the reason for storing none.

        `is_clean` says that the request is known and held no secret.
        """
        dialect = dialect_of(record.start.endpoint)
        if pieces and not self._policy.covers(dialect):
            return "dialect"
        changes = frozenset[str]()
        if record.content_encoding and pieces:
            try:
                pieces = _without_encoding(pieces, record.content_encoding, self._max_body)
            except InflatedBodyError:
                return "too_long"
            except (UnreadableEncodingError, zlib.error):
                # An unreadable body cannot be redacted.
                return "encoding"
            changes = frozenset({"decoded"})
        body = b"".join(pieces)
        is_vectors = record.start.endpoint.response == "embedding"
        marks = VALUES_BESIDE_VECTORS if is_vectors else VALUES
        if is_costly(body, marks) and any(
            is_costly(payload, marks) for payload in dialect.framing.payloads(body)
        ):
            return "too_long"
        if dialect.framing.has_broken_payloads(body):
            return "dialect"
        stored, more = self._policy.response(
            pieces, dialect, holds_vectors=is_vectors, echoes_secret=not is_clean
        )
        return stored, changes | more

    def _private(self, line: dict[str, Any]) -> dict[str, Any]:
        """Return a line without secrets in its facts, and without their text if bodies are off.

        Errors quote the request, and options may hold any value. Names and ids are not redacted.
        """
        if "error_message" in line:
            # Cutting first could remove what shows that a secret follows.
            line["error_message"] = shortened(line["error_message"], self._policy.text)
        for key in ("request", "response", "residency", "resilience"):
            if key in line:
                line[key] = self._policy.facts(line[key])
        if "tags" in line:
            line["tags"] = self._policy.values(line["tags"])
        for key in ("content_type", "content_encoding"):
            if key in line and not _HEADER_VALUE.fullmatch(line[key]):
                line[key] = self._policy.text(line[key]) if self._bodies else None
        if not self._bodies:
            _keep_numbers(line.get("request", {}))
        return {key: value for key, value in line.items() if value is not None}


def _keep_numbers(request: dict[str, Any]) -> None:
    """Remove options whose values may be arbitrary text."""
    if "options" in request:
        request["options"] = {
            name: value
            for name, value in request["options"].items()
            if isinstance(value, int | float) and _OPTION.fullmatch(name)
        }


def _without_encoding(pieces: Sequence[bytes], encoding: str, most: int) -> list[bytes]:
    """Decode each piece; raises `InflatedBodyError` if the result exceeds `most` bytes."""
    decoder = decoder_for(encoding)
    if decoder is None:
        return list(pieces)
    decoded: list[bytes] = []
    for piece in pieces:
        parts: list[bytes] = []
        for part in decoder.parts(piece):
            most -= len(part)
            if most < 0:
                raise InflatedBodyError
            parts.append(part)
        decoded.append(b"".join(parts))
    return decoded


def _as_json(line: dict[str, Any]) -> bytes:
    try:
        return to_json(line) + b"\n"
    except (PydanticSerializationError, ValueError):
        # Half a surrogate pair, which has no UTF-8.
        return json.dumps(line, separators=(",", ":"), default=str).encode() + b"\n"
