"""Wakes one waiting thread or task from any thread, as threads and event loops share a limit."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol

import anyio

__all__ = ["AsyncSignal", "Signal", "ThreadSignal"]


class Signal(Protocol):
    """The signal that a waiting call listens to."""

    def set(self) -> bool:
        """Wake it, from any thread; False if its event loop has ended."""
        ...


class ThreadSignal:
    """Wakes a thread."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> bool:
        self._event.set()
        return True

    def wait(self, seconds: float) -> None:
        """Wait until `set` is called, and no longer than this."""
        self._event.wait(min(seconds, threading.TIMEOUT_MAX))
        self._event.clear()


class AsyncSignal:
    """Wakes a task of asyncio or trio."""

    __slots__ = ("_event", "_post")

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._post = _poster()

    def set(self) -> bool:
        try:
            self._post(self._set)
        except RuntimeError:  # trio raises a subclass of it
            return False
        return True

    def _set(self) -> None:
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Wait until `set` is called, and no longer than this."""
        with anyio.move_on_after(seconds):
            await self._event.wait()
        if self._event.is_set():
            self._event = anyio.Event()


def _poster() -> Callable[..., Any]:
    """Return the function that calls another one in the running event loop, from any thread."""
    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        trio: Any = sys.modules["trio"]
        post: Callable[..., Any] = trio.lowlevel.current_trio_token().run_sync_soon
        return post
