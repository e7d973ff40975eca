"""A thread that writes queued entries in order; callers never wait for it.

It gets functions that render and append entries as arguments.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final

from ollama_otel import _process
from ollama_otel._display import logger
from ollama_otel._exchange.observers import Backlog
from ollama_otel._guard import guard

__all__ = ["LogStatistics", "Writer"]

_log = logger()

_BATCH = 256
"""Entries that are rendered and written together."""
_GATHER: Final = 0.05
"""Seconds to wait for more entries before the thread looks at them.

A thread that wakes for each entry competes with the caller's thread for the interpreter lock, which
would cost the caller more than everything else.
"""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
"""Seconds between two attempts to write after an error."""
_AT_EXIT: Final = 5.0
_BEFORE_FORK: Final = 1.0
"""Seconds to wait for pending lines, for all writers together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStatistics:
    """Counts of the entries so far."""

    written: int
    """Lines that the operating system has accepted."""
    dropped_bodies: int
    """Bodies left out of their lines because too many bytes were pending."""
    dropped_lines: int
    """Lines that were never written."""
    pending_lines: int
    """Lines that wait to be written, also those whose writing has failed so far."""
    failed_writes: int
    """Attempts to write that raised OSError."""
    deleted_files: int
    """Old files that this process has deleted, because there were `keep` newer ones."""


class Writer:
    """Takes entries from any thread, also from the garbage collector and signal handlers."""

    def __init__(
        self,
        *,
        render: Callable[[Any], bytes],
        append: Callable[[bytes], None],
        tidy_up: Callable[[], int],
        close: Callable[[], None],
        dropped_line: Callable[[int, int], bytes],
        max_lines: int = 20_000,
        max_bytes: int = 64 * 1024 * 1024,
        name: str = "",
    ) -> None:
        """If `append` raises OSError, it is retried; after a success `tidy_up` is called.

        `tidy_up` returns the number of old files that it has deleted.

        `dropped_line` returns a line that states how many lines and bodies were dropped. At
        most `max_lines` entries are pending. Bodies are dropped if half as many entries, or
        more than `max_bytes` bytes of bodies, are pending.
        """
        self._render = render
        self._append = append
        self._tidy_up = tidy_up
        self._close = close
        self._dropped_line = dropped_line
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._name = name
        self._lock = threading.RLock()
        self._reset()
        _writers.add(self)
        _process.at_exit(_close_all)
        _process.at_fork(before=_flush_before_fork, after_in_child=_reset_after_fork)

    def _reset(self) -> None:
        # A `put` may interrupt another `put` on the same thread, so no lock can guard this.
        self._queue: SimpleQueue[tuple[Any, int] | threading.Event] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._waiting_bytes = 0
        self._markers = 0
        """Number of queued entries that are not lines: requests to flush."""
        self._in_hand = 0
        """Lines that the thread has taken from the queue and not yet written."""
        self._written = self._failed_writes = 0
        self._dropped_lines = self._dropped_bodies = self._deleted_files = 0
        self._stated = (0, 0)
        self._is_failing = False
        self.is_stuck = False
        """Whether the last flush before a fork timed out."""
        self.is_late = False
        """Whether `close` has timed out."""

    # --- for callers ----------------------------------------------------------------------

    def has_room(self, size: int) -> bool:
        """Return whether a body of `size` bytes may be put; if not, count it as dropped."""
        if (
            self._queue.qsize() * 2 < self._max_lines
            and self._waiting_bytes + size <= self._max_bytes
        ):
            return True
        with self._lock:
            self._dropped_bodies += 1
        return False

    def put(self, entry: Any, size: int = 0) -> None:
        """Queue an entry; `size` is the size of its bodies in bytes."""
        if self._stopping.is_set() or self._queue.qsize() >= self._max_lines:
            with self._lock:
                self._dropped_lines += 1
            return
        if size:
            with self._lock:
                self._waiting_bytes += size
        if self._thread is None:
            self._start()
        self._queue.put((entry, size))

    def flush(self, timeout: float) -> bool:
        """Wait until all queued entries are written; False after `timeout` seconds."""
        written = self.request_flush()
        return written is None or written.wait(timeout)

    def request_flush(self) -> threading.Event | None:
        """Return an event that is set when the queue is written; None if it is empty."""
        thread = self._thread
        written = threading.Event()
        if thread is None or not thread.is_alive():
            return None if self.is_closed or self._queue.empty() else written
        self._mark(written)
        return written

    def _mark(self, written: threading.Event) -> None:
        with self._lock:
            self._markers += 1
        self._queue.put(written)
        self._hurry.set()

    def stop(self) -> None:
        """Tell the thread to write the queued entries and end; does not wait."""
        self._stopping.set()
        self._mark(threading.Event())

    def close(self, timeout: float = _AT_EXIT) -> bool:
        """Write the queued entries and end; False if that takes more than `timeout` seconds."""
        is_written = self.flush(timeout)
        self.is_late = not is_written
        self.stop()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout if is_written else 0.0)
        return is_written

    def warn_of_pending_lines(self) -> None:
        """Log that the process exits before all lines are written.

        Lines that were dropped have a warning of their own.
        """
        if count := self._pending_lines():
            _log.warning(
                "the replay log %s was not written in time at exit; about %d lines are lost",
                self._name,
                count,
            )

    @property
    def is_closed(self) -> bool:
        """Whether new entries are dropped."""
        return self._stopping.is_set()

    @property
    def statistics(self) -> LogStatistics:
        """Counts of the entries so far."""
        with self._lock:
            return LogStatistics(
                written=self._written,
                dropped_bodies=self._dropped_bodies,
                dropped_lines=self._dropped_lines,
                pending_lines=self._pending_lines(),
                failed_writes=self._failed_writes,
                deleted_files=self._deleted_files,
            )

    def losses(self) -> dict[str, int]:
        """Return how many bodies and lines were dropped so far."""
        return {"body": self._dropped_bodies, "line": self._dropped_lines}

    def backlog(self) -> Backlog:
        """Return the number of waiting lines and of failed attempts to write."""
        return Backlog(pending_lines=self._pending_lines(), failed_writes=self._failed_writes)

    def _pending_lines(self) -> int:
        # Read without a lock, so entries may move between the two numbers meanwhile.
        return max(0, self._queue.qsize() - self._markers) + self._in_hand

    # --- the thread -----------------------------------------------------------------------

    def _start(self) -> None:
        _process.at_exit(_close_all)  # once more, as this may be a child of multiprocessing
        with self._lock:
            if self._thread is None:
                # Set before it runs, so that an interrupting `put` does not start a second thread.
                self._thread = threading.Thread(
                    target=self._run, name="ollama_otel log", daemon=True
                )
                try:
                    self._thread.start()
                finally:
                    # An exception of a signal handler may arrive after the thread has started.
                    if not self._thread.is_alive():
                        self._thread = None

    def _run(self) -> None:
        try:
            while not (self._stopping.is_set() and self._queue.empty()):
                self._write_batch(self._take())
        finally:
            self._close()

    def _take(self) -> list[tuple[Any, int] | threading.Event]:
        taken = [self._queue.get()]
        self._hurry.wait(_GATHER)
        self._hurry.clear()
        try:
            while len(taken) < _BATCH:
                taken.append(self._queue.get_nowait())
        except Empty:
            pass
        markers = sum(isinstance(item, threading.Event) for item in taken)
        with self._lock:
            self._markers -= markers
        self._in_hand = len(taken) - markers
        return taken

    def _write_batch(self, taken: Sequence[tuple[Any, int] | threading.Event]) -> None:
        lines = [
            line
            for item in taken
            if not isinstance(item, threading.Event) and (line := self._rendered(*item))
        ]
        is_written = bool(lines) and self._write(lines)
        self._in_hand = 0
        if is_written:
            self._write_dropped_line()
        for item in taken:
            if isinstance(item, threading.Event):
                item.set()
        if is_written:
            try:
                self._count_deleted(self._tidy_up())
            except Exception as fault:  # noqa: BLE001 - new entries still have to be written
                guard.caught("tidying up the replay log", fault)

    def _rendered(self, entry: Any, size: int) -> bytes:
        """Return the line of an entry; empty if it cannot be rendered."""
        try:
            return self._render(entry)
        except Exception as fault:  # noqa: BLE001 - only this line is lost
            self._lose(1)
            guard.caught("rendering a line of the replay log", fault)
            return b""
        finally:
            if size:
                with self._lock:
                    self._waiting_bytes -= size

    def _write(self, lines: Sequence[bytes]) -> bool:
        """Write lines, retrying as long as necessary; False if stopped before that."""
        data = b"".join(lines)
        pause = _FIRST_PAUSE
        while True:
            try:
                self._append(data)
            except OSError as error:
                self._failed(error)
            except Exception as fault:  # noqa: BLE001 - a retry would fail again
                self._lose(len(lines))
                guard.caught("writing the replay log", fault)
                return False
            else:
                with self._lock:
                    self._written += len(lines)
                self.is_stuck = False
                if self._is_failing:
                    self._is_failing = False
                    _log.warning("the replay log %s is written again", self._name)
                return True
            if self._stopping.wait(pause):
                self._lose(len(lines))
                _log.warning("%d lines of the replay log %s are lost", len(lines), self._name)
                return False
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _failed(self, error: OSError) -> None:
        with self._lock:
            self._failed_writes += 1
        if not self._is_failing:
            self._is_failing = True
            _log.warning(
                "the replay log %s cannot be written (%s); calls are not affected; retrying",
                self._name,
                error,
            )

    def _count_deleted(self, files: int) -> None:
        if files and not self._deleted_files:
            _log.info(
                "the replay log %s is as long as its settings allow: its oldest files are deleted",
                self._name,
            )
        with self._lock:
            self._deleted_files += files

    def _lose(self, count: int) -> None:
        with self._lock:
            self._dropped_lines += count

    def _write_dropped_line(self) -> None:
        """Write how much was dropped since the last such line."""
        lines, bodies = dropped = (self._dropped_lines, self._dropped_bodies)
        if dropped != self._stated:
            stated, self._stated = self._stated, dropped
            self._write([self._dropped_line(lines - stated[0], bodies - stated[1])])

    # --- the process ----------------------------------------------------------------------

    def after_fork(self) -> None:
        """Start with an empty queue in a child: the parent writes its own entries."""
        self._lock = threading.RLock()
        self._close()
        self._reset()


_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


def _flush_all(timeout: float) -> list[Writer]:
    """Flush all writers, in `timeout` seconds together; return those that did not finish."""
    end = time.monotonic() + timeout
    requested = [(each, each.request_flush()) for each in list(_writers) if not each.is_late]
    return [
        writer
        for writer, written in requested
        if written is not None and not written.wait(max(0.0, end - time.monotonic()))
    ]


def _flush_before_fork() -> None:
    # A disk that fails or hangs delays one fork, not each of them.
    if not any(writer.is_stuck for writer in list(_writers)):
        for writer in _flush_all(_BEFORE_FORK):
            writer.is_stuck = True


def _reset_after_fork() -> None:
    for writer in list(_writers):
        writer.after_fork()


def _close_all() -> None:
    late = _flush_all(_AT_EXIT)
    for writer in (*late, *(writer for writer in list(_writers) if writer.is_late)):
        writer.warn_of_pending_lines()
    for writer in list(_writers):
        writer.stop()
