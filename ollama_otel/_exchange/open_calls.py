"""The open calls of this process, so that shutdown and exit can end them.

Also operations and runs of agents, which span several calls.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Final, Protocol

from ollama_otel import _process
from ollama_otel._display import logger

__all__ = ["OpenCall", "add", "end_all", "ending_all", "has_ended", "holds", "is_closed", "take"]

_AT_EXIT: Final = 3.0
"""Seconds that the exit of the process may spend on ending calls."""
_LOOK_AGAIN: Final = 0.005
"""Polling interval, in seconds, for calls that other threads are ending."""

_log = logger()


class OpenCall(Protocol):
    """An open call, operation or run; compared by identity."""

    def shut_down(self) -> None:
        """End as cancelled, and unregister; callable from any thread."""
        ...


# Each operation on the set is one step of the interpreter, so no lock is needed: the garbage
# collector may interrupt a thread here and end another call. An exchange does not refer to the
# body that the caller reads, so an abandoned body is still collected.
_open: set[OpenCall] = set()
_ending: set[tuple[int, OpenCall]] = set()
"""Threads, by `get_ident`, and the calls whose records they hand to the observers."""
_is_hooked = False
_closed_by = 0
"""Number of shutdowns in progress."""


def add(call: OpenCall) -> None:
    """Register a call that begins."""
    if not _is_hooked:
        _hook()
    _open.add(call)


def take(call: OpenCall) -> bool:
    """Unregister a call that ends; True for the first thread that tries.

    That thread has to call `has_ended` when all observers have the record.
    """
    # Most calls try more than once, and an exception costs more than this check.
    if call not in _open:
        return False
    # First, so that the call is in one of the sets at any time.
    _ending.add((get_ident(), call))
    try:
        _open.remove(call)
    except KeyError:
        has_ended(call)
        return False
    return True


def has_ended(call: OpenCall) -> None:
    """Note that the observers have the record of the call that this thread unregistered."""
    _ending.discard((get_ident(), call))


def holds(call: OpenCall) -> bool:
    return call in _open


def end_all(timeout: float = _AT_EXIT) -> bool:
    """End all open calls, for all observers; later ends of these calls do not count.

    It waits for the calls that other threads are ending, as the caller shuts the observers down
    next. After `timeout` seconds it returns False without ending the rest, as observers may be
    slow.
    """
    until = time.monotonic() + timeout
    calls = _open.copy()
    for ended, call in enumerate(calls):
        if time.monotonic() > until:
            _log.warning("%d open calls were not ended within %g s", len(calls) - ended, timeout)
            return False
        call.shut_down()
    if not _have_ended(_of_others(), until):
        _log.warning("a call that was about to end did not end within %g s", timeout)
        return False
    _process.catch_up()
    return True


def _of_others() -> set[tuple[int, OpenCall]]:
    """Calls that other threads are ending; this thread may be ending one itself."""
    return {each for each in _ending.copy() if each[0] != get_ident()}


def _have_ended(calls: set[tuple[int, OpenCall]], until: float) -> bool:
    while not calls.isdisjoint(_ending):
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK_AGAIN)
    return True


def _end_at_exit() -> None:
    end_all()


@contextmanager
def ending_all(timeout: float) -> Iterator[bool]:
    """End all open calls, like `end_all`; calls that begin in this block are not recorded.

    The block shuts observers down, so only some of them would get the end of such a call.
    """
    global _closed_by  # noqa: PLW0603 - one for the process
    _closed_by += 1
    try:
        yield end_all(timeout)
    finally:
        _closed_by -= 1


def is_closed() -> bool:
    """Whether calls that begin now are not recorded."""
    return _closed_by > 0


def _hook() -> None:
    """Register with the process; again in each child, as `multiprocessing` clears its hooks."""
    global _is_hooked  # noqa: PLW0603 - once in a process
    _is_hooked = True
    _process.at_exit(_end_at_exit, is_first=True)
    _process.at_fork(after_in_child=_leave_to_parent)


def _leave_to_parent() -> None:
    """Forget the calls of the parent process, which ends them itself, with the same span ids."""
    global _is_hooked, _closed_by
    _is_hooked, _closed_by = False, 0
    _open.clear()
    _ending.clear()
