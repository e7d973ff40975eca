"""Our failure is never theirs: the one place where our own faults end up.

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
        """True in our own tests, so that no fault of ours hides; never set by the library."""
        self.faults: Counter[str] = Counter()
        """How often each kind of fault was met, by `where: ExceptionType`."""
        # Reentrant, as the garbage collector may come here while this is held.
        self._lock = threading.RLock()

    def caught(self, where: str, fault: Exception) -> None:
        """Record a fault of our own met while doing `where`; called from an `except` block."""
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
