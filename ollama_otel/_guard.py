"""Catches faults of this library, so that they never become the caller's.

Used only where a caller's traffic meets our code.
"""

from __future__ import annotations

import threading
from collections import Counter
from logging import getLogger

_log = getLogger("ollama_otel")


class Guard:
    """Logs each kind of fault once, counts all of them, and raises them only when `loud`."""

    def __init__(self) -> None:
        self.loud = False
        """True in this project's tests, so that faults show; never set by the library."""
        self.faults: Counter[str] = Counter()
        """Number of faults of each kind, by `where: ExceptionType`."""
        # Reentrant: the garbage collector may run `caught` while this thread holds the lock.
        self._lock = threading.RLock()

    def caught(self, where: str, fault: Exception) -> None:
        """Record a fault of this library while it did `where`; call it in an `except` block."""
        kind = f"{where}: {type(fault).__name__}"
        with self._lock:
            self.faults[kind] += 1
            is_first = self.faults[kind] == 1
        if is_first:
            _log.warning(
                "ollama_otel failed while %s; the call goes on (further ones are counted only)",
                where,
                exc_info=fault,
            )
        if self.loud:
            raise fault


guard = Guard()
