"""Ends of calls that the garbage collector brings about, kept until they can be told.

It runs anywhere, also where the SDK or we hold a lock that an observer needs: to tell
observers there would lock up the process. They are told at the next call, or when metrics
are collected. Knows nothing of calls.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Mapping
from threading import get_ident

__all__ = ["catch_up", "is_collecting", "put_off"]

_put_off: deque[Callable[[], None]] = deque()
_collecting_thread: int | None = None


def _note(phase: str, info: Mapping[str, int]) -> None:  # noqa: ARG001 - the collector's signature
    global _collecting_thread  # noqa: PLW0603 - there is one collector
    _collecting_thread = get_ident() if phase == "start" else None


gc.callbacks.append(_note)


def is_collecting() -> bool:
    """Whether the collector called what runs here."""
    return _collecting_thread is not None and _collecting_thread == get_ident()


def put_off(telling: Callable[[], None]) -> None:
    """Keep what is to be told until `catch_up`."""
    _put_off.append(telling)


def catch_up() -> None:
    """Tell what was put off; not to be called with a lock held."""
    while _put_off and not is_collecting():
        try:
            telling = _put_off.popleft()
        except IndexError:  # another thread was faster
            return
        telling()
