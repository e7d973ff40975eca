"""Counts in a separate thread, so that callers do not wait: prompts of megabytes take seconds."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from ollama_otel import _process
from ollama_otel._guard import guard

__all__ = ["Worker"]

_MOST_JOBS: Final = 256
_MOST_BYTES: Final = 32 * 1024 * 1024
"""Most bytes that may wait; further jobs are dropped."""
_IDLE: Final = 60.0
"""Seconds after which the thread ends."""
_LAST_WAIT: Final = 1.0
"""Seconds that the exit of the process waits for pending counts."""


class Worker:
    """Runs jobs one after the other; the first job starts the thread."""

    def __init__(self) -> None:
        self._reset()
        _process.at_fork(after_in_child=self._reset)
        _process.at_exit(self._drain_at_exit, is_first=True)

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._jobs: deque[tuple[Callable[[], None], int]] = deque()
        self._waiting_bytes = 0
        self._is_running = False
        self._is_busy = False
        self._pid = os.getpid()

    def put(self, job: Callable[[], None], size: int = 0) -> bool:
        """Queue a job that holds `size` bytes; False if too much is waiting, and it is dropped."""
        with self._changed:
            if len(self._jobs) >= _MOST_JOBS or self._waiting_bytes + size > _MOST_BYTES:
                return False
            self._jobs.append((job, size))
            self._waiting_bytes += size
            if not self._is_running:
                self._is_running = True
                try:
                    threading.Thread(
                        target=self._run, name="ollama-otel-tokens", daemon=True
                    ).start()
                except RuntimeError:
                    # The interpreter is about to end.
                    self._is_running = False
                    self._jobs.clear()
                    return False
            self._changed.notify_all()
        return True

    def _drain_at_exit(self) -> None:
        self.drain(_LAST_WAIT)

    def drain(self, timeout: float) -> bool:
        """Wait until the queue is empty; False after the time limit."""
        until = time.monotonic() + timeout
        with self._changed:
            while self._jobs or self._is_busy:
                rest = until - time.monotonic()
                if rest <= 0 or not self._changed.wait(rest):
                    return False
        return True

    def _run(self) -> None:
        changed = self._changed
        while True:
            with changed:
                if not self._jobs:
                    changed.wait(_IDLE)
                if not self._jobs:
                    self._is_running = False
                    return
                job, size = self._jobs.popleft()
                self._waiting_bytes -= size
                self._is_busy = True
            try:
                job()
            except BaseException as fault:  # noqa: BLE001 - the next job has to run, after a panic too
                guard.caught("counting tokens", fault)
            finally:
                del job
                with changed:
                    self._is_busy = False
                    changed.notify_all()
