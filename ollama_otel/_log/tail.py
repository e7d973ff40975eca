"""A typed live tail: the calls that begin and end in a log while it is written.

Follows rotated files, and files that come later. What a process could not finish, and lines of
other kinds, are passed over: a tail does not end because of one line.
"""

from __future__ import annotations

import heapq
import io
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import Final, Self

from ollama_otel._log.files import base_of, files_of
from ollama_otel._log.format import LoggedEnd, LoggedStart, event_from
from ollama_otel._wire.lenient_json import parse_exactly

__all__ = ["LogTail", "LoggedEvent"]

LoggedEvent = LoggedStart | LoggedEnd
"""What one line says of a call; bodies are left out of it."""

_BLOCK: Final = 64 * 1024
_Identity = tuple[int, int]
_KEEPS_OPEN: Final = sys.platform != "win32"
"""An open file cannot be renamed on Windows, which would keep its writer from rotating it."""


class LogTail:
    """The files of a log that are not compressed, or all those of a folder.

    A file is known by what it is and not by its name, so that a renamed one is not read
    anew, and one that is compressed and deleted is read to its end first.
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
        """Return the files that are there now."""
        if self.path.is_dir():
            return sorted(self.path.glob("*.jsonl"))
        return [path for path in files_of(base_of(self.path)) if path.suffix != ".gz"]

    def latest(self, count: int) -> list[LoggedEvent]:
        """Return the last `count` events, and take all before them as read."""
        self._look_for_more()
        return _in_order(file.last(count) for file in self._followed.values())[-count:]

    def new(self) -> list[LoggedEvent]:
        """Return the events since the last time, those of several files by their time."""
        self._look_for_more()
        found = _in_order(file.new() for file in self._followed.values())
        for identity, file in [*self._followed.items()]:
            if file.is_gone:
                self._followed.pop(identity).close()
        return found

    def _look_for_more(self) -> None:
        for path in self.files():
            # It may have been renamed since it was listed; its new name is there the next time.
            with suppress(FileNotFoundError):
                status = path.stat()
                identity = status.st_dev, status.st_ino
                if known := self._followed.get(identity):
                    known.path = path
                else:
                    self._followed[identity] = _File(path)


class _File:
    """One file, and how far it is read: always whole lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_gone = False
        """Whether it has been deleted, so that nothing more can come."""
        self._file = path.open("rb", buffering=0)
        self._position = 0

    def close(self) -> None:
        self._file.close()

    def new(self) -> list[LoggedEvent]:
        """Return the events that have come since the last time."""
        with self._opened() as file:
            status = os.fstat(file.fileno())
            self.is_gone = status.st_nlink == 0
            if status.st_size < self._position:
                self._position = 0
            return self._read(file, self._position)

    def last(self, count: int) -> list[LoggedEvent]:
        """Return the last events, and take all before them as read; a long file is not."""
        with self._opened() as file:
            return self._read(file, _start_of_last_lines(file, count), count)

    def _read(self, file: io.FileIO, position: int, most: int | None = None) -> list[LoggedEvent]:
        """Return what is from a position on, the last `most` events of it."""
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
    """Return where the last `count` whole lines begin."""
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
    """Yield the lines from a position on, but for one that is not finished."""
    file.seek(position)
    reader = io.BufferedReader(file, _BLOCK)
    try:
        # Whatever is added after the first end of the file is for the next time.
        yield from takewhile(lambda line: line.endswith(b"\n"), reader)
    finally:
        # It would close the file with itself.
        reader.detach()


def _event(line: bytes) -> LoggedEvent | None:
    """Read a line; None if it was torn, or says nothing of a call."""
    values = parse_exactly(line)
    if not isinstance(values, dict):
        return None
    try:
        return event_from(values)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None
