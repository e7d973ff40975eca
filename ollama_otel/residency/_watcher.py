"""One server, watched from a thread of its own: it polls, keeps the history and emits events."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from logging import getLogger
from typing import Any, Final
from urllib.parse import urlsplit

from ollama_otel._guard import guard
from ollama_otel._wire.ps import LoadedModel, read_count, read_models, read_version
from ollama_otel.residency._events import Event, ReloadThrash, ServerDown, ServerUp
from ollama_otel.residency._history import History, ModelInfo
from ollama_otel.residency._http import (
    Answer,
    BusyError,
    Connection,
    RefusedError,
    UnaskableError,
    UnreachableError,
)
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

_log = getLogger("ollama_otel.residency")

_SOON: Final = (0.3, 1.0, 2.0, 4.0)
"""Seconds after a call began for which a model will be loaded."""
_LEAST_PAUSE: Final = 0.1
_ABOUT_INTERVAL: Final = 60.0
_STALE: Final = 3
"""Intervals after which what was known is too old to be reported."""
_LONGEST_BACK_OFF: Final = 6
"""Intervals between two attempts to reach a server that is down, at most."""
_REFUSED_INTERVAL: Final = 60.0
"""Seconds between two attempts where the answer cannot be read, at least."""
_CLOCK_SKEW: Final = 2.0
"""Seconds; the server's date has no fractions, so a smaller difference means nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """What is known of a server now; None is what is not known."""

    url: str
    """Its base URL."""
    address: str
    """Host, as in the URL."""
    port: int
    is_up: bool | None = None
    """Whether it can be reached; None: it was not asked yet, or cannot be asked from here."""
    is_busy: bool = False
    """Whether it accepted the latest poll and did not answer in time."""
    version: str | None = None
    installed: int | None = None
    """How many models are on its disk."""
    models: tuple[LoadedModel, ...] | None = None
    """Those in memory; None where that is not known, or not known recently."""


class Watcher:
    """Polls one server until it is stopped."""

    def __init__(
        self,
        url: str,
        interval: float,
        timeout: float,
        tell: Callable[[str, int, Event], None],
    ) -> None:
        split = urlsplit(url)
        self.url = url
        self.address = split.hostname or ""
        self.port = split.port or {"http": 80, "https": 443}[split.scheme]
        self.interval = interval
        self._tell = tell
        self._history = History()
        self._state = ServerState(url=url, address=self.address, port=self.port)
        self._known_until = 0.0
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
        """Begin to poll."""
        self._thread.start()

    @property
    def state(self) -> ServerState:
        """What is known now."""
        with self._lock:
            state, is_known = self._state, time.perf_counter() < self._known_until
        return state if is_known else replace(state, models=None)

    # --- calls, on their own threads -------------------------------------------------------

    def call_started(self, call: CallStarted) -> None:
        """Follow a call; if it needs a load, the server is polled sooner."""
        with self._lock:
            self._history = advance(self._history, call).history
            needs_load = expects_load(self._history, call)
        if needs_load:
            self._look_at(*(call.sent_at + delay for delay in _SOON))

    def call_ended(self, end: CallEnded) -> ModelInfo:
        """Take in the end of a call, and return what is known of the model that served it."""
        info, events = self._take(end)
        self._publish(events)
        if end.is_cold or not end.was_served:
            self._look_at(end.ended_at)
        return info

    def unloaded_on_request(self, model: str) -> None:
        """A call of this process asked the server to unload a model."""
        self._take(UnloadRequested(model=model))
        self._look_at(time.perf_counter())

    def _take(self, entry: Entry) -> tuple[ModelInfo, tuple[Event, ...]]:
        """Put an entry at the end of the timeline."""
        with self._lock:
            taken = advance(self._history, entry)
            self._history = taken.history
        return taken.info, taken.events

    # --- the thread -------------------------------------------------------------------------

    def ask_to_stop(self) -> None:
        """Ask the thread to end, also while it waits for an answer."""
        with self._wake:
            self._is_stopped = True
            self._wake.notify_all()
        self._connection.close()

    def join(self, timeout: float) -> None:
        """Wait for the thread's end; a look-up of a name may take longer."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _look_at(self, *times: float) -> None:
        with self._wake:
            if self._is_unreadable or self._is_stopped:
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
        """Wait until the next poll is due."""
        regular = started + self._pause()
        with self._wake:
            while not self._is_stopped:
                now = time.perf_counter()
                soonest = min([regular, *self._due[:1]])
                # However many calls there are, they do not make it poll without a pause.
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
        asked = time.perf_counter()
        try:
            # First what changes at once: the next call may push a model out.
            answer = self._ask("/api/ps")
            answered, now = time.perf_counter(), time.time()
            if asked >= self._about_at:
                self._ask_about(asked)
        except BusyError:
            self._reached(is_busy=True)
            return
        except UnreachableError as error:
            self._lost(error)
            return
        except UnaskableError as error:
            self._change(is_up=None, is_busy=False)
            self._cannot_tell(str(error))
            return
        if self._is_stopped:
            # The answer may have been cut short.
            return
        if answer.date is not None and abs(answer.date - now) > _CLOCK_SKEW:
            now = answer.date
        models = read_models(answer.json(), now=now) if answer.status == 200 else None  # noqa: PLR2004
        self._reached(is_busy=False)
        if models is None:
            self._cannot_tell(f"/api/ps answers HTTP status {answer.status} and no list of models")
            return
        self._is_unreadable = False
        _, events = self._take(Poll(models=models, asked_at=asked, answered_at=answered))
        with self._lock:
            self._known_until = answered + _STALE * self.interval + self._timeout
            self._state = replace(self._state, models=models)
        self._publish(events)

    def _ask_about(self, now: float) -> None:
        """Ask for what changes rarely."""
        version, installed = self._ask("/api/version"), self._ask("/api/tags")
        self._change(version=read_version(version.json()), installed=read_count(installed.json()))
        self._about_at = now + _ABOUT_INTERVAL

    def _ask(self, path: str) -> Answer:
        answer = self._connection.get(path)
        if answer.status >= 500:  # noqa: PLR2004 - a proxy in front of a server that is down
            raise UnreachableError(f"HTTP status {answer.status}")
        return answer

    def _change(self, **changes: Any) -> None:
        with self._lock:
            self._state = replace(self._state, **changes)

    def _reached(self, *, is_busy: bool) -> None:
        was_up = self._state.is_up
        self._failures = 0
        self._change(is_up=True, is_busy=is_busy)
        if was_up is not True:
            self._publish((ServerUp(version=self._state.version),))

    def _lost(self, error: UnreachableError) -> None:
        if self._is_stopped:
            return
        was_up, self._about_at = self._state.is_up, 0.0
        self._failures += 1
        self._change(is_up=False, is_busy=False, models=None, version=None, installed=None)
        entry = Refused if isinstance(error, RefusedError) else Unreachable
        _, events = self._take(entry(at=time.perf_counter()))
        if was_up is not False:
            _log.warning("the Ollama server %s cannot be reached: %s", self.url, error)
            events = (ServerDown(error=str(error)), *events)
        self._publish(events)

    def _cannot_tell(self, reason: str) -> None:
        if not self._is_unreadable:
            _log.warning(
                "nothing is known of what %s holds, as it cannot be asked: %s; trying again "
                "every %g s",
                self.url,
                reason,
                max(_REFUSED_INTERVAL, self.interval),
            )
        self._is_unreadable = True
        self._change(models=None)

    def _publish(self, events: tuple[Event, ...]) -> None:
        for event in events:
            if isinstance(event, ReloadThrash):
                _log.warning("%s", advice(event, self.url))
            self._tell(self.address, self.port, event)
