"""One thread that writes what others hand over, in their order, and never makes them wait.

Knows neither calls nor files: entries are rendered and appended by functions it is given.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from logging import getLogger
from queue import Empty, SimpleQueue
from typing import Any, Final

from ollama_otel import _process
from ollama_otel._guard import guard

__all__ = ["LogStatistics", "Writer"]

_log = getLogger("ollama_otel")

_BATCH = 256
"""Entries that are rendered and written together."""
_GATHER: Final = 0.05
"""Seconds for which entries gather before they are looked at.

A thread that wakes for each entry fights with the caller's for Python's one lock, which
costs the caller more than all the rest.
"""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
"""Seconds between two attempts to write while the disk refuses."""
_AT_EXIT: Final = 5.0
_BEFORE_FORK: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStatistics:
    """What became of the entries so far."""

    written: int
    """Lines that the operating system has taken."""
    dropped_bodies: int
    """Bodies left out of their lines, as too much was waiting."""
    dropped_lines: int
    """Lines that were never written."""
    failed_writes: int
    """Attempts that the operating system refused."""


class Writer:
    """Takes entries from any thread, and from the garbage collector and signal handlers too."""

    def __init__(
        self,
        *,
        render: Callable[[Any], bytes],
        append: Callable[[bytes], None],
        tidy_up: Callable[[], None],
        close: Callable[[], None],
        dropped_line: Callable[[int, int], bytes],
        max_lines: int = 20_000,
        max_bytes: int = 64 * 1024 * 1024,
        name: str = "",
    ) -> None:
        """`append` may raise OSError, which is met by trying again; `tidy_up` follows it.

        `dropped_line` gives a line that tells how many lines and bodies were dropped. At most
        `max_lines` entries wait; above half of them, or `max_bytes` bytes of bodies,
        bodies are dropped.
        """
        self._render = render
        self._append = append
        self._tidy_up = tidy_up
        self._close = close
        self._confess = dropped_line
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._name = name
        self._lock = threading.RLock()
        self._start_anew()
        _writers.add(self)
        _process.at_exit(_close_all)
        _process.at_fork(before=_flush_before_fork, after_in_child=_reset_after_fork)

    def _start_anew(self) -> None:
        # Its `put` may interrupt another `put` of the same thread, which a lock could not stand.
        self._queue: SimpleQueue[tuple[Any, int] | threading.Event] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._waiting_bytes = 0
        self._written = self._failed_writes = 0
        self._dropped_lines = self._dropped_bodies = 0
        self._confessed = (0, 0)
        self._is_refused = False
        self.is_stuck = False
        """Whether it could not write in time before a fork."""

    # --- for callers ----------------------------------------------------------------------

    def has_room(self, size: int) -> bool:
        """Whether a body of `size` bytes may be put; if not, it is counted as dropped."""
        if (
            self._queue.qsize() * 2 < self._max_lines
            and self._waiting_bytes + size <= self._max_bytes
        ):
            return True
        with self._lock:
            self._dropped_bodies += 1
        return False

    def put(self, entry: Any, size: int = 0) -> None:
        """Hand an entry over; `size` is that of its bodies in bytes."""
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
        """Wait until all that was put is written; False if that takes more than `timeout` s."""
        written = self.request_flush()
        return written is None or written.wait(timeout)

    def request_flush(self) -> threading.Event | None:
        """Return what is set when all that was put is written; None where nothing waits."""
        thread = self._thread
        written = threading.Event()
        if thread is None or not thread.is_alive():
            return None if self.is_closed or self._queue.empty() else written
        self._queue.put(written)
        self._hurry.set()
        return written

    def stop(self) -> None:
        """Write what is waiting and then end, without being waited for."""
        self._stopping.set()
        self._queue.put(threading.Event())
        self._hurry.set()

    def close(self, timeout: float = _AT_EXIT) -> bool:
        """Write what is waiting and end; False if that takes more than `timeout` seconds."""
        is_written = self.flush(timeout)
        self.stop()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout if is_written else 0.0)
        return is_written

    def warn_of_what_waits(self) -> None:
        """Tell the program's log that the end comes before all is written."""
        _log.warning(
            "the replay log %s could not be written in time; some %d lines are lost",
            self._name,
            self._queue.qsize() + 1,
        )

    @property
    def is_closed(self) -> bool:
        """Whether what is put is no longer written."""
        return self._stopping.is_set()

    @property
    def statistics(self) -> LogStatistics:
        """What became of the entries so far."""
        with self._lock:
            return LogStatistics(
                written=self._written,
                dropped_bodies=self._dropped_bodies,
                dropped_lines=self._dropped_lines,
                failed_writes=self._failed_writes,
            )

    # --- the thread -----------------------------------------------------------------------

    def _start(self) -> None:
        _process.at_exit(_close_all)  # once more, as this may be a child of multiprocessing
        with self._lock:
            if self._thread is None:
                # Known before it runs: what interrupts this is not to start another one.
                self._thread = threading.Thread(
                    target=self._run, name="ollama_otel log", daemon=True
                )
                try:
                    self._thread.start()
                finally:
                    # An interrupt may come when it runs already.
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
        return taken

    def _write_batch(self, taken: Sequence[tuple[Any, int] | threading.Event]) -> None:
        lines = [
            line
            for item in taken
            if not isinstance(item, threading.Event) and (line := self._rendered(*item))
        ]
        is_written = bool(lines) and self._write(lines)
        if is_written:
            self._tell_what_is_missing()
        for item in taken:
            if isinstance(item, threading.Event):
                item.set()
        if is_written:
            try:
                self._tidy_up()
            except Exception as fault:  # noqa: BLE001 - what is new is to be written all the same
                guard.caught("tidying up the replay log", fault)

    def _rendered(self, entry: Any, size: int) -> bytes:
        """Return the line of an entry; nothing where it cannot be put together."""
        try:
            return self._render(entry)
        except Exception as fault:  # noqa: BLE001 - one line is lost, and not all of them
            self._lose(1)
            guard.caught("putting a line of the replay log together", fault)
            return b""
        finally:
            if size:
                with self._lock:
                    self._waiting_bytes -= size

    def _write(self, lines: Sequence[bytes]) -> bool:
        """Write lines, however long that takes; False where it was told to stop first."""
        data = b"".join(lines)
        pause = _FIRST_PAUSE
        while True:
            try:
                self._append(data)
            except OSError as refusal:
                self._refused(refusal)
            except Exception as fault:  # noqa: BLE001 - to try again would not help
                self._lose(len(lines))
                guard.caught("writing the replay log", fault)
                return False
            else:
                with self._lock:
                    self._written += len(lines)
                self.is_stuck = False
                if self._is_refused:
                    self._is_refused = False
                    _log.warning("the replay log %s is written again", self._name)
                return True
            if self._stopping.wait(pause):
                self._lose(len(lines))
                _log.warning("%d lines of the replay log %s are lost", len(lines), self._name)
                return False
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _refused(self, refusal: OSError) -> None:
        with self._lock:
            self._failed_writes += 1
        if not self._is_refused:
            self._is_refused = True
            _log.warning(
                "the replay log %s cannot be written (%s); calls go on, and it is tried again",
                self._name,
                refusal,
            )

    def _lose(self, count: int) -> None:
        with self._lock:
            self._dropped_lines += count

    def _tell_what_is_missing(self) -> None:
        """Let the log itself say that it is not whole."""
        missing = (self._dropped_lines, self._dropped_bodies)
        if missing != self._confessed:
            lines, bodies = (now - told for now, told in zip(missing, self._confessed, strict=True))
            self._confessed = missing
            self._write([self._confess(lines, bodies)])

    # --- the process ----------------------------------------------------------------------

    def after_fork(self) -> None:
        """In a child: what waits is the parent's to write, and its file is not ours."""
        self._lock = threading.RLock()
        self._close()
        self._start_anew()


_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


def _flush_all(timeout: float) -> list[Writer]:
    """Let all write what waits, `timeout` seconds in all; return those that could not."""
    end = time.monotonic() + timeout
    asked = [(writer, writer.request_flush()) for writer in list(_writers)]
    return [
        writer
        for writer, written in asked
        if written is not None and not written.wait(max(0.0, end - time.monotonic()))
    ]


def _flush_before_fork() -> None:
    # A disk that refuses or hangs is not waited for before each fork.
    if not any(writer.is_stuck for writer in list(_writers)):
        for writer in _flush_all(_BEFORE_FORK):
            writer.is_stuck = True


def _reset_after_fork() -> None:
    for writer in list(_writers):
        writer.after_fork()


def _close_all() -> None:
    for writer in _flush_all(_AT_EXIT):
        writer.warn_of_what_waits()
    for writer in list(_writers):
        writer.stop()
