"""`ReplayLog`: the observer that logs each call, one line before it is sent and one at its end.

On the caller's thread it only queues values; the writer's thread redacts and writes them.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, Self

from msgspec.structs import replace

from ollama_otel import _process
from ollama_otel._exchange.observers import Backlog, CallFollower, LoggingObserver
from ollama_otel._log.files import LogFile, base_of
from ollama_otel._log.pipeline import Begun, CallIds, Ended, Pipeline
from ollama_otel._log.privacy import BodyPolicy
from ollama_otel._log.writer import LogStatistics, Writer
from ollama_otel.records import CallRecord, CallStart

__all__ = ["ReplayLog"]

_MEBIBYTE: Final = 1024 * 1024
_DAY: Final = 86_400.0
_PER_PIECE: Final = 64
"""Overhead in bytes of a piece of a body, in memory; about as much in the log."""


class ReplayLog(LoggingObserver):
    """Logs calls into a file, or into a folder, for any number of processes.

    It logs facts only, unless `bodies` is set. Images and vectors are logged as hash and size,
    unless `media` is set; `media="answers"` logs those of responses, which suffices for a replay.
    Bodies go through the built-in redactors and then through `redactors` before they are stored. A
    file larger than `max_size` bytes or older than `max_age` seconds is compressed, and a new one
    begins. The `keep` newest compressed files are kept; more are kept, for `keep` times `max_age`,
    while they hold less than `keep` times `max_size`. A request or response of more than `max_body`
    bytes after decoding is logged without its body; a piece of a response counts 64 bytes in
    addition to its own, as much as it needs in memory. At most `max_lines` lines and `max_bytes`
    bytes of bodies are pending.

    If the disk is full or fails, lines stay pending, and above the limits bodies and lines are
    dropped and counted; calls are not affected.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        bodies: bool = False,
        media: bool | Literal["answers"] = False,
        redactors: Sequence[Callable[[str], str]] = (),
        max_size: int = 100 * _MEBIBYTE,
        max_age: float = _DAY,
        keep: int = 10,
        **limits: int,
    ) -> None:
        self.path: Path = base_of(path)
        """The file, or `calls.jsonl` in the given folder."""
        self.keeps_request = bodies
        self._max_body = limits.pop("max_body", 16 * _MEBIBYTE)
        self._ids = CallIds()
        pipeline = Pipeline(
            BodyPolicy(redactors, keeps_media=media),
            self._ids,
            bodies=bodies,
            max_body=self._max_body,
        )
        file = LogFile(
            self.path,
            max_size=max_size,
            max_age=max_age,
            keep=keep,
            header_line=pipeline.header_line,
        )
        self._writer = Writer(
            render=pipeline.render,
            append=file.append,
            tidy_up=file.tidy_up,
            close=file.close,
            dropped_line=pipeline.dropped_line,
            name=str(self.path),
            **limits,
        )
        # It does not wait, as the garbage collector may call it.
        weakref.finalize(self, self._writer.stop).atexit = False

    def begin(self, start: CallStart) -> CallFollower:
        """Log the request, and follow the call; see `Observer`."""
        call_id, missing = self._ids.next(), None
        if not self.keeps_request:
            start = _without_content(start)
        size = len(start.content) if start.content else 0
        if size > self._max_body:
            missing = "too_long"
        elif size and not self._writer.has_room(size):
            missing = "queue_full"
        if missing is not None:
            start, size = _without_content(start), 0
        elif start.conversation is not None:
            start = replace(start, conversation=None)
        self._writer.put(Begun(id=call_id, start=start, missing=missing), size)
        if self.keeps_request:
            return _BodyFollower(self._writer, call_id, self._max_body)
        return _FactFollower(self._writer, call_id)

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until all calls so far are written; False after `timeout` seconds."""
        _process.catch_up()
        return self._writer.flush(timeout)

    def close(self, timeout: float = 10.0) -> bool:
        """Write all pending lines and stop, as `flush`; later calls are only counted."""
        _process.catch_up()
        return self._writer.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def is_closed(self) -> bool:
        """Whether the log is closed."""
        return self._writer.is_closed

    @property
    def statistics(self) -> LogStatistics:
        """Counts of the lines so far."""
        return self._writer.statistics

    def losses(self) -> Callable[[], Mapping[str, int]]:
        """Return a function that counts dropped bodies and lines; it refers to the writer only."""
        return self._writer.losses

    def backlog(self) -> Callable[[], Backlog]:
        """Return a function that counts waiting lines and failed writes, like that of `losses`."""
        return self._writer.backlog


class _FactFollower(CallFollower):
    __slots__ = ("_id", "_writer")

    def __init__(self, writer: Writer, call_id: str) -> None:
        self._writer = writer
        self._id = call_id

    def end(self, record: CallRecord) -> None:
        self._writer.put(Ended(id=self._id, record=_without_answer(record)))


class _BodyFollower(CallFollower):
    __slots__ = ("_arrivals", "_id", "_kept", "_max_size", "_size", "_writer")

    def __init__(self, writer: Writer, call_id: str, max_size: int) -> None:
        self._writer = writer
        self._id = call_id
        self._max_size = max_size
        self._size = 0
        """Bytes in memory of all pieces."""
        self._kept: list[bytes] = []
        self._arrivals: list[float] = []

    def pieces(self, pieces: Sequence[bytes], arrivals: Sequence[float]) -> None:
        self._size += sum(map(len, pieces)) + _PER_PIECE * len(pieces)
        if self._size > self._max_size:
            self._kept, self._arrivals = [], []
            return
        self._kept += pieces
        self._arrivals += arrivals

    def end(self, record: CallRecord) -> None:
        missing = None
        if self._size > self._max_size:
            missing = "too_long"
        elif self._size and not self._writer.has_room(self._size):
            missing = "queue_full"
        is_kept = missing is None
        self._writer.put(
            Ended(
                id=self._id,
                record=_without_answer(record),
                pieces=self._kept if is_kept else None,
                arrivals=self._arrivals,
                missing=missing,
            ),
            self._size if is_kept else 0,
        )


# Unneeded content would stay in memory without being counted.


def _without_content(start: CallStart) -> CallStart:
    if start.content is None and start.conversation is None:
        return start
    return replace(start, content=None, conversation=None)


def _without_answer(record: CallRecord) -> CallRecord:
    start = _without_content(record.start)
    if start is record.start and record.answer is None:
        return record
    return replace(record, start=start, answer=None)
