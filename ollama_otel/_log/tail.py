"""A typed live tail: yields calls as they begin and end in a log that is being written.

It follows rotated and new files. It ignores unfinished lines and lines of other kinds.
"""

from __future__ import annotations

import heapq
import io
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from ollama_otel._log.files import base_of, files_of
from ollama_otel._log.format import (
    LONGEST_LINE,
    MOST_VALUES,
    LoggedEnd,
    LoggedStart,
    event_from,
)
from ollama_otel._log.own_files import is_regular
from ollama_otel._wire.lenient_json import is_costly, parse_exactly
from ollama_otel.errors import ReplayLogError

__all__ = ["LogTail", "LoggedEvent"]

LoggedEvent = LoggedStart | LoggedEnd
"""One line about a call, without its bodies."""

_BLOCK: Final = 64 * 1024
_Identity = tuple[int, int]
_KEEPS_OPEN: Final = sys.platform != "win32"
"""Windows cannot rename an open file, so the writer could not rotate it."""


class LogTail:
    """The uncompressed files of a log or of a folder.

    A file is identified by its inode, so that a renamed file is not read again, and a compressed
    one is read to its end before it is dropped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._followed: dict[_Identity, _File] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for file in self._followed.values():
            file.close()

    def files(self) -> list[Path]:
        """Return the current files."""
        if self.path.is_dir():
            return sorted(filter(is_regular, self.path.glob("*.jsonl")))
        return [path for path in files_of(base_of(self.path)) if path.suffix != ".gz"]

    def latest(self, count: int) -> list[LoggedEvent]:
        """Return the last `count` events, and skip all before them."""
        self._look_for_more()
        return _in_order(file.last(count) for file in self._followed.values())[-count:]

    def new(self) -> list[LoggedEvent]:
        """Return the events since the last call, ordered by time."""
        self._look_for_more()
        found = _in_order(file.new() for file in self._followed.values())
        for identity, file in [*self._followed.items()]:
            if file.is_deleted:
                self._followed.pop(identity).close()
        return found

    def _look_for_more(self) -> None:
        refused: PermissionError | None = None
        for path in self.files():
            try:
                self._follow(path)
            except FileNotFoundError:
                # Renamed since it was listed; the next look finds its new name.
                continue
            except PermissionError as error:
                refused = error
        if refused is not None and not self._followed:
            raise ReplayLogError(f"{refused.filename}: cannot be read: {refused.strerror}")

    def _follow(self, path: Path) -> None:
        status = path.stat()
        identity = status.st_dev, status.st_ino
        if known := self._followed.get(identity):
            known.path = path
        else:
            self._followed[identity] = _File(path)


class _File:
    """One file, and the position up to which it is read: always at a line end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_deleted = False
        """Whether it has been deleted, so that no lines can follow."""
        self._file = path.open("rb", buffering=0)
        self._position = 0

    def close(self) -> None:
        self._file.close()

    def new(self) -> list[LoggedEvent]:
        """Return the events since the last call."""
        with self._opened() as file:
            status = os.fstat(file.fileno())
            self.is_deleted = status.st_nlink == 0
            if status.st_size < self._position:
                self._position = 0
            return self._read(file, self._position)

    def last(self, count: int) -> list[LoggedEvent]:
        """Return the last `count` events, and skip all before them without reading them."""
        with self._opened() as file:
            return self._read(file, _start_of_last_lines(file, count), count)

    def _read(self, file: io.FileIO, position: int, most: int | None = None) -> list[LoggedEvent]:
        """Return the events from a position on, at most the last `most`."""
        kept: deque[LoggedEvent] = deque(maxlen=most)
        self._position = position
        for line in _whole_lines(file, position):
            self._position += len(line)
            if (event := _event(line)) is not None:
                kept.append(event)
        return list(kept)

    @contextmanager
    def _opened(self) -> Iterator[io.FileIO]:
        if self._file.closed:
            self._file = self.path.open("rb", buffering=0)
        try:
            yield self._file
        finally:
            if not _KEEPS_OPEN:
                self._file.close()


def _in_order(events: Iterable[list[LoggedEvent]]) -> list[LoggedEvent]:
    return list(heapq.merge(*events, key=lambda event: event.at))


def _start_of_last_lines(file: io.FileIO, count: int) -> int:
    """Return the position of the last `count` complete lines."""
    position, line_ends = file.seek(0, os.SEEK_END), count + 1
    while position:
        size = min(_BLOCK, position)
        position -= size
        file.seek(position)
        block = file.read(size)
        if (found := block.count(b"\n")) < line_ends:
            line_ends -= found
            continue
        at = len(block)
        for _ in range(line_ends):
            at = block.rfind(b"\n", 0, at)
        return position + at + 1
    return 0


def _whole_lines(file: io.FileIO, position: int) -> Iterator[bytes]:
    """Yield the complete lines from a position on; one that is too long comes in parts."""
    file.seek(position)
    reader = io.BufferedReader(file, _BLOCK)
    try:
        while line := reader.readline(LONGEST_LINE):
            if not line.endswith(b"\n") and len(line) < LONGEST_LINE:
                # Lines added after the first end of the file are read the next time.
                break
            yield line
    finally:
        # Otherwise its garbage collection would close the file.
        reader.detach()


def _event(line: bytes) -> LoggedEvent | None:
    """Read a line; None if it is malformed, too long, or not about a call."""
    values = None if is_costly(line, most=MOST_VALUES) else parse_exactly(line)
    if not isinstance(values, dict):
        return None
    try:
        return event_from(values)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None
