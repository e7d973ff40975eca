"""Hooks of the process: its exit, its forks and its garbage collector.

No other module registers them. The interpreter gets each hook once, at its first use.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from threading import get_ident
from types import MethodType
from typing import TypeVar
from weakref import WeakMethod

from ollama_otel._guard import guard

__all__ = [
    "at_exit",
    "at_fork",
    "catch_up",
    "is_collecting",
    "precede_at_exit",
    "run_or_defer",
    "watch_collector",
]

_Callback = Callable[[], None]
_T = TypeVar("_T")


class _Callbacks:
    """Callbacks in the order of registration; methods do not keep their object alive."""

    def __init__(self) -> None:
        self._entries: dict[_Callback | WeakMethod[_Callback], None] = {}

    def add(self, callback: _Callback) -> None:
        is_method = isinstance(callback, MethodType)
        self._entries[WeakMethod(callback, self._discard) if is_method else callback] = None

    def _discard(self, entry: WeakMethod[_Callback]) -> None:
        self._entries.pop(entry, None)

    def __iter__(self) -> Iterator[_Callback]:
        for entry in list(self._entries):
            callback = entry() if isinstance(entry, WeakMethod) else entry
            if callback is not None:
                yield callback

    def run(self, where: str, *, newest_first: bool = False) -> None:
        callbacks = list(self)
        for callback in reversed(callbacks) if newest_first else callbacks:
            try:
                callback()
            except Exception as fault:  # noqa: BLE001 - the other callbacks have to run
                guard.caught(where, fault)


# Reentrant: the garbage collector may run our code while this thread holds the lock.
_lock = threading.RLock()
_exit_first = _Callbacks()
_exit = _Callbacks()
_before_fork = _Callbacks()
_in_child = _Callbacks()

# --- exit ---------------------------------------------------------------------------------


def at_exit(callback: _Callback, *, is_first: bool = False) -> None:
    """Call a function when the process exits, before those that were added earlier.

    Functions with `is_first` are called before all others: they end calls, which the others then
    store. A child of `multiprocessing` exits without `atexit`, so it has to add the function again;
    in other processes adding it again changes nothing. If `multiprocessing` is loaded, the function
    may be called twice.
    """
    with _lock:
        _register_exit()
        if "multiprocessing.util" in sys.modules:
            _register_finalizer(os.getpid())
        (_exit_first if is_first else _exit).add(callback)


@cache
def _register_exit() -> None:
    atexit.register(_run_at_exit)


def precede_at_exit() -> None:
    """Call the functions with `is_first` before hooks that others have registered meanwhile.

    The other functions keep their place: a hook of the application may still make calls.
    """
    with _lock:
        if _register_exit.cache_info().currsize:
            atexit.unregister(_run_first_at_exit)
            atexit.register(_run_first_at_exit)


@cache
def _register_finalizer(_pid: int) -> None:
    """Register the finalizer; needed in each process, as a child clears those of its parent."""
    sys.modules["multiprocessing.util"].Finalize(None, _run_at_exit, exitpriority=0)


def _run_at_exit() -> None:
    _run_first_at_exit()
    _exit.run("cleaning up at exit", newest_first=True)


def _run_first_at_exit() -> None:
    catch_up()
    _exit_first.run("ending calls at exit", newest_first=True)


# --- forks --------------------------------------------------------------------------------


def at_fork(*, before: _Callback | None = None, after_in_child: _Callback | None = None) -> None:
    """Call functions before each fork, newest first, and in each child, oldest first.

    A bound method is called as long as its object lives. Adding one again changes nothing.
    """
    with _lock:
        _register_fork()
        if before is not None:
            _before_fork.add(before)
        if after_in_child is not None:
            _in_child.add(after_in_child)


@cache
def _register_fork() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_run_before_fork, after_in_child=_run_in_child)


def _run_before_fork() -> None:
    _before_fork.run("preparing for a fork", newest_first=True)


def _run_in_child() -> None:
    global _lock, _collecting_thread  # noqa: PLW0603 - another thread may have held or set it
    _lock = threading.RLock()
    _collecting_thread = None
    # The parent runs these itself.
    _deferred.clear()
    _in_child.run("starting after a fork")


# --- the garbage collector ----------------------------------------------------------------

_deferred: deque[_Callback] = deque()
_collecting_thread: int | None = None


def watch_collector() -> None:
    """Make `run_or_defer` work from now on; costs each later collection about 0.5 us."""
    if _note_phase not in gc.callbacks:
        with _lock:
            _register_exit()
            _register_fork()
            if _note_phase not in gc.callbacks:
                gc.callbacks.append(_note_phase)


def _note_phase(phase: str, info: Mapping[str, int]) -> None:  # noqa: ARG001 - the collector's signature
    global _collecting_thread  # noqa: PLW0603 - there is one collector
    _collecting_thread = get_ident() if phase == "start" else None


def run_or_defer(function: Callable[[_T], None], argument: _T) -> None:
    """Call a function; if the garbage collector is running on this thread, call it later.

    The collector can run while the SDK or this library holds a lock that the function needs:
    calling it then would deadlock.
    """
    if is_collecting():
        _deferred.append(partial(function, argument))
    else:
        function(argument)


def catch_up() -> None:
    """Call the deferred functions; the caller must hold no lock.

    Runs when a call starts, when metrics are collected, when a log is flushed and at exit.
    """
    while _deferred and not is_collecting():
        try:
            call = _deferred.popleft()
        except IndexError:  # another thread was faster
            return
        call()


def is_collecting() -> bool:
    """Whether the collector is running on this thread."""
    return _collecting_thread is not None and _collecting_thread == get_ident()
