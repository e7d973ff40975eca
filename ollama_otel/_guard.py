"""Catches faults of this library, so that they never become the caller's.

Used only where a caller's traffic meets our code.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections import Counter
from collections.abc import Iterator

_log = logging.getLogger("ollama_otel")


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

    def caught(self, where: str, fault: Exception) -> None:
        """Record a fault of this library while it did `where`; call it in an `except` block."""
        kind = f"{where}: {type(fault).__name__}"
        with self._lock:
            self.faults[kind] += 1
            is_first = self.faults[kind] == 1
        if is_first:
            _warn(where, fault)
        if self.loud:
            raise fault


def _warn(where: str, fault: Exception) -> None:
    if not _log.isEnabledFor(logging.WARNING):
        return
    # Not `exc_info`: an exception's text may quote a call, and some handlers print all locals.
    _log.handle(
        _log.makeRecord(
            _log.name,
            logging.WARNING,
            __file__,
            0,
            "ollama_otel failed while %s; the call goes on (further ones are counted only)",
            (where,),
            None,
            sinfo="\n".join(_trace(fault)),
        )
    )


def _trace(fault: BaseException) -> Iterator[str]:
    """Yield where each exception of a chain was raised, and its class, without its text."""
    seen = set[int]()
    each: BaseException | None = fault
    while each is not None and id(each) not in seen:
        yield f"{'Caused by ' if seen else ''}{type(each).__name__}, raised in:"
        seen.add(id(each))
        for frame, line in traceback.walk_tb(each.__traceback__):
            code = frame.f_code
            yield f'  File "{code.co_filename}", line {line}, in {code.co_name}'
        each = each.__cause__ or each.__context__


guard = Guard()
