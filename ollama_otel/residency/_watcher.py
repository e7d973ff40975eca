"""Watches one server in a separate thread: polls it, keeps its history and emits events."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from ollama_otel._display import logger
from ollama_otel._guard import guard
from ollama_otel._wire.ps import LoadedModel, read_count, read_models, read_version
from ollama_otel.residency._events import Event, ReloadThrash, ServerDown, ServerUp
from ollama_otel.residency._history import History, ModelInfo
from ollama_otel.residency._http import (
    BusyError,
    CannotPollError,
    Connection,
    PollResponse,
    RefusedError,
    UnreachableError,
)
from ollama_otel.residency._reach import PollResult, Reach
from ollama_otel.residency._reducer import advance, expects_load
from ollama_otel.residency._thrash import advice
from ollama_otel.residency._timeline import (
    CallEnded,
    CallStarted,
    Entry,
    Poll,
    Refused,
    UnloadRequested,
    Unreachable,
)

__all__ = ["ServerState", "Watcher"]

_log = logger("ollama_otel.residency")

_SOON: Final = (0.3, 1.0, 2.0, 4.0)
"""Extra polls, in seconds after the start of a call that needs a load."""
_LEAST_PAUSE: Final = 0.1
_ABOUT_INTERVAL: Final = 60.0
_STALE: Final = 3
"""Number of intervals after which the last poll or answer of a call is too old."""
_LONGEST_BACK_OFF: Final = 6
"""Most intervals between two attempts to reach a server that is down."""
_REFUSED_INTERVAL: Final = 60.0
"""Least seconds between two polls of a server that cannot be polled."""
_CLOCK_SKEW: Final = 2.0
"""Seconds; the server's date has no fractions, so smaller differences are ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """The current state of a server; a field is None if its value is unknown."""

    url: str
    """The base URL."""
    address: str
    """Host, as in the URL."""
    port: int
    is_up: bool | None = None
    """Whether it can be reached; None if no recent poll or call shows it."""
    is_busy: bool | None = None
    """Whether it accepted the latest poll and did not respond in time."""
    version: str | None = None
    """Version of Ollama."""
    installed: int | None = None
    """Number of models on its disk."""
    models: tuple[LoadedModel, ...] | None = None
    """Models in memory; None if they are unknown, or the last poll is too old."""


class Watcher:
    """Polls one server until it is stopped."""

    def __init__(
        self,
        url: str,
        interval: float,
        timeout: float,
        notify: Callable[[str, int, Event], None],
    ) -> None:
        split = urlsplit(url)
        self.url = url
        self.address = split.hostname or ""
        self.port = split.port or {"http": 80, "https": 443}[split.scheme]
        self.interval = interval
        self._notify = notify
        self._history = History()
        self._state = ServerState(url=url, address=self.address, port=self.port)
        self._known_until = 0.0
        self._reach = Reach()
        self._failures = 0
        self._is_unreadable = False
        self._about_at = 0.0
        self._lock = threading.RLock()
        # Guards `_due` only, so that a call can wake the thread while it holds the other lock.
        self._wake = threading.Condition()
        self._due: list[float] = []
        self._is_stopped = False
        self._timeout = timeout
        self._connection = Connection(url, timeout)
        self._thread = threading.Thread(target=self._run, name="ollama-otel-residency", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def state(self) -> ServerState:
        with self._lock:
            state, now = self._state, time.perf_counter()
            models = state.models if now < self._known_until else None
            return replace(state, is_up=self._is_up(now), models=models)

    def _is_up(self, now: float) -> bool | None:
        is_awaited = bool(self._history.calls)
        return self._reach.is_up(now, lasts=self._lasts, is_awaited=is_awaited)

    @property
    def _lasts(self) -> float:
        return _STALE * self.interval + self._timeout

    # --- calls, on their own threads -------------------------------------------------------

    def call_started(self, call: CallStarted) -> None:
        """Note the start of a call; if it needs a load, the server is polled sooner."""
        with self._lock:
            self._history = advance(self._history, call).history
            needs_load = expects_load(self._history, call)
        if needs_load:
            self._look_at(*(call.sent_at + delay for delay in _SOON))

    def call_ended(self, end: CallEnded) -> ModelInfo:
        """Note the end of a call, and return the facts of the model that served it."""
        info, events = self._take(end)
        self._publish(events)
        if end.is_cold or not end.was_served:
            self._look_at(end.ended_at)
        return info

    def unloaded_on_request(self, model: str) -> None:
        """Note that a call of this process unloaded a model."""
        self._take(UnloadRequested(model=model))
        self._look_at(time.perf_counter())

    def answered(self, at: float) -> None:
        """Note that the server answered a call at this time, or later."""
        is_news = self._failures > 0 and not self._is_up(at)
        self._reach.answered(at)
        if is_news:
            self._failures = 0
            self._look_at(time.perf_counter())

    def missed(self, at: float) -> None:
        """Note that a call could not connect, or that its connection broke."""
        self._reach.missed(at)

    def _take(self, entry: Entry) -> tuple[ModelInfo, tuple[Event, ...]]:
        with self._lock:
            taken = advance(self._history, entry)
            self._history = taken.history
        return taken.info, taken.events

    # --- the thread -------------------------------------------------------------------------

    def request_stop(self) -> None:
        """Signal the thread to stop, also while it waits for a response."""
        with self._wake:
            self._is_stopped = True
            self._wake.notify_all()
        self._connection.close()

    def join(self, timeout: float) -> None:
        """Wait for the thread's end, at most `timeout` seconds."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _look_at(self, *times: float) -> None:
        with self._wake:
            # Otherwise each call to a server that is down would cause a poll; the next answer shows
            # that it is up.
            if self._is_unreadable or self._failures or self._is_stopped:
                return
            self._due = sorted({*self._due, *times})[: 4 * len(_SOON)]
            self._wake.notify_all()

    def _run(self) -> None:
        try:
            while not self._is_stopped:
                started = time.perf_counter()
                try:
                    self._look()
                except Exception as fault:  # noqa: BLE001 - the thread goes on
                    guard.caught("polling a server", fault)
                self._rest(started)
        finally:
            self._connection.drop()

    def _rest(self, started: float) -> None:
        regular = started + self._pause()
        with self._wake:
            while not self._is_stopped:
                now = time.perf_counter()
                soonest = min([regular, *self._due[:1]])
                # Many calls must not make it poll without a pause.
                soonest = max(soonest, started + _LEAST_PAUSE)
                if now >= soonest:
                    self._due = [at for at in self._due if at > now]
                    return
                self._wake.wait(soonest - now)

    def _pause(self) -> float:
        if self._is_unreadable:
            return max(_REFUSED_INTERVAL, self.interval)
        if self._failures:
            return self.interval * min(2.0 ** (self._failures - 1), _LONGEST_BACK_OFF)
        return self.interval

    def _look(self) -> None:
        sent = time.perf_counter()
        try:
            # `/api/ps` first: the next call may evict a model.
            response = self._get("/api/ps")
            answered, now = time.perf_counter(), time.time()
            if sent >= self._about_at:
                self._poll_rarely(sent)
        except BusyError:
            self._reached(sent, is_busy=True)
            return
        except UnreachableError as error:
            self._lost(sent, error)
            return
        except CannotPollError as error:
            self._polled("impossible", sent, is_busy=None)
            self._cannot_poll(str(error))
            return
        if self._is_stopped:
            # The response may be incomplete.
            return
        if response.date is not None and abs(response.date - now) > _CLOCK_SKEW:
            now = response.date
        models = read_models(response.json(), now=now) if response.status == 200 else None  # noqa: PLR2004
        self._reached(sent, is_busy=False)
        if models is None:
            self._cannot_poll(f"/api/ps returns HTTP status {response.status}, no list of models")
            return
        self._is_unreadable = False
        _, events = self._take(Poll(models=models, sent_at=sent, answered_at=answered))
        with self._lock:
            self._known_until = answered + self._lasts
            self._state = replace(self._state, models=models)
        self._publish(events)

    def _poll_rarely(self, now: float) -> None:
        """Poll the values that change rarely."""
        version, installed = self._get("/api/version"), self._get("/api/tags")
        self._change(version=read_version(version.json()), installed=read_count(installed.json()))
        self._about_at = now + _ABOUT_INTERVAL

    def _get(self, path: str) -> PollResponse:
        response = self._connection.get(path)
        if response.status >= 500:  # noqa: PLR2004 - a proxy in front of a server that is down
            raise UnreachableError(f"HTTP status {response.status}")
        return response

    def _change(self, **changes: Any) -> None:
        with self._lock:
            self._state = replace(self._state, **changes)

    def _polled(self, result: PollResult, sent_at: float, **changes: Any) -> bool | None:
        """Note the result of a poll, publish that the server came up, and return whether it is."""
        self._reach.polled(result, sent_at)
        is_up = self._is_up(time.perf_counter())
        was_up = self._state.is_up
        # An unknown state is not an event; the next known state is compared with the last known
        # one.
        self._change(is_up=was_up if is_up is None else is_up, **changes)
        if is_up and not was_up:
            if was_up is False:
                # Also a warning, so that it appears wherever the one about the failure did.
                _log.warning("the Ollama server %s can be reached again", self.url)
            self._publish((ServerUp(version=self._state.version),))
        return is_up

    def _reached(self, sent_at: float, *, is_busy: bool) -> None:
        self._failures = 0
        self._polled("reached", sent_at, is_busy=is_busy)

    def _lost(self, sent_at: float, error: UnreachableError) -> None:
        if self._is_stopped:
            return
        was_up = self._state.is_up
        self._about_at = 0.0
        self._failures += 1
        is_refused = isinstance(error, RefusedError)
        is_up = self._polled("refused" if is_refused else "lost", sent_at, is_busy=None)
        if self._reach.is_by_calls_only:
            self._cannot_poll(f"{error}; calls reach it by a route that polls do not have")
        elif is_up is False:
            self._went_down(error, is_news=was_up is not False)

    def _went_down(self, error: UnreachableError, *, is_news: bool) -> None:
        self._change(is_busy=False, models=None, version=None, installed=None)
        entry = Refused if isinstance(error, RefusedError) else Unreachable
        _, events = self._take(entry(at=time.perf_counter()))
        if is_news:
            _log.warning("the Ollama server %s cannot be reached: %s", self.url, error)
            events = (ServerDown(error=str(error)), *events)
        self._publish(events)

    def _cannot_poll(self, reason: str) -> None:
        if not self._is_unreadable:
            _log.warning(
                "models in memory of %s are unknown, as it cannot be polled: %s; trying again "
                "every %g s",
                self.url,
                reason,
                max(_REFUSED_INTERVAL, self.interval),
            )
        self._is_unreadable = True
        with self._wake:
            self._due = []
        self._change(models=None)

    def _publish(self, events: tuple[Event, ...]) -> None:
        for event in events:
            if isinstance(event, ReloadThrash):
                _log.warning("%s", advice(event, self.url))
            self._notify(self.address, self.port, event)
