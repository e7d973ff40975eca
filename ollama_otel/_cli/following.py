"""What is new in the files of a log: rotated, torn and late ones too."""

from __future__ import annotations

import heapq
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

from ollama_otel._replay_log.files import base_of

__all__ = ["Event", "FollowedLog"]

Event = Mapping[str, Any]
"""One line of a log: `event`, `at` and what it says of a call."""

_BLOCK: Final = 64 * 1024
_Identity = tuple[int, int]
_KEEPS_OPEN: Final = sys.platform != "win32"
"""An open file cannot be renamed on Windows, which would keep its writer from rotating it."""


class FollowedLog:
    """The files of a log: `STEM.jsonl` and every `STEM.*.jsonl` beside it, or all of a folder.

    A file is known by what it is and not by its name, so that a renamed one is not read
    anew, and one that is compressed and deleted is read to its end first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        is_folder = path.is_dir()
        self._folder = path if is_folder else base_of(path).parent
        self._begin, self._end = ("", ".jsonl") if is_folder else (f"{path.stem}.", path.suffix)
        self._followed: dict[_Identity, _File] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for file in self._followed.values():
            file.close()

    def files(self) -> list[Path]:
        """Return the files that are there now."""
        try:
            found = sorted(self._folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [
            path
            for path in found
            if path.name.startswith(self._begin) and path.name.endswith(self._end)
        ]

    def latest(self, count: int) -> list[Event]:
        """Return the last `count` events of calls, and take all before them as read."""
        self._look_for_more()
        return _in_order(file.last(count) for file in self._followed.values())[-count:]

    def new(self) -> list[Event]:
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

    def new(self) -> list[Event]:
        """Return the events that have come since the last time."""
        with self._opened() as file:
            status = os.fstat(file.fileno())
            self.is_gone = status.st_nlink == 0
            if status.st_size < self._position:
                self._position = 0
            file.seek(self._position)
            whole, end, _ = file.read().rpartition(b"\n")
        self._position += len(whole) + len(end)
        return _events(whole)

    def last(self, count: int) -> list[Event]:
        """Return the last events, and take all before them as read; a long file is not."""
        with self._opened() as file:
            position = end = file.seek(0, os.SEEK_END)
            tail = b""
            # The first line of what is taken may be a part of one, the last one torn.
            while position and tail.count(b"\n") < count + 2:
                block = min(position, max(_BLOCK, len(tail)))
                position -= block
                file.seek(position)
                tail = file.read(block) + tail
        whole, _, torn = tail.rpartition(b"\n")
        self._position = end - len(torn)
        if position:
            whole = whole.partition(b"\n")[2]
        return _events(whole)[-count:] if count else []

    @contextmanager
    def _opened(self) -> Iterator[io.FileIO]:
        if self._file.closed:
            self._file = self.path.open("rb", buffering=0)
        try:
            yield self._file
        finally:
            if not _KEEPS_OPEN:
                self._file.close()


def _in_order(events: Iterable[list[Event]]) -> list[Event]:
    return list(heapq.merge(*events, key=lambda event: str(event.get("at", ""))))


def _events(lines: bytes) -> list[Event]:
    return [event for line in lines.split(b"\n") if (event := _event(line)) is not None]


def _event(line: bytes) -> Event | None:
    """Return what a line says of a call; None of one that was torn, or says something else."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and event.get("event") in {"request", "end"} else None
