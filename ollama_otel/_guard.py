"""Catches faults of this library, so that they never become the caller's.

Used only where a caller's traffic meets our code.
"""

from __future__ import annotations

import threading
import traceback
from collections import Counter
from typing import Final

from ollama_otel._display import logger

_log = logger()


_MOST_CAUSES: Final = 5


class Guard:
    """Logs each kind of fault once, counts all of them, and raises them only when `loud`.

    The log names classes of exceptions and lines of code, never the text of an exception.
    """

    def __init__(self) -> None:
        self.loud = False
        """True in this project's tests, so that faults show; never set by the library."""
        self.faults: Counter[str] = Counter()
        """Number of faults of each kind, by `where: ExceptionType`."""
        # Reentrant: the garbage collector may run `caught` while this thread holds the lock.
        self._lock = threading.RLock()

    def caught(self, where: str, fault: BaseException) -> None:
        """Record a fault of this library while it did `where`; call it in an `except` block."""
        kind = f"{where}: {type(fault).__name__}"
        with self._lock:
            self.faults[kind] += 1
            is_first = self.faults[kind] == 1
        if is_first:
            _log.warning(
                "ollama_otel failed while %s; the call goes on (further ones are counted only)\n%s",
                where,
                _trace(fault),
            )
        if self.loud:
            raise fault


def _trace(fault: BaseException) -> str:
    """Return the types of an error and of its causes, and the lines of code that raised them.

    Their messages, and the local variables that some handlers print, may have the text of calls.
    """
    shown: list[str] = []
    raised: BaseException | None = fault
    while raised is not None and len(shown) < _MOST_CAUSES:
        lines = "".join(traceback.format_tb(raised.__traceback__))
        shown.append(f"{lines}{type(raised).__qualname__} (its message may have content)")
        raised = raised.__cause__ or (None if raised.__suppress_context__ else raised.__context__)
    return "\nwhich led to\n".join(reversed(shown))


guard = Guard()
