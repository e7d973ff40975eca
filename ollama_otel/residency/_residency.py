"""`Residency`: the servers that this process watches, each with a watcher."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from typing import Final, Self

from ollama_otel import _process
from ollama_otel._display import logger
from ollama_otel._guard import guard
from ollama_otel._wire.address import parse_host
from ollama_otel.residency._events import Event
from ollama_otel.residency._timeline import CallStarted
from ollama_otel.residency._watcher import ServerState, Watcher

__all__ = ["MAX_SERVERS", "Listener", "Residency", "Watchers", "watchers_of"]

_log = logger("ollama_otel.residency")

MAX_SERVERS: Final = 64
_LAST_WAIT: Final = 1.0
"""Seconds to wait for all threads together."""

Listener = Callable[[str, int, Event], None]
"""Called with a server's host, its port and an event, on any thread."""


class Residency:
    """Watches the models in memory of Ollama servers: a thread for each polls at an interval.

    `configure(residency=True)` creates one that also uses the calls of this process; an instance of
    your own uses polls only. It watches at most 64 servers.
    """

    def __init__(self, *, interval: float = 5.0, timeout: float = 2.0) -> None:
        self.timeout: float = timeout
        """Seconds to wait for a response; a server that takes longer is busy."""
        self._watched = Watchers(interval, timeout)
        # Not a method of this object: threads must not keep it alive. The finaliser does not join.
        weakref.finalize(self, self._watched.stop)

    @property
    def interval(self) -> float:
        """Polling interval of each server, seconds."""
        return self._watched.interval

    def watch(self, url: str) -> None:
        """Watch a server from now on.

        `url` has the format of `OLLAMA_HOST`. Raises ValueError for any other text.
        """
        self._watched.watcher(parse_host(url).url)

    def set_interval(self, interval: float) -> None:
        """Poll every `interval` seconds from now on."""
        self._watched.interval = interval
        for watcher in list(self._watched.watchers.values()):
            watcher.interval = interval

    def listen(self, listener: Listener) -> None:
        """Call a function with each event from now on; registering it again changes nothing."""
        if listener not in self._watched.listeners:
            self._watched.listeners += (listener,)

    def forget(self, listener: Listener) -> None:
        """Remove a listener."""
        watched = self._watched
        watched.listeners = tuple(each for each in watched.listeners if each != listener)

    def servers(self) -> tuple[ServerState, ...]:
        """Return the current state of each server."""
        return tuple(watcher.state for watcher in list(self._watched.watchers.values()))

    def state(self, url: str) -> ServerState | None:
        """Return the current state of one server; None if it is not watched."""
        watcher = self._watched.watchers.get(parse_host(url).url)
        return None if watcher is None else watcher.state

    @property
    def is_closed(self) -> bool:
        """Whether it is closed."""
        return self._watched.is_closed

    def close(self) -> None:
        """Stop watching all servers."""
        self._watched.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def watchers_of(residency: Residency) -> Watchers:
    """Return the watchers of a residency, for the enricher."""
    return residency._watched  # noqa: SLF001 - not public: it exposes the reducer


class Watchers:
    """The part of a `Residency` that lives until its threads have ended."""

    def __init__(self, interval: float, timeout: float) -> None:
        self.interval = interval
        self.lock = threading.RLock()
        self.watchers: dict[str, Watcher] = {}
        self.listeners: tuple[Listener, ...] = ()
        self.is_closed = False
        self._timeout = timeout
        self._has_warned = False
        _process.at_fork(after_in_child=self._reset_after_fork)

    def _reset_after_fork(self) -> None:
        """Forget the parent's threads; the child watches the servers that it calls itself."""
        self.lock = threading.RLock()
        self.watchers = {}

    def watcher(self, url: str, call: CallStarted | None = None) -> Watcher | None:
        """Return the watcher of a server, by its exact URL; None if there are too many.

        If a call is given, a new watcher knows of it before its first poll.
        """
        # Without the lock: it runs for each call.
        watcher = self.watchers.get(url)
        if watcher is None:
            return self._start(url, call)
        if call is not None:
            watcher.call_started(call)
        return watcher

    def known(self, url: str) -> Watcher | None:
        """Return the watcher of a server; None if it is not watched."""
        return self.watchers.get(url)

    def _start(self, url: str, call: CallStarted | None) -> Watcher | None:
        with self.lock:
            watcher = self.watchers.get(url)
            if watcher is not None or self.is_closed:
                if watcher is not None and call is not None:
                    watcher.call_started(call)
                return watcher
            if len(self.watchers) >= MAX_SERVERS:
                if not self._has_warned:
                    self._has_warned = True
                    _log.warning("not watching %s: %d servers are watched", url, MAX_SERVERS)
                return None
            watcher = self.watchers[url] = Watcher(url, self.interval, self._timeout, self.notify)
            if call is not None:
                watcher.call_started(call)
            watcher.start()
            return watcher

    def notify(self, address: str, port: int, event: Event) -> None:
        for listener in self.listeners:
            try:
                listener(address, port, event)
            except Exception as fault:  # noqa: BLE001 - a listener is the user's code
                guard.caught("passing an event of a server to a listener", fault)

    def stop(self) -> list[Watcher]:
        """Signal all threads to stop, and return their watchers."""
        with self.lock:
            self.is_closed = True
            watchers, self.watchers = list(self.watchers.values()), {}
        for watcher in watchers:
            watcher.request_stop()
        return watchers

    def close(self) -> None:
        """Stop, and wait for a limited time: a DNS look-up cannot be interrupted."""
        until = time.perf_counter() + _LAST_WAIT
        for watcher in self.stop():
            watcher.join(max(0.0, until - time.perf_counter()))
